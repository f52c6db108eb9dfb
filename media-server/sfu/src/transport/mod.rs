//! One peer's transport: ICE-lite responder, DTLS server, SRTP both ways.
//!
//! Stub: being written. The signatures below are the contract.

use crate::parameters::{Fingerprint, IceCredentials, TransportParameters};
use bytes::BytesMut;
use std::net::SocketAddr;
use std::time::Instant;

/// The server's certificate and key, made at start; shared by all transports.
#[derive(Clone)]
pub struct Identity;

impl Identity {
    /// Makes a self-signed certificate.
    pub fn generate() -> Result<Identity, TransportError> {
        Err(TransportError)
    }

    /// For `a=fingerprint`.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint([0; 32])
    }
}

/// Why a transport ended.
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct TransportError;

/// What a transport has to tell.
#[derive(Debug)]
pub enum TransportOutput {
    /// A STUN or DTLS datagram to send to an address that passed the integrity check.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// The handshake is done, the fingerprint was right, keys are in place.
    Connected,
    /// The peer's nominated address is now this one (newest nomination wins).
    Nominated(SocketAddr),
    /// The transport is over and must be dropped.
    Closed(TransportError),
}

/// A STUN binding request, parsed but not authenticated.
#[derive(Debug)]
pub struct StunRequest;

impl StunRequest {
    /// `None` when this is no well-formed binding request with a USERNAME.
    pub fn parse(_datagram: &[u8]) -> Option<StunRequest> {
        None
    }

    /// The part of USERNAME before the colon: our ufrag.
    pub fn local_ufrag(&self) -> &str {
        ""
    }
}

/// One peer's transport.
pub struct Transport;

impl Transport {
    /// A transport that waits for the peer's first check.
    pub fn new(_now: Instant, _identity: &Identity, _parameters: TransportParameters) -> Transport {
        Transport
    }

    /// Checks integrity and answers. `true` when `from` passed and may be bound to this session.
    pub fn handle_stun(&mut self, _now: Instant, _from: SocketAddr, _request: &StunRequest) -> bool {
        false
    }

    /// A datagram whose first byte is 20 to 63, from an address that passed.
    pub fn handle_dtls(&mut self, _now: Instant, _from: SocketAddr, _datagram: &[u8]) {}

    /// DTLS retransmission and consent expiry.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// When to call `handle_timeout` next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Polled until `None` after every `handle_*`.
    pub fn poll_output(&mut self) -> Option<TransportOutput> {
        None
    }

    /// New credentials on both sides; the old ones stay valid until the new ones are first used.
    pub fn restart_ice(&mut self, _local: IceCredentials, _remote: IceCredentials) {}

    /// Opens an SRTP packet: replay-checked, authenticated, decrypted.
    pub fn open_rtp(&mut self, _datagram: &[u8]) -> Result<BytesMut, TransportError> {
        Err(TransportError)
    }

    /// Opens an SRTCP packet.
    pub fn open_rtcp(&mut self, _datagram: &[u8]) -> Result<BytesMut, TransportError> {
        Err(TransportError)
    }

    /// The keys to seal outbound SRTP with; `None` before `Connected`.
    pub fn sealer(&self) -> Option<&Sealer> {
        None
    }

    /// Seals one compound RTCP packet (SRTCP index kept inside); `out` is cleared first.
    pub fn seal_rtcp(&mut self, _plain: &[u8], _out: &mut Vec<u8>) -> Result<(), TransportError> {
        Err(TransportError)
    }

    /// The address media goes to: the newest nominated one, or the first that passed until one is nominated.
    pub fn peer(&self) -> Option<SocketAddr> {
        None
    }
}

/// Seals outbound SRTP in place; no allocation.
pub struct Sealer;

impl Sealer {
    /// Bytes that sealing adds: 16 for AES-GCM, 10 for AES-CM with HMAC-SHA1-80.
    pub fn overhead(&self) -> usize {
        16
    }

    /// `packet[..len]` is a plain RTP packet with `header_len` header bytes (extensions included) and room for the
    /// overhead behind it; `index` is the 48-bit packet index (rollover counter and sequence number). Gives the sealed length.
    pub fn seal(&self, _packet: &mut [u8], _len: usize, _header_len: usize, _ssrc: u32, _index: u64) -> usize {
        0
    }
}
