//! What leaves the disk, and when.

use super::bench::{Bench, keeping};
use crate::upload::UploadSettings;
use std::fs;
use tokio::sync::watch;

#[tokio::test]
async fn a_recording_stays_while_there_is_space_and_the_oldest_goes_first() {
    let bench = Bench::new().await;
    let (rules, receiver) = watch::channel(keeping("0%"));
    bench.uploads.follow(receiver);
    let recording = bench.record(&["one"]).await;
    bench.uploads.recording_finished(&recording);
    bench.drained().await;
    assert!(bench.folder(&recording).join("manifest.json").is_file());
    rules.send_replace(keeping("9000000Ti"));
    let other = bench.record(&["two"]).await;
    bench.uploads.recording_finished(&other);
    bench.until("both have gone", |bench| fs::read_dir(bench.place.path()).unwrap().count() == 0).await;
}

#[tokio::test]
async fn beside_its_store_a_recording_is_kept_once() {
    let bench = Bench::with(|settings| UploadSettings { same_volume: true, ..settings }).await;
    let (recording, held) = (bench.record(&["one"]).await, bench.record(&["two"]).await);
    fs::write(bench.folder(&held).join("hold"), "").unwrap();
    bench.uploads.recording_finished(&recording);
    bench.uploads.recording_finished(&held);
    bench.drained().await;
    bench.until("it has left the disk", |bench| !bench.folder(&recording).exists()).await;
    assert!(bench.folder(&held).exists(), "somebody wants it to stay");
    assert_eq!(bench.store.evictable().await.unwrap(), [held]);
}

#[tokio::test]
async fn a_folder_that_came_back_leaves_again() {
    let mut bench = Bench::with(|settings| UploadSettings { same_volume: true, ..settings }).await;
    let recording = bench.record(&["one"]).await;
    let copy = bench.place.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(bench.folder(&recording)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    bench.uploads.recording_finished(&recording);
    bench.until("it has left the disk", |bench| !bench.folder(&recording).exists()).await;
    bench.wait_for_evictions().await;
    bench.stop();
    fs::rename(&copy, bench.folder(&recording)).unwrap();
    bench.restart();
    bench.until("it has left the disk again", |bench| !bench.folder(&recording).exists()).await;
    assert_eq!(bench.fake.count("PUT"), 4);
}
