//! A viewer that joins sees a picture at once, not at the camera's next keyframe.

use crate::harness::{Setup, alone, camera, figure, percentile, viewer, within};
use std::time::Duration;

const JOINS: usize = 50;
const LIMIT_MS: f64 = 100.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_join_gets_a_decodable_keyframe_within_100_ms() {
    let _turn = alone().await;
    let server = Setup::new().start().await;
    // A keyframe every 2 s.
    let camera = camera(&server, "door").await;
    let mut times = Vec::new();
    for _ in 0..JOINS {
        // Not to wait for anything: it spreads the joins over the keyframe interval.
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..200))).await;
        let watching = viewer(&server, "door").await;
        let seen =
            watching.wait_for(|report| report.video.as_ref().is_some_and(|video| video.first_keyframe_ms.is_some()));
        assert!(within("a keyframe", Duration::from_secs(5), seen).await, "the connection was lost");
        let report = watching.stop().await.unwrap();
        times.push(report.video.unwrap().first_keyframe_ms.unwrap());
    }
    camera.stop().await.unwrap();
    let (p50, p95) = (percentile(&mut times, 0.5), percentile(&mut times, 0.95));
    figure(&format!(
        "POST to decodable keyframe, {JOINS} joins: p50 {p50:.1} ms, p95 {p95:.1} ms, max {:.1} ms",
        times[JOINS - 1]
    ));
    assert!(p50 <= LIMIT_MS, "p50 {p50} ms");
}
