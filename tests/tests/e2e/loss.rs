//! A bad network: 5 % of all datagrams are lost, each way, for the camera and for the viewers.

use crate::harness::{
    FLASH_CLIP_SECONDS, Network, Picture, Recorded, Setup, alone, decode_errors, figure, flash_clip, frames_in,
    lean_camera, media_client, packets_in, publishing, within,
};
use recorder::{GapReason, Track};
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;

const LOSS_PERCENT: u32 = 5;
const VIEWERS: u64 = 3;
/// Share of packets that may be missing after retransmission.
const MISSING: f64 = 0.001;
/// Frames per second of the clip.
const RATE: f64 = 30.0;

#[tokio::test(flavor = "multi_thread")]
async fn five_percent_loss_each_way_is_repaired_or_marked() {
    let _turn = alone().await;
    let network = Network::lossy(LOSS_PERCENT);
    let clip = flash_clip(Picture::H264).await;
    let server = Setup::in_network(&network).start().await;
    let clients = network.client_namespace();
    let http = format!("http://{}:{}", network.server, server.setup().http.port());
    let [whip, whep] = ["whip", "whep"].map(|endpoint| format!("{http}/{endpoint}/door"));
    let (video, audio) = (clip.video.to_str().unwrap(), clip.audio.to_str().unwrap());
    let arguments = ["camera", "--json", "--video", video, "--audio", audio, &whip];
    let camera =
        media_client(Some(&clients), &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    publishing(&server, "door").await;
    let (count, seconds) = (VIEWERS.to_string(), (FLASH_CLIP_SECONDS - 1).to_string());
    let arguments = ["view", "--json", "-n", &count, "--seconds", &seconds, &whep];
    let viewers =
        media_client(Some(&clients), &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    let limit = Duration::from_secs(u64::from(FLASH_CLIP_SECONDS) + 20);
    let both = async { tokio::join!(camera.wait_with_output(), viewers.wait_with_output()) };
    let (camera, viewers) = within("the clip", limit, both).await;
    let [camera, viewers] = [camera, viewers].map(|output| {
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    });
    let live = server.api.stream("door").await.unwrap();
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value}"));
    let (came, lost, recovered) =
        (number(&viewers["packets"]), number(&viewers["lost"]), number(&viewers["recovered"]));
    let missing = lost as f64 / (came + lost) as f64;
    let broken: u64 =
        viewers["each"].as_array().unwrap().iter().map(|each| number(&each["video"]["broken_frames"])).sum();
    let sent = number(&camera["video"]["frames"]);
    let dropped = network.counters().map(|(all, lost)| lost as f64 / all as f64);
    figure(&format!(
        "{:.2} % lost to the server, {:.2} % to clients; {VIEWERS} viewers: {came} packets, {recovered} recovered, {lost} missing \
         ({:.3} %), {broken} broken frames; camera sent {} packets again",
        dropped[0] * 100.0,
        dropped[1] * 100.0,
        missing * 100.0,
        camera["feedback"]["retransmitted"]
    ));
    // Else the network was not what the test is about.
    for share in dropped {
        assert!((0.03..0.07).contains(&share), "{dropped:?}");
    }
    assert_eq!(viewers["failed"], 0, "{viewers}");
    assert!(came > VIEWERS * 5000 && recovered > came / 40, "{viewers}");
    assert!(missing < MISSING, "{missing}: {viewers} {live}");

    let id = server.api.end("door").await;
    let recorded = Recorded::complete(&server.setup().recordings(), &id).await;
    let kept = frames_in(&recorded.mp4()).await;
    let (gap_seconds, gaps) = recorded.video_gaps();
    figure(&format!("recording: {kept} of {sent} frames; {gaps} gaps of {gap_seconds:.2} s in all"));
    // What is not there is marked: a frame more for each gap's edges, and one that was the very last.
    let unmarked = (sent - kept) as f64 - gap_seconds * RATE;
    assert!(unmarked <= 1.0 + gaps as f64, "{unmarked} frames are missing and not in {:?}", recorded.manifest.gaps);
    assert_eq!(decode_errors(&recorded.mp4()).await, "");
}

/// Nothing but retransmissions of the picture, payload type 97, gets lost.
fn without_repairs(datagram: &[u8]) -> bool {
    datagram[0] < 128 || datagram[1] & 0x7f != 97
}

/// No RTP and RTCP passes.
fn without_media(datagram: &[u8]) -> bool {
    datagram[0] < 128
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_repaired_is_marked_as_a_gap() {
    let _turn = alone().await;
    let server = Setup::new().start().await;
    // A keyframe every 60 frames: what is lost at 75 to 80 costs the picture until 120.
    let mut camera = lean_camera(&server, "door").await;
    for (frames, passes) in [(75, without_repairs as fn(&[u8]) -> bool), (80, without_media), (200, without_repairs)] {
        camera.passes = passes;
        let came = camera.live(Duration::from_secs(10), |camera| camera.client.totals().frames >= frames).await;
        assert!(came, "{:?}", camera.client.totals());
    }
    let id = server.api.end("door").await;
    let recorded = Recorded::complete(&server.setup().recordings(), &id).await;
    let kept = packets_in(&recorded.mp4(), "v:0").await;
    let gaps = &recorded.manifest.gaps;
    figure(&format!("5 frames lost for good: {kept} of {} frames recorded, {gaps:?}", camera.client.totals().frames));
    let [video] = gaps.iter().filter(|gap| gap.track == Track::Video).collect::<Vec<_>>()[..] else {
        panic!("{gaps:?}")
    };
    assert_eq!(video.reason, GapReason::Loss);
    assert!((video.from - 2.5).abs() < 0.1 && (video.to - 4.0).abs() < 0.1, "{video:?}");
    assert!(gaps.iter().any(|gap| gap.track == Track::Audio && gap.reason == GapReason::Loss), "{gaps:?}");
    let missing = camera.client.totals().frames - kept;
    assert!((44..=46).contains(&missing), "{missing} frames are missing");
}
