//! Checks, nominations, restarts and deadlines.

use super::*;
use crate::transport::ice::MAX_ADDRESSES;
use rtc_stun::attributes::{ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING};
use rtc_stun::error_code::ErrorCodeAttribute;
use rtc_stun::message::{BINDING_ERROR, BINDING_SUCCESS, Getter};
use rtc_stun::uattrs::UnknownAttributes;
use rtc_stun::xoraddr::XorMappedAddress;

const SECOND: Duration = Duration::from_secs(1);

/// What a browser makes of an answer: parsed, with integrity and fingerprint checked.
fn read(answer: &[u8], password: &str) -> Message {
    let crypto = rtc_srtp::crypto::default_provider().unwrap();
    let mut message = Message::new();
    message.unmarshal_binary(answer).unwrap();
    MessageIntegrity::check(&mut message, password.as_bytes(), crypto.crypto()).unwrap();
    FINGERPRINT.check(&message).unwrap();
    message
}

fn ask(world: &mut World, bytes: &[u8]) -> (bool, Vec<(SocketAddr, Vec<u8>)>) {
    let Some(request) = StunRequest::parse(bytes) else { return (false, Vec::new()) };
    let passed = world.server.handle_stun(world.now, address(HOME), &request);
    (passed, world.outputs())
}

#[test]
fn a_good_check_is_answered_with_the_address_it_came_from() {
    let password = credentials("Alocal").pwd;
    for from in [HOME, ELSEWHERE] {
        let mut world = World::new();
        let bytes = check("Alocal:remote", &password, &[(ATTR_ICE_CONTROLLING, &[0; 8])]);
        let request = StunRequest::parse(&bytes).unwrap();
        assert_eq!(request.local_ufrag(), "Alocal");
        assert!(world.server.handle_stun(world.now, address(from), &request));
        let [(to, answer)] = &world.outputs()[..] else { panic!("one answer") };
        assert_eq!(*to, address(from));
        let answer = read(answer, &password);
        assert_eq!(answer.typ, BINDING_SUCCESS);
        assert_eq!(answer.transaction_id.0, bytes[8..20]);
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&answer).unwrap();
        assert_eq!(SocketAddr::new(mapped.ip, mapped.port), address(from));
    }
}

#[test]
fn what_is_not_authentic_is_not_answered() {
    let (good, user) = (credentials("Alocal").pwd, "Alocal:remote");
    let mut world = World::new();
    for bytes in [
        check(user, "wrong-password", &[]),
        check(user, &credentials("remote").pwd, &[]),
        check("Alocal:other", &good, &[]),
        check("Alocal:remot", &good, &[]),
        check("Alocal:remote:", &good, &[]),
        check("Alocal", &good, &[]),
        check("alocal:remote", &good, &[]),
        check("remote:Alocal", &good, &[]),
        check(":", &good, &[]),
        check(user, "wrong-password", &[(ATTR_ICE_CONTROLLED, &[0; 8])]),
        check(user, "wrong-password", &[(AttrType(0x0077), &[1])]),
    ] {
        assert_eq!(ask(&mut world, &bytes), (false, vec![]));
    }
    assert_eq!(world.server.peer(), None);
}

#[test]
fn every_flipped_bit_of_a_check_is_noticed() {
    let bytes = check("Alocal:remote", &credentials("Alocal").pwd, &[(ATTR_USE_CANDIDATE, &[])]);
    let mut world = World::new();
    // The header of FINGERPRINT is not protected: without it the check is one without FINGERPRINT.
    let fingerprint = bytes.len() - 8;
    for bit in (0..fingerprint * 8).chain((fingerprint + 4) * 8..bytes.len() * 8) {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(ask(&mut world, &bytes), (false, vec![]), "bit {bit}");
    }
    assert!(ask(&mut world, &bytes).0);
}

#[test]
fn use_candidate_behind_the_integrity_does_not_nominate() {
    let mut bytes = check("Alocal:remote", &credentials("Alocal").pwd, &[]);
    bytes.truncate(bytes.len() - 8);
    bytes.extend_from_slice(&[0x00, 0x25, 0, 0]);
    let length = (bytes.len() - 20) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    let mut world = World::new();
    assert!(ask(&mut world, &bytes).0);
    assert!(world.told.is_empty(), "{:?}", world.told);
}

#[test]
fn a_check_without_fingerprint_passes() {
    let mut bytes = check("Alocal:remote", &credentials("Alocal").pwd, &[]);
    bytes.truncate(bytes.len() - 8);
    let length = (bytes.len() - 20) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    assert!(ask(&mut World::new(), &bytes).0);
}

