//! Where RTP timestamps lie on the recording's timeline.
//!
//! Each source is anchored once; from then on its own clock counts. Sender reports (RFC 3550 §6.4.1) of both tracks tell
//! how far apart the two are: at the start that sets the anchors, later the picture is moved towards the sound, by so
//! little a frame that nobody sees it.

use std::time::Duration;

/// One tick in this many is added or dropped while the picture is moved …
const SLEW: i64 = 10;
/// … and this many when it is off by more than [`FAR`]: timestamps may be a quarter off.
const FAST_SLEW: i64 = 2;
const FAR: i64 = 62_000_000;
/// After a longer silence nothing is moved further.
const LONGEST_PASS: i64 = 120_000_000;
/// Of audio: inaudible.
const SOUND_SLEW: i64 = 200;
/// Less than this between sound and picture is left alone: reports are not exact.
const TOLERANCE: i64 = 15_000_000;
/// Reports win against arrival, but more than this is not believed: then the two tracks' clocks have nothing in common.
const ABSURD: i64 = 60_000_000_000;

/// A sender report: the source's own wall clock at one of its timestamps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    /// 32.32 fixed point, seconds.
    pub(crate) ntp: u64,
    /// RTP timestamp.
    pub(crate) rtp: u32,
}

impl Report {
    /// Nanoseconds of the sender's wall clock at the unwrapped timestamp `rtp`.
    pub(crate) fn wall(&self, rtp: i64, rate: u32) -> i128 {
        let ntp = (i128::from(self.ntp) * 1_000_000_000) >> 32;
        let distance = (rtp as u32).wrapping_sub(self.rtp) as i32;
        ntp + i128::from(nanos(i64::from(distance), rate))
    }
}

/// Ticks to nanoseconds.
pub(crate) fn nanos(ticks: i64, rate: u32) -> i64 {
    (i128::from(ticks) * 1_000_000_000 / i128::from(rate)) as i64
}

/// Nanoseconds to ticks, rounded.
pub(crate) fn ticks(nanos: i64, rate: u32) -> i64 {
    let scaled = i128::from(nanos) * i128::from(rate);
    ((scaled + 500_000_000).div_euclid(1_000_000_000)) as i64
}

/// Ticks of the timeline to seconds.
pub(crate) fn seconds(ticks: i64, rate: u32) -> f64 {
    ticks as f64 / f64::from(rate)
}

/// Signed distance in nanoseconds.
pub(crate) fn since(later: std::time::Instant, earlier: std::time::Instant) -> i64 {
    let clamp = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX / 4);
    match later.checked_duration_since(earlier) {
        Some(duration) => clamp(duration),
        None => -clamp(earlier.duration_since(later)),
    }
}

/// Of one source.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    rate: u32,
    /// Add to an unwrapped timestamp to get ticks of the timeline.
    offset: i64,
    /// `offset` is moved towards this.
    target: i64,
    last: i64,
}

impl Clock {
    /// `rtp` (unwrapped) lies at `at` nanoseconds of the timeline.
    pub(crate) fn new(rate: u32, rtp: i64, at: i64) -> Self {
        let offset = ticks(at, rate) - rtp;
        Clock { rate, offset, target: offset, last: rtp }
    }

    /// Ticks of the timeline for the next frame; moves towards the target by the way. `passed`: nanoseconds between the
    /// arrivals of the last frame and this one.
    pub(crate) fn advance(&mut self, rtp: i64, passed: i64) -> i64 {
        let left = self.target - self.offset;
        let slew = match self.rate {
            48_000 => SOUND_SLEW,
            _ if nanos(left, self.rate).abs() > FAR => FAST_SLEW,
            _ => SLEW,
        };
        let back = (rtp - self.last).max(0);
        // Not by media time: a burst behind a stall looks late until it is over.
        let forth = ticks(passed.clamp(0, LONGEST_PASS), self.rate);
        self.offset += left.clamp(-back / slew, forth / slew);
        self.last = self.last.max(rtp);
        rtp + self.offset
    }

