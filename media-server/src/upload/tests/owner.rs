//! Two servers with one prefix.

use super::bench::{Bench, starting};
use crate::objects::Objects;
use crate::store::Store;
use crate::upload::UploadSettings;

#[tokio::test]
async fn second_server_uploads_and_deletes_nothing() {
    let bench = Bench::new().await;
    let recording = bench.record(&["one"]).await;
    bench.uploads.recording_finished(&recording);
    bench.drained().await;
    bench.stop();
    let before = (bench.stored(&recording), bench.fake.count("DELETE") + bench.fake.count("POST"));
    assert_eq!(before.0.len(), 4);

    // Another volume, with the same bucket and prefix.
    let other = Bench::with(|settings| UploadSettings { same_volume: true, ..settings }).await;
    other.until("the bucket is looked at", |other| other.fake.count("GET") > 0).await;
    other.stop();
    let store = Store::in_memory().await.unwrap();
    let (uploads, status) = starting(&other.settings, Objects::connect(&bench.fake.config()), &store);
    let other = Bench { uploads, status, store, ..other };
    let theirs = other.record(&["two"]).await;
    other.uploads.recording_finished(&theirs);
    other.until("it is refused", |other| other.status.store().reason.as_deref() == Some("OwnedByAnother")).await;
    let message = other.status.store().message.unwrap();
    let owner = bench.store.store_owner().await.unwrap();
    assert!(message.contains(&owner) && message.contains("take-over"), "{message}");
    other.store.recording_removed(&recording).await.unwrap();
    other.uploads.recording_removed();
    assert!(!other.uploads.nothing_waits().await && other.folder(&theirs).exists());
    assert_eq!((bench.stored(&recording), bench.fake.count("DELETE") + bench.fake.count("POST")), before);
    assert_eq!(bench.stored(&theirs), [""; 0]);

    bench.fake.objects().take_over(&other.store.store_owner().await.unwrap()).await.unwrap();
    other.until("it is uploaded", |other| !other.folder(&theirs).exists()).await;
    assert_eq!(bench.stored(&theirs).len(), 4);
}
