//! The publisher's clock: the NTP time of a room's RTP timestamps, for the sender reports to viewers (RFC 3550 §6.4.1).
//!
//! It follows the publisher's own sender reports. Where a track lacks them, arrival times are used: a packet's
//! timestamp belongs to the moment at which it would have arrived if it had been as quick as the quickest of the last seconds.
//! Both tracks are always on one of the two clocks, so that players align them. At a change between them the video keeps its NTP
//! time; the audio moves by the difference of the two clocks.

use crate::parameters::MediaKind;
use std::time::{Duration, Instant};

/// Without any report of the publisher, arrival times are taken after this long.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for one track while the other has reports: libwebrtc sends those of audio every five seconds.
const PARTNER_TIMEOUT: Duration = Duration::from_secs(6);
/// The quickest packet is that of the last one or two of these: clocks drift.
const WINDOW: Duration = Duration::from_secs(10);
/// A timestamp later than this has jumped.
const JUMP_MICROS: i64 = 1_000_000;
/// NTP time at which the clock of arrival times starts; any time will do.
const START: u64 = 3_900_000_000 << 32;

#[derive(Clone, Copy, Debug)]
struct Report {
    ntp: u64,
    timestamp: u32,
    at: Instant,
    clock_rate: u32,
}

/// When a track's timestamps arrive.
#[derive(Clone, Copy, Debug)]
struct Arrivals {
    clock_rate: u32,
    /// The first packet.
    since: Instant,
    timestamp: u32,
    /// The newest packet's timestamp, and ticks since the first.
    newest: u32,
    ticks: i64,
    /// Delay of packets relative to the first, in microseconds: the least of this window and of the one before.
    lateness: [i64; 2],
    window: Instant,
}

impl Arrivals {
    fn new(now: Instant, timestamp: u32, clock_rate: u32) -> Self {
        let lateness = [0; 2];
        Self { clock_rate, since: now, timestamp, newest: timestamp, ticks: 0, lateness, window: now }
    }

    fn arrived(&mut self, now: Instant, timestamp: u32) {
        self.ticks += i64::from(timestamp.wrapping_sub(self.newest) as i32);
        self.newest = timestamp;
        let media = (i128::from(self.ticks) * 1_000_000 / i128::from(self.clock_rate)) as i64;
        let late = now.saturating_duration_since(self.since).as_micros() as i64 - media;
        if late - self.earliest() > JUMP_MICROS {
            (self.lateness, self.window) = ([late; 2], now);
        }
        if now.saturating_duration_since(self.window) >= WINDOW {
            (self.lateness, self.window) = ([late, self.lateness[0]], now);
        }
        self.lateness[0] = self.lateness[0].min(late);
    }

    fn earliest(&self) -> i64 {
        self.lateness[0].min(self.lateness[1])
    }

    /// Returns the timestamp of media captured now, ignoring the constant part of the delay.
    fn timestamp(&self, now: Instant) -> u32 {
        let media = now.saturating_duration_since(self.since).as_micros() as i64 - self.earliest();
        let ticks = i128::from(media) * i128::from(self.clock_rate) / 1_000_000;
        self.timestamp.wrapping_add(ticks as u32)
    }
}

/// The source of NTP times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Origin {
    #[default]
    Reports,
    Arrivals,
}

#[derive(Clone, Copy, Debug, Default)]
struct TrackClock {
    report: Option<Report>,
    arrivals: Option<Arrivals>,
}

/// The clock of a room's source.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SourceClock {
    audio: TrackClock,
    video: TrackClock,
    /// The first packet of the source.
    epoch: Option<Instant>,
    origin: Origin,
    /// Added to the NTP times of `origin`, modulo 2^64.
    shift: u64,
}

fn ntp_duration(elapsed: Duration) -> u64 {
    (elapsed.as_nanos() << 32).checked_div(1_000_000_000).unwrap_or(0) as u64
}

impl SourceClock {
    /// Records a report with a timestamp that is already the room's.
    pub(super) fn reported(&mut self, now: Instant, kind: MediaKind, clock_rate: u32, ntp: u64, timestamp: u32) {
        self.track_mut(kind).report = Some(Report { ntp, timestamp, at: now, clock_rate });
        self.choose(now);
    }

    /// Records the arrival of a packet that is newer than all before it.
    pub(super) fn arrived(&mut self, now: Instant, kind: MediaKind, clock_rate: u32, timestamp: u32) {
        self.epoch.get_or_insert(now);
        let track = self.track_mut(kind);
        match &mut track.arrivals {
            Some(arrivals) if arrivals.clock_rate == clock_rate => arrivals.arrived(now, timestamp),
            arrivals => *arrivals = Some(Arrivals::new(now, timestamp, clock_rate)),
        }
        self.choose(now);
    }

