//! The journal: one task that writes what the registry decided and then tells it, in the order it was decided.
//!
//! Nobody waits for it on the way in: a session is answered before its row is written. A stream's start and end are
//! in the database before they are announced. When the disk refuses, the server goes on: rows of sessions are lost
//! (and counted), rows of streams are tried again every [`BEAT`] until they are in.

use super::events::{Events, News};
use super::types::{StreamId, StreamState};
use crate::store::{Change, Store, StreamRow};
use jiff::Timestamp;
use std::collections::{HashMap, HashSet};
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
                _ if self.live.is_empty() && self.unsaved.is_empty() => None,
                due => due.or_else(|| Some(Instant::now() + BEAT)),
            };
        }
    }

    async fn work(&mut self, batch: &mut Vec<Entry>) {
        let mut changes = Vec::new();
        let mut after = Vec::new();
        for entry in batch.drain(..) {
            match entry {
                Entry::Write(change) => changes.push(change),
                other => after.push(other),
            }
        }
        if !changes.is_empty() {
            self.waiting.fetch_sub(changes.len(), Ordering::Relaxed);
            self.save(changes).await;
        }
        for entry in after {
            match entry {
                Entry::Tell(news) => self.events.tell(news),
                Entry::Flush(done) => drop(done.send(())),
                Entry::Write(_) => {}
            }
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
        let Err(refused) = self.store.apply(&changes).await else { return };
        tracing::error!(error = %refused, source = ?std::error::Error::source(&refused), "the books could not be written");
        // One bad row must not take the others with it.
        for change in changes {
            if self.store.apply(std::slice::from_ref(&change)).await.is_ok() {
                continue;
            }
            match change {
                Change::Stream(row) => drop(self.unsaved.insert(row.id.clone(), row)),
                _ => lose(&self.lost, 1),
            }
        }
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
        if self.unsaved.is_empty() {
            return;
        }
        let changes: Vec<_> = self.unsaved.values().cloned().map(Change::Stream).collect();
        match self.store.apply(&changes).await {
            Ok(()) => {
                tracing::info!(streams = changes.len(), "the books are written again");
                self.unsaved.clear();
            }
            Err(refused) => tracing::error!(error = %refused, streams = changes.len(), "streams are not in the books"),
        }
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
