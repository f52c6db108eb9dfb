//! Targets in `sfu`: every parser that reads what a peer sent, and a whole shard.

use hmac::{Hmac, Mac};
use sfu::feedback::{read, write};
use sfu::forward::slab::MAX_TRANSMIT;
use sfu::keyframe::inspect;
use sfu::packet::{self, Header, Kind};
use sfu::parameters::{
    Codec, DtlsRole, Fingerprint, IceCredentials, LocalDescription, PublisherTracks, RoomId, SessionId,
    TransportParameters,
};
use sfu::sdp::{AnswerOptions, IceFragment, Offer};
use sfu::transport::{Identity, StunRequest};
use sfu::{Command, Feed, Shard};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const CODECS: [Codec; 7] = [Codec::Opus, Codec::Pcmu, Codec::Pcma, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1];
const PUBLISH: &str = include_str!("../../sfu/tests/fixtures/chrome-publish.sdp");
const VIEW: &str = include_str!("../../sfu/tests/fixtures/chrome-view.sdp");
const OBS: &str = include_str!("../../sfu/tests/fixtures/obs-publish.sdp");
const FIREFOX: &str = include_str!("../../sfu/tests/fixtures/firefox-publish.sdp");
const FRAGMENT: &str = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
     a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\na=end-of-candidates\r\n";

/// Connectivity checks.
pub fn stun(data: &[u8]) {
    if let Some(request) = StunRequest::parse(data) {
        assert!(!request.local_ufrag().contains(':'));
    }
}

/// For [`stun`].
pub fn stun_seeds() -> Vec<Vec<u8>> {
    vec![check(0, &[]), check(1, &[0, 0x25, 0, 0, 0, 0x24, 0, 4, 1, 2, 3, 4])]
}

/// Offers, and the answers to those that are taken.
pub fn sdp_offer(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(offer) = Offer::parse(&text) else { return };
    let answers = [
        offer
            .answer_publisher(&local('A'), &AnswerOptions { max_bitrate: Some(2_500_000), ..AnswerOptions::default() })
            .map(|(answer, _)| answer),
        offer
            .answer_subscriber(&local('A'), tracks(), [1, 2, 3, 4], &AnswerOptions::default())
            .map(|(answer, _)| answer),
    ];
    for answer in answers.into_iter().flatten() {
        let sections = answer.lines().filter(|line| line.starts_with("m=")).count();
        assert_eq!(sections, offer.section_count(), "every section is answered");
        // Nothing of the offer gets in as a line of its own.
        assert!(answer.lines().all(|line| line.as_bytes().get(1) == Some(&b'=')), "{answer}");
    }
}

/// For [`sdp_offer`].
pub fn sdp_offer_seeds() -> Vec<Vec<u8>> {
    [PUBLISH, VIEW, OBS, FIREFOX].map(|text| text.as_bytes().to_vec()).to_vec()
}

/// Bodies of PATCH.
pub fn ice_fragment(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(fragment) = IceFragment::parse(&text) {
        fragment.answer(&local('A'));
    }
}

/// For [`ice_fragment`].
pub fn ice_fragment_seeds() -> Vec<Vec<u8>> {
    vec![FRAGMENT.as_bytes().to_vec()]
}

/// RTP headers, and the look for keyframes in their payload.
pub fn rtp(data: &[u8]) {
    let _ = (packet::classify(data), packet::ssrc(data));
    if let Some(header) = Header::parse(data) {
        let payload = &data[header.payload.clone()];
        for id in 0..=15 {
            header.extension(data, id);
        }
        for codec in CODECS {
            inspect(codec, payload);
        }
    }
    for codec in CODECS {
        inspect(codec, data);
    }
}

/// For [`rtp`].
pub fn rtp_seeds() -> Vec<Vec<u8>> {
    vec![
        vec![
            0xb0, 0xe0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 7, 0xbe, 0xde, 0, 1, 0x10, b'v', 0x31, 0x12, 0x7c, 0x85, 1, 2, 0, 2,
        ],
        vec![0x90, 0x60, 0, 5, 0, 0, 0, 9, 0, 0, 0, 7, 0x10, 0, 0, 1, 1, 2, 0, 0, 0x10, 0, 0x9d, 1, 0x2a],
        vec![0x80, 0x60, 0, 5, 0, 0, 0, 9, 0, 0, 0, 7, 0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 1, 0x65],
        vec![0x80, 0x60, 0, 5, 0, 0, 0, 9, 0, 0, 0, 7, 0x18, 0x0a, 0x0b, 0, 0, 0],
        vec![0x80, 0x60, 0, 5, 0, 0, 0, 9, 0, 0, 0, 7, 0x06, 5, 3, 1, 2, 3, 6, 2, 0x0c, 0xc0, 0x80],
        vec![0x80, 0x60, 0, 5, 0, 0, 0, 9, 0, 0, 0, 7, 0x20, 3, 0x08, 0, 0, 0x30, 0x10, 0],
    ]
}

/// Compound RTCP, as it is after SRTCP.
pub fn rtcp(data: &[u8]) {
    read::read(data);
}

