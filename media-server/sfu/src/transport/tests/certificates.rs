//! Clients with every kind of certificate, and how a handshake is named that cannot succeed.

use super::foreign::{Foreign, Key, weak_certificates};
use super::*;
use aws_lc_rs::rsa::KeySize;

/// The outcome of a handshake without loss.
struct Outcome {
    client: Foreign,
    server: Transport,
    now: Instant,
    error: Option<TransportError>,
}

/// Shakes hands at one instant: nothing here waits for a timer.
fn shake(mut client: Foreign) -> Outcome {
    let now = Instant::now();
    let parameters = TransportParameters {
        local: credentials("Alocal"),
        remote: credentials("remote"),
        fingerprint: crate::transport::dtls::fingerprint(&client.certificate),
        dtls_role: DtlsRole::Server,
    };
    let mut server = Transport::new(now, &identity(), parameters);
    let bytes = check("Alocal:remote", &credentials("Alocal").pwd, &[(ATTR_USE_CANDIDATE, &[])]);
    assert!(server.handle_stun(now, address(HOME), &StunRequest::parse(&bytes).unwrap()));
    let (mut sent, mut error) = (client.hello(), None);
    while !sent.is_empty() {
        for datagram in sent.drain(..) {
            server.handle_dtls(now, address(HOME), &datagram);
        }
        while let Some(output) = server.poll_output() {
            match output {
                TransportOutput::Datagram { bytes, .. } if bytes[0] >= 20 => {
                    assert!(bytes.len() <= 1200, "{} bytes", bytes.len());
                    sent.extend(client.receive(&bytes));
                }
                TransportOutput::Closed(why) => error = Some(why),
                _ => {}
            }
        }
    }
    Outcome { client, server, now, error }
}

fn client(key: Key, scheme: u16) -> Foreign {
    Foreign::new(key, scheme)
}

/// Media both ways with the exported keys.
fn assert_media_flows(outcome: &mut Outcome, name: &str) {
    let (profile, material) = outcome.client.keys.as_ref().unwrap_or_else(|| panic!("{name}: {:?}", outcome.error));
    let profile = match profile {
        7 => ProtectionProfile::AeadAes128Gcm,
        8 => ProtectionProfile::AeadAes256Gcm,
        1 => ProtectionProfile::Aes128CmHmacSha1_80,
        other => panic!("{name}: profile {other}"),
    };
    let (key, salt) = (profile.key_len(), profile.salt_len());
    let (keys, salts) = material.split_at(2 * key);
    let crypto = rtc_srtp::crypto::default_provider().unwrap();
    let context = |at: usize| {
        let (key, salt) = (&keys[at * key..][..key], &salts[at * salt..][..salt]);
        Context::new(key, salt, profile, None, None, crypto.crypto()).unwrap()
    };
    let (mut seal, mut open) = (context(0), context(1));
    for sequence in 0..100_u16 {
        let mut plain = vec![0x80, 96, 0, sequence as u8, 0, 0, 0, 0, 0, 0, 0, 5];
        plain.extend_from_slice(&[7; 500]);
        let sealed = seal.encrypt_rtp(&plain).unwrap();
        assert_eq!(outcome.server.open_rtp(outcome.now, &sealed).unwrap()[..], plain, "{name}");
        let sealer = outcome.server.sealer().unwrap();
        let mut packet = plain.clone();
        packet.resize(plain.len() + sealer.overhead(), 0);
        sealer.seal(&mut packet, plain.len(), 12, 5, u64::from(sequence));
        assert_eq!(open.decrypt_rtp(&packet).unwrap()[..], plain, "{name}");
    }
}

#[test]
fn clients_of_every_certificate_kind_connect() {
    let kinds: [(&str, Key, u16); 12] = [
        ("RSA-2048 PKCS #1", Key::rsa(KeySize::Rsa2048), 0x0401),
        ("RSA-2048 PSS", Key::rsa(KeySize::Rsa2048), 0x0804),
        ("RSA-3072 SHA-384", Key::rsa(KeySize::Rsa3072), 0x0501),
        ("RSA-3072 PSS SHA-384", Key::rsa(KeySize::Rsa3072), 0x0805),
        ("RSA-4096 SHA-512", Key::rsa(KeySize::Rsa4096), 0x0601),
        ("P-224", Key::p224(), 0x0403),
        ("P-224 SHA-384", Key::p224(), 0x0503),
        ("P-224 SHA-512", Key::p224(), 0x0603),
        ("P-256", Key::p256(), 0x0403),
        ("P-384", Key::p384(), 0x0503),
        ("P-521", Key::p521(), 0x0603),
        ("Ed25519", Key::ed25519(), 0x0807),
    ];
    for (name, key, scheme) in kinds {
        let mut outcome = shake(client(key, scheme));
        assert_media_flows(&mut outcome, name);
    }
}

