//! What is left after a crash is played, and lacks at most a second; a failing disk costs what it does not take.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{
    clips, compose, finalize,
    memory::Memory,
    player::{self, Event, Script, Sender, decodes, play, probe},
};
use recorder::{
    Codec, Config, Ending, File, FinalizeError, GapReason, KnownSegment, Manifest, Output, Packet, Recording, Track,
    Tracks,
};

const BOTH: Tracks = Tracks { audio: true, video: true };

fn clip() -> Script {
    let (video, audio) = (Sender::video(Codec::H264), Sender::audio());
    let mut script = video.send(&clips::video(Codec::H264, 320, 240));
    script.extend(audio.send(&clips::audio()));
    script.extend(video.reports(0.3, 5.0));
    script.extend(audio.reports(0.35, 5.0));
    script
}

fn outputs(expected: Tracks, script: Script) -> Vec<(f64, Output)> {
    let mut outputs = Vec::new();
    play(player::config(), expected, script, |at, output| outputs.push((at, output)));
    outputs
}

/// What a crash at `at` leaves, when what was not synced yet is there, too.
fn crash_at(outputs: &[(f64, Output)], at: f64) -> Memory {
    let mut folder = Memory::default();
    outputs.iter().take_while(|(when, _)| *when <= at).for_each(|(_, output)| folder.carry_out(output));
    folder
}

fn on_disk(folder: &Memory) -> tempfile::TempDir {
    let disk = tempfile::tempdir().unwrap();
    for (name, bytes) in &folder.files {
        std::fs::write(disk.path().join(name), bytes).unwrap();
    }
    if let Some(manifest) = folder.files.get("manifest.json") {
        compose(disk.path(), &serde_json::from_slice(manifest).unwrap());
    }
    disk
}

#[test]
fn a_crash_costs_at_most_a_second() {
    let outputs = outputs(BOTH, clip());
    for tenth in 11..50 {
        let at = f64::from(tenth) / 10.0;
        let mut folder = crash_at(&outputs, at);
        let manifest = finalize(&mut folder, &Ending::crash()).unwrap();
        assert!(manifest.duration >= at - 1.0, "crash at {at}: {} s are left", manifest.duration);
        assert!(manifest.repaired && manifest.gaps.is_empty());
        if tenth % 13 == 0 {
            let disk = on_disk(&folder);
            let streams = probe(&disk.path().join("recording.mp4"));
            assert!((streams[0].duration - manifest.duration).abs() < 0.1, "{streams:?} {}", manifest.duration);
            decodes(&disk.path().join("recording.mp4"));
            decodes(&disk.path().join("index.m3u8"));
        }
    }
}

#[test]
fn a_recording_torn_at_any_byte_of_its_last_part_keeps_all_parts_before() {
    let script = Sender::audio().send(&clips::audio()[..160]);
    let outputs = outputs(Tracks { audio: true, video: false }, script);
    let appends: Vec<usize> =
        (0..outputs.len()).filter(|n| matches!(outputs[*n].1, Output::Append { file: File::Segment(_), .. })).collect();
    let (last, before) = (appends[appends.len() - 1], appends[appends.len() - 2]);
    let mut folder = Memory::default();
    outputs[..last].iter().for_each(|(_, output)| folder.carry_out(output));
    let Output::Append { file, bytes } = &outputs[last].1 else { panic!("an append") };
    let same_segment = matches!(&outputs[before].1, Output::Append { file: other, .. } if other == file);
    assert!(same_segment, "the torn segment has parts to keep");
    let kept = folder.file(*file).clone();
    let whole = finalize(&mut folder.clone(), &Ending::crash()).unwrap();
    for len in 0..bytes.len() {
        let mut torn = folder.clone();
        torn.file(*file).extend_from_slice(&bytes[..len]);
        let manifest = finalize(&mut torn, &Ending::crash()).unwrap();
        assert_eq!(*torn.file(*file), kept, "torn at {len}");
        assert_eq!(manifest, whole, "torn at {len}");
    }
    for at in [bytes.len() / 2, bytes.len() - 1] {
        let mut zeros = folder.clone();
        zeros.file(*file).extend_from_slice(&bytes[..at]);
        zeros.file(*file).resize(kept.len() + bytes.len(), 0);
        assert_eq!(finalize(&mut zeros, &Ending::crash()).unwrap(), whole, "a length without its bytes");
    }
    decodes(
        &on_disk(&{
            finalize(&mut folder, &Ending::crash()).unwrap();
            folder
        })
        .path()
        .join("recording.mp4"),
    );
}

