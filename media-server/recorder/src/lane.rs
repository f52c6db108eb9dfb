//! One track on its way from packets to parts: order, frames, clock, and the samples that wait for their part.
//!
//! The newest sample waits alone (the tail): its duration is the distance to the next one, as in FFmpeg's `movenc` and
//! Shaka Packager. Only the last sample of a run, which has no successor, gets the distance before it. Audio missing
//! within a source is filled with silence: players count samples of audio, and would play everything after it too early.

mod gaps;

use std::time::{Duration, Instant};

use crate::{
    clock::{Clock, Report, nanos, since},
    decode_order::{DecodeOrder, make_room, stated_depth},
    depacketize::opus_silence,
    frames::{Assembler, Timed},
    manifest::GapReason,
    mp4::{part::Sample, timescale},
    pace::{Pace, Step},
    reorder::{Kept, Reorder},
    types::{Config, Packet, Track},
};

/// Longer silence is not filled in: the sample before it lasts as long.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
/// Ticks that the only frame of a run lasts: 1/30 s.
const USUAL_FRAME: u32 = 3000;
/// Nanoseconds between video and audio beyond which the picture is moved.
const APART: i64 = 50_000_000;
/// The same against arrival: delay may have been long at the start, and moving audio inserts silence or cuts.
const TOLERANCE: i64 = 200_000_000;
/// A gap is marked only where audio arrived within this many nanoseconds: a burst behind a stall brings one before the other.
const FRESH: i64 = 150_000_000;
/// A new timeline or coding makes new files: no more often than this.
const DISTURBANCE_INTERVAL: Duration = Duration::from_millis(500);

/// The newest sample.
#[derive(Debug)]
struct Tail {
    sample: Sample,
    arrival: Instant,
}

/// Where a frame belongs on the timeline, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) pts: i64,
    pub(crate) dts: i64,
}

/// One track.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) track: Track,
    pub(crate) rate: u32,
    pub(crate) source: Option<u64>,
    /// Its source has ended; what still comes of it is late.
    pub(crate) ended: bool,
    max_frame_bytes: usize,
    reorder: Reorder,
    assembler: Option<Assembler>,
    pub(crate) clock: Option<Clock>,
    pub(crate) report: Option<Report>,
    /// Frames that wait for the clocks to be set.
    pub(crate) held: Vec<Timed>,
    pub(crate) order: DecodeOrder,
    pace: Pace,
    /// Nanoseconds by which reports want this track later than arrival.
    pub(crate) bias: i64,
    /// Frames are dropped up to the end of the samples: its clock went back.
    pub(crate) dropping: bool,
    /// Its timestamps have jumped, and its clock gets another anchor at the next keyframe.
    pub(crate) jumped: bool,
    /// Its clock was given another anchor before the next frame.
    pub(crate) reclocked: bool,
    /// A gap was marked because video is far off audio.
    astray: bool,
    /// Arrival of the newest frame that was placed.
    placed: Option<Instant>,
    /// When its timeline was begun anew, or its coding changed.
    pub(crate) disturbed: Option<Instant>,
    ready: Vec<Sample>,
    ready_since: Option<Instant>,
    tail: Option<Tail>,
    /// Ticks: where the samples end that have a duration.
    pub(crate) end: i64,
    /// Nothing was recorded yet that the next sample could continue.
    pub(crate) fresh: bool,
    /// Ticks between the last two frames that no gap separates.
    usual: u32,
    /// No frame followed the newest sample in time: the next one ends a gap.
    expired: bool,
    /// The tail is followed by a gap: how far the next frame is tells nothing.
    before_gap: bool,
    /// The next sample comes after a gap, for this reason.
    pub(crate) gap: Option<GapReason>,
    /// Why the next loss happens.
    reason: GapReason,
    /// Ticks: the next gap begins here, not where the samples end.
    missing_from: Option<i64>,
    /// When its newest packet came, or the newest of those that were thrown away.
    heard: Option<Instant>,
    pub(crate) malformed: u64,
}

impl Lane {
    pub(crate) fn new(track: Track, config: &Config) -> Self {
        Lane {
            track,
            rate: timescale(track),
            source: None,
            ended: false,
            max_frame_bytes: config.max_frame_bytes,
            reorder: Reorder::new(config.reorder_window, config.max_reorder_packets),
            assembler: None,
            clock: None,
            report: None,
            held: Vec::new(),
            order: DecodeOrder::default(),
            pace: Pace::default(),
            bias: 0,
            dropping: false,
            jumped: false,
            reclocked: false,
            astray: false,
            placed: None,
            disturbed: None,
            ready: Vec::new(),
            ready_since: None,
            tail: None,
            end: 0,
            fresh: true,
            usual: if track == Track::Video { USUAL_FRAME } else { 960 },
            expired: false,
            before_gap: false,
            gap: None,
            reason: GapReason::Loss,
            missing_from: None,
            heard: None,
            malformed: 0,
        }
    }

