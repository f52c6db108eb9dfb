//! Each way in which a session can be unwell: condition, reason, and a message that says what to do; and that it heals.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{session, settings, world::World};
use crate::plan::{Child, Kind, Observed, Plan, PushRefused, Random, Refusal, ServerError, Warning, plan};

/// A session whose pod has just been made and does not run.
pub(super) fn stuck(spec: &Value, change: impl FnOnce(&mut Value)) -> (World, Observed) {
    let mut world = World::new(session(spec));
    while world.pod.is_none() {
        world.pass();
    }
    let pod = world.pod.as_mut().unwrap();
    pod["status"] = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]});
    change(pod);
    let mut observed = world.observe();
    observed.server = None;
    (world, observed)
}

pub(super) fn planned(world: &World, observed: &Observed) -> Plan {
    plan(&world.session, &settings(), observed, Random([1; 32]))
}

/// Says `reason` in these conditions, in Ready, and in one warning, with these words in the message.
pub(super) fn tells(world: &World, observed: &Observed, types: &[&str], reason: &str, words: &[&str]) {
    let plan = planned(world, observed);
    for type_ in types.iter().chain(&["Ready"]) {
        let (status, seen, message) = super::condition_of(plan.status.as_ref(), type_);
        assert_eq!((status, seen), ("False", reason), "{type_}: {message}");
        for word in words {
            assert!(message.contains(word), "{type_} lacks {word:?}: {message}");
        }
    }
    let warnings: Vec<_> = plan.events.iter().filter(|note| note.warning && note.reason == reason).collect();
    assert_eq!(warnings.len(), 1, "{:?}", plan.events);
    assert!(plan.requeue.as_secs() <= 5, "it would be seen late that it is mended: {:?}", plan.requeue);
}

fn waiting(container: &str, reason: &str, message: &str) -> Value {
    json!({
        "name": container, "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
    })
}

pub(super) fn warn(observed: &mut Observed, about: &str, reason: &str, message: &str) {
    let (about, reason, message) = (about.to_owned(), reason.to_owned(), message.to_owned());
    observed.warnings.push(Warning { about, reason, message, at: observed.now });
}

#[test]
fn at_first_nothing_is_known() {
    let world = World::new(session(&json!({})));
    let plan = planned(&world, &world.observe());
    assert_eq!(super::condition_of(plan.status.as_ref(), "Ready").0, "Unknown");
    assert!(plan.events.is_empty(), "{:?}", plan.events);
    let generations: Vec<Option<i64>> =
        plan.status.unwrap().conditions.iter().map(|condition| condition.observed_generation).collect();
    assert_eq!(generations, [Some(1); 7]);
}

#[test]
fn a_pod_that_comes_up_is_no_warning() {
    let (world, observed) = stuck(&json!({}), |_| {});
    let plan = planned(&world, &observed);
    assert_eq!(super::condition_of(plan.status.as_ref(), "Ready").1, "Starting");
    assert!(plan.events.is_empty(), "{:?}", plan.events);
    assert_eq!(plan.requeue.as_secs(), 1);
}

#[test]
fn a_missing_secret_is_told_with_the_command_that_makes_it_and_the_pod_waits_for_it() {
    let spec = json!({
        "auth": {"secretRef": {"name": "jwt", "key": "hs256"}},
        "turn": {"tlsSecretName": "turn-tls"},
        "storage": {"mode": "External", "external": {
            "endpoint": "https://s3.example.com", "bucket": "recordings", "credentialsSecretRef": {"name": "s3"},
        }},
    });
    let mut world = World::new(session(&spec));
    world.objects.clear();
    world.settle();
    assert!(world.object(Kind::StatefulSet, "front-door").is_none(), "the pod would hang");
    for (type_, words) in [
        ("MediaReady", ["Secret jwt (spec.auth.secretRef)", "create secret generic jwt --from-file=hs256=FILE"]),
        (
            "TurnReady",
            ["Secret turn-tls (spec.turn.tlsSecretName)", "create secret tls turn-tls --cert=FILE --key=FILE"],
        ),
        ("StorageReady", ["Secret s3", "--from-file=accessKeyId=FILE --from-file=secretAccessKey=FILE"]),
        ("Ready", ["Secret jwt", "kubectl -n cameras"]),
    ] {
        let (status, reason, message) = world.condition(type_);
        assert_eq!((status, reason), ("False", "SecretMissing"), "{type_}");
        assert!(words.iter().all(|word| message.contains(word)), "{type_}: {message}");
    }
    assert_eq!(world.events.len(), 3, "{:?}", world.events);
    world.supply_references();
    world.settle();
    assert!(world.is_ready());
}

