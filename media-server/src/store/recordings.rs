//! Recordings: a stream has one after the other. The recording plane writes these rows, HTTP reads them.

use super::segments::{FinishedIndex, delete_index, set_index};
use super::{Store, StoreError, optional_time, rows, text, time, word};
use crate::control::{RecordingId, RoomName, StreamId};
use jiff::Timestamp;
use recorder::Gap;
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
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

impl RecordingState {
    /// `recording`, `finalising`, `complete`, `repaired` or `failed`.
    pub fn as_str(self) -> &'static str {
        match self {
            RecordingState::Recording => "recording",
            RecordingState::Finalising => "finalising",
            RecordingState::Complete => "complete",
            RecordingState::Repaired => "repaired",
            RecordingState::Failed => "failed",
        }
    }

    /// The reverse of [`RecordingState::as_str`].
    pub fn parse(text: &str) -> Option<RecordingState> {
        use RecordingState::{Complete, Failed, Finalising, Recording, Repaired};
        [Recording, Finalising, Complete, Repaired, Failed].into_iter().find(|state| state.as_str() == text)
    }
}

/// A recording that begins.
#[derive(Clone, Debug)]
pub struct NewRecording {
    /// Its id.
    pub id: RecordingId,
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
    /// Its segments and gaps; none of a recording that failed.
    pub index: Option<FinishedIndex>,
}

/// A recording.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recording {
    /// Its id.
    #[schema(value_type = String)]
    pub id: RecordingId,
    /// Its stream.
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

/// A recording in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedRecording {
    /// The registry's row.
    pub recording: Recording,
    /// The first 1000 gaps; none when there are no gaps, or the recording has no index yet.
    pub gaps: Option<Vec<Gap>>,
    /// The object store has all of it, verified.
    pub stored: bool,
}

/// All recordings, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordingTotals {
    /// Recordings, those under way included.
    pub count: u64,
    /// Bytes of those that are over.
    pub bytes: u64,
    /// Start of the oldest.
    pub oldest: Option<Timestamp>,
}

/// Which recordings to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct RecordingQuery {
    /// Only those in this state.
    pub state: Option<RecordingState>,
    /// Only those of this room.
    pub room: Option<RoomName>,
    /// Only those with media at this time or later.
    pub from: Option<Timestamp>,
    /// Only those with media at this time or earlier.
    pub to: Option<Timestamp>,
    /// At most so many; 0 means 100, and more than 500 means 500.
    pub limit: usize,
    /// Only those older than this one.
    pub before: Option<RecordingId>,
}

impl Store {
    /// Notes that a recording began. Its stream need not be in the database yet. Again for the same recording (a server
    /// that found it after a crash): what is there is kept.
    pub async fn recording_started(&self, new: &NewRecording) -> Result<(), StoreError> {
        let write = async {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            // The control plane's own write of the stream is still on its way, or was lost with a crash.
            sqlx::query(
                "INSERT INTO streams (id, room, owner, state, ahead, created_at, started_at, seen_at)
                 VALUES (?1, ?2, '', 'live', 0, ?3, ?3, ?3) ON CONFLICT (id) DO NOTHING",
            )
            .bind(new.stream.as_str())
            .bind(new.room.as_str())
            .bind(text(new.started_at))
            .execute(&mut *transaction)
            .await?;
            sqlx::query(
                "INSERT INTO recordings (id, stream, room, path, state, started_at) VALUES (?, ?, ?, ?, 'recording', ?)
                 ON CONFLICT (id) DO NOTHING",
            )
            .bind(new.id.as_str())
            .bind(new.stream.as_str())
            .bind(new.room.as_str())
            .bind(&new.path)
            .bind(text(new.started_at))
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await
        };
        write.await.map_err(|e| self.error(e))
    }