/// For [`rtcp`].
pub fn rtcp_seeds() -> Vec<Vec<u8>> {
    let (mut reports, mut feedback) = (Vec::new(), Vec::new());
    write::sender_report(&mut reports, 1, 2, 3, 4, 5);
    write::nack(&mut feedback, 9, 1, &[5, 6, 30]);
    write::picture_loss(&mut feedback, 9, 1);
    write::maximum_bitrate(&mut feedback, 9, 1_000_000, &[1]);
    // An extended report (DLRR), feedback of an application, and a REMB behind them.
    let mut others = vec![0x80, 207, 0, 5, 0, 0, 0, 9, 5, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
    others.extend([0x8f, 206, 0, 3, 0, 0, 0, 9, 0, 0, 0, 1, b'L', b'N', b'T', b'F']);
    write::maximum_bitrate(&mut others, 9, 1_000_000, &[1]);
    vec![reports, feedback, others]
}

/// A shard with a camera and a viewer, and datagrams from four addresses. The input is a row of
/// `[what, length, bytes…]`: bits 0 and 1 of `what` choose the address, bit 2 makes the bytes the attributes of an
/// authentic check, bit 3 says whose, bit 4 lets 100 ms go by. Nothing is ever sent to an address without such a check.
pub fn shard(data: &[u8]) {
    let mut now = Instant::now();
    let mut shard = Shard::new(identity().clone(), [7; 32]);
    shard.handle_command(now, Command::OpenRoom { room: RoomId(1), tapped: true });
    let transport = |first| TransportParameters {
        local: local(first).ice,
        remote: IceCredentials { ufrag: "peer".to_owned(), pwd: "a-password-of-the-peer".to_owned() },
        fingerprint: Fingerprint::Sha256([0; 32]),
        dtls_role: DtlsRole::Server,
    };
    let (_, viewer) = view()
        .answer_subscriber(&local('B'), tracks(), [1, 2, 3, 4], &AnswerOptions::default())
        .expect("the fixture is answered");
    let [room, camera] = [(RoomId(1), SessionId(1)), (RoomId(1), SessionId(2))];
    shard.handle_command(
        now,
        Command::AddSource {
            room: room.0,
            session: room.1,
            feed: Feed::Peer(transport('A')),
            tracks: tracks().clone(),
            max_bitrate: Some(1_000_000),
        },
    );
    shard.handle_command(
        now,
        Command::Subscribe { room: camera.0, session: camera.1, transport: transport('B'), tracks: viewer },
    );
    let mut checked = HashSet::new();
    let mut slab = vec![0; MAX_TRANSMIT];
    let mut rest = data;
    while let [what, length, others @ ..] = rest {
        let (bytes, after) = others.split_at(usize::from(*length).min(others.len()));
        rest = after;
        let from = SocketAddr::from(([192, 0, 2, 1 + (what & 3)], 40_000));
        if what & 16 != 0 {
            now += Duration::from_millis(100);
        }
        if what & 4 != 0 {
            checked.insert(from);
            shard.handle_datagram(now, from, &check((what >> 3) & 1, bytes));
        } else {
            shard.handle_datagram(now, from, bytes);
        }
        shard.handle_timeout(now);
        while let Some(transmit) = shard.poll_transmit(now, &mut slab) {
            assert!(checked.contains(&transmit.destination), "sent to an address that nobody vouched for");
        }
        while shard.poll_event().is_some() {}
        while let Some(tap) = shard.poll_tap() {
            shard.recycle_tap(tap);
        }
        assert!(!shard.is_bound(from) || checked.contains(&from));
    }
}

/// For [`shard`].
pub fn shard_seeds() -> Vec<Vec<u8>> {
    let hello = [22, 254, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut checks = vec![0x04, 4, 0, 0x25, 0, 0, 0x0d, 0];
    checks.extend([0x00, hello.len() as u8]);
    checks.extend(hello);
    let media = rtp_seeds().remove(0);
    checks.extend([0x10, media.len() as u8]);
    checks.extend(media);
    let stranger = check(2, &[]);
    let mut strangers = vec![0x01, stranger.len() as u8];
    strangers.extend(stranger);
    strangers.extend([0x02, 4, 0x80, 0xc8, 0, 0]);
    vec![checks, strangers]
}

fn local(first: char) -> LocalDescription {
    LocalDescription {
        ice: IceCredentials { ufrag: format!("{first}local"), pwd: "a-password-of-the-server".to_owned() },
        fingerprint: Fingerprint::Sha256([3; 32]),
        candidates: vec![SocketAddr::from(([192, 0, 2, 9], 8189))],
        origin: 1,
    }
}

fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::generate().expect("a certificate can be made"))
}

fn tracks() -> &'static PublisherTracks {
    static TRACKS: OnceLock<PublisherTracks> = OnceLock::new();
    TRACKS.get_or_init(|| {
        let offer = Offer::parse(PUBLISH).expect("the fixture is an offer");
        offer.answer_publisher(&local('A'), &AnswerOptions::default()).expect("the fixture is answered").1
    })
}

fn view() -> &'static Offer {
    static OFFER: OnceLock<Offer> = OnceLock::new();
    OFFER.get_or_init(|| Offer::parse(VIEW).expect("the fixture is an offer"))
}

/// A check with these attributes between USERNAME and a right MESSAGE-INTEGRITY, for session `A`, `B` or nobody's `C`.
fn check(whose: u8, attributes: &[u8]) -> Vec<u8> {
    let local = local(char::from(b'A' + whose)).ice;
    let username = format!("{}:peer", local.ufrag);
    let mut bytes = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    bytes.extend([9; 12]);
    bytes.extend([0, 6, 0, username.len() as u8]);
    bytes.extend(username.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(attributes);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let length = bytes.len() + 24 - 20;
    bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    debug_assert_eq!(packet::classify(&bytes), Some(Kind::Stun));
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(local.pwd.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(&bytes);
    let mac = mac.finalize().into_bytes();
    bytes.extend([0, 8, 0, 20]);
    bytes.extend(mac);
    bytes
}
