//! Recordings: one a stream, with the stream's id. The recording plane writes these rows, HTTP reads them.

use super::{Store, StoreError};
use crate::control::{RoomName, StreamId};
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// Where a recording stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordingState {
    /// Parts are being written.
    Recording,
    /// The stream is over; playlist, manifest and MP4 are being made.
    Finalising,
    /// All is there, as it was written.
    Complete,
    /// All is there, after a crash: at most the last part is missing.
    Repaired,
    /// Nothing playable could be made of it.
    Failed,
}

/// A recording that begins.
#[derive(Clone, Debug)]
pub struct NewRecording {
    /// Its stream.
    pub stream: StreamId,
    /// The stream's room.
    pub room: RoomName,
    /// Folder below the recordings folder.
    pub path: String,
    /// When the first packet came.
    pub started_at: Timestamp,
}

/// What a recording became.
#[derive(Clone, Debug)]
pub struct RecordingOutcome {
    /// `Complete`, `Repaired` or `Failed`.
    pub state: RecordingState,
    /// Bytes of all segments.
    pub bytes: u64,
    /// From the first to the last frame's end, gaps included.
    pub duration: Duration,
    /// Gaps that are marked in it.
    pub gaps: u64,
    /// When the last packet came.
    pub ended_at: Timestamp,
}

/// A recording.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recording {
    /// Its stream, and its own id.
    #[schema(value_type = String)]
    pub stream: StreamId,
    /// The stream's room.
    #[schema(value_type = String)]
    pub room: RoomName,
    /// The account of the stream.
    pub account: Option<String>,
    /// The newest publisher's identity.
    pub publisher: Option<String>,
    /// Folder below the recordings folder.
    pub path: String,
    /// Where it stands.
    pub state: RecordingState,
    /// Bytes of all segments; 0 until it is over.
    pub bytes: u64,
    /// Milliseconds from the first to the last frame's end, gaps included; 0 until it is over.
    pub duration_ms: u64,
    /// Gaps that are marked in it.
    pub gaps: u64,
    /// When the first packet came.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When the last packet came.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
}

/// Which recordings to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct RecordingQuery {
    /// Only those in this state.
    pub state: Option<RecordingState>,
    /// Only those of this room.
    pub room: Option<RoomName>,
    /// At most so many; 0 means 100, and more than 500 means 500.
    pub limit: usize,
    /// Only those older than this one.
    pub before: Option<StreamId>,
}

impl Store {
    /// Notes that a recording began. Its stream need not be in the database yet. Again for the same stream (a server
    /// that found it after a crash): what is there is kept.
    pub async fn recording_started(&self, new: &NewRecording) -> Result<(), StoreError> {
        let _ = new;
        Err(StoreError)
    }

    /// Notes that no more comes and the files are being made.
    pub async fn recording_finalising(&self, stream: &StreamId) -> Result<(), StoreError> {
        let _ = stream;
        Err(StoreError)
    }

    /// Notes what became of it. `false` when there is no such recording.
    pub async fn recording_finished(&self, stream: &StreamId, outcome: &RecordingOutcome) -> Result<bool, StoreError> {
        let _ = (stream, outcome);
        Err(StoreError)
    }

    /// Lists recordings, newest first.
    pub async fn recordings(&self, query: &RecordingQuery) -> Result<Vec<Recording>, StoreError> {
        let _ = query;
        Err(StoreError)
    }

    /// One recording.
    pub async fn recording(&self, stream: &StreamId) -> Result<Option<Recording>, StoreError> {
        let _ = stream;
        Err(StoreError)
    }
}
