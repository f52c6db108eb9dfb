//! At any frame rate a sample lasts exactly until its successor, and parts follow each other without hole or overlap.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    mp4::{part, timescale},
    types::{Codec, File},
};

const KEY: &[u8] = &[0x10, 0x50, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 1, 2];
const INTER: &[u8] = &[0x10, 0x31, 0x00, 0x00, 9];
const SEGMENT: Duration = Duration::from_secs(2);

/// Milliseconds at which frames are captured, and arrive.
type Times = Vec<u64>;

/// The files of a recording.
#[derive(Default)]
struct Written {
    files: BTreeMap<File, Vec<u8>>,
    gaps: Vec<Gap>,
}

impl Written {
    fn take(&mut self, recording: &mut Recording) {
        while let Some(output) = recording.poll_output() {
            match output {
                Output::Append { file, bytes } => self.files.entry(file).or_default().extend(bytes),
                Output::Replace { file, bytes } => drop(self.files.insert(file, bytes)),
                _ => {}
            }
        }
    }

    /// Reads the parts of each segment, and the gaps that they mark.
    fn segments(&mut self) -> Vec<Vec<part::Read>> {
        let segments = self.files.iter().filter(|(file, _)| matches!(file, File::Segment(_)));
        let read = |bytes: &[u8]| {
            let mut rest = &bytes[part::styp().len()..];
            let next = || {
                let part = part::decode(rest)?;
                rest = &rest[part.len as usize..];
                Some(part)
            };
            std::iter::from_fn(next).collect::<Vec<_>>()
        };
        let segments: Vec<_> = segments.map(|(_, bytes)| read(bytes)).collect();
        self.gaps = segments.iter().flatten().flat_map(|part| part.info.gaps.clone()).collect();
        segments
    }

    /// Returns decoding time, presentation time and duration of a track's samples in ticks, by parts.
    fn samples(&mut self, track: Track) -> Vec<Vec<(i64, i64, u32)>> {
        let samples = |run: &part::Run| {
            let mut dts = run.dts;
            let place = |sample: &part::RunSample| {
                let at = dts;
                dts += i64::from(sample.duration);
                (at, at + i64::from(sample.cts), sample.duration)
            };
            run.samples.iter().map(place).collect()
        };
        let parts = self.segments().into_iter().flatten();
        parts.flat_map(|part| part.runs).filter(|run| run.track == track).map(|run| samples(&run)).collect()
    }

    /// Returns (decoding time, duration) of a track's samples in ticks, by parts.
    fn parts(&mut self, track: Track) -> Vec<Vec<(i64, u32)>> {
        let parts = self.samples(track).into_iter();
        parts.map(|part| part.into_iter().map(|(dts, _, duration)| (dts, duration)).collect()).collect()
    }

    /// Returns the times of decoding and presentation of the pictures, in ticks; `gaps` has the marked gaps then.
    fn times_around_gaps(&mut self) -> Vec<(i64, i64)> {
        self.samples(Track::Video).concat().into_iter().map(|(dts, pts, _)| (dts, pts)).collect()
    }

    /// Returns the times of decoding and presentation of the pictures, in ticks. No gap may be marked.
    fn video_times(&mut self) -> Vec<(i64, i64)> {
        let times = self.times_around_gaps();
        assert!(self.gaps.is_empty(), "{:?}", self.gaps);
        times
    }

    /// Returns the seconds that the playlist's segments last.
    fn listed(&self) -> Vec<f64> {
        let text = String::from_utf8(self.files[&File::Playlist].clone()).unwrap();
        let seconds = |line: &str| line.strip_prefix("#EXTINF:")?.strip_suffix(',')?.parse::<f64>().ok();
        text.lines().filter_map(seconds).collect()
    }

    /// Returns where the video of each segment starts, in ticks, if it has any.
    fn segment_starts(&mut self) -> Vec<Option<i64>> {
        let start = |parts: Vec<part::Read>| {
            parts.into_iter().flat_map(|part| part.runs).find(|run| run.track == Track::Video).map(|run| run.dts)
        };
        self.segments().into_iter().map(start).collect()
    }
}

