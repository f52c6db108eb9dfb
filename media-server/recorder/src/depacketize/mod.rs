//! From RTP payloads to frames as MP4 stores them, one module a codec.
//!
//! A depacketizer takes the payloads of one frame in order and gives the frame. It does not know of loss: whoever feeds
//! it says when a frame ends and discards one that is not whole. It refuses (never panics on) what it cannot read.

mod av1;
mod h264;
mod opus;
mod vp8;
mod vp9;

use shiguredo_mp4::boxes::SampleEntry;

#[cfg(test)]
pub(crate) use opus::entry as opus_entry;
pub(crate) use opus::silence as opus_silence;

use crate::types::Codec;

/// The payload, or the frame it is part of, is not of its codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One frame (access unit, temporal unit, audio packet).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    /// As MP4 stores it.
    pub(crate) data: Vec<u8>,
    /// Decoding can begin here.
    pub(crate) keyframe: bool,
    /// How to decode from here on: with every keyframe, and with all audio.
    pub(crate) entry: Option<SampleEntry>,
    /// In ticks of the track, where the payload tells (Opus).
    pub(crate) duration: Option<u32>,
}

/// The depacketizer of one codec, with what it holds of the current frame.
#[derive(Debug)]
pub(crate) enum Depacketizer {
    H264(h264::Depacketizer),
    Vp8(vp8::Depacketizer),
    Vp9(vp9::Depacketizer),
    Av1(av1::Depacketizer),
    Opus(opus::Depacketizer),
}

impl Depacketizer {
    pub(crate) fn new(codec: Codec) -> Self {
        match codec {
            Codec::H264 => Depacketizer::H264(Default::default()),
            Codec::Vp8 => Depacketizer::Vp8(Default::default()),
            Codec::Vp9 => Depacketizer::Vp9(Default::default()),
            Codec::Av1 => Depacketizer::Av1(Default::default()),
            Codec::Opus => Depacketizer::Opus(Default::default()),
        }
    }

    /// Whether a keyframe may begin with this payload: then it does not matter that packets before it are missing.
    pub(crate) fn begins_frame(&self, payload: &[u8]) -> bool {
        match self {
            Depacketizer::H264(_) => h264::begins_frame(payload),
            Depacketizer::Vp8(_) => vp8::begins_frame(payload),
            Depacketizer::Vp9(_) => vp9::begins_frame(payload),
            Depacketizer::Av1(_) => av1::begins_frame(payload),
            Depacketizer::Opus(_) => true,
        }
    }

    /// The next payload of the current frame. After an error the frame must be discarded.
    pub(crate) fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        match self {
            Depacketizer::H264(d) => d.push(payload),
            Depacketizer::Vp8(d) => d.push(payload),
            Depacketizer::Vp9(d) => d.push(payload),
            Depacketizer::Av1(d) => d.push(payload),
            Depacketizer::Opus(d) => d.push(payload),
        }
    }

    /// Bytes held of the current frame.
    pub(crate) fn len(&self) -> usize {
        match self {
            Depacketizer::H264(d) => d.len(),
            Depacketizer::Vp8(d) => d.len(),
            Depacketizer::Vp9(d) => d.len(),
            Depacketizer::Av1(d) => d.len(),
            Depacketizer::Opus(d) => d.len(),
        }
    }

    /// The current frame has all its payloads. `None`: there was nothing to show in it (parameter sets alone).
    pub(crate) fn take(&mut self) -> Result<Option<Frame>, Malformed> {
        let frame = match self {
            Depacketizer::H264(d) => d.take(),
            Depacketizer::Vp8(d) => d.take(),
            Depacketizer::Vp9(d) => d.take(),
            Depacketizer::Av1(d) => d.take(),
            Depacketizer::Opus(d) => d.take(),
        };
        self.discard();
        frame
    }

    /// Forgets the current frame, but not what holds for later ones.
    pub(crate) fn discard(&mut self) {
        match self {
            Depacketizer::H264(d) => d.discard(),
            Depacketizer::Vp8(d) => d.discard(),
            Depacketizer::Vp9(d) => d.discard(),
            Depacketizer::Av1(d) => d.discard(),
            Depacketizer::Opus(d) => d.discard(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn codec() -> impl Strategy<Value = Codec> {
        prop_oneof![Just(Codec::H264), Just(Codec::Vp8), Just(Codec::Vp9), Just(Codec::Av1), Just(Codec::Opus)]
    }

    /// Payloads that get past the first checks more often than noise does.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        let plausible = prop::sample::select(vec![
            &[0x67, 0x42, 0xe0, 0x1f][..],
            &[0x78, 0, 4][..],
            &[0x7c, 0x85][..],
            &[0x7c, 0x45][..],
            &[0x10, 0x00, 0x9d, 0x01, 0x2a][..],
            &[0x90, 0x80, 0x81][..],
            &[0x0a, 0x92, 0x49, 0x83, 0x42][..],
            &[0xaa, 0x80, 0x01, 0x18][..],
            &[0x10, 0x0a, 0x0b][..],
            &[0x18, 0x0a][..],
            &[][..],
        ]);
        (plausible, prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(head, tail)| [head, &tail].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn garbage_is_refused_or_kept_but_never_panics(
            codec in codec(),
            frames in prop::collection::vec(prop::collection::vec(payload(), 1..6), 1..6),
        ) {
            let mut depacketizer = Depacketizer::new(codec);
            for frame in frames {
                for payload in frame {
                    let _ = depacketizer.begins_frame(&payload);
                    if depacketizer.push(&payload).is_err() {
                        depacketizer.discard();
                    }
                }
                if let Ok(Some(frame)) = depacketizer.take() {
                    prop_assert!(!frame.data.is_empty());
                    if let Some(entry) = frame.entry {
                        let encoded = shiguredo_mp4::Encode::encode_to_vec(&entry);
                        prop_assert!(encoded.is_ok(), "{entry:?}: {encoded:?}");
                    }
                }
                prop_assert_eq!(depacketizer.len(), 0);
            }
        }
    }
}
