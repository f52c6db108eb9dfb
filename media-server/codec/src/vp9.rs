//! VP9 payloads: the payload descriptor (RFC 9628 section 4.2) and the start of the uncompressed header (VP9 bitstream
//! specification section 6.2).

use crate::{agrees, take};

const SYNC_CODE: [u8; 3] = [0x49, 0x83, 0x42];

/// The payload descriptor, and the bytes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor<'a> {
    /// The B bit: a layer frame starts.
    pub begins_layer: bool,
    /// The E bit: a layer frame ends.
    pub ends_layer: bool,
    /// Spatial layer 0, or none is named.
    pub lowest_layer: bool,
    /// The P bit: the picture refers to earlier ones.
    pub predicted: bool,
    /// The largest layer's size, when the scalability structure names it.
    pub size: Option<(u16, u16)>,
    /// The rest of the payload.
    pub body: &'a [u8],
}

/// Parses the payload descriptor.
pub fn descriptor(payload: &[u8]) -> Option<Descriptor<'_>> {
    let (&first, mut rest) = payload.split_first()?;
    let [has_picture_id, predicted, has_layers, flexible, begins_layer, ends_layer, has_structure] =
        [0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02].map(|bit| first & bit != 0);
    if has_picture_id && take(&mut rest)? & 0x80 != 0 {
        take(&mut rest)?;
    }
    let mut lowest_layer = true;
    if has_layers {
        lowest_layer = take(&mut rest)? & 0x0e == 0;
        if !flexible {
            take(&mut rest)?;
        }
    }
    if flexible && predicted {
        let mut more = true;
        for _ in 0..3 {
            if more {
                more = take(&mut rest)? & 0x01 != 0;
            }
        }
        if more {
            return None;
        }
    }
    let size = if has_structure { structure(&mut rest)? } else { None };
    Some(Descriptor { begins_layer, ends_layer, lowest_layer, predicted, size, body: rest })
}

/// Skips the scalability structure (RFC 9628 section 4.2.1) and returns the size of its highest layer.
fn structure(rest: &mut &[u8]) -> Option<Option<(u16, u16)>> {
    let head = take(rest)?;
    let mut size = None;
    if head & 0x10 != 0 {
        for _ in 0..=(head >> 5) {
            let width = u16::from_be_bytes([take(rest)?, take(rest)?]);
            let height = u16::from_be_bytes([take(rest)?, take(rest)?]);
            size = Some((width, height)).filter(|_| width > 0 && height > 0);
        }
    }
    if head & 0x08 != 0 {
        for _ in 0..take(rest)? {
            for _ in 0..(take(rest)? >> 2 & 0x03) {
                take(rest)?;
            }
        }
    }
    Some(size)
}

/// Returns whether `frame` starts like a key frame: frame marker, profile, no `show_existing_frame`, `frame_type` 0, and the
/// sync code as far as it is present.
pub fn is_key_frame(frame: &[u8]) -> bool {
    let Some((&first, rest)) = frame.split_first() else { return false };
    if first >> 6 != 0b10 {
        return false;
    }
    // Profile 3 has a reserved bit behind the profile, which moves the rest by one.
    let (flags, shifted) = if first & 0x30 == 0x30 { (first << 1, true) } else { (first, false) };
    let is_key = flags & 0x0c == 0;
    // With profile 3 the header's flags end in the next byte, and the sync code is not at a byte's start.
    is_key && (shifted || agrees(rest, &SYNC_CODE))
}

/// Returns whether this is the first payload of a key frame, from its lowest spatial layer on.
pub fn starts_key_frame(payload: &[u8]) -> bool {
    descriptor(payload).is_some_and(|d| d.begins_layer && d.lowest_layer && !d.predicted && is_key_frame(d.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_and_header_identify_a_key_frame() {
        for payload in [
            &[0x88, 0x01, 0x82, 0x49, 0x83, 0x42, 0x00][..],
            &[0x88, 0x81, 0x23, 0x82, 0x49], // a picture id of 15 bits, a header cut short
            &[0x98, 0x01, 0x82, 0x49, 0x83, 0x42], // flexible mode
            &[0x28, 0x00, 0x07, 0x82, 0x49], // layers
            &[0x08, 0xb0, 0x24, 0xc1, 0xa1], // profile 3
            &[0x8a, 0x01, 0x00, 0x92, 0x49, 0x83], // profile 2 behind an empty structure
        ] {
            assert!(starts_key_frame(payload), "{payload:?}");
        }
        for payload in [
            &[0x88, 0x01, 0x86, 0x00][..],         // P is 0, but the frame type is not key
            &[0x88, 0x01, 0x84, 0x49, 0x83, 0x42], // intra-only: frame type 1 without P
            &[0x88, 0x01, 0x88],                   // shows an existing frame
            &[0xc8, 0x01, 0x82, 0x49, 0x83, 0x42], // P
            &[0x80, 0x01, 0x82, 0x49, 0x83, 0x42], // not the start of a layer frame
            &[0x28, 0x02, 0x07, 0x82, 0x49],       // spatial layer 1
            &[0x88, 0x01, 0x82, 0x49, 0x83, 0x43], // not the sync code
            &[0x88, 0x01, 0x02, 0x49, 0x83, 0x42], // not the frame marker
            &[0x08, 0xb4, 0x24],                   // profile 3, not key
            &[0x88, 0x01],
            &[0x88],
            &[],
        ] {
            assert!(!starts_key_frame(payload), "{payload:?}");
        }
    }
}
