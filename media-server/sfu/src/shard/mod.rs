//! A shard: rooms and their sessions, driven by datagrams, commands and time.
//!
//! The order of use: any number of `handle_*`; then [`Shard::poll_transmit`] until `None`, [`Shard::poll_event`] until `None`,
//! [`Shard::poll_tap`] and [`Shard::poll_unbound`] until `None`; then sleep until [`Shard::poll_timeout`] or the next input.
//!
//! The cost of a datagram, a command and a tick does not grow with rooms or peers: peers are found through tables
//! (`peers`, which states their bounds), and timers name the peers and rooms that are due. Only a burst with new packets
//! visits all subscribers of its room, since each gets a copy.

mod clock;
mod command;
mod drive;
mod link;
mod peers;
mod policer;
mod publisher;
mod responsiveness;
mod room;
mod round_trip;
mod source;
pub mod stats;
mod streams;
mod subscriber;
mod tap_numbers;
mod timers;
pub mod trouble;

pub use command::{Command, EndReason, Event};
pub use source::{Feed, LocalPacket};
pub use subscriber::Reported;

use crate::forward::catch_up::SharedBudget;
use crate::forward::slab::{MAX_TRANSMIT, Transmit};
use crate::parameters::{IceCredentials, RoomId, SessionId, TransportParameters};
use crate::ring::Limits;
use crate::tap::TapBatch;
use crate::transport::{Identity, Transport};
use peers::{Peers, Place, Role};
use publisher::Publisher;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use room::Room;
use stats::{SessionStats, ShardCounters};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use subscriber::Subscriber;
use timers::Timers;

/// The delay of the next attempt at a burst that was due and could not start.
const RETRY: Duration = Duration::from_millis(1);
/// Tap buffers kept for reuse.
const TAP_POOL: usize = 64;

/// See the module.
pub struct Shard {
    identity: Identity,
    random: StdRng,
    rooms: HashMap<RoomId, Room>,
    peers: Peers,
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<Event>,
    taps: VecDeque<TapBatch>,
    tap_pool: Vec<TapBatch>,
    room_timers: Timers<RoomId>,
    /// The budget that all joiners share.
    shared: SharedBudget,
    /// Bytes of video that a room keeps at most.
    gop_cache: usize,
    /// The room whose burst is under way.
    bursting: Option<RoomId>,
    /// Origin of the grid of ticks: the time of the first command.
    epoch: Option<Instant>,
    scratch: Vec<u8>,
    sealed: Vec<u8>,
    counters: ShardCounters,
}

impl Shard {
    /// An empty shard. `seed` must come from a cryptographic source: SSRCs and sequence numbers are drawn from it.
    pub fn new(identity: Identity, seed: [u8; 32]) -> Self {
        Self {
            identity,
            random: StdRng::from_seed(seed),
            rooms: HashMap::new(),
            peers: Peers::default(),
            datagrams: VecDeque::new(),
            events: VecDeque::new(),
            taps: VecDeque::new(),
            tap_pool: Vec::new(),
            room_timers: Timers::default(),
            shared: SharedBudget::default(),
            gop_cache: Limits::VIDEO.bytes,
            bursting: None,
            epoch: None,
            scratch: Vec::new(),
            sealed: Vec::new(),
            counters: ShardCounters::default(),
        }
    }

