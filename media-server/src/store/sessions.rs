//! Rows of sessions: who was where, from when to when, and why it ended. The secret key of a session is not kept.

use super::{Store, StoreError, optional_time, text, time, word};
use crate::control::{Role, StreamId};
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

/// A session, as it is remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRow {
    /// A UUID of version 7; not the session's key.
    pub id: String,
    /// Its stream.
    pub stream: StreamId,
    /// Which side.
    pub role: Role,
    /// Who.
    pub subject: String,
    /// Of which account.
    pub account: Option<String>,
    /// When it was let in.
    pub started_at: Timestamp,
    /// When it connected.
    pub connected_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it ended.
    pub reason: Option<String>,
}

impl Store {
    /// The sessions of a stream, oldest first; at most 500.
    pub async fn sessions(&self, stream: &StreamId) -> Result<Vec<SessionRow>, StoreError> {
        let found = sqlx::query("SELECT * FROM sessions WHERE stream = ? ORDER BY id LIMIT 500")
            .bind(stream.as_str())
            .fetch_all(&self.pool)
            .await;
        found.and_then(|rows| rows.iter().map(session).collect()).map_err(|e| self.error(e))
    }
}

pub(super) async fn put(connection: &mut SqliteConnection, row: &SessionRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO sessions (id, stream, role, subject, account, started_at, connected_at, ended_at, reason)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&row.id)
    .bind(row.stream.as_str())
    .bind(row.role.as_str())
    .bind(&row.subject)
    .bind(row.account.as_deref())
    .bind(text(row.started_at))
    .bind(row.connected_at.map(text))
    .bind(row.ended_at.map(text))
    .bind(row.reason.as_deref())
    .execute(connection)
    .await
    .map(drop)
}

pub(super) async fn connected(connection: &mut SqliteConnection, id: &str, at: Timestamp) -> Result<(), sqlx::Error> {
    let update = sqlx::query("UPDATE sessions SET connected_at = ? WHERE id = ? AND connected_at IS NULL");
    update.bind(text(at)).bind(id).execute(connection).await.map(drop)
}

pub(super) async fn ended(
    connection: &mut SqliteConnection,
    id: &str,
    at: Timestamp,
    reason: &str,
) -> Result<(), sqlx::Error> {
    let update = sqlx::query("UPDATE sessions SET ended_at = ?, reason = ? WHERE id = ? AND ended_at IS NULL");
    update.bind(text(at)).bind(reason).bind(id).execute(connection).await.map(drop)
}

fn session(row: &SqliteRow) -> Result<SessionRow, sqlx::Error> {
    Ok(SessionRow {
        id: row.try_get("id")?,
        stream: word(row, "stream", StreamId::parse)?,
        role: word(row, "role", |role| [Role::Publisher, Role::Subscriber].into_iter().find(|r| r.as_str() == role))?,
        subject: row.try_get("subject")?,
        account: row.try_get("account")?,
        started_at: time(row, "started_at")?,
        connected_at: optional_time(row, "connected_at")?,
        ended_at: optional_time(row, "ended_at")?,
        reason: row.try_get("reason")?,
    })
}
