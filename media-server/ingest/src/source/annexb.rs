//! H264 byte streams (ITU-T H.264, Annex B): NAL units between start codes, gathered into access units (§7.4.1.2.3).
//!
//! The format has no times: pictures are spaced evenly by the rate that is given, else by the sequence parameter set's
//! timing information (§E.2.1), else 30 a second. Pictures must be in the order in which they are shown, for an RTP
//! timestamp is all that a receiver has to order them by: B-slices are refused. Parameter sets that stand only at the
//! beginning of the file are put before each later keyframe too, so that a viewer who joins there can decode.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::rbsp;

use super::{Clip, Frame, FrameRate, SourceError};
use crate::codec::Codec;

const START_CODE: [u8; 4] = [0, 0, 0, 1];
const SLICE: u8 = 1;
const IDR: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;

/// One picture under construction: NAL units of the input that follow one another.
#[derive(Default)]
struct Unit {
    bytes: Range<usize>,
    picture: bool,
    idr: bool,
    sps: bool,
    pps: bool,
}

pub(super) fn parse(data: &Bytes, rate: Option<FrameRate>) -> Result<Clip, SourceError> {
    let mut units: Vec<Unit> = Vec::new();
    let mut open: Option<Unit> = None;
    let (mut sps, mut pps) = (None, None);
    for nal in nal_units(data) {
        let bytes = &data[nal.clone()];
        let Some(header) = bytes.first() else { continue };
        let kind = header & 0x1f;
        if kind == SLICE && is_b_slice(bytes) {
            return Err(SourceError::BFrames);
        }
        if open.as_ref().is_some_and(|unit| unit.picture && begins_access_unit(kind, bytes)) {
            units.extend(open.take());
        }
        // The start code goes with its NAL unit: three zeros or two before the one.
        let start = if nal.start >= 4 && data[nal.start - 4] == 0 { nal.start - 4 } else { nal.start - 3 };
        let unit = open.get_or_insert_with(|| Unit { bytes: start..start, ..Unit::default() });
        unit.bytes.end = nal.end;
        unit.picture |= matches!(kind, 1..=5);
        unit.idr |= kind == IDR;
        unit.sps |= kind == SPS;
        unit.pps |= kind == PPS;
        match kind {
            SPS if sps.is_none() => sps = Some(nal),
            PPS if pps.is_none() => pps = Some(nal),
            _ => {}
        }
    }
    units.extend(open.take().filter(|unit| unit.picture));

    let sps = sps.ok_or(SourceError::H264("no sequence parameter set: it cannot be decoded"))?;
    let pps = pps.ok_or(SourceError::H264("no picture parameter set: it cannot be decoded"))?;
    // What comes before the first keyframe shows nothing.
    let first = units.iter().position(|unit| unit.idr).ok_or(SourceError::H264("no keyframe (IDR picture)"))?;
    let rate = rate.or_else(|| timing(&data[sps.clone()])).unwrap_or(FrameRate::DEFAULT);
    let frames: Vec<Frame> = units[first..]
        .iter()
        .enumerate()
        .map(|(index, unit)| {
            let mut bytes = data.slice(unit.bytes.clone());
            if unit.idr && !(unit.sps && unit.pps) {
                bytes = with_parameter_sets(&data[sps.clone()], &data[pps.clone()], &bytes);
            }
            Frame { at: rate.at(index), data: bytes, keyframe: unit.idr }
        })
        .collect();
    let duration = rate.at(frames.len());
    Ok(Clip { codec: Codec::H264, frames, duration, fmtp: fmtp(&data[sps]) })
}

/// Where the NAL units are, without start codes and trailing zeros.
fn nal_units(data: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = next_start_code(data, 0).map(|code| code + 3);
    std::iter::from_fn(move || {
        let start = at?;
        let next = next_start_code(data, start);
        at = next.map(|code| code + 3);
        let mut end = next.unwrap_or(data.len());
        while end > start && data[end - 1] == 0 {
            end -= 1;
        }
        Some(start..end)
    })
}

/// Index of the next `00 00 01` from `from` on.
fn next_start_code(data: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at + 3 <= data.len() {
        // The third byte alone rules out most positions.
        match data[at + 2] {
            0 => at += 1,
            1 if data[at] == 0 && data[at + 1] == 0 => return Some(at),
            _ => at += 3,
        }
    }
    None
}

/// Whether a NAL unit that follows a picture's slices belongs to the next picture (§7.4.1.2.3, without redundant
/// pictures and arbitrary slice order, which no WebRTC encoder makes).
fn begins_access_unit(kind: u8, nal: &[u8]) -> bool {
    match kind {
        // first_mb_in_slice is 0: its Exp-Golomb code is a single 1.
        1 | 2 | 5 => nal.get(1).is_some_and(|byte| byte & 0x80 != 0),
        6..=9 | 14..=18 => true,
        _ => false,
    }
}

/// slice_type of a slice header (§7.3.3) is B (1, or 6 where it holds for the whole picture).
fn is_b_slice(nal: &[u8]) -> bool {
    let mut position = 8;
    let bit = |position: usize| nal.get(position / 8).map(|byte| byte >> (7 - position % 8) & 1);
    let mut exp_golomb = || -> Option<u32> {
        let mut zeros = 0;
        while bit(position)? == 0 {
            zeros += 1;
            position += 1;
            if zeros > 31 {
                return None;
            }
        }
        let mut value = 0u32;
        for _ in 0..=zeros {
            value = value << 1 | u32::from(bit(position)?);
            position += 1;
        }
        Some(value - 1)
    };
    let _first_mb_in_slice = exp_golomb();
    matches!(exp_golomb(), Some(1 | 6))
}

