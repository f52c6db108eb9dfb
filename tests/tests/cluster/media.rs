//! The main job: a camera publishes through the ingress from another network, people watch, and the recording is safe.

use crate::harness::{
    Browser, Bucket, Credentials, Kube, Session, Tls, alone, camera, figure, install, number, second_store, text,
    until, view,
};
use serde_json::{Value, json};
use std::time::Duration;

/// The ingress and the tests' hosts file know it.
const HOST: &str = "cams.example.com";

/// Reached from outside by the ingress with TLS, by a port of every node for media, and one for the relay.
fn spec(storage: Value) -> Value {
    json!({
        "exposure": {"ingress": {"host": HOST, "tlsSecretName": "cams-tls"}},
        "turn": {"tlsSecretName": "cams-tls"},
        "storage": storage,
        "recording": {"segmentDuration": "2s", "idleTimeout": "2s"},
    })
}

#[test]
fn a_camera_is_watched_directly_and_by_relay_and_its_recording_is_in_the_managed_store() {
    let _turn = alone();
    install();
    let kube = Kube::restricted("cameras");
    let tls = Tls::make(&[HOST]);
    tls.store(&kube, "cams-tls");
    let session = Session::apply(&kube, "front-door", &spec(json!({"mode": "Managed", "size": "1Gi"})));
    session.wait_ready(Duration::from_secs(60));
    record_and_watch(&session, &tls, true);
    let store = kube.forward("service/front-door-store", 9000);
    let bucket = Bucket::at(store.local, "recordings", Credentials::of(&kube, "front-door-store"));
    uploaded(&session, &bucket, "cameras/front-door/");
}

#[test]
fn the_same_recording_reaches_a_store_elsewhere() {
    let _turn = alone();
    install();
    let kube = Kube::restricted("cameras");
    let tls = Tls::make(&[HOST]);
    tls.store(&kube, "cams-tls");
    let (store, credentials) = second_store(&kube);
    let external = json!({
        "endpoint": "http://second-store.cameras.svc:7070", "bucket": "elsewhere", "credentialsSecretRef": {"name": "second-store"},
    });
    let session =
        Session::apply(&kube, "elsewhere", &spec(json!({"mode": "External", "external": external, "size": "1Gi"})));
    // The bucket of a store elsewhere is its owner's to make: until then the session says so.
    let message = session.wait_condition("StorageReady", "False", "NoSuchBucket", Duration::from_secs(60));
    assert!(message.contains("elsewhere"), "{message}");
    let bucket = Bucket::at(store.local, "elsewhere", credentials);
    bucket.create();
    session.wait_ready(Duration::from_secs(60));
    record_and_watch(&session, &tls, false);
    uploaded(&session, &bucket, "cameras/elsewhere/");
}

/// A camera for some seconds; a headless viewer, and Chromium directly and by relay alone.
fn record_and_watch(session: &Session, tls: &Tls, browsers: bool) {
    let status = session.get();
    let url = |kind: &str, room: &str| text(&status, &format!("/status/endpoints/{kind}")).replace("{room}", room);
    let token = session.token("publish subscribe");
    let ca = tls.authority();
    let mut publisher = camera(&url("whip", "door"), &token, Some(&ca));
    until("the session counts its camera", Duration::from_secs(30), || {
        publisher.assert_running();
        let now = session.get();
        if number(&now, "/status/publishers") == Some(1.0) { Ok(()) } else { Err(now["status"].to_string()) }
    });
    let report = view(&url("whep", "door"), &token, Some(&ca), 1, 6).finish();
    assert!(number(&report, "/frames").unwrap() >= 100.0, "{report:#}");
    assert_eq!(number(&report, "/lost"), Some(0.0), "{report:#}");
    if browsers {
        let page = format!("https://{HOST}/watch/door");
        let direct = Browser::watch(&page, &token, false);
        assert_ne!(text(&direct, "/local/type"), "relay", "{direct:#}");
        let relayed = Browser::watch(&page, &token, true);
        assert_eq!(text(&relayed, "/local/type"), "relay", "{relayed:#}");
        figure(&format!("Chromium through the ingress: {direct}; by relay alone: {relayed}"));
    }
    publisher.assert_running();
}

/// Every recording under `prefix` is whole: what its manifest names is there, with that length and SHA-256.
fn uploaded(session: &Session, bucket: &Bucket, prefix: &str) {
    let keys = until("a recording with its manifest in the store", Duration::from_secs(90), || {
        let keys = bucket.list();
        if keys.keys().any(|key| key.ends_with("/manifest.json")) { Ok(keys) } else { Err(format!("{keys:?}")) }
    });
    assert!(keys.keys().all(|key| key.starts_with(prefix)), "{keys:?}");
    let (_, files, bytes) = bucket.whole_recordings(prefix);
    assert!(files >= 3 && bytes > 500_000, "{files} files, {bytes} bytes: {keys:?}");
    figure(&format!("{prefix}: {files} files, {bytes} bytes in the store, each with the SHA-256 of its manifest"));
    let healthy = session.condition("UploadsHealthy").unwrap();
    assert_eq!(healthy.0, "True", "{healthy:?}");
    until("no upload is pending any more", Duration::from_secs(30), || {
        let now = session.get();
        match number(&now, "/status/recordings/pendingUploads") {
            Some(0.0) => Ok(()),
            _ => Err(now["status"].to_string()),
        }
    });
}
