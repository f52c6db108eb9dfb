//! `recording.mp4` and clips on demand: one fragmented MP4 file over segments that stay where they are.
//!
//! The file is a head (`ftyp`, `moov`, `sidx`) and then a fragment per segment, as long as the segment ([`merge`]). The head
//! lists each with its length and duration, so that players seek by byte range, and its own length depends on the number
//! of segments alone. Nothing of the media is read to make it.
//!
//! A file has one sample entry per track, the first one: parameter sets are in band, so decoders follow changes of size
//! within a codec. Another codec needs another file ([`InitSegment::accepts`]). In a clip across recordings later
//! ones are shifted on the timeline.
//!
//! The samples of a file start at 0 ([`origin`]), and `sidx` counts from where playback starts, behind the preroll of a
//! clip: FFmpeg takes its end for the duration.

mod fragment;
mod silence;
mod track;

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    ops::Range,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use shiguredo_mp4::{
    Encode as _, FixedPointNumber,
    boxes::{Brand, EdtsBox, ElstBox, ElstEntry, FtypBox, MoovBox, SidxBox, SidxReference},
};

pub use fragment::{Merged, audio_end, cut, cut_start, merge};

use crate::{
    index::{IndexedSegment, SegmentIndex},
    manifest::Manifest,
    mp4::{
        self, MOVIE_TIMESCALE,
        init::{self, Tracks},
        timescale, track_id,
    },
    types::{File, Track},
};

/// A `sidx` box counts its references with 16 bits.
const MAX_REFERENCES: usize = 65_535;

/// The tracks of an init segment.
#[derive(Clone, Debug, PartialEq)]
pub struct InitSegment(Tracks);

/// A segment, or a part of one, in a composed file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fragment {
    /// Length.
    pub bytes: u64,
    /// Start on the timeline of the file's samples.
    pub start: Duration,
    /// Duration, which counts for the last fragment: others last until the next one.
    pub duration: Duration,
    /// It starts with a keyframe.
    pub keyframe: bool,
}

/// One of the files of a recording: a decoder that starts with its first segment follows to its last one.
#[derive(Clone, Debug, PartialEq)]
pub struct ComposedFile {
    /// All its tracks.
    pub init: InitSegment,
    /// Its segments.
    pub segments: Range<usize>,
}

/// Returns the files of a recording in order. `segments`: the number of the init segment of each segment. `in_band`: see
/// [`InitSegment::accepts`]. Segments without an init segment are left out.
pub fn files(inits: &BTreeMap<u32, InitSegment>, segments: &[u32], in_band: bool) -> Vec<ComposedFile> {
    let mut files: Vec<ComposedFile> = Vec::new();
    for (number, init) in segments.iter().enumerate() {
        let Some(init) = inits.get(init) else { continue };
        match files.last_mut() {
            Some(file) if file.segments.end == number && file.init.accepts(init, in_band) => {
                file.init.merge(init);
                file.segments.end = number + 1;
            }
            _ => files.push(ComposedFile { init: init.clone(), segments: number..number + 1 }),
        }
    }
    files
}

/// A head could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the index of the MP4 cannot be written: {0}")]
pub struct CompositionError(String);

impl InitSegment {
    /// Parses an init segment of a recording; none when it is not one.
    pub fn parse(bytes: &[u8]) -> Option<InitSegment> {
        init::decode(bytes).map(|(tracks, _)| InitSegment(tracks))
    }

    /// Returns the RFC 6381 names of its codecs.
    pub fn codecs(&self) -> Vec<String> {
        self.0.codecs()
    }

    /// Returns whether segments of `next` can follow in a file that starts with this one. `in_band`: its segments repeat
    /// parameter sets, as those of manifests of version 2 do.
    pub fn accepts(&self, next: &InitSegment, in_band: bool) -> bool {
        next.0.iter().all(|(track, entry)| match self.0.entry(track) {
            Some(known) if in_band => mp4::same_codec(known, entry),
            Some(known) => known == entry,
            None => true,
        })
    }

    /// Adds the tracks that only `next` has.
    pub fn merge(&mut self, next: &InitSegment) {
        self.0.video = self.0.video.take().or_else(|| next.0.video.clone());
        self.0.audio = self.0.audio.take().or_else(|| next.0.audio.clone());
    }
}

