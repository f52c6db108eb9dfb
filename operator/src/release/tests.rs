//! The shell against an API server of the tests: sessions, one Deployment and its pods, in time that the tests move.

use super::*;
use crate::args::Invocation;
use crate::reconcile::testing::{Answer, Api as Server, Asked, answer, failure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const GROUP: &str = "/apis/media.streamsession.io/v1alpha1";

/// What the API server has.
#[derive(Default)]
struct Cluster {
    /// By `namespace/name`.
    sessions: BTreeMap<String, Value>,
    replicas: i64,
    ready: i64,
    pods: Vec<Value>,
    /// Sessions go this many lists after their deletion, if an operator runs.
    patience: u32,
    /// The next write of a session is answered 409.
    conflicts: u32,
    /// Secrets whose deletion was asked for.
    dropped: Vec<String>,
    forbidden: bool,
}

impl Cluster {
    fn session(mut self, name: &str, deleting: bool, held: bool) -> Cluster {
        let finalizers = if held { json!(["example.com/other", FINALIZER]) } else { json!(["example.com/other"]) };
        let mut session = json!({
            "apiVersion": "media.streamsession.io/v1alpha1", "kind": "StreamSession",
            "metadata": {"name": name, "namespace": "cams", "uid": format!("uid-{name}"), "resourceVersion": "7", "finalizers": finalizers},
            // Of a version that this program does not know.
            "spec": {"limits": "many"},
            "status": {"conditions": [{"type": "Ready", "status": "False", "message": "2 files wait for the store."}]},
        });
        if deleting {
            session["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        self.sessions.insert(format!("cams/{name}"), session);
        self
    }

    fn running(mut self) -> Cluster {
        (self.replicas, self.ready) = (1, 1);
        self.pods = vec![json!({"metadata": {"name": "operator-0"}, "status": {"phase": "Running"}})];
        self
    }

    fn respond(&mut self, asked: &Asked) -> Answer {
        if self.forbidden {
            return failure(403, "Forbidden", "streamsessions is forbidden");
        }
        let name = asked.path.rsplit('/').next().unwrap_or_default().to_owned();
        let list = |items: Vec<Value>| {
            answer(200, json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
        };
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", path) if path.starts_with(GROUP) && path.ends_with("/streamsessions") => {
                if self.ready > 0 && self.patience == 0 {
                    self.sessions.retain(|_, session| session["metadata"].get("deletionTimestamp").is_none());
                }
                self.patience = self.patience.saturating_sub(1);
                list(self.sessions.values().cloned().collect())
            }
            ("PATCH" | "DELETE", path) if path.starts_with(GROUP) && self.conflicts > 0 => {
                self.conflicts -= 1;
                failure(409, "Conflict", "it has changed")
            }
            ("DELETE", path) if path.starts_with(GROUP) => {
                let session = self.sessions.get_mut(&format!("cams/{name}")).unwrap();
                assert_eq!(asked.body["preconditions"]["uid"], session["metadata"]["uid"]);
                session["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                answer(200, session.clone())
            }
            ("PATCH", path) if path.starts_with(GROUP) => {
                let session = self.sessions.get_mut(&format!("cams/{name}")).unwrap();
                assert_eq!(asked.body["metadata"]["resourceVersion"], session["metadata"]["resourceVersion"]);
                session["metadata"]["finalizers"] = asked.body["metadata"]["finalizers"].clone();
                answer(200, session.clone())
            }
            ("PATCH", "/apis/apps/v1/namespaces/system/deployments/operator") => {
                self.replicas = asked.body["spec"]["replicas"].as_i64().unwrap();
                self.ready = 0;
                answer(200, self.deployment())
            }
            ("GET", "/apis/apps/v1/namespaces/system/deployments/operator") => answer(200, self.deployment()),
            ("GET", "/api/v1/namespaces/system/pods") => {
                assert!(asked.query.contains("labelSelector=app%3Doperator"), "{}", asked.query);
                let pods = self.pods.clone();
                if self.replicas == 0 {
                    self.pods.retain(|pod| pod["status"]["phase"] == "Failed");
                }
                list(pods)
            }
            // The store's keys of a session, where it had any.
            ("DELETE", path) if path.starts_with("/api/v1/namespaces/system/secrets/") => {
                self.dropped.push(name);
                failure(404, "NotFound", "there is none")
            }
            _ => panic!("{asked:?}"),
        }
    }

    fn deployment(&self) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "operator"},
            "spec": {"replicas": self.replicas, "selector": {"matchLabels": {"app": "operator"}}, "template": {}},
            "status": {"readyReplicas": self.ready},
        })
    }
}

