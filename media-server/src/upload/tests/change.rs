//! Another store is configured: nothing counts as stored until that one has shown it.

use super::bench::{Bench, starting};
use crate::config::StoreConfig;
use crate::control::RecordingId;
use crate::objects::Objects;
use crate::objects::fake::FakeStore;
use crate::retention::HOLD;
use crate::upload::UploadSettings;
use std::fs;
use std::time::{Duration, Instant};
use streamsession_api::StorageMode;

fn objects(fake: &FakeStore, mode: StorageMode) -> Objects {
    Objects::with_patience(&StoreConfig { mode, ..fake.config() }, Duration::from_secs(5))
}

/// Uploads that are past their start: a process that ends meanwhile would name its store after the next one has.
async fn begun() -> Bench {
    let bench = Bench::with(|settings| UploadSettings { same_volume: true, ..settings }).await;
    bench.until("the bucket is looked at", |bench| bench.fake.count("GET") > 0).await;
    bench
}

/// A first store of this kind with two recordings, of which the first is on the disk, too; then an External one.
async fn changed(first: StorageMode) -> (Bench, FakeStore, RecordingId, RecordingId) {
    let mut bench = begun().await;
    bench.stop();
    (bench.uploads, bench.status) = starting(&bench.settings, objects(&bench.fake, first), &bench.store);
    let (kept, evicted) = (bench.record(&["one", "two"]).await, bench.record(&["three"]).await);
    fs::write(bench.folder(&kept).join(HOLD), "").unwrap();
    for recording in [&kept, &evicted] {
        bench.uploads.recording_finished(recording);
    }
    bench.until("one directory leaves the disk", |bench| !bench.folder(&evicted).exists()).await;
    bench.until("the journal has both", |bench| bench.status.uploads().evicted == 1).await;
    bench.drained().await;
    bench.stop();
    let old = std::mem::replace(&mut bench.fake, FakeStore::start().await);
    bench.settings.credentials = Some(bench.fake.credentials.path().to_owned());
    (bench.uploads, bench.status) =
        starting(&bench.settings, objects(&bench.fake, StorageMode::External), &bench.store);
    (bench, old, kept, evicted)
}

fn copy(from: &FakeStore, to: &FakeStore, but: &str) {
    for key in from.keys().iter().filter(|key| !key.ends_with(but)) {
        to.overwrite(key, &from.object(key).unwrap());
    }
}

async fn nothing_waits(bench: &Bench) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !bench.uploads.nothing_waits().await {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

#[tokio::test]
async fn another_bucket_gets_what_is_on_the_disk() {
    let (bench, old, kept, evicted) = changed(StorageMode::External).await;
    bench.drained().await;
    assert_eq!(bench.stored(&kept).len(), 5, "{:?}", bench.fake.keys());
    assert!(bench.store.stored(&kept).await.unwrap() && bench.folder(&kept).exists());
    assert_eq!(bench.stored(&evicted), [""; 0], "nobody has its files");
    assert!(!bench.store.stored(&evicted).await.unwrap());
    let elsewhere = bench.status.uploads().elsewhere.unwrap();
    assert_eq!((elsewhere.recordings, elsewhere.on_volume), (1, 0));
    let place = format!("{}/recordings/default/cams/", old.config().endpoint);
    assert!(elsewhere.message.contains(&place) && elsewhere.message.contains("copy"), "{elsewhere:?}");
    assert!(nothing_waits(&bench).await, "the volume has nothing more");
}

#[tokio::test]
async fn copied_recording_is_found_when_it_is_whole() {
    let (bench, old, _, evicted) = changed(StorageMode::External).await;
    bench.drained().await;
    copy(&old, &bench.fake, "segment-000001.m4s");
    bench.fake.overwrite(&format!("gate/{evicted}/segment-000001.m4s"), b"cut");
    let searched = |bench: &Bench| bench.fake.count(&format!("HEAD gate/{evicted}/manifest.json"));
    // One search at a time: when the second begins, the first has ended.
    for _ in 0..2 {
        let before = searched(&bench);
        bench.drained().await;
        bench.until("it is looked for", |bench| searched(bench) > before).await;
    }
    assert!(bench.status.uploads().elsewhere.is_some(), "a segment is too short");
    copy(&old, &bench.fake, "-");
    bench.drained().await;
    bench.until("it is found", |bench| bench.status.uploads().elsewhere.is_none()).await;
    assert!(bench.store.stored(&evicted).await.unwrap());
}

#[tokio::test]
async fn volume_with_the_managed_store_is_not_drained() {
    let (bench, old, kept, evicted) = changed(StorageMode::Managed).await;
    bench.drained().await;
    bench.until("the other one is in the store", |bench| bench.stored(&kept).len() == 5).await;
    bench.until("it is reported", |bench| bench.status.uploads().pending == 0).await;
    let elsewhere = bench.status.uploads().elsewhere.unwrap();
    assert_eq!((elsewhere.recordings, elsewhere.on_volume), (1, 1));
    assert!(elsewhere.message.contains("managed:/recordings/default/cams/"), "{elsewhere:?}");
    assert!(!bench.uploads.nothing_waits().await, "its objects lie on the volume");
    copy(&old, &bench.fake, "-");
    bench.drained().await;
    assert!(nothing_waits(&bench).await);
    assert!(bench.store.stored(&evicted).await.unwrap());
}

#[tokio::test]
async fn store_of_before_is_taken_up_again() {
    let (mut bench, old, kept, evicted) = changed(StorageMode::External).await;
    bench.drained().await;
    bench.stop();
    bench.fake = old;
    bench.fake.reset_requests();
    bench.restart();
    bench.until("both are there", |bench| bench.status.uploads().elsewhere.is_none()).await;
    bench.drained().await;
    assert!(bench.store.stored(&kept).await.unwrap() && bench.store.stored(&evicted).await.unwrap());
    assert_eq!(bench.fake.count("PUT"), 0, "what is there is not put again");
}

#[tokio::test]
async fn unreadable_journal_starts_nothing() {
    let mut bench = begun().await;
    bench.stop();
    let recording = bench.record(&["one"]).await;
    bench.store.refuse_writes(true).await.unwrap();
    bench.restart();
    bench.until("the store answers", |bench| bench.status.store().ok).await;
    assert!(!bench.uploads.nothing_waits().await);
    assert_eq!(bench.fake.count("PUT"), 0);
    bench.store.refuse_writes(false).await.unwrap();
    bench.until("it is uploaded", |bench| !bench.folder(&recording).exists()).await;
}
