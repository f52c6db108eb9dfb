//! A DTLS 1.2 client that shares no code with dimpl: any kind of certificate, any offer, one suite (ECDHE-ECDSA with
//! AES-128-GCM and P-256). It checks received messages as strictly as OpenSSL does where it matters here: it shows its
//! certificate only when the request names its kind of key and its signature scheme.

use crate::transport::dtls::p224::signing;
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self as algorithms, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use aws_lc_rs::{hmac, rand::fill};

/// The credential of a client.
pub(super) enum Key {
    Rsa(RsaKeyPair),
    P224(Vec<u8>),
    Ecdsa(EcdsaKeyPair, &'static [u8]),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    pub(super) fn rsa(size: KeySize) -> Key {
        Key::Rsa(RsaKeyPair::generate(size).unwrap())
    }

    /// A key by its secret, which is either 28 bytes of P-224, or P-521 in PKCS #8.
    pub(super) fn from_secret(secret: &[u8]) -> Key {
        match secret.len() {
            28 => Key::P224(secret.to_vec()),
            _ => {
                let algorithm = &algorithms::ECDSA_P521_SHA256_ASN1_SIGNING;
                Key::Ecdsa(EcdsaKeyPair::from_pkcs8(algorithm, secret).unwrap(), P521)
            }
        }
    }

    pub(super) fn p224_secret() -> Vec<u8> {
        let mut secret = [0; 28];
        fill(&mut secret[1..]).unwrap();
        secret.to_vec()
    }

    pub(super) fn p521_secret() -> Vec<u8> {
        let key = EcdsaKeyPair::generate(&algorithms::ECDSA_P521_SHA256_ASN1_SIGNING).unwrap();
        key.to_pkcs8v1().unwrap().as_ref().to_vec()
    }

    pub(super) fn p224() -> Key {
        Key::P224(Key::p224_secret())
    }

    /// A certificate with this key.
    pub(super) fn certificate(&self) -> Vec<u8> {
        certificate(&self.info())
    }

    pub(super) fn p256() -> Key {
        let oid = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
        Key::Ecdsa(EcdsaKeyPair::generate(&algorithms::ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(), oid)
    }

    pub(super) fn p384() -> Key {
        let oid = &[0x2b, 0x81, 4, 0, 34];
        Key::Ecdsa(EcdsaKeyPair::generate(&algorithms::ECDSA_P384_SHA384_ASN1_SIGNING).unwrap(), oid)
    }

    pub(super) fn p521() -> Key {
        Key::Ecdsa(EcdsaKeyPair::generate(&algorithms::ECDSA_P521_SHA512_ASN1_SIGNING).unwrap(), P521)
    }

    pub(super) fn ed25519() -> Key {
        Key::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    /// SubjectPublicKeyInfo.
    fn info(&self) -> Vec<u8> {
        match self {
            Key::Rsa(key) => info(&[RSA_ENCRYPTION, &der(5, &[&[]])], key.public_key().as_ref()),
            Key::P224(secret) => {
                info(&[EC_PUBLIC_KEY, &der(6, &[&[0x2b, 0x81, 4, 0, 33]])], &signing::public_key(secret))
            }
            Key::Ecdsa(key, curve) => info(&[EC_PUBLIC_KEY, &der(6, &[curve])], key.public_key().as_ref()),
            Key::Ed25519(key) => info(&[&der(6, &[&[0x2b, 101, 112]])], key.public_key().as_ref()),
        }
    }

    fn certificate_type(&self) -> u8 {
        if matches!(self, Key::Rsa(_)) { 1 } else { 64 }
    }

    pub(super) fn sign(&self, scheme: u16, data: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Key::Rsa(key) => {
                let encoding = match scheme {
                    0x0401 => &algorithms::RSA_PKCS1_SHA256,
                    0x0501 => &algorithms::RSA_PKCS1_SHA384,
                    0x0601 => &algorithms::RSA_PKCS1_SHA512,
                    0x0804 => &algorithms::RSA_PSS_SHA256,
                    0x0805 => &algorithms::RSA_PSS_SHA384,
                    _ => &algorithms::RSA_PSS_SHA512,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding, &random, data, &mut signature).unwrap();
                signature
            }
            Key::P224(secret) => {
                let hash = match scheme {
                    0x0403 => &SHA256,
                    0x0503 => &SHA384,
                    _ => &SHA512,
                };
                signing::sign(secret, digest(hash, data).as_ref())
            }
            Key::Ecdsa(key, _) => key.sign(&random, data).unwrap().as_ref().to_vec(),
            Key::Ed25519(key) => key.sign(data).as_ref().to_vec(),
        }
    }
}

const P521: &[u8] = &[0x2b, 0x81, 4, 0, 35];
const RSA_ENCRYPTION: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const EC_PUBLIC_KEY: &[u8] = &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];

