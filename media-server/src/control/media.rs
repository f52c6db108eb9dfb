//! What the control plane needs of the media plane, and what the media plane tells it.
//!
//! All calls return at once: the media plane queues them to the thread that owns the room. For one session the order
//! of calls is the order in which they take effect.

use sfu::shard::trouble::TroubleChange;
use std::net::SocketAddr;

use sfu::Feed;
use sfu::parameters::{
    IceCredentials, LocalDescription, PublisherTracks, RoomId, SessionId, SubscriberTracks, TransportParameters,
};

/// The media plane, as the control plane sees it.
pub trait Media: Send + Sync + 'static {
    /// Makes a room, somewhere. What comes in is copied to the recorder when it is `recorded`.
    fn open_room(&self, recorded: bool) -> RoomId;
    /// Drops a room and all that is in it. Its sessions still give [`MediaEvent::Ended`].
    fn close_room(&self, room: RoomId);
    /// What to answer a new session of `room` with: fresh random credentials, our fingerprint and addresses.
    fn describe(&self, room: RoomId) -> LocalDescription;
    /// A publisher's session, answered with what `describe` gave. In a room that has a publisher it takes over when
    /// its first keyframe (or audio, when it has no video) arrives; the older one is then closed by the control plane.
    fn publish(&self, publish: Publish);
    /// A subscriber's session, answered with what `describe` gave.
    fn subscribe(&self, subscribe: Subscribe);
    /// New credentials of both sides; the old ones stay good until the new ones are used.
    fn restart_ice(&self, room: RoomId, session: SessionId, local: IceCredentials, remote: IceCredentials);
    /// Ends a session.
    fn close(&self, room: RoomId, session: SessionId);
    /// The cap on each publisher, bits per second; those there now included.
    fn set_max_bitrate(&self, bits_per_second: Option<u64>);
    /// Sets the bytes of video that each room keeps for viewers that join; those there now included.
    fn set_gop_cache(&self, bytes: usize);
    /// What clients are told to send to, best first.
    fn announced(&self) -> Vec<SocketAddr>;
    /// Tells those who come, or restart ICE, from now on to send to these, and last to the pod's own address. None at all
    /// means what was announced at the start.
    fn set_announced(&self, addresses: Vec<SocketAddr>);
}

/// A source: a publisher's session that was answered, or one in this process.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Where.
    pub room: RoomId,
    /// Which.
    pub session: SessionId,
    /// The feed of its packets.
    pub feed: Feed,
    /// What was negotiated.
    pub tracks: PublisherTracks,
    /// Bits per second it may send.
    pub max_bitrate: Option<u64>,
}

/// A subscriber's session that was answered.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// Where.
    pub room: RoomId,
    /// Which.
    pub session: SessionId,
    /// Both ends of its transport.
    pub transport: TransportParameters,
    /// What was negotiated.
    pub tracks: SubscriberTracks,
}

/// What happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaEvent {
    /// ICE and DTLS are done.
    Connected {
        /// Whose.
        session: SessionId,
    },
    /// The first packet of this publisher is forwarded.
    MediaStarted {
        /// Where.
        room: RoomId,
        /// Whose.
        session: SessionId,
    },
    /// A session is connected and dark, or is no longer.
    Trouble(TroubleChange),
    /// It is over. Exactly once for each session.
    Ended {
        /// Which.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// By [`Media::close`] or [`Media::close_room`].
    Closed,
    /// It never connected (10 s), or nothing valid arrived from it for 30 s (RFC 7675).
    Timeout,
    /// The handshake failed; the text names the cause and the remedy.
    Failed(String),
    /// The peer said goodbye (DTLS `close_notify`).
    PeerClosed,
}

impl EndReason {
    /// As it is stored and told: `closed`, `timeout`, `failed` or `peer-closed`.
    pub fn as_str(&self) -> &'static str {
        match self {
            EndReason::Closed => "closed",
            EndReason::Timeout => "timeout",
            EndReason::Failed(_) => "failed",
            EndReason::PeerClosed => "peer-closed",
        }
    }
}
