//! Writes progressive MP4 files from segments.

use std::io::{self, Read, Seek, SeekFrom, Write};

use ring::digest::{Context, SHA256};

use super::{FinalizeError, Folder, failed};
use crate::{
    export::{self, Piece, silence},
    manifest::{Export, hex},
    types::{Description, File},
};

/// What stands before an export's payload.
pub(super) fn head(export: &export::Export, file: File, description: &Description) -> Result<Vec<u8>, FinalizeError> {
    export.head(description).map_err(|error| FinalizeError::Mp4 { file: file.to_string(), reason: format!("{error}") })
}

/// Writes one of them to `out`; `file` is its name.
pub(super) fn write_to(
    folder: &mut impl Folder,
    file: File,
    export: &export::Export,
    head: &[u8],
    out: &mut impl Write,
) -> Result<Export, FinalizeError> {
    let mut out = Hashing { out, hash: Context::new(&SHA256), bytes: 0 };
    out.write_all(head).map_err(|source| failed(file, source))?;
    copy(folder, file, export, &mut out)?;
    let Hashing { hash, bytes, .. } = out;
    let (start, end) = export.extent();
    Ok(Export { file: file.to_string(), bytes, sha256: hex(hash.finish().as_ref()), start, duration: end - start })
}

fn copy(
    folder: &mut impl Folder,
    file: File,
    export: &export::Export,
    out: &mut impl Write,
) -> Result<(), FinalizeError> {
    let mut open: Option<(File, _)> = None;
    for piece in &export.pieces {
        let copy = match piece {
            Piece::Copy(copy) => copy,
            Piece::Silence(packets) => {
                let silence = silence().repeat(*packets as usize);
                out.write_all(&silence).map_err(|source| failed(file, source))?;
                continue;
            }
        };
        let read_failed = |source| failed(copy.file, source);
        let mut reader = match open.take() {
            Some((file, reader)) if file == copy.file => reader,
            _ => folder.open(&copy.file.to_string()).map_err(read_failed)?,
        };
        reader.seek(SeekFrom::Start(copy.offset)).map_err(read_failed)?;
        let copied = io::copy(&mut (&mut reader).take(copy.len), out).map_err(|source| failed(file, source))?;
        if copied != copy.len {
            return Err(read_failed(io::ErrorKind::UnexpectedEof.into()));
        }
        open = Some((copy.file, reader));
    }
    Ok(())
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
