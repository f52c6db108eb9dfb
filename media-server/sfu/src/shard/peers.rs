//! The tables of a shard that peers fill: where each peer is, when it is due, and which ufrags and addresses lead to it.
//!
//! | table | bound | rule |
//! |---|---|---|
//! | peers | sessions that the control plane admitted | an entry ends with its session |
//! | ufrags | two a peer: the one in use and that of a restart | a restart replaces the ufrag of an unused restart |
//! | timers | one a peer | moved, never added |
//! | addresses | eight a peer, each checked (STUN integrity) | the transport forgets the address checked longest ago, never the one it sends to; a check of another peer takes an address over |
//!
//! All lookups, and the end of a peer, cost the same however many peers there are.

use crate::parameters::{RoomId, SessionId};
use crate::shard::timers::Timers;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

/// Which side of its room a peer is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Sends media here.
    Publisher,
    /// Is sent media.
    Subscriber,
}

/// Where a peer is: its room, and the position among the publishers or the subscribers of that room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) room: RoomId,
    pub(super) role: Role,
    pub(super) position: usize,
}

struct Peer {
    place: Place,
    ufrags: Vec<String>,
    addresses: Vec<SocketAddr>,
    due: Option<Instant>,
}

/// The tables.
#[derive(Default)]
pub(super) struct Peers {
    peers: HashMap<SessionId, Peer>,
    by_ufrag: HashMap<String, SessionId>,
    by_address: HashMap<SocketAddr, SessionId>,
    /// Addresses that were unbound since they were last taken.
    unbound: Vec<SocketAddr>,
    timers: Timers<SessionId>,
}

impl Peers {
    /// Adds a peer that is not in the table yet.
    pub(super) fn insert(&mut self, session: SessionId, place: Place) {
        self.peers.insert(session, Peer { place, ufrags: Vec::new(), addresses: Vec::new(), due: None });
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn contains(&self, session: SessionId) -> bool {
        self.peers.contains_key(&session)
    }

    pub(super) fn place(&self, session: SessionId) -> Option<Place> {
        self.peers.get(&session).map(|peer| peer.place)
    }

    /// Records that a peer now has another position in its room.
    pub(super) fn set_position(&mut self, session: SessionId, position: usize) {
        if let Some(peer) = self.peers.get_mut(&session) {
            peer.place.position = position;
        }
    }

    /// Makes a peer due at `at`, or earlier if it already is.
    pub(super) fn schedule(&mut self, session: SessionId, at: Instant) {
        if let Some(peer) = self.peers.get_mut(&session).filter(|peer| peer.due.is_none_or(|due| at < due)) {
            self.timers.set(session, &mut peer.due, Some(at));
        }
    }

    /// Returns when the next peer is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Returns a peer that is due, and clears its timer.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<SessionId> {
        let session = self.timers.due(now)?;
        let peer = self.peers.get_mut(&session)?;
        self.timers.set(session, &mut peer.due, None);
        Some(session)
    }

    pub(super) fn by_ufrag(&self, ufrag: &str) -> Option<SessionId> {
        self.by_ufrag.get(ufrag).copied()
    }

    pub(super) fn by_address(&self, address: SocketAddr) -> Option<SessionId> {
        self.by_address.get(&address).copied()
    }

    /// Adds a ufrag of ours to those of a peer, and drops those that `keep` refuses.
    pub(super) fn add_ufrag(&mut self, session: SessionId, ufrag: String, keep: impl Fn(&str) -> bool) {
        let Some(peer) = self.peers.get_mut(&session) else { return };
        let by_ufrag = &mut self.by_ufrag;
        peer.ufrags.retain(|known| {
            let kept = keep(known);
            if !kept {
                remove_if(by_ufrag, known, session);
            }
            kept
        });
        by_ufrag.insert(ufrag.clone(), session);
        peer.ufrags.push(ufrag);
    }

