//! A room: its publishers and subscribers, the tracks between them, and the keyframe requests of subscribers.
//!
//! [`media`] takes the packets of sources, [`burst`] sends them to subscribers.

mod burst;
mod health;
mod lane;
mod media;

use crate::parameters::{MediaKind, RoomId, SessionId};
use crate::shard::clock::SourceClock;
use crate::shard::peers::Role;
use crate::shard::publisher::Publisher;
use crate::shard::responsiveness::Responsiveness;
use crate::shard::subscriber::Subscriber;
use crate::tap::TapBatch;
use crate::transport::Transport;
use burst::Burst;
use lane::Lane;
use slab::Slab;
use std::time::{Duration, Instant};

/// A subscriber that joins when the newest keyframe is older starts with it, and a newer one is requested from the camera.
const STALE_KEYFRAME: Duration = Duration::from_secs(3);
/// The delay of a subscriber's first packet after the handshake: our last flight, and so its keys, have arrived by then.
const SETTLE_TIME: Duration = Duration::from_millis(10);
/// A subscriber that requests a keyframe within this time after it joined missed the start, and gets it again from the ring.
const JOIN_WINDOW: Duration = Duration::from_secs(3);
/// The interval of these restarts, doubled each time.
const RESTART_INTERVAL: Duration = Duration::from_millis(300);
/// Maximum number of these restarts.
const MAX_RESTARTS: u32 = 3;
/// A table of this many positions shrinks when less than a quarter of them are taken.
const SPARSE_FROM: usize = 64;

/// See the module.
pub(super) struct Room {
    pub(super) id: RoomId,
    pub(super) publishers: Slab<Publisher>,
    pub(super) subscribers: Slab<Subscriber>,
    pub(super) clock: SourceClock,
    pub(super) tapped: bool,
    pub(super) tap: Option<TapBatch>,
    /// The session that started to feed the room, until the shard has sent the event.
    pub(super) started: Option<SessionId>,
    /// Video packets received while no subscriber could start with them.
    held: u64,
    /// The session that feeds the room.
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

impl Room {
    pub(super) fn new(id: RoomId, tapped: bool, gop_cache: usize) -> Self {
        let mut video = Lane::new(MediaKind::Video);
        video.track.set_video_cache(gop_cache);
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
            video,
            audio: Lane::new(MediaKind::Audio),
            responsiveness: Responsiveness::default(),
            flush_at: None,
            pace_at: None,
            paced: Vec::new(),
            burst: None,
            due: None,
        }
    }

    pub(super) fn set_gop_cache(&mut self, bytes: usize) {
        self.video.track.set_video_cache(bytes);
    }

    fn publisher_mut(&mut self, id: SessionId) -> Option<&mut Publisher> {
        self.publishers.iter_mut().map(|(_, publisher)| publisher).find(|publisher| publisher.id == id)
    }

    fn publisher(&self, id: SessionId) -> Option<&Publisher> {
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

    fn active_publisher(&mut self) -> Option<&mut Publisher> {
        self.publisher_mut(self.active?)
    }

    /// Connects a subscriber: it starts as soon as there is a position to start at.
    pub(super) fn subscriber_connected(&mut self, now: Instant, position: usize) {
        let active = self.active;
        let publishers = self.publishers.iter().map(|(_, publisher)| publisher);
        let publisher = publishers.clone().find(|p| Some(p.id) == active).or(publishers.max_by_key(|p| p.id));
        let Some(subscriber) = self.subscribers.get_mut(position) else { return };
        subscriber.connected = true;
        subscriber.waiting = now + SETTLE_TIME;
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
        self.schedule_pacing(now + SETTLE_TIME, Some(position));
    }

    /// Handles a keyframe request of a subscriber. One that just joined starts again at the cached keyframe, without a request
    /// to the camera; for others a keyframe is requested from it, as often as the subscriber's link allows. Returns as
    /// [`Room::request_keyframe`] does.
    pub(super) fn handle_keyframe_request(&mut self, now: Instant, position: usize) -> bool {
        let keyframe = self.video.track.entry(now);
        let newest = self.video.newest();
        let Some(subscriber) = self.subscribers.get_mut(position) else { return false };
        let since = |at: Option<Instant>| at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        if let (Some(outgoing), Some(keyframe)) = (subscriber.video.as_mut(), keyframe)
            && since(subscriber.joined) < JOIN_WINDOW
            && subscriber.restarts < MAX_RESTARTS
        {
            // The keyframe may already be on its way.
            let settled = since(subscriber.restarted) >= RESTART_INTERVAL * (1 << subscriber.restarts) / 2;
            if settled && outgoing.restart_at_keyframe(now, keyframe, newest) {
                subscriber.restarted = Some(now);
                subscriber.restarts += 1;
                self.schedule_pacing(now, Some(position));
            }
            return false;
        }
        subscriber.link.grants_keyframe(now) && self.request_keyframe(now)
    }

    /// Requests a keyframe from the camera. Returns `true` when that is a new request.
    pub(super) fn request_keyframe(&mut self, now: Instant) -> bool {
        self.responsiveness.on_request(now);
        self.active_publisher().is_some_and(|publisher| publisher.want_keyframe(now))
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
}

#[cfg(test)]
mod pacing_tests;
#[cfg(test)]
mod tests;
