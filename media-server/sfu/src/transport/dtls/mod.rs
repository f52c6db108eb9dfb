//! The DTLS end of one peer (RFC 6347, RFC 5764), by dimpl.
//!
//! It is the server unless the peer offered to be it (`a=setup:passive`), and always DTLS 1.2 (dimpl takes the client's
//! first SRTP profile in 1.3, which is CM-SHA1 with browsers; in 1.2 it prefers AES-256-GCM, AES-128-GCM, CM-SHA1 in this
//! order, which cannot be changed). The server requires the certificate of the offer's fingerprint, and uses no cookie:
//! datagrams arrive only from addresses that passed an integrity check. The client sends the first flight, once the
//! transport calls [`DtlsEndpoint::start`]. After the keys are out both wait for `close_notify`; an error then ends DTLS
//! and not the media.
//!
//! [`certificate`] has the accepted kinds of certificates, and [`request`] the server's request for them. A peer that
//! cannot be served gets a fatal alert, and [`TransportError`] names the cause as soon as it is seen: suites other than
//! ECDHE with ECDSA and AEAD, no extended master secret, SRTP profiles other than the three. As client, dimpl offers no RSA
//! suites, so a peer that is the server must have an ECDSA certificate.
//!
//! Two traps of dimpl are closed here: `handle_packet` panics before the first `handle_timeout`, and `poll_output`
//! panics when the peer's certificate is larger than the buffer.

mod certificate;
mod hello;
pub(super) mod p224;
mod provider;
mod request;

use super::{Identity, TransportError};
use crate::parameters::{DtlsRole, Fingerprint};
use certificate::PublicKey;
use dimpl::{Config, Dtls, KeyingMaterial, Output};
use ring::digest::{SHA256, SHA384, SHA512, digest};
use std::sync::Arc;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// The largest datagram that we send.
const MTU: usize = 1200;
/// First retransmission; doubles each time.
const FIRST_RETRANSMISSION: Duration = Duration::from_millis(200);
/// With the first retransmission above: longer than the transport's own deadline.
const RETRANSMISSIONS: usize = 7;
/// Maximum number of bytes that a peer may send before the handshake is over. Browsers need about 3,000.
const MAX_HANDSHAKE: usize = 64 * 1024;
/// Smallest buffer that outputs are polled into.
const OUTPUT: usize = 2048;
/// A fatal `handshake_failure` alert in plain text (RFC 5246 §7.2.2), with a sequence number that no handshake reaches.
const HANDSHAKE_FAILURE: [u8; 15] = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 2, 2, 40];

/// Configurations of both roles, shared by all transports of a process.
#[derive(Clone)]
pub(super) struct Configs {
    server: Arc<Config>,
    client: Arc<Config>,
}

impl Configs {
    pub(super) fn new() -> Result<Configs, TransportError> {
        let common = || {
            Config::builder()
                .use_server_cookie(false)
                .require_client_certificate(true)
                .flight_start_rto(FIRST_RETRANSMISSION)
                .flight_retries(RETRANSMISSIONS)
        };
        let server = common().mtu(MTU - request::GROWTH).with_crypto_provider(provider::server()).build();
        let client = common().mtu(MTU).with_crypto_provider(provider::client()).build();
        let failed = |error: dimpl::Error| TransportError::Identity(error.to_string());
        Ok(Configs { server: Arc::new(server.map_err(failed)?), client: Arc::new(client.map_err(failed)?) })
    }
}

/// SHA-256 of a certificate in DER.
pub(super) fn fingerprint(certificate: &[u8]) -> Fingerprint {
    let mut value = [0; 32];
    value.copy_from_slice(digest(&SHA256, certificate).as_ref());
    Fingerprint::Sha256(value)
}

/// Returns whether a certificate in DER has this fingerprint.
fn has_fingerprint(certificate: &[u8], expected: &Fingerprint) -> bool {
    let algorithm = match expected {
        Fingerprint::Sha256(_) => &SHA256,
        Fingerprint::Sha384(_) => &SHA384,
        Fingerprint::Sha512(_) => &SHA512,
    };
    digest(algorithm, certificate).as_ref().ct_eq(expected.bytes()).into()
}

/// The outcome of one step.
#[derive(Default)]
pub(super) struct Step {
    /// To send, in order.
    pub(super) datagrams: Vec<Vec<u8>>,
    /// The handshake is over and the certificate is the right one.
    pub(super) keys: Option<(dimpl::SrtpProfile, KeyingMaterial)>,
    /// The peer sent `close_notify`.
    pub(super) closed: bool,
}

enum State {
    /// Nothing was sent by either side, and nothing is allocated.
    Waiting,
    Handshake,
    Connected,
    /// Closed, or failed.
    Over,
}

/// The DTLS end of one peer.
pub(super) struct DtlsEndpoint {
    identity: Identity,
    role: DtlsRole,
    expected: Fingerprint,
    state: State,
    dtls: Option<Box<Dtls>>,
    /// The certificate's fingerprint was compared and right.
    verified: bool,
    /// Bytes received before the handshake was over.
    received: usize,
    timer: Option<Instant>,
    /// The handshake failed, and the peer has not been notified.
    alert: bool,
}

