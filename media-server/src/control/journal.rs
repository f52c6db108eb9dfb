//! The journal: one task that writes what the registry decided and then tells it, in the order it was decided.
//!
//! Nobody waits for it on the way in: a session is answered before its row is written. A stream's start and end are
//! in the database before they are announced; so is the announcement, in the same transaction. When the disk refuses,
//! the server continues: rows of sessions are lost (and counted), rows of streams and events are tried again every [`BEAT`]
//! until they are in, and events are announced before they are written.

use super::events::{Event, Events, News};
use super::types::{StreamId, StreamState};
use crate::store::{Change, Store, StreamRow};
use jiff::Timestamp;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How often live streams are noted as seen; after a crash a stream's end is known to so much.
pub(super) const BEAT: Duration = Duration::from_secs(5);
/// Rows of sessions that may wait. Streams are few and always get in.
const MAX_WAITING: usize = 65_536;
/// Entries of one transaction.
const BATCH: usize = 256;
/// Events that wait for a database that refuses. The oldest are dropped; listeners that miss them learn of it.
const MAX_UNSAVED_EVENTS: usize = 4096;

enum Entry {
    Write(Change),
    Tell(News),
    Flush(oneshot::Sender<()>),
}

/// The way into the journal. A cheap handle; the task ends, after all is written, with the last one.
#[derive(Clone)]
pub(super) struct Journal {
    entries: mpsc::UnboundedSender<Entry>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
}

impl Journal {
    pub(super) fn start(store: Store, events: Arc<Events>) -> Journal {
        let (entries, queue) = mpsc::unbounded_channel();
        let journal = Journal { entries, waiting: Arc::default(), lost: Arc::default() };
        let writer = Writer {
            store,
            events,
            waiting: journal.waiting.clone(),
            lost: journal.lost.clone(),
            live: HashSet::new(),
            unsaved: HashMap::new(),
            unsaved_events: VecDeque::new(),
            outage: false,
            beat: None,
        };
        tokio::spawn(writer.run(queue));
        journal
    }

    /// Queues a change. One of a session is dropped when too many wait.
    pub(super) fn write(&self, change: Change) {
        if !matches!(change, Change::Stream(_)) && self.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            return lose(&self.lost, 1);
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.entries.send(Entry::Write(change));
    }

    /// Queues an announcement: it is made when all that was queued before is written.
    pub(super) fn tell(&self, news: News) {
        let _ = self.entries.send(Entry::Tell(news));
    }

    /// Done when all that was queued before is written and told.
    pub(super) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        let _ = self.entries.send(Entry::Flush(done));
        let _ = wait.await;
    }
}

/// Counts rows that are lost, and says so at the first and every thousandth.
fn lose(lost: &AtomicU64, rows: u64) {
    let before = lost.fetch_add(rows, Ordering::Relaxed);
    if before == 0 || before / 1000 != (before + rows) / 1000 {
        tracing::warn!(lost = before + rows, "rows of sessions are not written: the database does not keep up");
    }
}

struct Writer {
    store: Store,
    events: Arc<Events>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    live: HashSet<StreamId>,
    /// Streams whose newest row is not in the database.
    unsaved: HashMap<StreamId, Box<StreamRow>>,
    /// Events that are announced and not in the database.
    unsaved_events: VecDeque<Arc<Event>>,
    /// The newest write failed because the database refuses all writes.
    outage: bool,
    /// When to note the live streams; `None` at rest.
    beat: Option<Instant>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Entry>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                taken = queue.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return self.save_unsaved().await;
                    }
                    self.work(&mut batch).await;
                }
                () = sleep_until(self.beat) => self.on_beat().await,
            }
            // One that came due while the disk was slow stays due: it is next.
            self.beat = match self.beat {
                _ if self.live.is_empty() && self.unsaved.is_empty() && self.unsaved_events.is_empty() => None,
                due => due.or_else(|| Some(Instant::now() + BEAT)),
            };
        }
    }

    async fn work(&mut self, batch: &mut Vec<Entry>) {
        let (mut changes, mut announced, mut flushed) = (Vec::new(), Vec::new(), Vec::new());
        let mut writes = 0;
        for entry in batch.drain(..) {
            match entry {
                Entry::Write(change) => {
                    writes += 1;
                    changes.push(change);
                }
                Entry::Tell(news) => {
                    let event = self.events.number(news);
                    changes.push(Change::Event(event.clone()));
                    announced.push(event);
                }
                Entry::Flush(done) => flushed.push(done),
            }
        }
        self.waiting.fetch_sub(writes, Ordering::Relaxed);
        if self.outage {
            // Each write may take as long as the database is waited for.
            announced.drain(..).for_each(|event| self.events.announce(event));
        }
        if !changes.is_empty() {
            self.save(changes).await;
        }
        announced.into_iter().for_each(|event| self.events.announce(event));
        for done in flushed {
            let _ = done.send(());
        }
    }

    async fn save(&mut self, changes: Vec<Change>) {
        for change in &changes {
            if let Change::Stream(row) = change {
                match row.state {
                    StreamState::Live => self.live.insert(row.id.clone()),
                    _ => self.live.remove(&row.id),
                };
                // Older than this one.
                self.unsaved.remove(&row.id);
            }
        }
        let Err(refused) = self.store.apply(&changes).await else {
            self.outage = false;
            return;
        };
        tracing::error!(error = %refused, source = ?std::error::Error::source(&refused), "the books could not be written");
        // One bad row must not take the others with it; a bad database takes all, and only one is tried.
        let mut outage = self.outage && refused.is_outage();
        for change in changes {
            if !outage {
                match self.store.apply(std::slice::from_ref(&change)).await {
                    Ok(()) => continue,
                    Err(refused) => outage = refused.is_outage(),
                }
            }
            match change {
                Change::Stream(row) => drop(self.unsaved.insert(row.id.clone(), row)),
                Change::Event(event) => self.keep_event(event),
                _ => lose(&self.lost, 1),
            }
        }
        self.outage = outage;
    }

    fn keep_event(&mut self, event: Arc<Event>) {
        if self.unsaved_events.len() == MAX_UNSAVED_EVENTS {
            self.unsaved_events.pop_front();
        }
        self.unsaved_events.push_back(event);
    }

    async fn on_beat(&mut self) {
        self.beat = None;
        self.save_unsaved().await;
        if self.live.is_empty() {
            return;
        }
        if let Err(refused) = self.store.heartbeat(Timestamp::now()).await {
            tracing::warn!(error = %refused, "live streams could not be noted as seen");
        }
    }

    async fn save_unsaved(&mut self) {
        let (streams, events) = (self.unsaved.len(), self.unsaved_events.len());
        if streams + events == 0 {
            return;
        }
        let rows = self.unsaved.values().cloned().map(Change::Stream);
        let changes: Vec<_> = rows.chain(self.unsaved_events.iter().cloned().map(Change::Event)).collect();
        match self.store.apply(&changes).await {
            Ok(()) => {
                tracing::info!(streams, events, "registry writes recovered");
                self.unsaved.clear();
                self.unsaved_events.clear();
                self.outage = false;
            }
            Err(refused) => {
                tracing::error!(error = %refused, streams, events, "streams and events are not in the registry")
            }
        }
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
