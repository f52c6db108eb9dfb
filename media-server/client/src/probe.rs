//! An operator's smoke test: publishes the test clip into a room, watches it, and says whether media came through.
//!
//! The verdict is `Ok` when a viewer saw a whole keyframe and sound within the time given and lost next to nothing
//! after, and, if that was asked for, the recording is whole too. Otherwise it names the step that failed, its cause, what to do about it, and the addresses that were tried.

use std::time::Duration;

use rand::Rng;
use serde::Serialize;

use crate::camera::{Camera, CameraStats, RunningCamera};
use crate::error::Error;
use crate::playback::{self, Played};
use crate::signal::{Access, SignalError};
use crate::trouble::{self, Trouble};
use crate::viewer::{Viewer, ViewerReport, Watching};

/// More than this share of packets lost for good is a failure.
const TOLERATED_LOSS: f64 = 0.01;
/// Between two tries while the server has not noticed the publisher yet.
const RETRY: Duration = Duration::from_millis(50);
/// Between two tries while the server cannot be published to.
const NOT_YET: Duration = Duration::from_secs(1);

/// What to probe.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Base URL of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Room to publish into and to watch; a random name if not given
    #[arg(long, value_name = "NAME")]
    pub room: Option<String>,
    /// Bearer token that may publish and subscribe in the room
    #[arg(long, value_name = "TOKEN", env = "MEDIA_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Certificates (PEM) of the only authorities to trust for https [default: the system's]
    #[arg(long, value_name = "FILE", value_parser = authorities)]
    pub ca: Option<Authorities>,
    /// Seconds to watch
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = seconds)]
    pub seconds: f64,
    /// Go on trying for this many seconds while the camera is refused or the server is not there [default: not at all]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<f64>,
    /// Wait for the recording of it too, read it, and compare each file with the manifest's checksum
    #[arg(long)]
    pub recording: bool,
    /// Seconds to wait for the recording
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0, value_parser = seconds)]
    pub recording_timeout: f64,
    /// Write the verdict as JSON
    #[arg(long)]
    pub json: bool,
}

/// Certificates (PEM) of authorities.
#[derive(Clone)]
pub struct Authorities(pub(crate) Vec<u8>);

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authorities({} bytes)", self.0.len())
    }
}

/// The file that a command line names; whether it has certificates is looked at when it is used.
pub(crate) fn authorities(path: &str) -> Result<Authorities, String> {
    std::fs::read(path).map(Authorities).map_err(|error| error.to_string())
}

/// Seconds above 0, as a command line gives them.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if seconds > 0.0 && seconds <= 7.0 * 24.0 * 3600.0 {
        Ok(seconds)
    } else {
        Err("give more than 0 and at most a week".to_owned())
    }
}

/// The step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// WHIP, and the connection that follows.
    Publish,
    /// WHEP, and the connection that follows.
    Watch,
    /// Both connected, but media did not come through as it should.
    Media,
    /// Media came through, but its recording cannot be read as it should.
    Recording,
}

/// Why the server is not well.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// Where.
    pub step: Step,
    /// What was seen.
    pub cause: String,
    /// What to do about it.
    pub fix: String,
    /// Our addresses that were tried.
    pub local_candidates: Vec<String>,
    /// The server's addresses that were tried.
    pub remote_candidates: Vec<String>,
}

/// What a probe found.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Media came through.
    pub ok: bool,
    /// The server.
    pub url: String,
    /// The room that was used.
    pub room: String,
    /// Why not, if not.
    pub failure: Option<Failure>,
    /// What was sent, if it came to that.
    pub camera: Option<CameraStats>,
    /// What was seen, if it came to that.
    pub viewer: Option<ViewerReport>,
    /// Trouble of the stream at the end, as the server reports it; `null` when the token may not list streams.
    pub trouble: Option<Vec<Trouble>>,
    /// The recording, if it was asked for and all is well.
    pub recording: Option<Played>,
}

impl Verdict {
    /// 0 when media came through, 1 when not.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.ok)
    }

    /// For people, in a few lines.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        match &self.failure {
            None => lines.push(format!("ok: media passes through {} (room {})", self.url, self.room)),
            Some(failure) => {
                let step = match failure.step {
                    Step::Publish => "publishing",
                    Step::Watch => "watching",
                    Step::Media => "media",
                    Step::Recording => "the recording",
                };
                lines.push(format!("failed: {} (room {}): {step}", self.url, self.room));
                lines.push(format!("  cause  {}", failure.cause));
                lines.push(format!("  fix    {}", failure.fix));
                if !failure.local_candidates.is_empty() || !failure.remote_candidates.is_empty() {
                    lines.push(format!("  tried  from {}", or_none(&failure.local_candidates)));
                    lines.push(format!("         to   {}", or_none(&failure.remote_candidates)));
                }
            }
        }
        if let Some(camera) = &self.camera {
            lines.push(format!("  camera connected in {:.0} ms", camera.connected_ms));
        }
        if let Some(viewer) = &self.viewer {
            lines.push(format!("  viewer connected in {:.0} ms", viewer.connected_ms));
            for track in [&viewer.video, &viewer.audio].into_iter().flatten() {
                let first = track.first_keyframe_ms.map_or("none".to_owned(), |ms| format!("{ms:.0} ms"));
                lines.push(format!(
                    "  {:<6} first whole frame to decode from: {first}; {} packets, {} frames, {} recovered, {} lost",
                    track.codec.to_string(),
                    track.packets,
                    track.frames,
                    track.recovered,
                    track.lost
                ));
            }
        }
        for trouble in self.trouble.iter().flatten() {
            lines.push(format!("  trouble {} ({}): {}", trouble.reason, trouble.peer, trouble.message));
        }
        if let Some(played) = &self.recording {
            lines.push(format!(
                "  recording {}: {:.1} s, {} files, {} bytes, each as its checksum says{}; finished {:.1} s after the camera",
                played.id,
                played.seconds,
                played.files,
                played.bytes,
                if played.stored == Some(true) { ", in the store" } else { "" },
                played.finished_ms / 1000.0
            ));
        }
        lines.join("\n")
    }
}

