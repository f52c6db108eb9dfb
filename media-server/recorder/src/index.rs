//! The index of a recording in a few bytes per segment: all that playlists, seeks and composed MP4 files need.

use std::time::Duration;

use jiff::Timestamp;

use crate::{manifest::Manifest, playlist, record::SegmentRecord, types::File};

/// Version of the encoding.
const VERSION: u8 = 1;
const KEYFRAME: u64 = 1;
const DISCONTINUITY: u64 = 2;

/// A segment of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexedSegment {
    /// Number in the file's name.
    pub number: u32,
    /// Number of its init segment.
    pub init: u32,
    /// Length of the file.
    pub bytes: u64,
    /// Start, since the start of the recording.
    pub start: Duration,
    /// Duration, up to the next segment where that continues this one.
    pub duration: Duration,
    /// Wall clock of the first sample, in milliseconds.
    pub at: Timestamp,
    /// It starts with a keyframe, or has no video.
    pub keyframe: bool,
    /// It does not continue the segment before.
    pub discontinuity: bool,
}

/// The segments of a recording in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentIndex {
    /// Segments repeat parameter sets in band.
    pub in_band: bool,
    /// In order.
    pub segments: Vec<IndexedSegment>,
}

impl SegmentIndex {
    /// Returns the index of a finished recording.
    pub fn of_manifest(manifest: &Manifest) -> SegmentIndex {
        let segments = manifest.segments.iter().filter_map(|segment| {
            let (Ok(File::Segment(number)), Ok(File::Init(init))) = (segment.file.parse(), segment.init.parse()) else {
                return None;
            };
            Some(IndexedSegment {
                number,
                init,
                bytes: segment.bytes,
                start: micros(segment.start),
                duration: micros(segment.duration),
                at: millis(segment.at),
                keyframe: segment.keyframe,
                discontinuity: segment.discontinuity,
            })
        });
        SegmentIndex { in_band: manifest.version >= 2, segments: segments.collect() }
    }

    /// Returns the index of a recording under way: its closed segments, in order.
    pub fn of_records(records: &[SegmentRecord]) -> SegmentIndex {
        let entries: Vec<_> = records.iter().map(SegmentRecord::entry).collect();
        let segments = records.iter().zip(playlist::durations(&entries)).map(|(record, duration)| IndexedSegment {
            number: record.number,
            init: record.init,
            bytes: record.bytes,
            start: micros(record.start),
            duration: micros(duration),
            at: millis(record.at),
            keyframe: record.keyframe,
            discontinuity: record.discontinuity,
        });
        SegmentIndex { in_band: true, segments: segments.collect() }
    }

    /// Returns the compact form: about 11 bytes per segment.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, u8::from(self.in_band)];
        let mut before = Predicted::default();
        for segment in &self.segments {
            let flags = u64::from(segment.keyframe) * KEYFRAME + u64::from(segment.discontinuity) * DISCONTINUITY;
            let (start, at) = (to_i64(segment.start), segment.at.as_millisecond());
            put_signed(&mut bytes, i64::from(segment.number) - before.number);
            put(&mut bytes, u64::from(segment.init));
            put(&mut bytes, flags);
            put(&mut bytes, segment.bytes);
            put_signed(&mut bytes, start - before.start);
            put_signed(&mut bytes, to_i64(segment.duration) - before.duration);
            put_signed(&mut bytes, at - before.at);
            before = Predicted::after(segment);
        }
        bytes
    }

    /// Parses the compact form.
    pub fn decode(bytes: &[u8]) -> Option<SegmentIndex> {
        let (&[VERSION, in_band], mut rest) = bytes.split_first_chunk::<2>()? else { return None };
        let mut segments = Vec::new();
        let mut before = Predicted::default();
        while !rest.is_empty() {
            let number = u32::try_from(take_signed(&mut rest)?.checked_add(before.number)?).ok()?;
            let init = u32::try_from(take(&mut rest)?).ok()?;
            let flags = take(&mut rest)?;
            let bytes = take(&mut rest)?;
            let start = u64::try_from(take_signed(&mut rest)?.checked_add(before.start)?).ok()?;
            let duration = u64::try_from(take_signed(&mut rest)?.checked_add(before.duration)?).ok()?;
            let at = take_signed(&mut rest)?.checked_add(before.at)?;
            let segment = IndexedSegment {
                number,
                init,
                bytes,
                start: Duration::from_micros(start),
                duration: Duration::from_micros(duration),
                at: Timestamp::from_millisecond(at).ok()?,
                keyframe: flags & KEYFRAME != 0,
                discontinuity: flags & DISCONTINUITY != 0,
            };
            before = Predicted::after(&segment);
            segments.push(segment);
        }
        Some(SegmentIndex { in_band: in_band != 0, segments })
    }
}

/// What the next segment usually is; only the difference is stored.
#[derive(Default)]
struct Predicted {
    number: i64,
    start: i64,
    duration: i64,
    at: i64,
}

impl Predicted {
    fn after(segment: &IndexedSegment) -> Predicted {
        let duration = to_i64(segment.duration);
        Predicted {
            number: i64::from(segment.number) + 1,
            start: to_i64(segment.start).saturating_add(duration),
            duration,
            at: segment.at.as_millisecond().saturating_add(duration / 1000),
        }
    }
}

fn to_i64(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn micros(seconds: f64) -> Duration {
    Duration::from_micros((seconds.max(0.0) * 1e6).round() as u64)
}

fn millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// LEB128.
fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn put_signed(bytes: &mut Vec<u8>, value: i64) {
    put(bytes, ((value << 1) ^ (value >> 63)) as u64);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    let value = take(bytes)?;
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(n: u32) -> IndexedSegment {
        IndexedSegment {
            number: n + 1,
            init: 1,
            bytes: 250_000 + u64::from(n % 7),
            start: Duration::from_micros(10_000_011 * u64::from(n)),
            duration: Duration::from_micros(10_000_011),
            at: Timestamp::from_millisecond(1_790_000_000_000 + 10_000 * i64::from(n) + i64::from(n % 3)).unwrap(),
            keyframe: n != 3,
            discontinuity: n == 5,
        }
    }

    #[test]
    fn a_day_takes_about_eleven_bytes_per_segment() {
        let index = SegmentIndex { in_band: true, segments: (0..8640).map(segment).collect() };
        let bytes = index.encode();
        assert!(bytes.len() < 8640 * 12, "{}", bytes.len());
        assert_eq!(SegmentIndex::decode(&bytes), Some(index));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_index_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(index) = SegmentIndex::decode(&bytes) {
                prop_assert_eq!(SegmentIndex::decode(&index.encode()), Some(index));
            }
        }

        #[test]
        fn clock_steps_and_holes_survive(steps in prop::collection::vec((1u32..9, -9_000_000i64..9_000_000), 1..50)) {
            let mut segments: Vec<IndexedSegment> = Vec::new();
            for (n, (skip, step)) in (0..).zip(steps) {
                let number = segments.last().map_or(0, |last| last.number) + skip;
                let at = Timestamp::from_millisecond(1_790_000_000_000 + step).unwrap();
                segments.push(IndexedSegment { number, at, ..segment(n) });
            }
            let index = SegmentIndex { in_band: false, segments };
            prop_assert_eq!(SegmentIndex::decode(&index.encode()), Some(index));
        }
    }
}
