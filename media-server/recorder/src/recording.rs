//! The recording while it runs: brings the tracks onto one timeline, and cuts it into parts and segments.

mod cut;
mod timeline;

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::{
    lane::Lane,
    manifest::{Gap, GapReason},
    mp4::init,
    segments::Segments,
    types::{Config, Continuation, Description, Output, Packet, Stats, Track, Tracks},
};
use timeline::REPORT_WAIT;

/// What is ready for a part may be this much older than a part is long before the part is closed by time.
const LATENESS: Duration = Duration::from_millis(50);
/// How long the newest frame waits for its successor, which ends it. After that the camera has paused: a gap.
const SUCCESSOR_WAIT: Duration = Duration::from_secs(10);
/// Between two requests for a keyframe.
const REQUEST_INTERVAL: Duration = Duration::from_secs(1);

const VIDEO: usize = 0;
const AUDIO: usize = 1;

fn slot(track: Track) -> usize {
    match track {
        Track::Video => VIDEO,
        Track::Audio => AUDIO,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Frames are held until their clocks can be set; since the first of them.
    Starting(Option<Instant>),
    Running,
    Done,
}

/// One room's recording while it runs. See the crate's documentation for the order of calls.
#[derive(Debug)]
pub struct Recording {
    config: Config,
    created: Instant,
    expected: Tracks,
    phase: Phase,
    lanes: [Lane; 2],
    /// Nanoseconds after `created` where the timeline begins.
    epoch: Option<i64>,
    entries: init::Tracks,
    /// Nanoseconds of the timeline where the open segment begins.
    segment_start: Option<i64>,
    segments: Segments,
    /// The recording that continues this one.
    next: Option<Continuation>,
    /// A reading of the wall clock, and its time.
    clock: (Instant, Timestamp),
    /// How long the media took from its source to here, in nanoseconds, by the source's clock.
    delay: i64,
    requested: Option<Instant>,
}

impl Recording {
    /// `expected`: the tracks that were negotiated; the first part waits for them, for at most a second.
    pub fn new(now: Instant, config: Config, description: Description, expected: Tracks) -> Self {
        let clock = (now, description.started_at);
        let segments = Segments::new(description, config.segment_duration);
        let lanes = [Lane::new(Track::Video, &config), Lane::new(Track::Audio, &config)];
        Recording {
            config,
            created: now,
            expected,
            phase: Phase::Starting(None),
            lanes,
            epoch: None,
            entries: init::Tracks::default(),
            segment_start: None,
            segments,
            next: None,
            clock,
            delay: 0,
            requested: None,
        }
    }

    /// Sets the recording that continues this one, without a frame between them lost: [`Output::Continue`] marks its
    /// beginning. There is none after that until the next call.
    pub fn continue_at(&mut self, next: Continuation) {
        self.next = Some(next);
    }

    /// A packet arrived, at `now` (when it was received, not when it was taken from a queue).
    pub fn handle_rtp(&mut self, now: Instant, packet: Packet<'_>) {
        let track = packet.codec.track();
        if self.phase == Phase::Done {
            return;
        }
        let lane = &self.lanes[slot(track)];
        if lane.source != Some(packet.source) {
            self.change_source(now, track, packet.source);
        } else if lane.ended {
            return;
        }
        self.lanes[slot(track)].insert(now, packet);
        self.drain(now, track);
    }

    /// A sender report of a track's source arrived: `ntp` in 32.32 fixed point, `rtp` the timestamp that it names.
    /// Reports of sources that have not sent a packet yet are ignored.
    pub fn handle_sender_report(&mut self, now: Instant, track: Track, source: u64, ntp: u64, rtp: u32) {
        let lane = &mut self.lanes[slot(track)];
        // RFC 3550 §6.4.1: a sender that knows no time says 0.
        if lane.source != Some(source) || ntp == 0 {
            return;
        }
        lane.note_report(ntp, rtp);
        match self.phase {
            Phase::Starting(_) => self.start_if_ready(now),
            Phase::Running => {
                self.align();
                // Later, dates that are given already would contradict it.
                if self.segments.stats().parts == 0 {
                    self.note_delay();
                }
            }
            Phase::Done => {}
        }
    }

    /// Packets of this track, the newest of which arrived at `now`, were thrown away on this side (the tap overflowed):
    /// do not wait for them.
    pub fn handle_dropped(&mut self, now: Instant, track: Track, reason: GapReason) {
        self.lanes[slot(track)].hear(now);
        for frame in self.lanes[slot(track)].last_frames(now) {
            self.handle_frame(now, track, frame);
        }
        self.lanes[slot(track)].lose(reason);
        self.request_keyframe(now);
    }

    /// The publisher left: what is held is given out and the segment closed. The recording waits for another publisher,
    /// or for `finish`.
    pub fn handle_source_end(&mut self, now: Instant) {
        if self.phase == Phase::Done {
            return;
        }
        for track in [Track::Video, Track::Audio] {
            for frame in self.lanes[slot(track)].last_frames(now) {
                self.handle_frame(now, track, frame);
            }
            let lane = &mut self.lanes[slot(track)];
            lane.ended = lane.source.is_some();
        }
        if matches!(self.phase, Phase::Starting(_)) {
            self.start();
        }
        [Track::Video, Track::Audio].into_iter().for_each(|track| self.mark_end(track));
        self.lanes.iter_mut().for_each(|lane| lane.end_run(None));
        self.flush(true, i64::MAX);
        self.segments.close(None);
        self.segment_start = None;
    }

    /// The output that `poll_output` gave last could not be carried out (disk full, failing). The caller drops it;
    /// `poll_output` gives no other of those that came with it. All that is not surely on the disk becomes a gap, and a
    /// new segment is begun with the next keyframe; that may fail the same way.
    pub fn handle_write_failed(&mut self, now: Instant) {
        self.segments.fail();
        self.segment_start = None;
        for lane in &mut self.lanes {
            lane.drop_samples(self.segments.safe(lane.track));
        }
        if self.phase == Phase::Done {
            // What is on disk by now is all there will be.
            [Track::Video, Track::Audio].into_iter().for_each(|track| self.mark_end(track));
            return self.segments.push(Output::Finished);
        }
        self.lanes.iter_mut().for_each(|lane| lane.lose(GapReason::Disk));
        self.request_keyframe(now);
    }

    /// Gaps that no part tells of: for [`crate::Ending`], after [`Output::Finished`].
    pub fn untold_gaps(&self) -> &[Gap] {
        self.segments.untold()
    }

    /// The publisher of the room, and with it the negotiated tracks, changed.
    pub fn set_expected(&mut self, now: Instant, expected: Tracks) {
        self.expected = expected;
        self.start_if_ready(now);
    }

    /// Lets time pass: call when [`Recording::poll_timeout`] is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.phase == Phase::Done {
            return;
        }
        self.drain(now, Track::Video);
        self.drain(now, Track::Audio);
        self.start_if_ready(now);
        let part_wait = self.part_wait();
        let mut flush = false;
        for lane in &mut self.lanes {
            let (_, tail) = lane.waiting_since();
            if tail.is_some_and(|tail| tail + SUCCESSOR_WAIT <= now) {
                lane.expire_tail();
            }
            let (ready, _) = lane.waiting_since();
            flush |= ready.is_some_and(|ready| ready + part_wait <= now);
        }
        if flush {
            self.flush(true, i64::MAX);
        }
    }

    /// When `handle_timeout` wants to be called, if at all. Ask again after every call.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Done {
            return None;
        }
        let start = match self.phase {
            Phase::Starting(Some(since)) => Some(since + if self.framed() { REPORT_WAIT } else { self.track_wait() }),
            _ => None,
        };
        let lanes = self.lanes.iter().flat_map(|lane| {
            let (ready, tail) = lane.waiting_since();
            let part = ready.map(|ready| ready + self.part_wait());
            [lane.deadline(), part, tail.map(|tail| tail + SUCCESSOR_WAIT)]
        });
        lanes.chain([start]).flatten().min()
    }

    /// The recording is over: everything held is given out, then [`Output::Finished`].
    pub fn finish(&mut self, now: Instant) {
        if self.phase == Phase::Done {
            return;
        }
        self.handle_source_end(now);
        self.phase = Phase::Done;
        self.segments.finish();
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.segments.poll()
    }

    /// Counts since the start.
    pub fn stats(&self) -> Stats {
        let malformed = self.lanes.iter().map(|lane| lane.malformed).sum();
        let held = self.lanes.iter().filter_map(|lane| lane.ready().map(|(from, to)| to - from)).max().unwrap_or(0);
        let held = Duration::from_nanos(u64::try_from(held).unwrap_or(0));
        Stats { malformed, held, ..self.segments.stats() }
    }

    /// What is missing of the track up to the end of its source becomes a gap.
    fn mark_end(&mut self, track: Track) {
        let Some(epoch) = self.epoch else { return };
        let epoch = self.created + Duration::from_nanos(u64::try_from(epoch).unwrap_or(0));
        if let Some(gap) = self.lanes[slot(track)].gap_at_end(epoch) {
            self.segments.gap(gap);
        }
    }

    /// Returns how long a sample waits for the rest of its part.
    fn part_wait(&self) -> Duration {
        self.config.part_duration + LATENESS
    }

    /// Returns the wall clock at `at`.
    fn wall(&self, at: Instant) -> Timestamp {
        let (read, wall) = self.clock;
        let moved = match at.checked_duration_since(read) {
            Some(later) => wall.checked_add(later),
            None => wall.checked_sub(read.saturating_duration_since(at)),
        };
        moved.unwrap_or(wall)
    }

    /// Returns the wall clock at a place of the timeline, in nanoseconds: dates of segments are as far apart as the segments.
    fn date(&self, at: i64) -> Timestamp {
        let after = self.epoch.unwrap_or(0).saturating_add(at).saturating_sub(self.delay);
        let distance = Duration::from_nanos(after.unsigned_abs());
        let instant = if after < 0 { self.created.checked_sub(distance) } else { self.created.checked_add(distance) };
        self.wall(instant.unwrap_or(self.created))
    }

    fn drain(&mut self, now: Instant, track: Track) {
        for frame in self.lanes[slot(track)].frames(now) {
            self.handle_frame(now, track, frame);
        }
        if self.lanes[slot(track)].wants_keyframe() {
            self.request_keyframe(now);
        }
    }

    fn request_keyframe(&mut self, now: Instant) {
        if self.lanes[VIDEO].source.is_some() && self.requested.is_none_or(|last| now >= last + REQUEST_INTERVAL) {
            self.requested = Some(now);
            self.segments.push(Output::RequestKeyframe);
        }
    }
}

#[cfg(test)]
mod clock_tests;
#[cfg(test)]
mod gap_tests;
#[cfg(test)]
mod rate_tests;
#[cfg(test)]
mod tests;
