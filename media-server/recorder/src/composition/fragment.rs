//! Merges the parts of a segment into one fragment, moved on the timeline.
//!
//! Players seek by the `sidx` box to a `moof`, and FFmpeg, with it Chromium, finds only the one at the start of an indexed
//! fragment. A merged segment is as long as the original: one `moof` takes less than those of all parts, and zeros at the
//! end of the `mdat` fill the rest. So lengths and offsets of a composed file are known without reading segments. Gaps in
//! the audio become silence, as far as there is room for it.

use std::{ops::Range, time::Duration};

use jiff::SignedDuration;
use shiguredo_mp4::{
    BoxHeader, Encode as _,
    boxes::{MfhdBox, MoofBox, TrafBox},
};

use super::{
    silence::Silence,
    ticks,
    track::{Form, TrackData},
};
use crate::{
    clock::seconds,
    mp4::{part, timescale},
    types::Track,
};

/// A part within its segment.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) read: part::Read,
    /// First byte of its payload, from the start of the segment.
    pub(super) payload: usize,
}

impl Part {
    /// Returns start and end of its samples.
    fn extent(&self) -> (Duration, Duration) {
        let times = self.read.runs.iter().map(|run| {
            let rate = timescale(run.track);
            (seconds(run.dts, rate), seconds(run.end(), rate))
        });
        let (start, end) =
            times.fold((f64::INFINITY, 0.0), |(start, end), run| (f64::min(start, run.0), f64::max(end, run.1)));
        let time = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        (time(start), time(end))
    }

    /// Returns whether decoding can start here. Parts without video all count.
    fn is_keyframe(&self) -> bool {
        let video = self.read.runs.iter().find(|run| run.track == Track::Video);
        video.is_none_or(|run| run.samples.first().is_some_and(|sample| sample.sync))
    }
}

/// A merged fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// `moof` and `mdat`.
    pub bytes: Vec<u8>,
    /// Start of its first sample, before the shift.
    pub start: Duration,
    /// End of its last sample, before the shift.
    pub end: Duration,
    /// Decoding can start with it.
    pub keyframe: bool,
}

/// Merges a whole segment into a fragment of the same length, `shift` later on the timeline. `audio`: behind a pause, the end
/// of the audio before it, after its shift ([`audio_end`]); the pause becomes silence. None when it is not a whole segment.
pub fn merge(segment: &[u8], shift: SignedDuration, audio: Option<Duration>) -> Option<Merged> {
    let parts = parts(segment);
    let silences = silences(&parts, shift, audio);
    let forms = [(&silences[..], Form::Plain), (&silences[..], Form::Compact), (&[], Form::Plain)];
    forms.into_iter().find_map(|form| merge_filled(segment, &parts, shift, form, Some(segment.len())))
}

/// Merges the parts of a segment between two times, from the newest keyframe before on. `audio`: see [`merge`]; it counts
/// only if the cut starts with the segment. None when there is no whole part.
pub fn cut(segment: &[u8], times: Range<Duration>, shift: SignedDuration, audio: Option<Duration>) -> Option<Merged> {
    let parts = parts(segment);
    let first = first_part(&parts, times.start);
    let last = parts.iter().rposition(|part| part.extent().0 < times.end).unwrap_or(parts.len().saturating_sub(1));
    let parts = parts.get(first..=last.max(first))?;
    let silences = silences(parts, shift, audio.filter(|_| first == 0));
    merge_filled(segment, parts, shift, (&silences, Form::Plain), None)
}

/// Returns where a [`cut`] from this time on starts, without its shift. None when there is no complete part.
pub fn cut_start(segment: &[u8], from: Duration) -> Option<Duration> {
    let parts = parts(segment);
    parts.get(first_part(&parts, from)).map(|part| part.extent().0)
}

/// Returns the number of the newest part with a keyframe at or before a time.
fn first_part(parts: &[Part], from: Duration) -> usize {
    parts.iter().rposition(|part| part.is_keyframe() && part.extent().0 <= from).unwrap_or(0)
}

