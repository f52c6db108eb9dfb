//! Which source's frames lie where on the timeline: anchored by arrival and sender reports once all tracks are there,
//! and anew when a source or its timestamps change.

use std::time::{Duration, Instant};

use super::{AUDIO, Phase, Recording, VIDEO, slot};
use crate::{
    clock::{self, Clock, nanos},
    frames::Timed,
    lane::Lane,
    manifest::GapReason,
    types::Track,
};

/// The first frames wait so long for sender reports, so that sound and picture begin aligned …
pub(super) const REPORT_WAIT: Duration = Duration::from_millis(600);
/// … and so long for a track that was negotiated.
pub(super) const TRACK_WAIT: Duration = Duration::from_secs(1);
/// A clock set back by at most this continues at the end of the last one; beyond it, media is dropped until there.
const SQUEEZED: i64 = 200_000_000;
/// Nanoseconds from the epoch of NTP, 1900, to that of Unix.
const NTP_EPOCH: i128 = 2_208_988_800_000_000_000;
/// Nanoseconds between a source's clock and arrival that a synchronized clock and a network explain.
const PLAUSIBLE_DELAY: i64 = 2_000_000_000;
const PLAUSIBLE_LEAD: i64 = 50_000_000;
/// How long audio waits for the first picture, so that one init segment has both.
const PICTURE_WAIT: Duration = Duration::from_secs(5);

impl Recording {
    pub(super) fn change_source(&mut self, now: Instant, track: Track, source: u64) {
        for frame in self.lanes[slot(track)].last_frames(now) {
            self.handle_frame(now, track, frame);
        }
        self.place_rest(track);
        self.mark_end(track);
        self.lanes[slot(track)].change_source(source);
        if self.phase == Phase::Running {
            self.phase = Phase::Starting(Some(now));
        }
    }

    pub(super) fn handle_frame(&mut self, now: Instant, track: Track, mut frame: Timed) {
        let reference = self.reference(track);
        let lane = &mut self.lanes[slot(track)];
        let jumped = lane.jumps(&mut frame, self.created, self.epoch, reference) || lane.jumped;
        if jumped && lane.clock.is_some() {
            // Until the next keyframe, frames of both timelines mix in decoding order.
            if lane.order.is_reordered() && !frame.frame.keyframe {
                lane.jumped = true;
                return lane.lose(GapReason::Source);
            }
            lane.jumped = false;
            if !lane.may_disturb(now) {
                return lane.lose(GapReason::Loss);
            }
            self.place_rest(track);
            let lane = &mut self.lanes[slot(track)];
            lane.clock = None;
            lane.report = None;
            lane.gap = Some(GapReason::Source);
            lane.dropping = true;
            lane.reclocked = true;
            self.phase = Phase::Starting(Some(now));
        }
        match &mut self.phase {
            Phase::Starting(since) => {
                since.get_or_insert(frame.arrival);
                self.lanes[slot(track)].held.push(frame);
                self.start_if_ready(now);
            }
            Phase::Running if self.lanes[slot(track)].clock.is_none() => {
                self.lanes[slot(track)].held.push(frame);
                self.start();
            }
            Phase::Running => self.place(track, frame),
            Phase::Done => {}
        }
    }

    /// The lanes that frames are to be expected of.
    fn needed(&self) -> impl Iterator<Item = &Lane> {
        let expected = [self.expected.video, self.expected.audio];
        self.lanes
            .iter()
            .zip(expected)
            .filter(|(lane, expected)| *expected || !lane.held.is_empty())
            .map(|(lane, _)| lane)
    }

    pub(super) fn framed(&self) -> bool {
        self.needed().all(|lane| lane.held.len() > lane.order.depth())
    }

    /// Returns how long the start waits for a negotiated track.
    pub(super) fn track_wait(&self) -> Duration {
        let first_picture = self.epoch.is_none() && self.expected.video && self.lanes[VIDEO].held.is_empty();
        if first_picture { PICTURE_WAIT } else { TRACK_WAIT }
    }

    /// Returns the error that a track is to share, and when it was last measured: video follows audio.
    fn reference(&self, track: Track) -> Option<(i64, Instant)> {
        let epoch = self.epoch.filter(|_| track == Track::Video)?;
        Some((self.lanes[AUDIO].error(epoch)?, self.lanes[AUDIO].newest()?))
    }

    pub(super) fn start_if_ready(&mut self, now: Instant) {
        let Phase::Starting(Some(since)) = self.phase else { return };
        let waited = now.saturating_duration_since(since);
        let reported =
            self.needed().count() < 2 || self.needed().all(|lane| lane.report.is_some() || lane.clock.is_some());
        if self.framed() && (reported || waited >= REPORT_WAIT) || waited >= self.track_wait() {
            self.start();
        }
    }