    /// Another publisher has another clock.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Returns whether any track has a clock.
    pub(super) fn is_known(&self) -> bool {
        [&self.video, &self.audio].into_iter().any(|track| match self.origin {
            Origin::Reports => track.report.is_some(),
            Origin::Arrivals => track.arrivals.is_some(),
        })
    }

    fn track(&self, kind: MediaKind) -> &TrackClock {
        match kind {
            MediaKind::Audio => &self.audio,
            MediaKind::Video => &self.video,
        }
    }

    fn track_mut(&mut self, kind: MediaKind) -> &mut TrackClock {
        match kind {
            MediaKind::Audio => &mut self.audio,
            MediaKind::Video => &mut self.video,
        }
    }

    /// Takes the publisher's reports, unless a track has been without for too long.
    fn choose(&mut self, now: Instant) {
        let tracks = [&self.video, &self.audio];
        let patience = if tracks.iter().any(|track| track.report.is_some()) { PARTNER_TIMEOUT } else { REPORT_TIMEOUT };
        let lacks_reports = |track: &&TrackClock| {
            let since = track.arrivals.filter(|_| track.report.is_none()).map(|arrivals| arrivals.since);
            since.is_some_and(|since| now.saturating_duration_since(since) >= patience)
        };
        let origin = if tracks.iter().any(lacks_reports) { Origin::Arrivals } else { Origin::Reports };
        if origin == self.origin {
            return;
        }
        let lead = [MediaKind::Video, MediaKind::Audio].into_iter().find_map(|kind| {
            Some((self.track(kind).arrivals?.clock_rate, self.at(now, kind)?, self.read(now, origin, kind)?))
        });
        self.origin = origin;
        self.shift = lead.map_or(0, |(clock_rate, (old, old_timestamp), (new, timestamp))| {
            let ticks = i128::from(timestamp.wrapping_sub(old_timestamp) as i32);
            let expected = i128::from(old) + (ticks << 32) / i128::from(clock_rate);
            (expected - i128::from(new)) as u64
        });
    }

    /// NTP and RTP time of a track by `origin`.
    fn read(&self, now: Instant, origin: Origin, kind: MediaKind) -> Option<(u64, u32)> {
        let track = self.track(kind);
        match origin {
            Origin::Reports => {
                let report = track.report?;
                let elapsed = now.saturating_duration_since(report.at);
                let ticks = elapsed.as_micros() * u128::from(report.clock_rate) / 1_000_000;
                Some((report.ntp.wrapping_add(ntp_duration(elapsed)), report.timestamp.wrapping_add(ticks as u32)))
            }
            Origin::Arrivals => {
                let elapsed = now.saturating_duration_since(self.epoch?);
                Some((START.wrapping_add(ntp_duration(elapsed)), track.arrivals?.timestamp(now)))
            }
        }
    }

