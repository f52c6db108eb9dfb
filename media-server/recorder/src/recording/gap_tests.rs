//! Whatever is lost, on the way or by the disk: it is in the files, or it is marked.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    clock::seconds,
    mp4::part,
    mp4::timescale,
    types::{Codec, File},
};

const KEY: &[u8] = &[0x10, 0x50, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 1, 2];
const INTER: &[u8] = &[0x10, 0x31, 0x00, 0x00, 9];
/// Each source sends for so long; the second one comes a second after the first one left.
const SECONDS: u64 = 5;

#[derive(Clone, Debug)]
struct Sent {
    at: u64,
    codec: Codec,
    source: u64,
    index: u64,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

/// VP8 at 30 frames a second in three packets each, a keyframe a second; Opus, 50 packets a second.
fn source(source: u64, begins: u64) -> Vec<Sent> {
    let mut sent = Vec::new();
    for frame in 0..SECONDS * 30 {
        let head = if frame % 30 == 0 { KEY } else { INTER };
        for (n, payload) in [head, &[0, 1], &[0, 2]].into_iter().enumerate() {
            let (at, index, marker) = (begins + frame * 1000 / 30, frame * 3 + n as u64, n == 2);
            let timestamp = ((source as u32) << 30) + frame as u32 * 3000;
            sent.push(Sent { at, codec: Codec::Vp8, source, index, timestamp, marker, payload: payload.to_vec() });
        }
    }
    for index in 0..SECONDS * 50 {
        let (at, timestamp, payload) = (begins + index * 20, index as u32 * 960, vec![0xfc, 1, 2]);
        sent.push(Sent { at, codec: Codec::Opus, source, index, timestamp, marker: false, payload });
    }
    sent.sort_by_key(|packet| packet.at);
    sent
}

/// What becomes of an output that fails.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing of it is on the disk; of a sync, nothing of what it was to sync.
    Nothing,
    /// The first half is.
    Half,
    /// All of it is, though it was said to have failed.
    All,
}

#[derive(Default)]
struct Disk {
    files: BTreeMap<File, Vec<u8>>,
    /// Length before the newest append.
    before: usize,
}

impl Disk {
    fn carry_out(&mut self, recording: &mut Recording, now: Instant, mut fault: impl FnMut() -> Option<Fault>) {
        while let Some(output) = recording.poll_output() {
            if matches!(output, Output::RequestKeyframe | Output::Finished) {
                continue;
            }
            let fault = fault();
            match output {
                Output::Append { file, bytes } => {
                    let held = self.files.entry(file).or_default();
                    self.before = held.len();
                    let written = match fault {
                        Some(Fault::Nothing) => 0,
                        Some(Fault::Half) => bytes.len() / 2,
                        Some(Fault::All) | None => bytes.len(),
                    };
                    held.extend(&bytes[..written]);
                }
                Output::Sync { file } if matches!(fault, Some(Fault::Nothing)) => {
                    self.files.entry(file).or_default().truncate(self.before);
                }
                Output::Create { file } if matches!(fault, None | Some(Fault::All)) => {
                    self.files.entry(file).or_default();
                }
                // Atomic.
                Output::Replace { file, bytes } if matches!(fault, None | Some(Fault::All)) => {
                    self.files.insert(file, bytes);
                }
                _ => {}
            }
            if fault.is_some() {
                recording.handle_write_failed(now);
            }
        }
    }

    /// Asserts that the playlist ends, has only complete lines, and lists only segments that hold a part.
    fn assert_playlist(&self) {
        let Some(text) = self.files.get(&File::Playlist) else { return };
        let text = std::str::from_utf8(text).unwrap();
        assert!(text.ends_with("\n#EXT-X-ENDLIST\n"), "{text}");
        let (tags, segments): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('#'));
        assert_eq!(tags.iter().filter(|tag| tag.starts_with("#EXTINF:") && tag.ends_with(',')).count(), segments.len());
        assert_eq!(tags.iter().filter(|tag| **tag == "#EXTM3U").count(), 1, "{text}");
        let listed: Vec<File> = segments.iter().map(|segment| segment.parse().unwrap()).collect();
        assert!(listed.is_sorted_by(|a, b| a < b), "{text}");
        for file in listed {
            let bytes = self.files.get(&file).and_then(|bytes| bytes.get(part::styp().len()..));
            assert!(bytes.and_then(part::decode).is_some(), "{file} holds no part: {text}");
        }
    }

    fn parts(&self) -> Vec<part::Read> {
        let mut parts = Vec::new();
        for (_, bytes) in self.files.iter().filter(|(file, _)| matches!(file, File::Segment(_))) {
            let mut rest = bytes.get(part::styp().len()..).unwrap_or_default();
            while let Some(part) = part::decode(rest) {
                rest = &rest[part.len as usize..];
                parts.push(part);
            }
        }
        parts
    }
}

