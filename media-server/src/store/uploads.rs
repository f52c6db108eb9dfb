//! The journal of uploads: which file goes to the object store, how far it has got, and what is to be removed there.
//!
//! It alone decides: a file whose row says verified is in the store, a recording whose manifest is verified is there as a
//! whole. A row is written before what it tells of is relied upon, so that after a crash at worst something is done again.
//! It describes one store, by name (`identity`).

mod due;
mod identity;

pub use identity::StoreChange;

use super::{Store, StoreError, text, word};
use crate::control::{RecordingId, RoomName};
use crate::objects::Digest;
use jiff::Timestamp;
use recorder::{File, Gap};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, SqliteConnection};

/// Most gaps that are kept of a recording; its manifest has all.
const GAPS: usize = 1000;

/// A file that is to be in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUpload {
    /// Its name.
    pub file: File,
    /// Bytes.
    pub bytes: u64,
    /// Of its contents.
    pub sha256: Digest,
}

/// How far a file has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadState {
    /// It is to be put.
    Pending,
    /// A PUT was answered.
    Uploaded,
    /// The store has shown that it holds it.
    Verified,
}

impl UploadState {
    fn parse(text: &str) -> Option<UploadState> {
        match text {
            "pending" => Some(UploadState::Pending),
            "uploaded" => Some(UploadState::Uploaded),
            "verified" => Some(UploadState::Verified),
            _ => None,
        }
    }
}

/// A row of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Of which recording.
    pub recording: RecordingId,
    /// Which of its files.
    pub file: File,
    /// Below the session's prefix.
    pub key: String,
    /// Bytes.
    pub bytes: u64,
    /// Of its contents.
    pub sha256: Digest,
    /// How far it has got.
    pub state: UploadState,
    /// How often it failed.
    pub attempts: u32,
}

/// Objects that are to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The recording that they were of.
    pub recording: RecordingId,
    /// What their keys begin with.
    pub prefix: String,
    /// How often it failed.
    pub attempts: u32,
}

/// What waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadBacklog {
    /// Files.
    pub files: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Finished recordings that are not wholly in the store.
    pub recordings: u64,
    /// Deleted recordings that may still have objects.
    pub removals: u64,
    /// Since when the file waits that waits longest.
    pub oldest: Option<Timestamp>,
    /// Recordings that have left the disk.
    pub evicted: u64,
    /// Of those, recordings that another store than the present one holds.
    pub elsewhere: u64,
    /// Of those, recordings in the managed store, on this volume.
    pub elsewhere_on_volume: u64,
}

/// What a recording's keys begin with, below the session's prefix.
pub fn key_prefix(room: &RoomName, recording: &RecordingId) -> String {
    format!("{room}/{recording}/")
}

impl Store {
    /// Notes that a file is to be uploaded. One that is known already, with the same contents, stays as it is.
    pub async fn upload_queued(
        &self,
        recording: &RecordingId,
        room: &RoomName,
        new: &NewUpload,
    ) -> Result<(), StoreError> {
        let write = async {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            queue(&mut transaction, recording, room, new).await?;
            update_ready(&mut transaction, recording).await?;
            transaction.commit().await
        };
        write.await.map_err(|e| self.error(e))
    }

    /// Notes that a recording is finished and consists of these files. What was noted of others is forgotten.
    pub async fn upload_recording(
        &self,
        recording: &RecordingId,
        room: &RoomName,
        files: &[NewUpload],
        gaps: &[Gap],
    ) -> Result<(), StoreError> {
        let write = async {
            let gaps = serde_json::to_string(&gaps[..gaps.len().min(GAPS)])
                .map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            for file in files {
                queue(&mut transaction, recording, room, file).await?;
            }
            let known = sqlx::query("SELECT file FROM uploads WHERE recording = ?").bind(recording.as_str());
            for row in known.fetch_all(&mut *transaction).await? {
                let file = word(&row, "file", |name| name.parse::<File>().ok())?;
                if files.iter().all(|new| new.file != file) {
                    let delete = sqlx::query("DELETE FROM uploads WHERE recording = ? AND file = ?");
                    delete.bind(recording.as_str()).bind(file.to_string()).execute(&mut *transaction).await?;
                }
            }
            sqlx::query(
                "INSERT INTO stored_recordings (recording, gaps) VALUES (?, ?)
                 ON CONFLICT (recording) DO UPDATE SET gaps = excluded.gaps",
            )
            .bind(recording.as_str())
            .bind(gaps)
            .execute(&mut *transaction)
            .await?;
            update_ready(&mut transaction, recording).await?;
            transaction.commit().await
        };
        write.await.map_err(|e| self.error(e))
    }

