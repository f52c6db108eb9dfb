//! A disk that fills up pauses the recording and nothing else, and a slow one costs nothing.

use crate::harness::{Recorded, Setup, alone, camera, decode_errors, figure, frames_in, until, viewer};
use recorder::GapReason;
use std::time::Duration;
use streamsession_tests::nightly::choose;

/// The recorder leaves 64 MiB free.
const DISK: &str = "100M";
const BALLAST: usize = 60 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_pauses_the_recording_and_not_the_stream() {
    let _turn = alone().await;
    let setup = Setup::new();
    let mount = setup.mount(DISK, "rw");
    let disk = mount.path();
    let server = setup.variable("MEDIA_RECORDINGS_DIR", disk.to_str().unwrap()).start().await;
    let camera = camera(&server, "door").await;
    let watching = viewer(&server, "door").await;
    let frames = || camera.stats().video.map_or(0, |video| video.frames);
    let sent = |least: u64| {
        let frames = &frames;
        until("frames", Duration::from_secs(10), move || async move { (frames() >= least).then_some(()) })
    };
    sent(60).await;

    let ballast = disk.join("ballast");
    std::fs::write(&ballast, vec![0; BALLAST]).unwrap();
    let logged = until("the log names the disk", Duration::from_secs(10), || {
        let line = server.log().lines().find(|line| line.contains("WARN") | line.contains("ERROR")).map(str::to_owned);
        async move { line.filter(|line| line.contains("disk") || line.contains("space")) }
    })
    .await;
    figure(&format!("log: {}", logged.trim()));
    // For two keyframe intervals nothing is recorded, and everything is seen.
    sent(frames() + 120).await;
    std::fs::remove_file(&ballast).unwrap();
    // It tries again every 2 s and begins at a keyframe.
    sent(frames() + 180).await;

    let report = watching.report();
    let (video, audio) = (report.video.unwrap(), report.audio.unwrap());
    assert_eq!((video.lost, audio.lost, video.broken_frames), (0, 0, 0), "{video:?} {audio:?}");
    // Frames after the end of the stream are not recorded.
    let total = camera.stop().await.unwrap().video.unwrap().frames;
    let id = server.api.end("door").await;
    let recorded = Recorded::complete(disk, &id).await;
    let (gap, gaps) = recorded.video_gaps();
    let path = recorded.mp4();
    let kept = frames_in(&path).await;
    assert_eq!(decode_errors(&path).await, "");
    figure(&format!(
        "full disk: {kept} of {total} frames recorded, {gaps} gaps of {gap:.1} s; the viewer lost none of {}",
        video.frames
    ));
    assert!(
        gaps > 0 && recorded.manifest.gaps.iter().any(|gap| gap.reason == GapReason::Disk),
        "{:?}",
        recorded.manifest.gaps
    );
    assert!(gap >= 3.0 && kept > 60, "{:?}", recorded.manifest.gaps);
    let unmarked = (total - kept) as f64 - gap * 30.0;
    assert!(unmarked <= 1.0 + gaps as f64, "{unmarked} frames are missing and not marked");
}

/// Bytes a second that the slow disk writes.
const SLOW: u32 = 1_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn slow_disk_loses_no_frame() {
    let _turn = alone().await;
    let setup = Setup::new();
    let disk = setup.volatile_disk(256 << 20);
    let server = setup.variable("MEDIA_RECORDINGS_DIR", disk.path().to_str().unwrap()).start().await;
    disk.limit_writes(SLOW);
    let camera = camera(&server, "door").await;
    let watching = viewer(&server, "door").await;
    tokio::time::sleep(Duration::from_secs(choose(20, 300))).await;
    let report = watching.report();
    let (video, audio) = (report.video.unwrap(), report.audio.unwrap());
    assert_eq!((video.lost, audio.lost, video.broken_frames), (0, 0, 0), "{video:?} {audio:?}");
    let total = camera.stop().await.unwrap().video.unwrap().frames;
    let id = server.api.end("door").await;
    let recorded = Recorded::complete(disk.path(), &id).await;
    let kept = frames_in(&recorded.mp4()).await;
    figure(&format!("disk of 1 MB/s: {kept} of {total} frames recorded, the viewer lost none of {}", video.frames));
    assert!(recorded.manifest.gaps.is_empty(), "{:?}", recorded.manifest.gaps);
    assert_eq!(kept, total);
}
