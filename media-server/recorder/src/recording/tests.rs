//! The running recording, packet by packet and call by call.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    mp4::part::{self, Read},
    types::{Codec, File},
};

const KEY: &[u8] = &[0x10, 0x50, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 1, 2];
const INTER: &[u8] = &[0x10, 0x31, 0x00, 0x00, 9];

pub(super) fn description() -> Description {
    Description {
        id: "id".into(),
        stream: None,
        room: "room".into(),
        publisher: "camera".into(),
        started_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn recording(now: Instant) -> Recording {
    let config = Config { segment_duration: Duration::from_secs(2), ..Config::default() };
    Recording::new(now, config, description(), Tracks { audio: false, video: true })
}

/// Index, timestamp, marker, payload.
type Sent = (u64, u32, bool, Vec<u8>);

/// Small VP8 frames in three packets each.
fn frames(count: u64) -> Vec<Sent> {
    (0..count)
        .flat_map(|frame| {
            let timestamp = frame as u32 * 3000;
            let head = if frame % 30 == 0 { KEY } else { INTER };
            let rest = |n: u64| vec![0x00, frame as u8, n as u8];
            [
                (frame * 3, timestamp, false, head.to_vec()),
                (frame * 3 + 1, timestamp, false, rest(1)),
                (frame * 3 + 2, timestamp, true, rest(2)),
            ]
        })
        .collect()
}

/// Takes outputs into files and asserts that they come in the documented order.
#[derive(Default)]
struct Files {
    files: BTreeMap<File, Vec<u8>>,
    open: Option<File>,
}

impl Files {
    fn take(&mut self, recording: &mut Recording) {
        while let Some(output) = recording.poll_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Create { file } => {
                assert_eq!(self.open.replace(file), None);
                assert!(self.files.insert(file, Vec::new()).is_none());
            }
            Output::Append { file: File::Playlist, bytes } => {
                assert_eq!(self.open, None);
                self.files.get_mut(&File::Playlist).expect("a playlist to append to").extend(bytes);
            }
            Output::Append { file, bytes } => {
                assert_eq!(self.open, Some(file));
                self.files.entry(file).or_default().extend(bytes);
            }
            Output::Sync { file: File::Playlist } => assert_eq!(self.open, None),
            Output::Sync { file } => assert_eq!(self.open, Some(file)),
            Output::Close { file, record } => {
                assert_eq!(self.open.take(), Some(file));
                assert_eq!(self.files[&file].len() as u64, record.bytes);
            }
            Output::Replace { file, bytes } => drop(self.files.insert(file, bytes)),
            Output::RequestKeyframe | Output::Continue { .. } | Output::Finished => {}
        }
    }

    fn parts(&self) -> Vec<Read> {
        let mut parts = Vec::new();
        for (file, bytes) in &self.files {
            let File::Segment(_) = file else { continue };
            let mut rest = &bytes[part::styp().len()..];
            while !rest.is_empty() {
                let part = part::decode(rest).expect("a whole part");
                rest = &rest[part.len as usize..];
                parts.push(part);
            }
        }
        parts
    }

    /// (dts, duration, size) of all video samples.
    fn samples(&self) -> Vec<(i64, u32, u32)> {
        let mut samples = Vec::new();
        for run in self.parts().iter().flat_map(|part| &part.runs) {
            let mut dts = run.dts;
            for sample in &run.samples {
                samples.push((dts, sample.duration, sample.size));
                dts += i64::from(sample.duration);
            }
        }
        samples
    }
}

/// Sends (milliseconds after the start, packet) in order of time.
fn send(mut packets: Vec<(u64, Sent)>) -> Files {
    packets.sort_by_key(|(at, (index, ..))| (*at, *index));
    let start = Instant::now();
    let (mut recording, mut files) = (recording(start), Files::default());
    let mut end = start;
    for (at, (index, timestamp, marker, payload)) in packets {
        let now = start + Duration::from_millis(at);
        while let Some(due) = recording.poll_timeout().filter(|due| *due <= now) {
            recording.handle_timeout(due);
            files.take(&mut recording);
        }
        let packet = Packet { codec: Codec::Vp8, source: 1, index, timestamp, marker, payload: &payload };
        recording.handle_rtp(now, packet);
        files.take(&mut recording);
        end = now;
    }
    recording.finish(end);
    files.take(&mut recording);
    files
}

#[test]
fn parts_are_as_long_as_configured_and_segments_begin_with_keyframes() {
    let files = send(frames(300).into_iter().map(|packet| (packet.0 / 3 * 1000 / 30, packet)).collect());
    assert_eq!(files.samples().len(), 300);
    for part in files.parts() {
        let ticks: u32 = part.runs[0].samples.iter().map(|sample| sample.duration).sum();
        assert!(ticks <= 45_000, "{ticks}");
    }
    let starts: Vec<_> = files.parts().iter().map(|part| part.runs[0].dts).collect();
    assert_eq!(files.files.keys().filter(|file| matches!(file, File::Segment(_))).count(), 5);
    assert!([0, 180_000, 360_000, 540_000, 720_000].iter().all(|start| starts.contains(start)), "{starts:?}");
}

#[test]
fn a_duplicate_and_an_empty_packet_change_nothing() {
    let plain: Vec<_> = frames(60).into_iter().map(|packet| (packet.0 / 3 * 33, packet)).collect();
    let mut more: Vec<_> = Vec::new();
    for (at, (index, timestamp, marker, payload)) in plain.clone() {
        // Every index doubled, so that a padding packet fits between.
        more.push((at, (index * 2, timestamp, marker, payload.clone())));
        more.push((at + 5, (index * 2, timestamp, marker, payload)));
        more.push((at, (index * 2 + 1, timestamp, false, vec![])));
    }
    assert_eq!(send(more).samples(), send(plain).samples());
}

#[test]
fn silent_camera_has_all_but_its_last_frame_on_disk_in_a_second() {
    let start = Instant::now();
    let (mut recording, mut files) = (recording(start), Files::default());
    let mut now = start;
    for (index, timestamp, marker, payload) in frames(40) {
        now = start + Duration::from_millis(index / 3 * 33);
        let packet = Packet { codec: Codec::Vp8, source: 1, index, timestamp, marker, payload: &payload };
        recording.handle_rtp(now, packet);
    }
    let silent = now;
    while let Some(due) = recording.poll_timeout().filter(|due| *due <= silent + Duration::from_secs(1)) {
        recording.handle_timeout(due);
    }
    files.take(&mut recording);
    assert_eq!(files.samples().len(), 39);
    // The last one waits for its successor.
    assert_eq!(recording.poll_timeout(), Some(silent + SUCCESSOR_WAIT));
    recording.handle_timeout(silent + SUCCESSOR_WAIT);
    files.take(&mut recording);
    assert_eq!(files.samples().len(), 40);
    assert_eq!(recording.poll_timeout(), None);
}

#[test]
fn playlist_bytes_are_linear_in_segments() {
    let start = Instant::now();
    let config = Config { segment_duration: Duration::from_millis(100), ..Config::default() };
    let mut recording = Recording::new(start, config, description(), Tracks { audio: false, video: true });
    // Bytes written after each segment, by all outputs, and the length of the file.
    let (mut written, mut length) = (Vec::new(), 0);
    for n in 0..1001 {
        let now = start + Duration::from_millis(n * 100);
        recording.handle_timeout(now);
        let timestamp = n as u32 * 9000;
        let packet = Packet { codec: Codec::Vp8, source: 1, index: n, timestamp, marker: true, payload: KEY };
        recording.handle_rtp(now, packet);
        if n == 1000 {
            recording.finish(now);
        }
        while let Some(output) = recording.poll_output() {
            let before = written.last().copied().unwrap_or(0);
            match output {
                Output::Replace { file: File::Playlist, bytes } => {
                    length = bytes.len();
                    written.push(before + length);
                }
                Output::Append { file: File::Playlist, bytes } => {
                    length += bytes.len();
                    written.push(before + bytes.len());
                }
                _ => {}
            }
        }
    }
    // A segment each, and the end.
    assert_eq!(written.len(), 1002);
    assert_eq!(written[1001], length, "each byte is written once");
    let each = written[1] - written[0];
    assert!(each < 200 && written[..1001].windows(2).all(|pair| pair[1] - pair[0] == each), "{each} {written:?}");
}

#[test]
fn timestamps_that_jump_do_not_make_files_without_end() {
    let jumping = frames(300).into_iter().map(|(index, _, marker, _)| {
        let timestamp = ((index / 3) as u32).wrapping_mul(900_000_000);
        (index / 3 * 10, (index, timestamp, marker, if index % 3 == 0 { KEY.to_vec() } else { vec![0, 1] }))
    });
    let files = send(jumping.collect());
    assert!(files.files.len() < 20, "{} files in 3 s", files.files.len());
}

#[test]
fn sizes_that_alternate_do_not_make_files_without_end() {
    let alternating = frames(300).into_iter().map(|(index, timestamp, marker, payload)| {
        let mut key = KEY.to_vec();
        key[7] = if index / 3 % 2 == 0 { 0x40 } else { 0x20 };
        (index / 3 * 33, (index, timestamp, marker, if index % 3 == 0 { key } else { payload }))
    });
    let files = send(alternating.collect());
    assert!(files.files.len() < 60, "{} files in 10 s", files.files.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn order_of_arrival_does_not_matter_within_the_window(
        delays in prop::collection::vec(prop_oneof![4 => 0u64..20, 1 => 0u64..90], 450),
        later in prop::collection::vec(0u64..300, 450),
    ) {
        let packets = frames(150);
        let at = |packet: &Sent| packet.0 / 3 * 33;
        let in_order = send(packets.iter().map(|packet| (at(packet), packet.clone())).collect());
        // The first ones are held for less. A delay of all packets is another matter: the timeline follows it.
        let delay = |n: usize| match n {
            _ if (n / 3).is_multiple_of(5) => delays[n].min(20),
            0..30 => delays[n],
            _ => delays[n].max(later[n]),
        };
        let shuffled = packets.iter().enumerate().map(|(n, packet)| (at(packet) + delay(n), packet.clone()));
        let shuffled = send(shuffled.collect());
        prop_assert_eq!(in_order.samples(), shuffled.samples());
        prop_assert!(shuffled.parts().iter().all(|part| part.info.gaps.is_empty()));
    }

    #[test]
    fn whatever_is_lost_is_marked_and_what_is_kept_can_be_decoded(
        lost in prop::collection::btree_set(3u64..450, 1..12),
    ) {
        let packets: Vec<_> = frames(150)
            .into_iter()
            .filter(|(index, ..)| !lost.contains(index))
            .map(|packet| (packet.0 / 3 * 33, packet))
            .collect();
        let files = send(packets);
        let gaps: Vec<_> = files.parts().into_iter().flat_map(|part| part.info.gaps).collect();
        let kept: std::collections::BTreeSet<i64> =
            files.samples().iter().map(|(dts, ..)| (dts + 1500) / 3000).collect();
        for frame in 0..150i64 {
            // What follows a lost frame, up to the next keyframe, is of no use.
            let broken = (frame / 30 * 30..=frame).any(|n| (0..3).any(|k| lost.contains(&(n as u64 * 3 + k))));
            prop_assert_eq!(kept.contains(&frame), !broken, "frame {}", frame);
            let after = kept.last().copied().unwrap_or(0);
            let time = frame as f64 / 30.0 + 0.001;
            if broken && frame < after {
                prop_assert!(gaps.iter().any(|gap| gap.from <= time && time < gap.to), "frame {} {:?}", frame, gaps);
            }
        }
    }

    #[test]
    fn no_sequence_of_calls_panics(calls in prop::collection::vec(call(), 0..120)) {
        let start = Instant::now();
        let mut now = start;
        let config = Config { max_frame_bytes: 100, max_part_bytes: 50, max_reorder_packets: 5, ..Config::default() };
        let mut recording = Recording::new(start, config, description(), Tracks { audio: true, video: true });
        let mut files = Files::default();
        for call in calls {
            match call {
                Call::Rtp { codec, source, index, timestamp, marker, payload } => {
                    recording.handle_rtp(now, Packet { codec, source, index, timestamp, marker, payload: &payload });
                }
                Call::Report { track, ntp, rtp } => recording.handle_sender_report(now, track, 1, ntp, rtp),
                Call::Wait(millis) => {
                    now += Duration::from_millis(millis);
                    recording.handle_timeout(now);
                    prop_assert!(recording.poll_timeout().is_none_or(|due| due > now));
                }
                Call::Dropped(track) => recording.handle_dropped(now, track, GapReason::Disk),
                Call::SourceEnd => recording.handle_source_end(now),
                Call::WriteFailed => {
                    while recording.poll_output().is_some() {}
                    recording.handle_write_failed(now);
                    files = Files::default();
                }
            }
            files.take(&mut recording);
        }
        recording.finish(now);
        files.take(&mut recording);
        prop_assert_eq!(files.open, None);
        let mut ends = BTreeMap::new();
        for run in files.parts().iter().flat_map(|part| &part.runs) {
            let end = run.dts + run.samples.iter().map(|sample| i64::from(sample.duration)).sum::<i64>();
            let before = ends.insert(run.track, end);
            prop_assert!(before.is_none_or(|before| before <= run.dts), "a track does not go back");
        }
    }
}

#[derive(Clone, Debug)]
enum Call {
    Rtp { codec: Codec, source: u64, index: u64, timestamp: u32, marker: bool, payload: Vec<u8> },
    Report { track: Track, ntp: u64, rtp: u32 },
    Wait(u64),
    Dropped(Track),
    SourceEnd,
    WriteFailed,
}

fn call() -> impl Strategy<Value = Call> {
    let track = prop_oneof![Just(Track::Audio), Just(Track::Video)];
    let index = prop_oneof![8 => 0u64..60, 1 => any::<u64>(), 1 => Just(u64::MAX)];
    let timestamp = prop_oneof![8 => (0u32..200).prop_map(|n| n * 1500), 1 => any::<u32>()];
    let media = prop_oneof![
        (Just(Codec::Vp8), Just(KEY.to_vec())),
        (Just(Codec::Vp8), Just(INTER.to_vec())),
        (Just(Codec::Opus), Just(vec![0xfc, 1, 2])),
        (Just(Codec::H264), prop::collection::vec(any::<u8>(), 0..40)),
        (Just(Codec::Av1), prop::collection::vec(any::<u8>(), 0..40)),
    ];
    let rtp = (media, prop_oneof![8 => Just(1u64), 1 => 2u64..4], index, timestamp, any::<bool>()).prop_map(
        |((codec, payload), source, index, timestamp, marker)| Call::Rtp {
            codec,
            source,
            index,
            timestamp,
            marker,
            payload,
        },
    );
    prop_oneof![
        20 => rtp,
        3 => (track.clone(), any::<u64>(), any::<u32>()).prop_map(|(track, ntp, rtp)| Call::Report { track, ntp, rtp }),
        6 => (0u64..700).prop_map(Call::Wait),
        1 => Just(Call::Wait(3_600_000)),
        1 => track.prop_map(Call::Dropped),
        1 => Just(Call::SourceEnd),
        1 => Just(Call::WriteFailed),
    ]
}

/// Sends frames at 30 a second; a recording that arrives at a time of `turns` (milliseconds) continues the one before.
fn send_in_turns(count: u64, turns: &[u64], fail_at: Option<u64>) -> Vec<(Description, Files)> {
    let start = Instant::now();
    let mut recording = recording(start);
    let mut done = vec![(description(), Files::default())];
    let mut turns = turns.iter().copied().enumerate();
    let mut schedule = |recording: &mut Recording| {
        let Some((n, at)) = turns.next() else { return };
        let clock = (start, description().started_at);
        recording.continue_at(Continuation { id: format!("next-{n}"), at: start + Duration::from_millis(at), clock });
    };
    schedule(&mut recording);
    for (index, timestamp, marker, payload) in frames(count) {
        let now = start + Duration::from_micros(index / 3 * 1_000_000 / 30);
        while let Some(due) = recording.poll_timeout().filter(|due| *due <= now) {
            recording.handle_timeout(due);
        }
        let packet = Packet { codec: Codec::Vp8, source: 1, index, timestamp, marker, payload: &payload };
        recording.handle_rtp(now, packet);
        if fail_at == Some(index / 3) && marker {
            // Nothing of what was asked for is carried out.
            recording.handle_write_failed(now);
            done.last_mut().unwrap().1.open = None;
        }
        while let Some(output) = recording.poll_output() {
            match output {
                Output::Continue { description, .. } => {
                    schedule(&mut recording);
                    done.push((description, Files::default()));
                }
                output => done.last_mut().unwrap().1.carry_out(output),
            }
        }
    }
    recording.finish(start + Duration::from_secs(count / 30));
    done.last_mut().unwrap().1.take(&mut recording);
    done
}

#[test]
fn next_recording_begins_with_a_keyframe_of_its_own_time() {
    // Keyframes are at full seconds.
    let recordings = send_in_turns(300, &[3100, 6500, 60_000], None);
    let summary: Vec<_> = recordings
        .iter()
        .map(|(description, files)| {
            let samples = files.samples();
            let started = description.started_at.as_millisecond();
            (description.id.as_str(), started, samples.len(), samples[0].0, samples.last().unwrap().0)
        })
        .collect();
    assert_eq!(
        summary,
        [("id", 0, 120, 0, 119 * 3000), ("next-0", 4000, 90, 0, 89 * 3000), ("next-1", 7000, 90, 0, 89 * 3000)]
    );
    for (description, files) in &recordings {
        assert_eq!(files.parts()[0].info.sequence, 1);
        let playlist = String::from_utf8(files.files[&File::Playlist].clone()).unwrap();
        assert!(playlist.ends_with("#EXT-X-ENDLIST\n") && playlist.contains("segment-000001.m4s"), "{playlist}");
        let (_, described) = crate::mp4::init::decode(&files.files[&File::Init(1)]).unwrap();
        assert_eq!(described, *description);
    }
}

#[test]
fn recording_without_a_frame_is_not_continued() {
    let recordings = send_in_turns(90, &[0, 1500], None);
    let samples: Vec<usize> = recordings.iter().map(|(_, files)| files.samples().len()).collect();
    assert_eq!(samples, [30, 30, 30], "the first frame begins no further recording");
}

#[test]
fn failed_write_at_the_turn_still_continues_the_recording() {
    // Frame 120 begins the next recording; the disk fails with what it asks for.
    let recordings = send_in_turns(300, &[3100], Some(120));
    assert_eq!(recordings.len(), 2);
    let (description, files) = &recordings[1];
    assert_eq!(description.id, "next-0");
    let samples = files.samples();
    assert_eq!((samples[0].0, samples.len()), (30 * 3000, 150), "from the next keyframe on");
    let gaps: Vec<_> = files.parts().into_iter().flat_map(|part| part.info.gaps).collect();
    assert!(gaps.iter().any(|gap| gap.from < 0.1 && (gap.to - 1.0).abs() < 0.1), "{gaps:?}");
}
