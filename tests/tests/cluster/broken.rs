//! What is broken shows as a condition and an event that say what to do, within 30 s, and heals by itself when mended.

use crate::harness::{Kube, Session, alone, figure, install};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// From the mistake until it is told.
const TOLD: Duration = Duration::from_secs(30);
/// From the mending until the session is ready.
const HEALED: Duration = Duration::from_secs(90);

/// A session without what the case does not need.
fn lean(more: Value) -> Value {
    let mut spec = json!({"storage": {"mode": "Local", "size": "1Gi"}, "turn": {"mode": "Disabled"}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

/// The condition and the event come in time and say `remedy`; after `mend` the session is Ready.
fn told_and_healed(session: &Session, (kind, reason): (&str, &str), remedy: &[&str], mend: impl FnOnce()) {
    let begin = Instant::now();
    let message = session.wait_condition(kind, "False", reason, TOLD);
    for word in remedy {
        assert!(message.contains(word), "{reason} does not say {word}: {message}");
    }
    // The pod may still be on its way to where the mistake is all that is wrong.
    let left = TOLD.saturating_sub(begin.elapsed()).max(Duration::from_secs(1));
    session.wait_condition("Ready", "False", reason, left);
    session.kube.event(&session.name, reason, TOLD.saturating_sub(begin.elapsed()).max(Duration::from_secs(1)));
    let told = begin.elapsed();
    mend();
    let begin = Instant::now();
    session.wait_ready(HEALED);
    figure(&format!(
        "{reason}: told within {:.1} s, ready {:.1} s after it was mended",
        told.as_secs_f64(),
        begin.elapsed().as_secs_f64()
    ));
}

#[test]
fn a_missing_secret_and_a_missing_key_are_named() {
    let _turn = alone();
    install();
    let kube = Kube::restricted("broken");
    kube.delete("secret", "keys-of-mine");
    let auth = json!({"auth": {"secretRef": {"name": "keys-of-mine", "key": "hmac"}}});
    let session = Session::apply(&kube, "no-secret", &lean(auth));
    let message = session.wait_condition("Ready", "False", "SecretMissing", TOLD);
    assert!(message.contains("keys-of-mine"), "{message}");
    kube.make_secret("keys-of-mine", &[("other", "x")]);
    session.wait_condition("Ready", "False", "SecretMissing", TOLD);
    told_and_healed(&session, ("MediaReady", "SecretMissing"), &["keys-of-mine", "hmac"], || {
        kube.make_secret("keys-of-mine", &[("hmac", "a-secret-of-these-tests-that-is-long-enough")]);
    });
}

#[test]
fn a_node_that_is_not_there_is_told() {
    let _turn = alone();
    install();
    let kube = Kube::restricted("broken");
    let session = Session::apply(&kube, "no-node", &lean(json!({"pod": {"nodeSelector": {"disk": "tape"}}})));
    told_and_healed(&session, ("MediaReady", "Unschedulable"), &["node"], || {
        session.patch(json!({"pod": {"nodeSelector": {"disk": null}}}));
    });
}

#[test]
fn a_full_node_is_told() {
    let _turn = alone();
    install();
    let kube = Kube::restricted("broken");
    let huge = json!({"pod": {"resources": {"requests": {"memory": "900Gi"}, "limits": {"memory": "900Gi"}}}});
    let session = Session::apply(&kube, "no-room", &lean(huge));
    told_and_healed(&session, ("MediaReady", "Unschedulable"), &["memory"], || {
        session.patch(json!({"pod": {"resources": null}}));
    });
}

#[test]
fn an_image_that_is_not_there_is_told() {
    let _turn = alone();
    install();
    let kube = Kube::restricted("broken");
    let session =
        Session::apply(&kube, "no-image", &lean(json!({"pod": {"image": "nowhere.invalid/media-server:none"}})));
    told_and_healed(&session, ("MediaReady", "ImagePullFailed"), &["nowhere.invalid/media-server:none"], || {
        session.patch(json!({"pod": {"image": ""}}));
    });
}

#[test]
fn a_wrong_key_of_the_store_is_told_and_the_right_one_heals_it_without_a_restart() {
    let _turn = alone();
    install();
    let kube = Kube::restricted("broken");
    let (store, credentials) = crate::harness::second_store(&kube);
    crate::harness::Bucket::at(store.local, "keys", credentials.clone()).create();
    kube.make_secret("store-keys", &[("accessKeyId", &credentials.id), ("secretAccessKey", "not-the-key")]);
    let external = json!({
        "endpoint": "http://second-store.broken.svc:7070", "bucket": "keys", "credentialsSecretRef": {"name": "store-keys"},
    });
    let spec =
        json!({"storage": {"mode": "External", "external": external, "size": "1Gi"}, "turn": {"mode": "Disabled"}});
    let session = Session::apply(&kube, "wrong-key", &spec);
    told_and_healed(&session, ("StorageReady", "AccessDenied"), &["store-keys"], || {
        kube.make_secret("store-keys", &[("accessKeyId", &credentials.id), ("secretAccessKey", &credentials.secret)]);
    });
    assert_eq!(session.restarts(), 0);
}
