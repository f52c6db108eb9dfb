//! The offers of real clients answered, each rule broken once, and anything at all fed in.

use super::codecs::{H264Profile, parameter};
use super::*;
use crate::parameters::*;
use proptest::prelude::*;

macro_rules! fixtures {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../tests/fixtures/", $name, ".sdp")))),*]
    };
}

const PUBLISH: [(&str, &str); 9] = fixtures![
    "chrome-publish",
    "chrome-publish-simulcast",
    "firefox-publish",
    "firefox-publish-max-bundle",
    "firefox-publish-simulcast",
    "safari-publish",
    "obs-publish",
    "gstreamer-publish",
    "pion-publish",
];
const VIEW: [(&str, &str); 5] = fixtures!["chrome-view", "firefox-view", "safari-view", "gstreamer-view", "pion-view"];

const SSRCS: [u32; 4] = [1001, 1002, 1003, 1004];

fn fixture(name: &str) -> &'static str {
    PUBLISH.iter().chain(&VIEW).find(|(n, _)| *n == name).expect("a fixture").1
}

fn local() -> LocalDescription {
    LocalDescription {
        ice: IceCredentials { ufrag: "Aabcdefg".into(), pwd: "0123456789abcdefghijklmn".into() },
        fingerprint: Fingerprint([0xAB; 32]),
        candidates: vec!["192.0.2.7:8189".parse().unwrap(), "[2001:db8::7]:8189".parse().unwrap()],
        origin: 42,
    }
}

fn publish(offer: &str) -> (Answer, PublisherTracks) {
    let (text, tracks) = Offer::parse(offer).unwrap().answer_publisher(&local(), None).unwrap();
    (Answer::parse(text), tracks)
}

fn view(offer: &str, source: &PublisherTracks) -> (Answer, SubscriberTracks) {
    let (text, tracks) = Offer::parse(offer).unwrap().answer_subscriber(&local(), source, SSRCS).unwrap();
    (Answer::parse(text), tracks)
}

/// An answer, cut into sections by hand, so that the writer is not checked by its own parser.
struct Answer {
    text: String,
    session: Vec<String>,
    media: Vec<Vec<String>>,
}

impl Answer {
    fn parse(text: String) -> Answer {
        assert!(text.ends_with("\r\n") && !text.contains("\r\n\r\n"));
        let (mut session, mut media) = (Vec::new(), Vec::<Vec<String>>::new());
        for line in text.split_terminator("\r\n") {
            if line.starts_with("m=") {
                media.push(Vec::new());
            }
            media.last_mut().unwrap_or(&mut session).push(line.to_owned());
        }
        Answer { text, session, media }
    }

    fn section(&self, kind: &str) -> &[String] {
        self.media.iter().find(|m| m[0].starts_with(&format!("m={kind} "))).expect("the section")
    }

    fn has(&self, kind: &str, line: &str) -> bool {
        self.section(kind).iter().any(|l| l == line)
    }

    fn numbers(&self, kind: &str) -> Vec<u8> {
        self.section(kind)[0].split(' ').skip(3).map(|n| n.parse().unwrap()).collect()
    }

    fn values(&self, kind: &str, prefix: &str) -> Vec<&str> {
        self.section(kind).iter().filter_map(|l| l.strip_prefix(prefix)).collect()
    }
}

fn lines<'a>(offer: &'a str, prefix: &'a str) -> Vec<&'a str> {
    offer.lines().filter_map(|l| l.strip_prefix(prefix)).collect()
}

/// `offer` with `from` replaced everywhere; fails when there is nothing to replace.
fn with(offer: &str, from: &str, to: &str) -> String {
    assert!(offer.contains(from), "{from} is not in the offer");
    offer.replace(from, to)
}

/// `offer` without the lines that start with `prefix`.
fn without(offer: &str, prefix: &str) -> String {
    assert!(offer.lines().any(|l| l.starts_with(prefix)), "{prefix} is not in the offer");
    offer.lines().filter(|l| !l.starts_with(prefix)).map(|l| format!("{l}\r\n")).collect()
}

fn error(offer: &str) -> SdpError {
    Offer::parse(offer).unwrap_err()
}

fn publish_error(offer: &str) -> SdpError {
    Offer::parse(offer).unwrap().answer_publisher(&local(), None).unwrap_err()
}

fn view_error(offer: &str, source: &PublisherTracks) -> SdpError {
    Offer::parse(offer).unwrap().answer_subscriber(&local(), source, SSRCS).unwrap_err()
}

