//! Secrets are made once, kept, rotated in time or when asked, and the value before is taken for a while.

use jiff::SignedDuration;
use serde_json::json;

use super::{session, world::World};
use crate::plan::{Kind, TOKEN, TOKEN_PREVIOUS, names};

fn settled() -> World {
    let mut world = World::new(session(&json!({})));
    world.settle();
    world.log.clear();
    world.events.clear();
    world
}

fn later(world: &mut World, hours: i64) {
    world.now += SignedDuration::from_hours(hours);
    world.settle();
}

#[test]
fn values_are_long_differ_and_are_kept() {
    let mut world = settled();
    let all = [
        ("admin", TOKEN),
        ("turn", "secret"),
        ("keys", "secret"),
        ("store", "secretAccessKey"),
        ("store", "accessKeyId"),
    ];
    let values = |world: &World| all.map(|(name, key)| world.value(&format!("front-door-{name}"), key).unwrap());
    let before = values(&world);
    for (value, least) in before.iter().zip([64, 64, 64, 40, 20]) {
        assert_eq!(value.len(), least);
        assert_eq!(before.iter().filter(|other| *other == value).count(), 1);
    }
    later(&mut world, 24);
    assert_eq!(values(&world), before);
    let other = settled_with_another_seed();
    assert_ne!(values(&other), before);
}

fn settled_with_another_seed() -> World {
    let mut world = World::new(session(&json!({})));
    world.plan();
    world.settle();
    world
}

#[test]
fn relay_and_admin_secrets_are_made_anew_by_age_and_the_others_never() {
    let mut world = settled();
    let before = |name: &str, key: &str, world: &World| world.value(&format!("front-door-{name}"), key);
    let (token, turn) = (before("admin", TOKEN, &world), before("turn", "secret", &world));
    let (keys, store) = (before("keys", "secret", &world), before("store", "secretAccessKey", &world));
    later(&mut world, 29 * 24);
    assert_eq!(before("admin", TOKEN, &world), token);
    world.now += SignedDuration::from_hours(25);
    world.pass();
    assert_ne!(before("admin", TOKEN, &world), token);
    assert_eq!(before("admin", TOKEN_PREVIOUS, &world), token);
    assert_ne!(before("turn", "secret", &world), turn);
    assert_eq!(before("turn", "secret.previous", &world), turn);
    assert_eq!((before("keys", "secret", &world), before("store", "secretAccessKey", &world)), (keys, store));
    let rotated: Vec<&String> = world.events.iter().filter(|event| event.contains("SecretsRotated")).collect();
    assert_eq!(rotated.len(), 2, "{:?}", world.events);
    assert!(world.pass(), "the kubelet is told");
    later(&mut world, 2);
    for (name, key) in [("admin", TOKEN_PREVIOUS), ("turn", "secret.previous")] {
        assert_eq!(before(name, key, &world), None, "the overlap has an end");
    }
    assert!(world.is_ready());
}

#[test]
fn the_relays_secret_before_is_taken_for_as_long_as_credentials_made_with_it_are_good() {
    let mut world = World::new(session(&json!({"turn": {"credentialTTL": "7d"}})));
    world.settle();
    later(&mut world, 30 * 24);
    later(&mut world, 6 * 24);
    assert!(world.value("front-door-turn", "secret.previous").is_some());
    assert!(world.value("front-door-admin", TOKEN_PREVIOUS).is_none());
    later(&mut world, 25);
    assert!(world.value("front-door-turn", "secret.previous").is_none());
}

#[test]
fn no_age_is_so_short_that_credentials_end_before_their_time() {
    let mut world = World::new(session(&json!({"turn": {"credentialTTL": "7d"}})));
    world.settings.rotate_secrets_after = Some(std::time::Duration::from_secs(3600));
    world.settle();
    let first = world.value("front-door-turn", "secret");
    later(&mut world, 7 * 24 + 1);
    assert_eq!(world.value("front-door-turn", "secret.previous"), first);
    later(&mut world, 7 * 24 - 1);
    assert_eq!(world.value("front-door-turn", "secret.previous"), first, "it is still good for somebody");
    later(&mut world, 2);
    assert_ne!(world.value("front-door-turn", "secret.previous"), first);
}

