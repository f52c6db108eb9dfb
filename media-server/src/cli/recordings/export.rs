//! `recordings export`: one MP4 of what lies in pieces.
//!
//! A copy whose own MP4 is as its manifest says is copied. Else it is made from the segments, each checked against the
//! manifest before any of it is used: on a disk they are read where they lie, from a store they are first brought into one
//! unnamed file. What is written gets its name when it is whole and on the disk.

use super::Failure;
use super::args::ExportArgs;
use super::catalogue::{Catalogue, CatalogueError, Found, remedy};
use super::shelf::{Shelf, find};
use super::talk::{self, Progress};
use crate::objects::{Digest, Digesting};
use recorder::{Export, File, FinalizeError, Manifest, Mp4s};
use std::collections::HashMap;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, IsTerminal as _, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Bytes that are read or written at once.
const CHUNK: usize = 256 << 10;

/// Why there is no MP4.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    #[error("{0} is not finished: wait until its stream is over, or start the server on its folder, which finishes it")]
    Unfinished(String),
    #[error("it has {count} MP4 files, since codec or size changed: choose one by --part 1 to --part {count}")]
    Several { count: usize },
    #[error("there is no part {part}: it has {count}")]
    NoPart { part: u32, count: usize },
    #[error("a video does not go to a terminal: name a file by --out, or send it on (> FILE, | PROGRAM)")]
    Terminal,
    #[error("--out {} is no file: write a name such as ./recording.mp4, or - for stdout", .0.display())]
    NoName(PathBuf),
    #[error("another export writes {} at this moment; wait for it, or name another file", .0.display())]
    Busy(PathBuf),
    #[error("{}: {source}; {}", path.display(), remedy_of_out(source))]
    Out { path: PathBuf, source: io::Error },
    #[error("stdout: {0}")]
    Stdout(io::Error),
    #[error("{file} in {place}: {reason}; `recordings verify` tells what else is wrong")]
    Damaged { place: String, file: String, reason: String },
}

fn remedy_of_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "make the folder, or name another by --out",
        _ => remedy(error),
    }
}

/// Exports.
pub(super) fn export(shelf: &Shelf, args: &ExportArgs) -> Result<(), Failure> {
    let out = match args.out.as_os_str() == "-" {
        true if io::stdout().is_terminal() => return Err(ExportError::Terminal.into()),
        true => None,
        // A folder, or a device, which is not to be replaced by a file.
        false if args.out.file_name().is_none() || fs::metadata(&args.out).is_ok_and(|there| !there.is_file()) => {
            return Err(ExportError::NoName(args.out.clone()).into());
        }
        false => Some(args.out.as_path()),
    };
    let holdings = shelf.holdings()?;
    let holding = find(&holdings, &args.id)?;
    let copies: Vec<_> = holding.copies.iter().filter(|(_, found)| found.summary().is_some()).collect();
    let mut failed = ExportError::Unfinished(holding.id.to_string()).into();
    for (tried, (number, found)) in copies.iter().enumerate() {
        match from_copy(shelf.place(*number), found, args.part, out) {
            Ok(()) => return Ok(()),
            Err(Failure::Export(error @ ExportError::Damaged { .. })) if tried + 1 < copies.len() => {
                talk::tell(&format!("{error}; the other copy is taken"));
            }
            Err(error) => {
                failed = error;
                break;
            }
        }
    }
    Err(failed)
}

fn from_copy(place: &dyn Catalogue, found: &Found, part: Option<u32>, out: Option<&Path>) -> Result<(), Failure> {
    let manifest = place.manifest(found)?;
    // Most recordings have their MP4 beside them, and one that has its length is right but for a failing disk.
    if let Some(chosen) = choose(manifest.exports.len(), part, out).transpose()? {
        let whole = |number: &u32| -> Result<bool, Failure> {
            Ok(place.length(found, File::Export(*number))? == Some(told(&manifest, *number)?.bytes))
        };
        if chosen.iter().map(whole).collect::<Result<Vec<_>, _>>()?.into_iter().all(|whole| whole) {
            match copy_all(place, found, &manifest, &chosen, out) {
                Err(Failure::Export(error @ ExportError::Damaged { .. })) => {
                    talk::tell(&format!("{error}; it is made anew from the segments"));
                }
                done => return done,
            }
        }
    }
    from_segments(place, found, &manifest, part, out)
}

