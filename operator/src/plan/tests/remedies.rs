//! What only somebody can mend, and what Kubernetes is about to do by itself: told apart, each with the truth.

use serde_json::{Value, json};

use super::{
    conditions::{planned, stuck, tells},
    session,
    world::World,
};
use crate::plan::{Kind, Observed, ServerError};

fn settled(spec: &Value) -> World {
    let mut world = World::new(session(spec));
    world.settle();
    world
}

/// A session that is told by its store why it cannot be written.
fn refusing(storage: &Value, reason: &str) -> (World, Observed) {
    let mut world = settled(&json!({"storage": storage}));
    world.now += jiff::SignedDuration::from_secs(60);
    let store = &mut world.server.as_mut().unwrap().store;
    (store.ok, store.reason, store.message) = (false, Some(reason.into()), Some("the store says no".into()));
    let observed = world.observe();
    (world, observed)
}

#[test]
fn a_store_that_refuses_has_its_own_reason_and_the_place_to_mend_it() {
    let external = |secret: Value| {
        let mut storage =
            json!({"mode": "External", "external": {"endpoint": "https://s3.example.com", "bucket": "recordings"}});
        if !secret.is_null() {
            storage["external"]["credentialsSecretRef"] = secret;
        }
        storage
    };
    let keys = || external(json!({"name": "store-keys"}));
    let right = "give Secret store-keys in namespace cameras the right accessKeyId and secretAccessKey";
    for (storage, reason, words) in [
        (keys(), "AccessDenied", right),
        (keys(), "CredentialsMissing", right),
        (external(Value::Null), "CredentialsMissing", "spec.storage.external.credentialsSecretRef"),
        (json!({}), "AccessDenied", "Secret front-door-store"),
        (keys(), "WrongRegion", "spec.storage.external.region"),
        (keys(), "NoSuchBucket", "spec.storage.external.bucket"),
        (keys(), "ClockSkewed", "the store says no"),
        (keys(), "TimedOut", "the store says no"),
        (keys(), "SlowDown", "the store says no"),
        (keys(), "ChecksumMismatch", "the store says no"),
        (keys(), "Failed", "the store says no"),
    ] {
        let (mut world, observed) = refusing(&storage, reason);
        tells(&world, &observed, &["StorageReady"], reason, &["the store says no", words]);
        world.server.as_mut().unwrap().store.ok = true;
        world.settle();
        assert!(world.is_ready(), "{reason}");
    }
    let (world, observed) = refusing(&keys(), "not a reason");
    tells(&world, &observed, &["StorageReady"], "StoreRefuses", &["the store says no"]);
}

#[test]
fn a_store_that_has_not_answered_yet_is_no_warning() {
    let (world, observed) = refusing(&json!({}), "Connecting");
    let plan = planned(&world, &observed);
    assert_eq!(super::condition_of(plan.status.as_ref(), "StorageReady").1, "Connecting");
    assert_eq!(super::condition_of(plan.status.as_ref(), "Ready").0, "False");
    assert!(plan.events.iter().all(|note| !note.warning), "{:?}", plan.events);
}

#[test]
fn what_this_version_does_not_do_is_told_and_nothing_is_made() {
    for (spec, words) in [
        (
            json!({"database": {"mode": "Postgres", "urlSecretRef": {"name": "postgres", "key": "url"}}}),
            ["spec.database.mode Postgres", "write mode: SQLite"],
        ),
        (
            json!({"auth": {"mode": "Callback", "callback": {"url": "https://i.example.com/check"}}}),
            ["spec.auth.mode Callback", "write mode: JWT"],
        ),
        (
            json!({"auth": {"jwks": {"url": "https://i.example.com/jwks"}, "issuer": "i", "audience": "a"}}),
            ["spec.auth.jwks", "spec.auth.secretRef"],
        ),
    ] {
        let mut world = settled(&spec);
        assert!(
            world.objects.values().all(|object| object["metadata"]["ownerReferences"].is_null()),
            "{:?}",
            world.log
        );
        for type_ in ["Stalled", "Ready", "MediaReady"] {
            let (status, reason, message) = world.condition(type_);
            assert_eq!((status, reason), (if type_ == "Stalled" { "True" } else { "False" }, "Unsupported"));
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
        }
        assert_eq!(world.events.len(), 1, "{:?}", world.events);
        world.change(|all| *all = json!({}));
        world.settle();
        assert!(world.is_ready());
        // Of a session that runs nothing is taken away.
        world.log.clear();
        world.change(|all| *all = spec.clone());
        world.settle();
        assert!(world.log.iter().all(|line| line == "status"), "{:?}", world.log);
        assert_eq!(world.condition("Ready").1, "Unsupported");
        assert_eq!(world.condition("MediaReady").0, "True");
    }
}

/// Status and reason of MediaReady, and its message.
fn media(world: &World, observed: &Observed) -> (String, String, String) {
    let plan = planned(world, observed);
    let status = plan.status.as_ref().or(world.session.status.as_ref());
    let (status, reason, message) = super::condition_of(status, "MediaReady");
    (status.to_owned(), reason.to_owned(), message.to_owned())
}

#[test]
fn a_node_port_that_is_not_there_yet_is_not_blamed_on_the_node() {
    let mut world = settled(&json!({}));
    world.object_mut(Kind::Service, "front-door-media")["spec"]["ports"][0]["nodePort"] = json!(null);
    let (status, reason, message) = media(&world, &world.observe());
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Configuring"));
    assert!(message.contains("a port of the nodes") && !message.contains("read nodes"), "{message}");
    world.objects.remove(&crate::plan::Child { kind: Kind::Service, name: "front-door-media".into() });
    let (_, reason, message) = media(&world, &world.observe());
    assert_eq!(reason, "Configuring");
    assert!(message.contains("is being made"), "{message}");
    assert!(planned(&world, &world.observe()).events.iter().all(|note| !note.warning));
}