#[test]
fn the_sessions_annotation_asks_for_a_rotation_once() {
    let mut world = settled();
    world.settings.rotate_secrets_after = None;
    let token = world.value("front-door-admin", TOKEN);
    let ask = |world: &mut World, value: &str| {
        let annotations = world.session.metadata.annotations.get_or_insert_default();
        annotations.insert(names::ROTATE_SECRETS.to_owned(), value.to_owned());
        world.settle();
    };
    ask(&mut world, "1");
    let second = world.value("front-door-admin", TOKEN);
    assert_ne!(second, token);
    later(&mut world, 1);
    assert_eq!(world.value("front-door-admin", TOKEN), second);
    ask(&mut world, "2");
    assert_ne!(world.value("front-door-admin", TOKEN), second);
    later(&mut world, 24 * 365);
    let third = world.value("front-door-admin", TOKEN);
    assert_eq!(third, world.value("front-door-admin", TOKEN), "without an age it is not made anew");
}

#[test]
fn an_annotation_that_is_there_from_the_start_asks_for_nothing() {
    let mut session = session(&json!({}));
    session.metadata.annotations = Some([(names::ROTATE_SECRETS.to_owned(), "1".to_owned())].into());
    let mut world = World::new(session);
    world.settle();
    assert!(world.log.iter().all(|line| !line.starts_with("Merge Secret")), "{:?}", world.log);
}

#[test]
fn a_value_that_somebody_removed_is_made_anew() {
    let mut world = settled();
    world.object_mut(Kind::Secret, "front-door-turn")["data"] = json!({"secret": ""});
    world.settle();
    assert_eq!(world.value("front-door-turn", "secret").unwrap().len(), 64);
    assert!(world.is_ready());
}

#[test]
fn a_secret_of_somebody_else_is_neither_used_nor_changed() {
    let mut world = World::new(session(&json!({})));
    let theirs = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "front-door-turn", "namespace": "cameras", "uid": "theirs", "resourceVersion": "1"},
        "data": {"secret": "dGhlaXJz"},
    });
    let child = crate::plan::Child { kind: Kind::Secret, name: "front-door-turn".into() };
    world.objects.insert(child.clone(), theirs.clone());
    world.pass();
    world.pass();
    assert_eq!(world.objects[&child], theirs);
    assert_eq!(world.condition("Stalled").1, "NameTaken");
    assert!(world.object(Kind::StatefulSet, "front-door").is_none(), "a pod could not run with it");
    world.objects.remove(&child);
    world.settle();
    assert!(world.is_ready());
}

#[test]
fn what_is_needed_to_read_recordings_stays_as_long_as_they() {
    let owners =
        |world: &World, kind, name: &str| world.object(kind, name).unwrap()["metadata"]["ownerReferences"].clone();
    let kept = [(Kind::PersistentVolumeClaim, "front-door-data"), (Kind::Secret, "front-door-store")];
    let mut world = settled();
    for (kind, name) in kept {
        assert!(owners(&world, kind, name).is_null(), "{name}");
    }
    assert_eq!(owners(&world, Kind::Secret, "front-door-turn")[0]["uid"], "session-uid");
    for (policy, goes) in [("Delete", true), ("Retain", false), ("WaitForUploads", false)] {
        world.change(|spec| spec["recording"]["reclaimPolicy"] = json!(policy));
        world.settle();
        for (kind, name) in kept {
            assert_eq!(owners(&world, kind, name)[0]["controller"] == true, goes, "{policy} {name}");
        }
    }
}

#[test]
fn a_server_behind_on_its_token_is_come_to_with_both() {
    let mut world = settled();
    world.now += SignedDuration::from_hours(31 * 24);
    world.pass();
    let observed = world.observe();
    let admin = &observed.secrets["front-door-admin"];
    assert_eq!(admin.admin_tokens().len(), 2);
    assert_eq!(admin.admin_tokens()[0], world.value("front-door-admin", TOKEN).unwrap());
}

#[test]
fn a_store_whose_keys_somebody_deleted_is_started_anew_when_nobody_publishes() {
    let mut world = settled();
    let at = |second: i64| json!(jiff::Timestamp::from_second(second).unwrap().to_string());
    world.pod.as_mut().unwrap()["metadata"]["creationTimestamp"] = at(1_000);
    world.object_mut(Kind::Secret, "front-door-store")["metadata"]["creationTimestamp"] = at(1_000);
    assert!(world.plan().delete_pod.is_none(), "made together");
    world.object_mut(Kind::Secret, "front-door-store")["metadata"]["creationTimestamp"] = at(1_060);
    let planned = world.plan().delete_pod.expect("it is started anew");
    assert!(planned.why.contains("keys") && planned.why.contains("nobody publishes"), "{}", planned.why);
    world.server.as_mut().unwrap().publishers = 1;
    let plan = world.plan();
    assert!(plan.delete_pod.is_none(), "a camera is not cut off");
    assert!(format!("{:?}", plan.status).contains("UpdatePending"));
}
