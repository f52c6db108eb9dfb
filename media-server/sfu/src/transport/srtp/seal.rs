//! Seals outbound RTP: AES-GCM (RFC 7714 §8) by ring, AES-CM with HMAC-SHA1-80 (RFC 3711 §4.1.1, §4.2) by RustCrypto.
//!
//! The choice of libraries is measured: ring is the fastest GCM, and the slowest SHA-1.

use super::cipher::{Cipher, Purpose, SHA1_80};
use super::{SrtpProfile, TransportError};
use hmac::{Hmac, Mac};
use ring::aead::Aad;

/// Seals outbound SRTP in place; no allocation.
pub struct Sealer {
    profile: SrtpProfile,
    cipher: Cipher,
}

impl Sealer {
    /// From a master key and salt, whose lengths must be those of the profile.
    pub fn new(profile: SrtpProfile, master_key: &[u8], master_salt: &[u8]) -> Result<Sealer, TransportError> {
        if master_key.len() != profile.key_len() || master_salt.len() != profile.salt_len() {
            return Err(TransportError::NoSrtpProfile);
        }
        let cipher = Cipher::new(profile, Purpose::Rtp, master_key, master_salt);
        cipher.map(|cipher| Sealer { profile, cipher }).ok_or(TransportError::NoSrtpProfile)
    }

    /// How this seals.
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Bytes that sealing adds: 16 for AES-GCM, 10 for AES-CM with HMAC-SHA1-80.
    pub fn overhead(&self) -> usize {
        self.profile.overhead()
    }

    /// `packet[..len]` is a plain RTP packet with `header_len` header bytes (extensions included) and room for the
    /// overhead behind it; `index` is the 48-bit packet index (rollover counter and sequence number). Gives the sealed
    /// length; 0, with the packet untouched, when these do not fit each other. An index must never be used twice for
    /// one SSRC with different content.
    pub fn seal(&self, packet: &mut [u8], len: usize, header_len: usize, ssrc: u32, index: u64) -> usize {
        let sealed = len + self.overhead();
        if header_len > len || sealed > packet.len() || index >> 48 != 0 {
            return 0;
        }
        let (plain, tag) = packet[..sealed].split_at_mut(len);
        match &self.cipher {
            Cipher::Gcm { key, .. } => {
                let (header, payload) = plain.split_at_mut(header_len);
                let nonce = self.cipher.nonce(ssrc, index);
                match key.seal_in_place_separate_tag(nonce, Aad::from(&*header), payload) {
                    Ok(value) => tag.copy_from_slice(value.as_ref()),
                    // Only for payloads of more than 64 GiB.
                    Err(_) => return 0,
                }
            }
            Cipher::Cm { mac, .. } => {
                self.cipher.apply_keystream(ssrc, index, &mut plain[header_len..]);
                let mut mac = Hmac::clone(mac);
                mac.update(plain);
                mac.update(&((index >> 16) as u32).to_be_bytes());
                tag.copy_from_slice(&mac.finalize().into_bytes()[..SHA1_80]);
            }
        }
        sealed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::aead::{AES_128_GCM, AES_256_GCM, LessSafeKey, UnboundKey};

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 7714 §16 gives session keys, not master keys.
    fn sealer(profile: SrtpProfile, algorithm: &'static ring::aead::Algorithm) -> Sealer {
        let key: Vec<u8> = (0..profile.key_len() as u8).collect();
        let key = Box::new(LessSafeKey::new(UnboundKey::new(algorithm, &key).unwrap()));
        let salt = hex("517569642070726f2071756f").try_into().unwrap();
        Sealer { profile, cipher: Cipher::Gcm { key, salt } }
    }

    #[test]
    fn packets_are_sealed_as_in_rfc_7714_16() {
        let header = "8040f17b8041f8d35501a0b2";
        let plain = "47616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573";
        let aes_128 = "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833\
                       899d7f27beb16a9152cf765ee4390cce";
        let aes_256 = "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b\
                       7aa3db36dfffd6b0f9bb7878d7a76c13";
        for (profile, algorithm, expected) in
            [(SrtpProfile::Aes128Gcm, &AES_128_GCM, aes_128), (SrtpProfile::Aes256Gcm, &AES_256_GCM, aes_256)]
        {
            let mut packet = hex(&format!("{header}{plain}"));
            let len = packet.len();
            packet.resize(len + 16, 0);
            assert_eq!(sealer(profile, algorithm).seal(&mut packet, len, 12, 0x5501_a0b2, 0xf17b), len + 16);
            assert_eq!(packet, hex(&format!("{header}{expected}")), "{profile:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_alone() {
        let sealer = Sealer::new(SrtpProfile::Aes128CmSha1, &[1; 16], &[2; 14]).unwrap();
        let mut packet = [9; 100];
        assert_eq!(sealer.seal(&mut packet, 91, 12, 1, 1), 0);
        assert_eq!(sealer.seal(&mut packet, 20, 21, 1, 1), 0);
        assert_eq!(sealer.seal(&mut packet, 90, 12, 1, 1 << 48), 0);
        assert_eq!(packet, [9; 100]);
        assert_eq!(sealer.seal(&mut packet, 90, 12, 1, (1 << 48) - 1), 100);
        assert!(Sealer::new(SrtpProfile::Aes256Gcm, &[1; 16], &[2; 12]).is_err());
        assert!(Sealer::new(SrtpProfile::Aes256Gcm, &[1; 32], &[2; 14]).is_err());
    }
}
