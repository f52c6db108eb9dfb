//! What is remembered across restarts: streams, sessions, recordings and their uploads, in one SQLite file.
//!
//! The registry in memory (`control`) is what is true while the server runs; this is its history. The file is in WAL
//! mode with `synchronous=FULL`: what was committed survives a loss of power. A file that an earlier version made is
//! migrated; one of a later version is refused.

mod error;
mod events;
mod expiry;
mod recordings;
mod segments;
mod sessions;
mod streams;
mod uploads;

pub use error::{StoreError, Trouble};
pub use events::EventIds;
pub use expiry::{Kept, StreamCursor};
pub use recordings::{
    ListedRecording, NewRecording, Recording, RecordingOutcome, RecordingQuery, RecordingState, RecordingTotals,
};
pub use segments::{FinishedIndex, Stretch};
pub use sessions::SessionRow;
pub use streams::{Change, Leftovers, StreamRow};
pub use uploads::{NewUpload, Removal, StoreChange, Upload, UploadBacklog, UploadState, key_prefix};

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{Row, SqlitePool};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// Rows of one answer when the caller names no number.
const LIMIT: usize = 100;
/// Rows of one answer at most.
const MAX_LIMIT: usize = 500;
/// Page cache of each connection, in KiB (negative: not in pages). SQLite's 2 MB would fill over hours, as the database
/// grows, while the kernel caches the same pages.
const CACHE: &str = "-512";

/// The database. A cheap handle.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
    path: Arc<PathBuf>,
}

impl Store {
    /// Opens or makes the database at `path`, and its folder. Errors name the file and the remedy.
    pub async fn open(path: &Path) -> Result<Store, StoreError> {
        // The system's own errors say more than SQLite's "unable to open database file".
        prepare(path).map_err(|e| StoreError::from_io(path, e))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("cache_size", CACHE)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new().max_connections(4).test_before_acquire(false);
        Store::migrated(path, pool, options).await
    }

    /// A database that is gone with its last handle, for tests and for servers that need not remember.
    pub async fn in_memory() -> Result<Store, StoreError> {
        let options = SqliteConnectOptions::new().in_memory(true).foreign_keys(true);
        // Each connection would have a database of its own, and lose it when closed.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false);
        Store::migrated(Path::new(":memory:"), pool, options).await
    }

    async fn migrated(
        path: &Path,
        pool: SqlitePoolOptions,
        options: SqliteConnectOptions,
    ) -> Result<Store, StoreError> {
        let pool = pool.connect_with(options).await.map_err(|e| StoreError::from_sqlx(path, e))?;
        let store = Store { pool, path: Arc::new(path.to_owned()) };
        MIGRATIONS.run(&store.pool).await.map_err(|e| StoreError::from_migrate(path, e))?;
        // A file that can be read but not written is found here, and not with the first stream.
        store.check_writable().await?;
        Ok(store)
    }

    /// Whether the database takes writes now; changes nothing.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        let writable = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(|e| self.error(e))?;
        writable.rollback().await.map_err(|e| self.error(e))
    }

    /// Closes all connections and folds the write-ahead log into the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// When a live stream was last noted as seen.
    #[cfg(test)]
    pub(crate) async fn seen(&self, id: &crate::control::StreamId) -> Result<Option<Timestamp>, sqlx::Error> {
        let query = sqlx::query("SELECT seen_at FROM streams WHERE id = ?").bind(id.as_str());
        optional_time(&query.fetch_one(&self.pool).await?, "seen_at")
    }

    /// Rows written since the database was opened (in memory: there is one connection).
    #[cfg(test)]
    pub(crate) async fn changes(&self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT total_changes()").fetch_one(&self.pool).await
    }

    /// Makes it behave like one on a disk that went read-only (in memory: there is one connection).
    #[cfg(test)]
    pub(crate) async fn refuse_writes(&self, refuse: bool) -> Result<(), sqlx::Error> {
        let pragma = if refuse { "PRAGMA query_only = 1" } else { "PRAGMA query_only = 0" };
        sqlx::query(pragma).execute(&self.pool).await.map(drop)
    }

    /// Keeps all other writers waiting until it is dropped (in a file: there are several connections).
    #[cfg(test)]
    pub(crate) async fn block_writes(&self) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>, sqlx::Error> {
        self.pool.begin_with("BEGIN IMMEDIATE").await
    }

    fn error(&self, error: sqlx::Error) -> StoreError {
        StoreError::from_sqlx(&self.path, error)
    }
}

