//! How many of the new packets leave at once.
//!
//! A keyframe of a megabyte that a camera sends at line rate would leave to every viewer at line rate, too, and overrun the first
//! narrow queue on the way. So bursts of more than [`FREE`] bytes, or two mean frames, are cut: slices leave [`STEP`] apart, to all viewers
//! in turn, and the last of it one frame interval after the first. Smaller bursts leave at once, and nothing is reordered.

use std::time::{Duration, Instant};

/// Bytes to one viewer that leave at once.
const FREE: u64 = 64_000;
/// Bits per second at which they are granted again.
const REFILL: u64 = 64_000_000;
/// Between two slices.
const STEP: Duration = Duration::from_millis(4);
/// The frame interval before it is measured, and its bounds: a frame of a slow camera need not wait for long.
const INTERVAL: Duration = Duration::from_millis(33);
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(40);
/// Ticks of a video timestamp in a millisecond.
const CLOCK: u64 = 90;

/// Cuts large bursts of one track into slices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    tokens: u64,
    refilled: Option<Instant>,
    interval: Duration,
    timestamp: Option<u32>,
    /// When all that waits now must have left, and when the next slice leaves.
    waiting: Option<(Instant, Instant)>,
}

impl Default for Pacer {
    fn default() -> Self {
        Self { tokens: 0, refilled: None, interval: INTERVAL, timestamp: None, waiting: None }
    }
}

impl Pacer {
    /// Takes note of a packet's timestamp: the frame interval is measured by them.
    pub(crate) fn saw(&mut self, timestamp: u32) {
        let step = self.timestamp.map_or(0, |last| timestamp.wrapping_sub(last));
        if self.timestamp.is_none() || (step as i32) > 0 {
            self.timestamp = Some(timestamp);
        }
        if (1..=1000 * CLOCK as u32).contains(&step) {
            let interval = Duration::from_micros(u64::from(step) * 1000 / CLOCK);
            self.interval = ((self.interval * 7 + interval) / 8).clamp(SHORTEST, LONGEST);
        }
    }

    /// Returns when the next slice leaves, while something waits.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.waiting.map(|(_, next)| next)
    }

    /// Returns how many bytes of `pending` leave now, of a stream of `bitrate`. When that is less, the rest waits until
    /// [`Pacer::next_at`].
    pub(crate) fn take(&mut self, now: Instant, pending: u64, bitrate: u64) -> u64 {
        let worth = |rate: u64, span: Duration| rate.saturating_mul(span.as_micros() as u64) / 8_000_000;
        let depth = FREE.max(2 * worth(bitrate, self.interval));
        let elapsed = self.refilled.map_or(LONGEST, |at| now.saturating_duration_since(at).min(LONGEST));
        self.tokens = (self.tokens + worth(REFILL.max(2 * bitrate), elapsed)).min(depth);
        if self.refilled.is_none() {
            self.tokens = depth;
        }
        self.refilled = Some(now);
        if self.waiting.is_none() && pending <= self.tokens {
            self.tokens -= pending;
            return pending;
        }
        let (end, next) = *self.waiting.get_or_insert((now + self.interval, now));
        if now < next {
            return 0;
        }
        let slices = end.saturating_duration_since(now).as_micros().div_ceil(STEP.as_micros()) as u64 + 1;
        let slice = (pending / slices).max(self.tokens).min(pending);
        self.tokens = self.tokens.saturating_sub(slice);
        self.waiting = (slice < pending).then_some((end, now + STEP));
        slice
    }

    /// Everything leaves: nothing waits any more.
    pub(crate) fn flush(&mut self) {
        self.waiting = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Slices of `bytes` that arrive at once in a stream of `bitrate`: when each leaves, and how large it is.
    fn slices(bytes: u64, bitrate: u64) -> Vec<(Duration, u64)> {
        let start = Instant::now();
        let mut pacer = Pacer::default();
        (0..10).for_each(|n| pacer.saw(n * 3000));
        let (mut now, mut left, mut out) = (start, bytes, Vec::new());
        while left > 0 {
            let slice = pacer.take(now, left, bitrate);
            left -= slice;
            out.push((now - start, slice));
            assert_eq!(pacer.next_at().is_some(), left > 0);
            now = pacer.next_at().unwrap_or(now);
        }
        out
    }

    #[test]
    fn a_small_burst_leaves_at_once() {
        assert_eq!(slices(60_000, 2_500_000), [(Duration::ZERO, 60_000)]);
        assert_eq!(slices(400_000, 50_000_000), [(Duration::ZERO, 400_000)], "two frames of a fast stream");
    }

    #[test]
    fn a_large_keyframe_is_spread_over_a_frame_interval() {
        let slices = slices(1_000_000, 2_500_000);
        let (last, _) = slices[slices.len() - 1];
        assert!((25 * MS..=34 * MS + STEP).contains(&last), "{slices:?}");
        assert!(slices.iter().all(|(_, slice)| *slice <= 130_000), "{slices:?}");
        assert!(slices.windows(2).all(|pair| pair[1].0 - pair[0].0 >= STEP));
    }

    #[test]
    fn new_packets_wait_behind_earlier_slices() {
        let start = Instant::now();
        let mut pacer = Pacer::default();
        assert_eq!(pacer.take(start, 64_000, 0), 64_000);
        assert!(pacer.take(start, 200_000, 0) < 30_000);
        assert_eq!(pacer.take(start + MS, 300_000, 0), 0);
        assert!(pacer.take(start + STEP, 300_000, 0) > 0);
        assert_eq!(pacer.take(start + 41 * MS, 500_000, 0), 500_000, "the interval is over");
    }

    #[test]
    fn a_slow_camera_waits_no_longer_than_a_fast_one() {
        let mut pacer = Pacer::default();
        (0..100).for_each(|n| pacer.saw(n * 90_000));
        assert_eq!(pacer.interval, LONGEST);
        (0..100u32).for_each(|n| pacer.saw(n.wrapping_mul(90_000).wrapping_mul(12_345)));
        assert!((SHORTEST..=LONGEST).contains(&pacer.interval));
    }
}
