//! From parts to files: init segments, segments with their checksums, and the playlist of what is closed so far.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use ring::digest::{Context, SHA256};

use crate::{
    clock::{seconds, ticks},
    manifest::{Gap, hex},
    mp4::{
        init::{self, Tracks},
        part::{self, Info, Sample},
        timescale,
    },
    playlist::{
        Extent,
        live::{Change, LivePlaylist},
    },
    record::{PartSummary, RecordBuilder, Span},
    types::{Description, File, Output, Stats, Track},
};

/// The segment that is being written.
struct Open {
    record: RecordBuilder,
    bytes: u64,
    hash: Context,
}

/// A part that was given out and is not known to be on the disk.
struct Unsure {
    gaps: Vec<Gap>,
    /// Ticks: where it ends.
    ends: Vec<(Track, i64)>,
}

/// Writes files, that is, outputs.
pub(crate) struct Segments {
    description: Description,
    segment_duration: Duration,
    /// Nanoseconds of the timeline where this recording starts. Earlier samples belong to the one before.
    origin: i64,
    outputs: VecDeque<Output>,
    init: Option<(u32, Tracks)>,
    inits: u32,
    sequence: u32,
    open: Option<Open>,
    playlist: LivePlaylist,
    discontinuity: bool,
    unsure: VecDeque<Unsure>,
    /// The newest output makes the first of those sure, as soon as another one is asked for.
    syncing: bool,
    /// The segment that the newest output belongs to.
    writing: Option<u32>,
    /// Ticks: where what is surely on the disk ends.
    safe: BTreeMap<Track, i64>,
    /// Not yet told in a part.
    new_gaps: Vec<Gap>,
    stats: Stats,
}

impl std::fmt::Debug for Segments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segments").field("stats", &self.stats).finish_non_exhaustive()
    }
}

