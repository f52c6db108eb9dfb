//! SRTP and SRTCP (RFC 3711, RFC 7714) with the keys that DTLS gives (RFC 5764).
//!
//! Outgoing packets are sealed by [`Sealer`], in place and without allocation, since it is done once a packet and viewer.
//! Inbound ones are opened once a packet, with replay windows for a bounded number of sources (see `open`).

mod cipher;
mod kdf;
mod open;
mod seal;
mod sources;

pub use seal::Sealer;

use super::TransportError;
use crate::parameters::DtlsRole;
use cipher::{Cipher, Purpose};
use open::Opener;

/// How packets are encrypted and authenticated (RFC 5764 §4.1.2, RFC 7714 §14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrtpProfile {
    /// `SRTP_AEAD_AES_256_GCM`
    Aes256Gcm,
    /// `SRTP_AEAD_AES_128_GCM`
    Aes128Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`
    Aes128CmSha1,
}

impl SrtpProfile {
    /// Bytes of a master key.
    pub const fn key_len(self) -> usize {
        match self {
            SrtpProfile::Aes256Gcm => 32,
            SrtpProfile::Aes128Gcm | SrtpProfile::Aes128CmSha1 => 16,
        }
    }

    /// Bytes of a master salt.
    pub const fn salt_len(self) -> usize {
        match self {
            SrtpProfile::Aes256Gcm | SrtpProfile::Aes128Gcm => 12,
            SrtpProfile::Aes128CmSha1 => 14,
        }
    }

    /// Bytes that sealing an RTP packet adds.
    pub const fn overhead(self) -> usize {
        match self {
            SrtpProfile::Aes256Gcm | SrtpProfile::Aes128Gcm => 16,
            SrtpProfile::Aes128CmSha1 => 10,
        }
    }
}

impl TryFrom<dimpl::SrtpProfile> for SrtpProfile {
    type Error = TransportError;

    fn try_from(profile: dimpl::SrtpProfile) -> Result<SrtpProfile, TransportError> {
        match profile {
            dimpl::SrtpProfile::AEAD_AES_256_GCM => Ok(SrtpProfile::Aes256Gcm),
            dimpl::SrtpProfile::AEAD_AES_128_GCM => Ok(SrtpProfile::Aes128Gcm),
            dimpl::SrtpProfile::AES128_CM_SHA1_80 => Ok(SrtpProfile::Aes128CmSha1),
            _ => Err(TransportError::NoSrtpProfile),
        }
    }
}

/// Both directions of one connected transport.
pub(super) struct Srtp {
    pub(super) opener: Opener,
    pub(super) sealer: Sealer,
    rtcp: Cipher,
    /// SRTCP index of the next packet, of all sender SSRCs together.
    rtcp_index: u32,
}

impl Srtp {
    /// From the keys that DTLS exports: the client's key, the server's, the client's salt, the server's (RFC 5764 §4.2).
    pub(super) fn new(profile: SrtpProfile, role: DtlsRole, material: &[u8]) -> Result<Srtp, TransportError> {
        let (key, salt) = (profile.key_len(), profile.salt_len());
        if material.len() != 2 * (key + salt) {
            return Err(TransportError::NoSrtpProfile);
        }
        let (keys, salts) = material.split_at(2 * key);
        let client = (&keys[..key], &salts[..salt]);
        let server = (&keys[key..], &salts[salt..]);
        let ((key, salt), theirs) = match role {
            DtlsRole::Server => (server, client),
            DtlsRole::Client => (client, server),
        };
        Ok(Srtp {
            opener: Opener::new(profile, theirs.0, theirs.1)?,
            sealer: Sealer::new(profile, key, salt)?,
            rtcp: Cipher::new(profile, Purpose::Rtcp, key, salt).ok_or(TransportError::NoSrtpProfile)?,
            rtcp_index: 1,
        })
    }

    /// Seals one compound RTCP packet. An index is never used twice, whatever the SSRC.
    pub(super) fn seal_rtcp(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TransportError> {
        out.clear();
        let ssrc = plain.get(4..8).and_then(|bytes| bytes.first_chunk()).ok_or(TransportError::Malformed)?;
        let index = self.rtcp_index;
        // After 2^31 packets the keys are used up (RFC 3711 §9.2).
        if index >> 31 != 0 {
            return Err(TransportError::NotConnected);
        }
        self.rtcp_index += 1;
        match self.rtcp.seal_rtcp(plain, u32::from_be_bytes(*ssrc), index, out) {
            true => Ok(()),
            false => Err(TransportError::Malformed),
        }
    }
}
