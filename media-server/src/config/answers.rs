//! How a spec wants offers answered.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_spec_prefers_h264_and_refuses_in_full() {
        assert_eq!(answers_of(&Media::default()), AnswerOptions::default());
    }

    #[test]
    fn codecs_keep_the_order_of_the_spec() {
        let media = Media { codecs: vec![MediaCodec::Av1, MediaCodec::Pcma, MediaCodec::Vp8], partial_answers: true };
        let options = answers_of(&media);
        assert_eq!(options.codecs, [Codec::Av1, Codec::Pcma, Codec::Vp8]);
        assert!(options.partial_answers);
    }
}
