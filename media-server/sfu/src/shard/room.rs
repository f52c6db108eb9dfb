//! A room: who publishes, who watches, the tracks between them, and the fan-out of a burst.

use crate::entry::KeyframeStart;
use crate::forward::catch_up::SharedBudget;
use crate::forward::pacing::Pacer;
use crate::forward::plan::Plan;
use crate::forward::slab::Transmit;
use crate::parameters::{Codec, MediaKind, RoomId, SessionId};
use crate::ring::PacketMeta;
use crate::shard::clock::SourceClock;
use crate::shard::peers::Role;
use crate::shard::publisher::{Publisher, Received};
use crate::shard::responsiveness::Responsiveness;
use crate::shard::source::ClockReport;
use crate::shard::subscriber::Subscriber;
use crate::shard::tap_numbers::TapNumbers;
use crate::tap::{TapBatch, TapRecord};
use crate::track::{Put, SourceKey, SourcePacket, Track};
use crate::transport::Transport;
use slab::Slab;
use std::time::{Duration, Instant};

/// Packets of a frame wait for each other so long, unless its last has come.
const GATHER: Duration = Duration::from_millis(2);
/// So many waiting packets do not wait for more.
const GATHER_MOST: u64 = 32;
/// A viewer that joins when the newest keyframe is older than this starts with it, and the camera is asked for a newer one.
const STALE_KEYFRAME: Duration = Duration::from_secs(3);
/// A viewer gets its first packet so long after the handshake: it has our last flight by then, and its keys.
const SETTLE: Duration = Duration::from_millis(10);
/// So long after it came, a viewer who asks for a keyframe has missed the start, and gets it again from the ring.
const STARTING: Duration = Duration::from_secs(3);
/// How long it waits until it gets it again, doubled each time, and how often it may.
const RESTART_EVERY: Duration = Duration::from_millis(300);
const RESTARTS: u32 = 3;
/// How often those who catch up get their next packets.
const PACE: Duration = Duration::from_millis(5);
/// A table of this many positions shrinks when less than a quarter of them are taken.
const SPARSE_FROM: usize = 64;
/// Sender reports wait in the tap for a burst: no more than so many.
const MOST_UNSENT: usize = 1024;

/// An SSRC that follows another one of its session at once leaves no gap in a recording; after longer than this it does.
const SEAMLESS: Duration = Duration::from_millis(200);

/// A track with what the next burst needs.
struct Lane {
    track: Track,
    tap_numbers: TapNumbers,
    /// One past the last index of any plan so far.
    planned: u64,
    /// Packets that filled holes since the last plan.
    late: Vec<u64>,
    plan: Plan,
    pacer: Pacer,
}

impl Lane {
    fn new(kind: MediaKind) -> Self {
        Self {
            track: Track::new(kind),
            tap_numbers: TapNumbers::default(),
            planned: 0,
            late: Vec::with_capacity(64),
            plan: Plan::default(),
            pacer: Pacer::default(),
        }
    }

    /// The newest packet's index and timestamp.
    fn newest(&self) -> (u64, u32) {
        let timestamp = self.track.newest().map_or(0, |(timestamp, _)| timestamp);
        (self.track.ring().head().saturating_sub(1), timestamp)
    }

    /// There are packets that no burst has sent yet.
    fn is_pending(&self) -> bool {
        self.planned < self.track.ring().head() || !self.late.is_empty()
    }

    /// Plans what is new, or as much of it as may leave at once. Returns when the rest is due.
    fn fill(&mut self, now: Instant, unpaced: bool) -> Option<Instant> {
        let ring = self.track.ring();
        let mut until = ring.head();
        if unpaced {
            self.pacer.flush();
        } else {
            let pending = ring.range(self.planned..until).map(|meta| u64::from(meta.len)).sum();
            let mut left = self.pacer.take(now, pending, ring.bitrate());
            if left < pending {
                let fits = |meta: &&PacketMeta| {
                    let fits = left > 0;
                    left = left.saturating_sub(meta.len.into());
                    fits
                };
                until =
                    ring.range(self.planned..until).take_while(fits).last().map_or(self.planned, |last| last.index + 1);
            }
        }
        self.plan.fill(self.track.ring_mut(), &self.late, self.planned..until);
        self.late.clear();
        self.planned = until;
        self.pacer.next_at()
    }
}

