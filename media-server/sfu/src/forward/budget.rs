//! How much a subscriber may be sent besides what everyone gets: a token bucket of bytes.
//!
//! One bounds what brings up a viewer who has joined, another what is repeated to it: a NACK of a few bytes asks for hundreds of
//! packets.

use std::time::{Duration, Instant};

/// Bytes at once; the rest is paced.
const BURST: i64 = 96_000;
/// Bits per second.
const RATE: i64 = 24_000_000;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Below zero when the last packet went beyond.
    bytes: i64,
    refilled: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: BURST, refilled: None }
    }
}

impl Budget {
    pub(super) fn full(now: Instant) -> Self {
        Self { bytes: BURST, refilled: Some(now) }
    }

    /// Bytes that may be sent now; the last packet may go beyond.
    pub(super) fn left(&mut self, now: Instant) -> u64 {
        let elapsed = self.refilled.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let earned = elapsed.as_micros().min(1_000_000) as i64 * RATE / 8 / 1_000_000;
        if earned > 0 || self.refilled.is_none() {
            self.bytes = (self.bytes + earned).min(BURST);
            self.refilled = Some(now);
        }
        self.bytes.max(0) as u64
    }

    pub(super) fn is_left(&mut self, now: Instant) -> bool {
        self.left(now) > 0
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        self.bytes -= bytes as i64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back_with_time() {
        let now = Instant::now();
        let mut budget = Budget::default();
        assert_eq!(budget.left(now), 96_000);
        budget.spend(97_000);
        assert!(!budget.is_left(now));
        assert_eq!(budget.left(now + Duration::from_millis(1)), 2_000);
        assert_eq!(budget.left(now + Duration::from_secs(60)), 96_000);
    }
}
