//! Counters of a room's sessions, with the conditions that only the room knows: see `shard::trouble`.

use super::Room;
use super::lane::Lane;
use crate::forward::outgoing::Outgoing;
use crate::shard::stats::{RoleStats, SessionStats};
use std::time::{Duration, Instant};

/// A track without a packet for this long has no current codec.
const IDLE: Duration = Duration::from_secs(2);

impl Lane {
    /// Returns the payload type that the source sends now.
    fn payload_type(&self, now: Instant) -> Option<u8> {
        self.track.source()?;
        let (_, at) = self.track.newest()?;
        let index = self.track.ring().head().checked_sub(1)?;
        let newest = self.track.ring().meta(index)?;
        (now.saturating_duration_since(at) < IDLE).then_some(newest.payload_type)
    }
}

impl Room {
    /// Returns the counters of every session of the room.
    pub(in crate::shard) fn session_stats(&self, now: Instant) -> impl Iterator<Item = SessionStats> {
        let payload_types = [self.video.payload_type(now), self.audio.payload_type(now)];
        let publishers = self.publishers.iter().map(move |(_, publisher)| {
            let mut stats = publisher.session_stats(now, self.id);
            if let RoleStats::Publisher(publisher) = &mut stats.role {
                let track = &self.video.track;
                let feeds = track.source().is_some_and(|(source, _)| source == stats.session);
                publisher.held = self.held;
                publisher.feeds_video = feeds;
                publisher.group_too_long = feeds && track.has_outgrown() && self.responsiveness.ignores_requests(now);
                publisher.lacks_parameters = feeds && track.lacks_parameters();
            }
            stats
        });
        let subscribers = self.subscribers.iter().map(move |(_, subscriber)| {
            let mut stats = subscriber.session_stats(self.id);
            if let RoleStats::Subscriber(counters) = &mut stats.role {
                counters.codec_mismatch = [&subscriber.video, &subscriber.audio]
                    .into_iter()
                    .zip(payload_types)
                    .any(|(outgoing, sent)| is_mismatch(outgoing.as_ref(), sent));
            }
            stats
        });
        publishers.chain(subscribers)
    }
}

/// A track that was not negotiated at all is no mismatch: some viewers take only one kind.
fn is_mismatch(outgoing: Option<&Outgoing>, sent: Option<u8>) -> bool {
    outgoing.zip(sent).is_some_and(|(outgoing, payload_type)| !outgoing.accepts(payload_type))
}
