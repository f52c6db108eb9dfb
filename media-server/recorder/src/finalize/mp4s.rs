//! Progressive MP4 files of a finished recording, made from its segments, for programs that do not read fragments.
//!
//! Every file is checked against the manifest. The same recording gives the same bytes each time.

use std::io::{self, Empty, Read, Seek, Write};

use super::{Ending, FinalizeError, Folder, exports, failed, scan::Scan};
use crate::{
    export,
    manifest::{Export, Manifest},
    record::SegmentRecord,
    types::{Description, File},
};

/// How to make them: the index of each is held in memory, the media is not.
pub struct Mp4s {
    description: Description,
    exports: Vec<export::Export>,
}

impl Mp4s {
    /// Reads all segments once and checks them against the manifest. `open` opens a file of the recording for reading.
    /// Blocks.
    ///
    /// # Errors
    /// [`FinalizeError::Io`] names the file that cannot be read, [`FinalizeError::Mp4`] the one that differs from the manifest.
    pub fn read<R: Read + Seek>(
        manifest: &Manifest,
        open: impl FnMut(&str) -> io::Result<R>,
    ) -> Result<Mp4s, FinalizeError> {
        let inits = manifest.inits.iter().map(|init| (&init.file, init.bytes));
        let segments = manifest.segments.iter().map(|segment| (&segment.file, segment.bytes));
        let mut files = Vec::new();
        for (name, bytes) in inits.chain(segments) {
            match name.parse() {
                Ok(file @ (File::Init(_) | File::Segment(_))) => files.push((file, bytes)),
                _ => return Err(differs(name)),
            }
        }
        files.sort();
        let mut scan = Scan::exporting(manifest.version);
        scan.read(&mut Reading(open), &files, &[])?;
        match scan.differs(manifest) {
            Some(name) => Err(differs(&name)),
            None => Ok(Mp4s { description: manifest.description.clone(), exports: scan.exports.unwrap_or_default() }),
        }
    }

    /// Returns how many there are: one, and another for each change of codec.
    pub fn count(&self) -> usize {
        self.exports.len()
    }

    /// Bytes of media in the MP4 with this number, which count from 1. The index comes on top.
    pub fn media_bytes(&self, number: u32) -> u64 {
        self.export(number).map_or(0, export::Export::payload)
    }

    /// Writes the MP4 with this number, which count from 1, and tells what it wrote. Blocks.
    ///
    /// # Errors
    /// [`FinalizeError::Io`] with the name of the MP4 when `out` failed, else with the name of the file that cannot be read;
    /// [`FinalizeError::Empty`] when there is none with this number.
    pub fn write<R: Read + Seek>(
        &self,
        number: u32,
        open: impl FnMut(&str) -> io::Result<R>,
        out: &mut impl Write,
    ) -> Result<Export, FinalizeError> {
        let export = self.export(number).ok_or(FinalizeError::Empty)?;
        let file = File::Export(number);
        let head = exports::head(export, file, &self.description)?;
        let written = exports::write_to(&mut Reading(open), file, export, &head, out)?;
        out.flush().map_err(|source| failed(file, source))?;
        Ok(written)
    }

    fn export(&self, number: u32) -> Option<&export::Export> {
        self.exports.get(usize::try_from(number.checked_sub(1)?).ok()?)
    }
}

/// Reads segments that are not in a folder, with their init segments, and returns their records in order. Torn ones are
/// recorded as far as they are whole. Blocks.
///
/// # Errors
/// [`FinalizeError::Io`] names the file that cannot be read.
pub fn read_segments<R: Read + Seek>(
    files: &[(File, u64)],
    open: impl FnMut(&str) -> io::Result<R>,
) -> Result<Vec<SegmentRecord>, FinalizeError> {
    let mut files = files.to_vec();
    files.sort();
    let mut scan = Scan::new(&Ending::crash());
    scan.read(&mut Reading(open), &files, &[])?;
    Ok(scan.segments)
}

impl std::fmt::Debug for Mp4s {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mp4s").field("id", &self.description.id).field("count", &self.count()).finish_non_exhaustive()
    }
}

fn differs(name: &str) -> FinalizeError {
    FinalizeError::Mp4 { file: name.to_owned(), reason: "it is not what the manifest tells of it".into() }
}

/// A folder that can only be read.
struct Reading<F>(F);

impl<R: Read + Seek, F: FnMut(&str) -> io::Result<R>> Folder for Reading<F> {
    type Reader = R;
    type Writer = Empty;

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn open(&mut self, name: &str) -> io::Result<R> {
        self.0(name)
    }

    fn truncate(&mut self, _: &str, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&mut self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&mut self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn create(&mut self, _: &str) -> io::Result<Empty> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn commit(&mut self, _: &str, _: Empty) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
