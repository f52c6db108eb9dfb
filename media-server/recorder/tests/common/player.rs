//! Plays clips into a recording on a clock that is only a number, and looks at what came out by ffprobe.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use recorder::{Codec, Config, Continuation, Description, File, Output, Packet, Recording, Track, Tracks};

use super::{clips::RATE, packetize::packetize};

/// Something that reaches the recorder at a time.
#[derive(Clone, Debug)]
pub enum Event {
    Packet { codec: Codec, source: u64, index: u64, timestamp: u32, marker: bool, payload: Vec<u8> },
    Report { track: Track, source: u64, ntp: u64, rtp: u32 },
    SourceEnd,
}

/// Seconds since the start, and what happens then.
pub type Script = Vec<(f64, Event)>;

/// The sender's wall clock at second 0 of its clip, 32.32.
const NTP: f64 = 3_900_000_000.0;
/// Timestamps begin near their end, to wrap.
pub const FIRST_RTP: u32 = u32::MAX - 50_000;

/// Packets of a track whose frames are captured at `capture` (seconds) and arrive `delay` later.
pub struct Sender {
    pub codec: Codec,
    pub source: u64,
    pub start: f64,
    pub delay: f64,
    /// Frames a second.
    pub rate: f64,
    /// The sender's media clock runs so much faster than its wall clock.
    pub drift: f64,
}

impl Sender {
    pub fn video(codec: Codec) -> Self {
        Sender { codec, source: 1, start: 0.0, delay: 0.0, rate: f64::from(RATE), drift: 0.0 }
    }

    pub fn audio() -> Self {
        Sender { codec: Codec::Opus, source: 2, start: 0.0, delay: 0.0, rate: 50.0, drift: 0.0 }
    }

    fn timestamp(&self, frame: u32) -> u32 {
        let ticks = f64::from(frame) / self.rate * f64::from(self.codec.clock_rate());
        FIRST_RTP.wrapping_add(ticks.round() as u32)
    }

    pub fn send(&self, frames: &[Vec<u8>]) -> Script {
        self.send_in_order(frames, &(0..frames.len() as u32).collect::<Vec<_>>())
    }

    /// `places`: of each frame in presentation order.
    pub fn send_in_order(&self, frames: &[Vec<u8>], places: &[u32]) -> Script {
        let mut script = Vec::new();
        let mut index = 65_000;
        for ((number, frame), place) in frames.iter().enumerate().zip(places) {
            let at = self.start + self.delay + number as f64 / self.rate / (1.0 + self.drift);
            let payloads = packetize(self.codec, frame, number as u16);
            let last = payloads.len() - 1;
            for (n, payload) in payloads.into_iter().enumerate() {
                let marker = n == last && self.codec != Codec::Opus;
                let timestamp = self.timestamp(*place);
                let event = Event::Packet { codec: self.codec, source: self.source, index, timestamp, marker, payload };
                script.push((at + n as f64 * 1e-5, event));
                index += 1;
            }
        }
        script
    }

    /// Sender reports from `first` seconds after the start, each second.
    pub fn reports(&self, first: f64, until: f64) -> Script {
        let mut script = Vec::new();
        let mut at = first;
        while at < until {
            let ntp = ((NTP + self.start + at) * 4_294_967_296.0) as u64;
            let ticks = at * (1.0 + self.drift) * f64::from(self.codec.clock_rate());
            let rtp = FIRST_RTP.wrapping_add(ticks as u32);
            let report = Event::Report { track: self.codec.track(), source: self.source, ntp, rtp };
            script.push((self.start + at + self.delay.min(0.02), report));
            at += 1.0;
        }
        script
    }
}

pub fn config() -> Config {
    Config { segment_duration: Duration::from_secs(2), ..Config::default() }
}

pub fn description() -> Description {
    Description {
        id: "r1".into(),
        stream: None,
        room: "demo".into(),
        publisher: "camera".into(),
        started_at: "2026-05-06T07:08:09Z".parse().unwrap(),
    }
}

/// Plays the script to its end and finishes; outputs go to `carry_out` as they come, with their time.
pub fn play(config: Config, expected: Tracks, script: Script, carry_out: impl FnMut(f64, Output)) -> Recording {
    play_in_turns(config, expected, script, f64::INFINITY, carry_out)
}

/// Plays the script; another recording continues each `every` seconds, with the ids r2, r3 and so on.
pub fn play_in_turns(
    config: Config,
    expected: Tracks,
    script: Script,
    every: f64,
    mut carry_out: impl FnMut(f64, Output),
) -> Recording {
    let start = Instant::now();
    let mut recording = Recording::new(start, config, description(), expected);
    let mut turn = 1;
    let mut schedule = |recording: &mut Recording| {
        if every.is_finite() {
            let at = start + Duration::from_secs_f64(every * f64::from(turn));
            turn += 1;
            let clock = (start, description().started_at);
            recording.continue_at(Continuation { id: format!("r{turn}"), at, clock });
        }
    };
    schedule(&mut recording);
    let mut script = script;
    script.sort_by(|a, b| a.0.total_cmp(&b.0));
    let seconds = |at: Instant| (at - start).as_secs_f64();
    let mut now = start;
    for (at, event) in script {
        let next = start + Duration::from_secs_f64(at);
        while let Some(due) = recording.poll_timeout().filter(|due| *due < next) {
            now = now.max(due);
            recording.handle_timeout(now);
            assert!(recording.poll_timeout().is_none_or(|again| again > now), "a timeout is dealt with at its time");
            while let Some(output) = recording.poll_output() {
                carry_out(seconds(now), output);
            }
        }
        now = next;
        match event {
            Event::Packet { codec, source, index, timestamp, marker, payload } => {
                recording.handle_rtp(now, Packet { codec, source, index, timestamp, marker, payload: &payload });
            }
            Event::Report { track, source, ntp, rtp } => recording.handle_sender_report(now, track, source, ntp, rtp),
            Event::SourceEnd => recording.handle_source_end(now),
        }
        while let Some(output) = recording.poll_output() {
            if matches!(output, Output::Continue { .. }) {
                schedule(&mut recording);
            }
            carry_out(seconds(now), output);
        }
    }
    recording.finish(now);
    let mut last = None;
    while let Some(output) = recording.poll_output() {
        carry_out(seconds(now), output.clone());
        last = Some(output);
    }
    assert_eq!(last, Some(Output::Finished));
    recording
}