/// Records video frames, every `key_every`th a keyframe, and audio packets of 20 ms; up to the end or a crash.
fn record(video: &Times, audio: &Times, key_every: usize, crash: Option<u64>) -> Written {
    let start = Instant::now();
    let config = Config { segment_duration: SEGMENT, ..Config::default() };
    let tracks = Tracks { audio: !audio.is_empty(), video: true };
    let mut recording = Recording::new(start, config, super::tests::description(), tracks);
    let mut written = Written::default();
    let mut sent: Vec<(u64, Codec, usize)> = Vec::new();
    sent.extend(video.iter().enumerate().map(|(n, at)| (*at, Codec::Vp8, n)));
    sent.extend(audio.iter().enumerate().map(|(n, at)| (*at, Codec::Opus, n)));
    sent.sort_by_key(|(at, ..)| *at);
    let mut now = start;
    for (at, codec, n) in sent.into_iter().filter(|(at, ..)| crash.is_none_or(|crash| *at <= crash)) {
        now = start + Duration::from_millis(at);
        while let Some(due) = recording.poll_timeout().filter(|due| *due <= now) {
            recording.handle_timeout(due);
            written.take(&mut recording);
        }
        let payload = match codec {
            Codec::Opus => &[0xfc, 1, 2],
            _ if n % key_every == 0 => KEY,
            _ => INTER,
        };
        let timestamp = u32::MAX.wrapping_add((at * u64::from(codec.clock_rate()) / 1000) as u32);
        recording.handle_rtp(now, Packet { codec, source: 1, index: n as u64, timestamp, marker: true, payload });
        written.take(&mut recording);
    }
    match crash {
        None => recording.finish(now),
        Some(crash) => {
            while let Some(due) = recording.poll_timeout().filter(|due| *due <= start + Duration::from_millis(crash)) {
                recording.handle_timeout(due);
            }
        }
    }
    written.take(&mut recording);
    written
}

/// Returns each frame's distance to the next one in ticks; the last frame has the distance before it.
fn distances(times: &Times, rate: u32) -> Vec<u32> {
    let distance = |pair: &[u64]| ((pair[1] - pair[0]) * u64::from(rate) / 1000) as u32;
    let mut distances: Vec<u32> = times.windows(2).map(distance).collect();
    distances.extend(distances.last().copied());
    distances
}

fn assert_exact(video: &Times, audio: &Times, key_every: usize) {
    let mut written = record(video, audio, key_every, None);
    let parts = written.parts(Track::Video);
    let durations: Vec<u32> = parts.iter().flatten().map(|(_, duration)| *duration).collect();
    assert_eq!(durations, distances(video, 90_000));
    let mut tracks = vec![(Track::Video, parts)];
    if !audio.is_empty() {
        tracks.push((Track::Audio, written.parts(Track::Audio)));
    }
    for (track, parts) in tracks {
        let end = |part: &[(i64, u32)]| part.last().map_or(0, |(dts, duration)| dts + i64::from(*duration));
        for pair in parts.windows(2) {
            assert_eq!(end(&pair[0]), pair[1][0].0, "{track:?}: a part starts where the one before ends");
        }
    }
    let (listed, starts) = (written.listed(), written.segment_starts());
    assert_eq!(listed.len(), starts.len());
    for (duration, pair) in listed.iter().zip(starts.windows(2)) {
        let [Some(start), Some(next)] = pair else { continue };
        assert!((duration - seconds(next - start)).abs() < 1e-5, "{duration} s are listed from {start} to {next}");
    }
    assert!(written.gaps.is_empty(), "{:?}", written.gaps);
}

fn seconds(ticks: i64) -> f64 {
    ticks as f64 / f64::from(timescale(Track::Video))
}

fn every(interval: u64, until: u64) -> Times {
    (0..until / interval).map(|n| n * interval).collect()
}

