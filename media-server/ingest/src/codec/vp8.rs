//! VP8: the frame tag (RFC 6386 §9.1) and the RTP payload descriptor (RFC 7741 §4.2).

use super::Part;

/// Whether an encoded frame is a key frame.
pub(crate) fn is_keyframe(frame: &[u8]) -> bool {
    frame.first().is_some_and(|tag| tag & 1 == 0)
}

pub(crate) fn inspect(payload: &[u8]) -> Part {
    let begins = payload.first().is_some_and(|byte| byte & 0x17 == 0x10);
    Part { begins, key: begins && body(payload).is_some_and(is_keyframe), ..Part::default() }
}

/// What follows the payload descriptor.
fn body(payload: &[u8]) -> Option<&[u8]> {
    let extended = payload.first()? & 0x80 != 0;
    let mut size = 1;
    if extended {
        let extension = *payload.get(1)?;
        size += 1;
        if extension & 0x80 != 0 {
            size += if payload.get(size)? & 0x80 != 0 { 2 } else { 1 };
        }
        size += usize::from(extension & 0x40 != 0) + usize::from(extension & 0x30 != 0);
    }
    payload.get(size..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_frame_begins_at_the_first_partition() {
        let key = Part { begins: true, key: true, ..Part::default() };
        assert_eq!(inspect(&[0x10, 0x10]), key);
        assert_eq!(inspect(&[0x90, 0x80, 0x05, 0x10]), key);
        assert_eq!(inspect(&[0x90, 0xf0, 0x80, 0x05, 0, 0, 0x10]), key);
        assert_eq!(inspect(&[0x10, 0x11]), Part { key: false, ..key });
        assert_eq!(inspect(&[0x00, 0x10]), Part::default());
        assert_eq!(inspect(&[0x11, 0x10]), Part::default());
    }
}
