//! The offers of real clients answered, each rule broken once, and anything at all fed in.
//!
//! Here: the offers, and what parses, answers and alters them. `tests/fixtures` says how each offer came to be.

mod anything;
mod checks;
mod clients;
mod fragments;
mod newer_clients;
mod publishers;
mod refusals;
mod sections;
mod simulcast;
mod subscribers;

use super::*;
use crate::parameters::*;
use checks::{Answer, check_frame, check_payload_types, is_rejected, lines};

macro_rules! fixtures {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../tests/fixtures/", $name, ".sdp")))),*]
    };
}

const PUBLISH: [(&str, &str); 10] = fixtures![
    "chrome-publish",
    "chrome-publish-simulcast",
    "firefox-publish",
    "firefox-publish-max-bundle",
    "firefox-publish-simulcast",
    "safari-publish",
    "obs-publish",
    "gstreamer-publish",
    "pion-publish",
    "aiortc-publish",
];
const VIEW: [(&str, &str); 6] =
    fixtures!["chrome-view", "firefox-view", "safari-view", "gstreamer-view", "pion-view", "aiortc-view"];

const SSRCS: [u32; 4] = [1001, 1002, 1003, 1004];

fn fixture(name: &str) -> &'static str {
    PUBLISH.iter().chain(&VIEW).find(|(n, _)| *n == name).expect("a fixture").1
}

fn local() -> LocalDescription {
    LocalDescription {
        ice: IceCredentials { ufrag: "Aabcdefg".into(), pwd: "0123456789abcdefghijklmn".into() },
        fingerprint: Fingerprint::Sha256([0xAB; 32]),
        candidates: vec!["192.0.2.7:8189".parse().unwrap(), "[2001:db8::7]:8189".parse().unwrap()],
        origin: 42,
    }
}

fn publish(offer: &str) -> (Answer, PublisherTracks) {
    let (text, tracks) = Offer::parse(offer).unwrap().answer_publisher(&local(), &AnswerOptions::default()).unwrap();
    (Answer::parse(text), tracks)
}

fn view(offer: &str, source: &PublisherTracks) -> (Answer, SubscriberTracks) {
    let (text, tracks) =
        Offer::parse(offer).unwrap().answer_subscriber(&local(), source, SSRCS, &AnswerOptions::default()).unwrap();
    (Answer::parse(text), tracks)
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
    Offer::parse(offer).unwrap().answer_publisher(&local(), &AnswerOptions::default()).unwrap_err()
}

fn view_error(offer: &str, source: &PublisherTracks) -> SdpError {
    Offer::parse(offer).unwrap().answer_subscriber(&local(), source, SSRCS, &AnswerOptions::default()).unwrap_err()
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
        rid: None,
    };
    PublisherTracks {
        audio: Some(track("0", MediaKind::Audio, vec![payload(111, Codec::Opus, "")])),
        video: Some(track("1", MediaKind::Video, video.to_vec())),
    }
}

fn h264(id: &str, mode: u8) -> String {
    format!("level-asymmetry-allowed=1;packetization-mode={mode};profile-level-id={id}")
}
