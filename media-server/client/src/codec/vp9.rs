//! VP9: the uncompressed header (VP9 bitstream specification §6.2) and the RTP payload descriptor (RFC 9628 §4.2).

use super::Part;

/// Whether an encoded frame, or the first of a superframe, is a key frame.
pub(crate) fn is_keyframe(frame: &[u8]) -> bool {
    let Some(byte) = frame.first() else { return false };
    let profile_3 = byte & 0x30 == 0x30;
    // show_existing_frame, then frame_type: both 0. Profile 3 has a reserved bit before them.
    let mask = if profile_3 { 0x06 } else { 0x0c };
    byte & 0xc0 == 0x80 && byte & mask == 0
}

pub(crate) fn inspect(payload: &[u8]) -> Part {
    let Some(byte) = payload.first() else { return Part::default() };
    let predicted = byte & 0x40 != 0;
    let begins = byte & 0x08 != 0 && spatial_layer(payload).unwrap_or(0) == 0;
    Part { begins, key: begins && !predicted, ..Part::default() }
}

fn spatial_layer(payload: &[u8]) -> Option<u8> {
    let byte = payload.first()?;
    if byte & 0x20 == 0 {
        return None;
    }
    let mut at = 1;
    if byte & 0x80 != 0 {
        at += if payload.get(1)? & 0x80 != 0 { 2 } else { 1 };
    }
    payload.get(at).map(|layers| layers >> 1 & 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_by_their_header() {
        assert!(is_keyframe(&[0x82]));
        assert!(!is_keyframe(&[0x86]));
        assert!(!is_keyframe(&[0x8a]));
        assert!(!is_keyframe(&[0x02]));
        assert!(is_keyframe(&[0xb0]));
    }

    #[test]
    fn an_upper_spatial_layer_does_not_begin_a_frame() {
        let key = Part { begins: true, key: true, ..Part::default() };
        assert_eq!(inspect(&[0x98, 0x80, 0x01]), key);
        assert_eq!(inspect(&[0xd8, 0x80, 0x01]), Part { key: false, ..key });
        assert_eq!(inspect(&[0xb8, 0x80, 0x01, 0x00]), key);
        assert_eq!(inspect(&[0xb8, 0x80, 0x01, 0x02]), Part::default());
    }
}
