//! Sections that are rejected by port 0 while the rest is answered, and media that is refused by name.

use super::*;

const CHANNEL: &str =
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\na=sctp-port:5000\r\n";

/// The fixture with one more section of mid 2 in its bundle, first or last.
fn extended(name: &str, section: &str, first: bool) -> String {
    let offer = with(fixture(name), "BUNDLE 0 1", if first { "BUNDLE 2 0 1" } else { "BUNDLE 0 1 2" });
    match offer.find("m=").filter(|_| first) {
        Some(at) => format!("{}{section}{}", &offer[..at], &offer[at..]),
        None => format!("{offer}{section}"),
    }
}

fn section_of(name: &str, kind: &str) -> String {
    let offer = fixture(name);
    let start = offer.find(&format!("m={kind}")).unwrap();
    let end = offer[start + 2..].find("\r\nm=").map_or(offer.len(), |at| start + 2 + at + 2);
    offer[start..end].to_owned()
}

/// Checks that the section of mid 2 alone is rejected.
fn check_rejected(name: &str, offer: &str, answer: &Answer) {
    check_frame(name, offer, answer);
    check_payload_types(name, offer, answer);
    for section in &answer.media {
        assert_eq!(is_rejected(section), section.contains(&"a=mid:2".to_owned()), "{name}: {section:?}");
    }
}

#[test]
fn data_channel_is_rejected_first_or_last() {
    for first in [false, true] {
        let offer = extended("obs-publish", CHANNEL, first);
        let (answer, tracks) = publish(&offer);
        check_rejected("publish", &offer, &answer);
        assert!(tracks.audio.is_some() && tracks.video.is_some());
        let rejected = "m=application 0 UDP/DTLS/SCTP webrtc-datachannel";
        assert!(answer.media.iter().any(|section| section[0] == rejected));
        let offer = extended("chrome-view", CHANNEL, first);
        let (answer, _) = view(&offer, &source(&[payload(96, Codec::Vp8, "")]));
        check_rejected("view", &offer, &answer);
    }
}

#[test]
fn data_channel_as_tagged_section_lends_its_transport() {
    let transport: String = section_of("chrome-publish", "audio")
        .split_inclusive("\r\n")
        .filter(|l| ["a=ice-", "a=setup", "a=fingerprint"].iter().any(|p| l.starts_with(p)))
        .collect();
    let channel = format!("{CHANNEL}{transport}");
    let offer = extended("chrome-publish", &channel, true);
    let at = offer.find("m=audio").unwrap();
    let media = ["a=ice-", "a=setup", "a=fingerprint"].iter().fold(offer[at..].to_owned(), |m, l| without(&m, l));
    let parsed = Offer::parse(&format!("{}{media}", &offer[..at])).unwrap();
    assert_eq!(parsed.ice.ufrag, "2Q6d");
}

#[test]
fn data_channel_alone_is_refused() {
    let offer = extended("obs-publish", CHANNEL, true);
    let alone = &offer[..offer.find("m=audio").unwrap()];
    assert_eq!(error(alone), SdpError::UnsupportedMedia { media: "application".into() });
    assert!(error(alone).is_unprocessable());
}

#[test]
fn second_section_of_a_kind_is_rejected() {
    for (kind, mid) in [("video", "a=mid:1"), ("audio", "a=mid:0")] {
        let second = with(&section_of("obs-publish", kind), mid, "a=mid:2");
        let offer = extended("obs-publish", &second, false);
        check_rejected(kind, &offer, &publish(&offer).0);
    }
}

#[test]
fn first_section_with_a_codec_of_ours_wins() {
    let video = section_of("obs-publish", "video");
    let foreign = with(&with(&with(&video, "a=mid:1", "a=mid:2"), "SAVPF 96", "SAVPF 97"), ":96 ", ":97 ");
    let foreign = with(&foreign, "H264/90000", "H265/90000");
    let offer = extended("obs-publish", &foreign, true);
    let (answer, tracks) = publish(&offer);
    check_rejected("H265 and H264", &offer, &answer);
    assert_eq!(tracks.video.unwrap().mid, "1");
}

#[test]
fn inactive_and_disabled_sections_are_rejected() {
    let audio = with(&section_of("obs-publish", "audio"), "a=mid:0", "a=mid:2");
    for (name, section) in [
        ("inactive", with(&audio, "a=sendonly", "a=inactive")),
        ("port 0", with(&audio, "m=audio 60502 ", "m=audio 0 ")),
    ] {
        let offer = extended("obs-publish", &section, true);
        let (answer, tracks) = publish(&offer);
        check_rejected(name, &offer, &answer);
        assert_eq!(tracks.audio.unwrap().mid, "0", "{name}");
    }
}

#[test]
fn disabled_section_alone_is_refused() {
    let offer = with(fixture("firefox-publish-max-bundle"), "a=bundle-only\r\n", "a=rtcp-mux\r\n");
    let (answer, tracks) = publish(&offer);
    assert!(is_rejected(answer.section("video")) && tracks.video.is_none() && tracks.audio.is_some());
    let video = &offer[offer.find("m=video").unwrap()..];
    let alone = format!("{}{video}", &offer[..offer.find("m=audio").unwrap()]);
    assert_eq!(error(&alone), SdpError::DisabledSection { section: "m=video".into() });
}

