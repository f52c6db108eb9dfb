//! The recording plane: what a room's publisher sends, from the tap to finished files.
//!
//! One router thread takes batches from the tap and puts copies into the queue of each recording; each recording has a
//! writer thread that drives the sans-IO [`recorder::Recording`] and does what it asks of the disk. The router never
//! waits: when a disk is slow the queue of its recording fills, and what does not fit is dropped and marked as a gap. So
//! neither the media plane nor another recording notices a slow, full or failing disk; the recording itself pauses, and
//! goes on in a new segment when the disk is well again.
//!
//! What an earlier process left unfinished is found at the start and finished in the background: the same path as the
//! normal end, [`recorder::finalize()`]. A folder that cannot be finished is left as it is and marked as failed; nothing is
//! deleted but by [`Library::remove`]. Where there is an object store, `upload` is told of what is finished, and takes a
//! folder from the disk once the store has it; then [`Library::open`] gives what the store gives.

mod composed;
mod composer;
mod conclude;
mod disk;
mod error;
mod indexer;
mod library;
mod measure;
mod queue;
pub(crate) mod reindex;
mod repair;
mod restore;
mod rooms;
mod router;
mod segment_source;
mod shared;
mod stored;
mod tap;
mod wall_clock;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use composed::ComposedMp4;
pub use error::RecordingError;
pub use library::{Library, LibraryError, OpenError, Opened, Shown};
pub use rooms::{RoomError, RoomGap, RoomSpan, Timeline};
pub use stored::StoredFile;
pub use tap::TapSource;

use crate::control::{Recorder, RecordingId, RoomName, StreamId};
use crate::store::{NewRecording, Store};
use crate::upload::Uploads;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use queue::Input;
use recorder::Tracks;
use repair::Job;
use router::Rooms;
use sfu::parameters::{IncomingTrack, PublisherTracks, RoomId};
use shared::Shared;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use writer::{Contacts, Writer, recorded};

/// Recordings pause when the disk has fewer bytes free, by default: the database and what is being finished need some too.
pub const MIN_FREE: u64 = 64 << 20;

/// How recordings are made.
#[derive(Clone, Debug)]
pub struct RecordingSettings {
    /// Holds a folder for each recording. Made when it is not there.
    pub folder: PathBuf,
    /// A segment is cut at the first keyframe after this.
    pub segment_duration: Duration,
    /// A recording ends, and the stream's next one begins, at the first keyframe after each multiple of this since midnight
    /// UTC. Default 1 h.
    pub max_duration: Duration,
    /// Recordings pause when the disk has fewer bytes free: the database and what is being finished need some too.
    /// Default 64 MiB.
    pub min_free: u64,
    /// Bytes that may wait for one recording's disk; what comes on top is dropped. Default 32 MiB.
    pub queue_bytes: usize,
    /// Bytes that may wait for the disk in all, so that one that hangs does not cost the memory of all. Default 256 MiB.
    pub all_queues_bytes: usize,
    /// How long after a failed write the next one is tried. Default 2 s.
    pub write_retry: Duration,
    /// How long after a full or read-only disk kept a recording from being finished it is tried again. Default 30 s.
    pub finish_retry: Duration,
}

impl RecordingSettings {
    /// The defaults.
    pub fn new(folder: impl Into<PathBuf>, segment_duration: Duration) -> RecordingSettings {
        RecordingSettings {
            folder: folder.into(),
            segment_duration,
            max_duration: Duration::from_secs(3600),
            min_free: MIN_FREE,
            queue_bytes: 32 << 20,
            all_queues_bytes: 256 << 20,
            write_retry: Duration::from_secs(2),
            finish_retry: Duration::from_secs(30),
        }
    }
}

/// Asks the publisher of a room for a keyframe; returns at once.
pub type RequestKeyframe = Arc<dyn Fn(RoomId) + Send + Sync>;

/// What the recording plane is made of.
pub struct RecordingParts {
    /// How.
    pub settings: RecordingSettings,
    /// Remembers the recordings.
    pub store: Store,
    /// Where the media comes from; `None`: nothing is recorded now, but what an earlier process recorded is finished and
    /// can be played.
    pub taps: Option<Box<dyn TapSource>>,
    /// Without it a recording that lost its place waits for the camera's own next keyframe.
    pub keyframes: Option<RequestKeyframe>,
    /// Takes finished files to the object store; `None`: they stay here.
    pub uploads: Option<Uploads>,
}

/// The running recording plane. A cheap handle. Recordings that are not finished when the last one is dropped stay as a
/// crash would leave them, for the next start.
#[derive(Clone)]
pub struct RecordingPlane(Arc<Plane>);

struct Plane {
    shared: Arc<Shared>,
    rooms: Arc<Rooms>,
    jobs: Sender<Job>,
    keyframes: Option<RequestKeyframe>,
}

