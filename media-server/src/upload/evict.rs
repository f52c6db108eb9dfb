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
/// Segments of recordings under way removed in one pass: 100 MB/s for 10 s of 4 MB.
const SEGMENTS_PER_PASS: usize = 256;

/// Removes stored recordings from the disk.
pub(super) struct Evictor {
    store: Store,
    directory: PathBuf,
    same_volume: bool,
    keep_free: KeepFree,
    reserve: u64,
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
            reserve: settings.reserve,
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

    /// Removes incomplete directories; then all where the store is on the same volume, else the oldest until enough space is
    /// free; then, if it is not, segments of recordings under way.
    pub(super) async fn run_pass(&mut self) {
        match self.store.incomplete_on_disk().await {
            Ok(incomplete) => drop(self.evict_all(&incomplete, true).await),
            Err(error) => return tracing::error!(%error, "upload journal not read, no recording evicted"),
        }
        match self.needs_space().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return tracing::error!(%error, "free disk space not read, no recording evicted"),
        }
        match self.store.evictable().await {
            Ok(evictable) if self.evict_all(&evictable, self.same_volume).await => self.evict_segments().await,
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "upload journal not read, no recording evicted"),
        }
    }

    /// Removes the directories of recordings. Returns whether all were tried and more space is needed.
    async fn evict_all(&mut self, recordings: &[RecordingId], always: bool) -> bool {
        let mut removed = 0;
        for recording in recordings {
            if removed == PER_PASS {
                self.timer.reset_immediately();
                return false;
            }
            match self.evict(recording, always).await {
                Ok(None) => return false,
                Ok(Some(false)) => {}
                Ok(Some(true)) => {
                    removed += 1;
                    tracing::info!(%recording, "recording evicted from the disk, the store holds it");
                    measure::evicted();
                    if let Err(error) = self.store.evicted(recording, Timestamp::now()).await {
                        tracing::error!(%recording, %error, "upload journal not written");
                    }
                }
                Err(error) => tracing::error!(%recording, %error, "stored recording not evicted from the disk"),
            }
        }
        true
    }

    /// Removes verified segments of recordings under way, oldest first, while space is needed.
    async fn evict_segments(&mut self) {
        let evictable = match self.store.evictable_segments(SEGMENTS_PER_PASS).await {
            Ok(evictable) => evictable,
            Err(error) => return tracing::error!(%error, "index not read, no segment evicted"),
        };
        let all = evictable.len() < SEGMENTS_PER_PASS;
        let mut evicted = 0;
        for (recording, number) in evictable {
            if !matches!(self.needs_space().await, Ok(true)) {
                break;
            }
            match self.evict_segment(&recording, number).await {
                Ok(true) => evicted += 1,
                Ok(false) => {}
                Err(error) => tracing::error!(%recording, number, %error, "stored segment not evicted from the disk"),
            }
        }
        if evicted > 0 {
            tracing::debug!(segments = evicted, "segments of recordings under way evicted, the store holds them");
            if !all {
                self.timer.reset_immediately();
            }
        }
    }

    /// Removes a segment. Returns `false` when its recording is held, being finished or finished.
    async fn evict_segment(&self, recording: &RecordingId, number: u32) -> io::Result<bool> {
        let (directory, id) = (self.directory.clone(), recording.clone());
        if blocking(move || Ok(disk::is_held(&directory, &id))).await? {
            return Ok(false);
        }
        // First the index: after a crash a segment that is neither here nor marked would count as lost.
        if !self.store.segment_leaves_disk(recording, number).await.map_err(io::Error::other)? {
            return Ok(false);
        }
        let (directory, id) = (self.directory.clone(), recording.clone());
        blocking(move || disk::evict_segment(&directory, &id, number)).await.map(|()| true)
    }

    async fn needs_space(&self) -> io::Result<bool> {
        let (always, directory, keep_free) = (self.same_volume, self.directory.clone(), self.keep_free());
        let reserve = self.reserve;
        blocking(move || Ok(always || disk::is_short(&directory, &keep_free, reserve)?)).await
    }

    /// Removes one directory. Returns `None` when no space is needed any more, `false` when the recording is held.
    async fn evict(&self, recording: &RecordingId, always: bool) -> io::Result<Option<bool>> {
        let (directory, keep_free, reserve) = (self.directory.clone(), self.keep_free(), self.reserve);
        let recording = recording.clone();
        let evict = move || match always || disk::is_short(&directory, &keep_free, reserve)? {
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
