//! The index by time: which segments a recording has, where its gaps are, and what of a room lies in a stretch of time.

use super::recordings::{Recording, recording};
use super::{NewUpload, Store, StoreError, text, word};
use crate::control::{RecordingId, RoomName};
use jiff::Timestamp;
use recorder::index::SegmentIndex;
use recorder::{Gap, KnownSegment, Manifest, SegmentRecord};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

/// The index keeps this many gaps of a recording; its manifest lists all.
const MAX_GAPS: usize = 1000;

/// The index of a finished recording, as its row holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedIndex {
    segments: Vec<u8>,
    gaps: String,
}

impl FinishedIndex {
    /// Returns the index of a manifest.
    pub fn of(manifest: &Manifest) -> FinishedIndex {
        let gaps = &manifest.gaps[..manifest.gaps.len().min(MAX_GAPS)];
        FinishedIndex {
            segments: SegmentIndex::of_manifest(manifest).encode(),
            gaps: serde_json::to_string(gaps).unwrap_or_else(|_| "[]".to_owned()),
        }
    }
}

/// A recording of a room within a stretch of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// The registry's row.
    pub recording: Recording,
    /// At most 1000; none of a recording that is not finished.
    pub gaps: Vec<Gap>,
}

impl Store {
    /// Adds closed segments of recordings under way, in one transaction.
    pub async fn segments_closed(&self, closed: &[(RecordingId, SegmentRecord)]) -> Result<(), StoreError> {
        let write = async {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            for (id, record) in closed {
                let json = serde_json::to_string(record).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
                // One that was finished meanwhile has its segments in recording_index.
                sqlx::query(
                    "INSERT INTO open_segments (recording, number, record) SELECT ?1, ?2, ?3
                     WHERE NOT EXISTS (SELECT 1 FROM recording_index WHERE recording = ?1)
                     ON CONFLICT (recording, number) DO NOTHING",
                )
                .bind(id.as_str())
                .bind(i64::from(record.number))
                .bind(json)
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await
        };
        write.await.map_err(|e| self.error(e))
    }

    /// Returns the closed segments of a recording that is not finished, in order.
    pub async fn open_segments(&self, id: &RecordingId) -> Result<Vec<KnownSegment>, StoreError> {
        let found = sqlx::query("SELECT record, evicted FROM open_segments WHERE recording = ? ORDER BY number");
        let known = |row: &SqliteRow| {
            let record = word(row, "record", |json| serde_json::from_str(json).ok())?;
            Ok(KnownSegment { record, elsewhere: row.try_get::<i64, _>("evicted")? != 0 })
        };
        let found = found.bind(id.as_str()).fetch_all(&self.pool).await;
        found.and_then(|rows| rows.iter().map(known).collect()).map_err(|e| self.error(e))
    }

    /// Returns segments of recordings under way that are on the disk and verified in the object store, oldest upload first.
    pub async fn evictable_segments(&self, limit: usize) -> Result<Vec<(RecordingId, u32)>, StoreError> {
        let found = sqlx::query(
            "SELECT open_segments.recording, number FROM open_segments INDEXED BY open_segments_local
             JOIN uploads ON uploads.recording = open_segments.recording
                 AND uploads.file = printf('segment-%06d.m4s', number)
             JOIN recordings ON recordings.id = open_segments.recording
             WHERE evicted = 0 AND uploads.state = 'verified' AND recordings.state = 'recording'
             ORDER BY queued_at LIMIT ?",
        );
        let found = found.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(&self.pool).await;
        let read = |row: &SqliteRow| {
            let number = u32::try_from(row.try_get::<i64, _>("number")?).unwrap_or(0);
            Ok((word(row, "recording", RecordingId::parse)?, number))
        };
        found.and_then(|rows| rows.iter().map(read).collect()).map_err(|e| self.error(e))
    }

    /// Notes that a segment of a recording under way is about to leave the disk. Returns `false`, and notes nothing, if the
    /// recording is being finished: that reads these notes once, and takes a segment without one for lost if it is not on
    /// the disk.
    pub async fn segment_leaves_disk(&self, id: &RecordingId, number: u32) -> Result<bool, StoreError> {
        let update = sqlx::query(
            "UPDATE open_segments SET evicted = 1 WHERE recording = ?1 AND number = ?2
                 AND EXISTS (SELECT 1 FROM recordings WHERE id = ?1 AND state = 'recording')",
        );
        let done = update.bind(id.as_str()).bind(i64::from(number)).execute(&self.pool).await;
        done.map(|done| done.rows_affected() > 0).map_err(|e| self.error(e))
    }

    /// Notes that the object store alone has a segment. Returns whether it was noted: not of a recording that was finished
    /// or removed meanwhile.
    pub async fn segment_evicted(&self, id: &RecordingId, number: u32) -> Result<bool, StoreError> {
        let update = sqlx::query("UPDATE open_segments SET evicted = 1 WHERE recording = ? AND number = ?");
        let done = update.bind(id.as_str()).bind(i64::from(number)).execute(&self.pool).await;
        done.map(|done| done.rows_affected() > 0).map_err(|e| self.error(e))
    }

    /// Returns the index of a finished recording; none when there is no row yet.
    pub async fn recording_index(&self, id: &RecordingId) -> Result<Option<SegmentIndex>, StoreError> {
        let found = sqlx::query("SELECT segments FROM recording_index WHERE recording = ?").bind(id.as_str());
        let found = found.fetch_optional(&self.pool).await;
        // A row of a later version counts as missing: the manifest has everything.
        let read = |row: SqliteRow| Ok(SegmentIndex::decode(row.try_get("segments")?));
        found.and_then(|row| row.map(read).transpose()).map(Option::flatten).map_err(|e| self.error(e))
    }

    /// Sets the index of a finished recording that has none.
    pub async fn recording_indexed(&self, id: &RecordingId, index: &FinishedIndex) -> Result<(), StoreError> {
        let write = async {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            set_index(&mut transaction, id, index).await?;
            transaction.commit().await
        };
        write.await.map_err(|e| self.error(e))
    }

    /// Returns a room's recordings with media between two times, oldest first.
    pub async fn stretches(
        &self,
        room: &RoomName,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<Stretch>, StoreError> {
        // Recordings of a room follow each other: of those that started before `from` only the last one can reach it.
        let found = sqlx::query(
            "SELECT recordings.*, streams.account, streams.publisher, recording_index.gaps AS listed_gaps
             FROM recordings JOIN streams ON streams.id = recordings.stream
             LEFT JOIN recording_index ON recording_index.recording = recordings.id AND recordings.gaps > 0
             WHERE recordings.room = ?1 AND recordings.started_at <= ?3
                 AND recordings.started_at >= coalesce((
                     SELECT max(started_at) FROM recordings WHERE room = ?1 AND started_at <= ?2), ?2)
                 AND (recordings.ended_at IS NULL OR recordings.ended_at >= ?2) AND recordings.state <> 'failed'
             ORDER BY recordings.started_at LIMIT ?4",
        )
        .bind(room.as_str())
        .bind(text(from))
        .bind(text(to))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await;
        let read = |row: &SqliteRow| {
            let gaps: Option<String> = row.try_get("listed_gaps")?;
            let gaps = gaps.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
            Ok(Stretch { recording: recording(row)?, gaps })
        };
        found.and_then(|rows| rows.iter().map(read).collect()).map_err(|e| self.error(e))
    }

    /// Returns whether anything was ever recorded in a room, as far as the registry knows.
    pub async fn has_recordings(&self, room: &RoomName) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT 1 FROM recordings WHERE room = ? LIMIT 1").bind(room.as_str());
        found.fetch_optional(&self.pool).await.map(|row| row.is_some()).map_err(|e| self.error(e))
    }
}

impl Store {
    /// Adds files that the object store was found to hold. `gaps`: those of the manifest, when it holds all of the recording;
    /// then its directory is not on the disk.
    pub async fn adopt_stored(
        &self,
        id: &RecordingId,
        room: &RoomName,
        files: &[NewUpload],
        gaps: Option<&[Gap]>,
    ) -> Result<(), StoreError> {
        let write = async {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            super::uploads::adopt(&mut transaction, id, room, files).await?;
            if let Some(gaps) = gaps {
                let now = text(Timestamp::now());
                let gaps = serde_json::to_string(&gaps[..gaps.len().min(MAX_GAPS)])
                    .map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
                sqlx::query(
                    "INSERT INTO stored_recordings (recording, gaps, committed_at) VALUES (?, ?, ?)
                     ON CONFLICT (recording) DO NOTHING",
                )
                .bind(id.as_str())
                .bind(gaps)
                .bind(&now)
                .execute(&mut *transaction)
                .await?;
                // By itself: the totals count updates.
                let update = sqlx::query("UPDATE stored_recordings SET evicted_at = ? WHERE recording = ?");
                update.bind(&now).bind(id.as_str()).execute(&mut *transaction).await?;
            }
            transaction.commit().await
        };
        write.await.map_err(|e| self.error(e))
    }

