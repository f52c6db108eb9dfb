//! Recordings that only another store holds: the change of the store, and the search for them in the present one.
//!
//! Once their objects are copied into the present store, by any tool and below the same keys, the search finds them. It runs at the start and then at intervals, one recording at a time, behind uploads.

use super::Uploader;
use crate::control::RecordingId;
use crate::status::{ElsewhereStatus, StatusBoard, UploadStatus};
use crate::store::{Store, StoreError, UploadBacklog};
use crate::upload::disk::blocking;
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// Between two searches through all of them.
const SEARCH_EVERY: Duration = Duration::from_secs(300);
/// Deleted recordings that a warning names, each with its objects.
const NAMED: usize = 20;

/// Recordings that another store holds.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// The store that holds the first of them.
    place: Option<String>,
    /// Their number when that was read.
    count: u64,
    /// The recording that was looked for last.
    after: Option<RecordingId>,
    not_before: Option<Instant>,
}

impl Elsewhere {
    /// Makes a search due.
    pub(super) fn search_now(&mut self) {
        (self.not_before, self.after) = (None, None);
    }

    pub(super) fn status(&self, backlog: &UploadBacklog) -> Option<ElsewhereStatus> {
        let &UploadBacklog { elsewhere: recordings, elsewhere_on_volume: on_volume, .. } = backlog;
        let place = self.place.as_ref().filter(|_| recordings > 0)?;
        Some(ElsewhereStatus { recordings, on_volume, message: message(recordings, on_volume, place) })
    }
}

/// Returns a message about recordings in another store, with the remedy.
fn message(recordings: u64, on_volume: u64, place: &str) -> String {
    let waits = match on_volume {
        0 => String::new(),
        count => format!(" ({count} in the managed store on this volume)"),
    };
    format!(
        "{recordings} recordings are only in another store, {place}{waits}: copy their objects into the present store below \
         the same keys, or configure that store again"
    )
}

/// Reports recordings that only a store holds, of a server that has none any more.
pub(in crate::upload) async fn report_without_store(store: &Store, status: &StatusBoard) -> Result<(), StoreError> {
    let backlog = store.upload_backlog().await?;
    if backlog.evicted == 0 {
        return Ok(());
    }
    let place = store.journal_store().await?.unwrap_or_else(|| "of before".to_owned());
    let message = format!(
        "{} recordings are only in the store {place}, and no store is configured: configure it again",
        backlog.evicted
    );
    tracing::warn!("{message}");
    let on_volume = if place.starts_with("managed:") { backlog.evicted } else { 0 };
    let elsewhere = Some(ElsewhereStatus { recordings: backlog.evicted, on_volume, message });
    status.set_uploads(UploadStatus { evicted: backlog.evicted, elsewhere, ..UploadStatus::default() });
    Ok(())
}

impl Uploader {
    /// Has the journal describe this store.
    pub(super) async fn name_store(&mut self) -> Result<(), StoreError> {
        let identity = self.objects.identity();
        if self.objects.is_shared() {
            self.status.set_store_owner(self.store.store_owner().await?);
        }
        if self.store.journal_store().await?.is_some_and(|before| before != identity) {
            // Directories may have left the disk unseen, while no server ran.
            for recording in self.store.committed_on_disk().await? {
                let directory = self.settings.folder.join(recording.as_str());
                if matches!(blocking(move || directory.try_exists()).await, Ok(false)) {
                    self.store.evicted(&recording, Timestamp::now()).await?;
                }
            }
        }
        let Some(change) = self.store.set_journal_store(identity, Timestamp::now()).await? else { return Ok(()) };
        tracing::warn!(
            before = change.before,
            now = identity,
            files = change.queued,
            elsewhere = change.elsewhere,
            "store changed: files on the disk are uploaded to the new one, recordings that left the disk are searched there"
        );
        for removal in change.removals.iter().take(NAMED) {
            tracing::warn!(
                recording = %removal.recording, store = change.before, prefix = removal.prefix,
                "deleted recording may have objects left in the store of before: delete them there"
            );
        }
        if let more @ 1.. = change.removals.len().saturating_sub(NAMED) {
            tracing::warn!(recordings = more, store = change.before, "so may further deleted recordings");
        }
        Ok(())
    }

    /// Returns the recording to look for next, when it is time.
    pub(super) async fn search_due(&mut self) -> Result<Option<RecordingId>, StoreError> {
        let now = Instant::now();
        let rests = self.elsewhere.not_before.is_some_and(|at| now < at);
        if self.backlog.elsewhere == 0 || rests || self.runs(|work| matches!(work, super::Work::Search(_))) {
            return Ok(None);
        }
        let next = self.store.next_elsewhere(self.elsewhere.after.as_ref()).await?;
        let found = next.map(|(recording, _)| recording);
        if found.is_none() {
            self.elsewhere.not_before = Some(now + SEARCH_EVERY);
        }
        self.elsewhere.after.clone_from(&found);
        Ok(found)
    }

    /// The present store holds it.
    pub(super) async fn found(&mut self, recording: &RecordingId) {
        tracing::info!(%recording, "recording of another store found in this one");
        self.noted(self.store.found_in_store(recording).await);
    }

    /// Reads the name of the other store when the number of recordings there has changed.
    pub(super) async fn read_elsewhere(&mut self) {
        let count = self.backlog.elsewhere;
        if count == self.elsewhere.count && (count == 0 || self.elsewhere.place.is_some()) {
            return;
        }
        match self.store.next_elsewhere(None).await {
            Ok(first) => {
                self.elsewhere.place = first.map(|(_, place)| place);
                self.elsewhere.count = count;
                if let Some(status) = self.elsewhere.status(&self.backlog) {
                    tracing::warn!("{}", status.message);
                }
            }
            Err(error) => tracing::error!(%error, "upload journal not read"),
        }
    }
}
