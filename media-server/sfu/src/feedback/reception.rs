//! One SSRC as we receive it: loss, jitter, and which packets to ask for again.
//!
//! RFC 3550 §6.4.1 and appendix A (reports), RFC 4585 §6.2.1 (generic NACK), RFC 4588 §4 (retransmissions are no part of the
//! stream they repeat). A report counts a packet as lost that did not arrive by itself, repaired or not; [`Reception::lost`] counts
//! those that never arrived. A packet that arrives twice counts once: the last `SEEN` sequence numbers are remembered.

use crate::feedback::write::ReportBlock;
use crate::sequence::Extender;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// A packet that has not come is asked for this often at most.
const ATTEMPTS: u8 = 10;
/// Longer than any useful reordering, shorter than the rings. Where the round trip is long, three of them, up to twice this.
const GIVE_UP: Duration = Duration::from_secs(1);
/// A jump of the sequence number longer than this is a restart, not a loss.
const LONGEST_GAP: u64 = 512;
/// Packets that are waited for at once; of more, the oldest are given up.
const MOST_MISSING: usize = 512;
/// Packets asked for in one go: four bytes each when they stand apart, and a datagram has room for two tracks of them.
const MOST_ASKED: usize = 96;
/// The first packet that comes may be this many behind the first that was sent.
const LATE_START: u64 = 64;
/// A second request for the same packet waits at least this long.
pub(crate) const SHORTEST_RETRY: Duration = Duration::from_millis(20);
/// Sequence numbers behind the highest of which it is known whether they arrived.
const SEEN: u64 = 8192;

/// Classification of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is the first with its sequence number, which is given without wraps.
    First {
        /// Starts one cycle up.
        sequence: u64,
        /// It was requested: how long ago for the first time, and how often.
        requested: Option<(Duration, u8)>,
    },
    /// It arrived before, or is too old to know.
    Duplicate,
}

struct Missing {
    sequence: u64,
    since: Instant,
    first_asked: Instant,
    asked: Option<Instant>,
    attempts: u8,
}

impl Missing {
    fn new(now: Instant, sequence: u64) -> Self {
        Self { sequence, since: now, first_asked: now, asked: None, attempts: 0 }
    }
}

/// See the module.
pub struct Reception {
    ssrc: u32,
    clock_rate: u32,
    extender: Extender,
    first: u64,
    seen: Box<[u64]>,
    /// Packets, each counted once, and those of them that were no retransmissions.
    received: u64,
    originals: u64,
    bytes: u64,
    repaired: u64,
    missing: VecDeque<Missing>,
    /// Interarrival jitter in timestamp units, times 16 (RFC 3550 A.8).
    jitter16: u32,
    transit: Option<u32>,
    report: Option<(u32, Instant)>,
    previous: (u64, u64),
    epoch: Instant,
}

impl Reception {
    /// Watches `ssrc` from its first packet on.
    pub fn new(now: Instant, ssrc: u32, clock_rate: u32) -> Self {
        Self {
            ssrc,
            clock_rate,
            extender: Extender::default(),
            first: 0,
            seen: vec![0; SEEN as usize / 64].into_boxed_slice(),
            received: 0,
            originals: 0,
            bytes: 0,
            repaired: 0,
            missing: VecDeque::new(),
            jitter16: 0,
            transit: None,
            report: None,
            previous: (0, 0),
            epoch: now,
        }
    }

