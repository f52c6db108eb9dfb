//! Reads a folder's init segments and segments as far as they are whole, and cuts what is not.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    io::{self, Read},
};

use jiff::Timestamp;
use ring::digest::{Context, SHA256};

use super::{Ending, FinalizeError, Folder, digest, exports::Exports, failed, holes::Holes, read_all, write_all};
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
    types::{Description, File},
};

/// What was found so far.
#[derive(Default)]
pub(super) struct Scan {
    repaired: bool,
    pub(super) description: Option<Description>,
    inits: BTreeMap<u32, (Init, Tracks)>,
    /// With its whole length and digest.
    pub(super) segments: Vec<(Entry, u64, String)>,
    /// Segments that are longer than whole, and how long they are whole: 0 of those that hold no part.
    torn: Vec<(File, u64)>,
    gaps: Vec<Gap>,
    holes: Holes,
    sequence: u32,
    pub(super) exports: Vec<export::Export>,
    ended_at: Option<Timestamp>,
    end: f64,
}

impl Scan {
    pub(super) fn new(ending: &Ending) -> Self {
        Scan { repaired: !ending.orderly, gaps: ending.gaps.clone(), ..Scan::default() }
    }

    /// Reads `files`, which are in order; changes nothing.
    pub(super) fn read(&mut self, folder: &mut impl Folder, files: &[(File, u64)]) -> Result<(), FinalizeError> {
        for (file, len) in files {
            match file {
                File::Init(number) => self.init(folder, *number)?,
                File::Segment(number) => self.segment(folder, *number, *len)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Cuts what is torn, removes what is of no use, and makes the rest durable.
    pub(super) fn cut(&self, folder: &mut impl Folder) -> Result<(), FinalizeError> {
        for &(file, whole) in &self.torn {
            let name = file.to_string();
            let cut = if whole > 0 { folder.truncate(&name, whole) } else { folder.remove(&name) };
            cut.map_err(|source| failed(file, source))?;
        }
        for (entry, ..) in &self.segments {
            let file = File::Segment(entry.number);
            folder.sync(&file.to_string()).map_err(|source| failed(file, source))?;
        }
        Ok(())
    }

    /// Returns the first file that differs from its description in the manifest.
    pub(super) fn differs(&self, manifest: &Manifest) -> Option<String> {
        let inits = self.inits.values().map(|(init, _)| (init.file.as_str(), init));
        let init = first_missing(manifest.inits.iter().map(|told| (told.file.as_str(), told)), inits);
        let segments = self.segments.iter().map(|(entry, bytes, sha256)| {
            let file = File::Segment(entry.number).to_string();
            (file, (*bytes, sha256.as_str()))
        });
        let told = manifest.segments.iter().map(|told| (told.file.clone(), (told.bytes, told.sha256.as_str())));
        init.map(str::to_owned).or(first_missing(told, segments))
    }

    /// Whether these are the segments that the manifest tells of.
    pub(super) fn matches(&self, manifest: &Manifest) -> bool {
        let found = self.segments.iter().map(|(entry, bytes, sha256)| (File::Segment(entry.number), *bytes, sha256));
        let told = manifest.segments.iter();
        found
            .map(|(file, bytes, sha256)| (file.to_string(), bytes, sha256.clone()))
            .eq(told.map(|segment| (segment.file.clone(), segment.bytes, segment.sha256.clone())))
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
        let mut entry: Option<Entry> = None;
        let styp = read_box(&mut reader, len, b"styp").map_err(io_failed)?;
        if let Some(styp) = styp {
            let mut at = styp.len() as u64;
            hash.update(&styp);
            while let Some((bytes, part)) = read_part(&mut reader, len - at).map_err(io_failed)? {
                let Some((_, tracks)) = self.inits.get(&part.info.init) else { break };
                if part.info.sequence <= self.sequence {
                    break;
                }
                let tracks = tracks.clone();
                self.part(&tracks, &part, number, at, &mut entry);
                hash.update(&bytes);
                at += part.len;
                whole = at;
            }
        }
        drop(reader);
        if whole < len || entry.is_none() {
            self.repaired = true;
            self.torn.push((file, whole));
        }
        self.segments.extend(entry.map(|entry| (entry, whole, hex(hash.finish().as_ref()))));
        Ok(())
    }

    /// A whole part, at `at` in segment `number`.
    fn part(&mut self, tracks: &Tracks, part: &part::Read, number: u32, at: u64, entry: &mut Option<Entry>) {
        let info = &part.info;
        if info.sequence != self.sequence + 1 {
            self.holes.part_missing();
        }
        part.runs.iter().for_each(|run| self.holes.add(run));
        self.sequence = info.sequence;
        self.gaps.extend(info.gaps.iter().cloned());
        let main = tracks.main();
        let Some(run) = part.runs.iter().find(|run| run.track == main).or(part.runs.first()) else { return };
        let rate = timescale(run.track);
        let (start, end) = (seconds(run.dts, rate), seconds(run.end(), rate));
        let main = run.track == main;
        let keyframe = main && run.samples.first().is_some_and(|sample| sample.sync);
        let entry = entry.get_or_insert_with(|| Entry {
            number,
            init: info.init,
            start,
            end,
            at: info.at,
            keyframe: false,
            discontinuity: info.discontinuity && !self.segments.is_empty(),
            timed: false,
        });
        entry.extend(Extent { start, end, keyframe, main });
        let last = part.runs.iter().map(|run| seconds(run.end(), timescale(run.track))).fold(0.0, f64::max);
        self.end = self.end.max(last);
        let lasts = std::time::Duration::try_from_secs_f64((last - start).max(0.0)).unwrap_or_default();
        self.ended_at = self.ended_at.max(info.at.checked_add(lasts).ok());
        if self.exports.last().is_none_or(|export| !export.fits(tracks)) {
            self.exports.push(export::Export::default());
        }
        let copy =
            export::Copy { file: File::Segment(number), offset: at + part.payload_offset, len: part.payload_len };
        if let Some(export) = self.exports.last_mut() {
            export.add(tracks, &part.runs, copy);
        }
    }

    /// Writes the playlist, and gives what the manifest is to say.
    pub(super) fn manifest(
        mut self,
        folder: &mut impl Folder,
        description: Description,
        exports: Exports,
    ) -> Result<Manifest, FinalizeError> {
        let entries: Vec<Entry> = self.segments.iter().map(|(entry, ..)| entry.clone()).collect();
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
        let segments = self.segments.into_iter().zip(durations).map(|((entry, bytes, sha256), duration)| Segment {
            file: File::Segment(entry.number).to_string(),
            init: File::Init(entry.init).to_string(),
            bytes,
            sha256,
            start: entry.start,
            duration,
            at: entry.at,
            keyframe: entry.keyframe,
            discontinuity: entry.discontinuity,
        });
        Ok(Manifest {
            version: 1,
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
            exports: exports.written,
            missing_exports: exports.missing,
        })
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