/// The numbers of the MP4 files that are asked for, of `count`; `None` when there are none.
fn choose(count: usize, part: Option<u32>, out: Option<&Path>) -> Option<Result<Vec<u32>, ExportError>> {
    let all = u32::try_from(count).ok().filter(|count| *count > 0)?;
    Some(match part {
        Some(part) if part > all => Err(ExportError::NoPart { part, count }),
        Some(part) => Ok(vec![part]),
        None if all > 1 && out.is_none() => Err(ExportError::Several { count }),
        None => Ok((1..=all).collect()),
    })
}

fn told(manifest: &Manifest, number: u32) -> Result<&Export, ExportError> {
    let export = usize::try_from(number).ok().and_then(|number| manifest.exports.get(number.checked_sub(1)?));
    export.ok_or(ExportError::NoPart { part: number, count: manifest.exports.len() })
}

/// `NAME.mp4`, then `NAME-2.mp4`; the one that was chosen has the name itself.
fn named(out: &Path, number: u32, chosen: &[u32]) -> PathBuf {
    if chosen.first() == Some(&number) {
        return out.to_owned();
    }
    let mut name = out.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number}"));
    if let Some(extension) = out.extension() {
        name.push(".");
        name.push(extension);
    }
    out.with_file_name(name)
}

/// Copies the recording's own MP4 files.
fn copy_all(
    place: &dyn Catalogue,
    found: &Found,
    manifest: &Manifest,
    chosen: &[u32],
    out: Option<&Path>,
) -> Result<(), Failure> {
    for &number in chosen {
        let told = told(manifest, number)?;
        let file = File::Export(number);
        let damaged = |reason: &str| ExportError::Damaged {
            place: place.title(),
            file: file.to_string(),
            reason: reason.to_owned(),
        };
        let copy = |out: &mut dyn Write, what: &str| -> Result<(), Failure> {
            let mut progress = Progress::new(what, told.bytes);
            let opened = place.open(found, file)?.ok_or_else(|| damaged("it is missing"))?;
            let read_failed = |error: io::Error| damaged(&format!("it cannot be read: {error}"));
            let sha256 = pump(opened.reader, out, &mut progress, read_failed)?;
            match sha256.to_string() == told.sha256 {
                true => Ok(()),
                false => Err(damaged("it is not what the manifest tells of it").into()),
            }
        };
        match out {
            Some(out) => to_file(&named(out, number, chosen), |out| copy(out, "copying"))?,
            // What has gone to stdout cannot be taken back.
            None => {
                copy(&mut io::sink(), "checking")?;
                to_stdout(|out| copy(out, "copying"))?;
            }
        }
    }
    Ok(())
}

/// Makes the MP4 files from the segments.
fn from_segments(
    place: &dyn Catalogue,
    found: &Found,
    manifest: &Manifest,
    part: Option<u32>,
    out: Option<&Path>,
) -> Result<(), Failure> {
    let inits = manifest.inits.iter().map(|init| (init.file.as_str(), init.bytes, init.sha256.as_str()));
    let segments = manifest.segments.iter().map(|file| (file.file.as_str(), file.bytes, file.sha256.as_str()));
    let files: Vec<_> = inits.chain(segments).collect();
    let bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    let source = match place.path(found, File::Manifest).as_deref().and_then(Path::parent) {
        Some(folder) => Source::Folder(folder.to_owned()),
        None => Source::Spool(fetch(place, found, &files, out, Progress::new("fetching", bytes))?),
    };
    let judge = |error: FinalizeError| -> Failure {
        let (file, reason) = match error {
            FinalizeError::Io { file, source } => (file, format!("it cannot be read: {source}")),
            FinalizeError::Mp4 { file, reason } => (file, reason),
            FinalizeError::Empty => (File::Manifest.to_string(), "it names no segments".to_owned()),
        };
        ExportError::Damaged { place: place.title(), file, reason }.into()
    };
    let lengths: HashMap<_, _> = files.iter().map(|(name, bytes, _)| (*name, *bytes)).collect();
    let mut progress = Progress::new("checking", bytes);
    let mp4s = Mp4s::read(manifest, |name| {
        progress.advance(lengths.get(name).copied().unwrap_or(0));
        source.open(name)
    });
    let mp4s = mp4s.map_err(judge)?;
    drop(progress);
    let chosen = choose(mp4s.count(), part, out).unwrap_or(Err(ExportError::NoPart { part: 1, count: 0 }))?;
    for &number in &chosen {
        let write = |out: &mut dyn Write| -> Result<(), Failure> {
            let mut out = Counted { out, progress: Progress::new("writing", mp4s.media_bytes(number)), failed: None };
            let written = mp4s.write(number, |name| source.open(name), &mut out);
            match (out.failed.take(), written) {
                (Some(error), _) => Err(Failure::Write(error)),
                (None, written) => written.map(drop).map_err(judge),
            }
        };
        match out {
            Some(out) => to_file(&named(out, number, &chosen), write)?,
            None => to_stdout(write)?,
        }
    }
    Ok(())
}