    /// Carries out a command. One that names an unknown room or session does nothing, but that a session which cannot be
    /// let in is told as ended.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        self.epoch.get_or_insert(now);
        match command {
            Command::OpenRoom { room, tapped } => {
                let gop_cache = self.gop_cache;
                self.rooms.entry(room).or_insert_with(|| Room::new(room, tapped, gop_cache));
            }
            Command::CloseRoom(room) => self.close_room(now, room),
            Command::AddSource { room, session, feed, tracks, max_bitrate } => {
                let ssrc = self.random.random();
                let parameters = match feed {
                    Feed::Peer(parameters) => Some(parameters),
                    Feed::Local => None,
                };
                self.admit(now, room, session, parameters, |transport, room| {
                    let publisher = Publisher::new(now, session, transport, tracks, ssrc, max_bitrate);
                    Some((Role::Publisher, room.publishers.insert(publisher)))
                });
            }
            Command::Subscribe { room, session, transport, tracks } => {
                let starts = self.random.random();
                self.admit(now, room, session, Some(transport), |transport, room| {
                    let subscriber = Subscriber::new(now, session, transport?, tracks, starts);
                    Some((Role::Subscriber, room.subscribers.insert(subscriber)))
                });
            }
            Command::RestartIce { session, local, remote } => self.restart_ice(session, local, remote),
            Command::RequestKeyframe(room) => {
                if self.rooms.get_mut(&room).is_some_and(|room| room.request_keyframe(now)) {
                    self.schedule_keyframe(now, room);
                }
            }
            Command::Close(session) => self.end(now, session, EndReason::Closed),
            Command::SetMaxBitrate(limit) => {
                let publishers = self.rooms.values_mut().flat_map(|room| &mut room.publishers);
                publishers.for_each(|(_, publisher)| publisher.set_max_bitrate(limit));
            }
            Command::SetGopCache(bytes) => {
                self.gop_cache = bytes;
                self.rooms.values_mut().for_each(|room| room.set_gop_cache(bytes));
            }
        }
    }

    /// Enters a session that `seat` puts into its room; a local source is one without transport.
    fn admit(
        &mut self,
        now: Instant,
        room: RoomId,
        session: SessionId,
        parameters: Option<TransportParameters>,
        seat: impl FnOnce(Option<Transport>, &mut Room) -> Option<(Role, usize)>,
    ) {
        let Some(place) = self.rooms.get_mut(&room).filter(|_| !self.peers.contains(session)) else {
            return self.events.push_back(Event::Ended { session, reason: EndReason::Closed });
        };
        let ufrag = parameters.as_ref().map(|parameters| parameters.local.ufrag.clone());
        let transport = parameters.map(|parameters| Transport::new(now, &self.identity, parameters));
        let Some((role, position)) = seat(transport, place) else { return };
        self.peers.insert(session, Place { room, role, position });
        match ufrag {
            Some(ufrag) => self.peers.add_ufrag(session, ufrag, |_| true),
            // Without a transport there is nothing to wait for.
            None => self.connected(now, session),
        }
        self.reschedule(now, session);
    }

    fn restart_ice(&mut self, session: SessionId, local: IceCredentials, remote: IceCredentials) {
        let ufrag = local.ufrag.clone();
        let Some(place) = self.peers.place(session) else { return };
        let room = self.rooms.get_mut(&place.room);
        let Some(transport) = room.and_then(|room| room.transport(place.role, place.position)) else { return };
        transport.restart_ice(local, remote);
        // A restart that was offered and never used is over.
        self.peers.add_ufrag(session, ufrag, |known| transport.answers_to(known));
    }

    /// Returns when to call [`Shard::handle_timeout`] and poll again; `None` while there is nothing to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.peers.next_due(), self.room_timers.next()].into_iter().flatten().min()
    }

    /// The next datagram, or run of datagrams, at the front of `slab`, which must hold [`MAX_TRANSMIT`] bytes. `None` when
    /// there is no more for now.
    pub fn poll_transmit(&mut self, now: Instant, slab: &mut [u8]) -> Option<Transmit> {
        debug_assert!(slab.len() >= MAX_TRANSMIT, "the slab holds a whole run");
        if let Some((destination, bytes)) = self.datagrams.pop_front() {
            slab[..bytes.len()].copy_from_slice(&bytes);
            return Some(Transmit { destination, len: bytes.len(), segment_size: None });
        }
        loop {
            let id = match self.bursting {
                Some(id) => id,
                None => self.begin_burst(now)?,
            };
            if let Some(room) = self.rooms.get_mut(&id) {
                self.events.extend(room.started.take().map(|session| Event::MediaStarted { room: id, session }));
                if let Some(transmit) = room.poll_transmit(now, slab) {
                    let segments = transmit.segment_size.map_or(1, |size| transmit.len.div_ceil(usize::from(size)));
                    self.counters.forwarded += segments as u64;
                    return Some(transmit);
                }
                if let Some(tap) = room.tap.take_if(|tap| !tap.records.is_empty()) {
                    self.taps.push_back(tap);
                }
            }
            self.bursting = None;
            self.schedule_room(id);
        }
    }

    fn begin_burst(&mut self, now: Instant) -> Option<RoomId> {
        loop {
            let id = self.room_timers.due(now)?;
            let room = self.rooms.get_mut(&id)?;
            self.room_timers.set(id, &mut room.due, None);
            if room.start_burst(now, &mut self.shared) {
                self.bursting = Some(id);
                return Some(id);
            }
            // Its source has ended. The delay keeps a deadline that stays from being met again at this time.
            let at = room.poll_timeout().map(|at| at.max(now + RETRY));
            self.room_timers.set(id, &mut room.due, at);
        }
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns the next address that belonged to a session here. Polled after every `handle_*`.
    pub fn poll_unbound(&mut self) -> Option<SocketAddr> {
        self.peers.take_unbound()
    }

    /// What the recorder gets.
    pub fn poll_tap(&mut self) -> Option<TapBatch> {
        self.taps.pop_front()
    }

    /// Takes a tap batch's memory back.
    pub fn recycle_tap(&mut self, batch: TapBatch) {
        if self.tap_pool.len() < TAP_POOL {
            self.tap_pool.push(batch);
        }
    }

    /// Since the shard began.
    pub fn counters(&self) -> ShardCounters {
        self.counters
    }

    /// Every session, as it stands.
    pub fn stats(&self, now: Instant) -> Vec<SessionStats> {
        let mut out = Vec::with_capacity(self.peers.len());
        for room in self.rooms.values() {
            out.extend(room.session_stats(now));
        }
        out
    }
}

