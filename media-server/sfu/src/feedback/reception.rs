//! One SSRC as we receive it: loss, jitter, and which packets to ask for again.
//!
//! RFC 3550 §6.4.1 and appendix A (reports), RFC 4585 §6.2.1 (generic NACK).

use crate::feedback::write::ReportBlock;
use crate::sequence::Extender;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A packet that has not come is asked for this often at most.
const ATTEMPTS: u8 = 10;
/// Longer than any useful reordering, shorter than the rings.
const GIVE_UP: Duration = Duration::from_secs(1);
/// A jump of the sequence number longer than this is a restart, not a loss.
const LONGEST_GAP: u64 = 512;
/// Packets that are waited for at once; of more, the oldest are given up.
const MOST_MISSING: usize = 512;
/// Packets asked for in one go: four bytes each when they stand apart, and a datagram has room for two tracks of them.
const MOST_ASKED: usize = 96;
/// The first packet that comes may be this many behind the first that was sent.
const LATE_START: u64 = 64;
/// A second request for the same packet waits at least so long.
const SHORTEST_RETRY: Duration = Duration::from_millis(20);

struct Missing {
    sequence: u64,
    since: Instant,
    asked: Option<Instant>,
    attempts: u8,
}

impl Missing {
    fn new(now: Instant, sequence: u64) -> Self {
        Self { sequence, since: now, asked: None, attempts: 0 }
    }
}

/// See the module.
pub struct Reception {
    ssrc: u32,
    clock_rate: u32,
    extender: Extender,
    first: u64,
    received: u64,
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
            received: 0,
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

    /// Takes note of a packet; `repair` says that it came as a retransmission.
    pub fn received(&mut self, now: Instant, sequence: u16, timestamp: u32, len: usize, repair: bool) {
        let highest = self.extender.highest();
        let extended = self.extender.extend(sequence);
        self.bytes += len as u64;
        self.received += 1;
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
                if self.first - extended <= LATE_START {
                    let between = extended + 1..self.first;
                    between.rev().for_each(|sequence| self.missing.push_front(Missing::new(now, sequence)));
                    self.missing.truncate(MOST_MISSING);
                    self.first = extended;
                }
            }
            Some(_) => {
                let before = self.missing.len();
                self.missing.retain(|missing| missing.sequence != extended);
                self.repaired += u64::from(repair && self.missing.len() < before);
            }
        }
        if !repair {
            self.measure_jitter(now, timestamp);
        }
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

    /// Sequence numbers to ask for now; `round_trip` spaces the attempts. Empty when nothing is due.
    pub fn nacks(&mut self, now: Instant, round_trip: Duration, out: &mut Vec<u16>) {
        out.clear();
        self.missing
            .retain(|missing| missing.attempts < ATTEMPTS && now.saturating_duration_since(missing.since) < GIVE_UP);
        let retry = SHORTEST_RETRY.max(round_trip + round_trip / 2);
        for missing in &mut self.missing {
            if out.len() >= MOST_ASKED {
                break;
            }
            if missing.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= retry) {
                missing.asked = Some(now);
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
        let (last_expected, last_received) = std::mem::replace(&mut self.previous, (expected, self.received));
        let interval = expected - last_expected;
        let lost_now = interval.saturating_sub(self.received - last_received);
        let (last_report, delay) = self.report.map_or((0, 0), |(middle, at)| {
            (middle, (now.saturating_duration_since(at).as_micros() * 65_536 / 1_000_000) as u32)
        });
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: (lost_now * 256).checked_div(interval).unwrap_or(0).min(255) as u8,
            cumulative_lost: self.lost() as u32,
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

    /// Packets that came, retransmissions included.
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

    #[test]
    fn a_gap_is_asked_for_until_it_is_filled() {
        let now = Instant::now();
        let mut reception = Reception::new(now, 1, 90_000);
        reception.received(now, 10, 0, 100, false);
        reception.received(now, 13, 0, 100, false);
        let mut out = Vec::new();
        let rtt = Duration::from_millis(40);
        reception.nacks(now, rtt, &mut out);
        assert_eq!(out, [11, 12]);
        reception.nacks(now + Duration::from_millis(30), rtt, &mut out);
        assert!(out.is_empty());
        reception.received(now, 12, 0, 100, true);
        reception.nacks(now + Duration::from_millis(61), rtt, &mut out);
        assert_eq!(out, [11]);
        reception.nacks(now + Duration::from_secs(2), rtt, &mut out);
        assert!(out.is_empty());
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