/// Brings all files into one that has no name, each checked.
fn fetch(
    place: &dyn Catalogue,
    found: &Found,
    files: &[(&str, u64, &str)],
    out: Option<&Path>,
    mut progress: Progress,
) -> Result<Spool, Failure> {
    let folder = out.map_or_else(std::env::temp_dir, |out| folder_of(out).to_owned());
    let spool_failed = |source| ExportError::Out { path: folder.clone(), source };
    let mut spool = Spool { file: unnamed(&folder).map_err(spool_failed)?, parts: HashMap::new() };
    let mut at = 0;
    for &(name, bytes, sha256) in files {
        let damaged = |reason: String| ExportError::Damaged { place: place.title(), file: name.to_owned(), reason };
        let file: File = name.parse().map_err(|_| damaged("no recording has such a file".to_owned()))?;
        let opened = place.open(found, file)?.ok_or_else(|| damaged("it is missing".to_owned()))?;
        let transfer = |source| CatalogueError::Transfer { id: found.id.clone(), file: name.to_owned(), source };
        let digest = pump(opened.reader, &mut spool.file, &mut progress, transfer).map_err(|error| match error {
            Failure::Write(source) => spool_failed(source).into(),
            other => other,
        })?;
        if digest.to_string() != sha256 {
            return Err(damaged("it is not what the manifest tells of it".to_owned()).into());
        }
        spool.parts.insert(name.to_owned(), (at, bytes));
        at += bytes;
    }
    Ok(spool)
}

/// Copies all, and tells what it was.
fn pump<E: Into<Failure>>(
    mut reader: impl Read,
    out: &mut dyn Write,
    progress: &mut Progress,
    read_failed: impl Fn(io::Error) -> E,
) -> Result<Digest, Failure> {
    let mut digesting = Digesting::default();
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(digesting.finish().0),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_failed(error).into()),
        };
        digesting.update(&buffer[..count]);
        out.write_all(&buffer[..count]).map_err(Failure::Write)?;
        progress.advance(count as u64);
    }
}

/// Writes beside `path`, and gives it the name when all is there and on the disk.
fn to_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    let failed = |source| ExportError::Out { path: path.to_owned(), source };
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".part");
    let temporary = path.with_file_name(name);
    // Its name is always the same, so that the next attempt takes the place of one that was killed.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(&temporary).map_err(failed)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Err(ExportError::Busy(path.to_owned()).into()),
        // Where a file system has no locks, nobody is kept out.
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }
    // Whoever had the lock until now may have given this very file its name.
    let mine = file.metadata().map_err(failed)?.ino();
    if fs::symlink_metadata(&temporary).ok().is_none_or(|there| there.ino() != mine) {
        return Err(ExportError::Busy(path.to_owned()).into());
    }
    let written = file.set_len(0).map_err(Failure::Write).and_then(|()| {
        let mut out = BufWriter::with_capacity(CHUNK, &file);
        write(&mut out)?;
        out.flush().map_err(Failure::Write)
    });
    let kept = written
        .and_then(|()| file.sync_all().and_then(|()| fs::rename(&temporary, path)).map_err(Failure::Write))
        .and_then(|()| fs::File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(Failure::Write));
    match kept {
        Ok(()) => {
            let bytes = file.metadata().map_or(0, |metadata| metadata.len());
            talk::tell(&format!("{}: {}", path.display(), talk::bytes(bytes)));
            Ok(())
        }
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(match error {
                Failure::Write(source) => failed(source).into(),
                other => other,
            })
        }
    }
}

