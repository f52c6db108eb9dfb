//! A room through time: its timeline, playlists and clips over any range, across recordings, from disk and object store.

use super::composed::{ComposedMp4, Part, Piece, Segment};
use super::composer::{head, tag};
use super::library::{Library, OpenError};
use crate::control::{RecordingId, RoomName};
use crate::store::{Recording, RecordingState, Stretch};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use recorder::composition::{Fragment, InitSegment, Merged, audio_end, cut, cut_start, shift, shifted, signed};
use recorder::index::IndexedSegment;
use recorder::{File, GapReason, Track};
use std::fmt::Write as _;
use std::time::Duration;

/// A range covers at most this many recordings: 90 days of hours.
const MAX_RECORDINGS: usize = 2160;
/// A playlist lists at most this many segments: a week of 10 s segments.
const MAX_SEGMENTS: usize = 61_000;
/// The first and last segment of a clip are read whole, up to this length, to cut them.
const MAX_CUT: u64 = 32 << 20;
/// Recordings of one stream that are less apart follow each other without a gap.
const SEAM: Duration = Duration::from_secs(1);

/// A stretch of media in a room.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomSpan {
    /// Start.
    pub from: Timestamp,
    /// End.
    pub to: Timestamp,
    /// Recordings in it, in order.
    pub recordings: Vec<RecordingId>,
    /// More follows: it is being recorded.
    pub live: bool,
}

/// A stretch of a track that is missing within a span.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomGap {
    /// Start.
    pub from: Timestamp,
    /// End.
    pub to: Timestamp,
    /// The track.
    pub track: Track,
    /// The reason.
    pub reason: GapReason,
}

/// A room through time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// In order; between them nothing is recorded.
    pub spans: Vec<RoomSpan>,
    /// In order.
    pub gaps: Vec<RoomGap>,
}

/// Why a range cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// Nothing was ever recorded in the room.
    #[error("nothing was ever recorded in this room")]
    NoRoom,
    /// Nothing is recorded in the range.
    #[error("nothing is recorded from {from} to {to}; GET /rooms/ROOM/timeline lists what is")]
    NoMedia {
        /// Start of the range.
        from: Timestamp,
        /// End of the range.
        to: Timestamp,
    },
    /// The range has too many segments or recordings.
    #[error("the range has more than {0}; ask for a shorter one")]
    TooLong(String),
    /// The codec changes within a clip.
    #[error("the codec changes at {0}, and an MP4 file has one; ask for a clip before or after that")]
    CodecChange(Timestamp),
    /// A file.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<crate::store::StoreError> for RoomError {
    fn from(error: crate::store::StoreError) -> RoomError {
        RoomError::Open(error.into())
    }
}

/// A segment of a recording that lies in a range.
struct Placed {
    recording: usize,
    segment: IndexedSegment,
}

/// Recordings and their segments in a range.
struct Range {
    stretches: Vec<Stretch>,
    /// Of each recording: its segments repeat parameter sets.
    in_band: Vec<bool>,
    segments: Vec<Placed>,
}

/// How a clip starts.
struct First {
    /// Its first segment, if that is cut.
    bytes: Option<Bytes>,
    /// Its first sample, on the timeline of the recording.
    starts: Duration,
    /// Start of playback, on the timeline of the recording.
    plays: Duration,
}

impl Library {
    /// Returns the spans and gaps of a room. Spans less than `resolution` apart are one, and gaps shorter than it are left out.
    pub async fn timeline(
        &self,
        room: &RoomName,
        from: Timestamp,
        to: Timestamp,
        resolution: Duration,
    ) -> Result<Timeline, RoomError> {
        let stretches = self.stretches(room, from, to).await?;
        let mut timeline = Timeline::default();
        for stretch in &stretches {
            let row = &stretch.recording;
            let live = row.ended_at.is_none();
            let (start, end) = (row.started_at.max(from), self.end(row).min(to));
            if end < start {
                continue;
            }
            match timeline.spans.last_mut() {
                Some(last) if apart(last.to, start) <= resolution.max(SEAM) => {
                    (last.to, last.live) = (last.to.max(end), live);
                    last.recordings.push(row.id.clone());
                }
                _ => timeline.spans.push(RoomSpan { from: start, to: end, recordings: vec![row.id.clone()], live }),
            }
            let wall =
                |seconds: f64| row.started_at + Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
            timeline.gaps.extend(stretch.gaps.iter().filter_map(|gap| {
                let (start, end) = (wall(gap.from).max(from), wall(gap.to).min(to));
                let gap = RoomGap { from: start, to: end, track: gap.track, reason: gap.reason };
                (start < end && apart(start, end) >= resolution).then_some(gap)
            }));
        }
        Ok(timeline)
    }

