//! Events: numbered, written to the registry, announced, and kept for a while, so that a listener that was cut off
//! continues from its position (server-sent events, `Last-Event-ID`).
//!
//! This is an outbox. The journal numbers an event, writes it in the transaction of the changes that it reports, and announces
//! it afterwards. Each event names the one before it, so that a listener learns of events that are not kept any more. While the
//! registry refuses, events continue in memory. Those may be lost with the process, but their ids are not used again: each start
//! skips [`RESERVED`] ids.

use super::types::{RoomName, StreamId};
use crate::store::{EventIds, Store};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// Events in memory, and those that a listener may be behind before it reads the registry.
const KEPT: usize = 256;
/// Events that a process may announce while the registry refuses to be written.
pub(super) const RESERVED: u64 = 1_000_000;
/// Events that are read from the registry at once.
const PAGE: u32 = 500;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Rises by one, and by more with each start of the server.
    pub id: u64,
    /// The id of the event before this one.
    pub previous: u64,
    /// One of [`Event::NAMES`].
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

impl Event {
    /// All kinds of events.
    pub const NAMES: [&'static str; 7] = [
        "stream:started",
        "stream:ended",
        "publisher:joined",
        "publisher:left",
        "viewers:changed",
        "trouble:started",
        "trouble:ended",
    ];
}

/// An item for a listener.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// An event.
    Event(Arc<Event>),
    /// Events that are not kept any more; the one with the id `first` follows.
    Missed {
        /// The first one that is available, or the next id when there is none yet.
        first: u64,
        /// Their number; `None` across a restart.
        count: Option<u64>,
    },
}

/// The bus.
#[derive(Debug)]
pub(super) struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    ids: EventIds,
    kept: Mutex<Recent>,
}

#[derive(Debug)]
struct Recent {
    /// The newest event that was announced.
    announced: u64,
    /// The newest event that has a number.
    numbered: u64,
    next: u64,
    ring: VecDeque<Arc<Event>>,
}

/// The events behind a position.
enum Behind {
    /// All are in memory.
    Memory(Vec<Arc<Event>>),
    /// The registry may have some; memory has those from this one on.
    Registry(u64),
}

impl Events {
    pub(super) fn new(ids: EventIds) -> Events {
        let EventIds { newest, first } = ids;
        let kept = Recent { announced: newest, numbered: newest, next: first, ring: VecDeque::new() };
        Events { sender: broadcast::channel(KEPT).0, ids, kept: Mutex::new(kept) }
    }

    /// Numbers an event. It is to be announced before the next one.
    pub(super) fn number(&self, news: News) -> Arc<Event> {
        let mut kept = self.kept();
        let event = Arc::new(news.numbered(kept.next, kept.numbered));
        kept.numbered = event.id;
        kept.next += 1;
        event
    }

