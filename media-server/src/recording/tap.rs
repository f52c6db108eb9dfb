//! Where batches come from: the media plane, or a test.

use crate::net::tap::{Gone, TapBatch, TapRecord, Taps};
use std::time::{Duration, Instant};

/// Gives batches, and takes their memory back.
pub trait TapSource: Send + 'static {
    /// The next batch; `Ok(None)` when none came in time, `Err` when none will.
    fn next(&self, timeout: Duration) -> Result<Option<TapBatch>, Gone>;

    /// Takes a batch's memory back.
    fn recycle(&self, batch: TapBatch);
}

impl TapSource for Taps {
    fn next(&self, timeout: Duration) -> Result<Option<TapBatch>, Gone> {
        Taps::next(self, timeout)
    }

    fn recycle(&self, batch: TapBatch) {
        Taps::recycle(self, batch);
    }
}

/// When it came.
pub(super) fn arrival(record: &TapRecord) -> Instant {
    match record {
        TapRecord::Packet { arrival, .. } | TapRecord::SenderReport { arrival, .. } => *arrival,
        TapRecord::SourceEnded { at, .. } => *at,
    }
}
