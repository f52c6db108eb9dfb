//! Reads a folder's init segments and segments as far as they are whole, and cuts what is not.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    io::{self, Read},
};

use jiff::Timestamp;
use ring::digest::{Context, SHA256};

use super::{Ending, FinalizeError, Folder, KnownSegment, digest, failed, holes::Holes, read_all, write_all};
use crate::{
    clock::seconds,
    export,
    manifest::{Export, Gap, Init, Manifest, Segment, hex},
    mp4::{
        self,
        init::{self, Tracks},
        part, timescale,
    },
    playlist::{self, Entry, Extent},
    record::{PartSummary, RecordBuilder, SegmentRecord, Span},
    types::{Description, File},
};

/// Version of the manifests that are written.
const VERSION: u32 = 2;

/// The contents of a recording, as far as they were found.
#[derive(Default)]
pub(super) struct Scan {
    repaired: bool,
    pub(super) description: Option<Description>,
    inits: BTreeMap<u32, (Init, Tracks)>,
    pub(super) segments: Vec<SegmentRecord>,
    /// Segments whose files were read.
    read: Vec<u32>,
    /// Segments that are longer than whole, and how long they are whole: 0 of those that hold no part.
    torn: Vec<(File, u64)>,
    gaps: Vec<Gap>,
    holes: Holes,
    sequence: u32,
    /// Progressive MP4 files of the segments; none: they are not wanted.
    pub(super) exports: Option<Vec<export::Export>>,
    /// Segments repeat parameter sets.
    in_band: bool,
    ended_at: Option<Timestamp>,
    end: f64,
}

impl Scan {
    pub(super) fn new(ending: &Ending) -> Self {
        Scan { repaired: !ending.orderly, gaps: ending.gaps.clone(), ..Scan::default() }
    }

    /// Collects the progressive MP4 files of a finished recording, whose manifest has this version.
    pub(super) fn exporting(version: u32) -> Self {
        Scan { exports: Some(Vec::new()), in_band: version >= VERSION, ..Scan::new(&Ending::orderly()) }
    }

