//! A session's end, by policy and store, in every order; and clean-ups on the way there.

use serde_json::{Value, json};

use super::{session, world::World};
use crate::plan::{CleanupRun, Kind, names};

fn spec(policy: &str, mode: &str) -> Value {
    let external = json!({
        "endpoint": "https://s3.example.com", "bucket": "recordings", "credentialsSecretRef": {"name": "s3"},
    });
    let mut spec = json!({"recording": {"reclaimPolicy": policy}, "storage": {"mode": mode}});
    if mode == "External" {
        spec["storage"]["external"] = external;
    }
    spec
}

/// A session that runs, with two recordings on their way to the store.
fn running(policy: &str, mode: &str) -> World {
    let mut world = World::new(session(&spec(policy, mode)));
    world.settle();
    assert!(world.is_ready(), "{policy} {mode}: {:?}", world.session.status);
    let server = world.server.as_mut().unwrap();
    (server.publishers, server.recordings.pending_uploads) = (1, 2);
    world.pass();
    world.log.clear();
    world
}

fn passes(world: &mut World, count: usize) {
    for _ in 0..count {
        world.pass();
    }
}

fn is_held(world: &World) -> bool {
    world.session.metadata.finalizers.iter().flatten().any(|one| one == names::FINALIZER)
}

fn has_volume(world: &World) -> bool {
    world.object(Kind::PersistentVolumeClaim, "front-door-data").is_some()
}

#[test]
fn only_what_has_something_to_wait_for_is_held() {
    for (policy, mode, held) in [
        ("Retain", "Managed", false),
        ("Retain", "External", false),
        ("Delete", "Managed", false),
        ("Delete", "Local", false),
        ("Delete", "External", true),
        ("WaitForUploads", "Managed", true),
        ("WaitForUploads", "External", true),
        ("WaitForUploads", "Local", true),
    ] {
        assert_eq!(is_held(&running(policy, mode)), held, "{policy} {mode}");
    }
}

#[test]
fn what_the_policy_says_is_what_stays() {
    for (policy, mode, volume, objects) in [
        ("Retain", "Managed", true, true),
        ("Retain", "External", true, true),
        ("Delete", "Managed", false, true),
        ("Delete", "Local", false, true),
        ("Delete", "External", false, false),
        ("WaitForUploads", "Managed", true, true),
        ("WaitForUploads", "Local", true, true),
        ("WaitForUploads", "External", false, true),
    ] {
        let mut world = running(policy, mode);
        world.delete_session();
        world.settle_deletion().unwrap_or_else(|error| panic!("{policy} {mode}: {error}"));
        assert_eq!((has_volume(&world), world.objects_stored), (volume, objects), "{policy} {mode}: {:?}", world.log);
        assert_eq!(world.copy, None, "{policy} {mode}: keys are left elsewhere");
        let secret = world.object(Kind::Secret, "front-door-store").is_some();
        assert_eq!(secret, volume && mode == "Managed", "{policy} {mode}: who keeps the volume needs its keys");
        assert!(world.object(Kind::StatefulSet, "front-door").is_none(), "{policy} {mode}");
    }
}

#[test]
fn uploads_are_waited_for_and_the_pod_is_left_until_they_are_through() {
    let mut world = running("WaitForUploads", "External");
    world.store_answers = false;
    world.delete_session();
    for _ in 0..20 {
        world.pass();
        assert!(world.pod.is_some() && !world.gone);
    }
    let (status, reason, message) = world.condition("Ready");
    assert_eq!((status, reason), ("False", "ReclaimFailed"));
    assert!(message.contains("2 recordings") && message.contains("reclaimPolicy"), "{message}");
    assert_eq!(world.session.status.as_ref().unwrap().recordings.as_ref().unwrap().pending_uploads, 2);
    assert_eq!(world.log.iter().filter(|line| *line == "push").count(), 1, "told to drain once: {:?}", world.log);
    world.store_answers = true;
    world.settle_deletion().unwrap();
    assert!(!has_volume(&world));
    assert!(world.events.iter().any(|event| event.starts_with("Normal RecordingsUploaded")), "{:?}", world.events);
}

#[test]
fn the_way_out_lets_a_session_go_whose_store_is_gone_for_good() {
    for policy in ["WaitForUploads", "Delete"] {
        let mut world = running(policy, "External");
        world.store_answers = false;
        world.delete_session();
        passes(&mut world, 20);
        assert!(!world.gone, "{policy}");
        assert_eq!(world.condition("Ready").1, "ReclaimFailed", "{policy}");
        world.change(|spec| spec["recording"]["reclaimPolicy"] = json!("Retain"));
        world.settle_deletion().unwrap();
        assert!(has_volume(&world) && world.objects_stored, "{policy}");
        assert_eq!((&world.copy, &world.final_job), (&None, &None), "{policy}");
    }
}

#[test]
fn a_final_job_that_fails_is_made_anew_until_the_store_answers() {
    let mut world = running("Delete", "External");
    world.store_answers = false;
    world.delete_session();
    passes(&mut world, 20);
    assert!(world.log.iter().filter(|line| *line == "create Job").count() > 2, "{:?}", world.log);
    assert!(world.condition("Ready").2.contains("the store does not answer"), "{:?}", world.condition("Ready"));
    world.store_answers = true;
    world.settle_deletion().unwrap();
    assert!(!world.objects_stored);
    assert!(world.events.iter().any(|event| event.starts_with("Normal RecordingsDeleted")), "{:?}", world.events);
}

