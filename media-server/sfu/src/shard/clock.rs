//! The publisher's clock: what NTP time belongs to which RTP timestamp of the room, told by its sender reports and told on
//! in ours (RFC 3550 §6.4.1). Both tracks keep the publisher's own NTP time, so that players align them as it meant.

use crate::parameters::MediaKind;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
struct Report {
    ntp: u64,
    timestamp: u32,
    at: Instant,
    clock_rate: u32,
}

/// The last sender report of each track, on the room's timeline.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SourceClock {
    audio: Option<Report>,
    video: Option<Report>,
}

fn ntp_duration(elapsed: Duration) -> u64 {
    (elapsed.as_nanos() << 32).checked_div(1_000_000_000).unwrap_or(0) as u64
}

impl SourceClock {
    /// Takes note of a report whose timestamp is already the room's.
    pub(super) fn reported(&mut self, now: Instant, kind: MediaKind, clock_rate: u32, ntp: u64, timestamp: u32) {
        let report = Some(Report { ntp, timestamp, at: now, clock_rate });
        match kind {
            MediaKind::Audio => self.audio = report,
            MediaKind::Video => self.video = report,
        }
    }

    /// Another publisher has another clock.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Returns whether any track has a clock.
    pub(super) fn is_known(&self) -> bool {
        self.audio.is_some() || self.video.is_some()
    }

    fn report(&self, kind: MediaKind) -> Option<&Report> {
        match kind {
            MediaKind::Audio => self.audio.as_ref(),
            MediaKind::Video => self.video.as_ref(),
        }
    }

    /// NTP and RTP time of the track now.
    pub(super) fn at(&self, now: Instant, kind: MediaKind) -> Option<(u64, u32)> {
        let report = self.report(kind)?;
        let elapsed = now.saturating_duration_since(report.at);
        let ticks = elapsed.as_micros() * u128::from(report.clock_rate) / 1_000_000;
        Some((report.ntp.wrapping_add(ntp_duration(elapsed)), report.timestamp.wrapping_add(ticks as u32)))
    }

    /// Round trip told by a report block: now, less the report it answers, less what the peer held it.
    pub(super) fn round_trip(&self, now: Instant, kind: MediaKind, last_report: u32, delay: u32) -> Option<Duration> {
        let (ntp, _) = self.at(now, kind)?;
        let middle = (ntp >> 16) as u32;
        let ticks = middle.wrapping_sub(last_report).wrapping_sub(delay);
        // Negative by rounding, or of another publisher's clock.
        let seconds = f64::from(ticks) / 65_536.0;
        if (ticks as i32) < 0 { Some(Duration::ZERO) } else { Some(Duration::from_secs_f64(seconds)) }
            .filter(|round_trip| *round_trip < Duration::from_secs(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_between_reports() {
        let now = Instant::now();
        let mut clock = SourceClock::default();
        assert_eq!(clock.at(now, MediaKind::Video), None);
        clock.reported(now, MediaKind::Video, 90_000, 5 << 32, 1000);
        let later = now + Duration::from_millis(500);
        assert_eq!(clock.at(later, MediaKind::Video), Some(((5 << 32) + (1 << 31), 46_000)));
    }

    #[test]
    fn round_trip_is_what_the_peer_did_not_hold() {
        let now = Instant::now();
        let mut clock = SourceClock::default();
        clock.reported(now, MediaKind::Video, 90_000, 0x1234_5678_9abc_def0, 0);
        let sent = 0x5678_9abc;
        let got = clock.round_trip(now + Duration::from_millis(150), MediaKind::Video, sent, 65_536 / 10).unwrap();
        assert!((49..=51).contains(&got.as_millis()), "{got:?}");
    }
}
