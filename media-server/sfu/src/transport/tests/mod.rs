//! A transport against an independent peer: STUN by `rtc-stun`, DTLS by dimpl as client, SRTP by `rtc-srtp`.
//!
//! Time is virtual: the network is a list of datagrams with arrival times.

mod certificates;
mod foreign;
mod handshake;
mod hostile;
mod ice;
mod passive;
mod srtp;

use super::*;
use crate::parameters::{DtlsRole, IceCredentials, TransportParameters};
use dimpl::{Config, Dtls, DtlsCertificate, KeyingMaterial, Output};
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;
use rtc_stun::attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType, RawAttribute};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};
use std::sync::OnceLock;
use std::time::Duration;

pub(super) const HOME: &str = "192.0.2.1:40000";
pub(super) const ELSEWHERE: &str = "[2001:db8::9]:50000";

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Made once: the certificate is slow to make.
pub(super) fn identity() -> Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::generate().unwrap()).clone()
}

pub(super) fn credentials(ufrag: &str) -> IceCredentials {
    IceCredentials { ufrag: ufrag.to_owned(), pwd: format!("password-of-{ufrag}-of-22") }
}

/// A check as a browser sends it, with other attributes in front of MESSAGE-INTEGRITY.
pub(super) fn check(username: &str, password: &str, attributes: &[(AttrType, &[u8])]) -> Vec<u8> {
    let crypto = rtc_srtp::crypto::default_provider().unwrap();
    let raw = |typ: AttrType, value: &[u8]| RawAttribute { typ, length: value.len() as u16, value: value.to_vec() };
    let mut setters: Vec<Box<dyn Setter + '_>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::new()),
        Box::new(raw(ATTR_USERNAME, username.as_bytes())),
        Box::new(raw(AttrType(0x0024), &[1, 2, 3, 4])),
    ];
    for (typ, value) in attributes {
        setters.push(Box::new(raw(*typ, value)));
    }
    setters
        .push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto.crypto())));
    setters.push(Box::new(FINGERPRINT));
    let mut message = Message::new();
    message.build(&setters).unwrap();
    message.raw
}

/// The browser's side.
pub(super) struct Client {
    pub(super) certificate: DtlsCertificate,
    pub(super) dtls: Dtls,
    pub(super) timer: Option<Instant>,
    pub(super) keys: Option<(dimpl::SrtpProfile, KeyingMaterial)>,
    pub(super) closed: bool,
}

impl Client {
    pub(super) fn new(now: Instant) -> Client {
        Client::with_role(now, true)
    }

    /// With the DTLS role that it offered: `active`, or passive.
    pub(super) fn with_role(now: Instant, active: bool) -> Client {
        static CERTIFICATE: OnceLock<DtlsCertificate> = OnceLock::new();
        let certificate =
            CERTIFICATE.get_or_init(|| dimpl::certificate::generate_self_signed_certificate().unwrap()).clone();
        let config = Config::builder().mtu(1200).flight_start_rto(Duration::from_millis(250)).flight_retries(7);
        let mut dtls = Dtls::new_12(Arc::new(config.build().unwrap()), certificate.clone(), now);
        dtls.set_active(active);
        dtls.handle_timeout(now).unwrap();
        Client { certificate, dtls, timer: None, keys: None, closed: false }
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        super::dtls::fingerprint(&self.certificate.certificate)
    }

    /// What it sends.
    pub(super) fn poll(&mut self) -> Vec<Vec<u8>> {
        let (mut buffer, mut datagrams) = (vec![0; 4096], Vec::new());
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(bytes) => datagrams.push(bytes.to_vec()),
                Output::KeyingMaterial(material, profile) => self.keys = Some((profile, material)),
                Output::CloseNotify => self.closed = true,
                Output::Timeout(timer) => {
                    self.timer = Some(timer);
                    return datagrams;
                }
                _ => {}
            }
        }
    }

    pub(super) fn receive(&mut self, now: Instant, datagram: &[u8]) {
        self.dtls.handle_timeout(now).unwrap();
        self.dtls.handle_packet(datagram).unwrap();
    }

    /// Contexts of the peer: to seal what it sends, and to open what it gets.
    pub(super) fn srtp(&self) -> (Context, Context) {
        let (profile, material) = self.keys.as_ref().unwrap();
        let profile = match *profile {
            dimpl::SrtpProfile::AEAD_AES_128_GCM => ProtectionProfile::AeadAes128Gcm,
            dimpl::SrtpProfile::AEAD_AES_256_GCM => ProtectionProfile::AeadAes256Gcm,
            _ => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let crypto = rtc_srtp::crypto::default_provider().unwrap();
        let context = |at: usize| {
            let (keys, salts) = material.split_at(2 * key);
            let (key, salt) = (&keys[at * key..][..key], &salts[at * salt..][..salt]);
            Context::new(key, salt, profile, None, None, crypto.crypto()).unwrap()
        };
        (context(0), context(1))
    }
}

/// A datagram under way.
struct Travelling {
    at: Instant,
    to_server: bool,
    bytes: Vec<u8>,
}

/// A client, a transport, and a network between them that does what `weather` says.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) client: Client,
    pub(super) server: Transport,
    /// Everything but datagrams.
    pub(super) told: Vec<TransportOutput>,
    travelling: Vec<Travelling>,
}

