//! Session keys from master keys: RFC 3711 §4.3, with the AES-256 variant of RFC 6188 and the 96-bit salt of RFC 7714 §11.
//!
//! The key derivation rate is zero, as DTLS-SRTP has it: keys are derived once.

use super::cipher::Purpose;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};

/// Which key; those of RTCP are 3 higher.
#[derive(Clone, Copy)]
pub(super) enum Label {
    /// The encryption key.
    Encryption = 0,
    /// The authentication key.
    Authentication = 1,
    /// The salt.
    Salt = 2,
}

/// Fills `out` with the key of this label. `key` has 16 or 32 bytes, `salt` 12 or 14; `false` when it has not.
#[must_use]
pub(super) fn derive(key: &[u8], salt: &[u8], purpose: Purpose, label: Label, out: &mut [u8]) -> bool {
    if salt.len() > 14 {
        return false;
    }
    let mut iv = [0; 16];
    iv[..salt.len()].copy_from_slice(salt);
    iv[7] ^= match purpose {
        Purpose::Rtp => label as u8,
        Purpose::Rtcp => 3 + label as u8,
    };
    out.fill(0);
    if let Ok(mut cipher) = Ctr128BE::<aes::Aes128>::new_from_slices(key, &iv) {
        cipher.apply_keystream(out);
    } else if let Ok(mut cipher) = Ctr128BE::<aes::Aes256>::new_from_slices(key, &iv) {
        cipher.apply_keystream(out);
    } else {
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn session_keys_are_those_of_rfc_3711_b_3() {
        let (key, salt) = (hex("E1F97A0D3E018BE0D64FA32C06DE4139"), hex("0EC675AD498AFEEBB6960B3AABE6"));
        let mut encryption = [0; 16];
        assert!(derive(&key, &salt, Purpose::Rtp, Label::Encryption, &mut encryption));
        assert_eq!(encryption[..], hex("C61E7A93744F39EE10734AFE3FF7A087"));
        let mut session_salt = [0; 14];
        assert!(derive(&key, &salt, Purpose::Rtp, Label::Salt, &mut session_salt));
        assert_eq!(session_salt[..], hex("30CBBC08863D8C85D49DB34A9AE1"));
        let mut authentication = [0; 94];
        assert!(derive(&key, &salt, Purpose::Rtp, Label::Authentication, &mut authentication));
        let expected = "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE\
                        E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25\
                        6D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2";
        assert_eq!(authentication[..], hex(expected));
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let mut out = [0; 16];
        assert!(!derive(&[0; 17], &[0; 14], Purpose::Rtp, Label::Salt, &mut out));
        assert!(!derive(&[0; 16], &[0; 15], Purpose::Rtp, Label::Salt, &mut out));
    }
}
