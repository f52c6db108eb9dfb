//! What can go wrong in the recording plane, and how that is told.

use crate::store::StoreError;
use std::io;
use std::path::PathBuf;

/// Why the recording plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The recordings folder cannot be made or read.
    #[error(
        "cannot use the recordings folder {path}: {source}; make it writable, or name another with MEDIA_RECORDINGS_DIR"
    )]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A thread could not be made.
    #[error("cannot start a recording thread: {0}; the machine is out of threads or memory")]
    Thread(#[source] io::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why something is not on the disk.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskError {
    /// Less is free than has to stay free.
    #[error("{free} bytes are free on the disk of {path}, {wanted} have to stay free")]
    Full {
        /// The folder.
        path: PathBuf,
        /// Bytes.
        free: u64,
        /// Bytes.
        wanted: u64,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A write failed, and no probe has been written since.
    #[error("recording is paused")]
    Paused,
}

impl DiskError {
    /// For those who may not know our paths.
    pub(super) fn in_short(&self) -> &'static str {
        match self {
            DiskError::Full { .. } | DiskError::Paused => FULL,
            DiskError::Io { source, .. } => in_short(source.kind()),
        }
    }

    /// For the log.
    pub(super) fn remedy(&self) -> &'static str {
        match self.in_short() {
            FULL => "free space, or delete recordings",
            READ_ONLY => "make the recordings folder writable",
            _ => "look at the disk",
        }
    }
}

const FULL: &str = "the disk is full";
const READ_ONLY: &str = "the disk cannot be written";

/// What an error means, without paths.
pub(super) fn in_short(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FULL,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => READ_ONLY,
        _ => "the disk fails",
    }
}

/// Errors that pass when somebody frees space or remounts.
pub(super) fn may_pass(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(kind, StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}