/// Which datagram this is: its direction, and its number among the DTLS datagrams and bursts in this direction.
pub(super) struct Sent {
    pub(super) to_server: bool,
    pub(super) datagram: usize,
    pub(super) burst: usize,
}

/// Delays of the copies that arrive; none when it is lost.
pub(super) type Weather<'a> = dyn FnMut(&Sent) -> Vec<Duration> + 'a;

impl World {
    pub(super) fn new() -> World {
        let now = Instant::now();
        let client = Client::new(now);
        let fingerprint = client.fingerprint();
        World::with(now, client, fingerprint)
    }

    pub(super) fn with(now: Instant, client: Client, fingerprint: Fingerprint) -> World {
        World::with_role(now, client, fingerprint, DtlsRole::Server)
    }

    /// A peer that waits for our ClientHello.
    pub(super) fn passive() -> World {
        let now = Instant::now();
        let peer = Client::with_role(now, false);
        let fingerprint = peer.fingerprint();
        World::with_role(now, peer, fingerprint, DtlsRole::Client)
    }

    fn with_role(now: Instant, client: Client, fingerprint: Fingerprint, dtls_role: DtlsRole) -> World {
        let parameters =
            TransportParameters { local: credentials("Alocal"), remote: credentials("remote"), fingerprint, dtls_role };
        let server = Transport::new(now, &identity(), parameters);
        World { now, client, server, told: Vec::new(), travelling: Vec::new() }
    }

    /// One check from an address, and whether it passed.
    pub(super) fn check(&mut self, from: &str, nominate: bool) -> bool {
        let attributes: &[(AttrType, &[u8])] = if nominate { &[(ATTR_USE_CANDIDATE, &[])] } else { &[] };
        let bytes = check("Alocal:remote", &credentials("Alocal").pwd, attributes);
        self.server.handle_stun(self.now, address(from), &StunRequest::parse(&bytes).unwrap())
    }

    /// Takes what the transport has to send.
    pub(super) fn outputs(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut datagrams = Vec::new();
        while let Some(output) = self.server.poll_output() {
            match output {
                TransportOutput::Datagram { to, bytes } => datagrams.push((to, bytes)),
                other => self.told.push(other),
            }
        }
        datagrams
    }

    pub(super) fn connected(&self) -> bool {
        self.told.iter().any(|output| matches!(output, TransportOutput::Connected))
    }

    pub(super) fn closed(&self) -> Option<&TransportError> {
        self.told.iter().find_map(|output| match output {
            TransportOutput::Closed(error) => Some(error),
            _ => None,
        })
    }

    /// Runs until both sides have keys, it is over, or the time is up. Gives the time it took.
    pub(super) fn handshake(&mut self, limit: Duration, weather: &mut Weather<'_>) -> Duration {
        assert!(self.check(HOME, false));
        let (start, mut counts) = (self.now, [(0, 0); 2]);
        loop {
            let sent = self.client.poll();
            self.carry(true, sent, &mut counts[0], weather);
            let sent = self.outputs().into_iter().filter(|(_, bytes)| bytes[0] >= 20).map(|(to, bytes)| {
                assert_eq!(to, address(HOME));
                bytes
            });
            let sent = sent.collect();
            self.carry(false, sent, &mut counts[1], weather);
            let done = self.server.sealer().is_some() && self.client.keys.is_some();
            if done || self.closed().is_some() || self.now - start > limit {
                return self.now - start;
            }
            self.step();
        }
    }

    fn carry(
        &mut self,
        to_server: bool,
        sent: Vec<Vec<u8>>,
        (datagram, burst): &mut (usize, usize),
        weather: &mut Weather<'_>,
    ) {
        let any = !sent.is_empty();
        for bytes in sent {
            for delay in weather(&Sent { to_server, datagram: *datagram, burst: *burst }) {
                self.travelling.push(Travelling { at: self.now + delay, to_server, bytes: bytes.clone() });
            }
            *datagram += 1;
        }
        *burst += usize::from(any);
    }

    /// Goes on to the next arrival or timer.
    fn step(&mut self) {
        self.travelling.sort_by_key(|datagram| datagram.at);
        let arrival = self.travelling.first().map(|datagram| datagram.at);
        let next = [arrival, self.client.timer, self.server.poll_timeout()].into_iter().flatten().min().unwrap();
        self.now = self.now.max(next);
        if arrival.is_some_and(|at| at <= self.now) {
            let datagram = self.travelling.remove(0);
            match datagram.to_server {
                true => self.server.handle_dtls(self.now, address(HOME), &datagram.bytes),
                false => self.client.receive(self.now, &datagram.bytes),
            }
        }
        if self.client.timer.is_some_and(|timer| timer <= self.now) {
            self.client.dtls.handle_timeout(self.now).unwrap();
        }
        if self.server.poll_timeout().is_some_and(|timer| timer <= self.now) {
            self.server.handle_timeout(self.now);
        }
    }
}

/// A world after a smooth handshake.
pub(super) fn connected() -> World {
    let mut world = World::new();
    world.handshake(Duration::from_secs(1), &mut |_| vec![Duration::from_millis(1)]);
    assert!(world.connected());
    world
}
