//! Deletes old rows of the registry: events, sessions, and streams without a recording.
//!
//! A pass each hour works in small batches with pauses, so that the journal is not held up. Each table is bounded by age and
//! by number. A stream with a recording stays as long as the recording.

use crate::store::{Kept, Store, StoreError};
use jiff::Timestamp;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The first pass, after the start.
const FIRST: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_secs(3600);
/// Between two batches.
const PAUSE: Duration = Duration::from_millis(50);
/// The age and the number of events that are kept.
const EVENTS: (Duration, u32) = (Duration::from_secs(7 * DAY), 50_000);
/// Of sessions and streams, from their end on.
const SESSIONS: (Duration, u32) = (Duration::from_secs(30 * DAY), 500_000);
const STREAMS: (Duration, u32) = (Duration::from_secs(30 * DAY), 100_000);
const DAY: u64 = 86_400;

/// Passes until `leaving` is cancelled.
pub(super) async fn run(store: Store, leaving: CancellationToken) {
    let mut wait = FIRST;
    while leaving.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
        wait = EVERY;
        if let Err(error) = pass(&store, Timestamp::now()).await {
            tracing::warn!(%error, "registry expiry failed, retrying in an hour");
        }
    }
}

async fn pass(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let (events, sessions) = (kept(EVENTS, now), kept(SESSIONS, now));
    let mut deleted = (0, 0, 0);
    loop {
        let batch = (store.expire_events(events).await?, store.expire_sessions(sessions).await?);
        deleted = (deleted.0 + batch.0, deleted.1 + batch.1, 0);
        if batch == (0, 0) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let mut cursor = None;
    loop {
        let (streams, next) = store.expire_streams(kept(STREAMS, now), cursor).await?;
        deleted.2 += streams;
        if next.is_none() {
            break;
        }
        cursor = next;
        tokio::time::sleep(PAUSE).await;
    }
    let (events, sessions, streams) = deleted;
    if events + sessions + streams > 0 {
        tracing::info!(events, sessions, streams, "old registry rows deleted");
    }
    Ok(())
}

fn kept((age, rows): (Duration, u32), now: Timestamp) -> Kept {
    Kept { since: now.checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH), rows }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{RoomName, StreamId, StreamState};
    use crate::store::{Change, StreamRow};

    #[tokio::test]
    async fn pass_deletes_streams_that_ended_a_month_ago() {
        let store = Store::in_memory().await.unwrap();
        let now = Timestamp::now();
        let ended = |days: u64| StreamRow {
            id: StreamId::random(),
            room: RoomName::parse("r").unwrap(),
            name: None,
            owner: "camera".into(),
            account: None,
            publisher: None,
            state: StreamState::Ended,
            ahead: false,
            created_at: now - Duration::from_secs(days * DAY),
            started_at: None,
            ended_at: Some(now - Duration::from_secs(days * DAY)),
            end_reason: Some("ended".into()),
        };
        let (old, young) = (ended(31), ended(29));
        let changes = [&old, &young].map(|row| Change::Stream(Box::new(row.clone())));
        store.apply(&changes).await.unwrap();
        pass(&store, now).await.unwrap();
        assert!(store.stream(&old.id).await.unwrap().is_none());
        assert!(store.stream(&young.id).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn passes_end_when_the_server_leaves() {
        let leaving = CancellationToken::new();
        let passes = tokio::spawn(run(Store::in_memory().await.unwrap(), leaving.clone()));
        leaving.cancel();
        tokio::time::timeout(Duration::from_secs(10), passes).await.unwrap().unwrap();
    }
}
