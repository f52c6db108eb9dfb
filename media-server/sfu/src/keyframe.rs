//! Random access as the `codec` crate defines it, for the codecs that a room carries.

use crate::parameters::Codec;
use codec::VideoCodec;
pub use codec::{Inspection, h264::ParameterSets};

/// Inspects one RTP payload. A decoder of audio can start with any that is not empty.
pub fn inspect(codec: Codec, payload: &[u8]) -> Inspection {
    match video_codec(codec) {
        Some(codec) => codec::inspect(codec, payload),
        None => Inspection { random_access: (!payload.is_empty()).then_some(0), opens: true, ..Inspection::default() },
    }
}

fn video_codec(codec: Codec) -> Option<VideoCodec> {
    match codec {
        Codec::H264 => Some(VideoCodec::H264),
        Codec::Vp8 => Some(VideoCodec::Vp8),
        Codec::Vp9 => Some(VideoCodec::Vp9),
        Codec::Av1 => Some(VideoCodec::Av1),
        _ => None,
    }
}
