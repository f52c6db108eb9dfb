//! The media options of a spec.

use sfu::parameters::Codec;
use sfu::sdp::AnswerOptions;
use streamsession_api::{Media, MediaCodec};

/// Returns the options of a spec; the bitrate is one of the caps.
pub(crate) fn answers_of(media: &Media) -> AnswerOptions {
    let codecs = media.codecs.iter().map(|codec| match codec {
        MediaCodec::H264 => Codec::H264,
        MediaCodec::Vp8 => Codec::Vp8,
        MediaCodec::Vp9 => Codec::Vp9,
        MediaCodec::Av1 => Codec::Av1,
        MediaCodec::Opus => Codec::Opus,
        MediaCodec::Pcmu => Codec::Pcmu,
        MediaCodec::Pcma => Codec::Pcma,
    });
    AnswerOptions { codecs: codecs.collect(), partial_answers: media.partial_answers, max_bitrate: None }
}

/// Returns the bytes of video that each room may keep by a spec.
pub(crate) fn gop_cache_of(media: &Media) -> usize {
    usize::try_from(media.gop_cache.as_u64()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_spec_prefers_h264_and_refuses_in_full() {
        assert_eq!(answers_of(&Media::default()), AnswerOptions::default());
        assert_eq!(gop_cache_of(&Media::default()), sfu::ring::Limits::VIDEO.bytes);
    }

    #[test]
    fn codecs_keep_the_order_of_the_spec() {
        let codecs = vec![MediaCodec::Av1, MediaCodec::Pcma, MediaCodec::Vp8];
        let media = Media { codecs, partial_answers: true, ..Media::default() };
        let options = answers_of(&media);
        assert_eq!(options.codecs, [Codec::Av1, Codec::Pcma, Codec::Vp8]);
        assert!(options.partial_answers);
    }
}
