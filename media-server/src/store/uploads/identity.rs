//! The store that the journal describes, and the change of its rows when another store is configured.
//!
//! A row describes one store. In another one nothing counts as stored until that store has shown it: files of
//! recordings on the disk are checked there and put where they are missing; a recording that has left the disk
//! is kept as being elsewhere, until it is found in the present store.

use super::{Removal, Upload, upload};
use crate::control::RecordingId;
use crate::store::{Store, StoreError, text, word};
use jiff::Timestamp;
use recorder::File;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

/// The effect of a change of the store on the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreChange {
    /// The store before.
    pub before: String,
    /// Files on the disk that are checked in the present store, and put where they are missing.
    pub queued: u64,
    /// Recordings that are in the store before, and neither on the disk nor known in the present store.
    pub elsewhere: u64,
    /// Deleted recordings with objects that were still to be removed from the store before.
    pub removals: Vec<Removal>,
}

impl Store {
    /// Returns the store that the journal describes.
    pub async fn journal_store(&self) -> Result<Option<String>, StoreError> {
        let found = sqlx::query_scalar("SELECT identity FROM journal_store WHERE id = 1").fetch_one(&self.pool);
        found.await.map_err(|e| self.error(e))
    }

    /// Returns the id by which this registry marks its prefix in a store.
    pub async fn store_owner(&self) -> Result<String, StoreError> {
        let found = sqlx::query_scalar("SELECT owner FROM journal_store WHERE id = 1").fetch_one(&self.pool);
        found.await.map_err(|e| self.error(e))
    }

