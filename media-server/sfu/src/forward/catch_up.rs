//! The rate at which viewers that are behind catch up.
//!
//! A joiner is sent the packets between the newest keyframe and the newest packet: its first picture within `FIRST_PICTURE`, the
//! rest within `CATCH_UP`, but never slower than `LEAST_RATE`. All joiners of a shard share one budget for the bytes
//! beyond their stream's own rate, in equal parts, first pictures before everything else: a crowd that joins at once is no burst.
//! A viewer with a link narrower than the stream has its own rate, and stays behind (see `shard::link`).

use std::time::{Duration, Instant};

/// A joiner's first picture is sent within this time.
const FIRST_PICTURE: Duration = Duration::from_millis(50);
/// A joiner has caught up after this time.
const CATCH_UP: Duration = Duration::from_millis(1500);
/// In the end, the rest is spread over this time.
const LAST: Duration = Duration::from_millis(250);
/// Bits per second that a joiner gets when no other viewer joins.
const LEAST_RATE: u64 = 24_000_000;
/// Bytes at once; the rest is paced.
const BURST: u64 = 96_000;
/// The part of its rate that a narrow link is sent at once.
const NARROW_BURST: Duration = Duration::from_millis(20);
/// Bits per second that all joiners of a shard share, or this many times the fastest of their streams.
const SHARED_RATE: u64 = 200_000_000;
const SHARED_STREAMS: u64 = 8;
/// Bytes that they share at once.
const SHARED_BURST: u64 = 256_000;
/// Joiners are counted over this time.
const ROUND: Duration = Duration::from_millis(5);

/// Returns the bytes of a rate in a span of time.
fn worth(rate: u64, span: Duration) -> u64 {
    rate.saturating_mul(span.as_micros().min(60_000_000) as u64) / 8_000_000
}

/// Returns the bits per second that move this many bytes in a span of time.
fn rate_for(bytes: u64, span: Duration) -> u64 {
    bytes.saturating_mul(8_000_000) / (span.as_micros() as u64).max(1)
}

/// The budget that all joiners of a shard share.
#[derive(Debug, Default)]
pub struct SharedBudget {
    bytes: u64,
    refilled: Option<Instant>,
    round: Option<Instant>,
    /// Joiners without their first picture, and the others, in the last round and in this one.
    counts: [(u64, u64); 2],
}

impl SharedBudget {
    /// Takes up to `want` bytes for a joiner of a stream of `bitrate`; `starting` when it has no picture yet.
    fn take(&mut self, now: Instant, bitrate: u64, starting: bool, want: u64) -> u64 {
        let rate = SHARED_RATE.max(bitrate.saturating_mul(SHARED_STREAMS));
        let depth = SHARED_BURST.max(worth(rate, ROUND));
        let earned = self.refilled.map_or(depth, |at| worth(rate, now.saturating_duration_since(at)));
        if earned > 0 {
            (self.bytes, self.refilled) = ((self.bytes + earned).min(depth), Some(now));
        }
        if self.round.is_none_or(|at| now.saturating_duration_since(at) >= ROUND) {
            let stale = self.round.is_none_or(|at| now.saturating_duration_since(at) >= 4 * ROUND);
            self.counts = [if stale { (0, 0) } else { self.counts[1] }, (0, 0)];
            self.round = Some(now);
        }
        let count = &mut self.counts[1];
        *(if starting { &mut count.0 } else { &mut count.1 }) += 1;
        let [last, this] = self.counts;
        let (first_pictures, others) = (last.0.max(this.0), last.1.max(this.1));
        let part = match (starting, first_pictures) {
            (true, count) => self.bytes / count.max(1),
            (false, 0) => self.bytes / others.max(1),
            (false, _) => 0,
        };
        let taken = want.min(part);
        self.bytes -= taken;
        taken
    }
}

/// The budget of a viewer that is behind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CatchUp {
    started: Option<Instant>,
    refilled: Option<Instant>,
    /// Bytes; below zero when the last packet went beyond.
    allowance: i64,
}

/// The state of a viewer that is behind.
pub(super) struct Behind {
    /// Bits per second of the stream.
    pub(super) bitrate: u64,
    /// Bytes that it has not got.
    pub(super) backlog: u64,
    /// Bytes that it lacks of its first picture.
    pub(super) picture: Option<u64>,
    /// Bits per second that its link carries, where that is less than the stream.
    pub(super) limit: Option<u64>,
}

impl CatchUp {
    /// Starts with nothing granted.
    pub(super) fn start(&mut self, now: Instant) {
        *self = Self { started: Some(now), ..Self::default() };
    }

    /// Returns for how long it has been behind.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.started.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// Grants the bytes of the time that has passed.
    pub(super) fn grant(&mut self, now: Instant, behind: &Behind, shared: &mut SharedBudget) {
        let elapsed = self.refilled.map(|at| now.saturating_duration_since(at));
        if let Some(limit) = behind.limit {
            let depth = worth(limit, NARROW_BURST) as i64;
            let earned = worth(limit, elapsed.unwrap_or(NARROW_BURST)) as i64;
            if earned > 0 {
                (self.allowance, self.refilled) = ((self.allowance + earned).min(depth), Some(now));
            }
            return;
        }
        let own = behind.bitrate + behind.bitrate / 4;
        let left = CATCH_UP.saturating_sub(self.age(now)).max(LAST);
        let mut rate = LEAST_RATE.max(rate_for(behind.backlog, left).saturating_add(own));
        if let Some(picture) = behind.picture {
            rate = rate.max(rate_for(picture, FIRST_PICTURE.saturating_sub(self.age(now)).max(2 * ROUND)));
        }
        let depth = BURST.max(worth(rate, 4 * ROUND)) as i64;
        let want = elapsed.map_or(BURST, |elapsed| worth(rate, elapsed)).min((depth - self.allowance).max(0) as u64);
        if want == 0 {
            return;
        }
        let own = elapsed.map_or(0, |elapsed| worth(own, elapsed)).min(want);
        let extra = shared.take(now, behind.bitrate, behind.picture.is_some(), want - own);
        self.allowance += (own + extra) as i64;
        self.refilled = Some(now);
    }

