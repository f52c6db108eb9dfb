//! From anything to what is wanted, and then nothing more.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{session, specs, world::World};
use crate::plan::{Child, Kind, children, names};

#[test]
fn an_empty_spec_becomes_ready_and_then_nothing_is_written() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    assert!(world.is_ready(), "{:?}", world.session.status);
    let writes = world.log.len();
    for _ in 0..10 {
        world.pass();
    }
    assert_eq!(world.log.len(), writes, "{:?}", &world.log[writes..]);
    assert_eq!(world.log.iter().filter(|line| *line == "push").count(), 1, "{:?}", world.log);
}

#[test]
fn nothing_is_applied_twice_on_the_way_to_ready() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    let mut applied: Vec<&String> = world.log.iter().filter(|line| !line.starts_with("status")).collect();
    let count = applied.len();
    applied.sort();
    applied.dedup();
    assert_eq!(applied.len(), count, "{:?}", world.log);
}

#[test]
fn each_child_that_is_removed_comes_back_once() {
    let mut world = World::new(session(&json!({"exposure": {"ingress": {"host": "cams.example.com"}}})));
    world.settle();
    for child in children(&world.session) {
        if child.kind == Kind::PersistentVolumeClaim {
            continue; // What it held is gone with it.
        }
        assert!(world.objects.remove(&child).is_some(), "{child}");
        let writes = world.log.len();
        world.settle();
        let again: Vec<&String> =
            world.log[writes..].iter().filter(|line| line.ends_with(&child.to_string())).collect();
        assert_eq!(again.len(), 1, "{child}: {:?}", &world.log[writes..]);
        assert!(world.objects.contains_key(&child) && world.is_ready());
    }
}

#[test]
fn each_child_that_is_edited_is_put_right_once() {
    let mut world = World::new(session(&json!({"exposure": {"ingress": {"host": "cams.example.com"}}})));
    world.settle();
    for child in children(&world.session) {
        let before = world.objects[&child].clone();
        world.object_mut(child.kind, &child.name)["metadata"]["labels"]["app.kubernetes.io/component"] = json!("other");
        let writes = world.log.len();
        world.settle();
        assert_eq!(world.log.len() - writes, 1, "{child}: {:?}", &world.log[writes..]);
        let after = &world.objects[&child];
        assert_eq!(after["spec"], before["spec"], "{child}");
        assert_eq!(after["metadata"]["labels"], before["metadata"]["labels"], "{child}");
    }
}

#[test]
fn what_others_add_to_an_object_is_left_there() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    world.object_mut(Kind::Service, "front-door")["metadata"]["labels"]["team"] = json!("doors");
    world.object_mut(Kind::ConfigMap, "front-door")["metadata"]["annotations"]["note"] = json!("seen");
    assert!(!world.pass(), "{:?}", world.log.last());
}

#[test]
fn a_stranger_of_the_same_name_is_left_alone_and_told() {
    let mut world = World::new(session(&json!({})));
    let stranger = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "front-door", "namespace": "cameras", "uid": "theirs"}, "spec": {"type": "ClusterIP"},
    });
    let child = Child { kind: Kind::Service, name: "front-door".into() };
    world.objects.insert(child.clone(), stranger.clone());
    world.settle();
    assert_eq!(world.objects[&child], stranger);
    let (status, reason, message) = world.condition("Stalled");
    assert_eq!((status, reason), ("True", "NameTaken"));
    assert!(message.contains("Service front-door") && message.contains("another name"), "{message}");
    world.objects.remove(&child);
    world.settle();
    assert_eq!(world.condition("Stalled").0, "False");
    assert!(world.objects.contains_key(&child));
}

#[test]
fn what_an_earlier_session_left_is_waited_for_and_what_it_kept_is_taken_up() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    let recordings = world.object(Kind::PersistentVolumeClaim, "front-door-data").unwrap().clone();
    let key = world.value("front-door-store", "secretAccessKey");
    world.session = session(&json!({}));
    world.session.metadata.uid = Some("another-uid".into());
    (world.pod, world.server) = (None, None);
    world.log.clear();
    world.pass();
    assert!(world.log.iter().all(|line| line == "status"), "{:?}", world.log);
    world.objects.retain(|_, object| object["metadata"]["ownerReferences"].is_null());
    world.settle();
    assert!(world.is_ready());
    let claim = world.object(Kind::PersistentVolumeClaim, "front-door-data").unwrap();
    assert_eq!(claim["metadata"]["uid"], recordings["metadata"]["uid"]);
    assert_eq!(world.value("front-door-store", "secretAccessKey"), key);
}

