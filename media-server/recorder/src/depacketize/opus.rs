//! Opus over RTP (RFC 7587): the payload is the frame. Its length in time is in its first bytes (RFC 6716 §3.1).

use shiguredo_mp4::{
    bitstream::opus::{ChannelCount, OpusSampleEntryConfig, build_opus_box},
    boxes::SampleEntry,
};

use super::{Frame, Malformed};

/// Ticks of 48 kHz in the longest packet, 120 ms.
const LONGEST: u32 = 5760;

#[derive(Debug, Default)]
pub(crate) struct Depacketizer {
    data: Vec<u8>,
}

/// RTP carries two channels always (RFC 7587 §4.1), whatever the packets hold; nothing is skipped at the start, for the
/// recording may begin in the middle of the encoder's stream.
pub(crate) fn entry() -> SampleEntry {
    SampleEntry::Opus(build_opus_box(&OpusSampleEntryConfig {
        channel_count: ChannelCount::Stereo,
        pre_skip: 0,
        input_sample_rate: 48_000,
        output_gain: 0,
    }))
}

/// A packet of digital silence of at most `ticks` at 48 kHz, and its length in ticks: 20, 10, 5 or 2.5 ms.
pub(crate) fn silence(ticks: u64) -> Option<(&'static [u8; 3], u32)> {
    match ticks {
        960.. => Some((&[0xf8, 0xff, 0xfe], 960)),
        480.. => Some((&[0xf0, 0xff, 0xfe], 480)),
        240.. => Some((&[0xe8, 0xff, 0xfe], 240)),
        120.. => Some((&[0xe0, 0xff, 0xfe], 120)),
        _ => None,
    }
}

/// Ticks of 48 kHz.
fn duration(packet: &[u8]) -> Option<u32> {
    let &toc = packet.first()?;
    let frame = match toc >> 3 {
        config @ 0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        config @ 12..=15 => [480, 960][usize::from(config & 1)],
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    Some(frame * count).filter(|ticks| (1..=LONGEST).contains(ticks))
}

impl Depacketizer {
    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        if !self.data.is_empty() || payload.is_empty() {
            return Err(Malformed);
        }
        self.data.extend_from_slice(payload);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    pub(super) fn take(&mut self) -> Result<Option<Frame>, Malformed> {
        if self.data.is_empty() {
            return Ok(None);
        }
        let duration = duration(&self.data).ok_or(Malformed)?;
        let data = std::mem::take(&mut self.data);
        Ok(Some(Frame { data, keyframe: true, entry: Some(entry()), duration: Some(duration) }))
    }

    pub(super) fn discard(&mut self) {
        self.data.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_from_the_first_bytes() {
        assert_eq!(duration(&[0xfc, 1]), Some(960));
        assert_eq!(duration(&[0x78, 1]), Some(960));
        assert_eq!(duration(&[0x19, 1]), Some(5760));
        assert_eq!(duration(&[0xfb, 0x03]), Some(2880));
        assert_eq!(duration(&[0xfb, 0x00]), None);
        assert_eq!(duration(&[0x1b, 0x03]), None);
        assert_eq!(duration(&[]), None);
    }

    #[test]
    fn silence_says_its_own_length() {
        for ticks in [120, 240, 480, 960] {
            let (packet, length) = silence(ticks).unwrap();
            assert_eq!((u64::from(length), duration(packet)), (ticks, Some(length)));
        }
        assert_eq!(silence(119), None);
    }
}
