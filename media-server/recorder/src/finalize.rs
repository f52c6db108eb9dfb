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
    types::File,
};
use exports::Exports;
pub use mp4s::Mp4s;
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
    /// Removes the temporary file.
    fn abandon(&mut self, name: &str, file: Self::Writer) -> io::Result<()>;
    /// Bytes that MP4 files may take: they are copies of what is there, so that others may need the space more.
    fn room(&mut self) -> io::Result<u64>;
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
///
/// When there is too little room for the MP4 files the recording is finished without them, and its manifest says so.
/// They are made when this is called again with room enough.
pub fn finalize(folder: &mut impl Folder, ending: &Ending) -> Result<Manifest, FinalizeError> {
    let names = folder.list().map_err(|source| FinalizeError::Io { file: ".".into(), source })?;
    let mut files: Vec<(File, u64)> = names.iter().filter_map(|(name, len)| Some((name.parse().ok()?, *len))).collect();
    files.sort();
    if files.iter().any(|(file, _)| *file == File::Manifest)
        && let Ok(manifest) = serde_json::from_slice(&read_all(folder, File::Manifest)?)
    {
        return complete(folder, &files, manifest);
    }
    let mut scan = Scan::new(ending);
    scan.read(folder, &files)?;
    scan.cut(folder)?;
    let Some(description) = scan.description.clone().filter(|_| !scan.segments.is_empty()) else {
        return Err(FinalizeError::Empty);
    };
    let exports = exports::write(folder, &scan.exports, &description)?;
    for (file, _) in files {
        if matches!(file, File::Export(number) if number as usize > exports.written.len()) {
            folder.remove(&file.to_string()).map_err(|source| failed(file, source))?;
        }
    }
    let manifest = scan.manifest(folder, description, exports)?;
    write_manifest(folder, &manifest)?;
    Ok(manifest)
}

/// A finished recording gets the MP4 files that there was no room for.
fn complete(
    folder: &mut impl Folder,
    files: &[(File, u64)],
    mut manifest: Manifest,
) -> Result<Manifest, FinalizeError> {
    let Some(missing) = &manifest.missing_exports else { return Ok(manifest) };
    let room = folder.room().map_err(|source| failed(File::Export(1), source))?;
    if room < missing.needed {
        return Ok(manifest);
    }
    let mut scan = Scan::new(&Ending::crash());
    scan.read(folder, files)?;
    if !scan.matches(&manifest) {
        let reason = "the segments are not those that it tells of".into();
        return Err(FinalizeError::Mp4 { file: File::Manifest.to_string(), reason });
    }
    let Exports { written, missing } = exports::write(folder, &scan.exports, &manifest.description)?;
    (manifest.exports, manifest.missing_exports) = (written, missing);
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
