//! Opens inbound SRTP and SRTCP by `rtc-srtp`, with replay windows and with guards for what it leaves open.
//!
//! - Each source has a context of its own, which is kept only if its first packet was authentic. `rtc-srtp` would
//!   remember every SSRC that anyone sends, and a forged first packet would set the replay window.
//! - SRTCP whose E bit is clear is refused: `rtc-srtp` does not check its tag with AES-CM. WebRTC always encrypts
//!   (RFC 8834 §5.1, RFC 3711 §3.4).
//! - RTP headers are measured here, since `rtc-rtp` measures some legal header extensions wrongly (RFC 8285 §4.2:
//!   identifier 15 ends the list), and the payload would then seem not authentic.

use super::{SrtpProfile, TransportError};
use bytes::BytesMut;
use rtc_rtp::Header;
use rtc_srtp::context::Context;
use rtc_srtp::crypto::RTCCryptoProvider;
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use std::sync::Arc;

/// RTP packets that may come late.
const RTP_WINDOW: usize = 512;
/// RTCP packets that may come late.
const RTCP_WINDOW: usize = 128;
/// Sources of each kind.
const MAX_SOURCES: usize = 16;
/// Header and SSRC of an RTCP packet.
const RTCP_HEADER: usize = 8;
/// The E bit and the SRTCP index.
const RTCP_INDEX: usize = 4;

type Sources = Vec<(u32, Context)>;

/// Opens what one peer sends.
pub(crate) struct Opener {
    profile: SrtpProfile,
    key: Vec<u8>,
    salt: Vec<u8>,
    crypto: Arc<dyn RTCCryptoProvider>,
    rtp: Sources,
    rtcp: Sources,
}

impl Opener {
    pub(super) fn new(profile: SrtpProfile, key: &[u8], salt: &[u8], crypto: Arc<dyn RTCCryptoProvider>) -> Opener {
        Opener { profile, key: key.to_vec(), salt: salt.to_vec(), crypto, rtp: Vec::new(), rtcp: Vec::new() }
    }

    /// The plain RTP packet.
    pub(crate) fn open_rtp(&mut self, datagram: &[u8]) -> Result<BytesMut, TransportError> {
        let header = measure(datagram).ok_or(TransportError::Malformed)?;
        if let Some((_, context)) = self.rtp.iter_mut().find(|(ssrc, _)| *ssrc == header.ssrc) {
            return context.decrypt_rtp_with_header(datagram, &header).map_err(TransportError::Srtp);
        }
        let mut context = self.context(&self.rtp)?;
        let plain = context.decrypt_rtp_with_header(datagram, &header).map_err(TransportError::Srtp)?;
        self.rtp.push((header.ssrc, context));
        Ok(plain)
    }

    /// The plain compound RTCP packet.
    pub(crate) fn open_rtcp(&mut self, datagram: &[u8]) -> Result<BytesMut, TransportError> {
        // The index is behind the tag with GCM (RFC 7714 §9.2) and before it with CM (RFC 3711 §3.4).
        let (tag, behind) = match self.profile {
            SrtpProfile::Aes256Gcm | SrtpProfile::Aes128Gcm => (16, 0),
            SrtpProfile::Aes128CmSha1 => (10, 10),
        };
        if datagram.len() < RTCP_HEADER + RTCP_INDEX + tag || datagram[0] >> 6 != 2 {
            return Err(TransportError::Malformed);
        }
        let encrypted = datagram[datagram.len() - behind - RTCP_INDEX] & 0x80 != 0;
        if !encrypted {
            return Err(TransportError::Malformed);
        }
        let ssrc = be32(datagram, 4);
        if let Some((_, context)) = self.rtcp.iter_mut().find(|(known, _)| *known == ssrc) {
            return context.decrypt_rtcp(datagram).map_err(TransportError::Srtp);
        }
        let mut context = self.context(&self.rtcp)?;
        let plain = context.decrypt_rtcp(datagram).map_err(TransportError::Srtp)?;
        self.rtcp.push((ssrc, context));
        Ok(plain)
    }

    /// For a source that is not known yet.
    fn context(&self, known: &Sources) -> Result<Context, TransportError> {
        if known.len() >= MAX_SOURCES {
            return Err(TransportError::TooManySources);
        }
        Context::new(
            &self.key,
            &self.salt,
            self.profile.protection(),
            Some(srtp_replay_protection(RTP_WINDOW)),
            Some(srtcp_replay_protection(RTCP_WINDOW)),
            self.crypto.crypto(),
        )
        .map_err(TransportError::Srtp)
    }
}

/// A header of the right length, source and sequence number: all that decryption looks at. `None` when it is cut short.
fn measure(datagram: &[u8]) -> Option<Header> {
    let first = *datagram.first().filter(|byte| *byte >> 6 == 2)?;
    let sources = usize::from(first & 0x0f);
    let fixed = 12 + 4 * sources;
    let extension = first & 0x10 != 0;
    let words = match extension {
        true => usize::from(u16::from_be_bytes(*datagram.get(fixed + 2..)?.first_chunk()?)),
        false => 0,
    };
    let length = fixed + if extension { 4 + 4 * words } else { 0 };
    (datagram.len() >= length).then(|| Header {
        version: 2,
        extension,
        extensions_padding: 4 * words,
        csrc: vec![0; sources],
        sequence_number: u16::from_be_bytes([datagram[2], datagram[3]]),
        ssrc: be32(datagram, 8),
        ..Header::default()
    })
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