    /// Notes that no more comes and the files are being made.
    pub async fn recording_finalising(&self, id: &RecordingId) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE recordings SET state = 'finalising' WHERE id = ? AND state = 'recording'");
        update.bind(id.as_str()).execute(&self.pool).await.map(drop).map_err(|e| self.error(e))
    }

    /// Sets the outcome and the index of a recording. Returns `false` when there is no such recording.
    pub async fn recording_finished(&self, id: &RecordingId, outcome: &RecordingOutcome) -> Result<bool, StoreError> {
        let write = async {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            if let Some(index) = &outcome.index {
                set_index(&mut transaction, id, index).await?;
            }
            let update = sqlx::query(
                "UPDATE recordings SET state = ?, bytes = ?, duration_ms = ?, gaps = ?, ended_at = ? WHERE id = ?",
            );
            let updated = update
                .bind(outcome.state.as_str())
                .bind(signed(outcome.bytes))
                .bind(i64::try_from(outcome.duration.as_millis()).unwrap_or(i64::MAX))
                .bind(signed(outcome.gaps))
                .bind(text(outcome.ended_at))
                .bind(id.as_str())
                .execute(&mut *transaction)
                .await?
                .rows_affected();
            transaction.commit().await?;
            Ok(updated > 0)
        };
        write.await.map_err(|e| self.error(e))
    }

    /// Forgets a recording; its stream stays in the books. What an object store has of it is to be removed from then on.
    /// `false` when there is none.
    pub async fn recording_removed(&self, id: &RecordingId) -> Result<bool, StoreError> {
        let write = async {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            super::uploads::forget(&mut transaction, id).await?;
            delete_index(&mut transaction, id).await?;
            let delete = sqlx::query("DELETE FROM recordings WHERE id = ?").bind(id.as_str());
            let deleted = delete.execute(&mut *transaction).await?.rows_affected() > 0;
            transaction.commit().await?;
            Ok(deleted)
        };
        write.await.map_err(|e| self.error(e))
    }

    /// Lists recordings, newest first.
    pub async fn recordings(&self, query: &RecordingQuery) -> Result<Vec<Recording>, StoreError> {
        let listed = self.listed_recordings(query).await?;
        Ok(listed.into_iter().map(|listed| listed.recording).collect())
    }

    /// Lists recordings, newest first, with what the index and the upload journal know of them.
    pub async fn listed_recordings(&self, query: &RecordingQuery) -> Result<Vec<ListedRecording>, StoreError> {
        // With a room, its own index is read: the planner does not see through "is null or".
        let room = match query.room {
            Some(_) => "recordings INDEXED BY recordings_by_room",
            None => "recordings",
        };
        let only_room = if query.room.is_some() { "recordings.room = ?2" } else { "?2 IS NULL" };
        let sql = format!(
            "SELECT recordings.*, streams.account, streams.publisher, recording_index.gaps AS listed_gaps,
                 stored_recordings.committed_at IS NOT NULL AS stored
             FROM {room} JOIN streams ON streams.id = recordings.stream
             LEFT JOIN recording_index ON recording_index.recording = recordings.id AND recordings.gaps > 0
             LEFT JOIN stored_recordings ON stored_recordings.recording = recordings.id
             WHERE {only_room} AND (?1 IS NULL OR recordings.state = ?1)
                 AND (?3 IS NULL OR recordings.id < ?3)
                 AND (?5 IS NULL OR recordings.ended_at IS NULL OR recordings.ended_at >= ?5)
                 AND (?6 IS NULL OR recordings.started_at <= ?6)
             ORDER BY recordings.id DESC LIMIT ?4"
        );
        let found = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(query.state.map(RecordingState::as_str))
            .bind(query.room.as_ref().map(RoomName::as_str))
            .bind(query.before.as_ref().map(RecordingId::as_str))
            .bind(rows(query.limit))
            .bind(query.from.map(text))
            .bind(query.to.map(text))
            .fetch_all(&self.pool)
            .await;
        found.and_then(|rows| rows.iter().map(listed).collect()).map_err(|e| self.error(e))
    }

    /// All of them, in numbers.
    pub async fn recording_totals(&self) -> Result<RecordingTotals, StoreError> {
        let totals = sqlx::query(
            "SELECT count(*) AS count, coalesce(sum(bytes), 0) AS bytes, min(started_at) AS oldest FROM recordings",
        );
        let row = totals.fetch_one(&self.pool).await;
        let read = |row: SqliteRow| {
            Ok(RecordingTotals {
                count: unsigned(row.try_get("count")?),
                bytes: unsigned(row.try_get("bytes")?),
                oldest: optional_time(&row, "oldest")?,
            })
        };
        row.and_then(read).map_err(|e| self.error(e))
    }

    /// How many are being recorded, or finished, or wait for that.
    pub async fn recordings_unfinished(&self) -> Result<u64, StoreError> {
        let found = sqlx::query_scalar("SELECT count(*) FROM recordings WHERE state IN ('recording', 'finalising')");
        found.fetch_one(&self.pool).await.map(unsigned).map_err(|e| self.error(e))
    }

    /// Returns a recording.
    pub async fn recording(&self, id: &RecordingId) -> Result<Option<Recording>, StoreError> {
        Ok(self.listed_recording(id).await?.map(|listed| listed.recording))
    }

    /// Returns a recording with what the index and the upload journal know of it.
    pub async fn listed_recording(&self, id: &RecordingId) -> Result<Option<ListedRecording>, StoreError> {
        let found = sqlx::query(
            "SELECT recordings.*, streams.account, streams.publisher, recording_index.gaps AS listed_gaps,
                 stored_recordings.committed_at IS NOT NULL AS stored
             FROM recordings JOIN streams ON streams.id = recordings.stream
             LEFT JOIN recording_index ON recording_index.recording = recordings.id AND recordings.gaps > 0
             LEFT JOIN stored_recordings ON stored_recordings.recording = recordings.id
             WHERE recordings.id = ?",
        )
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await;
        found.and_then(|row| row.as_ref().map(listed).transpose()).map_err(|e| self.error(e))
    }
}