impl Segments {
    pub(crate) fn new(description: Description, segment_duration: Duration) -> Self {
        Segments {
            description,
            segment_duration,
            origin: 0,
            outputs: VecDeque::new(),
            init: None,
            inits: 0,
            sequence: 0,
            open: None,
            playlist: LivePlaylist::new(segment_duration),
            discontinuity: false,
            unsure: VecDeque::new(),
            syncing: false,
            writing: None,
            safe: BTreeMap::new(),
            new_gaps: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// Returns the description.
    pub(crate) fn description(&self) -> &Description {
        &self.description
    }

    /// Returns the ticks of the timeline where this recording begins.
    pub(crate) fn origin(&self, track: Track) -> i64 {
        ticks(self.origin, timescale(track))
    }

    /// Ends this recording. Later outputs belong to the next one: its first frame arrived at `at` and starts at `origin`, in
    /// nanoseconds of the timeline. No segment is open.
    pub(crate) fn continue_as(&mut self, description: Description, at: Instant, origin: i64) {
        if let Some(change) = self.playlist.finish() {
            self.change_playlist(change);
        }
        let untold = std::mem::take(&mut self.new_gaps);
        self.push(Output::Continue { description: description.clone(), at, untold });
        *self = Segments {
            origin,
            // Outputs of the recording that ends may still fail.
            outputs: std::mem::take(&mut self.outputs),
            unsure: std::mem::take(&mut self.unsure),
            syncing: self.syncing,
            writing: self.writing,
            safe: std::mem::take(&mut self.safe),
            ..Segments::new(description, self.segment_duration)
        };
    }

    pub(crate) fn stats(&self) -> Stats {
        self.stats
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front()?;
        let is_sync = matches!(output, Output::Sync { file: File::Segment(_) });
        let was_sync = std::mem::replace(&mut self.syncing, is_sync);
        self.writing = segment(&output);
        if was_sync && let Some(part) = self.unsure.pop_front() {
            self.safe.extend(part.ends);
        }
        Some(output)
    }

    /// Ticks: where the samples end that are surely on the disk.
    pub(crate) fn safe(&self, track: Track) -> i64 {
        self.safe.get(&track).copied().unwrap_or(0)
    }

    /// What no part tells of.
    pub(crate) fn untold(&self) -> &[Gap] {
        &self.new_gaps
    }

    /// Notes a gap of the timeline.
    pub(crate) fn gap(&mut self, mut gap: Gap) {
        let origin = self.origin as f64 / 1e9;
        (gap.from, gap.to) = ((gap.from - origin).max(0.0), gap.to - origin);
        if gap.to <= 0.0 {
            // It ended before this recording began.
            return;
        }
        self.stats.gaps += 1;
        self.playlist.gap(&gap);
        self.new_gaps.push(gap);
    }

    /// The next segment does not continue this one's timeline.
    pub(crate) fn discontinue(&mut self) {
        self.close(None);
        self.discontinuity = self.stats.segments > 0;
    }

    /// Writes a part, and before it whatever files it needs. The times of samples are those of this recording. `at`: wall
    /// clock of its first sample.
    pub(crate) fn part(&mut self, tracks: &Tracks, runs: &[(Track, &[Sample])], at: Timestamp) {
        if let Err(error) = self.try_part(tracks, runs, at) {
            // Sizes and counts are bounded and entries were encoded before: not reached. Not worth ending a recording.
            tracing::error!(%error, "a part could not be encoded");
        }
    }

    fn try_part(
        &mut self,
        tracks: &Tracks,
        runs: &[(Track, &[Sample])],
        at: Timestamp,
    ) -> Result<(), shiguredo_mp4::Error> {
        let number = match &self.init {
            Some((number, known)) if known == tracks => *number,
            _ => self.begin_init(tracks)?,
        };
        let info = Info {
            sequence: self.sequence + 1,
            init: number,
            at,
            discontinuity: self.open.is_none() && self.discontinuity,
            gaps: std::mem::take(&mut self.new_gaps),
            check: String::new(),
        };
        let gaps = info.gaps.clone();
        let bytes = part::encode(runs, info)?;
        self.sequence += 1;
        let spans: Vec<Span> = runs.iter().map(|(track, samples)| span(*track, samples)).collect();
        let ends = spans.iter().map(|span| (span.track, self.origin(span.track) + span.to)).collect();
        let extent = extent(runs, tracks.main());
        let part = PartSummary { sequence: self.sequence, at, extent, spans: &spans, gaps: &gaps };
        if self.open.is_none() {
            let discontinuity = std::mem::take(&mut self.discontinuity);
            self.begin_segment(RecordBuilder::new(self.stats.segments + 1, number, discontinuity, &part));
        }
        if let Some(open) = &mut self.open {
            open.record.add(&part);
        }
        self.unsure.push_back(Unsure { gaps, ends });
        self.stats.parts += 1;
        self.stats.samples += runs.iter().map(|(_, samples)| samples.len() as u64).sum::<u64>();
        self.stats.duration = self.stats.duration.max(Duration::try_from_secs_f64(extent.end).unwrap_or_default());
        self.append(bytes);
        self.sync();
        Ok(())
    }

    fn begin_init(&mut self, tracks: &Tracks) -> Result<u32, shiguredo_mp4::Error> {
        let bytes = init::encode(tracks, &self.description)?;
        self.discontinue();
        self.inits += 1;
        self.stats.bytes += bytes.len() as u64;
        self.push(Output::Replace { file: File::Init(self.inits), bytes });
        self.init = Some((self.inits, tracks.clone()));
        Ok(self.inits)
    }

    fn begin_segment(&mut self, record: RecordBuilder) {
        self.stats.segments = record.number();
        self.push(Output::Create { file: File::Segment(record.number()) });
        self.open = Some(Open { record, bytes: 0, hash: Context::new(&SHA256) });
        self.append(part::styp());
    }

    fn append(&mut self, bytes: Vec<u8>) {
        let Some(open) = &mut self.open else { return };
        open.bytes += bytes.len() as u64;
        open.hash.update(&bytes);
        self.stats.bytes += bytes.len() as u64;
        let file = File::Segment(open.record.number());
        self.push(Output::Append { file, bytes });
    }

    fn sync(&mut self) {
        let Some(open) = &self.open else { return };
        let file = File::Segment(open.record.number());
        self.push(Output::Sync { file });
    }

    /// Closes the segment, if one is open, and lists it in the playlist. `next`: where the segment after it starts, in
    /// seconds of the timeline, if it continues this one.
    pub(crate) fn close(&mut self, next: Option<f64>) {
        let next = next.map(|next| next - self.origin as f64 / 1e9);
        let Some(Open { record, bytes, hash }) = self.open.take() else { return };
        let record = record.finish(bytes, hex(hash.finish().as_ref()));
        let entry = record.entry();
        self.push(Output::Close { file: File::Segment(record.number), record: Box::new(record) });
        let change = self.playlist.add(entry, next);
        self.change_playlist(change);
    }

    /// Ends the playlist. No segment is open.
    pub(crate) fn finish(&mut self) {
        if let Some(change) = self.playlist.finish() {
            self.change_playlist(change);
        }
        self.push(Output::Finished);
    }

    fn change_playlist(&mut self, change: Change) {
        let file = File::Playlist;
        match change {
            Change::Replace(text) => {
                self.stats.bytes += text.len() as u64;
                self.push(Output::Replace { file, bytes: text.into_bytes() });
            }
            Change::Append(text) => {
                self.stats.bytes += text.len() as u64;
                self.push(Output::Append { file, bytes: text.into_bytes() });
                self.push(Output::Sync { file });
            }
        }
    }

    /// What was not carried out is not to be: the next part begins a new segment with a new init segment. Gaps that are
    /// not surely told are forgotten: each lies behind what is safe of its track, and all of that will be one gap.
    pub(crate) fn fail(&mut self) {
        let turn = self.outputs.iter().position(|output| matches!(output, Output::Continue { .. }));
        let turn = turn.and_then(|at| self.outputs.remove(at));
        let failed = self.outputs.drain(..).find_map(|output| segment(&output));
        let failed = self.writing.take().or(failed);
        // The failed output belongs to the recording before; nothing of this one has been written.
        let incomplete = if turn.is_some() { Some(1) } else { failed };
        self.outputs.extend(turn);
        self.open = None;
        self.init = None;
        self.discontinuity = true;
        self.syncing = false;
        let mut forgotten = std::mem::take(&mut self.new_gaps);
        forgotten.extend(self.unsure.drain(..).flat_map(|part| part.gaps));
        self.playlist.fail(&forgotten, incomplete);
        self.stats.gaps = self.stats.gaps.saturating_sub(u32::try_from(forgotten.len()).unwrap_or(u32::MAX));
    }
}

/// Returns the segment that an output creates, writes or closes.
fn segment(output: &Output) -> Option<u32> {
    match output {
        Output::Create { file: File::Segment(number) }
        | Output::Append { file: File::Segment(number), .. }
        | Output::Sync { file: File::Segment(number) }
        | Output::Close { file: File::Segment(number), .. } => Some(*number),
        _ => None,
    }
}

/// Returns the stretch of a track in a part.
fn span(track: Track, samples: &[Sample]) -> Span {
    let from = samples.first().map_or(0, |first| first.dts);
    let to = samples.last().map_or(0, |last| last.dts + i64::from(last.duration));
    Span { track, from, to }
}

/// Returns the stretch of the main track, or else of the other one.
fn extent(runs: &[(Track, &[Sample])], main: Track) -> Extent {
    let run = runs.iter().find(|(track, _)| *track == main).or(runs.first());
    let Some((track, [first, .., last] | [first @ last])) = run else {
        return Extent { start: 0.0, end: 0.0, keyframe: false, main: false };
    };
    let rate = timescale(*track);
    let (start, end) = (seconds(first.dts, rate), seconds(last.dts + i64::from(last.duration), rate));
    let main = *track == main;
    Extent { start, end, keyframe: main && first.sync, main }
}