    /// Another publisher: nothing of the old one's timing holds.
    pub(crate) fn change_source(&mut self, source: u64) {
        if self.source.is_some() {
            self.gap = Some(GapReason::Source);
        }
        self.source = Some(source);
        self.ended = false;
        self.reorder.restart();
        self.assembler = None;
        self.clock = None;
        self.report = None;
        self.order = DecodeOrder::default();
        self.pace = Pace::default();
        self.bias = 0;
        self.dropping = false;
        self.jumped = false;
        self.placed = None;
        self.expired = false;
    }

    /// Something of it came, whether it was kept or not.
    pub(crate) fn hear(&mut self, now: Instant) {
        self.heard = self.heard.max(Some(now));
    }

    pub(crate) fn insert(&mut self, now: Instant, packet: Packet<'_>) {
        self.hear(now);
        self.assembler.get_or_insert_with(|| Assembler::new(packet.codec, self.max_frame_bytes));
        let Packet { codec, timestamp, marker, payload, .. } = packet;
        self.reorder.insert(packet.index, Kept { arrival: now, codec, timestamp, marker, payload: payload.to_vec() });
    }

    /// The frames that are whole and in order now.
    pub(crate) fn frames(&mut self, now: Instant) -> Vec<Timed> {
        let Some(assembler) = &mut self.assembler else { return Vec::new() };
        while let Some((packet, hole)) = self.reorder.pop(now) {
            assembler.push(&packet, hole);
        }
        self.malformed += assembler.take_malformed();
        assembler.pop()
    }

    /// The frames that are left; nothing is waited for. Then order starts anew.
    pub(crate) fn last_frames(&mut self, now: Instant) -> Vec<Timed> {
        self.reorder.flush();
        let mut frames = self.frames(now);
        self.reorder.restart();
        if let Some(assembler) = &mut self.assembler {
            assembler.finish();
            frames.extend(assembler.pop());
        }
        frames
    }

    /// What comes next does not follow what was before, for this reason.
    pub(crate) fn lose(&mut self, reason: GapReason) {
        self.reason = reason;
        if let Some(assembler) = &mut self.assembler {
            assembler.lose();
        }
    }

    pub(crate) fn wants_keyframe(&self) -> bool {
        self.assembler.as_ref().is_some_and(Assembler::wants_keyframe)
    }

    /// Whether this frame's timestamp cannot belong to the timeline of the ones before. `created`, `epoch` and `reference`:
    /// see [`Lane::error`].
    pub(crate) fn jumps(
        &mut self,
        frame: &mut Timed,
        created: Instant,
        epoch: Option<i64>,
        reference: Option<(i64, Instant)>,
    ) -> bool {
        if let Some(stated) = frame.frame.entry.as_ref().and_then(stated_depth) {
            self.order.adopt_depth(stated);
            self.pace.adopt_depth(stated);
        }
        let step = self.pace.observe(frame.rtp, self.rate, frame.arrival, created);
        frame.rtp += self.pace.skipped();
        if step == Step::Jump {
            return true;
        }
        let is_fresh = reference.is_some_and(|(_, at)| since(frame.arrival, at) <= FRESH);
        let Some(error) =
            epoch.and_then(|epoch| self.error(epoch)).map(|error| error - reference.map_or(0, |(error, _)| error))
        else {
            return false;
        };
        // How long before it is shown a reordered frame is sent changes with the frame rate: reports are exact.
        if !self.order.is_stated() || self.report.is_none() {
            self.correct(error, reference.is_some(), is_fresh);
        }
        let lost = self.pace.is_lost(error, frame.arrival);
        if lost {
            self.pace.restart(frame.rtp, self.rate, frame.arrival, created);
        }
        lost
    }

    /// Steers the clock against an error in nanoseconds, and marks a gap where that can be perceived.
    fn correct(&mut self, error: i64, has_reference: bool, is_fresh: bool) {
        let tolerance = if has_reference { APART } else { TOLERANCE };
        if error.abs() > tolerance
            && let Some(clock) = &mut self.clock
        {
            clock.steer(error);
        }
        // Perceptible, so it is marked, although nothing is missing.
        if is_fresh && error.abs() > TOLERANCE {
            if !std::mem::replace(&mut self.astray, true) {
                self.reclocked = true;
                self.gap.get_or_insert(GapReason::Source);
            }
        } else if error.abs() <= APART {
            self.astray = false;
        }
    }

    /// Returns the arrival of its newest frame.
    pub(crate) fn newest(&self) -> Option<Instant> {
        self.pace.last().map(|(_, arrival)| arrival)
    }