    /// NTP and RTP time of the track now.
    pub(super) fn at(&self, now: Instant, kind: MediaKind) -> Option<(u64, u32)> {
        let (ntp, timestamp) = self.read(now, self.origin, kind)?;
        Some((ntp.wrapping_add(self.shift), timestamp))
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
    use proptest::prelude::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Seconds of media time at which an NTP time is reported for a track, given the timestamps of `send`.
    fn media_time(clock: &SourceClock, now: Instant, kind: MediaKind) -> Option<(f64, f64)> {
        let (ntp, timestamp) = clock.at(now, kind)?;
        let rate = if kind == MediaKind::Video { 90_000 } else { 48_000 };
        Some((ntp as f64 / 4_294_967_296.0, f64::from(timestamp) / f64::from(rate)))
    }

    /// Sends both tracks from `from` to `to` milliseconds, each packet up to `jitter` late. Timestamps count from 0 at `start`.
    fn send(clock: &mut SourceClock, start: Instant, from: u64, to: u64, jitter: u64) {
        for n in from / 20..to / 20 {
            let late = ms(n * 7919 % (jitter + 1));
            clock.arrived(start + ms(20 * n) + late, MediaKind::Audio, 48_000, (n * 960) as u32);
            if n % 2 == 0 {
                clock.arrived(start + ms(20 * n) + late, MediaKind::Video, 90_000, (n * 1800) as u32);
            }
        }
    }

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

    #[test]
    fn arrivals_stand_in_for_missing_reports() {
        let start = Instant::now();
        let mut clock = SourceClock::default();
        send(&mut clock, start, 0, 1980, 15);
        let now = start + ms(2100);
        assert_eq!(media_time(&clock, now, MediaKind::Video), None, "the camera may still report");
        send(&mut clock, start, 1980, 5000, 15);
        let now = start + ms(5000);
        let (ntp, video) = media_time(&clock, now, MediaKind::Video).unwrap();
        let (same, audio) = media_time(&clock, now, MediaKind::Audio).unwrap();
        assert_eq!(ntp, same);
        // Relative to the quickest packets, not to the usual ones, 7 ms later.
        assert!((video - 5.0).abs() < 0.002 && (audio - 5.0).abs() < 0.002, "{video} {audio}");
        let (later, moved) = media_time(&clock, now + ms(500), MediaKind::Video).unwrap();
        assert!((later - ntp - 0.5).abs() < 1e-3 && (moved - video - 0.5).abs() < 1e-3);
    }

    #[test]
    fn first_reports_take_over_without_a_jump_of_video() {
        let start = Instant::now();
        let mut clock = SourceClock::default();
        send(&mut clock, start, 0, 10_000, 15);
        let now = start + ms(10_000);
        let (before, at) = media_time(&clock, now, MediaKind::Video).unwrap();
        clock.reported(now, MediaKind::Video, 90_000, 77 << 32, 10 * 90_000);
        let unchanged = media_time(&clock, now, MediaKind::Video).unwrap();
        assert_eq!(unchanged, (before, at), "audio has no report: both stay with their arrival");
        // The camera means its audio 80 ms later than it seemed.
        clock.reported(now, MediaKind::Audio, 48_000, 77 << 32, 10 * 48_000 - 3840);
        let (ntp, video) = media_time(&clock, now, MediaKind::Video).unwrap();
        assert!((ntp - video - (before - at)).abs() < 1e-3, "video moved by {}", ntp - video - (before - at));
        let (same, audio) = media_time(&clock, now, MediaKind::Audio).unwrap();
        assert!((same - ntp).abs() < 1e-6 && (video - audio - 0.08).abs() < 1e-3, "{video} {audio}");
    }

    #[test]
    fn track_without_reports_takes_both_to_arrivals() {
        let start = Instant::now();
        let mut clock = SourceClock::default();
        send(&mut clock, start, 0, 1000, 0);
        clock.reported(start + ms(1000), MediaKind::Video, 90_000, 77 << 32, 90_000);
        send(&mut clock, start, 1000, 5980, 0);
        let now = start + ms(5990);
        assert_eq!(clock.at(now, MediaKind::Video).map(|(ntp, _)| ntp >> 32), Some(81));
        assert_eq!(clock.at(now, MediaKind::Audio), None);
        send(&mut clock, start, 5980, 8000, 0);
        let now = start + ms(8000);
        let (ntp, video) = media_time(&clock, now, MediaKind::Video).unwrap();
        let (same, audio) = media_time(&clock, now, MediaKind::Audio).unwrap();
        assert!(ntp == same && (video - audio).abs() < 1e-3, "{video} {audio}");
        assert!((ntp - 84.0).abs() < 1e-3, "video keeps its NTP time: {ntp}");
    }

    #[test]
    fn backward_jump_of_timestamps_is_followed() {
        let start = Instant::now();
        let mut clock = SourceClock::default();
        send(&mut clock, start, 0, 5000, 0);
        for n in 0..50u64 {
            clock.arrived(start + ms(5000 + 40 * n), MediaKind::Video, 90_000, (n * 3600) as u32);
        }
        let (_, video) = media_time(&clock, start + ms(7000), MediaKind::Video).unwrap();
        assert!((video - 2.0).abs() < 0.05, "{video}");
    }

    proptest! {
        #[test]
        fn tracks_share_one_origin(steps in proptest::collection::vec((0u8..4, 0u64..3000, any::<u32>(), any::<u64>()), 0..60)) {
            let mut now = Instant::now();
            let mut clock = SourceClock::default();
            for (what, millis, timestamp, ntp) in steps {
                now += ms(millis);
                match what {
                    0 => clock.arrived(now, MediaKind::Video, 90_000, timestamp),
                    1 => clock.arrived(now, MediaKind::Audio, 48_000, timestamp),
                    2 => clock.reported(now, MediaKind::Video, 90_000, ntp, timestamp),
                    _ => clock.reported(now, MediaKind::Audio, 48_000, ntp, timestamp),
                }
                let both = [MediaKind::Video, MediaKind::Audio].map(|kind| clock.at(now, kind));
                if let ([Some(video), Some(audio)], Origin::Arrivals) = (both, clock.origin) {
                    prop_assert_eq!(video.0, audio.0);
                }
            }
        }
    }
}
