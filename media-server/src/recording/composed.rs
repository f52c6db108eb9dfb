//! MP4 files that are composed of segments while they are read: a whole recording, or a clip of a room.
//!
//! A file is its head and then a fragment per segment, which may lie on the disk or in the object store, each in its own
//! place. Of a range of bytes only the segments in it are read. A player that pauses holds one segment, and no request to
//! the store; all players together hold at most [`MAX_IN_FLIGHT_KIB`].

use super::segment_source::SegmentSource;
use crate::control::RecordingId;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use jiff::Timestamp;
use recorder::File;
use recorder::composition::merge;
use std::fmt;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// A segment has at most so many bytes.
const MAX_SEGMENT: u64 = 256 << 20;
/// Segments that players read take at most so much memory together; further ones wait.
const MAX_IN_FLIGHT_KIB: u32 = 64 << 10;
static IN_FLIGHT: Semaphore = Semaphore::const_new(MAX_IN_FLIGHT_KIB as usize);
/// How long a read waits for memory.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes given at once.
const BLOCK: usize = 64 << 10;

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
                let (source, recording, number) = (self.source.clone(), recording.clone(), *number);
                let (shift, len) = (*shift, end - start);
                let fragment = async move {
                    let held = hold(len).await?;
                    let bytes = source.whole(&recording, File::Segment(number), MAX_SEGMENT).await;
                    let bytes = bytes.map_err(io::Error::other)?;
                    if bytes.len() as u64 != len {
                        return Err(io::Error::other(format!(
                            "{recording}: segment {number} is not as long as indexed"
                        )));
                    }
                    // One that cannot be merged is served as it is.
                    let bytes = merge(&bytes, shift).map_or(bytes, |merged| merged.bytes.into());
                    let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
                    Ok((bytes.slice(at(within.start)..at(within.end)), held))
                };
                stream::once(fragment).map(blocks).flatten().boxed()
            }
        }
    }
}

/// Waits until this many more bytes may be in memory.
async fn hold(bytes: u64) -> io::Result<SemaphorePermit<'static>> {
    let permits = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(MAX_IN_FLIGHT_KIB);
    tokio::time::timeout(PATIENCE, IN_FLIGHT.acquire_many(permits))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "too many players at once"))?
        .map_err(io::Error::other)
}

/// Returns a fragment in blocks. It counts as held until the last one is taken.
fn blocks(fragment: io::Result<(Bytes, SemaphorePermit<'static>)>) -> BoxStream<'static, io::Result<Bytes>> {
    let (bytes, held) = match fragment {
        Ok(fragment) => fragment,
        Err(error) => return stream::iter([Err(error)]).boxed(),
    };
    stream::unfold((bytes, held), |(mut rest, held)| async move {
        let block = rest.split_to(rest.len().min(BLOCK));
        (!block.is_empty()).then_some((Ok(block), (rest, held)))
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt as _;

    #[tokio::test]
    async fn blocks_give_the_fragment_and_release_it() {
        let bytes = Bytes::from(vec![7; 3 * BLOCK + 5]);
        let before = IN_FLIGHT.available_permits();
        let held = hold(bytes.len() as u64).await.unwrap();
        assert!(IN_FLIGHT.available_permits() < before);
        let given: Vec<Bytes> = blocks(Ok((bytes.clone(), held))).try_collect().await.unwrap();
        assert_eq!((given.len(), given.concat()), (4, bytes.to_vec()));
    }
}
