//! Plans made by hand, carried out against an API server of the tests.

use super::super::testing::{Answer, Api as FakeApi, Asked, answer, context, failure, session};
use super::*;
use crate::plan::{Child, ServerError};
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;

fn child(kind: Kind, name: &str) -> Child {
    Child { kind, name: name.to_owned() }
}

fn apply(kind: Kind, name: &str, write: Write) -> Apply {
    let object =
        json!({"apiVersion": kind.api_version(), "kind": kind.name(), "metadata": {"name": name, "namespace": "a"}});
    Apply { child: child(kind, name), write, object }
}

fn plan() -> Plan {
    Plan::nothing(Duration::from_secs(10))
}

fn push() -> Option<SessionPush> {
    let spec = session().spec;
    Some(SessionPush { generation: 1, spec, announced: Vec::new(), turn_urls: Vec::new(), drain: false })
}

fn note(reason: &str, message: &str) -> Note {
    Note { warning: true, reason: reason.to_owned(), action: "Reconcile", message: message.to_owned() }
}

/// Says every body back, with a version.
fn well(asked: &Asked) -> Answer {
    let mut body = if asked.body.is_object() { asked.body.clone() } else { json!({"metadata": {}}) };
    body["metadata"]["resourceVersion"] = "5".into();
    if asked.path.ends_with("/status") {
        body["spec"] = json!({});
    }
    answer(200, body)
}

async fn carry(api: &FakeApi, observed: &Observed, plan: Plan, remembered: &mut Remembered) -> Carried {
    execute(&context(api), &session(), observed, plan, remembered).await
}

fn nothing() -> Observed {
    Observed::nothing(Timestamp::now())
}

/// A media server, and what is seen of it. The port is fixed, so each test takes an address of its own of 127/8.
async fn media_server(ip: &str, response: (u16, Value)) -> (Observed, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind((ip, 8081)).await.unwrap();
    let (status, body) = response;
    let router = axum::Router::new().fallback(move || {
        let answer = (axum::http::StatusCode::from_u16(status).unwrap(), body.to_string());
        std::future::ready(answer)
    });
    let server = tokio::spawn(crate::http::serve(listener, router, std::future::pending()));
    let mut observed = nothing();
    observed.pod = Some(serde_json::from_value(json!({"metadata": {"name": "x-0"}, "status": {"podIP": ip}})).unwrap());
    let secret = json!({"metadata": {"name": "x-admin"}, "data": {"token": "dG9rZW4="}});
    observed.secrets.insert("x-admin".to_owned(), OwnSecret(serde_json::from_value(secret).unwrap()));
    observed.server = Some(Err(ServerError::Unauthorized));
    (observed, server)
}

#[tokio::test]
async fn everything_is_done_in_the_plans_order_under_one_field_manager() {
    let api = FakeApi::new(well);
    let mut plan = plan();
    plan.apply = vec![
        apply(Kind::Secret, "x-admin", Write::Create),
        apply(Kind::Service, "x", Write::Apply),
        apply(Kind::Pod, "x-0", Write::Merge),
    ];
    plan.delete = vec![Delete { child: child(Kind::Ingress, "x"), uid: "old".to_owned() }];
    plan.delete_pod =
        Some(DeletePod { name: "x-0".to_owned(), uid: "u".to_owned(), grace_seconds: 70, why: "w".to_owned() });
    plan.status = Some(StreamSessionStatus::default());
    plan.events = vec![note("ImagePullFailed", "write another image")];
    let carried = carry(&api, &nothing(), plan, &mut Remembered::default()).await;
    assert_eq!(carried.failures, []);
    assert_eq!(
        api.log(),
        [
            "POST /api/v1/namespaces/a/secrets",
            "PATCH /api/v1/namespaces/a/services/x",
            "PATCH /api/v1/namespaces/a/pods/x-0",
            "DELETE /apis/networking.k8s.io/v1/namespaces/a/ingresses/x",
            "DELETE /api/v1/namespaces/a/pods/x-0",
            "PATCH /apis/media.streamsession.io/v1alpha1/namespaces/a/streamsessions/x/status",
            "POST /apis/events.k8s.io/v1/namespaces/a/events",
        ]
    );
    let asked = api.asked();
    assert!(asked[..3].iter().all(|asked| asked.query.contains("fieldManager=streamsession-operator")), "{asked:?}");
    assert!(asked[1].query.contains("force=true") && asked[5].query.contains("force=true"));
    assert_eq!(asked[3].body["preconditions"]["uid"], "old");
    assert_eq!(asked[4].body["preconditions"]["uid"], "u");
    assert_eq!(asked[4].body["gracePeriodSeconds"], 70);
    assert_eq!(asked[5].body["metadata"]["uid"], "session-uid", "this session and no later one of its name");
    assert_eq!(asked[6].body["reason"], "ImagePullFailed");
    assert_eq!(asked[6].body["regarding"]["uid"], "session-uid");
}

