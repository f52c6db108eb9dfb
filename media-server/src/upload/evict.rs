//! Frees disk space: removes the directories of recordings that the object store holds.
//!
//! Passes follow a timer that nothing else restarts, since notes of running cameras arrive more often than its period. A
//! pass is bounded, so that transfers are started between two of them.

use super::disk::{self, blocking};
use super::{UploadSettings, measure};
use crate::control::RecordingId;
use crate::store::Store;
use jiff::Timestamp;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use streamsession_api::{KeepFree, Retention};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

/// Between two passes.
const PERIOD: Duration = Duration::from_secs(10);
/// Recordings removed in one pass.
const PER_PASS: usize = 8;

/// Removes stored recordings from the disk.
pub(super) struct Evictor {
    store: Store,
    directory: PathBuf,
    same_volume: bool,
    keep_free: KeepFree,
    retention: Option<watch::Receiver<Retention>>,
    timer: Interval,
}

impl Evictor {
    /// The first pass is due at once.
    pub(super) fn new(settings: &UploadSettings, store: Store) -> Evictor {
        let mut timer = tokio::time::interval(PERIOD);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Evictor {
            store,
            directory: settings.folder.clone(),
            same_volume: settings.same_volume,
            keep_free: settings.keep_free.clone(),
            retention: None,
            timer,
        }
    }

    /// Applies `keepFree` of these rules, and of their later versions, from the next pass on.
    pub(super) fn follow(&mut self, retention: watch::Receiver<Retention>) {
        self.retention = Some(retention);
    }

    /// Waits for the next pass. Cancel safe.
    pub(super) async fn due(&mut self) {
        self.timer.tick().await;
    }

    /// Removes directories: all where the store is on the same volume, else the oldest until enough space is free.
    pub(super) async fn run_pass(&mut self) {
        match self.needs_space().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return tracing::error!(%error, "free disk space not read, no recording evicted"),
        }
        let evictable = match self.store.evictable().await {
            Ok(evictable) => evictable,
            Err(error) => return tracing::error!(%error, "upload journal not read, no recording evicted"),
        };
        let mut removed = 0;
        for recording in evictable {
            if removed == PER_PASS {
                return self.timer.reset_immediately();
            }
            match self.evict(&recording).await {
                Ok(None) => return,
                Ok(Some(false)) => {}
                Ok(Some(true)) => {
                    removed += 1;
                    tracing::info!(%recording, "recording evicted from the disk, the store holds it");
                    measure::evicted();
                    if let Err(error) = self.store.evicted(&recording, Timestamp::now()).await {
                        tracing::error!(%recording, %error, "upload journal not written");
                    }
                }
                Err(error) => tracing::error!(%recording, %error, "stored recording not evicted from the disk"),
            }
        }
    }

    async fn needs_space(&self) -> io::Result<bool> {
        let (always, directory, keep_free) = (self.same_volume, self.directory.clone(), self.keep_free());
        blocking(move || Ok(always || disk::is_short(&directory, &keep_free)?)).await
    }

    /// Removes one directory. `None` when no space is needed any more, `false` when the recording is held.
    async fn evict(&self, recording: &RecordingId) -> io::Result<Option<bool>> {
        let (always, directory, keep_free) = (self.same_volume, self.directory.clone(), self.keep_free());
        let recording = recording.clone();
        let evict = move || match always || disk::is_short(&directory, &keep_free)? {
            true => disk::evict(&directory, &recording).map(Some),
            false => Ok(None),
        };
        blocking(evict).await
    }

    fn keep_free(&self) -> KeepFree {
        let followed = self.retention.as_ref().map(|rules| rules.borrow().keep_free.clone());
        followed.unwrap_or_else(|| self.keep_free.clone())
    }
}
