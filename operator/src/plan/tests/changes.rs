//! Changes while streams run: what is live, what waits for a new pod, and when that is made.

use serde_json::{Value, json};

use super::{session, world::World};
use crate::plan::{Kind, Note, PushRefused, Random, ServerError, names, plan};

fn streaming(spec: &Value) -> World {
    let mut world = World::new(session(spec));
    world.settle();
    world.server.as_mut().unwrap().publishers = 1;
    world.settle();
    world.log.clear();
    world.events.clear();
    world
}

#[test]
fn a_live_change_is_pushed_and_the_pod_is_left_alone() {
    for (change, remains) in [
        (json!({"limits": {"maxPublishers": 1, "maxSubscribersPerRoom": 5}}), true),
        (json!({"recording": {"retention": {"maxAge": "30d"}, "segmentDuration": "4s", "enabled": false}}), true),
        (json!({"turn": {"credentialTTL": "2h"}}), true),
        (json!({"drain": {"deadline": "5m"}}), true),
        (json!({"exposure": {"announce": ["203.0.113.99"]}}), true),
        (json!({"exposure": {"type": "LoadBalancer"}}), true),
        (json!({"exposure": {"nodePort": 31189}, "turn": {"nodePort": 31478}}), true),
        (json!({"storage": {"size": "30Gi"}}), true),
        (json!({"updatePolicy": "Immediate"}), true),
        (json!({"exposure": {"mediaPort": 9000}}), false),
        (json!({"exposure": {"type": "HostPort"}}), false),
        (json!({"turn": {"mode": "Disabled"}}), false),
        (json!({"turn": {"tlsSecretName": "certificate"}}), false),
        (json!({"turn": {"realm": "cams.example.com"}}), false),
        (json!({"storage": {"mode": "Local"}}), false),
        (json!({"auth": {"audience": "cams"}}), false),
        (json!({"auth": {"secretRef": {"name": "jwt", "key": "k"}}}), false),
        (json!({"pod": {"image": "media-server:2"}}), false),
    ] {
        let mut world = streaming(&json!({}));
        let uid = world.pod.as_ref().unwrap()["metadata"]["uid"].clone();
        world.change(|spec| merge(spec, &change));
        world.settle();
        assert!(world.log.contains(&"push".to_owned()), "{change}: {:?}", world.log);
        assert_eq!(world.pod.as_ref().unwrap()["metadata"]["uid"], uid, "{change}: the stream would end");
        let pending = world.condition("UpdatePending");
        assert_eq!(pending.0, if remains { "False" } else { "True" }, "{change}: {pending:?}");
        assert!(world.is_ready(), "{change}: {:?}", world.session.status);
        let limits = world.session.status.as_ref().unwrap().limits.as_ref().unwrap();
        assert_eq!(limits.generation, 2, "{change}");
    }
}

fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

#[test]
fn a_change_that_needs_a_new_pod_waits_until_nobody_publishes() {
    let mut world = streaming(&json!({}));
    world.change(|spec| spec["pod"]["image"] = json!("media-server:2"));
    world.settle();
    let (status, reason, message) = world.condition("UpdatePending");
    assert_eq!((status, reason), ("True", "WaitingForIdle"));
    assert!(message.contains("Immediate") && message.contains("delete pod front-door-0"), "{message}");
    world.server.as_mut().unwrap().publishers = 0;
    world.settle();
    assert_eq!(world.condition("UpdatePending").0, "False");
    assert_eq!(world.pod.as_ref().unwrap()["spec"]["containers"][0]["image"], "media-server:2");
    assert_eq!(world.log.iter().filter(|line| *line == "delete Pod").count(), 1);
    assert!(world.events.iter().any(|event| event.starts_with("Normal PodReplaced")), "{:?}", world.events);
    assert!(world.is_ready());
}

#[test]
fn policy_immediate_replaces_at_once_with_the_grace_of_the_new_deadline() {
    let mut world = streaming(&json!({}));
    world.change(|spec| {
        spec["pod"]["image"] = json!("media-server:2");
        spec["updatePolicy"] = json!("Immediate");
        spec["drain"]["deadline"] = json!("2m");
    });
    world.pass(); // The template first, or the same pod would come again.
    assert!(!world.log.contains(&"delete Pod".to_owned()));
    let plan = world.plan();
    let pod = plan.delete_pod.as_ref().expect("it is replaced");
    assert_eq!(pod.grace_seconds, 130);
    assert_eq!(super::condition_of(plan.status.as_ref(), "UpdatePending").1, "Replacing");
    world.settle();
    assert!(world.is_ready());
}

#[test]
fn an_operator_with_other_images_does_not_cut_a_stream() {
    let mut world = streaming(&json!({"updatePolicy": "WhenIdle"}));
    world.settings.images.media_server = "media-server:2".into();
    world.settings.images.coturn = "coturn:2".into();
    world.settle();
    assert!(!world.log.contains(&"delete Pod".to_owned()));
    assert_eq!(world.condition("UpdatePending").1, "WaitingForIdle");
}

