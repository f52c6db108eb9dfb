//! SRTP and SRTCP (RFC 3711, RFC 7714) with the keys that DTLS gives (RFC 5764).
//!
//! What goes out is sealed by [`Sealer`], in place and without allocation, since it is done once a packet and viewer.
//! What comes in is opened by `rtc-srtp`, once a packet, with guards around it (see `open`).

mod kdf;
mod open;
mod seal;

pub use seal::Sealer;

use super::TransportError;
use open::Opener;
use rtc_srtp::context::Context;
use rtc_srtp::crypto::RTCCryptoProvider;
use rtc_srtp::protection_profile::ProtectionProfile;
use std::sync::Arc;

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

    fn protection(self) -> ProtectionProfile {
        match self {
            SrtpProfile::Aes256Gcm => ProtectionProfile::AeadAes256Gcm,
            SrtpProfile::Aes128Gcm => ProtectionProfile::AeadAes128Gcm,
            SrtpProfile::Aes128CmSha1 => ProtectionProfile::Aes128CmHmacSha1_80,
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
    rtcp: Context,
}

impl Srtp {
    /// From what DTLS exported: the client's key, ours, the client's salt, ours (RFC 5764 §4.2).
    pub(super) fn new(
        profile: SrtpProfile,
        material: &[u8],
        crypto: Arc<dyn RTCCryptoProvider>,
    ) -> Result<Srtp, TransportError> {
        let (key, salt) = (profile.key_len(), profile.salt_len());
        if material.len() != 2 * (key + salt) {
            return Err(TransportError::NoSrtpProfile);
        }
        let (keys, salts) = material.split_at(2 * key);
        let (client_key, server_key) = keys.split_at(key);
        let (client_salt, server_salt) = salts.split_at(salt);
        let rtcp = Context::new(server_key, server_salt, profile.protection(), None, None, crypto.crypto())
            .map_err(TransportError::Srtp)?;
        Ok(Srtp {
            opener: Opener::new(profile, client_key, client_salt, crypto),
            sealer: Sealer::new(profile, server_key, server_salt)?,
            rtcp,
        })
    }

    /// Seals one compound RTCP packet; the index counts up for each sender SSRC.
    pub(super) fn seal_rtcp(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TransportError> {
        out.clear();
        let sealed = self.rtcp.encrypt_rtcp(plain).map_err(TransportError::Srtp)?;
        out.extend_from_slice(&sealed);
        Ok(())
    }
}
