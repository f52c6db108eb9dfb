//! Streams that go well.

use super::bench::{Bench, Camera, NEVER, settings, wait};
use crate::control::Recorder;
use crate::recording::{LibraryError, RecordingSettings};
use crate::store::{RecordingQuery, RecordingState, Store};
use jiff::Timestamp;
use recorder::GapReason;
use sfu::parameters::{Codec, RoomId, SessionId};
use std::fs;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_becomes_a_finished_recording() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(place.path()).await;
    let mut camera = bench.start(1);
    bench.send(&mut camera, 10.0);
    bench.until(&camera, RecordingState::Recording).await;
    bench.finish(&camera).await;
    let row = bench.row(&camera).await;
    assert_eq!((row.state, row.gaps), (RecordingState::Complete, 0));
    assert!((9_950..=10_050).contains(&row.duration_ms), "{row:?}");
    let manifest = bench.manifest(&camera);
    assert!(manifest.complete && !manifest.repaired && manifest.gaps.is_empty());
    assert_eq!(manifest.segments.len(), 5);
    assert_eq!(row.bytes, manifest.segments.iter().map(|segment| segment.bytes).sum::<u64>());
    assert_eq!(manifest.description.started_at, row.started_at);
    for file in ["index.m3u8", "init-1.mp4", "segment-000005.m4s"] {
        assert!(bench.has(&camera, file), "{file}");
    }
    let playlist = fs::read_to_string(bench.path(&camera).join("index.m3u8")).unwrap();
    assert!(playlist.ends_with("#EXT-X-ENDLIST\n"), "{playlist}");
    let names = fs::read_dir(bench.path(&camera)).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_str().unwrap().ends_with(".tmp")));
}