/// Packets of 20 ms that start with no frame.
fn packets(until: u64) -> Times {
    (0..until / 20).map(|n| n * 20 + 7).collect()
}

/// 30 frames a second, with a second of pause after each 50 frames.
fn with_pauses(count: u64) -> Times {
    (0..count).map(|n| n * 33 + n / 50 * 1000).collect()
}

#[test]
fn one_frame_per_second_lasts_a_second_each() {
    for key_every in [1, 5, 100] {
        assert_exact(&every(1000, 30_000), &vec![], key_every);
        assert_exact(&every(1000, 30_000), &packets(30_000), key_every);
    }
}

#[test]
fn five_frames_per_second_last_200_ms_each() {
    assert_exact(&every(200, 20_000), &vec![], 10);
    assert_exact(&every(200, 20_000), &packets(20_000), 10);
}

#[test]
fn frame_before_a_pause_lasts_through_it() {
    assert_exact(&with_pauses(400), &vec![], 60);
    assert_exact(&with_pauses(400), &packets(20_000), 60);
}

#[test]
fn audio_pause_is_filled_without_hole() {
    let audio: Times = packets(20_000).into_iter().filter(|at| at % 3000 < 1700).collect();
    assert_exact(&every(40, 20_000), &audio, 25);
    // A pause that is no multiple of the shortest silence.
    let audio: Times = (0..500).map(|n| n * 20 + n / 100 * 701).collect();
    assert_exact(&every(40, 14_000), &audio, 25);
}

#[test]
fn crash_costs_low_rates_the_newest_frame() {
    let video = every(1000, 12_000);
    for until in (1500..12_000).step_by(100) {
        let mut written = record(&video, &packets(12_000), 1, Some(until));
        let kept = written.parts(Track::Video).concat().len() as u64;
        // All but the newest one of those that have arrived.
        assert_eq!(kept, until / 1000, "at {until} ms");
        let audio = written.parts(Track::Audio).concat();
        let (last, duration) = audio[audio.len() - 1];
        let end = (last + i64::from(duration)) as u64 / 48;
        assert!(end + 1000 >= until, "audio ends at {end} ms of {until}");
    }
}

#[test]
fn camera_silent_for_longer_is_a_gap() {
    let mut video = every(1000, 5000);
    video.extend((0..5).map(|n| 20_000 + n * 1000));
    let mut written = record(&video, &vec![], 1, None);
    let samples = written.parts(Track::Video).concat();
    assert!(samples.iter().all(|(_, duration)| *duration == 90_000), "{samples:?}");
    assert_eq!(samples.len(), 10);
    let gaps: Vec<_> = written.gaps.iter().map(|gap| (gap.from, gap.to, gap.reason)).collect();
    assert_eq!(gaps, [(5.0, 20.0, GapReason::Source)]);
    // Nor does the playlist last through the pause.
    assert!((written.listed().iter().sum::<f64>() - 10.0).abs() < 0.01, "{:?}", written.listed());
}

#[test]
fn next_source_ends_the_last_frame() {
    let start = Instant::now();
    let config = Config { segment_duration: SEGMENT, ..Config::default() };
    let tracks = Tracks { audio: false, video: true };
    let mut recording = Recording::new(start, config, super::tests::description(), tracks);
    let mut written = Written::default();
    for (n, at) in [0, 1000, 2000, 2300, 3300, 4300].into_iter().enumerate() {
        let now = start + Duration::from_millis(at);
        while let Some(due) = recording.poll_timeout().filter(|due| *due <= now) {
            recording.handle_timeout(due);
        }
        let source = if n < 3 { 1 } else { 2 };
        let timestamp = source as u32 * 77_777 + at as u32 * 90;
        let packet = Packet { codec: Codec::Vp8, source, index: n as u64, timestamp, marker: true, payload: KEY };
        recording.handle_rtp(now, packet);
    }
    recording.finish(start + Duration::from_secs(5));
    written.take(&mut recording);
    let samples = written.parts(Track::Video).concat();
    let durations: Vec<u32> = samples.iter().map(|(_, duration)| duration / 90).collect();
    assert_eq!(durations, [1000, 1000, 300, 1000, 1000, 1000]);
    assert_eq!(samples[3].0, 2300 * 90);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn variable_rate_is_exact(
        distances in prop::collection::vec(20u64..900, 2..60),
        key_every in 1usize..20,
        with_audio in any::<bool>(),
    ) {
        let mut at = 0;
        let later = distances.iter().map(|distance| { at += distance; at });
        let video: Times = [0].into_iter().chain(later).collect();
        let audio = if with_audio { packets(video[video.len() - 1]) } else { vec![] };
        assert_exact(&video, &audio, key_every);
    }
}