    /// Returns the bytes that may be sent; the last packet may go beyond.
    pub(super) fn left(&self) -> u64 {
        self.allowance.max(0) as u64
    }

    /// Takes the bytes sent.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.allowance -= bytes as i64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct Joiner {
        catch_up: CatchUp,
        picture: u64,
        backlog: f64,
        bitrate: u64,
        first_picture: Option<Duration>,
        caught_up: Option<Duration>,
    }

    /// Joiners with a first picture and a backlog, every 5 ms; returns the joiners and the most bytes sent within 150 ms.
    fn join(count: usize, bitrate: u64, picture: u64, backlog: u64) -> (Vec<Joiner>, u64) {
        let start = Instant::now();
        let mut shared = SharedBudget::default();
        let mut joiners: Vec<Joiner> = (0..count)
            .map(|_| {
                let mut catch_up = CatchUp::default();
                catch_up.start(start);
                Joiner { catch_up, picture, backlog: backlog as f64, bitrate, first_picture: None, caught_up: None }
            })
            .collect();
        let mut sent = Vec::new();
        for n in 0..1200 {
            let now = start + 5 * MS * n;
            let mut bytes = 0;
            for joiner in joiners.iter_mut().filter(|joiner| joiner.caught_up.is_none()) {
                joiner.backlog += worth(joiner.bitrate, 5 * MS) as f64;
                let behind = Behind {
                    bitrate: joiner.bitrate,
                    backlog: joiner.backlog as u64,
                    picture: (joiner.picture > 0).then_some(joiner.picture),
                    limit: None,
                };
                joiner.catch_up.grant(now, &behind, &mut shared);
                let step = joiner.catch_up.left().min(joiner.backlog as u64);
                joiner.catch_up.spend(step as usize);
                joiner.backlog -= step as f64;
                joiner.picture = joiner.picture.saturating_sub(step);
                bytes += step;
                if joiner.picture == 0 {
                    joiner.first_picture.get_or_insert(5 * MS * n);
                }
                if joiner.backlog < 1.0 {
                    joiner.caught_up = Some(5 * MS * n);
                }
            }
            sent.push(bytes);
        }
        let most = sent.windows(30).map(|window| window.iter().sum()).max().unwrap();
        (joiners, most)
    }

    #[test]
    fn one_joiner_catches_up_in_two_seconds_at_any_rate() {
        for mbits in [1, 12, 20, 30, 50] {
            for gop_millis in [500, 2_000, 10_000] {
                let bitrate = mbits * 1_000_000;
                let backlog = (bitrate / 8_000 * gop_millis).min(16 << 20);
                let (joiners, _) = join(1, bitrate, backlog.min(bitrate / 8 / 3), backlog);
                let joiner = &joiners[0];
                assert!(joiner.first_picture.unwrap() <= 100 * MS, "{mbits}, {gop_millis}: {:?}", joiner.first_picture);
                assert!(joiner.caught_up.unwrap() <= 2000 * MS, "{mbits}, {gop_millis}: {:?}", joiner.caught_up);
            }
        }
    }

    #[test]
    fn ten_joiners_share_a_budget_fairly() {
        let (joiners, most) = join(10, 2_700_000, 60_000, 660_000);
        // The shared rate, the part that may be sent at once, and their own rates.
        let bound = worth(SHARED_RATE, 150 * MS) + SHARED_BURST + 10 * worth(2_700_000 * 5 / 4, 150 * MS);
        assert!(most <= bound, "{most} bytes in 150 ms, of {bound}");
        let pictures: Vec<_> = joiners.iter().map(|joiner| joiner.first_picture.unwrap()).collect();
        let ends: Vec<_> = joiners.iter().map(|joiner| joiner.caught_up.unwrap()).collect();
        assert!(pictures.iter().all(|at| *at <= 60 * MS), "{pictures:?}");
        assert!(ends.iter().all(|at| *at <= 1000 * MS), "{ends:?}");
        assert!(*ends.iter().max().unwrap() - *ends.iter().min().unwrap() <= 150 * MS, "{ends:?}");
    }

    #[test]
    fn a_thousand_joiners_catch_up_in_the_end() {
        let (joiners, _) = join(1000, 2_700_000, 60_000, 660_000);
        assert!(joiners.iter().all(|joiner| joiner.first_picture.unwrap() <= 3000 * MS));
    }

    #[test]
    fn a_narrow_link_gets_its_rate_and_no_burst() {
        let start = Instant::now();
        let (mut catch_up, mut shared) = (CatchUp::default(), SharedBudget::default());
        catch_up.start(start);
        let mut sent = 0;
        for n in 0..1000 {
            let behind = Behind { bitrate: 2_700_000, backlog: 500_000, picture: None, limit: Some(800_000) };
            catch_up.grant(start + 10 * MS * n, &behind, &mut shared);
            assert!(catch_up.left() <= 2_000);
            sent += catch_up.left();
            catch_up.spend(catch_up.left() as usize);
        }
        assert!((990_000..1_010_000).contains(&sent), "{sent} bytes in 10 s");
    }
}
