//! For any media clocks of a camera, the recording has the real duration, and audio and video stay together or a gap is
//! marked.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    clock::seconds,
    mp4::{part, timescale},
    types::{Codec, File},
};

const KEY: &[u8] = &[0x10, 0x50, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 1, 2];
const INTER: &[u8] = &[0x10, 0x31, 0x00, 0x00, 9];
const BOTH: Tracks = Tracks { audio: true, video: true };
/// Bytes of the first sample of a track: each one is a byte longer, and so is known by its size.
const SMALLEST: usize = 20;

/// Behaviour of a media clock.
#[derive(Clone, Copy, Debug)]
enum Media {
    Exact,
    /// The second at which it jumps, and by how many.
    Jump(f64, f64),
    /// From this second on nothing is sent for this long, and the clock stops.
    Idle(f64, f64),
    /// It runs at this rate.
    Drift(f64),
    Constant,
}

impl Media {
    /// Media seconds at second `at`; none while nothing is sent.
    fn at(self, at: f64) -> Option<f64> {
        match self {
            Media::Exact => Some(at),
            Media::Jump(when, by) => Some(if at < when { at } else { at + by }),
            Media::Idle(when, lasts) if at >= when && at < when + lasts => None,
            Media::Idle(when, lasts) => Some(if at < when { at } else { at - lasts }),
            Media::Drift(rate) => Some(at * rate),
            Media::Constant => Some(0.0),
        }
    }
}

/// A track of a camera.
#[derive(Clone, Copy, Debug)]
struct Camera {
    media: Media,
    /// Frames a second.
    rate: f64,
    /// Seconds between sender reports, if there are any.
    reports: Option<f64>,
}

#[derive(Debug)]
enum Event {
    Packet(Codec, u64, u32, Vec<u8>),
    Report(Track, u64, u32),
}

fn events(camera: Camera, codec: Codec, length: f64) -> Vec<(f64, Event)> {
    let hertz = f64::from(codec.clock_rate());
    let rtp = |media: f64| (4_294_000_000.0 + media * hertz).rem_euclid(4_294_967_296.0) as u32;
    let mut events = Vec::new();
    let mut index = 0;
    for frame in 0..(length * camera.rate) as usize {
        let at = frame as f64 / camera.rate;
        let Some(media) = camera.media.at(at) else { continue };
        let mut payload = match codec {
            Codec::Opus => vec![0xfc],
            _ if frame % 25 == 0 => KEY.to_vec(),
            _ => INTER.to_vec(),
        };
        payload.resize(SMALLEST + frame + usize::from(codec != Codec::Opus), 7);
        // A little jitter, the same on every run.
        let arrival = at + (frame * 7 % 5) as f64 / 1000.0;
        events.push((arrival, Event::Packet(codec, index, rtp(media), payload)));
        index += 1;
    }
    if let Some(interval) = camera.reports {
        for n in 0..(length / interval) as usize {
            let at = 0.3 + n as f64 * interval;
            let Some(media) = camera.media.at(at) else { continue };
            let ntp = ((3_900_000_000.0 + at) * 4_294_967_296.0) as u64;
            events.push((at, Event::Report(codec.track(), ntp, rtp(media))));
        }
    }
    events
}

/// The recording's samples and gaps.
struct Recorded {
    /// Of each track: (second it was sent at, second of the timeline), in order.
    samples: [Vec<(f64, f64)>; 2],
    end: f64,
    gaps: Vec<Gap>,
    /// Track, from, to: where no sample is, although others of the track follow.
    holes: Vec<(Track, f64, f64)>,
}

fn play(video: Camera, audio: Camera, length: f64) -> Recorded {
    play_delayed(video, audio, length, |at, _| at)
}