#[test]
fn a_secret_without_the_key_is_told_by_the_key() {
    let mut world = World::new(session(&json!({"auth": {"secretRef": {"name": "jwt", "key": "hs256"}}})));
    world.object_mut(Kind::Secret, "jwt")["data"] = json!({"other": "dmFsdWU="});
    let observed = world.observe();
    tells(&world, &observed, &["MediaReady"], "SecretMissing", &["Secret jwt", "nothing at hs256"]);
}

#[test]
fn condition_of_a_key_with_control_characters_is_printable() {
    let mut world = World::new(session(&json!({"auth": {"secretRef": {"name": "jwt", "key": "\u{7f}\u{85}"}}})));
    world.object_mut(Kind::Secret, "jwt")["data"] = json!({"other": "dmFsdWU="});
    let observed = world.observe();
    let message = "nothing at \u{fffd}\u{fffd}";
    tells(&world, &observed, &["MediaReady"], "SecretMissing", &["Secret jwt", message]);
    let plan = planned(&world, &observed);
    let conditions = plan.status.unwrap().conditions;
    assert!(conditions.iter().all(|condition| !condition.message.contains(|char: char| char.is_control())));
}

#[test]
fn a_missing_certificate_of_the_ingress_does_not_keep_the_pod() {
    let spec = json!({"exposure": {"ingress": {"host": "cams.example.com", "tlsSecretName": "cams-tls"}}});
    let mut world = World::new(session(&spec));
    world.objects.clear();
    world.settle();
    assert!(world.pod.is_some());
    let (status, reason, message) = world.condition("Ready");
    assert_eq!((status, reason), ("False", "SecretMissing"));
    assert!(message.contains("spec.exposure.ingress.tlsSecretName"), "{message}");
    world.supply_references();
    world.settle();
    assert!(world.is_ready());
}

#[test]
fn a_pod_that_hangs_for_a_secret_is_made_anew_when_it_comes() {
    let spec = json!({"auth": {"secretRef": {"name": "jwt", "key": "hs256"}}});
    let (world, mut observed) = stuck(&spec, |pod| {
        pod["status"]["containerStatuses"] = json!([waiting("media", "ContainerCreating", "")]);
    });
    let words = "MountVolume.SetUp failed for volume \"keys\" : secret \"jwt\" not found";
    warn(&mut observed, "Pod", "FailedMount", words);
    let aged = |seconds| {
        let mut observed = observed.clone();
        let made = observed.now - SignedDuration::from_secs(seconds);
        observed.pod.as_mut().unwrap().metadata.creation_timestamp = Some(Time(made));
        observed
    };
    let (young, mut observed) = (aged(4), aged(6));
    let lacking = Observed { references: Default::default(), ..observed.clone() };
    assert!(planned(&world, &lacking).delete_pod.is_none());
    assert!(planned(&world, &observed).delete_pod.is_some());
    assert!(planned(&world, &young).delete_pod.is_none(), "the kubelet looks again by itself");
    warn(&mut observed, "Pod", "Pulled", "x");
    observed.warnings.remove(0);
    assert!(planned(&world, &observed).delete_pod.is_none(), "without the event there is no reason to");
}

