//! Deletes old rows in small batches, so that other writers wait for a short time only.

use super::{Store, StoreError, text, time};
use jiff::Timestamp;
use sqlx::Row;
use std::time::Duration;

/// Rows of one transaction.
const BATCH: i64 = 500;

/// The rows of a table that are kept.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Older rows are deleted.
    pub since: Timestamp,
    /// The maximum number of rows; the newest stay.
    pub rows: u32,
}

/// The position of a pass over the ended streams.
#[derive(Clone, Debug)]
pub struct StreamCursor {
    ended_at: Timestamp,
    id: String,
}

const EVENTS_BY_COUNT: &str = "SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?";
const EVENTS: &str = "SELECT id FROM events WHERE at < ? ORDER BY at LIMIT ?";
const SESSIONS_BY_COUNT: &str =
    "SELECT ended_at FROM sessions WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT 1 OFFSET ?";
const SESSIONS: &str = "SELECT id FROM sessions WHERE ended_at IS NOT NULL AND ended_at < ? ORDER BY ended_at LIMIT ?";
const STREAMS_BY_COUNT: &str =
    "SELECT ended_at FROM streams WHERE state = 'ended' ORDER BY ended_at DESC LIMIT 1 OFFSET ?";
const STREAMS: &str = "SELECT id, ended_at, EXISTS (SELECT 1 FROM recordings WHERE stream = streams.id) AS recorded
     FROM streams WHERE state = 'ended' AND (ended_at, id) > (?, ?) AND ended_at < ? ORDER BY ended_at, id LIMIT ?";

impl Store {
    /// Deletes a batch of old events. Returns how many; 0 when none is left to delete.
    pub async fn expire_events(&self, kept: Kept) -> Result<u64, StoreError> {
        let delete = async {
            let surplus: Option<i64> =
                sqlx::query_scalar(EVENTS_BY_COUNT).bind(kept.rows).fetch_optional(&self.pool).await?;
            let by_count =
                sqlx::query("DELETE FROM events WHERE id IN (SELECT id FROM events WHERE id <= ? ORDER BY id LIMIT ?)");
            let counted = by_count.bind(surplus).bind(BATCH).execute(&self.pool).await?.rows_affected();
            let by_age = sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM events WHERE id IN ({EVENTS})")));
            let aged = by_age.bind(text(kept.since)).bind(BATCH).execute(&self.pool).await?.rows_affected();
            Ok(counted + aged)
        };
        delete.await.map_err(|e| self.error(e))
    }

    /// Deletes a batch of sessions that ended long ago. Returns how many; 0 when none is left to delete.
    pub async fn expire_sessions(&self, kept: Kept) -> Result<u64, StoreError> {
        let delete = async {
            let end = self.end_of(kept, SESSIONS_BY_COUNT).await?;
            let delete = sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM sessions WHERE id IN ({SESSIONS})")));
            Ok(delete.bind(end).bind(BATCH).execute(&self.pool).await?.rows_affected())
        };
        delete.await.map_err(|e| self.error(e))
    }

    /// Reads a batch of ended streams, from the oldest on, and deletes those without a recording, with their sessions. Returns
    /// how many, and the position for the next batch; `None` at the end. Sessions expire first: then few go with their stream.
    pub async fn expire_streams(
        &self,
        kept: Kept,
        after: Option<StreamCursor>,
    ) -> Result<(u64, Option<StreamCursor>), StoreError> {
        let work = async {
            let end = self.end_of(kept, STREAMS_BY_COUNT).await?;
            let (ended_at, id) = after.map(|after| (text(after.ended_at), after.id)).unwrap_or_default();
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            let query = sqlx::query(STREAMS).bind(ended_at).bind(id).bind(end).bind(BATCH);
            let rows = query.fetch_all(&mut *transaction).await?;
            let mut deleted = 0;
            for row in &rows {
                if !row.try_get::<bool, _>("recorded")? {
                    let delete = sqlx::query("DELETE FROM streams WHERE id = ?").bind(row.try_get::<String, _>("id")?);
                    deleted += delete.execute(&mut *transaction).await?.rows_affected();
                }
            }
            transaction.commit().await?;
            let next = match rows.last() {
                Some(row) => Some(StreamCursor { ended_at: time(row, "ended_at")?, id: row.try_get("id")? }),
                None => None,
            };
            Ok((deleted, next))
        };
        work.await.map_err(|e| self.error(e))
    }

