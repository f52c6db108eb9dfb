//! Disks that are full, slow or not there. The errors are the system's own: `/dev/full` has no space, a FIFO that nobody
//! reads takes for ever, and where a file lies no folder can be made.

use super::bench::{Bench, Camera, settings, wait};
use crate::control::Recorder;
use crate::store::{RecordingState, Store};
use recorder::{GapReason, Manifest, Track};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

fn prepare(bench: &Bench, camera: &Camera) -> std::path::PathBuf {
    let path = bench.path(camera);
    fs::create_dir_all(&path).unwrap();
    path
}

/// What of the picture is not recorded is marked; gives how much that is, in seconds.
fn marked(manifest: &Manifest) -> f64 {
    assert!(manifest.gaps.iter().all(|gap| gap.reason == GapReason::Disk), "{:?}", manifest.gaps);
    let gaps = || manifest.gaps.iter().filter(|gap| gap.track == Track::Video).map(|gap| (gap.from, gap.to));
    let segments = manifest.segments.iter().map(|segment| (segment.start, segment.start + segment.duration));
    let mut stretches: Vec<_> = segments.chain(gaps()).collect();
    stretches.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut end = 0.0;
    for (from, to) in stretches {
        assert!(from < end + 0.05, "nothing is said of {end} to {from}: {manifest:#?}");
        end = to.max(end);
    }
    gaps().map(|(from, to)| to - from).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_space_costs_a_gap_and_not_the_recording() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(place.path()).await;
    let mut camera = Camera::new(1, 0.0);
    symlink("/dev/full", prepare(&bench, &camera).join("segment-000002.m4s")).unwrap();
    bench.begin(&camera);
    bench.send(&mut camera, 4.0);
    let mut paused = None;
    while paused.is_none() {
        if let Some(shown) = bench.library().recording(&camera.id).await.unwrap() {
            paused = shown.trouble;
        }
    }
    assert_eq!(paused, Some("the disk is full"));
    // Long enough for the pause to be over.
    wait("it goes on", || {
        bench.send(&mut camera, 0.2);
        bench.segments(&camera).len() > 1
    });
    bench.send(&mut camera, 3.0);
    wait("a keyframe is asked for when the disk is well again", || !bench.asked.lock().unwrap().is_empty());
    bench.finish(&camera).await;
    let shown = bench.shown(&camera).await;
    assert_eq!((shown.recording.state, shown.trouble), (RecordingState::Repaired, None));
    let manifest = bench.manifest(&camera);
    assert!(marked(&manifest) > 0.0);
    assert_eq!(*shown.gaps, manifest.gaps);
    let files: Vec<_> = manifest.segments.iter().map(|segment| segment.file.as_str()).collect();
    assert!(files.len() > 1 && !files.contains(&"segment-000002.m4s"), "{files:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_made_is_tried_again() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(place.path()).await;
    let mut camera = Camera::new(1, 0.0);
    fs::write(bench.path(&camera), "in the way").unwrap();
    bench.begin(&camera);
    bench.until(&camera, RecordingState::Recording).await;
    bench.send(&mut camera, 3.0);
    let library = bench.library();
    let mut trouble = None;
    while trouble.is_none() {
        trouble = library.recording(&camera.id).await.unwrap().unwrap().trouble;
    }
    assert_eq!(trouble, Some("the disk fails"));
    fs::remove_file(bench.path(&camera)).unwrap();
    wait("it goes on", || {
        bench.send(&mut camera, 0.2);
        !bench.segments(&camera).is_empty()
    });
    bench.send(&mut camera, 4.0);
    bench.finish(&camera).await;
    let row = bench.row(&camera).await;
    assert_eq!(row.state, RecordingState::Repaired);
    let manifest = bench.manifest(&camera);
    assert!(manifest.segments.len() > 1 && marked(&manifest) > 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_to_a_disk_that_is_nearly_full() {
    let place = tempfile::tempdir().unwrap();
    let mut full = settings(place.path());
    full.min_free = u64::MAX;
    let bench = Bench::with(full, Store::in_memory().await.unwrap()).await;
    let mut camera = bench.start(1);
    bench.until(&camera, RecordingState::Recording).await;
    bench.send(&mut camera, 4.0);
    bench.finish(&camera).await;
    assert_eq!(bench.row(&camera).await.state, RecordingState::Failed);
    assert_eq!(fs::read_dir(bench.path(&camera)).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_holds_up_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let mut small = settings(place.path());
    small.queue_bytes = 40_000;
    let bench = Bench::with(small, Store::in_memory().await.unwrap()).await;
    let mut stuck = Camera::new(1, 0.0);
    let fifo = prepare(&bench, &stuck).join("segment-000001.m4s");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    bench.begin(&stuck);
    // Opening the FIFO waits for a reader: the writer hangs. All this is taken from the tap all the same.
    bench.send(&mut stuck, 8.0);
    let mut well = bench.start(2);
    for _ in 0..20 {
        bench.send(&mut well, 0.2);
        bench.send(&mut stuck, 0.1);
        // The queue is small: the other writer needs its turn.
        wait("the writer keeps up", || bench.plane.0.rooms.waiting(well.room) == 0);
    }
    bench.finish(&well).await;
    assert_eq!(bench.row(&well).await.state, RecordingState::Complete);
    assert!(bench.manifest(&well).gaps.is_empty(), "{:?}", bench.manifest(&well).gaps);
    // The disk is there again, but this file is lost.
    let reader = std::thread::spawn(move || fs::read(&fifo).map(|bytes| bytes.len()));
    wait("it goes on", || {
        bench.send(&mut stuck, 0.1);
        !bench.segments(&stuck).is_empty()
    });
    bench.send(&mut stuck, 2.0);
    bench.finish(&stuck).await;
    assert!(reader.join().unwrap().is_ok());
    let manifest = bench.manifest(&stuck);
    assert_eq!(bench.row(&stuck).await.state, RecordingState::Repaired);
    assert!(marked(&manifest) > 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_to_the_end_leaves_a_gap_up_to_the_end() {
    let place = tempfile::tempdir().unwrap();
    let mut patient = settings(place.path());
    patient.write_retry = std::time::Duration::from_secs(3600);
    let bench = Bench::with(patient, Store::in_memory().await.unwrap()).await;
    let mut camera = Camera::new(1, 0.0);
    symlink("/dev/full", prepare(&bench, &camera).join("segment-000002.m4s")).unwrap();
    bench.begin(&camera);
    bench.send(&mut camera, 7.0);
    bench.finish(&camera).await;
    let manifest = bench.manifest(&camera);
    assert_eq!(manifest.segments.len(), 1);
    assert!((4.95..5.05).contains(&marked(&manifest)), "{:?}", manifest.gaps);
    for track in [Track::Audio, Track::Video] {
        let end = manifest.gaps.iter().filter(|gap| gap.track == track).map(|gap| gap.to).fold(0.0, f64::max);
        assert!((6.95..7.05).contains(&end), "{track:?}: {:?}", manifest.gaps);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_disk_let_drop_at_the_end_is_marked() {
    let place = tempfile::tempdir().unwrap();
    let mut small = settings(place.path());
    small.queue_bytes = 40_000;
    let bench = Bench::with(small, Store::in_memory().await.unwrap()).await;
    let mut camera = Camera::new(1, 0.0);
    let fifo = prepare(&bench, &camera).join("segment-000002.m4s");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    bench.begin(&camera);
    bench.send(&mut camera, 8.0);
    let finished = bench.plane.finish(camera.room);
    // The disk is there again, but this file is lost, and nothing comes any more.
    let reader = std::thread::spawn(move || fs::read(&fifo).map(|bytes| bytes.len()));
    finished.await;
    assert!(reader.join().unwrap().is_ok());
    let manifest = bench.manifest(&camera);
    marked(&manifest);
    let end = manifest.gaps.iter().map(|gap| gap.to).fold(manifest.duration, f64::max);
    assert!((7.95..8.05).contains(&end), "{end}: {:?}", manifest.gaps);
}
