//! A store that fails, in all the ways it can, and is mended.

use super::bench::Bench;
use crate::objects::fake::Fault;
use crate::upload::UploadSettings;
use axum::http::Method;
use std::fs;
use std::time::Duration;

#[tokio::test]
async fn whatever_fails_is_told_and_tried_again_until_it_works() {
    let bench = Bench::new().await;
    bench.until("the store is well", |bench| bench.status.store().ok).await;
    for (fault, reason) in [
        (Fault::DENIED, "AccessDenied"),
        (Fault::BROKEN, "Failed"),
        (Fault::BUSY, "SlowDown"),
        (Fault::FULL, "Full"),
        (Fault::Answers(404, "NoSuchBucket"), "NoSuchBucket"),
        (Fault::Silent, "TimedOut"),
    ] {
        bench.fake.fail_on(Method::PUT, fault);
        let recording = bench.record(&["one"]).await;
        bench.uploads.recording_finished(&recording);
        bench.until(reason, |bench| bench.status.store().reason.as_deref() == Some(reason)).await;
        bench.until("it is told", |bench| bench.status.uploads().failing).await;
        let (store, uploads) = (bench.status.store(), bench.status.uploads());
        assert!(!store.ok && store.message.is_some_and(|message| message.contains(": ")), "{reason}");
        assert!(uploads.pending > 0 && uploads.message.is_some() && uploads.oldest_pending.is_some(), "{reason}");
        assert!(!bench.stored(&recording).contains(&"manifest.json".to_owned()));
        bench.fake.fail(None);
        bench.drained().await;
        assert_eq!(bench.stored(&recording).len(), 4, "{reason}");
        bench.until("all is well again", |bench| bench.status.store().ok && !bench.status.uploads().failing).await;
        assert_eq!(bench.status.uploads().recordings, 0);
    }
}

#[tokio::test]
async fn nothing_leaves_the_disk_that_the_store_does_not_show() {
    let bench = Bench::with(|settings| UploadSettings { same_volume: true, ..settings }).await;
    for fault in [Fault::Lies, Fault::Forgets] {
        bench.fake.fail(fault);
        let recording = bench.record(&["one"]).await;
        bench.uploads.recording_finished(&recording);
        bench.until("it is told", |bench| bench.status.uploads().failing).await;
        assert!(bench.folder(&recording).join("segment-000001.m4s").is_file(), "{fault:?}");
        assert!(!bench.stored(&recording).contains(&"manifest.json".to_owned()), "{fault:?}");
        bench.fake.fail(None);
        bench.drained().await;
        bench.until("it has left the disk", |bench| !bench.folder(&recording).exists()).await;
        assert_eq!(bench.stored(&recording).len(), 4, "{fault:?}");
    }
}

#[tokio::test]
async fn a_store_without_checksums_has_to_give_back_what_it_got() {
    let bench = Bench::new().await;
    bench.fake.keep_no_checksums();
    let recording = bench.record(&["one"]).await;
    bench.uploads.recording_finished(&recording);
    bench.drained().await;
    assert_eq!(bench.fake.count(&format!("GET gate/{recording}/segment-000001")), 1);
    bench.fake.fail_on(Method::GET, Fault::Truncates);
    let other = bench.record(&["another"]).await;
    bench.uploads.recording_finished(&other);
    bench.until("it is told", |bench| bench.status.uploads().failing).await;
    bench.fake.fail(None);
    bench.drained().await;
}

#[tokio::test]
async fn mended_keys_are_used_at_once() {
    let hour = Duration::from_secs(3600);
    let bench = Bench::with(|settings| UploadSettings { first_delay: hour, longest_delay: hour, ..settings }).await;
    bench.until("the store is well", |bench| bench.status.store().ok).await;
    bench.fake.use_key("revoked");
    let recording = bench.record(&["one"]).await;
    bench.uploads.recording_finished(&recording);
    bench.until("denied", |bench| bench.status.store().reason.as_deref() == Some("AccessDenied")).await;
    bench.fake.use_key("key");
    bench.until("it is there", |bench| bench.stored(&recording).len() == 4).await;
}

#[tokio::test]
async fn a_wrong_key_is_found_without_anything_to_upload() {
    let bench = Bench::new().await;
    bench.until("the store is well", |bench| bench.status.store().ok).await;
    bench.fake.use_key("revoked");
    bench.until("denied", |bench| bench.status.store().reason.as_deref() == Some("AccessDenied")).await;
    assert!(!bench.status.uploads().failing, "nothing waits");
    bench.fake.use_key("key");
    bench.until("well again", |bench| bench.status.store().ok).await;
}