#[test]
fn a_pod_that_does_not_run_is_replaced_at_once() {
    let mut world = World::new(session(&json!({"pod": {"image": "media-server:typo"}})));
    world.settle();
    let pod = world.pod.as_mut().unwrap();
    pod["status"]["conditions"][1]["status"] = json!("False");
    pod["status"]["containerStatuses"][0]["ready"] = json!(false);
    world.server = None;
    world.pass();
    world.change(|spec| spec["pod"]["image"] = json!("media-server:2"));
    world.settle();
    assert!(world.is_ready());
    assert_eq!(world.pod.as_ref().unwrap()["spec"]["containers"][0]["image"], "media-server:2");
}

#[test]
fn a_ready_pod_whose_server_the_operator_cannot_reach_is_not_replaced() {
    let mut world = streaming(&json!({}));
    world.server = None;
    // The store is unwell, and with it the pod as a whole.
    world.pod.as_mut().unwrap()["status"]["conditions"][1]["status"] = json!("False");
    world.change(|spec| spec["pod"]["image"] = json!("media-server:2"));
    for _ in 0..5 {
        world.pass();
    }
    assert!(!world.log.contains(&"delete Pod".to_owned()));
}

/// Generation of the status, and status and generation of Ready.
fn told(world: &World) -> (Option<i64>, &str, Option<i64>) {
    let status = world.session.status.as_ref().unwrap();
    let ready = status.conditions.iter().find(|one| one.type_ == "Ready").unwrap();
    (status.observed_generation, &ready.status, ready.observed_generation)
}

#[test]
fn ready_tells_of_a_generation_only_once_the_server_has_it_in_force() {
    let mut world = streaming(&json!({}));
    assert_eq!(told(&world), (Some(1), "True", Some(1)));
    world.change(|spec| spec["limits"]["maxPublishers"] = json!(9));
    world.pass();
    assert_eq!(told(&world), (Some(1), "True", Some(1)), "it is being told");
    world.pass();
    assert_eq!(told(&world), (Some(2), "True", Some(2)));
    assert_eq!(world.session.status.as_ref().unwrap().limits.as_ref().unwrap().max_publishers, 9);
    assert!(world.events.is_empty(), "a change is no outage: {:?}", world.events);
    // A server that is silent has taken nothing over, whatever was seen of it before.
    world.change(|spec| spec["limits"]["maxPublishers"] = json!(8));
    let mut observed = world.observe();
    observed.server = Some(Err(ServerError::Unreachable("timed out".into())));
    observed.server_failing_since = Some(observed.now);
    let plan = plan(&world.session, &world.settings, &observed, Random([1; 32]));
    assert_eq!(plan.status.unwrap().observed_generation, Some(2));
}

#[test]
fn ready_does_not_go_back_to_a_generation_before() {
    let mut world = streaming(&json!({}));
    world.change(|spec| spec["limits"]["maxPublishers"] = json!(9));
    let server = world.server.take();
    for _ in 0..3 {
        world.pass();
    }
    assert_eq!(told(&world), (Some(2), "False", Some(2)), "it does not answer");
    world.server = server;
    world.pass();
    assert_eq!(told(&world), (Some(2), "False", Some(2)));
    assert_eq!(world.condition("Ready").1, "Configuring");
    world.pass();
    assert_eq!(told(&world), (Some(2), "True", Some(2)));
}

#[test]
fn a_change_that_the_server_refuses_ends_ready_and_not_the_streams() {
    let mut world = streaming(&json!({}));
    world.change(|spec| spec["limits"]["maxPublishers"] = json!(9));
    let mut observed = world.observe();
    observed.push_refused = Some(PushRefused { generation: 2, message: "spec.limits is wrong".into() });
    let plan = plan(&world.session, &world.settings, &observed, Random([1; 32]));
    assert!(plan.delete_pod.is_none() && plan.apply.iter().all(|apply| apply.child.kind == Kind::ConfigMap));
    let status = plan.status.as_ref();
    for type_ in ["Ready", "Stalled"] {
        assert_eq!(super::condition_of(status, type_).1, "SettingsRefused");
    }
    assert_eq!(super::condition_of(status, "MediaReady").0, "True");
    assert_eq!(status.unwrap().observed_generation, Some(2), "kstatus has to see that it failed");
    assert_eq!(plan.events.iter().filter(|note| note.warning).count(), 1, "{:?}", plan.events);
}

#[test]
fn while_it_is_paused_ready_stays_with_the_generation_in_force() {
    let mut world = streaming(&json!({}));
    world.change(|spec| {
        spec["paused"] = json!(true);
        spec["limits"]["maxPublishers"] = json!(9);
    });
    world.settle();
    assert_eq!(told(&world), (Some(1), "True", Some(1)));
    assert_eq!(world.condition("Stalled").1, "Paused");
    // The kubelet starts the container anew; nobody tells the server anything.
    world.server = Some(crate::plan::ServerReport::default());
    world.settle();
    let (status, reason, message) = world.condition("Ready");
    assert_eq!((status, reason), ("False", "Paused"));
    assert!(message.contains("write false"), "{message}");
    world.change(|spec| spec["paused"] = json!(false));
    world.settle();
    assert_eq!(told(&world), (Some(3), "True", Some(3)));
}

