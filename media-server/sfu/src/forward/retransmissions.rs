//! Retransmissions owed to one track of one viewer.
//!
//! A NACK of a few bytes requests hundreds of packets, and on a link that is too narrow every retransmission displaces a new
//! packet, which is then missing too. So retransmissions are limited to a fifth of the stream's own rate, and the same packet is
//! sent again at the earliest after a round trip, when the viewer can have noticed that the last one was lost. At most 512 packets
//! are owed; requests beyond are ignored. Of the last 128 indices it is known when they were sent again.

use super::budget::Budget;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets owed at once.
const MOST: usize = 512;
/// Part of the stream's rate.
const PART: u64 = 5;
/// The same while the link loses packets persistently.
const NARROW_PART: u64 = 20;
/// Bits per second that are always granted.
const LEAST_RATE: u64 = 50_000;
/// Bytes that are always granted at once: a frame's worth.
const LEAST_DEPTH: u64 = 16_000;
/// Number of indices with a remembered last retransmission, a power of two.
const REMEMBERED: usize = 128;
/// The round trip of a viewer that has not reported one, and the bounds of one that has.
const UNKNOWN_ROUND_TRIP: Duration = Duration::from_millis(30);
const SHORTEST: Duration = Duration::from_millis(15);
const LONGEST: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq)]
enum Sent {
    Never,
    /// It is in the queue.
    Queued(u64),
    At(u64, Instant),
}

/// Retransmissions owed to one track of one viewer.
#[derive(Default)]
pub(super) struct Retransmissions {
    queue: VecDeque<u64>,
    /// By the lowest bits of the index; empty until the first request.
    recent: Vec<Sent>,
    budget: Budget,
    narrow: bool,
}

impl Retransmissions {
    /// Returns whether any are owed.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sets whether the link loses packets persistently, so that little is sent again.
    pub(super) fn set_narrow(&mut self, narrow: bool) {
        self.narrow = narrow;
    }

    /// Takes a request for the packet at `index`, unless it was sent again less than a round trip ago.
    pub(super) fn request(&mut self, now: Instant, index: u64, round_trip: Option<Duration>) {
        if self.recent.is_empty() {
            self.recent.resize(REMEMBERED, Sent::Never);
        }
        let spacing = round_trip.map_or(UNKNOWN_ROUND_TRIP, |round_trip| round_trip.clamp(SHORTEST, LONGEST));
        let entry = &mut self.recent[index as usize % REMEMBERED];
        let refused = match *entry {
            Sent::Never => false,
            Sent::Queued(queued) => queued == index,
            Sent::At(sent, at) => sent == index && now.saturating_duration_since(at) < spacing,
        };
        if !refused && self.queue.len() < MOST {
            *entry = Sent::Queued(index);
            self.queue.push_back(index);
        }
    }

    /// Returns the next index to send, while the budget lasts. `bitrate` is that of the stream.
    pub(super) fn next(&mut self, now: Instant, bitrate: u64) -> Option<u64> {
        if self.queue.is_empty() {
            return None;
        }
        let part = if self.narrow { NARROW_PART } else { PART };
        let rate = (bitrate / part).max(LEAST_RATE);
        if self.budget.left(now, rate, (rate / 8).max(LEAST_DEPTH)) == 0 {
            return None;
        }
        let index = self.queue.pop_front()?;
        self.recent[index as usize % REMEMBERED] = Sent::At(index, now);
        Some(index)
    }

    /// Takes the bytes sent.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.budget.spend(bytes);
    }

    /// Drops the owed packets: the requested numbers are of the past.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.recent.fill(Sent::Never);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Requests packet 7 every 5 ms for a second; returns how often it was sent.
    fn sent(round_trip: Option<Duration>) -> usize {
        let start = Instant::now();
        let mut owed = Retransmissions::default();
        let times = (0..200).map(|n| start + 5 * MS * n);
        times
            .filter(|now| {
                owed.request(*now, 7, round_trip);
                owed.request(*now, 7, round_trip);
                owed.next(*now, 50_000_000).is_some()
            })
            .count()
    }

    #[test]
    fn the_same_packet_is_sent_once_in_a_round_trip() {
        assert_eq!(sent(Some(100 * MS)), 10);
        assert_eq!(sent(Some(600 * MS)), 2);
        assert_eq!(sent(Some(Duration::ZERO)), 67, "every 15 ms");
        assert_eq!(sent(None), 34, "every 30 ms");
    }

    #[test]
    fn a_flood_of_requests_gets_a_fifth_of_the_stream() {
        for (narrow, bitrate, most) in
            [(false, 2_700_000, 540_000), (true, 2_700_000, 135_000), (false, 64_000, 50_000)]
        {
            let start = Instant::now();
            let mut owed = Retransmissions::default();
            owed.set_narrow(narrow);
            let mut bytes = 0;
            for n in 0..20_000 {
                let now = start + MS * n;
                (0..20).for_each(|k| owed.request(now, u64::from(n + k), None));
                while owed.next(now, bitrate).is_some() {
                    owed.spend(1200);
                    bytes += 1200;
                }
            }
            let rate = bytes * 8 / 20;
            assert!((most * 19 / 20..most + most / 8).contains(&rate), "{narrow}, {bitrate}: {rate} bit/s");
        }
    }

    #[test]
    fn a_lost_frame_is_sent_again_at_once() {
        let now = Instant::now();
        let mut owed = Retransmissions::default();
        (0..40).for_each(|index| owed.request(now, index, None));
        let mut count = 0;
        while owed.next(now, 2_700_000).is_some() {
            owed.spend(1200);
            count += 1;
        }
        assert_eq!(count, 40);
        (0..1000).for_each(|index| owed.request(now, index, None));
        assert_eq!(owed.queue.len(), MOST);
    }
}