    /// Returns the unwrapped timestamp of its newest frame.
    pub(crate) fn newest_timestamp(&self) -> Option<i64> {
        self.pace.last().map(|(rtp, _)| rtp)
    }

    /// Keeps a sender report of its source. Those of a stopped clock are ignored.
    pub(crate) fn note_report(&mut self, ntp: u64, rtp: u32) {
        if self.pace.is_still() {
            self.report = None;
            self.bias = 0;
            return;
        }
        self.report = Some(Report { ntp, rtp: rtp.wrapping_add(self.pace.skipped() as u32) });
    }

    /// Returns the nanoseconds by which the track is later on the timeline than by arrival and reports; `None` before
    /// it has a clock. `epoch`: nanoseconds from the recording's creation to the timeline's start.
    pub(crate) fn error(&self, epoch: i64) -> Option<i64> {
        let placed = self.clock.as_ref()?.shift();
        Some(self.pace.ahead()?.saturating_add(placed).saturating_add(epoch).saturating_sub(self.bias))
    }

    /// Whether new files may be made for this track's sake, after the last time.
    pub(crate) fn may_disturb(&mut self, now: Instant) -> bool {
        let may = self.disturbed.is_none_or(|last| now.saturating_duration_since(last) >= DISTURBANCE_INTERVAL);
        if may {
            self.disturbed = Some(now);
        }
        may
    }

    /// Returns the place of the next frame, and moves the clock towards its target.
    pub(crate) fn locate(&mut self, timed: &Timed) -> Option<Place> {
        let clock = self.clock.as_mut()?;
        let passed = self.placed.map_or(0, |placed| since(timed.arrival, placed));
        self.placed = self.placed.max(Some(timed.arrival));
        let pts = clock.advance(timed.rtp, passed);
        let dts = if self.track == Track::Video { self.order.decode_time(pts) } else { pts };
        let floor = |lane: &Lane| lane.tail.as_ref().map_or(lane.end, |tail| tail.sample.dts + 1);
        if dts < floor(self) && self.order.is_reordered() {
            self.move_before(dts);
        }
        Some(Place { pts, dts: dts.max(floor(self)) })
    }

    /// Moves the samples that wait, so that the next one can be decoded at `dts`.
    fn move_before(&mut self, dts: i64) {
        let Some(Tail { sample, arrival }) = self.tail.take() else { return };
        self.ready.push(sample);
        if make_room(&mut self.ready, dts) {
            self.end = self.ready.last().map_or(self.end, |tail| tail.dts);
        }
        self.tail = self.ready.pop().map(|sample| Tail { sample: Sample { duration: 0, ..sample }, arrival });
    }

    /// Puts a frame on the timeline.
    pub(crate) fn append(&mut self, timed: Timed, Place { pts, dts }: Place) {
        self.settle_tail_at(dts, timed.arrival);
        self.before_gap = false;
        self.fresh = false;
        let sample = Sample {
            data: timed.frame.data,
            dts,
            duration: timed.frame.duration.unwrap_or(0),
            cts: i32::try_from(pts - dts).unwrap_or(0),
            sync: timed.frame.keyframe,
        };
        self.tail = Some(Tail { sample, arrival: timed.arrival });
    }

    /// Returns the duration of a tail without a successor.
    fn tail_duration(&self, sample: &Sample) -> u32 {
        if sample.duration > 0 { sample.duration } else { self.usual }
    }

    /// Settles the tail: the next sample starts at `dts`. Fills missing audio.
    fn settle_tail_at(&mut self, dts: i64, now: Instant) {
        if let Some(Tail { mut sample, arrival }) = self.tail.take() {
            let until_next = u32::try_from(dts - sample.dts).unwrap_or(u32::MAX);
            if self.track == Track::Video {
                if !std::mem::take(&mut self.before_gap) {
                    self.usual = until_next.min(self.rate * 10);
                }
                sample.duration = until_next;
            } else {
                sample.duration = self.tail_duration(&sample).min(until_next);
            }
            self.push_ready(sample, arrival);
        }
        if self.track == Track::Audio && !self.fresh {
            self.fill(dts, now);
        }
    }

    fn fill(&mut self, until: i64, now: Instant) {
        if nanos(until - self.end, self.rate) > LONGEST_SILENCE.as_nanos() as i64 {
            return self.stretch(until);
        }
        while let Some((packet, duration)) = opus_silence(u64::try_from(until - self.end).unwrap_or(0)) {
            let sample = Sample { data: packet.to_vec(), dts: self.end, duration, cts: 0, sync: true };
            self.push_ready(sample, now);
        }
        self.stretch(until);
    }