/// A codec with the payloads of its frames.
struct Coding {
    codec: Codec,
    key: Vec<u8>,
    inter: Vec<u8>,
}

/// Nothing in it states an order.
fn vp8() -> Coding {
    Coding { codec: Codec::Vp8, key: KEY.to_vec(), inter: INTER.to_vec() }
}

/// H264 with a sequence parameter set that states reordering by one frame.
fn h264_reordered() -> Coding {
    let sps = [
        0x67, 0x4d, 0x40, 0x0b, 0xe8, 0x80, 0xa0, 0xfd, 0x80, 0x88, 0, 0, 3, 0, 8, 0, 0, 3, 0, 0x50, 0x78, 0xa1, 0x48,
        0x90,
    ];
    let units = [&sps[..], &[0x68, 0xeb, 0xe3, 0xcb, 0x20], &[0x65, 0x88, 0x84, 1]];
    let aggregated = units.iter().flat_map(|unit| [&[0, unit.len() as u8], *unit].concat());
    let key = [0x78].into_iter().chain(aggregated).collect();
    Coding { codec: Codec::H264, key, inter: vec![0x41, 0x9a, 1] }
}

/// Records 10 s: one frame, then groups with this order of presentation. Returns the times of decoding and presentation
/// of all samples, in ticks.
fn record_reordered(coding: &Coding, frames_per_second: u64, group: &[i64]) -> Vec<(i64, i64)> {
    record_reordered_at(coding, frames_per_second, group, |place| place * 90_000 / frames_per_second as i64)
        .video_times()
}

/// Records as [`record_reordered`], with the timestamp that `time` returns for each place in the order of presentation.
fn record_reordered_at(coding: &Coding, frames_per_second: u64, group: &[i64], time: impl Fn(i64) -> i64) -> Written {
    let start = Instant::now();
    let config = Config { segment_duration: SEGMENT, ..Config::default() };
    let mut recording =
        Recording::new(start, config, super::tests::description(), Tracks { audio: false, video: true });
    let mut written = Written::default();
    let mut shown: Vec<i64> = vec![0];
    while (shown.len() as u64) < 10 * frames_per_second {
        let base = shown.len() as i64;
        shown.extend(group.iter().map(|place| base + place));
    }
    for (n, place) in shown.iter().enumerate() {
        let now = start + Duration::from_millis(n as u64 * 1000 / frames_per_second);
        while let Some(due) = recording.poll_timeout().filter(|due| *due <= now) {
            recording.handle_timeout(due);
            written.take(&mut recording);
        }
        let payload = if n % (group.len() * 6) == 0 { &coding.key } else { &coding.inter };
        let timestamp = time(*place) as u32;
        recording.handle_rtp(
            now,
            Packet { codec: coding.codec, source: 1, index: n as u64, timestamp, marker: true, payload },
        );
        written.take(&mut recording);
    }
    recording.finish(start + Duration::from_secs(10));
    written.take(&mut recording);
    written
}

