//! A track with its burst plan: the packets to send next, and the pacing of those that may not leave at once.

use crate::forward::pacing::Pacer;
use crate::forward::plan::Plan;
use crate::parameters::MediaKind;
use crate::ring::PacketMeta;
use crate::shard::source::ClockReport;
use crate::shard::tap_numbers::TapNumbers;
use crate::track::{SourceKey, Track};
use std::time::Instant;

/// Maximum number of late packets that a plan takes.
const MAX_LATE: usize = 64;

/// A track of a room with its burst plan.
pub(super) struct Lane {
    pub(super) track: Track,
    pub(super) tap_numbers: TapNumbers,
    /// The latest sender report of a source that does not feed the track, which may be about to.
    pub(super) early_report: Option<(SourceKey, ClockReport)>,
    /// One past the last index of any plan so far.
    pub(super) planned: u64,
    /// Packets that filled holes since the last plan.
    late: Vec<u64>,
    pub(super) plan: Plan,
    pub(super) pacer: Pacer,
}

impl Lane {
    pub(super) fn new(kind: MediaKind) -> Self {
        Self {
            track: Track::new(kind),
            tap_numbers: TapNumbers::default(),
            early_report: None,
            planned: 0,
            late: Vec::with_capacity(MAX_LATE),
            plan: Plan::default(),
            pacer: Pacer::default(),
        }
    }

    /// Returns the newest packet's index and timestamp.
    pub(super) fn newest(&self) -> (u64, u32) {
        let timestamp = self.track.newest().map_or(0, |(timestamp, _)| timestamp);
        (self.track.ring().head().saturating_sub(1), timestamp)
    }

    /// Returns whether there are packets that no burst has sent yet.
    pub(super) fn is_pending(&self) -> bool {
        self.planned < self.track.ring().head() || !self.late.is_empty()
    }

    /// Returns the number of packets that no plan contains yet, without those that filled holes.
    pub(super) fn unplanned(&self) -> u64 {
        self.track.ring().head() - self.planned
    }

    /// Adds a packet that filled a hole to the next plan, unless it is in it already or [`MAX_LATE`] others are.
    pub(super) fn add_late(&mut self, index: u64) {
        if index < self.planned && self.late.len() < self.late.capacity() {
            self.late.push(index);
        }
    }

    /// Plans the new packets, or as many of them as may leave at once. Returns when the rest is due.
    pub(super) fn fill(&mut self, now: Instant, unpaced: bool) -> Option<Instant> {
        let ring = self.track.ring();
        let mut until = ring.head();
        if unpaced {
            self.pacer.flush();
        } else {
            let pending = ring.range(self.planned..until).map(|meta| u64::from(meta.len)).sum();
            let mut left = self.pacer.take(now, pending, ring.bitrate());
            if left < pending {
                let fits = |meta: &&PacketMeta| {
                    let fits = left > 0;
                    left = left.saturating_sub(meta.len.into());
                    fits
                };
                until =
                    ring.range(self.planned..until).take_while(fits).last().map_or(self.planned, |last| last.index + 1);
            }
        }
        self.plan.fill(self.track.ring_mut(), &self.late, self.planned..until);
        self.late.clear();
        self.planned = until;
        self.pacer.next_at()
    }
}