#[test]
fn a_peer_that_claims_to_be_controlled_gets_487_and_does_not_pass() {
    let password = credentials("Alocal").pwd;
    let attributes: &[(AttrType, &[u8])] = &[(ATTR_ICE_CONTROLLED, &[0; 8]), (ATTR_USE_CANDIDATE, &[])];
    let mut world = World::new();
    let (passed, answers) = ask(&mut world, &check("Alocal:remote", &password, attributes));
    assert!(!passed && world.told.is_empty());
    let answer = read(&answers[0].1, &password);
    let mut error = ErrorCodeAttribute::default();
    error.get_from(&answer).unwrap();
    assert_eq!((answer.typ, error.code.0), (BINDING_ERROR, 487));
    assert_eq!(world.server.peer(), None);
}

#[test]
fn an_unknown_attribute_gets_420_only_when_it_must_be_understood() {
    let password = credentials("Alocal").pwd;
    let mut world = World::new();
    let (passed, answers) = ask(&mut world, &check("Alocal:remote", &password, &[(AttrType(0x7777), &[1, 2, 3])]));
    assert!(!passed);
    let answer = read(&answers[0].1, &password);
    let (mut error, mut unknown) = (ErrorCodeAttribute::default(), UnknownAttributes(Vec::new()));
    error.get_from(&answer).unwrap();
    unknown.get_from(&answer).unwrap();
    assert_eq!((error.code.0, unknown.0), (420, vec![AttrType(0x7777)]));
    // Chromium's network cost and goog-ping.
    let optional: &[(AttrType, &[u8])] = &[(AttrType(0xc057), &[0; 4]), (AttrType(0xc059), &[0; 6])];
    assert!(ask(&mut world, &check("Alocal:remote", &password, optional)).0);
}

#[test]
fn the_newest_nomination_wins_at_once() {
    let mut world = World::new();
    assert!(world.check(HOME, false));
    assert_eq!(world.server.peer(), Some(address(HOME)));
    assert!(world.check(ELSEWHERE, true));
    assert_eq!(world.server.peer(), Some(address(ELSEWHERE)));
    assert!(world.check(HOME, false));
    assert_eq!(world.server.peer(), Some(address(ELSEWHERE)));
    assert!(world.check(ELSEWHERE, true));
    assert!(world.check(HOME, true));
    assert_eq!(world.server.peer(), Some(address(HOME)));
    world.outputs();
    let nominated: Vec<_> = world
        .told
        .iter()
        .filter_map(|output| match output {
            TransportOutput::Nominated(address) => Some(*address),
            _ => None,
        })
        .collect();
    assert_eq!(nominated, [address(ELSEWHERE), address(HOME)]);
}

#[test]
fn a_peer_has_at_most_eight_addresses_and_the_nominated_stays() {
    let mut world = World::new();
    assert!(world.check(HOME, true));
    for port in 0..100 {
        assert!(world.check(&format!("192.0.2.7:{}", 1000 + port), false));
    }
    world.outputs();
    let forgotten: Vec<_> = world
        .told
        .iter()
        .filter_map(|output| match output {
            TransportOutput::Forgotten(address) => Some(*address),
            _ => None,
        })
        .collect();
    assert_eq!(forgotten.len(), 101 - MAX_ADDRESSES);
    assert!(!forgotten.contains(&address(HOME)));
    assert_eq!(forgotten[0], address("192.0.2.7:1000"));
    // DTLS of a forgotten address is ignored, of the others not.
    let hello = world.client.poll();
    world.server.handle_dtls(world.now, forgotten[0], &hello[0]);
    assert!(world.outputs().is_empty());
    world.server.handle_dtls(world.now, address(HOME), &hello[0]);
    assert!(!world.outputs().is_empty());
}

#[test]
fn a_restart_takes_over_when_it_is_first_used() {
    let mut world = World::new();
    let old = check("Alocal:remote", &credentials("Alocal").pwd, &[]);
    let new = check("Anew:peer", &credentials("Anew").pwd, &[]);
    assert!(ask(&mut world, &old).0);
    assert!(!ask(&mut world, &new).0);
    world.server.restart_ice(credentials("Anew"), credentials("peer"));
    assert!(ask(&mut world, &old).0);
    // Old and new do not mix.
    assert!(!ask(&mut world, &check("Anew:remote", &credentials("Anew").pwd, &[])).0);
    assert!(!ask(&mut world, &check("Anew:peer", &credentials("Alocal").pwd, &[])).0);
    let (passed, answers) = ask(&mut world, &new);
    assert!(passed);
    read(&answers[0].1, &credentials("Anew").pwd);
    assert!(!ask(&mut world, &old).0);
    assert!(ask(&mut world, &new).0);
}