impl RecordingPlane {
    /// Starts the threads, and begins to finish what an earlier process left. Call it on a tokio runtime, before the first
    /// recording can start.
    pub async fn start(parts: RecordingParts) -> Result<RecordingPlane, RecordingError> {
        let RecordingParts { settings, store, taps, keyframes, uploads } = parts;
        measure::describe();
        let leftovers = repair::leftovers(&settings.folder)?;
        let shared = Arc::new(Shared::new(settings, store, uploads, Handle::current()));
        let restoring = restore::is_due(&shared).await?;
        let jobs = repair::jobs(&shared, leftovers).await?;
        let rooms = Arc::new(Rooms::new(shared.settings.queue_bytes, shared.settings.all_queues_bytes));
        if let Some(taps) = taps {
            let rooms = Arc::clone(&rooms);
            spawn("record-router", move || rooms.route(&*taps))?;
        }
        let (sender, more) = channel();
        let repairing = Arc::clone(&shared);
        // A new registry learns first what the object store has of unfinished recordings.
        let (jobs, held) = if restoring.is_new { (Vec::new(), jobs) } else { (jobs, Vec::new()) };
        spawn("record-repair", move || repair::run(&repairing, jobs, &more))?;
        if restoring.is_due {
            tokio::spawn(restore::run(Arc::downgrade(&shared), sender.clone(), held));
        }
        Ok(RecordingPlane(Arc::new(Plane { shared, rooms, jobs: sender, keyframes })))
    }

    /// Recordings that start from now on are cut at the first keyframe after this.
    pub fn set_segment_duration(&self, segment_duration: Duration) {
        self.0.shared.set_segment_duration(segment_duration);
    }

    /// Recordings that start from now on, and the next ones of streams that are being recorded, last at most this long.
    pub fn set_max_duration(&self, max_duration: Duration) {
        self.0.shared.set_max_duration(max_duration);
    }

    /// Bytes of the recordings under way, which the registry does not know yet.
    pub fn bytes_under_way(&self) -> u64 {
        self.0.shared.bytes_under_way()
    }

    /// Whether a recording that has ended is not finished yet, or not known to the uploads.
    pub fn is_finishing(&self) -> bool {
        self.0.shared.is_finishing()
    }

    /// What is recorded, for those who want to play it.
    pub fn library(&self) -> Library {
        Library::new(Arc::clone(&self.0.shared))
    }
}

impl Recorder for RecordingPlane {
    fn start(
        &self,
        room: RoomId,
        stream: StreamId,
        room_name: RoomName,
        publisher: String,
        tracks: &PublisherTracks,
        at: Timestamp,
    ) {
        let plane = &self.0;
        let Some(begun) = plane.rooms.begin(room) else {
            tracing::warn!(%stream, "this room is being recorded already");
            return;
        };
        // The first packets came a little before the control plane heard of them.
        let (now, wall) = (Instant::now(), Timestamp::now());
        let ago = Duration::try_from(wall.duration_since(at)).unwrap_or_default().min(Duration::from_secs(10));
        let heard = now.checked_sub(ago).unwrap_or(now);
        let created = begun.first_arrival.map_or(heard, |first| first.min(heard));
        let id = RecordingId::first_of(&stream);
        let description = recorder::Description {
            id: id.to_string(),
            stream: Some(stream.to_string()),
            room: room_name.to_string(),
            publisher,
            started_at: microseconds(at.checked_sub(heard.saturating_duration_since(created)).unwrap_or(at)),
        };
        let contacts =
            Contacts { room, keyframes: plane.keyframes.clone(), jobs: plane.jobs.clone(), load: begun.load };
        let shared = Arc::clone(&plane.shared);
        let new = NewRecording {
            path: id.to_string(),
            id: id.clone(),
            stream: stream.clone(),
            room: room_name,
            started_at: description.started_at,
        };
        let writer = Writer::new(shared, contacts, new, expected(tracks), description, created);
        if let Err(error) = spawn("record", move || writer.run(begun.inputs)) {
            plane.shared.end(&id);
            tracing::error!(%stream, %error, "this stream is not recorded");
        }
    }

    fn source_changed(&self, room: RoomId, _publisher: String, tracks: &PublisherTracks) {
        self.0.rooms.tell(room, Input::Expected(expected(tracks)));
    }

    fn finish(&self, room: RoomId) -> BoxFuture<'static, ()> {
        let (done, finished) = oneshot::channel();
        if !self.0.rooms.finish(room, Input::Finish { asked: Instant::now(), done }) {
            return std::future::ready(()).boxed();
        }
        // An error means that the writer is gone, so that there is nothing to wait for.
        async move { finished.await.unwrap_or(()) }.boxed()
    }
}

/// What the recorder need not wait for in vain.
fn expected(tracks: &PublisherTracks) -> Tracks {
    let recorded = |track: &IncomingTrack| track.payload_types.first().is_none_or(|p| recorded(p.codec).is_some());
    Tracks { audio: tracks.audio.as_ref().is_some_and(recorded), video: tracks.video.is_some() }
}

/// As finely as the registry keeps it: both are to say the same.
fn microseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), RecordingError> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map(drop).map_err(RecordingError::Thread)
}
