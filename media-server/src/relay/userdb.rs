//! The database of coturn's secrets: SQLite, one table, which coturn reads at each authentication (its `turn_secret` in
//! schema.sql, used with `use-auth-secret`).
//!
//! In WAL mode a writer keeps no reader waiting: coturn does not wait for a lock, it refuses the client. The connection
//! stays open for as long as the relay runs, because opening and closing the last one take locks too.

use super::error::RelayError;
use crate::auth::Secret;
use crate::turn::SharedSecret;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// See the module.
pub(super) struct Userdb {
    connection: SqliteConnection,
    path: PathBuf,
    realm: String,
}

impl Userdb {
    /// An empty database in place of any that an earlier run left, readable by its owner alone.
    pub(super) async fn create(path: &Path, realm: &str) -> Result<Userdb, RelayError> {
        fresh(path).map_err(|source| RelayError::State { path: path.to_owned(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Off)
            .busy_timeout(Duration::from_secs(5));
        let create = async {
            let mut connection = options.connect().await?;
            let table = "CREATE TABLE turn_secret (realm varchar(127) DEFAULT '', value varchar(256), PRIMARY KEY (realm, value))";
            sqlx::query(table).execute(&mut connection).await?;
            Ok(connection)
        };
        let connection = create.await.map_err(|source| RelayError::Userdb { path: path.to_owned(), source })?;
        Ok(Userdb { connection, path: path.to_owned(), realm: realm.to_owned() })
    }

    /// These secrets are good from now on, and no others.
    pub(super) async fn replace(&mut self, secret: &SharedSecret) -> Result<(), RelayError> {
        let Userdb { connection, path, realm } = self;
        let write = async {
            let mut transaction = connection.begin().await?;
            sqlx::query("DELETE FROM turn_secret").execute(&mut *transaction).await?;
            for secret in [Some(&secret.current), secret.previous.as_ref()].into_iter().flatten() {
                let insert = sqlx::query("INSERT INTO turn_secret (realm, value) VALUES (?, ?)");
                insert.bind(realm.as_str()).bind(text(secret)).execute(&mut *transaction).await?;
            }
            transaction.commit().await
        };
        write.await.map_err(|source| RelayError::Userdb { path: path.clone(), source })
    }
}

fn text(secret: &Secret) -> String {
    String::from_utf8_lossy(secret.expose()).into_owned()
}

fn fresh(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::SystemTime;

    fn secret(current: &str, previous: Option<&str>) -> SharedSecret {
        SharedSecret { current: Secret::new(current), previous: previous.map(Secret::new), since: SystemTime::now() }
    }

    /// As coturn reads: without waiting for anybody.
    async fn reader(path: &Path) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::ZERO);
        options.connect().await.unwrap()
    }

    async fn values(reader: &mut SqliteConnection) -> Vec<String> {
        let query = sqlx::query_scalar("SELECT value FROM turn_secret WHERE realm = 'cams' ORDER BY value");
        query.fetch_all(reader).await.unwrap()
    }

    #[tokio::test]
    async fn only_the_secrets_of_the_last_change_are_there_and_only_the_owner_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("turn.sqlite");
        let mut userdb = Userdb::create(&path, "cams").await.unwrap();
        let mut reader = reader(&path).await;
        for (secret, wanted) in [
            (secret("a", None), vec!["a"]),
            (secret("b", Some("a")), vec!["a", "b"]),
            (secret("it's \"quoted\"", None), vec!["it's \"quoted\""]),
        ] {
            userdb.replace(&secret).await.unwrap();
            assert_eq!(values(&mut reader).await, wanted);
        }
        for file in fs::read_dir(folder.path()).unwrap() {
            let mode = file.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        drop(userdb);
        let _again = Userdb::create(&path, "cams").await.unwrap();
        assert_eq!(values(&mut self::reader(&path).await).await, Vec::<String>::new());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_reader_that_does_not_wait_is_never_refused_while_secrets_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("turn.sqlite");
        let mut userdb = Userdb::create(&path, "cams").await.unwrap();
        userdb.replace(&secret("0", None)).await.unwrap();
        let mut reader = reader(&path).await;
        let writing = tokio::spawn(async move {
            for round in 1..300 {
                userdb.replace(&secret(&round.to_string(), Some("old"))).await.unwrap();
            }
            userdb
        });
        while !writing.is_finished() {
            assert!(!values(&mut reader).await.is_empty());
        }
        writing.await.unwrap();
    }
}