    /// Notes that a PUT was answered.
    pub async fn upload_put(&self, upload: &Upload) -> Result<(), StoreError> {
        let update = sqlx::query(
            "UPDATE uploads SET state = 'uploaded'
             WHERE recording = ? AND file = ? AND sha256 = ? AND state = 'pending'",
        );
        bound(update, upload).execute(&self.pool).await.map(drop).map_err(|e| self.error(e))
    }

    /// Notes that the store holds a file. `true` when it was the manifest, which makes the recording whole.
    pub async fn upload_verified(&self, upload: &Upload, now: Timestamp) -> Result<bool, StoreError> {
        let write = async {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            let update = sqlx::query(
                "UPDATE uploads SET state = 'verified', reason = NULL WHERE recording = ? AND file = ? AND sha256 = ?",
            );
            let changed = bound(update, upload).execute(&mut *transaction).await?.rows_affected() > 0;
            update_ready(&mut transaction, &upload.recording).await?;
            let whole = changed && upload.file == File::Manifest;
            if whole {
                let update = sqlx::query("UPDATE stored_recordings SET committed_at = ? WHERE recording = ?");
                update.bind(text(now)).bind(upload.recording.as_str()).execute(&mut *transaction).await?;
            }
            transaction.commit().await?;
            Ok(whole)
        };
        write.await.map_err(|e| self.error(e))
    }

    /// Notes that it failed and is to be put again, not before this time.
    pub async fn upload_failed(&self, upload: &Upload, next_at: Timestamp, reason: &str) -> Result<(), StoreError> {
        let update = sqlx::query(
            "UPDATE uploads SET state = 'pending', attempts = attempts + 1, next_at = ?4, reason = ?5
             WHERE recording = ?1 AND file = ?2 AND sha256 = ?3",
        );
        let update = bound(update, upload).bind(text(next_at)).bind(reason);
        update.execute(&self.pool).await.map(drop).map_err(|e| self.error(e))
    }

    /// Forgets what was to be uploaded of a recording, and that it was to be in the store as a whole.
    pub async fn upload_forgotten(&self, recording: &RecordingId) -> Result<(), StoreError> {
        let write = async {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            for delete in [
                "DELETE FROM uploads WHERE recording = ? AND state <> 'verified'",
                "DELETE FROM stored_recordings WHERE recording = ? AND committed_at IS NULL",
            ] {
                sqlx::query(delete).bind(recording.as_str()).execute(&mut *transaction).await?;
            }
            transaction.commit().await
        };
        write.await.map_err(|e| self.error(e))
    }

