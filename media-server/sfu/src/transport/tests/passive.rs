//! Peers that are the DTLS server, as FFmpeg is: with every curve, and with a key that no suite of ours fits.

use super::foreign::Key;
use super::*;
use dimpl::CryptoError;
use dimpl::crypto::{Buf, CryptoProvider, HashAlgorithm, KeyProvider, SignatureAlgorithm, SigningKey, aws_lc_rs};

/// A key that signs with SHA-256.
struct Signer(Key);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl SigningKey for Signer {
    fn sign(&mut self, data: &[u8], _: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        out.clear();
        out.extend_from_slice(&self.0.sign(0x0403, data));
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}

#[derive(Debug)]
struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(&self, secret: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        Ok(Box::new(Signer(Key::from_secret(secret))))
    }
}

/// A peer that waits for our ClientHello, with a key that [`Key::from_secret`] makes of this.
fn passive(secret: Vec<u8>) -> World {
    let now = Instant::now();
    let provider = CryptoProvider { key_provider: &Keys, ..aws_lc_rs::default_provider() };
    let config = Config::builder().mtu(1200).with_crypto_provider(provider).build().unwrap();
    let certificate = DtlsCertificate { certificate: Key::from_secret(&secret).certificate(), private_key: secret };
    let mut dtls = Dtls::new_12(Arc::new(config), certificate.clone(), now);
    dtls.handle_timeout(now).unwrap();
    let peer = Client { certificate, dtls, timer: None, keys: None, closed: false };
    let fingerprint = peer.fingerprint();
    World::with_role(now, peer, fingerprint, DtlsRole::Client)
}

#[test]
fn client_accepts_servers_with_p224_and_p521() {
    for secret in [Key::p224_secret(), Key::p521_secret()] {
        let mut world = passive(secret);
        world.handshake(Duration::from_secs(5), &mut |_| vec![Duration::from_millis(1)]);
        assert!(world.connected(), "{:?}", world.told);
        let (_, mut seal) = world.client.srtp();
        let plain = [&[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5][..], &[7; 500]].concat();
        let sealed = seal.encrypt_rtp(&plain).unwrap();
        assert_eq!(world.server.open_rtp(world.now, &sealed).unwrap()[..], plain);
    }
}

#[test]
fn server_without_a_common_suite_names_the_suites() {
    let mut world = World::passive();
    assert!(world.check(HOME, true));
    world.outputs();
    // As OpenSSL answers when its only certificate is RSA.
    world.server.handle_dtls(world.now, address(HOME), &[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 40]);
    world.outputs();
    let error = world.closed().unwrap();
    assert_eq!(error.reason(), "no-cipher-suite");
    assert!(error.to_string().contains("ECDSA certificate"), "{error}");
}