    /// Returns whether something was done once for this registry.
    pub async fn is_done(&self, name: &str) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT 1 FROM maintenance WHERE name = ?").bind(name).fetch_optional(&self.pool).await;
        found.map(|row| row.is_some()).map_err(|e| self.error(e))
    }

    /// Notes that something was done once for this registry.
    pub async fn set_done(&self, name: &str) -> Result<(), StoreError> {
        let insert = sqlx::query("INSERT INTO maintenance (name, done_at) VALUES (?, ?) ON CONFLICT (name) DO NOTHING");
        let insert = insert.bind(name).bind(text(Timestamp::now())).execute(&self.pool);
        insert.await.map(drop).map_err(|e| self.error(e))
    }
}

/// Sets the index of a recording that is finished: its open segments are part of it.
pub(super) async fn set_index(
    connection: &mut SqliteConnection,
    id: &RecordingId,
    index: &FinishedIndex,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE recordings SET evicted_segments = (
             SELECT count(*) FROM open_segments WHERE recording = ?1 AND evicted = 1)
         WHERE id = ?1 AND EXISTS (SELECT 1 FROM open_segments WHERE recording = ?1)",
    )
    .bind(id.as_str())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO recording_index (recording, segments, gaps) VALUES (?, ?, ?)
         ON CONFLICT (recording) DO UPDATE SET segments = excluded.segments, gaps = excluded.gaps",
    )
    .bind(id.as_str())
    .bind(&index.segments)
    .bind(&index.gaps)
    .execute(&mut *connection)
    .await?;
    let delete = sqlx::query("DELETE FROM open_segments WHERE recording = ?").bind(id.as_str());
    delete.execute(connection).await.map(drop)
}

/// Deletes the index of a recording.
pub(super) async fn delete_index(connection: &mut SqliteConnection, id: &RecordingId) -> Result<(), sqlx::Error> {
    for delete in ["DELETE FROM recording_index WHERE recording = ?", "DELETE FROM open_segments WHERE recording = ?"] {
        sqlx::query(delete).bind(id.as_str()).execute(&mut *connection).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
