//! Merges the parts of a segment into one fragment, moved on the timeline.
//!
//! Players seek by the `sidx` box to a `moof`, and FFmpeg, with it Chromium, finds only the one at the start of an indexed
//! fragment. A merged segment is as long as the original: one `moof` takes less than those of all parts, and a `free` box
//! fills the rest. So lengths and offsets of a composed file are known without reading segments.

use std::{ops::Range, time::Duration};

use shiguredo_mp4::{
    BoxHeader, Encode as _, SampleFlags,
    boxes::{MfhdBox, MoofBox, TfdtBox, TfhdBox, TrafBox, TrunBox, TrunSample},
};

use super::ticks;
use crate::{
    clock::seconds,
    mp4::{
        part::{self, NOT_SYNC, SYNC},
        timescale, track_id,
    },
    types::Track,
};

/// A part within its segment.
#[derive(Debug)]
struct Part {
    read: part::Read,
    /// First byte of its payload, from the start of the segment.
    payload: usize,
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
    /// `moof` and `mdat`, and `free` where a length was wanted.
    pub bytes: Vec<u8>,
    /// Start of its first sample, before the shift.
    pub start: Duration,
    /// End of its last sample, before the shift.
    pub end: Duration,
    /// Decoding can start with it.
    pub keyframe: bool,
}

/// Merges a whole segment into a fragment of the same length, `shift` later on the timeline. None when it is not a whole
/// segment.
pub fn merge(segment: &[u8], shift: Duration) -> Option<Merged> {
    let parts = parts(segment);
    let mut merged = merge_parts(segment, &parts, shift)?;
    match segment.len().checked_sub(merged.bytes.len())? {
        0 => {}
        rest => {
            let size = u32::try_from(rest).ok().filter(|size| *size as usize >= BoxHeader::MIN_SIZE)?;
            merged.bytes.extend_from_slice(&size.to_be_bytes());
            merged.bytes.extend_from_slice(b"free");
            merged.bytes.resize(segment.len(), 0);
        }
    }
    Some(merged)
}

/// Merges the parts of a segment between two times, from the newest keyframe before on. None when there is no whole part.
pub fn cut(segment: &[u8], times: Range<Duration>, shift: Duration) -> Option<Merged> {
    let parts = parts(segment);
    let first = parts.iter().rposition(|part| part.is_keyframe() && part.extent().0 <= times.start).unwrap_or(0);
    let last = parts.iter().rposition(|part| part.extent().0 < times.end).unwrap_or(parts.len().saturating_sub(1));
    merge_parts(segment, parts.get(first..=last.max(first))?, shift)
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

fn merge_parts(segment: &[u8], parts: &[Part], shift: Duration) -> Option<Merged> {
    let (first, last) = (parts.first()?, parts.last()?);
    let trafs = |head: usize| -> Option<MoofBox> {
        let tracks = [Track::Video, Track::Audio].into_iter();
        let traf_boxes: Vec<TrafBox> = tracks.filter_map(|track| traf(parts, track, shift, head)).collect();
        let mfhd_box = MfhdBox { sequence_number: first.read.info.sequence };
        (!traf_boxes.is_empty()).then_some(MoofBox { mfhd_box, traf_boxes, unknown_boxes: vec![] })
    };
    // Offsets have one size, whatever they are.
    let head = trafs(0)?.encode_to_vec().ok()?.len() + BoxHeader::MIN_SIZE;
    let mut bytes = trafs(head)?.encode_to_vec().ok()?;
    let payload: usize = parts.iter().map(|part| part.read.payload_len as usize).sum();
    bytes.extend_from_slice(&u32::try_from(payload + BoxHeader::MIN_SIZE).ok()?.to_be_bytes());
    bytes.extend_from_slice(b"mdat");
    for part in parts {
        bytes.extend_from_slice(segment.get(part.payload..part.payload + part.read.payload_len as usize)?);
    }
    Some(Merged { bytes, start: first.extent().0, end: last.extent().1, keyframe: first.is_keyframe() })
}

/// All samples of a track: a `trun` per part. `head`: bytes before the payload.
fn traf(parts: &[Part], track: Track, shift: Duration, head: usize) -> Option<TrafBox> {
    let (mut truns, mut start, mut end): (Vec<TrunBox>, Option<i64>, i64) = (Vec::new(), None, 0);
    let mut at = head;
    for part in parts {
        for run in &part.read.runs {
            let len: usize = run.samples.iter().map(|sample| sample.size as usize).sum();
            if run.track == track {
                // Samples follow each other: what is missing before this part prolongs the last one.
                if let (Some(late @ 1..), Some(last)) = (
                    run.dts.checked_sub(end).filter(|_| start.is_some()),
                    truns.last_mut().and_then(|trun| trun.samples.last_mut()),
                ) {
                    last.duration = last.duration.map(|lasts| lasts.saturating_add(u32::try_from(late).unwrap_or(0)));
                }
                start.get_or_insert(run.dts);
                end = run.end();
                truns.push(trun(run, i32::try_from(at).ok()?));
            }
            at += len;
        }
    }
    let time = u64::try_from(start?).ok()?.checked_add(ticks(shift, timescale(track)))?;
    Some(TrafBox {
        tfhd_box: TfhdBox {
            track_id: track_id(track),
            base_data_offset: None,
            sample_description_index: None,
            default_sample_duration: None,
            default_sample_size: None,
            default_sample_flags: (track == Track::Audio).then_some(SYNC),
            duration_is_empty: false,
            default_base_is_moof: true,
        },
        tfdt_box: Some(TfdtBox { version: 1, base_media_decode_time: time }),
        trun_boxes: truns,
        unknown_boxes: vec![],
    })
}

fn trun(run: &part::Run, data_offset: i32) -> TrunBox {
    let reordered = run.samples.iter().any(|sample| sample.cts != 0);
    let flags = |sync: bool| if sync { SYNC } else { NOT_SYNC };
    let sample = |sample: &part::RunSample| TrunSample {
        duration: Some(sample.duration),
        size: Some(sample.size),
        flags: (run.track == Track::Video).then(|| flags(sample.sync)),
        composition_time_offset: reordered.then(|| i64::from(sample.cts)),
    };
    TrunBox {
        data_offset: Some(data_offset),
        first_sample_flags: None::<SampleFlags>,
        samples: run.samples.iter().map(sample).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mp4::part::{Info, Sample, encode, styp};
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
                time += u64::from(sample.duration.unwrap());
                at += sample.size.unwrap() as usize;
            }
        }
        found
    }

    #[test]
    fn merged_segment_has_its_length_and_samples() {
        for reordered in [false, true] {
            let segment = segment(reordered);
            let merged = merge(&segment, Duration::from_millis(2500)).unwrap();
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
    fn cut_starts_with_a_keyframe_and_ends_with_its_part() {
        let segment = segment(false);
        let times = Duration::from_millis(1200)..Duration::from_millis(1300);
        let cut = cut(&segment, times, Duration::ZERO).unwrap();
        let video = [(0, 10), (45_000, 20), (90_000, 11), (135_000, 21)];
        assert_eq!(samples(&cut.bytes, Track::Video), video);
        assert_eq!((cut.start, cut.end), (Duration::ZERO, Duration::from_secs(2)));
    }

    #[test]
    fn torn_segment_is_not_merged() {
        let segment = segment(false);
        assert_eq!(merge(b"something else", Duration::ZERO), None);
        assert_eq!(merge(&segment[..30], Duration::ZERO), None);
    }
}
