//! AV1 payloads: aggregation header and OBU elements (AV1 RTP payload format, sections 4.3 to 4.5), and of the OBUs as
//! much as identifies a random access point (AV1 specification sections 5.3, 5.5.1 and 5.9.2).

use crate::{Inspection, take};

/// OBU types (AV1 specification section 6.2.2).
pub const SEQUENCE_HEADER: u8 = 1;
/// See [`SEQUENCE_HEADER`].
pub const TEMPORAL_DELIMITER: u8 = 2;
/// See [`SEQUENCE_HEADER`].
pub const FRAME_HEADER: u8 = 3;
/// See [`SEQUENCE_HEADER`].
pub const FRAME: u8 = 6;

/// Reads a leb128 value (AV1 specification section 4.10.5), at most 32 bits.
fn leb128(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0u64;
    for n in 0..8 {
        let byte = take(rest)?;
        value |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok().and_then(|value| usize::try_from(value).ok());
        }
    }
    None
}

/// The OBUs that start in a payload: type and body, which may be cut short.
struct Obus<'a> {
    rest: &'a [u8],
    /// W: elements in the payload, 0 when each has a length.
    count: u8,
    number: u8,
    /// Z: the first element continues an OBU of the packet before.
    continues: bool,
}

impl<'a> Obus<'a> {
    fn new(payload: &'a [u8]) -> Option<Self> {
        let (&aggregation, rest) = payload.split_first()?;
        Some(Self { rest, count: aggregation >> 4 & 0x03, number: 0, continues: aggregation & 0x80 != 0 })
    }

    fn element(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.number = self.number.saturating_add(1);
        let size = if self.number == self.count { self.rest.len() } else { leb128(&mut self.rest)? };
        let element = self.rest.get(..size)?;
        self.rest = &self.rest[size..];
        Some(element)
    }
}

impl<'a> Iterator for Obus<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::take(&mut self.continues) {
            self.element()?;
        }
        loop {
            let mut element = self.element()?;
            let Some(header) = take(&mut element) else { continue };
            if header & 0x80 != 0 {
                return None;
            }
            if header & 0x04 != 0 {
                take(&mut element)?;
            }
            if header & 0x02 != 0 {
                leb128(&mut element)?;
            }
            return Some((header >> 3 & 0x0f, element));
        }
    }
}

/// Returns whether the sequence header with this body makes every frame a shown key frame.
pub fn is_reduced_still_picture(sequence_header: &[u8]) -> bool {
    sequence_header.first().is_some_and(|byte| byte & 0x08 != 0)
}

/// Returns whether the frame (header) OBU with this body is a shown key frame: no `show_existing_frame`, `frame_type`
/// KEY_FRAME, `show_frame`. `reduced`: see [`is_reduced_still_picture`].
pub fn is_shown_key_frame(frame: &[u8], reduced: bool) -> bool {
    frame.first().is_some_and(|byte| reduced || byte & 0xf0 == 0x10)
}

/// Inspects a payload. Only the first frame in it counts: it is the one that a temporal unit starts with.
pub(crate) fn inspect(payload: &[u8]) -> Inspection {
    let mut found = Inspection::default();
    let Some(obus) = Obus::new(payload) else { return found };
    let continues = obus.continues;
    let mut reduced = false;
    for (position, (kind, body)) in obus.enumerate() {
        let first = position == 0 && !continues;
        match kind {
            TEMPORAL_DELIMITER => found.opens |= first,
            SEQUENCE_HEADER => {
                found.opens |= first;
                found.parameters = true;
                reduced = is_reduced_still_picture(body);
            }
            FRAME | FRAME_HEADER => {
                found.random_access = is_shown_key_frame(body, reduced).then_some(0);
                break;
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two elements of lengths 3 and the rest: a sequence header and a frame.
    const fn key(aggregation: u8, frame: u8) -> [u8; 8] {
        [aggregation, 3, 0x08, 0x00, 0x00, 0x30, frame, 0x00]
    }

    #[test]
    fn n_bit_makes_no_difference() {
        for n in [0x00, 0x08] {
            let found = inspect(&key(0x20 | n, 0x10));
            assert_eq!((found.random_access, found.parameters, found.opens), (Some(0), true, true), "N {n}");
            for delta in [0x30, 0x50, 0x70, 0x00, 0x80] {
                assert_eq!(inspect(&key(0x20 | n, delta)).random_access, None, "N {n}, frame {delta:#x}");
                assert_eq!(inspect(&[0x10 | n, 0x30, delta]), Inspection::default(), "N {n}, frame {delta:#x}");
            }
        }
    }

    #[test]
    fn elements_with_sizes_and_delimiter_are_read() {
        // W is 0: every element has its length. Delimiter and sequence header have size fields of their own.
        let payload = [0x00, 2, 0x12, 0x00, 4, 0x0a, 0x02, 0x00, 0x00, 3, 0x30, 0x10, 0x00];
        let found = inspect(&payload);
        assert_eq!((found.random_access, found.parameters, found.opens), (Some(0), true, true));
        // An OBU extension in front of the frame's body.
        assert_eq!(inspect(&[0x10, 0x34, 0x00, 0x10]).random_access, Some(0));
    }

    #[test]
    fn sequence_header_alone_is_parameters_only_of_its_unit() {
        let found = inspect(&[0x10, 0x08, 0x00, 0x00]);
        assert_eq!(
            (found.random_access, found.parameters, found.parameters_only, found.opens),
            (None, true, false, true)
        );
    }

    #[test]
    fn continued_element_is_not_read_as_an_obu() {
        // Z: bytes that look like a key frame continue an earlier element.
        assert_eq!(inspect(&[0x90, 0x30, 0x10, 0x00]), Inspection::default());
        // Behind it a sequence header: the unit was open before.
        let found = inspect(&[0xa0, 2, 0x30, 0x10, 0x08, 0x00]);
        assert_eq!((found.random_access, found.parameters, found.opens), (None, true, false));
    }

    #[test]
    fn reduced_still_picture_is_a_key_frame() {
        assert_eq!(inspect(&[0x20, 2, 0x08, 0x18, 0x30, 0x7f]).random_access, Some(0));
    }

    #[test]
    fn truncated_payloads_are_none() {
        let whole = key(0x20, 0x10);
        for len in 0..7 {
            assert_eq!(inspect(&whole[..len]).random_access, None, "{len}");
        }
        assert_eq!(inspect(&[0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Inspection::default());
    }
}
