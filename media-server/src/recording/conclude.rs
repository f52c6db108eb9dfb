//! The end of a recording, after a stream's end as after a crash: files finished, registry told.

use super::disk::RecordingFolder;
use super::error::{in_short, may_pass};
use super::measure::{self, Counted};
use super::reindex::{new_recording, outcome};
use super::repair::Job;
use super::shared::Shared;
use crate::control::{RecordingId, RoomName};
use crate::store::{RecordingOutcome, RecordingState, StoreError};
use jiff::Timestamp;
use recorder::{Ending, FinalizeError, Manifest, finalize};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Finishes a recording that nobody writes to any more. Blocks: it reads what is not in the index. Returns the job when it
/// has to be tried again later.
pub(super) fn conclude(shared: &Shared, job: Job) -> Option<Job> {
    shared.set_finishing(&job.id, true);
    let finished = finish(shared, &job.id, &job.ending);
    shared.set_finishing(&job.id, finished.is_err());
    finished.err().map(|Postponed| job)
}

/// It cannot be done now, but may be later.
#[derive(Debug)]
struct Postponed;

fn finish(shared: &Shared, id: &RecordingId, ending: &Ending) -> Result<(), Postponed> {
    let _active = Counted::active(RecordingState::Finalising);
    if let Err(error) = shared.wait(shared.store.recording_finalising(id)) {
        tracing::warn!(recording = %id, %error, "the registry does not know that a recording is being finished");
    }
    let known = shared.wait(shared.store.open_segments(id)).map_err(|error| {
        tracing::error!(recording = %id, %error, "index of a recording not read, finishing is tried again");
        Postponed
    })?;
    let mut folder = RecordingFolder::new(shared.folder(id), shared.settings.min_free);
    folder.remove_temporaries();
    let finalized = catch_unwind(AssertUnwindSafe(|| finalize(&mut folder, ending, &known)));
    match finalized {
        Ok(Ok(manifest)) => {
            shared.wait(finished(shared, id, &manifest)).map_err(|error| {
                tracing::error!(recording = %id, %error, "a recording is finished, but the registry cannot be told yet");
                Postponed
            })?;
            shared.set_trouble(id, None);
            if let Some(uploads) = &shared.uploads {
                uploads.recording_finished(id);
            }
            Ok(())
        }
        Ok(Err(FinalizeError::Io { file, source })) if may_pass(source.kind()) => {
            folder.remove_temporaries();
            shared.set_trouble(id, Some(in_short(source.kind())));
            tracing::error!(recording = %id, file, error = %source, "a recording cannot be finished yet; it is tried again");
            Err(Postponed)
        }
        Ok(Err(error)) => failed(shared, id, trouble(&error), &error.to_string()),
        Err(_) => failed(shared, id, "its files cannot be read", "the recorder failed on them"),
    }
}

fn trouble(error: &FinalizeError) -> &'static str {
    match error {
        FinalizeError::Io { source, .. } if source.kind() != io::ErrorKind::NotFound => in_short(source.kind()),
        FinalizeError::Empty | FinalizeError::Io { .. } => "nothing playable was recorded",
        FinalizeError::Mp4 { .. } => "its files cannot be read",
    }
}

async fn finished(shared: &Shared, id: &RecordingId, manifest: &Manifest) -> Result<(), StoreError> {
    let Ok(room) = RoomName::parse(&manifest.description.room) else {
        tracing::warn!(recording = %id, room = manifest.description.room, "not listed: this is not a room's name");
        return Ok(());
    };
    // Where the start could not be written, or the database is a new one.
    shared.store.recording_started(&new_recording(id, &room, &manifest.description)).await?;
    let outcome = outcome(manifest);
    shared.store.recording_finished(id, &outcome).await?;
    measure::finished(outcome.state);
    let RecordingOutcome { state, bytes, duration, gaps, .. } = outcome;
    tracing::info!(recording = %id, state = state.as_str(), bytes, seconds = duration.as_secs_f64(), gaps, "recording finished");
    Ok(())
}

fn failed(shared: &Shared, id: &RecordingId, trouble: &'static str, reason: &str) -> Result<(), Postponed> {
    let state = RecordingState::Failed;
    tracing::error!(recording = %id, reason, folder = %shared.folder(id).display(), "a recording failed; its folder is left");
    shared.set_trouble(id, Some(trouble));
    measure::finished(state);
    let outcome = RecordingOutcome {
        state,
        bytes: 0,
        duration: Duration::ZERO,
        gaps: 0,
        ended_at: Timestamp::now(),
        index: None,
    };
    match shared.wait(shared.store.recording_finished(id, &outcome)) {
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::error!(recording = %id, %error, "the registry cannot be told that a recording failed");
            Err(Postponed)
        }
    }
}
