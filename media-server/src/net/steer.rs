//! Which media thread a datagram belongs to.
//!
//! The kernel spreads datagrams over the threads by 5-tuple, not by room. The first character of our ICE ufrag names the
//! thread that owns the session, so any thread can tell where a connectivity check belongs; once the owner has found it
//! authentic, it says that this address is its own, and whatever comes from there follows. A thread keeps no address that
//! has not been authenticated.
//!
//! Two tables, both bounded. The owner notes which thread it has taught an address; an entry lives as long as the address
//! is bound to a session, of which each has at most eight (`sfu::transport`), and ends with a `Forget` to that thread. The
//! taught thread keeps at most [`MAX_ADDRESSES`]; beyond that the entry refreshed longest ago is evicted. Every check that
//! passes later teaches the address again, so an evicted entry is restored within the peer's check interval.

use sfu::packet::{Kind, classify};
use sfu::transport::StunRequest;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

/// Base64 of RFC 4648, which is the alphabet of ufrags (RFC 8839 §5.4).
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// The most media threads.
pub(super) const MOST_SHARDS: usize = LETTERS.len();
/// Addresses of other threads' sessions that one thread remembers: at least 8,192 sessions, about 8 MB.
pub(super) const MAX_ADDRESSES: usize = 65_536;

/// The character that names a thread.
pub(super) fn letter(shard: usize) -> char {
    char::from(LETTERS[shard % LETTERS.len()])
}

/// The steering tables of one thread.
pub(super) struct Steering {
    own: usize,
    shards: usize,
    owners: Owners,
    /// The thread that was taught each address of our own sessions.
    taught: HashMap<SocketAddr, usize>,
}

impl Steering {
    pub(super) fn new(own: usize, shards: usize) -> Self {
        Self { own, shards, owners: Owners::new(MAX_ADDRESSES), taught: HashMap::new() }
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
        if bound(from) { None } else { self.owners.get(from) }
    }

    /// Datagrams from `from` belong to `owner`, which has authenticated it.
    pub(super) fn learn(&mut self, from: SocketAddr, owner: usize) {
        self.owners.put(from, owner);
    }

    /// `from` no longer belongs to `owner`. An entry that another owner has created since stays.
    pub(super) fn forget(&mut self, from: SocketAddr, owner: usize) {
        self.owners.remove(from, owner);
    }

    /// Notes that thread `via` is taught `from`. Returns the thread that had been taught it before, if it is another one.
    pub(super) fn teach(&mut self, from: SocketAddr, via: usize) -> Option<usize> {
        self.taught.insert(from, via).filter(|before| *before != via)
    }

    /// `from` belongs to no session here any longer. Returns the thread that must forget it.
    pub(super) fn unbind(&mut self, from: SocketAddr) -> Option<usize> {
        self.taught.remove(&from)
    }

    /// Entries of both tables: addresses of other threads' sessions, and our own that other threads were taught.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.owners.by_address.len(), self.taught.len())
    }
}

/// Addresses and their owners, in the order of their last refresh.
struct Owners {
    limit: usize,
    by_address: HashMap<SocketAddr, (usize, u64)>,
    by_age: BTreeMap<u64, SocketAddr>,
    clock: u64,
}

impl Owners {
    fn new(limit: usize) -> Self {
        Self { limit, by_address: HashMap::new(), by_age: BTreeMap::new(), clock: 0 }
    }

    fn get(&self, from: SocketAddr) -> Option<usize> {
        self.by_address.get(&from).map(|(owner, _)| *owner)
    }

    fn put(&mut self, from: SocketAddr, owner: usize) {
        self.clock += 1;
        if let Some((_, age)) = self.by_address.insert(from, (owner, self.clock)) {
            self.by_age.remove(&age);
        }
        self.by_age.insert(self.clock, from);
        if self.by_address.len() > self.limit
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_address.remove(&oldest);
        }
    }

    fn remove(&mut self, from: SocketAddr, owner: usize) {
        if let Entry::Occupied(entry) = self.by_address.entry(from)
            && entry.get().0 == owner
        {
            self.by_age.remove(&entry.remove().1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> SocketAddr {
        SocketAddr::from(([10, 0, (n >> 16) as u8, 1], n as u16))
    }

    #[test]
    fn address_follows_its_owner_until_forgotten() {
        let rtp = [0x80, 96, 0, 0];
        let (from, mut steering) = (address(5000), Steering::new(0, 4));
        assert_eq!(steering.owner(from, &rtp, |_| false), None);
        steering.learn(from, 3);
        assert_eq!(steering.owner(from, &rtp, |_| false), Some(3));
        assert_eq!(steering.owner(from, &rtp, |_| true), None);
        steering.forget(from, 3);
        assert_eq!(steering.owner(from, &rtp, |_| false), None);
        assert_eq!(steering.sizes(), (0, 0));
    }

    #[test]
    fn forget_of_a_former_owner_changes_nothing() {
        let (from, mut steering) = (address(1), Steering::new(0, 4));
        steering.learn(from, 1);
        steering.learn(from, 2);
        steering.forget(from, 1);
        assert_eq!(steering.owners.get(from), Some(2));
        steering.forget(from, 2);
        assert!(steering.owners.by_age.is_empty());
    }

    #[test]
    fn full_table_evicts_the_entry_refreshed_longest_ago() {
        let mut owners = Owners::new(100);
        (0..100).for_each(|n| owners.put(address(n), 1));
        owners.put(address(0), 1);
        (100..199).for_each(|n| owners.put(address(n), 1));
        assert_eq!(owners.get(address(0)), Some(1), "refreshed");
        assert_eq!(owners.get(address(99)), None);
        assert_eq!((owners.by_address.len(), owners.by_age.len()), (100, 100));
        owners.put(address(99), 1);
        assert_eq!(owners.get(address(99)), Some(1), "taught again");
    }

    #[test]
    fn taught_address_is_unbound_once() {
        let (from, mut steering) = (address(1), Steering::new(0, 4));
        assert_eq!(steering.teach(from, 2), None);
        assert_eq!(steering.teach(from, 2), None);
        assert_eq!(steering.teach(from, 3), Some(2));
        assert_eq!(steering.unbind(from), Some(3));
        assert_eq!(steering.unbind(from), None);
    }
}
