//! Segment records: what the index of a recording keeps of a closed segment.
//!
//! A record is enough to list, serve and finalise a segment without reading its file: the file may be in the object store
//! only.

use std::{ops::RangeInclusive, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    clock::seconds,
    manifest::Gap,
    mp4::timescale,
    playlist::{Entry, Extent},
    types::Track,
};

/// A closed segment of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentRecord {
    /// Number in the file's name.
    pub number: u32,
    /// Number of its init segment.
    pub init: u32,
    /// Length of the file.
    pub bytes: u64,
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
    /// Seconds since the start of the recording.
    pub start: f64,
    /// Seconds since the start of the recording, by the track that segments are timed by.
    pub end: f64,
    /// Wall clock of the first sample.
    pub at: Timestamp,
    /// Wall clock of the last sample's end.
    pub ended_at: Timestamp,
    /// The segment starts with a keyframe, or has no video.
    pub keyframe: bool,
    /// The segment does not continue the one before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discontinuity: bool,
    /// Sequence numbers of its parts.
    pub(crate) parts: RangeInclusive<u32>,
    /// Stretches of its tracks.
    pub(crate) spans: Vec<Span>,
    /// Gaps that its parts list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

/// The samples of a track in a part or segment: start of the first and end of the last one, in ticks of the track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    pub(crate) track: Track,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl SegmentRecord {
    /// Returns the segment as playlists and manifests list it.
    pub(crate) fn entry(&self) -> Entry {
        Entry {
            number: self.number,
            init: self.init,
            start: self.start,
            end: self.end,
            at: self.at,
            keyframe: self.keyframe,
            discontinuity: self.discontinuity,
            timed: true,
        }
    }

    /// Returns the end of all tracks, in seconds since the start of the recording.
    pub(crate) fn end_of_tracks(&self) -> f64 {
        self.spans.iter().map(|span| seconds(span.to, timescale(span.track))).fold(0.0, f64::max)
    }
}

/// A part, as far as the record of its segment takes it in.
#[derive(Debug)]
pub(crate) struct PartSummary<'a> {
    pub(crate) sequence: u32,
    /// Wall clock of the first sample.
    pub(crate) at: Timestamp,
    pub(crate) extent: Extent,
    pub(crate) spans: &'a [Span],
    pub(crate) gaps: &'a [Gap],
}

/// Builds the record of the segment that is being written or read.
#[derive(Debug)]
pub(crate) struct RecordBuilder {
    entry: Entry,
    parts: RangeInclusive<u32>,
    spans: Vec<Span>,
    gaps: Vec<Gap>,
    ended_at: Timestamp,
}

impl RecordBuilder {
    /// Starts a segment with its first part, which is added by [`RecordBuilder::add`].
    pub(crate) fn new(number: u32, init: u32, discontinuity: bool, first: &PartSummary<'_>) -> Self {
        let Extent { start, end, .. } = first.extent;
        RecordBuilder {
            entry: Entry { number, init, start, end, at: first.at, keyframe: false, discontinuity, timed: false },
            parts: first.sequence..=first.sequence,
            spans: Vec::new(),
            gaps: Vec::new(),
            ended_at: first.at,
        }
    }

    /// Returns the number of the segment.
    pub(crate) fn number(&self) -> u32 {
        self.entry.number
    }

    /// Adds a part.
    pub(crate) fn add(&mut self, part: &PartSummary<'_>) {
        self.entry.extend(part.extent);
        self.parts = *self.parts.start()..=part.sequence;
        for span in part.spans {
            match self.spans.iter_mut().find(|known| known.track == span.track) {
                Some(known) => known.to = span.to,
                None => self.spans.push(*span),
            }
        }
        self.gaps.extend(part.gaps.iter().cloned());
        let last = part.spans.iter().map(|span| seconds(span.to, timescale(span.track))).fold(0.0, f64::max);
        let lasts = Duration::try_from_secs_f64((last - part.extent.start).max(0.0)).unwrap_or_default();
        self.ended_at = self.ended_at.max(part.at.checked_add(lasts).unwrap_or(part.at));
    }

    /// Returns the record of the segment, which is `bytes` long.
    pub(crate) fn finish(self, bytes: u64, sha256: String) -> SegmentRecord {
        let RecordBuilder { entry, parts, spans, gaps, ended_at } = self;
        let Entry { number, init, start, end, at, keyframe, discontinuity, .. } = entry;
        SegmentRecord {
            number,
            init,
            bytes,
            sha256,
            start,
            end,
            at,
            ended_at,
            keyframe,
            discontinuity,
            parts,
            spans,
            gaps,
        }
    }
}