#[test]
fn reordered_frames_keep_their_presentation() {
    // P B, P B B, and a pyramid of three B-frames.
    for group in [&[1, 0][..], &[2, 0, 1], &[3, 1, 0, 2]] {
        let samples = record_reordered(&vp8(), 25, group);
        let mut shown: Vec<i64> = samples.iter().map(|(_, pts)| *pts).collect();
        shown.sort_unstable();
        let expected: Vec<i64> = (0..shown.len() as i64).map(|n| n * 3600).collect();
        assert_eq!(shown, expected, "{group:?}");
        assert!(samples.len() >= 250);
        assert!(samples.iter().all(|(dts, pts)| dts <= pts), "{group:?}: shown before decoded: {samples:?}");
        assert!(samples.windows(2).all(|pair| pair[0].0 < pair[1].0), "{group:?}: {samples:?}");
        let even = samples.windows(2).skip(2 * group.len()).filter(|pair| pair[1].0 - pair[0].0 == 3600).count();
        assert!(even + 2 * group.len() + 2 >= samples.len(), "{group:?}: decoded at even times: {samples:?}");
    }
}

#[test]
fn clock_jump_among_reordered_frames_ends_at_keyframe() {
    // The P frame of a group is in the new time, and the B-frames behind it are in the old one.
    for by in [94_500, 180_000, 900_000, -108_000, -180_000, -900_000] {
        let first_of_new_time = 129;
        let time = |place: i64| place * 3600 + if place >= first_of_new_time { by } else { 0 };
        let mut recorded = record_reordered_at(&h264_reordered(), 25, &[2, 0, 1], time);
        let samples = recorded.times_around_gaps();
        assert!(recorded.gaps.iter().any(|gap| gap.reason == GapReason::Source), "{by}: {:?}", recorded.gaps);
        assert!(samples.windows(2).all(|pair| pair[0].0 < pair[1].0), "{by}: decoding times rise: {samples:?}");
        assert!(samples.iter().all(|(dts, pts)| dts <= pts), "{by}: shown before decoded: {samples:?}");
        let mut shown: Vec<i64> = samples.iter().map(|(_, pts)| *pts).collect();
        shown.sort_unstable();
        assert!(shown.windows(2).all(|pair| pair[0] < pair[1]), "{by}: shown at the same time: {samples:?}");
        // Some of a group of pictures of 18 is dropped on each side, and no more.
        assert!(samples.len() >= 250 - 2 * 18, "{by}: {} samples", samples.len());
    }
}

#[test]
fn stated_order_is_exact_at_a_low_rate() {
    // At 5 frames per second a part is written before the first B-frame arrives.
    for frames_per_second in [5, 25] {
        let samples = record_reordered(&h264_reordered(), frames_per_second, &[2, 0, 1]);
        let ticks = 90_000 / frames_per_second as i64;
        let mut shown: Vec<i64> = samples.iter().map(|(_, pts)| *pts).collect();
        shown.sort_unstable();
        let expected: Vec<i64> = (0..shown.len() as i64).map(|n| n * ticks).collect();
        assert_eq!(shown, expected);
        assert!(samples.iter().all(|(dts, pts)| dts <= pts), "shown before decoded: {samples:?}");
        let (first, rest) = samples.split_at(2);
        assert_eq!(first, [(0, 0), (1, 3 * ticks)]);
        assert!((1..).zip(rest).all(|(n, (dts, _))| *dts == n * ticks), "decoded at even times: {samples:?}");
    }
}