    /// Records a packet; `repair` marks a retransmission.
    pub fn received(&mut self, now: Instant, sequence: u16, timestamp: u32, len: usize, repair: bool) -> Arrival {
        let highest = self.extender.highest();
        let extended = self.extender.extend(sequence);
        if !self.see(highest, extended) {
            return Arrival::Duplicate;
        }
        self.bytes += len as u64;
        self.received += 1;
        self.originals += u64::from(!repair);
        let mut requested = None;
        match highest {
            None => self.first = extended,
            Some(highest) if extended > highest => {
                if extended - highest <= LONGEST_GAP {
                    self.missing.extend((highest + 1..extended).map(|sequence| Missing::new(now, sequence)));
                    self.missing.drain(..self.missing.len().saturating_sub(MOST_MISSING));
                } else {
                    self.missing.clear();
                }
            }
            Some(_) if extended < self.first => {
                // Reordered at the very start: what stands between is missing too.
                let between = extended + 1..self.first;
                between.rev().for_each(|sequence| self.missing.push_front(Missing::new(now, sequence)));
                self.missing.truncate(MOST_MISSING);
                self.first = extended;
            }
            Some(_) => {
                if let Some(position) = self.missing.iter().position(|missing| missing.sequence == extended) {
                    let missing = self.missing.remove(position);
                    self.repaired += u64::from(repair);
                    requested = missing
                        .filter(|missing| missing.attempts > 0)
                        .map(|missing| (now.saturating_duration_since(missing.first_asked), missing.attempts));
                }
            }
        }
        if !repair {
            self.measure_jitter(now, timestamp);
        }
        Arrival::First { sequence: extended, requested }
    }

    /// Marks a sequence number as seen; `false` when it was, or is too old to know.
    fn see(&mut self, highest: Option<u64>, extended: u64) -> bool {
        if let Some(highest) = highest {
            let too_old = extended + SEEN <= highest || extended + LATE_START < self.first;
            if too_old || extended <= highest && self.has_seen(extended) {
                return false;
            }
            for skipped in (highest + 1..extended).rev().take(SEEN as usize) {
                self.seen[(skipped / 64 % (SEEN / 64)) as usize] &= !(1 << (skipped % 64));
            }
        }
        self.seen[(extended / 64 % (SEEN / 64)) as usize] |= 1 << (extended % 64);
        true
    }

    fn has_seen(&self, extended: u64) -> bool {
        self.seen[(extended / 64 % (SEEN / 64)) as usize] >> (extended % 64) & 1 == 1
    }

    /// Returns whether the packet was left out so far, and would be of use.
    pub fn lacks(&self, sequence: u16) -> bool {
        let Some(highest) = self.extender.highest() else { return false };
        let extended = self.extender.clone().extend(sequence);
        let known = extended <= highest && extended + SEEN > highest && extended + LATE_START >= self.first;
        known && !self.has_seen(extended)
    }

    /// Returns whether the packet has been requested and not arrived.
    pub fn awaits(&self, sequence: u16) -> bool {
        self.missing.iter().any(|missing| missing.attempts > 0 && missing.sequence as u16 == sequence)
    }

    /// Stops requesting the packets in `range`.
    pub fn give_up(&mut self, range: Range<u64>) {
        self.missing.retain(|missing| !range.contains(&missing.sequence));
    }

    fn measure_jitter(&mut self, now: Instant, timestamp: u32) {
        let elapsed = now.saturating_duration_since(self.epoch).as_micros() as u64;
        let arrival = (elapsed * u64::from(self.clock_rate) / 1_000_000) as u32;
        let transit = arrival.wrapping_sub(timestamp);
        if let Some(last) = self.transit {
            let difference = (transit.wrapping_sub(last) as i32).unsigned_abs();
            self.jitter16 = self.jitter16.saturating_add(difference).saturating_sub((self.jitter16 + 8) >> 4);
        }
        self.transit = Some(transit);
    }

    /// Returns the clock rate of its timestamps.
    pub fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// Takes note of a sender report, to be echoed in our reports.
    pub fn sender_report(&mut self, now: Instant, ntp: u64) {
        self.report = Some(((ntp >> 16) as u32, now));
    }

