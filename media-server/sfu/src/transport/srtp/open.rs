//! Opens inbound SRTP and SRTCP (RFC 3711 §3.3, §3.4; RFC 7714): replay check, authentication, decryption.
//!
//! - State of a source is created and changed by authentic packets only; [`sources`] has its bounds.
//! - The RTP window of 8,192 packets holds more than a second of 50 Mbit/s, in 1 KiB a source.
//! - SRTCP with a clear E bit is refused: WebRTC always encrypts (RFC 8834 §5.1).
//!
//! [`sources`]: super::sources

use super::cipher::{Cipher, Purpose};
use super::sources::Sources;
use super::{SrtpProfile, TransportError};
use crate::packet;
use bytes::BytesMut;

/// Words of 64 RTP packets that may arrive late.
const RTP_WINDOW: usize = 128;
/// Words of 64 RTCP packets that may arrive late.
const RTCP_WINDOW: usize = 2;
/// Header and SSRC of an RTCP packet.
const RTCP_HEADER: usize = 8;
/// The E bit and the SRTCP index.
const RTCP_INDEX: usize = 4;

/// Opens the packets of one peer.
pub(crate) struct Opener {
    profile: SrtpProfile,
    rtp: Cipher,
    rtcp: Cipher,
    media: Sources<RTP_WINDOW>,
    reports: Sources<RTCP_WINDOW>,
}

impl Opener {
    pub(super) fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Result<Opener, TransportError> {
        let cipher = |purpose| Cipher::new(profile, purpose, key, salt).ok_or(TransportError::NoSrtpProfile);
        Ok(Opener {
            profile,
            rtp: cipher(Purpose::Rtp)?,
            rtcp: cipher(Purpose::Rtcp)?,
            media: Sources::default(),
            reports: Sources::default(),
        })
    }

    /// Returns the plain RTP packet.
    pub(crate) fn open_rtp(&mut self, datagram: &[u8]) -> Result<BytesMut, TransportError> {
        let header_len = packet::header_len(datagram).ok_or(TransportError::Malformed)?;
        let (sequence, ssrc) = (u16::from_be_bytes([datagram[2], datagram[3]]), be32(datagram, 8));
        let index = packet_index(self.media.highest(ssrc), sequence).ok_or(TransportError::NotAuthentic)?;
        if !self.media.is_fresh(ssrc, index) {
            return Err(TransportError::Replayed);
        }
        let mut packet = BytesMut::from(datagram);
        let length = self.rtp.open_rtp(&mut packet, header_len, ssrc, index).ok_or(TransportError::NotAuthentic)?;
        packet.truncate(length);
        self.media.record(ssrc, index);
        Ok(packet)
    }

    /// Returns the plain compound RTCP packet.
    pub(crate) fn open_rtcp(&mut self, datagram: &[u8]) -> Result<BytesMut, TransportError> {
        // The trailer is behind the tag with GCM (RFC 7714 §9.2) and before it with CM (RFC 3711 §3.4).
        let (tag, behind) = match self.profile {
            SrtpProfile::Aes256Gcm | SrtpProfile::Aes128Gcm => (16, 0),
            SrtpProfile::Aes128CmSha1 => (10, 10),
        };
        if datagram.len() < RTCP_HEADER + RTCP_INDEX + tag || datagram[0] >> 6 != 2 {
            return Err(TransportError::Malformed);
        }
        let trailer = be32(datagram, datagram.len() - behind - RTCP_INDEX);
        if trailer & 0x8000_0000 == 0 {
            return Err(TransportError::Malformed);
        }
        let (ssrc, index) = (be32(datagram, 4), u64::from(trailer & 0x7fff_ffff));
        if !self.reports.is_fresh(ssrc, index) {
            return Err(TransportError::Replayed);
        }
        let mut packet = BytesMut::from(datagram);
        let opened = self.rtcp.open_rtcp(&mut packet, trailer.to_be_bytes(), ssrc);
        packet.truncate(opened.ok_or(TransportError::NotAuthentic)?);
        self.reports.record(ssrc, index);
        Ok(packet)
    }
}

/// The index that a sequence number most likely means (RFC 3711 §3.3.1, appendix A): the nearest one to the highest so
/// far. A source starts with rollover counter 0, and nothing is before that. `None` behind the last index of all.
fn packet_index(highest: Option<u64>, sequence: u16) -> Option<u64> {
    let Some(highest) = highest else { return Some(u64::from(sequence)) };
    let (rollover, last) = (highest >> 16, highest as u16);
    let rollover = match sequence.wrapping_sub(last) {
        // Ahead, or behind, by less than half the range.
        ahead @ ..0x8000 => rollover + u64::from(u32::from(last) + u32::from(ahead) > 0xffff),
        _ if sequence > last => rollover.saturating_sub(1),
        _ => rollover,
    };
    (rollover <= u64::from(u32::MAX)).then_some(rollover << 16 | u64::from(sequence))
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_index_is_the_nearest_one() {
        let at = |rollover: u64, sequence: u64| rollover << 16 | sequence;
        for (highest, sequence, index) in [
            (None, 0, at(0, 0)),
            (None, 65_535, at(0, 65_535)),
            (Some(at(0, 10)), 11, at(0, 11)),
            (Some(at(0, 65_535)), 0, at(1, 0)),
            (Some(at(0, 65_000)), 200, at(1, 200)),
            (Some(at(1, 200)), 65_000, at(0, 65_000)),
            (Some(at(5, 200)), 65_000, at(4, 65_000)),
            (Some(at(5, 40_000)), 7_200, at(6, 7_200)),
            (Some(at(5, 40_000)), 7_233, at(5, 7_233)),
            (Some(at(5, 40_000)), 39_999, at(5, 39_999)),
            // Nothing is before rollover counter 0.
            (Some(at(0, 5)), 65_000, at(0, 65_000)),
        ] {
            assert_eq!(packet_index(highest, sequence), Some(index), "{highest:?} {sequence}");
        }
        assert_eq!(packet_index(Some(at(u64::from(u32::MAX), 65_535)), 0), None);
    }
}
