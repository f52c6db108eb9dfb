//! AV1 over RTP (RTP Payload Format For AV1, AOMedia): OBU elements are joined across packets and given size fields.
//!
//! Temporal delimiters, tile lists and padding are left out of the samples, as the AV1 ISO media binding (§2.4) asks.

use shiguredo_mp4::{
    bitstream::av1::{Av1SampleEntryConfig, Av1SequenceHeader, build_av01_box, decode_leb128, parse_sequence_header},
    boxes::SampleEntry,
};

use codec::av1::{
    FRAME, FRAME_HEADER, SEQUENCE_HEADER, TEMPORAL_DELIMITER, is_reduced_still_picture, is_shown_key_frame,
};

use super::{Frame, Malformed};

const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

#[derive(Debug, Default)]
pub(crate) struct Depacketizer {
    data: Vec<u8>,
    /// The OBU that goes on in the next packet.
    partial: Option<Vec<u8>>,
    has_frame: bool,
    keyframe: bool,
    /// A sequence header came in this temporal unit, before its first frame.
    has_sequence: bool,
    /// The one in force, as an OBU with its size field.
    sequence: Option<(Av1SequenceHeader, Vec<u8>)>,
    /// It makes every frame a key frame.
    reduced: bool,
}

/// A temporal delimiter or a sequence header.
pub(super) fn begins_frame(payload: &[u8]) -> bool {
    codec::inspect(codec::VideoCodec::Av1, payload).opens
}

impl Depacketizer {
    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (&aggregation, mut rest) = payload.split_first().ok_or(Malformed)?;
        let (continues, goes_on) = (aggregation & 0x80 != 0, aggregation & 0x40 != 0);
        let count = usize::from(aggregation >> 4 & 0x03);
        if continues != self.partial.is_some() {
            return Err(Malformed);
        }
        let mut number = 0;
        while !rest.is_empty() {
            number += 1;
            let element;
            if count != 0 && number == count {
                (element, rest) = (rest, &[][..]);
            } else {
                let (size, bytes) = decode_leb128(rest).map_err(|_| Malformed)?;
                let tail = &rest[bytes..];
                let size = usize::try_from(size).map_err(|_| Malformed)?;
                element = tail.get(..size).ok_or(Malformed)?;
                rest = &tail[size..];
            }
            let whole = match self.partial.take() {
                Some(mut partial) => {
                    partial.extend_from_slice(element);
                    partial
                }
                None => element.to_vec(),
            };
            if rest.is_empty() && goes_on {
                self.partial = Some(whole);
            } else {
                self.unit(&whole)?;
            }
        }
        if number == 0 || number < count { Err(Malformed) } else { Ok(()) }
    }

    /// A whole OBU, with or without its size field.
    fn unit(&mut self, unit: &[u8]) -> Result<(), Malformed> {
        let Some((&header, mut body)) = unit.split_first() else { return Ok(()) };
        if header & 0x80 != 0 {
            return Err(Malformed);
        }
        let kind = header >> 3 & 0x0f;
        let mut head = vec![header & !0x01 | 0x02];
        if header & 0x04 != 0 {
            let (&extension, tail) = body.split_first().ok_or(Malformed)?;
            head.push(extension & !0x07);
            body = tail;
        }
        if header & 0x02 != 0 {
            let (size, bytes) = decode_leb128(body).map_err(|_| Malformed)?;
            let size = usize::try_from(size).map_err(|_| Malformed)?;
            body = body[bytes..].get(..size).ok_or(Malformed)?;
        }
        if matches!(kind, TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
            return Ok(());
        }
        push_leb128(&mut head, body.len());
        match kind {
            SEQUENCE_HEADER if !self.has_frame => {
                if header & 0x04 != 0 {
                    return Err(Malformed);
                }
                let sequence = parse_sequence_header(body).map_err(|_| Malformed)?;
                self.sequence = Some((sequence, [&head, body].concat()));
                self.has_sequence = true;
                self.reduced = is_reduced_still_picture(body);
            }
            FRAME | FRAME_HEADER if !self.has_frame => {
                self.has_frame = true;
                self.keyframe = self.has_sequence && is_shown_key_frame(body, self.reduced);
            }
            _ => {}
        }
        self.data.extend_from_slice(&head);
        self.data.extend_from_slice(body);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.data.len() + self.partial.as_ref().map_or(0, Vec::len)
    }

    pub(super) fn take(&mut self) -> Result<Option<Frame>, Malformed> {
        if self.partial.is_some() {
            return Err(Malformed);
        }
        if !self.has_frame {
            return Ok(None);
        }
        let entry = match &self.sequence {
            Some((sequence, unit)) if self.keyframe => {
                let config = Av1SampleEntryConfig { initial_presentation_delay_minus_one: None };
                Some(build_av01_box(sequence, unit, &config).map(SampleEntry::Av01).map_err(|_| Malformed)?)
            }
            _ => None,
        };
        Ok(Some(Frame { data: std::mem::take(&mut self.data), keyframe: self.keyframe, entry, duration: None }))
    }

    pub(super) fn discard(&mut self) {
        self.data.clear();
        self.partial = None;
        self.has_frame = false;
        self.keyframe = false;
        self.has_sequence = false;
    }
}

/// AV1 specification §4.10.5.
fn push_leb128(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_obu_over_three_packets_is_joined_and_sized() {
        let mut depacketizer = Depacketizer::default();
        // Y, one element; Z and Y; Z.
        depacketizer.push(&[0x50, 0x30, 0xaa]).unwrap();
        depacketizer.push(&[0xd0, 0xbb]).unwrap();
        depacketizer.push(&[0x90, 0xcc]).unwrap();
        let frame = depacketizer.take().unwrap().unwrap();
        assert_eq!(frame.data, [0x32, 3, 0xaa, 0xbb, 0xcc]);
        assert!(!frame.keyframe);
    }

    #[test]
    fn a_temporal_delimiter_is_left_out() {
        let mut depacketizer = Depacketizer::default();
        // Two elements: a delimiter with a size field, then a frame without one.
        depacketizer.push(&[0x20, 2, 0x12, 0x00, 0x30, 1, 2]).unwrap();
        assert_eq!(depacketizer.take().unwrap().unwrap().data, [0x32, 2, 1, 2]);
    }

    #[test]
    fn a_continuation_of_nothing_is_refused() {
        assert_eq!(Depacketizer::default().push(&[0x90, 1]), Err(Malformed));
    }

    #[test]
    fn a_count_that_is_not_kept_is_refused() {
        assert_eq!(Depacketizer::default().push(&[0x30, 1, 0x30]), Err(Malformed));
    }
}