#[tokio::test(flavor = "multi_thread")]
async fn long_stream_becomes_recordings_in_turn() {
    let place = tempfile::tempdir().unwrap();
    let turn = Duration::from_secs(3);
    let settings = RecordingSettings { max_duration: turn, ..settings(place.path()) };
    let bench = Bench::with(settings, Store::in_memory().await.unwrap()).await;
    let mut camera = bench.start(1);
    bench.send(&mut camera, 10.0);
    bench.finish(&camera).await;
    wait("all are finished", || !bench.plane.is_finishing());
    let mut rows = bench.store.recordings(&RecordingQuery::default()).await.unwrap();
    rows.sort_by_key(|row| row.started_at);
    assert!((3..=5).contains(&rows.len()), "{rows:?}");
    assert_eq!(rows[0].id, camera.id);
    let mut end: Option<Timestamp> = None;
    for row in &rows {
        assert_eq!((&row.stream, row.state, row.gaps), (&camera.stream, RecordingState::Complete, 0));
        let manifest = bench.plane.0.shared.folder(&row.id).join("manifest.json");
        let manifest: recorder::Manifest = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
        assert_eq!(manifest.description.stream.as_deref(), Some(camera.stream.as_str()));
        assert_eq!(
            (manifest.description.id.as_str(), manifest.description.started_at),
            (row.id.as_str(), row.started_at)
        );
        if let Some(end) = end {
            // A keyframe comes each second, and frames follow each other.
            let late = row.started_at.as_millisecond().rem_euclid(turn.as_millis() as i64);
            assert!(late <= 1_100, "it begins {late} ms after a multiple");
            let hole = row.started_at.duration_since(end).as_millis();
            assert!(hole.abs() <= 50, "{hole} ms between two recordings");
        }
        end = Some(row.started_at + Duration::from_millis(row.duration_ms));
    }
    let recorded: u64 = rows.iter().map(|row| row.duration_ms).sum();
    assert!((9_950..=10_050).contains(&recorded), "{recorded} ms");
    bench.plane.set_max_duration(NEVER);
    let mut camera = bench.start(2);
    bench.send(&mut camera, 10.0);
    bench.finish(&camera).await;
    assert_eq!(bench.store.recordings(&RecordingQuery::default()).await.unwrap().len(), rows.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn media_that_came_before_the_start_is_recorded() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(place.path()).await;
    let mut camera = Camera::new(1, 0.0);
    bench.send(&mut camera, 3.0);
    bench.begin(&camera);
    bench.send(&mut camera, 3.0);
    bench.finish(&camera).await;
    let manifest = bench.manifest(&camera);
    assert!((5.95..=6.05).contains(&manifest.duration) && manifest.gaps.is_empty(), "{manifest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g711_is_left_out_and_the_video_recorded() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(place.path()).await;
    for (room, codec) in [(1, Codec::Pcmu), (2, Codec::Pcma)] {
        let mut camera = Camera::new(room, 0.0);
        camera.audio = codec;
        bench.begin(&camera);
        bench.send(&mut camera, 3.0);
        bench.until(&camera, RecordingState::Recording).await;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while bench.shown(&camera).await.trouble != Some("G.711 audio is not recorded") {
            assert!(std::time::Instant::now() < deadline, "the trouble is shown");
            tokio::task::yield_now().await;
        }
        bench.finish(&camera).await;
        let manifest = bench.manifest(&camera);
        assert!(manifest.complete && manifest.gaps.is_empty(), "{manifest:?}");
        assert_eq!(manifest.codecs, ["vp08.00.00.08"], "the video alone");
        assert!((2.9..=3.1).contains(&manifest.duration), "{}", manifest.duration);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_grows_while_it_is_watched() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(place.path()).await;
    let mut camera = bench.start(1);
    bench.send(&mut camera, 5.0);
    bench.until(&camera, RecordingState::Recording).await;
    wait("two segments are listed", || {
        let playlist = fs::read_to_string(bench.path(&camera).join("index.m3u8")).unwrap_or_default();
        playlist.contains("segment-000002.m4s") && !playlist.contains("ENDLIST")
    });
    let shown = bench.shown(&camera).await;
    assert!(shown.recording.bytes > 0 && shown.recording.duration_ms >= 3500, "{shown:?}");
    assert_eq!(shown.trouble, None);
    bench.finish(&camera).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_that_leaves_and_returns_is_one_recording_with_a_gap() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(place.path()).await;
    let mut camera = bench.start(1);
    bench.send(&mut camera, 3.0);
    bench.leave(&camera);
    let mut again = Camera::new(1, 8.0);
    again.session = SessionId(99);
    bench.send(&mut again, 3.0);
    // The end of the first one is told again, too late.
    bench.leave(&camera);
    bench.finish(&camera).await;
    let manifest = bench.manifest(&camera);
    assert!((10.5..=11.5).contains(&manifest.duration), "{manifest:?}");
    assert!(!manifest.repaired && !manifest.gaps.is_empty());
    assert!(manifest.gaps.iter().all(|gap| gap.reason == GapReason::Source), "{:?}", manifest.gaps);
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_recorded_each_by_itself() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(place.path()).await;
    let mut cameras: Vec<_> = (1..=4).map(|room| bench.start(room)).collect();
    for _ in 0..5 {
        cameras.iter_mut().for_each(|camera| bench.send(camera, 1.0));
    }
    for camera in &cameras {
        bench.finish(camera).await;
    }
    let listed = bench.library().recordings(&RecordingQuery::default()).await.unwrap();
    assert_eq!(listed.len(), 4);
    assert!(listed.iter().all(|shown| shown.recording.state == RecordingState::Complete && shown.trouble.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn finishing_what_nobody_records_is_done_at_once() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(place.path()).await;
    bench.plane.finish(RoomId(7)).await;
    let mut camera = bench.start(1);
    bench.send(&mut camera, 1.0);
    bench.finish(&camera).await;
    bench.plane.finish(camera.room).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_a_frame_is_a_failed_recording() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(place.path()).await;
    let camera = bench.start(1);
    bench.until(&camera, RecordingState::Recording).await;
    bench.finish(&camera).await;
    let shown = bench.shown(&camera).await;
    assert_eq!(shown.recording.state, RecordingState::Failed);
    assert_eq!(shown.trouble, Some("nothing playable was recorded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_finished_recordings_are_removed() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(place.path()).await;
    let mut camera = bench.start(1);
    bench.send(&mut camera, 3.0);
    bench.until(&camera, RecordingState::Recording).await;
    let library = bench.library();
    assert!(matches!(library.remove(&camera.id).await, Err(LibraryError::Running)));
    bench.finish(&camera).await;
    assert!(library.remove(&camera.id).await.unwrap());
    assert!(!library.remove(&camera.id).await.unwrap());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_alone_is_not_kept_waiting_for_a_sound() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(place.path()).await;
    // Its media is far in the future, so that no timer strikes.
    let mut camera = Camera::new(1, 3600.0);
    camera.has_sound = false;
    bench.begin(&camera);
    bench.send(&mut camera, 0.9);
    wait("half a second is on the disk", || !bench.segments(&camera).is_empty());
    bench.finish(&camera).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_without_sound_is_not_kept_waiting_for_it() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(place.path()).await;
    let mut camera = Camera::new(1, 3600.0);
    bench.begin(&camera);
    bench.send(&mut camera, 3.0);
    bench.leave(&camera);
    let mut next = Camera::new(1, 3610.0);
    (next.has_sound, next.session) = (false, SessionId(99));
    bench.plane.source_changed(next.room, "me".into(), &next.tracks());
    let before = bench.segments(&camera).len();
    bench.send(&mut next, 0.9);
    wait("half a second of it is on the disk", || bench.segments(&camera).len() > before.max(2));
    bench.finish(&camera).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn media_without_end_does_not_keep_a_recording_from_being_finished() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(place.path()).await;
    let mut camera = bench.start(1);
    bench.send(&mut camera, 3.0);
    let finished = bench.plane.finish(camera.room);
    bench.send(&mut camera, 30.0);
    finished.await;
    let duration = bench.manifest(&camera).duration;
    assert!((2.9..4.0).contains(&duration), "{duration}");
}
