//! The ICE-lite side of one peer (RFC 8445 §2.5): answers checks, remembers which addresses passed, follows nominations.
//!
//! It sends no checks of its own, gathers nothing and is always the controlled side; a peer that claims to be
//! controlled is told so by 487. The newest nomination wins, at once: a viewer that changes its network goes on without
//! a restart. Consent (RFC 7675) is what the peer sends: a check or an authenticated packet. What an ICE-lite agent
//! cannot know is whether a peer that holds the password can also be reached at the address that it names.

use super::TransportError;
use super::stun::StunRequest;
use crate::parameters::IceCredentials;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// From the answer to the first check that passes.
const FIRST_CHECK: Duration = Duration::from_secs(10);
/// From the first check that passes to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// How long a peer may be silent (RFC 7675 §5.1).
const CONSENT: Duration = Duration::from_secs(30);
/// Addresses of one peer that are remembered.
pub(super) const MAX_ADDRESSES: usize = 8;

/// What became of a check.
pub(super) enum Check {
    /// Not authentic: no answer, no trace.
    Ignored,
    /// Authentic, but refused with this answer; the address did not pass.
    Refused(Vec<u8>),
    /// Passed.
    Passed {
        /// What to send back.
        answer: Vec<u8>,
        /// The peer's address is now another one.
        nominated: bool,
        /// An address that had to make room.
        forgotten: Option<SocketAddr>,
    },
}

/// Credentials of both sides.
struct Pair {
    local: IceCredentials,
    remote: IceCredentials,
}

impl Pair {
    /// USERNAME must be exactly `local:remote` (RFC 8445 §7.2.2), and the integrity right.
    fn admits(&self, request: &StunRequest) -> bool {
        let username = request.username().as_bytes();
        let (local, remote) = (self.local.ufrag.as_bytes(), self.remote.ufrag.as_bytes());
        username.len() == local.len() + 1 + remote.len()
            && bool::from(username[..local.len()].ct_eq(local))
            && username[local.len()] == b':'
            && bool::from(username[local.len() + 1..].ct_eq(remote))
            && request.authentic(&self.local.pwd)
    }
}

/// One peer's ICE-lite agent.
pub(super) struct Ice {
    current: Pair,
    /// After a restart, until it is first used.
    next: Option<Pair>,
    /// Oldest check first.
    addresses: Vec<SocketAddr>,
    nominated: Option<SocketAddr>,
    first: Option<SocketAddr>,
    created: Instant,
    first_passed: Option<Instant>,
    heard: Instant,
}

impl Ice {
    pub(super) fn new(now: Instant, local: IceCredentials, remote: IceCredentials) -> Ice {
        Ice {
            current: Pair { local, remote },
            next: None,
            addresses: Vec::new(),
            nominated: None,
            first: None,
            created: now,
            first_passed: None,
            heard: now,
        }
    }

    pub(super) fn restart(&mut self, local: IceCredentials, remote: IceCredentials) {
        self.next = Some(Pair { local, remote });
    }

    /// Whether checks may still come under this user fragment of ours.
    pub(super) fn answers_to(&self, ufrag: &str) -> bool {
        [Some(&self.current), self.next.as_ref()].into_iter().flatten().any(|pair| pair.local.ufrag == ufrag)
    }

    pub(super) fn handle(&mut self, now: Instant, from: SocketAddr, request: &StunRequest) -> Check {
        if self.next.as_ref().is_some_and(|pair| pair.admits(request)) {
            if let Some(pair) = self.next.take() {
                self.current = pair;
            }
        } else if !self.current.admits(request) {
            return Check::Ignored;
        }
        let password = &self.current.local.pwd;
        if !request.unknown().is_empty() {
            return Check::Refused(request.unknown_attribute(password));
        }
        if request.controlled() {
            return Check::Refused(request.role_conflict(password));
        }
        let answer = request.success(from, password);
        self.heard(now);
        self.first_passed.get_or_insert(now);
        self.first.get_or_insert(from);
        let nominated = request.use_candidate() && self.nominated != Some(from);
        if nominated {
            self.nominated = Some(from);
        }
        Check::Passed { answer, nominated, forgotten: self.remember(from) }
    }

    /// The peer has shown that it is there and wants to be sent to.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
    }

    /// Whether this address passed a check and is not forgotten.
    pub(super) fn passed(&self, address: SocketAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// The newest nominated address, or the first that passed until one is nominated.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.nominated.or(self.first)
    }

    /// The newest nominated address.
    pub(super) fn nominated(&self) -> Option<SocketAddr> {
        self.nominated
    }

    /// When the peer will have been silent for too long.
    pub(super) fn deadline(&self, connected: bool) -> Instant {
        match self.first_passed {
            None => self.created + FIRST_CHECK,
            Some(passed) if !connected => (passed + HANDSHAKE).min(self.heard + CONSENT),
            Some(_) => self.heard + CONSENT,
        }
    }

    /// Why it is over, when the deadline has passed.
    pub(super) fn expired(&self, now: Instant, connected: bool) -> Option<TransportError> {
        (now >= self.deadline(connected)).then_some(match (connected, self.first_passed) {
            (true, _) => TransportError::ConsentExpired,
            (false, Some(_)) => TransportError::HandshakeTimeout,
            (false, None) => TransportError::Timeout,
        })
    }

    /// Makes this address the newest, and gives the one that was forgotten for it.
    fn remember(&mut self, address: SocketAddr) -> Option<SocketAddr> {
        self.addresses.retain(|known| *known != address);
        self.addresses.push(address);
        if self.addresses.len() <= MAX_ADDRESSES {
            return None;
        }
        let peer = self.peer();
        let oldest = self.addresses.iter().position(|known| Some(*known) != peer)?;
        Some(self.addresses.remove(oldest))
    }
}