    /// Whether a file is in the journal, however far it has got.
    pub async fn upload_known(&self, recording: &RecordingId, file: File) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT 1 FROM uploads WHERE recording = ? AND file = ?");
        let found = found.bind(recording.as_str()).bind(file.to_string()).fetch_optional(&self.pool).await;
        found.map(|row| row.is_some()).map_err(|e| self.error(e))
    }

    /// Returns a file that the object store holds, whether or not it has the whole recording.
    pub async fn verified_upload(&self, recording: &RecordingId, file: File) -> Result<Option<Upload>, StoreError> {
        let found = sqlx::query("SELECT * FROM uploads WHERE recording = ? AND file = ? AND state = 'verified'");
        let found = found.bind(recording.as_str()).bind(file.to_string()).fetch_optional(&self.pool).await;
        found.and_then(|row| row.as_ref().map(upload).transpose()).map_err(|e| self.error(e))
    }

    /// Returns the gaps of a recording's manifest, if a store holds the entire recording.
    pub async fn stored_gaps(&self, recording: &RecordingId) -> Result<Option<Vec<Gap>>, StoreError> {
        let found = sqlx::query("SELECT gaps FROM stored_recordings WHERE recording = ? AND committed_at IS NOT NULL");
        let found = found.bind(recording.as_str()).fetch_optional(&self.pool).await;
        found
            .and_then(|row| row.map(|row| word(&row, "gaps", |text| serde_json::from_str(text).ok())).transpose())
            .map_err(|e| self.error(e))
    }

    /// Recordings that the store holds with all their files and whose folders are still here, the oldest first.
    pub async fn evictable(&self) -> Result<Vec<RecordingId>, StoreError> {
        let found = sqlx::query(
            "SELECT recording FROM stored_recordings AS candidate
             WHERE evicted_at IS NULL AND committed_at IS NOT NULL AND NOT EXISTS (
                 SELECT 1 FROM uploads INDEXED BY uploads_waiting
                 WHERE uploads.recording = candidate.recording AND state <> 'verified')
             ORDER BY recording LIMIT 1000",
        );
        let found = found.fetch_all(&self.pool).await;
        let read = |rows: Vec<SqliteRow>| rows.iter().map(|row| word(row, "recording", RecordingId::parse)).collect();
        found.and_then(read).map_err(|e| self.error(e))
    }

    /// Returns stored recordings whose directories lack segments that left the disk while they were being recorded.
    pub async fn incomplete_on_disk(&self) -> Result<Vec<RecordingId>, StoreError> {
        let found = sqlx::query(
            "SELECT id AS recording FROM recordings INDEXED BY recordings_incomplete
             JOIN stored_recordings ON recording = id
             WHERE evicted_segments > 0 AND evicted_at IS NULL AND committed_at IS NOT NULL AND NOT EXISTS (
                 SELECT 1 FROM uploads INDEXED BY uploads_waiting
                 WHERE uploads.recording = recordings.id AND uploads.state <> 'verified')
             ORDER BY id LIMIT 1000",
        );
        let found = found.fetch_all(&self.pool).await;
        let read = |rows: Vec<SqliteRow>| rows.iter().map(|row| word(row, "recording", RecordingId::parse)).collect();
        found.and_then(read).map_err(|e| self.error(e))
    }

    /// Notes that a recording's directory has left the disk.
    pub async fn evicted(&self, recording: &RecordingId, at: Timestamp) -> Result<(), StoreError> {
        let write = async {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            let update = sqlx::query(
                "UPDATE stored_recordings SET evicted_at = ? WHERE recording = ? AND committed_at IS NOT NULL",
            );
            update.bind(text(at)).bind(recording.as_str()).execute(&mut *transaction).await?;
            let update = sqlx::query("UPDATE recordings SET evicted_segments = 0 WHERE id = ?");
            update.bind(recording.as_str()).execute(&mut *transaction).await?;
            transaction.commit().await
        };
        write.await.map_err(|e| self.error(e))
    }

    /// Notes that a removal failed, and is not to be tried before this time.
    pub async fn removal_failed(
        &self,
        recording: &RecordingId,
        next_at: Timestamp,
        reason: &str,
    ) -> Result<(), StoreError> {
        let update =
            sqlx::query("UPDATE removals SET attempts = attempts + 1, next_at = ?, reason = ? WHERE recording = ?");
        let update = update.bind(text(next_at)).bind(reason).bind(recording.as_str()).execute(&self.pool);
        update.await.map(drop).map_err(|e| self.error(e))
    }

    /// Notes that no object of a deleted recording is left.
    pub async fn removal_done(&self, recording: &RecordingId) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM removals WHERE recording = ?").bind(recording.as_str());
        delete.execute(&self.pool).await.map(drop).map_err(|e| self.error(e))
    }
}

