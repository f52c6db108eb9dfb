//! The pace of a track's media time against arrival.
//!
//! A packet can be late but never early, so the largest `media time - arrival` of a short window is the state of the media
//! clock without the network's delay. A step forward is a jump of the clock; a slow change means another rate, or that the
//! clock stood still. Where frames are reordered, the first ones are sent later than they are shown, and do not count.
//!
//! Bound: the blocks of a window are at most a frame each, and a window ends after 600 ms and 4 frames.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    clock::{nanos, since, ticks},
    decode_order::DecodeOrder,
};

/// The largest error between media and arrival, in nanoseconds; a clock beyond that gets a new anchor.
pub(crate) const MOST_ERROR: i64 = 1_000_000_000;
/// How long an error beyond that lasts before it counts; a burst behind a stall is over by then.
const SUSTAINED: Duration = Duration::from_millis(500);
/// The window has at least this length and this number of frames, in blocks.
const WINDOW: Duration = Duration::from_millis(600);
/// The newest part of it, which lags less behind a clock that is slow, but has more of the jitter.
const RECENT: Duration = Duration::from_millis(200);
/// By how much the two differ when that is no jitter.
const JITTER: i64 = 60_000_000;
const WINDOW_FRAMES: u32 = 4;
const BLOCK: Duration = Duration::from_millis(100);
/// Timestamps stand still when they repeat for this many nanoseconds.
const STUCK_FOR: i64 = 60_000_000;

#[derive(Clone, Copy, Debug)]
struct Block {
    since: Instant,
    /// The largest `media time - arrival` in it.
    ahead: i64,
    frames: u32,
}

/// The relation of a frame's timestamp to the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It belongs to the timeline of the ones before.
    Steady,
    /// It starts another timeline.
    Jump,
}

/// Of one track. Nanoseconds are since the recording was created.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    last: Option<(i64, Instant)>,
    /// The timestamp of the last frame as it was sent, and since when it repeats.
    repeated: Option<(i64, Instant)>,
    /// Ticks by which time went on while timestamps stood still.
    skipped: i64,
    /// They stand still now.
    still: bool,
    order: DecodeOrder,
    blocks: VecDeque<Block>,
    beyond: Option<Instant>,
}

impl Pace {
    /// Returns timestamp and arrival of the last frame.
    pub(crate) fn last(&self) -> Option<(i64, Instant)> {
        self.last
    }

    /// Adopts a depth of reordering that the encoder states.
    pub(crate) fn adopt_depth(&mut self, stated: usize) {
        self.order.adopt_depth(stated);
    }

    /// Returns `media time - arrival` without the network's delay; `None` before the first frame that counts.
    pub(crate) fn ahead(&self) -> Option<i64> {
        let all = self.blocks.iter().map(|block| block.ahead).max()?;
        let newest = self.blocks.back()?.since;
        let (mut recent, mut frames) = (i64::MIN, 0);
        for block in self.blocks.iter().rev() {
            recent = recent.max(block.ahead);
            frames += block.frames;
            if frames >= WINDOW_FRAMES && newest.saturating_duration_since(block.since) >= RECENT {
                break;
            }
        }
        Some(if all - recent > JITTER { recent } else { all })
    }

    /// Returns the ticks to add to every timestamp: time that passed while timestamps stood still.
    pub(crate) fn skipped(&self) -> i64 {
        self.skipped
    }

    /// Returns whether timestamps stand still.
    pub(crate) fn is_still(&self) -> bool {
        self.still
    }

    /// Records the arrival of a frame with the unwrapped timestamp `sent`. May change [`Pace::skipped`].
    pub(crate) fn observe(&mut self, sent: i64, rate: u32, arrival: Instant, created: Instant) -> Step {
        match self.repeated {
            Some((known, since_when)) if known == sent => {
                let still = since(arrival, since_when);
                if still >= STUCK_FOR {
                    self.skipped += ticks(still, rate);
                    self.repeated = Some((sent, arrival));
                    self.still = true;
                }
            }
            _ => {
                self.repeated = Some((sent, arrival));
                self.still = false;
            }
        }
        let rtp = sent + self.skipped;
        if self.order.earliest().is_some_and(|earliest| nanos(rtp - earliest, rate) < -MOST_ERROR) {
            self.restart(rtp, rate, arrival, created);
            return Step::Jump;
        }
        let ahead = self.measure(rtp, rate, arrival, created);
        if self.ahead().zip(ahead).is_some_and(|(known, ahead)| ahead.saturating_sub(known) > MOST_ERROR) {
            self.restart(rtp, rate, arrival, created);
            return Step::Jump;
        }
        self.note(rtp, arrival, ahead);
        Step::Steady
    }