/// One value of DER.
pub(super) fn der(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let length = match content.len() {
        length @ ..0x80 => vec![length as u8],
        length @ ..0x100 => vec![0x81, length as u8],
        length => vec![0x82, (length >> 8) as u8, length as u8],
    };
    [&[tag], &length[..], &content].concat()
}

fn info(algorithm: &[&[u8]], key: &[u8]) -> Vec<u8> {
    der(0x30, &[&der(0x30, algorithm), &der(3, &[&[0], key])])
}

/// A certificate around a SubjectPublicKeyInfo. Its signature is not checked: trust is by fingerprint.
pub(super) fn certificate(info: &[u8]) -> Vec<u8> {
    let algorithm = der(0x30, &[&der(6, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11]]), &der(5, &[&[]])]);
    let common_name = der(0x30, &[&der(6, &[&[0x55, 4, 3]]), &der(0x0c, &[b"WebRTC"])]);
    let name = der(0x30, &[&der(0x31, &[&common_name])]);
    let validity = der(0x30, &[&der(0x17, &[b"260101000000Z"]), &der(0x17, &[b"360101000000Z"])]);
    let version = der(0xa0, &[&der(2, &[&[2]])]);
    let signed = der(0x30, &[&version, &der(2, &[&[0]]), &algorithm, &name, &validity, &name, info]);
    der(0x30, &[&signed, &algorithm, &der(3, &[&[0; 257]])])
}

/// A certificate with a key of an unsupported kind: RSA of 1,024 bits, and ECDSA on secp256k1.
pub(super) fn weak_certificates() -> [Vec<u8>; 2] {
    let weak = der(0x30, &[&der(2, &[&[0, 0x80], &[1; 127]]), &der(2, &[&[1, 0, 1]])]);
    [
        certificate(&info(&[RSA_ENCRYPTION, &der(5, &[&[]])], &weak)),
        certificate(&info(&[EC_PUBLIC_KEY, &der(6, &[&[0x2b, 0x81, 4, 0, 10]])], &[4; 65])),
    ]
}

/// The client and its offer.
pub(super) struct Foreign {
    pub(super) key: Key,
    pub(super) certificate: Vec<u8>,
    pub(super) scheme: u16,
    pub(super) suites: Vec<u16>,
    pub(super) profiles: Vec<u16>,
    pub(super) groups: Vec<u16>,
    pub(super) version: u16,
    pub(super) extended_master_secret: bool,
    /// Bytes of a message that go into one record.
    pub(super) fragment: usize,
    /// The server's requests.
    pub(super) requested: Option<(Vec<u8>, Vec<u16>)>,
    /// The profile, and the exported keys.
    pub(super) keys: Option<(u16, Vec<u8>)>,
    /// The description of a fatal alert.
    pub(super) alert: Option<u8>,
    random: [u8; 32],
    transcript: Vec<u8>,
    sequence: u16,
    record: u64,
    /// Fragments of the server's messages: by number, the message with its header and the parts received.
    messages: Vec<Vec<u8>>,
    secret: Option<Secret>,
}

struct Secret {
    master: Vec<u8>,
    server_random: Vec<u8>,
    profile: u16,
    key_block: Vec<u8>,
}

impl Foreign {
    pub(super) fn new(key: Key, scheme: u16) -> Foreign {
        let mut random = [0; 32];
        fill(&mut random).unwrap();
        Foreign {
            certificate: certificate(&key.info()),
            key,
            scheme,
            suites: vec![0xc02b],
            profiles: vec![7],
            groups: vec![0x17],
            version: 0xfefd,
            extended_master_secret: true,
            fragment: 1000,
            requested: None,
            keys: None,
            alert: None,
            random,
            transcript: Vec::new(),
            sequence: 0,
            record: 0,
            messages: Vec::new(),
            secret: None,
        }
    }

