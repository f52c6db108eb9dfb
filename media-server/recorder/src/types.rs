//! What goes into a recording and what comes out: plain data, nothing is decided here.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{manifest::Gap, record::SegmentRecord};

/// Audio or video: a recording carries at most one track of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Track {
    /// Sound.
    Audio,
    /// Picture.
    Video,
}

/// A codec that can be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// RFC 6184, single NAL units, STAP-A and FU-A.
    H264,
    /// RFC 7741.
    Vp8,
    /// RFC 9628. Spatial layers of one picture are joined to a superframe.
    Vp9,
    /// The AV1 RTP payload format of AOMedia.
    Av1,
    /// RFC 7587.
    Opus,
}

impl Codec {
    /// Hertz of the RTP timestamp, and the timescale of the track in the files.
    pub fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            _ => 90_000,
        }
    }

    /// The track that it belongs to.
    pub fn track(self) -> Track {
        match self {
            Codec::Opus => Track::Audio,
            _ => Track::Video,
        }
    }
}

/// Which tracks, for instance those that were negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracks {
    /// Sound.
    pub audio: bool,
    /// Picture.
    pub video: bool,
}

/// How to record.
#[derive(Clone, Debug)]
pub struct Config {
    /// A segment is closed at the first keyframe after this; at twice this without any. Default 10 s.
    pub segment_duration: Duration,
    /// Most media time in one part with more than one sample, so most media time between two fdatasyncs. At most 1 s.
    /// Default 500 ms.
    pub part_duration: Duration,
    /// How long a missing packet is waited for (its retransmission). Default 400 ms.
    pub reorder_window: Duration,
    /// A frame of more bytes is dropped and marked as a gap. Default 16 MiB.
    pub max_frame_bytes: usize,
    /// A part is closed early at this many bytes. Default 8 MiB.
    pub max_part_bytes: usize,
    /// More packets than this are not kept while waiting for a missing one. Default 4096.
    pub max_reorder_packets: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            segment_duration: Duration::from_secs(10),
            part_duration: Duration::from_millis(500),
            reorder_window: Duration::from_millis(400),
            max_frame_bytes: 16 << 20,
            max_part_bytes: 8 << 20,
            max_reorder_packets: 4096,
        }
    }
}

/// What is recorded. It is written into every init segment, so that a folder explains itself after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The recording's id.
    pub id: String,
    /// The id of its stream; none in older recordings, which have the id of their stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The room's name.
    pub room: String,
    /// Who published first.
    pub publisher: String,
    /// Wall clock at the `now` of [`crate::Recording::new`].
    pub started_at: jiff::Timestamp,
}

/// The recording that continues another one: see [`crate::Recording::continue_at`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// Its id.
    pub id: String,
    /// It starts with the first random access point that arrives at this time or later.
    pub at: Instant,
    /// A reading of the wall clock, and its time.
    pub clock: (Instant, jiff::Timestamp),
}

/// One RTP packet, decrypted, without header, extensions and padding.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// What its payload type means. It may change within a source.
    pub codec: Codec,
    /// Changes when another publisher, or another SSRC of it, takes over the track. Never comes back.
    pub source: u64,
    /// Extended sequence number: contiguous within a source, whatever the order of arrival. A retransmission has the
    /// index of what it replaces. A second packet of the same index is ignored.
    pub index: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// RTP marker bit.
    pub marker: bool,
    /// RTP payload. Empty ones (probing, padding only) must be handed in too: their indices count.
    pub payload: &'a [u8],
}

/// A file of the recording's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum File {
    /// `init-N.mp4`, N from 1.
    Init(u32),
    /// `segment-NNNNNN.m4s`, from 1.
    Segment(u32),
    /// `index.m3u8`
    Playlist,
    /// `recording.mp4` (1), `recording-2.mp4` …: made when they are read, see [`crate::composition`].
    Export(u32),
    /// `manifest.json`
    Manifest,
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            File::Init(n) => write!(f, "init-{n}.mp4"),
            File::Segment(n) => write!(f, "segment-{n:06}.m4s"),
            File::Playlist => f.write_str("index.m3u8"),
            File::Export(1) => f.write_str("recording.mp4"),
            File::Export(n) => write!(f, "recording-{n}.mp4"),
            File::Manifest => f.write_str("manifest.json"),
        }
    }
}

/// The name is not one of a recording's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a recording's file")]
pub struct NotAFile;

impl FromStr for File {
    type Err = NotAFile;

    fn from_str(name: &str) -> Result<Self, NotAFile> {
        let number = |prefix: &str, suffix: &str| -> Option<u32> {
            name.strip_prefix(prefix)?.strip_suffix(suffix)?.parse().ok().filter(|&n| n > 0)
        };
        let file = match name {
            "index.m3u8" => File::Playlist,
            "manifest.json" => File::Manifest,
            "recording.mp4" => File::Export(1),
            _ => number("init-", ".mp4")
                .map(File::Init)
                .or_else(|| number("segment-", ".m4s").map(File::Segment))
                .or_else(|| number("recording-", ".mp4").map(File::Export))
                .ok_or(NotAFile)?,
        };
        // One spelling a file: no signs, no missing zeros.
        if file.to_string() == name { Ok(file) } else { Err(NotAFile) }
    }
}

/// What the shell has to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Create this file, empty; then fsync the folder.
    Create {
        /// Always a segment.
        file: File,
    },
    /// Append these bytes to it.
    Append {
        /// The segment that was created last, or the playlist.
        file: File,
        /// One or more complete boxes or lines.
        bytes: Vec<u8>,
    },
    /// fdatasync it: once a part, and once a segment for the playlist.
    Sync {
        /// The segment that was created last, or the playlist.
        file: File,
    },
    /// Nothing more will be appended to it: close it.
    Close {
        /// The segment that was created last.
        file: File,
        /// Its entry in the index, with length and digest.
        record: Box<SegmentRecord>,
    },
    /// Write a temporary file, fsync it, rename it to this name, fsync the folder.
    Replace {
        /// An init segment or the playlist.
        file: File,
        /// Everything that it holds.
        bytes: Vec<u8>,
    },
    /// Video cannot go on without a keyframe: ask the publisher (PLI). At most one a second. May be ignored.
    RequestKeyframe,
    /// The recording is complete: run [`crate::finalize()`] on its folder. All later outputs belong to the next recording,
    /// in a separate folder.
    Continue {
        /// Describes the next recording.
        description: Description,
        /// Arrival of its first frame.
        at: Instant,
        /// Gaps that no part of the complete recording lists: for [`crate::Ending`].
        untold: Vec<Gap>,
    },
    /// All is given out: run [`crate::finalize()`] on the folder. Nothing follows.
    Finished,
}

/// Counts since the start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of all `Append` and `Replace` outputs.
    pub bytes: u64,
    /// Segments created.
    pub segments: u32,
    /// Parts given out.
    pub parts: u32,
    /// Gaps marked.
    pub gaps: u32,
    /// Video frames and audio packets given out.
    pub samples: u64,
    /// Packets that no depacketizer could read.
    pub malformed: u64,
    /// Media time given out.
    pub duration: Duration,
    /// Media time received whole and not yet given out.
    pub held: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_round_trip() {
        for file in [File::Init(3), File::Segment(7), File::Playlist, File::Export(1), File::Export(2), File::Manifest]
        {
            assert_eq!(file.to_string().parse(), Ok(file));
        }
        for name in ["init-0.mp4", "segment-7.m4s", "recording-1.mp4", "init-+1.mp4", "../index.m3u8", ""] {
            assert_eq!(name.parse::<File>(), Err(NotAFile), "{name}");
        }
    }
}
