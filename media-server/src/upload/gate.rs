//! When the store is asked again after it failed: one at a time, at growing intervals, for ever.
//!
//! A store that is down would fail every file that waits; so its failures are counted here, once for all files, and
//! nothing is started while the gate is closed. The first to go through is a look at the bucket, which costs nobody
//! anything; then one transfer; and when that succeeds, all. No clock and no randomness: both are arguments.
//!
//! Two transfers run at once. While many files wait, each transfer that succeeds quickly admits one more, up to 16; one
//! that is slow admits one less, and a failure starts from two again.

use std::time::{Duration, Instant};

/// Concurrent transfers while few files wait, and after a failure.
const MIN_PARALLEL: usize = 2;
/// Concurrent transfers while many files wait.
const MAX_PARALLEL: usize = 16;
/// Waiting files per concurrent transfer.
const FILES_PER_TRANSFER: u64 = 16;
/// A transfer that takes longer is limited by the network, where more at once would only slow each other down.
const SLOW_TRANSFER: Duration = Duration::from_secs(10);
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
    failed_at: Option<Instant>,
    until: Instant,
    /// Files and removals that wait.
    backlog: u64,
    /// Concurrent transfers that the store has carried.
    parallel: usize,
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
            failed_at: None,
            until: now,
            backlog: 0,
            parallel: MIN_PARALLEL,
            reached: false,
            known: false,
            contact: now,
        }
    }

    pub(super) fn permit(&self, now: Instant) -> Permit {
        match (now < self.until, self.reached, self.failures) {
            (true, ..) => Permit::Wait(self.until),
            (false, false, _) => Permit::Probe,
            (false, true, 0) => Permit::Transfers(self.parallel),
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

    /// Takes the number of files and removals that wait.
    pub(super) fn set_backlog(&mut self, backlog: u64) {
        self.backlog = backlog;
        self.parallel = self.parallel.min(self.useful_parallel());
    }

    /// Takes the duration of a transfer that succeeded.
    pub(super) fn transferred(&mut self, took: Duration) {
        self.parallel = match took < SLOW_TRANSFER {
            true => (self.parallel + 1).min(self.useful_parallel()),
            false => self.parallel.saturating_sub(1).max(MIN_PARALLEL),
        };
    }

    fn useful_parallel(&self) -> usize {
        usize::try_from(self.backlog / FILES_PER_TRANSFER).unwrap_or(MAX_PARALLEL).clamp(MIN_PARALLEL, MAX_PARALLEL)
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
        (self.reached, self.contact, self.failed_at) = (false, now, Some(now));
        self.parallel = MIN_PARALLEL;
        let delay = self.delays.after(self.failures, jitter);
        let starting = !self.known && now.saturating_duration_since(self.started) < STARTING;
        self.until = now + if starting { delay.min(STARTING_DELAY) } else { delay };
    }

    /// Whether a failure of a transfer that started then is already counted: transfers that run at once fail together.
    pub(super) fn has_counted(&self, started: Instant) -> bool {
        self.is_failing() && self.failed_at.is_some_and(|failed_at| started <= failed_at)
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

    /// A gate of a reached store with this backlog.
    fn open_gate(now: Instant, backlog: u64) -> Gate {
        let mut gate = Gate::new(now, DELAYS);
        gate.succeeded(now, By::Probe);
        gate.set_backlog(backlog);
        gate
    }

    #[test]
    fn parallel_transfers_follow_the_backlog() {
        let now = Instant::now();
        let mut gate = open_gate(now, 100_000);
        assert_eq!(gate.permit(now), Permit::Transfers(2));
        (0..100).for_each(|_| gate.transferred(seconds(1)));
        assert_eq!(gate.permit(now), Permit::Transfers(16));
        gate.set_backlog(64);
        assert_eq!(gate.permit(now), Permit::Transfers(4));
        gate.set_backlog(0);
        assert_eq!(gate.permit(now), Permit::Transfers(2));
        (0..100).for_each(|_| gate.transferred(seconds(1)));
        assert_eq!(gate.permit(now), Permit::Transfers(2), "nothing waits");
    }

    #[test]
    fn slow_transfers_reduce_parallelism() {
        let now = Instant::now();
        let mut gate = open_gate(now, 100_000);
        (0..100).for_each(|_| gate.transferred(seconds(1)));
        gate.transferred(seconds(11));
        assert_eq!(gate.permit(now), Permit::Transfers(15));
        (0..100).for_each(|_| gate.transferred(seconds(11)));
        assert_eq!(gate.permit(now), Permit::Transfers(2));
    }

    #[test]
    fn failure_resets_parallelism_to_two() {
        let start = Instant::now();
        let mut gate = open_gate(start, 100_000);
        (0..100).for_each(|_| gate.transferred(seconds(1)));
        gate.failed(start, By::Transfer, 1.0);
        let later = start + seconds(1);
        assert_eq!(gate.permit(later), Permit::Probe);
        gate.succeeded(later, By::Probe);
        assert_eq!(gate.permit(later), Permit::Transfers(1));
        gate.succeeded(later, By::Transfer);
        assert_eq!(gate.permit(later), Permit::Transfers(2));
    }

    #[test]
    fn concurrent_failures_count_once() {
        let start = Instant::now();
        let mut gate = open_gate(start, 100_000);
        assert!(!gate.has_counted(start));
        gate.failed(start + seconds(1), By::Transfer, 1.0);
        assert!(gate.has_counted(start) && !gate.has_counted(start + seconds(2)));
        gate.succeeded(start + seconds(2), By::Probe);
        gate.succeeded(start + seconds(2), By::Transfer);
        assert!(!gate.has_counted(start), "the store works again");
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
