//! MP4 files that are composed of segments while they are read: a whole recording, or a clip of a room.
//!
//! A file is its head and then a fragment per segment, which may lie on the disk or in the object store, each in its own
//! place. Of a range of bytes only the segments in it are read. All players together hold at most [`MAX_IN_FLIGHT_KIB`] of
//! segments. A paused player holds no segment and no request to the store: its segment is read again when it resumes.

use super::segment_source::SegmentSource;
use crate::control::RecordingId;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use jiff::{SignedDuration, Timestamp};
use recorder::File;
use recorder::composition::{audio_end, merge, shifted};
use std::fmt;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

/// A segment has at most so many bytes.
const MAX_SEGMENT: u64 = 256 << 20;
/// Segments that players read take at most so much memory together; further ones wait.
const MAX_IN_FLIGHT_KIB: u32 = 64 << 10;
static IN_FLIGHT: Semaphore = Semaphore::const_new(MAX_IN_FLIGHT_KIB as usize);
/// How long a read waits for memory: longer than [`MAX_HOLD`], so that every hold before it has ended once.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes sent to a player at once.
const BLOCK: u64 = 64 << 10;
/// Blocks that wait for a player.
const BLOCKS_AHEAD: usize = 2;
/// Time without a block taken after which a player counts as paused and its segment is dropped.
const STALL: Duration = Duration::from_secs(1);
/// Longest time that a slow player holds a segment before it queues again behind the others.
const MAX_HOLD: Duration = Duration::from_secs(10);

/// A recording in a composed file.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) recording: RecordingId,
    /// How much later its samples are in the file than in the recording.
    pub(super) shift: SignedDuration,
}

/// A segment of a composed file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// Number of its part.
    pub(super) part: u16,
    /// Number in its recording.
    pub(super) number: u32,
    /// Part and number of the segment before, if there is a pause between them that becomes silence.
    pub(super) before: Option<(u16, u32)>,
}

/// A piece of a composed file.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// All of a segment.
    Segment(Segment),
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
        let range = *range.start()..(*range.end() + 1).min(self.len());
        let (sender, receiver) = mpsc::channel(BLOCKS_AHEAD);
        tokio::spawn(Arc::clone(&self.0).send(range, sender));
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) }).boxed()
    }
}

impl Inner {
    /// Sends a range of bytes in blocks, then an error if one ends it early.
    async fn send(self: Arc<Self>, range: Range<u64>, blocks: Sender<io::Result<Bytes>>) {
        let first = self.pieces.partition_point(|(end, _)| *end <= range.start);
        for (number, (end, piece)) in self.pieces.iter().enumerate().skip(first) {
            let start = number.checked_sub(1).map_or(0, |before| self.pieces[before].0);
            if start >= range.end {
                return;
            }
            let within = range.start.saturating_sub(start)..(*end).min(range.end) - start;
            let sent = match piece {
                Piece::Bytes(bytes) => send_blocks(bytes, within.start, within.end, &blocks, None).await.map(drop),
                Piece::Segment(segment) => self.send_segment(*segment, end - start, within, &blocks).await,
            };
            match sent {
                Ok(()) => {}
                Err(Ended::PlayerLeft) => return,
                Err(Ended::Failed(error)) => {
                    blocks.send(Err(error)).await.ok();
                    return;
                }
            }
        }
    }

    /// Sends some bytes of a segment. Holds the segment only while the player takes them, and reads it again afterwards.
    async fn send_segment(
        &self,
        segment: Segment,
        len: u64,
        within: Range<u64>,
        blocks: &Sender<io::Result<Bytes>>,
    ) -> Result<(), Ended> {
        let mut at = within.start;
        loop {
            // The segment and, while they are merged, its fragment.
            let held = hold(2 * len).await?;
            let bytes = self.read_segment(segment, len).await?;
            at = send_blocks(&bytes, at, within.end, blocks, Some(Instant::now() + MAX_HOLD)).await?;
            drop((bytes, held));
            if at >= within.end {
                return Ok(());
            }
            blocks.reserve().await.map_err(|_| Ended::PlayerLeft)?;
        }
    }

    /// Reads a segment and merges it into one fragment of the same length.
    async fn read_segment(&self, segment: Segment, len: u64) -> io::Result<Bytes> {
        let Segment { part, number, before } = segment;
        let audio = match before {
            Some((part, number)) => self.read_audio_end(part, number).await?,
            None => None,
        };
        let (bytes, shift) = self.read_whole(part, number).await?;
        if bytes.len() as u64 != len {
            let recording = &self.parts[usize::from(part)].recording;
            return Err(io::Error::other(format!("{recording}: segment {number} is not as long as indexed")));
        }
        // One that cannot be merged is served as it is.
        Ok(merge(&bytes, shift, audio).map_or(bytes, |merged| merged.bytes.into()))
    }

