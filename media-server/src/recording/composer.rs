//! Composes MP4 files: finds the index of a recording, reads its init segments, and writes the head.

use super::composed::{ComposedMp4, Part, Piece, Segment};
use super::library::OpenError;
use super::segment_source::SegmentSource;
use super::shared::{Shared, lock};
use crate::control::RecordingId;
use crate::objects::Digest;
use crate::store::{FinishedIndex, Recording, RecordingState};
use bytes::Bytes;
use jiff::Timestamp;
use recorder::composition::{self, ComposedFile, Fragment, InitSegment};
use recorder::index::{IndexedSegment, SegmentIndex};
use recorder::{File, Manifest, SegmentRecord};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An init segment has at most so many bytes.
const MAX_INIT: u64 = 1 << 20;
/// A manifest of a recording that is not in the index has at most so many bytes: weeks of segments.
const MAX_MANIFEST: u64 = 64 << 20;
/// Pieces of all composed files that are kept: 48 bytes each.
const MAX_CACHED_PIECES: usize = 200_000;

/// Composes MP4 files and keeps the newest ones: a player asks for many ranges of one file.
pub(super) struct Composer {
    shared: Arc<Shared>,
    source: SegmentSource,
    cache: Mutex<VecDeque<(RecordingId, u32, ComposedMp4)>>,
}

impl Composer {
    pub(super) fn new(shared: Arc<Shared>) -> Composer {
        Composer { source: SegmentSource::new(Arc::clone(&shared)), shared, cache: Mutex::default() }
    }

    pub(super) fn source(&self) -> &SegmentSource {
        &self.source
    }

    /// Returns an MP4 of a finished recording, by number from 1; none when it has fewer.
    pub(super) async fn recording(&self, row: &Recording, number: u32) -> Result<Option<ComposedMp4>, OpenError> {
        if let Some(known) = self.cached(&row.id, number) {
            return Ok(Some(known));
        }
        let index = self.index(row).await?;
        let inits = self.inits(&row.id, &index.segments).await?;
        let Some(file) = number.checked_sub(1).and_then(|n| files(&inits, &index).into_iter().nth(n as usize)) else {
            return Ok(None);
        };
        let segments = &index.segments[file.segments.clone()];
        let shift = composition::shift(composition::origin(number, segments));
        let fragments: Vec<Fragment> = segments.iter().map(|segment| Fragment::of(segment, shift)).collect();
        let head = head(&file.init, row.started_at, &fragments, Duration::ZERO)?;
        let tag = tag(&head, &[&row.id]);
        let parts = vec![Part { recording: row.id.clone(), shift }];
        let piece = |(place, segment): (usize, &IndexedSegment)| {
            let before = place.checked_sub(1).and_then(|before| segments.get(before));
            let before = before.filter(|_| segment.discontinuity).map(|before| (0, before.number));
            (segment.bytes, Piece::Segment(Segment { part: 0, number: segment.number, before }))
        };
        let pieces = segments.iter().enumerate().map(piece);
        let pieces = std::iter::once((head.len() as u64, Piece::Bytes(head))).chain(pieces);
        let modified = row.ended_at.unwrap_or(row.started_at);
        let composed = ComposedMp4::new(self.source.clone(), parts, pieces, tag, modified);
        self.keep(&row.id, number, &composed);
        Ok(Some(composed))
    }

    /// Returns the MP4 files of a finished recording: start and duration in seconds, and codecs.
    pub(super) async fn list(&self, row: &Recording) -> Result<Vec<(f64, f64, Vec<String>)>, OpenError> {
        let index = self.index(row).await?;
        let inits = self.inits(&row.id, &index.segments).await?;
        let listed = files(&inits, &index).into_iter().filter_map(|file| {
            let segments = &index.segments[file.segments];
            let (first, last) = (segments.first()?, segments.last()?);
            let lasts = (last.start + last.duration).saturating_sub(first.start);
            Some((first.start.as_secs_f64(), lasts.as_secs_f64(), file.init.codecs()))
        });
        Ok(listed.collect())
    }

