//! A shard: rooms and their sessions, driven by datagrams, commands and time.
//!
//! The order of use: any number of `handle_*`; then [`Shard::poll_transmit`] until `None`, [`Shard::poll_event`] until `None`,
//! [`Shard::poll_tap`] until `None`; then sleep until [`Shard::poll_timeout`] or the next input.

mod clock;
mod command;
mod publisher;
mod room;
pub mod stats;
mod subscriber;

pub use command::{Command, EndReason, Event};
pub use subscriber::Reported;

use crate::feedback::read::{self, Feedback};
use crate::forward::slab::{MAX_TRANSMIT, Transmit};
use crate::packet::{self, Kind};
use crate::parameters::{IceCredentials, RoomId, SessionId, TransportParameters};
use crate::tap::TapBatch;
use crate::transport::{Identity, StunRequest, Transport, TransportOutput};
use publisher::Publisher;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use room::Room;
use stats::{SessionStats, ShardCounters};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use subscriber::Subscriber;

/// How often feedback, reports and deadlines are looked at, when nothing hastens them.
const TICK: Duration = Duration::from_millis(50);
/// The same while packets are missing.
const REPAIR_TICK: Duration = Duration::from_millis(10);
/// Tap buffers kept for reuse.
const TAP_POOL: usize = 64;

