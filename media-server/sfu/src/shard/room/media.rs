//! The media of a room's sources: the packets received, the source that feeds the room, and its clock.

use super::Room;
use super::lane::Lane;
use crate::parameters::{Codec, MediaKind, SessionId};
use crate::shard::publisher::Received;
use crate::shard::responsiveness::Responsiveness;
use crate::shard::source::ClockReport;
use crate::tap::{TapBatch, TapRecord};
use crate::track::{Put, SourceKey, SourcePacket};
use std::time::{Duration, Instant};

/// The time that packets of a frame wait for its last one.
const GATHER_TIME: Duration = Duration::from_millis(2);
/// The number of waiting packets that leave without waiting for more.
const MAX_GATHERED: u64 = 32;
/// Maximum number of records in the tap to which a sender report is added: reports without media start no burst.
pub(super) const MAX_UNSENT: usize = 1024;
/// A longer pause between two SSRCs of one session marks a gap in a recording.
const MAX_SEAMLESS: Duration = Duration::from_millis(200);

impl Room {
    /// Puts a media packet into its track.
    pub(in crate::shard) fn receive(&mut self, now: Instant, from: SessionId, received: &Received<'_>) {
        if self.active != Some(from) && !self.may_take_over(from, received.kind) {
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
        let index = match lane.track.put(now, (from, received.ssrc), &packet) {
            Put::Appended(index) => {
                let timestamp = lane.newest().1;
                self.clock.arrived(now, received.kind, received.codec.clock_rate(), timestamp);
                index
            }
            Put::Filled(index) => {
                lane.add_late(index);
                index
            }
            Put::Held => return self.request_first_keyframe(now, from, received),
            Put::Refused => return,
        };
        let new_keyframe = lane.track.keyframe().is_some_and(|start| Some(start.at) != keyframe_at);
        self.schedule_flush(now, received);
        self.copy_to_tap(now, from, received, index);
        let lane = self.lane_mut(received.kind);
        if received.kind == MediaKind::Video
            && let Some(meta) = lane.track.ring().meta(index)
        {
            lane.pacer.saw(meta.timestamp);
        }
        if new_keyframe {
            self.video.track.set_responsive(self.responsiveness.on_keyframe(now));
            if let Some(publisher) = self.active_publisher() {
                publisher.on_keyframe();
            }
        }
    }

    /// Counts a packet of a source that waits for its first keyframe, and requests the keyframe.
    fn request_first_keyframe(&mut self, now: Instant, from: SessionId, received: &Received<'_>) {
        if !self.lane(received.kind).track.lacks_keyframe(now) {
            return;
        }
        self.held += 1;
        if let Some(publisher) = self.publisher_mut(from).filter(|p| p.feeds(received.kind, received.ssrc)) {
            publisher.want_keyframe(now);
        }
    }

    /// Schedules the burst that sends a packet.
    fn schedule_flush(&mut self, now: Instant, received: &Received<'_>) {
        let lane = self.lane(received.kind);
        let gathered = lane.unplanned() >= MAX_GATHERED;
        // An audio packet is complete; it waits only for a video frame that is already gathering.
        let complete = match received.kind {
            MediaKind::Audio => self.flush_at.is_none(),
            MediaKind::Video => received.marker,
        };
        let due = if gathered || complete { now } else { now + GATHER_TIME };
        let due = lane.pacer.next_at().map_or(due, |at| at.max(due));
        self.flush_at = Some(self.flush_at.map_or(due, |at| at.min(due)));
    }

    /// Copies a packet to the tap, after the parameter sets that the track injected before it.
    fn copy_to_tap(&mut self, now: Instant, from: SessionId, received: &Received<'_>, index: u64) {
        let lane = if received.kind == MediaKind::Video { &mut self.video } else { &mut self.audio };
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
    }

    /// Returns whether a session that does not feed the room may take over with media of this kind: a newer one, with its
    /// video, or with its audio when it has no video or the room has no source.
    fn may_take_over(&self, from: SessionId, kind: MediaKind) -> bool {
        let Some(publisher) = self.publisher(from) else { return false };
        let newer = self.active.is_none_or(|active| from > active || self.publisher(active).is_none());
        newer && (kind == MediaKind::Video || self.active.is_none() || publisher.tracks.video.is_none())
    }

    /// Returns whether a source can start, on either track.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.next_source(now, MediaKind::Video).is_some() || self.next_source(now, MediaKind::Audio).is_some()
    }