    /// Collects the sequence numbers to request now. The second attempt follows after `retry`, which should be longer than a
    /// round trip, each further one after `retry` more than the last. Empty when nothing is due.
    pub fn nacks(&mut self, now: Instant, retry: Duration, out: &mut Vec<u16>) {
        out.clear();
        let retry = retry.max(SHORTEST_RETRY);
        let give_up = (3 * retry).clamp(GIVE_UP, 2 * GIVE_UP);
        self.missing
            .retain(|missing| missing.attempts < ATTEMPTS && now.saturating_duration_since(missing.since) < give_up);
        for missing in &mut self.missing {
            if out.len() >= MOST_ASKED {
                break;
            }
            let wait = retry * u32::from(missing.attempts);
            if missing.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= wait) {
                if missing.asked.replace(now).is_none() {
                    missing.first_asked = now;
                }
                missing.attempts += 1;
                out.push(missing.sequence as u16);
            }
        }
    }

    /// Whether anything is being waited for.
    pub fn is_missing_any(&self) -> bool {
        !self.missing.is_empty()
    }

    /// A report block over the time since the last one; `None` before the first packet.
    pub fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let highest = self.extender.highest()?;
        let expected = highest - self.first + 1;
        let (last_expected, last_received) = std::mem::replace(&mut self.previous, (expected, self.originals));
        let interval = expected - last_expected;
        let lost_now = interval.saturating_sub(self.originals - last_received);
        let (last_report, delay) = self.report.map_or((0, 0), |(middle, at)| {
            (middle, (now.saturating_duration_since(at).as_micros() * 65_536 / 1_000_000) as u32)
        });
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: (lost_now * 256).checked_div(interval).unwrap_or(0).min(255) as u8,
            cumulative_lost: expected.saturating_sub(self.originals).min(0x7f_ffff) as u32,
            // Cycles start at 0 for the peer; our extension starts one up.
            highest_sequence: (highest - (self.first & !0xffff)) as u32,
            jitter: self.jitter(),
            last_report,
            delay,
        })
    }

    /// Packets that never came, not even as a retransmission.
    pub fn lost(&self) -> u64 {
        self.extender.highest().map_or(0, |highest| (highest - self.first + 1).saturating_sub(self.received))
    }

    /// Received packets, each counted once, retransmissions included.
    pub fn packets(&self) -> u64 {
        self.received
    }

    /// Bytes of RTP that came.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets that came only after they were asked for.
    pub fn repaired(&self) -> u64 {
        self.repaired
    }

    /// Interarrival jitter in timestamp units.
    pub fn jitter(&self) -> u32 {
        self.jitter16 >> 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_gap_is_asked_for_until_it_is_filled() {
        let now = Instant::now();
        let mut reception = Reception::new(now, 1, 90_000);
        reception.received(now, 10, 0, 100, false);
        reception.received(now, 13, 0, 100, false);
        let mut out = Vec::new();
        let retry = Duration::from_millis(60);
        let at = |millis| now + Duration::from_millis(millis);
        reception.nacks(now, retry, &mut out);
        assert_eq!(out, [11, 12]);
        reception.nacks(at(59), retry, &mut out);
        assert!(out.is_empty());
        let answer = Arrival::First { sequence: (1 << 16) + 12, requested: Some((Duration::from_millis(45), 1)) };
        assert_eq!(reception.received(at(45), 12, 0, 100, true), answer);
        let mut asked = Vec::new();
        for millis in 60..2000 {
            reception.nacks(at(millis), retry, &mut out);
            asked.extend(out.iter().map(|sequence| (millis, *sequence)));
        }
        assert_eq!(asked, [(60, 11), (180, 11), (360, 11), (600, 11), (900, 11)]);
        assert!(!reception.is_missing_any());
        assert_eq!((reception.lost(), reception.repaired()), (1, 1));
    }

    #[test]
    fn what_is_missing_before_the_first_to_come_is_asked_for_too() {
        let now = Instant::now();
        let mut reception = Reception::new(now, 1, 90_000);
        for sequence in [14, 12, 9, 15] {
            reception.received(now, sequence, 0, 100, false);
        }
        let mut out = Vec::new();
        reception.nacks(now, Duration::ZERO, &mut out);
        assert_eq!(out, [10, 11, 13]);
        assert_eq!((reception.lost(), reception.packets()), (3, 4));
    }

    #[test]
    fn duplicates_hide_no_loss() {
        let now = Instant::now();
        let mut reception = Reception::new(now, 1, 90_000);
        let mut first = 0;
        for sequence in (65_000..=65_535).chain(0..500u16).filter(|sequence| sequence % 10 != 0) {
            for repair in [false, false, true] {
                let arrival = reception.received(now, sequence, 0, 100, repair);
                first += u64::from(matches!(arrival, Arrival::First { .. }));
            }
        }
        // 65,000 is before the first packet; 65,010 to 65,530 and 0 to 490 are lost.
        let lost = 53 + 50;
        assert_eq!((reception.packets(), reception.lost(), first), (1035 - lost, lost, 1035 - lost));
        let block = reception.report(now).unwrap();
        assert_eq!((block.cumulative_lost, block.fraction_lost), (lost as u32, (lost * 256 / 1035) as u8));
        // A repaired packet was lost on the path all the same.
        assert!(reception.lacks(490) && !reception.lacks(489) && !reception.lacks(600), "600 is yet to arrive");
        reception.received(now, 490, 0, 100, true);
        assert!(!reception.lacks(490));
        assert_eq!(reception.received(now, 490, 0, 100, false), Arrival::Duplicate);
        assert_eq!((reception.lost(), reception.report(now).unwrap().cumulative_lost), (lost - 1, lost as u32));
    }

    #[test]
    fn packets_given_up_are_not_requested() {
        let now = Instant::now();
        let mut reception = Reception::new(now, 1, 90_000);
        for sequence in [10, 20] {
            reception.received(now, sequence, 0, 100, false);
        }
        let cycle = 1 << 16;
        reception.give_up(cycle + 12..cycle + 19);
        let mut out = Vec::new();
        reception.nacks(now, Duration::ZERO, &mut out);
        assert_eq!(out, [11, 19]);
    }

    proptest! {
        #[test]
        fn each_packet_counts_once(steps in proptest::collection::vec((-300i64..400, any::<bool>()), 1..600)) {
            let now = Instant::now();
            let mut reception = Reception::new(now, 1, 90_000);
            let (mut highest, mut seen) = (70_000i64, std::collections::BTreeSet::new());
            let mut first = None;
            for (step, repair) in steps {
                let sequence = if first.is_none() { highest } else { highest + step };
                let lowest: i64 = *first.get_or_insert(sequence);
                let arrival = reception.received(now, sequence as u16, 0, 1, repair);
                if sequence + LATE_START as i64 >= lowest {
                    prop_assert_eq!(arrival != Arrival::Duplicate, seen.insert(sequence));
                    first = Some(lowest.min(sequence));
                } else {
                    prop_assert_eq!(arrival, Arrival::Duplicate);
                }
                highest = highest.max(sequence);
            }
            prop_assert_eq!(reception.packets(), seen.len() as u64);
            prop_assert_eq!(reception.lost(), (highest - first.unwrap() + 1) as u64 - reception.packets());
        }
    }

    #[test]
    fn gaps_without_end_cost_little_memory_and_short_requests() {
        let now = Instant::now();
        let mut reception = Reception::new(now, 1, 90_000);
        for n in 0..20_000u32 {
            reception.received(now, (n * 500) as u16, 0, 100, false);
        }
        assert!(reception.missing.len() <= MOST_MISSING);
        let mut out = Vec::new();
        reception.nacks(now, Duration::ZERO, &mut out);
        assert_eq!(out.len(), MOST_ASKED);
        let last = out[MOST_ASKED - 1];
        reception.nacks(now, Duration::ZERO, &mut out);
        assert!((1..3).contains(&out[0].wrapping_sub(last)), "those that were not asked for are next");
    }

    #[test]
    fn a_report_counts_the_interval() {
        let now = Instant::now();
        let mut reception = Reception::new(now, 1, 90_000);
        for sequence in [65_534u16, 65_535, 1, 2] {
            reception.received(now, sequence, 0, 100, false);
        }
        reception.sender_report(now, 0x1122_3344_5566_7788);
        let block = reception.report(now + Duration::from_millis(500)).unwrap();
        assert_eq!(block.fraction_lost, 51);
        assert_eq!(block.cumulative_lost, 1);
        assert_eq!(block.highest_sequence, 65_538);
        assert_eq!((block.last_report, block.delay), (0x3344_5566, 32_768));
        assert_eq!(reception.report(now).unwrap().fraction_lost, 0);
    }
}