/// See the module.
pub struct Shard {
    identity: Identity,
    random: StdRng,
    rooms: HashMap<RoomId, Room>,
    sessions: HashMap<SessionId, RoomId>,
    by_ufrag: HashMap<String, SessionId>,
    by_address: HashMap<SocketAddr, SessionId>,
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<Event>,
    taps: VecDeque<TapBatch>,
    tap_pool: Vec<TapBatch>,
    /// The room whose burst is under way.
    bursting: Option<RoomId>,
    tick_at: Option<Instant>,
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
            sessions: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_address: HashMap::new(),
            datagrams: VecDeque::new(),
            events: VecDeque::new(),
            taps: VecDeque::new(),
            tap_pool: Vec::new(),
            bursting: None,
            tick_at: None,
            scratch: Vec::new(),
            sealed: Vec::new(),
            counters: ShardCounters::default(),
        }
    }

    /// Carries out a command. One that names an unknown room or session does nothing, but that a session which cannot be
    /// let in is told as ended.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::OpenRoom { room, tapped } => {
                self.rooms.entry(room).or_insert_with(|| Room::new(room, tapped));
            }
            Command::CloseRoom(room) => self.close_room(now, room),
            Command::Publish { room, session, transport, tracks, max_bitrate } => {
                let ssrc = self.random.random();
                if let Some(transport) = self.admit(now, room, session, transport) {
                    let publisher = Publisher::new(now, session, transport, tracks, ssrc, max_bitrate);
                    self.rooms.entry(room).and_modify(|room| room.publishers.push(publisher));
                }
            }
            Command::Subscribe { room, session, transport, tracks } => {
                let starts = self.random.random();
                if let Some(transport) = self.admit(now, room, session, transport) {
                    let subscriber = Subscriber::new(now, session, transport, tracks, starts);
                    self.rooms.entry(room).and_modify(|room| room.subscribers.push(subscriber));
                }
            }
            Command::RestartIce { session, local, remote } => self.restart_ice(session, local, remote),
            Command::RequestKeyframe(room) => {
                if self.rooms.get_mut(&room).is_some_and(|room| room.request_keyframe(now)) {
                    self.hasten(now);
                }
            }
            Command::Close(session) => self.end(now, session, EndReason::Closed),
            Command::SetMaxBitrate(limit) => {
                let publishers = self.rooms.values_mut().flat_map(|room| &mut room.publishers);
                publishers.for_each(|publisher| publisher.set_max_bitrate(now, limit));
            }
        }
    }

    fn admit(
        &mut self,
        now: Instant,
        room: RoomId,
        session: SessionId,
        parameters: TransportParameters,
    ) -> Option<Transport> {
        if !self.rooms.contains_key(&room) || self.sessions.contains_key(&session) {
            self.events.push_back(Event::Ended { session, reason: EndReason::Closed });
            return None;
        }
        self.sessions.insert(session, room);
        self.by_ufrag.insert(parameters.local.ufrag.clone(), session);
        self.hasten(now + TICK);
        Some(Transport::new(now, &self.identity, parameters))
    }

    fn restart_ice(&mut self, session: SessionId, local: IceCredentials, remote: IceCredentials) {
        let ufrag = local.ufrag.clone();
        let Some(transport) = self.transport(session) else { return };
        transport.restart_ice(local, remote);
        // What an earlier restart offered and nobody took is over.
        let mut by_ufrag = std::mem::take(&mut self.by_ufrag);
        by_ufrag.retain(|known, of| *of != session || self.transport(session).is_some_and(|t| t.answers_to(known)));
        by_ufrag.insert(ufrag, session);
        self.by_ufrag = by_ufrag;
    }

    /// Takes one datagram. `from` is canonical: an IPv4 peer of a dual-stack socket is an IPv4 address.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.counters.datagrams_in += 1;
        let handled = match packet::classify(datagram) {
            Some(Kind::Stun) => self.handle_stun(now, from, datagram),
            Some(kind) => match self.by_address.get(&from).copied() {
                Some(session) => self.handle_bound(now, from, session, kind, datagram),
                None => None,
            },
            None => None,
        };
        self.counters.dropped += u64::from(handled.is_none());
    }

    fn handle_stun(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<()> {
        let request = StunRequest::parse(datagram)?;
        let Some(session) = self.by_ufrag.get(request.local_ufrag()).copied() else {
            self.counters.stun_refused += 1;
            return None;
        };
        if self.transport(session)?.handle_stun(now, from, &request) {
            self.by_address.insert(from, session);
        } else {
            self.counters.stun_refused += 1;
        }
        self.drain(now, session);
        Some(())
    }

    fn handle_bound(
        &mut self,
        now: Instant,
        from: SocketAddr,
        session: SessionId,
        kind: Kind,
        datagram: &[u8],
    ) -> Option<()> {
        match kind {
            Kind::Dtls => {
                self.transport(session)?.handle_dtls(now, from, datagram);
                self.drain(now, session);
                Some(())
            }
            Kind::Rtp => self.handle_rtp(now, session, datagram),
            Kind::Rtcp => self.handle_rtcp(now, session, datagram),
            Kind::Stun => None,
        }
    }

    fn handle_rtp(&mut self, now: Instant, session: SessionId, datagram: &[u8]) -> Option<()> {
        let room = self.rooms.get_mut(self.sessions.get(&session)?)?;
        let publisher = room.publishers.iter_mut().find(|publisher| publisher.id == session)?;
        if !publisher.admits(now, datagram, packet::ssrc(datagram)?) {
            return None;
        }
        let packet = publisher.transport.open_rtp(now, datagram).ok()?;
        let Some(received) = publisher.receive(now, &packet) else { return Some(()) };
        let missing = publisher.is_missing_any();
        open_tap(room, &mut self.tap_pool);
        room.receive(now, session, &received);
        if missing {
            self.hasten(now + REPAIR_TICK / 2);
        }
        Some(())
    }

    fn handle_rtcp(&mut self, now: Instant, session: SessionId, datagram: &[u8]) -> Option<()> {
        let room = self.rooms.get_mut(self.sessions.get(&session)?)?;
        if let Some(position) = room.subscribers.iter().position(|subscriber| subscriber.id == session) {
            let clock = room.clock;
            let subscriber = &mut room.subscribers[position];
            let compound = subscriber.transport.open_rtcp(now, datagram).ok()?;
            let mut keyframe = false;
            for feedback in read::read(&compound) {
                keyframe |= subscriber.feedback(now, feedback, &clock);
            }
            if subscriber.is_behind() {
                room.poke(now);
            }
            // However many ask, the tick comes early only once.
            if keyframe && room.keyframe_wanted_by(now, position) {
                self.hasten(now);
            }
            return Some(());
        }
        let publisher = room.publishers.iter_mut().find(|publisher| publisher.id == session)?;
        let compound = publisher.transport.open_rtcp(now, datagram).ok()?;
        for feedback in read::read(&compound) {
            if let Feedback::SenderReport { ssrc, ntp, rtp } = feedback {
                let publisher = room.publishers.iter_mut().find(|publisher| publisher.id == session)?;
                if let Some(kind) = publisher.sender_report(now, ssrc, ntp) {
                    open_tap(room, &mut self.tap_pool);
                    room.sender_report(now, session, kind, ssrc, ntp, rtp);
                }
            }
        }
        Some(())
    }

    /// Whether datagrams from this address belong to a session here.
    pub fn is_bound(&self, from: SocketAddr) -> bool {
        self.by_address.contains_key(&from)
    }

    /// What is due by time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.tick_at.is_none_or(|at| at > now) {
            return;
        }
        let mut next = TICK;
        let mut due = Vec::new();
        let ids: Vec<RoomId> = self.rooms.keys().copied().collect();
        for id in ids {
            let Some(room) = self.rooms.get_mut(&id) else { continue };
            for publisher in &mut room.publishers {
                if publisher.transport.poll_timeout().is_some_and(|at| at <= now) {
                    publisher.transport.handle_timeout(now);
                    due.push(publisher.id);
                }
                if !publisher.connected {
                    continue;
                }
                publisher.feedback(now, &mut self.scratch);
                send_rtcp(&mut publisher.transport, &self.scratch, &mut self.sealed, &mut self.datagrams);
                if publisher.is_missing_any() || publisher.wants_keyframe() {
                    next = REPAIR_TICK;
                }
            }
            for subscriber in &mut room.subscribers {
                if subscriber.transport.poll_timeout().is_some_and(|at| at <= now) {
                    subscriber.transport.handle_timeout(now);
                    due.push(subscriber.id);
                }
                subscriber.reports(now, &room.clock, &mut self.scratch);
                send_rtcp(&mut subscriber.transport, &self.scratch, &mut self.sealed, &mut self.datagrams);
            }
        }
        for session in due {
            self.drain(now, session);
        }
        self.tick_at = (!self.sessions.is_empty()).then(|| now + next);
    }

    /// When to call [`Shard::handle_timeout`] and poll again; `None` while there is nothing to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let rooms = self.rooms.values().filter_map(Room::poll_timeout).min();
        [self.tick_at, rooms].into_iter().flatten().min()
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
                None => {
                    let room = self.rooms.values_mut().find_map(|room| room.begin(now).then_some(room.id))?;
                    self.bursting = Some(room);
                    room
                }
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
        }
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
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
    pub fn stats(&self) -> Vec<SessionStats> {
        let mut out = Vec::with_capacity(self.sessions.len());
        for room in self.rooms.values() {
            out.extend(room.publishers.iter().map(|publisher| publisher.session_stats(room.id)));
            out.extend(room.subscribers.iter().map(|subscriber| subscriber.session_stats(room.id)));
        }
        out
    }

    fn hasten(&mut self, at: Instant) {
        self.tick_at = Some(self.tick_at.map_or(at, |tick| tick.min(at)));
    }

    fn transport(&mut self, session: SessionId) -> Option<&mut Transport> {
        let room = self.rooms.get_mut(self.sessions.get(&session)?)?;
        let publishers = room.publishers.iter_mut().map(|p| (p.id, &mut p.transport));
        let subscribers = room.subscribers.iter_mut().map(|s| (s.id, &mut s.transport));
        publishers.chain(subscribers).find(|(id, _)| *id == session).map(|(_, transport)| transport)
    }

    /// Acts on what a session's transport has to tell.
    fn drain(&mut self, now: Instant, session: SessionId) {
        while let Some(output) = self.transport(session).and_then(Transport::poll_output) {
            match output {
                TransportOutput::Datagram { to, bytes } => self.datagrams.push_back((to, bytes)),
                TransportOutput::Connected => self.connected(now, session),
                TransportOutput::Nominated(_) => {}
                TransportOutput::Forgotten(address) => {
                    if self.by_address.get(&address) == Some(&session) {
                        self.by_address.remove(&address);
                    }
                }
                TransportOutput::Closed(error) => return self.end(now, session, EndReason::Transport(error)),
            }
        }
    }

    fn connected(&mut self, now: Instant, session: SessionId) {
        let Some(room) = self.sessions.get(&session).and_then(|id| self.rooms.get_mut(id)) else { return };
        if let Some(publisher) = room.publishers.iter_mut().find(|publisher| publisher.id == session) {
            publisher.connected = true;
        } else if let Some(position) = room.subscribers.iter().position(|subscriber| subscriber.id == session) {
            room.subscriber_connected(now, position);
            self.hasten(now);
        }
        self.events.push_back(Event::Connected(session));
    }

    fn end(&mut self, now: Instant, session: SessionId, reason: EndReason) {
        if let Some(transport) = self.transport(session) {
            transport.close(now);
            while let Some(output) = transport.poll_output() {
                if let TransportOutput::Datagram { to, bytes } = output {
                    self.datagrams.push_back((to, bytes));
                    break;
                }
            }
        }
        let Some(id) = self.sessions.remove(&session) else { return };
        self.by_ufrag.retain(|_, other| *other != session);
        self.by_address.retain(|_, other| *other != session);
        if let Some(room) = self.rooms.get_mut(&id) {
            room.subscribers.retain(|subscriber| subscriber.id != session);
            if room.publishers.iter().any(|publisher| publisher.id == session) {
                room.publishers.retain(|publisher| publisher.id != session);
                open_tap(room, &mut self.tap_pool);
                room.publisher_left(now, session);
                room.poke(now);
            }
        }
        self.events.push_back(Event::Ended { session, reason });
    }

    fn close_room(&mut self, now: Instant, room: RoomId) {
        let sessions: Vec<_> = self.sessions.iter().filter(|(_, of)| **of == room).map(|(id, _)| *id).collect();
        sessions.into_iter().for_each(|session| self.end(now, session, EndReason::Closed));
        if let Some(tap) = self.rooms.remove(&room).and_then(|room| room.tap).filter(|tap| !tap.records.is_empty()) {
            self.taps.push_back(tap);
        }
    }
}

