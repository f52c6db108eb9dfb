//! A stream that is longer than a recording may be.

use crate::harness::{
    FLASH_CLIP_SECONDS, Picture, Recorded, Setup, alone, camera_of, decode_errors, figure, flash_clip, frames_in,
    packets_in, until, within,
};
use media_client::camera::Ended;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "nightly"]
async fn recordings_in_turns_hold_every_frame_once() {
    let _turn = alone().await;
    let server = Setup::new().spec("{recording: {maxDuration: 1m}}").start().await;
    // The clip plays across the full minute.
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 60;
    let wait = (60 + 60 - u64::from(FLASH_CLIP_SECONDS) / 2 - second) % 60;
    tokio::time::sleep(Duration::from_secs(wait)).await;
    let clip = flash_clip(Picture::H264).await;
    let mut camera = camera_of(&server, "door", clip.source()).await;
    let limit = Duration::from_secs(u64::from(FLASH_CLIP_SECONDS) + 10);
    assert_eq!(within("the end of the clip", limit, camera.ended()).await, Ended::Played);
    let stats = camera.stats();
    let stream = server.api.end("door").await;
    camera.stop().await.unwrap();
    let all = || async {
        let page = server.api.get("/recordings?room=door").await.json();
        let rows = page["recordings"].as_array().unwrap().clone();
        rows.iter().all(|row| row["state"] == "complete").then_some(rows)
    };
    let rows = until("both are finished", Duration::from_secs(20), all).await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    let (mut frames, mut sounds) = (0, 0);
    for row in &rows {
        assert_eq!((&row["stream"], &row["gapCount"]), (&stream.as_str().into(), &0.into()), "{row}");
        let recorded = Recorded::complete(&server.setup().recordings(), row["id"].as_str().unwrap()).await;
        let mp4 = recorded.mp4();
        assert_eq!(decode_errors(&mp4).await, "");
        frames += frames_in(&mp4).await;
        sounds += packets_in(&mp4, "a:0").await;
    }
    let sent = (stats.video.unwrap().frames, stats.audio.unwrap().frames);
    figure(&format!("two recordings: {frames} of {} frames, {sounds} of {} sounds", sent.0, sent.1));
    assert_eq!((frames, sounds), sent);
    // The later one begins within a keyframe interval of the full minute.
    let (_, seconds) = rows[0]["startedAt"].as_str().unwrap().rsplit_once(':').unwrap();
    let late: f64 = seconds.trim_end_matches('Z').parse().unwrap();
    assert!(late <= 2.3, "{late} s after the full minute");
}
