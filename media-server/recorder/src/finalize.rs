//! From a folder of segments to a finished recording, after a normal end as after a crash.
//!
//! It trusts nothing but whole parts: each must read as a part, in sequence, with its checksum right. A segment is cut
//! behind its last whole part; a segment without one is removed. Everything is written anew beside what is there and
//! then renamed, the manifest last: whenever this is interrupted, it can be done again.

mod holes;

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, SeekFrom, Write},
};

use jiff::Timestamp;
use ring::digest::{Context, SHA256};

use crate::{
    clock::seconds,
    export,
    manifest::{Export, Gap, Init, Manifest, Segment, hex},
    mp4::{
        self,
        init::{self, Tracks},
        part, timescale,
    },
    playlist::{self, Entry},
    types::{Description, File},
};
use holes::Holes;

/// A recording's folder, as the shell (or a test) has it. Names are [`crate::File`]s as text.
pub trait Folder {
    /// A file opened for reading.
    type Reader: Read + Seek;
    /// A temporary file.
    type Writer: Write;

    /// Names and lengths of the files in it.
    fn list(&mut self) -> io::Result<Vec<(String, u64)>>;
    /// Opens a file for reading.
    fn open(&mut self, name: &str) -> io::Result<Self::Reader>;
    /// Cuts a file to this length and syncs it.
    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Makes a temporary file that is to become `name` (`name` plus `.tmp` is a good name for it).
    fn create(&mut self, name: &str) -> io::Result<Self::Writer>;
    /// Syncs the temporary file, renames it to `name`, syncs the folder.
    fn commit(&mut self, name: &str, file: Self::Writer) -> io::Result<()>;
}

/// Why a folder could not be finalised.
#[derive(Debug, thiserror::Error)]
pub enum FinalizeError {
    /// Nothing playable is in it: no init segment, or no whole part. The folder may be deleted.
    #[error("the folder holds nothing playable")]
    Empty,
    /// Reading or writing failed; doing it again later may work.
    #[error("{file}: {source}")]
    Io {
        /// Name within the folder.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// An MP4 box could not be made or read.
    #[error("{file}: {reason}")]
    Mp4 {
        /// Name within the folder.
        file: String,
        /// What is wrong.
        reason: String,
    },
}

/// How the recording ended, as far as its folder does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ending {
    /// After [`crate::Output::Finished`] and without a failed write; anything else makes `repaired` true in the manifest.
    pub orderly: bool,
    /// [`crate::Recording::untold_gaps`] after [`crate::Output::Finished`].
    pub gaps: Vec<Gap>,
}

impl Ending {
    /// Nobody knows.
    pub fn crash() -> Ending {
        Ending::default()
    }

    /// All was written, and nothing is missing but what parts tell of.
    pub fn orderly() -> Ending {
        Ending { orderly: true, gaps: Vec::new() }
    }
}

/// Makes the folder a finished recording, or finds that it is one. Blocks: it reads and writes files.
pub fn finalize(folder: &mut impl Folder, ending: &Ending) -> Result<Manifest, FinalizeError> {
    let names = folder.list().map_err(|source| FinalizeError::Io { file: ".".into(), source })?;
    if names.iter().any(|(name, _)| *name == File::Manifest.to_string())
        && let Ok(manifest) = serde_json::from_slice(&read_all(folder, File::Manifest)?)
    {
        return Ok(manifest);
    }
    let mut files: Vec<(File, u64)> = names.iter().filter_map(|(name, len)| Some((name.parse().ok()?, *len))).collect();
    files.sort();
    let mut scan = Scan { repaired: !ending.orderly, gaps: ending.gaps.clone(), ..Scan::default() };
    for (file, len) in &files {
        match file {
            File::Init(number) => scan.init(folder, *number)?,
            File::Segment(number) => scan.segment(folder, *number, *len)?,
            _ => {}
        }
    }
    let Some(description) = scan.description.clone() else { return Err(FinalizeError::Empty) };
    let (Some(first), Some(_)) = (scan.inits.values().next(), scan.segments.last()) else {
        return Err(FinalizeError::Empty);
    };
    let size =
        scan.inits.values().find_map(|(init, _)| init.width.zip(init.height)).or(first.0.width.zip(first.0.height));
    let exports = write_exports(folder, &scan.exports, &description)?;
    for (file, _) in files {
        if matches!(file, File::Export(number) if number as usize > exports.len()) {
            folder.remove(&file.to_string()).map_err(|source| failed(file, source))?;
        }
    }
    let manifest = scan.manifest(folder, description, size, exports)?;
    let mut json = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    json.push(b'\n');
    write_all(folder, File::Manifest, &json)?;
    Ok(manifest)
}

