//! What an earlier process left: looked for once at the start, finished in the background, newest first. And what could
//! not be finished for want of space, tried again every while.

use super::conclude::conclude;
use super::error::RecordingError;
use super::shared::Shared;
use crate::control::RecordingId;
use crate::store::{RecordingQuery, RecordingState, StoreError};
use recorder::{Ending, File};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

/// Begins the names of folders that are being removed.
const REMOVED: &str = ".removed-";

/// A recording that nobody writes to any more, and that is to be finished.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Job {
    pub(super) id: RecordingId,
    pub(super) ending: Ending,
}

/// What lay in the recordings folder at the start.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    recordings: BTreeSet<RecordingId>,
    removed: Vec<PathBuf>,
}

/// Where a recording's folder goes before its files are removed one by one.
pub(super) fn removed(folder: &Path, id: &RecordingId) -> PathBuf {
    folder.join(format!("{REMOVED}{id}"))
}

/// Looks only at names. Anything that is not ours is passed over.
pub(super) fn leftovers(folder: &Path) -> Result<Leftovers, RecordingError> {
    let failed = |source| RecordingError::Folder { path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    if let Some(parent) = folder.canonicalize().ok().as_deref().and_then(Path::parent) {
        // Where that is not allowed the folder was not made by us either.
        let _ = fs::File::open(parent).and_then(|parent| parent.sync_all());
    }
    let mut found = Leftovers::default();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if let Some(id) = RecordingId::parse(&name) {
            found.recordings.insert(id);
        } else if name.strip_prefix(REMOVED).and_then(RecordingId::parse).is_some() {
            found.removed.push(entry.path());
        }
    }
    Ok(found)
}

/// What has to be looked at: every folder, and every recording that the registry takes for unfinished. From now on those
/// count as being finished, not as being recorded.
pub(super) async fn jobs(shared: &Shared, leftovers: Leftovers) -> Result<Vec<Job>, RecordingError> {
    let Leftovers { mut recordings, removed } = leftovers;
    for path in removed {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(REMOVED));
        if let Some(id) = name.and_then(RecordingId::parse) {
            shared.store.recording_removed(&id).await?;
        }
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(folder = %path.display(), %error, "a removed recording's files stay");
        }
    }
    for state in [RecordingState::Recording, RecordingState::Finalising] {
        for id in unfinished(shared, state).await? {
            shared.store.recording_finalising(&id).await?;
            recordings.insert(id);
        }
    }
    Ok(recordings.into_iter().rev().map(|id| Job { id, ending: Ending::crash() }).collect())
}

async fn unfinished(shared: &Shared, state: RecordingState) -> Result<Vec<RecordingId>, StoreError> {
    let mut found = Vec::new();
    loop {
        let query =
            RecordingQuery { state: Some(state), limit: 500, before: found.last().cloned(), ..Default::default() };
        let page = shared.store.recordings(&query).await?;
        let last = page.len() < 500;
        found.extend(page.into_iter().map(|recording| recording.id));
        if last {
            return Ok(found);
        }
    }
}

/// Works through `jobs` and those received from `more`, and retries postponed ones, until all senders are gone.
pub(super) fn run(shared: &Shared, jobs: Vec<Job>, more: &Receiver<Job>) {
    let work = |job| to_do(shared, job).and_then(|job| conclude(shared, job));
    let mut waiting: Vec<_> = jobs.into_iter().filter_map(work).collect();
    loop {
        let retry_at = Instant::now() + shared.settings.finish_retry;
        loop {
            match more.recv_timeout(retry_at.saturating_duration_since(Instant::now())) {
                Ok(job) => waiting.extend(conclude(shared, job)),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        waiting = waiting.into_iter().filter_map(|job| conclude(shared, job)).collect();
    }
}

/// Returns the job of a recording that an earlier process left unfinished. A finished one may have left the disk since the
/// directories were listed: then the store holds it.
fn to_do(shared: &Shared, job: Job) -> Option<Job> {
    let has = |file: File| shared.folder(&job.id).join(file.to_string()).is_file();
    let row = shared.wait(shared.store.recording(&job.id));
    let known = row.is_ok_and(|row| {
        row.is_some_and(|row| matches!(row.state, RecordingState::Complete | RecordingState::Repaired))
    });
    // In this order: an eviction takes the directory with its manifest.
    let done = known && (has(File::Manifest) || !shared.folder(&job.id).exists());
    (!done).then_some(job)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{RoomName, StreamId};
    use crate::recording::RecordingSettings;
    use crate::store::{NewRecording, RecordingOutcome, Store};
    use jiff::Timestamp;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::runtime::Handle;

    #[test]
    fn only_folders_of_recordings_are_found() {
        let place = tempfile::tempdir().unwrap();
        let (mine, gone) = (RecordingId::random(), RecordingId::random());
        fs::create_dir(place.path().join(mine.as_str())).unwrap();
        fs::create_dir(removed(place.path(), &gone)).unwrap();
        for name in ["lost+found", ".removed-me", "holiday"] {
            fs::create_dir(place.path().join(name)).unwrap();
        }
        fs::write(place.path().join(RecordingId::random().as_str()), "a file").unwrap();
        let found = leftovers(place.path()).unwrap();
        assert_eq!(found.recordings, BTreeSet::from([mine]));
        assert_eq!(found.removed, [removed(place.path(), &gone)]);
    }
    #[tokio::test(flavor = "multi_thread")]
    async fn finished_recording_evicted_after_listing_needs_no_repair() {
        let place = tempfile::tempdir().unwrap();
        let (store, id, now) = (Store::in_memory().await.unwrap(), RecordingId::random(), Timestamp::now());
        let new = NewRecording {
            path: id.to_string(),
            id: id.clone(),
            stream: StreamId::random(),
            room: RoomName::parse("gate").unwrap(),
            started_at: now,
        };
        store.recording_started(&new).await.unwrap();
        let outcome = RecordingOutcome {
            state: RecordingState::Complete,
            bytes: 1,
            duration: Duration::from_secs(1),
            gaps: 0,
            ended_at: now,
            index: None,
        };
        store.recording_finished(&id, &outcome).await.unwrap();
        let settings = RecordingSettings::new(place.path(), Duration::from_secs(10));
        let shared = Arc::new(Shared::new(settings, store, None, Handle::current()));
        let needs_repair = || {
            let (shared, job) = (Arc::clone(&shared), Job { id: id.clone(), ending: Ending::crash() });
            tokio::task::spawn_blocking(move || to_do(&shared, job).is_some())
        };
        assert!(!needs_repair().await.unwrap(), "it has left the disk");
        fs::create_dir(place.path().join(id.as_str())).unwrap();
        assert!(needs_repair().await.unwrap(), "its manifest is missing");
        fs::write(place.path().join(id.as_str()).join("manifest.json"), "{}").unwrap();
        assert!(!needs_repair().await.unwrap());
    }
}