#[tokio::test]
async fn a_write_that_fails_stops_the_push_and_the_pods_deletion_and_nothing_else() {
    let api = FakeApi::new(|asked| match asked.path.ends_with("/services/x") {
        true => failure(422, "Invalid", "spec.ports: Required value"),
        false => well(asked),
    });
    let (observed, server) = media_server("127.18.0.1", (200, json!({"generation": 1}))).await;
    let mut plan = plan();
    plan.apply = vec![apply(Kind::Service, "x", Write::Apply), apply(Kind::ConfigMap, "x", Write::Apply)];
    plan.delete = vec![Delete { child: child(Kind::Ingress, "x"), uid: "old".to_owned() }];
    plan.delete_pod =
        Some(DeletePod { name: "x-0".to_owned(), uid: "u".to_owned(), grace_seconds: 70, why: "w".to_owned() });
    plan.push = push();
    plan.status = Some(StreamSessionStatus::default());
    let context = context(&api);
    let mut remembered = Remembered::default();
    let carried = execute(&context, &session(), &observed, plan, &mut remembered).await;
    let log = api.log().join("\n");
    assert!(
        log.contains("configmaps/x") && log.contains("ingresses/x") && log.contains("streamsessions/x/status"),
        "{log}"
    );
    assert!(!log.contains("pods/x-0"), "{log}");
    assert!(!context.metrics.render(false).contains("pushes_total{"), "nothing was pushed");
    assert_eq!(carried.failures.len(), 1);
    assert_eq!(remembered.refusals[0].child, child(Kind::Service, "x"));
    assert!(remembered.refusals[0].message.contains("Required value"));
    assert!(carried.look_again, "the next plan tells of the refusal");
    server.abort();
}

#[tokio::test]
async fn lists_that_somebody_else_has_made_invalid_are_replaced_by_ours() {
    let mended = std::sync::atomic::AtomicBool::new(false);
    let api = FakeApi::new(move |asked| {
        let merge = !asked.query.contains("force=true");
        if !mended.fetch_or(merge, std::sync::atomic::Ordering::SeqCst) && !merge {
            return failure(422, "Invalid", "spec.ports[1].name: Duplicate value: \"http\"");
        }
        well(asked)
    });
    let mut remembered = Remembered::default();
    let plan = Plan { apply: vec![apply(Kind::Service, "x", Write::Apply)], ..plan() };
    assert_eq!(carry(&api, &nothing(), plan, &mut remembered).await.failures, []);
    assert_eq!(api.log(), ["PATCH /api/v1/namespaces/a/services/x"; 3]);
    assert!(remembered.refusals.is_empty());
}

#[tokio::test]
async fn a_refusal_is_forgotten_with_a_pass_that_goes_well() {
    let api = FakeApi::new(|_| failure(403, "Forbidden", "exceeded quota"));
    let mut remembered = Remembered::default();
    let failing = || Plan { apply: vec![apply(Kind::Service, "x", Write::Apply)], ..plan() };
    assert!(carry(&api, &nothing(), failing(), &mut remembered).await.look_again);
    assert!(!carry(&api, &nothing(), failing(), &mut remembered).await.look_again, "nothing new");
    let carried = carry(&FakeApi::new(well), &nothing(), failing(), &mut remembered).await;
    assert!(carried.look_again && remembered.refusals.is_empty());
}

#[tokio::test]
async fn what_the_api_server_cannot_do_now_is_a_failure_but_no_refusal() {
    for code in [429, 500, 503, 504] {
        let api = FakeApi::new(move |_| failure(code, "Later", "later"));
        let mut remembered = Remembered::default();
        let plan = Plan { apply: vec![apply(Kind::Service, "x", Write::Apply)], ..plan() };
        let carried = carry(&api, &nothing(), plan, &mut remembered).await;
        assert_eq!((carried.failures.len(), remembered.refusals.len()), (1, 0), "{code}");
        assert_eq!(api.log().len(), 1, "{code}: the next pass tries again, not the client");
    }
}

