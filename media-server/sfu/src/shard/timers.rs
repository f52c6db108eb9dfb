//! Deadlines in order: one for each key, moved in O(log n), the earliest known at once.
//!
//! The owner of a key keeps its deadline and passes it to every call, so that the set holds exactly one entry for each
//! key with a deadline, and none that is out of date.

use std::collections::BTreeSet;
use std::time::Instant;

/// The deadlines.
pub(super) struct Timers<K>(BTreeSet<(Instant, K)>);

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<K: Copy + Ord> Timers<K> {
    /// Moves the deadline of `key` from `current` to `at`; `None` is no deadline.
    pub(super) fn set(&mut self, key: K, current: &mut Option<Instant>, at: Option<Instant>) {
        if *current == at {
            return;
        }
        if let Some(previous) = std::mem::replace(current, at) {
            self.0.remove(&(previous, key));
        }
        if let Some(at) = at {
            self.0.insert((at, key));
        }
    }

    /// Returns the earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Returns the key with the earliest deadline that has passed. The caller clears or moves it by [`Timers::set`].
    pub(super) fn due(&self, now: Instant) -> Option<K> {
        self.0.first().filter(|(at, _)| *at <= now).map(|(_, key)| *key)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn deadlines_moved_without_end_leave_one_entry_a_key() {
        let now = Instant::now();
        let (mut timers, mut slots) = (Timers::default(), [None; 3]);
        for round in 0..1000u64 {
            for (key, slot) in slots.iter_mut().enumerate() {
                timers.set(key, slot, Some(now + Duration::from_millis(round * 7919 % 1000 + key as u64)));
            }
        }
        assert_eq!(timers.len(), 3);
        assert_eq!(timers.next(), slots[0]);
        timers.set(0, &mut slots[0], None);
        assert_eq!((timers.next(), timers.len()), (slots[1], 2));
    }

    #[test]
    fn due_keys_come_in_the_order_of_their_deadlines() {
        let now = Instant::now();
        let (mut timers, mut slots) = (Timers::default(), [None; 4]);
        for (key, millis) in [(0, 30), (1, 10), (2, 20), (3, 40)] {
            timers.set(key, &mut slots[key], Some(now + Duration::from_millis(millis)));
        }
        assert_eq!(timers.due(now), None);
        let mut order = Vec::new();
        while let Some(key) = timers.due(now + Duration::from_millis(30)) {
            order.push(key);
            timers.set(key, &mut slots[key], None);
        }
        assert_eq!(order, [1, 2, 0]);
        assert_eq!(timers.next(), slots[3]);
    }
}
