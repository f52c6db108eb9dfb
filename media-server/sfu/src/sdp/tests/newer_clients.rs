//! Clients that need more than the plain case, each with the answer it needs.

use super::*;

/// The answer that a client needs: sections in order (`None` is rejected, else the first payload type), and our setup role.
struct Expected {
    name: &'static str,
    offer: &'static str,
    sections: &'static [(&'static str, Option<u8>)],
    setup: &'static str,
    codec: Codec,
    layer: Option<&'static str>,
}

macro_rules! client {
    ($name:literal, $setup:literal, $codec:ident, $layer:expr, $sections:expr) => {
        Expected {
            name: $name,
            offer: include_str!(concat!("../../../tests/fixtures/", $name, ".sdp")),
            sections: &$sections,
            setup: $setup,
            codec: Codec::$codec,
            layer: $layer,
        }
    };
}

const PUBLISHERS: [Expected; 8] = [
    client!("ffmpeg-8-publish", "active", H264, None, [("audio", Some(111)), ("video", Some(106))]),
    client!("obs-32-publish-simulcast", "passive", H264, Some("0"), [("audio", Some(111)), ("video", Some(96))]),
    client!("gstreamer-1.28-publish", "passive", H264, None, [("video", Some(98)), ("audio", Some(100))]),
    client!(
        "ip-camera-bridge-publish",
        "passive",
        H264,
        None,
        [("video", Some(96)), ("audio", Some(8)), ("audio", None), ("application", None)]
    ),
    client!("larix-publish", "passive", H264, None, [("audio", Some(111)), ("video", Some(96))]),
    client!("libdatachannel-publish", "passive", H264, None, [("video", Some(102)), ("application", None)]),
    client!("werift-publish", "passive", Vp8, None, [("video", Some(96)), ("audio", Some(98))]),
    client!(
        "roamhq-wrtc-publish",
        "passive",
        Vp8,
        None,
        [("application", None), ("audio", Some(111)), ("video", Some(96))]
    ),
];

fn check(expected: &Expected, answer: &Answer) {
    let name = expected.name;
    check_frame(name, expected.offer, answer);
    check_payload_types(name, expected.offer, answer);
    let answered: Vec<(String, Option<u8>)> = answer
        .media
        .iter()
        .map(|section| {
            let words: Vec<&str> = section[0].split(' ').collect();
            let first = (!is_rejected(section)).then(|| words[3].parse().unwrap());
            (words[0].trim_start_matches("m=").to_owned(), first)
        })
        .collect();
    let sections: Vec<(String, Option<u8>)> = expected.sections.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect();
    assert_eq!(answered, sections, "{name}");
    let setup = format!("a=setup:{}", expected.setup);
    for section in answer.media.iter().filter(|section| !is_rejected(section)) {
        assert!(section.contains(&setup), "{name}: {setup}");
    }
}

#[test]
fn every_newer_publisher_gets_the_answer_it_needs() {
    for expected in &PUBLISHERS {
        let (answer, tracks) = publish(expected.offer);
        check(expected, &answer);
        let video = tracks.video.unwrap();
        assert_eq!(video.payload_types[0].codec, expected.codec, "{}", expected.name);
        assert_eq!(video.rid.as_deref(), expected.layer, "{}", expected.name);
        let simulcast = expected.layer.map(|layer| format!("a=simulcast:recv {layer}"));
        assert!(simulcast.is_none_or(|line| answer.has("video", &line)), "{}", expected.name);
    }
}

#[test]
fn every_newer_publisher_is_watched_by_every_viewer() {
    for expected in &PUBLISHERS {
        let (_, tracks) = publish(expected.offer);
        let g711 = tracks.audio.as_ref().is_some_and(|audio| audio.payload_types[0].codec == Codec::Pcma);
        // webrtcbin and aiortc's fixtures list Opus alone.
        for (name, offer) in VIEW.into_iter().filter(|(_, offer)| !g711 || offer.contains("PCMA/8000")) {
            let (answer, agreed) = view(offer, &tracks);
            check_frame(name, offer, &answer);
            assert_eq!(agreed.video.unwrap().payload_types[0].codec, expected.codec, "{name} of {}", expected.name);
            assert!(agreed.audio.is_some(), "{name} of {}", expected.name);
        }
    }
}