fn listed(row: &SqliteRow) -> Result<ListedRecording, sqlx::Error> {
    let gaps: Option<String> = row.try_get("listed_gaps")?;
    Ok(ListedRecording {
        recording: recording(row)?,
        gaps: gaps.and_then(|json| serde_json::from_str(&json).ok()),
        stored: row.try_get::<i64, _>("stored")? != 0,
    })
}

pub(super) fn recording(row: &SqliteRow) -> Result<Recording, sqlx::Error> {
    Ok(Recording {
        id: word(row, "id", RecordingId::parse)?,
        stream: word(row, "stream", StreamId::parse)?,
        room: word(row, "room", |name| RoomName::parse(name).ok())?,
        account: row.try_get("account")?,
        publisher: row.try_get("publisher")?,
        path: row.try_get("path")?,
        state: word(row, "state", RecordingState::parse)?,
        bytes: unsigned(row.try_get("bytes")?),
        duration_ms: unsigned(row.try_get("duration_ms")?),
        gaps: unsigned(row.try_get("gaps")?),
        started_at: time(row, "started_at")?,
        ended_at: optional_time(row, "ended_at")?,
    })
}

/// SQLite's integers have a sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::streams::tests::{at, row};
    use super::*;
    use crate::control::StreamState;
    use crate::store::Change;

    fn new(stream: StreamId) -> NewRecording {
        let id = RecordingId::first_of(&stream);
        NewRecording { id, room: RoomName::parse("r").unwrap(), path: stream.to_string(), stream, started_at: at(1) }
    }

    #[tokio::test]
    async fn a_recording_is_kept_from_start_to_end() {
        let store = Store::in_memory().await.unwrap();
        let stream = row("r", StreamState::Live);
        let id = RecordingId::first_of(&stream.id);
        store.apply(&[Change::Stream(Box::new(stream.clone()))]).await.unwrap();
        store.recording_started(&new(stream.id.clone())).await.unwrap();
        let unfinished = RecordingQuery { state: Some(RecordingState::Recording), ..RecordingQuery::default() };
        assert_eq!(store.recordings(&unfinished).await.unwrap().len(), 1);
        store.recording_finalising(&id).await.unwrap();
        let outcome = RecordingOutcome {
            state: RecordingState::Complete,
            bytes: 5_000_000_000,
            duration: Duration::from_millis(1500),
            gaps: 2,
            ended_at: at(3),
            index: None,
        };
        assert!(store.recording_finished(&id, &outcome).await.unwrap());
        assert!(store.recordings(&unfinished).await.unwrap().is_empty());
        let kept = store.recording(&id).await.unwrap().unwrap();
        assert_eq!((kept.state, kept.bytes, kept.duration_ms, kept.gaps), (outcome.state, 5_000_000_000, 1500, 2));
        assert_eq!((kept.publisher.as_deref(), kept.ended_at), (Some("camera"), Some(at(3))));
    }

    #[tokio::test]
    async fn a_recording_may_be_written_before_its_stream() {
        let store = Store::in_memory().await.unwrap();
        let stream = row("r", StreamState::Live);
        store.recording_started(&new(stream.id.clone())).await.unwrap();
        store.recording_started(&new(stream.id.clone())).await.unwrap();
        store.apply(&[Change::Stream(Box::new(stream.clone()))]).await.unwrap();
        assert_eq!(store.stream(&stream.id).await.unwrap().unwrap(), stream);
        assert_eq!(store.recordings(&RecordingQuery::default()).await.unwrap()[0].account.as_deref(), Some("acme"));
    }

    #[tokio::test]
    async fn stream_lists_its_recordings_newest_first() {
        let store = Store::in_memory().await.unwrap();
        let stream = row("r", StreamState::Live).id;
        let ids = [RecordingId::first_of(&stream), RecordingId::random(), RecordingId::random()];
        for id in &ids {
            let path = id.to_string();
            store.recording_started(&NewRecording { id: id.clone(), path, ..new(stream.clone()) }).await.unwrap();
        }
        let listed = store.recordings(&RecordingQuery::default()).await.unwrap();
        let listed: Vec<_> = listed.into_iter().map(|recording| (recording.id, recording.stream)).collect();
        let newest_first: Vec<_> = ids.into_iter().rev().map(|id| (id, stream.clone())).collect();
        assert_eq!(listed, newest_first);
    }

    #[tokio::test]
    async fn time_range_lists_recordings_with_media_in_it() {
        let store = Store::in_memory().await.unwrap();
        let stream = row("r", StreamState::Live).id;
        // Three in turn, of ten seconds each; the last one runs.
        let ids = [RecordingId::first_of(&stream), RecordingId::random(), RecordingId::random()];
        for (n, id) in (0..).zip(&ids) {
            let (path, started_at) = (id.to_string(), at(10 * n));
            store
                .recording_started(&NewRecording { id: id.clone(), path, started_at, ..new(stream.clone()) })
                .await
                .unwrap();
            if n < 2 {
                let (state, duration, ended_at) = (RecordingState::Complete, Duration::from_secs(9), at(10 * n + 9));
                let outcome = RecordingOutcome { state, bytes: 1, duration, gaps: 0, ended_at, index: None };
                store.recording_finished(id, &outcome).await.unwrap();
            }
        }
        for (from, to, expected) in [
            (Some(0), Some(0), &ids[..1]),
            (Some(5), Some(12), &ids[..2]),
            (Some(10), None, &ids[1..]),
            (None, Some(19), &ids[..2]),
            (Some(1000), Some(2000), &ids[2..]),
        ] {
            let query = RecordingQuery { from: from.map(at), to: to.map(at), ..RecordingQuery::default() };
            let mut found: Vec<_> = store.recordings(&query).await.unwrap().into_iter().map(|found| found.id).collect();
            found.reverse();
            assert_eq!(found, expected, "{from:?} to {to:?}");
        }
    }

    #[tokio::test]
    async fn finishing_what_never_began_is_told() {
        let store = Store::in_memory().await.unwrap();
        let outcome = RecordingOutcome {
            state: RecordingState::Failed,
            bytes: 0,
            duration: Duration::ZERO,
            gaps: 0,
            ended_at: at(3),
            index: None,
        };
        assert!(!store.recording_finished(&RecordingId::random(), &outcome).await.unwrap());
    }
}