#[test]
fn playlist_torn_at_any_byte_is_rebuilt() {
    let outputs = outputs(BOTH, clip());
    let appends = (0..outputs.len())
        .filter(|n| matches!(outputs[*n].1, Output::Append { file: File::Playlist, .. }))
        .collect::<Vec<_>>();
    assert!(appends.len() >= 2, "a segment and the end: {appends:?}");
    for append in appends {
        let mut folder = Memory::default();
        outputs[..append].iter().for_each(|(_, output)| folder.carry_out(output));
        let Output::Append { bytes, .. } = &outputs[append].1 else { panic!("an append") };
        let mut right = folder.clone();
        let manifest = finalize(&mut right, &Ending::crash()).unwrap();
        for len in 0..=bytes.len() {
            let mut torn = folder.clone();
            torn.file(File::Playlist).extend_from_slice(&bytes[..len]);
            assert_eq!(finalize(&mut torn, &Ending::crash()).unwrap(), manifest, "torn at {len}");
            assert_eq!(torn.files, right.files, "torn at {len}");
        }
        let text = String::from_utf8(right.file(File::Playlist).clone()).unwrap();
        assert_eq!(text.matches("#EXTINF").count(), manifest.segments.len());
        assert!(text.ends_with("#EXT-X-ENDLIST\n"));
    }
}

#[test]
fn a_segment_that_was_only_begun_is_removed() {
    let outputs = outputs(BOTH, clip());
    let second = outputs.iter().position(|(_, o)| *o == Output::Create { file: File::Segment(2) }).unwrap();
    for more in 0..2 {
        let mut folder = Memory::default();
        outputs[..=second + more].iter().for_each(|(_, output)| folder.carry_out(output));
        let manifest = finalize(&mut folder, &Ending::crash()).unwrap();
        assert_eq!(manifest.segments.len(), 1);
        assert!(!folder.files.contains_key("segment-000002.m4s"));
    }
}

#[test]
fn a_folder_without_a_whole_part_is_empty() {
    let outputs = outputs(BOTH, clip());
    let sync = outputs.iter().position(|(_, output)| matches!(output, Output::Sync { .. })).unwrap();
    for count in 0..sync {
        let mut folder = Memory::default();
        outputs[..count].iter().for_each(|(_, output)| folder.carry_out(output));
        if count == sync - 1 {
            // The part is not appended yet.
            assert!(matches!(outputs[count].1, Output::Append { .. }));
        }
        assert!(matches!(finalize(&mut folder, &Ending::crash()), Err(FinalizeError::Empty)), "{count}");
    }
}

#[test]
fn finalising_can_fail_anywhere_and_be_done_again() {
    let outputs = outputs(BOTH, clip());
    let folder = crash_at(&outputs, 3.3);
    let mut torn = folder.clone();
    torn.file(File::Segment(2)).extend_from_slice(b"torn");
    let whole = finalize(&mut torn.clone(), &Ending::crash()).unwrap();
    let mut failures = 0;
    for patience in 0.. {
        let mut failing = Memory { patience: Some(patience), ..torn.clone() };
        match finalize(&mut failing, &Ending::crash()) {
            Ok(manifest) => {
                assert_eq!(manifest, whole);
                break;
            }
            Err(FinalizeError::Io { .. }) => failures += 1,
            Err(error) => panic!("{error}"),
        }
        failing.patience = None;
        assert_eq!(finalize(&mut failing, &Ending::crash()).unwrap(), whole, "failed at change {patience}");
        let done = failing.clone();
        assert_eq!(finalize(&mut failing, &Ending::orderly()).unwrap(), whole, "a finished recording is left alone");
        assert_eq!(failing, done);
    }
    assert_eq!(failures, 5, "one cut, and two steps for each of playlist and manifest");
}

/// Writes until the disk is full between two times, then again.
fn with_full_disk(full: std::ops::Range<f64>) -> (Memory, Manifest) {
    let start = Instant::now();
    let mut recording = Recording::new(start, player::config(), player::description(), BOTH);
    let mut folder = Memory::default();
    let mut script = clip();
    script.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut failures = 0;
    for (at, event) in script {
        let now = start + Duration::from_secs_f64(at);
        match event {
            Event::Packet { codec, source, index, timestamp, marker, payload } => {
                recording.handle_rtp(now, Packet { codec, source, index, timestamp, marker, payload: &payload });
            }
            Event::Report { track, source, ntp, rtp } => recording.handle_sender_report(now, track, source, ntp, rtp),
            Event::SourceEnd => recording.handle_source_end(now),
        }
        while let Some(output) = recording.poll_output() {
            match &output {
                Output::Append { file, bytes } if full.contains(&at) => {
                    failures += 1;
                    folder.file(*file).extend_from_slice(&bytes[..bytes.len() / 2]);
                    recording.handle_write_failed(now);
                }
                Output::Replace { .. } if full.contains(&at) => {
                    failures += 1;
                    recording.handle_write_failed(now);
                }
                output => folder.carry_out(output),
            }
        }
    }
    recording.finish(start + Duration::from_secs(5));
    while let Some(output) = recording.poll_output() {
        folder.carry_out(&output);
    }
    assert!(failures > 0);
    let manifest = finalize(&mut folder, &Ending::crash()).unwrap();
    (folder, manifest)
}