    /// Makes this the store that the journal describes. Returns the change; `None` when it was so already, or when
    /// no store was named before.
    pub async fn set_journal_store(&self, identity: &str, now: Timestamp) -> Result<Option<StoreChange>, StoreError> {
        let write = async {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            let before: Option<String> = sqlx::query_scalar("SELECT identity FROM journal_store WHERE id = 1")
                .fetch_one(&mut *transaction)
                .await?;
            let change = match before {
                Some(before) if before != identity => Some(change(&mut transaction, before, now).await?),
                _ => None,
            };
            let update = sqlx::query("UPDATE journal_store SET identity = ? WHERE id = 1");
            update.bind(identity).execute(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(change)
        };
        write.await.map_err(|e| self.error(e))
    }

    /// Returns a file that the present store holds, of a recording that it holds entirely.
    pub async fn uploaded(&self, recording: &RecordingId, file: File) -> Result<Option<Upload>, StoreError> {
        let found = sqlx::query(
            "SELECT uploads.* FROM uploads JOIN stored_recordings USING (recording)
             WHERE recording = ? AND file = ? AND state = 'verified' AND committed_at IS NOT NULL
                 AND elsewhere IS NULL",
        );
        let found = found.bind(recording.as_str()).bind(file.to_string()).fetch_optional(&self.pool).await;
        found.and_then(|row| row.as_ref().map(upload).transpose()).map_err(|e| self.error(e))
    }

    /// Whether the present store holds the entire recording.
    pub async fn stored(&self, recording: &RecordingId) -> Result<bool, StoreError> {
        let found = sqlx::query(
            "SELECT 1 FROM stored_recordings WHERE recording = ? AND committed_at IS NOT NULL AND elsewhere IS NULL",
        );
        let found = found.bind(recording.as_str()).fetch_optional(&self.pool).await;
        found.map(|row| row.is_some()).map_err(|e| self.error(e))
    }

    /// Returns recordings that a store holds entirely and that were not seen to leave the disk.
    pub async fn committed_on_disk(&self) -> Result<Vec<RecordingId>, StoreError> {
        let found = sqlx::query(
            "SELECT recording FROM stored_recordings WHERE evicted_at IS NULL AND committed_at IS NOT NULL",
        );
        let found = found.fetch_all(&self.pool).await;
        found.and_then(|rows| rows.iter().map(recording).collect()).map_err(|e| self.error(e))
    }

    /// Notes that a recording's directory is on the disk. One that was in another store is uploaded to the present one.
    pub async fn returned(&self, recording: &RecordingId) -> Result<(), StoreError> {
        let write = async {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            let update = sqlx::query(
                "UPDATE stored_recordings SET evicted_at = NULL, elsewhere = NULL,
                     committed_at = CASE WHEN elsewhere IS NULL THEN committed_at END
                 WHERE recording = ? AND evicted_at IS NOT NULL RETURNING committed_at",
            );
            let row = update.bind(recording.as_str()).fetch_optional(&mut *transaction).await?;
            if let Some(row) = row
                && row.try_get::<Option<String>, _>("committed_at")?.is_none()
            {
                let now = text(Timestamp::now());
                let update = sqlx::query(
                    "UPDATE uploads SET state = 'uploaded', attempts = 0, next_at = ?2, queued_at = ?2, reason = NULL
                     WHERE recording = ?1 AND state = 'verified'",
                );
                update.bind(recording.as_str()).bind(now).execute(&mut *transaction).await?;
                super::update_ready(&mut transaction, recording).await?;
            }
            transaction.commit().await
        };
        write.await.map_err(|e| self.error(e))
    }

    /// Returns the store that holds a recording, when that is not the present one.
    pub async fn elsewhere(&self, recording: &RecordingId) -> Result<Option<String>, StoreError> {
        let found = sqlx::query_scalar("SELECT elsewhere FROM stored_recordings WHERE recording = ?");
        let found: Result<Option<Option<String>>, _> = found.bind(recording.as_str()).fetch_optional(&self.pool).await;
        found.map(Option::flatten).map_err(|e| self.error(e))
    }

    /// Returns the first recording after this one that is in another store, with the name of that store.
    pub async fn next_elsewhere(
        &self,
        after: Option<&RecordingId>,
    ) -> Result<Option<(RecordingId, String)>, StoreError> {
        let found = sqlx::query(
            "SELECT recording, elsewhere FROM stored_recordings WHERE elsewhere IS NOT NULL AND recording > ?
             ORDER BY recording LIMIT 1",
        );
        let found = found.bind(after.map_or("", RecordingId::as_str)).fetch_optional(&self.pool).await;
        let read = |row: SqliteRow| Ok((recording(&row)?, row.try_get("elsewhere")?));
        found.and_then(|row| row.map(read).transpose()).map_err(|e| self.error(e))
    }

    /// Returns the files that a recording in a store consists of.
    pub async fn stored_files(&self, recording: &RecordingId) -> Result<Vec<Upload>, StoreError> {
        let found = sqlx::query("SELECT * FROM uploads WHERE recording = ? ORDER BY rank, file");
        let found = found.bind(recording.as_str()).fetch_all(&self.pool).await;
        found.and_then(|rows| rows.iter().map(upload).collect()).map_err(|e| self.error(e))
    }

    /// Notes that the present store holds a recording that was in another one.
    pub async fn found_in_store(&self, recording: &RecordingId) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE stored_recordings SET elsewhere = NULL WHERE recording = ?");
        update.bind(recording.as_str()).execute(&self.pool).await.map(drop).map_err(|e| self.error(e))
    }
}

async fn change(connection: &mut SqliteConnection, before: String, now: Timestamp) -> Result<StoreChange, sqlx::Error> {
    let moved =
        sqlx::query("UPDATE stored_recordings SET elsewhere = ? WHERE evicted_at IS NOT NULL AND elsewhere IS NULL");
    let elsewhere = moved.bind(&before).execute(&mut *connection).await?.rows_affected();
    let uncommit = sqlx::query("UPDATE stored_recordings SET committed_at = NULL WHERE evicted_at IS NULL");
    uncommit.execute(&mut *connection).await?;
    // As after a PUT that was answered: the store shows the object, or it is put.
    let queue = sqlx::query(
        "UPDATE uploads SET state = 'uploaded', attempts = 0, next_at = ?1, queued_at = ?1, reason = NULL
         WHERE state = 'verified' AND NOT EXISTS (
             SELECT 1 FROM stored_recordings
             WHERE stored_recordings.recording = uploads.recording AND evicted_at IS NOT NULL)",
    );
    let queued = queue.bind(text(now)).execute(&mut *connection).await?.rows_affected();
    let ready = sqlx::query(
        "UPDATE uploads SET ready = 1 - ready
         WHERE rank > 0 AND state <> 'verified' AND ready = EXISTS (
             SELECT 1 FROM uploads AS lower
             WHERE lower.recording = uploads.recording AND lower.rank < uploads.rank AND lower.state <> 'verified')",
    );
    ready.execute(&mut *connection).await?;
    let rows = sqlx::query("DELETE FROM removals RETURNING recording, prefix").fetch_all(&mut *connection).await?;
    let read =
        |row: &SqliteRow| Ok(Removal { recording: recording(row)?, prefix: row.try_get("prefix")?, attempts: 0 });
    let removals = rows.iter().map(read).collect::<Result<Vec<_>, sqlx::Error>>()?;
    Ok(StoreChange { before, queued, elsewhere, removals })
}

