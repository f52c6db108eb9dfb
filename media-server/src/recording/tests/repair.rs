//! What a crash leaves, and the start after it.

use super::bench::{Bench, Camera, settings, wait};
use crate::recording::repair::removed;
use crate::store::{RecordingState, Store};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

/// A plane that crashed with 7 s recorded, the last of it torn.
async fn crashed(folder: &Path) -> (Camera, Store) {
    let bench = Bench::new(folder).await;
    let mut camera = bench.start(1);
    bench.send(&mut camera, 7.0);
    bench.until(&camera, RecordingState::Recording).await;
    let last = bench.path(&camera).join("segment-000003.m4s");
    wait("6 s are on the disk", || last.metadata().is_ok_and(|metadata| metadata.len() > 2000));
    let store = bench.crash();
    OpenOptions::new().append(true).open(last).unwrap().write_all(&[0, 0, 9, 9, b'u', b'u', b'i', b'd', 1, 2]).unwrap();
    (camera, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_is_finished_by_the_next_start() {
    let place = tempfile::tempdir().unwrap();
    let (camera, store) = crashed(place.path()).await;
    let bench = Bench::with(settings(place.path()), store).await;
    let row = bench.until(&camera, RecordingState::Repaired).await;
    assert!((5_900..=7_050).contains(&row.duration_ms), "{row:?}");
    let manifest = bench.manifest(&camera);
    assert!(manifest.complete && manifest.repaired);
    assert!(bench.has(&camera, "index.m3u8") && !bench.has(&camera, "recording.mp4"));
    // Again: nothing is touched.
    let written = bench.path(&camera).join("manifest.json").metadata().unwrap().modified().unwrap();
    let bench = Bench::with(settings(place.path()), bench.crash()).await;
    assert_eq!(bench.row(&camera).await, row);
    let store = bench.crash();
    assert_eq!(store.recording(&camera.id).await.unwrap().unwrap(), row);
    let path = place.path().join(camera.id.as_str()).join("manifest.json");
    assert_eq!(path.metadata().unwrap().modified().unwrap(), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_registry_is_told_of_every_recording_again() {
    let place = tempfile::tempdir().unwrap();
    let (camera, _) = crashed(place.path()).await;
    let bench = Bench::new(place.path()).await;
    let row = bench.until(&camera, RecordingState::Repaired).await;
    assert_eq!((row.room.as_str(), row.gaps), ("front-door", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_recordings_are_made_while_old_ones_are_repaired() {
    let place = tempfile::tempdir().unwrap();
    let (old, store) = crashed(place.path()).await;
    let bench = Bench::with(settings(place.path()), store).await;
    let mut new = bench.start(5);
    bench.send(&mut new, 4.0);
    bench.finish(&new).await;
    assert_eq!(bench.row(&new).await.state, RecordingState::Complete);
    bench.until(&old, RecordingState::Repaired).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_repaired_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let (camera, store) = crashed(place.path()).await;
    let folder = place.path().join(camera.id.as_str());
    fs::write(folder.join("init-1.mp4"), b"not an initialisation segment").unwrap();
    let held = || -> u64 { fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum() };
    let before = held();
    let bench = Bench::with(settings(place.path()), store).await;
    bench.until(&camera, RecordingState::Failed).await;
    assert_eq!(bench.shown(&camera).await.trouble, Some("nothing playable was recorded"));
    assert_eq!(held(), before, "nothing is deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_whose_folder_is_gone_has_failed() {
    let place = tempfile::tempdir().unwrap();
    let (camera, store) = crashed(place.path()).await;
    fs::remove_dir_all(place.path().join(camera.id.as_str())).unwrap();
    let bench = Bench::with(settings(place.path()), store).await;
    bench.until(&camera, RecordingState::Failed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_does_not_keep_a_recording_from_being_finished() {
    let place = tempfile::tempdir().unwrap();
    let (camera, store) = crashed(place.path()).await;
    let mut full = settings(place.path());
    full.min_free = u64::MAX;
    let bench = Bench::with(full, store).await;
    let row = bench.until(&camera, RecordingState::Repaired).await;
    assert!(row.duration_ms >= 5_900, "{row:?}");
    assert_eq!(bench.shown(&camera).await.trouble, None);
    let names = fs::read_dir(bench.path(&camera)).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_str().unwrap().ends_with(".tmp")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_a_crash_cut_short_is_completed() {
    let place = tempfile::tempdir().unwrap();
    let (camera, store) = crashed(place.path()).await;
    let folder = place.path().join(camera.id.as_str());
    fs::rename(&folder, removed(place.path(), &camera.id)).unwrap();
    let bench = Bench::with(settings(place.path()), store).await;
    assert!(bench.store.recording(&camera.id).await.unwrap().is_none());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}
