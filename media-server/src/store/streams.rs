//! Rows of streams: written whole each time, so that a write that failed can be done again later.

use super::sessions::{self, SessionRow};
use super::{Store, StoreError, events, optional_time, rows, text, time, word};
use crate::control::{Event, RoomName, StreamId, StreamQuery, StreamState};
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use std::sync::Arc;

/// A stream, as it is remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRow {
    /// Its id.
    pub id: StreamId,
    /// Its room.
    pub room: RoomName,
    /// A name for people.
    pub name: Option<String>,
    /// The identity that made it.
    pub owner: String,
    /// The account it counts for.
    pub account: Option<String>,
    /// The newest publisher's identity.
    pub publisher: Option<String>,
    /// Where it stands.
    pub state: StreamState,
    /// Made before its publisher came: it waits, also across restarts.
    pub ahead: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the first media came.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it ended.
    pub end_reason: Option<String>,
}

/// Something to write.
#[derive(Clone, Debug)]
pub enum Change {
    /// A stream, new or as it is now. One that has ended stays as it is.
    Stream(Box<StreamRow>),
    /// A session that was let in.
    SessionStarted(Box<SessionRow>),
    /// A session that connected.
    SessionConnected {
        /// Its row.
        id: String,
        /// When.
        at: Timestamp,
    },
    /// A session that is over.
    SessionEnded {
        /// Its row.
        id: String,
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
    /// An event that reports changes before it.
    Event(Arc<Event>),
}

/// What an earlier process left open.
#[derive(Debug)]
pub struct Leftovers {
    /// Streams that wait for their publisher: they still do.
    pub waiting: Vec<StreamRow>,
    /// Streams that were ended now.
    pub ended: Vec<StreamRow>,
    /// Sessions that were ended now.
    pub sessions: u64,
}

/// The end reason of what a restart ended.
const RESTART: &str = "server-restart";

impl Store {
    /// Writes `changes` in order, all or none.
    pub async fn apply(&self, changes: &[Change]) -> Result<(), StoreError> {
        let write = async {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            for change in changes {
                apply(&mut transaction, change).await?;
            }
            transaction.commit().await
        };
        write.await.map_err(|e| self.error(e))
    }

    /// Notes that all live streams were live at `now`.
    pub async fn heartbeat(&self, now: Timestamp) -> Result<(), StoreError> {
        let beat = sqlx::query("UPDATE streams SET seen_at = ? WHERE state = 'live'").bind(text(now));
        beat.execute(&self.pool).await.map(drop).map_err(|e| self.error(e))
    }

    /// Ends what an earlier process left open, as of when it was last seen. To be called before anything new is
    /// written.
    pub async fn end_leftovers(&self) -> Result<Leftovers, StoreError> {
        let work = async {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            let sessions = sqlx::query(
                "UPDATE sessions SET reason = ?1, ended_at = MAX(
                     COALESCE(connected_at, started_at),
                     COALESCE((SELECT seen_at FROM streams WHERE streams.id = sessions.stream), started_at))
                 WHERE ended_at IS NULL",
            )
            .bind(RESTART)
            .execute(&mut *transaction)
            .await?;
            let streams = sqlx::query(
                "UPDATE streams SET state = 'ended', end_reason = ?1,
                     ended_at = COALESCE(seen_at, started_at, created_at)
                 WHERE state = 'live' OR (state = 'created' AND NOT ahead) RETURNING *",
            )
            .bind(RESTART)
            .fetch_all(&mut *transaction)
            .await?;
            let waiting = sqlx::query("SELECT * FROM streams WHERE state = 'created' ORDER BY id")
                .fetch_all(&mut *transaction)
                .await?;
            transaction.commit().await?;
            let rows = |found: Vec<SqliteRow>| found.iter().map(stream).collect::<Result<_, _>>();
            Ok(Leftovers { waiting: rows(waiting)?, ended: rows(streams)?, sessions: sessions.rows_affected() })
        };
        work.await.map_err(|e| self.error(e))
    }

