//! Moves the samples of segments on the timeline while their bytes pass, and finds the parts of a segment.

use std::time::Duration;

use crate::{
    clock::seconds,
    mp4::{part, timescale, track_of},
};

/// A `moof` of a part lists at most some hundreds of samples.
const MAX_MOOF: usize = 1 << 20;
/// Size and type.
const HEADER: usize = 8;

/// The bytes are not those of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a segment of a recording")]
pub struct ShiftError;

/// Adds a duration to the decoding times of all samples of segments. Lengths stay as they are.
#[derive(Debug)]
pub struct TimeShift {
    shift: Duration,
    /// The header of the next box, or the `moof` as far as it has arrived.
    buffer: Vec<u8>,
    /// Length of the `moof` that is being collected.
    moof: Option<usize>,
    /// Bytes of the current box that pass unchanged.
    passing: u64,
}

impl TimeShift {
    /// Starts at the first byte of a segment.
    pub fn new(shift: Duration) -> TimeShift {
        TimeShift { shift, buffer: Vec::new(), moof: None, passing: 0 }
    }

    /// Takes the next bytes and appends the shifted ones to `out`, up to the last complete header.
    ///
    /// # Errors
    /// The bytes are not those of a segment.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ShiftError> {
        while !bytes.is_empty() {
            if self.passing > 0 {
                let count = usize::try_from(self.passing).unwrap_or(usize::MAX).min(bytes.len());
                out.extend_from_slice(&bytes[..count]);
                bytes = &bytes[count..];
                self.passing -= count as u64;
                continue;
            }
            let wanted = self.moof.unwrap_or(HEADER);
            let count = (wanted - self.buffer.len()).min(bytes.len());
            self.buffer.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.buffer.len() == wanted {
                self.complete(out)?;
            }
        }
        Ok(())
    }

    /// A header or a `moof` is complete.
    fn complete(&mut self, out: &mut Vec<u8>) -> Result<(), ShiftError> {
        if self.moof.take().is_some() {
            shift_moof(&mut self.buffer, self.shift).ok_or(ShiftError)?;
        } else {
            let (size, kind) = header(&self.buffer).ok_or(ShiftError)?;
            if kind == b"moof" {
                self.moof = Some(size).filter(|size| *size <= MAX_MOOF);
                return self.moof.map(drop).ok_or(ShiftError);
            }
            self.passing = (size - HEADER) as u64;
        }
        out.append(&mut self.buffer);
        Ok(())
    }
}

/// Returns size and type of the box at the start of `bytes`.
fn header(bytes: &[u8]) -> Option<(usize, &[u8; 4])> {
    let size = usize::try_from(u32::from_be_bytes(*bytes.first_chunk()?)).ok()?;
    Some((size, bytes.get(4..)?.first_chunk()?)).filter(|(size, _)| *size >= HEADER)
}

/// The boxes in the payload of a box, with where they start.
fn boxes(bytes: &[u8], mut at: usize, end: usize) -> impl Iterator<Item = (usize, usize, [u8; 4])> {
    std::iter::from_fn(move || {
        let (size, kind) = header(bytes.get(at..end)?)?;
        let start = at;
        at = at.checked_add(size).filter(|at| *at <= end)?;
        Some((start, at, *kind))
    })
}

fn shift_moof(moof: &mut [u8], shift: Duration) -> Option<()> {
    let trafs: Vec<_> = boxes(moof, HEADER, moof.len()).filter(|(.., kind)| kind == b"traf").collect();
    for (start, end, _) in trafs {
        let find = |wanted: &[u8; 4]| boxes(moof, start + HEADER, end).find(|(.., kind)| kind == wanted);
        let (tfhd, ..) = find(b"tfhd")?;
        let (tfdt, tfdt_end, _) = find(b"tfdt")?;
        let track = track_of(u32::from_be_bytes(*moof.get(tfhd + 12..)?.first_chunk()?))?;
        // Version 1: 64 bits, as parts have it.
        let time = moof.get_mut(tfdt + 12..tfdt_end)?.first_chunk_mut::<8>()?;
        *time = u64::from_be_bytes(*time).checked_add(super::ticks(shift, timescale(track)))?.to_be_bytes();
    }
    Some(())
}