/// See the module.
pub(super) struct Room {
    pub(super) id: RoomId,
    pub(super) publishers: Slab<Publisher>,
    pub(super) subscribers: Slab<Subscriber>,
    pub(super) clock: SourceClock,
    pub(super) tapped: bool,
    pub(super) tap: Option<TapBatch>,
    /// Who has begun to feed the room, until the shard has told it.
    pub(super) started: Option<SessionId>,
    /// Video packets that came while no viewer could start with them.
    pub(super) held: u64,
    /// Whose media is forwarded.
    active: Option<SessionId>,
    video: Lane,
    audio: Lane,
    responsiveness: Responsiveness,
    flush_at: Option<Instant>,
    pace_at: Option<Instant>,
    /// Positions of the subscribers that a burst without new packets visits: those behind, and those about to start.
    paced: Vec<usize>,
    burst: Option<Burst>,
    /// The deadline under which the shard has entered this room.
    pub(super) due: Option<Instant>,
}

/// Progress of the burst under way.
#[derive(Clone, Copy)]
struct Burst {
    /// There are new packets, so that every subscriber is visited; otherwise those in [`Room::paced`].
    new: bool,
    /// The next position, or the next entry of [`Room::paced`].
    next: usize,
    /// Entries of [`Room::paced`] that stay.
    kept: usize,
}

/// Where subscribers that wait can start.
struct Entry {
    keyframe: Option<KeyframeStart>,
    newest: (u64, u32),
    audio: Option<u64>,
}

impl Entry {
    /// Starts the tracks of a subscriber that wait, where there is something to start with.
    fn start(&self, now: Instant, subscriber: &mut Subscriber) {
        if !subscriber.connected || subscriber.waiting > now {
            return;
        }
        if let (Some(outgoing), Some(keyframe)) = (subscriber.video.as_mut().filter(|o| o.is_waiting()), self.keyframe)
        {
            outgoing.start_at_keyframe(now, keyframe, self.newest);
        }
        if let (Some(outgoing), Some(index)) = (subscriber.audio.as_mut().filter(|o| o.is_waiting()), self.audio) {
            outgoing.start_live(index);
        }
    }
}

/// Grants a subscriber that is behind what it may be sent in this burst.
fn grant(
    now: Instant,
    subscriber: &mut Subscriber,
    video: &Track,
    keyframe: Option<KeyframeStart>,
    shared: &mut SharedBudget,
) {
    if let Some(outgoing) = &mut subscriber.video {
        outgoing.grant(now, video.ring(), keyframe, shared);
    }
}

impl Room {
    pub(super) fn new(id: RoomId, tapped: bool) -> Self {
        Self {
            id,
            publishers: Slab::new(),
            subscribers: Slab::new(),
            clock: SourceClock::default(),
            tapped,
            tap: None,
            started: None,
            held: 0,
            active: None,
            video: Lane::new(MediaKind::Video),
            audio: Lane::new(MediaKind::Audio),
            responsiveness: Responsiveness::default(),
            flush_at: None,
            pace_at: None,
            paced: Vec::new(),
            burst: None,
            due: None,
        }
    }

    fn publisher(&mut self, id: SessionId) -> Option<&mut Publisher> {
        self.publishers.iter_mut().map(|(_, publisher)| publisher).find(|publisher| publisher.id == id)
    }

    fn publisher_of(&self, id: SessionId) -> Option<&Publisher> {
        self.publishers.iter().map(|(_, publisher)| publisher).find(|publisher| publisher.id == id)
    }

    /// Removes a subscriber. Returns the new positions of others, when the table shrank.
    pub(super) fn remove_subscriber(&mut self, position: usize) -> Vec<(SessionId, usize)> {
        self.subscribers.try_remove(position);
        let mut moved = Vec::new();
        // A burst visits every position, so that a crowd that left must not leave its positions behind.
        let sparse =
            self.subscribers.capacity() >= SPARSE_FROM && self.subscribers.len() * 4 < self.subscribers.capacity();
        if sparse && self.burst.is_none() {
            self.subscribers.compact(|subscriber, _, to| {
                moved.push((subscriber.id, to));
                true
            });
            self.subscribers.shrink_to_fit();
            self.paced.clear();
            self.paced.extend(self.subscribers.iter().filter(|(_, s)| s.paced).map(|(position, _)| position));
        }
        moved
    }