    /// Ticks of the timeline less the timestamp, as of now.
    pub(crate) fn offset(&self) -> i64 {
        self.offset
    }

    /// Returns the same in nanoseconds.
    pub(crate) fn shift(&self) -> i64 {
        nanos(self.offset, self.rate)
    }

    /// Moves the target so that this error, in nanoseconds, vanishes.
    pub(crate) fn steer(&mut self, error: i64) {
        self.target = self.offset - ticks(error, self.rate);
    }

    /// Nanoseconds of the timeline, as of now.
    pub(crate) fn at(&self, rtp: i64) -> i64 {
        nanos(rtp + self.offset, self.rate)
    }

    /// Moves the target of this (the video's) clock towards `other` (the audio's), by the reports of both. Returns the
    /// nanoseconds by which video is later than by the reports.
    pub(crate) fn follow(&mut self, report: Report, other: &Clock, other_report: Report) -> Option<i64> {
        let apart =
            |clock: &Clock, report: Report| i128::from(clock.at(clock.last)) - report.wall(clock.last, clock.rate);
        let error = apart(self, report) - apart(other, other_report);
        let error = i64::try_from(error).ok().filter(|error| error.abs() < ABSURD)?;
        if error.abs() > TOLERANCE {
            self.steer(error);
        }
        Some(error)
    }
}

/// By arrival, the first picture and the first sound lie at certain times of the timeline: (report, unwrapped timestamp,
/// nanoseconds) of each. Gives how much later than that the picture lies by the reports; none when they contradict
/// arrival so much that they must be wrong. `rates`: of picture and sound.
pub(crate) fn correction(video: (Report, i64, i64), audio: (Report, i64, i64), rates: (u32, u32)) -> Option<i64> {
    let (video_report, video_rtp, video_at) = video;
    let (audio_report, audio_rtp, audio_at) = audio;
    let by_report = video_report.wall(video_rtp, rates.0) - audio_report.wall(audio_rtp, rates.1);
    let by_arrival = i128::from(video_at) - i128::from(audio_at);
    i64::try_from(by_report - by_arrival).ok().filter(|error| error.abs() < ABSURD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ntp(nanos: u64) -> u64 {
        ((u128::from(nanos) << 32) / 1_000_000_000) as u64
    }

    #[test]
    fn the_picture_moves_to_the_sound_without_a_jump() {
        let mut audio = Clock::new(48_000, 0, 0);
        let mut video = Clock::new(90_000, 0, 60_000_000);
        let report = Report { ntp: ntp(1_000_000_000), rtp: 0 };
        audio.advance(0, 0);
        let mut last = video.advance(0, 0);
        video.follow(report, &audio, report);
        for frame in 1..60 {
            let at = video.advance(frame * 3000, 33_000_000);
            assert!((2700..=3300).contains(&(at - last)), "{}", at - last);
            last = at;
        }
        assert!((last - 59 * 3000).abs() <= 1, "{last}");
    }

    #[test]
    fn reports_that_are_absurd_are_not_believed() {
        let far = Report { ntp: ntp(900_000_000_000), rtp: 0 };
        let here = Report { ntp: ntp(1_000_000_000), rtp: 0 };
        assert_eq!(correction((far, 0, 0), (here, 0, 0), (90_000, 48_000)), None);
        let error = correction((here, 9000, 0), (here, 0, 0), (90_000, 48_000)).unwrap();
        assert!((error - 100_000_000).abs() < 10, "{error}");
    }

    #[test]
    fn extreme_reports_do_not_overflow() {
        let mut video = Clock::new(90_000, i64::from(u32::MAX), 0);
        let audio = Clock::new(48_000, 0, 0);
        video.follow(Report { ntp: u64::MAX, rtp: u32::MAX }, &audio, Report { ntp: 0, rtp: 1 << 31 });
        assert_eq!(video.target, video.offset);
    }
}
