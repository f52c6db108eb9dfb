//! Deleted recordings leave the store, too.

use super::bench::Bench;
use crate::objects::fake::Fault;
use axum::http::Method;

#[tokio::test]
async fn a_deleted_recording_leaves_the_store_manifest_first() {
    let bench = Bench::new().await;
    let (recording, other) = (bench.record(&["one", "two"]).await, bench.record(&["one"]).await);
    bench.uploads.recording_finished(&recording);
    bench.uploads.recording_finished(&other);
    bench.drained().await;
    bench.fake.delete_one_by_one();
    bench.store.recording_removed(&recording).await.unwrap();
    bench.uploads.recording_removed();
    bench.until("it has gone", |bench| bench.stored(&recording).is_empty()).await;
    let deleted = bench.fake.requests().into_iter().find(|request| request.starts_with("DELETE"));
    assert_eq!(deleted.unwrap(), format!("DELETE gate/{recording}/manifest.json"));
    assert_eq!(bench.stored(&other).len(), 4);
}

#[tokio::test]
async fn a_removal_that_fails_is_finished_after_a_restart() {
    let mut bench = Bench::new().await;
    let recording = bench.record(&["one", "two"]).await;
    bench.uploads.recording_finished(&recording);
    bench.drained().await;
    bench.fake.fail(Fault::DENIED);
    std::fs::remove_dir_all(bench.folder(&recording)).unwrap();
    bench.store.recording_removed(&recording).await.unwrap();
    bench.uploads.recording_removed();
    bench.until("it fails", |bench| !bench.status.store().ok).await;
    bench.stop();
    bench.fake.fail(None);
    bench.restart();
    bench.until("it has gone", |bench| bench.stored(&recording).is_empty()).await;
}

#[tokio::test]
async fn what_was_deleted_while_it_went_up_does_not_come_back() {
    let bench = Bench::new().await;
    bench.until("the store is well", |bench| bench.status.store().ok).await;
    bench.fake.fail_on(Method::PUT, Fault::BUSY);
    let recording = bench.record(&["one", "two"]).await;
    bench.uploads.recording_finished(&recording);
    bench.until("it fails", |bench| !bench.status.store().ok).await;
    std::fs::remove_dir_all(bench.folder(&recording)).unwrap();
    bench.store.recording_removed(&recording).await.unwrap();
    bench.uploads.recording_removed();
    bench.fake.fail(None);
    bench.drained().await;
    let nothing = bench.store.upload_backlog();
    assert_eq!(nothing.await.unwrap().files, 0);
    assert_eq!(bench.stored(&recording), [""; 0]);
    bench.until("all is well", |bench| bench.status.store().ok).await;
}
