//! A viewer's link according to its reports: how much of the stream it carries, and how often the viewer may ask for a keyframe.
//!
//! This is no congestion control. A link that loses [`LOSSY`] of the packets in two reports in a row is taken for too narrow: the
//! viewer is limited to the rate that arrived, less a margin, and gets complete frames from each keyframe on as far as that
//! reaches. The limit rises again while reports are clean. Keyframe requests of a viewer are limited to one a second; while
//! its link loses packets, when another keyframe would not help, the interval doubles from 8 s on.

use std::time::{Duration, Instant};

/// Part of the packets that a healthy link does not lose for two reports.
const LOSSY: f32 = 0.15;
/// A limited viewer that loses more is limited further; one that loses less is given more.
const LIMITED_LOSSY: f32 = 0.03;
const CLEAN: f32 = 0.005;
/// A limit, as part of the rate that arrived.
const MARGIN: f64 = 0.8;
/// Added to a limit by a clean report, as its part: far below the limit that was too high last, and close to it.
const RISE: f64 = 0.15;
const CLOSE_RISE: f64 = 0.03;
const CLOSE: f64 = 0.8;
/// Bits per second of the lowest limit.
const LEAST: u64 = 100_000;
/// Reports closer together are taken as one.
const SHORTEST_REPORT: Duration = Duration::from_millis(400);
/// The time for which reported losses count.
const REPORT_LIFETIME: Duration = Duration::from_secs(5);
/// Between two keyframe requests of one viewer.
const KEYFRAME_EVERY: Duration = Duration::from_secs(1);
const LOSSY_KEYFRAME_EVERY: Duration = Duration::from_secs(8);
const LONGEST_KEYFRAME_EVERY: Duration = Duration::from_secs(64);

/// The state of one viewer's link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    /// Number of reports in a row with losses.
    lossy: u32,
    /// The time of the last report, and the bytes sent by then.
    reported: Option<(Instant, u64)>,
    /// When the losses began that still last.
    lossy_since: Option<Instant>,
    limit: Option<u64>,
    /// The limit that was too high last.
    ceiling: Option<u64>,
    /// The limit was lowered at the last report: losses in the next one are older than that.
    lowered: bool,
    keyframe_granted: Option<Instant>,
    keyframe_interval: Duration,
}

impl Link {
    /// Takes a reception report of the video: `sent` is the number of bytes sent so far, `limit` the limit in force. Returns the
    /// limit in bits per second from now on.
    pub(super) fn report(&mut self, now: Instant, fraction_lost: f32, sent: u64, limit: Option<u64>) -> Option<u64> {
        self.limit = limit;
        let Some((at, before)) = self.reported else {
            self.reported = Some((now, sent));
            self.count(now, fraction_lost);
            return limit;
        };
        let elapsed = now.saturating_duration_since(at);
        if elapsed < SHORTEST_REPORT {
            return limit;
        }
        self.reported = Some((now, sent));
        self.count(now, fraction_lost);
        let rate = sent.saturating_sub(before) as f64 * 8.0 / elapsed.as_secs_f64();
        let arrived = (rate * f64::from(1.0 - fraction_lost) * MARGIN) as u64;
        self.limit = match limit {
            None => (self.lossy >= 2 && sent > before).then_some(arrived.max(LEAST)),
            Some(limit) if fraction_lost > LIMITED_LOSSY && !self.lowered => {
                self.ceiling = Some(limit);
                Some(arrived.clamp(limit / 2, limit).max(LEAST))
            }
            Some(limit) if fraction_lost < CLEAN => {
                let close = self.ceiling.is_some_and(|ceiling| limit as f64 > ceiling as f64 * CLOSE);
                Some(limit + (limit as f64 * if close { CLOSE_RISE } else { RISE }) as u64)
            }
            Some(limit) => Some(limit),
        };
        self.lowered = self.limit.is_some_and(|new| limit.is_none_or(|limit| new < limit));
        self.limit
    }

    fn count(&mut self, now: Instant, fraction_lost: f32) {
        if fraction_lost >= LOSSY {
            self.lossy += 1;
            self.lossy_since.get_or_insert(now);
        } else {
            (self.lossy, self.lossy_since) = (0, None);
        }
    }

    /// Whether the link loses packets persistently, or is limited because it did.
    fn is_narrow(&self, now: Instant) -> bool {
        let recent = self.reported.is_some_and(|(at, _)| now.saturating_duration_since(at) < REPORT_LIFETIME);
        recent && (self.lossy >= 2 || self.limit.is_some())
    }

    /// Whether a keyframe request of this viewer is to be followed.
    pub(super) fn grants_keyframe(&mut self, now: Instant) -> bool {
        let narrow = self.is_narrow(now);
        let since = self.keyframe_granted.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        if !narrow {
            self.keyframe_interval = KEYFRAME_EVERY;
        } else {
            self.keyframe_interval = self.keyframe_interval.max(LOSSY_KEYFRAME_EVERY);
        }
        if since < self.keyframe_interval {
            return false;
        }
        if narrow {
            self.keyframe_interval = (self.keyframe_interval * 2).min(LONGEST_KEYFRAME_EVERY);
        }
        self.keyframe_granted = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A link of `carries` bits per second below a stream of `bitrate`, reporting every second; returns the limit after each.
    fn limits(bitrate: u64, carries: u64, seconds: u32) -> (Link, Vec<Option<u64>>, Instant) {
        let start = Instant::now();
        let (mut link, mut sent, mut limit) = (Link::default(), 0, None);
        let mut out = Vec::new();
        for n in 0..seconds {
            let rate = limit.map_or(bitrate, |limit: u64| limit.min(bitrate));
            sent += rate / 8;
            let lost = (1.0 - carries as f32 / rate as f32).max(0.0);
            limit = link.report(start + SECOND * n, lost, sent, limit);
            out.push(limit);
        }
        (link, out, start + SECOND * seconds)
    }

    #[test]
    fn narrow_link_is_limited_to_its_rate() {
        let (_, limits, _) = limits(2_700_000, 1_000_000, 30);
        assert_eq!(limits[0], None, "one report is no evidence");
        for limit in &limits[2..] {
            assert!((700_000..1_060_000).contains(&limit.unwrap()), "{limits:?}");
        }
    }

    #[test]
    fn a_healthy_link_is_never_limited() {
        let (mut link, all, end) = limits(2_700_000, 3_000_000, 30);
        assert!(all.iter().all(Option::is_none));
        // One bad report, as of a burst of losses.
        assert_eq!(link.report(end, 0.4, 20_000_000, None), None);
        assert_eq!(link.report(end + SECOND, 0.05, 20_400_000, None), None);
    }

    #[test]
    fn keyframe_requests_are_limited_by_viewer_and_by_loss() {
        let granted =
            |link: &mut Link, from: Instant| (0..200).filter(|n| link.grants_keyframe(from + SECOND / 10 * *n)).count();
        assert_eq!(granted(&mut Link::default(), Instant::now()), 20, "a second apart");
        let (mut link, _, end) = limits(2_700_000, 1_000_000, 3);
        let mut times = Vec::new();
        for n in 0..200u32 {
            let now = end + SECOND / 10 * n;
            link.report(now, 0.3, 3_000_000 + u64::from(n) * 10_000, link.limit);
            if link.grants_keyframe(now) {
                times.push(n);
            }
        }
        assert!(times.len() <= 2 && times[0] == 0, "{times:?}");
    }
}
