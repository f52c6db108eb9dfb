//! The way of tapped media to the recorder: a bounded queue, and the way back for its buffers.
//!
//! A media thread never waits for it: when the recorder is behind, batches are dropped and counted, and the recorder sees
//! the gap in the indices.

use sfu::parameters::RoomId;
pub use sfu::tap::{TapBatch, TapRecord};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Bursts that may wait for the recorder: about ten seconds of eight cameras.
const DEPTH: usize = 8192;
/// Buffers on their way back; what does not fit is freed.
const RETURNS: usize = 256;

/// The recorder's end.
pub struct Taps {
    batches: Receiver<TapBatch>,
    returns: Vec<SyncSender<TapBatch>>,
}

impl Taps {
    /// The next batch; `Ok(None)` when none came in time, `Err` when the media plane is gone.
    pub fn next(&self, timeout: Duration) -> Result<Option<TapBatch>, Gone> {
        match self.batches.recv_timeout(timeout) {
            Ok(batch) => Ok(Some(batch)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Gone),
        }
    }

    /// Gives a batch's memory back to the thread that made it.
    pub fn recycle(&self, batch: TapBatch) {
        let _ = self.returns[shard_of(batch.room, self.returns.len())].try_send(batch);
    }
}

/// The media plane has ended.
#[derive(Debug, thiserror::Error)]
#[error("the media plane has ended")]
pub struct Gone;

/// A media thread's end.
pub(super) struct TapSender {
    batches: SyncSender<TapBatch>,
    returned: Receiver<TapBatch>,
}

impl TapSender {
    /// Hands the batch over, or gives it back when the recorder is behind.
    pub(super) fn send(&self, batch: TapBatch) -> Result<(), TapBatch> {
        self.batches.try_send(batch).map_err(|error| match error {
            TrySendError::Full(batch) | TrySendError::Disconnected(batch) => batch,
        })
    }

    /// Memory that came back.
    pub(super) fn returned(&self) -> Option<TapBatch> {
        self.returned.try_recv().ok()
    }
}

/// The ends for `shards` threads.
pub(super) fn taps(shards: usize) -> (Vec<TapSender>, Taps) {
    let (batches, receiver) = sync_channel(DEPTH);
    let (senders, returns) = (0..shards)
        .map(|_| {
            let (give, returned) = sync_channel(RETURNS);
            (TapSender { batches: batches.clone(), returned }, give)
        })
        .unzip();
    (senders, Taps { batches: receiver, returns })
}

/// Which thread a room lives in: room identifiers are made so that it can be told from them.
pub(super) fn shard_of(room: RoomId, shards: usize) -> usize {
    (room.0 % shards as u64) as usize
}
