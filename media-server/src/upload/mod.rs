//! Recordings on their way to the object store, and what of the disk they may leave.
//!
//! A segment goes up as soon as it is closed, by one PUT under a key that is always the same, and counts only once the
//! store has shown that it holds it. When the recording is finished the playlist follows, and last of all
//! `manifest.json`: where that is, everything is. Every step is in the journal (`store::uploads`) before it is relied upon,
//! so a restart goes on where it was; what the journal does not know is found on the disk. What fails is tried again for
//! ever, more and more slowly.
//!
//! The journal describes one store. When another one is configured, recordings on the disk are uploaded to that one,
//! and recordings that only the store before holds are reported until they are found in the present one (`uploader::elsewhere`).
//!
//! A directory leaves the disk only after its manifest was verified: at once where the store lies on the same volume, else
//! when less is free than `recording.retention.keepFree`. If that is not enough, closed segments of recordings under way
//! follow, once they are verified. No recording ever waits for this: the recorder leaves a note and continues.

mod disk;
mod due;
mod evict;
mod gate;
mod measure;
#[cfg(test)]
pub(crate) mod tests;
mod transfer;
mod uploader;

use crate::control::{RecordingId, RoomName};
use crate::objects::{Digest, Objects};
use crate::recording::MIN_FREE;
use crate::status::StatusBoard;
use crate::store::{NewUpload, Store, StoreError};
use gate::Delays;
use recorder::File;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use streamsession_api::{KeepFree, Retention};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uploader::Uploader;

/// How long whoever asks waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How uploads are made.
#[derive(Clone, Debug)]
pub struct UploadSettings {
    /// Holds a folder for each recording.
    pub folder: PathBuf,
    /// The store lies on the same volume: a folder goes as soon as it is stored.
    pub same_volume: bool,
    /// What of the disk is to stay free, until [`Uploads::follow`]. Default 10%.
    pub keep_free: KeepFree,
    /// Bytes that stay free in any case: recordings pause when the disk has fewer than [`MIN_FREE`]. Default: half as much
    /// again, so that what can leave the disk does so before.
    pub reserve: u64,
    /// Holds the keys, which are looked at for changes while they are refused.
    pub credentials: Option<PathBuf>,
    /// How long after a failure it is tried again, the first time. Default 1 s; it doubles each time.
    pub first_delay: Duration,
    /// How long at most. Default 60 s.
    pub longest_delay: Duration,
    /// How often the store is looked at when there is nothing to upload. Default 15 s.
    pub probe_every: Duration,
}

impl UploadSettings {
    /// The defaults.
    pub fn new(folder: impl Into<PathBuf>) -> UploadSettings {
        UploadSettings {
            folder: folder.into(),
            same_volume: false,
            keep_free: KeepFree::Percent(10),
            reserve: MIN_FREE + MIN_FREE / 2,
            credentials: None,
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(60),
            probe_every: Duration::from_secs(15),
        }
    }

    fn delays(&self) -> Delays {
        Delays { first: self.first_delay, longest: self.longest_delay }
    }
}

/// What uploads are made of.
pub struct UploadParts {
    /// How.
    pub settings: UploadSettings,
    /// Where to.
    pub objects: Objects,
    /// Keeps the journal.
    pub store: Store,
    /// Is told how store and uploads fare.
    pub status: StatusBoard,
}

/// Reports recordings that have left the disk for a store, where no store is configured any more.
pub async fn report_without_store(store: &Store, status: &StatusBoard) -> Result<(), StoreError> {
    uploader::report_without_store(store, status).await
}

/// The running uploads. A cheap handle.
#[derive(Clone)]
pub struct Uploads(Arc<Handle>);

struct Handle {
    objects: Objects,
    notes: mpsc::UnboundedSender<Note>,
    stop: CancellationToken,
}

/// What the uploader is told.
enum Note {
    /// A file of a running recording will not change any more.
    File { recording: RecordingId, room: RoomName, file: NewUpload },
    /// A recording has a manifest, or a new one.
    Finished(RecordingId),
    /// A recording was deleted.
    Removed,
    /// From now on these rules hold.
    Follow(watch::Receiver<Retention>),
    /// There is not much time left; to be told when nothing waits.
    Drain(oneshot::Sender<()>),
    /// To be told whether nothing waits.
    Ask(oneshot::Sender<bool>),
}

impl Uploads {
    /// Starts. Call it on a tokio runtime.
    pub fn start(parts: UploadParts) -> Uploads {
        let (notes, inbox) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let objects = parts.objects.clone();
        measure::describe();
        tokio::spawn(Uploader::new(parts, inbox, stop.clone()).run());
        Uploads(Arc::new(Handle { objects, notes, stop }))
    }

    /// The bucket.
    pub fn objects(&self) -> &Objects {
        &self.0.objects
    }

    /// A file of a running recording is as it will stay. Returns at once.
    pub fn file_finished(&self, recording: &RecordingId, room: &RoomName, file: File, bytes: u64, sha256: Digest) {
        let file = NewUpload { file, bytes, sha256 };
        self.note(Note::File { recording: recording.clone(), room: room.clone(), file });
    }

    /// A recording's folder is finished: it has a manifest. Returns at once; to tell it again is harmless.
    pub fn recording_finished(&self, recording: &RecordingId) {
        self.note(Note::Finished(recording.clone()));
    }

    /// A recording was removed from the registry. Returns at once.
    pub fn recording_removed(&self) {
        self.note(Note::Removed);
    }

    /// What of the disk is to stay free from now on, and whenever it changes.
    pub fn follow(&self, retention: watch::Receiver<Retention>) {
        self.note(Note::Follow(retention));
    }

    /// Hurries, and waits until all that was told is in the store.
    pub async fn drained(&self) {
        let (done, finished) = oneshot::channel();
        self.note(Note::Drain(done));
        // An error means that nobody uploads any more.
        let _ = finished.await;
    }

    /// Whether the store has all that was told, and nothing of what was deleted, as far as that can be known. What cannot be
    /// uploaded, since its manifest cannot be read, waits too.
    pub async fn nothing_waits(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.note(Note::Ask(answer));
        // Behind a database that is slow nobody knows.
        matches!(tokio::time::timeout(PATIENCE, answered).await, Ok(Ok(true)))
    }

    /// Ends what runs. What is not done is done by the next process.
    pub fn stop(&self) {
        self.0.stop.cancel();
    }

    fn note(&self, note: Note) {
        // Nobody listens after the end, when nothing is uploaded any more.
        let _ = self.0.notes.send(note);
    }
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads").field("objects", &self.0.objects).finish_non_exhaustive()
    }
}
