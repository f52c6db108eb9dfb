//! What one receiver got of one media SSRC: exact to the packet, so that loss can be told for any span of time.

use sfu::sequence::Extender;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A packet that has not come is waited for so long before it is asked for: there may be reordering.
const PATIENCE: Duration = Duration::from_millis(10);
/// Between two requests for the same packet.
const REPETITION: Duration = Duration::from_millis(40);
/// Requests for one packet.
const REQUESTS: u8 = 12;

#[derive(Clone, Copy, Debug)]
struct Missing {
    ask_at: Option<Instant>,
    asked: u8,
}

/// How a packet counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The newest so far.
    New,
    /// It was missing.
    Filled,
    /// It was there already, or comes from before the first.
    Duplicate,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Reception {
    extender: Extender,
    first: u64,
    received: u64,
    duplicates: u64,
    missing: BTreeMap<u64, Missing>,
    nack_at: Option<Instant>,
}

impl Reception {
    /// Takes note of a packet, live or repaired.
    pub fn received(&mut self, now: Instant, sequence: u16) -> Arrival {
        let highest = self.extender.highest();
        let extended = self.extender.extend(sequence);
        let arrival = match highest {
            None => {
                self.first = extended;
                Arrival::New
            }
            Some(highest) if extended > highest => {
                let missing = Missing { ask_at: Some(now + PATIENCE), asked: 0 };
                self.missing.extend((highest + 1..extended).map(|sequence| (sequence, missing)));
                if extended > highest + 1 {
                    self.nack_at = Some(self.nack_at.map_or(now + PATIENCE, |at| at.min(now + PATIENCE)));
                }
                Arrival::New
            }
            Some(_) if self.missing.remove(&extended).is_some() => Arrival::Filled,
            Some(_) => Arrival::Duplicate,
        };
        match arrival {
            Arrival::Duplicate => self.duplicates += 1,
            _ => self.received += 1,
        }
        arrival
    }

    /// One past the highest sequence number, extended; 0 before the first packet.
    pub fn head(&self) -> u64 {
        self.extender.highest().map_or(0, |highest| highest + 1)
    }

    /// The first sequence number, extended.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Different packets that came.
    pub fn unique(&self) -> u64 {
        self.received
    }

    /// Packets that came more than once.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Packets from `from` up to `until`, extended, that have not come.
    pub fn lost(&self, from: u64, until: u64) -> u64 {
        if from >= until { 0 } else { self.missing.range(from..until).count() as u64 }
    }

    /// When [`Reception::nacks`] has something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.nack_at
    }

    /// The sequence numbers to ask for now.
    pub fn nacks(&mut self, now: Instant) -> Vec<u16> {
        let mut due = Vec::new();
        if self.nack_at.is_none_or(|at| at > now) {
            return due;
        }
        let mut next: Option<Instant> = None;
        for (sequence, missing) in &mut self.missing {
            let Some(at) = missing.ask_at else { continue };
            if at <= now {
                due.push(*sequence as u16);
                missing.asked += 1;
                missing.ask_at = (missing.asked < REQUESTS).then(|| now + REPETITION);
            }
            next = [next, missing.ask_at].into_iter().flatten().min();
        }
        self.nack_at = next;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_asked_for_until_it_is_filled() {
        let now = Instant::now();
        let mut reception = Reception::default();
        let arrivals: Vec<Arrival> = [65_534, 65_535, 2, 1, 2].map(|s| reception.received(now, s)).into();
        assert_eq!(arrivals, [Arrival::New, Arrival::New, Arrival::New, Arrival::Filled, Arrival::Duplicate]);
        assert_eq!(reception.lost(reception.first(), reception.head()), 1);
        assert!(reception.nacks(now).is_empty());
        assert_eq!(reception.poll_timeout(), Some(now + PATIENCE));
        assert_eq!(reception.nacks(now + PATIENCE), [0]);
        assert!(reception.nacks(now + PATIENCE).is_empty());
        assert_eq!(reception.nacks(now + PATIENCE + REPETITION), [0]);
        assert_eq!(reception.received(now, 0), Arrival::Filled);
        assert!(reception.nacks(now + Duration::from_secs(1)).is_empty());
        assert_eq!(reception.poll_timeout(), None);
        assert_eq!((reception.unique(), reception.duplicates()), (5, 1));
    }
}