impl DtlsEndpoint {
    pub(super) fn new(identity: Identity, role: DtlsRole, expected: Fingerprint) -> DtlsEndpoint {
        let (state, dtls, verified, received, timer, alert) = (State::Waiting, None, false, 0, None, false);
        DtlsEndpoint { identity, role, expected, state, dtls, verified, received, timer, alert }
    }

    /// Opens the handshake as client; does nothing as server, and when it was opened before. To be called once an address
    /// has passed a check.
    pub(super) fn start(&mut self, now: Instant) -> Result<Step, TransportError> {
        match (&self.state, self.role) {
            (State::Waiting, DtlsRole::Client) => {
                self.begin(now);
                self.advance(now, None)
            }
            _ => Ok(Step::default()),
        }
    }

    /// Handles one datagram. An error is the end of the transport.
    pub(super) fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<Step, TransportError> {
        match self.state {
            State::Waiting => self.begin(now),
            State::Handshake | State::Connected => {}
            State::Over => return Ok(Step::default()),
        }
        if matches!(self.state, State::Handshake) {
            self.received += datagram.len();
            if self.received > MAX_HANDSHAKE {
                return Err(self.fail(TransportError::HandshakeTooLong));
            }
            // Until its certificate is here the peer may still repeat or correct its hello.
            if self.role == DtlsRole::Server && !self.verified {
                hello::check(datagram).map_err(|error| self.fail(error))?;
            }
        }
        self.advance(now, Some(datagram))
    }

    /// Returns our role.
    pub(super) fn role(&self) -> DtlsRole {
        self.role
    }

    /// Sends the retransmissions that are due.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<Step, TransportError> {
        if self.timer.is_some_and(|timer| timer <= now) { self.advance(now, None) } else { Ok(Step::default()) }
    }

    /// When to call `handle_timeout`.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timer
    }

    /// Returns the `close_notify` for the peer; nothing before the handshake is over.
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

    /// Returns the alert for a handshake that failed here, once.
    pub(super) fn take_alert(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.alert).then(|| HANDSHAKE_FAILURE.to_vec())
    }

    fn begin(&mut self, now: Instant) {
        let certificate = dimpl::DtlsCertificate::clone(&self.identity.certificate);
        let configs = &self.identity.configs;
        let dtls = match self.role {
            DtlsRole::Server => Dtls::new_12(configs.server.clone(), certificate, now),
            DtlsRole::Client => {
                let mut dtls = Dtls::new_12(configs.client.clone(), certificate, now);
                dtls.set_active(true);
                dtls
            }
        };
        self.dtls = Some(Box::new(dtls));
        self.state = State::Handshake;
    }

    fn advance(&mut self, now: Instant, datagram: Option<&[u8]>) -> Result<Step, TransportError> {
        let Some(dtls) = &mut self.dtls else { return Ok(Step::default()) };
        // The clock first: dimpl's timers count from the last time passed to it.
        let result = dtls.handle_timeout(now).and_then(|()| datagram.map_or(Ok(()), |bytes| dtls.handle_packet(bytes)));
        let step = self.drain()?;
        match result {
            Ok(()) => {}
            // Media does not need DTLS any more, and a forged source address must not end it.
            Err(error) if matches!(self.state, State::Connected) => {
                tracing::debug!(%error, "DTLS failed after the handshake");
                self.end();
            }
            Err(error) => return Err(self.fail_by(error)),
        }
        if step.closed {
            self.end();
        }
        Ok(step)
    }

    /// Takes dimpl's outputs until it names its next timer.
    fn drain(&mut self) -> Result<Step, TransportError> {
        let mut step = Step::default();
        let Some(dtls) = &mut self.dtls else { return Ok(step) };
        // A certificate cannot be larger than all that was received.
        let mut buffer = vec![0; OUTPUT.max(self.received)];
        let mut connected = false;
        let failure = loop {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(bytes) => step.datagrams.push(match self.role {
                    DtlsRole::Server => request::widen_datagram(bytes).into_owned(),
                    DtlsRole::Client => bytes.to_vec(),
                }),
                Output::BufferTooSmall { needed } => buffer.resize(needed.max(buffer.len() + 1), 0),
                Output::PeerCert(certificate) => {
                    if !has_fingerprint(certificate, &self.expected) {
                        break Some(TransportError::FingerprintMismatch);
                    }
                    // Refused here by the kind of its key, and not later by a signature that cannot be verified.
                    if let Err(kind) = PublicKey::from_certificate(certificate) {
                        break Some(TransportError::UnsupportedCertificate(kind));
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

    /// A server that refuses all that we offer has no suite in common with us: as a rule its certificate is RSA.
    fn fail_by(&mut self, error: dimpl::Error) -> TransportError {
        self.fail(match error.into() {
            TransportError::PeerAlert(40) if self.role == DtlsRole::Client && !self.verified => {
                TransportError::NoCipherSuite
            }
            other => other,
        })
    }

    fn fail(&mut self, error: TransportError) -> TransportError {
        self.alert = matches!(self.state, State::Handshake);
        self.end();
        error
    }

    fn end(&mut self) {
        self.state = State::Over;
        self.dtls = None;
        self.timer = None;
    }
}
