//! The inputs of a shard: datagrams, packets of local sources, and deadlines.
//!
//! Every input ends by scheduling its peer and its room. Periodic work of different
//! peers falls on one grid of 50 ms, so that a thread with many peers wakes 20 times a second and not once for each;
//! requests for missing packets and keyframes do not wait for the grid.

use super::{Shard, open_tap};
use crate::feedback::read::{self, Feedback};
use crate::packet::{self, Kind};
use crate::parameters::{RoomId, SessionId};
use crate::shard::command::{EndReason, Event};
use crate::shard::peers::{Place, Role};
use crate::shard::source::LocalPacket;
use crate::transport::{StunRequest, Transport, TransportOutput};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The grid of reports, congestion feedback and transport timers.
const TICK: Duration = Duration::from_millis(50);
/// The interval of NACKs and keyframe requests.
const REPAIR_TICK: Duration = Duration::from_millis(10);
/// Feedback that is due waits this long for the next packet, so that the thread need not wake for feedback alone: with
/// audio, a packet arrives every 20 ms.
const FEEDBACK_SLACK: Duration = Duration::from_millis(25);

impl Shard {
    /// Takes one datagram. `from` is canonical: an IPv4 peer of a dual-stack socket is an IPv4 address.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.counters.datagrams_in += 1;
        let handled = match packet::classify(datagram) {
            Some(Kind::Stun) => self.handle_stun(now, from, datagram),
            Some(kind) => match self.peers.by_address(from) {
                Some(session) => self.handle_bound(now, from, session, kind, datagram),
                None => None,
            },
            None => None,
        };
        self.counters.dropped += u64::from(handled.is_none());
    }

    fn handle_stun(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<()> {
        let request = StunRequest::parse(datagram)?;
        let Some(session) = self.peers.by_ufrag(request.local_ufrag()) else {
            self.counters.stun_refused += 1;
            return None;
        };
        if self.transport(session)?.handle_stun(now, from, &request) {
            self.peers.bind(from, session);
            self.counters.stun_passed += 1;
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
        let place = self.peers.place(session).filter(|place| place.role == Role::Publisher)?;
        let room = self.rooms.get_mut(&place.room)?;
        let publisher = room.publishers.get_mut(place.position)?;
        if !publisher.admits(now, datagram, packet::ssrc(datagram)?) {
            return None;
        }
        let packet = publisher.transport.as_mut()?.open_rtp(now, datagram).ok()?;
        if let Some(received) = publisher.receive(now, &packet) {
            open_tap(room, &mut self.tap_pool);
            let known = room.clock.is_known();
            room.receive(now, session, &received);
            // Arrival times may have become the clock.
            if !known {
                self.schedule_reports(now, place.room);
            }
            self.schedule_room(place.room);
        }
        // A packet that is merely out of order has this long before a NACK.
        self.schedule_publisher(place, session, now, REPAIR_TICK / 2);
        Some(())
    }

    fn handle_rtcp(&mut self, now: Instant, session: SessionId, datagram: &[u8]) -> Option<()> {
        let place = self.peers.place(session)?;
        match place.role {
            Role::Publisher => self.handle_publisher_rtcp(now, session, place, datagram),
            Role::Subscriber => self.handle_subscriber_rtcp(now, place, datagram),
        }
    }

    fn handle_subscriber_rtcp(&mut self, now: Instant, place: Place, datagram: &[u8]) -> Option<()> {
        let room = self.rooms.get_mut(&place.room)?;
        let clock = room.clock;
        let subscriber = room.subscribers.get_mut(place.position)?;
        let compound = subscriber.transport.open_rtcp(now, datagram).ok()?;
        let mut keyframe = false;
        for feedback in read::read(&compound) {
            keyframe |= subscriber.feedback(now, feedback, &clock);
        }
        if subscriber.is_behind() {
            room.schedule_pacing(now, Some(place.position));
        }
        let first = keyframe && room.handle_keyframe_request(now, place.position);
        self.schedule_room(place.room);
        // Requests of many viewers become one to the publisher.
        if first {
            self.schedule_keyframe(now, place.room);
        }
        Some(())
    }

    fn handle_publisher_rtcp(&mut self, now: Instant, session: SessionId, place: Place, datagram: &[u8]) -> Option<()> {
        let room = self.rooms.get_mut(&place.room)?;
        let publisher = room.publishers.get_mut(place.position)?;
        let compound = publisher.transport.as_mut()?.open_rtcp(now, datagram).ok()?;
        let known = room.clock.is_known();
        for feedback in read::read(&compound) {
            let publisher = room.publishers.get_mut(place.position)?;
            match feedback {
                Feedback::SenderReport { ssrc, ntp, rtp } => {
                    if let Some(report) = publisher.sender_report(now, ssrc, ntp, rtp) {
                        open_tap(room, &mut self.tap_pool);
                        room.clock_report(now, session, &report);
                    }
                }
                Feedback::ReferenceAnswer { ssrc, reference, delay } => {
                    publisher.reference_answered(now, ssrc, reference, delay);
                }
                _ => {}
            }
        }
        if !known {
            self.schedule_reports(now, place.room);
        }
        Some(())
    }

    /// Makes the subscribers of a room due for sender reports, if its clock is known. Called once a source.
    fn schedule_reports(&mut self, now: Instant, room: RoomId) {
        if let Some(room) = self.rooms.get(&room).filter(|room| room.clock.is_known()) {
            let at = grid(self.epoch, now);
            room.subscribers.iter().for_each(|(_, subscriber)| self.peers.schedule(subscriber.id, at));
        }
    }

    /// Takes packets of a local source, in the order of their creation. Those of any other session are dropped.
    pub fn handle_source_packets(&mut self, now: Instant, session: SessionId, packets: &[LocalPacket]) {
        let Some(place) = self.peers.place(session).filter(|place| place.role == Role::Publisher) else { return };
        let Some(room) = self.rooms.get_mut(&place.room) else { return };
        let known = room.clock.is_known();
        for packet in packets {
            let publisher = room.publishers.get_mut(place.position).filter(|publisher| publisher.transport.is_none());
            let Some(publisher) = publisher else { return };
            let Some(received) = publisher.receive_local(now, packet) else { continue };
            let report = publisher.local_clock.report(now, packet, &received);
            open_tap(room, &mut self.tap_pool);
            room.receive(now, session, &received);
            if let Some(report) = report {
                room.clock_report(now, session, &report);
            }
        }
        if !known {
            self.schedule_reports(now, place.room);
        }
        self.schedule_room(place.room);
        self.schedule_publisher(place, session, now, Duration::ZERO);
    }

    /// Whether datagrams from this address belong to a session here.
    pub fn is_bound(&self, from: SocketAddr) -> bool {
        self.peers.by_address(from).is_some()
    }

    /// Runs the peers with expired deadlines.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(session) = self.peers.take_due(now) {
            self.tick(now, session);
            self.drain(now, session);
        }
    }

    fn tick(&mut self, now: Instant, session: SessionId) {
        let Some(place) = self.peers.place(session) else { return };
        let Some(room) = self.rooms.get_mut(&place.room) else { return };
        self.scratch.clear();
        let transport = match place.role {
            Role::Publisher => {
                let Some(publisher) = room.publishers.get_mut(place.position) else { return };
                if publisher.transport.is_none() {
                    let due = publisher.take_keyframe_request(now);
                    return self.events.extend(due.then_some(Event::KeyframeRequested(session)));
                }
                if publisher.connected {
                    publisher.feedback(now, &mut self.scratch);
                }
                publisher.transport.as_mut()
            }
            Role::Subscriber => {
                let Some(subscriber) = room.subscribers.get_mut(place.position) else { return };
                subscriber.reports(now, &room.clock, &mut self.scratch);
                Some(&mut subscriber.transport)
            }
        };
        let Some(transport) = transport else { return };
        if transport.poll_timeout().is_some_and(|at| at <= now) {
            transport.handle_timeout(now);
        }
        send_rtcp(transport, &self.scratch, &mut self.sealed, &mut self.datagrams);
    }

    /// Makes a peer due when its transport, its feedback or its reports are; later than now.
    pub(super) fn reschedule(&mut self, now: Instant, session: SessionId) {
        let Some(place) = self.peers.place(session) else { return };
        let Some(room) = self.rooms.get_mut(&place.room) else { return };
        let next = grid(self.epoch, now + Duration::from_nanos(1));
        if let Some(at) = room.transport(place.role, place.position).and_then(|transport| transport.poll_timeout()) {
            self.peers.schedule(session, grid(self.epoch, at).max(next));
        }
        match place.role {
            Role::Publisher => self.schedule_publisher(place, session, now, REPAIR_TICK),
            Role::Subscriber => {
                let subscriber = room.subscribers.get(place.position);
                if let Some(at) = subscriber.and_then(|subscriber| subscriber.report_at(&room.clock, next)) {
                    self.peers.schedule(session, grid(self.epoch, at).max(next));
                }
            }
        }
    }

    /// Schedules a publisher: after `delay` for requests, and now for feedback that is due. The next feedback is scheduled
    /// on the grid, in case no packet arrives until then.
    fn schedule_publisher(&mut self, place: Place, session: SessionId, now: Instant, delay: Duration) {
        let publisher = self.rooms.get(&place.room).and_then(|room| room.publishers.get(place.position));
        let Some(publisher) = publisher.filter(|publisher| publisher.connected) else { return };
        let feedback = publisher.feedback_at().map(|at| match at <= now {
            true => now,
            false => grid(self.epoch, at + FEEDBACK_SLACK),
        });
        if let Some(at) = feedback.into_iter().chain(publisher.request_at(now + delay)).min() {
            self.peers.schedule(session, at);
        }
    }

    /// Makes the publisher that feeds a room due for a keyframe request.
    pub(super) fn schedule_keyframe(&mut self, now: Instant, room: RoomId) {
        let active = self.rooms.get(&room).and_then(|room| room.active_session());
        if let Some((session, place)) = active.and_then(|session| Some((session, self.peers.place(session)?))) {
            self.schedule_publisher(place, session, now, Duration::ZERO);
        }
    }

    /// Enters a room under its next deadline.
    pub(super) fn schedule_room(&mut self, room: RoomId) {
        if let Some(room) = self.rooms.get_mut(&room) {
            let at = room.poll_timeout();
            self.room_timers.set(room.id, &mut room.due, at);
        }
    }

    fn transport(&mut self, session: SessionId) -> Option<&mut Transport> {
        let place = self.peers.place(session)?;
        self.rooms.get_mut(&place.room)?.transport(place.role, place.position)
    }

    /// Acts on the outputs of a peer's transport, and schedules the peer.
    fn drain(&mut self, now: Instant, session: SessionId) {
        while let Some(output) = self.transport(session).and_then(Transport::poll_output) {
            match output {
                TransportOutput::Datagram { to, bytes } => self.datagrams.push_back((to, bytes)),
                TransportOutput::Connected => self.connected(now, session),
                TransportOutput::Nominated(_) => {}
                TransportOutput::Forgotten(address) => self.peers.unbind(address, session),
                TransportOutput::Closed(error) => return self.end(now, session, EndReason::Transport(error)),
            }
        }
        self.reschedule(now, session);
    }

    pub(super) fn connected(&mut self, now: Instant, session: SessionId) {
        let Some(place) = self.peers.place(session) else { return };
        let Some(room) = self.rooms.get_mut(&place.room) else { return };
        match place.role {
            Role::Publisher => {
                if let Some(publisher) = room.publishers.get_mut(place.position) {
                    publisher.connected = true;
                }
            }
            Role::Subscriber => {
                room.subscriber_connected(now, place.position);
                self.schedule_room(place.room);
                self.schedule_keyframe(now, place.room);
            }
        }
        self.events.push_back(Event::Connected(session));
    }

    pub(super) fn end(&mut self, now: Instant, session: SessionId, reason: EndReason) {
        if let Some(transport) = self.transport(session) {
            transport.close(now);
            while let Some(output) = transport.poll_output() {
                if let TransportOutput::Datagram { to, bytes } = output {
                    self.datagrams.push_back((to, bytes));
                    break;
                }
            }
        }
        let Some(place) = self.peers.remove(session) else { return };
        if let Some(room) = self.rooms.get_mut(&place.room) {
            match place.role {
                Role::Publisher => {
                    room.publishers.try_remove(place.position);
                    open_tap(room, &mut self.tap_pool);
                    room.publisher_left(now, session);
                    room.schedule_pacing(now, None);
                }
                Role::Subscriber => {
                    let moved = room.remove_subscriber(place.position);
                    moved.into_iter().for_each(|(session, position)| self.peers.set_position(session, position));
                }
            }
            self.schedule_room(place.room);
        }
        self.events.push_back(Event::Ended { session, reason });
    }

    pub(super) fn close_room(&mut self, now: Instant, id: RoomId) {
        let Some(room) = self.rooms.get(&id) else { return };
        let publishers = room.publishers.iter().map(|(_, publisher)| publisher.id);
        let subscribers = room.subscribers.iter().map(|(_, subscriber)| subscriber.id);
        let sessions: Vec<SessionId> = publishers.chain(subscribers).collect();
        sessions.into_iter().for_each(|session| self.end(now, session, EndReason::Closed));
        let Some(mut room) = self.rooms.remove(&id) else { return };
        self.room_timers.set(id, &mut room.due, None);
        self.taps.extend(room.tap.filter(|tap| !tap.records.is_empty()));
    }
}

/// Returns the first point of the grid at or after `at`.
fn grid(epoch: Option<Instant>, at: Instant) -> Instant {
    let Some(epoch) = epoch else { return at };
    let nanos = at.saturating_duration_since(epoch).as_nanos() as u64;
    epoch + Duration::from_nanos(nanos.next_multiple_of(TICK.as_nanos() as u64))
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
