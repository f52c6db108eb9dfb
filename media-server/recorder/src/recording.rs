//! The recording itself: packets in, outputs out. Not yet built: this is its contract.

use std::time::Instant;

use crate::{
    manifest::GapReason,
    types::{Config, Description, Output, Packet, Stats, Track, Tracks},
};

/// One room's recording while it runs.
#[derive(Debug)]
pub struct Recording {}

impl Recording {
    /// `expected`: the tracks that were negotiated; the first part waits for them, for at most a second.
    pub fn new(now: Instant, config: Config, description: Description, expected: Tracks) -> Self {
        let _ = (now, config, description, expected);
        Recording {}
    }

    /// A packet arrived, at `now` (when it was received, not when it was taken from a queue).
    pub fn handle_rtp(&mut self, now: Instant, packet: Packet<'_>) {
        let _ = (now, packet);
    }

    /// A sender report of a track's source arrived: `ntp` in 32.32 fixed point, `rtp` the timestamp that it names.
    pub fn handle_sender_report(&mut self, now: Instant, track: Track, source: u64, ntp: u64, rtp: u32) {
        let _ = (now, track, source, ntp, rtp);
    }

    /// Packets of this track were thrown away on this side (the tap overflowed): do not wait for them.
    pub fn handle_dropped(&mut self, now: Instant, track: Track, reason: GapReason) {
        let _ = (now, track, reason);
    }

    /// The publisher left. The recording waits for another one, or for `finish`.
    pub fn handle_source_end(&mut self, now: Instant) {
        let _ = now;
    }

    /// An output could not be carried out (disk full, failing). Outputs not yet carried out of this recording must be
    /// dropped by the caller up to the end of `poll_output`; a new segment is begun with the next keyframe.
    pub fn handle_write_failed(&mut self, now: Instant) {
        let _ = now;
    }

    /// The publisher of the room (and with it the negotiated tracks) changed.
    pub fn set_expected(&mut self, expected: Tracks) {
        let _ = expected;
    }

    /// Lets time pass: call when [`Recording::poll_timeout`] is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// When `handle_timeout` wants to be called, if at all.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The recording is over: everything held is given out, then [`Output::Finished`].
    pub fn finish(&mut self, now: Instant) {
        let _ = now;
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// Counts since the start.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }
}