    /// Returns the ClientHello.
    pub(super) fn hello(&mut self) -> Vec<Vec<u8>> {
        let list = |values: &[u16]| -> Vec<u8> {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
            [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
        };
        let mut extensions = vec![
            (10_u16, list(&self.groups)),
            (11, vec![1, 0]),
            (13, list(&[0x0403, 0x0503, 0x0804, 0x0401])),
            (14, [list(&self.profiles), vec![0]].concat()),
        ];
        if self.extended_master_secret {
            extensions.push((23, vec![]));
        }
        let extensions: Vec<u8> = extensions
            .into_iter()
            .flat_map(|(kind, value)| [&kind.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), &value].concat())
            .collect();
        let length = (extensions.len() as u16).to_be_bytes();
        let body = [
            &self.version.to_be_bytes(),
            &self.random[..],
            &[0, 0],
            &list(&self.suites),
            &[1, 0],
            &length,
            &extensions,
        ];
        self.message(1, &body.concat())
    }

    /// Takes one datagram of the server; returns the datagrams to send.
    pub(super) fn receive(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let mut rest = datagram;
        let mut sent = Vec::new();
        while rest.len() >= 13 {
            let (header, tail) = rest.split_at(13);
            let (content, tail) = tail.split_at(usize::from(u16::from_be_bytes([header[11], header[12]])));
            rest = tail;
            match (header[0], header[4]) {
                (21, 0) => self.alert = Some(content[1]),
                (22, 0) => self.collect(content),
                (22, 1) => self.finish(header, content),
                _ => {}
            }
        }
        if self.secret.is_none() && self.messages.last().is_some_and(|message| message[0] == 14) {
            sent = self.answer();
        }
        sent
    }

    fn collect(&mut self, fragment: &[u8]) {
        let number = usize::from(u16::from_be_bytes([fragment[4], fragment[5]]));
        let number24 = |at: usize| usize::from(fragment[at + 1]) << 8 | usize::from(fragment[at + 2]);
        let (offset, length) = (number24(6), number24(9));
        if number == self.messages.len() {
            let total = number24(1);
            let header = [&fragment[..6], &[0, 0, 0], &fragment[1..4]].concat();
            self.messages.push([header, vec![0; total]].concat());
        }
        self.messages[number][12 + offset..][..length].copy_from_slice(&fragment[12..]);
    }

    /// The second flight.
    fn answer(&mut self) -> Vec<Vec<u8>> {
        let messages = self.messages.clone();
        self.transcript.extend(messages.concat());
        let body = |kind: u8| &messages.iter().find(|message| message[0] == kind).unwrap()[12..];
        let hello = body(2);
        let server_random = hello[2..34].to_vec();
        let extensions = &hello[35 + usize::from(hello[34]) + 5..];
        let profile = extensions.windows(7).find(|bytes| bytes[..6] == [0, 14, 0, 5, 0, 2]).map_or(0, |bytes| {
            let at = bytes.as_ptr() as usize - extensions.as_ptr() as usize;
            u16::from_be_bytes([extensions[at + 6], extensions[at + 7]])
        });
        let exchange = body(12);
        assert_eq!(exchange[..3], [3, 0, 0x17]);
        let share = &exchange[4..4 + usize::from(exchange[3])];
        let request = body(13);
        let (types, rest) = request[1..].split_at(usize::from(request[0]));
        let schemes: Vec<u16> =
            rest[2..rest.len() - 2].chunks(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
        assert_eq!(usize::from(u16::from_be_bytes([rest[0], rest[1]])), 2 * schemes.len());
        assert_eq!(rest[rest.len() - 2..], [0, 0]);
        let shown = types.contains(&self.key.certificate_type()) && schemes.contains(&self.scheme);
        self.requested = Some((types.to_vec(), schemes));

        let size = |bytes: &[u8]| (bytes.len() as u32).to_be_bytes()[1..].to_vec();
        let list = if shown { [size(&self.certificate), self.certificate.clone()].concat() } else { vec![] };
        let mut sent = self.message(11, &[size(&list), list].concat());
        let secret = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).unwrap();
        let public = secret.compute_public_key().unwrap();
        sent.extend(self.message(16, &[&[public.as_ref().len() as u8], public.as_ref()].concat()));
        let hash = digest(&SHA256, &self.transcript);
        let share = UnparsedPublicKey::new(&ECDH_P256, share);
        let premaster = agree_ephemeral(secret, share, (), |secret| Ok(secret.to_vec())).unwrap();
        let master = prf(&premaster, "extended master secret", hash.as_ref(), 48);
        let key_block = prf(&master, "key expansion", &[&server_random[..], &self.random].concat(), 40);
        if shown {
            let signature = self.key.sign(self.scheme, &self.transcript);
            let length = (signature.len() as u16).to_be_bytes();
            sent.extend(self.message(15, &[&self.scheme.to_be_bytes(), &length[..], &signature].concat()));
        }
        sent.push(self.plain_record(20, &[1]));
        let verify = prf(&master, "client finished", digest(&SHA256, &self.transcript).as_ref(), 12);
        let finished = self.handshake_message(20, &verify);
        sent.push(seal(&key_block[..16], &key_block[32..36], &finished));
        self.secret = Some(Secret { master, server_random, profile, key_block });
        sent
    }

