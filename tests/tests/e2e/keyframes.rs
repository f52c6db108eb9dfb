//! Kinds of keyframes over WHIP: a viewer that joins in the middle has its picture within a second, and the recording is
//! decoded by ffmpeg from the first usable picture on; else the stream reports trouble.

use crate::harness::{
    Recorded, Server, Setup, alone, camera_of, decode_errors, figure, frames_in, until, viewer, within,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use media_client::source::{Clip, FrameRate, Source};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);
/// Bound for the first picture of a viewer, in milliseconds after its POST.
const JOIN_MS: f64 = 1000.0;

/// Encodes 12 s of a moving picture at 30 frames a second; the options are x264's.
fn encode(folder: &Path, name: &str, options: &str) -> Clip {
    let path = folder.join(name);
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=30:duration=12"])
        .args(["-c:v", "libx264", "-profile:v", "baseline", "-bf", "0", "-pix_fmt", "yuv420p", "-x264-params", options])
        .args(["-f", "h264", path.to_str().unwrap()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Clip::open(&path, FrameRate::new(30, 1)).unwrap()
}

/// Returns the units of a frame with start codes.
fn units(frame: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> =
        (0..frame.len().saturating_sub(3)).filter(|at| frame[*at..].starts_with(&[0, 0, 1])).collect();
    let ends = starts.iter().skip(1).copied().chain([frame.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            let unit = &frame[start + 3..end];
            // The zero in front of the next start code.
            unit.strip_suffix(&[0]).filter(|_| end < frame.len()).unwrap_or(unit)
        })
        .collect()
}

/// Removes the units that `keep` does not want.
fn retain_units(clip: &mut Clip, keep: impl Fn(&[u8]) -> bool) {
    for frame in &mut clip.frames {
        let kept = units(&frame.data).into_iter().filter(|unit| keep(unit));
        frame.data = Bytes::from(kept.flat_map(|unit| [&[0, 0, 0, 1], unit].concat()).collect::<Vec<u8>>());
    }
}

fn is_parameter_set(unit: &[u8]) -> bool {
    matches!(unit[0] & 0x1f, 7 | 8)
}

/// Publishes a clip, joins 1.3 s later, and decodes the recording; returns the frames recorded.
async fn join(server: &Server, room: &str, clip: Clip) -> u64 {
    let rate = clip.frames.len() as f64 / clip.duration.as_secs_f64();
    let source = Source::new(Some(clip), None).unwrap();
    let camera = camera_of(server, room, source).await;
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let watching = viewer(server, room).await;
    // Not by the viewer's notification: that is sent with an IDR picture, and a stream with gradual refresh has none.
    until("a picture", LIMIT, || {
        let shown = watching.report().video.is_some_and(|video| video.frames > 0).then_some(());
        async move { shown }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let video = watching.stop().await.unwrap().video.unwrap();
    let sent = camera.stats().video.unwrap().frames;
    let id = server.api.end(room).await;
    camera.stop().await.unwrap();
    let recorded = Recorded::complete(&server.setup().recordings(), &id).await;
    let mp4 = recorded.mp4();
    let (kept, first) = (frames_in(&mp4).await, video.first_packet_ms.unwrap());
    figure(&format!(
        "{room}: first picture {first:.0} ms after the POST; {kept} of {sent} frames recorded and decoded"
    ));
    assert!(first <= JOIN_MS, "{room}: {first} ms");
    assert_eq!((video.lost, video.broken_frames), (0, 0), "{room}");
    assert!(video.frames as f64 >= 2.5 * rate, "{room}: {} frames in 3 s", video.frames);
    assert_eq!(decode_errors(&mp4).await, "", "{room}");
    kept
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_keyframe_is_joined_and_recorded() {
    let _turn = alone().await;
    let server = Setup::new().start().await;
    let folder = tempfile::tempdir().unwrap();

    // Parameter sets in the offer alone.
    let mut sprop = encode(folder.path(), "sprop.h264", "keyint=60:min-keyint=60:scenecut=0");
    let sets: Vec<String> = units(&sprop.frames[0].data)
        .into_iter()
        .filter(|unit| is_parameter_set(unit))
        .map(|unit| STANDARD.encode(unit))
        .collect();
    assert_eq!(sets.len(), 2);
    sprop.fmtp = format!("{};sprop-parameter-sets={}", sprop.fmtp, sets.join(","));
    retain_units(&mut sprop, |unit| !is_parameter_set(unit));
    assert!(join(&server, "sprop", sprop).await >= 100);

    // One IDR picture, and recovery points every second.
    let refresh = "intra-refresh=1:keyint=30:min-keyint=30:scenecut=0";
    let mut intra = encode(folder.path(), "intra.h264", refresh);
    // As if the IDR picture had been sent long ago.
    intra.frames.remove(0);
    let start = intra.frames[0].at;
    intra.frames.iter_mut().for_each(|frame| frame.at -= start);
    assert!(join(&server, "intra-refresh", intra).await >= 60);

    // One frame a second, each a keyframe.
    let mut slow = encode(folder.path(), "slow.h264", "keyint=1");
    slow.frames.truncate(12);
    for (second, frame) in slow.frames.iter_mut().enumerate() {
        frame.at = Duration::from_secs(second as u64);
    }
    assert!(join(&server, "one-fps", slow).await >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_without_random_access_reports_trouble_in_five_seconds() {
    let _turn = alone().await;
    let server = Setup::new().start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut clip = encode(folder.path(), "plain.h264", "keyint=60:min-keyint=60:scenecut=0");
    // Parameter sets stay, IDR pictures go.
    retain_units(&mut clip, |unit| unit[0] & 0x1f != 5);
    clip.frames.retain(|frame| units(&frame.data).iter().any(|unit| unit[0] & 0x1f == 1));
    let source = Source::new(Some(clip), None).unwrap().repeated();
    let camera = media_client::camera::Camera::new(server.url("/whip/dark"), source).start();
    let camera = within("a camera", LIMIT, camera).await.unwrap();
    let reported = |stream: &serde_json::Value| {
        stream["trouble"].as_array().is_some_and(|all| all.iter().any(|trouble| trouble["reason"] == "no-keyframe"))
    };
    let stream = server.api.stream_that("dark", "trouble", Duration::from_secs(5), reported).await;
    figure(&format!("{}", stream["trouble"][0]["message"]));
    camera.stop().await.unwrap();
}