    /// Returns the source that may start to feed a track now.
    fn next_source(&self, now: Instant, kind: MediaKind) -> Option<SourceKey> {
        let lane = if kind == MediaKind::Video { &self.video } else { &self.audio };
        lane.track.ready(now).filter(|key| self.is_settled(kind, *key))
    }

    /// Returns whether the publisher has settled on this SSRC; while it is a candidate only, it is held.
    pub(super) fn is_settled(&self, kind: MediaKind, (session, ssrc): SourceKey) -> bool {
        self.publisher(session).is_some_and(|publisher| publisher.feeds(kind, ssrc))
    }

    /// Starts the sources that are ready. Nothing may be pending.
    pub(super) fn start_sources(&mut self, now: Instant) {
        for kind in [MediaKind::Video, MediaKind::Audio] {
            let Some((session, ssrc)) = self.next_source(now, kind) else { continue };
            if self.active != Some(session) {
                self.set_active(session);
                self.started = Some(session);
            }
            let offered = self.publisher_mut(session).and_then(|publisher| publisher.track(kind)).cloned();
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
            if last.is_some_and(|(of, _)| of == session) && missing > MAX_SEAMLESS.as_millis() {
                lane.tap_numbers.insert_gap(range.start);
            }
            lane.planned = range.start;
            let subscribers = self.subscribers.iter_mut();
            subscribers.filter_map(|(_, s)| s.outgoing(kind)).for_each(|o| o.begin_source(range.start));
            let mut publishers = self.publishers.iter_mut().map(|(_, publisher)| publisher);
            let Some(publisher) = publishers.find(|publisher| publisher.id == session) else { continue };
            publisher.started(kind, ssrc);
            if kind == MediaKind::Video {
                publisher.on_keyframe();
            }
            if self.tapped {
                let tap = self.tap.get_or_insert_with(|| TapBatch::new(self.id));
                let ring = lane.track.ring();
                for meta in ring.range(range) {
                    if let Some(codec) = publisher.codec(kind, meta.payload_type) {
                        // A recording follows arrivals: those of packets that were held are before now.
                        let arrived = ring.arrival(meta.index).unwrap_or(now);
                        tap.copy(arrived, session, kind, codec, &lane.tap_numbers.number(meta), ring.payload(meta));
                    }
                }
            }
            if let Some((_, report)) = lane.early_report.take_if(|(key, _)| *key == (session, ssrc)) {
                self.clock_report(now, session, &report);
            }
        }
    }

    /// Makes `from` the session that feeds the room.
    fn set_active(&mut self, from: SessionId) {
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

    /// Records a report of a source's clock. That of a source that does not feed the track takes effect when it starts to.
    pub(in crate::shard) fn clock_report(&mut self, now: Instant, from: SessionId, report: &ClockReport) {
        let ClockReport { kind, ntp, .. } = *report;
        let lane = if kind == MediaKind::Video { &mut self.video } else { &mut self.audio };
        let key = (from, report.ssrc);
        let Some(timestamp) = lane.track.map_timestamp(key, report.timestamp) else {
            lane.early_report = Some((key, *report));
            return;
        };
        self.clock.reported(now, kind, report.clock_rate, ntp, timestamp);
        if let Some(tap) = self.tap.as_mut().filter(|tap| tap.records.len() < MAX_UNSENT) {
            tap.records.push(TapRecord::SenderReport { kind, source: from, ntp, timestamp, arrival: now });
        }
    }

    /// Ends the source of a publisher that left: the tracks wait for the next source.
    pub(in crate::shard) fn publisher_left(&mut self, now: Instant, id: SessionId) {
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

    fn lane(&self, kind: MediaKind) -> &Lane {
        if kind == MediaKind::Video { &self.video } else { &self.audio }
    }

    fn lane_mut(&mut self, kind: MediaKind) -> &mut Lane {
        if kind == MediaKind::Video { &mut self.video } else { &mut self.audio }
    }
}
