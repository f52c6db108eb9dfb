//! Everything that can go wrong between a datagram and its plain content.
//!
//! Each variant has a reason for metrics and APIs, which never changes, and a sentence with the remedy where a user has
//! one.

use dimpl::{CertificateError, CryptoError, Error, SecurityError};

/// Why a transport ended, or why it refused a packet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No connectivity check passed in time.
    #[error("no connectivity check of the peer arrived in time; open the media port, or use a relay")]
    Timeout,
    /// Checks passed, and the DTLS handshake was not finished in time.
    #[error("the DTLS handshake was not finished in time")]
    HandshakeTimeout,
    /// Neither a check nor an authenticated packet arrived for 30 seconds (RFC 7675 §5.1).
    #[error("the peer has not been heard for 30 seconds")]
    ConsentExpired,
    /// The peer sent `close_notify`.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// DTLS failed before there were keys, for any other reason.
    #[error("the DTLS handshake failed: {0}")]
    Handshake(#[source] Error),
    /// The peer ended the handshake by a fatal alert (RFC 5246 §7.2).
    #[error("the peer refused the DTLS handshake by alert {} ({})", .0, alert_name(*.0))]
    PeerAlert(u8),
    /// The peer showed no certificate.
    #[error("the peer shows no certificate; WebRTC requires one")]
    NoCertificate,
    /// The peer's certificate has a kind of key that is not supported.
    #[error("the peer's certificate has {0}; use ECDSA P-224 to P-521, RSA of 2048 to 8192 bits, or Ed25519")]
    UnsupportedCertificate(String),
    /// The peer's signature does not fit its certificate.
    #[error("the peer's signature does not match its certificate")]
    BadSignature,
    /// No cipher suite in common.
    #[error(
        "no DTLS cipher suite in common; enable ECDHE-ECDSA with AES-GCM or ChaCha20-Poly1305 at the peer, and an ECDSA certificate if it is the DTLS server"
    )]
    NoCipherSuite,
    /// No key exchange group in common.
    #[error("no DTLS key exchange group in common; enable X25519, P-256 or P-384 at the peer")]
    NoKeyExchangeGroup,
    /// The peer lacks the extended master secret of RFC 7627.
    #[error("the peer does not offer the extended master secret (RFC 7627); update its TLS library")]
    NoExtendedMasterSecret,
    /// The peer does not speak DTLS 1.2.
    #[error("the peer does not speak DTLS 1.2; update its TLS library")]
    UnsupportedVersion,
    /// The peer sent more handshake bytes than any honest handshake needs.
    #[error("the DTLS handshake is longer than 64 KiB")]
    HandshakeTooLong,
    /// The certificate is not the one that the offer announced.
    #[error("the peer's certificate does not match its fingerprint")]
    FingerprintMismatch,
    /// The peer speaks no SRTP profile that we speak (RFC 5764 §4.1.2).
    #[error(
        "the peer offers no supported SRTP profile; enable AEAD_AES_256_GCM, AEAD_AES_128_GCM or AES128_CM_HMAC_SHA1_80"
    )]
    NoSrtpProfile,
    /// There are no keys yet, or no longer.
    #[error("the transport is not connected")]
    NotConnected,
    /// Too short, or no RTP or RTCP, or not encrypted.
    #[error("the packet is malformed")]
    Malformed,
    /// The SRTP tag is wrong.
    #[error("the packet is not authentic")]
    NotAuthentic,
    /// The packet was there before, or is too old for the replay window.
    #[error("the packet is a replay, or older than the replay window")]
    Replayed,
    /// The process could not make its certificate or its cryptography.
    #[error("cannot make a DTLS identity: {0}")]
    Identity(String),
}

impl TransportError {
    /// Returns the stable name of the variant.
    pub fn reason(&self) -> &'static str {
        match self {
            TransportError::Timeout => "no-connectivity-check",
            TransportError::HandshakeTimeout => "handshake-timeout",
            TransportError::ConsentExpired => "consent-expired",
            TransportError::PeerClosed => "peer-closed",
            TransportError::Handshake(_) => "handshake-failed",
            TransportError::PeerAlert(_) => "handshake-refused-by-peer",
            TransportError::NoCertificate => "no-certificate",
            TransportError::UnsupportedCertificate(_) => "unsupported-certificate",
            TransportError::BadSignature => "bad-signature",
            TransportError::NoCipherSuite => "no-cipher-suite",
            TransportError::NoKeyExchangeGroup => "no-key-exchange-group",
            TransportError::NoExtendedMasterSecret => "no-extended-master-secret",
            TransportError::UnsupportedVersion => "unsupported-dtls-version",
            TransportError::HandshakeTooLong => "handshake-too-long",
            TransportError::FingerprintMismatch => "fingerprint-mismatch",
            TransportError::NoSrtpProfile => "no-srtp-profile",
            TransportError::NotConnected => "not-connected",
            TransportError::Malformed => "malformed-packet",
            TransportError::NotAuthentic => "not-authentic",
            TransportError::Replayed => "replayed",
            TransportError::Identity(_) => "no-identity",
        }
    }
}

impl From<Error> for TransportError {
    fn from(error: Error) -> TransportError {
        match error {
            Error::CertificateError(
                CertificateError::NoClientCertificateReceived | CertificateError::NoServerCertificateReceived,
            ) => TransportError::NoCertificate,
            Error::CryptoError(CryptoError::OperationFailed(dimpl::CryptoOperation::VerifySignature)) => {
                TransportError::BadSignature
            }
            Error::CryptoError(CryptoError::UnsupportedEcdheNamedGroup(_)) => TransportError::NoKeyExchangeGroup,
            Error::SecurityError(error) => security(error),
            other => TransportError::Handshake(other),
        }
    }
}

fn security(error: SecurityError) -> TransportError {
    match error {
        SecurityError::FatalAlert { description } => TransportError::PeerAlert(description),
        SecurityError::NoMutuallyAcceptableCipherSuite
        | SecurityError::ServerSelectedUnknownCipherSuite
        | SecurityError::ServerSelectedIncompatibleCipherSuite(_)
        | SecurityError::ServerSelectedDisallowedCipherSuite(_) => TransportError::NoCipherSuite,
        SecurityError::NoCommonKeyExchangeGroup => TransportError::NoKeyExchangeGroup,
        SecurityError::ExtendedMasterSecretNotNegotiated => TransportError::NoExtendedMasterSecret,
        SecurityError::UnsupportedClientVersion(_) | SecurityError::UnsupportedServerVersion(_) => {
            TransportError::UnsupportedVersion
        }
        other => TransportError::Handshake(Error::SecurityError(other)),
    }
}

/// Name of an alert that a handshake may end with (RFC 5246 §7.2, RFC 8446 §6).
fn alert_name(description: u8) -> &'static str {
    match description {
        10 => "unexpected_message",
        20 => "bad_record_mac",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        109 => "missing_extension",
        _ => "see the IANA registry of TLS alerts",
    }
}
