//! From a folder of segments to a finished recording, after a normal end as after a crash.
//!
//! It trusts nothing but whole parts: each must read as a part, in sequence, with its checksum right. A segment is cut
//! behind its last whole part; a segment without one is removed. Everything is written anew beside what is there and
//! then renamed, the manifest last: whenever this is interrupted, it can be done again.

mod exports;
mod holes;
mod mp4s;
mod scan;

use std::io::{self, Read, Seek, Write};

use ring::digest::SHA256;

use crate::{
    manifest::{Gap, Manifest, hex},
    record::SegmentRecord,
    types::File,
};
pub use mp4s::{Mp4s, read_segments};
use scan::Scan;

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
    /// Makes durable what it holds: it may have been written by a process that died before it could.
    fn sync(&mut self, name: &str) -> io::Result<()>;
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

/// A closed segment that the caller knows: its file is not read again.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownSegment {
    /// Its entry in the index. A file in the folder with another length is read all the same.
    pub record: SegmentRecord,
    /// The object store holds the file. One that is neither there nor in the folder is missing.
    pub elsewhere: bool,
}

/// Makes the folder a finished recording, or finds that it is one. Blocks: it reads the segments that are not `known`, and
/// writes playlist and manifest.
pub fn finalize(folder: &mut impl Folder, ending: &Ending, known: &[KnownSegment]) -> Result<Manifest, FinalizeError> {
    let names = folder.list().map_err(|source| FinalizeError::Io { file: ".".into(), source })?;
    let mut files: Vec<(File, u64)> = names.iter().filter_map(|(name, len)| Some((name.parse().ok()?, *len))).collect();
    files.sort();
    if files.iter().any(|(file, _)| *file == File::Manifest)
        && let Ok(manifest) = serde_json::from_slice(&read_all(folder, File::Manifest)?)
    {
        return Ok(manifest);
    }
    let mut scan = Scan::new(ending);
    scan.read(folder, &files, known)?;
    scan.cut(folder)?;
    let Some(description) = scan.description.clone().filter(|_| !scan.segments.is_empty()) else {
        return Err(FinalizeError::Empty);
    };
    let manifest = scan.manifest(folder, description)?;
    write_manifest(folder, &manifest)?;
    Ok(manifest)
}

fn write_manifest(folder: &mut impl Folder, manifest: &Manifest) -> Result<(), FinalizeError> {
    let mut json = serde_json::to_vec_pretty(manifest).unwrap_or_default();
    json.push(b'\n');
    write_all(folder, File::Manifest, &json)
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
