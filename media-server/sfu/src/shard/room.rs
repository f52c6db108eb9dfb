//! A room: who publishes, who watches, the tracks between them, and the fan-out of a burst.

use crate::forward::plan::Plan;
use crate::forward::slab::Transmit;
use crate::parameters::{MediaKind, RoomId, SessionId};
use crate::shard::clock::SourceClock;
use crate::shard::publisher::{Publisher, Received};
use crate::shard::subscriber::Subscriber;
use crate::tap::{TapBatch, TapRecord};
use crate::track::{Put, SourcePacket, Track};
use std::time::{Duration, Instant};

/// Packets of a frame wait for each other so long, unless its last has come.
const GATHER: Duration = Duration::from_millis(2);
/// So many waiting packets do not wait for more.
const GATHER_MOST: u64 = 32;
/// A keyframe older than this is used for a joining viewer only when no newer one can be had.
const STALE_KEYFRAME: Duration = Duration::from_secs(3);
/// How long a joining viewer waits for a newer keyframe before it gets the stale one.
const KEYFRAME_WAIT: Duration = Duration::from_millis(400);
/// A viewer gets its first packet so long after the handshake: it has our last flight by then, and its keys.
const SETTLE: Duration = Duration::from_millis(10);
/// So long after it came, a viewer who asks for a keyframe has missed the start, and gets it again from the ring.
const STARTING: Duration = Duration::from_secs(3);
/// How often it may.
const RESTART_EVERY: Duration = Duration::from_millis(300);
/// How often those who catch up get their next packets.
const PACE: Duration = Duration::from_millis(5);

/// A track with what the next burst needs.
struct Lane {
    track: Track,
    /// One past the last index of any plan so far.
    planned: u64,
    /// Packets that filled holes since the last plan.
    late: Vec<u64>,
    plan: Plan,
}

impl Lane {
    fn new(kind: MediaKind) -> Self {
        Self { track: Track::new(kind), planned: 0, late: Vec::with_capacity(64), plan: Plan::default() }
    }

    fn fill(&mut self) {
        let head = self.track.ring().head();
        self.plan.fill(self.track.ring_mut(), &self.late, self.planned..head);
        self.late.clear();
        self.planned = head;
    }
}

/// See the module.
pub(super) struct Room {
    pub(super) id: RoomId,
    pub(super) publishers: Vec<Publisher>,
    pub(super) subscribers: Vec<Subscriber>,
    pub(super) clock: SourceClock,
    pub(super) tapped: bool,
    pub(super) tap: Option<TapBatch>,
    /// Whose media is forwarded.
    active: Option<SessionId>,
    video: Lane,
    audio: Lane,
    flush_at: Option<Instant>,
    pace_at: Option<Instant>,
    /// The subscriber whose turn it is in the burst under way.
    turn: Option<usize>,
}

impl Room {
    pub(super) fn new(id: RoomId, tapped: bool) -> Self {
        Self {
            id,
            publishers: Vec::new(),
            subscribers: Vec::new(),
            clock: SourceClock::default(),
            tapped,
            tap: None,
            active: None,
            video: Lane::new(MediaKind::Video),
            audio: Lane::new(MediaKind::Audio),
            flush_at: None,
            pace_at: None,
            turn: None,
        }
    }

    pub(super) fn active(&mut self) -> Option<&mut Publisher> {
        let active = self.active?;
        self.publishers.iter_mut().find(|publisher| publisher.id == active)
    }

    pub(super) fn planned(&self) -> (u64, u64) {
        (self.video.planned, self.audio.planned)
    }