#[tokio::test]
async fn what_is_there_already_or_gone_is_no_failure() {
    let api = FakeApi::new(|asked| match asked.method.as_str() {
        "POST" => failure(409, "AlreadyExists", "exists"),
        "DELETE" => failure(404, "NotFound", "not found"),
        _ => failure(409, "Conflict", "changed"),
    });
    let mut plan = plan();
    plan.apply = vec![apply(Kind::Secret, "x-keys", Write::Create), apply(Kind::Pod, "x-0", Write::Merge)];
    plan.delete = vec![Delete { child: child(Kind::Ingress, "x"), uid: "old".to_owned() }];
    plan.delete_pod =
        Some(DeletePod { name: "x-0".to_owned(), uid: "u".to_owned(), grace_seconds: 0, why: "w".to_owned() });
    plan.status = Some(StreamSessionStatus::default());
    assert_eq!(carry(&api, &nothing(), plan, &mut Remembered::default()).await.failures, []);
}

#[tokio::test]
async fn a_push_that_is_taken_is_looked_at_again_soon() {
    let (observed, server) = media_server("127.18.0.2", (200, json!({"generation": 1}))).await;
    let mut remembered = Remembered::default();
    remembered.push_refused = Some(PushRefused { generation: 0, message: "m".to_owned() });
    let carried = carry(&FakeApi::new(well), &observed, Plan { push: push(), ..plan() }, &mut remembered).await;
    assert!(carried.look_again && carried.failures.is_empty());
    assert_eq!(remembered.push_refused, None);
    server.abort();
}

#[tokio::test]
async fn a_push_that_is_refused_is_remembered_with_the_servers_words() {
    let problem = json!({"title": "t", "detail": "recording.segmentDuration is 0s"});
    let (observed, server) = media_server("127.18.0.3", (422, problem)).await;
    let mut remembered = Remembered::default();
    let carried = carry(&FakeApi::new(well), &observed, Plan { push: push(), ..plan() }, &mut remembered).await;
    assert!(carried.look_again && carried.failures.is_empty());
    let refused = remembered.push_refused.clone().unwrap();
    assert_eq!((refused.generation, refused.message.as_str()), (1, "recording.segmentDuration is 0s"));
    let carried = carry(&FakeApi::new(well), &observed, Plan { push: push(), ..plan() }, &mut remembered).await;
    assert!(!carried.look_again, "nothing new");
    server.abort();
}

#[tokio::test]
async fn no_error_and_no_debug_form_tells_what_a_secret_holds() {
    let api = FakeApi::new(|asked| failure(422, "Invalid", &format!("data: Invalid value: {}", asked.body)));
    let mut apply = apply(Kind::Secret, "x-admin", Write::Create);
    apply.object["data"] = json!({"token": "aHVudGVyMg=="});
    let plan = Plan { apply: vec![apply], ..plan() };
    assert!(!format!("{plan:?}").contains("aHVudGVyMg"));
    let mut remembered = Remembered::default();
    let carried = carry(&api, &nothing(), plan, &mut remembered).await;
    let told = format!("{carried:?} {:?}", remembered.refusals);
    assert!(told.contains("Invalid (422)") && !told.contains("aHVudGVyMg"), "{told}");
}

#[tokio::test]
async fn the_same_event_is_counted_and_another_message_is_told_anew() {
    let api = FakeApi::new(well);
    let mut remembered = Remembered::default();
    for message in ["a", "a", "b"] {
        let plan = Plan { events: vec![note("CrashLooping", message)], ..plan() };
        assert_eq!(carry(&api, &nothing(), plan, &mut remembered).await.failures, []);
    }
    let asked = api.asked();
    assert_eq!(asked.iter().map(|asked| asked.method.as_str()).collect::<Vec<_>>(), ["POST", "PATCH", "POST"]);
    assert_eq!(asked[1].body["series"]["count"], 2);
    assert_eq!(asked[2].body["note"], "b");
}

#[tokio::test]
async fn an_event_that_is_lost_is_no_failure_of_the_pass() {
    let api = FakeApi::new(|_| failure(403, "Forbidden", "the namespace is being terminated"));
    let plan = Plan { events: vec![note("Ready", "m")], ..plan() };
    assert_eq!(carry(&api, &nothing(), plan, &mut Remembered::default()).await.failures, []);
}

#[test]
fn long_notes_are_cut_between_characters() {
    assert_eq!(shortened("short", 10), "short");
    let cut = shortened(&"é".repeat(600), NOTE);
    assert!(cut.len() <= NOTE && cut.ends_with('…'), "{}", cut.len());
}