/// Goes through the transport's own deadlines, up to a time; gives when it closed.
fn sleep(world: &mut World, until: Instant) -> Option<Instant> {
    while let Some(next) = world.server.poll_timeout().filter(|next| *next <= until) {
        world.server.handle_timeout(next);
        world.outputs();
        if world.closed().is_some() {
            return Some(next);
        }
    }
    world.now = until;
    None
}

#[test]
fn no_check_within_ten_seconds_closes() {
    let mut world = World::new();
    let start = world.now;
    assert_eq!(sleep(&mut world, start + 60 * SECOND), Some(start + 10 * SECOND));
    assert!(matches!(world.closed(), Some(TransportError::Timeout)));
    assert!(!world.check(HOME, true));
    assert!(world.outputs().is_empty());
}

#[test]
fn checks_without_a_handshake_close_after_twenty_seconds() {
    let mut world = World::new();
    let start = world.now;
    for second in 0.. {
        assert!(world.check(HOME, true));
        world.outputs();
        if let Some(closed) = sleep(&mut world, start + second * SECOND) {
            assert_eq!(closed, start + 20 * SECOND);
            break;
        }
        assert!(second < 30);
    }
    assert!(matches!(world.closed(), Some(TransportError::HandshakeTimeout)));
}

#[test]
fn silence_for_thirty_seconds_closes() {
    let mut world = connected();
    let heard = world.now + 7 * SECOND;
    assert_eq!(sleep(&mut world, heard), None);
    assert!(world.check(HOME, false));
    let closed = sleep(&mut world, heard + 60 * SECOND).unwrap();
    assert_eq!(closed, heard + 30 * SECOND);
    assert!(matches!(world.closed(), Some(TransportError::ConsentExpired)));
    assert!(world.server.sealer().is_none());
}

#[test]
fn authentic_packets_are_consent_and_forged_ones_are_not() {
    let mut world = connected();
    let (mut sealer, _) = world.client.srtp();
    let start = world.now;
    let mut last = start;
    for second in 1..=50 {
        assert_eq!(sleep(&mut world, start + second * SECOND), None);
        let mut plain = vec![0x80, 96, 0, second as u8, 0, 0, 0, 0, 0, 0, 0, 9];
        plain.extend_from_slice(&[7; 100]);
        let mut sealed = sealer.encrypt_rtp(&plain).unwrap().to_vec();
        if second > 30 {
            sealed[50] ^= 1;
            assert!(world.server.open_rtp(world.now, &sealed).is_err());
        } else {
            assert_eq!(world.server.open_rtp(world.now, &sealed).unwrap()[..], plain);
            last = world.now;
        }
    }
    assert_eq!(sleep(&mut world, start + 99 * SECOND), Some(last + 30 * SECOND));
}

#[test]
fn peer_back_after_29_seconds_has_its_session() {
    // From its old address, from a new one, and from a new one after a restart.
    for (from, restart) in [(HOME, false), (ELSEWHERE, false), (ELSEWHERE, true)] {
        let mut world = connected();
        assert!(world.check(HOME, true));
        world.outputs();
        let (mut sealer, _) = world.client.srtp();
        let silent = world.now;
        assert_eq!(sleep(&mut world, silent + 29 * SECOND), None);
        let username = if restart {
            world.server.restart_ice(credentials("Afresh"), credentials("other"));
            ("Afresh:other", credentials("Afresh").pwd)
        } else {
            ("Alocal:remote", credentials("Alocal").pwd)
        };
        let bytes = check(username.0, &username.1, &[(ATTR_USE_CANDIDATE, &[])]);
        assert!(world.server.handle_stun(world.now, address(from), &StunRequest::parse(&bytes).unwrap()));
        world.outputs();
        assert_eq!(world.server.peer(), Some(address(from)));
        let mut plain = vec![0x80, 96, 0, 9, 0, 0, 0, 0, 0, 0, 0, 9];
        plain.extend_from_slice(&[7; 100]);
        let sealed = sealer.encrypt_rtp(&plain).unwrap();
        assert_eq!(world.server.open_rtp(world.now, &sealed).unwrap()[..], plain);
        let back = world.now;
        assert_eq!(sleep(&mut world, back + 99 * SECOND), Some(back + 30 * SECOND));
    }
}