fn with_parameter_sets(sps: &[u8], pps: &[u8], picture: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(2 * START_CODE.len() + sps.len() + pps.len() + picture.len());
    for part in [&START_CODE, sps, &START_CODE, pps, picture] {
        bytes.extend_from_slice(part);
    }
    bytes.freeze()
}

fn timing(sps: &[u8]) -> Option<FrameRate> {
    let decoded = rbsp::decode_nal(sps).ok()?;
    let parsed = SeqParameterSet::from_bits(rbsp::BitReader::new(&*decoded)).ok()?;
    let timing = parsed.vui_parameters?.timing_info?;
    // A tick is a field: two make a picture.
    FrameRate::new(timing.time_scale, timing.num_units_in_tick.checked_mul(2)?)
}

/// RFC 6184 §8.1: profile-level-id is the three bytes after the NAL header.
fn fmtp(sps: &[u8]) -> String {
    let id: String = sps.iter().skip(1).take(3).map(|byte| format!("{byte:02x}")).collect();
    format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SPS_BYTES: &[u8] = &[0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xdb, 0x02];
    const PPS_BYTES: &[u8] = &[0, 0, 0, 1, 0x68, 0xca, 0x8c];
    const IDR_BYTES: &[u8] = &[0, 0, 1, 0x65, 0x88, 0x84];
    /// first_mb 0, slice_type 5 (P).
    const P_BYTES: &[u8] = &[0, 0, 0, 1, 0x41, 0x9a, 0x11];

    fn file(parts: &[&[u8]]) -> Bytes {
        Bytes::from(parts.concat())
    }

    #[test]
    fn the_demo_has_a_keyframe_every_two_seconds() {
        let clip = parse(&Bytes::from_static(crate::demo::VIDEO), None).unwrap();
        assert_eq!(clip.frames.len(), 240);
        assert_eq!(clip.duration, Duration::from_secs(8));
        assert_eq!(clip.fmtp, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42c01e");
        let keyframes: Vec<_> =
            clip.frames.iter().filter(|frame| frame.keyframe).map(|frame| frame.at.as_secs()).collect();
        assert_eq!(keyframes, [0, 2, 4, 6]);
        let bytes: usize = clip.frames.iter().map(|frame| frame.data.len()).sum();
        assert_eq!(bytes, crate::demo::VIDEO.len());
    }

    #[test]
    fn slices_of_one_picture_stay_together() {
        // first_mb 1, slice_type 5.
        let second_slice: &[u8] = &[0, 0, 1, 0x41, 0b0100_0110, 0x11];
        let clip = parse(&file(&[SPS_BYTES, PPS_BYTES, IDR_BYTES, P_BYTES, second_slice, P_BYTES]), None).unwrap();
        let sizes: Vec<_> = clip.frames.iter().map(|frame| frame.data.len()).collect();
        assert_eq!(sizes, [23, P_BYTES.len() + second_slice.len(), P_BYTES.len()]);
    }

    #[test]
    fn parameter_sets_are_repeated_before_each_keyframe() {
        let clip = parse(&file(&[SPS_BYTES, PPS_BYTES, IDR_BYTES, P_BYTES, IDR_BYTES]), None).unwrap();
        assert_eq!(clip.frames.len(), 3);
        assert_eq!(clip.frames[2].data, file(&[SPS_BYTES, PPS_BYTES, IDR_BYTES]));
    }

    #[test]
    fn pictures_before_the_first_keyframe_are_left_out() {
        let clip = parse(&file(&[SPS_BYTES, PPS_BYTES, P_BYTES, IDR_BYTES, P_BYTES]), None).unwrap();
        assert_eq!(clip.frames.len(), 2);
        assert!(clip.frames[0].keyframe);
        assert_eq!(clip.frames[0].at, Duration::ZERO);
    }

    #[test]
    fn the_given_rate_wins_over_the_file_s() {
        let rate = FrameRate::new(25, 1);
        let clip = parse(&Bytes::from_static(crate::demo::VIDEO), rate).unwrap();
        assert_eq!(clip.frames[1].at, Duration::from_millis(40));
    }

    #[test]
    fn b_frames_are_refused_with_the_remedy() {
        // slice_type 6: ue 00111.
        let b: &[u8] = &[0, 0, 1, 0x01, 0b1001_1111, 0xff];
        let error = parse(&file(&[SPS_BYTES, PPS_BYTES, IDR_BYTES, b]), None).unwrap_err();
        assert!(matches!(error, SourceError::BFrames));
        assert!(error.to_string().contains("-bf 0"));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (parts, missing) in [
            (vec![PPS_BYTES, IDR_BYTES], "sequence"),
            (vec![SPS_BYTES, IDR_BYTES], "picture parameter"),
            (vec![SPS_BYTES, PPS_BYTES, P_BYTES], "keyframe"),
        ] {
            let error = parse(&file(&parts), None).unwrap_err();
            assert!(error.to_string().contains(missing), "{error}");
        }
    }
}
