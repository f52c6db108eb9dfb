//! Gaps of a track: where something is missing, and why.

use std::time::Instant;

use super::{Lane, Tail};
use crate::{
    clock::{seconds, since, ticks},
    frames::Assembler,
    manifest::{Gap, GapReason},
};

impl Lane {
    /// Returns the gap that a frame at `to` (ticks) ends, if there is one. To be called before the tail is settled for it.
    pub(crate) fn gap_before(&mut self, to: i64, after_loss: bool) -> Option<Gap> {
        let expired = std::mem::take(&mut self.expired);
        let reason = match self.gap.take() {
            Some(reason) => reason,
            None if after_loss => self.reason,
            None if expired => GapReason::Source,
            None => return None,
        };
        self.before_gap = true;
        self.reason = GapReason::Loss;
        let mut from = self.missing_from();
        self.missing_from = None;
        if std::mem::take(&mut self.reclocked) {
            // Where the clock was given another anchor, at least a frame's place is uncertain.
            from = from.min(to - i64::from(self.usual));
        }
        self.gap_between(from, to, reason)
    }

    /// Its source has ended: what is missing at the end of it. `epoch`: when the timeline began.
    pub(crate) fn gap_at_end(&mut self, epoch: Instant) -> Option<Gap> {
        let lost = self.assembler.as_ref().is_some_and(Assembler::has_lost);
        let reason = self.gap.or(lost.then_some(self.reason))?;
        let to = self.place_of(self.heard?, epoch).max(self.end) + i64::from(self.usual);
        let from = self.missing_from();
        self.missing_from = Some(from.max(to));
        // Where a source ends is only known about.
        if to - from > i64::from(self.usual) / 2 { self.gap_between(from, to, reason) } else { None }
    }

    fn gap_between(&self, from: i64, to: i64, reason: GapReason) -> Option<Gap> {
        let gap = Gap { track: self.track, from: seconds(from, self.rate), to: seconds(to, self.rate), reason };
        (to > from).then_some(gap)
    }

    /// Ticks: where a gap begins, when there is one.
    pub(super) fn missing_from(&self) -> i64 {
        let tail_end = |tail: &Tail| tail.sample.dts + i64::from(self.tail_duration(&tail.sample));
        self.missing_from.unwrap_or_else(|| self.tail.as_ref().map_or(self.end, tail_end))
    }

    /// Ticks of the timeline that what came at `at` belongs to, as far as can be known without a frame.
    fn place_of(&self, at: Instant, epoch: Instant) -> i64 {
        match (&self.clock, self.pace.last()) {
            (Some(clock), Some((rtp, arrival))) => rtp + clock.offset() + ticks(since(at, arrival), self.rate),
            _ => ticks(since(at, epoch), self.rate),
        }
    }
}