#[test]
fn an_image_that_cannot_be_had_is_named_with_the_field_to_correct() {
    for reason in ["ImagePullBackOff", "ErrImagePull", "InvalidImageName"] {
        let words = "Back-off pulling image \"media-server:typo\": ErrImagePull: not found";
        let (world, observed) = stuck(&json!({"pod": {"image": "media-server:typo"}}), |pod| {
            pod["status"]["containerStatuses"] = json!([waiting("media", reason, words)]);
        });
        let expected = ["media-server:typo", "not found", "spec.pod.image"];
        tells(&world, &observed, &["MediaReady"], "ImagePullFailed", &expected);
    }
    let (world, observed) = stuck(&json!({}), |pod| {
        pod["status"]["initContainerStatuses"] = json!([waiting("install", "ImagePullBackOff", "no such host")]);
    });
    let all = ["MediaReady", "TurnReady", "StorageReady"];
    tells(&world, &observed, &all, "ImagePullFailed", &["media-server:1", "no such host", "operator's image"]);
}

#[test]
fn a_relay_or_store_without_its_image_leaves_media_alone() {
    for (container, type_) in [("turn", "TurnReady"), ("store", "StorageReady")] {
        let mut world = World::new(session(&json!({})));
        world.settle();
        let pod = world.pod.as_mut().unwrap();
        for one in pod["status"]["containerStatuses"].as_array_mut().unwrap() {
            if one["name"] == container {
                *one = waiting(container, "ImagePullBackOff", "not found");
            }
        }
        world.settle();
        assert_eq!(world.condition(type_).1, "ImagePullFailed");
        assert_eq!(world.condition("MediaReady").0, "True");
        assert_eq!(world.condition("Ready").1, "ImagePullFailed");
        world.run_pod();
        world.settle();
        assert!(world.is_ready());
    }
}

#[test]
fn a_container_that_cannot_be_configured_is_named() {
    let (world, observed) = stuck(&json!({}), |pod| {
        pod["status"]["containerStatuses"] = json!([waiting(
            "media",
            "CreateContainerConfigError",
            "container has runAsNonRoot and image will run as root"
        )]);
    });
    tells(
        &world,
        &observed,
        &["MediaReady"],
        "ContainerConfigError",
        &["container media", "runAsNonRoot", "describe pod front-door-0"],
    );
}

#[test]
fn a_crash_loop_is_told_with_the_last_words() {
    let log = "{\"level\":\"INFO\",\"fields\":{\"message\":\"starting\"}}\n{\"level\":\"ERROR\",\"fields\":{\"message\":\"the data folder is locked\"}}\n\n";
    let (world, observed) = stuck(&json!({}), |pod| {
        let mut container = waiting("media", "CrashLoopBackOff", "back-off 40s restarting failed container");
        container["restartCount"] = json!(4);
        container["lastState"] = json!({"terminated": {"exitCode": 2, "message": log}});
        pod["status"]["containerStatuses"] = json!([container]);
    });
    let words =
        ["container media", "exit code 2", "the data folder is locked", "logs front-door-0 -c media --previous"];
    tells(&world, &observed, &["MediaReady"], "CrashLooping", &words);
    let message = planned(&world, &observed).status.unwrap().conditions[0].message.clone();
    assert!(!message.contains("40s"), "it changes from look to look: {message}");
}

#[test]
fn between_two_crashes_it_is_no_recovery() {
    let (world, observed) = stuck(&json!({}), |pod| {
        pod["status"]["containerStatuses"] = json!([{
            "name": "media", "image": "", "imageID": "", "ready": false, "restartCount": 3, "state": {"running": {}},
            "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-11-22T12:00:00Z"}},
        }]);
    });
    tells(&world, &observed, &["MediaReady"], "CrashLooping", &["exit code 1"]);
}

