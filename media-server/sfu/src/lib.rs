//! A sans-IO selective forwarding unit: ICE-lite, DTLS, SRTP, SDP, rooms, forwarding and feedback.
//!
//! There are no sockets, no clock and no threads in this crate. A [`Shard`] is given datagrams, commands and the time
//! (`handle_*`), and gives datagrams, events and its next deadline (`poll_*`, each polled until it is empty). One room
//! lives in one shard, and so do all sessions of that room.
//!
//! What it refuses to do: to transcode, to mix, to gather candidates (it is ICE-lite, RFC 8445 §2.5), or to send one
//! byte to an address that has not passed a STUN integrity check.

#![forbid(unsafe_code)]

pub mod entry;
pub mod feedback;
pub mod forward;
mod injection;
pub mod keyframe;
pub mod packet;
pub mod parameters;
mod preroll;
pub mod ring;
pub mod sdp;
pub mod sequence;
pub mod shard;
pub mod tap;
pub mod track;
pub mod transport;
pub use shard::{Command, EndReason, Event, Feed, LocalPacket, Shard};