    /// Reads `files`, which are in order, but for segments that are `known`. Changes nothing.
    pub(super) fn read(
        &mut self,
        folder: &mut impl Folder,
        files: &[(File, u64)],
        known: &[KnownSegment],
    ) -> Result<(), FinalizeError> {
        let known: BTreeMap<u32, &KnownSegment> = known.iter().map(|known| (known.record.number, known)).collect();
        let mut segments: BTreeMap<u32, Option<u64>> = BTreeMap::new();
        for (file, len) in files {
            match file {
                File::Init(number) => self.init(folder, *number)?,
                File::Segment(number) => drop(segments.insert(*number, Some(*len))),
                _ => {}
            }
        }
        for (number, known) in &known {
            if known.elsewhere {
                segments.entry(*number).or_insert(None);
            }
        }
        for (number, len) in segments {
            let known = known.get(&number).filter(|known| len.is_none_or(|len| len == known.record.bytes));
            match (known, len) {
                (Some(known), _) if self.inits.contains_key(&known.record.init) => self.add(known.record.clone()),
                (_, Some(len)) => self.segment(folder, number, len)?,
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// Cuts torn segments, removes unusable ones, and syncs the others that were read.
    pub(super) fn cut(&self, folder: &mut impl Folder) -> Result<(), FinalizeError> {
        for &(file, whole) in &self.torn {
            let name = file.to_string();
            let cut = if whole > 0 { folder.truncate(&name, whole) } else { folder.remove(&name) };
            cut.map_err(|source| failed(file, source))?;
        }
        for number in &self.read {
            let file = File::Segment(*number);
            folder.sync(&file.to_string()).map_err(|source| failed(file, source))?;
        }
        Ok(())
    }

    /// Returns the first file that differs from its description in the manifest.
    pub(super) fn differs(&self, manifest: &Manifest) -> Option<String> {
        let inits = self.inits.values().map(|(init, _)| (init.file.as_str(), init));
        let init = first_missing(manifest.inits.iter().map(|told| (told.file.as_str(), told)), inits);
        let segments = self.segments.iter().map(|record| {
            let file = File::Segment(record.number).to_string();
            (file, (record.bytes, record.sha256.as_str()))
        });
        let told = manifest.segments.iter().map(|told| (told.file.clone(), (told.bytes, told.sha256.as_str())));
        init.map(str::to_owned).or(first_missing(told, segments))
    }

    fn init(&mut self, folder: &mut impl Folder, number: u32) -> Result<(), FinalizeError> {
        let file = File::Init(number);
        let bytes = read_all(folder, file)?;
        let Some((tracks, description)) = init::decode(&bytes) else { return Ok(()) };
        self.description.get_or_insert(description);
        let size = tracks.video.as_ref().and_then(mp4::size);
        let init = Init {
            file: file.to_string(),
            bytes: bytes.len() as u64,
            sha256: digest(&bytes),
            codecs: tracks.codecs(),
            width: size.map(|(width, _)| width),
            height: size.map(|(_, height)| height),
        };
        self.inits.insert(number, (init, tracks));
        Ok(())
    }

    fn segment(&mut self, folder: &mut impl Folder, number: u32, len: u64) -> Result<(), FinalizeError> {
        let file = File::Segment(number);
        let name = file.to_string();
        let io_failed = |source| failed(file, source);
        let mut reader = folder.open(&name).map_err(io_failed)?;
        let mut hash = Context::new(&SHA256);
        let mut whole = 0;
        let mut record: Option<RecordBuilder> = None;
        let mut sequence = self.sequence;
        let styp = read_box(&mut reader, len, b"styp").map_err(io_failed)?;
        if let Some(styp) = styp {
            let mut at = styp.len() as u64;
            hash.update(&styp);
            while let Some((bytes, part)) = read_part(&mut reader, len - at).map_err(io_failed)? {
                let Some((_, tracks)) = self.inits.get(&part.info.init) else { break };
                // Between parts of a segment none is missing: each is synced before the next one is written.
                if part.info.sequence <= sequence || record.is_some() && part.info.sequence != sequence + 1 {
                    break;
                }
                add_part(&mut record, number, tracks, &part);
                if let Some(exports) = &mut self.exports {
                    export_part(exports, (tracks, self.in_band), &part, number, at);
                }
                sequence = part.info.sequence;
                hash.update(&bytes);
                at += part.len;
                whole = at;
            }
        }
        drop(reader);
        if whole < len || record.is_none() {
            self.repaired = true;
            self.torn.push((file, whole));
        }
        if let Some(record) = record {
            self.read.push(number);
            self.add(record.finish(whole, hex(hash.finish().as_ref())));
        }
        Ok(())
    }

    /// Adds the next segment.
    fn add(&mut self, mut record: SegmentRecord) {
        if *record.parts.start() != self.sequence + 1 {
            self.holes.part_missing();
        }
        record.spans.iter().for_each(|span| self.holes.add(*span));
        self.sequence = *record.parts.end();
        self.gaps.extend(record.gaps.iter().cloned());
        self.end = self.end.max(record.end_of_tracks());
        self.ended_at = self.ended_at.max(Some(record.ended_at));
        record.discontinuity &= !self.segments.is_empty();
        self.segments.push(record);
    }

    /// Writes the playlist, and returns the manifest.
    pub(super) fn manifest(
        mut self,
        folder: &mut impl Folder,
        description: Description,
    ) -> Result<Manifest, FinalizeError> {
        let entries: Vec<Entry> = self.segments.iter().map(SegmentRecord::entry).collect();
        let unmarked = self.holes.unmarked(&self.gaps);
        self.repaired |= !unmarked.is_empty();
        self.gaps.extend(unmarked);
        self.gaps.sort_by(|a, b| a.from.total_cmp(&b.from));
        let text = playlist::render(&entries, &self.gaps);
        write_all(folder, File::Playlist, text.as_bytes())?;
        let size = self.inits.values().find_map(|(init, _)| init.width.zip(init.height));
        let initialised: BTreeSet<u32> = entries.iter().map(|entry| entry.init).collect();
        let used: Vec<Init> = self
            .inits
            .iter()
            .filter(|(number, _)| initialised.contains(number))
            .map(|(_, (init, _))| init.clone())
            .collect();
        let mut codecs: Vec<String> = Vec::new();
        for codec in used.iter().flat_map(|init| &init.codecs) {
            if !codecs.contains(codec) {
                codecs.push(codec.clone());
            }
        }
        let durations = playlist::durations(&entries);
        let segments = self.segments.into_iter().zip(durations).map(|(record, duration)| Segment {
            file: File::Segment(record.number).to_string(),
            init: File::Init(record.init).to_string(),
            bytes: record.bytes,
            sha256: record.sha256,
            start: record.start,
            duration,
            at: record.at,
            keyframe: record.keyframe,
            discontinuity: record.discontinuity,
        });
        Ok(Manifest {
            version: VERSION,
            ended_at: self.ended_at.unwrap_or(description.started_at),
            description,
            duration: self.end,
            complete: true,
            repaired: self.repaired,
            codecs,
            width: size.map(|(width, _)| width),
            height: size.map(|(_, height)| height),
            playlist: Export {
                file: File::Playlist.to_string(),
                bytes: text.len() as u64,
                sha256: digest(text.as_bytes()),
                start: 0.0,
                duration: self.end,
            },
            inits: used,
            segments: segments.collect(),
            gaps: self.gaps,
            exports: Vec::new(),
        })
    }
}

/// Adds a whole part to the record of its segment.
fn add_part(record: &mut Option<RecordBuilder>, number: u32, tracks: &Tracks, part: &part::Read) {
    let info = &part.info;
    let main = tracks.main();
    let spans: Vec<Span> =
        part.runs.iter().map(|run| Span { track: run.track, from: run.dts, to: run.end() }).collect();
    let Some(run) = part.runs.iter().find(|run| run.track == main).or(part.runs.first()) else { return };
    let rate = timescale(run.track);
    let main = run.track == main;
    let keyframe = main && run.samples.first().is_some_and(|sample| sample.sync);
    let extent = Extent { start: seconds(run.dts, rate), end: seconds(run.end(), rate), keyframe, main };
    let summary = PartSummary { sequence: info.sequence, at: info.at, extent, spans: &spans, gaps: &info.gaps };
    let new = || RecordBuilder::new(number, info.init, info.discontinuity, &summary);
    record.get_or_insert_with(new).add(&summary);
}

/// Adds a whole part, at `at` in segment `number`, to the progressive MP4 files.
fn export_part(
    exports: &mut Vec<export::Export>,
    (tracks, in_band): (&Tracks, bool),
    part: &part::Read,
    number: u32,
    at: u64,
) {
    if exports.last().is_none_or(|export| !export.fits(tracks, in_band)) {
        exports.push(export::Export::default());
    }
    let copy = export::Copy { file: File::Segment(number), offset: at + part.payload_offset, len: part.payload_len };
    if let Some(export) = exports.last_mut() {
        export.add(tracks, &part.runs, copy);
    }
}

/// Returns the name of the first of `listed` that `found` lacks or has with another value. Names in `found` are unique.
/// Looks each up once.
fn first_missing<K: Eq + Hash, V: PartialEq>(
    listed: impl IntoIterator<Item = (K, V)>,
    found: impl IntoIterator<Item = (K, V)>,
) -> Option<K> {
    let found: HashMap<K, V> = found.into_iter().collect();
    let mut listed = listed.into_iter();
    listed.find(|(name, value)| found.get(name) != Some(value)).map(|(name, _)| name)
}

/// The next part, if it is whole and one of ours; `left`: bytes that the file still has.
fn read_part(reader: &mut impl Read, left: u64) -> io::Result<Option<(Vec<u8>, part::Read)>> {
    let mut bytes = Vec::new();
    for kind in [b"uuid", b"moof", b"mdat"] {
        let Some(next) = read_box(reader, left - bytes.len() as u64, kind)? else { return Ok(None) };
        bytes.extend_from_slice(&next);
    }
    Ok(part::decode(&bytes).map(|part| (bytes, part)))
}

/// A whole box of this type, if that is what comes next.
fn read_box(reader: &mut impl Read, left: u64, kind: &[u8; 4]) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; 8];
    if left < 8 {
        return Ok(None);
    }
    reader.read_exact(&mut bytes)?;
    let size = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    if bytes[4..] != kind[..] || size < 8 || u64::from(size) > left {
        return Ok(None);
    }
    bytes.resize(size as usize, 0);
    reader.read_exact(&mut bytes[8..])?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, hash::Hasher};

    use super::*;

    /// A name that counts how often any is compared or hashed.
    struct Counted<'a>(u32, &'a Cell<u64>);

    impl Counted<'_> {
        fn count(&self) {
            self.1.set(self.1.get() + 1);
        }
    }

    impl PartialEq for Counted<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.count();
            self.0 == other.0
        }
    }

    impl Eq for Counted<'_> {}

    impl Hash for Counted<'_> {
        fn hash<H: Hasher>(&self, hasher: &mut H) {
            self.count();
            self.0.hash(hasher);
        }
    }

    #[test]
    fn ten_thousand_files_are_compared_in_linear_time() {
        let operations = Cell::new(0);
        let files = |changed: u32| {
            let operations = &operations;
            (0..10_000).map(move |n| (Counted(n, operations), n == changed))
        };
        assert!(first_missing(files(10_000), files(10_000)).is_none());
        // In pairs it were 50,000,000.
        assert!(operations.get() < 100_000, "{} operations", operations.get());
        assert_eq!(first_missing(files(9_999), files(10_000)).map(|name| name.0), Some(9_999));
        assert_eq!(first_missing(files(10_000), files(10_000).skip(3)).map(|name| name.0), Some(0));
    }
}
