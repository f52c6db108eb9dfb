//! VP8 over RTP (RFC 7741): the payload descriptor is taken off, the rest joined.

use shiguredo_mp4::{
    bitstream::vp8::{Vp8SampleEntryConfig, build_vp08_box, parse_frame_header},
    boxes::SampleEntry,
};

use codec::vp8::{descriptor, is_key_frame};

use super::{Frame, Malformed};

#[derive(Debug, Default)]
pub(crate) struct Depacketizer {
    data: Vec<u8>,
}

/// Start of partition 0.
pub(super) fn begins_frame(payload: &[u8]) -> bool {
    descriptor(payload).is_some_and(|(start, _)| start)
}

impl Depacketizer {
    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (start, rest) = descriptor(payload).ok_or(Malformed)?;
        if start != self.data.is_empty() || rest.is_empty() {
            return Err(Malformed);
        }
        self.data.extend_from_slice(rest);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    pub(super) fn take(&mut self) -> Result<Option<Frame>, Malformed> {
        if self.data.is_empty() {
            return Ok(None);
        }
        let header = parse_frame_header(&self.data).map_err(|_| Malformed)?;
        let entry = header.keyframe.filter(|_| is_key_frame(&self.data)).map(|key| {
            SampleEntry::Vp08(build_vp08_box(&Vp8SampleEntryConfig {
                video_full_range_flag: false,
                colour_primaries: Vp8SampleEntryConfig::COLOUR_PRIMARIES_UNSPECIFIED,
                transfer_characteristics: Vp8SampleEntryConfig::TRANSFER_CHARACTERISTICS_UNSPECIFIED,
                matrix_coefficients: Vp8SampleEntryConfig::MATRIX_COEFFICIENTS_UNSPECIFIED,
                width: key.width,
                height: key.height,
            }))
        });
        Ok(Some(Frame { data: std::mem::take(&mut self.data), keyframe: entry.is_some(), entry, duration: None }))
    }

    pub(super) fn discard(&mut self) {
        self.data.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key frame's first ten bytes at 320x240, and some more.
    const KEY: &[u8] = &[0x50, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 1, 2, 3, 4];

    #[test]
    fn descriptors_of_all_lengths_come_off() {
        let descriptors: [&[u8]; 4] =
            [&[0x10], &[0x90, 0x80, 0x05], &[0x90, 0x80, 0x85, 0x01], &[0x90, 0xf0, 0x81, 2, 3, 4]];
        for descriptor in descriptors {
            let mut depacketizer = Depacketizer::default();
            let (head, tail) = KEY.split_at(11);
            depacketizer.push(&[descriptor, head].concat()).unwrap();
            let mut later = descriptor.to_vec();
            later[0] &= !0x10;
            depacketizer.push(&[&later[..], tail].concat()).unwrap();
            let frame = depacketizer.take().unwrap().unwrap();
            assert_eq!(frame.data, KEY);
            let Some(SampleEntry::Vp08(entry)) = frame.entry else { panic!("no entry") };
            assert_eq!((entry.visual.width, entry.visual.height), (320, 240));
        }
    }

    #[test]
    fn a_frame_without_its_start_is_refused() {
        assert_eq!(Depacketizer::default().push(&[0x00, 1, 2, 3]), Err(Malformed));
    }
}
