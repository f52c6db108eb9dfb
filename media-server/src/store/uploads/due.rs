//! Reads that the uploader repeats all the time: the files and removals that are due, and the totals of those that wait.
//!
//! Each is answered by an index or by totals that triggers keep (migration 0003): the cost of a read follows its limit, not
//! the number of files that wait. A file that never failed is due whatever the time. A failed one is due at its time,
//! or when its time is further ahead than any delay: then the clock was set back since.

use super::{Removal, Upload, UploadBacklog, upload};
use crate::control::RecordingId;
use crate::store::{Store, StoreError, optional_time, text, word};
use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::time::Duration;

/// In the order in which they are tried.
const FRESH: &str = "SELECT * FROM uploads
    WHERE state <> 'verified' AND attempts = 0 AND ready = 1
    ORDER BY queued_at, rank, file LIMIT ?1";
const RETRIES: &str = "SELECT * FROM uploads
    WHERE state <> 'verified' AND attempts > 0 AND ready = 1 AND next_at <= ?1
    ORDER BY next_at LIMIT ?2";
const DISTANT_RETRIES: &str = "SELECT * FROM uploads
    WHERE state <> 'verified' AND attempts > 0 AND ready = 1 AND next_at > ?1
    ORDER BY next_at LIMIT ?2";
const REMOVALS: &str = "SELECT * FROM removals WHERE next_at <= ?1 ORDER BY next_at LIMIT ?2";
const DISTANT_REMOVALS: &str = "SELECT * FROM removals WHERE next_at > ?1 ORDER BY next_at LIMIT ?2";
const BACKLOG: &str = "SELECT files, bytes, recordings, removals, evicted, elsewhere, elsewhere_on_volume,
        (SELECT min(queued_at) FROM uploads WHERE state <> 'verified') AS oldest
    FROM upload_totals WHERE id = 1";
const RETRY_UPLOADS: &str = "UPDATE uploads SET next_at = ?1
    WHERE state <> 'verified' AND attempts > 0 AND ready IN (0, 1) AND next_at > ?1";
const RETRY_REMOVALS: &str = "UPDATE removals SET next_at = ?1 WHERE next_at > ?1";

impl Store {
    /// Returns files that may be tried now: of each recording those of the lowest rank that waits. The file that waited
    /// longest comes first. `longest` is the longest delay that is ever set.
    pub async fn uploads_due(
        &self,
        now: Timestamp,
        longest: Duration,
        limit: usize,
    ) -> Result<Vec<Upload>, StoreError> {
        let found = async {
            let mut rows = self.retries(RETRIES, DISTANT_RETRIES, now, longest, limit).await?;
            let fresh = sqlx::query(FRESH).bind(limit_of(limit)).fetch_all(&self.pool).await?;
            rows.extend(fresh);
            let mut waiting = rows.iter().map(with_order).collect::<Result<Vec<_>, _>>()?;
            waiting.sort_by(|(a, _), (b, _)| a.cmp(b));
            Ok(waiting.into_iter().map(|(_, upload)| upload).take(limit).collect())
        };
        found.await.map_err(|e| self.error(e))
    }