/// `arrival`: of the packets sent at a second, the number of the packet among all.
fn play_delayed(video: Camera, audio: Camera, length: f64, arrival: impl Fn(f64, usize) -> f64) -> Recorded {
    let start = Instant::now();
    let mut recording = Recording::new(start, Config::default(), super::tests::description(), BOTH);
    let mut files: BTreeMap<File, Vec<u8>> = BTreeMap::new();
    let mut all = events(video, Codec::Vp8, length);
    all.extend(events(audio, Codec::Opus, length));
    all.iter_mut().enumerate().for_each(|(n, (at, _))| *at = arrival(*at, n));
    all.sort_by(|(at, _), (other, _)| at.total_cmp(other));
    let mut take = |recording: &mut Recording| {
        while let Some(output) = recording.poll_output() {
            if let Output::Append { file: file @ File::Segment(_), bytes } = output {
                files.entry(file).or_default().extend(bytes);
            }
        }
    };
    for (at, event) in all {
        let now = start + Duration::from_secs_f64(at);
        while let Some(due) = recording.poll_timeout().filter(|due| *due <= now) {
            recording.handle_timeout(due);
        }
        match event {
            Event::Packet(codec, index, timestamp, payload) => {
                let packet = Packet { codec, source: 1, index, timestamp, marker: true, payload: &payload };
                recording.handle_rtp(now, packet);
            }
            Event::Report(track, ntp, rtp) => recording.handle_sender_report(now, track, 1, ntp, rtp),
        }
        take(&mut recording);
    }
    recording.finish(start + Duration::from_secs_f64(length));
    take(&mut recording);
    let gaps = recording.untold_gaps().to_vec();
    let mut recorded = Recorded { samples: Default::default(), end: 0.0, gaps, holes: Vec::new() };
    let mut ends = BTreeMap::new();
    for bytes in files.values() {
        let mut rest = &bytes[part::styp().len()..];
        while let Some(part) = part::decode(rest) {
            rest = &rest[part.len as usize..];
            recorded.gaps.extend(part.info.gaps);
            for run in part.runs {
                let rate = timescale(run.track);
                let mut dts = run.dts;
                if let Some(end) = ends.insert(run.track, run.end()).filter(|end| *end != dts) {
                    recorded.holes.push((run.track, seconds(end, rate), seconds(dts, rate)));
                }
                for sample in &run.samples {
                    let frames = if run.track == Track::Video { video.rate } else { audio.rate };
                    // Silence that was filled in is smaller.
                    if let Some(frame) = (sample.size as usize).checked_sub(SMALLEST) {
                        recorded.samples[slot(run.track)].push((frame as f64 / frames, seconds(dts, rate)));
                    }
                    dts += i64::from(sample.duration);
                }
                recorded.end = recorded.end.max(seconds(dts, rate));
            }
        }
    }
    recorded
}

impl Recorded {
    /// Second of the timeline of a track's packets sent at this second.
    fn place(&self, track: Track, sent: f64) -> Option<f64> {
        let samples = &self.samples[slot(track)];
        samples.iter().find(|(at, _)| (at - sent).abs() < 0.03).map(|(at, place)| place + sent - at)
    }

    /// Returns the holes that are not at the end of a gap.
    fn unmarked_holes(&self) -> Vec<(Track, f64, f64)> {
        let is_marked = |(track, from, to): &(Track, f64, f64)| {
            let near = |gap: &&Gap| gap.track == *track && gap.from < from + 0.001 && (gap.to - to).abs() < 0.001;
            from < to && self.gaps.iter().any(|gap| near(&gap))
        };
        self.holes.iter().filter(|hole| !is_marked(hole)).copied().collect()
    }

    /// Seconds that were sent at, and how far apart audio and video are, where that is more than 200 ms and no gap is near.
    fn apart(&self) -> Vec<(f64, f64)> {
        let both = self.samples[VIDEO].iter().filter_map(|(sent, place)| {
            let sound = self.place(Track::Audio, *sent)?;
            Some((*sent, *place, place - sound))
        });
        let told = |place: f64| self.gaps.iter().any(|gap| place > gap.from - 2.5 && place < gap.to + 4.0);
        both.filter(|(_, place, apart)| apart.abs() > 0.2 && !told(*place))
            .map(|(sent, _, apart)| (sent, apart))
            .collect()
    }
}

const SOUND: Camera = Camera { media: Media::Exact, rate: 50.0, reports: None };

