//! The codecs that are carried, and the little that must be known of each without decoding it: what it is called in
//! SDP, where a frame begins, and whether a decoder can begin there.

pub(crate) mod av1;
pub(crate) mod h264;
pub(crate) mod opus;
pub(crate) mod vp8;
pub(crate) mod vp9;

use std::fmt;

use serde::Serialize;

/// Sound or picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Picture.
    Video,
}

/// What a track is encoded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Codec {
    /// RFC 6184.
    H264,
    /// RFC 7741.
    #[serde(rename = "VP8")]
    Vp8,
    /// RFC 9628.
    #[serde(rename = "VP9")]
    Vp9,
    /// The AV1 RTP payload format of AOMedia.
    #[serde(rename = "AV1")]
    Av1,
    /// RFC 7587.
    #[serde(rename = "opus")]
    Opus,
}

impl Codec {
    /// Sound or picture.
    pub fn kind(self) -> MediaKind {
        if self == Codec::Opus { MediaKind::Audio } else { MediaKind::Video }
    }

    /// Hertz of the RTP timestamp.
    pub fn clock_rate(self) -> u32 {
        if self == Codec::Opus { 48_000 } else { 90_000 }
    }

    /// Type and subtype, as the IANA registry spells them.
    pub fn mime_type(self) -> &'static str {
        match self {
            Codec::H264 => "video/H264",
            Codec::Vp8 => "video/VP8",
            Codec::Vp9 => "video/VP9",
            Codec::Av1 => "video/AV1",
            Codec::Opus => "audio/opus",
        }
    }

    /// The codec of a MIME type, in any case.
    pub fn from_mime_type(mime_type: &str) -> Option<Codec> {
        [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::Opus]
            .into_iter()
            .find(|codec| codec.mime_type().eq_ignore_ascii_case(mime_type))
    }

    /// What one RTP payload says of the frame it is part of.
    pub fn inspect(self, payload: &[u8]) -> Part {
        match self {
            Codec::H264 => h264::inspect(payload),
            Codec::Vp8 => vp8::inspect(payload),
            Codec::Vp9 => vp9::inspect(payload),
            Codec::Av1 => av1::inspect(payload),
            Codec::Opus => Part { begins: true, key: true, ..Part::default() },
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) = self.mime_type().split_once('/').unwrap_or_default();
        f.write_str(name)
    }
}

/// What one RTP payload says of the frame it is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The frame can begin with this packet.
    pub begins: bool,
    /// The frame is one that a decoder can begin with.
    pub key: bool,
    /// A sequence parameter set is in it (H264).
    pub sps: bool,
    /// A picture parameter set is in it (H264).
    pub pps: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mime_types_are_found_in_any_case() {
        assert_eq!(Codec::from_mime_type("VIDEO/h264"), Some(Codec::H264));
        assert_eq!(Codec::from_mime_type("audio/OPUS"), Some(Codec::Opus));
        assert_eq!(Codec::from_mime_type("video/rtx"), None);
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            for codec in [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::Opus] {
                codec.inspect(&payload);
            }
            let _ = (vp8::is_keyframe(&payload), vp9::is_keyframe(&payload), av1::is_keyframe(&payload));
            let _ = (opus::duration(&payload), av1::units(&payload).count());
        }
    }
}
