//! SIGTERM ends what runs in good order.

use crate::harness::{Recorded, Setup, alone, camera, decode_errors, figure, frames_in, until, viewer, viewer_offer};
use std::time::{Duration, Instant};

/// Of `spec.drain.deadline` here.
const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finalises_the_recording_before_the_end() {
    let _turn = alone().await;
    let setup = Setup::new().spec("{drain: {deadline: 10s}}");
    let server = setup.start().await;
    let camera = camera(&server, "door").await;
    let _watching = viewer(&server, "door").await;
    until("2 s of video", Duration::from_secs(10), || async {
        (camera.stats().video.is_some_and(|video| video.frames > 60)).then_some(())
    })
    .await;
    let stream = server.api.stream("door").await.unwrap();
    let id = stream["id"].as_str().unwrap();
    let before = camera.stats().video.unwrap().frames;
    let start = Instant::now();
    let status = server.terminate(DEADLINE + Duration::from_secs(3)).await;
    let took = start.elapsed();
    // At once, without waiting: it was all done before the end.
    let recorded = Recorded::now(&setup.recordings(), id).expect("the recording is complete when the server has ended");
    let kept = frames_in(&recorded.mp4()).await;
    figure(&format!(
        "SIGTERM: exit {status} after {:.2} s; {kept} frames, at least {before} had been sent",
        took.as_secs_f64()
    ));
    assert_eq!(status.code(), Some(0));
    assert!(took < DEADLINE, "{took:?}");
    assert!(!recorded.manifest.repaired && recorded.manifest.gaps.is_empty(), "{:?}", recorded.manifest);
    // A frame may have been on its way.
    assert!(kept + 1 >= before, "{kept} of {before} frames");
    assert_eq!(decode_errors(&recorded.mp4()).await, "");
    drop(camera);

    let server = setup.start().await;
    let stream = server.api.stream("door").await.unwrap();
    assert_eq!((&stream["state"], &stream["endReason"]), (&"ended".into(), &"drain".into()), "{stream}");
    assert_eq!((&stream["publishing"], &stream["viewers"]), (&false.into(), &0.into()), "{stream}");
    assert!(stream["endedAt"].is_string() && stream["startedAt"].is_string(), "{stream}");
    server.api.offer("/whep/door", viewer_offer()).await.problem(409, "no-publisher");
}