#[test]
fn nothing_is_lost_when_somebody_else_takes_the_pod_away() {
    // As with cascade=foreground, or where the namespace goes: what the session owns is deleted beside it.
    let mut world = running("WaitForUploads", "External");
    world.store_answers = false;
    world.delete_session();
    world.pass();
    let owned = |object: &Value| !object["metadata"]["ownerReferences"].is_null();
    world.objects.retain(|_, object| !owned(object));
    world.settle_deletion().unwrap();
    assert!(has_volume(&world));
    assert!(world.events.iter().any(|event| event.starts_with("Warning RecordingsKept")), "{:?}", world.events);
}

#[test]
fn objects_are_deleted_though_the_namespace_is_gone_with_its_secrets() {
    let mut world = running("Delete", "External");
    world.delete_session();
    world.objects.clear();
    (world.pod, world.server) = (None, None);
    world.settle_deletion().unwrap();
    assert!(!world.objects_stored && world.copy.is_none());
}

#[test]
fn keys_are_copied_before_anything_is_stored_and_again_when_they_change() {
    let mut world = World::new(session(&spec("Delete", "External")));
    world.settle();
    let at = |what: &str| {
        world.log.iter().position(|line| line == what).unwrap_or_else(|| panic!("{what}: {:?}", world.log))
    };
    assert!(at("hold") < at("copy") && at("copy") < at("Apply StatefulSet front-door"), "{:?}", world.log);
    let before = world.copy.clone();
    world.object_mut(Kind::Secret, "s3")["metadata"]["resourceVersion"] = json!("999");
    world.settle();
    assert_ne!(world.copy, before);
    let writes = world.log.len();
    world.settle();
    assert_eq!(world.log.len(), writes, "{:?}", &world.log[writes..]);
}

#[test]
fn another_policy_holds_no_longer_and_keeps_no_keys() {
    let mut world = running("Delete", "External");
    world.change(|spec| spec["recording"]["reclaimPolicy"] = json!("Retain"));
    world.settle();
    assert!(!is_held(&world) && world.copy.is_none());
    let owners = &world.object(Kind::PersistentVolumeClaim, "front-door-data").unwrap()["metadata"]["ownerReferences"];
    assert!(owners.is_null(), "{owners}");
    world.change(|spec| spec["recording"]["reclaimPolicy"] = json!("WaitForUploads"));
    world.settle();
    assert!(is_held(&world) && world.copy.is_none());
}

#[test]
fn other_finalizers_stay_where_they_are() {
    let mut world = running("WaitForUploads", "External");
    world.session.metadata.finalizers.get_or_insert_default().insert(0, "example.com/theirs".to_owned());
    world.delete_session();
    passes(&mut world, 20);
    assert_eq!(world.session.metadata.finalizers, Some(vec!["example.com/theirs".to_owned()]));
    assert!(!world.gone);
}

#[test]
fn a_volume_that_is_taken_up_again_is_not_taken_for_uploaded() {
    let mut world = running("WaitForUploads", "External");
    let mark = |world: &World| {
        world.object(Kind::PersistentVolumeClaim, "front-door-data").unwrap()["metadata"]["annotations"]
            [names::UPLOADED]
            .clone()
    };
    world.object_mut(Kind::PersistentVolumeClaim, "front-door-data")["metadata"]["annotations"][names::UPLOADED] =
        json!("true");
    world.settle();
    assert!(mark(&world).is_null(), "{}", mark(&world));
}

#[test]
fn a_clean_up_is_told_once_and_only_when_it_is_news() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    let run = |job: &str, succeeded: bool, said: Value| CleanupRun {
        job: job.to_owned(),
        at: super::start(),
        succeeded,
        said: Some(said.to_string()),
    };
    let told = |world: &World, reason: &str| world.events.iter().filter(|event| event.contains(reason)).count();
    world.cleanup = Some(run("front-door-1", true, json!({"recordings": 0, "kept": {"recordings": 3}})));
    world.settle();
    assert_eq!(told(&world, "CleanedUp"), 0);
    let kept = world.session.status.as_ref().unwrap().cleanup.clone().unwrap();
    assert!(kept.succeeded && kept.message.contains("3 recordings stay"), "{kept:?}");
    world.cleanup = Some(run("front-door-2", true, json!({"recordings": 2, "orphans": 1, "bytes": 2048})));
    world.settle();
    assert_eq!(told(&world, "Normal CleanedUp: 2 recordings, 1 unfinished recording, 2.0 KiB deleted"), 1);
    assert_eq!(world.cleaned, [(true, 0, 0), (true, 3, 2048)]);
    world.cleanup = Some(run("front-door-3", false, json!({"error": "the store does not answer: see spec.storage"})));
    world.settle();
    assert_eq!(told(&world, "Warning CleanupFailed: the store does not answer"), 1);
    world.cleanup = None;
    world.settle();
    let kept = world.session.status.as_ref().unwrap().cleanup.clone().unwrap();
    assert_eq!(kept.job, "front-door-3", "what was said last stays");
    assert_eq!(world.cleaned.len(), 3);
}