#[tokio::test]
async fn while_the_store_is_down_few_requests_are_made() {
    let long = Duration::from_secs(5);
    let bench = Bench::with(|settings| UploadSettings { first_delay: long, longest_delay: long, ..settings }).await;
    bench.until("the store is well", |bench| bench.status.store().ok).await;
    bench.fake.fail(Fault::BUSY);
    let mut recordings = Vec::new();
    for _ in 0..5 {
        recordings.push(bench.record(&["one", "two", "three"]).await);
    }
    let before = bench.fake.requests().len();
    recordings.iter().for_each(|recording| bench.uploads.recording_finished(recording));
    bench.until("all wait", |bench| bench.status.uploads().pending == 30).await;
    bench.until("it is told", |bench| !bench.status.store().ok).await;
    let made = bench.fake.requests().len() - before;
    assert!(made <= 4, "{made} requests for 30 files");
}

#[tokio::test]
async fn nothing_waits_only_when_the_store_has_all_and_nothing_of_what_was_deleted() {
    let bench = Bench::new().await;
    bench.until("the store is well", |bench| bench.status.store().ok).await;
    assert!(bench.uploads.nothing_waits().await);
    bench.fake.fail_on(Method::PUT, Fault::BUSY);
    let recording = bench.record(&["one"]).await;
    bench.uploads.recording_finished(&recording);
    assert!(!bench.uploads.nothing_waits().await, "right after it was told");
    bench.until("it is told why", |bench| bench.status.uploads().failing).await;
    assert!(!bench.uploads.nothing_waits().await);
    bench.fake.fail(None);
    bench.drained().await;
    assert!(bench.uploads.nothing_waits().await);
    bench.fake.fail(Fault::BUSY);
    fs::remove_dir_all(bench.folder(&recording)).unwrap();
    bench.store.recording_removed(&recording).await.unwrap();
    bench.uploads.recording_removed();
    assert!(!bench.uploads.nothing_waits().await, "it is to leave the store");
    bench.fake.fail(None);
    bench.until("it has left the store", |bench| bench.stored(&recording).is_empty()).await;
    bench.stop();
    assert!(!bench.uploads.nothing_waits().await, "nobody knows any more");
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_waits_and_is_told_until_it_is_mended() {
    let bench = Bench::new().await;
    let recording = bench.record(&["one"]).await;
    let manifest = bench.folder(&recording).join("manifest.json");
    let text = fs::read(&manifest).unwrap();
    fs::write(&manifest, "{}").unwrap();
    bench.uploads.recording_finished(&recording);
    bench.until("it is told", |bench| bench.status.uploads().failing).await;
    let message = bench.status.uploads().message.unwrap();
    assert!(message.contains(recording.as_str()) && message.contains("delete the recording"), "{message}");
    assert!(!bench.uploads.nothing_waits().await);
    bench.drained().await;
    fs::write(&manifest, text).unwrap();
    bench.uploads.recording_finished(&recording);
    bench.until("it is there", |bench| bench.stored(&recording).len() == 4).await;
    // What the store has is in the journal a moment later.
    bench.drained().await;
    bench.until("all is well", |bench| !bench.status.uploads().failing).await;
    assert!(bench.uploads.nothing_waits().await);
}

#[tokio::test]
async fn a_file_that_the_disk_has_changed_is_told_and_holds_up_no_other() {
    let bench = Bench::new().await;
    let (broken, well) = (bench.record(&["one"]).await, bench.record(&["two"]).await);
    fs::write(bench.folder(&broken).join("segment-000001.m4s"), "0ne").unwrap();
    bench.uploads.recording_finished(&broken);
    bench.uploads.recording_finished(&well);
    bench.until("the other is there", |bench| bench.stored(&well).len() == 4).await;
    bench.until("it is told", |bench| bench.status.uploads().failing).await;
    let message = bench.status.uploads().message.unwrap();
    assert!(message.contains("segment-000001.m4s is not what was recorded"), "{message}");
    assert!(bench.status.store().ok, "the store is not to blame");
    assert!(!bench.stored(&broken).contains(&"manifest.json".to_owned()));
    fs::write(bench.folder(&broken).join("segment-000001.m4s"), "one").unwrap();
    bench.drained().await;
    bench.until("all is well", |bench| !bench.status.uploads().failing).await;
}
