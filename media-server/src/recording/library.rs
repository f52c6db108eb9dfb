//! What is recorded, for those who want to play it: the registry's rows, the manifests' gaps, and the files, here or in the
//! object store.

use super::composed::ComposedMp4;
use super::composer::Composer;
use super::repair::removed;
use super::segment_source::SourceError;
use super::shared::{Shared, lock};
use super::stored::StoredFile;
use crate::control::RecordingId;
use crate::objects::{ObjectsError, Reason};
use crate::retention::HOLD;
use crate::store::{ListedRecording, Recording, RecordingQuery, RecordingState, StoreError, key_prefix};
use recorder::{File, Gap};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// Most gaps that are told of one recording; its manifest has all.
const GAPS: usize = 1000;
/// Recordings whose gaps are kept in memory.
const REMEMBERED: usize = 1000;

/// A recording and what the registry does not know of it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The registry's row. While it is being recorded, with the bytes, the time and the gaps until now.
    pub recording: Recording,
    /// The first 1000, when it is finished.
    pub gaps: Arc<Vec<Gap>>,
    /// What is wrong: why it is paused, cannot be finished, or failed.
    pub trouble: Option<&'static str>,
    /// Whether the object store holds all of it, verified; `None` where there is no store.
    pub stored: Option<bool>,
}

