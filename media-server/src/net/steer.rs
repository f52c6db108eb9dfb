//! Which media thread a datagram belongs to.
//!
//! The kernel spreads datagrams over the threads by 5-tuple, not by room. The first character of our ICE ufrag names the
//! thread that owns the session, so any thread can tell where a connectivity check belongs; once the owner has found it
//! authentic, it says that this address is its own, and whatever comes from there follows. A thread keeps no address that
//! has not been authenticated.

use sfu::packet::{Kind, classify};
use sfu::transport::StunRequest;
use std::collections::HashMap;
use std::net::SocketAddr;

/// Base64 of RFC 4648, which is the alphabet of ufrags (RFC 8839 §5.4).
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// The most media threads.
pub(super) const MOST_SHARDS: usize = LETTERS.len();
/// Addresses remembered for other threads; when there are more, all are learned anew from their next checks.
const MOST_ADDRESSES: usize = 16_384;

/// The character that names a thread.
pub(super) fn letter(shard: usize) -> char {
    char::from(LETTERS[shard % LETTERS.len()])
}

/// See the module.
pub(super) struct Steering {
    own: usize,
    shards: usize,
    owners: HashMap<SocketAddr, usize>,
}

impl Steering {
    pub(super) fn new(own: usize, shards: usize) -> Self {
        Self { own, shards, owners: HashMap::new() }
    }

    /// The other thread that this datagram belongs to; `None` when it is this one's, or nobody's.
    pub(super) fn owner(&self, from: SocketAddr, datagram: &[u8], bound: impl Fn(SocketAddr) -> bool) -> Option<usize> {
        if self.shards == 1 {
            return None;
        }
        if classify(datagram) == Some(Kind::Stun) {
            let request = StunRequest::parse(datagram)?;
            let first = *request.local_ufrag().as_bytes().first()?;
            let owner = LETTERS.iter().position(|letter| *letter == first)?;
            return (owner != self.own && owner < self.shards).then_some(owner);
        }
        if bound(from) { None } else { self.owners.get(&from).copied() }
    }

    /// Datagrams from `from` belong to `owner`, which has authenticated it.
    pub(super) fn learn(&mut self, from: SocketAddr, owner: usize) {
        if self.owners.len() >= MOST_ADDRESSES {
            self.owners.clear();
        }
        self.owners.insert(from, owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_follows_its_owner_once_it_is_authentic() {
        let from: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        let rtp = [0x80, 96, 0, 0];
        let mut steering = Steering::new(0, 4);
        assert_eq!(steering.owner(from, &rtp, |_| false), None);
        steering.learn(from, 3);
        assert_eq!(steering.owner(from, &rtp, |_| false), Some(3));
        assert_eq!(steering.owner(from, &rtp, |_| true), None);
    }

    #[test]
    fn remembered_addresses_are_bounded() {
        let mut steering = Steering::new(0, 2);
        for port in 0..u32::try_from(MOST_ADDRESSES).unwrap() + 100 {
            steering.learn(SocketAddr::from(([10, 0, (port >> 16) as u8, 1], port as u16)), 1);
        }
        assert!(steering.owners.len() <= MOST_ADDRESSES);
    }
}