/// Returns the head of a file with these fragments. Playback starts at `skip` on the timeline of the samples.
///
/// # Errors
/// A fragment has 2 GiB or more.
pub fn head(
    init: &InitSegment,
    created: Timestamp,
    fragments: &[Fragment],
    skip: Duration,
) -> Result<Vec<u8>, CompositionError> {
    let failed = |error: shiguredo_mp4::Error| CompositionError(error.to_string());
    let tracks = &init.0;
    let end = fragments.last().map_or(Duration::ZERO, |last| last.start + last.duration);
    let duration = ticks(end.saturating_sub(skip), MOVIE_TIMESCALE);
    let created = mp4::file_time(created);
    let ftyp = FtypBox {
        major_brand: Brand::ISO6,
        minor_version: 0,
        compatible_brands: vec![Brand::ISO6, Brand::ISO5, Brand::MP41],
    };
    let moov = MoovBox {
        mvhd_box: mp4::mvhd(created, 0),
        trak_boxes: tracks
            .iter()
            .map(|(track, entry)| mp4::trak(track, created, (0, 0), edit(track, skip), mp4::empty_table(entry.clone())))
            .collect(),
        mvex_box: Some(mp4::mvex(tracks, Some(duration))),
        unknown_boxes: vec![],
    };
    let sidx = index(tracks.main(), fragments, skip)?;
    Ok([
        ftyp.encode_to_vec().map_err(failed)?,
        moov.encode_to_vec().map_err(failed)?,
        sidx.encode_to_vec().map_err(failed)?,
    ]
    .concat())
}

/// Starts playback at `skip`: the preroll before it is decoded and not shown. None when all is shown.
fn edit(track: Track, skip: Duration) -> Option<EdtsBox> {
    let media_time = i64::try_from(ticks(skip, timescale(track))).ok().filter(|time| *time > 0)?;
    // A duration of 0 covers all fragments.
    let entries = vec![ElstEntry { edit_duration: 0, media_time, media_rate: FixedPointNumber::new(1, 0) }];
    Some(EdtsBox { elst_box: Some(ElstBox { entries }), unknown_boxes: vec![] })
}

/// Returns the index. Its times are those of playback, which starts at `skip`.
fn index(track: Track, fragments: &[Fragment], skip: Duration) -> Result<SidxBox, CompositionError> {
    let rate = timescale(track);
    let place = |time: Duration| ticks(time.saturating_sub(skip), rate);
    let group = fragments.len().div_ceil(MAX_REFERENCES).max(1);
    let mut references = Vec::with_capacity(fragments.len().div_ceil(group));
    for (number, chunk) in fragments.chunks(group).enumerate() {
        let [first, ..] = chunk else { continue };
        let next = fragments.get((number + 1) * group).map(|next| next.start);
        let end = next.or_else(|| chunk.last().map(|last| last.start + last.duration)).unwrap_or(first.start);
        let bytes: u64 = chunk.iter().map(|fragment| fragment.bytes).sum();
        let size = u32::try_from(bytes).ok().filter(|size| *size < 1 << 31);
        references.push(SidxReference {
            reference_type: false,
            referenced_size: size.ok_or_else(|| CompositionError(format!("a fragment has {bytes} bytes")))?,
            subsegment_duration: u32::try_from(place(end).saturating_sub(place(first.start))).unwrap_or(u32::MAX),
            starts_with_sap: first.keyframe,
            sap_type: u8::from(first.keyframe),
            sap_delta_time: 0,
        });
    }
    Ok(SidxBox {
        reference_id: track_id(track),
        timescale: rate,
        earliest_presentation_time: fragments.first().map_or(0, |first| place(first.start)),
        first_offset: 0,
        references,
    })
}

/// Writes the file with this number, from 1, of a finished recording whose files are at hand. Returns `false` when there
/// are fewer. Blocks.
///
/// # Errors
/// A file cannot be read or is not what the manifest says, or `out` failed.
pub fn write<R: Read>(
    manifest: &Manifest,
    number: u32,
    mut open: impl FnMut(&str) -> io::Result<R>,
    out: &mut impl Write,
) -> io::Result<bool> {
    let index = SegmentIndex::of_manifest(manifest);
    let mut inits = BTreeMap::new();
    for init in &manifest.inits {
        let mut bytes = Vec::new();
        open(&init.file)?.read_to_end(&mut bytes)?;
        let parsed = InitSegment::parse(&bytes).ok_or_else(|| io::Error::other(format!("{}: damaged", init.file)))?;
        if let Ok(File::Init(number)) = init.file.parse() {
            inits.insert(number, parsed);
        }
    }
    let used: Vec<u32> = index.segments.iter().map(|segment| segment.init).collect();
    let files = files(&inits, &used, index.in_band);
    let Some(file) = number.checked_sub(1).and_then(|n| files.get(n as usize)) else { return Ok(false) };
    let segments = &index.segments[file.segments.clone()];
    let origin = origin(number, segments);
    let fragments: Vec<Fragment> = segments.iter().map(|segment| Fragment::of(segment, shift(origin))).collect();
    let head = head(&file.init, manifest.description.started_at, &fragments, Duration::ZERO);
    out.write_all(&head.map_err(io::Error::other)?)?;
    let mut audio = None;
    for segment in segments {
        let mut bytes = Vec::new();
        open(&File::Segment(segment.number).to_string())?.read_to_end(&mut bytes)?;
        let merged = merge(&bytes, shift(origin), audio.filter(|_| segment.discontinuity));
        audio = audio_end(&bytes).map(|end| end.saturating_sub(origin)).or(audio);
        out.write_all(&merged.map_or(bytes, |merged| merged.bytes))?;
    }
    Ok(true)
}