    fn active(&mut self) -> Option<&mut Publisher> {
        self.publisher(self.active?)
    }

    /// Whether the room's picture comes from this publisher.
    pub(super) fn feeds_video(&self, id: SessionId) -> bool {
        self.video.track.source().is_some_and(|(source, _)| source == id)
    }

    /// Puts a media packet into its track.
    pub(super) fn receive(&mut self, now: Instant, from: SessionId, received: &Received<'_>) {
        if self.active != Some(from) && !self.may_follow(from, received.kind) {
            return;
        }
        let packet = SourcePacket {
            sequence: received.sequence,
            timestamp: received.timestamp,
            marker: received.marker,
            payload_type: received.payload_type,
            codec: received.codec,
            payload: received.payload,
        };
        let lane = if received.kind == MediaKind::Video { &mut self.video } else { &mut self.audio };
        let keyframe_at = lane.track.keyframe().map(|start| start.at);
        let put = lane.track.put(now, (from, received.ssrc), &packet);
        let index = match put {
            Put::Appended(index) => {
                let timestamp = lane.newest().1;
                self.clock.arrived(now, received.kind, received.codec.clock_rate(), timestamp);
                index
            }
            Put::Filled(index) => {
                // What no plan has named yet will be in the next one anyhow.
                if index < lane.planned && lane.late.len() < lane.late.capacity() {
                    lane.late.push(index);
                }
                index
            }
            Put::Held => {
                let lacks_keyframe = lane.track.lacks_keyframe(now);
                self.held += u64::from(lacks_keyframe);
                let feeds = |publisher: &&mut Publisher| publisher.feeds(received.kind, received.ssrc);
                if let Some(publisher) = self.publisher(from).filter(|p| lacks_keyframe && feeds(p)) {
                    publisher.want_keyframe(now);
                }
                return;
            }
            Put::Refused => return,
        };
        let new_keyframe = lane.track.keyframe().is_some_and(|start| Some(start.at) != keyframe_at);
        let gathered = lane.track.ring().head() - lane.planned >= GATHER_MOST;
        // A sound is whole; it waits only for a frame that is on its way already.
        let whole = match received.kind {
            MediaKind::Audio => self.flush_at.is_none(),
            MediaKind::Video => received.marker,
        };
        let due = if gathered || whole { now } else { now + GATHER };
        let due = lane.pacer.next_at().map_or(due, |at| at.max(due));
        self.flush_at = Some(self.flush_at.map_or(due, |at| at.min(due)));
        let injected = lane.track.injected();
        if received.after_gap {
            lane.tap_numbers.insert_gap(injected.unwrap_or(index));
        }
        if let Some(tap) = &mut self.tap {
            let ring = lane.track.ring();
            for meta in injected.into_iter().chain([index]).filter_map(|index| ring.meta(index)) {
                let numbered = lane.tap_numbers.number(meta);
                tap.copy(now, from, received.kind, received.codec, &numbered, ring.payload(meta));
            }
        }
        if received.kind == MediaKind::Video
            && let Some(meta) = lane.track.ring().meta(index)
        {
            lane.pacer.saw(meta.timestamp);
        }
        if new_keyframe {
            self.video.track.set_responsive(self.responsiveness.keyframe(now));
            if let Some(publisher) = self.active() {
                publisher.keyframe_came();
            }
        }
    }

    /// Whether a session that does not feed the room may take over with media of this kind: a newer one, with its picture, or
    /// with its sound when it has no picture or there is nothing else.
    fn may_follow(&self, from: SessionId, kind: MediaKind) -> bool {
        let Some(publisher) = self.publisher_of(from) else { return false };
        let newer = self.active.is_none_or(|active| from > active || self.publisher_of(active).is_none());
        newer && (kind == MediaKind::Video || self.active.is_none() || publisher.tracks.video.is_none())
    }

    /// A source can begin, on either track.
    fn is_ready(&self, now: Instant) -> bool {
        self.next_source(now, MediaKind::Video).is_some() || self.next_source(now, MediaKind::Audio).is_some()
    }

    /// Returns the source that may start to feed a track now.
    fn next_source(&self, now: Instant, kind: MediaKind) -> Option<SourceKey> {
        let lane = if kind == MediaKind::Video { &self.video } else { &self.audio };
        lane.track.ready(now).filter(|key| self.may_begin(kind, *key))
    }