/// Makes a tap batch ready for a room that is recorded.
fn open_tap(room: &mut Room, pool: &mut Vec<TapBatch>) {
    if room.tapped && room.tap.is_none() {
        let id = room.id;
        room.tap = Some(pool.pop().map_or_else(|| TapBatch::new(id), |batch| batch.reuse(id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::{DtlsRole, Fingerprint, PublisherTracks};

    fn credentials(n: usize) -> IceCredentials {
        IceCredentials { ufrag: format!("A{n:07}"), pwd: "p".repeat(24) }
    }

    #[test]
    fn restarts_without_end_are_remembered_in_two_entries() {
        let now = Instant::now();
        let mut shard = Shard::new(Identity::generate().unwrap(), [7; 32]);
        let (room, session) = (RoomId(1), SessionId(1));
        let restart =
            |session, n| Command::RestartIce { session, local: credentials(n), remote: credentials(9_000_000 + n) };
        shard.handle_command(now, restart(session, 1));
        assert!(shard.peers.ufrags().is_empty(), "a session that is not there");
        shard.handle_command(now, Command::OpenRoom { room, tapped: false });
        let transport = TransportParameters {
            local: credentials(0),
            remote: credentials(9),
            fingerprint: Fingerprint::Sha256([0; 32]),
            dtls_role: DtlsRole::Server,
        };
        let tracks = PublisherTracks::default();
        shard.handle_command(
            now,
            Command::AddSource { room, session, feed: Feed::Peer(transport), tracks, max_bitrate: None },
        );
        (1..100).for_each(|n| shard.handle_command(now, restart(session, n)));
        assert_eq!(shard.peers.ufrags(), ["A0000000", "A0000099"]);
        shard.handle_command(now, Command::Close(session));
        assert!(shard.peers.ufrags().is_empty());
    }
}
