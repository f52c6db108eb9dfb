//! Counters of a shard and its sessions, as a snapshot. All counts are since the session or the shard began.

use crate::parameters::{Codec, IncomingTrack, RoomId, SessionId};
use crate::shard::publisher::Publisher;
use crate::shard::subscriber::{Reported, Subscriber};
use std::time::{Duration, Instant};

/// What a publisher sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublisherStats {
    /// RTP packets with media, each counted once, retransmissions included; not those that were policed.
    pub packets: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came only after they were asked for.
    pub repaired: u64,
    /// Packets asked for again, each time counted.
    pub nacks_sent: u64,
    /// Keyframes asked for.
    pub keyframe_requests: u64,
    /// Packets dropped because they went beyond the bitrate cap.
    pub policed: u64,
    /// Frames of these, dropped entirely or from some packet on.
    pub frames_policed: u64,
    /// Packets are policed again and again: the publisher keeps sending more than the cap.
    pub bitrate_exceeded: bool,
    /// Changes of SSRC that were followed: restarts of an encoder.
    pub ssrc_changes: u64,
    /// Smoothed round trip, once it is measured.
    pub round_trip: Option<Duration>,
    /// Video packets of the room that wait for a keyframe, or did.
    pub held: u64,
    /// It is the source of the room's video.
    pub feeds_video: bool,
    /// Its group of pictures is longer than the room keeps, and it ignores keyframe requests.
    pub group_too_long: bool,
    /// Its newest keyframe has no parameter sets, and none are known.
    pub lacks_parameters: bool,
    /// What it sends or could send first.
    pub video: Option<Codec>,
    /// Likewise.
    pub audio: Option<Codec>,
}

/// What a subscriber got, and what it says of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscriberStats {
    /// RTP packets sent, retransmissions included.
    pub packets: u64,
    /// Bytes of RTP payload sent.
    pub bytes: u64,
    /// Retransmissions.
    pub repairs: u64,
    /// Packets it asked for again.
    pub nacks: u64,
    /// Keyframes it asked for.
    pub keyframe_requests: u64,
    /// The publisher sends a codec that was not negotiated with this subscriber.
    pub codec_mismatch: bool,
    /// Its own report.
    pub reported: Reported,
}

/// Publisher or subscriber.
#[derive(Clone, Debug, PartialEq)]
pub enum RoleStats {
    /// See there.
    Publisher(PublisherStats),
    /// See there.
    Subscriber(SubscriberStats),
}

/// One session.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionStats {
    /// Which.
    pub session: SessionId,
    /// Where.
    pub room: RoomId,
    /// ICE and DTLS are done.
    pub connected: bool,
    /// By role.
    pub role: RoleStats,
}

/// A shard's own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardCounters {
    /// Datagrams that came.
    pub datagrams_in: u64,
    /// Datagrams that were dropped: unknown address, not authentic, replayed, malformed.
    pub dropped: u64,
    /// STUN requests that failed the integrity check or named no session.
    pub stun_refused: u64,
    /// STUN requests that passed the integrity check.
    pub stun_passed: u64,
    /// Media packets sent to subscribers.
    pub forwarded: u64,
}

impl Publisher {
    pub(super) fn session_stats(&self, now: Instant, room: RoomId) -> SessionStats {
        let codec = |track: &Option<IncomingTrack>| Some(track.as_ref()?.payload_types.first()?.codec);
        let counts = self.streams.counts();
        let stats = PublisherStats {
            held: 0,
            feeds_video: false,
            group_too_long: false,
            lacks_parameters: false,
            packets: counts.packets.saturating_sub(self.budget.packets()),
            bytes: counts.bytes.saturating_sub(self.budget.bytes()),
            lost: counts.lost,
            repaired: counts.repaired,
            nacks_sent: self.nacks,
            keyframe_requests: self.keyframe_requests,
            policed: self.budget.packets(),
            frames_policed: self.budget.frames(),
            bitrate_exceeded: self.budget.is_exceeded(now),
            ssrc_changes: self.streams.changes(),
            round_trip: self.round_trip.smoothed(),
            video: codec(&self.tracks.video),
            audio: codec(&self.tracks.audio),
        };
        SessionStats { session: self.id, room, connected: self.connected, role: RoleStats::Publisher(stats) }
    }
}

impl Subscriber {
    pub(super) fn session_stats(&self, room: RoomId) -> SessionStats {
        let mut stats = SubscriberStats {
            nacks: self.nacked,
            keyframe_requests: self.keyframe_requests,
            reported: self.reported,
            ..SubscriberStats::default()
        };
        for outgoing in [&self.video, &self.audio].into_iter().flatten() {
            let sent = outgoing.sent();
            stats.packets += sent.packets;
            stats.bytes += sent.bytes;
            stats.repairs += sent.repairs;
        }
        SessionStats { session: self.id, room, connected: self.connected, role: RoleStats::Subscriber(stats) }
    }
}