#[test]
fn certificate_request_names_every_accepted_key() {
    let outcome = shake(client(Key::p256(), 0x0403));
    let (types, schemes) = outcome.client.requested.unwrap();
    assert_eq!(types, [1, 64]);
    assert_eq!(schemes, [0x0403, 0x0503, 0x0603, 0x0807, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601]);
}

#[test]
fn large_certificate_in_fragments_connects() {
    for fragment in [64, 300, 600] {
        let mut client = client(Key::rsa(KeySize::Rsa4096), 0x0401);
        client.fragment = fragment;
        assert_media_flows(&mut shake(client), "RSA-4096");
    }
}

#[test]
fn every_srtp_profile_connects() {
    for profile in [1, 7, 8] {
        let mut client = client(Key::rsa(KeySize::Rsa2048), 0x0401);
        client.profiles = vec![profile];
        assert_media_flows(&mut shake(client), "RSA-2048");
    }
}

#[test]
fn signature_of_another_key_is_refused() {
    let kinds: [fn() -> (Key, u16); 5] = [
        || (Key::rsa(KeySize::Rsa2048), 0x0401),
        || (Key::rsa(KeySize::Rsa2048), 0x0804),
        || (Key::p224(), 0x0403),
        || (Key::p521(), 0x0603),
        || (Key::ed25519(), 0x0807),
    ];
    for kind in kinds {
        let (key, scheme) = kind();
        let mut client = client(key, scheme);
        client.key = kind().0;
        let outcome = shake(client);
        assert!(matches!(outcome.error, Some(TransportError::BadSignature)), "{scheme:x}: {:?}", outcome.error);
        assert!(outcome.client.keys.is_none() && outcome.server.sealer().is_none());
    }
}

#[test]
fn handshake_that_cannot_succeed_names_its_reason() {
    let rsa = |change: &dyn Fn(&mut Foreign)| {
        let mut client = client(Key::rsa(KeySize::Rsa2048), 0x0401);
        change(&mut client);
        client
    };
    let [small, curve] = weak_certificates();
    let cases: [(&str, &str, Foreign); 9] = [
        ("unsupported-dtls-version", "DTLS 1.2", rsa(&|client| client.version = 0xfeff)),
        ("no-key-exchange-group", "X25519", rsa(&|client| client.groups = vec![0x19, 0x1e])),
        ("no-cipher-suite", "ECDHE-ECDSA", rsa(&|client| client.suites = vec![0xc009, 0xc013, 0xc02f, 0x002f])),
        ("no-extended-master-secret", "RFC 7627", rsa(&|client| client.extended_master_secret = false)),
        ("no-srtp-profile", "AES128_CM_HMAC_SHA1_80", rsa(&|client| client.profiles = vec![2])),
        // A scheme that is not requested: the client shows nothing.
        ("no-certificate", "WebRTC requires one", client(Key::p256(), 0x0203)),
        ("unsupported-certificate", "RSA of 1024 bits", rsa(&|client| client.certificate = small.clone())),
        ("unsupported-certificate", "curve 1.3.132.0.10", rsa(&|client| client.certificate = curve.clone())),
        ("unsupported-certificate", "no valid X.509", rsa(&|client| client.certificate = vec![0x30; 9000])),
    ];
    for (reason, text, client) in cases {
        let outcome = shake(client);
        let error = outcome.error.unwrap_or_else(|| panic!("{reason}: no end"));
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(outcome.server.poll_timeout(), None, "{reason}");
        assert!(outcome.server.sealer().is_none() && outcome.client.alert == Some(40), "{reason}");
    }
}

#[test]
fn alert_of_the_client_ends_the_handshake_at_once() {
    let mut client = client(Key::p256(), 0x0403);
    let mut world = World::new();
    assert!(world.check(HOME, true));
    world.outputs();
    for datagram in client.hello() {
        world.server.handle_dtls(world.now, address(HOME), &datagram);
    }
    world.outputs();
    world.server.handle_dtls(world.now, address(HOME), &[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 43]);
    world.outputs();
    let error = world.closed().unwrap();
    assert_eq!(error.reason(), "handshake-refused-by-peer");
    assert!(error.to_string().contains("43 (unsupported_certificate)"), "{error}");
}