    /// The last sample lasts until then, if it still can be changed.
    fn stretch(&mut self, until: i64) {
        if let Some(last) = self.ready.last_mut() {
            last.duration = u32::try_from(until - last.dts).unwrap_or(u32::MAX);
            self.end = last.dts + i64::from(last.duration);
        }
    }

    fn push_ready(&mut self, sample: Sample, arrival: Instant) {
        self.end = sample.dts + i64::from(sample.duration);
        self.ready_since.get_or_insert(arrival);
        self.ready.push(sample);
    }

    /// Settles the tail, the last sample of its run: it lasts as long as the distance before it, or until the next run
    /// starts (ticks) if that is earlier.
    pub(crate) fn end_run(&mut self, next: Option<i64>) {
        let Some(Tail { mut sample, arrival }) = self.tail.take() else { return };
        let usual = self.tail_duration(&sample);
        sample.duration = match next.map(|next| next - sample.dts) {
            Some(distance) if distance > 0 => usual.min(u32::try_from(distance).unwrap_or(u32::MAX)),
            // The next run overlaps this one, and is moved behind it.
            Some(_) if self.track == Track::Video => usual.min(USUAL_FRAME),
            _ => usual,
        };
        self.push_ready(sample, arrival);
    }

    /// Ends the run: no frame followed the tail in time.
    pub(crate) fn expire_tail(&mut self) {
        self.end_run(None);
        self.expired = true;
    }

    /// Returns whether no frame has followed the newest sample in time.
    pub(crate) fn has_expired(&self) -> bool {
        self.expired
    }

    /// Settles the tail before a frame at `dts` that does not belong to the same part.
    pub(crate) fn settle_before(&mut self, dts: i64, now: Instant) {
        if self.tail.is_some() {
            self.settle_tail_at(dts, now);
        }
    }

    /// Returns where the tail starts, in nanoseconds of the timeline.
    pub(crate) fn tail_start(&self) -> Option<i64> {
        self.tail.as_ref().map(|tail| nanos(tail.sample.dts, self.rate))
    }

    /// Returns the arrival of the oldest sample that waits for its part, and that of the tail.
    pub(crate) fn waiting_since(&self) -> (Option<Instant>, Option<Instant>) {
        (self.ready_since, self.tail.as_ref().map(|tail| tail.arrival))
    }

    /// Nanoseconds of the timeline: from where to where samples are ready.
    pub(crate) fn ready(&self) -> Option<(i64, i64)> {
        let (first, last) = (self.ready.first()?, self.ready.last()?);
        Some((nanos(first.dts, self.rate), nanos(last.dts + i64::from(last.duration), self.rate)))
    }

    /// Returns where the first sample that is ready ends, in nanoseconds of the timeline, if it starts at `start`.
    pub(crate) fn first_end(&self, start: i64) -> Option<i64> {
        let first = self.ready.first().filter(|first| nanos(first.dts, self.rate) == start)?;
        Some(nanos(first.dts + i64::from(first.duration), self.rate))
    }

    pub(crate) fn ready_bytes(&self) -> usize {
        self.ready.iter().map(|sample| sample.data.len()).sum()
    }

    /// Samples for a part that begins at `start`: up to `limit` and `bytes`, and before `before`; nanoseconds.
    pub(crate) fn take(&mut self, start: i64, limit: i64, before: i64, bytes: usize) -> Vec<Sample> {
        let mut room = bytes;
        let count = self.ready.iter().take_while(|sample| {
            let begin = nanos(sample.dts, self.rate);
            let end = nanos(sample.dts + i64::from(sample.duration), self.rate);
            let fits = end <= limit && sample.data.len() <= room || begin == start && room == bytes;
            room = room.saturating_sub(sample.data.len().max(1));
            fits && begin < before
        });
        let count = count.count();
        let taken: Vec<Sample> = self.ready.drain(..count).collect();
        if self.ready.is_empty() {
            self.ready_since = None;
        } else if let (Some(since), Some(first), Some(next)) = (self.ready_since, taken.first(), self.ready.first()) {
            // Not what was measured, but near: these arrived as they follow each other.
            let later = nanos(next.dts - first.dts, self.rate);
            self.ready_since = Some(since + Duration::from_nanos(u64::try_from(later).unwrap_or(0)));
        }
        taken
    }

    /// Samples that were not given out are lost, and so are those that were, from `safe` (ticks) on.
    pub(crate) fn drop_samples(&mut self, safe: i64) {
        self.ready.clear();
        self.ready_since = None;
        self.tail = None;
        self.expired = false;
        self.fresh = true;
        if self.source.is_some() {
            self.missing_from = Some(self.missing_from.map_or(safe, |from| from.min(safe)));
            self.gap = Some(GapReason::Disk);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.reorder.deadline()
    }
}
