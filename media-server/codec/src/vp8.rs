//! VP8 payloads: the payload descriptor (RFC 7741 section 4.2) and the frame tag (RFC 6386 section 9.1).

use crate::{agrees, take};

/// Bytes of the frame tag, after which a key frame has its start code.
const TAG: usize = 3;
const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];

/// Returns whether a frame starts in this payload, and the bytes after the payload descriptor.
pub fn descriptor(payload: &[u8]) -> Option<(bool, &[u8])> {
    let (&first, mut rest) = payload.split_first()?;
    let start = first & 0x10 != 0 && first & 0x07 == 0;
    if first & 0x80 != 0 {
        let extensions = take(&mut rest)?;
        if extensions & 0x80 != 0 && take(&mut rest)? & 0x80 != 0 {
            take(&mut rest)?;
        }
        if extensions & 0x40 != 0 {
            take(&mut rest)?;
        }
        if extensions & 0x30 != 0 {
            take(&mut rest)?;
        }
    }
    Some((start, rest))
}

/// Returns whether `frame` starts like a key frame. A start code that is cut off is not missed.
pub fn is_key_frame(frame: &[u8]) -> bool {
    frame.first().is_some_and(|tag| tag & 0x01 == 0) && agrees(frame.get(TAG..).unwrap_or_default(), &START_CODE)
}

/// Returns whether this is the first payload of a key frame.
pub fn starts_key_frame(payload: &[u8]) -> bool {
    descriptor(payload).is_some_and(|(start, frame)| start && is_key_frame(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frame_is_found_behind_any_descriptor() {
        let frame = [0x50, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01];
        let descriptors: [&[u8]; 4] =
            [&[0x10], &[0x90, 0x80, 0x05], &[0x90, 0x80, 0x85, 0x01], &[0x90, 0xf0, 0x81, 2, 3, 4]];
        for descriptor in descriptors {
            assert!(starts_key_frame(&[descriptor, &frame].concat()), "{descriptor:?}");
        }
    }

    #[test]
    fn other_payloads_start_no_key_frame() {
        for payload in [
            &[0x10, 0x51, 0x00, 0x00, 0x9d, 0x01, 0x2a][..], // not the key frame bit
            &[0x10, 0x50, 0x00, 0x00, 0x9d, 0x01, 0x2b],     // not the start code
            &[0x00, 0x50, 0x00, 0x00, 0x9d, 0x01, 0x2a],     // not the start of a frame
            &[0x11, 0x50, 0x00, 0x00, 0x9d, 0x01, 0x2a],     // partition 1
            &[0x90, 0xe0, 0x81, 0x23, 0x01, 0x00],
            &[0x10],
            &[],
        ] {
            assert!(!starts_key_frame(payload), "{payload:?}");
        }
    }
}
