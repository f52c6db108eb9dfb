//! The way from the router to one recording's writer: bounded by bytes, so that it never waits and never grows.

use crate::net::tap::{TapBatch, TapRecord};
use recorder::{Track, Tracks};
use sfu::parameters::MediaKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What a batch costs besides its payloads.
const OVERHEAD: usize = 64;

/// What a writer is told.
pub(super) enum Input {
    /// Media, in memory of its own.
    Batch(TapBatch),
    /// Packets of these tracks were dropped before what comes next; the newest of them came at that time.
    Dropped(Vec<(Track, Instant)>),
    /// Another publisher is there, who negotiated these.
    Expected(Tracks),
    /// The stream is over.
    Finish {
        /// When this was said: packets of before may still be on their way.
        asked: Instant,
        /// Told when the recording is finished, or failed.
        done: oneshot::Sender<()>,
    },
}

/// How much waits, and since when. Shared by router and writer.
#[derive(Debug)]
pub(super) struct Load {
    bytes: AtomicUsize,
    budget: Arc<Budget>,
    /// Microseconds after `epoch` at which that came which the writer is busy with; 0 at rest.
    busy: AtomicU64,
    epoch: Instant,
}

impl Load {
    /// The writer takes something up that came at `arrival`.
    pub(super) fn begin(&self, arrival: Instant) {
        let since = arrival.saturating_duration_since(self.epoch).as_micros();
        self.busy.store(u64::try_from(since).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
    }

    /// The writer is done with it.
    pub(super) fn end(&self, batch: &TapBatch) {
        self.give_back(cost(batch));
        self.busy.store(0, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How old that is which the writer is busy with.
    pub(super) fn lag(&self, now: Instant) -> Duration {
        match self.busy.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => now.saturating_duration_since(self.epoch + Duration::from_micros(since)),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// What may wait in all queues together.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    /// Bytes.
    pub(super) fn new(limit: usize) -> Arc<Budget> {
        Arc::new(Budget { used: AtomicUsize::new(0), limit })
    }
}

/// The router's end.
pub(super) struct Queue {
    inputs: Sender<Input>,
    limit: usize,
    load: Arc<Load>,
    dropped: Vec<(Track, Instant)>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Queued,
    Dropped,
}

pub(super) fn queue(limit: usize, budget: &Arc<Budget>) -> (Queue, Receiver<Input>, Arc<Load>) {
    let (inputs, receiver) = channel();
    let load = Arc::new(Load {
        bytes: AtomicUsize::new(0),
        budget: Arc::clone(budget),
        busy: AtomicU64::new(0),
        epoch: Instant::now(),
    });
    (Queue { inputs, limit, load: Arc::clone(&load), dropped: Vec::new() }, receiver, load)
}

impl Queue {
    /// Puts the batch into the queue. After an overflow nothing is taken until half of the queue is free: one gap is
    /// better than many.
    pub(super) fn put(&mut self, batch: TapBatch) -> Put {
        let waiting = self.load.bytes.load(Ordering::Relaxed);
        let limit = if self.dropped.is_empty() { self.limit } else { self.limit / 2 };
        let cost = cost(&batch);
        let in_all = self.load.budget.used.load(Ordering::Relaxed);
        if waiting + cost > limit || in_all + cost > self.load.budget.limit {
            for record in &batch.records {
                let TapRecord::Packet { kind, arrival, .. } = record else { continue };
                match self.dropped.iter_mut().find(|(dropped, _)| *dropped == track(*kind)) {
                    Some((_, newest)) => *newest = *arrival,
                    None => self.dropped.push((track(*kind), *arrival)),
                }
            }
            return Put::Dropped;
        }
        self.load.bytes.fetch_add(cost, Ordering::Relaxed);
        self.load.budget.used.fetch_add(cost, Ordering::Relaxed);
        if !self.tell(Input::Batch(batch)) {
            self.load.give_back(cost);
        }
        Put::Queued
    }

    /// Tells this, and first of what was dropped before it. `false` when nobody listens any more.
    pub(super) fn tell(&mut self, input: Input) -> bool {
        if !self.dropped.is_empty() {
            let _ = self.inputs.send(Input::Dropped(std::mem::take(&mut self.dropped)));
        }
        self.inputs.send(input).is_ok()
    }
}

fn cost(batch: &TapBatch) -> usize {
    batch.bytes.len() + batch.records.len() * size_of::<TapRecord>() + OVERHEAD
}

/// The recorder's word for it.
pub(super) fn track(kind: MediaKind) -> Track {
    match kind {
        MediaKind::Audio => Track::Audio,
        MediaKind::Video => Track::Video,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu::parameters::{Codec, RoomId, SessionId};

    fn batch(bytes: usize) -> TapBatch {
        TapBatch {
            room: RoomId(1),
            records: vec![TapRecord::Packet {
                kind: MediaKind::Video,
                codec: Codec::Vp8,
                source: SessionId(1),
                index: 0,
                timestamp: 0,
                marker: true,
                arrival: Instant::now(),
                payload: 0..bytes as u32,
            }],
            bytes: vec![0; bytes],
        }
    }

    #[test]
    fn a_full_queue_drops_until_half_is_free_and_then_tells_of_it() {
        let (mut queue, inputs, load) = queue(10_000, &Budget::new(usize::MAX));
        while queue.put(batch(1000)) == Put::Queued {}
        let waiting: Vec<_> = inputs.try_iter().collect();
        assert!((8..=9).contains(&waiting.len()), "{}", waiting.len());
        let mut waiting = waiting.into_iter();
        let mut take = || match waiting.next() {
            Some(Input::Batch(batch)) => load.end(&batch),
            _ => panic!("only batches so far"),
        };
        take();
        assert_eq!(queue.put(batch(1000)), Put::Dropped, "a little room is not enough");
        (0..5).for_each(|_| take());
        assert_eq!(queue.put(batch(1000)), Put::Queued);
        let told: Vec<_> = inputs.try_iter().collect();
        assert!(matches!(&told[..], [Input::Dropped(dropped), Input::Batch(_)] if dropped[0].0 == Track::Video));
    }

    #[test]
    fn what_waits_in_all_is_bounded_and_what_nobody_takes_any_more_does_not_count() {
        let budget = Budget::new(10_000);
        let (mut one, _inputs, _load) = queue(8000, &budget);
        let (mut other, more, load) = queue(8000, &budget);
        while one.put(batch(1000)) == Put::Queued {}
        let mut taken = 0;
        while other.put(batch(1000)) == Put::Queued {
            taken += 1;
        }
        assert!((1..=3).contains(&taken), "{taken}");
        drop((one, _load));
        assert_eq!(other.put(batch(1000)), Put::Queued);
        let waiting = load.waiting();
        drop(more);
        assert_eq!((other.put(batch(1000)), load.waiting()), (Put::Queued, waiting), "its writer is gone");
        drop((other, load));
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn lag_is_the_age_of_what_the_writer_is_busy_with() {
        let (_queue, _inputs, load) = queue(1, &Budget::new(1));
        let now = Instant::now() + Duration::from_secs(1);
        assert_eq!(load.lag(now), Duration::ZERO);
        load.begin(now);
        assert!(load.lag(now + Duration::from_millis(250)) >= Duration::from_millis(250));
    }
}