    /// Returns whether the publisher has settled on this SSRC; while it is a candidate only, it is held.
    fn may_begin(&self, kind: MediaKind, (session, ssrc): SourceKey) -> bool {
        self.publisher_of(session).is_some_and(|publisher| publisher.feeds(kind, ssrc))
    }

    /// Lets the sources that can begin do so. Nothing may be pending.
    fn begin_sources(&mut self, now: Instant) {
        for kind in [MediaKind::Video, MediaKind::Audio] {
            let Some((session, ssrc)) = self.next_source(now, kind) else { continue };
            if self.active != Some(session) {
                self.follow(session);
                self.started = Some(session);
            }
            let offered = self.publisher(session).and_then(|publisher| publisher.track(kind)).cloned();
            let lane = if kind == MediaKind::Video { &mut self.video } else { &mut self.audio };
            if let Some(offered) = &offered {
                lane.track.offer_parameters(offered);
            }
            let (last, newest) = (lane.track.source(), lane.newest().1);
            let Some(range) = lane.track.begin_source(now) else { continue };
            let first = lane.track.ring().meta(range.start);
            let codec = first.and_then(|meta| offered.as_ref()?.codec(meta.payload_type));
            let ticks = first.map_or(0, |meta| meta.timestamp.wrapping_sub(newest));
            let missing = u128::from(ticks) * 1000 / u128::from(codec.map_or(90_000, Codec::clock_rate));
            if last.is_some_and(|(of, _)| of == session) && missing > SEAMLESS.as_millis() {
                lane.tap_numbers.insert_gap(range.start);
            }
            lane.planned = range.start;
            let subscribers = self.subscribers.iter_mut();
            subscribers.filter_map(|(_, s)| s.outgoing(kind)).for_each(|o| o.begin_source(range.start));
            let mut publishers = self.publishers.iter_mut().map(|(_, publisher)| publisher);
            let Some(publisher) = publishers.find(|publisher| publisher.id == session) else { continue };
            publisher.started(kind, ssrc);
            if kind == MediaKind::Video {
                publisher.keyframe_came();
            }
            if self.tapped {
                let tap = self.tap.get_or_insert_with(|| TapBatch::new(self.id));
                let ring = lane.track.ring();
                for meta in ring.range(range) {
                    if let Some(codec) = publisher.codec(kind, meta.payload_type) {
                        tap.copy(now, session, kind, codec, &lane.tap_numbers.number(meta), ring.payload(meta));
                    }
                }
            }
        }
    }

    /// From now on `from` feeds the room.
    fn follow(&mut self, from: SessionId) {
        self.active = Some(from);
        self.clock.forget();
        self.responsiveness = Responsiveness::default();
        self.video.track.set_responsive(false);
        self.video.track.expect_source(from);
        self.audio.track.expect_source(from);
        let mut publishers = self.publishers.iter().map(|(_, publisher)| publisher);
        let Some(publisher) = publishers.find(|publisher| publisher.id == from) else { return };
        for (_, subscriber) in &mut self.subscribers {
            for kind in [MediaKind::Video, MediaKind::Audio] {
                if let (Some(outgoing), Some(track)) = (subscriber.outgoing(kind), publisher.track(kind)) {
                    outgoing.follow(track);
                }
            }
        }
    }

    /// Takes a point of the clock of a source; `false` when that source does not feed the track.
    pub(super) fn clock_report(&mut self, now: Instant, from: SessionId, report: &ClockReport) -> bool {
        let ClockReport { kind, ntp, .. } = *report;
        let lane = if kind == MediaKind::Video { &self.video } else { &self.audio };
        let Some(timestamp) = lane.track.map_timestamp((from, report.ssrc), report.timestamp) else {
            return false;
        };
        self.clock.reported(now, kind, report.clock_rate, ntp, timestamp);
        // Of a flood without media, no more than a burst would bring.
        if let Some(tap) = self.tap.as_mut().filter(|tap| tap.records.len() < MOST_UNSENT) {
            tap.records.push(TapRecord::SenderReport { kind, source: from, ntp, timestamp, arrival: now });
        }
        true
    }