/// A recording is being forgotten here: what the store has of it is to go too.
pub(super) async fn forget(connection: &mut SqliteConnection, recording: &RecordingId) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO removals (recording, prefix, next_at)
         SELECT id, room || '/' || id || '/', '' FROM recordings WHERE id = ?1 AND (
             EXISTS (SELECT 1 FROM uploads WHERE recording = ?1)
             OR EXISTS (SELECT 1 FROM stored_recordings WHERE recording = ?1))
         ON CONFLICT (recording) DO NOTHING",
    )
    .bind(recording.as_str())
    .execute(&mut *connection)
    .await?;
    for delete in ["DELETE FROM uploads WHERE recording = ?", "DELETE FROM stored_recordings WHERE recording = ?"] {
        sqlx::query(delete).bind(recording.as_str()).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Adds files that the object store holds already.
pub(super) async fn adopt(
    connection: &mut SqliteConnection,
    recording: &RecordingId,
    room: &RoomName,
    files: &[NewUpload],
) -> Result<(), sqlx::Error> {
    for new in files {
        queue(connection, recording, room, new).await?;
        let verify = sqlx::query(
            "UPDATE uploads SET state = 'verified' WHERE recording = ? AND file = ? AND sha256 = ? AND bytes = ?",
        );
        verify
            .bind(recording.as_str())
            .bind(new.file.to_string())
            .bind(new.sha256.to_string())
            .bind(i64::try_from(new.bytes).unwrap_or(i64::MAX))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn queue(
    connection: &mut SqliteConnection,
    recording: &RecordingId,
    room: &RoomName,
    new: &NewUpload,
) -> Result<(), sqlx::Error> {
    let rank = match new.file {
        File::Manifest => 2,
        File::Playlist => 1,
        _ => 0,
    };
    sqlx::query(
        "INSERT INTO uploads (recording, file, rank, key, bytes, sha256, state, next_at, queued_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'pending', ?7, ?7)
         ON CONFLICT (recording, file) DO UPDATE SET bytes = excluded.bytes, sha256 = excluded.sha256, state = 'pending',
             attempts = 0, next_at = excluded.next_at, queued_at = excluded.queued_at, reason = NULL
         WHERE uploads.sha256 <> excluded.sha256 OR uploads.bytes <> excluded.bytes",
    )
    .bind(recording.as_str())
    .bind(new.file.to_string())
    .bind(rank)
    .bind(format!("{}{}", key_prefix(room, recording), new.file))
    .bind(i64::try_from(new.bytes).unwrap_or(i64::MAX))
    .bind(new.sha256.to_string())
    .bind(text(Timestamp::now()))
    .execute(connection)
    .await
    .map(drop)
}

/// Updates which files of a recording wait for files of a lower rank.
async fn update_ready(connection: &mut SqliteConnection, recording: &RecordingId) -> Result<(), sqlx::Error> {
    // Rows that are right already are not written.
    sqlx::query(
        "UPDATE uploads SET ready = 1 - ready
         WHERE recording = ? AND rank > 0 AND state <> 'verified' AND ready = EXISTS (
             SELECT 1 FROM uploads AS lower
             WHERE lower.recording = uploads.recording AND lower.rank < uploads.rank AND lower.state <> 'verified')",
    )
    .bind(recording.as_str())
    .execute(connection)
    .await
    .map(drop)
}

type Query<'q> = sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments>;

/// With what names a row, contents included: a file that has changed meanwhile is another.
fn bound<'q>(query: Query<'q>, upload: &Upload) -> Query<'q> {
    query.bind(upload.recording.to_string()).bind(upload.file.to_string()).bind(upload.sha256.to_string())
}

fn upload(row: &SqliteRow) -> Result<Upload, sqlx::Error> {
    Ok(Upload {
        recording: word(row, "recording", RecordingId::parse)?,
        file: word(row, "file", |name| name.parse().ok())?,
        key: row.try_get("key")?,
        bytes: u64::try_from(row.try_get::<i64, _>("bytes")?).unwrap_or(0),
        sha256: word(row, "sha256", Digest::from_hex)?,
        state: word(row, "state", UploadState::parse)?,
        attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::StreamId;
    use crate::store::NewRecording;
    use std::time::Duration;

    const LONGEST: Duration = Duration::from_secs(60);

    pub(super) fn new(file: File, contents: &str) -> NewUpload {
        NewUpload { file, bytes: contents.len() as u64, sha256: Digest::of(contents.as_bytes()) }
    }

    async fn store() -> (Store, RecordingId, RoomName) {
        (Store::in_memory().await.unwrap(), RecordingId::random(), RoomName::parse("gate").unwrap())
    }

    async fn due(store: &Store) -> Vec<String> {
        let due = store.uploads_due(Timestamp::now(), LONGEST, 10).await.unwrap();
        due.iter().map(|upload| upload.file.to_string()).collect()
    }

    async fn verify(store: &Store, count: usize) -> bool {
        let mut whole = false;
        for upload in store.uploads_due(Timestamp::now(), LONGEST, count).await.unwrap() {
            store.upload_put(&upload).await.unwrap();
            whole = store.upload_verified(&upload, Timestamp::now()).await.unwrap();
        }
        whole
    }

    pub(super) fn whole() -> [NewUpload; 4] {
        [
            new(File::Init(1), "init"),
            new(File::Segment(1), "one"),
            new(File::Playlist, "list"),
            new(File::Manifest, "manifest"),
        ]
    }

    #[tokio::test]
    async fn playlist_and_manifest_wait_for_what_they_tell_of() {
        let (store, recording, room) = store().await;
        store.upload_queued(&recording, &room, &new(File::Init(1), "init")).await.unwrap();
        assert_eq!(due(&store).await, ["init-1.mp4"]);
        store.upload_recording(&recording, &room, &whole(), &[]).await.unwrap();
        assert_eq!(due(&store).await, ["init-1.mp4", "segment-000001.m4s"]);
        assert!(!verify(&store, 1).await);
        assert_eq!(due(&store).await, ["segment-000001.m4s"]);
        verify(&store, 1).await;
        assert_eq!(due(&store).await, ["index.m3u8"]);
        verify(&store, 1).await;
        assert_eq!(due(&store).await, ["manifest.json"]);
        assert_eq!(store.evictable().await.unwrap(), []);
        assert_eq!(store.uploaded(&recording, File::Segment(1)).await.unwrap(), None, "not before all is there");
        assert!(verify(&store, 1).await);
        assert_eq!(store.evictable().await.unwrap(), std::slice::from_ref(&recording));
        let there = store.uploaded(&recording, File::Segment(1)).await.unwrap().unwrap();
        assert_eq!((there.key, there.bytes), (format!("gate/{recording}/segment-000001.m4s"), 3));
        assert_eq!(store.upload_backlog().await.unwrap(), UploadBacklog::default());
    }

    #[tokio::test]
    async fn what_is_known_is_not_uploaded_again_and_what_has_changed_is() {
        let (store, recording, room) = store().await;
        store.upload_recording(&recording, &room, &whole(), &[]).await.unwrap();
        while !verify(&store, 4).await {}
        store.upload_recording(&recording, &room, &whole(), &[]).await.unwrap();
        assert_eq!(due(&store).await, [""; 0]);
        let stale = store.uploaded(&recording, File::Segment(1)).await.unwrap().unwrap();
        let mut files = whole();
        files[1] = new(File::Segment(1), "cut");
        store.upload_recording(&recording, &room, &files, &[]).await.unwrap();
        assert_eq!(due(&store).await, ["segment-000001.m4s"]);
        store.upload_verified(&stale, Timestamp::now()).await.unwrap();
        assert_eq!(due(&store).await, ["segment-000001.m4s"], "an upload of what it was before counts for nothing");
        assert_eq!(store.evictable().await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_is_no_part_of_the_finished_recording_is_forgotten() {
        let (store, recording, room) = store().await;
        store.upload_queued(&recording, &room, &new(File::Segment(2), "unreadable")).await.unwrap();
        store.upload_recording(&recording, &room, &whole(), &[]).await.unwrap();
        assert!(!store.upload_known(&recording, File::Segment(2)).await.unwrap());
        assert!(store.upload_known(&recording, File::Segment(1)).await.unwrap());
    }

    #[tokio::test]
    async fn a_failure_is_remembered_with_its_time() {
        let (store, recording, room) = store().await;
        store.upload_queued(&recording, &room, &new(File::Segment(1), "one")).await.unwrap();
        let upload = store.uploads_due(Timestamp::now(), LONGEST, 1).await.unwrap().remove(0);
        store.upload_put(&upload).await.unwrap();
        let later = Timestamp::now() + LONGEST;
        store.upload_failed(&upload, later, "AccessDenied").await.unwrap();
        assert_eq!(due(&store).await, [""; 0]);
        let again = store.uploads_due(later, LONGEST, 1).await.unwrap().remove(0);
        assert_eq!((again.state, again.attempts), (UploadState::Pending, 1));
        let backlog = store.upload_backlog().await.unwrap();
        assert_eq!((backlog.files, backlog.bytes, backlog.recordings), (1, 3, 0));
        assert!(backlog.oldest.is_some());
        store.uploads_at_once(Timestamp::now()).await.unwrap();
        assert_eq!(due(&store).await.len(), 1);
    }

    #[tokio::test]
    async fn a_deleted_recording_leaves_the_store_too() {
        let (store, recording, room) = store().await;
        let path = recording.to_string();
        let stream = StreamId::parse(&path).unwrap();
        let started_at = Timestamp::now();
        let new = NewRecording { id: recording.clone(), stream, room: room.clone(), path, started_at };
        store.recording_started(&new).await.unwrap();
        store.upload_recording(&recording, &room, &whole(), &[]).await.unwrap();
        assert!(store.recording_removed(&recording).await.unwrap());
        assert_eq!(due(&store).await, [""; 0]);
        let removal = store.removals_due(Timestamp::now(), LONGEST, 1).await.unwrap().remove(0);
        assert_eq!((removal.prefix, removal.attempts), (format!("gate/{recording}/"), 0));
        let later = Timestamp::now() + LONGEST;
        store.removal_failed(&recording, later, "Unreachable").await.unwrap();
        assert_eq!(store.removals_due(Timestamp::now(), LONGEST, 1).await.unwrap(), []);
        assert_eq!(store.removals_due(later, LONGEST, 1).await.unwrap()[0].attempts, 1);
        store.removal_done(&recording).await.unwrap();
        assert_eq!(store.upload_backlog().await.unwrap(), UploadBacklog::default());
        store.recording_started(&new).await.unwrap();
        store.recording_removed(&recording).await.unwrap();
        assert_eq!(store.upload_backlog().await.unwrap().removals, 0, "nothing of it was ever in the store");
    }
}
