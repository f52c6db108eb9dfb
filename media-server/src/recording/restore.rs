//! Reads the object store into a registry that has never seen it: after a lost disk, and once after an upgrade.

use super::reindex::Reindex;
use super::repair::Job;
use super::shared::Shared;
use crate::store::StoreError;
use recorder::Ending;
use std::sync::Weak;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Name of the mark in the registry.
const DONE: &str = "object-store-indexed";
/// Between attempts while the object store is away.
const MIN_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(60);

/// Whether the object store has to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Restoring {
    pub(super) is_due: bool,
    /// The registry knows no recording at all.
    pub(super) is_new: bool,
}

/// Returns whether the object store has to be read.
pub(super) async fn is_due(shared: &Shared) -> Result<Restoring, StoreError> {
    let is_due = shared.uploads.is_some() && !shared.store.is_done(DONE).await?;
    let is_new = is_due && shared.store.recording_totals().await?.count == 0;
    Ok(Restoring { is_due, is_new })
}

/// Reads the object store until that succeeds. Then unfinished recordings, `held` among them, are finished.
pub(super) async fn run(shared: Weak<Shared>, jobs: Sender<Job>, held: Vec<Job>) {
    let mut delay = MIN_DELAY;
    loop {
        let Some(shared) = shared.upgrade() else { return };
        for job in &held {
            shared.set_finishing(&job.id, true);
        }
        let objects = shared.uploads.as_ref().map(|uploads| uploads.objects().clone());
        let (store, directory) = (shared.store.clone(), shared.settings.folder.clone());
        // A server that stops does not wait for this.
        drop(shared);
        let reindex = Reindex { store: &store, objects: objects.as_ref(), directory: &directory };
        match reindex.run().await {
            Ok(found) => {
                let (added, unfinished, known) = (found.added, found.unfinished.len(), found.known);
                if added > 0 || unfinished > 0 {
                    tracing::info!(added, unfinished, known, "recordings of the object store indexed");
                }
                for (recording, reason) in &found.unreadable {
                    tracing::warn!(%recording, reason, "recording in the object store not indexed");
                }
                let found = found.unfinished.into_iter().map(|id| Job { id, ending: Ending::crash() });
                let more: Vec<Job> = found.filter(|job| held.iter().all(|held| held.id != job.id)).collect();
                for job in held.into_iter().chain(more) {
                    // When nobody takes it any more the process ends, and the next start finishes it.
                    let _ = jobs.send(job);
                }
                if let Err(error) = store.set_done(DONE).await {
                    tracing::warn!(%error, "object store indexed, but not marked so; the next start reads it again");
                }
                return;
            }
            Err(error) => {
                tracing::warn!(%error, retry_in = ?delay, "object store not indexed, retrying");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(MAX_DELAY);
            }
        }
    }
}