    /// Returns the time, as text, before which rows expire, by age or because `by_count` finds more than are kept.
    async fn end_of(&self, kept: Kept, by_count: &'static str) -> Result<String, sqlx::Error> {
        let surplus = sqlx::query(by_count).bind(kept.rows).fetch_optional(&self.pool).await?;
        let surplus = surplus.map(|row| time(&row, "ended_at")).transpose()?;
        // That row expires, too.
        let after = surplus.map(|at| at + Duration::from_micros(1));
        Ok(text(after.map_or(kept.since, |after| after.max(kept.since))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::events::tests::numbered;
    use super::super::streams::tests::{at, row};
    use super::*;
    use crate::control::{RecordingId, Role, StreamState};
    use crate::store::{Change, NewRecording, SessionRow, StreamRow};
    use std::sync::Arc;

    fn kept(since: i64, rows: u32) -> Kept {
        Kept { since: at(since), rows }
    }

    fn ended(seconds: i64) -> StreamRow {
        StreamRow { ended_at: Some(at(seconds)), ..row("r", StreamState::Ended) }
    }

    fn session(id: &str, of: &StreamRow, ended_at: Option<Timestamp>) -> Change {
        Change::SessionStarted(Box::new(SessionRow {
            id: id.into(),
            stream: of.id.clone(),
            role: Role::Subscriber,
            subject: "viewer".into(),
            account: None,
            started_at: at(1),
            connected_at: None,
            reason: ended_at.map(|_| "deleted".into()),
            ended_at,
        }))
    }

    async fn store_with(streams: &[StreamRow]) -> Store {
        let store = Store::in_memory().await.unwrap();
        let changes: Vec<_> = streams.iter().map(|row| Change::Stream(Box::new(row.clone()))).collect();
        store.apply(&changes).await.unwrap();
        store
    }

    /// Which of the streams are still there, after passes until the end.
    async fn remaining(store: &Store, kept: Kept, streams: &[StreamRow]) -> Vec<bool> {
        let mut cursor = None;
        loop {
            (_, cursor) = store.expire_streams(kept, cursor).await.unwrap();
            if cursor.is_none() {
                break;
            }
        }
        let mut found = Vec::new();
        for stream in streams {
            found.push(store.stream(&stream.id).await.unwrap().is_some());
        }
        found
    }

    #[tokio::test]
    async fn events_expire_by_age_and_by_count() {
        let store = Store::in_memory().await.unwrap();
        let events: Vec<_> = (1..=1200).map(|id| Change::Event(Arc::new(numbered(id)))).collect();
        store.apply(&events).await.unwrap();
        let mut batches = Vec::new();
        loop {
            match store.expire_events(kept(0, 100)).await.unwrap() {
                0 => break,
                deleted => batches.push(deleted),
            }
        }
        assert_eq!(batches, [500, 500, 100], "by count, in batches");
        assert_eq!(store.expire_events(kept(1150, 100)).await.unwrap(), 49, "by age");
        let left = store.events_between(0, u64::MAX, 999).await.unwrap();
        assert_eq!((left[0].id, left.len()), (1150, 51));
    }

    #[tokio::test]
    async fn ended_streams_expire_unless_recorded() {
        let live = row("live", StreamState::Live);
        let streams = [ended(10), ended(20), ended(30), ended(40), live];
        let store = store_with(&streams).await;
        let stream = streams[1].id.clone();
        let (id, room) = (RecordingId::first_of(&stream), streams[1].room.clone());
        store.recording_started(&NewRecording { id, room, path: "p".into(), stream, started_at: at(1) }).await.unwrap();
        store.apply(&[session("s", &streams[0], Some(at(9)))]).await.unwrap();
        assert_eq!(remaining(&store, kept(31, 100), &streams).await, [false, true, false, true, true]);
        assert!(store.sessions(&streams[0].id).await.unwrap().is_empty(), "sessions go with their stream");
        // By count, whatever their age: the newest one stays.
        assert_eq!(remaining(&store, kept(0, 1), &streams).await, [false, true, false, true, true]);
        assert_eq!(remaining(&store, kept(0, 0), &streams).await, [false, true, false, false, true]);
    }

    #[tokio::test]
    async fn a_pass_over_many_streams_deletes_all_in_batches() {
        let streams: Vec<_> = (0..1100).map(|n| ended(n % 7)).collect();
        let store = store_with(&streams).await;
        let (deleted, cursor) = store.expire_streams(kept(100, 9999), None).await.unwrap();
        assert_eq!((deleted, cursor.is_some()), (500, true));
        assert!(remaining(&store, kept(100, 9999), &streams).await.iter().all(|there| !there));
    }

    #[tokio::test]
    async fn sessions_expire_while_their_stream_lives() {
        let live = row("r", StreamState::Live);
        let store = store_with(std::slice::from_ref(&live)).await;
        let sessions = [("a", Some(at(5))), ("b", Some(at(15))), ("c", Some(at(25))), ("d", None)];
        store.apply(&sessions.map(|(id, ended_at)| session(id, &live, ended_at))).await.unwrap();
        let left = async || {
            let rows = store.sessions(&live.id).await.unwrap();
            rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
        };
        assert_eq!(store.expire_sessions(kept(10, 100)).await.unwrap(), 1);
        assert_eq!(left().await, ["b", "c", "d"]);
        assert_eq!(store.expire_sessions(kept(10, 1)).await.unwrap(), 1);
        assert_eq!(left().await, ["c", "d"], "the newest that ended, and the one that is connected");
        assert_eq!(store.expire_sessions(kept(10, 1)).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn expiry_reads_by_index() {
        let store = Store::in_memory().await.unwrap();
        for (sql, index) in [
            (EVENTS_BY_COUNT, "PRIMARY KEY"),
            (EVENTS, "events_by_at"),
            (SESSIONS_BY_COUNT, "sessions_ended"),
            (SESSIONS, "sessions_ended"),
            (STREAMS_BY_COUNT, "streams_ended"),
            (STREAMS, "streams_ended"),
        ] {
            let plan = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
            let rows = plan.fetch_all(&store.pool).await.unwrap();
            let plan = rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>().join("; ");
            assert!(!plan.contains("TEMP B-TREE"), "{plan}");
            assert!(plan.contains(index) || (index == "PRIMARY KEY" && plan.contains("SCAN events")), "{plan}");
        }
    }
}