    /// A publisher left: the tracks wait for the next source.
    pub(super) fn publisher_left(&mut self, now: Instant, id: SessionId) {
        self.video.track.end_source(id);
        self.audio.track.end_source(id);
        if self.active == Some(id) {
            self.active = None;
            self.clock.forget();
            if let Some(tap) = self.tap.as_mut().filter(|_| self.tapped) {
                tap.records.push(TapRecord::SourceEnded { source: id, at: now });
            }
        }
    }

    /// A subscriber connected: it starts as soon as there is something to start with.
    pub(super) fn subscriber_connected(&mut self, now: Instant, position: usize) {
        let active = self.active;
        let publishers = self.publishers.iter().map(|(_, publisher)| publisher);
        let publisher = publishers.clone().find(|p| Some(p.id) == active).or(publishers.max_by_key(|p| p.id));
        let Some(subscriber) = self.subscribers.get_mut(position) else { return };
        subscriber.connected = true;
        subscriber.waiting = now + SETTLE;
        subscriber.joined = Some(now);
        if let Some(publisher) = publisher {
            for kind in [MediaKind::Video, MediaKind::Audio] {
                if let (Some(outgoing), Some(track)) = (subscriber.outgoing(kind), publisher.track(kind)) {
                    outgoing.follow(track);
                }
            }
        }
        let stale = self
            .video
            .track
            .keyframe()
            .is_none_or(|keyframe| now.saturating_duration_since(keyframe.at) > STALE_KEYFRAME);
        if stale {
            self.request_keyframe(now);
        }
        self.schedule_pacing(now + SETTLE, Some(position));
    }

    /// A viewer cannot decode. One that has just come starts again at the cached keyframe, which costs the camera nothing;
    /// for any other the camera is asked, as often as its link lets it. `true` as with [`Room::request_keyframe`].
    pub(super) fn keyframe_wanted_by(&mut self, now: Instant, position: usize) -> bool {
        let keyframe = self.video.track.entry(now);
        let newest = self.video.newest();
        let Some(subscriber) = self.subscribers.get_mut(position) else { return false };
        let since = |at: Option<Instant>| at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        if let (Some(outgoing), Some(keyframe)) = (subscriber.video.as_mut(), keyframe)
            && since(subscriber.joined) < STARTING
            && subscriber.restarts < RESTARTS
        {
            // What it asks for may be on its way.
            let settled = since(subscriber.restarted) >= RESTART_EVERY * (1 << subscriber.restarts) / 2;
            if settled && outgoing.restart_at_keyframe(now, keyframe, newest) {
                subscriber.restarted = Some(now);
                subscriber.restarts += 1;
                self.schedule_pacing(now, Some(position));
            }
            return false;
        }
        subscriber.link.grants_keyframe(now) && self.request_keyframe(now)
    }

    /// `true` when there is a request that was not there before.
    pub(super) fn request_keyframe(&mut self, now: Instant) -> bool {
        self.responsiveness.asked(now);
        self.active().is_some_and(|publisher| publisher.want_keyframe(now))
    }

    /// Schedules a burst at `at` that visits this subscriber and those that are paced already.
    pub(super) fn schedule_pacing(&mut self, at: Instant, position: Option<usize>) {
        self.pace_at = Some(self.pace_at.map_or(at, |earlier| earlier.min(at)));
        let Some(position) = position else { return };
        if let Some(subscriber) = self.subscribers.get_mut(position).filter(|subscriber| !subscriber.paced) {
            subscriber.paced = true;
            self.paced.push(position);
        }
    }

    /// Returns the session that feeds the room.
    pub(super) fn active_session(&self) -> Option<SessionId> {
        self.active
    }

