//! Streams as the control API sees them: made ahead, listed, ended; and the end of them all when the server stops.
//!
//! What is not over is told from the registry, what is over from the store.

use super::Control;
use super::error::{ControlError, DRAINING_RETRY_AFTER};
use super::registry::{self, Now};
use super::types::{Principal, RoomName, StreamId, StreamInfo, StreamQuery, StreamState};

/// Streams in one answer, when the query names no number, and at most.
const LIMITS: (usize, usize) = (100, 500);

impl Control {
    /// Makes a stream before its publisher comes. It is in the database when this returns.
    pub async fn create_stream(
        &self,
        room: &RoomName,
        who: &Principal,
        name: Option<String>,
    ) -> Result<StreamInfo, ControlError> {
        let created = {
            let mut effects = Vec::new();
            let mut registry = self.inner.registry();
            if registry.draining {
                let draining = ControlError::Draining { retry_after: DRAINING_RETRY_AFTER };
                return self.inner.refusals.note(Err(draining));
            }
            let created = registry.create_stream(room, who, name, &self.inner.gate, Now::new(), &mut effects);
            self.inner.perform(effects);
            self.inner.refusals.note(created)?
        };
        self.inner.journal.flush().await;
        Ok(created)
    }

    /// Ends a stream: publisher and viewers are dropped, and its recording is finalised when this returns.
    /// Ending one that is over gives what became of it.
    pub async fn end_stream(&self, id: &StreamId, who: &Principal) -> Result<StreamInfo, ControlError> {
        let (ended, finishing) = {
            let mut effects = Vec::new();
            let mut registry = self.inner.registry();
            let ended = registry.end_stream(id, who, Now::new(), &mut effects)?;
            (ended, self.inner.perform(effects))
        };
        if let Some(ended) = ended {
            for recording in finishing {
                // Finalising goes on by itself; a panic in it is its own business.
                let _ = recording.await;
            }
            self.inner.journal.flush().await;
            return Ok(ended);
        }
        let row = self.inner.store.stream(id).await?.ok_or(ControlError::NoSuchStream)?;
        if registry::owns(who, &row) { Ok(registry::past(row)) } else { Err(ControlError::NotYours) }
    }

    /// Lists streams, newest first.
    pub async fn streams(&self, query: StreamQuery) -> Result<Vec<StreamInfo>, ControlError> {
        let limit = if query.limit == 0 { LIMITS.0 } else { query.limit.min(LIMITS.1) };
        let mut found = match query.state {
            Some(StreamState::Ended) => Vec::new(),
            _ => self.inner.registry().streams(),
        };
        found.retain(|stream| {
            query.state.is_none_or(|state| stream.state == state)
                && query.room.as_ref().is_none_or(|room| stream.room == *room)
                && query.before.as_ref().is_none_or(|before| stream.id < *before)
        });
        if query.state.is_none_or(|state| state == StreamState::Ended) {
            let past = StreamQuery { state: Some(StreamState::Ended), limit, ..query };
            let past = self.inner.store.streams(&past).await?;
            // One that ended between the two looks is in both.
            let past: Vec<_> = past.into_iter().filter(|row| found.iter().all(|open| open.id != row.id)).collect();
            found.extend(past.into_iter().map(registry::past));
            found.sort_unstable_by(|a, b| b.id.cmp(&a.id));
        }
        found.truncate(limit);
        Ok(found)
    }

    /// One stream, live or past.
    pub async fn stream(&self, id: &StreamId) -> Result<Option<StreamInfo>, ControlError> {
        let open = self.inner.registry().stream(id);
        match open {
            Some(open) => Ok(Some(open)),
            None => Ok(self.inner.store.stream(id).await?.map(registry::past)),
        }
    }

    /// Refuses newcomers, tells viewers to reconnect, and ends all streams; returns at once. It is never undone, and to do it
    /// again is harmless. Streams that wait for their publisher wait on for the next process.
    pub fn begin_drain(&self) {
        let mut effects = Vec::new();
        let mut registry = self.inner.registry();
        registry.draining = true;
        // First: who listens must not take the end of its session for the end of all.
        self.inner.leaving.cancel();
        registry.end_all("drain", Now::new(), &mut effects);
        self.inner.perform(effects);
        metrics::gauge!("media_server_draining").set(1.0);
    }

    /// As [`Control::begin_drain`], and waits until the recordings are finalised and the books are written. The caller sets
    /// the deadline.
    pub async fn drain(&self) {
        self.begin_drain();
        self.inner.finishing.close();
        self.inner.finishing.wait().await;
        self.inner.journal.flush().await;
    }
}
