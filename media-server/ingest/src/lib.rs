//! Sources that are not WHIP peers: clip files now; RTSP, RTMP and SRT have their place here.
//!
//! [`source`] reads encoded files and schedules their frames, [`packetize`] cuts frames into RTP packets. Nothing is
//! encoded or decoded, and nothing here knows a transport: the media server feeds the packets to a room (`--demo`), the
//! headless client sends them over WHIP. Sans-IO: time is an argument; only [`source::Clip::open`] reads a file.
//!
//! Files are peer input: parsing ends in a clip or an error, never in a panic. A clip is held in memory, so memory is
//! bounded by the file's size.

#![forbid(unsafe_code)]

mod codec;
pub mod demo;
pub mod packetize;
pub mod source;

pub use codec::{Codec, MediaKind, Part};
