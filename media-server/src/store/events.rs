//! Rows of events: an outbox that listeners read from where they were.

use super::{Store, StoreError, text, time, word};
use crate::control::{Event, RoomName, StreamId};
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

/// The ids of a process's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventIds {
    /// The newest event of the processes before, or 0.
    pub newest: u64,
    /// The first id of this process.
    pub first: u64,
}

impl Store {
    /// Reserves ids: no process before had one of the `count` ids before the first.
    pub async fn reserve_event_ids(&self, count: u64) -> Result<EventIds, StoreError> {
        let reserve = sqlx::query(
            "UPDATE event_ids SET base = max(base, coalesce((SELECT max(id) FROM events), 0)) + ?
             RETURNING base, coalesce((SELECT max(id) FROM events), 0) AS newest",
        );
        let row = reserve.bind(signed(count)).fetch_one(&self.pool).await;
        let ids = |row: SqliteRow| {
            Ok(EventIds { newest: unsigned(row.try_get("newest")?), first: unsigned(row.try_get("base")?) + 1 })
        };
        row.and_then(ids).map_err(|e| self.error(e))
    }

    /// Returns the events after `id` and before `end`, oldest first, at most `limit`. Kinds of events that this version does not
    /// know are left out.
    pub async fn events_between(&self, id: u64, end: u64, limit: u32) -> Result<Vec<Event>, StoreError> {
        let found = sqlx::query("SELECT * FROM events WHERE id > ? AND id < ? ORDER BY id LIMIT ?")
            .bind(signed(id))
            .bind(signed(end))
            .bind(limit)
            .fetch_all(&self.pool)
            .await;
        found.and_then(|rows| rows.iter().filter_map(|row| event(row).transpose()).collect()).map_err(|e| self.error(e))
    }
}

pub(super) async fn put(connection: &mut SqliteConnection, event: &Event) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO events (id, previous, at, name, room, stream, data) VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(signed(event.id))
    .bind(signed(event.previous))
    .bind(text(event.at))
    .bind(event.name)
    .bind(event.room.as_str())
    .bind(event.stream.as_str())
    .bind(event.data.to_string())
    .execute(connection)
    .await
    .map(drop)
}

fn event(row: &SqliteRow) -> Result<Option<Event>, sqlx::Error> {
    let name: String = row.try_get("name")?;
    let Some(name) = Event::NAMES.into_iter().find(|known| *known == name) else { return Ok(None) };
    Ok(Some(Event {
        id: unsigned(row.try_get("id")?),
        previous: unsigned(row.try_get("previous")?),
        name,
        at: time(row, "at")?,
        room: word(row, "room", |name| RoomName::parse(name).ok())?,
        stream: word(row, "stream", StreamId::parse)?,
        data: word(row, "data", |text| serde_json::from_str::<Value>(text).ok())?,
    }))
}

/// SQLite's integers have a sign.
fn signed(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

fn unsigned(id: i64) -> u64 {
    u64::try_from(id).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::streams::tests::at;
    use super::*;
    use crate::store::Change;
    use std::sync::Arc;

    pub(in crate::store) fn numbered(id: u64) -> Event {
        Event {
            id,
            previous: id - 1,
            name: "viewers:changed",
            at: at(i64::try_from(id).unwrap()),
            room: RoomName::parse("r").unwrap(),
            stream: StreamId::random(),
            data: serde_json::json!({"viewers": id}),
        }
    }

    #[tokio::test]
    async fn events_are_read_as_written_oldest_first() {
        let store = Store::in_memory().await.unwrap();
        let events: Vec<_> = (1..6).map(numbered).collect();
        let changes: Vec<_> = events.iter().rev().map(|event| Change::Event(Arc::new(event.clone()))).collect();
        store.apply(&changes).await.unwrap();
        assert_eq!(store.events_between(1, 5, 9).await.unwrap(), events[1..4]);
        assert_eq!(store.events_between(1, 5, 2).await.unwrap(), events[1..3]);
        assert_eq!(store.events_between(0, u64::MAX, 9).await.unwrap(), events);
    }

    #[tokio::test]
    async fn reserved_ids_are_new_with_each_start() {
        let store = Store::in_memory().await.unwrap();
        assert_eq!(store.reserve_event_ids(100).await.unwrap(), EventIds { newest: 0, first: 101 });
        // Nothing was written, but ids may have been announced.
        assert_eq!(store.reserve_event_ids(100).await.unwrap(), EventIds { newest: 0, first: 201 });
        store.apply(&[Change::Event(Arc::new(numbered(350)))]).await.unwrap();
        assert_eq!(store.reserve_event_ids(100).await.unwrap(), EventIds { newest: 350, first: 451 });
    }

    #[tokio::test]
    async fn event_of_unknown_kind_is_left_out() {
        let store = Store::in_memory().await.unwrap();
        store.apply(&[Change::Event(Arc::new(numbered(1))), Change::Event(Arc::new(numbered(2)))]).await.unwrap();
        sqlx::query("UPDATE events SET name = 'future:event' WHERE id = 1").execute(&store.pool).await.unwrap();
        assert_eq!(store.events_between(0, 9, 9).await.unwrap().iter().map(|event| event.id).collect::<Vec<_>>(), [2]);
    }
}
