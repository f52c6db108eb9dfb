//! The handshake over networks that lose, double and reorder, and how it ends otherwise.

use super::*;

const HOP: Duration = Duration::from_millis(5);

/// A small generator, so that each seed gives the same network (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn handshake_before_nomination_connects_in_two_round_trips() {
    let mut world = World::new();
    let took = world.handshake(Duration::from_secs(5), &mut |_| vec![HOP]);
    assert!(world.connected(), "{:?}", world.told);
    assert!(took <= 4 * HOP, "took {took:?}");
    assert_eq!(world.server.peer(), Some(address(HOME)));
    assert!(!world.told.iter().any(|output| matches!(output, TransportOutput::Nominated(_))));
}

/// We as DTLS server, and as DTLS client.
const ROLES: [fn() -> World; 2] = [World::new, World::passive];

#[test]
fn handshake_survives_the_loss_of_any_one_datagram() {
    for (role, make) in ROLES.into_iter().enumerate() {
        for (to_server, lost) in [true, false].into_iter().flat_map(|to| (0..6).map(move |lost| (to, lost))) {
            let mut world = make();
            let took = world.handshake(Duration::from_secs(5), &mut |sent| {
                if sent.to_server == to_server && sent.datagram == lost { vec![] } else { vec![HOP] }
            });
            assert!(world.connected(), "role {role} lost {lost} to_server {to_server}: {:?}", world.told);
            assert!(took < Duration::from_millis(1500), "role {role} lost {lost} to_server {to_server}: took {took:?}");
        }
    }
}

#[test]
fn handshake_survives_the_loss_of_each_flight() {
    for (role, make) in ROLES.into_iter().enumerate() {
        for (to_server, lost) in [true, false].into_iter().flat_map(|to| (0..3).map(move |lost| (to, lost))) {
            let mut world = make();
            let took = world.handshake(Duration::from_secs(5), &mut |sent| {
                if sent.to_server == to_server && sent.burst == lost { vec![] } else { vec![HOP] }
            });
            assert!(world.connected(), "role {role} lost {lost} to_server {to_server}: {:?}", world.told);
            assert!(took < Duration::from_millis(1500), "role {role} lost {lost} to_server {to_server}: took {took:?}");
        }
    }
}

#[test]
fn handshake_survives_the_loss_of_every_flight_once() {
    for make in ROLES {
        let mut lost = std::collections::HashSet::new();
        let mut world = make();
        let took = world.handshake(Duration::from_secs(10), &mut |sent| {
            // The first two bursts of each side are its flights; the rest repeats them.
            if sent.burst < 2 && lost.insert((sent.to_server, sent.burst, sent.datagram)) { vec![] } else { vec![HOP] }
        });
        assert!(world.connected(), "{:?}", world.told);
        assert!(took < Duration::from_secs(4), "took {took:?}");
    }
}

#[test]
fn client_sends_nothing_before_a_check_and_only_to_its_address() {
    let mut world = World::passive();
    world.now += Duration::from_secs(5);
    world.server.handle_timeout(world.now);
    world.server.handle_dtls(world.now, address(HOME), &[22; 40]);
    assert!(world.outputs().is_empty());
    let forged = check("Alocal:remote", "wrong-password", &[]);
    assert!(!world.server.handle_stun(world.now, address(ELSEWHERE), &StunRequest::parse(&forged).unwrap()));
    assert!(world.outputs().is_empty());
    assert!(world.check(HOME, false));
    let sent = world.outputs();
    assert_eq!(sent.iter().filter(|(_, bytes)| bytes[0] == 22).count(), 1);
    // A second check opens no second handshake.
    assert!(world.check(HOME, true));
    let sent = [sent, world.outputs()].concat();
    assert_eq!(sent.iter().filter(|(_, bytes)| bytes[0] == 22).count(), 1);
    assert!(sent.iter().all(|(to, _)| *to == address(HOME)));
}

#[test]
fn client_repeats_its_hello_until_the_deadline() {
    let mut world = World::passive();
    assert!(world.check(HOME, false));
    let (start, mut hellos) = (world.now, Vec::new());
    while let Some(next) = world.server.poll_timeout() {
        hellos.extend(world.outputs().into_iter().filter(|(_, bytes)| bytes[0] == 22).map(|_| world.now - start));
        world.now = next;
        world.server.handle_timeout(next);
    }
    world.outputs();
    assert!(hellos.len() >= 5 && hellos[1] <= Duration::from_millis(300), "{hellos:?}");
    assert!(matches!(world.closed(), Some(TransportError::HandshakeTimeout)), "{:?}", world.told);
    assert_eq!(world.now - start, Duration::from_secs(20));
}

