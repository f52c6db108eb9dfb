//! Bytes that no honest peer sends: nothing panics, nothing strange is answered, and who is connected stays connected.

use super::*;
use proptest::prelude::*;

/// Bytes that look different at each length.
fn garbage(first: u8, length: usize, salt: u64) -> Vec<u8> {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes: Vec<u8> = (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    if let Some(byte) = bytes.first_mut() {
        *byte = first;
    }
    bytes
}

/// A whole handshake's datagrams as the client sent them.
fn flights() -> Vec<Vec<u8>> {
    let mut world = World::new();
    assert!(world.check(HOME, true));
    let mut sent = Vec::new();
    while world.server.sealer().is_none() {
        for bytes in world.client.poll() {
            world.server.handle_dtls(world.now, address(HOME), &bytes);
            sent.push(bytes);
        }
        for (_, bytes) in world.outputs().into_iter().filter(|(_, bytes)| bytes[0] >= 20) {
            world.client.receive(world.now, &bytes);
        }
    }
    sent
}

#[test]
fn garbage_of_every_length_is_no_stun_request() {
    for length in 0..2048 {
        assert!(StunRequest::parse(&garbage(0, length, length as u64)).is_none());
        let mut bytes = garbage(0, length.max(20), length as u64);
        let declared = (bytes.len() - 20) as u16;
        bytes[..2].copy_from_slice(&[0, 1]);
        bytes[2..4].copy_from_slice(&declared.to_be_bytes());
        bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        assert!(StunRequest::parse(&bytes).is_none());
    }
}

#[test]
fn a_cut_or_lengthened_check_is_no_stun_request() {
    let bytes = check("Alocal:remote", &credentials("Alocal").pwd, &[]);
    for length in 0..bytes.len() {
        assert!(StunRequest::parse(&bytes[..length]).is_none());
    }
    for more in 1..64 {
        assert!(StunRequest::parse(&[&bytes[..], &vec![0; more]].concat()).is_none());
    }
}

#[test]
fn garbage_of_every_length_leaves_a_connection_alone() {
    let mut world = connected();
    let (mut seal, _) = world.client.srtp();
    for length in 0..2048 {
        for first in [20, 21, 22, 23, 24, 63] {
            world.server.handle_dtls(world.now, address(HOME), &garbage(first, length, length as u64));
        }
        for first in [0x80, 0x90, 0x9f, 0xbf] {
            let bytes = garbage(first, length, length as u64);
            assert!(world.server.open_rtp(world.now, &bytes).is_err());
            assert!(world.server.open_rtcp(world.now, &bytes).is_err());
        }
        assert!(world.outputs().is_empty());
    }
    assert!(world.closed().is_none());
    let sealed = seal.encrypt_rtp(&[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3]).unwrap();
    assert!(world.server.open_rtp(world.now, &sealed).is_ok());
}

#[test]
fn forged_plain_records_leave_a_connection_alone() {
    let mut world = connected();
    let mut sent = 0;
    for turn in 0..300_u16 {
        // Alerts, handshakes, application data of epoch 0: all forgeable, none means anything any more.
        for kind in [20, 21, 22, 23] {
            let mut record = vec![kind, 0xfe, 0xfd, 0, 0, 0, 0, 0, 9];
            record.extend_from_slice(&turn.to_be_bytes());
            record.extend_from_slice(&[0, 2, 2, 40]);
            world.server.handle_dtls(world.now, address(HOME), &record);
        }
        sent += world.outputs().len();
        world.server.handle_timeout(world.now);
    }
    assert_eq!(sent, 0);
    assert!(world.closed().is_none(), "{:?}", world.told);
    assert!(world.server.sealer().is_some());
}

#[test]
fn a_repeated_handshake_gives_no_second_keys() {
    let mut world = connected();
    let old = flights();
    for bytes in old.iter().chain(&old) {
        world.server.handle_dtls(world.now, address(HOME), bytes);
    }
    world.outputs();
    assert_eq!(world.told.iter().filter(|output| matches!(output, TransportOutput::Connected)).count(), 1);
    assert!(world.closed().is_none());
}

#[test]
fn garbage_beside_the_handshake_does_not_stop_it() {
    let mut world = World::new();
    assert!(world.check(HOME, true));
    for length in 0..1200 {
        for first in [20, 21, 22, 23, 63] {
            // Stays below what a handshake may take.
            if length % 40 == 0 {
                world.server.handle_dtls(world.now, address(HOME), &garbage(first, length / 4, length as u64));
            }
        }
    }
    world.handshake(Duration::from_secs(3), &mut |_| vec![Duration::from_millis(1)]);
    assert!(world.connected(), "{:?}", world.told);
}

#[test]
fn an_endless_handshake_is_closed() {
    let mut world = World::new();
    assert!(world.check(HOME, true));
    for turn in 0..100 {
        world.server.handle_dtls(world.now, address(HOME), &garbage(22, 1200, turn));
    }
    world.outputs();
    assert!(matches!(world.closed(), Some(TransportError::HandshakeTooLong)), "{:?}", world.told);
}

#[test]
fn a_certificate_of_many_datagrams_does_not_panic() {
    let now = Instant::now();
    let mut client = Client::new(now);
    client.certificate.certificate = vec![0x30; 9000];
    let config = Config::builder().mtu(1200).build().unwrap();
    client.dtls = Dtls::new_12(Arc::new(config), client.certificate.clone(), now);
    client.dtls.set_active(true);
    client.dtls.handle_timeout(now).unwrap();
    let fingerprint = client.fingerprint();
    let mut world = World::with(now, client, fingerprint);
    world.handshake(Duration::from_secs(3), &mut |_| vec![Duration::from_millis(1)]);
    assert!(matches!(world.closed(), Some(TransportError::UnsupportedCertificate(_))), "{:?}", world.told);
    assert!(!world.connected());
}

#[test]
fn a_certificate_without_its_key_does_not_connect() {
    let now = Instant::now();
    let mut client = Client::new(now);
    // The right certificate is public; the key is somebody else's.
    client.certificate.private_key = dimpl::certificate::generate_self_signed_certificate().unwrap().private_key;
    client.dtls = Dtls::new_12(Arc::new(Config::default()), client.certificate.clone(), now);
    client.dtls.set_active(true);
    client.dtls.handle_timeout(now).unwrap();
    let fingerprint = client.fingerprint();
    let mut world = World::with(now, client, fingerprint);
    world.handshake(Duration::from_secs(3), &mut |_| vec![Duration::from_millis(1)]);
    assert!(matches!(world.closed(), Some(TransportError::BadSignature)), "{:?}", world.told);
    assert!(!world.connected() && world.server.sealer().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_parsed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut framed = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        framed.extend_from_slice(&bytes);
        let length = (bytes.len() as u16).to_be_bytes();
        framed[2..4].copy_from_slice(&length);
        for bytes in [bytes, framed] {
            if let Some(request) = StunRequest::parse(&bytes) {
                prop_assert!(request.username().starts_with(request.local_ufrag()));
                prop_assert!(!request.authentic("password"));
            }
        }
    }

    #[test]
    fn a_damaged_handshake_never_panics_nor_connects_by_itself(
        damage in proptest::collection::vec((0_usize..16, any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..20)
    ) {
        thread_local!(static FLIGHTS: Vec<Vec<u8>> = flights());
        let mut world = World::new();
        prop_assert!(world.check(HOME, true));
        world.outputs();
        FLIGHTS.with(|flights| {
            let mut flights = flights.clone();
            for (which, at, value, how) in damage {
                let which = which % flights.len();
                let at = at.index(flights[which].len().max(1));
                match how {
                    0 | 1 => if let Some(byte) = flights[which].get_mut(at) { *byte = value },
                    2 => flights[which].truncate(at.max(1)),
                    _ => { let copy = flights[which].clone(); flights.insert(which, copy) }
                }
            }
            for (turn, bytes) in flights.iter().enumerate() {
                world.now += Duration::from_millis(turn as u64 * 90);
                world.server.handle_timeout(world.now);
                world.server.handle_dtls(world.now, address(HOME), bytes);
                world.outputs();
            }
        });
        // It is another transport's handshake: its key share is not this one's.
        prop_assert!(world.server.sealer().is_none());
    }
}
