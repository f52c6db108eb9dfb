//! VP9 over RTP (RFC 9628): the payload descriptor is taken off; the layer frames of one picture become one sample.
//!
//! Several spatial layers make a superframe, whose index (VP9 bitstream specification, Annex B) RTP leaves out and MP4
//! needs: it is written here.

use shiguredo_mp4::{
    bitstream::vp9::{Vp9FrameHeader, Vp9FrameSize, Vp9SampleEntryConfig, build_vp09_box, parse_frame_header},
    boxes::SampleEntry,
};

use codec::vp9::{descriptor, is_key_frame};

use super::{Frame, Malformed};

/// Of one superframe (Annex B: frames_in_superframe_minus_1 has three bits).
const MAX_LAYERS: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Depacketizer {
    data: Vec<u8>,
    /// Where each layer frame begins.
    starts: Vec<usize>,
    open: bool,
    /// The largest layer's size, when the scalability structure tells it.
    size: Option<(u16, u16)>,
    /// The P bit of its first layer frame.
    predicted: bool,
}

/// The first layer frame of a picture that needs none before it.
pub(super) fn begins_frame(payload: &[u8]) -> bool {
    descriptor(payload).is_some_and(|d| d.begins_layer && d.lowest_layer && !d.predicted)
}

impl Depacketizer {
    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let descriptor = descriptor(payload).ok_or(Malformed)?;
        if descriptor.begins_layer == self.open || descriptor.body.is_empty() {
            return Err(Malformed);
        }
        if descriptor.begins_layer {
            if self.starts.len() == MAX_LAYERS {
                return Err(Malformed);
            }
            if self.starts.is_empty() {
                self.predicted = descriptor.predicted;
            }
            self.starts.push(self.data.len());
        }
        if descriptor.size.is_some() {
            self.size = descriptor.size;
        }
        self.data.extend_from_slice(descriptor.body);
        self.open = !descriptor.ends_layer;
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    pub(super) fn take(&mut self) -> Result<Option<Frame>, Malformed> {
        if self.open {
            return Err(Malformed);
        }
        if self.data.is_empty() {
            return Ok(None);
        }
        let header = parse_frame_header(&self.data).map_err(|_| Malformed)?;
        let keyframe = !self.predicted && is_key_frame(&self.data);
        let entry = if keyframe { Some(self.entry(&header)?) } else { None };
        if self.starts.len() > 1 {
            self.append_superframe_index();
        }
        Ok(Some(Frame { data: std::mem::take(&mut self.data), keyframe, entry, duration: None }))
    }

    fn entry(&self, header: &Vp9FrameHeader) -> Result<SampleEntry, Malformed> {
        let Vp9FrameSize::Resolved { width, height } = header.frame_size else { return Err(Malformed) };
        let own = (u16::try_from(width).map_err(|_| Malformed)?, u16::try_from(height).map_err(|_| Malformed)?);
        let (width, height) = match self.size {
            Some(size) if self.starts.len() > 1 => size,
            _ => own,
        };
        let config = Vp9SampleEntryConfig {
            level: level(width, height),
            colour_primaries: Vp9SampleEntryConfig::COLOUR_PRIMARIES_UNSPECIFIED,
            transfer_characteristics: Vp9SampleEntryConfig::TRANSFER_CHARACTERISTICS_UNSPECIFIED,
            matrix_coefficients: Vp9SampleEntryConfig::MATRIX_COEFFICIENTS_UNSPECIFIED,
            width,
            height,
        };
        build_vp09_box(header, &config).map(SampleEntry::Vp09).map_err(|_| Malformed)
    }

    fn append_superframe_index(&mut self) {
        let ends = self.starts.iter().skip(1).copied().chain([self.data.len()]);
        let sizes: Vec<usize> = self.starts.iter().zip(ends).map(|(start, end)| end - start).collect();
        let largest = sizes.iter().copied().max().unwrap_or(0);
        let width = (1..4).find(|bytes| largest >> (8 * bytes) == 0).unwrap_or(4);
        let marker = 0xc0 | ((width as u8 - 1) << 3) | (sizes.len() as u8 - 1);
        self.data.push(marker);
        for size in sizes {
            self.data.extend_from_slice(&size.to_le_bytes()[..width]);
        }
        self.data.push(marker);
    }

    pub(super) fn discard(&mut self) {
        self.data.clear();
        self.starts.clear();
        self.open = false;
        self.size = None;
        self.predicted = false;
    }
}

/// The lowest level whose luma picture size (VP9 levels, as in the ISO media binding) holds the picture.
fn level(width: u16, height: u16) -> u8 {
    let area = u32::from(width) * u32::from(height);
    match area {
        0..=36_864 => 10,
        36_865..=73_728 => 11,
        73_729..=122_880 => 20,
        122_881..=245_760 => 21,
        245_761..=552_960 => 30,
        552_961..=983_040 => 31,
        983_041..=2_228_224 => 40,
        2_228_225..=8_912_896 => 50,
        _ => 60,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Profile 0 key frame header, 352x288.
    const KEY: &[u8] = &[0x82, 0x49, 0x83, 0x42, 0x00, 0x15, 0xf0, 0x11, 0xf6, 0x00, 0x11, 0x22];

    #[test]
    fn a_frame_in_two_packets_is_joined() {
        let mut depacketizer = Depacketizer::default();
        let (head, tail) = KEY.split_at(10);
        // I and B, fifteen-bit picture id; then I and E.
        depacketizer.push(&[&[0x88, 0x80, 0x01], head].concat()).unwrap();
        depacketizer.push(&[&[0x84, 0x80, 0x01], tail].concat()).unwrap();
        let frame = depacketizer.take().unwrap().unwrap();
        assert_eq!(frame.data, KEY);
        let Some(SampleEntry::Vp09(entry)) = frame.entry else { panic!("no entry") };
        assert_eq!((entry.visual.width, entry.visual.height, entry.vpcc_box.level), (352, 288, 20));
    }

    #[test]
    fn spatial_layers_become_a_superframe_with_its_index() {
        let mut depacketizer = Depacketizer::default();
        // L, B, E, non-flexible: layer byte and TL0PICIDX follow.
        depacketizer.push(&[&[0x2c, 0x00, 0x01], KEY].concat()).unwrap();
        depacketizer.push(&[0x2c, 0x02, 0x01, 0x86, 0x00, 0x07]).unwrap();
        let frame = depacketizer.take().unwrap().unwrap();
        assert_eq!(&frame.data[..KEY.len()], KEY);
        assert_eq!(&frame.data[KEY.len()..], [0x86, 0x00, 0x07, 0xc1, 12, 3, 0xc1]);
    }
}
