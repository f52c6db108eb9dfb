//! One peer's transport: ICE-lite responder, DTLS server or client, SRTP both ways.
//!
//! Datagrams come in by kind (the first byte tells, RFC 7983), and with them the time; what is to be sent, and what
//! happened, is polled. A transport answers nobody but who passed a STUN integrity check, takes DTLS from no other
//! address, and gives keys only to the certificate whose fingerprint was signalled.
//!
//! The life of one: a check passes within 10 seconds, the handshake ends within 20 more (`Connected`), and then it
//! lives for as long as the peer is heard every 30 seconds. DTLS is taken before an address is nominated, since
//! browsers start it with the first check.

mod dtls;
mod error;
mod ice;
mod srtp;
mod stun;
#[cfg(test)]
mod tests;

pub use error::TransportError;
pub use srtp::{Sealer, SrtpProfile};
pub use stun::StunRequest;

use crate::parameters::{Fingerprint, IceCredentials, TransportParameters};
use bytes::BytesMut;
use dtls::{DtlsEndpoint, Step};
use ice::{Check, Ice};
use srtp::Srtp;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// The server's certificate and key, made at start; shared by all transports.
#[derive(Clone)]
pub struct Identity {
    certificate: Arc<dimpl::DtlsCertificate>,
    configs: dtls::Configs,
}

impl Identity {
    /// Makes a self-signed certificate.
    pub fn generate() -> Result<Identity, TransportError> {
        let certificate = dimpl::certificate::generate_self_signed_certificate()
            .map_err(|error| TransportError::Identity(error.to_string()))?;
        Ok(Identity { certificate: Arc::new(certificate), configs: dtls::Configs::new()? })
    }

    /// For `a=fingerprint`.
    pub fn fingerprint(&self) -> Fingerprint {
        dtls::fingerprint(&self.certificate.certificate)
    }
}

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
    /// This address passed once and is no longer the peer's: a peer has at most eight.
    Forgotten(SocketAddr),
    /// The transport is over and must be dropped.
    Closed(TransportError),
}

/// One peer's transport.
pub struct Transport {
    ice: Ice,
    dtls: DtlsEndpoint,
    srtp: Option<Box<Srtp>>,
    /// Where DTLS came from last: its retransmissions go there until an address is nominated.
    dtls_from: Option<SocketAddr>,
    outputs: VecDeque<TransportOutput>,
    over: bool,
}

impl Transport {
    /// A transport that waits for the peer's first check.
    pub fn new(now: Instant, identity: &Identity, parameters: TransportParameters) -> Transport {
        Transport {
            ice: Ice::new(now, parameters.local, parameters.remote),
            dtls: DtlsEndpoint::new(identity.clone(), parameters.dtls_role, parameters.fingerprint),
            srtp: None,
            dtls_from: None,
            outputs: VecDeque::new(),
            over: false,
        }
    }

    /// Checks integrity and answers. `true` when `from` passed and may be bound to this session.
    pub fn handle_stun(&mut self, now: Instant, from: SocketAddr, request: &StunRequest) -> bool {
        if self.over {
            return false;
        }
        match self.ice.handle(now, from, request) {
            Check::Ignored => false,
            Check::Refused(bytes) => {
                self.outputs.push_back(TransportOutput::Datagram { to: from, bytes });
                false
            }
            Check::Passed { answer, nominated, forgotten } => {
                self.outputs.push_back(TransportOutput::Datagram { to: from, bytes: answer });
                self.outputs.extend(forgotten.map(TransportOutput::Forgotten));
                if nominated {
                    self.outputs.push_back(TransportOutput::Nominated(from));
                }
                // A DTLS client speaks first, but never to an address that has not passed.
                let step = self.dtls.start(now);
                self.take(step, Some(from));
                true
            }
        }
    }

    /// A datagram whose first byte is 20 to 63, from an address that passed; from any other it is ignored.
    pub fn handle_dtls(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        if !self.over && self.ice.passed(from) {
            self.dtls_from = Some(from);
            let step = self.dtls.handle_datagram(now, datagram);
            self.take(step, Some(from));
        }
    }