    /// Returns where the audio of a segment ends in the file.
    async fn read_audio_end(&self, part: u16, number: u32) -> io::Result<Option<Duration>> {
        let (bytes, shift) = self.read_whole(part, number).await?;
        Ok(audio_end(&bytes).map(|end| shifted(end, shift)))
    }

    /// Reads a segment. Returns it with the shift of its part.
    async fn read_whole(&self, part: u16, number: u32) -> io::Result<(Bytes, SignedDuration)> {
        let Part { recording, shift } = self.parts.get(usize::from(part)).ok_or(io::ErrorKind::NotFound)?;
        let bytes = self.source.whole(recording, File::Segment(number), MAX_SEGMENT).await.map_err(io::Error::other)?;
        Ok((bytes, *shift))
    }
}

/// Why no more bytes are sent.
enum Ended {
    PlayerLeft,
    Failed(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Failed(error)
    }
}

/// Sends copies of `bytes[at..end]` in blocks, and returns where it stopped: at `end`, or earlier when the player stalls
/// or the deadline passes.
async fn send_blocks(
    bytes: &[u8],
    at: u64,
    end: u64,
    blocks: &Sender<io::Result<Bytes>>,
    deadline: Option<Instant>,
) -> Result<u64, Ended> {
    let mut at = at;
    while at < end {
        let reserved = match deadline {
            None => blocks.reserve().await,
            Some(deadline) => match timeout_at(deadline.min(Instant::now() + STALL), blocks.reserve()).await {
                Ok(reserved) => reserved,
                Err(_) => return Ok(at),
            },
        };
        let next = end.min(at + BLOCK);
        let block = usize::try_from(at).ok().zip(usize::try_from(next).ok()).and_then(|(at, next)| bytes.get(at..next));
        let block = block.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        // A slice would keep all of the segment in memory until the player takes it.
        reserved.map_err(|_| Ended::PlayerLeft)?.send(Ok(Bytes::copy_from_slice(block)));
        at = next;
    }
    Ok(at)
}

/// Waits until this many more bytes may be in memory.
async fn hold(bytes: u64) -> io::Result<SemaphorePermit<'static>> {
    let permits = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(MAX_IN_FLIGHT_KIB);
    timeout(PATIENCE, IN_FLIGHT.acquire_many(permits))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "too many players at once"))?
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn blocks_are_copies_of_the_range() {
        let bytes: Vec<u8> = (0..3 * BLOCK + 5).map(|n| n as u8).collect();
        let (sender, mut receiver) = mpsc::channel(8);
        let sent = send_blocks(&bytes, 7, bytes.len() as u64, &sender, None).await;
        assert!(matches!(sent, Ok(at) if at == bytes.len() as u64));
        drop(sender);
        let mut given = Vec::new();
        while let Some(block) = receiver.recv().await {
            given.extend_from_slice(&block.unwrap());
        }
        assert_eq!(given, bytes[7..]);
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_player_ends_the_hold() {
        let bytes = vec![7; 4 * BLOCK as usize];
        let (sender, _receiver) = mpsc::channel(BLOCKS_AHEAD);
        let begun = Instant::now();
        let sent = send_blocks(&bytes, 0, bytes.len() as u64, &sender, Some(begun + MAX_HOLD)).await;
        assert!(matches!(sent, Ok(at) if at == BLOCKS_AHEAD as u64 * BLOCK));
        assert_eq!(begun.elapsed(), STALL);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_player_ends_the_hold_at_the_deadline() {
        let bytes = vec![7; 64 * BLOCK as usize];
        let (sender, mut receiver) = mpsc::channel(BLOCKS_AHEAD);
        let player = tokio::spawn(async move {
            while receiver.recv().await.is_some() {
                tokio::time::sleep(STALL * 9 / 10).await;
            }
        });
        let begun = Instant::now();
        let sent = send_blocks(&bytes, 0, bytes.len() as u64, &sender, Some(begun + MAX_HOLD)).await;
        assert!(matches!(sent, Ok(at) if at < bytes.len() as u64));
        assert_eq!(begun.elapsed(), MAX_HOLD);
        player.abort();
    }
}
