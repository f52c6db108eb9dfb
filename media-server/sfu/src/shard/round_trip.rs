//! The round trip to a publisher, and how far apart requests for the same packet are.
//!
//! Two sources: the time from the first and only request for a packet to its retransmission, and the answers to the reference
//! times in our reports (RFC 3611 §4.4 and §4.5), which libwebrtc sends and others ignore. Both are smoothed as RFC 6298 §2
//! does. A packet that was requested several times yields an upper bound only; that is used while nothing better is known, or
//! on a path longer than the first guess all requests would be repeated too early and nothing would ever be measured.

use crate::feedback::reception::SHORTEST_RETRY;
use std::time::{Duration, Instant};

/// Before anything is measured.
const GUESS: Duration = Duration::from_millis(100);
/// A measurement is trusted over upper bounds for this long.
const TRUSTED: Duration = Duration::from_secs(10);
/// No longer round trip is believed.
const LONGEST: Duration = Duration::from_secs(5);
/// Reference times that are sent without any answer.
const UNANSWERED: u8 = 10;

/// The estimated round trip.
pub(super) struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
    /// When it was last measured exactly.
    measured: Option<Instant>,
    epoch: Instant,
    /// Reference times sent since the last answer.
    unanswered: u8,
}

impl RoundTrip {
    pub(super) fn new(now: Instant) -> Self {
        Self { smoothed: None, variation: Duration::ZERO, measured: None, epoch: now, unanswered: 0 }
    }

    /// Returns the smoothed round trip, once there is one.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// Returns how long to wait for an answer to a request: 1.1 round trips and four mean deviations, at most two round trips.
    pub(super) fn retry(&self) -> Duration {
        let round_trip = self.smoothed.unwrap_or(GUESS);
        (round_trip * 11 / 10 + 4 * self.variation).min(2 * round_trip).max(SHORTEST_RETRY)
    }

    /// Records a packet that arrived `since_first` after the first of `requests` for it.
    pub(super) fn answered(&mut self, now: Instant, since_first: Duration, requests: u8) {
        let trusted = self.measured.is_some_and(|at| now.saturating_duration_since(at) < TRUSTED);
        match requests {
            0 => {}
            1 => self.measure(now, since_first),
            _ if trusted => {}
            _ => {
                self.smoothed = Some(since_first.min(LONGEST));
                self.variation = Duration::ZERO;
            }
        }
    }

    fn measure(&mut self, now: Instant, sample: Duration) {
        if sample > LONGEST {
            return;
        }
        let first = self.measured.replace(now).is_none();
        (self.smoothed, self.variation) = match self.smoothed.filter(|_| !first) {
            None => (Some(sample), sample / 4),
            Some(smoothed) => (Some((7 * smoothed + sample) / 8), (3 * self.variation + smoothed.abs_diff(sample)) / 4),
        };
    }

    /// Returns the reference time of a report, NTP in 32.32 fixed point; `None` when the peer does not answer them.
    pub(super) fn reference(&mut self, now: Instant) -> Option<u64> {
        if self.unanswered >= UNANSWERED {
            return None;
        }
        self.unanswered += 1;
        Some(self.clock(now))
    }

    /// Records the answer to a reference time: its middle 32 bits, and for how long the peer had it, in 65,536ths of a second.
    pub(super) fn reference_answered(&mut self, now: Instant, reference: u32, delay: u32) {
        let middle = (self.clock(now) >> 16) as u32;
        let ticks = middle.wrapping_sub(reference).wrapping_sub(delay);
        // 0 means that the peer had none; a negative one is of another clock.
        if reference != 0 && (ticks as i32) >= 0 {
            self.unanswered = 0;
            self.measure(now, Duration::from_micros(u64::from(ticks) * 1_000_000 / 65_536));
        }
    }

    /// A clock of our own that starts at a second, so that no reference is 0.
    fn clock(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.epoch) + Duration::from_secs(1);
        ((elapsed.as_nanos() << 32) / 1_000_000_000) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn retry_follows_the_measured_round_trip() {
        let now = Instant::now();
        for actual in [10, 100, 300, 600].map(ms) {
            let mut round_trip = RoundTrip::new(now);
            (0..20).for_each(|_| round_trip.answered(now, actual, 1));
            assert_eq!(round_trip.smoothed(), Some(actual));
            let retry = round_trip.retry();
            let shortest = (actual * 11 / 10).max(SHORTEST_RETRY);
            assert!((shortest..=shortest + ms(5)).contains(&retry), "{retry:?} at {actual:?}");
        }
    }

    #[test]
    fn upper_bounds_count_until_there_is_a_measurement() {
        let now = Instant::now();
        let mut round_trip = RoundTrip::new(now);
        round_trip.answered(now, ms(600), 3);
        assert!(round_trip.retry() >= ms(600));
        round_trip.answered(now, ms(580), 1);
        round_trip.answered(now, ms(1300), 2);
        assert_eq!(round_trip.smoothed(), Some(ms(580)));
        // The path has become longer: every packet is requested twice, and nothing is exact any more.
        round_trip.answered(now + TRUSTED, ms(2500), 2);
        assert_eq!(round_trip.smoothed(), Some(ms(2500)));
    }

    #[test]
    fn answered_references_measure_the_round_trip() {
        let start = Instant::now();
        let mut round_trip = RoundTrip::new(start);
        let reference = (round_trip.reference(start + ms(70)).unwrap() >> 16) as u32;
        // The peer had it for half a second.
        round_trip.reference_answered(start + ms(70 + 500 + 40), reference, 32_768);
        let measured = round_trip.smoothed().unwrap();
        assert!((ms(39)..=ms(41)).contains(&measured), "{measured:?}");
        for (reference, delay) in [(0, 0), (reference, u32::MAX / 4), (reference.wrapping_add(1 << 30), 0)] {
            round_trip.reference_answered(start + ms(700), reference, delay);
        }
        assert_eq!(round_trip.smoothed(), Some(measured));
    }

    #[test]
    fn unanswered_references_end() {
        let now = Instant::now();
        let mut round_trip = RoundTrip::new(now);
        let sent = (0..50).filter(|_| round_trip.reference(now).is_some()).count();
        assert_eq!(sent, usize::from(UNANSWERED));
    }
}