/// Records 8 s of H264 with two B-frames in a row that are captured at `times` (microseconds), and sent at the same
/// distances; with audio, and with sender reports from a second on. Returns the times of decoding and presentation of the
/// pictures, in ticks.
fn record_encoded(times: &[u64], key_every: usize, reports_from: u64) -> Vec<(i64, i64)> {
    enum Sent {
        Frame(u64, Vec<u8>),
        Sound,
        Report(Track),
    }
    let Coding { key, inter, .. } = h264_reordered();
    // The last group is complete.
    let frames = (times.len() - 1) / 3 * 3 + 1;
    let shown = |n: usize| if n == 0 { 0 } else { (n - 1) / 3 * 3 + [3, 1, 2][(n - 1) % 3] };
    let delay = (0..frames).map(|n| times[shown(n)].saturating_sub(times[n])).max().unwrap();
    // Microseconds at which things are sent.
    let mut sent: Vec<(u64, Sent)> = Vec::new();
    for n in 0..frames {
        let payload = if n % key_every == 0 { key.clone() } else { inter.clone() };
        sent.push((times[n] + delay, Sent::Frame(times[shown(n)], payload)));
    }
    sent.extend((0..400).map(|n| (n * 20_000, Sent::Sound)));
    for second in reports_from..8 {
        sent.push((second * 1_000_000 + 1, Sent::Report(Track::Audio)));
        sent.push((delay + second * 1_000_000 + 1, Sent::Report(Track::Video)));
    }
    sent.sort_by_key(|(at, _)| *at);

    let start = Instant::now();
    let config = Config { segment_duration: SEGMENT, ..Config::default() };
    let mut recording = Recording::new(start, config, super::tests::description(), Tracks { audio: true, video: true });
    let mut written = Written::default();
    let mut indices = [0, 0];
    for (microseconds, sent) in sent {
        let now = start + Duration::from_micros(microseconds);
        while let Some(due) = recording.poll_timeout().filter(|due| *due <= now) {
            recording.handle_timeout(due);
        }
        let mut send = |codec, index: &mut u64, timestamp, payload: &[u8]| {
            recording.handle_rtp(now, Packet { codec, source: 1, index: *index, timestamp, marker: true, payload });
            *index += 1;
        };
        match sent {
            Sent::Frame(shown, payload) => {
                send(Codec::H264, &mut indices[0], (shown * 90 / 1000) as u32, &payload);
            }
            Sent::Sound => send(Codec::Opus, &mut indices[1], (microseconds * 48 / 1000) as u32, &[0xf8, 0xff, 0xfe]),
            Sent::Report(track) => {
                let ntp = (1 << 32) + (u64::from(microseconds as u32) << 32) / 1_000_000;
                let rtp = microseconds * u64::from(timescale(track)) / 1_000_000;
                recording.handle_sender_report(now, track, 1, ntp, rtp as u32);
            }
        }
        written.take(&mut recording);
    }
    recording.finish(start + Duration::from_secs(9));
    written.take(&mut recording);
    written.video_times()
}

#[test]
fn reordering_delay_does_not_move_the_picture() {
    let steady = |interval: u64| -> Vec<u64> { (0..8_000_000 / interval).map(|n| n * interval).collect() };
    let distances = [33, 33, 100, 67, 250, 40, 17, 133].map(|milliseconds| milliseconds * 1000);
    let uneven = distances.iter().cycle().take(90).scan(0, |at, distance| {
        *at += distance;
        Some(*at - 33_000)
    });
    let uneven: Vec<u64> = uneven.collect();
    let cases = [
        (steady(200_000), 10, 0),
        (steady(200_000), 10, 1),
        (steady(40_000), 50, 0),
        (steady(40_000), 50, 1),
        (uneven, 30, 0),
    ];
    for (times, key_every, reports_from) in cases {
        let recorded = record_encoded(&times, key_every, reports_from);
        let mut shown: Vec<i64> = recorded.iter().map(|(_, pts)| *pts).collect();
        shown.sort_unstable();
        let expected: Vec<i64> = times.iter().take(shown.len()).map(|time| *time as i64 * 90 / 1000).collect();
        let apart = |times: &[i64]| -> Vec<i64> { times.windows(2).map(|pair| pair[1] - pair[0]).collect() };
        assert_eq!(apart(&shown), apart(&expected), "reports from {reports_from} s");
        assert!(shown[0].abs() < 90, "starts {} ticks after the audio", shown[0]);
        assert!(recorded.iter().all(|(dts, pts)| dts <= pts), "shown before decoded: {recorded:?}");
    }
}
