//! What can be wrong with a database file, and what to do about it: every error names the file and the remedy.
//!
//! Codes are SQLite's primary result codes (sqlite.org/rescode.html).

use sqlx::migrate::MigrateError;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

/// Why the database refused. The text names the file, what is wrong, and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("database {}: {trouble}; {}", path.display(), trouble.remedy())]
pub struct StoreError {
    path: PathBuf,
    trouble: Trouble,
    source: Box<dyn Error + Send + Sync>,
}

/// What is wrong with the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The disk is mounted read-only, or the file is.
    #[error("it cannot be written, the disk or the file is read-only")]
    ReadOnly,
    /// The process may not read or write the file or its folder.
    #[error("no permission to read and write it and its folder")]
    Permission,
    /// No space, or no quota.
    #[error("the disk is full")]
    Full,
    /// The path is a folder, or a part of it is a file.
    #[error("this is no path of a file")]
    NoFile,
    /// Not an SQLite database, or a damaged one.
    #[error("it is damaged, or no SQLite database")]
    Corrupt,
    /// A newer version of this program made it.
    #[error("a newer version of this program made it (schema {0})")]
    TooNew(i64),
    /// Its schema is not what this program's migrations made.
    #[error("its schema {0} is not the one of this program")]
    Foreign(i64),
    /// Another process holds it.
    #[error("another process has it locked")]
    Busy,
    /// The disk gave an error.
    #[error("the disk gave an error")]
    Disk,
    /// Anything else: see the source.
    #[error("a query failed")]
    Query,
}

impl StoreError {
    /// Returns whether the database refuses every query, not only this one.
    pub fn is_outage(&self) -> bool {
        self.trouble != Trouble::Query
    }
}

impl Trouble {
    /// What an operator can do.
    pub fn remedy(self) -> &'static str {
        match self {
            Trouble::ReadOnly => "mount the disk read-write, or choose another path",
            Trouble::Permission => {
                "give the server's user read and write permission for the folder, or choose another path"
            }
            Trouble::Full => "free some space, or shorten recording.retention",
            Trouble::NoFile => "choose the path of a file",
            Trouble::Corrupt => "restore it from a backup, or move it away: recordings stay and a new one is made",
            Trouble::TooNew(_) => "run that version again, or choose another path",
            Trouble::Foreign(_) => "choose another path",
            Trouble::Busy => "stop the other server, or give each its own database",
            Trouble::Disk => "look into the system's log for errors of the disk",
            Trouble::Query => "look into the log, and report it",
        }
    }
}

impl StoreError {
    /// What is wrong.
    pub fn trouble(&self) -> Trouble {
        self.trouble
    }

    pub(super) fn from_io(path: &Path, error: io::Error) -> StoreError {
        let trouble = match error.kind() {
            io::ErrorKind::PermissionDenied => Trouble::Permission,
            io::ErrorKind::ReadOnlyFilesystem => Trouble::ReadOnly,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Trouble::Full,
            io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                Trouble::NoFile
            }
            io::ErrorKind::NotFound => Trouble::NoFile,
            _ => Trouble::Disk,
        };
        StoreError { path: path.to_owned(), trouble, source: Box::new(error) }
    }

    pub(super) fn from_sqlx(path: &Path, error: sqlx::Error) -> StoreError {
        StoreError { path: path.to_owned(), trouble: judge(&error), source: Box::new(error) }
    }

    pub(super) fn from_migrate(path: &Path, error: MigrateError) -> StoreError {
        let trouble = match &error {
            MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
                Trouble::TooNew(*version)
            }
            MigrateError::VersionMismatch(version) | MigrateError::Dirty(version) => Trouble::Foreign(*version),
            MigrateError::ExecuteMigration(inner, version) => match judge(inner) {
                Trouble::Query => Trouble::Foreign(*version),
                other => other,
            },
            MigrateError::Execute(inner) => judge(inner),
            _ => Trouble::Query,
        };
        StoreError { path: path.to_owned(), trouble, source: Box::new(error) }
    }
}

fn judge(error: &sqlx::Error) -> Trouble {
    match error {
        sqlx::Error::Database(refused) => {
            // An extended code keeps the primary one in its lowest byte.
            let code = refused.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or_default();
            match code & 0xff {
                3 | 23 => Trouble::Permission,
                5 | 6 => Trouble::Busy,
                8 => Trouble::ReadOnly,
                10 => Trouble::Disk,
                11 | 26 => Trouble::Corrupt,
                13 => Trouble::Full,
                14 => Trouble::Permission,
                _ => Trouble::Query,
            }
        }
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => Trouble::Corrupt,
        sqlx::Error::PoolTimedOut => Trouble::Busy,
        sqlx::Error::Io(_) => Trouble::Disk,
        _ => Trouble::Query,
    }
}
