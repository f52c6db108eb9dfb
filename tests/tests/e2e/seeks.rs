//! Seeks in long recordings: Chromium shows any moment of a day, or a week, at once.
//!
//! Needs Node.js, Chromium and the packages of tests/browser.

use crate::archive::{Synthetic, finished, p95};
use crate::harness::{Server, Setup, alone, figure, slow_clip};
use crate::store::{Kind, Store, until_gone};
use recorder::Codec;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use streamsession_tests::nightly::choose;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const SEEKS: usize = 100;
/// From the seek to the presented frame, 95th percentile.
const SEEK: Duration = Duration::from_millis(500);
const DAY: u64 = 24 * 3600;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "nightly"]
async fn seeks_in_long_recording_on_disk_present_frame_at_once() {
    let _turn = alone().await;
    let setup = Setup::new();
    let lengths = choose(vec![(3600, 5)], vec![(DAY, 5), (7 * DAY, 1)]);
    let mut all = Vec::new();
    for (seconds, rate) in lengths {
        all.push((record(&setup.recordings(), seconds, rate).await, rate));
    }
    let server = setup.start().await;
    for (id, rate) in &all {
        finished(&server, id).await;
        seek(&server, id, *rate, "on disk").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "nightly"]
async fn seeks_in_long_recording_in_store_present_frame_at_once() {
    let _turn = alone().await;
    let Some(store) = Store::start(Kind::Minio).await else { return };
    for (seconds, rate) in [(DAY, 5), (7 * DAY, 1)] {
        let setup = store.setup();
        let id = record(&setup.recordings(), seconds, rate).await;
        let server = setup.start().await;
        finished(&server, &id).await;
        gone(&setup.recordings().join(&id)).await;
        seek(&server, &id, rate, "in MinIO").await;
    }
}

/// Records a clip over and over, at `rate` frames per second. Returns the id of the recording.
async fn record(recordings: &Path, seconds: u64, rate: u32) -> String {
    let clip = std::fs::read(slow_clip(rate).await).unwrap();
    let frames = frames(&clip);
    assert_eq!(frames.len() as u64, 20 * u64::from(rate), "frames of the clip");
    let length = Duration::from_secs(seconds);
    let mut recording = Synthetic::new(recordings, length);
    for (number, frame) in (0..seconds * u64::from(rate)).zip(frames.iter().cycle()) {
        recording.frame(Codec::H264, Duration::from_secs(number) / rate, frame);
    }
    recording.finish(length)
}

/// Returns the NAL units of each frame of a byte stream (H.264, Annex B). A frame is one slice.
fn frames(stream: &[u8]) -> Vec<Vec<&[u8]>> {
    let starts: Vec<usize> =
        stream.windows(3).enumerate().filter(|(_, code)| code == &[0, 0, 1]).map(|(at, _)| at + 3).collect();
    let ends = starts.iter().skip(1).map(|start| start - 3).chain([stream.len()]);
    let mut frames = vec![Vec::new()];
    for (start, end) in starts.iter().zip(ends) {
        let zeros = stream[*start..end].iter().rev().take_while(|byte| **byte == 0).count();
        let unit = &stream[*start..end - zeros];
        frames.last_mut().unwrap().push(unit);
        if matches!(unit[0] & 31, 1 | 5) {
            frames.push(Vec::new());
        }
    }
    frames.retain(|frame| !frame.is_empty());
    frames
}

/// Waits until a recording of a day has left the disk.
async fn gone(directory: &Path) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1800);
    while directory.exists() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    until_gone(directory).await;
}

/// Seeks in a recording, as a viewer of its MP4 does.
async fn seek(server: &Server, id: &str, rate: u32, place: &str) {
    let order = json!({ "url": server.url(&format!("/recordings/{id}/recording.mp4")), "seeks": SEEKS });
    let seen = chromium(&order).await;
    let duration = seen["duration"].as_f64().unwrap();
    let mut times = Vec::new();
    for seek in seen["seeks"].as_array().unwrap() {
        let value = |name: &str| seek[name].as_f64().unwrap();
        let (wanted, shown) = (value("wanted"), value("shown"));
        let frame = 1.0 / f64::from(rate);
        assert!(shown <= wanted + 0.001 && wanted - shown <= frame + 0.001, "{seek}");
        times.push(Duration::from_secs_f64(value("milliseconds") / 1000.0));
    }
    assert_eq!(times.len(), SEEKS);
    let (worst, p95) = (times.iter().max().copied().unwrap(), p95(times));
    figure(&format!("{place}, {duration:.0} s: {SEEKS} seeks in Chromium: p95 {p95:?}, at most {worst:?}"));
    assert!(p95 <= SEEK, "{place}: a seek takes {p95:?}");
}

/// Runs tests/browser/seek.js.
async fn chromium(order: &Value) -> Value {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("browser/seek.js");
    let mut node = Command::new("node")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    node.stdin.take().unwrap().write_all(order.to_string().as_bytes()).await.unwrap();
    let output = node.wait_with_output().await.unwrap();
    let (seen, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{order}: {seen}{complaint}");
    serde_json::from_str(&seen).unwrap()
}
