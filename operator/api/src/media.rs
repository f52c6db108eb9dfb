//! The answers to offers of cameras and viewers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Quantity;

/// How offers of cameras and viewers are answered, and the memory for viewers that join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Media {
    /// Codecs requested from a camera that offers several, in order of preference: H264, VP8, VP9, AV1, Opus, PCMU, PCMA; at most 7. Others follow in the order of the offer. H264 plays in nearly every browser and recording player. Default `[H264, VP8, VP9, AV1]`, Opus before PCMU and PCMA. Live, for offers from then on.
    #[schemars(length(max = 7))]
    pub codecs: Vec<MediaCodec>,
    /// Whether an offer with audio or video that this server has no codec for is answered with the rest alone. While false the offer is refused with the names of the codecs (RFC 9725 section 4.4.2). Default false. Live, for offers from then on.
    pub partial_answers: bool,
    /// Memory for the current group of pictures, in each room: a viewer that joins starts with its keyframe. Only a camera with a long keyframe interval uses it up: 16Mi hold 10 s at 12 Mbit/s, 64Mi 10 s at 50 Mbit/s. When a group does not fit, a viewer waits for the next keyframe. Memory is taken as the stream needs it; raise resources.media.limits with it. From 1Mi to 256Mi, default 16Mi. Live.
    pub gop_cache: Quantity,
}

impl Default for Media {
    fn default() -> Self {
        let codecs = vec![MediaCodec::H264, MediaCodec::Vp8, MediaCodec::Vp9, MediaCodec::Av1];
        Self { codecs, partial_answers: false, gop_cache: Quantity::literal("16Mi") }
    }
}

/// A codec that is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MediaCodec {
    /// RFC 6184.
    H264,
    /// RFC 7741.
    #[serde(rename = "VP8")]
    Vp8,
    /// RFC 9628.
    #[serde(rename = "VP9")]
    Vp9,
    /// The AV1 RTP payload format.
    #[serde(rename = "AV1")]
    Av1,
    /// RFC 7587.
    Opus,
    /// G.711 with mu-law.
    #[serde(rename = "PCMU")]
    Pcmu,
    /// G.711 with A-law.
    #[serde(rename = "PCMA")]
    Pcma,
}