/// What was found so far.
#[derive(Default)]
struct Scan {
    repaired: bool,
    description: Option<Description>,
    inits: BTreeMap<u32, (Init, Tracks)>,
    segments: Vec<(Entry, u64, String)>,
    gaps: Vec<Gap>,
    holes: Holes,
    sequence: u32,
    exports: Vec<export::Export>,
    ended_at: Option<Timestamp>,
    end: f64,
}

impl Scan {
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
        match entry {
            Some(entry) => {
                if whole < len {
                    self.repaired = true;
                    folder.truncate(&name, whole).map_err(io_failed)?;
                }
                self.segments.push((entry, whole, hex(hash.finish().as_ref())));
            }
            None => {
                self.repaired = true;
                folder.remove(&name).map_err(io_failed)?;
            }
        }
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
        let entry = entry.get_or_insert_with(|| Entry {
            number,
            init: info.init,
            start,
            end,
            at: info.at,
            keyframe: run.track == main && run.samples.first().is_some_and(|sample| sample.sync),
            discontinuity: info.discontinuity && !self.segments.is_empty(),
        });
        entry.end = entry.end.max(end);
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

    fn manifest(
        mut self,
        folder: &mut impl Folder,
        description: Description,
        size: Option<(u16, u16)>,
        exports: Vec<Export>,
    ) -> Result<Manifest, FinalizeError> {
        let entries: Vec<Entry> = self.segments.iter().map(|(entry, ..)| entry.clone()).collect();
        let unmarked = self.holes.unmarked(&self.gaps);
        self.repaired |= !unmarked.is_empty();
        self.gaps.extend(unmarked);
        self.gaps.sort_by(|a, b| a.from.total_cmp(&b.from));
        let text = playlist::render(&entries, &self.gaps, std::time::Duration::ZERO, true);
        write_all(folder, File::Playlist, text.as_bytes())?;
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
            exports,
        })
    }
}

fn write_exports(
    folder: &mut impl Folder,
    exports: &[export::Export],
    description: &Description,
) -> Result<Vec<Export>, FinalizeError> {
    let mut written = Vec::new();
    for (number, export) in (1..).zip(exports) {
        let file = File::Export(number);
        let io_failed = |source| failed(file, source);
        let head = export
            .head(description)
            .map_err(|error| FinalizeError::Mp4 { file: file.to_string(), reason: error.to_string() })?;
        let mut out = Hashing {
            out: folder.create(&file.to_string()).map_err(io_failed)?,
            hash: Context::new(&SHA256),
            bytes: 0,
        };
        out.write_all(&head).map_err(io_failed)?;
        let mut open: Option<(File, _)> = None;
        for copy in &export.copies {
            let mut reader = match open.take() {
                Some((file, reader)) if file == copy.file => reader,
                _ => folder.open(&copy.file.to_string()).map_err(|source| failed(copy.file, source))?,
            };
            reader.seek(SeekFrom::Start(copy.offset)).map_err(|source| failed(copy.file, source))?;
            let copied = io::copy(&mut (&mut reader).take(copy.len), &mut out).map_err(io_failed)?;
            if copied != copy.len {
                return Err(failed(copy.file, io::ErrorKind::UnexpectedEof.into()));
            }
            open = Some((copy.file, reader));
        }
        let Hashing { out, hash, bytes } = out;
        folder.commit(&file.to_string(), out).map_err(io_failed)?;
        let (start, end) = export.extent();
        let sha256 = hex(hash.finish().as_ref());
        written.push(Export { file: file.to_string(), bytes, sha256, start, duration: end - start });
    }
    Ok(written)
}

/// Counts and hashes what is written.
struct Hashing<W> {
    out: W,
    hash: Context,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
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

fn read_all(folder: &mut impl Folder, file: File) -> Result<Vec<u8>, FinalizeError> {
    let io_failed = |source| failed(file, source);
    let mut bytes = Vec::new();
    folder.open(&file.to_string()).map_err(io_failed)?.read_to_end(&mut bytes).map_err(io_failed)?;
    Ok(bytes)
}

fn write_all(folder: &mut impl Folder, file: File, bytes: &[u8]) -> Result<(), FinalizeError> {
    let io_failed = |source| failed(file, source);
    let mut writer = folder.create(&file.to_string()).map_err(io_failed)?;
    writer.write_all(bytes).map_err(io_failed)?;
    folder.commit(&file.to_string(), writer).map_err(io_failed)
}

fn failed(file: File, source: io::Error) -> FinalizeError {
    FinalizeError::Io { file: file.to_string(), source }
}

fn digest(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&SHA256, bytes).as_ref())
}
