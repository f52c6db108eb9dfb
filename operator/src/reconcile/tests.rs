//! Whole passes, with the real planner, against an API server that keeps what it is given. Caches stay empty, as they
//! would be if they lagged for ever.

use super::testing::{Answer, Api as FakeApi, Asked, answer, context, failure, session};
use super::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Objects by path.
type World = Arc<Mutex<BTreeMap<String, Value>>>;

fn keeping(world: &World) -> FakeApi {
    let world = Arc::clone(world);
    FakeApi::new(move |asked| respond(&mut world.lock().unwrap(), asked))
}

fn respond(world: &mut BTreeMap<String, Value>, asked: &Asked) -> Answer {
    let mut object = asked.body.clone();
    object["metadata"]["uid"] = "uid".into();
    object["metadata"]["resourceVersion"] = (world.len() + 10).to_string().into();
    match asked.method.as_str() {
        "GET" if asked.path.ends_with("/events") => {
            answer(200, json!({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": []}))
        }
        "GET" => {
            world.get(&asked.path).map_or_else(|| failure(404, "NotFound", "not found"), |it| answer(200, it.clone()))
        }
        "POST" if asked.path.ends_with("/events") => answer(201, asked.body.clone()),
        "POST" => {
            let path = format!("{}/{}", asked.path, asked.body["metadata"]["name"].as_str().unwrap());
            world.insert(path, object.clone());
            answer(201, object)
        }
        "PATCH" if asked.path.ends_with("/status") => {
            object["spec"] = json!({});
            answer(200, object)
        }
        "PATCH" => {
            world.insert(asked.path.clone(), object.clone());
            answer(200, object)
        }
        method => panic!("{method} {}", asked.path),
    }
}

fn children_written(api: &FakeApi) -> Vec<String> {
    let writes = |line: &String| !line.starts_with("GET") && !line.ends_with("/status") && !line.ends_with("/events");
    api.log().into_iter().filter(writes).collect()
}

async fn run_pass(context: &Context) {
    let session = Arc::new(session());
    pass(&session, context, &key(&session)).await.unwrap();
}

#[tokio::test]
async fn a_new_session_gets_its_secrets_before_what_mounts_them_and_a_status() {
    let world = World::default();
    let api = keeping(&world);
    run_pass(&context(&api)).await;
    let written = children_written(&api);
    let at = |part: &str| {
        written.iter().position(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {written:?}"))
    };
    assert!(at("/secrets") < at("/statefulsets/x") && at("/configmaps/x") < at("/statefulsets/x"), "{written:?}");
    assert!(api.log().iter().any(|line| line.ends_with("streamsessions/x/status")));
    assert!(
        api.log().iter().all(|line| !line.starts_with("GET") || !line.ends_with("/secrets")),
        "Secrets by name alone"
    );
}

#[tokio::test]
async fn a_second_pass_writes_nothing_though_the_caches_lag() {
    let world = World::default();
    let api = keeping(&world);
    let context = context(&api);
    run_pass(&context).await;
    let before = children_written(&api);
    run_pass(&context).await;
    assert_eq!(children_written(&api), before);
}

#[tokio::test]
async fn an_operator_that_begins_anew_looks_before_it_makes_anything() {
    let world = World::default();
    run_pass(&context(&keeping(&world))).await;
    let api = keeping(&world);
    run_pass(&context(&api)).await;
    assert!(children_written(&api).is_empty(), "{:?}", children_written(&api));
    assert!(
        api.log().iter().any(|line| line.starts_with("GET") && line.ends_with("/statefulsets/x")),
        "{:?}",
        api.log()
    );
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_found_though_no_cache_has_it_and_left_alone() {
    let world = World::default();
    let path = "/api/v1/namespaces/a/services/x".to_owned();
    let theirs = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "a", "uid": "theirs"}, "spec": {}});
    world.lock().unwrap().insert(path.clone(), theirs.clone());
    let api = keeping(&world);
    run_pass(&context(&api)).await;
    assert_eq!(world.lock().unwrap()[&path], theirs);
    assert!(!children_written(&api).iter().any(|line| line.ends_with("/services/x")));
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_not_taken_for_one_that_is_not_there() {
    let api = FakeApi::new(|asked| match asked.path.contains("/secrets/") {
        true => failure(503, "ServiceUnavailable", "later"),
        false => failure(404, "NotFound", "not found"),
    });
    let session = Arc::new(session());
    let error = pass(&session, &context(&api), &key(&session)).await.unwrap_err();
    assert!(error.to_string().contains("read Secret x-"), "{error}");
    assert!(children_written(&api).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_never_answers_costs_half_a_minute_and_is_counted() {
    let silent = tower::service_fn(|_: axum::http::Request<kube::client::Body>| {
        std::future::pending::<Result<axum::http::Response<kube::client::Body>, std::convert::Infallible>>()
    });
    let mut context = context(&FakeApi::new(|_| failure(500, "", "")));
    context.client = Client::new(silent, "default");
    let context = Arc::new(context);
    let session = Arc::new(session());
    let error = reconcile(Arc::clone(&session), Arc::clone(&context)).await.unwrap_err();
    assert!(matches!(error, PassError::Timeout(_)), "{error}");
    assert!(context.metrics.render(false).contains(r#"reconciles_total{result="timeout"} 1"#));
    assert_ne!(after_failure(session, &error, context), Action::await_change());
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_silent_since_it_was_first_asked() {
    let mut context = context(&keeping(&World::default()));
    let (session, mut remembered) = (session(), memory::Remembered::default());
    let seen = observe::observe(&context, &session, &mut remembered).await.unwrap();
    assert_eq!((seen.server, seen.server_failing_since), (None, None), "there is no pod to ask");
    let pod = json!({"metadata": {"name": "x-0", "namespace": "a", "uid": "p"}, "status": {"podIP": "127.0.0.1"}});
    context.caches = Caches::with_pod(serde_json::from_value(pod).unwrap());
    let first = observe::observe(&context, &session, &mut remembered).await.unwrap();
    assert!(matches!(first.server, Some(Err(_))), "{:?}", first.server);
    assert_eq!(first.server_failing_since, Some(first.now));
    let second = observe::observe(&context, &session, &mut remembered).await.unwrap();
    assert_eq!(second.server_failing_since, Some(first.now));
}

#[tokio::test]
async fn sessions_that_are_gone_are_forgotten() {
    let world = World::default();
    let api = keeping(&world);
    let context = context(&api);
    run_pass(&context).await;
    assert!(context.metrics.render(false).contains("streamsession_operator_sessions 1"));
    let gone = kube::runtime::reflector::ObjectRef::<StreamSession>::new("x").within("a");
    heed(&context, Err(controller::Error::ObjectNotFound(Box::new(gone.erase()))));
    assert!(context.metrics.render(false).contains("streamsession_operator_sessions 0"));
}
