//! Which recording a batch belongs to: one thread that never waits for a disk.
//!
//! Batches of [`GATHER`] go to a writer together. A batch of each burst would wake two threads a hundred times a second for
//! each camera, which costs more than the recording itself.
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

/// How long batches gather, and the media time of those that go to a writer together.
pub(super) const GATHER: Duration = Duration::from_millis(50);
/// Most batches that gather; about as many as the media threads keep buffers for.
const MAX_GATHERED: usize = 256;
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
        let (mut batches, mut behind) = (Vec::new(), false);
        loop {
            let mut next = taps.next(TICK);
            if matches!(next, Ok(Some(_))) && !behind {
                // No thread waits for a batch meanwhile, so media threads spend nothing on a wake-up.
                std::thread::sleep(GATHER);
            }
            while let Ok(Some(batch)) = next {
                batches.push(batch);
                next = if batches.len() < MAX_GATHERED { taps.next(Duration::ZERO) } else { Ok(None) };
            }
            behind = batches.len() >= MAX_GATHERED;
            self.put_all(&batches);
            batches.drain(..).for_each(|batch| taps.recycle(batch));
            if let Err(Gone) = next {
                return;
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

    /// Puts batches into the queues of their rooms, those of a room together.
    fn put_all(&self, batches: &[TapBatch]) {
        let mut gathered: HashMap<RoomId, TapBatch> = HashMap::new();
        for batch in batches {
            let first = |batch: &TapBatch| batch.records.first().map(arrival);
            let room = gathered.entry(batch.room).or_insert_with(|| TapBatch::empty(batch.room));
            // Writers that are behind take small steps, so that they drop little when a queue is full.
            if first(room).zip(first(batch)).is_some_and(|(from, to)| to.saturating_duration_since(from) >= GATHER) {
                self.put(std::mem::replace(room, TapBatch::empty(batch.room)));
            }
            room.append(batch);
        }
        gathered.into_values().for_each(|batch| self.put(batch));
    }

    fn put(&self, batch: TapBatch) {
        // Not that of the first record: tracks are copied one after the other, and each with its own arrivals.
        let first = batch.records.iter().map(arrival).min();
        let mut rooms = self.lock();
        let room = rooms.entry(batch.room).or_insert_with(|| self.new_room(first));
        let records = batch.records.len();
        if room.queue.put(batch) == Put::Dropped {
            drop(rooms);
            measure::dropped(records);
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
    use crate::net::tap::TapRecord;
    use sfu::parameters::{Codec, MediaKind, SessionId};

    fn batch(room: u64, index: u64, arrival: Instant, payload: &[u8]) -> TapBatch {
        let packet = TapRecord::Packet {
            kind: MediaKind::Video,
            codec: Codec::Vp8,
            source: SessionId(1),
            index,
            timestamp: 0,
            marker: true,
            arrival,
            payload: 0..payload.len() as u32,
        };
        TapBatch { room: RoomId(room), records: vec![packet], bytes: payload.to_vec() }
    }

    #[test]
    fn rooms_that_nobody_records_are_forgotten() {
        let rooms = Rooms::new(1000, 1000);
        rooms.put(batch(1, 0, Instant::now(), b"frame"));
        rooms.tick(Instant::now());
        assert_eq!(rooms.lock().len(), 1);
        rooms.tick(Instant::now() + UNSTARTED + TICK);
        assert_eq!(rooms.lock().len(), 0);
    }

    /// Returns the indices and payloads of each batch that a recording has got.
    fn batches(begun: &Begun) -> Vec<Vec<(u64, Vec<u8>)>> {
        let batch = |input| match input {
            Input::Batch(TapBatch { records, bytes, .. }) => {
                let packet = |record: &TapRecord| match record {
                    TapRecord::Packet { index, payload, .. } => {
                        (*index, bytes[payload.start as usize..payload.end as usize].to_vec())
                    }
                    _ => panic!("packets only"),
                };
                records.iter().map(packet).collect()
            }
            _ => panic!("batches only"),
        };
        begun.inputs.try_iter().map(batch).collect()
    }

    #[test]
    fn batches_of_a_room_arrive_together() {
        let rooms = Rooms::new(100_000, 100_000);
        let begun = [1, 2].map(|room| rooms.begin(RoomId(room)).unwrap());
        let now = Instant::now();
        rooms.put_all(&[batch(1, 1, now, b"one"), batch(2, 7, now, b"other"), batch(1, 2, now, b"two")]);
        let packet = |index, payload: &[u8]| (index, payload.to_vec());
        assert_eq!(batches(&begun[0]), [[packet(1, b"one"), packet(2, b"two")]]);
        assert_eq!(batches(&begun[1]), [[packet(7, b"other")]]);
    }

    #[test]
    fn batches_far_apart_arrive_one_by_one() {
        let rooms = Rooms::new(100_000, 100_000);
        let begun = rooms.begin(RoomId(1)).unwrap();
        let now = Instant::now();
        let sent: Vec<_> = (0..4).map(|n| batch(1, n, now + GATHER / 2 * n as u32, b"frame")).collect();
        rooms.put_all(&sent);
        let lengths: Vec<usize> = batches(&begun).iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 2]);
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