/// A part within its segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PartExtent {
    /// First byte, from the start of the segment.
    pub offset: usize,
    /// Length.
    pub bytes: usize,
    /// Start of its first sample.
    pub start: Duration,
    /// End of its last sample.
    pub end: Duration,
    /// Decoding can start here.
    pub keyframe: bool,
}

/// Returns the whole parts of a segment. Those of tracks without video all count as keyframes.
pub fn parts(segment: &[u8]) -> Vec<PartExtent> {
    let mut found = Vec::new();
    let Some((mut at, b"styp")) = header(segment) else { return found };
    while let Some(part) = segment.get(at..).and_then(part::decode) {
        let bytes = usize::try_from(part.len).unwrap_or(usize::MAX);
        let times = part.runs.iter().map(|run| {
            let rate = timescale(run.track);
            (seconds(run.dts, rate), seconds(run.end(), rate))
        });
        let (start, end) =
            times.fold((f64::INFINITY, 0.0), |(start, end), run| (f64::min(start, run.0), f64::max(end, run.1)));
        let video = part.runs.iter().find(|run| run.track == crate::types::Track::Video);
        found.push(PartExtent {
            offset: at,
            bytes,
            start: Duration::try_from_secs_f64(start).unwrap_or_default(),
            end: Duration::try_from_secs_f64(end).unwrap_or_default(),
            keyframe: video.is_none_or(|run| run.samples.first().is_some_and(|sample| sample.sync)),
        });
        at += bytes;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mp4::part::{Info, Sample, encode, styp},
        types::Track,
    };

    fn segment() -> Vec<u8> {
        let sample = |dts, duration, sync| Sample { data: vec![7; 300], dts, duration, cts: 0, sync };
        let part = |sequence, n: i64| {
            let info = Info {
                sequence,
                init: 1,
                at: jiff::Timestamp::UNIX_EPOCH,
                discontinuity: false,
                gaps: vec![],
                check: String::new(),
            };
            let video = [sample(90_000 * n, 90_000, n == 0)];
            let audio = [sample(48_000 * n, 48_000, true)];
            encode(&[(Track::Video, &video), (Track::Audio, &audio)], info).unwrap()
        };
        [styp(), part(1, 0), part(2, 1), part(3, 2)].concat()
    }

    #[test]
    fn times_move_by_the_shift_whatever_the_chunks() {
        let segment = segment();
        for size in [1, 7, 100, 4096] {
            let mut shift = TimeShift::new(Duration::from_millis(2500));
            let mut moved = Vec::new();
            segment.chunks(size).for_each(|chunk| shift.push(chunk, &mut moved).unwrap());
            assert_eq!(moved.len(), segment.len());
            // The checksum of a part covers its times.
            assert!(parts(&moved).is_empty());
            let times = |bytes: &[u8]| -> Vec<u64> {
                let found = bytes.windows(4).enumerate().filter(|(_, kind)| *kind == b"tfdt").map(|(at, _)| at);
                found.map(|at| u64::from_be_bytes(bytes[at + 8..at + 16].try_into().unwrap())).collect()
            };
            let expected: Vec<u64> =
                times(&segment).chunks(2).flat_map(|pair| [pair[0] + 225_000, pair[1] + 120_000]).collect();
            assert_eq!(times(&moved), expected);
        }
    }

    #[test]
    fn bytes_of_another_file_are_refused() {
        let mut shift = TimeShift::new(Duration::ZERO);
        let mut out = Vec::new();
        assert_eq!(shift.push(b"\0\0\0\x04moof", &mut out), Err(ShiftError));
        assert_eq!(TimeShift::new(Duration::ZERO).push(b"\x7f\0\0\0moof", &mut out), Err(ShiftError));
    }

    #[test]
    fn parts_are_listed_with_time_and_keyframe() {
        let listed: Vec<_> =
            parts(&segment()).iter().map(|part| (part.start.as_secs(), part.end.as_secs(), part.keyframe)).collect();
        assert_eq!(listed, [(0, 1, true), (1, 2, false), (2, 3, false)]);
    }
}
