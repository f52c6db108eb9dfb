//! A WebRTC client's transport, sans-IO: full ICE in the controlling role (RFC 8445), or ICE-lite towards a server that
//! offers; DTLS client by dimpl; SRTP both ways by `rtc-srtp`.
//!
//! It nominates with every check and takes the first candidate that answers. Consent is renewed every five seconds
//! (RFC 7675). It is a client for tests: it gathers nothing and knows no relay.

use dimpl::{Config, Dtls, DtlsCertificate, Output};
use rand::Rng;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;
use rtc_stun::attributes::{
    ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType, RawAttribute,
};
use rtc_stun::crypto::RTCCryptoProvider;
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId};
use rtc_stun::xoraddr::XorMappedAddress;
use sfu::parameters::{Fingerprint, IceCredentials};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// First repetition of a check; doubles each time.
const FIRST_REPETITION: Duration = Duration::from_millis(50);
const LAST_REPETITION: Duration = Duration::from_millis(800);
const CONSENT_EVERY: Duration = Duration::from_secs(5);
/// Checks whose answers are waited for.
const PENDING: usize = 16;
/// Bytes of the buffer that DTLS writes into.
const DTLS_OUTPUT: usize = 4096;

/// Why a peer gave up.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// DTLS failed.
    #[error("DTLS: {0}")]
    Dtls(dimpl::Error),
    /// The server showed another certificate than it had signalled.
    #[error("the certificate is not the one whose fingerprint was signalled")]
    Fingerprint,
    /// The keys do not fit the profile.
    #[error("SRTP: {0}")]
    Srtp(String),
    /// No certificate or no cryptography.
    #[error("identity: {0}")]
    Identity(String),
}

/// One certificate for all clients of a process.
#[derive(Clone)]
pub struct Identity {
    certificate: Arc<DtlsCertificate>,
    config: Arc<Config>,
    crypto: Arc<dyn RTCCryptoProvider>,
}

impl Identity {
    /// Makes a self-signed certificate.
    pub fn generate() -> Result<Self, PeerError> {
        let certificate = dimpl::certificate::generate_self_signed_certificate()
            .map_err(|error| PeerError::Identity(error.to_string()))?;
        let config = Config::builder().mtu(1200).flight_start_rto(Duration::from_millis(250)).flight_retries(7).build();
        let crypto = rtc_stun::crypto::default_provider().map_err(|error| PeerError::Identity(error.to_string()))?;
        Ok(Self { certificate: Arc::new(certificate), config: Arc::new(config.map_err(PeerError::Dtls)?), crypto })
    }

    /// For `a=fingerprint`.
    pub fn fingerprint(&self) -> Fingerprint {
        sha256(&self.certificate.certificate)
    }
}

fn sha256(bytes: &[u8]) -> Fingerprint {
    let mut value = [0; 32];
    value.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    Fingerprint::Sha256(value)
}

/// Fresh random credentials.
pub fn credentials() -> IceCredentials {
    let mut random = rand::rng();
    let mut text = |len| (0..len).map(|_| random.sample(rand::distr::Alphanumeric) as char).collect();
    IceCredentials { ufrag: text(8), pwd: text(24) }
}

/// Who checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IceRole {
    /// This side checks and nominates.
    Controlling,
    /// This side answers checks, and the other one nominates.
    Lite,
}

/// What the server's description says.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Its credentials.
    pub ice: IceCredentials,
    /// Of the certificate it must show.
    pub fingerprint: Fingerprint,
    /// Where it can be reached.
    pub candidates: Vec<SocketAddr>,
}

struct Srtp {
    profile: ProtectionProfile,
    seal: Context,
    open: Context,
}

/// See the module.
pub struct Peer {
    identity: Identity,
    role: IceRole,
    local: IceCredentials,
    remote: Remote,
    tie_breaker: [u8; 8],
    selected: Option<SocketAddr>,
    pending: VecDeque<TransactionId>,
    check_at: Instant,
    repetition: Duration,
    dtls: Option<Box<Dtls>>,
    dtls_at: Option<Instant>,
    verified: bool,
    srtp: Option<Box<Srtp>>,
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    closed: bool,
    error: Option<PeerError>,
}

impl Peer {
    /// A peer that knows both descriptions, and checks at once.
    pub fn new(now: Instant, identity: &Identity, role: IceRole, local: IceCredentials, remote: Remote) -> Self {
        Self {
            identity: identity.clone(),
            role,
            local,
            remote,
            tie_breaker: rand::rng().random(),
            selected: None,
            pending: VecDeque::new(),
            check_at: now,
            repetition: FIRST_REPETITION,
            dtls: None,
            dtls_at: None,
            verified: false,
            srtp: None,
            datagrams: VecDeque::new(),
            closed: false,
            error: None,
        }
    }

