//! The offers of known clients: what holds for all of them, and what each client has of its own.

use super::*;

#[test]
fn every_publisher_is_answered_in_its_own_terms() {
    for (name, offer) in PUBLISH {
        let (answer, tracks) = publish(offer);
        check_frame(name, offer, &answer);
        check_payload_types(name, offer, &answer);
        for section in &answer.media {
            assert!(section.contains(&"a=recvonly".to_owned()), "{name}");
            assert!(!section.iter().any(|l| l.starts_with("a=ssrc") || l.starts_with("a=msid:")), "{name}");
        }
        let video = tracks.video.expect("video");
        assert_eq!(answer.numbers("video")[0], video.payload_types[0].number, "{name}");
        let h264 = video.payload_types.iter().any(|p| p.codec == Codec::H264);
        assert_eq!(video.payload_types[0].codec == Codec::H264, h264, "{name}: H264 first where it is offered");
        assert!(video.payload_types.iter().all(|p| p.nack && p.pli), "{name}");
        let simulcast = name.ends_with("simulcast");
        assert_eq!(tracks.audio.is_none(), simulcast, "{name}");
        assert_eq!(video.ssrc.is_none(), name == "chrome-publish-simulcast", "{name}");
        assert_eq!(video.rid.as_deref(), simulcast.then_some("h"), "{name}: the best layer");
    }
}

#[test]
fn every_viewer_is_answered_in_its_own_terms() {
    for (camera, offer) in PUBLISH {
        let (_, tracks) = publish(offer);
        for (name, offer) in VIEW {
            let first = tracks.video.as_ref().map(|v| v.payload_types[0].codec).unwrap();
            let (answer, agreed) = view(offer, &tracks);
            let name = format!("{name} of {camera}");
            check_frame(&name, offer, &answer);
            check_payload_types(&name, offer, &answer);
            let video = agreed.video.expect("video");
            assert_eq!(video.payload_types[0].codec, first, "{name}: what the camera sends comes first");
            assert_eq!(answer.numbers("video")[0], video.payload_types[0].number, "{name}");
            assert!(answer.has("video", "a=sendonly"), "{name}");
            assert_eq!(answer.values("video", "a=extmap:"), Vec::<&str>::new(), "{name}: a header of twelve bytes");
            assert!(!answer.text.contains("transport-cc"), "{name}");
            assert!(agreed.audio.is_some(), "{name}: also where the camera has no audio yet");
        }
    }
}

#[test]
fn chrome_publishes_with_its_feedback_and_extensions() {
    let (answer, tracks) = publish(fixture("chrome-publish"));
    assert_eq!(answer.numbers("audio"), [111, 0, 8], "Opus, then G.711");
    let video = [102, 103, 104, 107, 108, 109, 114, 115, 116, 117, 39, 40, 96, 97, 98, 99, 100, 101, 45, 46];
    assert_eq!(answer.numbers("video"), video, "H264, VP8, VP9, AV1, without red and ulpfec");
    for line in [
        "a=rtcp-fb:96 goog-remb",
        "a=rtcp-fb:96 transport-cc",
        "a=rtcp-fb:96 ccm fir",
        "a=rtcp-fb:96 nack",
        "a=rtcp-fb:96 nack pli",
        "a=fmtp:97 apt=96",
        "a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        "a=fmtp:45 level-idx=5;profile=0;tier=0",
        "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
        "a=rtcp-mux",
        "a=rtcp-rsize",
    ] {
        assert!(answer.has("video", line), "{line}");
    }
    assert_eq!(answer.values("video", "a=extmap:").len(), 2);
    assert!(answer.has("audio", "a=rtpmap:111 opus/48000/2"));
    assert!(answer.has("audio", "a=fmtp:111 minptime=10;useinbandfec=1"));
    let video = tracks.video.unwrap();
    assert_eq!((video.ssrc, video.rtx_ssrc), (Some(3_107_348_437), Some(3_248_014_611)));
    assert_eq!(
        video.extensions,
        HeaderExtensions { mid: Some(4), transport_cc: Some(3), ..HeaderExtensions::default() }
    );
    assert!(video.payload_types.iter().all(|p| p.rtx.is_some() && p.transport_cc && p.remb && p.fir));
    let audio = tracks.audio.unwrap();
    assert_eq!((audio.mid.as_str(), audio.ssrc, audio.rtx_ssrc), ("0", Some(3_668_868_330), None));
}