    /// Returns removals that may be tried now. `longest` as in [`Store::uploads_due`].
    pub async fn removals_due(
        &self,
        now: Timestamp,
        longest: Duration,
        limit: usize,
    ) -> Result<Vec<Removal>, StoreError> {
        let read = |row: &SqliteRow| {
            let attempts = u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX);
            Ok(Removal {
                recording: word(row, "recording", RecordingId::parse)?,
                prefix: row.try_get("prefix")?,
                attempts,
            })
        };
        let found = self.retries(REMOVALS, DISTANT_REMOVALS, now, longest, limit).await;
        found.and_then(|rows| rows.iter().map(read).collect()).map_err(|e| self.error(e))
    }

    async fn retries(
        &self,
        due: &'static str,
        distant: &'static str,
        now: Timestamp,
        longest: Duration,
        limit: usize,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut rows = sqlx::query(due).bind(text(now)).bind(limit_of(limit)).fetch_all(&self.pool).await?;
        if rows.len() < limit {
            let distant = sqlx::query(distant).bind(text(now + longest)).bind(limit_of(limit - rows.len()));
            rows.extend(distant.fetch_all(&self.pool).await?);
        }
        Ok(rows)
    }

    /// Makes everything that waits for its next attempt due.
    pub async fn uploads_at_once(&self, now: Timestamp) -> Result<(), StoreError> {
        let write = async {
            for update in [RETRY_UPLOADS, RETRY_REMOVALS] {
                sqlx::query(update).bind(text(now)).execute(&self.pool).await?;
            }
            Ok(())
        };
        write.await.map_err(|e| self.error(e))
    }

    /// Returns the totals of the files and removals that wait.
    pub async fn upload_backlog(&self) -> Result<UploadBacklog, StoreError> {
        let read = |row: SqliteRow| {
            let number = |column| row.try_get::<i64, _>(column).map(|number| u64::try_from(number).unwrap_or(0));
            Ok(UploadBacklog {
                files: number("files")?,
                bytes: number("bytes")?,
                recordings: number("recordings")?,
                removals: number("removals")?,
                oldest: optional_time(&row, "oldest")?,
                evicted: number("evicted")?,
                elsewhere: number("elsewhere")?,
                elsewhere_on_volume: number("elsewhere_on_volume")?,
            })
        };
        sqlx::query(BACKLOG).fetch_one(&self.pool).await.and_then(read).map_err(|e| self.error(e))
    }
}