/// A stream as ffprobe sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    pub codec: String,
    pub frames: u64,
    pub start: f64,
    pub duration: f64,
}

fn run(program: &str, arguments: &[&str], path: &Path) -> String {
    let (before, after) = arguments.split_at(arguments.iter().position(|a| *a == "@").unwrap());
    let output = Command::new(program)
        .args(before)
        .arg(path)
        .args(&after[1..])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("ffmpeg is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.trim().is_empty(), "{program} {}: {errors}", path.display());
    String::from_utf8(output.stdout).unwrap()
}

/// Decodes everything; video first.
pub fn probe(path: &Path) -> Vec<Stream> {
    let arguments =
        ["-v", "error", "-count_frames", "-show_entries", "stream=codec_name,nb_read_frames", "-of", "json"];
    let json = run("ffprobe", &[&arguments[..], &["@"]].concat(), path);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mut streams = Vec::new();
    for (number, stream) in json["streams"].as_array().unwrap().iter().enumerate() {
        let times = packet_times(path, number);
        let start = times.iter().map(|(pts, _)| *pts).fold(f64::INFINITY, f64::min);
        let end = times.iter().map(|(pts, duration)| pts + duration).fold(0.0, f64::max);
        streams.push(Stream {
            codec: stream["codec_name"].as_str().unwrap().to_owned(),
            frames: stream["nb_read_frames"].as_str().map_or(0, |count| count.parse().unwrap()),
            start,
            duration: end - start,
        });
    }
    streams
}

/// Returns the presentation times in seconds of the audio packets that are no silence of ours, which has 2 or 3 bytes.
pub fn sound_times(path: &Path, stream: usize) -> Vec<f64> {
    let stream = stream.to_string();
    let shown =
        ["-v", "error", "-select_streams", &stream, "-show_entries", "packet=pts_time,size", "-of", "csv=p=0", "@"];
    let packets = run("ffprobe", &shown, path);
    let packets = packets.lines().filter_map(|line| line.split_once(','));
    let sound = packets.filter(|(_, size)| size.trim_end_matches(',').parse::<u32>().unwrap() > 3);
    sound.map(|(at, _)| at.parse().unwrap()).collect()
}

/// Presentation times and durations, seconds, in the file's order.
pub fn packet_times(path: &Path, stream: usize) -> Vec<(f64, f64)> {
    let stream = stream.to_string();
    let arguments = [
        "-v",
        "error",
        "-select_streams",
        &stream,
        "-show_entries",
        "packet=pts_time,duration_time",
        "-of",
        "csv=p=0",
        "@",
    ];
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0.0);
    run("ffprobe", &arguments, path)
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut fields = line.split(',');
            (number(fields.next()), number(fields.next()))
        })
        .collect()
}

/// Returns (decoding time, duration) in seconds of the samples in a segment with one track, as its `tfdt` and `trun`
/// boxes state them (ISO/IEC 14496-12 §8.8).
pub fn fragment_times(segment: &[u8], rate: f64) -> Vec<(f64, f64)> {
    let number = |at: usize| u32::from_be_bytes(segment[at..at + 4].try_into().unwrap()) as usize;
    let (mut at, mut dts, mut samples) = (0, 0, Vec::new());
    while at < segment.len() {
        let size = number(at);
        match &segment[at + 4..at + 8] {
            // The boxes in it follow.
            b"moof" | b"traf" => {
                at += 8;
                continue;
            }
            b"tfdt" => dts = (number(at + 12) << 32) + number(at + 16),
            b"trun" => {
                let flags = number(at + 8) & 0x00ff_ffff;
                assert_eq!(flags & 0x0105, 0x0101, "with offset and durations");
                let fields = (flags >> 8 & 0xf).count_ones() as usize;
                for sample in 0..number(at + 12) {
                    let duration = number(at + 20 + sample * fields * 4);
                    samples.push((dts as f64 / rate, duration as f64 / rate));
                    dts += duration;
                }
            }
            _ => {}
        }
        at += size;
    }
    samples
}

/// Decodes everything and fails at the first complaint.
pub fn decodes(path: &Path) {
    run("ffmpeg", &["-v", "error", "-xerror", "-i", "@", "-f", "null", "-"], path);
}

/// An MP4 of the init segment and one media segment.
pub fn standalone(folder: &Path, init: u32, segment: u32) -> std::path::PathBuf {
    let mut bytes = std::fs::read(folder.join(File::Init(init).to_string())).unwrap();
    bytes.extend(std::fs::read(folder.join(File::Segment(segment).to_string())).unwrap());
    let path = folder.join(format!("standalone-{segment}.mp4"));
    std::fs::write(&path, bytes).unwrap();
    path
}
