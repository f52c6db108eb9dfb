//! The DTLS server of one peer (RFC 6347, RFC 5764), by dimpl.
//!
//! It is always the passive side, always DTLS 1.2 (dimpl takes the client's first SRTP profile in 1.3, which is
//! CM-SHA1 with browsers; in 1.2 it prefers AES-256-GCM, AES-128-GCM, CM-SHA1 in this order, which cannot be changed),
//! and always asks for the certificate whose fingerprint was offered. It keeps no cookie: whoever gets here has passed
//! an integrity check from this address. After the keys are out it only waits for `close_notify`; an error then ends
//! DTLS and not the media.
//!
//! Two traps of dimpl are closed here: `handle_packet` panics before the first `handle_timeout`, and `poll_output`
//! panics when the peer's certificate is larger than the buffer.

use super::{Identity, TransportError};
use crate::parameters::Fingerprint;
use dimpl::{Config, Dtls, KeyingMaterial, Output};
use ring::digest::{SHA256, digest};
use std::sync::Arc;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// The largest datagram that we send.
const MTU: usize = 1200;
/// First retransmission; doubles each time.
const FIRST_RETRANSMISSION: Duration = Duration::from_millis(200);
/// With the first retransmission above: longer than the transport's own deadline.
const RETRANSMISSIONS: usize = 7;
/// What a peer may send before the handshake is over, in bytes. Browsers need about 3,000.
const MAX_HANDSHAKE: usize = 64 * 1024;
/// Smallest buffer that outputs are polled into.
const OUTPUT: usize = 2048;

/// What all transports of a process share.
pub(super) fn config() -> Result<Arc<Config>, TransportError> {
    Config::builder()
        .mtu(MTU)
        .use_server_cookie(false)
        .require_client_certificate(true)
        .flight_start_rto(FIRST_RETRANSMISSION)
        .flight_retries(RETRANSMISSIONS)
        .build()
        .map(Arc::new)
        .map_err(|error| TransportError::Identity(error.to_string()))
}

/// SHA-256 of a certificate in DER.
pub(super) fn fingerprint(certificate: &[u8]) -> Fingerprint {
    let mut value = [0; 32];
    value.copy_from_slice(digest(&SHA256, certificate).as_ref());
    Fingerprint::Sha256(value)
}

/// What one step gave.
#[derive(Default)]
pub(super) struct Step {
    /// To send, in order.
    pub(super) datagrams: Vec<Vec<u8>>,
    /// The handshake is over and the certificate is the right one.
    pub(super) keys: Option<(dimpl::SrtpProfile, KeyingMaterial)>,
    /// The peer has said goodbye.
    pub(super) closed: bool,
}

enum State {
    /// The peer has sent nothing yet, and nothing is allocated.
    Waiting,
    Handshake,
    Connected,
    /// Closed, or failed.
    Over,
}

/// The DTLS server of one peer.
pub(super) struct DtlsServer {
    identity: Identity,
    expected: Fingerprint,
    state: State,
    dtls: Option<Box<Dtls>>,
    /// The certificate's fingerprint was compared and right.
    verified: bool,
    /// Bytes that came before the handshake was over.
    received: usize,
    timer: Option<Instant>,
}

impl DtlsServer {
    pub(super) fn new(identity: Identity, expected: Fingerprint) -> DtlsServer {
        DtlsServer { identity, expected, state: State::Waiting, dtls: None, verified: false, received: 0, timer: None }
    }

    /// Handles one datagram. An error is the end of the transport.
    pub(super) fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<Step, TransportError> {
        match self.state {
            State::Waiting => {
                let certificate = dimpl::DtlsCertificate::clone(&self.identity.certificate);
                self.dtls = Some(Box::new(Dtls::new_12(self.identity.config.clone(), certificate, now)));
                self.state = State::Handshake;
            }
            State::Handshake | State::Connected => {}
            State::Over => return Ok(Step::default()),
        }
        if matches!(self.state, State::Handshake) {
            self.received += datagram.len();
            if self.received > MAX_HANDSHAKE {
                return Err(self.fail(TransportError::HandshakeTooLong));
            }
        }
        self.advance(now, Some(datagram))
    }

    /// Retransmits what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<Step, TransportError> {
        if self.timer.is_some_and(|timer| timer <= now) { self.advance(now, None) } else { Ok(Step::default()) }
    }

    /// When to call `handle_timeout`.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timer
    }

    /// Gives what says goodbye to the peer; nothing before the handshake is over.
    pub(super) fn close(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let Some(dtls) = self.dtls.as_mut().filter(|_| matches!(self.state, State::Connected)) else {
            self.end();
            return Vec::new();
        };
        let said = dtls.handle_timeout(now).and_then(|()| dtls.close()).is_ok();
        let step = if said { self.drain().unwrap_or_default() } else { Step::default() };
        self.end();
        step.datagrams
    }

    fn advance(&mut self, now: Instant, datagram: Option<&[u8]>) -> Result<Step, TransportError> {
        let Some(dtls) = &mut self.dtls else { return Ok(Step::default()) };
        // The clock first: dimpl's timers count from the last time that it was told.
        let result = dtls.handle_timeout(now).and_then(|()| datagram.map_or(Ok(()), |bytes| dtls.handle_packet(bytes)));
        let step = self.drain()?;
        match result {
            Ok(()) => {}
            // Media does not need DTLS any more, and whoever forges a source address shall not end it.
            Err(error) if matches!(self.state, State::Connected) => {
                tracing::debug!(%error, "DTLS failed after the handshake");
                self.end();
            }
            Err(error) => return Err(self.fail(error.into())),
        }
        if step.closed {
            self.end();
        }
        Ok(step)
    }

    /// Takes what dimpl has to say until it names its next timer.
    fn drain(&mut self) -> Result<Step, TransportError> {
        let mut step = Step::default();
        let Some(dtls) = &mut self.dtls else { return Ok(step) };
        // A certificate cannot be larger than all that was received.
        let mut buffer = vec![0; OUTPUT.max(self.received)];
        let mut connected = false;
        let failure = loop {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(bytes) => step.datagrams.push(bytes.to_vec()),
                Output::BufferTooSmall { needed } => buffer.resize(needed.max(buffer.len() + 1), 0),
                Output::PeerCert(certificate) => {
                    if !bool::from(fingerprint(certificate).bytes().ct_eq(self.expected.bytes())) {
                        break Some(TransportError::FingerprintMismatch);
                    }
                    self.verified = true;
                }
                Output::Connected => connected = true,
                Output::KeyingMaterial(material, profile) => step.keys = Some((profile, material)),
                Output::CloseNotify => step.closed = true,
                Output::Timeout(timer) => {
                    self.timer = Some(timer);
                    break None;
                }
                // Data channels are not offered.
                _ => {}
            }
        };
        let failure = failure.or(match (connected, self.verified, &step.keys) {
            (true, false, _) => Some(TransportError::FingerprintMismatch),
            (true, true, None) => Some(TransportError::NoSrtpProfile),
            _ => None,
        });
        if let Some(error) = failure {
            return Err(self.fail(error));
        }
        if connected {
            self.state = State::Connected;
            self.received = 0;
        }
        Ok(step)
    }

    fn fail(&mut self, error: TransportError) -> TransportError {
        self.end();
        error
    }

    fn end(&mut self) {
        self.state = State::Over;
        self.dtls = None;
        self.timer = None;
    }
}
