//! What a publisher may offer, and which errors it gets.

use super::*;

#[test]
fn the_bitrate_stands_in_the_video_section_alone() {
    let offer = Offer::parse(fixture("chrome-publish")).unwrap();
    let answer = Answer::parse(
        offer
            .answer_publisher(&local(), &AnswerOptions { max_bitrate: Some(2_500_001), ..AnswerOptions::default() })
            .unwrap()
            .0,
    );
    assert_eq!(answer.section("video")[2..4], ["b=AS:2501", "b=TIAS:2500001"]);
    assert!(answer.values("audio", "b=").is_empty());
}

#[test]
fn transport_cc_needs_both_the_extension_and_the_feedback() {
    let offer = fixture("chrome-publish");
    let (answer, tracks) = publish(&without(offer, "a=extmap:3 "));
    assert!(!answer.text.contains("transport-cc"));
    assert!(tracks.video.unwrap().payload_types.iter().all(|p| !p.transport_cc));
    let (answer, tracks) = publish(&with(offer, " transport-cc\r\n", " x-other\r\n"));
    assert!(!answer.text.contains("transport-wide-cc"));
    assert_eq!(tracks.video.unwrap().extensions.transport_cc, None);
}

#[test]
fn an_extension_that_the_publisher_only_sends_is_answered_as_received() {
    let mid = "urn:ietf:params:rtp-hdrext:sdes:mid";
    let (answer, _) = publish(&with(fixture("chrome-publish"), "a=extmap:4 ", "a=extmap:4/sendonly "));
    assert!(answer.has("video", &format!("a=extmap:4/recvonly {mid}")));
    for unusable in ["a=extmap:4/recvonly ", "a=extmap:15 ", "a=extmap:0 ", "a=extmap:4/sideways "] {
        let (answer, tracks) = publish(&with(fixture("chrome-publish"), "a=extmap:4 ", unusable));
        assert!(!answer.text.contains(mid), "{unusable}");
        assert_eq!(tracks.video.unwrap().extensions.mid, None, "{unusable}");
    }
}

#[test]
fn feedback_for_all_payload_types_is_taken_for_each() {
    let offer = without(fixture("obs-publish"), "a=rtcp-fb:96 nack pli");
    let offer = with(&offer, "a=rtcp-fb:96 goog-remb", "a=rtcp-fb:* nack pli");
    let (answer, tracks) = publish(&offer);
    assert!(answer.has("video", "a=rtcp-fb:96 nack pli") && tracks.video.unwrap().payload_types[0].pli);
}

#[test]
fn sendrecv_is_accepted_from_both_and_answered_one_way() {
    let (answer, _) = publish(&with(fixture("chrome-publish"), "a=sendonly", "a=sendrecv"));
    assert!(answer.has("audio", "a=recvonly") && answer.has("video", "a=recvonly"));
    let offer = without(fixture("chrome-view"), "a=recvonly");
    let (answer, _) = view(&offer, &source(&[payload(96, Codec::Vp8, "")]));
    assert!(answer.has("audio", "a=sendonly") && answer.has("video", "a=sendonly"));
}

#[test]
fn the_wrong_direction_is_named() {
    for (line, name) in [("a=recvonly", "recvonly"), ("a=inactive", "inactive")] {
        let error = publish_error(&with(fixture("chrome-publish"), "a=sendonly", line));
        assert_eq!(error.to_string(), format!("m=audio is a={name}; offer a=sendonly"));
    }
    let error = view_error(fixture("chrome-publish"), &source(&[payload(96, Codec::Vp8, "")]));
    assert_eq!(error.to_string(), "m=audio is a=sendonly; offer a=recvonly");
    assert!(error.is_unprocessable());
}

#[test]
fn tracks_of_two_media_streams_are_carried() {
    let (answer, tracks) = publish(&with(fixture("pion-publish"), "a=msid:pion audio", "a=msid:other audio"));
    assert!(tracks.audio.is_some() && tracks.video.is_some());
    assert!(!answer.media.iter().any(|section| is_rejected(section)));
}

#[test]
fn codec_order_of_the_options_holds_for_publishers() {
    let offer = Offer::parse(fixture("chrome-publish")).unwrap();
    let first = |codecs: &[Codec]| {
        let options = AnswerOptions { codecs: codecs.to_vec(), ..AnswerOptions::default() };
        let tracks = offer.answer_publisher(&local(), &options).unwrap().1.video.unwrap();
        let mut codecs: Vec<Codec> = tracks.payload_types.iter().map(|p| p.codec).collect();
        codecs.dedup();
        codecs
    };
    use Codec::{Av1, H264, Vp8, Vp9};
    assert_eq!(first(&AnswerOptions::DEFAULT_CODECS), [H264, Vp8, Vp9, Av1]);
    assert_eq!(first(&[Av1, Vp8]), [Av1, Vp8, H264, Vp9], "unlisted codecs follow as offered");
    assert_eq!(first(&[]), [Vp8, H264, Av1, Vp9], "the order of the offer");
}

#[test]
fn an_unknown_codec_is_named_beside_what_would_do() {
    let offer = with(fixture("obs-publish"), "a=rtpmap:96 H264/90000", "a=rtpmap:96 H265/90000");
    let error = publish_error(&offer);
    assert_eq!(
        error.to_string(),
        "m=video offers H265, and none of them can be used; offer H264, VP8, VP9 or AV1",
        "and the audio is not accepted alone"
    );
    assert!(error.is_unprocessable());
    for odd in ["a=rtpmap:111 opus/44100/2", "a=rtpmap:111 PCMU/16000", "a=rtpmap:112 opus/48000/2"] {
        let offer = with(fixture("obs-publish"), "a=rtpmap:111 opus/48000/2", odd);
        assert!(matches!(publish_error(&offer), SdpError::NoCommonCodec { .. }), "{odd}");
    }
    let offer = with(fixture("obs-publish"), "packetization-mode=1", "packetization-mode=2");
    assert!(matches!(publish_error(&offer), SdpError::NoCommonCodec { .. }));
}