    /// Returns `media time - arrival` of a frame; `None` for the first frames of a reordered track.
    fn measure(&mut self, rtp: i64, rate: u32, arrival: Instant, created: Instant) -> Option<i64> {
        self.order.decode_time(rtp);
        self.order.is_settled().then(|| nanos(rtp, rate).saturating_sub(since(arrival, created)))
    }

    /// Returns whether the error, which has this value now, has been too large for too long.
    pub(crate) fn is_lost(&mut self, error: i64, arrival: Instant) -> bool {
        if error.abs() <= MOST_ERROR {
            self.beyond = None;
            return false;
        }
        let beyond = *self.beyond.get_or_insert(arrival);
        arrival.saturating_duration_since(beyond) >= SUSTAINED
    }

    /// Starts again with this frame.
    pub(crate) fn restart(&mut self, rtp: i64, rate: u32, arrival: Instant, created: Instant) {
        self.blocks.clear();
        self.beyond = None;
        self.order.restart();
        let ahead = self.measure(rtp, rate, arrival, created);
        self.note(rtp, arrival, ahead);
    }

    fn note(&mut self, rtp: i64, arrival: Instant, ahead: Option<i64>) {
        self.last = Some((rtp, arrival));
        let Some(ahead) = ahead else { return };
        match self.blocks.back_mut().filter(|block| arrival < block.since + BLOCK) {
            Some(block) => {
                block.ahead = block.ahead.max(ahead);
                block.frames += 1;
            }
            None => self.blocks.push_back(Block { since: arrival, ahead, frames: 1 }),
        }
        // The next block alone is long and full enough.
        while self.blocks.get(1).is_some_and(|next| arrival >= next.since + WINDOW)
            && self.blocks.iter().skip(1).map(|block| block.frames).sum::<u32>() >= WINDOW_FRAMES
        {
            self.blocks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 1000;

    /// The steps for frames of (timestamp, arrival) in milliseconds.
    fn steps(frames: impl IntoIterator<Item = (i64, u64)>) -> (Pace, Vec<Step>) {
        let created = Instant::now();
        let mut pace = Pace::default();
        let observe = |(rtp, at)| pace.observe(rtp, RATE, created + Duration::from_millis(at), created);
        let steps = frames.into_iter().map(observe).collect();
        (pace, steps)
    }

    #[test]
    fn burst_behind_a_stall_changes_nothing() {
        // Three seconds late, then all at once.
        let frames = (0..300).map(|n| (n * 40, if (100..175).contains(&n) { 7000 + n as u64 } else { n as u64 * 40 }));
        let (pace, steps) = steps(frames.filter(|(_, at)| *at > 0));
        assert!(steps.iter().all(|step| *step == Step::Steady), "{steps:?}");
        assert!(pace.ahead().unwrap().abs() < 1_000_000);
    }

    #[test]
    fn step_forward_or_back_is_a_jump() {
        for by in [6000, 1100, -1100] {
            let frames = (0..200).map(|n| (n * 40 + if n >= 150 { by } else { 0 }, n as u64 * 40));
            let (_, steps) = steps(frames);
            let jumps: Vec<_> = (0..200).filter(|n| steps[*n] == Step::Jump).collect();
            assert_eq!(jumps, [150], "{by}");
        }
        let (_, steps) = steps((0..200).map(|n| (n * 40 + if n >= 150 { 900 } else { 0 }, n as u64 * 40)));
        assert!(!steps.contains(&Step::Jump), "within the bound");
    }

    #[test]
    fn reordered_frames_are_neither_early_nor_late() {
        // I P B B P B B, a frame in 400 ms: an encoder sends a P frame at once, and the others behind it.
        let shown = [0].into_iter().chain((0..20).flat_map(|group| [3, 1, 2].map(|place| 3 * group + place)));
        let (pace, steps) = steps(shown.zip(2..).map(|(place, n)| (place * 400, n * 400)));
        assert!(steps.iter().all(|step| *step == Step::Steady), "{steps:?}");
        assert_eq!(pace.ahead(), Some(0));
    }

    #[test]
    fn constant_timestamps_follow_arrival() {
        let (pace, steps) = steps((0..100).map(|n| (0, n * 40)));
        assert!(steps.iter().all(|step| *step == Step::Steady));
        assert!((3900..=3960).contains(&pace.skipped()), "{}", pace.skipped());
    }

    #[test]
    fn slow_clock_falls_behind_with_little_lag() {
        let (pace, steps) = steps((0..400).map(|n| (n * 40, n as u64 * 50)));
        assert!(steps.iter().all(|step| *step == Step::Steady));
        let error = pace.ahead().unwrap() / 1_000_000 + 399 * 10;
        assert!((0..=150).contains(&error), "{error} ms behind the present");
    }
}
