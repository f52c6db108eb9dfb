//! The end of a recording, after a stream's end as after a crash: files finished, registry told.

use super::disk::RecordingFolder;
use super::error::{in_short, may_pass};
use super::measure::{self, Counted};
use super::repair::{Job, Work};
use super::shared::Shared;
use crate::control::{RoomName, StreamId};
use crate::store::{NewRecording, RecordingOutcome, RecordingState, StoreError};
use jiff::Timestamp;
use recorder::{Ending, FinalizeError, Manifest, MissingExports, finalize};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const NO_ROOM: &str = "recording.mp4 is not made: the disk has too little space";

/// Does what is to be done for a recording that nobody writes to any more. Blocks: it reads and writes all of it.
/// Gives what has to be tried again later.
pub(super) fn conclude(shared: &Shared, job: Job) -> Option<Job> {
    match &job.work {
        Work::Finish(ending) => {
            shared.set_finishing(&job.stream, true);
            let finished = finish(shared, &job.stream, ending);
            shared.set_finishing(&job.stream, finished.is_err());
            match finished {
                Ok(Some(missing)) => {
                    without_mp4(shared, &job.stream, &missing);
                    Some(Job { work: Work::Mp4, ..job })
                }
                Ok(None) => None,
                Err(Postponed) => Some(job),
            }
        }
        Work::Mp4 => make_mp4(shared, &job.stream).err().map(|Postponed| job),
    }
}

/// It cannot be done now, but may be later.
#[derive(Debug)]
struct Postponed;

fn finish(shared: &Shared, stream: &StreamId, ending: &Ending) -> Result<Option<MissingExports>, Postponed> {
    let _active = Counted::active(RecordingState::Finalising);
    if let Err(error) = shared.wait(shared.store.recording_finalising(stream)) {
        tracing::warn!(%stream, %error, "the registry does not know that a recording is being finished");
    }
    let mut folder = RecordingFolder::new(shared.folder(stream), shared.settings.min_free);
    folder.remove_temporaries();
    let finalized = catch_unwind(AssertUnwindSafe(|| finalize(&mut folder, ending)));
    match finalized {
        Ok(Ok(manifest)) => {
            shared.wait(finished(shared, stream, &manifest)).map_err(|error| {
                tracing::error!(%stream, %error, "a recording is finished, but the registry cannot be told yet");
                Postponed
            })?;
            shared.set_trouble(stream, None);
            upload(shared, stream);
            Ok(manifest.missing_exports)
        }
        Ok(Err(FinalizeError::Io { file, source })) if may_pass(source.kind()) => {
            folder.remove_temporaries();
            shared.set_trouble(stream, Some(in_short(source.kind())));
            tracing::error!(%stream, file, error = %source, "a recording cannot be finished yet; it is tried again");
            Err(Postponed)
        }
        Ok(Err(error)) => failed(shared, stream, trouble(&error), &error.to_string()).map(|()| None),
        Err(_) => failed(shared, stream, "its files cannot be read", "the recorder failed on them").map(|()| None),
    }
}

/// Makes the MP4 of a finished recording. It may be removed meanwhile.
fn make_mp4(shared: &Shared, stream: &StreamId) -> Result<(), Postponed> {
    let mut folder = RecordingFolder::new(shared.folder(stream), shared.settings.min_free);
    folder.remove_temporaries();
    // Of a finished recording it is in the manifest how it ended.
    match catch_unwind(AssertUnwindSafe(|| finalize(&mut folder, &Ending::crash()))) {
        Ok(Ok(Manifest { missing_exports: Some(missing), .. })) => {
            without_mp4(shared, stream, &missing);
            return Err(Postponed);
        }
        Ok(Ok(_)) => {
            tracing::info!(%stream, "the MP4 of a recording is made");
            // Its manifest is another one now.
            upload(shared, stream);
        }
        Ok(Err(FinalizeError::Io { source, .. })) if source.kind() == io::ErrorKind::NotFound => {}
        Ok(Err(FinalizeError::Io { source, .. })) if may_pass(source.kind()) => return Err(Postponed),
        Ok(Err(error)) => tracing::error!(%stream, %error, "a recording gets no MP4; its segments are whole"),
        Err(_) => tracing::error!(%stream, "a recording gets no MP4: the recorder failed on its segments"),
    }
    shared.set_trouble(stream, None);
    Ok(())
}

fn upload(shared: &Shared, stream: &StreamId) {
    if let Some(uploads) = &shared.uploads {
        uploads.recording_finished(stream);
    }
}

/// Told once, however often it is tried.
fn without_mp4(shared: &Shared, stream: &StreamId, missing: &MissingExports) {
    if shared.trouble(stream) == Some(NO_ROOM) {
        return;
    }
    shared.set_trouble(stream, Some(NO_ROOM));
    let MissingExports { needed, free, .. } = missing;
    let remedy = "free space, or delete recordings: it is then made by itself";
    tracing::warn!(%stream, needed, free, remedy, "a recording is finished without an MP4: the disk has too little space");
}

fn trouble(error: &FinalizeError) -> &'static str {
    match error {
        FinalizeError::Io { source, .. } if source.kind() != io::ErrorKind::NotFound => in_short(source.kind()),
        FinalizeError::Empty | FinalizeError::Io { .. } => "nothing playable was recorded",
        FinalizeError::Mp4 { .. } => "its files cannot be read",
    }
}

async fn finished(shared: &Shared, stream: &StreamId, manifest: &Manifest) -> Result<(), StoreError> {
    let Ok(room) = RoomName::parse(&manifest.description.room) else {
        tracing::warn!(%stream, room = manifest.description.room, "not listed: this is not a room's name");
        return Ok(());
    };
    let started_at = manifest.description.started_at;
    // Where the start could not be written, or the database is a new one.
    let new = NewRecording { stream: stream.clone(), room, path: stream.to_string(), started_at };
    shared.store.recording_started(&new).await?;
    let state = if manifest.repaired { RecordingState::Repaired } else { RecordingState::Complete };
    let outcome = RecordingOutcome {
        state,
        bytes: manifest.segments.iter().map(|segment| segment.bytes).sum(),
        duration: Duration::try_from_secs_f64(manifest.duration).unwrap_or_default(),
        gaps: manifest.gaps.len() as u64,
        ended_at: manifest.ended_at,
    };
    shared.store.recording_finished(stream, &outcome).await?;
    measure::finished(state);
    let RecordingOutcome { bytes, duration, gaps, .. } = outcome;
    tracing::info!(%stream, state = state.as_str(), bytes, seconds = duration.as_secs_f64(), gaps, "recording finished");
    Ok(())
}

fn failed(shared: &Shared, stream: &StreamId, trouble: &'static str, reason: &str) -> Result<(), Postponed> {
    let state = RecordingState::Failed;
    tracing::error!(%stream, reason, folder = %shared.folder(stream).display(), "a recording failed; its folder is left");
    shared.set_trouble(stream, Some(trouble));
    measure::finished(state);
    let outcome = RecordingOutcome { state, bytes: 0, duration: Duration::ZERO, gaps: 0, ended_at: Timestamp::now() };
    match shared.wait(shared.store.recording_finished(stream, &outcome)) {
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::error!(%stream, %error, "the registry cannot be told that a recording failed");
            Err(Postponed)
        }
    }
}