#[test]
fn a_service_that_the_running_pod_needs_stays_until_it_is_replaced() {
    let mut world = streaming(&json!({}));
    world.change(|spec| {
        spec["turn"]["mode"] = json!("Disabled");
        spec["storage"]["mode"] = json!("Local");
    });
    world.settle();
    assert!(world.object(Kind::Service, "front-door-turn").is_some());
    world.server.as_mut().unwrap().publishers = 0;
    world.settle();
    for name in ["front-door-turn", "front-door-store"] {
        assert!(world.object(Kind::Service, name).is_none(), "{name}");
    }
    assert!(world.object(Kind::Secret, "front-door-store").is_some(), "with it recordings could still be read");
    assert!(world.is_ready());
}

#[test]
fn a_server_that_starts_anew_is_told_everything_again() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    world.server = Some(crate::plan::ServerReport::default());
    world.log.clear();
    world.settle();
    assert!(world.log.contains(&"push".to_owned()));
    assert!(world.is_ready());
}

#[test]
fn counts_alone_are_written_every_ten_seconds_at_most() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    world.server.as_mut().unwrap().subscribers = 1;
    world.pass();
    assert_eq!(world.session.status.as_ref().unwrap().subscribers, Some(1));
    world.now -= jiff::SignedDuration::from_secs(8);
    world.server.as_mut().unwrap().subscribers = 2;
    let plan = world.plan();
    assert!(plan.status.is_none());
    assert_eq!(plan.requeue.as_secs(), 7);
    world.now += jiff::SignedDuration::from_secs(7);
    assert_eq!(world.plan().status.unwrap().subscribers, Some(2));
}

#[test]
fn what_is_more_than_a_count_is_written_at_once_and_moves_its_time_only_when_it_flips() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    let time = |world: &World| {
        let conditions = &world.session.status.as_ref().unwrap().conditions;
        conditions.iter().find(|one| one.type_ == "StorageReady").unwrap().last_transition_time.clone()
    };
    let first = time(&world);
    let store = |world: &mut World, ok: bool, reason: &str, message: &str| {
        let store = &mut world.server.as_mut().unwrap().store;
        (store.ok, store.reason, store.message) = (ok, Some(reason.into()), Some(message.into()));
        world.now += jiff::SignedDuration::from_secs(30);
        world.pass();
    };
    store(&mut world, false, "AccessDenied", "one");
    let turned = time(&world);
    assert!(turned > first);
    store(&mut world, false, "NoSuchBucket", "two");
    assert_eq!(world.condition("StorageReady").1, "NoSuchBucket");
    assert_eq!(time(&world), turned);
    store(&mut world, true, "", "");
    assert!(time(&world) > turned);
}

#[test]
fn a_turn_is_told_once() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    let told: Vec<&String> = world.events.iter().collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("Normal Ready: cameras publish to http://front-door.cameras.svc/whip/{room}"),
        "{told:?}"
    );
    world.events.clear();
    world.now += jiff::SignedDuration::from_secs(60);
    let store = &mut world.server.as_mut().unwrap().store;
    (store.ok, store.reason, store.message) = (false, Some("AccessDenied".into()), Some("correct the key".into()));
    for _ in 0..4 {
        world.pass();
    }
    assert_eq!(world.events.len(), 1, "{:?}", world.events);
    assert!(world.events[0].starts_with("Warning AccessDenied: correct the key; "), "{:?}", world.events);
    world.events.clear();
    world.server.as_mut().unwrap().store.ok = true;
    for _ in 0..4 {
        world.pass();
    }
    assert_eq!(world.events.len(), 2, "{:?}", world.events);
    assert!(world.events.iter().all(|event| event.starts_with("Normal ")), "{:?}", world.events);
}

#[test]
fn the_pod_is_told_to_read_its_secrets_again_when_one_changes() {
    let mut world = World::new(session(&json!({"auth": {"secretRef": {"name": "jwt", "key": "k"}}})));
    world.settle();
    let hash = |world: &World| world.pod.as_ref().unwrap()["metadata"]["annotations"][names::SECRETS_HASH].clone();
    let before = hash(&world);
    world.object_mut(Kind::Secret, "jwt")["metadata"]["resourceVersion"] = json!("999");
    world.log.clear();
    world.settle();
    assert_ne!(hash(&world), before);
    assert_eq!(world.log, ["Merge Pod front-door-0"]);
}

#[test]
fn a_note_is_no_longer_than_an_event_may_be() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    world.now += jiff::SignedDuration::from_secs(60);
    let store = &mut world.server.as_mut().unwrap().store;
    (store.ok, store.message) = (false, Some("é".repeat(4000)));
    let notes: Vec<Note> = world.plan().events;
    assert!(!notes.is_empty() && notes.iter().all(|note| note.message.len() <= 1024));
}