    /// Puts a media packet into its track; `true` when it is the first of a publisher that now feeds the room.
    pub(super) fn receive(&mut self, now: Instant, from: SessionId, received: &Received<'_>) -> bool {
        let started = self.active != Some(from);
        if started && !self.may_take_over(from, received) {
            return false;
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
        let keyframe = lane.track.keyframe();
        let put = lane.track.put(now, (from, received.ssrc), &packet);
        let index = match put {
            Put::Appended(index) => index,
            Put::Filled(index) => {
                // What no plan has named yet will be in the next one anyhow.
                if index < lane.planned && lane.late.len() < lane.late.capacity() {
                    lane.late.push(index);
                }
                index
            }
            Put::Refused => return false,
        };
        let new_keyframe = lane.track.keyframe() != keyframe;
        let gathered = lane.track.ring().head() - lane.planned >= GATHER_MOST;
        let room_timestamp = lane.track.ring().meta(index).map_or(0, |meta| meta.timestamp);
        // A sound is whole; it waits only for a frame that is on its way already.
        let whole = match received.kind {
            MediaKind::Audio => self.flush_at.is_none(),
            MediaKind::Video => received.marker,
        };
        let due = if gathered || whole { now } else { now + GATHER };
        self.flush_at = Some(self.flush_at.map_or(due, |at| at.min(due)));
        if started {
            self.follow(from);
        }
        if new_keyframe && let Some(publisher) = self.active() {
            publisher.keyframe_came();
        }
        self.copy_to_tap(now, from, received, index, room_timestamp);
        started
    }

    /// A newcomer takes over with what can be shown at once: a keyframe, or sound when it has no picture.
    fn may_take_over(&self, from: SessionId, received: &Received<'_>) -> bool {
        let Some(publisher) = self.publishers.iter().find(|publisher| publisher.id == from) else { return false };
        let newer = self.active.is_none_or(|active| from > active || !self.publishers.iter().any(|p| p.id == active));
        let decodable = match received.kind {
            MediaKind::Video => crate::keyframe::starts_keyframe(received.codec, received.payload),
            MediaKind::Audio => self.active.is_none() || publisher.tracks.video.is_none(),
        };
        newer && decodable
    }

    /// From now on `from` feeds the room.
    fn follow(&mut self, from: SessionId) {
        self.active = Some(from);
        self.clock.forget();
        self.video.track.expect_source(from);
        self.audio.track.expect_source(from);
        let Some(publisher) = self.publishers.iter().find(|publisher| publisher.id == from) else { return };
        for subscriber in &mut self.subscribers {
            for kind in [MediaKind::Video, MediaKind::Audio] {
                if let (Some(outgoing), Some(track)) = (subscriber.outgoing(kind), publisher.track(kind)) {
                    outgoing.follow(track);
                }
            }
        }
    }

    fn copy_to_tap(&mut self, now: Instant, source: SessionId, received: &Received<'_>, index: u64, timestamp: u32) {
        if !self.tapped {
            return;
        }
        let Some(tap) = &mut self.tap else { return };
        let start = tap.bytes.len() as u32;
        tap.bytes.extend_from_slice(received.payload);
        tap.records.push(TapRecord::Packet {
            kind: received.kind,
            codec: received.codec,
            source,
            index,
            timestamp,
            marker: received.marker,
            arrival: now,
            payload: start..tap.bytes.len() as u32,
        });
    }

    /// A publisher's clock was told.
    pub(super) fn sender_report(
        &mut self,
        now: Instant,
        from: SessionId,
        kind: MediaKind,
        ssrc: u32,
        ntp: u64,
        rtp: u32,
    ) {
        let lane = if kind == MediaKind::Video { &self.video } else { &self.audio };
        let Some(timestamp) = lane.track.map_timestamp((from, ssrc), rtp) else { return };
        self.clock.reported(now, kind, ntp, timestamp);
        if let Some(tap) = self.tap.as_mut().filter(|_| self.tapped) {
            tap.records.push(TapRecord::SenderReport { kind, source: from, ntp, timestamp, arrival: now });
        }
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
        let publisher =
            self.publishers.iter().find(|publisher| Some(publisher.id) == active).or(self.publishers.last());
        let subscriber = &mut self.subscribers[position];
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
        self.poke(now + SETTLE);
    }

    /// A viewer cannot decode. One that has just come starts again at the cached keyframe, which costs the camera nothing;
    /// for any other the camera is asked.
    pub(super) fn keyframe_wanted_by(&mut self, now: Instant, position: usize) {
        let keyframe = self.video.track.keyframe();
        let newest = self.video.track.newest().map_or(0, |(timestamp, _)| timestamp);
        let planned = self.video.planned;
        let subscriber = &mut self.subscribers[position];
        let since = |at: Option<Instant>| at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        let starting = since(subscriber.joined) < STARTING && since(subscriber.restarted) >= RESTART_EVERY;
        if let (true, Some(outgoing), Some(keyframe)) = (starting, subscriber.video.as_mut(), keyframe)
            && outgoing.restart_at_keyframe(now, keyframe, newest, planned)
        {
            subscriber.restarted = Some(now);
            return self.poke(now);
        }
        self.request_keyframe(now);
    }

    pub(super) fn request_keyframe(&mut self, now: Instant) {
        if let Some(publisher) = self.active() {
            publisher.want_keyframe(now);
        }
    }

    pub(super) fn poke(&mut self, now: Instant) {
        self.pace_at = Some(self.pace_at.map_or(now, |at| at.min(now)));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.flush_at, self.pace_at].into_iter().flatten().min()
    }