    /// Lists streams, newest first.
    pub async fn streams(&self, query: &StreamQuery) -> Result<Vec<StreamRow>, StoreError> {
        let found = sqlx::query(
            "SELECT * FROM streams
             WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR room = ?2) AND (?3 IS NULL OR id < ?3)
             ORDER BY id DESC LIMIT ?4",
        )
        .bind(query.state.map(StreamState::as_str))
        .bind(query.room.as_ref().map(RoomName::as_str))
        .bind(query.before.as_ref().map(StreamId::as_str))
        .bind(rows(query.limit))
        .fetch_all(&self.pool)
        .await;
        found.and_then(|rows| rows.iter().map(stream).collect()).map_err(|e| self.error(e))
    }

    /// One stream.
    pub async fn stream(&self, id: &StreamId) -> Result<Option<StreamRow>, StoreError> {
        let found =
            sqlx::query("SELECT * FROM streams WHERE id = ?").bind(id.as_str()).fetch_optional(&self.pool).await;
        found.and_then(|row| row.as_ref().map(stream).transpose()).map_err(|e| self.error(e))
    }
}

async fn apply(connection: &mut SqliteConnection, change: &Change) -> Result<(), sqlx::Error> {
    match change {
        Change::Stream(row) => put(connection, row).await,
        Change::SessionStarted(row) => sessions::put(connection, row).await,
        Change::SessionConnected { id, at } => sessions::connected(connection, id, *at).await,
        Change::SessionEnded { id, at, reason } => sessions::ended(connection, id, *at, reason).await,
        Change::Event(event) => events::put(connection, event).await,
    }
}

async fn put(connection: &mut SqliteConnection, row: &StreamRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO streams
             (id, room, name, owner, account, publisher, state, ahead,
              created_at, started_at, ended_at, end_reason, seen_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, COALESCE(?11, ?10))
         ON CONFLICT (id) DO UPDATE SET
             room = excluded.room, name = excluded.name, owner = excluded.owner, account = excluded.account,
             publisher = excluded.publisher, state = excluded.state, ahead = excluded.ahead,
             created_at = excluded.created_at, started_at = excluded.started_at, ended_at = excluded.ended_at,
             end_reason = excluded.end_reason,
             seen_at = CASE WHEN streams.seen_at > excluded.seen_at THEN streams.seen_at ELSE excluded.seen_at END
         WHERE streams.state <> 'ended'",
    )
    .bind(row.id.as_str())
    .bind(row.room.as_str())
    .bind(row.name.as_deref())
    .bind(&row.owner)
    .bind(row.account.as_deref())
    .bind(row.publisher.as_deref())
    .bind(row.state.as_str())
    .bind(row.ahead)
    .bind(text(row.created_at))
    .bind(row.started_at.map(text))
    .bind(row.ended_at.map(text))
    .bind(row.end_reason.as_deref())
    .execute(connection)
    .await
    .map(drop)
}

