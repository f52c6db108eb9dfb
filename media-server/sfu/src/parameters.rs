//! What negotiation settles and forwarding needs: identifiers, codecs, tracks and the peer's transport.
//!
//! `sdp` makes these values, `shard` uses them, and the control plane carries them from one to the other. They are
//! plain data: nothing here checks or does anything.

use std::net::SocketAddr;

/// One peer connection, for as long as the process lives. Given out by the control plane, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// One room, for as long as the process lives. Given out by the control plane; the name stays there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(pub u64);

/// Audio or video: a room carries at most one track of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Picture.
    Video,
}

/// A codec this server passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// The AV1 RTP payload format of AOMedia.
    Av1,
    /// G.711 with mu-law (RFC 3551 §4.5.14).
    Pcmu,
    /// G.711 with A-law (RFC 3551 §4.5.14).
    Pcma,
}

impl Codec {
    /// Hertz of the RTP timestamp.
    pub fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::Pcmu | Codec::Pcma => 8_000,
            Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::Av1 => 90_000,
        }
    }

    /// The encoding name of `a=rtpmap`, as the IANA registry spells it.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::Vp8 => "VP8",
            Codec::Vp9 => "VP9",
            Codec::H264 => "H264",
            Codec::Av1 => "AV1",
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
        }
    }

    /// Audio or video.
    pub fn kind(self) -> MediaKind {
        match self {
            Codec::Opus | Codec::Pcmu | Codec::Pcma => MediaKind::Audio,
            Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::Av1 => MediaKind::Video,
        }
    }
}

/// One payload type that both sides agreed on, and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadType {
    /// 0 to 127.
    pub number: u8,
    /// What it carries.
    pub codec: Codec,
    /// The value of `a=fmtp` as the peer offered it, without the payload type; empty when there was none.
    pub fmtp: String,
    /// The payload type of its retransmissions (RFC 4588), when agreed.
    pub rtx: Option<u8>,
    /// Generic NACK (`a=rtcp-fb … nack`) was agreed.
    pub nack: bool,
    /// Picture loss indication (`nack pli`) was agreed.
    pub pli: bool,
    /// Full intra request (`ccm fir`) was agreed.
    pub fir: bool,
    /// Receiver-estimated maximum bitrate (`goog-remb`) was agreed.
    pub remb: bool,
    /// Transport-wide congestion feedback (`transport-cc`) was agreed.
    pub transport_cc: bool,
}

/// Identifiers (1 to 14) of the RTP header extensions (RFC 8285) that were agreed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderExtensions {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    pub mid: Option<u8>,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`
    pub transport_cc: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`, where one layer of a simulcast offer is received
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`, likewise
    pub repaired_rid: Option<u8>,
}

/// A track that a publisher sends to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingTrack {
    /// Value of `a=mid`; empty when the offer has none.
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// In the order of the answer; never empty. The publisher may switch between them.
    pub payload_types: Vec<PayloadType>,
    /// Extensions as agreed for this m-section.
    pub extensions: HeaderExtensions,
    /// The media SSRC, when the offer names it (`a=ssrc`); otherwise it is learned from MID or the payload type.
    pub ssrc: Option<u32>,
    /// The SSRC of its retransmissions (`a=ssrc-group:FID`), when the offer names it.
    pub rtx_ssrc: Option<u32>,
    /// The one layer of a simulcast offer that is received: packets that name another one are not admitted.
    pub rid: Option<String>,
}

impl IncomingTrack {
    /// Returns the codec of a payload type.
    pub fn codec(&self, number: u8) -> Option<Codec> {
        self.payload_types.iter().find(|p| p.number == number).map(|p| p.codec)
    }
}

/// A track that we send to a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingTrack {
    /// Value of `a=mid`.
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// Every payload type the subscriber can take; the first is the one for what the publisher sends now. Never empty.
    pub payload_types: Vec<PayloadType>,
    /// The media SSRC that we told the subscriber.
    pub ssrc: u32,
    /// The SSRC of retransmissions that we told the subscriber; `None` means plain retransmission.
    pub rtx_ssrc: Option<u32>,
}

/// ICE credentials (RFC 8445 §5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// Username fragment.
    pub ufrag: String,
    /// Password.
    pub pwd: String,
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).field("pwd", &"…").finish()
    }
}

/// Hash of a certificate in DER, as `a=fingerprint` carries it (RFC 8122 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fingerprint {
    /// `sha-256`, which this server sends for its certificate.
    Sha256([u8; 32]),
    /// `sha-384`
    Sha384([u8; 48]),
    /// `sha-512`
    Sha512([u8; 64]),
}

impl Fingerprint {
    /// Returns the name of the hash function as SDP spells it.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Fingerprint::Sha256(_) => "sha-256",
            Fingerprint::Sha384(_) => "sha-384",
            Fingerprint::Sha512(_) => "sha-512",
        }
    }

    /// Returns the digest.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Fingerprint::Sha256(digest) => digest,
            Fingerprint::Sha384(digest) => digest,
            Fingerprint::Sha512(digest) => digest,
        }
    }
}

impl std::fmt::Display for Fingerprint {
    /// Writes the value of `a=fingerprint`: `sha-256 AB:CD:…`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.algorithm())?;
        for (index, byte) in self.bytes().iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

/// Our end's DTLS role (RFC 8842): the client sends the first flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DtlsRole {
    /// The peer offered `a=setup:actpass` or `active`; the answer is `passive`.
    #[default]
    Server,
    /// The peer offered `a=setup:passive`; the answer is `active`.
    Client,
}

/// What both ends of one peer connection know of each other after the offer was answered.
#[derive(Clone, Debug)]
pub struct TransportParameters {
    /// What we answered. The first character of `ufrag` names the shard (see `net`).
    pub local: IceCredentials,
    /// What the peer offered.
    pub remote: IceCredentials,
    /// The certificate that the peer must show.
    pub fingerprint: Fingerprint,
    /// Which end opens the handshake.
    pub dtls_role: DtlsRole,
}

/// What we put into an answer.
#[derive(Clone, Debug)]
pub struct LocalDescription {
    /// Our credentials for this session.
    pub ice: IceCredentials,
    /// Our certificate's fingerprint.
    pub fingerprint: Fingerprint,
    /// The addresses to announce, best first. Never empty.
    pub candidates: Vec<SocketAddr>,
    /// `o=` session id, random, below 2^63.
    pub origin: u64,
}

/// Tracks of a room as its publisher negotiated them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublisherTracks {
    /// At most one.
    pub audio: Option<IncomingTrack>,
    /// At most one.
    pub video: Option<IncomingTrack>,
}

/// Tracks of one subscriber.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriberTracks {
    /// At most one.
    pub audio: Option<OutgoingTrack>,
    /// At most one.
    pub video: Option<OutgoingTrack>,
}