    /// Begins a burst when one is due.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let flush = self.flush_at.is_some_and(|at| at <= now);
        let pace = self.pace_at.is_some_and(|at| at <= now);
        if self.turn.is_some() || !(flush || pace) {
            return self.turn.is_some();
        }
        if flush {
            self.flush_at = None;
            self.start_waiting(now);
            self.video.fill();
            self.audio.fill();
        } else {
            self.start_waiting(now);
            self.video.plan.clear();
            self.audio.plan.clear();
        }
        self.pace_at = None;
        self.turn = Some(0);
        self.subscribers.iter_mut().for_each(|subscriber| subscriber.runs = (0, 0));
        true
    }

    /// Lets those who wait start, where there is something to start with.
    fn start_waiting(&mut self, now: Instant) {
        let keyframe = self.video.track.keyframe();
        let newest = self.video.track.newest().map_or(0, |(timestamp, _)| timestamp);
        let audio = self.audio.track.newest().map(|(timestamp, _)| timestamp);
        let audio_next = self.audio.planned;
        let settled = |subscriber: &&mut Subscriber| subscriber.connected && subscriber.waiting <= now;
        for subscriber in self.subscribers.iter_mut().filter(settled) {
            let waited = now.saturating_duration_since(subscriber.waiting) >= KEYFRAME_WAIT;
            if let (Some(outgoing), Some(keyframe)) = (subscriber.video.as_mut().filter(|o| o.is_waiting()), keyframe) {
                let fresh = now.saturating_duration_since(keyframe.at) <= STALE_KEYFRAME;
                if fresh || waited {
                    outgoing.start_at_keyframe(now, keyframe, newest);
                }
            }
            if let (Some(outgoing), Some(newest)) = (subscriber.audio.as_mut().filter(|o| o.is_waiting()), audio) {
                outgoing.start_live(audio_next, newest);
            }
        }
    }

    /// The next datagram or run of the burst; `None` when it is over.
    pub(super) fn poll_transmit(&mut self, now: Instant, slab: &mut [u8]) -> Option<Transmit> {
        let mut turn = self.turn?;
        while let Some(subscriber) = self.subscribers.get_mut(turn) {
            if subscriber.connected {
                if let (Some(to), Some(sealer)) = (subscriber.transport.peer(), subscriber.transport.sealer()) {
                    let lanes = [
                        (&self.video, &mut subscriber.video, &mut subscriber.runs.0),
                        (&self.audio, &mut subscriber.audio, &mut subscriber.runs.1),
                    ];
                    for (lane, outgoing, run) in lanes {
                        let Some(outgoing) = outgoing else { continue };
                        let ring = lane.track.ring();
                        if let Some(transmit) =
                            outgoing.poll(now, ring, lane.planned, &lane.plan, run, to, sealer, slab)
                        {
                            self.turn = Some(turn);
                            return Some(transmit);
                        }
                    }
                }
                let waits =
                    subscriber.video.as_ref().is_some_and(|o| o.is_waiting()) && self.video.track.keyframe().is_some();
                if subscriber.is_behind() || waits {
                    self.pace_at = Some(now + PACE);
                }
            }
            turn += 1;
        }
        self.turn = None;
        None
    }
}
