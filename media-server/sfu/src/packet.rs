//! The RTP header as forwarding reads it (RFC 3550 §5.1, RFC 8285), without copies.
//!
//! webrtc-rs's parser allocates for each extension; the media path may not, so the few fields are read in place.

use std::ops::Range;

/// Bytes of an RTP header before the CSRCs.
const FIXED_HEADER: usize = 12;
/// Bytes of an extension before its elements: profile and length.
const EXTENSION_HEADER: usize = 4;

/// What kind of datagram this is, by its first byte (RFC 7983) and, for RTP and RTCP, the second (RFC 5761 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Connectivity check.
    Stun,
    /// Handshake or alert.
    Dtls,
    /// Media.
    Rtp,
    /// Control.
    Rtcp,
}

/// Tells datagrams apart; `None` for what belongs to nothing here.
pub fn classify(datagram: &[u8]) -> Option<Kind> {
    match (*datagram.first()?, datagram.get(1)) {
        (0..=3, _) => Some(Kind::Stun),
        (20..=63, _) => Some(Kind::Dtls),
        (128..=191, Some(192..=223)) => Some(Kind::Rtcp),
        (128..=191, Some(_)) => Some(Kind::Rtp),
        _ => None,
    }
}

/// An RTP packet's fields and where its payload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 0 to 127.
    pub payload_type: u8,
    /// Marker bit.
    pub marker: bool,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Payload without extensions and padding.
    pub payload: Range<usize>,
    extensions: Range<usize>,
    one_byte: bool,
}

/// The SSRC of a packet that is at least a fixed header long.
pub fn ssrc(datagram: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(datagram.get(8..12)?.try_into().ok()?))
}

/// Returns the length of an RTP header with its CSRCs and extension (RFC 3550 §5.1, §5.3.1); `None` when the packet is cut
/// short or of another version.
pub(crate) fn header_len(packet: &[u8]) -> Option<usize> {
    let first = *packet.first().filter(|byte| *byte >> 6 == 2)?;
    let at = csrc_end(first);
    let length = match has_extension(first) {
        false => at,
        true => at + EXTENSION_HEADER + 4 * usize::from(u16::from_be_bytes(*packet.get(at + 2..)?.first_chunk()?)),
    };
    (packet.len() >= length).then_some(length)
}

fn csrc_end(first: u8) -> usize {
    FIXED_HEADER + 4 * usize::from(first & 0x0f)
}

fn has_extension(first: u8) -> bool {
    first & 0x10 != 0
}

impl Header {
    /// Reads a decrypted packet; `None` when it is malformed.
    pub fn parse(packet: &[u8]) -> Option<Header> {
        let start = header_len(packet)?;
        let fixed: &[u8; FIXED_HEADER] = packet.first_chunk()?;
        let (mut extensions, mut one_byte) = (0..0, false);
        if has_extension(fixed[0]) {
            let at = csrc_end(fixed[0]);
            let profile: &[u8; 2] = packet.get(at..)?.first_chunk()?;
            one_byte = *profile == [0xbe, 0xde];
            let known = one_byte || (profile[0] == 0x10 && profile[1] & 0xf0 == 0);
            extensions = if known { at + EXTENSION_HEADER..start } else { 0..0 };
        }
        let mut end = packet.len();
        if fixed[0] & 0x20 != 0 {
            let padding = usize::from(*packet.last()?);
            end = end.checked_sub(padding.max(1))?;
        }
        if start > end {
            return None;
        }
        Some(Header {
            payload_type: fixed[1] & 0x7f,
            marker: fixed[1] & 0x80 != 0,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            payload: start..end,
            extensions,
            one_byte,
        })
    }

    /// The value of header extension `id`.
    pub fn extension<'a>(&self, packet: &'a [u8], id: u8) -> Option<&'a [u8]> {
        let mut rest = packet.get(self.extensions.clone())?;
        while let [first, others @ ..] = rest {
            if *first == 0 {
                rest = others;
                continue;
            }
            let (found, len, body) = if self.one_byte {
                (first >> 4, usize::from(first & 0x0f) + 1, others)
            } else {
                let (len, body) = others.split_first()?;
                (*first, usize::from(*len), body)
            };
            if self.one_byte && found == 15 {
                return None;
            }
            let value = body.get(..len)?;
            if found == id {
                return Some(value);
            }
            rest = &body[len..];
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtc_shared::marshal::Unmarshal;

    #[test]
    fn header_length_includes_csrcs_and_extension() {
        let mut packet = vec![0x92, 96];
        packet.resize(12 + 2 * 4, 0);
        packet.extend([0xbe, 0xde, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(header_len(&packet), Some(32));
        assert_eq!(header_len(&packet[..31]), None, "cut short");
        packet[0] = 0x82;
        assert_eq!(header_len(&packet), Some(20), "no extension");
        packet[0] = 0x42;
        assert_eq!(header_len(&packet), None, "another version");
    }

    #[test]
    fn reads_extensions_and_padding() {
        let packet = [
            0xb0, 0xe0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 7, 0xbe, 0xde, 0, 2, 0x10, b'v', 0x31, 0x12, 0x34, 0, 0, 0, 1, 2, 0,
            2,
        ];
        let header = Header::parse(&packet).unwrap();
        assert_eq!((header.payload_type, header.marker, header.sequence, header.ssrc), (96, true, 5, 7));
        assert_eq!(&packet[header.payload.clone()], [1, 2]);
        assert_eq!(header.extension(&packet, 1), Some(&b"v"[..]));
        assert_eq!(header.extension(&packet, 3), Some(&[0x12, 0x34][..]));
        assert_eq!(header.extension(&packet, 4), None);
    }

    proptest! {
        #[test]
        fn agrees_with_an_independent_parser(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), flags in 0u8..64) {
            if let Some(first) = bytes.first_mut() { *first = 0x80 | flags & 0x33; }
            if bytes.len() > 16 { bytes[14] = 0; bytes[15] &= 7; bytes[12] = 0xbe; bytes[13] = 0xde; }
            let ours = Header::parse(&bytes);
            let theirs = rtc_rtp::header::Header::unmarshal(&mut &bytes[..]);
            if let (Some(ours), Ok(theirs)) = (&ours, &theirs) {
                prop_assert_eq!(ours.sequence, theirs.sequence_number);
                prop_assert_eq!(ours.ssrc, theirs.ssrc);
                prop_assert_eq!(ours.marker, theirs.marker);
                for id in 1..15 {
                    let theirs = theirs.get_extension(id);
                    if let (Some(a), Some(b)) = (ours.extension(&bytes, id), theirs) { prop_assert_eq!(a, &b[..]); }
                }
            }
        }
    }
}
