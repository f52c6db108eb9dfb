//! What happens, told to whoever listens: numbered, broadcast, and kept for a while so that a listener that was cut off
//! can go on where it was (server-sent events, `Last-Event-ID`).

use super::types::{RoomName, StreamId};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;

/// Events that are kept for those that come back.
const KEPT: usize = 256;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Rises by one; starts anew with the process.
    pub id: u64,
    /// `stream:started`, `stream:ended`, `publisher:joined`, `publisher:left`, `viewers:changed`, `trouble:started` or
    /// `trouble:ended`.
    pub name: &'static str,
    /// When.
    pub at: Timestamp,
    /// Where.
    pub room: RoomName,
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Depends on the name; always an object with `room` and `stream`.
    pub data: Value,
}

/// The bus.
#[derive(Debug)]
pub(super) struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    ring: VecDeque<Arc<Event>>,
}

impl Events {
    pub(super) fn new() -> Events {
        Events { sender: broadcast::channel(KEPT).0, kept: Mutex::default() }
    }

    /// Numbers an event and tells it.
    pub(super) fn tell(&self, news: News) {
        // The lock is held while sending, so that listeners see ids in order.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last += 1;
        let event = Arc::new(news.numbered(kept.last));
        if kept.ring.len() == KEPT {
            kept.ring.pop_front();
        }
        kept.ring.push_back(event.clone());
        // No listener is no error.
        let _ = self.sender.send(event);
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.sender.subscribe()
    }

    /// The events after `id` that are still kept, and a receiver that goes on right behind them.
    pub(super) fn since(&self, id: u64) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // An id of an earlier process: everything kept is news.
        let id = if id > kept.last { 0 } else { id };
        (kept.ring.iter().filter(|event| event.id > id).cloned().collect(), self.sender.subscribe())
    }
}

/// An event before it has its number.
#[derive(Debug)]
pub(super) struct News {
    pub(super) name: &'static str,
    pub(super) at: Timestamp,
    pub(super) room: RoomName,
    pub(super) stream: StreamId,
    /// Members besides `room` and `stream`.
    pub(super) more: Vec<(&'static str, Value)>,
}

impl News {
    fn numbered(self, id: u64) -> Event {
        let mut data = serde_json::Map::new();
        data.insert("room".into(), self.room.as_str().into());
        data.insert("stream".into(), self.stream.as_str().into());
        data.extend(self.more.into_iter().map(|(key, value)| (key.to_owned(), value)));
        Event { id, name: self.name, at: self.at, room: self.room, stream: self.stream, data: Value::Object(data) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(name: &'static str) -> News {
        News {
            name,
            at: Timestamp::UNIX_EPOCH,
            room: RoomName::parse("r").unwrap(),
            stream: StreamId::random(),
            more: vec![("viewers", 3.into())],
        }
    }

    #[test]
    fn a_listener_that_was_cut_off_goes_on_where_it_was() {
        let events = Events::new();
        for _ in 0..3 {
            events.tell(news("viewers:changed"));
        }
        let (missed, mut receiver) = events.since(1);
        assert_eq!(missed.iter().map(|e| e.id).collect::<Vec<_>>(), [2, 3]);
        events.tell(news("stream:ended"));
        assert_eq!(receiver.try_recv().unwrap().id, 4);
    }

    #[test]
    fn an_id_of_an_earlier_process_gets_all_that_is_kept() {
        let events = Events::new();
        events.tell(news("stream:started"));
        assert_eq!(events.since(77).0.len(), 1);
    }

    #[test]
    fn old_events_are_forgotten() {
        let events = Events::new();
        for _ in 0..KEPT + 10 {
            events.tell(news("viewers:changed"));
        }
        let (kept, _) = events.since(0);
        assert_eq!((kept.len(), kept[0].id), (KEPT, 11));
    }

    #[test]
    fn data_names_room_and_stream() {
        let events = Events::new();
        let mut receiver = events.subscribe();
        events.tell(news("viewers:changed"));
        let event = receiver.try_recv().unwrap();
        assert_eq!(event.data["room"], "r");
        assert_eq!(event.data["stream"], event.stream.as_str());
        assert_eq!(event.data["viewers"], 3);
    }
}