    /// Sets the clocks of the tracks that have none and puts what was held onto the timeline.
    pub(super) fn start(&mut self) {
        let joining = [VIDEO, AUDIO].map(|slot| self.lanes[slot].clock.is_none() && !self.lanes[slot].held.is_empty());
        let mut times = [0, 1].map(|slot| if joining[slot] { self.arrival_time(slot) } else { 0 });
        if joining == [true, true] {
            let of = |lane: &Lane, at| Some((lane.report?, lane.held.first()?.rtp, at));
            let [video, audio] = &self.lanes;
            if let (Some(picture), Some(sound)) = (of(video, times[VIDEO]), of(audio, times[AUDIO])) {
                let correction = clock::correction(picture, sound, (video.rate, audio.rate)).unwrap_or(0);
                times[VIDEO] += correction;
                self.lanes[VIDEO].bias = correction;
            }
        } else if joining[VIDEO] {
            times[VIDEO] += self.reference(Track::Video).map_or(0, |(error, _)| error) + self.lanes[VIDEO].bias;
        }
        if joining != [false, false] {
            let joined = [VIDEO, AUDIO].into_iter().filter(|&slot| joining[slot]);
            if let Some(epoch) = self.epoch {
                let again = joined.clone().any(|slot| !self.lanes[slot].fresh);
                if again {
                    for slot in joined.clone() {
                        let lane = &mut self.lanes[slot];
                        lane.end_run(Some(clock::ticks(times[slot] - epoch, lane.rate)));
                    }
                    self.flush(true, i64::MAX);
                    self.segments.discontinue();
                    self.segment_start = None;
                }
                // Not before the end of what was: a source's clock may have run ahead of ours.
                let short = [VIDEO, AUDIO]
                    .map(|slot| nanos(self.lanes[slot].end, self.lanes[slot].rate) - (times[slot] - epoch));
                for slot in joined.clone() {
                    self.lanes[slot].dropping &= short[slot] > SQUEEZED;
                }
                let shifted = joined.clone().filter(|&slot| !self.lanes[slot].dropping);
                let shift = shifted.map(|slot| short[slot]).max().unwrap_or(0).max(0);
                times = times.map(|time| time + shift);
            }
            let first = joined.clone().map(|slot| times[slot]).min().unwrap_or(0);
            let epoch = *self.epoch.get_or_insert(first);
            for slot in joined {
                let lane = &mut self.lanes[slot];
                let rtp = lane.held.first().map_or(0, |frame| frame.rtp);
                lane.clock = Some(Clock::new(lane.rate, rtp, times[slot] - epoch));
                lane.order.restart();
                lane.fresh = true;
            }
            self.note_delay();
        }
        self.phase = Phase::Running;
        self.place_held();
        self.align();
    }

    /// Stores the delay of the media by a sender report of the video, or else of the audio.
    pub(super) fn note_delay(&mut self) {
        if let Some(delay) = [VIDEO, AUDIO].into_iter().find_map(|slot| self.delay_by_report(slot)) {
            self.delay = delay;
        }
    }

    /// Returns how long the newest frame of a track took from its source to here, in nanoseconds. None when the source's
    /// clock cannot be right.
    fn delay_by_report(&self, slot: usize) -> Option<i64> {
        let (lane, epoch) = (&self.lanes[slot], self.epoch?);
        let (report, clock, rtp) = (lane.report?, lane.clock.as_ref()?, lane.newest_timestamp()?);
        let at = clock.at(rtp).saturating_add(epoch);
        let arrived = self.wall(self.created + Duration::from_nanos(u64::try_from(at).ok()?));
        // Seconds have 32 bits in NTP.
        let era = 1_000_000_000i128 << 32;
        let delay = (arrived.as_nanosecond() + NTP_EPOCH - report.wall(rtp, lane.rate)).rem_euclid(era);
        let delay = i64::try_from(if delay > era / 2 { delay - era } else { delay }).ok()?;
        (-PLAUSIBLE_LEAD..=PLAUSIBLE_DELAY).contains(&delay).then_some(delay)
    }

    /// When the first held frame of a lane happened, by the quickest of the held ones: nanoseconds since `created`.
    fn arrival_time(&self, slot: usize) -> i64 {
        let lane = &self.lanes[slot];
        let Some(first) = lane.held.first() else { return 0 };
        let time = |frame: &Timed| clock::since(frame.arrival, self.created) - nanos(frame.rtp - first.rtp, lane.rate);
        let settled = lane.held.iter().skip(lane.order.depth()).map(time).min();
        settled.unwrap_or_else(|| time(first))
    }

    /// What is held of a track goes onto its old timeline, before it gets a new one.
    fn place_rest(&mut self, track: Track) {
        let lane = &mut self.lanes[slot(track)];
        if lane.clock.is_some() {
            for frame in std::mem::take(&mut lane.held) {
                self.place(track, frame);
            }
        } else if !lane.held.is_empty() {
            self.start();
        }
    }

    fn place_held(&mut self) {
        // First how all tracks are coded, so that they begin in one init segment.
        for track in [Track::Video, Track::Audio] {
            let lane = &self.lanes[slot(track)];
            // The coding of a run that continues changes in its order.
            let first = lane.held.first().filter(|_| lane.tail_start().is_none());
            if let Some(entry) = first.and_then(|frame| frame.frame.entry.clone()) {
                self.adopt(track, &entry);
            }
        }
        let mut held: Vec<(i64, Track, Timed)> = Vec::new();
        for lane in &mut self.lanes {
            let Some(clock) = &lane.clock else { continue };
            // Frames of a track keep their order: B-frames refer to frames that are presented after them.
            let mut newest = i64::MIN;
            held.extend(std::mem::take(&mut lane.held).into_iter().map(|frame| {
                newest = newest.max(clock.at(frame.rtp));
                (newest, lane.track, frame)
            }));
        }
        held.sort_by_key(|(at, ..)| *at);
        for (_, track, frame) in held {
            self.place(track, frame);
        }
    }

    /// Moves the picture towards the sound, when reports of both are there.
    pub(super) fn align(&mut self) {
        let [video, audio] = &mut self.lanes;
        if let (Some(picture), Some(report)) = (&mut video.clock, video.report)
            && let (Some(sound), Some(other)) = (&audio.clock, audio.report)
        {
            let by_reports = picture.follow(report, sound, other);
            let epoch = self.epoch.unwrap_or(0);
            if let (Some(by_reports), Some(error), Some(reference)) =
                (by_reports, video.error(epoch), audio.error(epoch))
            {
                video.bias += error - reference - by_reports;
            }
        }
    }
}