/// Returns where a file of a recording starts on the timeline of the recording. The first file starts with the recording,
/// even if its first sample is later.
pub fn origin(number: u32, segments: &[IndexedSegment]) -> Duration {
    segments.first().filter(|_| number > 1).map_or(Duration::ZERO, |first| first.start)
}

/// Returns the shift that moves `origin` to 0.
pub fn shift(origin: Duration) -> SignedDuration {
    -signed(origin)
}

/// Returns a duration with a sign.
pub fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Returns a time after a shift; 0 when it is negative.
pub fn shifted(time: Duration, shift: SignedDuration) -> Duration {
    Duration::try_from(signed(time).saturating_add(shift)).unwrap_or_default()
}

impl Fragment {
    /// Returns the fragment of an entire segment after a shift.
    pub fn of(segment: &IndexedSegment, shift: SignedDuration) -> Fragment {
        let IndexedSegment { bytes, start, duration, keyframe, .. } = *segment;
        Fragment { bytes, start: shifted(start, shift), duration, keyframe }
    }
}

fn ticks(time: Duration, rate: u32) -> u64 {
    u64::try_from((time.as_nanos() * u128::from(rate) + 500_000_000) / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shiguredo_mp4::Decode as _;

    fn audio() -> InitSegment {
        InitSegment(Tracks { video: None, audio: Some(crate::depacketize::opus_entry()) })
    }

    fn fragments(count: u64) -> Vec<Fragment> {
        let fragment = |n| Fragment {
            bytes: 1000 + n,
            start: Duration::from_millis(10_020 * n),
            duration: Duration::from_secs(10),
            keyframe: n != 1,
        };
        (0..count).map(fragment).collect()
    }

    fn sidx(head: &[u8]) -> SidxBox {
        let at = head.windows(4).position(|window| window == b"sidx").unwrap() - 4;
        let (sidx, len) = SidxBox::decode(&head[at..]).unwrap();
        assert_eq!(at + len, head.len(), "the index is the end of the head");
        sidx
    }

    #[test]
    fn index_lists_fragments_with_size_and_duration() {
        let head = head(&audio(), Timestamp::UNIX_EPOCH, &fragments(3), Duration::ZERO).unwrap();
        let index = sidx(&head);
        let listed: Vec<_> = index
            .references
            .iter()
            .map(|one| (one.referenced_size, one.subsegment_duration, one.starts_with_sap))
            .collect();
        assert_eq!(listed, [(1000, 480_960, true), (1001, 480_960, false), (1002, 480_000, true)]);
        assert_eq!((index.timescale, index.first_offset), (48_000, 0));
    }

    #[test]
    fn index_counts_from_the_start_of_playback() {
        let head = head(&audio(), Timestamp::UNIX_EPOCH, &fragments(3), Duration::from_secs(4)).unwrap();
        let index = sidx(&head);
        let lasts: Vec<_> = index.references.iter().map(|one| one.subsegment_duration).collect();
        assert_eq!((index.earliest_presentation_time, lasts), (0, vec![288_960, 480_960, 480_000]));
    }

    #[test]
    fn later_file_starts_at_zero() {
        let at = |seconds| IndexedSegment {
            number: 1,
            init: 1,
            bytes: 1000,
            start: Duration::from_secs(seconds),
            duration: Duration::from_secs(2),
            keyframe: true,
            discontinuity: false,
            at: Timestamp::UNIX_EPOCH,
        };
        let segments = [at(5), at(7)];
        let starts = |number| {
            let shift = shift(origin(number, &segments));
            segments.map(|segment| Fragment::of(&segment, shift).start.as_secs())
        };
        assert_eq!(starts(2), [0, 2]);
        assert_eq!(starts(1), [5, 7], "the first file starts with the recording");
    }

    #[test]
    fn a_year_of_segments_fits_the_index() {
        let all = fragments(3_153_600);
        let index = sidx(&head(&audio(), Timestamp::UNIX_EPOCH, &all, Duration::ZERO).unwrap());
        assert!(index.references.len() <= MAX_REFERENCES);
        let bytes: u64 = index.references.iter().map(|one| u64::from(one.referenced_size)).sum();
        assert_eq!(bytes, all.iter().map(|one| one.bytes).sum::<u64>());
        let lasts: u64 = index.references.iter().map(|one| u64::from(one.subsegment_duration)).sum();
        assert_eq!(lasts, ticks(Duration::from_millis(10_020 * 3_153_599 + 10_000), 48_000));
    }

    #[test]
    fn head_length_depends_on_count_alone() {
        let length = |count, skip| {
            head(&audio(), Timestamp::UNIX_EPOCH, &fragments(count), Duration::from_secs(skip)).unwrap().len()
        };
        assert_eq!(length(7, 0) - length(6, 0), 12);
        assert!(length(6, 3) > length(6, 0), "an edit list");
    }
}
