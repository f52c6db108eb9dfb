//! The shell against an API server of the tests, in time that the tests move.

use super::*;
use crate::reconcile::testing::{Answer, Api as Server, Asked, answer, failure};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// One lease, as the API server keeps it: absent, or with its version.
#[derive(Clone, Default)]
struct Store {
    lease: Arc<Mutex<Option<Value>>>,
    down: Arc<Mutex<bool>>,
}

impl Store {
    fn server(&self) -> Server {
        let store = self.clone();
        Server::new(move |asked| store.respond(asked))
    }

    fn respond(&self, asked: &Asked) -> Answer {
        if *self.down.lock().unwrap() {
            return failure(503, "ServiceUnavailable", "etcd is away");
        }
        let mut lease = self.lease.lock().unwrap();
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        match (asked.method.as_str(), lease.as_ref()) {
            ("GET", Some(lease)) => answer(200, lease.clone()),
            ("GET", None) => failure(404, "NotFound", "there is none"),
            ("POST", Some(_)) => failure(409, "AlreadyExists", "there is one"),
            ("PUT", Some(lease)) if version(lease) != version(&asked.body) => {
                failure(409, "Conflict", "it has changed")
            }
            _ => {
                let next = lease.as_ref().and_then(version).map_or(1, |version| version.parse::<u64>().unwrap() + 1);
                let mut body = asked.body.clone();
                body["metadata"]["resourceVersion"] = json!(next.to_string());
                *lease = Some(body.clone());
                answer(200, body)
            }
        }
    }

    fn holder(&self) -> String {
        self.lease
            .lock()
            .unwrap()
            .as_ref()
            .map_or_else(String::new, |lease| lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    }

    fn election(&self, identity: &str) -> (Election, Metrics, Readiness) {
        let (metrics, readiness) = (Metrics::new(), Readiness::default());
        let client = self.server().client();
        let election = Election::new(client, "system", "operator", identity, metrics.clone(), readiness.clone());
        (election, metrics, readiness)
    }
}

fn after(start: Instant) -> Duration {
    now() - start
}

#[tokio::test(start_paused = true)]
async fn a_leader_holds_on_and_the_other_stands_by_and_is_ready() {
    let store = Store::default();
    let (mut first, metrics, _) = store.election("first");
    first.campaign().await;
    assert!(metrics.render(true).contains("streamsession_operator_leader 1"));
    let (mut second, metrics, readiness) = store.election("second");
    assert!(!readiness.missing(now()).is_empty(), "it has not looked yet");
    let held = tokio::time::timeout(Duration::from_secs(300), async {
        tokio::join!(first.hold(), second.campaign());
    });
    assert!(held.await.is_err(), "nothing ends by itself");
    assert_eq!(store.holder(), "first");
    assert_eq!(readiness.missing(now()), Vec::<String>::new());
    assert!(readiness.standing_by().unwrap().contains("first"), "{:?}", readiness.standing_by());
    assert!(metrics.render(true).contains("streamsession_operator_leader 0"));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_is_taken_within_seconds() {
    let store = Store::default();
    let (mut first, ..) = store.election("first");
    first.campaign().await;
    let (mut second, metrics, _) = store.election("second");
    let begin = now();
    let (took, ()) = tokio::join!(
        async {
            second.campaign().await;
            after(begin)
        },
        async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            first.release().await;
        }
    );
    assert!(took <= Duration::from_millis(2500), "{took:?}");
    assert_eq!(store.holder(), "second");
    assert!(metrics.render(true).contains("streamsession_operator_leader_transitions_total 1"));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_gets_no_answer_ends_at_its_deadline_and_says_why() {
    let store = Store::default();
    let (mut election, metrics, _) = store.election("first");
    election.campaign().await;
    *store.down.lock().unwrap() = true;
    let begin = now();
    let lost = election.hold().await.to_string();
    assert!(after(begin) <= Duration::from_secs(10), "{:?}", after(begin));
    assert!(lost.contains("could not be renewed") && lost.contains("etcd is away"), "{lost}");
    assert!(metrics.render(true).contains("streamsession_operator_leader 0"));
    election.release().await;
    assert_eq!(store.holder(), "first", "it could not be told");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_requests_hang_ends_at_its_deadline_too() {
    let silent = tower::service_fn(|_: axum::http::Request<kube::client::Body>| {
        std::future::pending::<Result<axum::http::Response<kube::client::Body>, std::convert::Infallible>>()
    });
    let store = Store::default();
    let (mut election, ..) = store.election("first");
    election.campaign().await;
    election.leases = Api::namespaced(Client::new(silent, "default"), "system");
    let begin = now();
    let lost = election.hold().await.to_string();
    assert_eq!(after(begin), Duration::from_secs(10));
    assert!(lost.contains("no answer within 3 s"), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn another_in_the_lease_is_named() {
    let store = Store::default();
    let (mut election, ..) = store.election("first");
    election.campaign().await;
    {
        let mut lease = store.lease.lock().unwrap();
        lease.as_mut().unwrap()["spec"]["holderIdentity"] = json!("thief");
        lease.as_mut().unwrap()["metadata"]["resourceVersion"] = json!("99");
    }
    let lost = election.hold().await.to_string();
    assert!(lost.contains("thief has the lease operator"), "{lost}");
    election.release().await;
    assert_eq!(store.holder(), "thief");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_may_not_be_read_is_told_by_readiness() {
    let forbidden = Server::new(|_| failure(403, "Forbidden", "leases is forbidden"));
    let readiness = Readiness::default();
    let client = forbidden.client();
    let mut election = Election::new(client, "system", "operator", "me", Metrics::new(), readiness.clone());
    let _ = tokio::time::timeout(Duration::from_secs(5), election.campaign()).await;
    let missing = readiness.missing(now()).join("\n");
    assert!(missing.contains("leases is forbidden") && missing.contains("docs/rbac.md"), "{missing}");
    assert_eq!(forbidden.log().len(), 3, "one every two seconds");
}