    /// Returns an HLS playlist of a room. It is open-ended while the range reaches into a recording under way.
    pub async fn room_playlist(&self, room: &RoomName, from: Timestamp, to: Timestamp) -> Result<String, RoomError> {
        let range = self.range(room, from, to).await?;
        let open = to > Timestamp::now() && range.stretches.iter().any(|stretch| stretch.recording.ended_at.is_none());
        let longest = range.segments.iter().map(|placed| placed.segment.duration).max().unwrap_or_default();
        // A growing playlist must not change it: later segments last up to twice the usual duration.
        let longest = if open { longest.max(self.shared().segment_duration() * 2 + SEAM) } else { longest };
        let kind = if open { "EVENT" } else { "VOD" };
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:{kind}\n",
            longest.as_secs_f64().ceil()
        );
        if range.segments.iter().all(|placed| placed.segment.keyframe) {
            text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        let mut before: Option<(usize, u32)> = None;
        for Placed { recording, segment } in &range.segments {
            let id = &range.stretches[*recording].recording.id;
            let url = |file: File| format!("../../recordings/{id}/{file}");
            if before.is_some_and(|(last, _)| last != *recording) || before.is_some() && segment.discontinuity {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            if before != Some((*recording, segment.init)) {
                let _ = writeln!(text, "#EXT-X-MAP:URI=\"{}\"", url(File::Init(segment.init)));
            }
            let _ = writeln!(
                text,
                "#EXT-X-PROGRAM-DATE-TIME:{:.3}\n#EXTINF:{:.6},\n{}",
                segment.at,
                segment.duration.as_secs_f64(),
                url(File::Segment(segment.number))
            );
            before = Some((*recording, segment.init));
        }
        if !open {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        Ok(text)
    }

    /// Returns a clip of a room: it plays from `from`, and ends with the part of a second that contains `to`.
    pub async fn clip(&self, room: &RoomName, from: Timestamp, to: Timestamp) -> Result<ComposedMp4, RoomError> {
        let range = self.range(room, from, to).await?;
        let init = self.clip_init(&range).await?;
        let first = self.first_of(&range, from, to).await?;
        let shifts = range.shifts(first.starts);
        let recording_parts = |stretch: (&Stretch, &SignedDuration)| Part {
            recording: stretch.0.recording.id.clone(),
            shift: *stretch.1,
        };
        let composed_parts: Vec<Part> = range.stretches.iter().zip(&shifts).map(recording_parts).collect();
        let (mut fragments, mut pieces) = (Vec::new(), Vec::new());
        for (place, placed) in range.segments.iter().enumerate() {
            let (row, shift) = (&range.stretches[placed.recording].recording, shifts[placed.recording]);
            let segment = &placed.segment;
            let wanted = range.wanted(place, from, to);
            let whole = match (&first.bytes, wanted) {
                (Some(bytes), _) if place == 0 => Some(bytes.clone()),
                (_, Some(_)) => self.read_to_cut(&row.id, segment).await?,
                _ => None,
            };
            // Behind a pause, the audio of the segment before is continued by silence.
            let before = place.checked_sub(1).map(|before| &range.segments[before]);
            let before = before
                .filter(|before| segment.discontinuity || before.recording != placed.recording)
                .map(|before| (before, u16::try_from(before.recording).unwrap_or(u16::MAX)));
            let audio = match before.filter(|_| whole.is_some()) {
                Some((before, _)) => {
                    let row = &range.stretches[before.recording].recording;
                    let bytes = self.read_whole(&row.id, &before.segment).await?;
                    audio_end(&bytes).map(|end| shifted(end, shifts[before.recording]))
                }
                None => None,
            };
            match whole.zip(wanted).and_then(|(bytes, (start, end))| cut(&bytes, start..end, shift, audio)) {
                Some(Merged { bytes, start, end, keyframe }) => {
                    let (len, duration) = (bytes.len() as u64, end.saturating_sub(start));
                    fragments.push(Fragment { bytes: len, start: shifted(start, shift), duration, keyframe });
                    pieces.push((len, Piece::Bytes(bytes.into())));
                }
                None => {
                    fragments.push(Fragment::of(segment, shift));
                    let part = u16::try_from(placed.recording).unwrap_or(u16::MAX);
                    pieces.push((
                        segment.bytes,
                        Piece::Segment(Segment {
                            part,
                            number: segment.number,
                            before: before.map(|(before, part)| (part, before.segment.number)),
                        }),
                    ));
                }
            }
        }
        let head = head(&init, from, &fragments, first.plays.saturating_sub(first.starts))?;
        let ids: Vec<&RecordingId> = range.stretches.iter().map(|stretch| &stretch.recording.id).collect();
        let tag = tag(&head, &ids);
        pieces.insert(0, (head.len() as u64, Piece::Bytes(head)));
        Ok(ComposedMp4::new(self.composer().source().clone(), composed_parts, pieces, tag, to))
    }

    /// Returns how a clip starts.
    async fn first_of(&self, range: &Range, from: Timestamp, to: Timestamp) -> Result<First, RoomError> {
        let Some(Placed { recording, segment }) = range.segments.first() else {
            return Err(RoomError::NoMedia { from, to });
        };
        let whole = First { bytes: None, starts: segment.start, plays: segment.start };
        let Some((plays, _)) = range.wanted(0, from, to) else { return Ok(whole) };
        let plays = plays.max(segment.start);
        let Some(bytes) = self.read_to_cut(&range.stretches[*recording].recording.id, segment).await? else {
            return Ok(First { plays, ..whole });
        };
        let starts = cut_start(&bytes, plays).unwrap_or(segment.start);
        Ok(First { bytes: Some(bytes), starts, plays })
    }

    /// Reads a segment that is not too long to be cut.
    async fn read_to_cut(&self, id: &RecordingId, segment: &IndexedSegment) -> Result<Option<Bytes>, RoomError> {
        if segment.bytes > MAX_CUT {
            return Ok(None);
        }
        self.read_whole(id, segment).await.map(Some)
    }

    async fn stretches(&self, room: &RoomName, from: Timestamp, to: Timestamp) -> Result<Vec<Stretch>, RoomError> {
        let store = &self.shared().store;
        let stretches = store.stretches(room, from, to, MAX_RECORDINGS + 1).await?;
        if stretches.len() > MAX_RECORDINGS {
            return Err(RoomError::TooLong(format!("{MAX_RECORDINGS} recordings")));
        }
        if stretches.is_empty() && !store.has_recordings(room).await? {
            return Err(RoomError::NoRoom);
        }
        Ok(stretches)
    }

    async fn range(&self, room: &RoomName, from: Timestamp, to: Timestamp) -> Result<Range, RoomError> {
        let stretches = self.stretches(room, from, to).await?;
        let mut range = Range { stretches, in_band: Vec::new(), segments: Vec::new() };
        for (recording, stretch) in range.stretches.iter().enumerate() {
            let row = &stretch.recording;
            let index = self.composer().index(row).await?;
            range.in_band.push(index.in_band);
            let segments =
                index.segments.into_iter().filter(|segment| segment.at < to && segment.at + segment.duration > from);
            range.segments.extend(segments.map(|segment| Placed { recording, segment }));
            if range.segments.len() > MAX_SEGMENTS {
                return Err(RoomError::TooLong(format!("{MAX_SEGMENTS} segments")));
            }
        }
        if range.segments.is_empty() {
            return Err(RoomError::NoMedia { from, to });
        }
        Ok(range)
    }

    /// Returns the tracks of a clip, when one file can have them.
    async fn clip_init(&self, range: &Range) -> Result<InitSegment, RoomError> {
        let mut tracks: Option<InitSegment> = None;
        for (recording, (stretch, in_band)) in range.stretches.iter().zip(&range.in_band).enumerate() {
            let segments: Vec<IndexedSegment> = range
                .segments
                .iter()
                .filter(|placed| placed.recording == recording)
                .map(|placed| placed.segment)
                .collect();
            let inits = self.composer().inits(&stretch.recording.id, &segments).await?;
            for segment in &segments {
                let Some(init) = inits.get(&segment.init) else { continue };
                match &mut tracks {
                    None => tracks = Some(init.clone()),
                    Some(tracks) if tracks.accepts(init, *in_band) => tracks.merge(init),
                    Some(_) => return Err(RoomError::CodecChange(segment.at)),
                }
            }
        }
        tracks.ok_or_else(|| OpenError::NotFound.into())
    }

    async fn read_whole(&self, id: &RecordingId, segment: &IndexedSegment) -> Result<Bytes, RoomError> {
        let whole = self.composer().source().whole(id, File::Segment(segment.number), MAX_CUT).await;
        whole.map_err(|error| RoomError::Open(error.into()))
    }

    /// Returns the end of a recording; of one under way that of its newest frame.
    fn end(&self, row: &Recording) -> Timestamp {
        let lasts = |ms: u64| row.started_at + Duration::from_millis(ms);
        match (row.state, self.shared().progress(&row.id)) {
            (RecordingState::Recording, Some(progress)) => {
                lasts(progress.milliseconds.load(std::sync::atomic::Ordering::Relaxed))
            }
            _ => lasts(row.duration_ms).max(row.ended_at.unwrap_or(row.started_at)),
        }
    }
}

impl Range {
    /// Returns how much later the samples of each recording are in one file than in the recording. `starts`: where the file
    /// starts, on the timeline of the recording of its first segment.
    fn shifts(&self, starts: Duration) -> Vec<SignedDuration> {
        let mut shifts: Vec<SignedDuration> = Vec::with_capacity(self.stretches.len());
        let first_with_media = self.segments.first().map_or(0, |placed| placed.recording);
        for (recording, stretch) in self.stretches.iter().enumerate() {
            let row = &stretch.recording;
            let Some(before) = recording.checked_sub(1).filter(|_| recording > first_with_media) else {
                shifts.push(shift(starts));
                continue;
            };
            let previous = &self.stretches[before].recording;
            let last = self.segments.iter().rfind(|placed| placed.recording == before).map(|placed| placed.segment);
            let first = self.segments.iter().find(|placed| placed.recording == recording).map(|placed| placed.segment);
            let (end, ended) = last.map_or((Duration::ZERO, previous.started_at), |last| {
                (last.start + last.duration, last.at + last.duration)
            });
            let started = first.map_or(row.started_at, |first| first.at - first.start);
            let pause = apart(ended, started);
            // Recordings in turns: the next one starts where the last frame ends, whatever their clocks say.
            let pause = if row.stream == previous.stream && pause < SEAM { Duration::ZERO } else { pause };
            shifts.push(shifts[before].saturating_add(signed(end + pause)));
        }
        shifts
    }

    /// Returns the requested range of a segment, on the timeline of its recording; none if that is all of it.
    fn wanted(&self, place: usize, from: Timestamp, to: Timestamp) -> Option<(Duration, Duration)> {
        let segment = &self.segments.get(place)?.segment;
        let at = |at: Timestamp| segment.start + apart(segment.at, at);
        let start = if place == 0 { at(from) } else { segment.start };
        let all = segment.start + segment.duration;
        let end = if place + 1 == self.segments.len() { at(to).min(all) } else { all };
        (start > segment.start || end < all).then_some((start, end))
    }
}

/// Returns the time from `a` to `b`; zero when `b` is earlier.
fn apart(a: Timestamp, b: Timestamp) -> Duration {
    Duration::try_from(b.duration_since(a)).unwrap_or_default()
}