    /// DTLS retransmission and consent expiry.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.over {
            return;
        }
        if let Some(error) = self.ice.expired(now, self.srtp.is_some()) {
            return self.end(error);
        }
        let step = self.dtls.handle_timeout(now);
        let to = self.ice.nominated().or(self.dtls_from).or(self.ice.peer());
        self.take(step, to);
    }

    /// When to call `handle_timeout` next; `None` when it is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.over {
            return None;
        }
        let consent = self.ice.deadline(self.srtp.is_some());
        Some(self.dtls.poll_timeout().map_or(consent, |timer| timer.min(consent)))
    }

    /// Polled until `None` after every `handle_*`.
    pub fn poll_output(&mut self) -> Option<TransportOutput> {
        self.outputs.pop_front()
    }

    /// New credentials on both sides; the old ones stay valid until the new ones are first used.
    pub fn restart_ice(&mut self, local: IceCredentials, remote: IceCredentials) {
        self.ice.restart(local, remote);
    }

    /// Ends it from our side: `close_notify` is polled when there is a connection. There will be no `Closed`.
    pub fn close(&mut self, now: Instant) {
        if self.over {
            return;
        }
        let datagrams = self.dtls.close(now);
        self.send(datagrams, self.ice.peer());
        self.over = true;
        self.srtp = None;
    }

    /// Whether checks may still come under this user fragment of ours: the current one, and that of a restart.
    pub fn answers_to(&self, ufrag: &str) -> bool {
        self.ice.answers_to(ufrag)
    }

    /// Opens an SRTP packet: replay-checked, authenticated, decrypted. An authentic one renews the peer's consent.
    pub fn open_rtp(&mut self, now: Instant, datagram: &[u8]) -> Result<BytesMut, TransportError> {
        let srtp = self.srtp.as_mut().ok_or(TransportError::NotConnected)?;
        let plain = srtp.opener.open_rtp(datagram)?;
        self.ice.heard(now);
        Ok(plain)
    }

    /// Opens an SRTCP packet. An authentic one renews the peer's consent.
    pub fn open_rtcp(&mut self, now: Instant, datagram: &[u8]) -> Result<BytesMut, TransportError> {
        let srtp = self.srtp.as_mut().ok_or(TransportError::NotConnected)?;
        let plain = srtp.opener.open_rtcp(datagram)?;
        self.ice.heard(now);
        Ok(plain)
    }

    /// The keys to seal outbound SRTP with; `None` before `Connected`.
    pub fn sealer(&self) -> Option<&Sealer> {
        self.srtp.as_ref().map(|srtp| &srtp.sealer)
    }

    /// Seals one compound RTCP packet (SRTCP index kept inside); `out` is cleared first.
    pub fn seal_rtcp(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TransportError> {
        self.srtp.as_mut().ok_or(TransportError::NotConnected)?.seal_rtcp(plain, out)
    }

    /// The address media goes to: the newest nominated one, or the first that passed until one is nominated.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.ice.peer()
    }

    fn take(&mut self, step: Result<Step, TransportError>, to: Option<SocketAddr>) {
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                let alert = self.dtls.take_alert();
                self.send(alert.into_iter().collect(), to);
                return self.end(error);
            }
        };
        self.send(step.datagrams, to);
        if let Some((profile, material)) = step.keys {
            let keys =
                SrtpProfile::try_from(profile).and_then(|profile| Srtp::new(profile, self.dtls.role(), &material));
            match keys {
                Ok(keys) => self.srtp = Some(Box::new(keys)),
                Err(error) => return self.end(error),
            }
            self.outputs.push_back(TransportOutput::Connected);
        }
        if step.closed {
            self.end(TransportError::PeerClosed);
        }
    }

    fn send(&mut self, datagrams: Vec<Vec<u8>>, to: Option<SocketAddr>) {
        if let Some(to) = to {
            self.outputs.extend(datagrams.into_iter().map(|bytes| TransportOutput::Datagram { to, bytes }));
        }
    }

    fn end(&mut self, error: TransportError) {
        self.over = true;
        self.srtp = None;
        self.outputs.push_back(TransportOutput::Closed(error));
    }
}
