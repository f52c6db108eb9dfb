//! AV1: OBUs of a temporal unit (AV1 bitstream specification §5.3, low-overhead format) and the aggregation header of
//! its RTP payload format (§4.4).

use super::Part;

const SEQUENCE_HEADER: u8 = 1;

/// The types of the OBUs in a temporal unit. Ends with a `None` where the bytes are not OBUs.
pub(crate) fn units(temporal_unit: &[u8]) -> impl Iterator<Item = Option<u8>> + '_ {
    let mut rest = temporal_unit;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let unit = split_unit(rest);
        rest = unit.map_or(&[][..], |(_, more)| more);
        Some(unit.map(|(kind, _)| kind))
    })
}

fn split_unit(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let header = *bytes.first()?;
    if header & 0x80 != 0 {
        return None;
    }
    let kind = header >> 3 & 15;
    let body = bytes.get(if header & 4 != 0 { 2 } else { 1 }..)?;
    if header & 2 == 0 {
        return Some((kind, &[]));
    }
    let mut size = 0u64;
    for (index, byte) in body.iter().take(8).enumerate() {
        size |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let end = usize::try_from(size).ok()?.checked_add(index + 1)?;
            return body.get(end..).map(|more| (kind, more));
        }
    }
    None
}

/// Whether a decoder can begin with a temporal unit: it brings a sequence header.
pub(crate) fn is_keyframe(temporal_unit: &[u8]) -> bool {
    units(temporal_unit).any(|unit| unit == Some(SEQUENCE_HEADER))
}

pub(crate) fn inspect(payload: &[u8]) -> Part {
    // Z: goes on with an OBU of the packet before. N: first packet of a coded video sequence.
    let byte = payload.first().copied().unwrap_or(0x80);
    Part { begins: byte & 0x80 == 0, key: byte & 0x08 != 0, ..Part::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_header_makes_a_keyframe() {
        let delimiter = [0x12, 0];
        let sequence = [0x0a, 2, 0, 0];
        let frame = [0x32, 1, 0x10];
        assert!(is_keyframe(&[&delimiter[..], &sequence, &frame].concat()));
        assert!(!is_keyframe(&[&delimiter[..], &frame].concat()));
    }

    #[test]
    fn a_size_past_the_end_is_not_an_obu() {
        assert_eq!(units(&[0x12, 0, 0x32, 9, 1]).collect::<Vec<_>>(), [Some(2), None]);
        assert_eq!(units(&[0x32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn the_aggregation_header_tells_a_new_sequence() {
        assert_eq!(inspect(&[0x18]), Part { begins: true, key: true, ..Part::default() });
        assert_eq!(inspect(&[0x90]), Part::default());
    }
}