#[test]
fn a_full_disk_costs_what_it_does_not_take() {
    let (folder, manifest) = with_full_disk(1.2..2.5);
    let gaps: Vec<_> = manifest.gaps.iter().map(|gap| (gap.track, gap.reason)).collect();
    assert!(
        gaps.contains(&(Track::Video, GapReason::Disk)) && gaps.contains(&(Track::Audio, GapReason::Disk)),
        "{gaps:?}"
    );
    assert!((manifest.duration - 5.0).abs() < 0.05, "{}", manifest.duration);
    assert!(manifest.gaps.iter().all(|gap| gap.from > 0.4 && gap.to < 3.1), "{:?}", manifest.gaps);
    let disk = on_disk(&folder);
    for file in ["recording.mp4", "index.m3u8"] {
        decodes(&disk.path().join(file));
    }
    let streams = probe(&disk.path().join("recording.mp4"));
    assert!(streams[0].frames >= 50 && streams[1].frames >= 200, "{streams:?}");
}

#[test]
fn a_tap_that_overflowed_is_a_gap_by_disk() {
    let start = Instant::now();
    let mut recording = Recording::new(start, player::config(), player::description(), BOTH);
    let mut folder = Memory::default();
    let mut script = clip();
    script.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut dropped = false;
    let mut requests = 0;
    for (at, event) in script {
        let now = start + Duration::from_secs_f64(at);
        if let Event::Packet { codec, source, index, timestamp, marker, payload } = event {
            if (1.5..1.7).contains(&at) {
                continue;
            }
            if at >= 1.7 && !std::mem::replace(&mut dropped, true) {
                recording.handle_dropped(now, Track::Video, GapReason::Disk);
                recording.handle_dropped(now, Track::Audio, GapReason::Disk);
            }
            recording.handle_rtp(now, Packet { codec, source, index, timestamp, marker, payload: &payload });
        }
        while let Some(output) = recording.poll_output() {
            requests += u32::from(output == Output::RequestKeyframe);
            folder.carry_out(&output);
        }
    }
    recording.finish(start + Duration::from_secs(5));
    while let Some(output) = recording.poll_output() {
        folder.carry_out(&output);
    }
    let manifest = finalize(&mut folder, &Ending::orderly()).unwrap();
    let mut gaps: Vec<_> = manifest
        .gaps
        .iter()
        .map(|gap| (gap.track, gap.reason, (gap.from * 100.0).round(), (gap.to * 100.0).round()))
        .collect();
    gaps.sort_by_key(|gap| gap.0);
    assert_eq!(
        gaps,
        [(Track::Audio, GapReason::Disk, 150.0, 170.0), (Track::Video, GapReason::Disk, 152.0, 200.0)],
        "{:?}",
        manifest.gaps
    );
    assert!(requests >= 1);
}

#[test]
fn defaults_promise_less_than_a_second() {
    let config = Config::default();
    assert!(config.part_duration + config.reorder_window < Duration::from_secs(1));
}

#[test]
fn what_is_finished_is_durable_even_if_a_dead_process_wrote_it() {
    let outputs = outputs(BOTH, clip());
    let mut folder = crash_at(&outputs, 4.3);
    let manifest = finalize(&mut folder, &Ending::crash()).unwrap();
    assert!(manifest.segments.iter().all(|segment| folder.synced.contains(&segment.file)), "{:?}", folder.synced);
}

#[test]
fn known_segments_are_not_read_again() {
    let mut known = Vec::new();
    let mut folder = Memory::default();
    for (_, output) in outputs(BOTH, clip()) {
        folder.carry_out(&output);
        if let Output::Close { record, .. } = output {
            known.push(KnownSegment { record: *record, elsewhere: false });
        }
    }
    let whole = finalize(&mut folder.clone(), &Ending::orderly()).unwrap();
    assert_eq!(known.len(), whole.segments.len());
    // What is not read may say anything.
    let mut unread = folder.clone();
    for known in &known {
        unread.file(File::Segment(known.record.number)).fill(0);
    }
    assert_eq!(recorder::finalize(&mut unread, &Ending::orderly(), &known).unwrap(), whole);
    assert!(unread.synced.is_empty());
    // A segment that only the object store has is part of the recording; one that nobody has is a gap.
    for elsewhere in [true, false] {
        let mut without = folder.clone();
        without.files.remove("segment-000002.m4s");
        known[1].elsewhere = elsewhere;
        let manifest = recorder::finalize(&mut without, &Ending::orderly(), &known).unwrap();
        if elsewhere {
            assert_eq!(manifest, whole);
        } else {
            let (lost, kept) = (&whole.segments[1], &manifest.segments);
            assert_eq!(kept.len(), whole.segments.len() - 1);
            let gap = manifest.gaps.iter().find(|gap| gap.track == Track::Video).unwrap();
            assert!((gap.from - lost.start).abs() < 0.05 && manifest.repaired, "{gap:?}");
        }
    }
    // A file that is longer than the index says was torn by a crash: it is read.
    folder.file(File::Segment(2)).extend_from_slice(&[0; 100]);
    assert_eq!(recorder::finalize(&mut folder, &Ending::orderly(), &known).unwrap().segments, whole.segments);
}