#[test]
fn want_of_memory_is_told_with_the_field_that_gives_more() {
    let (world, observed) = stuck(&json!({}), |pod| {
        let mut container = waiting("media", "CrashLoopBackOff", "");
        container["lastState"] = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        pod["status"]["containerStatuses"] = json!([container]);
    });
    tells(&world, &observed, &["MediaReady"], "CrashLooping", &["OOMKilled", "spec.pod.resources.limits.memory"]);
}

#[test]
fn a_full_cluster_is_told_in_the_schedulers_words() {
    let (world, observed) = stuck(&json!({}), |pod| {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient memory.",
        }]);
    });
    let all = ["MediaReady", "TurnReady", "StorageReady"];
    tells(&world, &observed, &all, "Unschedulable", &["1 Insufficient memory", "spec.pod"]);
}

#[test]
fn a_volume_that_nobody_makes_is_told_with_the_storage_class() {
    let pending = |world: &World, observed: &mut Observed, age: i64| {
        let child = Child { kind: Kind::PersistentVolumeClaim, name: "front-door-data".into() };
        let created = world.now - jiff::SignedDuration::from_secs(age);
        let claim = observed.children.get_mut(&child).unwrap();
        claim["status"] = json!({"phase": "Pending"});
        claim["metadata"]["creationTimestamp"] = json!(created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    };
    let (world, mut observed) = stuck(&json!({"storage": {"storageClassName": "typo"}}), |_| {});
    pending(&world, &mut observed, 1);
    assert_eq!(super::condition_of(planned(&world, &observed).status.as_ref(), "Ready").1, "Starting");
    warn(&mut observed, "PersistentVolumeClaim", "ProvisioningFailed", "storageclass \"typo\" not found");
    let all = ["MediaReady", "TurnReady", "StorageReady"];
    let words =
        ["claim front-door-data", "\"typo\" not found", "get storageclass typo", "spec.storage.storageClassName"];
    tells(&world, &observed, &all, "VolumePending", &words);

    let (world, mut observed) = stuck(&json!({}), |pod| {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
        }]);
    });
    pending(&world, &mut observed, 1);
    tells(&world, &observed, &all, "VolumePending", &["unbound immediate", "default"]);

    let (world, mut observed) = stuck(&json!({}), |_| {});
    pending(&world, &mut observed, 60);
    tells(&world, &observed, &all, "VolumePending", &["nobody has made it"]);
    warn(&mut observed, "PersistentVolumeClaim", "WaitForFirstConsumer", "waiting for first consumer");
    assert_eq!(super::condition_of(planned(&world, &observed).status.as_ref(), "Ready").1, "Starting");
}

#[test]
fn a_volume_that_is_gone_or_cannot_be_mounted_is_told() {
    let (world, mut observed) = stuck(&json!({}), |_| {});
    let child = Child { kind: Kind::PersistentVolumeClaim, name: "front-door-data".into() };
    observed.children.get_mut(&child).unwrap()["status"] = json!({"phase": "Lost"});
    tells(&world, &observed, &["MediaReady", "StorageReady"], "VolumeLost", &["restore it"]);
    let (world, mut observed) = stuck(&json!({}), |_| {});
    warn(&mut observed, "Pod", "FailedMount", "MountVolume.SetUp failed for volume \"data\": timed out");
    tells(&world, &observed, &["MediaReady", "StorageReady"], "MountFailed", &["timed out", "describe pod"]);
}

#[test]
fn a_pod_that_the_cluster_refuses_is_told() {
    let mut world = World::new(session(&json!({})));
    world.pass();
    world.pod = None;
    let mut observed = world.observe();
    warn(&mut observed, "StatefulSet", "FailedCreate", "pods \"front-door-0\" is forbidden: exceeded quota");
    tells(&world, &observed, &["MediaReady"], "PodRefused", &["exceeded quota", "raise the quota"]);
}

