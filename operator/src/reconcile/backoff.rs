//! How long a session that could not be worked on waits for the next try: for each object its own, from one second,
//! doubled up to a minute, with jitter, and from the beginning again after a success.
//!
//! kube's error policy is told no number of attempts, so it is kept here. Randomness is an argument.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(60);

/// Failures in a row, per object.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: Mutex<HashMap<String, u32>>,
}

impl Backoff {
    /// One more failure of `object`: how long to wait. `random` in 0..1 spreads it over the upper half of what it may be.
    pub(super) fn failed(&self, object: &str, random: f64) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(object.to_owned()).or_insert(0);
        let longest = FIRST.saturating_mul(1 << (*count).min(16)).min(LAST);
        *count = count.saturating_add(1);
        longest.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }

    /// `object` was worked on, or is gone.
    pub(super) fn reset(&self, object: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_waits_longer_up_to_a_minute() {
        let backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.failed("a/x", 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        for _ in 0..100 {
            assert_eq!(backoff.failed("a/x", 1.0), LAST, "no overflow");
        }
    }

    #[test]
    fn a_success_begins_anew_and_objects_do_not_wait_for_each_other() {
        let backoff = Backoff::default();
        for _ in 0..5 {
            backoff.failed("a/x", 1.0);
        }
        assert_eq!(backoff.failed("a/y", 1.0), FIRST);
        backoff.reset("a/x");
        assert_eq!(backoff.failed("a/x", 1.0), FIRST);
    }

    #[test]
    fn jitter_stays_in_the_upper_half() {
        for random in [-1.0, 0.0, 0.3, 1.0, 7.0] {
            let wait = Backoff::default().failed("a/x", random);
            assert!(wait >= FIRST / 2 && wait <= FIRST, "{random}: {wait:?}");
        }
    }
}