    /// Returns the transport of a peer of this room.
    pub(super) fn transport(&mut self, role: Role, position: usize) -> Option<&mut Transport> {
        match role {
            Role::Publisher => self.publishers.get_mut(position)?.transport.as_mut(),
            Role::Subscriber => Some(&mut self.subscribers.get_mut(position)?.transport),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let ready = [(MediaKind::Video, &self.video), (MediaKind::Audio, &self.audio)].map(|(kind, lane)| {
            lane.track.held().filter(|key| self.may_begin(kind, *key)).and_then(|_| lane.track.ready_at())
        });
        [self.flush_at, self.pace_at].into_iter().chain(ready).flatten().min()
    }

    /// Begins a burst when one is due.
    pub(super) fn begin(&mut self, now: Instant, shared: &mut SharedBudget) -> bool {
        let ready = self.is_ready(now);
        let flush = ready || self.flush_at.is_some_and(|at| at <= now);
        let pace = self.pace_at.is_some_and(|at| at <= now);
        if self.burst.is_some() || !(flush || pace) {
            return self.burst.is_some();
        }
        if flush {
            self.flush_at = None;
            // What the last source sent leaves in a burst of its own, under the payload types that it meant.
            if ready && !self.video.is_pending() && !self.audio.is_pending() {
                self.begin_sources(now);
            }
            let entry = self.entry(now);
            for (_, subscriber) in &mut self.subscribers {
                entry.start(now, subscriber);
                (subscriber.runs, subscriber.paced) = ((0, 0), false);
            }
            self.paced.clear();
            let video = self.video.fill(now, ready);
            self.audio.fill(now, true);
            self.flush_at = video;
            for (_, subscriber) in &mut self.subscribers {
                grant(now, subscriber, &self.video.track, entry.keyframe, shared);
            }
        } else {
            let entry = self.entry(now);
            for position in &self.paced {
                if let Some(subscriber) = self.subscribers.get_mut(*position) {
                    entry.start(now, subscriber);
                    grant(now, subscriber, &self.video.track, entry.keyframe, shared);
                }
            }
            self.video.plan.clear();
            self.audio.plan.clear();
        }
        self.pace_at = None;
        self.burst = Some(Burst { new: flush, next: 0, kept: 0 });
        true
    }

    fn entry(&self, now: Instant) -> Entry {
        let audio = self.audio.track.newest().is_some().then_some(self.audio.planned);
        Entry { keyframe: self.video.track.entry(now), newest: self.video.newest(), audio }
    }

    /// The next datagram or run of the burst; `None` when it is over.
    pub(super) fn poll_transmit(&mut self, now: Instant, slab: &mut [u8]) -> Option<Transmit> {
        let mut burst = self.burst?;
        loop {
            let position = match burst.new {
                true => (burst.next < self.subscribers.capacity()).then_some(burst.next),
                false => self.paced.get(burst.next).copied(),
            };
            let Some(position) = position else { break };
            if let Some(transmit) = self.poll_subscriber(now, position, slab) {
                self.burst = Some(burst);
                return Some(transmit);
            }
            burst.next += 1;
            if self.stays_paced(now, position) {
                self.pace_at = Some(now + PACE);
                match burst.new {
                    true => self.paced.push(position),
                    false => self.paced[burst.kept] = position,
                }
                burst.kept += 1;
            }
        }
        self.paced.truncate(burst.kept);
        self.burst = None;
        None
    }

    fn poll_subscriber(&mut self, now: Instant, position: usize, slab: &mut [u8]) -> Option<Transmit> {
        let subscriber = self.subscribers.get_mut(position).filter(|subscriber| subscriber.connected)?;
        let (to, sealer) = (subscriber.transport.peer()?, subscriber.transport.sealer()?);
        let lanes = [
            (&self.video, &mut subscriber.video, &mut subscriber.runs.0),
            (&self.audio, &mut subscriber.audio, &mut subscriber.runs.1),
        ];
        for (lane, outgoing, run) in lanes {
            let Some(outgoing) = outgoing else { continue };
            let ring = lane.track.ring();
            let transmit = outgoing.poll(now, ring, lane.planned, &lane.plan, run, to, sealer, slab);
            if transmit.is_some() {
                return transmit;
            }
        }
        None
    }

    /// Whether the next burst visits this subscriber even if there is nothing new.
    fn stays_paced(&mut self, now: Instant, position: usize) -> bool {
        let startable = self.video.track.keyframe().is_some();
        let Some(subscriber) = self.subscribers.get_mut(position) else { return false };
        let waits = startable && subscriber.video.as_ref().is_some_and(|outgoing| outgoing.is_waiting());
        subscriber.paced = subscriber.connected && (subscriber.is_behind() || waits || subscriber.waiting > now);
        subscriber.paced
    }
}

#[cfg(test)]
mod pacing_tests;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::publisher::tests::publisher;

    const KEYFRAME: &[u8] = &[0x10, 0x00];