    /// ICE and DTLS are done.
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// The server said goodbye.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Why it is over.
    pub fn error(&self) -> Option<&PeerError> {
        self.error.as_ref()
    }

    /// What DTLS chose.
    pub fn profile(&self) -> Option<ProtectionProfile> {
        self.srtp.as_ref().map(|srtp| srtp.profile)
    }

    /// Where media goes to.
    pub fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// Takes a datagram whose first byte is below 64. Others are for [`Peer::open_rtp`] and [`Peer::open_rtcp`].
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        match datagram.first() {
            Some(0..=3) => self.handle_stun(now, from, datagram),
            Some(20..=63) => {
                let Some(dtls) = self.dtls.as_mut() else { return };
                let result = dtls.handle_timeout(now).and_then(|()| dtls.handle_packet(datagram));
                self.drain();
                if let Err(error) = result {
                    self.error.get_or_insert(PeerError::Dtls(error));
                }
            }
            _ => {}
        }
    }

    fn handle_stun(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let mut message = Message::new();
        if message.unmarshal_binary(datagram).is_err() {
            return;
        }
        let crypto = self.identity.crypto.clone();
        if message.typ == BINDING_SUCCESS {
            let pending = self.pending.contains(&message.transaction_id);
            if pending && MessageIntegrity::check(&mut message, self.remote.ice.pwd.as_bytes(), crypto.crypto()).is_ok()
            {
                self.pending.retain(|id| *id != message.transaction_id);
                self.select(now, from);
            }
        } else if message.typ == BINDING_REQUEST {
            if MessageIntegrity::check(&mut message, self.local.pwd.as_bytes(), crypto.crypto()).is_err() {
                return;
            }
            let mapped = XorMappedAddress { ip: from.ip(), port: from.port() };
            let head: Vec<Box<dyn Setter>> =
                vec![Box::new(message.transaction_id), Box::new(BINDING_SUCCESS), Box::new(mapped)];
            if let Some(answer) = self.stun(head, &self.local.pwd) {
                self.datagrams.push_back((from, answer));
            }
            if self.role == IceRole::Lite {
                self.select(now, from);
            }
        }
    }

    fn select(&mut self, now: Instant, from: SocketAddr) {
        if self.selected.is_none() {
            self.selected = Some(from);
            let mut dtls =
                Dtls::new_12(self.identity.config.clone(), DtlsCertificate::clone(&self.identity.certificate), now);
            dtls.set_active(true);
            if let Err(error) = dtls.handle_timeout(now) {
                self.error.get_or_insert(PeerError::Dtls(error));
            }
            self.dtls = Some(Box::new(dtls));
            self.drain();
        }
        self.check_at = now + CONSENT_EVERY;
    }

    fn stun(&self, mut setters: Vec<Box<dyn Setter>>, password: &str) -> Option<Vec<u8>> {
        let crypto = self.identity.crypto.crypto();
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto);
        let mut message = Message::new();
        let mut all: Vec<Box<dyn Setter + '_>> = std::mem::take(&mut setters);
        all.push(Box::new(integrity));
        all.push(Box::new(FINGERPRINT));
        message.build(&all).ok()?;
        Some(message.raw)
    }

    fn check(&mut self, to: SocketAddr) {
        let raw = |typ: AttrType, value: &[u8]| RawAttribute { typ, length: value.len() as u16, value: value.to_vec() };
        let transaction = TransactionId::new();
        let username = format!("{}:{}", self.remote.ice.ufrag, self.local.ufrag);
        let setters: Vec<Box<dyn Setter>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(transaction),
            Box::new(raw(ATTR_USERNAME, username.as_bytes())),
            Box::new(raw(ATTR_ICE_CONTROLLING, &self.tie_breaker)),
            // A peer-reflexive candidate, best local preference (RFC 8445 §5.1.2.1).
            Box::new(raw(ATTR_PRIORITY, &0x6eff_ffff_u32.to_be_bytes())),
            Box::new(raw(ATTR_USE_CANDIDATE, &[])),
        ];
        if let Some(request) = self.stun(setters, &self.remote.ice.pwd) {
            self.pending.push_back(transaction);
            if self.pending.len() > PENDING {
                self.pending.pop_front();
            }
            self.datagrams.push_back((to, request));
        }
    }

    /// Repeats what was not answered, and renews consent.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed || self.error.is_some() {
            return;
        }
        if self.role == IceRole::Controlling && self.check_at <= now {
            match self.selected {
                Some(selected) => {
                    self.check(selected);
                    self.check_at = now + CONSENT_EVERY;
                }
                None => {
                    for candidate in self.remote.candidates.clone() {
                        self.check(candidate);
                    }
                    self.check_at = now + self.repetition;
                    self.repetition = (self.repetition * 2).min(LAST_REPETITION);
                }
            }
        }
        if self.dtls_at.is_some_and(|at| at <= now) {
            let result = self.dtls.as_mut().map_or(Ok(()), |dtls| dtls.handle_timeout(now));
            self.drain();
            if let Err(error) = result {
                self.error.get_or_insert(PeerError::Dtls(error));
            }
        }
    }

    /// When to call [`Peer::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed || self.error.is_some() {
            return None;
        }
        let check = (self.role == IceRole::Controlling).then_some(self.check_at);
        [check, self.dtls_at].into_iter().flatten().min()
    }

    /// The next datagram to send.
    pub fn poll_datagram(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.datagrams.pop_front()
    }

    /// Says goodbye.
    pub fn close(&mut self, now: Instant) {
        if let Some(dtls) = self.dtls.as_mut()
            && dtls.handle_timeout(now).and_then(|()| dtls.close()).is_ok()
        {
            self.drain();
        }
        self.closed = true;
    }

    fn drain(&mut self) {
        let (Some(dtls), Some(to)) = (self.dtls.as_mut(), self.selected) else { return };
        let mut buffer = [0; DTLS_OUTPUT];
        let mut keys = None;
        loop {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(bytes) => self.datagrams.push_back((to, bytes.to_vec())),
                Output::PeerCert(der) if sha256(der) == self.remote.fingerprint => self.verified = true,
                Output::PeerCert(_) | Output::BufferTooSmall { .. } => self.error = Some(PeerError::Fingerprint),
                Output::KeyingMaterial(material, profile) => keys = Some((material, profile)),
                Output::CloseNotify => self.closed = true,
                Output::Timeout(at) => {
                    self.dtls_at = Some(at);
                    break;
                }
                _ => {}
            }
        }
        let Some((material, profile)) = keys else { return };
        if !self.verified {
            self.error = Some(PeerError::Fingerprint);
            return;
        }
        match srtp(&material, profile, &self.identity) {
            Ok(srtp) => self.srtp = Some(Box::new(srtp)),
            Err(error) => self.error = Some(error),
        }
    }

    /// Seals an RTP packet; `None` before the handshake is over.
    pub fn seal_rtp(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        self.srtp.as_mut()?.seal.encrypt_rtp(plain).ok().map(|sealed| sealed.to_vec())
    }

    /// Seals a compound RTCP packet and queues it.
    pub fn send_rtcp(&mut self, plain: &[u8]) {
        let Some(to) = self.selected else { return };
        if let Some(sealed) = self.srtp.as_mut().and_then(|srtp| srtp.seal.encrypt_rtcp(plain).ok()) {
            self.datagrams.push_back((to, sealed.to_vec()));
        }
    }

    /// Opens an RTP packet; `None` when it is not authentic.
    pub fn open_rtp(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        self.srtp.as_mut()?.open.decrypt_rtp(datagram).ok().map(|plain| plain.to_vec())
    }

    /// Opens a compound RTCP packet; `None` when it is not authentic.
    pub fn open_rtcp(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        self.srtp.as_mut()?.open.decrypt_rtcp(datagram).ok().map(|plain| plain.to_vec())
    }
}

/// The client's key, the server's, the client's salt, the server's (RFC 5764 §4.2).
fn srtp(material: &[u8], profile: dimpl::SrtpProfile, identity: &Identity) -> Result<Srtp, PeerError> {
    let profile = match profile {
        dimpl::SrtpProfile::AEAD_AES_256_GCM => ProtectionProfile::AeadAes256Gcm,
        dimpl::SrtpProfile::AEAD_AES_128_GCM => ProtectionProfile::AeadAes128Gcm,
        _ => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let (key, salt) = (profile.key_len(), profile.salt_len());
    if material.len() != 2 * (key + salt) {
        return Err(PeerError::Srtp(format!("{} bytes of keys", material.len())));
    }
    let (keys, salts) = material.split_at(2 * key);
    let context = |side: usize| {
        let (key, salt) = (&keys[side * key..][..key], &salts[side * salt..][..salt]);
        Context::new(key, salt, profile, None, None, identity.crypto.crypto())
            .map_err(|error| PeerError::Srtp(error.to_string()))
    };
    Ok(Srtp { profile, seal: context(0)?, open: context(1)? })
}
