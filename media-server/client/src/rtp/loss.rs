//! Which packets of one RTP stream came, which did not, and which to ask for again (generic NACK, RFC 4585 §6.2.1).
//!
//! A hole is asked for after a grace that forgives reordering, then again and again until it is filled or a second has
//! passed. What was never filled is lost, whoever's fault it was.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A hole younger than this may only be out of order.
const GRACE: Duration = Duration::from_millis(8);
/// Between two requests for the same packet.
const RETRY: Duration = Duration::from_millis(40);
/// A hole older than this is asked for no more.
const PATIENCE: Duration = Duration::from_secs(1);
/// Holes further behind the newest packet than this are lost for good.
const WINDOW: i64 = 8192;

/// What a packet is to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It was not there before. Its sequence number, without wrapping.
    New(i64),
    /// It was there already, or is too old to matter.
    Duplicate,
}

#[derive(Debug)]
struct Hole {
    since: Instant,
    asked: u32,
    ask_at: Instant,
}

/// Follows the sequence numbers of one stream.
#[derive(Debug, Default)]
pub(crate) struct LossTracker {
    /// First and highest sequence number so far, without wrapping.
    range: Option<(i64, i64)>,
    holes: BTreeMap<i64, Hole>,
    /// Holes that fell out of the window.
    given_up: u64,
    /// No later than the first hole is to be asked for.
    ask_at: Option<Instant>,
    /// Packets that came, duplicates left out.
    pub(crate) received: u64,
    /// Holes that a retransmission filled.
    pub(crate) recovered: u64,
    /// Packets that came after a later one, unasked.
    pub(crate) out_of_order: u64,
    /// Packets that came again.
    pub(crate) duplicates: u64,
    /// Requests, counted a packet.
    pub(crate) requested: u64,
}

impl LossTracker {
    /// Counts a packet in. `retransmitted` says that it came by a retransmission stream.
    pub(crate) fn receive(&mut self, now: Instant, sequence_number: u16, retransmitted: bool) -> Arrival {
        let Some((first, highest)) = self.range else {
            let start = i64::from(sequence_number);
            self.range = Some((start, start));
            self.received += 1;
            return Arrival::New(start);
        };
        let step = i64::from(sequence_number.wrapping_sub(highest as u16) as i16);
        let sequence = highest + step;
        if step > 0 {
            self.range = Some((first, sequence));
            self.open_holes(now, highest + 1, sequence);
        } else if let Some(hole) = self.holes.remove(&sequence) {
            if self.holes.is_empty() {
                self.ask_at = None;
            }
            if retransmitted || hole.asked > 0 {
                self.recovered += 1;
            } else {
                self.out_of_order += 1;
            }
        } else if sequence < first && first - sequence < 100 && !retransmitted {
            // The stream began out of order.
            self.range = Some((sequence, highest));
            self.open_holes(now, sequence + 1, first);
            self.out_of_order += 1;
        } else {
            self.duplicates += 1;
            return Arrival::Duplicate;
        }
        self.received += 1;
        Arrival::New(sequence)
    }

    fn open_holes(&mut self, now: Instant, from: i64, to: i64) {
        // Only so many can be remembered.
        let kept = from.max(to - WINDOW);
        self.given_up += kept.abs_diff(from);
        if kept < to {
            self.ask_at.get_or_insert(now + GRACE);
        }
        for sequence in kept..to {
            self.holes.insert(sequence, Hole { since: now, asked: 0, ask_at: now + GRACE });
        }
        let oldest = self.range.map_or(0, |(_, highest)| highest - WINDOW);
        while let Some(entry) = self.holes.first_entry().filter(|entry| *entry.key() < oldest) {
            entry.remove();
            self.given_up += 1;
        }
    }

    /// The packets to ask for now.
    pub(crate) fn ask(&mut self, now: Instant) -> Vec<u16> {
        let mut wanted = Vec::new();
        if self.ask_at.is_none_or(|at| at > now) {
            return wanted;
        }
        self.ask_at = None;
        for (sequence, hole) in &mut self.holes {
            let end = hole.since + PATIENCE;
            if hole.ask_at <= now && now < end {
                hole.asked += 1;
                hole.ask_at = now + RETRY;
                wanted.push(*sequence as u16);
            }
            if hole.ask_at < end {
                self.ask_at = Some(self.ask_at.map_or(hole.ask_at, |at| at.min(hole.ask_at)));
            }
        }
        self.requested += wanted.len() as u64;
        wanted
    }

    /// When [`ask`](Self::ask) may have something to say next, unless a packet comes before.
    pub(crate) fn ask_at(&self) -> Option<Instant> {
        self.ask_at
    }

    /// Packets that were sent, as far as their numbers tell, and never came.
    pub(crate) fn lost(&self) -> u64 {
        self.given_up + self.holes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_hole_is_asked_for_until_it_is_filled() {
        let start = Instant::now();
        let mut loss = LossTracker::default();
        for sequence in [65_534, 65_535, 2] {
            loss.receive(start, sequence, false);
        }
        assert!(loss.ask(start).is_empty());
        assert_eq!(loss.ask_at(), Some(after(start, 8)));
        assert_eq!(loss.ask(after(start, 8)), [0, 1]);
        assert_eq!(loss.receive(after(start, 10), 0, true), Arrival::New(65_536));
        assert!(loss.ask(after(start, 47)).is_empty());
        assert_eq!(loss.ask(after(start, 48)), [1]);
        assert_eq!(loss.lost(), 1);
        assert_eq!(loss.receive(after(start, 60), 1, false), Arrival::New(65_537));
        assert_eq!((loss.lost(), loss.recovered, loss.out_of_order, loss.requested), (0, 2, 0, 3));
        assert_eq!(loss.ask_at(), None);
    }

    #[test]
    fn reordering_is_not_loss() {
        let start = Instant::now();
        let mut loss = LossTracker::default();
        for sequence in [10, 12, 11, 13, 13] {
            loss.receive(start, sequence, false);
        }
        assert_eq!((loss.lost(), loss.recovered, loss.out_of_order, loss.duplicates, loss.received), (0, 0, 1, 1, 4));
    }

    #[test]
    fn what_never_comes_is_lost_and_asked_for_no_more() {
        let start = Instant::now();
        let mut loss = LossTracker::default();
        loss.receive(start, 1, false);
        loss.receive(start, 3, false);
        let mut asked = 0;
        while let Some(at) = loss.ask_at() {
            asked += loss.ask(at).len();
            assert!(at < after(start, 1000));
        }
        assert_eq!(asked, 25);
        assert_eq!(loss.lost(), 1);
    }

    #[test]
    fn a_long_absence_is_counted_whole() {
        let now = Instant::now();
        let mut loss = LossTracker::default();
        loss.receive(now, 0, false);
        loss.receive(now, 20_000, false);
        loss.receive(now, 40_000, false);
        assert_eq!(loss.lost(), 39_998);
        assert!(loss.holes.len() <= WINDOW as usize);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn received_and_lost_make_up_the_range(numbers in proptest::collection::vec(any::<(u16, bool)>(), 1..40)) {
            let now = Instant::now();
            let mut loss = LossTracker::default();
            for (number, retransmitted) in &numbers {
                loss.receive(now, *number, *retransmitted);
            }
            let (first, highest) = loss.range.unwrap();
            prop_assert_eq!(loss.received + loss.lost(), first.abs_diff(highest) + 1);
            prop_assert_eq!(loss.received + loss.duplicates, numbers.len() as u64);
        }
    }
}
