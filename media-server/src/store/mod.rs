//! What is remembered across restarts: streams, sessions and recordings, in one SQLite file.
//!
//! Stub: being written.

mod recordings;

pub use recordings::{NewRecording, Recording, RecordingOutcome, RecordingQuery, RecordingState};

use std::path::Path;

/// Why the database refused.
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct StoreError;

/// The database. A cheap handle.
#[derive(Clone, Debug)]
pub struct Store;

impl Store {
    /// Opens or makes the database at `path`. Errors name the file and the remedy.
    pub async fn open(path: &Path) -> Result<Store, StoreError> {
        let _ = path;
        Err(StoreError)
    }

    /// A database that is gone with its last handle, for tests and for servers that need not remember.
    pub async fn in_memory() -> Result<Store, StoreError> {
        Err(StoreError)
    }
}