fn payload(number: u8, codec: Codec, fmtp: &str) -> PayloadType {
    PayloadType {
        number,
        codec,
        fmtp: fmtp.into(),
        rtx: None,
        nack: true,
        pli: true,
        fir: true,
        remb: true,
        transport_cc: true,
    }
}

fn source(video: &[PayloadType]) -> PublisherTracks {
    let track = |mid: &str, kind, payload_types: Vec<PayloadType>| IncomingTrack {
        mid: mid.into(),
        kind,
        payload_types,
        extensions: HeaderExtensions::default(),
        ssrc: None,
        rtx_ssrc: None,
    };
    PublisherTracks {
        audio: Some(track("0", MediaKind::Audio, vec![payload(111, Codec::Opus, "")])),
        video: Some(track("1", MediaKind::Video, video.to_vec())),
    }
}

fn h264(id: &str, mode: u8) -> String {
    format!("level-asymmetry-allowed=1;packetization-mode={mode};profile-level-id={id}")
}

// What holds for the answer to every client.

/// Order of sections, mids, the group, roles, one transport everywhere, candidates in the tagged section (and, should that
/// be inactive, in the first active one too).
fn check_frame(name: &str, offer: &str, answer: &Answer) {
    let kinds = |texts: Vec<&str>| texts.iter().map(|m| m.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(kinds(lines(offer, "m=")), kinds(lines(&answer.text, "m=")), "{name}: order of sections");
    assert_eq!(lines(offer, "a=mid:"), lines(&answer.text, "a=mid:"), "{name}: mids");
    assert_eq!(lines(offer, "a=group:BUNDLE"), lines(&answer.text, "a=group:BUNDLE"), "{name}: group");
    assert_eq!(answer.session[..4], ["v=0", "o=- 42 2 IN IP4 127.0.0.1", "s=-", "t=0 0"], "{name}");
    assert!(answer.session.iter().any(|l| l == "a=ice-lite"), "{name}");
    for section in &answer.media {
        let words: Vec<&str> = section[0].split(' ').collect();
        assert_eq!(words[1..3], ["9", "UDP/TLS/RTP/SAVPF"], "{name}: never rejected by port 0");
        assert_eq!(section[1], "c=IN IP4 0.0.0.0", "{name}");
        let digest = format!("a=fingerprint:sha-256 {}", ["AB"; 32].join(":"));
        for wanted in [
            "a=rtcp:9 IN IP4 0.0.0.0",
            "a=ice-ufrag:Aabcdefg",
            "a=ice-pwd:0123456789abcdefghijklmn",
            "a=setup:passive",
            &digest,
        ] {
            assert_eq!(section.iter().filter(|l| *l == wanted).count(), 1, "{name}: {wanted}");
        }
    }
    let candidates = [
        "a=candidate:1 1 udp 2130706431 192.0.2.7 8189 typ host",
        "a=candidate:2 1 udp 2130706175 2001:db8::7 8189 typ host",
        "a=end-of-candidates",
    ];
    let tagged = lines(offer, "a=group:BUNDLE ").first().map_or("0", |g| g.split(' ').next().unwrap());
    let inactive = |section: &Vec<String>| section.iter().any(|l| l == "a=inactive");
    let tagged = answer.media.iter().position(|section| section.contains(&format!("a=mid:{tagged}"))).unwrap();
    let also = answer.media.iter().position(|section| !inactive(section)).filter(|_| inactive(&answer.media[tagged]));
    for (index, section) in answer.media.iter().enumerate() {
        let expected = index == tagged || Some(index) == also;
        for candidate in candidates {
            assert_eq!(section.iter().any(|l| l == candidate), expected, "{name}: {candidate}");
        }
    }
    for unanswered in ["a=simulcast", "a=rid", "a=bundle-only", "a=extmap-allow-mixed", "a=crypto"] {
        assert!(!answer.text.contains(unanswered), "{name}: {unanswered}");
    }
}

/// Every number in the answer is the client's own, with the client's own codec, format and RTX pair, and its feedback.
fn check_payload_types(name: &str, offer: &str, answer: &Answer) {
    for section in &answer.media {
        let numbers: Vec<&str> = section[0].split(' ').skip(3).collect();
        assert!(!numbers.is_empty(), "{name}");
        for number in &numbers {
            let rtpmap =
                section.iter().find_map(|l| l.strip_prefix(&format!("a=rtpmap:{number} "))).expect("an rtpmap");
            let offered = lines(offer, "a=rtpmap:");
            let offered = offered.iter().find_map(|l| l.strip_prefix(&format!("{number} "))).expect("offered");
            assert!(rtpmap.eq_ignore_ascii_case(offered), "{name}: {number} is {rtpmap}, offered {offered}");
            let apt = section.iter().find_map(|l| l.strip_prefix(&format!("a=fmtp:{number} apt=")));
            assert_eq!(rtpmap.starts_with("rtx/"), apt.is_some(), "{name}: {number}");
            if let Some(apt) = apt {
                assert!(numbers.contains(&apt), "{name}: RTX of {apt}, which is not answered");
                assert!(offer.contains(&format!("a=fmtp:{number} apt={apt}\r\n")), "{name}: apt as offered");
            }
        }
        let described = section.iter().filter(|l| l.starts_with("a=rtpmap:")).count();
        assert_eq!(numbers.len(), described, "{name}: no rtpmap beyond the m= line, none twice");
        for feedback in section.iter().filter(|l| l.starts_with("a=rtcp-fb:")) {
            assert!(offer.contains(&format!("{feedback}\r\n")), "{name}: {feedback} only if offered");
        }
        for fmtp in section.iter().filter(|l| l.starts_with("a=fmtp:")) {
            assert!(!fmtp.contains("sprop-"), "{name}: {fmtp}");
        }
    }
}

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
        assert_eq!(
            answer.numbers("video")[0],
            video.payload_types[0].number,
            "{name}: the offerer's first stays first"
        );
        assert!(video.payload_types.iter().all(|p| p.nack && p.pli), "{name}");
        let simulcast = name.ends_with("simulcast");
        assert_eq!(tracks.audio.is_none(), simulcast, "{name}");
        assert_eq!(video.ssrc.is_none(), matches!(name, "chrome-publish-simulcast"), "{name}");
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
            assert_eq!(agreed.audio.is_some(), tracks.audio.is_some(), "{name}");
        }
    }
}

