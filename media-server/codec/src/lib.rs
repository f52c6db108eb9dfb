//! Random access in video streams: one definition for the SFU (where a viewer joins) and the recorder (which samples are
//! sync samples), read from RTP payloads.
//!
//! | codec | random access point |
//! |---|---|
//! | H264 | an IDR picture, or a picture with a recovery point SEI message (intra refresh, open GOP) |
//! | VP8 | a frame with the key frame bit in its header and the start code |
//! | VP9 | a picture that its payload descriptor calls not predicted **and** its frame header calls a key frame |
//! | AV1 | a temporal unit with a sequence header and a shown key frame; the N bit of the payload is not consulted |
//!
//! Not counted: an H264 parameter set without such a picture, or a picture of I slices alone (later pictures may
//! still refer past it); a VP9 intra-only frame; an AV1 intra-only frame, switch frame or hidden key frame.
//!
//! H264 parameter sets may be in band or in the offer (`sprop-parameter-sets`): see [`h264::ParameterSets`]. FFmpeg decodes
//! from either kind of H264 point; libwebrtc starts only at an IDR picture.
//!
//! Rules are from ITU-T H.264 (7.3.2.3, 7.4.1.2.3, D.2.8), RFC 6184, RFC 6386 (9.1), RFC 7741 (4.2), RFC 9628 (4.2), the VP9
//! bitstream specification (6.2), the AV1 specification (5.5, 5.9, 7.6) and the AV1 RTP payload format (4.3, 4.4).
//!
//! Payloads are a peer's: every read is bounds-checked, nothing is allocated while inspecting, and a payload that is cut
//! short or malformed is no random access point.

#![forbid(unsafe_code)]

pub mod av1;
pub mod h264;
pub mod vp8;
pub mod vp9;

/// A video codec with a notion of random access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// RFC 6184.
    H264,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// The AV1 RTP payload format of AOMedia.
    Av1,
}

/// Random access information of one RTP payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// A picture that decoding can start with starts in this payload. `Some(n)`: the picture `n` frames later, in decoding
    /// order, is the first one that is exact; 0 for everything but H264 intra refresh.
    pub random_access: Option<u32>,
    /// Parameters that such a picture needs (an H264 SPS, an AV1 sequence header) start in this payload.
    pub parameters: bool,
    /// Nothing but parameters is in this payload: it belongs to the picture behind it, whatever its timestamp.
    pub parameters_only: bool,
    /// Nothing of its access unit can stand before this payload.
    pub opens: bool,
}

impl Inspection {
    /// Returns whether the access unit of a random access point may start with this payload.
    pub fn may_begin_random_access(&self) -> bool {
        self.random_access.is_some() || self.parameters
    }

    /// The first payload of a key frame of a codec that marks it there.
    fn key_frame(found: bool) -> Self {
        Self { random_access: found.then_some(0), parameters: found, parameters_only: false, opens: found }
    }
}

/// Inspects one RTP payload.
pub fn inspect(codec: VideoCodec, payload: &[u8]) -> Inspection {
    match codec {
        VideoCodec::H264 => h264::inspect(payload),
        VideoCodec::Vp8 => Inspection::key_frame(vp8::starts_key_frame(payload)),
        VideoCodec::Vp9 => Inspection::key_frame(vp9::starts_key_frame(payload)),
        VideoCodec::Av1 => av1::inspect(payload),
    }
}

/// Takes the first byte.
fn take(rest: &mut &[u8]) -> Option<u8> {
    let (&byte, tail) = rest.split_first()?;
    *rest = tail;
    Some(byte)
}

/// Returns whether `bytes` agrees with `expected` over the length of the shorter.
fn agrees(bytes: &[u8], expected: &[u8]) -> bool {
    bytes.iter().zip(expected).all(|(byte, expected)| byte == expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_payload_is_inspected_without_panic(
            head in prop::sample::select(vec![
                &[][..], &[0x78, 0, 3, 0x06, 6], &[0x7c, 0x86, 6, 1], &[0x06, 0xff, 0xff], &[0x10, 0x0a, 0x0b],
                &[0x20, 0x05, 0x0e], &[0x90, 0x80], &[0xfa, 0x80],
            ]),
            tail in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let payload = [head, &tail].concat();
            for codec in [VideoCodec::H264, VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::Av1] {
                inspect(codec, &payload);
            }
            let mut sets = h264::ParameterSets::default();
            sets.observe(&payload);
            sets.offer(&String::from_utf8_lossy(&payload));
            prop_assert!(sets.to_stap_a().is_none_or(|stap| stap.len() <= h264::MAX_STAP));
        }
    }
}
