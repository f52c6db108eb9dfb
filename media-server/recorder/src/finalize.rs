//! From a folder of segments to a finished recording, after a normal end as after a crash. Not yet built: its contract.

use std::io::{self, Read, Seek, Write};

use crate::manifest::Manifest;

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

/// Makes the folder a finished recording, or finds that it is one. `orderly`: after [`crate::Output::Finished`] and
/// without a failed write; anything else makes `repaired` true in the manifest. Blocks: it reads and writes files.
pub fn finalize(folder: &mut impl Folder, orderly: bool) -> Result<Manifest, FinalizeError> {
    let _ = (folder, orderly);
    Err(FinalizeError::Empty)
}