    /// Maps an address to a peer, after a check of that peer from there.
    pub(super) fn bind(&mut self, address: SocketAddr, session: SessionId) {
        let previous = self.by_address.get(&address).copied();
        if previous == Some(session) {
            return;
        }
        if let Some(peer) = previous.and_then(|previous| self.peers.get_mut(&previous)) {
            peer.addresses.retain(|known| *known != address);
        }
        if let Some(peer) = self.peers.get_mut(&session) {
            peer.addresses.push(address);
            self.by_address.insert(address, session);
        }
    }

    /// Forgets an address, unless it leads to another peer by now.
    pub(super) fn unbind(&mut self, address: SocketAddr, session: SessionId) {
        remove_if(&mut self.by_address, &address, session);
        self.unbound.push(address);
        if let Some(peer) = self.peers.get_mut(&session) {
            peer.addresses.retain(|known| *known != address);
        }
    }

    /// Takes an address that belonged to a peer; another peer may have it by now.
    pub(super) fn take_unbound(&mut self) -> Option<SocketAddr> {
        self.unbound.pop()
    }

    /// Removes a peer with all that leads to it.
    pub(super) fn remove(&mut self, session: SessionId) -> Option<Place> {
        let mut peer = self.peers.remove(&session)?;
        self.timers.set(session, &mut peer.due, None);
        peer.ufrags.iter().for_each(|ufrag| remove_if(&mut self.by_ufrag, ufrag, session));
        peer.addresses.iter().for_each(|address| remove_if(&mut self.by_address, address, session));
        self.unbound.append(&mut peer.addresses);
        Some(peer.place)
    }

    #[cfg(test)]
    pub(super) fn ufrags(&self) -> Vec<&str> {
        let mut ufrags: Vec<&str> = self.by_ufrag.keys().map(String::as_str).collect();
        ufrags.sort_unstable();
        ufrags
    }
}

/// Removes an entry that leads to this session.
fn remove_if<K, Q>(table: &mut HashMap<K, SessionId>, key: &Q, session: SessionId)
where
    K: std::borrow::Borrow<Q> + Eq + std::hash::Hash,
    Q: Eq + std::hash::Hash + ?Sized,
{
    if table.get(key) == Some(&session) {
        table.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { room: RoomId(1), role: Role::Subscriber, position: 0 };

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn peers(count: u64) -> Peers {
        let mut peers = Peers::default();
        for n in 1..=count {
            peers.insert(SessionId(n), PLACE);
            peers.add_ufrag(SessionId(n), format!("A{n}"), |_| true);
        }
        peers
    }

    #[test]
    fn removed_peer_leaves_no_entry_in_any_table() {
        let mut peers = peers(2);
        (1..=8).for_each(|port| peers.bind(address(port), SessionId(1)));
        peers.schedule(SessionId(1), Instant::now());
        peers.bind(address(9), SessionId(2));
        assert_eq!(peers.remove(SessionId(1)), Some(PLACE));
        assert_eq!(peers.remove(SessionId(1)), None);
        assert_eq!((peers.len(), peers.by_ufrag.len(), peers.by_address.len(), peers.timers.len()), (1, 1, 1, 0));
        assert_eq!(peers.by_address(address(9)), Some(SessionId(2)));
    }

    #[test]
    fn address_taken_over_survives_the_end_of_its_first_peer() {
        let mut peers = peers(2);
        peers.bind(address(1), SessionId(1));
        peers.bind(address(1), SessionId(2));
        peers.unbind(address(1), SessionId(1));
        peers.remove(SessionId(1));
        assert_eq!(peers.by_address(address(1)), Some(SessionId(2)));
        peers.bind(address(1), SessionId(2));
        peers.remove(SessionId(2));
        assert!(peers.by_address.is_empty() && peers.by_ufrag.is_empty());
    }

    #[test]
    fn unknown_session_is_not_entered_in_any_table() {
        let mut peers = peers(1);
        peers.bind(address(1), SessionId(7));
        peers.add_ufrag(SessionId(7), "Zombie".to_owned(), |_| true);
        assert_eq!((peers.by_ufrag("Zombie"), peers.by_address(address(1))), (None, None));
    }
}
