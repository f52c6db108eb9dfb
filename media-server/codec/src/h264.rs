//! H264 payloads (RFC 6184): single NAL units, STAP-A and FU-A; the recovery point SEI message; parameter sets.

mod sets;

use crate::Inspection;
pub use sets::{MAX_STAP, ParameterSets};

/// NAL unit types (ITU-T H.264 table 7-1, RFC 6184 table 1).
pub const SLICE_NON_IDR: u8 = 1;
/// See [`SLICE_NON_IDR`].
pub const SLICE_IDR: u8 = 5;
/// See [`SLICE_NON_IDR`].
pub const SEI: u8 = 6;
/// See [`SLICE_NON_IDR`].
pub const SPS: u8 = 7;
/// See [`SLICE_NON_IDR`].
pub const PPS: u8 = 8;
/// See [`SLICE_NON_IDR`].
pub const ACCESS_UNIT_DELIMITER: u8 = 9;
/// See [`SLICE_NON_IDR`].
pub const SPS_EXTENSION: u8 = 13;
/// See [`SLICE_NON_IDR`].
pub const STAP_A: u8 = 24;
/// See [`SLICE_NON_IDR`].
pub const FU_A: u8 = 28;

/// SEI payload type of the recovery point message (ITU-T H.264 D.1.1).
const RECOVERY_POINT: u32 = 6;

/// A NAL unit that starts in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit<'a> {
    /// Its type.
    pub kind: u8,
    /// The bytes after its header, as far as this payload has them.
    pub body: &'a [u8],
    /// With its header; `None` when it continues in other payloads.
    pub whole: Option<&'a [u8]>,
}

/// The NAL units that start in a payload. Ends at the first malformed one.
#[derive(Clone, Debug)]
pub struct Units<'a> {
    rest: &'a [u8],
    aggregated: bool,
}

/// Returns the NAL units that start in this payload.
pub fn units(payload: &[u8]) -> Units<'_> {
    match payload.first().map(|header| header & 0x1f) {
        Some(STAP_A) => Units { rest: &payload[1..], aggregated: true },
        _ => Units { rest: payload, aggregated: false },
    }
}

impl<'a> Iterator for Units<'a> {
    type Item = Unit<'a>;

    fn next(&mut self) -> Option<Unit<'a>> {
        let rest = std::mem::take(&mut self.rest);
        let unit = if self.aggregated {
            let (size, tail) = rest.split_first_chunk::<2>()?;
            let size = usize::from(u16::from_be_bytes(*size));
            let unit = tail.get(..size)?;
            self.rest = &tail[size..];
            unit
        } else {
            rest
        };
        let (header, body) = unit.split_first()?;
        match header & 0x1f {
            FU_A => {
                let (fu, body) = body.split_first()?;
                (fu & 0x80 != 0).then_some(Unit { kind: fu & 0x1f, body, whole: None })
            }
            kind => Some(Unit { kind, body, whole: Some(unit) }),
        }
    }
}

/// Inspects a payload.
pub(crate) fn inspect(payload: &[u8]) -> Inspection {
    let mut found = Inspection { parameters_only: true, ..Inspection::default() };
    let mut sets = false;
    for unit in units(payload) {
        match unit.kind {
            SLICE_IDR => found.random_access = Some(0),
            SEI => found.random_access = found.random_access.or_else(|| recovery_point(unit.body)),
            _ => {}
        }
        sets |= matches!(unit.kind, SPS | PPS);
        found.parameters |= unit.kind == SPS;
        found.opens |= matches!(unit.kind, SPS | ACCESS_UNIT_DELIMITER);
        found.parameters_only &= matches!(unit.kind, SPS | PPS | SPS_EXTENSION | ACCESS_UNIT_DELIMITER);
    }
    found.parameters_only &= sets;
    found
}

/// Returns `recovery_frame_cnt` of the recovery point message in the SEI NAL unit with this body, when it has one: 0 at an
/// open GOP, the length of the refresh with intra refresh.
pub fn recovery_point(sei: &[u8]) -> Option<u32> {
    let mut bytes = Unescaped { bytes: sei, at: 0, zeros: 0 };
    loop {
        let kind = sei_number(&mut bytes)?;
        let size = sei_number(&mut bytes)?;
        if kind == RECOVERY_POINT {
            return ue(bytes);
        }
        for _ in 0..size {
            bytes.next()?;
        }
    }
}

/// A payload type or size: 255 for every 0xff, and the byte behind those.
fn sei_number(bytes: &mut Unescaped<'_>) -> Option<u32> {
    let mut number = 0u32;
    loop {
        let byte = bytes.next()?;
        number = number.checked_add(u32::from(byte))?;
        if byte != 0xff {
            return Some(number);
        }
    }
}

/// The bytes of a NAL unit without `emulation_prevention_three_byte`.
#[derive(Clone, Debug)]
struct Unescaped<'a> {
    bytes: &'a [u8],
    at: usize,
    zeros: u8,
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let mut byte = *self.bytes.get(self.at)?;
        self.at += 1;
        if self.zeros >= 2 && byte == 3 {
            self.zeros = 0;
            byte = *self.bytes.get(self.at)?;
            self.at += 1;
        }
        self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        Some(byte)
    }
}

