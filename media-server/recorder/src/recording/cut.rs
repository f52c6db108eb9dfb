//! Where the timeline is cut into parts and segments.

use std::time::Instant;

use jiff::Timestamp;
use shiguredo_mp4::boxes::SampleEntry;

use super::{Recording, VIDEO, slot};
use crate::{
    clock::nanos,
    frames::Timed,
    lane::Lane,
    manifest::GapReason,
    mp4::same_format,
    types::{Description, Track},
};

impl Recording {
    /// Puts a frame onto the timeline, where it may begin a new segment.
    pub(super) fn place(&mut self, track: Track, frame: Timed) {
        let lane = &mut self.lanes[slot(track)];
        let Some(at) = lane.clock.as_ref().map(|clock| clock.at(frame.rtp)) else { return };
        let needs_keyframe = track == Track::Video && !frame.frame.keyframe;
        if lane.dropping && (needs_keyframe || at < nanos(lane.end, lane.rate)) {
            if track == Track::Video {
                lane.lose(GapReason::Source);
            }
            return;
        }
        lane.dropping = false;
        let changes = frame
            .frame
            .entry
            .as_ref()
            .is_some_and(|entry| self.entries.entry(track).is_some_and(|known| !same_format(known, entry)));
        let lane = &mut self.lanes[slot(track)];
        if changes && !lane.may_disturb(frame.arrival) {
            return lane.lose(GapReason::Loss);
        }
        let Some(place) = lane.locate(&frame) else { return };
        let at = nanos(place.dts, lane.rate);
        let resumes = lane.has_expired();
        // Before any part tells of what was before it: after a crash a gap is better told than not.
        if let Some(gap) = lane.gap_before(place.pts, frame.after_loss) {
            self.segments.gap(gap);
        }
        if resumes {
            self.resume(&frame);
        }
        if let Some(entry) = &frame.frame.entry
            && self.entries.entry(track).is_none_or(|known| !same_format(known, entry))
        {
            let entry = entry.clone();
            self.lanes[slot(track)].settle_before(place.dts, frame.arrival);
            self.adopt(track, &entry);
        }
        if self.next_begins(track, &frame) {
            self.lanes[slot(track)].settle_before(place.dts, frame.arrival);
            self.flush(true, at);
            self.begin_next(frame.arrival, at);
        } else if self.segment_ends(track, &frame, at) {
            self.lanes[slot(track)].settle_before(place.dts, frame.arrival);
            self.flush(true, at);
            let start = self.next_start(at);
            self.segments.close(Some(start as f64 / 1e9));
            self.segment_start = Some(start);
        }
        if self.segment_start.is_none() {
            self.segment_start = Some(self.next_start(at));
        }
        self.lanes[slot(track)].append(frame, place);
        self.flush(false, i64::MAX);
    }

    /// Returns where the segment of a frame at `at` starts; nanoseconds of the timeline. A frame of the main
    /// track that waits for its successor belongs to it.
    fn next_start(&self, at: i64) -> i64 {
        self.lanes[slot(self.entries.main())].tail_start().map_or(at, |waiting| waiting.min(at))
    }

    /// Returns whether the recording that continues this one begins with this frame.
    fn next_begins(&mut self, track: Track, frame: &Timed) -> bool {
        let Some(at) = self.next.as_ref().map(|next| next.at).filter(|at| frame.arrival >= *at) else { return false };
        // A recording without a frame could not be finished.
        if self.segments.stats().parts == 0 {
            return false;
        }
        // A picture that pauses does not hold up the sound.
        let alone = self.entries.video.is_none() || self.lanes[VIDEO].tail_start().is_none();
        let begins_well = frame.frame.keyframe && (track == Track::Video || alone);
        if !begins_well && track == Track::Video && frame.arrival >= at + self.config.segment_duration {
            self.request_keyframe(frame.arrival);
        }
        begins_well
    }

    /// Begins the recording that continues this one with a frame at `at`, nanoseconds of the timeline.
    fn begin_next(&mut self, arrival: Instant, at: i64) {
        let Some(next) = self.next.take() else { return };
        // Samples that wait for their successor belong to it.
        let start = self.lanes.iter().filter_map(Lane::tail_start).fold(at, i64::min);
        self.segments.close(Some(start as f64 / 1e9));
        self.clock = next.clock;
        // As finely as registries keep it.
        let started_at = self.wall(arrival);
        let started_at = Timestamp::from_microsecond(started_at.as_microsecond()).unwrap_or(started_at);
        let description = Description { id: next.id, started_at, ..self.segments.description().clone() };
        self.segments.continue_as(description, arrival, start);
        self.segment_start = Some(start);
    }

    /// Starts a new segment and timeline if this frame ends a pause of all tracks: a player cannot wait through it.
    fn resume(&mut self, frame: &Timed) {
        if self.lanes.iter().any(|lane| lane.tail_start().is_some()) {
            return;
        }
        self.flush(true, i64::MAX);
        self.segments.discontinue();
        self.segment_start = None;
        self.lanes.iter_mut().for_each(|lane| lane.fresh = true);
        if !frame.frame.keyframe {
            self.request_keyframe(frame.arrival);
        }
    }

    /// Starts new files: a track is coded like this from now on. Its own samples are settled before.
    pub(super) fn adopt(&mut self, track: Track, entry: &SampleEntry) {
        if self.entries.entry(track) == Some(entry) {
            return;
        }
        self.flush(true, i64::MAX);
        self.segments.close(None);
        self.segment_start = None;
        match track {
            Track::Video => self.entries.video = Some(entry.clone()),
            Track::Audio => self.entries.audio = Some(entry.clone()),
        }
    }

    /// At the first keyframe after the segment's duration, or at twice the duration without any.
    fn segment_ends(&self, track: Track, frame: &Timed, at: i64) -> bool {
        let Some(start) = self.segment_start else { return false };
        let begins_well = frame.frame.keyframe && (track == Track::Video || self.entries.video.is_none());
        let factor = if begins_well { 1 } else { 2 };
        at - start >= factor * i64::try_from(self.config.segment_duration.as_nanos()).unwrap_or(i64::MAX / 4)
    }

    /// Gives out parts: whole ones, or `all` that is ready and begins before `before` (nanoseconds of the timeline).
    pub(super) fn flush(&mut self, all: bool, before: i64) {
        let length = i64::try_from(self.config.part_duration.as_nanos()).unwrap_or(i64::MAX / 4);
        loop {
            let ready = || self.lanes.iter().filter_map(Lane::ready);
            let Some(start) = ready().map(|(from, _)| from).min().filter(|from| *from < before) else { return };
            // A sample that is longer than a part takes the other track's samples with it.
            let longest = self.lanes.iter().filter_map(|lane| lane.first_end(start)).max().unwrap_or(start);
            let limit = longest.max(start + length);
            let bytes: usize = self.lanes.iter().map(Lane::ready_bytes).sum();
            if !all && bytes < self.config.max_part_bytes && ready().all(|(_, to)| to < limit) {
                return;
            }
            let at = self.date(start);
            let [video, audio] = self.lanes.each_mut().map(|lane| {
                let mut samples = lane.take(start, limit, before, self.config.max_part_bytes);
                let origin = self.segments.origin(lane.track);
                samples.iter_mut().for_each(|sample| sample.dts -= origin);
                samples
            });
            let runs = [(Track::Video, &video[..]), (Track::Audio, &audio[..])];
            let runs: Vec<_> = runs.into_iter().filter(|(_, samples)| !samples.is_empty()).collect();
            if runs.is_empty() {
                return;
            }
            self.segments.part(&self.entries, &runs, at);
        }
    }
}