fn recording(row: &SqliteRow) -> Result<RecordingId, sqlx::Error> {
    word(row, "recording", RecordingId::parse)
}

#[cfg(test)]
mod tests {
    use super::super::tests::whole;
    use super::*;
    use crate::control::RoomName;
    use crate::store::{MIGRATIONS, UploadBacklog};
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
    use std::sync::Arc;
    use std::time::Duration;

    const A: &str = "https://s3.example.com/a/cams/door/";
    const B: &str = "https://s3.example.com/b/cams/door/";
    const MANAGED: &str = "managed:/recordings/cams/door/";
    const LONGEST: Duration = Duration::from_secs(60);

    async fn in_store(identity: &str) -> Store {
        let store = Store::in_memory().await.unwrap();
        assert_eq!(store.set_journal_store(identity, Timestamp::now()).await.unwrap(), None);
        store
    }

    /// A recording that the present store holds.
    async fn stored(store: &Store, evicted: bool) -> RecordingId {
        let (recording, room) = (RecordingId::random(), RoomName::parse("gate").unwrap());
        store.upload_recording(&recording, &room, &whole(), &[]).await.unwrap();
        loop {
            let due = store.uploads_due(Timestamp::now(), LONGEST, 10).await.unwrap();
            let [.., last] = &due[..] else { break };
            for upload in &due {
                store.upload_verified(upload, Timestamp::now()).await.unwrap();
            }
            assert_eq!(last.recording, recording);
        }
        if evicted {
            store.evicted(&recording, Timestamp::now()).await.unwrap();
        }
        recording
    }

    async fn due(store: &Store) -> Vec<(RecordingId, File)> {
        let due = store.uploads_due(Timestamp::now(), LONGEST, 10).await.unwrap();
        due.into_iter().map(|upload| (upload.recording, upload.file)).collect()
    }

    #[tokio::test]
    async fn same_store_changes_nothing() {
        let store = in_store(A).await;
        let recording = stored(&store, false).await;
        assert_eq!(store.set_journal_store(A, Timestamp::now()).await.unwrap(), None);
        assert_eq!(store.evictable().await.unwrap(), [recording]);
        assert_eq!(due(&store).await, []);
    }

    #[tokio::test]
    async fn another_store_queues_what_is_on_the_disk() {
        let store = in_store(A).await;
        let recording = stored(&store, false).await;
        let change = store.set_journal_store(B, Timestamp::now()).await.unwrap().unwrap();
        assert_eq!((change.before.as_str(), change.queued, change.elsewhere), (A, 4, 0));
        assert_eq!(store.evictable().await.unwrap(), [], "the new store does not have it");
        assert!(!store.stored(&recording).await.unwrap());
        let waiting = due(&store).await;
        assert_eq!(waiting, [(recording.clone(), File::Init(1)), (recording, File::Segment(1))], "the rest waits");
        let backlog = store.upload_backlog().await.unwrap();
        assert_eq!((backlog.files, backlog.recordings, backlog.elsewhere), (4, 1, 0));
    }