fn prepare(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // Identities of people stand in it. SQLite gives its other files the mode of this one.
        options.mode(0o600);
    }
    options.open(path).map(drop)
}

/// Fixed width, so that times compare as text.
fn text(time: Timestamp) -> String {
    format!("{time:.6}")
}

fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp, sqlx::Error> {
    optional_time(row, column)?.ok_or_else(|| decode(column, "no time"))
}

fn optional_time(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>, sqlx::Error> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|e| decode(column, e))).transpose()
}

/// Parses a column by `parse`, which gives `None` for what this program never wrote.
fn word<T>(row: &SqliteRow, column: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, sqlx::Error> {
    let text: String = row.try_get(column)?;
    parse(&text).ok_or_else(|| decode(column, format!("unknown value {text:?}")))
}

fn decode(column: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: source.into() }
}

fn rows(limit: usize) -> i64 {
    let limit = if limit == 0 { LIMIT } else { limit.min(MAX_LIMIT) };
    i64::try_from(limit).expect("at most MAX_LIMIT")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn trouble(path: &Path) -> (Trouble, String) {
        let error = Store::open(path).await.unwrap_err();
        (error.trouble(), error.to_string())
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_named_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("streams.db");
        fs::write(&path, "a letter to my aunt, and by no means a database".repeat(100)).unwrap();
        let (trouble, text) = trouble(&path).await;
        assert_eq!(trouble, Trouble::Corrupt);
        assert!(text.contains(path.to_str().unwrap()) && text.contains("move it away"), "{text}");
    }

    #[tokio::test]
    async fn a_folder_is_refused_as_a_database() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(trouble(folder.path()).await.0, Trouble::NoFile);
    }

    #[tokio::test]
    async fn a_path_through_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(trouble(&folder.path().join("file/streams.db")).await.0, Trouble::NoFile);
    }

    #[tokio::test]
    async fn a_database_of_a_newer_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("streams.db");
        let store = Store::open(&path).await.unwrap();
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9001, 'from the future', 1, x'00', 0)",
        )
        .execute(&store.pool)
        .await
        .unwrap();
        store.close().await;
        let (trouble, text) = trouble(&path).await;
        assert_eq!(trouble, Trouble::TooNew(9001));
        assert!(text.contains("newer version"), "{text}");
    }

    #[tokio::test]
    async fn a_database_that_cannot_be_written_is_refused_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("streams.db");
        Store::open(&path).await.unwrap().close().await;
        // A connection that may not write stands for a disk that may not: root is not stopped by a file's mode.
        let options = SqliteConnectOptions::new().filename(&path).pragma("query_only", "1");
        let opened = Store::migrated(&path, SqlitePoolOptions::new(), options).await;
        assert_eq!(opened.unwrap_err().trouble(), Trouble::ReadOnly);
    }

    #[test]
    fn errors_of_the_system_are_told_apart() {
        let of = |kind: std::io::ErrorKind| StoreError::from_io(Path::new("x"), kind.into()).trouble();
        assert_eq!(of(std::io::ErrorKind::ReadOnlyFilesystem), Trouble::ReadOnly);
        assert_eq!(of(std::io::ErrorKind::PermissionDenied), Trouble::Permission);
        assert_eq!(of(std::io::ErrorKind::StorageFull), Trouble::Full);
    }

    #[tokio::test]
    async fn connections_are_durable_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("deep/down/streams.db")).await.unwrap();
        let pragma = |name: &'static str| {
            let pool = store.pool.clone();
            async move { sqlx::query(name).fetch_one(&pool).await.unwrap() }
        };
        assert_eq!(pragma("PRAGMA journal_mode").await.get::<String, _>(0), "wal");
        assert_eq!(pragma("PRAGMA synchronous").await.get::<i64, _>(0), 2);
        assert_eq!(pragma("PRAGMA foreign_keys").await.get::<i64, _>(0), 1);
        assert_eq!(pragma("PRAGMA cache_size").await.get::<i64, _>(0), -512);
    }

    #[test]
    fn times_compare_as_text() {
        let whole: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let later = whole + Duration::from_micros(1);
        assert!(text(whole) < text(later), "{} {}", text(whole), text(later));
    }
}
