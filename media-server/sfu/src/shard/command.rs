//! What a shard is told, and what it tells.

use crate::parameters::{IceCredentials, PublisherTracks, RoomId, SessionId, SubscriberTracks, TransportParameters};
use crate::shard::source::Feed;
use crate::transport::TransportError;

/// What the control plane asks of a shard.
#[derive(Debug)]
pub enum Command {
    /// Makes a room.
    OpenRoom {
        /// Which.
        room: RoomId,
        /// Its media is copied to the tap.
        tapped: bool,
    },
    /// Ends a room and every session in it.
    CloseRoom(RoomId),
    /// Adds a source to a room.
    AddSource {
        /// The room that it feeds.
        room: RoomId,
        /// Its session.
        session: SessionId,
        /// The feed of its packets.
        feed: Feed,
        /// Its tracks, as negotiated or as its owner knows them.
        tracks: PublisherTracks,
        /// Bits per second it may send.
        max_bitrate: Option<u64>,
    },
    /// Lets a subscriber in.
    Subscribe {
        /// Where.
        room: RoomId,
        /// Who.
        session: SessionId,
        /// As negotiated.
        transport: TransportParameters,
        /// As negotiated.
        tracks: SubscriberTracks,
    },
    /// New ICE credentials on both sides.
    RestartIce {
        /// Whose.
        session: SessionId,
        /// Ours.
        local: IceCredentials,
        /// Theirs.
        remote: IceCredentials,
    },
    /// Asks the room's publisher for a keyframe; rate-limited like those of viewers.
    RequestKeyframe(RoomId),
    /// Ends a session.
    Close(SessionId),
    /// Bits per second that every publisher may send from now on.
    SetMaxBitrate(Option<u64>),
    /// Bytes of video that every room keeps at most, from now on. A new shard has the default of
    /// [`Limits::VIDEO`](crate::ring::Limits::VIDEO).
    SetGopCache(usize),
}

/// Why a session ended.
#[derive(Debug)]
pub enum EndReason {
    /// By a command.
    Closed,
    /// By its transport.
    Transport(TransportError),
}

/// What a shard tells the control plane.
#[derive(Debug)]
pub enum Event {
    /// ICE and DTLS are done; of a local source: it was added.
    Connected(SessionId),
    /// A local source shall make a keyframe, at most twice a second; for a peer the request is sent by RTCP.
    KeyframeRequested(SessionId),
    /// This publisher's media feeds the room from now on.
    MediaStarted {
        /// Where.
        room: RoomId,
        /// Who.
        session: SessionId,
    },
    /// Exactly once for each session that was let in.
    Ended {
        /// Who.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
}
