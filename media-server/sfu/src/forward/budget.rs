//! A token bucket of bytes with variable rate and depth: for the retransmissions to a viewer, at a fraction of the stream's rate.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    /// Below zero when the last packet went beyond.
    bytes: i64,
    refilled: Option<Instant>,
}

impl Budget {
    /// Returns the bytes that may be sent at `now` (the last packet may go beyond), at `rate` bits per second and at most `depth`
    /// bytes at once. A new bucket is full.
    pub(super) fn left(&mut self, now: Instant, rate: u64, depth: u64) -> u64 {
        let depth = depth as i64;
        let elapsed = self.refilled.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        let earned = (elapsed.as_micros().min(60_000_000) as u64).saturating_mul(rate) / 8_000_000;
        if self.refilled.is_none() {
            (self.bytes, self.refilled) = (depth, Some(now));
        } else if earned > 0 {
            (self.bytes, self.refilled) = ((self.bytes + earned as i64).min(depth), Some(now));
        }
        self.bytes.max(0) as u64
    }

    /// Takes the bytes sent.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.bytes -= bytes as i64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spent_bytes_return_with_time() {
        let now = Instant::now();
        let mut budget = Budget::default();
        let left = |budget: &mut Budget, millis| budget.left(now + Duration::from_millis(millis), 24_000_000, 96_000);
        assert_eq!(left(&mut budget, 0), 96_000);
        budget.spend(97_000);
        assert_eq!(left(&mut budget, 0), 0);
        assert_eq!(left(&mut budget, 1), 2_000);
        assert_eq!(left(&mut budget, 60_000), 96_000);
    }
}
