//! MP4 files that are composed of segments while they are read: a whole recording, or a clip of a room.
//!
//! A file is its head and then segments, which may lie on the disk or in the object store, each in its own place. Any range
//! of bytes is read alone, in blocks: whoever pauses holds one block, not a request to the store.

use super::segment_source::SegmentSource;
use crate::control::RecordingId;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use recorder::composition::TimeShift;
use std::fmt;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

/// A recording in a composed file.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) recording: RecordingId,
    /// How much later its samples are in the file than in the recording.
    pub(super) shift: Duration,
}

/// A segment of a composed file.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// A whole segment: number of its part, number in its recording.
    Segment { part: u16, number: u32 },
    /// Bytes that are here already: the head, or some parts of a segment.
    Bytes(Bytes),
}

/// A composed MP4 file. A cheap handle.
#[derive(Clone)]
pub struct ComposedMp4(Arc<Inner>);

struct Inner {
    source: SegmentSource,
    parts: Vec<Part>,
    /// With the place where each ends.
    pieces: Vec<(u64, Piece)>,
    tag: String,
    modified: Timestamp,
}

impl fmt::Debug for ComposedMp4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComposedMp4").field("len", &self.len()).field("tag", &self.0.tag).finish_non_exhaustive()
    }
}

impl ComposedMp4 {
    /// `pieces` come with their lengths.
    pub(super) fn new(
        source: SegmentSource,
        parts: Vec<Part>,
        pieces: impl IntoIterator<Item = (u64, Piece)>,
        tag: String,
        modified: Timestamp,
    ) -> ComposedMp4 {
        let mut end = 0;
        let place = |(len, piece): (u64, Piece)| {
            end += len;
            (end, piece)
        };
        let pieces = pieces.into_iter().map(place).collect();
        ComposedMp4(Arc::new(Inner { source, parts, pieces, tag, modified }))
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        self.0.pieces.last().map_or(0, |(end, _)| *end)
    }

    /// Returns whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a tag that changes with the contents.
    pub fn tag(&self) -> &str {
        &self.0.tag
    }

    /// Returns when its newest media was recorded.
    pub fn modified(&self) -> Timestamp {
        self.0.modified
    }

    /// Returns the number of its pieces, which is what it takes in memory.
    pub(super) fn weight(&self) -> usize {
        self.0.pieces.len()
    }

    /// Reads some of its bytes, both ends inclusive.
    pub fn read(&self, range: RangeInclusive<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        let (inner, at, end) = (Arc::clone(&self.0), *range.start(), (*range.end() + 1).min(self.len()));
        let first = inner.pieces.partition_point(|(end, _)| *end <= at);
        let pieces = stream::iter(first..inner.pieces.len()).take_while({
            let inner = Arc::clone(&inner);
            move |number| std::future::ready(inner.start_of(*number) < end)
        });
        let read = move |number: usize| {
            let start = inner.start_of(number);
            let within = at.saturating_sub(start)..inner.pieces[number].0.min(end) - start;
            inner.read_piece(number, within)
        };
        pieces.map(read).flatten().boxed()
    }
}

impl Inner {
    fn start_of(&self, piece: usize) -> u64 {
        piece.checked_sub(1).map_or(0, |before| self.pieces[before].0)
    }

    fn read_piece(&self, number: usize, within: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        let (start, (end, piece)) = (self.start_of(number), &self.pieces[number]);
        match piece {
            Piece::Bytes(bytes) => {
                let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
                stream::iter([Ok(bytes.slice(at(within.start)..at(within.end)))]).boxed()
            }
            Piece::Segment { part, number } => {
                let Some(Part { recording, shift }) = self.parts.get(usize::from(*part)) else {
                    return stream::iter([Err(io::ErrorKind::NotFound.into())]).boxed();
                };
                if shift.is_zero() {
                    return self.source.read(recording, *number, within);
                }
                // The times are in headers: all of the segment before the range has to be read.
                let shifted = shifted(self.source.read(recording, *number, 0..end - start), *shift);
                slice(shifted, within)
            }
        }
    }
}

/// Moves the samples of a segment while its bytes pass.
pub(super) fn shifted(
    bytes: BoxStream<'static, io::Result<Bytes>>,
    shift: Duration,
) -> BoxStream<'static, io::Result<Bytes>> {
    let mut shift = TimeShift::new(shift);
    let moved = bytes.map(move |bytes| {
        let bytes = bytes?;
        let mut out = Vec::with_capacity(bytes.len() + 4096);
        shift.push(&bytes, &mut out).map_err(io::Error::other)?;
        Ok(Bytes::from(out))
    });
    moved.boxed()
}

/// Returns some of a stream of bytes.
fn slice(bytes: BoxStream<'static, io::Result<Bytes>>, within: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
    let mut at = 0;
    let cut = bytes.map_ok(move |bytes| {
        let start = at;
        at += bytes.len() as u64;
        let place = |place: u64| usize::try_from(place.saturating_sub(start)).unwrap_or(usize::MAX).min(bytes.len());
        bytes.slice(place(within.start)..place(within.end))
    });
    cut.try_filter(|bytes| std::future::ready(!bytes.is_empty())).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slice_gives_the_range_whatever_the_chunks() {
        let all: Vec<u8> = (0..100).collect();
        for size in [1, 7, 100] {
            let chunks: Vec<io::Result<Bytes>> =
                all.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
            let cut: Vec<Bytes> = slice(stream::iter(chunks).boxed(), 13..57).try_collect().await.unwrap();
            assert_eq!(cut.concat(), all[13..57]);
        }
    }
}