// Clients, one by one.

#[test]
fn chrome_publishes_with_its_feedback_and_extensions() {
    let (answer, tracks) = publish(fixture("chrome-publish"));
    assert_eq!(answer.numbers("audio"), [111]);
    let video = [96, 97, 102, 103, 104, 107, 108, 109, 114, 115, 116, 117, 39, 40, 45, 46, 98, 99, 100, 101];
    assert_eq!(answer.numbers("video"), video, "the order of the offer, without red and ulpfec");
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
    assert_eq!(video.extensions, HeaderExtensions { mid: Some(4), transport_cc: Some(3) });
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
fn firefox_publishes_with_max_bundle_and_gets_no_port_0_back() {
    let offer = fixture("firefox-publish-max-bundle");
    assert!(offer.contains("m=video 0 ") && offer.contains("a=bundle-only"));
    let (answer, tracks) = publish(offer);
    assert_eq!(answer.numbers("video")[..4], [120, 124, 121, 125]);
    assert_eq!(tracks.video.unwrap().extensions, HeaderExtensions { mid: Some(3), transport_cc: Some(7) });
}

#[test]
fn firefox_takes_its_fingerprint_from_the_session_level() {
    let offer = Offer::parse(fixture("firefox-publish")).unwrap();
    assert_eq!(offer.fingerprint.0[..4], [0x10, 0x8A, 0x76, 0x51]);
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
fn simulcast_is_answered_as_one_layer() {
    let (_, tracks) = publish(fixture("firefox-publish-simulcast"));
    let video = tracks.video.unwrap();
    assert_eq!((video.ssrc, video.rtx_ssrc), (Some(4_217_341_059), Some(2_731_042_260)), "the first layer");
}

// Publishers.

#[test]
fn the_bitrate_stands_in_the_video_section_alone() {
    let offer = Offer::parse(fixture("chrome-publish")).unwrap();
    let answer = Answer::parse(offer.answer_publisher(&local(), Some(2_500_001)).unwrap().0);
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
fn two_media_streams_are_refused() {
    let offer = with(fixture("pion-publish"), "a=msid:pion audio", "a=msid:other audio");
    let error = publish_error(&offer);
    assert_eq!(error, SdpError::TooManyStreams { first: "pion".into(), second: "other".into() });
    assert!(error.is_unprocessable());
    publish(&with(fixture("pion-publish"), "a=msid:pion audio", "a=msid:- audio"));
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
    for odd in ["a=rtpmap:111 opus/44100/2", "a=rtpmap:111 PCMU/8000", "a=rtpmap:112 opus/48000/2"] {
        let offer = with(fixture("obs-publish"), "a=rtpmap:111 opus/48000/2", odd);
        assert!(matches!(publish_error(&offer), SdpError::NoCommonCodec { .. }), "{odd}");
    }
    let offer = with(fixture("obs-publish"), "packetization-mode=1", "packetization-mode=2");
    assert!(matches!(publish_error(&offer), SdpError::NoCommonCodec { .. }));
}

// Subscribers.

#[test]
fn h264_profiles_are_told_by_profile_and_constraints() {
    for (id, profile) in [
        ("42e01f", H264Profile::ConstrainedBaseline),
        ("42c015", H264Profile::ConstrainedBaseline),
        ("4D8028", H264Profile::ConstrainedBaseline),
        ("58f00a", H264Profile::ConstrainedBaseline),
        ("42001f", H264Profile::Baseline),
        ("4d001f", H264Profile::Main),
        ("4d4028", H264Profile::Main),
        ("640c1f", H264Profile::ConstrainedHigh),
        ("64001f", H264Profile::High),
        ("640032", H264Profile::High),
        ("f4001f", H264Profile::High444),
        ("6e0028", H264Profile::Other),
        ("x", H264Profile::Other),
        ("ßßß", H264Profile::Other),
    ] {
        assert_eq!(H264Profile::of(&format!("profile-level-id={id}")), profile, "{id}");
    }
    assert_eq!(H264Profile::of("packetization-mode=1"), H264Profile::ConstrainedBaseline);
}

#[test]
fn h264_goes_to_the_same_profile_then_the_next_higher_then_the_highest() {
    let offer = |ids: &[(&str, u8)]| -> Vec<PayloadType> {
        let numbered = ids.iter().zip(100..);
        numbered.map(|((id, mode), number)| payload(number, Codec::H264, &h264(id, *mode))).collect()
    };
    let all = offer(&[("42001f", 1), ("42001f", 0), ("42e01f", 1), ("42e01f", 0), ("4d001f", 1), ("64001f", 1)]);
    let pick = |id, mode, among: &[PayloadType]| {
        best_match(&payload(1, Codec::H264, &h264(id, mode)), among).map(|p| p.number)
    };
    for (id, mode, number) in [
        ("42001f", 1, 100),
        ("42001f", 0, 101),
        ("42e034", 1, 102),
        ("42e01f", 0, 103),
        ("4d0028", 1, 104),
        ("640028", 1, 105),
        ("640c28", 1, 105),
        ("f4001f", 1, 105),
    ] {
        assert_eq!(pick(id, mode, &all), Some(number), "{id} in mode {mode}");
    }
    assert_eq!(pick("42e01f", 1, &offer(&[("4d001f", 1), ("64001f", 1)])), Some(100), "the next higher");
    assert_eq!(pick("42e01f", 1, &offer(&[("42e01f", 0), ("64001f", 1)])), Some(101), "fragments need mode 1");
    assert_eq!(pick("64001f", 1, &offer(&[("42e01f", 0)])), Some(100), "better than nothing");
    assert_eq!(pick("64001f", 1, &[payload(1, Codec::Vp8, "")]), None);
}

#[test]
fn vp9_and_av1_need_the_same_profile() {
    let offered = [
        payload(98, Codec::Vp9, "profile-id=0"),
        payload(100, Codec::Vp9, "profile-id=2"),
        payload(45, Codec::Av1, "level-idx=5;profile=0;tier=0"),
    ];
    let pick = |codec, fmtp| best_match(&payload(1, codec, fmtp), &offered).map(|p| p.number);
    assert_eq!(pick(Codec::Vp9, ""), Some(98));
    assert_eq!(pick(Codec::Vp9, "profile-id=2"), Some(100));
    assert_eq!(pick(Codec::Vp9, "profile-id=1"), None);
    assert_eq!(pick(Codec::Av1, ""), Some(45));
    assert_eq!(pick(Codec::Av1, "profile=1"), None);
}

#[test]
fn a_viewer_without_the_codec_that_is_sent_is_told_so() {
    let error =
        view_error(fixture("gstreamer-view"), &source(&[payload(45, Codec::Av1, ""), payload(96, Codec::Vp8, "")]));
    assert_eq!(
        error.to_string(),
        "m=video offers VP8, H264, VP9, rtx, and none of them can be used; offer AV1, which the camera sends"
    );
    assert!(error.is_unprocessable());
}

#[test]
fn the_source_s_order_decides_the_order_for_the_viewer() {
    let sent = [payload(1, Codec::Vp9, ""), payload(2, Codec::H264, &h264("42e01f", 1)), payload(3, Codec::Vp8, "")];
    let (_, tracks) = view(fixture("gstreamer-view"), &source(&sent));
    let numbers: Vec<u8> = tracks.video.unwrap().payload_types.iter().map(|p| p.number).collect();
    assert_eq!(numbers, [99, 98, 97]);
    // Only VP8 (97) has RTX there, and it stands last: its SSRC is told all the same.
    let (answer, tracks) = view(fixture("gstreamer-view"), &source(&sent));
    assert_eq!((answer.numbers("video"), tracks.video.unwrap().rtx_ssrc), (vec![99, 98, 97, 100], Some(1002)));
}

#[test]
fn a_kind_that_the_camera_lacks_is_inactive_with_codecs() {
    let mut source = source(&[payload(96, Codec::Vp8, "")]);
    source.video = None;
    let (answer, tracks) = view(fixture("chrome-view"), &source);
    check_frame("audio only", fixture("chrome-view"), &answer);
    check_payload_types("audio only", fixture("chrome-view"), &answer);
    assert!(answer.has("video", "a=inactive") && answer.has("audio", "a=sendonly"));
    assert!(answer.values("video", "a=ssrc").is_empty() && answer.values("video", "a=msid").is_empty());
    assert!(tracks.video.is_none() && tracks.audio.is_some());
}

#[test]
fn an_inactive_tagged_section_does_not_hide_the_candidates() {
    // Its audio stands first.
    let mut source = source(&[payload(96, Codec::Vp8, "")]);
    source.audio = None;
    let (answer, _) = view(fixture("chrome-view"), &source);
    check_frame("video only", fixture("chrome-view"), &answer);
    assert_eq!(answer.values("audio", "a=candidate:").len(), 2);
    assert_eq!(answer.values("video", "a=candidate:").len(), 2);
}

#[test]
fn no_kind_in_common_is_an_error() {
    let offer = fixture("chrome-publish-simulcast");
    let offer = with(offer, "a=sendonly", "a=recvonly");
    let mut source = source(&[payload(96, Codec::Vp8, "")]);
    source.video = None;
    let error = view_error(&offer, &source);
    assert_eq!(
        error.to_string(),
        "the offer asks for video alone, and the stream has audio; ask for what the stream has"
    );
}

// Offers that are refused.

#[test]
fn a_body_too_large_is_refused_unparsed() {
    let offer = format!("{}a=x:{}\r\n", fixture("chrome-publish"), "x".repeat(MAX_SDP_BYTES));
    assert!(matches!(error(&offer), SdpError::TooLarge { limit: 65_536, .. }));
    assert!(!error(&offer).is_unprocessable());
}

#[test]
fn a_broken_line_is_named_by_its_number() {
    let broken = with(fixture("obs-publish"), "t=0 0", "t=0 zero");
    let SdpError::Syntax { line, text, .. } = error(&broken) else { panic!("{}", error(&broken)) };
    assert_eq!((line, text.as_str()), (4, "t=0 zero"));
    assert!(!error(&broken).is_unprocessable());
    for (text, line) in
        [("", 1), ("\r\n", 1), ("hello", 1), ("v=0\r\n", 1), ("{\"sdp\": \"v=0\"}", 1), ("v=0\r\no=x", 2)]
    {
        assert!(matches!(error(text), SdpError::Syntax { line: l, .. } if l >= line), "{text:?}: {}", error(text));
    }
}

#[test]
fn a_control_character_cannot_open_a_line() {
    let offer = with(fixture("obs-publish"), "profile-level-id=42e01f", "profile-level-id=42e01f\ra=ice-lite");
    assert!(matches!(error(&offer), SdpError::Syntax { .. }));
    assert!(matches!(IceFragment::parse("a=mid:0\0").unwrap_err(), SdpError::Syntax { line: 1, .. }));
}

#[test]
fn line_feeds_alone_will_do() {
    let offer = fixture("chrome-publish").replace("\r\n", "\n");
    assert_eq!(publish(&offer).0.text, publish(fixture("chrome-publish")).0.text);
}

#[test]
fn nothing_to_send_is_an_error() {
    let session: String = fixture("obs-publish").split_inclusive("\r\n").take_while(|l| !l.starts_with("m=")).collect();
    assert_eq!(error(&session), SdpError::NoMedia);
}

#[test]
fn a_data_channel_is_refused_since_no_answer_is_given_in_part() {
    let channel =
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\na=sctp-port:5000\r\n";
    let offer = with(&format!("{}{channel}", fixture("chrome-publish")), "BUNDLE 0 1", "BUNDLE 0 1 2");
    assert_eq!(error(&offer), SdpError::UnsupportedMedia { media: "application".into() });
    assert!(error(&offer).is_unprocessable());
}

#[test]
fn a_second_section_of_a_kind_is_refused() {
    let offer = fixture("obs-publish");
    let video = &offer[offer.find("m=video").unwrap()..];
    let offer = with(&format!("{offer}{}", with(video, "a=mid:1", "a=mid:2")), "BUNDLE 0 1", "BUNDLE 0 1 2");
    assert_eq!(error(&offer), SdpError::TooManyTracks { kind: MediaKind::Video });
    assert!(error(&offer).is_unprocessable());
}

#[test]
fn all_sections_must_be_bundled() {
    let video = SdpError::NotBundled { section: "m=video".into() };
    assert_eq!(error(&with(fixture("obs-publish"), "BUNDLE 0 1", "BUNDLE 0")), video);
    let audio = SdpError::NotBundled { section: "m=audio".into() };
    assert_eq!(error(&without(fixture("obs-publish"), "a=group:BUNDLE")), audio);
    assert!(audio.is_unprocessable());
}

#[test]
fn one_section_alone_needs_no_bundle() {
    let offer = without(fixture("chrome-publish-simulcast"), "a=group:BUNDLE");
    let (answer, _) = publish(&offer);
    check_frame("alone", &offer, &answer);
}

#[test]
fn mids_must_be_there_and_differ() {
    let offer = fixture("obs-publish");
    assert!(matches!(error(&without(offer, "a=mid:1")), SdpError::MissingAttribute { attribute: "a=mid", .. }));
    let twice = with(offer, "a=mid:1", "a=mid:0");
    assert!(matches!(error(&twice), SdpError::InvalidAttribute { attribute: "a=mid", .. }));
    let spaced = with(offer, "a=mid:1", "a=mid:1 2");
    assert!(matches!(error(&spaced), SdpError::InvalidAttribute { attribute: "a=mid", .. }));
}

#[test]
fn rtcp_must_be_multiplexed() {
    let error = error(&without(fixture("obs-publish"), "a=rtcp-mux"));
    assert_eq!(error, SdpError::NoRtcpMux { section: "m=audio".into() });
    assert!(error.is_unprocessable());
}

#[test]
fn a_bundled_section_may_leave_the_transport_to_the_tagged_one() {
    let offer = fixture("firefox-publish-max-bundle");
    let (audio, video) = offer.split_at(offer.find("m=video").unwrap());
    let video = ["a=rtcp-mux", "a=ice-", "a=setup"].iter().fold(video.to_owned(), |v, line| without(&v, line));
    let (answer, _) = publish(&format!("{audio}{video}"));
    assert!(answer.has("audio", "a=rtcp-mux") && !answer.has("video", "a=rtcp-mux"), "as offered");
}

#[test]
fn a_disabled_section_is_refused_and_a_bundled_one_is_not() {
    let offer = with(fixture("firefox-publish-max-bundle"), "a=bundle-only\r\n", "a=rtcp-mux\r\n");
    assert_eq!(error(&offer), SdpError::DisabledSection { section: "m=video".into() });
}

#[test]
fn only_dtls_srtp_is_spoken() {
    let error = error(&with(fixture("obs-publish"), "UDP/TLS/RTP/SAVPF", "RTP/AVP"));
    assert_eq!(error.to_string(), "m=audio wants RTP/AVP; offer UDP/TLS/RTP/SAVPF");
}

#[test]
fn ice_credentials_have_their_lengths_and_alphabet() {
    let offer = fixture("obs-publish");
    for bad in ["abc", "a b c d", "abc-d", "äöüß", &"x".repeat(257)] {
        let error = error(&with(offer, "a=ice-ufrag:Vc5w", &format!("a=ice-ufrag:{bad}")));
        assert!(matches!(error, SdpError::InvalidAttribute { attribute: "a=ice-ufrag", .. }), "{bad}: {error}");
        assert!(!error.is_unprocessable());
    }
    let short = error(&with(offer, "byop6RyEjYAHx2wOga/hKY", "byop6RyEjYAHx2wOga/hK"));
    assert!(matches!(short, SdpError::InvalidAttribute { attribute: "a=ice-pwd", .. }));
    assert!(!short.to_string().contains("byop6"), "a password is not quoted");
    for (prefix, attribute) in [("a=ice-ufrag", "a=ice-ufrag"), ("a=ice-pwd", "a=ice-pwd")] {
        let error = error(&without(offer, prefix));
        assert!(error.to_string().starts_with(&format!("m=audio has no {attribute};")), "{error}");
    }
}

#[test]
fn an_ice_lite_client_is_refused() {
    let offer = with(fixture("obs-publish"), "a=msid-semantic:WMS *", "a=ice-lite");
    assert_eq!(error(&offer), SdpError::IceLite);
}

#[test]
fn the_certificate_is_pinned_by_sha_256() {
    let offer = fixture("obs-publish");
    let error = |o: &str| Offer::parse(o).unwrap_err();
    let other = with(offer, "fingerprint:sha-256", "fingerprint:sha-512");
    assert_eq!(error(&other).to_string(), "a=fingerprint is there only as sha-512; offer one with sha-256");
    let both = with(offer, "a=fingerprint:sha-256", "a=fingerprint:sha-1 00:11\r\na=fingerprint:SHA-256");
    assert_eq!(Offer::parse(&both).unwrap().fingerprint.0[..2], [0x1C, 0x43]);
    for bad in ["", "1C:43", "+C:43", &["AB"; 33].join(":"), &["A"; 32].join(":"), &["ABC"; 32].join(":")] {
        let digest = lines(offer, "a=fingerprint:sha-256 ")[0];
        let error = error(&with(offer, digest, bad));
        assert!(matches!(error, SdpError::InvalidAttribute { attribute: "a=fingerprint", .. }), "{bad}: {error}");
    }
    let none = error(&without(offer, "a=fingerprint"));
    assert!(matches!(none, SdpError::MissingAttribute { attribute: "a=fingerprint", .. }));
}

#[test]
fn this_server_is_the_dtls_server() {
    let offer = fixture("obs-publish");
    publish(&with(offer, "a=setup:actpass", "a=setup:active"));
    for setup in ["passive", "holdconn", "x"] {
        let error = error(&with(offer, "a=setup:actpass", &format!("a=setup:{setup}")));
        assert_eq!(error, SdpError::UnsupportedSetup { setup: setup.into() });
        assert!(error.is_unprocessable());
    }
    assert!(matches!(error(&without(offer, "a=setup")), SdpError::MissingAttribute { attribute: "a=setup", .. }));
}

#[test]
fn a_payload_type_means_one_thing_in_a_bundle() {
    let offer = fixture("obs-publish");
    let (head, video) = offer.split_at(offer.find("m=video").unwrap());
    let video = with(&with(video, "SAVPF 96", "SAVPF 111"), ":96 ", ":111 ");
    assert_eq!(error(&format!("{head}{video}")), SdpError::PayloadTypeClash { number: 111 });
}

#[test]
fn a_payload_type_given_twice_counts_once() {
    let (answer, _) = publish(&with(fixture("obs-publish"), "SAVPF 96", "SAVPF 96 96 300 x -1"));
    assert_eq!(answer.numbers("video"), [96]);
}

#[test]
fn messages_quote_no_more_than_a_line() {
    let offer = with(fixture("obs-publish"), "a=setup:actpass", &format!("a=setup:{}", "ß".repeat(5000)));
    assert!(error(&offer).to_string().chars().count() < 300);
}

#[test]
fn parameters_are_found_in_any_writing() {
    assert_eq!(parameter("a=1; Profile-Level-ID = 42e01f ;b", "profile-level-id"), Some("42e01f"));
    assert_eq!(parameter("xprofile=1", "profile"), None);
}

// Fragments.

const FRAGMENT: &str = "a=ice-options:trickle ice2\r\na=group:BUNDLE video0 audio1\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:video0\r\n\
a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n\
a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag ysXw network-id 1\r\n\
a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\na=end-of-candidates\r\n";

#[test]
fn a_fragment_gives_credentials_and_counts_candidates() {
    let fragment = IceFragment::parse(FRAGMENT).unwrap();
    let ice = IceCredentials { ufrag: "ysXw".into(), pwd: "vw5LmwG4y/e6dPP/zAP9Gp5k".into() };
    assert_eq!(fragment.ice, Some(ice.clone()));
    assert_eq!((fragment.candidates, fragment.end_of_candidates), (2, true));
    let session_level =
        "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:x\r\n";
    let fragment = IceFragment::parse(session_level).unwrap();
    assert_eq!((fragment.ice, fragment.candidates, fragment.end_of_candidates), (Some(ice), 1, false));
    assert_eq!(IceFragment::parse("").unwrap(), IceFragment::default());
    let twice = format!(
        "{FRAGMENT}m=audio 9 UDP/TLS/RTP/SAVPF 97\r\na=mid:audio1\r\na=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n"
    );
    assert!(IceFragment::parse(&twice).unwrap().ice.is_some(), "the same pair in each section");
}

#[test]
fn a_bad_fragment_is_an_error() {
    for bad in [
        "hello",
        "a=ice-ufrag:ysXw",
        "a=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k",
        "a=ice-ufrag:y\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k",
        "a=ice-ufrag:ysXw\r\na=ice-pwd:short",
        "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\nm=audio 9 x 0\r\na=ice-ufrag:other",
        "{\"candidate\": \"x\"}",
    ] {
        assert!(IceFragment::parse(bad).is_err(), "{bad:?}");
    }
    assert!(matches!(IceFragment::parse(&"a=x\n".repeat(20_000)).unwrap_err(), SdpError::TooLarge { .. }));
}

#[test]
fn a_restart_is_answered_in_the_section_that_the_client_named() {
    let credentials = "a=ice-ufrag:Aabcdefg\r\na=ice-pwd:0123456789abcdefghijklmn\r\n\
        a=candidate:1 1 udp 2130706431 192.0.2.7 8189 typ host\r\n\
        a=candidate:2 1 udp 2130706175 2001:db8::7 8189 typ host\r\na=end-of-candidates\r\n";
    let head = "a=ice-lite\r\na=ice-options:trickle\r\n";
    assert_eq!(
        IceFragment::parse(FRAGMENT).unwrap().answer(&local()),
        format!(
            "{head}a=group:BUNDLE video0 audio1\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:video0\r\n{credentials}"
        )
    );
    let bare = IceFragment::answer_restart(&local());
    assert_eq!(bare, format!("{head}{credentials}"));
    assert_eq!(IceFragment::parse(&bare).unwrap().ice, Some(local().ice));
}

// Anything at all.

/// Whatever is accepted is answered in a form that stands the checks of an answer.
fn feed(text: &str) {
    let _ = IceFragment::parse(text).map(|f| f.answer(&local()));
    let Ok(offer) = Offer::parse(text) else { return };
    let source = source(&[payload(96, Codec::Vp8, ""), payload(97, Codec::H264, &h264("42e01f", 1))]);
    let answers = [
        offer.answer_publisher(&local(), Some(1)).map(|a| a.0),
        offer.answer_subscriber(&local(), &source, SSRCS).map(|a| a.0),
    ];
    for answer in answers.into_iter().flatten() {
        let answer = Answer::parse(answer);
        assert_eq!(answer.media.len(), offer.kinds().len());
        for line in answer.session.iter().chain(answer.media.iter().flatten()) {
            assert!(line.len() > 2 && line.as_bytes()[1] == b'=', "{line:?}");
            assert!(!line.chars().any(|c| c.is_control() && c != '\t'), "{line:?}");
        }
        for once in ["a=setup:passive", "a=ice-ufrag:Aabcdefg"] {
            assert_eq!(answer.text.matches(once).count(), answer.media.len());
        }
    }
}

fn any_fixture() -> impl Strategy<Value = &'static str> {
    (0..PUBLISH.len() + VIEW.len()).prop_map(|i| PUBLISH.iter().chain(&VIEW).nth(i).expect("in range").1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_survived(text in "\\PC{0,200}") {
        feed(&text);
    }

    #[test]
    fn any_lines_are_survived(lines in prop::collection::vec("[a-z]=[ -~\u{80}-\u{2ff}]{0,40}", 0..30)) {
        feed(&lines.join("\r\n"));
        feed(&format!("v=0\r\no=- 1 1 IN IP4 0\r\ns=-\r\nt=0 0\r\n{}\r\n", lines.join("\r\n")));
    }

    #[test]
    fn a_truncated_offer_is_survived(offer in any_fixture(), cut in 0.0..1.0_f64) {
        let end = (offer.len() as f64 * cut) as usize;
        feed(&offer[..end]);
        feed(&offer[end..]);
    }

    #[test]
    fn offers_with_lines_removed_doubled_swapped_and_overwritten_are_survived(
        offer in any_fixture(),
        edits in prop::collection::vec((0..4_u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[ -~]{0,12}"), 1..12),
    ) {
        let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
        for (edit, at, other, text) in edits {
            let (at, other) = (at.index(lines.len()), other.index(lines.len()));
            match edit {
                0 if lines.len() > 1 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[other].clone()),
                2 => lines.swap(at, other),
                _ => {
                    let from = other % (lines[at].len() + 1);
                    let to = (from + text.len()).min(lines[at].len());
                    lines[at].replace_range(from..to, &text);
                }
            }
        }
        feed(&(lines.join("\r\n") + "\r\n"));
    }

    #[test]
    fn offers_with_bytes_overwritten_are_survived(
        offer in any_fixture(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = offer.as_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        feed(&String::from_utf8_lossy(&bytes));
    }
}
