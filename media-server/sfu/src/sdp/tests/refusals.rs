//! Rules of every offer, each broken once: syntax, sections, transport, payload types.

use super::*;
use crate::sdp::codecs::parameter;

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
fn a_syntax_error_says_what_is_wrong_and_never_nothing() {
    let ends = error("v=0");
    assert!(ends.to_string().starts_with("line 1 (v=0) is not valid SDP: it ends too early"), "{ends}");
    for text in ["", "hello", "v=0\r\no=x", "v=0\r\nm=x\r\n"] {
        let SdpError::Syntax { reason, .. } = error(text) else { panic!("{text:?}: {}", error(text)) };
        assert!(!reason.is_empty() && !reason.contains("Sdp"), "{text:?}: {reason}");
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
fn all_sections_must_be_bundled() {
    let video = SdpError::NotBundled { section: "m=video".into() };
    assert_eq!(publish_error(&with(fixture("obs-publish"), "BUNDLE 0 1", "BUNDLE 0")), video);
    let audio = SdpError::NotBundled { section: "m=audio".into() };
    assert_eq!(publish_error(&without(fixture("obs-publish"), "a=group:BUNDLE")), audio);
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
    assert!(matches!(publish_error(&without(offer, "a=mid:1")), SdpError::MissingAttribute { attribute: "a=mid", .. }));
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
fn fingerprint_of_several_hashes_takes_the_strongest() {
    let offer = fixture("obs-publish");
    let both = with(offer, "a=fingerprint:sha-256", "a=fingerprint:sha-1 00:11\r\na=fingerprint:SHA-256");
    assert_eq!(Offer::parse(&both).unwrap().fingerprint.bytes()[..2], [0x1C, 0x43]);
    let lines = |hashes: &[(&str, &str, usize)]| {
        let lines =
            hashes.iter().map(|(hash, byte, len)| format!("a=fingerprint:{hash} {}", vec![*byte; *len].join(":")));
        lines.collect::<Vec<_>>().join("\r\n")
    };
    let taken = |hashes: &[(&str, &str, usize)]| {
        let line = format!("a=fingerprint:{}", crate::sdp::tests::lines(offer, "a=fingerprint:")[0]);
        Offer::parse(&with(offer, &line, &lines(hashes))).unwrap().fingerprint
    };
    let (weak, strong, strongest) = (("sha-256", "0a", 32), ("sha-384", "0b", 48), ("sha-512", "0c", 64));
    assert_eq!(taken(&[strong]), Fingerprint::Sha384([0x0B; 48]));
    assert_eq!(taken(&[strongest]), Fingerprint::Sha512([0x0C; 64]));
    assert_eq!(taken(&[weak, strongest, strong]), Fingerprint::Sha512([0x0C; 64]));
    assert_eq!(taken(&[strong, weak, ("md5", "00", 16)]), Fingerprint::Sha384([0x0B; 48]));
}

#[test]
fn fingerprint_of_sha_1_alone_is_refused_by_name() {
    let offer = fixture("obs-publish");
    let weak = error(&with(offer, "fingerprint:sha-256", "fingerprint:sha-1"));
    assert_eq!(weak.to_string(), "a=fingerprint is offered as sha-1; offer one with sha-256, sha-384 or sha-512");
    assert!(weak.is_unprocessable());
}

#[test]
fn fingerprint_of_another_length_is_malformed() {
    let offer = fixture("obs-publish");
    let digest = lines(offer, "a=fingerprint:sha-256 ")[0];
    for bad in ["", "1C:43", "+C:43", &["AB"; 33].join(":"), &["A"; 32].join(":"), &["ABC"; 32].join(":")] {
        let error = error(&with(offer, digest, bad));
        assert!(matches!(error, SdpError::InvalidAttribute { attribute: "a=fingerprint", .. }), "{bad}: {error}");
    }
    for longer in ["sha-384", "sha-512"] {
        let error = error(&with(offer, "fingerprint:sha-256", &format!("fingerprint:{longer}")));
        assert!(matches!(error, SdpError::InvalidAttribute { attribute: "a=fingerprint", .. }), "{longer}: {error}");
    }
    let none = error(&without(offer, "a=fingerprint"));
    assert!(matches!(none, SdpError::MissingAttribute { attribute: "a=fingerprint", .. }));
}

#[test]
fn setup_without_a_role_is_refused() {
    let offer = fixture("obs-publish");
    for setup in ["holdconn", "x"] {
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
    assert_eq!(publish_error(&format!("{head}{video}")), SdpError::PayloadTypeClash { number: 111 });
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
