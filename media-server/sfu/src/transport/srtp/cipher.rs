//! Session keys of one direction, and the operations of both directions: nonces, keystreams, opening.
//!
//! AES-GCM (RFC 7714 §8, §9) by ring, AES-CM with HMAC-SHA1-80 (RFC 3711 §4.1.1, §4.2) by RustCrypto. The choice of
//! libraries is measured: ring is the fastest GCM, and the slowest SHA-1. The formulas of RTP and RTCP are the same with an
//! index of 48 bits, of which RTCP uses 31.

use super::SrtpProfile;
use super::kdf::{Label, derive};
use aes::Aes128;
use ctr::cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::{CtrCore, flavors::Ctr128BE};
use hmac::{Hmac, Mac};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha1::Sha1;

/// Bytes of the truncated HMAC.
pub(super) const SHA1_80: usize = 10;

/// Which keys are derived.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Rtp,
    Rtcp,
}

/// Keys of one direction and purpose.
pub(super) enum Cipher {
    Gcm { key: Box<LessSafeKey>, salt: [u8; 12] },
    Cm { key: Box<Aes128>, salt: [u8; 14], mac: Box<Hmac<Sha1>> },
}

impl Cipher {
    /// Derives the keys; `None` when the lengths of key and salt are not those of the profile.
    pub(super) fn new(profile: SrtpProfile, purpose: Purpose, master_key: &[u8], master_salt: &[u8]) -> Option<Cipher> {
        if master_key.len() != profile.key_len() || master_salt.len() != profile.salt_len() {
            return None;
        }
        match profile {
            SrtpProfile::Aes256Gcm => Cipher::gcm(&AES_256_GCM, purpose, master_key, master_salt),
            SrtpProfile::Aes128Gcm => Cipher::gcm(&AES_128_GCM, purpose, master_key, master_salt),
            SrtpProfile::Aes128CmSha1 => Cipher::cm(purpose, master_key, master_salt),
        }
    }

    fn gcm(
        algorithm: &'static ring::aead::Algorithm,
        purpose: Purpose,
        master_key: &[u8],
        master_salt: &[u8],
    ) -> Option<Cipher> {
        let (mut key, mut salt) = ([0; 32], [0; 12]);
        let key = &mut key[..algorithm.key_len()];
        let derived = derive(master_key, master_salt, purpose, Label::Encryption, key)
            && derive(master_key, master_salt, purpose, Label::Salt, &mut salt);
        let key = UnboundKey::new(algorithm, key).ok().filter(|_| derived)?;
        Some(Cipher::Gcm { key: Box::new(LessSafeKey::new(key)), salt })
    }

    fn cm(purpose: Purpose, master_key: &[u8], master_salt: &[u8]) -> Option<Cipher> {
        let (mut key, mut salt, mut authentication) = ([0; 16], [0; 14], [0; 20]);
        let derived = derive(master_key, master_salt, purpose, Label::Encryption, &mut key)
            && derive(master_key, master_salt, purpose, Label::Salt, &mut salt)
            && derive(master_key, master_salt, purpose, Label::Authentication, &mut authentication);
        let mac = <Hmac<Sha1> as Mac>::new_from_slice(&authentication).ok().filter(|_| derived)?;
        Some(Cipher::Cm { key: Box::new(Aes128::new(&key.into())), salt, mac: Box::new(mac) })
    }

