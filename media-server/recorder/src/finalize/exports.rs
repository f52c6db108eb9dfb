//! Writes the progressive MP4 files beside the segments: all of them, or, when the disk has too little room, none.

use std::io::{self, Read, Seek, SeekFrom, Write};

use ring::digest::{Context, SHA256};

use super::{FinalizeError, Folder, failed};
use crate::{
    export,
    manifest::{Export, MissingExports, MissingReason, hex},
    types::{Description, File},
};

/// What came of it: one of both is empty.
pub(super) struct Exports {
    pub(super) written: Vec<Export>,
    pub(super) missing: Option<MissingExports>,
}

/// Writes all of them, if there is room.
pub(super) fn write(
    folder: &mut impl Folder,
    exports: &[export::Export],
    description: &Description,
) -> Result<Exports, FinalizeError> {
    let mut heads = Vec::new();
    let mut needed = 0;
    for (number, export) in (1..).zip(exports) {
        let head = head(export, File::Export(number), description)?;
        needed += head.len() as u64 + export.copied();
        heads.push(head);
    }
    let room = folder.room().map_err(|source| failed(File::Export(1), source))?;
    let missing = |free| Some(MissingExports { reason: MissingReason::Space, needed, free });
    if room < needed {
        return Ok(Exports { written: Vec::new(), missing: missing(room) });
    }
    let mut written: Vec<Export> = Vec::new();
    for (number, (export, head)) in (1..).zip(exports.iter().zip(heads)) {
        match write_one(folder, File::Export(number), export, &head) {
            Ok(export) => written.push(export),
            Err(FinalizeError::Io { source, .. }) if is_full(&source) => {
                for export in written {
                    let io_failed = |source| FinalizeError::Io { file: export.file.clone(), source };
                    folder.remove(&export.file).map_err(io_failed)?;
                }
                return Ok(Exports { written: Vec::new(), missing: missing(folder.room().unwrap_or(0)) });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Exports { written, missing: None })
}

/// What stands before an export's payload.
pub(super) fn head(export: &export::Export, file: File, description: &Description) -> Result<Vec<u8>, FinalizeError> {
    export.head(description).map_err(|error| FinalizeError::Mp4 { file: file.to_string(), reason: format!("{error}") })
}

/// Too large for what is free, for a quota, or for the kind of file system.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn write_one(
    folder: &mut impl Folder,
    file: File,
    export: &export::Export,
    head: &[u8],
) -> Result<Export, FinalizeError> {
    let name = file.to_string();
    let io_failed = |source| failed(file, source);
    let mut out = folder.create(&name).map_err(io_failed)?;
    match write_to(folder, file, export, head, &mut out) {
        Ok(export) => folder.commit(&name, out).map_err(io_failed).map(|()| export),
        Err(error) => {
            folder.abandon(&name, out).map_err(io_failed)?;
            Err(error)
        }
    }
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
    for copy in &export.copies {
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