    /// The server's Finished, which proves that both sides hashed the same handshake.
    fn finish(&mut self, header: &[u8], content: &[u8]) {
        let Some(secret) = &self.secret else { return };
        let plain = open(&secret.key_block[16..32], &secret.key_block[36..40], header, content);
        let hash = digest(&SHA256, &self.transcript);
        assert_eq!(plain[0], 20);
        assert_eq!(plain[12..], prf(&secret.master, "server finished", hash.as_ref(), 12));
        let seed = [&self.random[..], &secret.server_random].concat();
        let length =
            if secret.profile == 8 { 2 * (32 + 12) } else { 2 * (16 + if secret.profile == 1 { 14 } else { 12 }) };
        self.keys = Some((secret.profile, prf(&secret.master, "EXTRACTOR-dtls_srtp", &seed, length)));
    }

    /// A complete handshake message, which is added to the transcript.
    fn handshake_message(&mut self, kind: u8, body: &[u8]) -> Vec<u8> {
        let length = &(body.len() as u32).to_be_bytes()[1..];
        let sequence = self.sequence.to_be_bytes();
        self.sequence += 1;
        let message = [&[kind], length, &sequence, &[0, 0, 0], length, body].concat();
        self.transcript.extend_from_slice(&message);
        message
    }

    /// A handshake message in plain records, a datagram for each fragment.
    fn message(&mut self, kind: u8, body: &[u8]) -> Vec<Vec<u8>> {
        let whole = self.handshake_message(kind, body);
        let mut sent = Vec::new();
        let mut at = 0;
        loop {
            let end = (at + self.fragment).min(body.len());
            let (offset, length) = (&(at as u32).to_be_bytes()[1..], &((end - at) as u32).to_be_bytes()[1..]);
            let fragment = [&whole[..6], offset, length, &body[at..end]].concat();
            sent.push(self.plain_record(22, &fragment));
            at = end;
            if at == body.len() {
                return sent;
            }
        }
    }

    fn plain_record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        self.record += 1;
        let length = (content.len() as u16).to_be_bytes();
        [&[kind, 0xfe, 0xfd], &self.record.to_be_bytes()[..], &length, content].concat()
    }
}

/// P_SHA256 (RFC 5246 §5).
fn prf(secret: &[u8], label: &str, seed: &[u8], length: usize) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let seed = [label.as_bytes(), seed].concat();
    let mut a = hmac::sign(&key, &seed);
    let mut out = Vec::new();
    while out.len() < length {
        out.extend_from_slice(hmac::sign(&key, &[a.as_ref(), &seed].concat()).as_ref());
        a = hmac::sign(&key, a.as_ref());
    }
    out.truncate(length);
    out
}

/// The first record of epoch 1 (RFC 5288): explicit nonce, content, tag.
fn seal(key: &[u8], salt: &[u8], message: &[u8]) -> Vec<u8> {
    let sequence = [0, 1, 0, 0, 0, 0, 0, 0];
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).unwrap());
    let nonce = Nonce::try_assume_unique_for_key(&[salt, &sequence].concat()).unwrap();
    let aad = [&sequence[..], &[22, 0xfe, 0xfd], &(message.len() as u16).to_be_bytes()].concat();
    let mut sealed = message.to_vec();
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed).unwrap();
    let length = (sealed.len() as u16 + 8).to_be_bytes();
    [&[22, 0xfe, 0xfd], &sequence[..], &length, &sequence, &sealed].concat()
}

fn open(key: &[u8], salt: &[u8], header: &[u8], content: &[u8]) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).unwrap());
    let (explicit, sealed) = content.split_at(8);
    let nonce = Nonce::try_assume_unique_for_key(&[salt, explicit].concat()).unwrap();
    let length = (sealed.len() as u16 - 16).to_be_bytes();
    let aad = [&header[3..11], &[22, 0xfe, 0xfd], &length].concat();
    let mut plain = sealed.to_vec();
    key.open_in_place(nonce, Aad::from(aad), &mut plain).unwrap().to_vec()
}
