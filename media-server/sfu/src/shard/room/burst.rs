//! A burst: the visit of the subscribers of a room that sends each of them its packets.
//!
//! A burst with new packets visits every subscriber; a pacing burst visits only those in [`Room::paced`].

use super::Room;
use crate::entry::KeyframeStart;
use crate::forward::catch_up::SharedBudget;
use crate::forward::slab::Transmit;
use crate::parameters::MediaKind;
use crate::shard::subscriber::Subscriber;
use crate::track::Track;
use std::time::{Duration, Instant};

/// The interval of the bursts to subscribers that are behind.
pub(super) const PACING_INTERVAL: Duration = Duration::from_millis(5);

/// Progress of the burst under way.
#[derive(Clone, Copy)]
pub(super) struct Burst {
    /// There are new packets, so that every subscriber is visited; otherwise those in [`Room::paced`].
    new: bool,
    /// The next position, or the next entry of [`Room::paced`].
    next: usize,
    /// Entries of [`Room::paced`] that stay.
    kept: usize,
}

/// Positions in both tracks at which waiting subscribers can start.
struct StartPoint {
    keyframe: Option<KeyframeStart>,
    newest: (u64, u32),
    audio: Option<u64>,
}

impl StartPoint {
    /// Starts the waiting tracks of a subscriber that have a position to start at.
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

/// Grants a subscriber that is behind its share of the catch-up budget for this burst.
fn grant_catch_up(
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
    /// Schedules a burst at `at` that visits this subscriber and those that are paced already.
    pub(in crate::shard) fn schedule_pacing(&mut self, at: Instant, position: Option<usize>) {
        self.pace_at = Some(self.pace_at.map_or(at, |earlier| earlier.min(at)));
        let Some(position) = position else { return };
        if let Some(subscriber) = self.subscribers.get_mut(position).filter(|subscriber| !subscriber.paced) {
            subscriber.paced = true;
            self.paced.push(position);
        }
    }

    /// Returns when to call [`Room::start_burst`].
    pub(in crate::shard) fn poll_timeout(&self) -> Option<Instant> {
        let ready = [(MediaKind::Video, &self.video), (MediaKind::Audio, &self.audio)].map(|(kind, lane)| {
            lane.track.held().filter(|key| self.is_settled(kind, *key)).and_then(|_| lane.track.ready_at())
        });
        [self.flush_at, self.pace_at].into_iter().chain(ready).flatten().min()
    }

    /// Starts a burst when one is due. Returns whether one is under way.
    pub(in crate::shard) fn start_burst(&mut self, now: Instant, shared: &mut SharedBudget) -> bool {
        let ready = self.is_ready(now);
        let flush = ready || self.flush_at.is_some_and(|at| at <= now);
        let pace = self.pace_at.is_some_and(|at| at <= now);
        if self.burst.is_some() || !(flush || pace) {
            return self.burst.is_some();
        }
        if flush {
            self.flush_at = None;
            // The last source's packets leave in a separate burst, under the payload types that it meant.
            if ready && !self.video.is_pending() && !self.audio.is_pending() {
                self.start_sources(now);
            }
            let start_point = self.start_point(now);
            for (_, subscriber) in &mut self.subscribers {
                start_point.start(now, subscriber);
                (subscriber.runs, subscriber.paced) = ((0, 0), false);
            }
            self.paced.clear();
            let video = self.video.fill(now, ready);
            self.audio.fill(now, true);
            self.flush_at = video;
            for (_, subscriber) in &mut self.subscribers {
                grant_catch_up(now, subscriber, &self.video.track, start_point.keyframe, shared);
            }
        } else {
            let start_point = self.start_point(now);
            for position in &self.paced {
                if let Some(subscriber) = self.subscribers.get_mut(*position) {
                    start_point.start(now, subscriber);
                    grant_catch_up(now, subscriber, &self.video.track, start_point.keyframe, shared);
                }
            }
            self.video.plan.clear();
            self.audio.plan.clear();
        }
        self.pace_at = None;
        self.burst = Some(Burst { new: flush, next: 0, kept: 0 });
        true
    }

    fn start_point(&self, now: Instant) -> StartPoint {
        let audio = self.audio.track.newest().is_some().then_some(self.audio.planned);
        StartPoint { keyframe: self.video.track.entry(now), newest: self.video.newest(), audio }
    }

    /// Returns the next datagram or run of the burst; `None` when it is over.
    pub(in crate::shard) fn poll_transmit(&mut self, now: Instant, slab: &mut [u8]) -> Option<Transmit> {
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
                self.pace_at = Some(now + PACING_INTERVAL);
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

    /// Returns whether the next burst visits this subscriber even without new packets.
    fn stays_paced(&mut self, now: Instant, position: usize) -> bool {
        let startable = self.video.track.keyframe().is_some();
        let Some(subscriber) = self.subscribers.get_mut(position) else { return false };
        let waits = startable && subscriber.video.as_ref().is_some_and(|outgoing| outgoing.is_waiting());
        subscriber.paced = subscriber.connected && (subscriber.is_behind() || waits || subscriber.waiting > now);
        subscriber.paced
    }
}