/// Returns the end of the audio of a segment; none when it has no audio.
pub fn audio_end(segment: &[u8]) -> Option<Duration> {
    let ends = parts(segment).into_iter().flat_map(|part| part.read.runs);
    let end = ends.filter(|run| run.track == Track::Audio).map(|run| run.end()).max()?;
    Duration::try_from_secs_f64(seconds(end, timescale(Track::Audio))).ok()
}

fn parts(segment: &[u8]) -> Vec<Part> {
    let mut found = Vec::new();
    let mut at = part::styp().len();
    if !segment.starts_with(&part::styp()) {
        return found;
    }
    while let Some(read) = segment.get(at..).and_then(part::decode) {
        let payload = at + usize::try_from(read.payload_offset).unwrap_or(usize::MAX);
        at += usize::try_from(read.len).unwrap_or(usize::MAX);
        found.push(Part { read, payload });
    }
    found
}

/// Returns a fragment. `silences`: the silence before each part. `len`: its length in bytes, if it is fixed; none when there
/// is more.
fn merge_filled(
    segment: &[u8],
    parts: &[Part],
    shift: SignedDuration,
    (silences, form): (&[Option<(i64, Silence)>], Form),
    len: Option<usize>,
) -> Option<Merged> {
    let (first, last) = (parts.first()?, parts.last()?);
    let collect = |track| TrackData::collect(segment, parts, silences, (track, shift), form);
    // Audio first: it takes little, and players that download the file have it when the pictures arrive.
    let tracks: Vec<TrackData<'_>> = [Track::Audio, Track::Video].into_iter().filter_map(collect).collect();
    // `head`: bytes before the payload.
    let moof = |head: usize| -> Option<MoofBox> {
        let mut at = head;
        let traf = |track: &TrackData<'_>| {
            let traf = track.traf(at);
            at += track.len();
            traf
        };
        let mut traf_boxes: Vec<TrafBox> = tracks.iter().map(traf).collect::<Option<_>>()?;
        traf_boxes.sort_by_key(|traf| traf.tfhd_box.track_id);
        let mfhd_box = MfhdBox { sequence_number: first.read.info.sequence };
        (!traf_boxes.is_empty()).then_some(MoofBox { mfhd_box, traf_boxes, unknown_boxes: vec![] })
    };
    let payload: usize = tracks.iter().map(TrackData::len).sum();
    // Offsets have one size, whatever they are.
    let head = moof(0)?.encode_to_vec().ok()?.len() + BoxHeader::MIN_SIZE;
    let end = len.unwrap_or(head + payload);
    if head + payload > end {
        return None;
    }
    let mut bytes = moof(head)?.encode_to_vec().ok()?;
    bytes.reserve_exact(end - bytes.len());
    // The padding is part of it: FFmpeg takes a box behind the `mdat` for the next fragment, and seeks wrong.
    bytes.extend_from_slice(&u32::try_from(end - bytes.len()).ok()?.to_be_bytes());
    bytes.extend_from_slice(b"mdat");
    tracks.iter().for_each(|track| track.write(&mut bytes));
    bytes.resize(end, 0);
    Some(Merged { bytes, start: first.extent().0, end: last.extent().1, keyframe: first.is_keyframe() })
}

fn ticks_of(time: Duration, track: Track) -> i64 {
    i64::try_from(ticks(time, timescale(track))).unwrap_or(i64::MAX / 4)
}

pub(super) fn shift_ticks(shift: SignedDuration, track: Track) -> i64 {
    let ticks = ticks_of(shift.unsigned_abs(), track);
    if shift.is_negative() { -ticks } else { ticks }
}