fn to_stdout(write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(CHUNK, io::stdout().lock());
    let written = write(&mut out).and_then(|()| out.flush().map_err(Failure::Write));
    written.map_err(|error| match error {
        Failure::Write(source) => ExportError::Stdout(source).into(),
        other => other,
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file that is gone when it is closed, however this ends.
fn unnamed(folder: &Path) -> io::Result<fs::File> {
    let path = folder.join(format!(".recordings-export-{:016x}", rand::random::<u64>()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// Where the segments are read.
enum Source {
    Folder(PathBuf),
    Spool(Spool),
}

impl Source {
    fn open(&self, name: &str) -> io::Result<Segment<'_>> {
        match self {
            Source::Folder(folder) => {
                let file = fs::File::open(folder.join(name))?;
                Ok(Segment::File(BufReader::with_capacity(CHUNK, file)))
            }
            Source::Spool(spool) => {
                let (from, bytes) = *spool.parts.get(name).ok_or(io::ErrorKind::NotFound)?;
                let slice = Slice { file: &spool.file, from, bytes, at: 0 };
                Ok(Segment::Slice(BufReader::with_capacity(CHUNK, slice)))
            }
        }
    }
}

/// Files one behind the other in one file.
struct Spool {
    file: fs::File,
    /// By name: where each begins, and its length.
    parts: HashMap<String, (u64, u64)>,
}

enum Segment<'a> {
    File(BufReader<fs::File>),
    Slice(BufReader<Slice<'a>>),
}

impl Read for Segment<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Segment::File(file) => file.read(buffer),
            Segment::Slice(slice) => slice.read(buffer),
        }
    }
}

impl Seek for Segment<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Segment::File(file) => file.seek(to),
            Segment::Slice(slice) => slice.seek(to),
        }
    }
}

/// A part of a file as a file.
struct Slice<'a> {
    file: &'a fs::File,
    from: u64,
    bytes: u64,
    at: u64,
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.bytes.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..most], self.from + self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Slice<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Shows how far it has got, and remembers an error of its own, which is another matter than one of reading.
struct Counted<'a> {
    out: &'a mut dyn Write,
    progress: Progress,
    failed: Option<io::Error>,
}

impl Counted<'_> {
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let again = error.kind().into();
            self.failed = Some(error);
            again
        })
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        let count = self.note(written)?;
        self.progress.advance(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.note(flushed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_parts_are_named_after_the_first() {
        let out = Path::new("/v/door.mp4");
        assert_eq!(named(out, 1, &[1, 2]), out);
        assert_eq!(named(out, 2, &[1, 2]), Path::new("/v/door-2.mp4"));
        assert_eq!(named(out, 2, &[2]), out);
        assert_eq!(named(Path::new("door"), 3, &[1, 2, 3]), Path::new("door-3"));
    }

    #[test]
    fn of_several_parts_stdout_takes_one() {
        assert_eq!(choose(2, None, Some(Path::new("x"))).unwrap().unwrap(), [1, 2]);
        assert_eq!(choose(2, Some(2), None).unwrap().unwrap(), [2]);
        assert!(matches!(choose(2, None, None), Some(Err(ExportError::Several { count: 2 }))));
        assert!(matches!(choose(2, Some(3), None), Some(Err(ExportError::NoPart { part: 3, count: 2 }))));
        assert!(choose(0, None, None).is_none());
    }

    #[test]
    fn a_slice_ends_where_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = unnamed(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it has no name");
        file.write_all(b"abcdefgh").unwrap();
        let mut slice = Slice { file: &file, from: 2, bytes: 4, at: 0 };
        let mut text = String::new();
        slice.read_to_string(&mut text).unwrap();
        assert_eq!(text, "cdef");
        slice.seek(SeekFrom::End(-1)).unwrap();
        text.clear();
        slice.read_to_string(&mut text).unwrap();
        assert_eq!(text, "f");
        slice.seek(SeekFrom::Current(-9)).unwrap_err();
    }
}
