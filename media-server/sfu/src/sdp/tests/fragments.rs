//! Fragments of trickle ICE and of restarts (RFC 8840).

use super::*;

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
