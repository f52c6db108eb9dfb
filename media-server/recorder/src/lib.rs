//! Records one room: RTP in; fragmented MP4, playlists and a manifest out. No files, no sockets, no clock, no async.
//!
//! # While a stream runs: [`Recording`]
//! The shell feeds what the room's tap gives and carries out what the recording asks for, in that order:
//!
//! ```text
//! handle_rtp · handle_sender_report · handle_dropped · handle_source_end · handle_write_failed
//! handle_timeout(now)                 when poll_timeout() says so
//! poll_output() until None            after each call, or after each batch of calls
//! continue_at(next)                   for a recording that is to end while the stream goes on
//! finish(now)                         once; then poll_output() until Output::Finished
//! ```
//!
//! [`Output`] is carried out in order: a part is on disk when its [`Output::Sync`] has returned. A frame is given out at
//! most [`Config::part_duration`] plus [`Config::reorder_window`] (with the defaults: 0.9 s) after it arrived and its
//! successor did, so a crash costs at most that and the newest frame of each track. A frame without a successor is given
//! out after 10 s, or when the source ends. Only the first picture is waited for longer (see the rules).
//!
//! # When it is over: [`finalize()`]
//! One path for the normal end and for the start after a crash: it reads the segments that are not in the index yet, cuts
//! torn tails, and writes the final playlist and, last of all, `manifest.json`. A folder with a `manifest.json` is
//! complete; a folder without one is finalised again. Doing it twice, or dying half way, is harmless. No media is copied.
//!
//! # As one file: [`composition`] and [`Mp4s`]
//! `recording.mp4` is composed when it is read: a head that indexes the segments, and their bytes from wherever they are.
//! [`Mp4s`] makes progressive MP4 files instead, for programs that do not read fragments; that reads all media.
//!
//! # Contents of a folder
//! | file | written | contents |
//! |---|---|---|
//! | `init-N.mp4` | once, atomically | `ftyp`, `moov`, and the recording's [`Description`] in a `uuid` box |
//! | `segment-NNNNNN.m4s` | appended by parts | `styp`, then parts: `uuid` (part information), `moof`, `mdat` |
//! | `index.m3u8` | appended at each segment | HLS: EVENT while live, VOD at the end |
//! | `manifest.json` | last | [`Manifest`] |
//!
//! The part information says what a segment's samples do not: wall clock, gaps, which init segment, whether the timeline
//! is continuous, and a checksum, so that the segments alone are enough to finalise.
//!
//! # Rules
//! - Media times are seconds (or ticks of the track) since the first sample of the recording; audio and video share
//!   that timeline by the sender reports of both (RFC 3550 §6.4.1), and by arrival until those have come.
//! - Media clocks are checked against arrival without the network's delay. Video is kept within 200 ms of audio,
//!   and a clock that is off by more than a second for half a second is given a new anchor, by arrival. Both are marked as
//!   a gap. Timestamps that repeat for 60 ms are replaced by arrival.
//! - Audio waits up to 5 s for the first picture that was negotiated, so that the first init segment has both.
//! - A sample lasts until the next one of its track, at any frame rate. The last one before another source, a pause of
//!   more than 10 s or the end has no successor within its run: it lasts as long as the one before. Such a pause is a
//!   gap; if all tracks pause, the timeline is discontinuous there.
//! - `EXT-X-TARGETDURATION` is twice [`Config::segment_duration`] plus a second from the start. A segment is longer only
//!   if no frame of any track arrives in that second; the playlist is then written again with a larger one.
//! - Every frame that was received whole is kept. A lost video packet costs the frames up to the next keyframe: later
//!   frames could not be decoded. Such a gap stands in the manifest with its reason.
//! - Sync samples are the random access points of the `codec` crate. An H264 recovery point is one, although with intra
//!   refresh the picture is exact only some frames later: players demand a sync sample at the start.
//! - WebRTC forbids B-frames. If a publisher sends them all the same, their presentation times are kept (negative
//!   composition offsets), nothing is dropped.
//! - Packets are a stranger's: nothing in them panics, and nothing makes memory grow without bound.

#![forbid(unsafe_code)]

mod clock;
pub mod composition;
mod decode_order;
mod depacketize;
mod export;
pub mod finalize;
mod frames;
pub mod index;
mod lane;
mod manifest;
mod mp4;
mod pace;
mod playlist;
mod record;
mod recording;
mod reorder;
mod segments;
mod types;

pub use finalize::{Ending, FinalizeError, Folder, KnownSegment, Mp4s, finalize, read_segments};
pub use manifest::{Export, Gap, GapReason, Init, Manifest, Segment};
pub use record::SegmentRecord;
pub use recording::Recording;
pub use types::{Codec, Config, Continuation, Description, File, Output, Packet, Stats, Track, Tracks};

/// Which recording an init segment belongs to; none when it is not whole, or not one of ours.
pub fn describe(init: &[u8]) -> Option<Description> {
    mp4::init::decode(init).map(|(_, description)| description)
}