/// How it ended, what was written, and what is left.
async fn released(cluster: Cluster, flags: &[&str]) -> (Result<(), String>, Vec<String>, Arc<Mutex<Cluster>>) {
    let cluster = Arc::new(Mutex::new(cluster));
    let server = {
        let cluster = Arc::clone(&cluster);
        Server::new(move |asked| cluster.lock().unwrap().respond(asked))
    };
    let [calls, watches, lease] = std::array::from_fn(|_| server.client());
    let clients = Clients { calls, watches, lease, namespace: Some("system".to_owned()) };
    let line = ["operator", "release", "--deployment=operator", "--deadline=60s"];
    let Ok(Invocation::Release(args)) = Invocation::try_parse_from(line.iter().chain(flags)) else { panic!() };
    let result = release(&args, clients).await.map_err(|error| error.to_string());
    let writes = server.log().into_iter().filter(|line| !line.starts_with("GET") && !line.contains("/secrets/"));
    let writes = writes
        .map(|line| line.replace("/apis/", "").replace("media.streamsession.io/v1alpha1/namespaces/", ""))
        .collect();
    (result, writes, cluster)
}

fn finalizers(cluster: &Mutex<Cluster>, name: &str) -> Value {
    cluster.lock().unwrap().sessions[&format!("cams/{name}")]["metadata"]["finalizers"].clone()
}

const SCALED: &str = "PATCH apps/v1/namespaces/system/deployments/operator";

#[tokio::test(start_paused = true)]
async fn a_deletion_is_waited_for_the_operator_stopped_and_what_stays_freed() {
    let mut cluster = Cluster::default()
        .running()
        .session("going", true, true)
        .session("plain", false, false)
        .session("staying", false, true);
    cluster.patience = 5;
    let (result, writes, cluster) = released(cluster, &[]).await;
    assert_eq!(result, Ok(()));
    assert_eq!(writes, [SCALED, "PATCH cams/streamsessions/staying"]);
    assert_eq!(finalizers(&cluster, "staying"), json!(["example.com/other"]), "others' stay");
    let cluster = cluster.lock().unwrap();
    assert_eq!((cluster.replicas, cluster.sessions.len()), (0, 2));
    assert_eq!(cluster.dropped, [names::reclaim_of("cams", "staying", "uid-staying")], "no keys are left behind");
}

#[tokio::test(start_paused = true)]
async fn with_the_definition_every_session_is_deleted_first() {
    let mut cluster = Cluster::default().running().session("one", false, true).session("two", false, false);
    cluster.patience = 3;
    let (result, writes, cluster) = released(cluster, &["--delete-sessions", "--watch-namespace=cams"]).await;
    assert_eq!(result, Ok(()));
    assert_eq!(writes, ["DELETE cams/streamsessions/one", "DELETE cams/streamsessions/two", SCALED]);
    assert!(cluster.lock().unwrap().sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_does_not_end_is_named_at_the_deadline_and_the_operator_goes_on() {
    let mut cluster = Cluster::default().running().session("stuck", true, true);
    cluster.patience = u32::MAX;
    let (begin, (result, writes, cluster)) = (Instant::now(), released(cluster, &[]).await);
    let why = result.unwrap_err();
    assert_eq!(begin.elapsed().as_secs(), 60);
    for part in ["not within 60 s", "cams/stuck (2 files wait for the store)", "Retain", "--no-hooks"] {
        assert!(why.contains(part), "{why}");
    }
    assert!(!why.contains('\n'), "one line: {why}");
    assert_eq!((writes.len(), cluster.lock().unwrap().replicas), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn without_an_operator_a_deletion_is_told_at_once_and_left_as_it_is() {
    let begin = Instant::now();
    let (result, writes, cluster) = released(Cluster::default().session("going", true, true), &[]).await;
    let why = result.unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(why.contains("cams/going") && why.contains("deployment/operator --replicas=1"), "{why}");
    assert!(writes.is_empty());
    assert_eq!(finalizers(&cluster, "going"), json!(["example.com/other", FINALIZER]));
}

#[tokio::test(start_paused = true)]
async fn what_has_changed_meanwhile_is_tried_again() {
    let mut cluster = Cluster::default().session("staying", false, true);
    cluster.conflicts = 2;
    let (result, writes, cluster) = released(cluster, &[]).await;
    assert_eq!((result, writes.len()), (Ok(()), 3));
    assert_eq!(finalizers(&cluster, "staying"), json!(["example.com/other"]));
}

#[tokio::test(start_paused = true)]
async fn pods_that_have_ended_long_ago_are_not_waited_for() {
    let mut cluster = Cluster::default().running();
    cluster.pods.push(json!({"metadata": {"name": "evicted"}, "status": {"phase": "Failed"}}));
    assert_eq!(released(cluster, &[]).await.0, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn rights_that_are_missing_are_told_before_the_deadline() {
    let begin = Instant::now();
    let cluster = Cluster { forbidden: true, ..Cluster::default() };
    let why = released(cluster, &[]).await.0.unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(40), "{:?}", begin.elapsed());
    assert!(why.contains("list StreamSessions") && why.contains("docs/rbac.md"), "{why}");
}