#[test]
fn chrome_views_h264_by_its_own_numbers_and_keeps_the_other_codecs_for_later() {
    let (answer, tracks) = view(fixture("chrome-view"), &source(&[payload(126, Codec::H264, &h264("42e01f", 1))]));
    assert_eq!(answer.numbers("video")[..2], [108, 109]);
    assert!(answer.numbers("video").contains(&96), "VP8, should the camera come back with it");
    let video = tracks.video.unwrap();
    assert_eq!((video.mid.as_str(), video.ssrc, video.rtx_ssrc), ("1", 1001, Some(1002)));
    assert_eq!(video.payload_types[0].rtx, Some(109));
    for line in [
        "a=msid:live live-video",
        "a=ssrc-group:FID 1001 1002",
        "a=ssrc:1001 cname:media-server",
        "a=ssrc:1001 msid:live live-video",
        "a=ssrc:1002 cname:media-server",
        "a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    ] {
        assert!(answer.has("video", line), "{line}");
    }
    assert!(answer.has("audio", "a=msid:live live-audio"), "one MediaStream for both");
    assert!(answer.has("audio", "a=ssrc:1003 cname:media-server"));
    assert!(answer.session.contains(&"a=msid-semantic: WMS live".to_owned()));
    let audio = tracks.audio.unwrap();
    assert_eq!((audio.ssrc, audio.rtx_ssrc), (1003, None));
}

#[test]
fn firefox_bundle_only_section_is_carried() {
    let offer = fixture("firefox-publish-max-bundle");
    assert!(offer.contains("m=video 0 ") && offer.contains("a=bundle-only"));
    let (answer, tracks) = publish(offer);
    assert!(answer.numbers("video").contains(&120) && answer.section("video")[0].starts_with("m=video 9 "));
    assert_eq!(
        tracks.video.unwrap().extensions,
        HeaderExtensions { mid: Some(3), transport_cc: Some(7), ..HeaderExtensions::default() }
    );
}

#[test]
fn firefox_takes_its_fingerprint_from_the_session_level() {
    let offer = Offer::parse(fixture("firefox-publish")).unwrap();
    assert_eq!(offer.fingerprint.bytes()[..4], [0x10, 0x8A, 0x76, 0x51]);
    assert_eq!(offer.ice.ufrag, "1fdbc18a");
    assert_eq!(offer.kinds(), [MediaKind::Audio, MediaKind::Video]);
}

#[test]
fn safari_views_a_high_profile_stream_as_such() {
    let (answer, _) = view(fixture("safari-view"), &source(&[payload(96, Codec::H264, &h264("64001f", 1))]));
    // There is constrained high (96, 100) and constrained baseline (98, 102); none reaches high, so the highest.
    assert_eq!(answer.numbers("video")[..2], [96, 97]);
    let (answer, _) = view(fixture("safari-view"), &source(&[payload(96, Codec::H264, &h264("42e01f", 1))]));
    assert_eq!(answer.numbers("video")[..2], [98, 99]);
    assert!(!answer.text.contains("H265"));
}

#[test]
fn obs_publishes_h264_without_rtx_and_extensions() {
    let (answer, tracks) = publish(fixture("obs-publish"));
    assert_eq!((answer.numbers("audio"), answer.numbers("video")), (vec![111], vec![96]));
    assert!(answer.has("video", "a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1"));
    assert!(answer.has("audio", "a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;useinbandfec=1"));
    assert!(!answer.text.contains("a=extmap") && !answer.text.contains("transport-cc"));
    let video = tracks.video.unwrap();
    assert_eq!((video.ssrc, video.rtx_ssrc), (Some(3_388_068_601), None));
    let codec = &video.payload_types[0];
    assert!(codec.nack && codec.pli && codec.remb && !codec.fir && !codec.transport_cc);
}

#[test]
fn gstreamer_publishes_with_mids_of_its_own_and_opus_in_capitals() {
    let (answer, tracks) = publish(fixture("gstreamer-publish"));
    assert_eq!(lines(&answer.text, "a=mid:"), ["video0", "audio1"]);
    assert!(answer.has("audio", "a=rtpmap:97 opus/48000/2"));
    assert!(answer.has("video", "a=fmtp:96 packetization-mode=1;profile-level-id=42c015;level-asymmetry-allowed=1"));
    assert!(answer.has("video", "a=rtcp-mux-only"), "echoed");
    let video = tracks.video.unwrap();
    assert!(video.payload_types[0].fmtp.contains("sprop-parameter-sets=Z0LAFdkB"), "kept for those who record");
    assert_eq!((video.payload_types[0].rtx, video.rtx_ssrc), (Some(98), Some(3_573_786_006)));
}

#[test]
fn pion_views_with_video_as_the_first_section() {
    let (answer, _) = view(fixture("pion-view"), &source(&[payload(96, Codec::Vp8, "")]));
    assert!(answer.media[0][0].starts_with("m=video 9 UDP/TLS/RTP/SAVPF 96 97 "));
    assert!(answer.media[1][0].starts_with("m=audio 9 UDP/TLS/RTP/SAVPF 111"));
    assert!(answer.has("video", "a=fmtp:113 apt=112"));
}

#[test]
fn aiortc_is_known_by_the_strongest_of_its_fingerprints() {
    let offer = Offer::parse(fixture("aiortc-publish")).unwrap();
    assert_eq!(offer.fingerprint.algorithm(), "sha-512");
    assert_eq!(offer.fingerprint.bytes()[..4], [0xB0, 0xC6, 0xCA, 0x9F]);
}
