//! Takes closed segments into the index by time, many in one transaction.
//!
//! A writer never waits for the registry. A segment that does not get into the index is read from its file when the
//! recording is finished, and stays on the disk until then.

use crate::control::RecordingId;
use crate::store::Store;
use recorder::SegmentRecord;
use tokio::sync::mpsc;

/// Segments that may wait for the registry: an hour of 10 s segments of 11 cameras.
const MAX_WAITING: usize = 4096;
/// Segments in one transaction.
const BATCH: usize = 64;

/// Where writers leave the records of closed segments. A cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Indexer(mpsc::Sender<(RecordingId, SegmentRecord)>);

impl Indexer {
    /// Starts the task, which ends with the last handle. Call it on a tokio runtime.
    pub(super) fn start(store: Store) -> Indexer {
        let (sender, mut records) = mpsc::channel(MAX_WAITING);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while records.recv_many(&mut batch, BATCH).await > 0 {
                if let Err(error) = store.segments_closed(&batch).await {
                    let segments = batch.len();
                    tracing::warn!(segments, %error, "closed segments not indexed; they are read when their recording ends");
                }
                batch.clear();
            }
        });
        Indexer(sender)
    }

    /// Adds a closed segment. Returns at once.
    pub(super) fn add(&self, recording: &RecordingId, record: SegmentRecord) {
        if self.0.try_send((recording.clone(), record)).is_err() {
            tracing::warn!(%recording, "index queue full, segment not indexed; it is read when its recording ends");
        }
    }
}
