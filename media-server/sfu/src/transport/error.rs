//! Everything that can go wrong between a datagram and its plain content.

/// Why a transport ended, or why it refused a packet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No connectivity check passed in time, or the handshake was not finished in time.
    #[error("the peer did not connect in time")]
    Timeout,
    /// Neither a check nor an authenticated packet came for 15 seconds (RFC 7675 §5.1).
    #[error("the peer has not been heard for 15 seconds")]
    ConsentExpired,
    /// The peer sent `close_notify`.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// DTLS failed before there were keys.
    #[error("the DTLS handshake failed: {0}")]
    Handshake(#[source] dimpl::Error),
    /// The peer was asked for its certificate and had none of a kind that was asked for: only ECDSA is, and GStreamer before
    /// 1.28 makes RSA.
    #[error("the peer has no ECDSA certificate; GStreamer has one from 1.28 on")]
    NoCertificate,
    /// The peer sent more handshake bytes than any honest handshake needs.
    #[error("the DTLS handshake is longer than 64 KiB")]
    HandshakeTooLong,
    /// The certificate is not the one that the offer announced.
    #[error("the peer's certificate does not match its fingerprint")]
    FingerprintMismatch,
    /// The peer speaks no SRTP profile that we speak (RFC 5764 §4.1.2).
    #[error("the peer offers no SRTP profile that is supported")]
    NoSrtpProfile,
    /// There are no keys yet, or no longer.
    #[error("the transport is not connected")]
    NotConnected,
    /// Too short, or no RTP or RTCP, or not encrypted.
    #[error("the packet is malformed")]
    Malformed,
    /// Not authentic, or a replay.
    #[error("SRTP refuses the packet: {0}")]
    Srtp(#[source] rtc_shared::error::Error),
    /// One transport carries no more than 16 sources each of RTP and RTCP.
    #[error("too many sources on one transport")]
    TooManySources,
    /// The process could not make its certificate or its cryptography.
    #[error("cannot make a DTLS identity: {0}")]
    Identity(String),
}

impl From<dimpl::Error> for TransportError {
    fn from(error: dimpl::Error) -> TransportError {
        match error {
            dimpl::Error::CertificateError(dimpl::CertificateError::NoClientCertificateReceived) => {
                TransportError::NoCertificate
            }
            other => TransportError::Handshake(other),
        }
    }
}