    fn picture(sequence: u16, payload: &[u8]) -> Received<'_> {
        let (kind, codec) = (MediaKind::Video, Codec::Vp8);
        Received {
            kind,
            ssrc: 1,
            codec,
            payload_type: 96,
            sequence,
            timestamp: 9,
            marker: true,
            payload,
            after_gap: false,
        }
    }

    fn room(now: Instant) -> Room {
        let mut room = Room::new(RoomId(1), true);
        let mut publisher = publisher(now);
        publisher.streams.hear(now, 1, (MediaKind::Video, false));
        room.publishers.insert(publisher);
        room
    }

    /// What the shard does at the end of a turn.
    fn burst(room: &mut Room, now: Instant) -> usize {
        let mut bursts = 0;
        while room.begin(now, &mut SharedBudget::default()) {
            bursts += 1;
            assert!(bursts < 10, "bursts without end");
            while room.poll_transmit(now, &mut []).is_some() {}
        }
        bursts
    }

    #[test]
    fn a_source_begins_in_the_turn_in_which_its_keyframe_comes() {
        let now = Instant::now();
        let mut room = room(now);
        room.receive(now, SessionId(1), &picture(4, &[0x10, 0x01]));
        assert_eq!((burst(&mut room, now), room.poll_timeout()), (0, None));
        room.receive(now, SessionId(1), &picture(5, KEYFRAME));
        assert_eq!(burst(&mut room, now), 1);
        assert_eq!((room.started.take(), room.active), (Some(SessionId(1)), Some(SessionId(1))));
        assert_eq!(room.poll_timeout(), None);
        assert_eq!(room.tap.as_ref().map(|tap| tap.records.len()), Some(1));
    }

    #[test]
    fn injected_parameter_sets_reach_the_tap() {
        let now = Instant::now();
        let mut room = room(now);
        let h264 = |sequence, timestamp, payload| Received {
            codec: Codec::H264,
            payload_type: 102,
            timestamp,
            ..picture(sequence, payload)
        };
        let sets: [&[u8]; 2] = [&[0x67, 0x42, 0xc0, 0x1f, 0xda], &[0x68, 0xce, 0x3c, 0x80]];
        room.receive(now, SessionId(1), &h264(1, 0, sets[0]));
        room.receive(now, SessionId(1), &h264(2, 0, sets[1]));
        room.receive(now, SessionId(1), &h264(3, 0, &[0x65, 1]));
        burst(&mut room, now);
        assert_eq!(room.tap.as_ref().map(|tap| tap.records.len()), Some(3));
        room.receive(now + Duration::from_secs(2), SessionId(1), &h264(4, 180_000, &[0x65, 2]));
        let tap = room.tap.unwrap();
        let taken: Vec<_> = tap
            .records
            .iter()
            .filter_map(|record| match record {
                TapRecord::Packet { index, payload, .. } => Some((*index, tap.bytes[payload.start as usize] & 0x1f)),
                _ => None,
            })
            .collect();
        assert_eq!(taken, [(0, 7), (1, 8), (2, 5), (3, 24), (4, 5)]);
    }

    #[test]
    fn a_publisher_who_leaves_before_it_begins_leaves_nothing() {
        let now = Instant::now();
        let mut room = room(now);
        room.receive(now, SessionId(1), &picture(5, KEYFRAME));
        room.publishers.clear();
        room.publisher_left(now, SessionId(1));
        assert_eq!((burst(&mut room, now), room.started, room.poll_timeout()), (0, None, None));
    }

    #[test]
    fn a_flood_of_sender_reports_costs_little_memory() {
        let now = Instant::now();
        let mut room = room(now);
        room.receive(now, SessionId(1), &picture(5, KEYFRAME));
        burst(&mut room, now);
        let report = ClockReport { kind: MediaKind::Video, ssrc: 1, clock_rate: 90_000, ntp: 0, timestamp: 0 };
        (0..10_000).for_each(|n| assert!(room.clock_report(now, SessionId(1), &ClockReport { ntp: n, ..report })));
        assert_eq!(room.tap.map(|tap| tap.records.len()), Some(MOST_UNSENT));
    }

    #[test]
    fn of_many_who_want_a_keyframe_the_first_hastens() {
        let now = Instant::now();
        let mut room = room(now);
        room.receive(now, SessionId(1), &picture(5, KEYFRAME));
        burst(&mut room, now);
        let hastened: Vec<bool> = (0..5).map(|_| room.request_keyframe(now)).collect();
        assert_eq!(hastened, [true, false, false, false, false]);
    }
}
