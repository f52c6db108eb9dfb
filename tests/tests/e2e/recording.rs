//! A recording holds every frame that was sent, and picture and sound at the times they had.

use crate::harness::{
    FLASH_CLIP_SECONDS, FLASHES, Picture, Recorded, Server, Setup, alone, beeps, camera, camera_of, decode_errors,
    figure, flash_clip, flashes, frames_in, lean_viewer, packets_in, until, within,
};
use media_client::camera::Ended;
use std::time::Duration;

/// Seconds by which picture and sound may be off.
const OFF: f64 = 0.040;

#[tokio::test(flavor = "multi_thread")]
async fn every_frame_sent_is_recorded_with_sound_in_time() {
    let _turn = alone().await;
    let server = Setup::new().start().await;
    tokio::join!(records_all(&server, "h264", Picture::H264), records_all(&server, "vp8", Picture::Vp8));
}

async fn records_all(server: &Server, room: &str, picture: Picture) {
    let clip = flash_clip(picture).await;
    let mut camera = camera_of(server, room, clip.source()).await;
    let played =
        within("the end of the clip", Duration::from_secs(u64::from(FLASH_CLIP_SECONDS) + 10), camera.ended()).await;
    assert_eq!(played, Ended::Played);
    let stats = camera.stats();
    let id = server.api.end(room).await;
    camera.stop().await.unwrap();
    let recorded = Recorded::complete(&server.setup().recordings(), &id).await;
    let mp4 = recorded.mp4();

    let sent = (stats.video.unwrap().frames, stats.audio.unwrap().frames);
    let kept = (frames_in(&mp4).await, packets_in(&mp4, "a:0").await);
    let pairs = [(flashes(&clip.video).await, flashes(&mp4).await), (beeps(&clip.audio).await, beeps(&mp4).await)];
    for (source, copy) in &pairs {
        assert_eq!((source.len(), copy.len()), (FLASHES.len(), FLASHES.len()), "{pairs:?}");
    }
    let [(flash_source, flash), (beep_source, beep)] = &pairs;
    // Of sound against picture, compared with the source.
    let skew = |n: usize| (beep[n] - flash[n]) - (beep_source[n] - flash_source[n]);
    let drift = |source: &[f64], copy: &[f64]| (copy[1] - copy[0]) - (source[1] - source[0]);
    let (start, end) = (skew(0), skew(1));
    let (picture_drift, sound_drift) = (drift(flash_source, flash), drift(beep_source, beep));
    figure(&format!(
        "{room}: {} of {} frames, {} of {} sounds; sound against picture {:+.1} ms at the start, {:+.1} ms at the end; \
         length of picture {:+.1} ms, of sound {:+.1} ms; {} gaps",
        kept.0,
        sent.0,
        kept.1,
        sent.1,
        start * 1e3,
        end * 1e3,
        picture_drift * 1e3,
        sound_drift * 1e3,
        recorded.manifest.gaps.len()
    ));
    assert_eq!(kept, sent, "{room}: frames and sounds in the recording, and sent; gaps: {:?}", recorded.manifest.gaps);
    for off in [start, end, picture_drift, sound_drift] {
        assert!(off.abs() <= OFF, "{room}: {pairs:?}");
    }
    assert_eq!(recorded.manifest.gaps, []);
    assert!(!recorded.manifest.repaired);
    assert_eq!(decode_errors(&mp4).await, "", "{room}");
    let part = server.api.range(&format!("/recordings/{id}/recording.mp4"), "bytes=4-11").await;
    assert_eq!((part.status.as_u16(), part.header("content-type"), part.body.as_str()), (206, "video/mp4", "ftypiso6"));
    let playlist = recorded.folder.join(&recorded.manifest.playlist.file);
    assert_eq!(decode_errors(&playlist).await, "", "{room}: the playlist");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_that_stays_away_ends_its_recording() {
    let _turn = alone().await;
    let server = Setup::new().spec("{recording: {idleTimeout: 1s}}").start().await;
    let camera = camera(&server, "door").await;
    let mut watching = lean_viewer(&server, "door").await;
    assert!(watching.live(Duration::from_secs(5), |viewer| viewer.client.first_keyframe().is_some()).await);
    until("2 s of video", Duration::from_secs(10), || async {
        (camera.stats().video.is_some_and(|video| video.frames > 60)).then_some(())
    })
    .await;
    let sent = camera.stop().await.unwrap().video.unwrap().frames;
    // The viewer stays while the camera may come back, and is told when it is over.
    assert!(watching.live(Duration::from_secs(5), |viewer| viewer.client.peer().is_closed()).await, "no goodbye");
    let over = |stream: &serde_json::Value| stream["state"] == "ended";
    let stream = server.api.stream_that("door", "the end of the stream", Duration::from_secs(10), over).await;
    assert_eq!(stream["endReason"], "idle");
    let recorded = Recorded::complete(&server.setup().recordings(), stream["id"].as_str().unwrap()).await;
    assert_eq!(frames_in(&recorded.mp4()).await, sent);
}
