//! What the threads of the recording plane share: settings, the database, and how each recording fares.

use super::RecordingSettings;
use super::indexer::Indexer;
use crate::control::RecordingId;
use crate::store::Store;
use crate::upload::Uploads;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// How far a recording has got.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) bytes: AtomicU64,
    pub(super) milliseconds: AtomicU64,
    pub(super) gaps: AtomicU64,
}

impl Progress {
    pub(super) fn note(&self, stats: &recorder::Stats) {
        self.bytes.store(stats.bytes, Ordering::Relaxed);
        let milliseconds = u64::try_from(stats.duration.as_millis()).unwrap_or(u64::MAX);
        self.milliseconds.store(milliseconds, Ordering::Relaxed);
        self.gaps.store(u64::from(stats.gaps), Ordering::Relaxed);
    }
}

pub(super) struct Shared {
    pub(super) settings: RecordingSettings,
    pub(super) store: Store,
    pub(super) uploads: Option<Uploads>,
    pub(super) indexer: Indexer,
    runtime: Handle,
    /// As the settings say, until it is changed.
    segment_duration: Mutex<Duration>,
    max_duration: Mutex<Duration>,
    /// Recordings under way.
    live: Mutex<HashMap<RecordingId, Arc<Progress>>>,
    /// Recordings that are being finished, or wait for that until it can be done.
    finishing: Mutex<BTreeSet<RecordingId>>,
    /// What is wrong with a recording, for people.
    troubles: Mutex<HashMap<RecordingId, &'static str>>,
}

impl Shared {
    pub(super) fn new(settings: RecordingSettings, store: Store, uploads: Option<Uploads>, runtime: Handle) -> Shared {
        let segment_duration = Mutex::new(settings.segment_duration);
        let max_duration = Mutex::new(settings.max_duration);
        Shared {
            settings,
            indexer: Indexer::start(store.clone()),
            store,
            uploads,
            runtime,
            segment_duration,
            max_duration,
            live: Mutex::default(),
            finishing: Mutex::default(),
            troubles: Mutex::default(),
        }
    }

    /// A segment of the next recording is cut at the first keyframe after this.
    pub(super) fn segment_duration(&self) -> Duration {
        *lock(&self.segment_duration)
    }

    pub(super) fn set_segment_duration(&self, segment_duration: Duration) {
        *lock(&self.segment_duration) = segment_duration;
    }

    pub(super) fn max_duration(&self) -> Duration {
        *lock(&self.max_duration)
    }

    pub(super) fn set_max_duration(&self, max_duration: Duration) {
        *lock(&self.max_duration) = max_duration;
    }

    /// Bytes of the recordings under way.
    pub(super) fn bytes_under_way(&self) -> u64 {
        lock(&self.live).values().map(|progress| progress.bytes.load(Ordering::Relaxed)).sum()
    }

    /// Where a recording's files are.
    pub(super) fn folder(&self, id: &RecordingId) -> PathBuf {
        self.settings.folder.join(id.as_str())
    }

    /// Waits for the database. Only on threads of this plane, never on the runtime's.
    pub(super) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Does this besides; not waited for.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(future);
    }

    pub(super) fn begin(&self, id: &RecordingId) -> Arc<Progress> {
        let progress = Arc::new(Progress::default());
        lock(&self.live).insert(id.clone(), Arc::clone(&progress));
        progress
    }

    pub(super) fn end(&self, id: &RecordingId) {
        lock(&self.live).remove(id);
    }

    pub(super) fn progress(&self, id: &RecordingId) -> Option<Arc<Progress>> {
        lock(&self.live).get(id).cloned()
    }

    /// Notes that a recording is to be finished, or that it is and the uploads know.
    pub(super) fn set_finishing(&self, id: &RecordingId, finishing: bool) {
        let mut all = lock(&self.finishing);
        if finishing {
            all.insert(id.clone());
        } else {
            all.remove(id);
        }
    }

    pub(super) fn is_finishing(&self) -> bool {
        !lock(&self.finishing).is_empty()
    }

    pub(super) fn set_trouble(&self, id: &RecordingId, trouble: Option<&'static str>) {
        let mut troubles = lock(&self.troubles);
        match trouble {
            Some(trouble) => troubles.insert(id.clone(), trouble),
            None => troubles.remove(id),
        };
    }

    pub(super) fn trouble(&self, id: &RecordingId) -> Option<&'static str> {
        lock(&self.troubles).get(id).copied()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