#[test]
fn a_pod_that_its_node_ended_is_told() {
    let (world, observed) = stuck(&json!({}), |pod| {
        pod["status"] =
            json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
    });
    tells(&world, &observed, &["MediaReady"], "PodFailed", &["Evicted", "low on resource"]);
}

#[test]
fn events_that_are_old_or_about_something_else_count_for_nothing() {
    let (world, mut observed) = stuck(&json!({}), |_| {});
    let at = observed.now - jiff::SignedDuration::from_secs(3000);
    let of = |about: &str, at| Warning { about: about.into(), reason: "FailedMount".into(), message: "x".into(), at };
    observed.warnings = vec![of("Pod", at), of("Node", observed.now)];
    assert_eq!(super::condition_of(planned(&world, &observed).status.as_ref(), "Ready").1, "Starting");
}

#[test]
fn relay_and_store_are_given_a_moment_to_start() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    world.run_pod();
    let server = world.server.as_mut().unwrap();
    server.generation = 1;
    (server.store.ok, server.turn.ok) = (false, false);
    let observed = world.observe();
    let plan = planned(&world, &observed);
    for type_ in ["TurnReady", "StorageReady"] {
        assert_eq!(super::condition_of(plan.status.as_ref(), type_).1, "Starting");
    }
    assert!(plan.events.iter().all(|note| !note.warning), "{:?}", plan.events);
    world.now += jiff::SignedDuration::from_secs(60);
    let observed = world.observe();
    tells(&world, &observed, &["StorageReady"], "StoreRefuses", &["logs front-door-0"]);
    let plan = planned(&world, &observed);
    let (_, reason, message) = super::condition_of(plan.status.as_ref(), "TurnReady");
    assert_eq!(reason, "NotAnswering");
    assert!(message.contains("-c turn"), "{message}");
}

#[test]
fn uploads_that_fail_or_fall_behind_do_not_make_the_session_unready() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    let uploads = &mut world.server.as_mut().unwrap().uploads;
    (uploads.failing, uploads.message) = (true, Some("the bucket is full: make room".into()));
    world.settle();
    assert_eq!(world.condition("UploadsHealthy"), ("False", "UploadsFailing", "the bucket is full: make room"));
    assert!(world.is_ready());
    let uploads = &mut world.server.as_mut().unwrap().uploads;
    (uploads.failing, uploads.oldest_pending_seconds) = (false, Some(700));
    world.settle();
    assert_eq!(world.condition("UploadsHealthy").1, "FallingBehind");
    world.server.as_mut().unwrap().uploads.oldest_pending_seconds = Some(5);
    world.settle();
    assert_eq!(world.condition("UploadsHealthy").0, "True");
}

#[test]
fn a_short_silence_is_no_outage_and_a_long_one_is_told() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    let mut observed = world.observe();
    observed.server = Some(Err(ServerError::Unreachable("timed out".into())));
    observed.server_failing_since = Some(observed.now - jiff::SignedDuration::from_secs(5));
    let plan = planned(&world, &observed);
    assert!(plan.status.is_none() && plan.events.is_empty(), "{plan:?}");
    observed.server_failing_since = Some(observed.now - jiff::SignedDuration::from_secs(20));
    tells(&world, &observed, &["MediaReady"], "Unreachable", &["timed out", "port 8081", "NetworkPolicy"]);
    let plan = planned(&world, &observed);
    assert_eq!(super::condition_of(plan.status.as_ref(), "TurnReady").0, "Unknown");
    assert_eq!(plan.status.unwrap().publishers, Some(0), "what was seen last stands");
    for (error, reason, word) in [
        (ServerError::Unauthorized, "Unauthorized", "front-door-admin"),
        (ServerError::Malformed("EOF".into()), "AnswerUnreadable", "spec.pod.image"),
    ] {
        observed.server = Some(Err(error));
        tells(&world, &observed, &["MediaReady"], reason, &[word]);
    }
}