    /// The nonce of GCM (RFC 7714 §8.1, §9.1): two zero bytes, SSRC, index, combined with the salt.
    pub(super) fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut iv = match self {
            Cipher::Gcm { salt, .. } => *salt,
            Cipher::Cm { .. } => [0; 12],
        };
        xor(&mut iv[2..6], &ssrc.to_be_bytes());
        xor(&mut iv[6..12], &index.to_be_bytes()[2..]);
        Nonce::assume_unique_for_key(iv)
    }

    /// Encrypts or decrypts by AES-CM (RFC 3711 §4.1.1): salt·2^16 xor SSRC·2^64 xor index·2^16. GCM leaves `data` alone.
    pub(super) fn apply_keystream(&self, ssrc: u32, index: u64, data: &mut [u8]) {
        let Cipher::Cm { key, salt, .. } = self else { return };
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(salt);
        xor(&mut iv[4..8], &ssrc.to_be_bytes());
        xor(&mut iv[8..14], &index.to_be_bytes()[2..]);
        let core = CtrCore::<&Aes128, Ctr128BE>::inner_iv_init(key, &iv.into());
        StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
    }

    /// Opens an SRTP packet in place; returns the length of the plain packet, or `None` when it is not authentic.
    pub(super) fn open_rtp(&self, packet: &mut [u8], header_len: usize, ssrc: u32, index: u64) -> Option<usize> {
        match self {
            Cipher::Gcm { key, .. } => {
                let (header, payload) = packet.split_at_mut_checked(header_len)?;
                let plain = key.open_in_place(self.nonce(ssrc, index), Aad::from(&*header), payload).ok()?;
                Some(header_len + plain.len())
            }
            Cipher::Cm { mac, .. } => {
                let length = packet.len().checked_sub(SHA1_80).filter(|length| *length >= header_len)?;
                let (content, tag) = packet.split_at_mut(length);
                let mut mac = Hmac::clone(mac);
                mac.update(content);
                mac.update(&((index >> 16) as u32).to_be_bytes());
                mac.verify_truncated_left(tag).ok()?;
                self.apply_keystream(ssrc, index, &mut content[header_len..]);
                Some(length)
            }
        }
    }

    /// Opens an SRTCP packet in place. Its trailer (the E bit and the index) is behind the tag with GCM (RFC 7714 §9.2)
    /// and before it with CM (RFC 3711 §3.4); returns the length of the plain packet, or `None` when it is not authentic.
    pub(super) fn open_rtcp(&self, packet: &mut [u8], trailer: [u8; 4], ssrc: u32) -> Option<usize> {
        const HEADER: usize = 8;
        let index = u64::from(u32::from_be_bytes(trailer) & 0x7fff_ffff);
        match self {
            Cipher::Gcm { key, .. } => {
                let (header, payload) = packet.split_at_mut_checked(HEADER)?;
                let sealed = payload.len().checked_sub(trailer.len())?;
                let mut associated = [0; HEADER + 4];
                associated[..HEADER].copy_from_slice(header);
                associated[HEADER..].copy_from_slice(&trailer);
                let nonce = self.nonce(ssrc, index);
                let plain = key.open_in_place(nonce, Aad::from(associated), &mut payload[..sealed]).ok()?;
                Some(HEADER + plain.len())
            }
            Cipher::Cm { mac, .. } => {
                let authenticated = packet.len().checked_sub(SHA1_80)?;
                let length = authenticated.checked_sub(trailer.len()).filter(|length| *length >= HEADER)?;
                let (content, tag) = packet.split_at_mut(authenticated);
                let mut mac = Hmac::clone(mac);
                mac.update(content);
                mac.verify_truncated_left(tag).ok()?;
                self.apply_keystream(ssrc, index, &mut content[HEADER..length]);
                Some(length)
            }
        }
    }

    /// Seals a compound RTCP packet of at least 8 bytes into `out`, which is empty; `false` when it cannot be.
    pub(super) fn seal_rtcp(&self, plain: &[u8], ssrc: u32, index: u32, out: &mut Vec<u8>) -> bool {
        const HEADER: usize = 8;
        let trailer = (index | 0x8000_0000).to_be_bytes();
        out.extend_from_slice(plain);
        match self {
            Cipher::Gcm { key, .. } => {
                let mut associated = [0; HEADER + 4];
                associated[..HEADER].copy_from_slice(&plain[..HEADER]);
                associated[HEADER..].copy_from_slice(&trailer);
                let nonce = self.nonce(ssrc, u64::from(index));
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(associated), &mut out[HEADER..]);
                let Ok(tag) = tag else { return false };
                out.extend_from_slice(tag.as_ref());
                out.extend_from_slice(&trailer);
            }
            Cipher::Cm { mac, .. } => {
                self.apply_keystream(ssrc, u64::from(index), &mut out[HEADER..]);
                out.extend_from_slice(&trailer);
                let mut mac = Hmac::clone(mac);
                mac.update(out);
                out.extend_from_slice(&mac.finalize().into_bytes()[..SHA1_80]);
            }
        }
        true
    }
}

fn xor(target: &mut [u8], with: &[u8]) {
    for (byte, with) in target.iter_mut().zip(with) {
        *byte ^= with;
    }
}
