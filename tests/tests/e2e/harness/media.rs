//! What ffmpeg and ffprobe say of a file.

use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// Samples per second that sound is looked at with.
const RATE: f64 = 48_000.0;
/// Brightness (0 to 255, mean of the picture) above which it is white.
const WHITE: f64 = 200.0;
/// Of 32768.
const LOUD: u16 = 3000;
/// Events closer together are one.
const APART: f64 = 1.0;

/// Runs a program that must succeed; gives its standard output.
pub(super) async fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; apt-get install ffmpeg"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    output.stdout
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn probe(path: &Path, track: &str, count: &str, entry: &str) -> u64 {
    let entry = format!("stream={entry}");
    let arguments =
        ["-v", "error", count, "-select_streams", track, "-show_entries", &entry, "-of", "csv=p=0", text(path)];
    let out = String::from_utf8(run("ffprobe", &arguments).await).unwrap();
    out.trim().trim_end_matches(',').parse().unwrap_or_else(|_| panic!("{}: {out:?}", path.display()))
}

/// Frames of the picture that can be decoded.
pub(crate) async fn frames_in(path: &Path) -> u64 {
    probe(path, "v:0", "-count_frames", "nb_read_frames").await
}

/// Packets of a track (`v:0` or `a:0`): encoded frames, decoded or not.
pub(crate) async fn packets_in(path: &Path, track: &str) -> u64 {
    probe(path, track, "-count_packets", "nb_read_packets").await
}

/// The result of decoding a file.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Video frames.
    pub(crate) video: u64,
    /// Audio frames.
    pub(crate) audio: u64,
    /// The decoder's errors; empty if the file plays.
    pub(crate) errors: String,
}

/// Decodes a file, and counts its frames.
pub(crate) async fn decoded(path: &Path) -> Decoded {
    let entries = "stream=codec_type,nb_read_frames";
    let arguments = ["-v", "error", "-count_frames", "-show_entries", entries, "-of", "csv=p=0", text(path)];
    let output =
        Command::new("ffprobe").args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let count = |track: &str| {
        let lines = out.lines().filter_map(|line| line.strip_prefix(track)?.strip_prefix(','));
        lines.filter_map(|count| count.trim_end_matches(',').parse::<u64>().ok()).sum()
    };
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors = if output.status.success() { complaints } else { format!("{}: {complaints}", output.status) };
    Decoded { video: count("video"), audio: count("audio"), errors }
}

/// Decodes all of it; gives what ffmpeg complains about, empty if it plays.
pub(crate) async fn decode_errors(path: &Path) -> String {
    let arguments = ["-v", "error", "-xerror", "-i", text(path), "-f", "null", "-"];
    let output = Command::new("ffmpeg").args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { said } else { format!("{}: {said}", output.status) }
}

/// Seconds at which the picture turns white.
pub(crate) async fn flashes(path: &Path) -> Vec<f64> {
    let filter = "scale=64:36,signalstats,metadata=mode=print:key=lavfi.signalstats.YAVG:file=-";
    let arguments = ["-v", "error", "-copyts", "-i", text(path), "-map", "0:v:0", "-vf", filter, "-f", "null", "-"];
    let out = String::from_utf8(run("ffmpeg", &arguments).await).unwrap();
    let mut at = 0.0;
    let mut found: Vec<f64> = Vec::new();
    for line in out.lines() {
        if let Some((_, time)) = line.split_once("pts_time:") {
            at = time.trim().parse().unwrap();
        } else if let Some((_, brightness)) = line.split_once("YAVG=") {
            let white = brightness.trim().parse::<f64>().unwrap() > WHITE;
            if white && found.last().is_none_or(|last| at - last > APART) {
                found.push(at);
            }
        }
    }
    found
}

/// Seconds at which the sound gets loud.
pub(crate) async fn beeps(path: &Path) -> Vec<f64> {
    // Holes are filled with silence, so that a sample's place tells its time.
    let filter = "aresample=48000:async=1:first_pts=0";
    let arguments =
        ["-v", "error", "-copyts", "-i", text(path), "-map", "0:a:0", "-af", filter, "-ac", "1", "-f", "s16le", "-"];
    let samples = run("ffmpeg", &arguments).await;
    let mut found: Vec<f64> = Vec::new();
    for (index, sample) in samples.as_chunks::<2>().0.iter().enumerate() {
        let at = index as f64 / RATE;
        if i16::from_le_bytes(*sample).unsigned_abs() > LOUD && found.last().is_none_or(|last| at - last > APART) {
            found.push(at);
        }
    }
    found
}
