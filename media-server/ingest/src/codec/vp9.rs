//! VP9: the uncompressed header (VP9 bitstream specification §6.2) and the RTP payload descriptor (RFC 9628 §4.2).

use bytes::{BufMut, Bytes, BytesMut};

use super::Part;

/// The descriptor of a predicted frame; that of a key frame is a byte less.
const DESCRIPTOR: usize = 4;

/// Cuts a frame into RTP payloads of at most `limit` bytes, in flexible mode, each frame referring to the one before.
///
/// The library's own payloader says of every frame that it is not predicted, by which receivers know a key frame.
pub(crate) fn payloads(frame: &Bytes, picture_id: u16, limit: usize) -> Vec<Bytes> {
    let key = is_keyframe(frame);
    let size = limit.saturating_sub(DESCRIPTOR).max(1);
    let last = frame.len().div_ceil(size).saturating_sub(1);
    let cut = frame.chunks(size).enumerate().map(|(index, part)| {
        let mut payload = BytesMut::with_capacity(DESCRIPTOR + part.len());
        // I (picture id), P (predicted), F (flexible mode), B (begin of frame), E (end of frame).
        let predicted = if key { 0 } else { 0x40 };
        let begins = if index == 0 { 0x08 } else { 0 };
        let ends = if index == last { 0x04 } else { 0 };
        payload.put_u8(0x80 | predicted | 0x10 | begins | ends);
        payload.put_u16(0x8000 | picture_id);
        if !key {
            // P_DIFF 1, and no more of them.
            payload.put_u8(1 << 1);
        }
        payload.extend_from_slice(part);
        payload.freeze()
    });
    cut.collect()
}

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
    fn payloads_tell_key_frames_from_others() {
        let key = payloads(&Bytes::from_static(&[0x82, 1, 2]), 0x1234, 6);
        assert_eq!(key, [&[0x98, 0x92, 0x34, 0x82, 1][..], &[0x94, 0x92, 0x34, 2]]);
        let parts: Vec<Part> = key.iter().map(|payload| inspect(payload)).collect();
        assert_eq!(parts, [Part { begins: true, key: true, ..Part::default() }, Part::default()]);
        let predicted = payloads(&Bytes::from_static(&[0x86]), 1, 1200);
        assert_eq!(predicted, [&[0xdc, 0x80, 0x01, 0x02, 0x86][..]]);
        assert_eq!(inspect(&predicted[0]), Part { begins: true, ..Part::default() });
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