    #[tokio::test]
    async fn another_store_keeps_evicted_recordings_elsewhere() {
        for (before, on_volume) in [(A, 0), (MANAGED, 1)] {
            let store = in_store(before).await;
            let recording = stored(&store, true).await;
            let change = store.set_journal_store(B, Timestamp::now()).await.unwrap().unwrap();
            assert_eq!((change.queued, change.elsewhere), (0, 1));
            assert_eq!(due(&store).await, [], "there is no file to put");
            assert!(!store.stored(&recording).await.unwrap());
            assert_eq!(store.uploaded(&recording, File::Manifest).await.unwrap(), None);
            assert_eq!(store.elsewhere(&recording).await.unwrap().as_deref(), Some(before));
            let backlog = store.upload_backlog().await.unwrap();
            let expected =
                UploadBacklog { evicted: 1, elsewhere: 1, elsewhere_on_volume: on_volume, ..UploadBacklog::default() };
            assert_eq!(backlog, expected);
            let next = store.next_elsewhere(None).await.unwrap().unwrap();
            assert_eq!(next, (recording.clone(), before.to_owned()));
            assert_eq!(store.next_elsewhere(Some(&recording)).await.unwrap(), None);
            store.found_in_store(&recording).await.unwrap();
            assert!(store.stored(&recording).await.unwrap());
            assert_eq!(store.upload_backlog().await.unwrap(), UploadBacklog { evicted: 1, ..UploadBacklog::default() });
        }
    }

    #[tokio::test]
    async fn third_store_keeps_the_name_of_the_first() {
        let store = in_store(A).await;
        let recording = stored(&store, true).await;
        for identity in [B, MANAGED] {
            store.set_journal_store(identity, Timestamp::now()).await.unwrap();
        }
        assert_eq!(store.elsewhere(&recording).await.unwrap().as_deref(), Some(A));
    }

    #[tokio::test]
    async fn directory_that_returns_is_uploaded_again() {
        let store = in_store(A).await;
        let recording = stored(&store, true).await;
        store.returned(&recording).await.unwrap();
        assert_eq!(due(&store).await, [], "the store has it");
        store.evicted(&recording, Timestamp::now()).await.unwrap();
        store.set_journal_store(B, Timestamp::now()).await.unwrap();
        store.returned(&recording).await.unwrap();
        assert_eq!(due(&store).await.len(), 2);
        assert_eq!(store.elsewhere(&recording).await.unwrap(), None);
        let backlog = store.upload_backlog().await.unwrap();
        assert_eq!((backlog.files, backlog.evicted, backlog.elsewhere), (4, 0, 0));
    }

    #[tokio::test]
    async fn removals_of_another_store_are_handed_back() {
        let store = in_store(A).await;
        let recording = RecordingId::random();
        let insert = sqlx::query("INSERT INTO removals (recording, prefix, next_at) VALUES (?, 'gate/x/', '')");
        insert.bind(recording.as_str()).execute(&store.pool).await.unwrap();
        let change = store.set_journal_store(B, Timestamp::now()).await.unwrap().unwrap();
        assert_eq!(change.removals, [Removal { recording, prefix: "gate/x/".to_owned(), attempts: 0 }]);
        assert_eq!(store.upload_backlog().await.unwrap().removals, 0);
    }

    #[tokio::test]
    async fn migration_counts_evicted_and_adopts_the_next_store() {
        let options = SqliteConnectOptions::new().in_memory(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        MIGRATIONS.run_to(4, &pool).await.unwrap();
        let insert = "INSERT INTO stored_recordings (recording, gaps, committed_at, evicted_at)
            VALUES ('01900000-0000-7000-8000-000000000001', '[]', 'x', 'x'), ('b', '[]', 'x', NULL)";
        sqlx::query(insert).execute(&pool).await.unwrap();
        MIGRATIONS.run(&pool).await.unwrap();
        let store = Store { pool, path: Arc::new(":memory:".into()) };
        assert_eq!(store.upload_backlog().await.unwrap().evicted, 1);
        assert_eq!(store.set_journal_store(A, Timestamp::now()).await.unwrap(), None);
        let id = RecordingId::parse("01900000-0000-7000-8000-000000000001").unwrap();
        assert!(store.stored(&id).await.unwrap(), "the store of before is the one of the first start");
        assert_eq!(store.store_owner().await.unwrap().len(), 32);
    }
}