/// Of a room that is recorded, what happens is copied.
fn open_tap(room: &mut Room, pool: &mut Vec<TapBatch>) {
    if room.tapped && room.tap.is_none() {
        let id = room.id;
        room.tap = Some(pool.pop().map_or_else(|| TapBatch::new(id), |batch| batch.reuse(id)));
    }
}

fn send_rtcp(
    transport: &mut Transport,
    compound: &[u8],
    sealed: &mut Vec<u8>,
    datagrams: &mut VecDeque<(SocketAddr, Vec<u8>)>,
) {
    let Some(to) = transport.peer().filter(|_| !compound.is_empty()) else { return };
    if transport.seal_rtcp(compound, sealed).is_ok() {
        datagrams.push_back((to, sealed.clone()));
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
        assert!(shard.by_ufrag.is_empty(), "a session that is not there");
        shard.handle_command(now, Command::OpenRoom { room, tapped: false });
        let transport = TransportParameters {
            local: credentials(0),
            remote: credentials(9),
            fingerprint: Fingerprint::Sha256([0; 32]),
            dtls_role: DtlsRole::Server,
        };
        let tracks = PublisherTracks::default();
        shard.handle_command(now, Command::Publish { room, session, transport, tracks, max_bitrate: None });
        (1..100).for_each(|n| shard.handle_command(now, restart(session, n)));
        let mut known: Vec<&str> = shard.by_ufrag.keys().map(String::as_str).collect();
        known.sort_unstable();
        assert_eq!(known, ["A0000000", "A0000099"]);
        shard.handle_command(now, Command::Close(session));
        assert!(shard.by_ufrag.is_empty());
    }
}