/// A file with the columns that order it among those that wait.
fn with_order(row: &SqliteRow) -> Result<((String, i64, String), Upload), sqlx::Error> {
    Ok(((row.try_get("queued_at")?, row.try_get("rank")?, row.try_get("file")?), upload(row)?))
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::RoomName;
    use crate::store::uploads::tests::{new, whole};
    use crate::store::{MIGRATIONS, NewUpload, UploadState, key_prefix};
    use recorder::File;
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    const LONGEST: Duration = Duration::from_secs(60);
    /// Rows that an iteration reads at most.
    const LIMIT: usize = 16;

    /// A registry in a file, with one connection.
    async fn store(path: &Path) -> Store {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(true);
        Store::migrated(path, SqlitePoolOptions::new().max_connections(1), options).await.unwrap()
    }

    /// Queues files of recordings of 100 files each. A third of the files failed and is due in half a minute.
    async fn fill(store: &Store, files: u32) {
        sqlx::query(
            "WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < ?1 - 1)
             INSERT INTO uploads (recording, file, rank, key, bytes, sha256, state, attempts, next_at, queued_at, ready)
             SELECT printf('01900000-0000-7000-8000-%012d', n / 100),
                 CASE n % 100 WHEN 98 THEN 'index.m3u8' WHEN 99 THEN 'manifest.json'
                     ELSE printf('segment-%06d.m4s', n % 100 + 1) END,
                 max(n % 100 - 97, 0), 'gate/x/y', 1000000, printf('%064d', n), 'pending', n % 3 = 0, ?2,
                 printf('2026-01-01T00:00:00.%06dZ', n), n % 100 < 98
             FROM number",
        )
        .bind(files)
        .bind(text(Timestamp::now() + Duration::from_secs(30)))
        .execute(&store.pool)
        .await
        .unwrap();
    }

    /// Runs the reads of one iteration of the uploader.
    async fn read_queue(store: &Store) -> UploadBacklog {
        assert_eq!(store.uploads_due(Timestamp::now(), LONGEST, LIMIT).await.unwrap().len(), LIMIT);
        assert_eq!(store.removals_due(Timestamp::now(), LONGEST, LIMIT).await.unwrap(), []);
        store.upload_backlog().await.unwrap()
    }

    /// SQLite's instructions for one iteration.
    async fn steps(store: &Store) -> u64 {
        let steps = Arc::new(AtomicU64::new(0));
        let counted = steps.clone();
        let mut connection = store.pool.acquire().await.unwrap();
        connection.lock_handle().await.unwrap().set_progress_handler(1, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            true
        });
        drop(connection);
        read_queue(store).await;
        store.pool.acquire().await.unwrap().lock_handle().await.unwrap().remove_progress_handler();
        steps.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn reads_of_100000_waiting_files_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let (small, large) = (store(&directory.path().join("a")).await, store(&directory.path().join("b")).await);
        fill(&small, 300).await;
        fill(&large, 100_000).await;
        let (few, many) = (steps(&small).await, steps(&large).await);
        // A scan takes a few instructions for each of the 100,000 rows.
        assert!(few > 0 && many <= few + few / 10, "{few} and {many} instructions");
        assert!(many < 2000, "{many} instructions");
        assert_eq!(read_queue(&large).await.files, 100_000);
    }

    #[tokio::test]
    async fn repeated_queries_scan_and_sort_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory.path().join("a")).await;
        fill(&store, 100_000).await;
        let queries =
            [FRESH, RETRIES, DISTANT_RETRIES, REMOVALS, DISTANT_REMOVALS, BACKLOG, RETRY_UPLOADS, RETRY_REMOVALS];
        for query in queries {
            let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"));
            let plan = sqlx::query(explain).fetch_all(&store.pool).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
            assert!(!plan.is_empty());
            assert!(plan.iter().all(|line| !line.contains("TEMP B-TREE")), "{query}: {plan:?}");
            assert!(plan.iter().all(|line| !line.starts_with("SCAN")), "{query}: {plan:?}");
        }
    }

    #[tokio::test]
    async fn totals_equal_a_count_after_every_change() {
        let store = Store::in_memory().await.unwrap();
        let (recording, room) = (RecordingId::random(), RoomName::parse("gate").unwrap());
        let check = async |expected: u64| {
            let counted = sqlx::query(
                "SELECT count(*) AS files, coalesce(sum(bytes), 0) AS bytes FROM uploads WHERE state <> 'verified'",
            );
            let counted = counted.fetch_one(&store.pool).await.unwrap();
            let backlog = store.upload_backlog().await.unwrap();
            assert_eq!((backlog.files, backlog.files), (expected, counted.get::<i64, _>("files") as u64));
            assert_eq!(backlog.bytes, counted.get::<i64, _>("bytes") as u64);
            backlog.recordings
        };
        store.upload_queued(&recording, &room, &new(File::Segment(2), "unreadable")).await.unwrap();
        assert_eq!(check(1).await, 0);
        store.upload_recording(&recording, &room, &whole(), &[]).await.unwrap();
        assert_eq!(check(4).await, 1);
        let upload = store.uploads_due(Timestamp::now(), LONGEST, 1).await.unwrap().remove(0);
        store.upload_put(&upload).await.unwrap();
        check(4).await;
        store.upload_failed(&upload, Timestamp::now(), "Failed").await.unwrap();
        check(4).await;
        store.upload_verified(&upload, Timestamp::now()).await.unwrap();
        store.upload_verified(&upload, Timestamp::now()).await.unwrap();
        check(3).await;
        // Other contents: the verified file waits again, with another length.
        store.upload_queued(&recording, &room, &new(upload.file, "other contents")).await.unwrap();
        check(4).await;
        store.upload_forgotten(&recording).await.unwrap();
        assert_eq!(check(0).await, 0);
        assert_eq!(store.upload_backlog().await.unwrap(), UploadBacklog::default());
    }

    #[tokio::test]
    async fn migration_counts_and_orders_waiting_files() {
        let options = SqliteConnectOptions::new().in_memory(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        MIGRATIONS.run_to(2, &pool).await.unwrap();
        for (recording, file, rank, state) in [
            ("01900000-0000-7000-8000-000000000001", "segment-000001.m4s", 0, "uploaded"),
            ("01900000-0000-7000-8000-000000000001", "index.m3u8", 1, "pending"),
            ("01900000-0000-7000-8000-000000000001", "manifest.json", 2, "pending"),
            ("01900000-0000-7000-8000-000000000002", "segment-000001.m4s", 0, "verified"),
            ("01900000-0000-7000-8000-000000000002", "manifest.json", 2, "pending"),
        ] {
            let insert = sqlx::query(
                "INSERT INTO uploads (stream, file, rank, key, bytes, sha256, state, next_at, queued_at)
                 VALUES (?, ?, ?, 'gate/x/y', 7, printf('%064d', 1), ?, ?5, ?5)",
            );
            let insert = insert.bind(recording).bind(file).bind(rank).bind(state).bind(text(Timestamp::UNIX_EPOCH));
            insert.execute(&pool).await.unwrap();
        }
        let stored = sqlx::query("INSERT INTO stored_recordings (stream, gaps) VALUES ('x', '[]')");
        stored.execute(&pool).await.unwrap();
        MIGRATIONS.run(&pool).await.unwrap();
        let store = Store { pool, path: Arc::new(":memory:".into()) };
        let due = store.uploads_due(Timestamp::now(), LONGEST, 10).await.unwrap();
        let files: Vec<String> = due.iter().map(|upload| upload.file.to_string()).collect();
        assert_eq!(files, ["segment-000001.m4s", "manifest.json"]);
        let oldest = Some(Timestamp::UNIX_EPOCH);
        let expected =
            UploadBacklog { files: 4, bytes: 28, recordings: 1, removals: 0, oldest, ..UploadBacklog::default() };
        assert_eq!(store.upload_backlog().await.unwrap(), expected);
    }

    /// A registry in which one file failed and is due at this time.
    async fn failed_until(next_at: Timestamp) -> Store {
        let store = Store::in_memory().await.unwrap();
        let (recording, room) = (RecordingId::random(), RoomName::parse("gate").unwrap());
        let file = new(File::Segment(1), "one");
        store.upload_queued(&recording, &room, &file).await.unwrap();
        let NewUpload { file, bytes, sha256 } = file;
        let key = format!("{}{file}", key_prefix(&room, &recording));
        let state = UploadState::Pending;
        let upload = Upload { recording, file, key, bytes, sha256, state, attempts: 0 };
        store.upload_failed(&upload, next_at, "Failed").await.unwrap();
        store
    }

    #[tokio::test]
    async fn distant_due_time_counts_as_due_now() {
        let now = Timestamp::now();
        for (ahead, due) in [(30, 0), (60, 0), (61, 1), (86_400, 1)] {
            let store = failed_until(now + Duration::from_secs(ahead)).await;
            assert_eq!(store.uploads_due(now, LONGEST, 10).await.unwrap().len(), due, "{ahead} s ahead");
        }
    }

    #[tokio::test]
    async fn new_file_is_due_after_the_clock_steps_back() {
        let store = Store::in_memory().await.unwrap();
        let (recording, room) = (RecordingId::random(), RoomName::parse("gate").unwrap());
        store.upload_queued(&recording, &room, &new(File::Segment(1), "one")).await.unwrap();
        let stepped_back = Timestamp::now() - Duration::from_secs(20);
        assert_eq!(store.uploads_due(stepped_back, LONGEST, 10).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn distant_removal_counts_as_due_now() {
        let store = Store::in_memory().await.unwrap();
        let now = Timestamp::now();
        let insert = sqlx::query("INSERT INTO removals (recording, prefix, next_at) VALUES (?, 'gate/x/', ?)");
        let insert = insert.bind(RecordingId::random().to_string()).bind(text(now + LONGEST * 2));
        insert.execute(&store.pool).await.unwrap();
        assert_eq!(store.removals_due(now, LONGEST, 10).await.unwrap().len(), 1);
        assert_eq!(store.removals_due(now, LONGEST * 3, 10).await.unwrap(), []);
    }

    #[tokio::test]
    #[ignore = "measures the CPU time of one iteration's reads at 100,000 waiting files"]
    async fn queue_reads_cpu_time() {
        const ITERATIONS: u64 = 2000;
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory.path().join("a")).await;
        fill(&store, 100_000).await;
        let ticks = || -> u64 {
            let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
            let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
            fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
        };
        let start = ticks();
        for _ in 0..ITERATIONS {
            read_queue(&store).await;
        }
        println!("{} us of CPU time per iteration", (ticks() - start) * 10_000 / ITERATIONS);
    }
}