#[test]
fn a_server_that_drains_takes_nobody() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    world.server.as_mut().unwrap().draining = true;
    world.settle();
    assert_eq!(world.condition("MediaReady").1, "Draining");
    assert_eq!(world.condition("Ready").0, "False");
}

#[test]
fn what_api_server_or_media_server_refuse_is_told_and_what_runs_goes_on() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    let mut observed = world.observe();
    let child = Child { kind: Kind::Service, name: "front-door-media".into() };
    observed.refusals =
        vec![Refusal { child, message: "spec.ports[0].nodePort: provided port is already allocated".into() }];
    let plan = planned(&world, &observed);
    let (status, reason, message) = super::condition_of(plan.status.as_ref(), "Stalled");
    assert_eq!((status, reason), ("True", "Refused"));
    assert!(message.contains("Service front-door-media") && message.contains("already allocated"), "{message}");
    assert_eq!(super::condition_of(plan.status.as_ref(), "Ready").0, "True");
    assert!(plan.events.iter().any(|note| note.warning && note.reason == "Refused"));

    let mut observed = world.observe();
    observed.push_refused = Some(PushRefused { generation: 1, message: "spec.limits.maxBitrate is wrong".into() });
    let plan = planned(&world, &observed);
    let (status, reason, message) = super::condition_of(plan.status.as_ref(), "Stalled");
    assert_eq!((status, reason), ("True", "SettingsRefused"));
    assert!(message.contains("spec.limits.maxBitrate"), "{message}");
    observed.push_refused.as_mut().unwrap().generation = 0;
    assert!(planned(&world, &observed).status.is_none(), "the spec has been corrected since");
}

#[test]
fn a_refusal_that_keeps_the_pod_from_coming_is_what_ready_says() {
    let mut world = World::new(session(&json!({})));
    world.pass();
    (world.pod, world.server) = (None, None);
    let mut observed = world.observe();
    let child = Child { kind: Kind::PersistentVolumeClaim, name: "front-door-data".into() };
    observed.refusals = vec![Refusal { child, message: "exceeded quota: storage".into() }];
    tells(&world, &observed, &[], "Refused", &["exceeded quota", "front-door-data"]);
}

#[test]
fn a_volume_that_the_spec_wants_otherwise_is_kept_and_told() {
    let mut world = World::new(session(&json!({"storage": {"size": "30Gi", "storageClassName": "fast"}})));
    world.settle();
    let size = |world: &World| {
        world.object(Kind::PersistentVolumeClaim, "front-door-data").unwrap()["spec"]["resources"]["requests"]["storage"].clone()
    };
    let before = size(&world);
    world.change(|spec| spec["storage"]["size"] = json!("10Gi"));
    world.settle();
    assert_eq!((world.condition("Stalled").0, world.condition("Stalled").1), ("True", "VolumeCannotShrink"));
    assert_eq!(size(&world), before);
    assert!(world.is_ready());
    let mut observed = world.observe();
    observed.server = None;
    observed.pod = None;
    let plan = planned(&world, &observed);
    assert_eq!(super::condition_of(plan.status.as_ref(), "Ready").1, "Starting", "that is not what keeps it");
    world.change(|spec| {
        spec["storage"]["size"] = json!("40Gi");
        spec["storage"]["storageClassName"] = json!("slow");
    });
    world.settle();
    assert_eq!(world.condition("Stalled").1, "VolumeClassFixed");
    assert_ne!(size(&world), before, "it grows nevertheless");
    world.change(|spec| spec["storage"]["storageClassName"] = json!("fast"));
    world.settle();
    assert_eq!(world.condition("Stalled").0, "False");
}

#[test]
fn a_pod_of_the_name_that_is_not_ours_is_not_touched() {
    let mut world = World::new(session(&json!({})));
    world.settle();
    let mut observed = world.observe();
    observed.pod = Some(Pod::default());
    observed.server = None;
    let plan = planned(&world, &observed);
    assert!(plan.delete_pod.is_none() && plan.apply.is_empty());
}