#[test]
fn talkback_is_rejected_for_both_roles() {
    let talkback = |name: &str, wrong: &str| {
        let audio = with(&section_of(name, "audio"), "a=mid:0", "a=mid:2");
        let line = audio.lines().find(|l| matches!(*l, "a=sendonly" | "a=recvonly")).unwrap().to_owned();
        extended(name, &with(&audio, &line, wrong), true)
    };
    let offer = talkback("obs-publish", "a=recvonly");
    let (answer, tracks) = publish(&offer);
    check_rejected("publisher", &offer, &answer);
    assert_eq!(tracks.audio.unwrap().mid, "0");
    let offer = talkback("chrome-view", "a=sendonly");
    let (answer, _) = view(&offer, &source(&[payload(96, Codec::Vp8, "")]));
    check_rejected("viewer", &offer, &answer);
}

#[test]
fn one_usable_section_needs_neither_bundle_nor_mid() {
    let video = without(&without(fixture("obs-publish"), "a=group:BUNDLE"), "a=mid:");
    let video = format!("{}{}", &video[..video.find("m=audio").unwrap()], &video[video.find("m=video").unwrap()..]);
    let channel = without(CHANNEL, "a=mid:");
    for (name, offer) in [
        ("alone", video.clone()),
        ("with a data channel", format!("{video}{channel}")),
        (
            "with inactive audio",
            format!(
                "{video}{}",
                with(&without(&section_of("obs-publish", "audio"), "a=mid:"), "a=sendonly", "a=inactive")
            ),
        ),
    ] {
        let (answer, tracks) = publish(&offer);
        check_frame(name, &offer, &answer);
        assert!(!answer.text.contains("a=mid:") && !answer.text.contains("a=group:"), "{name}");
        let track = tracks.video.unwrap();
        assert_eq!((track.mid.as_str(), track.extensions.mid), ("", None), "{name}");
    }
}

#[test]
fn lost_media_is_refused_unless_partial_answers_are_allowed() {
    for (kind, from, to, names) in [
        ("video", "H264/90000", "H265/90000", ["H265", "H264, VP8, VP9 or AV1"]),
        ("audio", "opus/48000/2", "G722/8000", ["G722", "opus, PCMA or PCMU"]),
    ] {
        let offer = with(fixture("obs-publish"), from, to);
        let refused = publish_error(&offer);
        let said = refused.to_string();
        assert!(refused.is_unprocessable() && names.iter().all(|name| said.contains(name)), "{said}");
        let options = AnswerOptions { partial_answers: true, ..AnswerOptions::default() };
        let (text, tracks) = Offer::parse(&offer).unwrap().answer_publisher(&local(), &options).unwrap();
        let answer = Answer::parse(text);
        check_frame(kind, &offer, &answer);
        assert!(is_rejected(answer.section(kind)));
        assert_eq!((tracks.audio.is_none(), tracks.video.is_none()), (kind == "audio", kind == "video"));
    }
}

#[test]
fn partial_answers_still_need_something_to_carry() {
    let offer = with(&with(fixture("obs-publish"), "H264/90000", "H265/90000"), "opus/48000/2", "G722/8000");
    let options = AnswerOptions { partial_answers: true, ..AnswerOptions::default() };
    let refused = Offer::parse(&offer).unwrap().answer_publisher(&local(), &options).unwrap_err();
    assert!(matches!(&refused, SdpError::NoCommonCodec { section, .. } if section == "m=audio"), "{refused}");
}

#[test]
fn plain_rtp_with_dtls_is_refused_by_name() {
    let video = section_of("obs-publish", "video");
    let offer = with(fixture("obs-publish"), &video, &with(&video, "UDP/TLS/RTP/SAVPF", "RTP/AVP"));
    assert!(matches!(publish_error(&offer), SdpError::UnsupportedProtocol { .. }));
    let options = AnswerOptions { partial_answers: true, ..AnswerOptions::default() };
    let (text, _) = Offer::parse(&offer).unwrap().answer_publisher(&local(), &options).unwrap();
    assert!(text.contains("m=video 0 RTP/AVP 96\r\n"));
}

#[test]
fn origin_ids_of_any_length_are_accepted() {
    let origin = format!("o={}", lines(fixture("obs-publish"), "o=")[0]);
    for id in ["18446744073709551615", "18446744073709551616", &"9".repeat(60)] {
        let offer = with(fixture("obs-publish"), &origin, &format!("o=- {id} {id} IN IP4 127.0.0.1"));
        assert_eq!(publish(&offer).0.text, publish(fixture("obs-publish")).0.text, "{id}");
    }
    let broken = with(fixture("obs-publish"), &origin, "o=- x 1 IN IP4 127.0.0.1");
    assert!(matches!(error(&broken), SdpError::Syntax { .. }));
}

#[test]
fn sections_beyond_the_limit_are_refused() {
    let offer = format!("{}{}", fixture("obs-publish"), without(CHANNEL, "a=mid:").repeat(31));
    assert_eq!(error(&offer), SdpError::TooManySections { count: 33, limit: 32 });
    let offer = format!("{}{}", fixture("obs-publish"), without(CHANNEL, "a=mid:").repeat(30));
    assert_eq!(publish(&offer).0.media.len(), 32);
}

#[test]
fn passive_setup_makes_us_the_dtls_client() {
    for (setup, role, line) in [
        ("actpass", DtlsRole::Server, "a=setup:passive"),
        ("active", DtlsRole::Server, "a=setup:passive"),
        ("passive", DtlsRole::Client, "a=setup:active"),
    ] {
        let offer = with(fixture("obs-publish"), "a=setup:actpass", &format!("a=setup:{setup}"));
        assert_eq!(Offer::parse(&offer).unwrap().dtls_role, role, "{setup}");
        let (answer, _) = publish(&offer);
        assert!(answer.has("video", line) && answer.has("audio", line), "{setup}");
    }
}