#[test]
fn a_node_without_a_fitting_address_is_told() {
    for type_ in ["NodePort", "HostPort"] {
        let mut world = settled(&json!({"exposure": {"type": type_}, "turn": {"mode": "Disabled"}}));
        assert!(world.is_ready());
        world.node = None;
        let status = &mut world.pod.as_mut().unwrap()["status"];
        (status["hostIP"], status["hostIPs"]) = (json!(null), json!(null));
        let observed = world.observe();
        tells(&world, &observed, &["MediaReady"], "NoAddress", &["let the operator read nodes"]);
        world.run_pod();
        world.settle();
        assert!(world.is_ready(), "{type_}");
    }
    let mut world = settled(&json!({}));
    world.object_mut(Kind::Service, "front-door-media")["spec"]["ipFamilies"] = json!(["IPv6"]);
    let observed = world.observe();
    tells(&world, &observed, &["MediaReady"], "NoAddress", &["no address of the family"]);
}

#[test]
fn a_load_balancer_is_given_a_moment_and_then_told() {
    let mut world = settled(&json!({"exposure": {"type": "LoadBalancer"}}));
    assert!(world.is_ready());
    for (ingress, words) in [
        (json!([]), ["no address", "type NodePort"]),
        (json!([{"hostname": "lb.example.com"}]), ["lb.example.com", "spec.exposure.announce"]),
    ] {
        world.object_mut(Kind::Service, "front-door-media")["status"] = json!({"loadBalancer": {"ingress": ingress}});
        let mut observed = world.observe();
        tells(&world, &observed, &["MediaReady"], "NoAddress", &words);
        let created = observed.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        for object in observed.children.values_mut() {
            object["metadata"]["creationTimestamp"] = json!(created);
        }
        let named = ingress[0]["hostname"].is_string();
        assert_eq!(media(&world, &observed).1, if named { "NoAddress" } else { "Configuring" }, "it was just made");
    }
}

#[test]
fn a_session_inside_the_cluster_is_ready_at_the_address_of_its_service() {
    let mut world = settled(&json!({"exposure": {"type": "ClusterIP"}}));
    assert!(world.is_ready());
    assert!(world.condition("MediaReady").2.contains("10.96.0.10:8189"), "{:?}", world.condition("MediaReady"));
    let spec = &mut world.object_mut(Kind::Service, "front-door-media")["spec"];
    (spec["clusterIP"], spec["clusterIPs"]) = (json!("None"), json!(["None"]));
    let observed = world.observe();
    tells(&world, &observed, &["MediaReady"], "NoAddress", &["no address in the cluster"]);
}

#[test]
fn one_question_without_an_answer_changes_nothing_and_is_asked_again_soon() {
    let world = settled(&json!({}));
    let mut observed = world.observe();
    observed.server = Some(Err(ServerError::Unreachable("timed out".into())));
    observed.server_failing_since = Some(observed.now);
    let plan = planned(&world, &observed);
    assert!(plan.status.is_none() && plan.events.is_empty(), "{plan:?}");
    assert!(plan.requeue.as_secs() <= 5, "{:?}", plan.requeue);
}

fn ago(observed: &Observed, seconds: i64) -> String {
    (observed.now - jiff::SignedDuration::from_secs(seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[test]
fn a_pod_that_does_not_become_ready_is_told_after_a_while() {
    let late = |seconds: i64, waits: bool| {
        let (mut world, observed) = stuck(&json!({}), |_| {});
        let since = ago(&observed, seconds);
        let pod = world.pod.as_mut().unwrap();
        pod["spec"]["nodeName"] = json!("node-7");
        pod["status"] = json!({"phase": "Running", "conditions": [
            {"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False", "lastTransitionTime": since},
        ]});
        if !waits {
            pod["status"]["containerStatuses"] = json!([
                {"name": "media", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"running": {}}},
            ]);
        }
        let mut observed = world.observe();
        observed.server = None;
        (world, observed)
    };
    let (world, observed) = late(100, false);
    assert_eq!(super::condition_of(planned(&world, &observed).status.as_ref(), "Ready").1, "Starting");
    let (world, observed) = late(130, false);
    tells(&world, &observed, &["MediaReady", "StorageReady"], "NotReady", &["node-7", "repairs", "describe pod"]);
    let (world, observed) = late(130, true);
    tells(&world, &observed, &["MediaReady"], "NotReady", &["an image or a volume is slow"]);
}

#[test]
fn a_pod_that_does_not_end_with_its_node_is_told() {
    let mut world = settled(&json!({}));
    let observed = world.observe();
    let ending = |seconds: i64| ago(&observed, seconds);
    let pod = world.pod.as_mut().unwrap();
    pod["spec"]["nodeName"] = json!("node-7");
    pod["metadata"]["deletionTimestamp"] = json!(ending(5));
    world.server = None;
    let plan = planned(&world, &world.observe());
    assert_eq!(super::condition_of(plan.status.as_ref(), "Ready").1, "Replacing", "a drained node: {:?}", plan.status);
    assert!(plan.events.iter().all(|note| !note.warning), "{:?}", plan.events);
    world.pod.as_mut().unwrap()["metadata"]["deletionTimestamp"] = json!(ending(200));
    tells(&world, &world.observe(), &["MediaReady"], "PodStuck", &["get node node-7", "off for good"]);
    // The controller makes another one as soon as this one is gone.
    (world.pod, world.server) = (None, None);
    world.settle();
    assert!(world.is_ready());
}