    /// Returns the segments of a recording: all of a finished one, the closed ones of one under way.
    pub(super) async fn index(&self, row: &Recording) -> Result<SegmentIndex, OpenError> {
        let store = &self.shared.store;
        if !matches!(row.state, RecordingState::Complete | RecordingState::Repaired) {
            let known = store.open_segments(&row.id).await?;
            let records: Vec<SegmentRecord> = known.into_iter().map(|known| known.record).collect();
            return Ok(SegmentIndex::of_records(&records));
        }
        if let Some(index) = store.recording_index(&row.id).await? {
            return Ok(index);
        }
        let text = self.source.whole(&row.id, File::Manifest, MAX_MANIFEST).await?;
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| OpenError::Io(error.into()))?;
        if let Err(error) = store.recording_indexed(&row.id, &FinishedIndex::of(&manifest)).await {
            tracing::warn!(recording = %row.id, %error, "index of an older recording not written");
        }
        Ok(SegmentIndex::of_manifest(&manifest))
    }

    /// Reads the init segments of these segments, each once.
    pub(super) async fn inits(
        &self,
        id: &RecordingId,
        segments: &[IndexedSegment],
    ) -> Result<BTreeMap<u32, InitSegment>, OpenError> {
        let mut inits = BTreeMap::new();
        for segment in segments {
            if inits.contains_key(&segment.init) {
                continue;
            }
            let file = File::Init(segment.init);
            let bytes = self.source.whole(id, file, MAX_INIT).await?;
            let unreadable = || OpenError::Io(io::Error::other(format!("{file} is not an init segment")));
            inits.insert(segment.init, InitSegment::parse(&bytes).ok_or_else(unreadable)?);
        }
        Ok(inits)
    }

    /// Drops the files of a removed recording.
    pub(super) fn forget(&self, id: &RecordingId) {
        lock(&self.cache).retain(|(known, ..)| known != id);
    }

    fn cached(&self, id: &RecordingId, number: u32) -> Option<ComposedMp4> {
        let mut cache = lock(&self.cache);
        let at = cache.iter().position(|(known, n, _)| known == id && *n == number)?;
        let entry = cache.remove(at)?;
        let composed = entry.2.clone();
        cache.push_back(entry);
        Some(composed)
    }

    fn keep(&self, id: &RecordingId, number: u32, composed: &ComposedMp4) {
        let mut cache = lock(&self.cache);
        cache.push_back((id.clone(), number, composed.clone()));
        let mut pieces: usize = cache.iter().map(|(.., kept)| kept.weight()).sum();
        while pieces > MAX_CACHED_PIECES
            && let Some((.., oldest)) = cache.pop_front()
        {
            pieces -= oldest.weight();
        }
    }
}

fn files(inits: &BTreeMap<u32, InitSegment>, index: &SegmentIndex) -> Vec<ComposedFile> {
    let used: Vec<u32> = index.segments.iter().map(|segment| segment.init).collect();
    composition::files(inits, &used, index.in_band)
}

pub(super) fn head(
    init: &InitSegment,
    created: Timestamp,
    fragments: &[Fragment],
    skip: Duration,
) -> Result<Bytes, OpenError> {
    let head = composition::head(init, created, fragments, skip);
    head.map(Bytes::from).map_err(|error| OpenError::Io(io::Error::other(error)))
}

/// Counts changes of how segments are merged: a player must not join bytes of two ways.
const MERGE_VERSION: u8 = 4;

/// Returns a tag that changes with the contents: the head lists all lengths and durations, and recordings never change.
pub(super) fn tag(head: &[u8], recordings: &[&RecordingId]) -> String {
    let mut all = [head, &[MERGE_VERSION]].concat();
    recordings.iter().for_each(|id| all.extend_from_slice(id.as_str().as_bytes()));
    Digest::of(&all).to_string()[..32].to_owned()
}