fn stream(row: &SqliteRow) -> Result<StreamRow, sqlx::Error> {
    Ok(StreamRow {
        id: word(row, "id", StreamId::parse)?,
        room: word(row, "room", |name| RoomName::parse(name).ok())?,
        name: row.try_get("name")?,
        owner: row.try_get("owner")?,
        account: row.try_get("account")?,
        publisher: row.try_get("publisher")?,
        state: word(row, "state", StreamState::parse)?,
        ahead: row.try_get("ahead")?,
        created_at: time(row, "created_at")?,
        started_at: optional_time(row, "started_at")?,
        ended_at: optional_time(row, "ended_at")?,
        end_reason: row.try_get("end_reason")?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::Role;

    pub(in crate::store) fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    pub(in crate::store) fn row(room: &str, state: StreamState) -> StreamRow {
        StreamRow {
            id: StreamId::random(),
            room: RoomName::parse(room).unwrap(),
            name: None,
            owner: "camera".into(),
            account: Some("acme".into()),
            publisher: Some("camera".into()),
            state,
            ahead: false,
            created_at: at(0),
            started_at: (state != StreamState::Created).then(|| at(1)),
            ended_at: (state == StreamState::Ended).then(|| at(9)),
            end_reason: (state == StreamState::Ended).then(|| "ended".into()),
        }
    }

    fn session(id: &str, of: &StreamRow) -> SessionRow {
        SessionRow {
            id: id.into(),
            stream: of.id.clone(),
            role: Role::Subscriber,
            subject: "viewer".into(),
            account: None,
            started_at: at(2),
            connected_at: None,
            ended_at: None,
            reason: None,
        }
    }

    fn put(row: &StreamRow) -> Change {
        Change::Stream(Box::new(row.clone()))
    }

    #[tokio::test]
    async fn a_stream_is_found_as_it_was_written() {
        let store = Store::in_memory().await.unwrap();
        let mut one = row("r", StreamState::Live);
        store.apply(&[put(&one)]).await.unwrap();
        assert_eq!(store.stream(&one.id).await.unwrap().unwrap(), one);
        one.publisher = Some("other".into());
        store.apply(&[put(&one)]).await.unwrap();
        assert_eq!(store.stream(&one.id).await.unwrap().unwrap(), one);
    }

    #[tokio::test]
    async fn a_late_write_does_not_bring_an_ended_stream_back() {
        let store = Store::in_memory().await.unwrap();
        let live = row("r", StreamState::Live);
        let ended = StreamRow { id: live.id.clone(), ..row("r", StreamState::Ended) };
        store.apply(&[put(&live), put(&ended), put(&live)]).await.unwrap();
        assert_eq!(store.stream(&live.id).await.unwrap().unwrap().state, StreamState::Ended);
    }

    #[tokio::test]
    async fn pages_are_newest_first_and_have_no_holes() {
        let store = Store::in_memory().await.unwrap();
        let all: Vec<_> = (0..7).map(|_| row("r", StreamState::Ended)).collect();
        store.apply(&all.iter().map(put).collect::<Vec<_>>()).await.unwrap();
        store.apply(&[put(&row("other", StreamState::Live))]).await.unwrap();
        let mut query = StreamQuery { room: RoomName::parse("r").ok(), limit: 3, ..StreamQuery::default() };
        let mut seen = Vec::new();
        loop {
            let page = store.streams(&query).await.unwrap();
            let Some(last) = page.last() else { break };
            query.before = Some(last.id.clone());
            seen.extend(page.into_iter().map(|row| row.id));
        }
        assert_eq!(seen, all.iter().rev().map(|row| row.id.clone()).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn restart_tells_the_truth() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("streams.db");
        let (live, ended) = (row("a", StreamState::Live), row("b", StreamState::Ended));
        let waiting = StreamRow { ahead: true, ..row("c", StreamState::Created) };
        let connecting = row("d", StreamState::Created);
        {
            let store = Store::open(&path).await.unwrap();
            let changes = [put(&live), put(&ended), put(&waiting), put(&connecting)];
            store.apply(&changes).await.unwrap();
            store.apply(&[Change::SessionStarted(Box::new(session("s", &live)))]).await.unwrap();
            store.heartbeat(at(77)).await.unwrap();
            // Not closed: the process was killed.
        }
        let store = Store::open(&path).await.unwrap();
        let left = store.end_leftovers().await.unwrap();
        let mut rooms: Vec<_> = left.ended.iter().map(|row| row.room.as_str()).collect();
        rooms.sort_unstable();
        assert_eq!((rooms, left.sessions), (vec!["a", "d"], 1));
        assert_eq!(left.waiting, [waiting]);
        let after = store.stream(&live.id).await.unwrap().unwrap();
        assert_eq!(after.state, StreamState::Ended);
        assert_eq!((after.end_reason.as_deref(), after.ended_at), (Some("server-restart"), Some(at(77))));
        assert_eq!(store.stream(&ended.id).await.unwrap().unwrap(), ended);
        let sessions = store.sessions(&live.id).await.unwrap();
        assert_eq!((sessions[0].reason.as_deref(), sessions[0].ended_at), (Some("server-restart"), Some(at(77))));
        let again = store.end_leftovers().await.unwrap();
        assert_eq!((again.ended.len(), again.sessions), (0, 0));
    }

    #[tokio::test]
    async fn a_batch_is_written_whole_or_not_at_all() {
        let store = Store::in_memory().await.unwrap();
        let (good, absent) = (row("r", StreamState::Live), row("r", StreamState::Live));
        let orphan = Change::SessionStarted(Box::new(session("s", &absent)));
        assert!(store.apply(&[put(&good), orphan]).await.is_err());
        assert_eq!(store.stream(&good.id).await.unwrap(), None);
    }
}
