//! Counters of a shard and its sessions, as a snapshot. All counts are since the session or the shard began.

use crate::parameters::{Codec, RoomId, SessionId};
use crate::shard::subscriber::Reported;

/// What a publisher sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublisherStats {
    /// RTP packets, retransmissions included.
    pub packets: u64,
    /// Bytes of RTP.
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
    /// Media packets sent to subscribers.
    pub forwarded: u64,
}
