//! What a place with recordings can do: tell of them, open their files, delete them. A folder is one, a store another.
//!
//! A recording is what has a folder (or keys) by its id; it is finished when it has a manifest. A file called `hold` beside
//! that keeps it from being pruned.

use super::registry::RegistryError;
use crate::control::RecordingId;
use crate::objects::ObjectsError;
pub(super) use crate::retention::HOLD;
use jiff::Timestamp;
use recorder::{File, Manifest};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A kind of place, for the column WHERE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Disk,
    Store,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Disk => "disk",
            Kind::Store => "store",
        }
    }
}

/// A recording as one place has it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: RecordingId,
    /// Unknown of a folder in which nothing readable is.
    pub(super) room: Option<String>,
    pub(super) started_at: Timestamp,
    /// When the newest of its files changed.
    pub(super) changed: Timestamp,
    /// Of all its files in this place.
    pub(super) bytes: u64,
    pub(super) files: usize,
    pub(super) held: bool,
    pub(super) state: State,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    /// It has a manifest.
    Finished(Box<Summary>),
    /// It has none. What is `recoverable` becomes a recording when a server starts on it.
    Unfinished { recoverable: bool },
    /// It has one that cannot be read, and why.
    Damaged(String),
}

/// What is told of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) publisher: String,
    pub(super) ended_at: Timestamp,
    /// Seconds.
    pub(super) duration: f64,
    pub(super) gaps: usize,
    pub(super) repaired: bool,
    pub(super) codecs: Vec<String>,
}

impl Found {
    pub(super) fn summary(&self) -> Option<&Summary> {
        match &self.state {
            State::Finished(summary) => Some(summary),
            State::Unfinished { .. } | State::Damaged(_) => None,
        }
    }

    /// Takes over what the manifest says, or why it cannot be read.
    pub(super) fn judge(&mut self, manifest: Result<Manifest, String>) {
        match manifest {
            Ok(manifest) => {
                self.room = Some(manifest.description.room);
                self.started_at = manifest.description.started_at;
                self.state = State::Finished(Box::new(Summary {
                    publisher: manifest.description.publisher,
                    ended_at: manifest.ended_at,
                    duration: manifest.duration,
                    gaps: manifest.gaps.len(),
                    repaired: manifest.repaired,
                    codecs: manifest.codecs,
                }));
            }
            Err(reason) => self.state = State::Damaged(reason),
        }
    }
}

/// Reads a manifest of the recording `id`.
pub(super) fn parse_manifest(id: &RecordingId, bytes: &[u8]) -> Result<Manifest, String> {
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match manifest.description.id == id.as_str() {
        true => Ok(manifest),
        false => Err(format!("it belongs to the recording {}", manifest.description.id)),
    }
}

/// When an id of ours was made: that stands in it.
pub(super) fn made(id: &RecordingId) -> Option<Timestamp> {
    let (seconds, nanos) = uuid::Uuid::try_parse(id.as_str()).ok()?.get_timestamp()?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()
}

/// Something half done that is no recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Debris {
    /// A file that was to be renamed when whole.
    Temporary { path: PathBuf, bytes: u64 },
    /// An upload in parts.
    Upload { key: String, upload: String },
}

impl Debris {
    pub(super) fn name(&self) -> String {
        match self {
            Debris::Temporary { path, .. } => path.display().to_string(),
            Debris::Upload { key, .. } => format!("unfinished upload of {key}"),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        match self {
            Debris::Temporary { bytes, .. } => *bytes,
            Debris::Upload { .. } => 0,
        }
    }

    pub(super) fn files(&self) -> usize {
        match self {
            Debris::Temporary { .. } => 1,
            Debris::Upload { .. } => 0,
        }
    }
}

/// Room on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    /// Bytes that are free for us.
    pub(super) free: u64,
    /// Bytes in all.
    pub(super) capacity: u64,
}

/// A file that was opened, and its length.
pub(super) struct Opened<'a> {
    pub(super) bytes: u64,
    pub(super) reader: Box<dyn Read + 'a>,
}

/// A place with recordings. Everything blocks.
pub(super) trait Catalogue {
    fn kind(&self) -> Kind;

    /// For people: the folder, or the store's bucket.
    fn title(&self) -> String;

    /// All of them, in no order.
    fn recordings(&self) -> Result<Vec<Found>, CatalogueError>;

    /// The whole manifest of a finished one.
    fn manifest(&self, found: &Found) -> Result<Manifest, CatalogueError>;

    /// The length of a file; `None` when it is not there.
    fn length(&self, found: &Found, file: File) -> Result<Option<u64>, CatalogueError>;

    /// Opens a file for reading from its start; `None` when it is not there.
    fn open(&self, found: &Found, file: File) -> Result<Option<Opened<'_>>, CatalogueError>;

    /// Where a file lies on a disk.
    fn path(&self, found: &Found, file: File) -> Option<PathBuf>;

    /// Deletes a recording, so that it is gone, or there without a part missing, whenever this is interrupted: what is left is
    /// no recording any more. `false` when it is held by now, or not there any more.
    fn delete(&self, found: &Found) -> Result<bool, CatalogueError>;

    /// Has the server that knows this place forget a recording that is deleted everywhere.
    fn forget(&self, _: &RecordingId) -> Result<(), CatalogueError> {
        Ok(())
    }

    /// What a server that knows this place still works at, so that it is left alone whatever it looks like.
    fn wanted(&self) -> Result<BTreeSet<RecordingId>, CatalogueError> {
        Ok(BTreeSet::new())
    }

    /// What was begun before this time and is no recording; with [`Timestamp::MAX`] all of it.
    fn debris(&self, before: Timestamp) -> Result<Vec<Debris>, CatalogueError>;

    /// Removes that.
    fn clear(&self, debris: &Debris) -> Result<(), CatalogueError>;

    /// Room on the disk, if it is one.
    fn space(&self) -> Result<Option<Space>, CatalogueError>;
}

/// Why a place does not do what it is asked. The text names the thing and the remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum CatalogueError {
    #[error("{}: {source}; {}", path.display(), remedy(source))]
    Disk { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] ObjectsError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("{file} of {id}: {source}; try again, or look at the network to the store")]
    Transfer { id: RecordingId, file: String, source: io::Error },
    #[error("the manifest of {id} cannot be read: {reason}; restore it from a backup, or delete the recording")]
    Manifest { id: RecordingId, reason: String },
}

impl CatalogueError {
    pub(super) fn disk(path: &Path) -> impl FnOnce(io::Error) -> CatalogueError {
        let path = path.to_owned();
        move |source| CatalogueError::Disk { path, source }
    }
}

/// What to do about an error of the system's.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        NotFound | NotADirectory => "name another by --data-dir or --dir",
        PermissionDenied => "run this as the server's user, or as root",
        StorageFull | QuotaExceeded => "free space, or name another disk",
        ReadOnlyFilesystem => "mount it writable",
        _ => "look at the disk",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_it_was_made() {
        let before = Timestamp::now().as_millisecond();
        let made = made(&RecordingId::random()).unwrap().as_millisecond();
        assert!((before..=Timestamp::now().as_millisecond()).contains(&made));
        let random = RecordingId::parse("5e0e8d14-4b3e-4f4c-9f6e-2f7f6f0f7a11").unwrap();
        assert_eq!(super::made(&random), None);
    }
}