    /// Sends an event to all listeners.
    pub(super) fn announce(&self, event: Arc<Event>) {
        // The lock is held while sending, so that listeners see ids in order.
        let mut kept = self.kept();
        kept.announced = event.id;
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

    /// Follows the events after `last`, or from now on.
    pub(super) fn follow(self: &Arc<Events>, store: Store, last: Option<u64>) -> Listener {
        let kept = self.kept();
        let receiver = self.sender.subscribe();
        let mut ready = VecDeque::new();
        let position = match last {
            None => kept.announced,
            // An id of another registry: its position among these events is unknown.
            Some(last) if last > kept.announced => {
                let front = kept.ring.front();
                let first = front.map_or(self.ids.first, |event| event.id);
                ready.push_back(Heard::Missed { first, count: None });
                front.map_or(self.ids.newest, |event| event.previous)
            }
            Some(last) => last,
        };
        let behind = position < kept.announced;
        drop(kept);
        Listener { events: self.clone(), store, receiver, position, behind, ready }
    }

    fn after(&self, position: u64) -> Behind {
        let kept = self.kept();
        match kept.ring.front() {
            Some(front) if front.previous > position => Behind::Registry(front.id),
            None if self.ids.newest > position => Behind::Registry(self.ids.newest + 1),
            _ => Behind::Memory(kept.ring.iter().filter(|event| event.id > position).cloned().collect()),
        }
    }

    fn in_memory(&self) -> Vec<Arc<Event>> {
        self.kept().ring.iter().cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Recent> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener: every event once, in order, live or, when behind, from memory or the registry.
#[derive(Debug)]
pub struct Listener {
    events: Arc<Events>,
    store: Store,
    receiver: broadcast::Receiver<Arc<Event>>,
    /// The newest event that it has.
    position: u64,
    behind: bool,
    ready: VecDeque<Heard>,
}

impl Listener {
    /// Waits for the next event. `None` when the bus is closed.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some(heard) = self.ready.pop_front() {
                return Some(heard);
            }
            if self.behind {
                self.catch_up().await;
                continue;
            }
            match self.receiver.recv().await {
                Ok(event) if event.id <= self.position => {}
                Ok(event) if event.previous <= self.position => {
                    self.position = event.id;
                    return Some(Heard::Event(event));
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => self.behind = true,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    async fn catch_up(&mut self) {
        let end = match self.events.after(self.position) {
            Behind::Memory(events) => {
                self.behind = false;
                return self.add(events);
            }
            Behind::Registry(end) => end,
        };
        match self.store.events_between(self.position, end, PAGE).await {
            Ok(page) if !page.is_empty() => return self.add(page.into_iter().map(Arc::new)),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a listener's events cannot be read, going on with those in memory"),
        }
        self.behind = false;
        let memory = self.events.in_memory();
        if memory.is_empty() {
            self.miss(self.events.ids.first, self.events.ids.newest);
        }
        self.add(memory);
    }

    fn add(&mut self, events: impl IntoIterator<Item = Arc<Event>>) {
        for event in events {
            if event.id <= self.position {
                continue;
            }
            if event.previous > self.position {
                self.miss(event.id, event.previous);
            }
            self.position = event.id;
            self.ready.push_back(Heard::Event(event));
        }
    }

    /// Notes that the events up to `last` are not kept any more. Ids have no jump but that of a start.
    fn miss(&mut self, first: u64, last: u64) {
        let count = Some(last.saturating_sub(self.position)).filter(|count| *count < RESERVED);
        self.position = last;
        self.ready.push_back(Heard::Missed { first, count });
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
    fn numbered(self, id: u64, previous: u64) -> Event {
        let mut data = serde_json::Map::new();
        data.insert("room".into(), self.room.as_str().into());
        data.insert("stream".into(), self.stream.as_str().into());
        data.extend(self.more.into_iter().map(|(key, value)| (key.to_owned(), value)));
        let data = Value::Object(data);
        Event { id, previous, name: self.name, at: self.at, room: self.room, stream: self.stream, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Change, Kept as Expiry};

    fn news(name: &'static str) -> News {
        News {
            name,
            at: Timestamp::UNIX_EPOCH,
            room: RoomName::parse("r").unwrap(),
            stream: StreamId::random(),
            more: vec![("viewers", 3.into())],
        }
    }

    /// A server's start.
    async fn start(store: &Store) -> Arc<Events> {
        Arc::new(Events::new(store.reserve_event_ids(RESERVED).await.unwrap()))
    }

    /// Announces events as the journal does, and returns their ids. They are written when the registry takes them.
    async fn announce(events: &Events, store: &Store, count: usize) -> Vec<u64> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let event = events.number(news("viewers:changed"));
            let _ = store.apply(&[Change::Event(event.clone())]).await;
            ids.push(event.id);
            events.announce(event);
        }
        ids
    }

    /// Hears until the event with this id: ids, and the counts of missed events.
    async fn hear(listener: &mut Listener, last: u64) -> (Vec<u64>, Vec<Option<u64>>) {
        let (mut ids, mut missed) = (Vec::new(), Vec::new());
        while ids.last() != Some(&last) {
            match listener.next().await.unwrap() {
                Heard::Event(event) => ids.push(event.id),
                Heard::Missed { count, .. } => missed.push(count),
            }
        }
        (ids, missed)
    }

    #[tokio::test]
    async fn cut_off_listener_continues_from_its_id() {
        let store = Store::in_memory().await.unwrap();
        let events = start(&store).await;
        let told = announce(&events, &store, 3).await;
        let mut listener = events.follow(store.clone(), Some(told[0]));
        assert_eq!(hear(&mut listener, told[2]).await, (told[1..].to_vec(), vec![]));
        let later = announce(&events, &store, 2).await;
        assert_eq!(hear(&mut listener, later[1]).await, (later, vec![]));
    }

    #[tokio::test]
    async fn new_listener_hears_later_events_only() {
        let store = Store::in_memory().await.unwrap();
        let events = start(&store).await;
        announce(&events, &store, 3).await;
        let mut listener = events.follow(store.clone(), None);
        let told = announce(&events, &store, 1).await;
        assert_eq!(hear(&mut listener, told[0]).await, (told, vec![]));
    }

    #[tokio::test]
    async fn listener_behind_memory_reads_the_registry() {
        let store = Store::in_memory().await.unwrap();
        let events = start(&store).await;
        let count = KEPT + 2 * PAGE as usize;
        let mut slow = events.follow(store.clone(), None);
        let told = announce(&events, &store, count).await;
        assert_eq!(hear(&mut slow, told[count - 1]).await, (told.clone(), vec![]), "a slow listener");
        let mut back = events.follow(store.clone(), Some(told[4]));
        assert_eq!(hear(&mut back, told[count - 1]).await, (told[5..].to_vec(), vec![]), "a listener that returns");
    }

    #[tokio::test]
    async fn ids_and_events_survive_a_restart() {
        let store = Store::in_memory().await.unwrap();
        let told = announce(&*start(&store).await, &store, 4).await;
        let after = start(&store).await;
        let mut early = after.follow(store.clone(), Some(told[1]));
        let later = announce(&after, &store, 2).await;
        assert!(later[0] > told[3]);
        let expected = [told[2], told[3], later[0], later[1]];
        assert_eq!(hear(&mut early, later[1]).await, (expected.to_vec(), vec![]));
        let mut late = after.follow(store.clone(), Some(told[1]));
        assert_eq!(hear(&mut late, later[1]).await, (expected.to_vec(), vec![]));
        let mut current = after.follow(store.clone(), Some(told[3]));
        assert_eq!(hear(&mut current, later[1]).await, (later, vec![]));
    }

    #[tokio::test]
    async fn events_no_longer_kept_are_reported_with_their_number() {
        let store = Store::in_memory().await.unwrap();
        let before = start(&store).await;
        let told = announce(&before, &store, 20).await;
        store.expire_events(Expiry { since: Timestamp::MIN, rows: 5 }).await.unwrap();
        let after = start(&store).await;
        let mut listener = after.follow(store.clone(), Some(told[3]));
        assert_eq!(listener.next().await.unwrap(), Heard::Missed { first: told[15], count: Some(11) });
        assert_eq!(hear(&mut listener, told[19]).await, (told[15..].to_vec(), vec![]));
        store.expire_events(Expiry { since: Timestamp::MIN, rows: 0 }).await.unwrap();
        let last = start(&store).await;
        let mut listener = last.follow(store.clone(), Some(told[3]));
        let later = announce(&last, &store, 1).await;
        assert_eq!(hear(&mut listener, later[0]).await.0, later);
    }

    #[tokio::test]
    async fn outage_of_the_registry_stops_no_event() {
        let store = Store::in_memory().await.unwrap();
        let events = start(&store).await;
        let told = announce(&events, &store, 2).await;
        let mut live = events.follow(store.clone(), None);
        store.refuse_writes(true).await.unwrap();
        let unsaved = announce(&events, &store, KEPT + 10).await;
        let mut behind = events.follow(store.clone(), Some(told[0]));
        let last = unsaved[KEPT + 9];
        let heard = hear(&mut behind, last).await;
        assert_eq!(heard.1, [Some(10)], "those that neither memory nor the registry has");
        assert_eq!(heard.0, [&told[1..], &unsaved[10..]].concat());
        assert_eq!(hear(&mut live, last).await.0, unsaved[10..]);
        // The process ends in the outage: its ids are not used again.
        store.refuse_writes(false).await.unwrap();
        let after = start(&store).await;
        let later = announce(&after, &store, 1).await;
        assert!(later[0] > last);
        let mut listener = after.follow(store.clone(), Some(last));
        assert_eq!(hear(&mut listener, later[0]).await, (later, vec![]));
    }

    #[tokio::test]
    async fn id_of_another_registry_is_reported() {
        let store = Store::in_memory().await.unwrap();
        let events = start(&store).await;
        let told = announce(&events, &store, 2).await;
        let mut listener = events.follow(store.clone(), Some(u64::MAX));
        assert_eq!(listener.next().await.unwrap(), Heard::Missed { first: told[0], count: None });
        assert_eq!(hear(&mut listener, told[1]).await, (told, vec![]));
    }

    #[tokio::test]
    async fn data_names_room_and_stream() {
        let store = Store::in_memory().await.unwrap();
        let event = start(&store).await.number(news("viewers:changed"));
        assert_eq!(event.data["room"], "r");
        assert_eq!(event.data["stream"], event.stream.as_str());
        assert_eq!(event.data["viewers"], 3);
    }
}