#[test]
fn video_clock_jump_stays_in_step() {
    for reports in [None, Some(1.0), Some(5.0)] {
        let video = Camera { media: Media::Jump(6.0, 6.0), rate: 25.0, reports };
        let recorded = play(video, Camera { reports, ..SOUND }, 20.0);
        assert!((recorded.end - 20.0).abs() < 0.4, "{reports:?}: {}", recorded.end);
        assert!(!recorded.gaps.is_empty() && recorded.gaps.iter().all(|gap| (gap.from - 6.0).abs() < 0.2));
        let late = recorded.place(Track::Video, 19.0).unwrap() - recorded.place(Track::Audio, 19.0).unwrap();
        assert!(late.abs() < 0.2, "{reports:?}: {late}");
    }
}

#[test]
fn wrong_frame_rate_stays_in_step_without_gap() {
    for reports in [None, Some(5.0)] {
        for stamped in [25.0 / 21.0, 21.0 / 25.0, 1.25, 0.75] {
            let video = Camera { media: Media::Drift(1.0 / stamped), rate: 21.0, reports };
            let recorded = play(video, Camera { reports, ..SOUND }, 75.0);
            assert!((recorded.end - 75.0).abs() < 1.5, "{reports:?}, {stamped}: {}", recorded.end);
            assert!(recorded.gaps.is_empty(), "{reports:?}, {stamped}: {:?}", recorded.gaps);
            assert_eq!(recorded.apart(), [], "{reports:?}, {stamped}");
            assert_eq!(recorded.samples[VIDEO].len(), 75 * 21);
        }
    }
}

#[test]
fn constant_timestamps_are_recorded_by_arrival() {
    let video = Camera { media: Media::Constant, rate: 25.0, reports: None };
    let recorded = play(video, SOUND, 20.0);
    assert!((recorded.end - 20.0).abs() < 0.4, "{}", recorded.end);
    assert_eq!((recorded.apart(), recorded.samples[VIDEO].len()), (vec![], 500));
    assert!(recorded.gaps.is_empty(), "{:?}", recorded.gaps);
}

#[test]
fn first_picture_is_waited_for_up_to_five_seconds() {
    for (first, inits) in [(3.0, 1), (7.0, 2)] {
        let start = Instant::now();
        let mut recording = Recording::new(start, Config::default(), super::tests::description(), BOTH);
        let video = Camera { media: Media::Exact, rate: 25.0, reports: None };
        let mut all = events(SOUND, Codec::Opus, 10.0);
        all.extend(events(video, Codec::Vp8, 10.0 - first).into_iter().map(|(at, event)| (at + first, event)));
        all.sort_by(|(at, _), (other, _)| at.total_cmp(other));
        for (at, event) in all {
            let now = start + Duration::from_secs_f64(at);
            recording.handle_timeout(now);
            if let Event::Packet(codec, index, timestamp, payload) = event {
                let packet = Packet { codec, source: 1, index, timestamp, marker: true, payload: &payload };
                recording.handle_rtp(now, packet);
            }
        }
        recording.finish(start + Duration::from_secs(10));
        let outputs: Vec<Output> = std::iter::from_fn(|| recording.poll_output()).collect();
        let made = outputs.iter().filter(|output| matches!(output, Output::Replace { file: File::Init(_), .. }));
        assert_eq!(made.count(), inits, "first picture at {first} s");
    }
}