/// Reads the first Exp-Golomb code (ITU-T H.264 section 9.1), below 2^17.
fn ue(bytes: impl Iterator<Item = u8>) -> Option<u32> {
    let mut bits = bytes.flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1));
    let mut zeros = 0;
    while bits.next()? == 0 {
        zeros += 1;
        if zeros > 16 {
            return None;
        }
    }
    (0..zeros).try_fold(1u32, |value, _| Some(value << 1 | u32::from(bits.next()?))).map(|code| code - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recovery point of 24 frames (ue: 00001 1001), behind user data of 3 bytes.
    const REFRESH: &[u8] = &[0x06, 5, 3, 1, 2, 3, 6, 2, 0b0000_1100, 0b1100_0000, 0x80];
    /// A recovery point of 0 frames: an open GOP.
    const OPEN: &[u8] = &[0x06, 6, 1, 0xc4, 0x80];

    #[test]
    fn exp_golomb_codes_are_read() {
        let read = |bytes: &[u8]| ue(bytes.iter().copied());
        assert_eq!(read(&[0x80]), Some(0));
        assert_eq!(read(&[0b0100_0000]), Some(1));
        assert_eq!(read(&[0b0010_1000]), Some(4));
        assert_eq!(read(&[0, 0, 0, 1]), None);
        assert_eq!(read(&[0, 1]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn idr_slice_is_random_access_in_every_packetization() {
        let stap = [24, 0, 2, 0x67, 0x42, 0, 1, 0x68, 0, 2, 0x65, 0x88];
        for payload in [&[0x65, 0x88][..], &[0x7c, 0x85, 0x88], &stap] {
            assert_eq!(inspect(payload).random_access, Some(0), "{payload:?}");
        }
        // The middle and the end of a fragmented unit, a slice that is no IDR.
        for payload in [&[0x7c, 0x05, 1][..], &[0x7c, 0x45, 1], &[0x41, 0x9a], &[0x7c, 0x81, 0x9a], &[0x7c], &[24], &[]]
        {
            assert_eq!(inspect(payload).random_access, None, "{payload:?}");
        }
    }

    #[test]
    fn recovery_point_is_random_access_with_its_frames() {
        assert_eq!(inspect(REFRESH).random_access, Some(24));
        assert_eq!(inspect(OPEN).random_access, Some(0));
        let len = REFRESH.len() as u8;
        let stap = [&[24, 0, 2, 0x67, 0x42, 0, len][..], REFRESH].concat();
        assert_eq!(inspect(&stap).random_access, Some(24));
        let fragment = [&[0x1c, 0x86][..], &REFRESH[1..10]].concat();
        assert_eq!(inspect(&fragment).random_access, Some(24));
        // Continued elsewhere, of another type, cut short, or with a size beyond its end.
        let continued = [&[0x1c, 0x06][..], &REFRESH[1..]].concat();
        for payload in [&continued[..], &[0x06, 5, 1, 6, 0x80], &REFRESH[..8], &[0x06, 5, 0xff, 1, 6, 1, 0xc4]] {
            assert_eq!(inspect(payload).random_access, None, "{payload:?}");
        }
    }

    #[test]
    fn emulation_prevention_in_front_is_skipped() {
        // User data 00 00 01 00, escaped to five bytes, then the recovery point.
        assert_eq!(recovery_point(&[5, 4, 0, 0, 3, 1, 0, 6, 1, 0xc4, 0x80]), Some(0));
        // Without counting the escape, 6 and 1 would be read one byte early.
        assert_eq!(recovery_point(&[5, 5, 0, 0, 3, 1, 0, 6, 6, 1, 0xc4, 0x80]), Some(0));
    }

    #[test]
    fn parameter_sets_alone_are_no_random_access() {
        for payload in [&[0x67, 0x42][..], &[0x68, 0xce], &[24, 0, 2, 0x67, 0x42, 0, 1, 0x68]] {
            let found = inspect(payload);
            assert_eq!((found.random_access, found.parameters_only), (None, true), "{payload:?}");
        }
        // An SPS ahead of a slice that is no IDR.
        let found = inspect(&[24, 0, 2, 0x67, 0x42, 0, 2, 0x41, 0x9a]);
        assert_eq!((found.random_access, found.parameters, found.parameters_only), (None, true, false));
        assert!(!inspect(&[0x09, 0xf0]).parameters_only, "a delimiter belongs to its own picture");
    }

    #[test]
    fn access_unit_opens_with_delimiter_or_sps() {
        for first in [&[0x67, 0x42][..], &[0x09, 0xf0], &[24, 0, 1, 0x68, 0, 2, 0x67, 0x42]] {
            assert!(inspect(first).opens, "{first:?}");
        }
        for later in [&[0x68, 0xce][..], &[0x65, 0x88], &[0x7c, 0x85], &[24, 0, 1, 0x68], &[]] {
            assert!(!inspect(later).opens, "{later:?}");
        }
    }
}