fn or_none(addresses: &[String]) -> String {
    if addresses.is_empty() { "no address".to_owned() } else { addresses.join(", ") }
}

/// Probes. Never fails: what goes wrong is in the verdict.
pub async fn run(args: &Args) -> Verdict {
    let room = args.room.clone().unwrap_or_else(random_room);
    let base = args.url.trim_end_matches('/');
    let mut verdict = Verdict {
        ok: false,
        url: base.to_owned(),
        room: room.clone(),
        failure: None,
        camera: None,
        viewer: None,
        trouble: None,
        recording: None,
    };
    let ca = args.ca.as_ref().map(|ca| ca.0.clone());
    let access = Access { token: args.token.clone(), authorities: ca.clone() };
    let camera = Camera::new(format!("{base}/whip/{room}"), ingest::demo::source())
        .with_token(args.token.clone())
        .with_authorities(ca.clone());
    let camera = match start(camera, args.wait).await {
        Ok(camera) => camera,
        Err(error) => {
            verdict.failure = Some(failure(Step::Publish, &error));
            return verdict;
        }
    };
    let time = Duration::from_secs_f64(args.seconds);
    let viewer = Viewer::new(format!("{base}/whep/{room}")).with_token(args.token.clone()).with_authorities(ca);
    let watched = watch(viewer, time).await;
    // While camera and viewer are still connected.
    verdict.trouble = trouble::read(base, &room, &access).await;
    let report = match watched {
        Ok((watching, report)) => watching.stop().await.map(|_| report),
        Err(error) => Err(error),
    };
    match report {
        Ok(report) => {
            verdict.failure = judge(&report, args.seconds);
            verdict.viewer = Some(report);
        }
        Err(error) => verdict.failure = Some(failure(Step::Watch, &error)),
    }
    verdict.camera = Some(camera.stats());
    if let Err(error) = camera.stop().await {
        let failed = failure(Step::Publish, &error);
        verdict.failure.get_or_insert(failed);
    }
    if args.recording && verdict.failure.is_none() {
        let limit = Duration::from_secs_f64(args.recording_timeout);
        match playback::play(base, &room, &access, limit).await {
            Ok(played) => verdict.recording = Some(played),
            Err(error) => {
                verdict.failure = Some(Failure {
                    step: Step::Recording,
                    cause: error.to_string(),
                    fix: error.fix().to_owned(),
                    local_candidates: Vec::new(),
                    remote_candidates: Vec::new(),
                });
            }
        }
    }
    verdict.ok = verdict.failure.is_none();
    verdict
}

/// Publishes; tries again until `wait` seconds have passed when it is the server that cannot, not yet, be published to.
async fn start(camera: Camera, wait: Option<f64>) -> Result<RunningCamera, Error> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs_f64(wait.unwrap_or_default());
    loop {
        let not_yet = match camera.clone().start().await {
            Err(error @ Error::Signal(SignalError::Unreachable { .. })) => error,
            Err(Error::Signal(error @ SignalError::Refused { status, .. })) if status.is_server_error() => error.into(),
            started => return started,
        };
        if tokio::time::Instant::now() + NOT_YET > deadline {
            return Err(not_yet);
        }
        tracing::info!(error = %not_yet, "not yet");
        tokio::time::sleep(NOT_YET).await;
    }
}

async fn watch(viewer: Viewer, time: Duration) -> Result<(Watching, ViewerReport), Error> {
    let deadline = tokio::time::Instant::now() + time;
    let watching = loop {
        match viewer.clone().start().await {
            // The publisher is connected; the server may be about to notice.
            Err(Error::Signal(SignalError::Refused { status, .. }))
                if status.as_u16() == 409 && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(RETRY).await;
            }
            started => break started?,
        }
    };
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = watching.lost() => {}
    }
    let report = watching.report();
    Ok((watching, report))
}

