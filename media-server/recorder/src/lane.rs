//! One track on its way from packets to parts: order, frames, clock, and the samples that wait for their part.
//!
//! The newest sample waits alone (the tail): how long it lasts is known when the next one comes. Sound that is missing
//! within a source is filled with silence: players count sound, and would else play everything after it too early.

use std::time::{Duration, Instant};

use crate::{
    clock::{Clock, Report, nanos, seconds, since, ticks},
    depacketize::opus_silence,
    frames::{Assembler, Timed},
    manifest::{Gap, GapReason},
    mp4::{part::Sample, timescale},
    reorder::{Kept, Reorder},
    types::{Config, Packet, Track},
};

/// Longer silence is not filled in: the sample before it lasts as long.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
/// A video frame's duration, in ticks, as long as nothing better is known: 1/30 s.
const USUAL_FRAME: u32 = 3000;
/// A timestamp that is off by more than this against arrival, or goes back by more than [`BACK`], begins a new timeline.
const JUMP: i64 = 10_000_000_000;
const BACK: i64 = 1_000_000_000;
/// A media clock may be wrong by one in this many.
const DRIFT: i64 = 200;
/// A new timeline or coding makes new files: no more often than this.
const DISTURBANCE_INTERVAL: Duration = Duration::from_millis(500);

/// The newest sample.
#[derive(Debug)]
struct Tail {
    sample: Sample,
    arrival: Instant,
}

/// How timestamps go, against arrival.
#[derive(Clone, Copy, Debug)]
struct Pace {
    rtp: i64,
    arrival: Instant,
    last: (i64, Instant),
    /// Nanoseconds that media is ahead of arrival since `rtp`, as far as drift explains it.
    ahead: i64,
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
    pace: Option<Pace>,
    /// When its timeline was begun anew, or its coding changed.
    pub(crate) disturbed: Option<Instant>,
    ready: Vec<Sample>,
    ready_since: Option<Instant>,
    tail: Option<Tail>,
    /// Ticks: where the samples end that have a duration.
    pub(crate) end: i64,
    /// Nothing was recorded yet that the next sample could continue.
    pub(crate) fresh: bool,
    /// Ticks between the last two frames.
    usual: u32,
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
            pace: None,
            disturbed: None,
            ready: Vec::new(),
            ready_since: None,
            tail: None,
            end: 0,
            fresh: true,
            usual: if track == Track::Video { USUAL_FRAME } else { 960 },
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
        self.pace = None;
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

    /// Whether this frame's timestamp cannot belong to the timeline of the ones before.
    pub(crate) fn jumps(&mut self, frame: &Timed) -> bool {
        let start = Pace { rtp: frame.rtp, arrival: frame.arrival, last: (frame.rtp, frame.arrival), ahead: 0 };
        let pace = self.pace.get_or_insert(start);
        let media = nanos(frame.rtp - pace.rtp, self.rate);
        let ahead = media.saturating_sub(since(frame.arrival, pace.arrival));
        let back = nanos(frame.rtp - pace.last.0, self.rate) < -BACK;
        if back || ahead.saturating_sub(pace.ahead).abs() > JUMP {
            self.pace = Some(start);
            return true;
        }
        let most = since(frame.arrival, pace.last.1).max(0) / DRIFT;
        pace.ahead += (ahead - pace.ahead).clamp(-most, most);
        pace.last = (frame.rtp, frame.arrival);
        false
    }

    /// Whether new files may be made for this track's sake, after the last time.
    pub(crate) fn may_disturb(&mut self, now: Instant) -> bool {
        let may = self.disturbed.is_none_or(|last| now.saturating_duration_since(last) >= DISTURBANCE_INTERVAL);
        if may {
            self.disturbed = Some(now);
        }
        may
    }

    /// The gap that this frame ends, if there is one. To be asked before the tail is settled for it.
    pub(crate) fn gap_before(&mut self, timed: &Timed) -> Option<Gap> {
        let to = timed.rtp + self.clock.as_ref()?.offset();
        let reason = match self.gap.take() {
            Some(reason) => reason,
            None if timed.after_loss => self.reason,
            None => return None,
        };
        self.before_gap = true;
        self.reason = GapReason::Loss;
        let from = self.missing_from();
        self.missing_from = None;
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
    fn missing_from(&self) -> i64 {
        let tail_end = |tail: &Tail| tail.sample.dts + i64::from(self.tail_duration(&tail.sample));
        self.missing_from.unwrap_or_else(|| self.tail.as_ref().map_or(self.end, tail_end))
    }

    /// Ticks of the timeline that what came at `at` belongs to, as far as can be known without a frame.
    fn place_of(&self, at: Instant, epoch: Instant) -> i64 {
        match (&self.clock, &self.pace) {
            (Some(clock), Some(pace)) => {
                let (rtp, arrival) = pace.last;
                rtp + clock.offset() + ticks(since(at, arrival), self.rate)
            }
            _ => ticks(since(at, epoch), self.rate),
        }
    }

    /// Puts a frame on the timeline.
    pub(crate) fn append(&mut self, timed: Timed) {
        let Some(clock) = &mut self.clock else { return };
        let pts = clock.advance(timed.rtp);
        let floor = self.tail.as_ref().map_or(self.end, |tail| tail.sample.dts + 1);
        let dts = pts.max(floor);
        self.settle_tail_at(dts, timed.arrival);
        self.before_gap = false;
        self.fresh = false;
        let sample = Sample {
            data: timed.frame.data,
            dts,
            duration: timed.frame.duration.unwrap_or(0),
            cts: (pts - dts).clamp(i64::from(i32::MIN), 0) as i32,
            sync: timed.frame.keyframe,
        };
        self.tail = Some(Tail { sample, arrival: timed.arrival });
    }

    /// What the tail lasts by itself.
    fn tail_duration(&self, sample: &Sample) -> u32 {
        if sample.duration > 0 { sample.duration } else { self.usual }
    }

    /// The next sample begins at `dts`: so the tail's duration is known, and what sound is missing.
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

    /// Nothing follows the tail, or not for some time: it lasts as long as is usual.
    pub(crate) fn settle_tail(&mut self) {
        if let Some(Tail { mut sample, arrival }) = self.tail.take() {
            sample.duration = self.tail_duration(&sample);
            self.push_ready(sample, arrival);
        }
    }

    /// The next frame, of `rtp`, begins what does not belong to the part before: the tail lasts until there.
    pub(crate) fn settle_before(&mut self, rtp: i64, now: Instant) {
        let Some(clock) = &self.clock else { return };
        let at = rtp + clock.offset();
        if let Some(tail) = &self.tail
            && at > tail.sample.dts
        {
            self.settle_tail_at(at, now);
        }
    }

    /// Arrival of the oldest sample that waits for its part, without and with the tail.
    pub(crate) fn waiting_since(&self) -> (Option<Instant>, Option<Instant>) {
        (self.ready_since, self.tail.as_ref().map(|tail| tail.arrival))
    }

    /// Nanoseconds of the timeline: from where to where samples are ready.
    pub(crate) fn ready(&self) -> Option<(i64, i64)> {
        let (first, last) = (self.ready.first()?, self.ready.last()?);
        Some((nanos(first.dts, self.rate), nanos(last.dts + i64::from(last.duration), self.rate)))
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