#[test]
fn g711_of_a_bridge_reaches_browsers_by_its_own_type() {
    let bridge = PUBLISHERS.iter().find(|p| p.name == "ip-camera-bridge-publish").unwrap();
    let (answer, tracks) = publish(bridge.offer);
    assert!(answer.has("audio", "a=rtpmap:8 PCMA/8000") && answer.has("audio", "a=rtpmap:0 PCMU/8000"));
    let (answer, agreed) = view(fixture("chrome-view"), &tracks);
    let audio = agreed.audio.unwrap();
    let codecs: Vec<Codec> = audio.payload_types.iter().map(|p| p.codec).collect();
    assert_eq!(codecs, [Codec::Pcma, Codec::Pcmu, Codec::Opus], "G.711 first, Opus for a camera that brings it later");
    assert!(answer.section("audio")[0].starts_with("m=audio 9 UDP/TLS/RTP/SAVPF 8 0 111"));
}

#[test]
fn opus_is_preferred_to_g711_of_the_same_publisher() {
    let larix = PUBLISHERS.iter().find(|p| p.name == "larix-publish").unwrap();
    let offer = with(larix.offer, "SAVPF 111 103 9 0 8 13 126", "SAVPF 0 8 111");
    let audio = publish(&offer).1.audio.unwrap();
    let codecs: Vec<(u8, Codec)> = audio.payload_types.iter().map(|p| (p.number, p.codec)).collect();
    assert_eq!(codecs, [(111, Codec::Opus), (0, Codec::Pcmu), (8, Codec::Pcma)]);
}

#[test]
fn static_payload_types_need_no_rtpmap() {
    let bridge = PUBLISHERS.iter().find(|p| p.name == "ip-camera-bridge-publish").unwrap();
    let offer = without(bridge.offer, "a=rtpmap:8 ");
    let audio = publish(&without(&offer, "a=rtpmap:0 ")).1.audio.unwrap();
    let codecs: Vec<(u8, Codec)> = audio.payload_types.iter().map(|p| (p.number, p.codec)).collect();
    assert_eq!(codecs, [(8, Codec::Pcma), (0, Codec::Pcmu)]);
    let dynamic = with(&with(&offer, "SAVPF 8 0", "SAVPF 97 0"), "a=rtpmap:0 PCMU", "a=rtpmap:97 PCMU");
    let audio = publish(&dynamic).1.audio.unwrap();
    let codecs: Vec<(u8, Codec)> = audio.payload_types.iter().map(|p| (p.number, p.codec)).collect();
    assert_eq!(codecs, [(97, Codec::Pcmu), (0, Codec::Pcmu)]);
}

#[test]
fn reader_of_mediamtx_is_answered_without_its_data_channel() {
    let reader = client!(
        "mediamtx-reader-view",
        "passive",
        H264,
        None,
        [("video", Some(102)), ("audio", Some(111)), ("application", None)]
    );
    let (answer, tracks) = view(reader.offer, &publish(fixture("obs-publish")).1);
    check(&reader, &answer);
    assert_eq!(tracks.video.unwrap().payload_types[0].codec, reader.codec);
    assert!(answer.has("audio", "a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1"), "OBS sends stereo");
}

#[test]
fn ffmpeg_gets_candidates_in_its_first_section_and_no_feedback() {
    let (answer, tracks) = publish(PUBLISHERS[0].offer);
    assert_eq!(answer.values("audio", "a=candidate:").len(), 2);
    assert!(!answer.text.contains("a=rtcp-fb"));
    let video = tracks.video.unwrap();
    assert_eq!(
        (video.ssrc, video.payload_types[0].nack, video.payload_types[0].pli),
        (Some(1_204_915_580), false, false)
    );
}

#[test]
fn ffmpeg_with_one_stream_keeps_its_group_of_two() {
    let offer = PUBLISHERS[0].offer;
    let video = format!("{}{}", &offer[..offer.find("m=audio").unwrap()], &offer[offer.find("m=video").unwrap()..]);
    let (answer, tracks) = publish(&video);
    check_frame("video alone", &video, &answer);
    assert!(answer.session.contains(&"a=group:BUNDLE 1".to_owned()));
    assert!(tracks.audio.is_none() && tracks.video.is_some());
}