/// Why a recording was not removed.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// It is being recorded or finished.
    #[error("the recording is not finished")]
    Running,
    /// A file called `hold` lies in its folder, or an object beside its manifest.
    #[error("the recording is held: a file or an object called {HOLD} lies beside its manifest")]
    Held,
    /// The store, which has the recording, does not tell whether it is held.
    #[error("it cannot be told whether the recording is held: {0}")]
    Objects(ObjectsError),
    /// The system refused.
    #[error("the recording's files cannot be removed: {0}")]
    Io(#[from] io::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A file of a recording, to be read.
#[derive(Debug)]
pub enum Opened {
    /// It lies here.
    Local(tokio::fs::File, Metadata),
    /// It lies in the store.
    Stored(StoredFile),
    /// It is composed of segments.
    Composed(ComposedMp4),
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The recording has no such file, or not yet.
    #[error("there is no such file")]
    NotFound,
    /// It lies in the store, which does not give it.
    #[error(transparent)]
    Objects(ObjectsError),
    /// The disk.
    #[error(transparent)]
    Io(io::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<SourceError> for OpenError {
    fn from(error: SourceError) -> OpenError {
        match error {
            SourceError::NotFound => OpenError::NotFound,
            SourceError::Objects(error) if error.reason() == Reason::NotFound => OpenError::NotFound,
            SourceError::Objects(error) => OpenError::Objects(error),
            SourceError::Io(error) => OpenError::Io(error),
            SourceError::Store(error) => OpenError::Store(error),
        }
    }
}

/// All recordings. A cheap handle.
#[derive(Clone)]
pub struct Library(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    composer: Composer,
    gaps: Mutex<HashMap<RecordingId, Arc<Vec<Gap>>>>,
}

impl Library {
    pub(super) fn new(shared: Arc<Shared>) -> Library {
        let composer = Composer::new(Arc::clone(&shared));
        Library(Arc::new(Inner { shared, composer, gaps: Mutex::default() }))
    }

    pub(super) fn composer(&self) -> &Composer {
        &self.0.composer
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// A page of recordings, newest first.
    pub async fn recordings(&self, query: &RecordingQuery) -> Result<Vec<Shown>, StoreError> {
        let mut shown = Vec::new();
        for listed in self.0.shared.store.listed_recordings(query).await? {
            shown.push(self.show(listed).await);
        }
        Ok(shown)
    }

    /// One recording.
    pub async fn recording(&self, id: &RecordingId) -> Result<Option<Shown>, StoreError> {
        match self.0.shared.store.listed_recording(id).await? {
            Some(listed) => Ok(Some(self.show(listed).await)),
            None => Ok(None),
        }
    }

    /// The registry's row alone.
    pub async fn row(&self, id: &RecordingId) -> Result<Option<Recording>, StoreError> {
        self.0.shared.store.recording(id).await
    }

    /// Opens one of its files: as long as it is now when it lies here, else as the store has it. MP4 files are composed.
    pub async fn open(&self, row: &Recording, file: File) -> Result<Opened, OpenError> {
        let id = &row.id;
        match self.open_local(id, file).await {
            Ok((file, metadata)) => return Ok(Opened::Local(file, metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(OpenError::Io(error)),
        }
        if let File::Export(number) = file {
            let finished = matches!(row.state, RecordingState::Complete | RecordingState::Repaired);
            let composed = if finished { self.0.composer.recording(row, number).await? } else { None };
            return composed.map(Opened::Composed).ok_or(OpenError::NotFound);
        }
        let (objects, upload) = self.0.composer.source().stored(id, file).await?;
        Ok(Opened::Stored(StoredFile::new(objects, upload)))
    }

    /// Returns the MP4 files of a finished recording: start and duration in seconds, and codecs.
    pub async fn mp4s(&self, row: &Recording) -> Result<Vec<(f64, f64, Vec<String>)>, OpenError> {
        self.0.composer.list(row).await
    }

    /// Returns why the present store cannot give a recording: another one holds it.
    async fn elsewhere(&self, id: &RecordingId) -> Result<Option<ObjectsError>, StoreError> {
        let place = self.0.shared.store.elsewhere(id).await?;
        Ok(place.map(|place| in_another_store(id, &place)))
    }

    async fn open_local(&self, id: &RecordingId, file: File) -> io::Result<(tokio::fs::File, Metadata)> {
        let file = tokio::fs::File::open(self.0.shared.folder(id).join(file.to_string())).await?;
        let metadata = file.metadata().await?;
        if metadata.is_file() { Ok((file, metadata)) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Removes a recording and its files, unless it is held, here or in the store that has it; `false` when there is none.
    /// A crash half way is made up for by the next start. What the store has of it is removed in the background, however
    /// long that takes.
    pub async fn remove(&self, id: &RecordingId) -> Result<bool, LibraryError> {
        let shared = &self.0.shared;
        let Some(row) = shared.store.recording(id).await? else { return Ok(false) };
        let running = matches!(row.state, RecordingState::Recording | RecordingState::Finalising);
        if running || shared.progress(id).is_some() {
            return Err(LibraryError::Running);
        }
        // Where it cannot be told whether somebody holds it, it stays.
        if self.is_held_in_the_store(&row).await? {
            return Err(LibraryError::Held);
        }
        let (from, to) = (shared.folder(id), removed(&shared.settings.folder, id));
        let (all, hidden) = (shared.settings.folder.clone(), to.clone());
        let hide = move || {
            if from.join(HOLD).try_exists()? {
                return Ok(None);
            }
            match fs::rename(from, hidden) {
                // Durable before the registry forgets it: a power loss must not bring it back.
                Ok(()) => fs::File::open(all)?.sync_all().map(|()| Some(true)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(false)),
                Err(error) => Err(error),
            }
        };
        let there = blocking(hide).await?.ok_or(LibraryError::Held)?;
        shared.store.recording_removed(id).await?;
        if let Some(uploads) = &shared.uploads {
            uploads.recording_removed();
        }
        shared.set_trouble(id, None);
        lock(&self.0.gaps).remove(id);
        self.0.composer.forget(id);
        if there {
            blocking(move || fs::remove_dir_all(to)).await?;
        }
        tracing::info!(recording = %id, room = %row.room, "recording removed");
        Ok(true)
    }

    /// Only of a recording that is there as a whole: before, whoever holds it does so here.
    async fn is_held_in_the_store(&self, row: &Recording) -> Result<bool, LibraryError> {
        let Some(uploads) = &self.0.shared.uploads else { return Ok(false) };
        if let Some(error) = self.elsewhere(&row.id).await? {
            return Err(LibraryError::Objects(error));
        }
        if !self.0.shared.store.stored(&row.id).await? {
            return Ok(false);
        }
        let key = format!("{}{HOLD}", key_prefix(&row.room, &row.id));
        let page = uploads.objects().list(&key, None).await.map_err(LibraryError::Objects)?;
        Ok(page.objects.iter().any(|object| object.key == key))
    }

    async fn show(&self, listed: ListedRecording) -> Shown {
        let ListedRecording { mut recording, gaps, stored } = listed;
        if let Some(progress) = self.0.shared.progress(&recording.id) {
            recording.bytes = progress.bytes.load(Ordering::Relaxed);
            recording.duration_ms = progress.milliseconds.load(Ordering::Relaxed);
            recording.gaps = progress.gaps.load(Ordering::Relaxed);
        }
        let finished = matches!(recording.state, RecordingState::Complete | RecordingState::Repaired);
        let gaps = match gaps {
            _ if !finished || recording.gaps == 0 => Arc::default(),
            Some(gaps) => Arc::new(gaps),
            None => self.gaps(&recording.id).await,
        };
        let stored = self.0.shared.uploads.is_some().then_some(stored);
        Shown { gaps, trouble: self.0.shared.trouble(&recording.id), stored, recording }
    }

    /// Returns the gaps of a recording that is not in the index.
    async fn gaps(&self, id: &RecordingId) -> Arc<Vec<Gap>> {
        if let Some(known) = lock(&self.0.gaps).get(id) {
            return Arc::clone(known);
        }
        let path = self.0.shared.folder(id).join(File::Manifest.to_string());
        let read = blocking(move || {
            let reader = io::BufReader::new(fs::File::open(path)?);
            Ok(serde_json::from_reader::<_, OnlyGaps>(reader)?.gaps)
        });
        match read.await {
            Ok(gaps) => self.remember(id, gaps),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.0.shared.store.stored_gaps(id).await {
                Ok(gaps) => self.remember(id, gaps.unwrap_or_default()),
                Err(error) => {
                    tracing::warn!(recording = %id, %error, "the gaps of a recording cannot be read");
                    Arc::default()
                }
            },
            Err(error) => {
                tracing::warn!(recording = %id, %error, "a manifest cannot be read");
                Arc::default()
            }
        }
    }

    fn remember(&self, id: &RecordingId, mut gaps: Vec<Gap>) -> Arc<Vec<Gap>> {
        gaps.truncate(GAPS);
        let gaps = Arc::new(gaps);
        let mut known = lock(&self.0.gaps);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(id.clone(), Arc::clone(&gaps));
        gaps
    }
}

pub(super) fn in_another_store(id: &RecordingId, place: &str) -> ObjectsError {
    ObjectsError::new(Reason::InAnotherStore, format!("recording {id} is only in {place}"))
}

/// What is needed of a manifest here.
#[derive(Deserialize)]
struct OnlyGaps {
    gaps: Vec<Gap>,
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(act).await.unwrap_or_else(|_| Err(io::Error::other("cancelled")))
}