fn media() -> impl Strategy<Value = Media> {
    prop_oneof![
        Just(Media::Exact),
        (2.0..50.0f64, -8.0..8.0f64).prop_map(|(when, by)| Media::Jump(when, by)),
        (2.0..50.0f64, 0.5..8.0f64).prop_map(|(when, lasts)| Media::Idle(when, lasts)),
        (0.75..1.25f64).prop_map(Media::Drift),
        Just(Media::Constant),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn jitter_and_stalls_leave_no_trace(
        delays in prop::collection::vec(0.0..0.15f64, 97),
        stalls in prop::collection::vec((2.0..5.0f64, 0.1..4.0f64), 0..3),
        reports in prop::option::of(1.0..5.0f64),
    ) {
        let video = Camera { media: Media::Exact, rate: 25.0, reports };
        let recorded = play_delayed(video, Camera { reports, ..SOUND }, 30.0, |at, n| {
            // Of the very first packets, one that is overtaken by 100 ms is not waited for.
            let late = at + if at < 0.3 { 0.0 } else { delays[n % delays.len()] };
            let stalls = stalls.iter().enumerate().map(|(n, (from, lasts))| (from + 10.0 * n as f64, lasts));
            stalls.fold(late, |late, (from, lasts)| if at >= from { late.max(from + lasts) } else { late })
        });
        prop_assert!(recorded.gaps.is_empty(), "{:?}", recorded.gaps);
        prop_assert_eq!((recorded.samples[VIDEO].len(), recorded.samples[AUDIO].len()), (750, 1500));
        prop_assert!((recorded.end - 30.0).abs() <= 0.2, "lasts {} s", recorded.end);
        prop_assert_eq!(recorded.holes.len(), 0, "{:?}", recorded.holes);
        prop_assert!(recorded.apart().is_empty(), "{:?}", recorded.apart());
    }

    #[test]
    fn any_clock_is_real_time_or_a_marked_gap(
        picture in media(),
        sound in media(),
        rate in prop_oneof![Just(25.0), Just(10.0), Just(30.0)],
        reports in prop::option::of(1.0..5.0f64),
        silent in any::<bool>(),
    ) {
        let video = Camera { media: picture, rate, reports };
        let audio = Camera { media: sound, rate: 50.0, reports: reports.filter(|_| !silent) };
        let recorded = play(video, audio, 80.0);
        prop_assert!((recorded.end - 80.0).abs() <= 1.6, "lasts {} s: {:#?}", recorded.end, recorded.gaps);
        let apart = recorded.apart();
        prop_assert!(apart.is_empty(), "apart at {:?}: {:#?}", apart, recorded.gaps);
        let holes = recorded.unmarked_holes();
        prop_assert!(holes.is_empty(), "holes {:?}: {:#?}", holes, recorded.gaps);
    }
}

/// Records 5 s of frames 40 ms apart. A sender report names `ntp` seconds at media time 0. Returns the dates of the parts.
fn dates(ntp: f64) -> Vec<f64> {
    let start = Instant::now();
    let started_at = jiff::Timestamp::from_second(1_700_000_000).unwrap();
    let description = crate::types::Description { started_at, ..super::tests::description() };
    let mut recording = Recording::new(start, Config::default(), description, Tracks { audio: false, video: true });
    let mut found = Vec::new();
    for frame in 0..125u64 {
        let now = start + Duration::from_millis(500 + frame * 40);
        let payload = if frame % 25 == 0 { KEY } else { INTER };
        let timestamp = frame as u32 * 3600;
        recording
            .handle_rtp(now, Packet { codec: Codec::Vp8, source: 1, index: frame, timestamp, marker: true, payload });
        if frame == 2 {
            recording.handle_sender_report(now, Track::Video, 1, (ntp * 4_294_967_296.0) as u64, 0);
        }
        while let Some(output) = recording.poll_output() {
            if let Output::Append { file: File::Segment(_), bytes } = output
                && let Some(read) = part::decode(&bytes)
            {
                found.push(read.info.at.as_nanosecond() as f64 / 1e9 - 1_700_000_000.0);
            }
        }
    }
    found
}

#[test]
fn part_dates_are_as_far_apart_as_the_media() {
    let dates = dates(0.0);
    assert!(dates.len() >= 4, "{dates:?}");
    assert!((dates[0] - 0.5).abs() < 1e-6, "by arrival: {dates:?}");
    dates.windows(2).for_each(|pair| assert!((pair[1] - pair[0] - 0.48).abs() < 1e-6, "parts of 12 frames: {dates:?}"));
}

#[test]
fn synchronized_source_dates_its_media() {
    const UNIX_IN_NTP: f64 = 2_208_988_800.0 + 1_700_000_000.0;
    // Sent at 0.2 s, arrived at 0.5 s.
    let right = dates(UNIX_IN_NTP + 0.2);
    assert!((right[0] - 0.2).abs() < 1e-3, "{right:?}");
    for wrong in [-60.0, -3.0, 1.0, 3600.0] {
        let dates = dates(UNIX_IN_NTP + 0.5 + wrong);
        assert!((dates[0] - 0.5).abs() < 1e-6, "{wrong}: {dates:?}");
    }
}
