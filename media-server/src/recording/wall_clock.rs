//! When recordings end by the wall clock, and whether that was set.

use jiff::{SignedDuration, Timestamp};
use std::time::{Duration, Instant};

/// A smaller difference is a clock that is slewed.
const STEP: SignedDuration = SignedDuration::from_secs(2);

/// Returns the time until the next multiple of `every` since the Unix epoch, at least a second.
pub(super) fn until_multiple(from: Timestamp, every: Duration) -> Duration {
    let every = i128::try_from(every.as_nanos()).unwrap_or(i128::MAX).max(1);
    let left = every - from.as_nanosecond().rem_euclid(every);
    let least = Duration::from_secs(1).as_nanos() as i128;
    // A clock that was set back a little must not make a recording of a moment.
    let left = if left < least.min(every / 2) { left + every } else { left };
    Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))
}

/// Returns how far the wall clock was set between two readings; none when it was not, or hardly.
pub(super) fn clock_step(before: (Instant, Timestamp), now: (Instant, Timestamp)) -> Option<SignedDuration> {
    let passed = now.0.checked_duration_since(before.0)?;
    let step = now.1.duration_since(before.1.checked_add(passed).ok()?);
    (step.abs() > STEP).then_some(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_step_is_found_in_both_directions() {
        let (start, wall) = (Instant::now(), "2026-11-30T10:00:00Z".parse::<Timestamp>().unwrap());
        let step = |passed: u64, moved: i64| {
            let now = (start + Duration::from_secs(passed), wall + SignedDuration::from_secs(moved));
            clock_step((start, wall), now).map(|step| step.as_secs())
        };
        assert_eq!([step(10, 10), step(10, 12), step(10, 8)], [None; 3], "a clock that is slewed");
        assert_eq!((step(10, 3610), step(10, -3590)), (Some(3600), Some(-3600)));
    }

    #[test]
    fn recordings_of_an_hour_end_at_full_hours() {
        let hour = Duration::from_secs(3600);
        for (from, seconds) in [
            ("2026-11-30T10:00:00Z", 3600.0),
            ("2026-11-30T10:59:58.5Z", 1.5),
            ("2026-11-30T10:15:00.25Z", 2699.75),
            ("2026-11-30T10:59:59.999Z", 3600.001),
        ] {
            let until = until_multiple(from.parse().unwrap(), hour).as_secs_f64();
            assert!((until - seconds).abs() < 1e-6, "{from}: {until}");
        }
        let day = until_multiple("2026-11-30T10:00:00Z".parse().unwrap(), 24 * hour);
        assert_eq!(day, 14 * hour);
    }
}
