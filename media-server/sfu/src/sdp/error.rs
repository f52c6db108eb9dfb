//! Why an offer or a fragment was not accepted, in words for the one who sent it.
//!
//! Each message names the thing and the remedy. What is quoted from the peer is cut to [`QUOTE_CHARS`] characters.

use crate::parameters::MediaKind;

/// A longer quotation of the peer's text is cut here.
pub(super) const QUOTE_CHARS: usize = 80;

/// Why an offer or a fragment was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The body is too long to be looked at.
    #[error("the body has {bytes} bytes; an SDP body may have at most {limit}")]
    TooLarge {
        /// Bytes of the body.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A line is not SDP (RFC 8866).
    #[error("line {line} ({text}) is not valid SDP: {reason}; send the description unchanged, as the client made it")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
        /// What the parser says of it.
        reason: String,
    },
    /// An attribute has a value that its RFC does not allow.
    #[error("{attribute} has an invalid value ({value}): {expected}")]
    InvalidAttribute {
        /// Such as `a=ice-ufrag`.
        attribute: &'static str,
        /// As the peer wrote it; `…` where it is secret.
        value: String,
        /// What would be valid.
        expected: &'static str,
    },
    /// An attribute that this server cannot do without is not there.
    #[error("{section} has no {attribute}; {remedy}")]
    MissingAttribute {
        /// Such as `m=audio`.
        section: String,
        /// Such as `a=ice-ufrag`.
        attribute: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// No m-section at all.
    #[error("the offer has no m= section; add an audio or a video track, then make the offer")]
    NoMedia,
    /// More sections than an answer repeats.
    #[error("the offer has {count} m= sections; offer at most {limit}, of which one audio and one video are carried")]
    TooManySections {
        /// Sections of the offer.
        count: usize,
        /// Sections allowed.
        limit: usize,
    },
    /// Nothing but sections that are neither audio nor video: most often a data channel.
    #[error("the offer has m={media} alone, which this server does not carry; add an audio or a video track")]
    UnsupportedMedia {
        /// As in `m=`.
        media: String,
    },
    /// Port 0 without `a=bundle-only`, and no other media.
    #[error("{section} is disabled by port 0, and the offer has no other media; offer it with port 9")]
    DisabledSection {
        /// Such as `m=audio`.
        section: String,
    },
    /// Not RTP over DTLS-SRTP.
    #[error("{section} wants {protocol}; offer UDP/TLS/RTP/SAVPF")]
    UnsupportedProtocol {
        /// Such as `m=audio`.
        section: String,
        /// As in `m=`.
        protocol: String,
    },
    /// A section stands outside of the BUNDLE group (RFC 9143).
    #[error("{section} is not in a=group:BUNDLE; make the offer with bundlePolicy max-bundle")]
    NotBundled {
        /// Such as `m=audio`.
        section: String,
    },
    /// RTCP on a port of its own.
    #[error("{section} has no a=rtcp-mux; make the offer with rtcpMuxPolicy require")]
    NoRtcpMux {
        /// Such as `m=audio`.
        section: String,
    },
    /// Both ends would wait for the other's checks.
    #[error("the offer has a=ice-lite, and so has this server; the client must run full ICE (RFC 9725 §4.4.5)")]
    IceLite,
    /// Only hashes that this server does not accept (RFC 8122 §5 wants one that resists collisions).
    #[error("a=fingerprint is offered as {offered}; offer one with sha-256, sha-384 or sha-512")]
    WeakFingerprint {
        /// The hashes offered.
        offered: String,
    },
    /// No DTLS role follows from it.
    #[error("a=setup:{setup} cannot be answered; offer actpass, active or passive")]
    UnsupportedSetup {
        /// As offered.
        setup: String,
    },
    /// The media would flow the wrong way, or not at all.
    #[error("{section} is a={offered}; offer a={wanted}")]
    WrongDirection {
        /// Such as `m=audio`.
        section: String,
        /// As offered.
        offered: &'static str,
        /// What would do.
        wanted: &'static str,
    },
    /// One payload type for two things.
    #[error("payload type {number} stands for two codecs; in a bundle each needs a number of its own (RFC 9143 §9.1)")]
    PayloadTypeClash {
        /// The payload type.
        number: u8,
    },
    /// A section without any codec that both sides know.
    #[error("{section} offers {offered}, and none of them can be used; offer {wanted}")]
    NoCommonCodec {
        /// Such as `m=video`.
        section: String,
        /// Encoding names as offered.
        offered: String,
        /// Encoding names that would do.
        wanted: String,
    },
    /// Audio alone is asked for and only video is there, or the other way round.
    #[error("the offer asks for {offered} alone, and the stream has {present}; ask for what the stream has")]
    NoCommonKind {
        /// What the offer has.
        offered: String,
        /// What the room has.
        present: String,
    },
}

impl SdpError {
    /// Returns whether media of the offer is lost, which a section that is no media for this server does not mean.
    pub(super) fn is_about_media(&self) -> bool {
        matches!(
            self,
            SdpError::NoCommonCodec { .. } | SdpError::UnsupportedProtocol { .. } | SdpError::NoRtcpMux { .. }
        )
    }

    /// `true` when the SDP was understood but cannot be served (HTTP 422), `false` when it is malformed (HTTP 400).
    pub fn is_unprocessable(&self) -> bool {
        !matches!(
            self,
            SdpError::TooLarge { .. }
                | SdpError::Syntax { .. }
                | SdpError::InvalidAttribute { .. }
                | SdpError::MissingAttribute { .. }
        )
    }
}

/// As in `m=`.
pub(super) fn kind_name(kind: &MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    }
}

/// The peer's text, short enough for a message.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