#[test]
fn client_role_takes_its_own_keys_and_closes() {
    let mut world = World::passive();
    let took = world.handshake(Duration::from_secs(5), &mut |_| vec![HOP]);
    // One round trip more than as server: this peer requires a cookie.
    assert!(world.connected() && took <= 6 * HOP, "took {took:?}: {:?}", world.told);
    assert_eq!(world.server.sealer().unwrap().profile(), SrtpProfile::Aes256Gcm);
    // The contexts of a DTLS client are the first ones; this peer is the server.
    let (open, seal) = world.client.srtp();
    srtp::assert_media_flows(&mut world, seal, open);
    world.server.close(world.now);
    for (_, bytes) in world.outputs() {
        world.client.receive(world.now, &bytes);
    }
    world.client.poll();
    assert!(world.client.closed);
}

#[test]
fn longer_fingerprints_are_compared() {
    use ring::digest::{SHA384, SHA512, digest};
    for flip in [0, 1] {
        for long in [false, true] {
            let now = Instant::now();
            let client = Client::new(now);
            let value = digest(if long { &SHA512 } else { &SHA384 }, &client.certificate.certificate);
            let mut value = value.as_ref().to_vec();
            *value.last_mut().unwrap() ^= flip;
            let fingerprint = match long {
                true => Fingerprint::Sha512(value.try_into().unwrap()),
                false => Fingerprint::Sha384(value.try_into().unwrap()),
            };
            let mut world = World::with(now, client, fingerprint);
            world.handshake(Duration::from_secs(5), &mut |_| vec![HOP]);
            assert_eq!(world.connected(), flip == 0);
            let mismatch = matches!(world.closed(), Some(TransportError::FingerprintMismatch));
            assert_eq!(mismatch, flip == 1, "{:?}", world.told);
        }
    }
}

#[test]
fn handshake_survives_duplicates_and_reordering() {
    for seed in 1..=60 {
        let mut dice = Dice(seed * 0x9e37_79b9);
        let mut world = ROLES[seed as usize % 2]();
        world.handshake(Duration::from_secs(10), &mut |_| {
            (0..1 + dice.below(3)).map(|_| Duration::from_millis(1 + dice.below(60))).collect()
        });
        assert!(world.connected(), "seed {seed}: {:?}", world.told);
    }
}

#[test]
fn handshake_survives_random_loss() {
    for seed in 1..=60 {
        let mut dice = Dice(seed * 0x51_7cc1b7);
        let mut world = ROLES[seed as usize % 2]();
        let took = world.handshake(Duration::from_secs(10), &mut |_| match dice.below(5) {
            0 => vec![],
            1 => vec![HOP, Duration::from_millis(dice.below(80))],
            _ => vec![Duration::from_millis(dice.below(30))],
        });
        assert!(world.connected(), "seed {seed} after {took:?}: {:?}", world.told);
    }
}

#[test]
fn wrong_fingerprint_closes_without_keys() {
    let now = Instant::now();
    let client = Client::new(now);
    let mut digest: [u8; 32] = client.fingerprint().bytes().try_into().unwrap();
    digest[31] ^= 1;
    let fingerprint = Fingerprint::Sha256(digest);
    let mut world = World::with(now, client, fingerprint);
    world.handshake(Duration::from_secs(5), &mut |_| vec![HOP]);
    assert!(matches!(world.closed(), Some(TransportError::FingerprintMismatch)), "{:?}", world.told);
    assert!(!world.connected());
    assert!(world.server.sealer().is_none());
    assert!(world.server.open_rtp(world.now, &[0x80; 64]).is_err());
}

#[test]
fn dtls_from_an_address_that_never_passed_is_ignored() {
    let mut world = World::new();
    let hello = world.client.poll();
    for from in [HOME, ELSEWHERE] {
        world.server.handle_dtls(world.now, address(from), &hello[0]);
    }
    assert!(world.outputs().is_empty());
    assert!(world.check(HOME, true));
    world.outputs();
    world.server.handle_dtls(world.now, address(ELSEWHERE), &hello[0]);
    assert!(world.outputs().is_empty());
    assert!(world.told.iter().all(|output| matches!(output, TransportOutput::Nominated(_))));
}

#[test]
fn close_notify_from_the_peer_ends_the_transport() {
    let mut world = connected();
    world.client.dtls.close().unwrap();
    for bytes in world.client.poll() {
        world.server.handle_dtls(world.now, address(HOME), &bytes);
    }
    world.outputs();
    assert!(matches!(world.closed(), Some(TransportError::PeerClosed)), "{:?}", world.told);
    assert_eq!(world.server.poll_timeout(), None);
}

#[test]
fn closing_tells_the_peer() {
    let mut world = connected();
    world.server.close(world.now);
    for (_, bytes) in world.outputs() {
        world.client.receive(world.now, &bytes);
    }
    world.client.poll();
    assert!(world.client.closed);
    assert!(world.closed().is_none());
    assert!(world.server.sealer().is_none());
}

#[test]
fn closing_before_the_handshake_sends_nothing() {
    let mut world = World::new();
    assert!(world.check(HOME, true));
    world.outputs();
    world.server.close(world.now);
    assert!(world.outputs().is_empty());
    assert_eq!(world.server.poll_timeout(), None);
}

#[test]
fn transports_may_move_between_threads() {
    fn send<T: Send>() {}
    send::<Transport>();
    send::<StunRequest>();
}
