//! `--demo`: a source in the process, which to everyone else is a publisher like any other.

use crate::harness::{Recorded, Setup, alone, decode_errors, figure, publishing, until, viewer, within};
use std::time::Duration;

/// Longer than the clip, which restarts after 8 s.
const WATCH: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn demo_loops_without_loss_and_is_recorded() {
    let _turn = alone().await;
    let server = Setup::new().argument("--demo").start().await;
    publishing(&server, "demo").await;
    let watching = viewer(&server, "demo").await;
    let seen = until("more than one round of the clip", WATCH + Duration::from_secs(5), || async {
        let report = watching.report();
        // Audio arrives in real time; a viewer is sent pictures of the past, too.
        let packets = report.audio.as_ref().map_or(0, |audio| audio.frames);
        (packets >= 50 * WATCH.as_secs()).then_some(report)
    })
    .await;
    watching.stop().await.unwrap();
    let (video, audio) = (seen.video.unwrap(), seen.audio.unwrap());
    figure(&format!(
        "demo: first keyframe {:.0} ms, {} frames in {:.1} s, {} keyframes",
        video.first_keyframe_ms.unwrap(),
        video.frames,
        seen.seconds,
        video.keyframes
    ));
    assert_eq!((video.lost, audio.lost, video.broken_frames), (0, 0, 0));
    assert!(video.frames >= 30 * WATCH.as_secs() - 3, "{} frames", video.frames);
    assert!(video.keyframes >= 5, "{} keyframes", video.keyframes);

    let id = server.api.end("demo").await;
    let recorded = Recorded::complete(&server.setup().recordings(), &id).await;
    assert_eq!(recorded.manifest.gaps, []);
    assert_eq!(decode_errors(&recorded.mp4()).await, "");
    // An ended stream is not the end of the demo.
    let again = server.api.stream_that("demo", "the demo again", Duration::from_secs(10), |stream| {
        // Two seconds of packets, so that there is something to record.
        stream["id"] != id.as_str() && stream["live"]["publisher"]["packets"].as_u64() > Some(250)
    });
    let next = again.await["id"].as_str().unwrap().to_owned();

    // The setup keeps the directory.
    let setup = server.setup().clone();
    let ended = within("the end", Duration::from_secs(30), server.terminate(Duration::from_secs(20))).await;
    assert!(ended.success(), "{ended:?}");
    assert_eq!(decode_errors(&Recorded::complete(&setup.recordings(), &next).await.mp4()).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_takes_a_slot_like_any_publisher() {
    let _turn = alone().await;
    let server = Setup::new().spec("{limits: {maxPublishers: 1}}").argument("--demo").start().await;
    publishing(&server, "demo").await;
    let refused = media_client::camera::Camera::new(server.url("/whip/door"), media_client::demo::source());
    let error =
        within("a refusal", Duration::from_secs(10), refused.start()).await.err().map(|error| error.to_string());
    assert!(error.as_deref().is_some_and(|error| error.contains("503")), "{error:?}");
    let stream = server.api.stream_that("demo", "the stream", Duration::from_secs(5), |_| true).await;
    assert_eq!((&stream["state"], &stream["publisher"]), (&"live".into(), &"demo".into()), "{stream}");
}
