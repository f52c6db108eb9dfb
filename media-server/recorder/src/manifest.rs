//! `manifest.json`: what a finished recording consists of. It is written last, so its presence means: complete.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::types::{Description, Track};

/// Everything about a finished recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format: 2 since parameter sets are in band, so that decoders follow changes within a file.
    pub version: u32,
    /// Which recording, of which room, by whom, from when.
    #[serde(flatten)]
    pub description: Description,
    /// Wall clock of the last sample's end.
    pub ended_at: Timestamp,
    /// Seconds from the first sample to the end of the last one.
    pub duration: f64,
    /// Always true: a manifest is only written when all else is.
    pub complete: bool,
    /// It did not end in an orderly way (crash, full disk): its last second and newest frames may be missing.
    pub repaired: bool,
    /// RFC 6381 names of all codecs in it, without repeats.
    pub codecs: Vec<String>,
    /// Picture size of the first video, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u16>,
    /// Picture size of the first video, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u16>,
    /// The playlist.
    pub playlist: Export,
    /// In order.
    pub inits: Vec<Init>,
    /// In order.
    pub segments: Vec<Segment>,
    /// In order of their start.
    pub gaps: Vec<Gap>,
    /// Progressive MP4 files beside the segments, in order. Only recordings of older versions have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<Export>,
}

/// An init segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Init {
    /// Name within the folder.
    pub file: String,
    /// Length.
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// RFC 6381 names of its tracks' codecs.
    pub codecs: Vec<String>,
    /// Pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u16>,
    /// Pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u16>,
}

/// A media segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Name within the folder.
    pub file: String,
    /// Name of its init segment.
    pub init: String,
    /// Length.
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// Seconds since the start of the recording.
    pub start: f64,
    /// Seconds.
    pub duration: f64,
    /// Wall clock of its first sample.
    pub at: Timestamp,
    /// It starts with a keyframe, or has no video.
    pub keyframe: bool,
    /// It does not continue the one before: another publisher, codec, size or set of tracks.
    pub discontinuity: bool,
}

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GapReason {
    /// Packets were lost on the way from the camera and not repaired, or were not readable.
    Loss,
    /// The recorder or its disk was too slow, full or failing.
    Disk,
    /// The camera was away, or another one took over.
    Source,
}

/// A stretch of one track that is not recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// Of which track.
    pub track: Track,
    /// Seconds since the start of the recording: the end of the last sample before.
    pub from: f64,
    /// Seconds since the start of the recording: the start of the first sample after.
    pub to: f64,
    /// Why.
    pub reason: GapReason,
}

/// A file that holds the whole recording, or points to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Export {
    /// Name within the folder.
    pub file: String,
    /// Length.
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// Seconds since the start of the recording.
    pub start: f64,
    /// Seconds.
    pub duration: f64,
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