#[test]
fn a_session_that_is_deleted_or_paused_is_left_as_it_is() {
    let mut world = World::new(session(&json!({"paused": true})));
    world.settle();
    assert!(world.objects.is_empty());
    assert_eq!(world.condition("Ready").1, "Paused");
    assert_eq!(world.condition("Stalled").1, "Paused");
    world.change(|spec| spec["paused"] = json!(false));
    world.settle();
    assert!(world.is_ready());
    world.change(|spec| {
        spec["paused"] = json!(true);
        spec["limits"]["maxPublishers"] = json!(9);
    });
    world.object_mut(Kind::Service, "front-door")["spec"]["ports"] = json!([]);
    let writes = world.log.len();
    world.settle();
    assert!(world.log[writes..].iter().all(|line| line == "status"), "{:?}", &world.log[writes..]);
    world.change(|spec| spec["paused"] = json!(false));
    world.session.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now));
    assert!(!world.pass());
}

#[test]
fn a_spec_that_contradicts_itself_changes_nothing_and_is_told() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    let writes = world.log.len();
    world.change(|spec| spec["turn"]["mode"] = json!("External"));
    world.settle();
    assert!(world.log[writes..].iter().all(|line| line == "status"), "{:?}", &world.log[writes..]);
    let (status, reason, message) = world.condition("Stalled");
    assert_eq!((status, reason), ("True", "InvalidSpec"));
    assert!(message.contains("spec.turn.external") && message.contains("write"), "{message}");
    assert_eq!(world.condition("MediaReady").0, "True", "what runs goes on");
    assert_eq!((world.condition("Ready").0, world.condition("Ready").1), ("False", "InvalidSpec"));
    assert_eq!(world.session.status.as_ref().unwrap().observed_generation, Some(2));
}

/// All that was written, without versions and addresses that differ from run to run.
pub(super) fn wanted_of(world: &World) -> Value {
    let objects = world.objects.iter().filter(|(child, _)| child.kind != Kind::Secret).map(|(child, object)| {
        let spec = if child.kind == Kind::Service { json!(null) } else { object["spec"].clone() };
        (child.to_string(), json!([spec, object["data"], object["metadata"]["annotations"][names::APPLIED_HASH]]))
    });
    objects.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_spec_becomes_ready_and_comes_to_rest(spec in specs::spec()) {
        let mut world = World::new(session(&spec));
        world.settle();
        prop_assert!(world.is_ready(), "{:?}", world.session.status);
        prop_assert!(!world.pass(), "{:?}", world.log.last());
        for type_ in ["MediaReady", "TurnReady", "StorageReady", "UploadsHealthy"] {
            prop_assert_eq!(world.condition(type_).0, "True");
        }
        prop_assert_eq!(world.condition("UpdatePending").0, "False");
    }

    /// From A to B and back to A: as if B had never been, except for Secrets, which stay, and the volume, which is larger.
    #[test]
    fn a_change_and_its_undoing_leave_no_trace(one in specs::spec(), other in specs::spec()) {
        let mut one = one;
        one["storage"]["size"] = json!("2Ti");
        one["storage"]["storageClassName"] = other["storage"]["storageClassName"].clone();
        if one["storage"]["storageClassName"].is_null() {
            one["storage"].as_object_mut().unwrap().remove("storageClassName");
        }
        let mut other = other;
        other["storage"]["size"] = json!("2Ti");
        let mut world = World::new(session(&one));
        world.settle();
        let before = wanted_of(&world);
        for spec in [&other, &one] {
            world.change(|all| *all = spec.clone());
            world.settle();
            prop_assert!(world.is_ready(), "{:?}", world.session.status);
            prop_assert_eq!(world.condition("UpdatePending").0, "False");
        }
        prop_assert_eq!(wanted_of(&world), before);
    }

    /// The operator may be ended after any write; the next pass goes on, and the end is the same.
    #[test]
    fn a_pass_that_ends_after_any_write_is_gone_on_with(spec in specs::spec(), cuts in prop::collection::vec(0..12_usize, 12)) {
        let mut whole = World::new(session(&spec));
        whole.settle();
        let mut cut = World::new(session(&spec));
        for most in cuts {
            let mut plan = cut.plan();
            plan.apply.truncate(most);
            plan.delete.clear();
            (plan.delete_pod, plan.push, plan.status) = (None, None, None);
            cut.carry_out(plan);
        }
        cut.settle();
        prop_assert!(cut.is_ready());
        prop_assert_eq!(wanted_of(&cut), wanted_of(&whole));
    }
}
