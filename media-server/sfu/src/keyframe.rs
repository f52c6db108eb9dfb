//! Where a decoder can start: the first packet of a keyframe, told from its payload alone.
//!
//! VP8: RFC 7741 §4.2 and RFC 6386 §9.1. VP9: RFC 9628 §4.2. H264: RFC 6184 §5.4 to §5.8. AV1: the RTP payload format of
//! AOMedia, §4.4. A payload that is cut short is no keyframe.

use crate::parameters::Codec;

/// Whether `payload` is the first packet of a frame that a decoder can start with. For H264 that is the packet with the
/// sequence parameter set, or the IDR slice itself.
pub fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Opus => !payload.is_empty(),
        Codec::Vp8 => vp8(payload).unwrap_or(false),
        Codec::Vp9 => vp9(payload).unwrap_or(false),
        Codec::H264 => h264(payload).unwrap_or(false),
        Codec::Av1 => av1(payload).unwrap_or(false),
    }
}

/// Whether a keyframe whose first known packet this is begins here for certain. All codecs but H264 say so in the payload;
/// of H264, only a delimiter or a sequence parameter set has nothing before it that a decoder needs (ITU-T H.264 §7.4.1.2.3).
pub fn opens_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::H264 => h264_begins(payload, |unit| matches!(unit, H264_SPS | H264_DELIMITER)).unwrap_or(false),
        _ => starts_keyframe(codec, payload),
    }
}

fn vp8(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let (start, partition) = (first & 0x10 != 0, first & 0x07);
    let mut at = 1;
    if first & 0x80 != 0 {
        let extension = *payload.get(at)?;
        at += 1;
        if extension & 0x80 != 0 {
            at += if *payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(extension & 0x40 != 0) + usize::from(extension & 0x30 != 0);
    }
    Some(start && partition == 0 && *payload.get(at)? & 0x01 == 0)
}

fn vp9(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let (picture_id, inter_predicted, layers, begin) =
        (first & 0x80 != 0, first & 0x40 != 0, first & 0x20 != 0, first & 0x08 != 0);
    let mut at = 1;
    if picture_id {
        at += if *payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
    }
    let spatial = if layers { (*payload.get(at)? >> 1) & 0x07 } else { 0 };
    Some(begin && !inter_predicted && spatial == 0)
}

const H264_IDR: u8 = 5;
const H264_SPS: u8 = 7;
const H264_DELIMITER: u8 = 9;

fn h264(payload: &[u8]) -> Option<bool> {
    h264_begins(payload, |unit| matches!(unit, H264_IDR | H264_SPS))
}

/// Whether a unit of a type that is `wanted` begins in this packet.
fn h264_begins(payload: &[u8], wanted: impl Fn(u8) -> bool) -> Option<bool> {
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    Some(match *payload.first()? & 0x1f {
        STAP_A => {
            let mut rest = &payload[1..];
            while let [high, low, unit @ ..] = rest {
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                if wanted(unit.first()? & 0x1f) {
                    return Some(true);
                }
                rest = unit.get(len..)?;
            }
            false
        }
        FU_A => {
            let header = *payload.get(1)?;
            header & 0x80 != 0 && wanted(header & 0x1f)
        }
        unit => wanted(unit),
    })
}

fn av1(payload: &[u8]) -> Option<bool> {
    // The N bit: this packet is the first of a coded video sequence.
    Some(*payload.first()? & 0x08 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vp8_keyframe_start_is_seen_behind_any_descriptor() {
        assert!(starts_keyframe(Codec::Vp8, &[0x10, 0x00]));
        assert!(!starts_keyframe(Codec::Vp8, &[0x10, 0x01]));
        assert!(!starts_keyframe(Codec::Vp8, &[0x00, 0x00]));
        assert!(starts_keyframe(Codec::Vp8, &[0x90, 0x80, 0x81, 0x23, 0x00]));
        assert!(!starts_keyframe(Codec::Vp8, &[0x90, 0xe0, 0x81, 0x23, 0x01, 0x00, 0x01]));
    }

    #[test]
    fn h264_parameter_sets_and_idr_start_a_keyframe() {
        assert!(starts_keyframe(Codec::H264, &[0x67, 0x42]));
        assert!(starts_keyframe(Codec::H264, &[24, 0, 2, 0x67, 0x42, 0, 1, 0x68]));
        assert!(starts_keyframe(Codec::H264, &[0x7c, 0x85]));
        assert!(!starts_keyframe(Codec::H264, &[0x7c, 0x05]));
        assert!(!starts_keyframe(Codec::H264, &[0x7c, 0x81]));
        assert!(!starts_keyframe(Codec::H264, &[24, 0, 9, 0x68]));
    }

    #[test]
    fn an_h264_keyframe_begins_for_certain_with_parameter_sets() {
        for first in [&[0x67, 0x42][..], &[0x09, 0xf0], &[24, 0, 1, 0x68, 0, 2, 0x67, 0x42]] {
            assert!(opens_keyframe(Codec::H264, first), "{first:?}");
        }
        for later in [&[0x68, 0xce][..], &[0x65, 0x88], &[0x7c, 0x85], &[24, 0, 1, 0x68], &[]] {
            assert!(!opens_keyframe(Codec::H264, later), "{later:?}");
        }
        assert!(opens_keyframe(Codec::Vp8, &[0x10, 0x00]));
    }

    #[test]
    fn vp9_and_av1_keyframes() {
        assert!(starts_keyframe(Codec::Vp9, &[0x88, 0x01]));
        assert!(!starts_keyframe(Codec::Vp9, &[0xc8, 0x01]));
        assert!(starts_keyframe(Codec::Av1, &[0x18, 0x0a]));
        assert!(!starts_keyframe(Codec::Av1, &[0x10, 0x32]));
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            for codec in [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
                starts_keyframe(codec, &payload);
                opens_keyframe(codec, &payload);
            }
        }
    }
}