/// What was sent of a track at this time (seconds), for so long, and is neither in the files nor marked.
fn missing(disk: &Disk, gaps: &[Gap], track: Track, sent: impl Iterator<Item = f64>, lasts: f64) -> Vec<f64> {
    let rate = timescale(track);
    let mut samples = Vec::new();
    for run in disk.parts().iter().flat_map(|part| &part.runs).filter(|run| run.track == track) {
        let mut dts = run.dts;
        for sample in &run.samples {
            samples.push(seconds(dts, rate));
            dts += i64::from(sample.duration);
        }
    }
    let is_there = |at: f64| samples.iter().any(|sample| (sample - at).abs() < 0.002);
    let middle = |at: f64| at + lasts / 2.0;
    let is_marked = |at: f64| gaps.iter().any(|gap| gap.track == track && gap.from <= at && at < gap.to);
    sent.filter(|at| !is_there(*at) && !is_marked(middle(*at))).collect()
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![Just(Fault::Nothing), Just(Fault::Half), Just(Fault::All)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_was_sent_is_in_the_files_or_marked(
        faults in prop::collection::vec((0usize..25, prop::collection::vec(fault(), 1..8)), 0..8),
        fails_at_the_end in any::<bool>(),
        batches in prop::collection::vec(1usize..400, 1..20),
        lost_video in prop::collection::btree_set(3u64..SECONDS * 90 - 3, 0..8),
        lost_audio in prop::collection::btree_set(1u64..SECONDS * 50 - 1, 0..30),
        dropped in 0u64..2 * SECONDS * 1000,
    ) {
        let start = Instant::now();
        let config = Config { segment_duration: Duration::from_secs(2), ..Config::default() };
        let description = crate::Description {
            id: "id".into(),
            stream: None,
            room: "room".into(),
            publisher: "camera".into(),
            started_at: jiff::Timestamp::UNIX_EPOCH,
        };
        let mut recording = Recording::new(start, config, description, Tracks { audio: true, video: true });
        let mut disk = Disk::default();
        let mut faults = faults.into_iter().flat_map(|(well, ill)| {
            std::iter::repeat_n(None, well).chain(ill.into_iter().map(Some))
        });
        let again = SECONDS * 1000 + 1000;
        let sent: Vec<Sent> = source(1, 0).into_iter().chain(source(2, again)).collect();
        let lost = |packet: &Sent| {
            let lost: &BTreeSet<u64> = if packet.codec == Codec::Vp8 { &lost_video } else { &lost_audio };
            lost.contains(&packet.index)
        };
        let mut batches = batches.iter().copied().cycle();
        let mut left = batches.next().unwrap_or(1);
        let (mut now, mut was_dropped) = (start, false);
        for packet in &sent {
            if packet.at >= again && now < start + Duration::from_millis(again) {
                recording.handle_source_end(now);
            }
            now = start + Duration::from_millis(packet.at);
            while let Some(due) = recording.poll_timeout().filter(|due| *due <= now) {
                recording.handle_timeout(due);
            }
            if (dropped..dropped + 300).contains(&packet.at) && packet.at > 100 {
                was_dropped = true;
                recording.handle_dropped(now, packet.codec.track(), GapReason::Disk);
            } else if !lost(packet) {
                let Sent { codec, source, index, timestamp, marker, ref payload, .. } = *packet;
                recording.handle_rtp(now, Packet { codec, source, index, timestamp, marker, payload });
            }
            left -= 1;
            if left == 0 {
                left = batches.next().unwrap_or(1);
                disk.carry_out(&mut recording, now, || faults.next().flatten());
            }
        }
        recording.finish(now);
        disk.carry_out(&mut recording, now, || if fails_at_the_end { Some(Fault::Half) } else { None });
        if !fails_at_the_end {
            disk.assert_playlist();
        }
        let told = disk.parts().into_iter().flat_map(|part| part.info.gaps);
        let gaps: Vec<Gap> = told.chain(recording.untold_gaps().iter().cloned()).collect();
        let times = |codec| {
            let first = move |packet: &&Sent| packet.codec == codec && (codec == Codec::Opus || packet.index.is_multiple_of(3));
            sent.iter().filter(first).map(|packet| packet.at as f64 / 1000.0)
        };
        let away = || (0..9).map(|tenth| SECONDS as f64 + 0.05 + f64::from(tenth) / 10.0);
        let picture = missing(&disk, &gaps, Track::Video, times(Codec::Vp8).chain(away()), 1.0 / 30.0);
        prop_assert!(picture.is_empty(), "picture at {:?} s: {:#?}", picture, gaps);
        let sound = missing(&disk, &gaps, Track::Audio, times(Codec::Opus).chain(away()), 0.02);
        prop_assert!(sound.is_empty(), "sound at {:?} s, {}: {:#?}", sound, was_dropped, gaps);
    }
}