/// Returns the silence before each part, with its place in ticks. `audio`: see [`merge`].
fn silences(parts: &[Part], shift: SignedDuration, audio: Option<Duration>) -> Vec<Option<(i64, Silence)>> {
    let shift = shift_ticks(shift, Track::Audio);
    let mut end = audio.map(|end| ticks_of(end, Track::Audio));
    let mut silence = |part: &Part| {
        let run = part.read.runs.iter().find(|run| run.track == Track::Audio)?;
        let from = end.replace(run.end().saturating_add(shift))?;
        Some((from, Silence::of(run.dts.saturating_add(shift) - from)?))
    };
    parts.iter().map(&mut silence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mp4::{
        part::{Info, Sample, encode, styp},
        track_id,
    };
    use shiguredo_mp4::Decode as _;

    fn segment(reordered: bool) -> Vec<u8> {
        let sample = |dts, duration, sync: bool, byte| Sample {
            data: vec![byte; 300],
            dts,
            duration,
            cts: if reordered && !sync { 3000 } else { 0 },
            sync,
        };
        let part = |sequence, n: i64| {
            let info = Info {
                sequence,
                init: 1,
                at: jiff::Timestamp::UNIX_EPOCH,
                discontinuity: false,
                gaps: vec![],
                check: String::new(),
            };
            // Half a second is missing before the third part.
            let late = if n == 2 { 45_000 } else { 0 };
            let video = [
                sample(90_000 * n + late, 45_000, n == 0, 10 + n as u8),
                sample(90_000 * n + 45_000 + late, 45_000, false, 20 + n as u8),
            ];
            let audio = [sample(48_000 * n, 48_000, true, 30 + n as u8)];
            encode(&[(Track::Video, &video), (Track::Audio, &audio)], info).unwrap()
        };
        [styp(), part(1, 0), part(2, 1), part(3, 2)].concat()
    }

    /// Samples of a track: decoding time and first byte.
    fn samples(fragment: &[u8], track: Track) -> Vec<(u64, u8)> {
        let (moof, _) = MoofBox::decode(fragment).unwrap();
        let traf = moof.traf_boxes.iter().find(|traf| traf.tfhd_box.track_id == track_id(track)).unwrap();
        let mut time = traf.tfdt_box.as_ref().unwrap().base_media_decode_time;
        let mut found = Vec::new();
        for trun in &traf.trun_boxes {
            let mut at = trun.data_offset.unwrap() as usize;
            for sample in &trun.samples {
                found.push((time, fragment[at]));
                time += u64::from(sample.duration.or(traf.tfhd_box.default_sample_duration).unwrap());
                at += sample.size.or(traf.tfhd_box.default_sample_size).unwrap() as usize;
            }
        }
        found
    }

    #[test]
    fn merged_segment_has_its_length_and_samples() {
        for reordered in [false, true] {
            let segment = segment(reordered);
            let merged = merge(&segment, SignedDuration::from_millis(2500), None).unwrap();
            assert_eq!(merged.bytes.len(), segment.len());
            assert_eq!(&merged.bytes[4..8], b"moof", "players find it where the index says");
            let video = [(0, 10), (45_000, 20), (90_000, 11), (135_000, 21), (225_000, 12), (270_000, 22)];
            let shifted: Vec<_> = video.iter().map(|(time, byte)| (time + 225_000, *byte)).collect();
            assert_eq!(samples(&merged.bytes, Track::Video), shifted);
            let audio: Vec<_> = (0..3).map(|n| (48_000 * n + 120_000, 30 + n as u8)).collect();
            assert_eq!(samples(&merged.bytes, Track::Audio), audio);
            assert!(merged.keyframe && merged.start.is_zero() && merged.end == Duration::from_millis(3500));
        }
    }

    #[test]
    fn gaps_of_audio_become_silence() {
        let sample = |dts, duration| Sample { data: vec![9; 300], dts, duration, cts: 0, sync: true };
        let part = |sequence, video: i64, audio: Option<i64>| {
            let info = Info {
                sequence,
                init: 1,
                at: jiff::Timestamp::UNIX_EPOCH,
                discontinuity: false,
                gaps: vec![],
                check: String::new(),
            };
            let (video, audio) = ([sample(video * 90, 90_000)], audio.map(|at| [sample(at * 48, 48_000)]));
            let audio = audio.as_ref().map(|audio| (Track::Audio, &audio[..]));
            let runs: Vec<_> = [(Track::Video, &video[..])].into_iter().chain(audio).collect();
            encode(&runs, info).unwrap()
        };
        // Audio at 10.5 to 11.5 s and 13 to 14 s, of 10 to 15 s; the audio before a pause ended at 9 s.
        let parts = [(10_000, Some(10_500)), (11_000, None), (12_000, None), (13_000, Some(13_000)), (14_000, None)];
        let parts = (1..).zip(parts).flat_map(|(number, (video, audio))| part(number, video, audio));
        let segment: Vec<u8> = styp().into_iter().chain(parts).collect();
        let merged = merge(&segment, SignedDuration::from_secs(1), Some(Duration::from_secs(10))).unwrap();
        assert_eq!(merged.bytes.len(), segment.len());
        let found = samples(&merged.bytes, Track::Audio);
        let sound: Vec<u64> = found.iter().filter(|(_, byte)| *byte == 9).map(|(time, _)| *time).collect();
        assert_eq!(sound, [11_500 * 48, 14_000 * 48]);
        let silent = |from: u64, to: u64| {
            let of = |time: &u64| (from * 48..to * 48).contains(time);
            found.iter().filter(|(time, byte)| of(time) && [0xfb, 0xf8].contains(byte)).count() as u64
        };
        assert_eq!(found.first().unwrap().0, 10_000 * 48, "where the audio before the pause ended");
        assert!(silent(10_000, 11_500) >= 12 && silent(12_500, 14_000) >= 12);
        assert_eq!(found.len() as u64, 2 + silent(0, 20_000));
        assert_eq!(audio_end(&segment), Some(Duration::from_secs(14)));
    }

    #[test]
    fn silence_without_room_is_left_out() {
        let segment = segment(false);
        let merged = merge(&segment, SignedDuration::from_secs(80_000), Some(Duration::ZERO)).unwrap();
        assert_eq!(merged.bytes.len(), segment.len());
        assert_eq!(samples(&merged.bytes, Track::Audio)[0], (80_000 * 48_000, 30));
    }

    #[test]
    fn cut_starts_with_a_keyframe_and_ends_with_its_part() {
        let segment = segment(false);
        let times = Duration::from_millis(1200)..Duration::from_millis(1300);
        let cut = cut(&segment, times, SignedDuration::ZERO, None).unwrap();
        let video = [(0, 10), (45_000, 20), (90_000, 11), (135_000, 21)];
        assert_eq!(samples(&cut.bytes, Track::Video), video);
        assert_eq!((cut.start, cut.end), (Duration::ZERO, Duration::from_secs(2)));
    }

    #[test]
    fn merged_segment_is_a_moof_and_an_mdat() {
        let segment = segment(false);
        let merged = merge(&segment, SignedDuration::ZERO, None).unwrap().bytes;
        let size = |at: usize| u32::from_be_bytes(*merged[at..].first_chunk().unwrap()) as usize;
        let mdat = size(0);
        assert_eq!((&merged[4..8], &merged[mdat + 4..mdat + 8]), (&b"moof"[..], &b"mdat"[..]));
        assert_eq!(mdat + size(mdat), segment.len(), "nothing follows");
        assert_eq!(merged.last(), Some(&0), "zeros behind the samples");
    }

    #[test]
    fn track_of_a_fragment_is_one_run() {
        let merged = merge(&segment(false), SignedDuration::ZERO, Some(Duration::ZERO)).unwrap();
        let (moof, _) = MoofBox::decode(&merged.bytes).unwrap();
        let runs: Vec<_> = moof.traf_boxes.iter().map(|traf| (traf.tfhd_box.track_id, traf.trun_boxes.len())).collect();
        assert_eq!(runs, [(track_id(Track::Video), 1), (track_id(Track::Audio), 1)]);
    }

    #[test]
    fn earlier_samples_start_at_zero() {
        let segment = segment(false);
        let times = Duration::from_millis(1200)..Duration::from_secs(9);
        let start = cut_start(&segment, times.start).unwrap();
        assert_eq!(start, Duration::ZERO, "only the first part has a keyframe");
        let earlier = |seconds| cut(&segment, times.clone(), SignedDuration::from_secs(seconds), None).unwrap();
        assert_eq!(samples(&earlier(10).bytes, Track::Video)[0].0, 900_000);
        let zero = earlier(0);
        assert_eq!(samples(&earlier(-1).bytes, Track::Video), samples(&zero.bytes, Track::Video), "never below 0");
        assert_eq!(cut_start(b"something else", Duration::ZERO), None);
    }

    #[test]
    fn torn_segment_is_not_merged() {
        let segment = segment(false);
        assert_eq!(merge(b"something else", SignedDuration::ZERO, None), None);
        assert_eq!(merge(&segment[..30], SignedDuration::ZERO, None), None);
    }
}
