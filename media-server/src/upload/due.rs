//! The clock of due times: it never steps.
//!
//! Due times are stored as times of day. The wall clock may be set while they wait, so they consist of its value at the
//! start and of the time that has passed since.

use jiff::Timestamp;
use std::time::Instant;

/// Converts instants to the times that due times are compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct DueClock {
    start: Instant,
    wall_at_start: Timestamp,
}

impl DueClock {
    pub(super) fn new(start: Instant, wall_at_start: Timestamp) -> DueClock {
        DueClock { start, wall_at_start }
    }

    /// Returns the time of an instant, as if the wall clock had not been set since the start.
    pub(super) fn at(&self, now: Instant) -> Timestamp {
        self.wall_at_start + now.saturating_duration_since(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn due_clock_advances_with_instants_alone() {
        let (start, wall) = (Instant::now(), "2026-11-22T10:00:00Z".parse().unwrap());
        let clock = DueClock::new(start, wall);
        assert_eq!(clock.at(start), wall);
        assert_eq!(clock.at(start + Duration::from_secs(90)), "2026-11-22T10:01:30Z".parse().unwrap());
    }
}
