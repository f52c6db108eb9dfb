//! When the store is asked again after it failed: one at a time, at growing intervals, for ever.
//!
//! A store that is down would fail every file that waits; so its failures are counted here, once for all files, and
//! nothing is started while the gate is closed. The first to go through is a look at the bucket, which costs nobody
//! anything; then one transfer; and when that succeeds, all. No clock and no randomness: both are arguments.

use std::time::{Duration, Instant};

/// Transfers at once.
const PARALLEL: usize = 2;
/// Until the store has answered for the first time it may just be starting beside us: it is asked at least so often,
const STARTING_DELAY: Duration = Duration::from_millis(500);
/// for so long.
const STARTING: Duration = Duration::from_secs(30);

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delays {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

impl Delays {
    /// After so many failures; `jitter` from 0 to 1 spreads it over its upper half, so that many servers do not come back
    /// together.
    pub(super) fn after(&self, failures: u32, jitter: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let delay = doubled.min(self.longest);
        delay / 2 + (delay / 2).mul_f64(jitter.clamp(0.0, 1.0))
    }
}

/// What may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// Nothing before this.
    Wait(Instant),
    /// A look at the bucket, alone.
    Probe,
    /// So many transfers.
    Transfers(usize),
}

/// Who met the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A look at the bucket.
    Probe,
    /// A transfer.
    Transfer,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Gate {
    delays: Delays,
    started: Instant,
    failures: u32,
    failed_by: By,
    until: Instant,
    /// The bucket was seen since the last failure.
    reached: bool,
    /// It was reached at least once.
    known: bool,
    contact: Instant,
}

impl Gate {
    pub(super) fn new(now: Instant, delays: Delays) -> Gate {
        Gate {
            delays,
            started: now,
            failures: 0,
            failed_by: By::Probe,
            until: now,
            reached: false,
            known: false,
            contact: now,
        }
    }

    pub(super) fn permit(&self, now: Instant) -> Permit {
        match (now < self.until, self.reached, self.failures) {
            (true, ..) => Permit::Wait(self.until),
            (false, false, _) => Permit::Probe,
            (false, true, 0) => Permit::Transfers(PARALLEL),
            (false, true, _) => Permit::Transfers(1),
        }
    }

    /// The store did what it was asked.
    pub(super) fn succeeded(&mut self, now: Instant, by: By) {
        (self.reached, self.known, self.contact) = (true, true, now);
        // To see the bucket does not mean that it can be written.
        if by == By::Transfer || self.failed_by == By::Probe {
            self.failures = 0;
        }
    }

    /// There is nothing left to write, so that no transfer can show that it works again.
    pub(super) fn nothing_waits(&mut self) {
        if self.reached {
            self.failures = 0;
        }
    }

    /// The store did not do it.
    pub(super) fn failed(&mut self, now: Instant, by: By, jitter: f64) {
        self.failures = self.failures.saturating_add(1);
        // While a transfer fails, that the bucket is not seen either is no other trouble.
        if self.failures == 1 || by == By::Transfer {
            self.failed_by = by;
        }
        (self.reached, self.contact) = (false, now);
        let delay = self.delays.after(self.failures, jitter);
        let starting = !self.known && now.saturating_duration_since(self.started) < STARTING;
        self.until = now + if starting { delay.min(STARTING_DELAY) } else { delay };
    }

    /// Something has changed: it is tried at once.
    pub(super) fn open(&mut self, now: Instant) {
        self.until = self.until.min(now);
    }

    /// It failed and has not succeeded since.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// The bucket was seen, and nothing has failed since.
    pub(super) fn is_reached(&self) -> bool {
        self.reached
    }

    /// When it last answered, or failed to.
    pub(super) fn contact(&self) -> Instant {
        self.contact
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DELAYS: Delays = Delays { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_delay_doubles_up_to_the_longest() {
        let delays: Vec<_> = (1..9).map(|failures| DELAYS.after(failures, 1.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(DELAYS.after(u32::MAX, 0.0), seconds(30));
    }

    proptest! {
        #[test]
        fn no_delay_is_longer_than_the_longest(failures: u32, jitter in 0.0..=1.0) {
            let delay = DELAYS.after(failures, jitter);
            prop_assert!(delay <= DELAYS.longest && delay >= DELAYS.first / 2);
        }
    }

    #[test]
    fn a_store_that_failed_is_seen_first_then_tried_with_one() {
        let start = Instant::now();
        let mut gate = Gate::new(start, DELAYS);
        assert_eq!(gate.permit(start), Permit::Probe);
        gate.succeeded(start, By::Probe);
        assert_eq!(gate.permit(start), Permit::Transfers(2));
        gate.failed(start, By::Transfer, 1.0);
        assert_eq!(gate.permit(start), Permit::Wait(start + seconds(1)));
        let later = start + seconds(1);
        assert_eq!(gate.permit(later), Permit::Probe);
        gate.succeeded(later, By::Probe);
        assert!(gate.is_failing(), "that it can be seen does not mean that it can be written");
        assert_eq!(gate.permit(later), Permit::Transfers(1));
        gate.failed(later, By::Transfer, 1.0);
        assert_eq!(gate.permit(later), Permit::Wait(later + seconds(2)));
        gate.open(later);
        gate.succeeded(later, By::Probe);
        gate.succeeded(later, By::Transfer);
        assert!(!gate.is_failing());
        assert_eq!(gate.permit(later), Permit::Transfers(2));
    }

    #[test]
    fn a_store_that_starts_beside_us_is_not_kept_waiting() {
        let start = Instant::now();
        let mut gate = Gate::new(start, DELAYS);
        for _ in 0..10 {
            gate.failed(start, By::Probe, 1.0);
        }
        assert_eq!(gate.permit(start), Permit::Wait(start + STARTING_DELAY));
        gate.failed(start + STARTING, By::Probe, 1.0);
        assert_eq!(gate.permit(start + STARTING), Permit::Wait(start + STARTING + seconds(60)));
    }

    #[test]
    fn with_nothing_to_write_it_is_enough_to_see_the_bucket() {
        let start = Instant::now();
        let mut gate = Gate::new(start, DELAYS);
        gate.failed(start, By::Transfer, 1.0);
        gate.nothing_waits();
        assert!(gate.is_failing());
        gate.succeeded(start, By::Probe);
        gate.nothing_waits();
        assert!(!gate.is_failing());
    }
}