fn judge(report: &ViewerReport, seconds: f64) -> Option<Failure> {
    let complaint = |cause: String, fix: &str| {
        Some(Failure {
            step: Step::Media,
            cause,
            fix: fix.to_owned(),
            local_candidates: Vec::new(),
            remote_candidates: Vec::new(),
        })
    };
    let look = "see the server's log and metrics for the room";
    if report.seconds < 0.9 * seconds {
        return complaint(format!("the viewer was cut off after {:.1} s", report.seconds), look);
    }
    for (name, track) in [("picture", &report.video), ("sound", &report.audio)] {
        let Some(track) = track else {
            return complaint(format!("no packet of the {name} in {seconds} s"), look);
        };
        if track.keyframes == 0 {
            return complaint(format!("{} packets of the {name}, but no keyframe in {seconds} s", track.packets), look);
        }
        let share = track.lost as f64 / (track.packets + track.lost) as f64;
        if share > TOLERATED_LOSS {
            return complaint(
                format!("{:.1} % of the {name}'s packets were lost for good", 100.0 * share),
                "look for packet loss on the way, or for a machine that is out of CPU",
            );
        }
    }
    None
}

fn failure(step: Step, error: &Error) -> Failure {
    let (local, remote) = error.candidates().unwrap_or_default();
    Failure {
        step,
        cause: error.to_string(),
        fix: error.fix().unwrap_or_else(|| "see the server's log".to_owned()),
        local_candidates: local.to_vec(),
        remote_candidates: remote.to_vec(),
    }
}

fn random_room() -> String {
    let number: u64 = rand::rng().random();
    format!("probe-{number:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viewer::TrackReport;
    use ingest::Codec;

    fn track(codec: Codec, packets: u64, lost: u64, keyframes: u64) -> Option<TrackReport> {
        Some(TrackReport {
            codec,
            packets,
            bytes: 0,
            lost,
            recovered: 0,
            out_of_order: 0,
            duplicates: 0,
            requested: 0,
            frames: keyframes,
            keyframes,
            broken_frames: 0,
            sender_reports: 0,
            first_packet_ms: Some(1.0),
            first_keyframe_ms: (keyframes > 0).then_some(2.0),
        })
    }

    fn report(video: Option<TrackReport>, audio: Option<TrackReport>) -> ViewerReport {
        ViewerReport { answer_ms: 1.0, connected_ms: 2.0, seconds: 3.0, video, audio, strangers: 0 }
    }

    #[test]
    fn a_verdict_names_what_is_missing() {
        let sound = || track(Codec::Opus, 150, 0, 150);
        assert!(judge(&report(track(Codec::H264, 300, 1, 2), sound()), 3.0).is_none());
        for (video, audio, cause) in [
            (None, sound(), "no packet of the picture"),
            (track(Codec::H264, 300, 0, 0), sound(), "no keyframe"),
            (track(Codec::H264, 300, 30, 1), sound(), "9.1 %"),
            (track(Codec::H264, 300, 0, 1), None, "no packet of the sound"),
        ] {
            let failure = judge(&report(video, audio), 3.0).unwrap();
            assert!(failure.cause.contains(cause), "{failure:?}");
        }
    }

    #[test]
    fn verdict_shows_the_trouble_of_the_stream() {
        let trouble = Trouble { reason: "policed".into(), message: "fact: remedy".into(), peer: "publisher".into() };
        let mut verdict = Verdict {
            ok: true,
            url: "http://127.0.0.1".into(),
            room: "door".into(),
            failure: None,
            camera: None,
            viewer: None,
            trouble: Some(vec![trouble]),
            recording: None,
        };
        assert_eq!(verdict.text().lines().last(), Some("  trouble policed (publisher): fact: remedy"));
        assert_eq!(serde_json::to_value(&verdict).unwrap()["trouble"][0]["reason"], "policed");
        verdict.trouble = None;
        assert!(!verdict.text().contains("trouble"));
    }

    fn args(url: &str, wait: Option<f64>) -> Args {
        Args {
            url: url.to_owned(),
            room: None,
            token: None,
            ca: None,
            seconds: 1.0,
            wait,
            recording: false,
            recording_timeout: 1.0,
            json: false,
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_with_the_fix() {
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        let verdict = run(&args(&url, None)).await;
        assert_eq!(verdict.exit_code(), 1);
        let failure = verdict.failure.clone().unwrap();
        assert_eq!(failure.step, Step::Publish);
        assert!(failure.cause.contains(&url) && failure.fix.contains("start the server"), "{failure:?}");
        assert!(verdict.text().contains("fix"), "{}", verdict.text());
    }

    #[tokio::test]
    async fn a_server_that_comes_later_is_waited_for_and_one_that_says_no_is_not() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers = ["503 Service Unavailable", "401 Unauthorized"];
        let server = tokio::spawn(async move {
            for status in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                // All of the offer, or closing would reset the connection: it ends with a line of SDP.
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n") || !request.windows(5).any(|window| window == b"\nv=0\r") {
                    stream.read_buf(&mut request).await.unwrap();
                }
                let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let failure = run(&args(&url, Some(60.0))).await.failure.unwrap();
        server.await.unwrap();
        assert!(failure.cause.contains("401") && failure.fix.contains("--token"), "{failure:?}");
    }
}
