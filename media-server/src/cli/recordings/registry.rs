//! What a server's registry is asked, and told, when recordings are deleted.
//!
//! SQLite sees to it that this and a running server do not collide. The schema is left as it is, and tables may be missing:
//! this program may be newer or older than the server.

use crate::control::RecordingId;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The registry, in the server's data folder.
pub(super) const FILE_NAME: &str = "registry.sqlite";

/// The registry cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; run this as the server's user, or as root, or name the recordings' folder elsewhere by --dir", path.display())]
pub(super) struct RegistryError {
    path: PathBuf,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Whether the server brings recordings to a store.
pub(super) fn knows_a_store(registry: &Path) -> Result<bool, RegistryError> {
    within(registry, true, async |connection| {
        if !has(connection, "stored_recordings").await? {
            return Ok(false);
        }
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM stored_recordings)").fetch_one(connection).await
    })
}

/// Recordings that the server records, finishes, or uploads still, however long nothing came of that.
pub(super) fn wanted(registry: &Path) -> Result<BTreeSet<RecordingId>, RegistryError> {
    within(registry, true, async |connection| {
        let mut wanted = BTreeSet::new();
        for (table, select) in [
            ("uploads", "FROM uploads WHERE state <> 'verified'"),
            ("recordings", "FROM recordings WHERE state IN ('recording', 'finalising')"),
        ] {
            if let Some(column) = id_column(connection, table).await? {
                let select = format!("SELECT DISTINCT {column} {select}");
                let ids: Vec<String> = sqlx::query_scalar(AssertSqlSafe(select)).fetch_all(&mut *connection).await?;
                wanted.extend(ids.iter().filter_map(|id| RecordingId::parse(id)));
            }
        }
        Ok(wanted)
    })
}

/// Returns the id by which the server marks its prefix in a store.
pub(super) fn owner(registry: &Path) -> Result<Option<String>, RegistryError> {
    within(registry, true, async |connection| {
        if !has(connection, "journal_store").await? {
            return Ok(None);
        }
        sqlx::query_scalar("SELECT owner FROM journal_store").fetch_optional(connection).await
    })
}

/// Returns the stores that alone hold recordings of this server while it is configured for another one, each with their
/// number.
pub(super) fn elsewhere(registry: &Path) -> Result<Vec<(String, i64)>, RegistryError> {
    within(registry, true, async |connection| {
        if !columns(connection, "stored_recordings").await?.iter().any(|column| column == "elsewhere") {
            return Ok(Vec::new());
        }
        let counted =
            "SELECT elsewhere, count(*) FROM stored_recordings WHERE elsewhere IS NOT NULL GROUP BY elsewhere";
        sqlx::query_as(counted).fetch_all(connection).await
    })
}

/// Has the registry forget a recording.
pub(super) fn forget(registry: &Path, id: &RecordingId) -> Result<(), RegistryError> {
    within(registry, false, async |connection| {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for table in ["uploads", "stored_recordings", "recording_index", "open_segments", "recordings"] {
            if let Some(column) = id_column(&mut transaction, table).await? {
                let delete = format!("DELETE FROM {table} WHERE {column} = ?");
                sqlx::query(AssertSqlSafe(delete)).bind(id.as_str()).execute(&mut *transaction).await?;
            }
        }
        transaction.commit().await
    })
}

/// Returns the column that holds the ids of recordings; `None` without such a table. In older registries, where a stream had
/// one recording, it is `stream`.
async fn id_column(connection: &mut SqliteConnection, table: &str) -> Result<Option<&'static str>, sqlx::Error> {
    let columns = columns(connection, table).await?;
    Ok(["id", "recording", "stream"].into_iter().find(|name| columns.iter().any(|column| column == name)))
}

async fn columns(connection: &mut SqliteConnection, table: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT name FROM pragma_table_info(?)").bind(table).fetch_all(connection).await
}

async fn has(connection: &mut SqliteConnection, table: &str) -> Result<bool, sqlx::Error> {
    let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?)");
    query.bind(table).fetch_one(connection).await
}

fn within<T>(
    registry: &Path,
    read_only: bool,
    act: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
) -> Result<T, RegistryError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| RegistryError { path: registry.to_owned(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| failed(e.into()))?;
    let options =
        SqliteConnectOptions::new().filename(registry).read_only(read_only).busy_timeout(Duration::from_secs(5));
    let done = runtime.block_on(async {
        let mut connection = options.connect().await?;
        let done = act(&mut connection).await?;
        connection.close().await.map(|()| done)
    });
    done.map_err(|error| failed(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execute(path: &Path, statements: &'static [&'static str]) {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = options.connect().await.unwrap();
            for statement in statements {
                sqlx::query(*statement).execute(&mut connection).await.unwrap();
            }
            connection.close().await.unwrap();
        });
    }

    #[test]
    fn a_registry_of_any_version_is_asked_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        execute(&path, &["CREATE TABLE recordings (stream TEXT)"]);
        assert!(!knows_a_store(&path).unwrap());
        forget(&path, &RecordingId::random()).unwrap();
        execute(&path, &["ALTER TABLE recordings ADD COLUMN state TEXT"]);
        assert!(wanted(&path).unwrap().is_empty());
        execute(&path, &["CREATE TABLE stored_recordings (stream TEXT)"]);
        assert!(!knows_a_store(&path).unwrap());
        execute(&path, &["INSERT INTO stored_recordings VALUES ('x')"]);
        assert!(knows_a_store(&path).unwrap());
        assert_eq!(elsewhere(&path).unwrap(), []);
        execute(&path, &["ALTER TABLE stored_recordings ADD COLUMN elsewhere TEXT"]);
        assert_eq!(elsewhere(&path).unwrap(), []);
        execute(&path, &["INSERT INTO stored_recordings VALUES ('y', 'managed:/b/'), ('z', 'managed:/b/')"]);
        assert_eq!(elsewhere(&path).unwrap(), [("managed:/b/".to_owned(), 2)]);
    }

    #[test]
    fn what_is_no_registry_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let error = knows_a_store(&path).unwrap_err().to_string();
        assert!(error.contains("registry.sqlite") && !path.exists(), "{error}");
    }
}
