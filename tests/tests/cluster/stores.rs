//! A session's store changes: what is on the volume reaches the new one, and the volume stays until it has.

use crate::cleanup::{finished, lean, record};
use crate::harness::{Bucket, Credentials, Kube, Session, alone, figure, install, number, second_store, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const NAMESPACE: &str = "store-change";
const PREFIX: &str = "store-change/moved/";
const OWNER: &str = ".streamsession-owner.json";

/// `spec.storage` with a bucket of the second store.
fn external(bucket: &str) -> Value {
    json!({
        "mode": "External", "external": {
            "endpoint": format!("http://second-store.{NAMESPACE}.svc:7070"), "bucket": bucket,
            "credentialsSecretRef": {"name": "second-store"},
        },
    })
}

/// Returns the objects of recordings.
fn objects(bucket: &Bucket) -> BTreeMap<String, u64> {
    bucket.list().into_iter().filter(|(key, _)| !key.ends_with(OWNER)).collect()
}

/// Waits until a bucket has `recordings` recordings and no upload is pending; verifies each object against its manifest.
fn wait_stored(session: &Session, bucket: &Bucket, recordings: usize) {
    until("the bucket has every recording", Duration::from_secs(120), || match finished(bucket).len() {
        now if now == recordings => Ok(()),
        now => Err(format!("{now} recordings: {}", session.get()["status"])),
    });
    until("no upload is pending", Duration::from_secs(60), || {
        let status = session.get()["status"].clone();
        match number(&status, "/recordings/pendingUploads") {
            Some(0.0) => Ok(()),
            _ => Err(status.to_string()),
        }
    });
    assert_eq!(bucket.whole_recordings(PREFIX).0, recordings);
}

#[test]
fn changed_store_gets_recordings_before_deletion() {
    let _turn = alone();
    install();
    let kube = Kube::fresh(NAMESPACE);
    let (store, credentials) = second_store(&kube);
    let bucket = |name: &str| Bucket::at(store.local, name, credentials.clone());
    let (first, second) = (bucket("first"), bucket("second"));
    first.create();
    let session = Session::apply(&kube, "moved", &lean(json!({"recording": {"reclaimPolicy": "WaitForUploads"}})));
    session.wait_ready(Duration::from_secs(60));
    let forward = kube.forward("service/moved-store", 9000);
    let managed = Bucket::at(forward.local, "recordings", Credentials::of(&kube, "moved-store"));
    assert_eq!(record(&session, &managed, 1).len(), 1);

    // From the managed store, which holds the only copy, to a bucket: not before it was copied.
    let pod = session.pod_uid();
    session.patch(json!({"storage": external("first")}));
    session.wait_condition("Stalled", "True", "RecordingsInManagedStore", Duration::from_secs(60));
    let copied = objects(&managed);
    copied.keys().for_each(|key| first.put(key, &managed.get(key)));
    kube.kubectl(&["annotate", "streamsession/moved", "media.streamsession.io/leave-recordings=managed"]);
    until("another pod", Duration::from_secs(120), || match kube.find("pod", "moved-0") {
        Some(now) if now["metadata"]["uid"] != pod.as_str() => Ok(()),
        _ => Err(session.get()["status"].to_string()),
    });
    session.wait_ready(Duration::from_secs(120));
    wait_stored(&session, &first, 1);
    assert_eq!(record(&session, &first, 1).len(), 2);
    wait_stored(&session, &first, 2);
    let both = objects(&first);
    let moved: BTreeMap<_, _> = both.iter().filter(|(key, _)| !copied.contains_key(*key)).collect();

    // To a bucket that does not exist yet: nothing counts as stored, and a deletion waits.
    session.patch(json!({"storage": external("second")}));
    session.wait_condition("StorageReady", "False", "NoSuchBucket", Duration::from_secs(90));
    until("the recording on the volume is pending", Duration::from_secs(60), || {
        let status = session.get()["status"].clone();
        match number(&status, "/recordings/pendingUploads") {
            Some(pending) if pending > 0.0 => Ok(()),
            _ => Err(status.to_string()),
        }
    });
    kube.kubectl(&["delete", "streamsession", "moved", "--wait=false"]);
    let message = session.wait_condition("Ready", "False", "ReclaimFailed", Duration::from_secs(60));
    assert!(message.contains("recordings wait") && message.contains("second"), "{message}");
    figure(&format!("deletion waits: {message}"));
    std::thread::sleep(Duration::from_secs(10));
    let volume = kube.get("pvc", "moved-data");
    assert!(volume["metadata"]["deletionTimestamp"].is_null(), "{:#}", volume["metadata"]);
    assert_eq!(objects(&first), both, "nothing is taken from the old bucket");

    let created = Instant::now();
    second.create();
    until("the session is deleted", Duration::from_secs(180), || match kube.find("streamsession", "moved") {
        None => Ok(()),
        Some(now) => Err(now["status"].to_string()),
    });
    assert_eq!(objects(&second).iter().collect::<BTreeMap<_, _>>(), moved, "the new bucket has the same objects");
    assert_eq!(second.whole_recordings(PREFIX).0, 1);
    until("the volume is deleted", Duration::from_secs(60), || match kube.find("pvc", "moved-data") {
        None => Ok(()),
        Some(now) if !now["metadata"]["deletionTimestamp"].is_null() => Ok(()),
        Some(now) => Err(now["metadata"].to_string()),
    });
    figure(&format!(
        "managed store, then two buckets: {} objects of the recording on the volume in the last; the deletion ended {:.1} s \
         after that bucket was created",
        moved.len(),
        created.elapsed().as_secs_f64()
    ));
}
