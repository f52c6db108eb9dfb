//! Reads a folder's init segments and segments as far as they are whole, and cuts what is not.

use std::{
    collections::BTreeMap,
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

    /// The first file that is not what the manifest tells of it.
    pub(super) fn differs(&self, manifest: &Manifest) -> Option<String> {
        let init = manifest.inits.iter().find(|told| self.inits.values().all(|(init, _)| init != *told));
        let segment = manifest.segments.iter().find(|told| {
            let same = |(entry, bytes, sha256): &(Entry, u64, String)| {
                File::Segment(entry.number).to_string() == told.file && (bytes, sha256) == (&told.bytes, &told.sha256)
            };
            !self.segments.iter().any(same)
        });
        init.map(|init| &init.file).or(segment.map(|segment| &segment.file)).cloned()
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
        let used: Vec<Init> = self
            .inits
            .iter()
            .filter(|(number, _)| entries.iter().any(|entry| entry.init == **number))
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
