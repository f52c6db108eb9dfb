//! Which recording a batch belongs to: one thread that never waits for a disk.
//!
//! Media comes before the control plane says that a recording starts, so a room that is not known yet gets a queue at once,
//! which waits for its writer. Rooms' numbers are never used again.

use super::measure;
use super::queue::{Budget, Input, Load, Put, Queue, queue};
use super::tap::{TapSource, arrival};
use crate::net::tap::{Gone, TapBatch};
use sfu::parameters::RoomId;
use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often numbers are told and old rooms forgotten.
const TICK: Duration = Duration::from_secs(1);
/// How long media waits for a recording to be started.
const UNSTARTED: Duration = Duration::from_secs(15);
/// How long a finished room is remembered, for what still comes of it.
const FINISHED: Duration = Duration::from_secs(30);

/// A recording's side of a room.
pub(super) struct Begun {
    pub(super) inputs: Receiver<Input>,
    pub(super) load: Arc<Load>,
    /// When the oldest of what waits already came.
    pub(super) first_arrival: Option<Instant>,
}

struct Room {
    queue: Queue,
    /// Until the recording starts.
    begun: Option<Begun>,
    load: Arc<Load>,
    /// When it was made, or finished.
    since: Instant,
    finished: bool,
}

/// The rooms that are recorded.
pub(super) struct Rooms {
    queue_bytes: usize,
    budget: Arc<Budget>,
    rooms: Mutex<HashMap<RoomId, Room>>,
}

impl Rooms {
    /// Bytes that may wait for one recording, and in all.
    pub(super) fn new(queue_bytes: usize, all_queues_bytes: usize) -> Rooms {
        Rooms { queue_bytes, budget: Budget::new(all_queues_bytes), rooms: Mutex::default() }
    }

    /// Routes until the media plane is gone.
    pub(super) fn route(&self, taps: &dyn TapSource) {
        let mut ticked = Instant::now();
        loop {
            match taps.next(TICK) {
                Ok(Some(batch)) => {
                    self.put(&batch);
                    taps.recycle(batch);
                }
                Ok(None) => {}
                Err(Gone) => return,
            }
            let now = Instant::now();
            if now.saturating_duration_since(ticked) >= TICK {
                ticked = now;
                self.tick(now);
            }
        }
    }

    /// Takes a room's queue for a recording; `None` when it has been taken.
    pub(super) fn begin(&self, room: RoomId) -> Option<Begun> {
        self.lock().entry(room).or_insert_with(|| self.new_room(None)).begun.take()
    }

    /// Tells the recording of a room, if there is one.
    pub(super) fn tell(&self, room: RoomId, input: Input) {
        let mut rooms = self.lock();
        if let Some(room) = rooms.get_mut(&room).filter(|room| room.begun.is_none() && !room.finished) {
            room.queue.tell(input);
        }
    }

    /// Tells the recording of a room that it is over. `false` when there is none.
    pub(super) fn finish(&self, room: RoomId, input: Input) -> bool {
        let mut rooms = self.lock();
        let Some(room) = rooms.get_mut(&room).filter(|room| room.begun.is_none() && !room.finished) else {
            return false;
        };
        (room.finished, room.since) = (true, Instant::now());
        room.queue.tell(input)
    }

    fn put(&self, batch: &TapBatch) {
        // Not that of the first record: tracks are copied one after the other, and each with its own arrivals.
        let first = batch.records.iter().map(arrival).min();
        let mut rooms = self.lock();
        let room = rooms.entry(batch.room).or_insert_with(|| self.new_room(first));
        if room.queue.put(batch) == Put::Dropped {
            drop(rooms);
            measure::dropped(batch.records.len());
        }
    }

    fn new_room(&self, first_arrival: Option<Instant>) -> Room {
        let (queue, inputs, load) = queue(self.queue_bytes, &self.budget);
        let begun = Some(Begun { inputs, load: Arc::clone(&load), first_arrival });
        Room { queue, begun, load, since: Instant::now(), finished: false }
    }

    fn tick(&self, now: Instant) {
        let mut rooms = self.lock();
        rooms.retain(|_, room| {
            let age = now.saturating_duration_since(room.since);
            !(room.finished && age > FINISHED || room.begun.is_some() && age > UNSTARTED)
        });
        measure::lag(rooms.values().map(|room| room.load.lag(now)).max().unwrap_or_default());
    }

    /// Bytes that wait for a room's writer.
    #[cfg(test)]
    pub(super) fn waiting(&self, room: RoomId) -> usize {
        self.lock().get(&room).map_or(0, |room| room.load.waiting())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_that_nobody_records_are_forgotten() {
        let rooms = Rooms::new(1000, 1000);
        rooms.put(&TapBatch { room: RoomId(1), records: vec![], bytes: vec![0; 100] });
        rooms.tick(Instant::now());
        assert_eq!(rooms.lock().len(), 1);
        rooms.tick(Instant::now() + UNSTARTED + TICK);
        assert_eq!(rooms.lock().len(), 0);
    }

    #[test]
    fn a_room_is_begun_once_and_finished_once() {
        let rooms = Rooms::new(1000, 1000);
        let finish = || Input::Finish { asked: Instant::now(), done: tokio::sync::oneshot::channel().0 };
        assert!(!rooms.finish(RoomId(1), finish()));
        let begun = rooms.begin(RoomId(1)).unwrap();
        assert!(rooms.begin(RoomId(1)).is_none());
        assert!(rooms.finish(RoomId(1), finish()) && !rooms.finish(RoomId(1), finish()));
        drop(begun);
        rooms.tick(Instant::now() + FINISHED + TICK);
        assert_eq!(rooms.lock().len(), 0);
    }
}
