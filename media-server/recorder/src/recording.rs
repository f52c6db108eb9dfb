//! The recording while it runs: brings the tracks onto one timeline, and cuts it into parts and segments.

use std::time::{Duration, Instant};

use shiguredo_mp4::boxes::SampleEntry;

use crate::{
    clock::{self, Clock, Report, nanos},
    frames::Timed,
    lane::Lane,
    manifest::GapReason,
    mp4::init,
    segments::Segments,
    types::{Config, Description, Output, Packet, Stats, Track, Tracks},
};

/// The first frames wait so long for sender reports, so that sound and picture begin aligned …
const REPORT_WAIT: Duration = Duration::from_millis(600);
/// … and so long for a track that was negotiated.
const TRACK_WAIT: Duration = Duration::from_secs(1);
/// What is ready for a part may be this much older than a part is long before the part is closed by time.
const LATENESS: Duration = Duration::from_millis(50);
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
    requested: Option<Instant>,
}

impl Recording {
    /// `expected`: the tracks that were negotiated; the first part waits for them, for at most a second.
    pub fn new(now: Instant, config: Config, description: Description, expected: Tracks) -> Self {
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
            requested: None,
        }
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
        if lane.source != Some(source) {
            return;
        }
        lane.report = Some(Report { ntp, rtp });
        match self.phase {
            Phase::Starting(_) => self.start_if_ready(now),
            Phase::Running => self.align(),
            Phase::Done => {}
        }
    }

    /// Packets of this track were thrown away on this side (the tap overflowed): do not wait for them.
    pub fn handle_dropped(&mut self, now: Instant, track: Track, reason: GapReason) {
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
            self.start(now);
        }
        self.flush_all();
        self.segments.close();
        self.segment_start = None;
    }

    /// An output could not be carried out (disk full, failing). The caller drops this output; `poll_output` gives no
    /// other of those before it. A new segment is begun with the next keyframe, and may fail the same way.
    pub fn handle_write_failed(&mut self, now: Instant) {
        if self.phase == Phase::Done {
            // What is on disk by now is all there will be.
            while self.segments.poll().is_some() {}
            return self.segments.push(Output::Finished);
        }
        self.segments.fail();
        self.segment_start = None;
        for lane in &mut self.lanes {
            lane.drop_samples();
            lane.lose(GapReason::Disk);
            lane.gap = lane.source.map(|_| GapReason::Disk);
        }
        self.request_keyframe(now);
    }

    /// The publisher of the room, and with it the negotiated tracks, changed.
    pub fn set_expected(&mut self, expected: Tracks) {
        self.expected = expected;
    }

    /// Lets time pass: call when [`Recording::poll_timeout`] is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.phase == Phase::Done {
            return;
        }
        self.drain(now, Track::Video);
        self.drain(now, Track::Audio);
        self.start_if_ready(now);
        let patience = self.patience();
        let overdue = |since: Option<Instant>| since.is_some_and(|since| since + patience <= now);
        let mut flush = false;
        for slot in [VIDEO, AUDIO] {
            let (ready, tail) = self.lanes[slot].waiting_since();
            flush |= overdue(ready) || overdue(tail);
            if overdue(tail) {
                self.lanes[slot].settle_tail();
            }
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
            Phase::Starting(Some(since)) => Some(since + if self.framed() { REPORT_WAIT } else { TRACK_WAIT }),
            _ => None,
        };
        let lanes = self.lanes.iter().flat_map(|lane| {
            let (ready, tail) = lane.waiting_since();
            let oldest = [ready, tail].into_iter().flatten().min();
            [lane.deadline(), oldest.map(|since| since + self.patience())]
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
        self.segments.push(Output::Finished);
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

    fn patience(&self) -> Duration {
        self.config.part_duration + LATENESS
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

    fn change_source(&mut self, now: Instant, track: Track, source: u64) {
        for frame in self.lanes[slot(track)].last_frames(now) {
            self.handle_frame(now, track, frame);
        }
        self.place_rest(now, track);
        self.lanes[slot(track)].change_source(source);
        if self.phase == Phase::Running {
            self.phase = Phase::Starting(Some(now));
        }
    }

    fn handle_frame(&mut self, now: Instant, track: Track, frame: Timed) {
        let lane = &mut self.lanes[slot(track)];
        if lane.jumps(&frame) && lane.clock.is_some() {
            if !lane.may_disturb(now) {
                return lane.lose(GapReason::Loss);
            }
            self.place_rest(now, track);
            let lane = &mut self.lanes[slot(track)];
            lane.clock = None;
            lane.report = None;
            lane.gap = Some(GapReason::Source);
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
                self.start(now);
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
            .filter(|(lane, expected)| *expected || lane.source.is_some())
            .map(|(lane, _)| lane)
    }

    fn framed(&self) -> bool {
        self.needed().all(|lane| !lane.held.is_empty())
    }

    fn start_if_ready(&mut self, now: Instant) {
        let Phase::Starting(Some(since)) = self.phase else { return };
        let waited = now.saturating_duration_since(since);
        let reported =
            self.needed().count() < 2 || self.needed().all(|lane| lane.report.is_some() || lane.clock.is_some());
        if self.framed() && (reported || waited >= REPORT_WAIT) || waited >= TRACK_WAIT {
            self.start(now);
        }
    }

    /// Sets the clocks of the tracks that have none and puts what was held onto the timeline.
    fn start(&mut self, _now: Instant) {
        let joining = [VIDEO, AUDIO].map(|slot| self.lanes[slot].clock.is_none() && !self.lanes[slot].held.is_empty());
        let mut times = [0, 1].map(|slot| if joining[slot] { self.arrival_time(slot) } else { 0 });
        if joining == [true, true] {
            let of = |lane: &Lane, at| Some((lane.report?, lane.held.first()?.rtp, at));
            let [video, audio] = &self.lanes;
            if let (Some(picture), Some(sound)) = (of(video, times[VIDEO]), of(audio, times[AUDIO])) {
                times[VIDEO] += clock::correction(picture, sound, (video.rate, audio.rate)).unwrap_or(0);
            }
        }
        if joining != [false, false] {
            let joined = [VIDEO, AUDIO].into_iter().filter(|&slot| joining[slot]);
            if let Some(epoch) = self.epoch {
                let again = joined.clone().any(|slot| !self.lanes[slot].fresh);
                if again {
                    self.flush_all();
                    self.segments.discontinue();
                    self.segment_start = None;
                }
                // Not before the end of what was: a source's clock may have run ahead of ours.
                let short = |slot: usize| nanos(self.lanes[slot].end, self.lanes[slot].rate) - (times[slot] - epoch);
                let shift = joined.clone().map(short).max().unwrap_or(0).max(0);
                times = times.map(|time| time + shift);
            }
            let first = joined.clone().map(|slot| times[slot]).min().unwrap_or(0);
            let epoch = *self.epoch.get_or_insert(first);
            for slot in joined {
                let lane = &mut self.lanes[slot];
                let rtp = lane.held.first().map_or(0, |frame| frame.rtp);
                lane.clock = Some(Clock::new(lane.rate, rtp, times[slot] - epoch));
                lane.fresh = true;
            }
        }
        self.phase = Phase::Running;
        self.place_held();
        self.align();
    }

    /// When the first held frame of a lane happened, by the quickest of the held ones: nanoseconds since `created`.
    fn arrival_time(&self, slot: usize) -> i64 {
        let lane = &self.lanes[slot];
        let Some(first) = lane.held.first() else { return 0 };
        let time = |frame: &Timed| clock::since(frame.arrival, self.created) - nanos(frame.rtp - first.rtp, lane.rate);
        lane.held.iter().map(time).min().unwrap_or(0)
    }

    /// What is held of a track goes onto its old timeline, before it gets a new one.
    fn place_rest(&mut self, now: Instant, track: Track) {
        let lane = &mut self.lanes[slot(track)];
        if lane.clock.is_some() {
            for frame in std::mem::take(&mut lane.held) {
                self.place(track, frame);
            }
        } else if !lane.held.is_empty() {
            self.start(now);
        }
    }

    fn place_held(&mut self) {
        // First how all tracks are coded, so that they begin in one init segment.
        for track in [Track::Video, Track::Audio] {
            let first = self.lanes[slot(track)].held.first();
            if let Some(entry) = first.and_then(|frame| frame.frame.entry.clone()) {
                self.adopt(track, &entry);
            }
        }
        let mut held: Vec<(i64, Track, Timed)> = Vec::new();
        for lane in &mut self.lanes {
            let Some(clock) = &lane.clock else { continue };
            held.extend(
                std::mem::take(&mut lane.held).into_iter().map(|frame| (clock.at(frame.rtp), lane.track, frame)),
            );
        }
        held.sort_by_key(|(at, ..)| *at);
        for (_, track, frame) in held {
            self.place(track, frame);
        }
    }

    /// Moves the picture towards the sound, when reports of both are there.
    fn align(&mut self) {
        let [video, audio] = &mut self.lanes;
        if let (Some(picture), Some(report)) = (&mut video.clock, video.report)
            && let (Some(sound), Some(other)) = (&audio.clock, audio.report)
        {
            picture.follow(report, sound, other);
        }
    }

    /// Puts a frame onto the timeline, where it may begin a new segment.
    fn place(&mut self, track: Track, frame: Timed) {
        let lane = &mut self.lanes[slot(track)];
        let Some(at) = lane.clock.as_ref().map(|clock| clock.at(frame.rtp)) else { return };
        let gap = lane.gap_before(&frame);
        if let Some(entry) = &frame.frame.entry
            && self.entries.entry(track) != Some(entry)
        {
            let entry = entry.clone();
            let change = self.entries.entry(track).is_some();
            if change && !self.lanes[slot(track)].may_disturb(frame.arrival) {
                return self.lanes[slot(track)].lose(GapReason::Loss);
            }
            self.lanes[slot(track)].settle_before(frame.rtp, frame.arrival);
            self.adopt(track, &entry);
        }
        if self.segment_ends(track, &frame, at) {
            if track == Track::Video {
                self.lanes[VIDEO].settle_before(frame.rtp, frame.arrival);
            }
            self.flush(true, at);
            self.segments.close();
            self.segment_start = None;
        }
        self.segment_start.get_or_insert(at);
        self.lanes[slot(track)].append(frame);
        if let Some(gap) = gap {
            self.segments.gap(gap);
        }
        self.flush(false, i64::MAX);
    }

    /// From here on a track is coded like this.
    fn adopt(&mut self, track: Track, entry: &SampleEntry) {
        if self.entries.entry(track) == Some(entry) {
            return;
        }
        self.flush_all();
        self.segments.close();
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

    /// Everything that is not given out yet, whether its duration is known or not.
    fn flush_all(&mut self) {
        self.lanes.iter_mut().for_each(Lane::settle_tail);
        self.flush(true, i64::MAX);
    }

    /// Gives out parts: whole ones, or `all` that is ready and begins before `before` (nanoseconds of the timeline).
    fn flush(&mut self, all: bool, before: i64) {
        let length = i64::try_from(self.config.part_duration.as_nanos()).unwrap_or(i64::MAX / 4);
        loop {
            let ready = || self.lanes.iter().filter_map(Lane::ready);
            let Some(start) = ready().map(|(from, _)| from).min().filter(|from| *from < before) else { return };
            let limit = start + length;
            let bytes: usize = self.lanes.iter().map(Lane::ready_bytes).sum();
            if !all && bytes < self.config.max_part_bytes && ready().all(|(_, to)| to < limit) {
                return;
            }
            let arrived = self.lanes.iter().filter_map(|lane| lane.waiting_since().0).min().unwrap_or(self.created);
            let since = arrived.saturating_duration_since(self.created);
            let at = self.segments.started_at() + since;
            let [video, audio] =
                self.lanes.each_mut().map(|lane| lane.take(start, limit, before, self.config.max_part_bytes));
            let runs = [(Track::Video, &video[..]), (Track::Audio, &audio[..])];
            let runs: Vec<_> = runs.into_iter().filter(|(_, samples)| !samples.is_empty()).collect();
            if runs.is_empty() {
                return;
            }
            self.segments.part(&self.entries, &runs, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        mp4::part::{self, Read},
        types::{Codec, File},
    };

    const KEY: &[u8] = &[0x10, 0x50, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 1, 2];
    const INTER: &[u8] = &[0x10, 0x31, 0x00, 0x00, 9];

    fn description() -> Description {
        Description {
            id: "id".into(),
            room: "room".into(),
            publisher: "camera".into(),
            started_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn recording(now: Instant) -> Recording {
        let config = Config { segment_duration: Duration::from_secs(2), ..Config::default() };
        Recording::new(now, config, description(), Tracks { audio: false, video: true })
    }

    /// Index, timestamp, marker, payload.
    type Sent = (u64, u32, bool, Vec<u8>);

    /// Small VP8 frames in three packets each.
    fn frames(count: u64) -> Vec<Sent> {
        (0..count)
            .flat_map(|frame| {
                let timestamp = frame as u32 * 3000;
                let head = if frame % 30 == 0 { KEY } else { INTER };
                let rest = |n: u64| vec![0x00, frame as u8, n as u8];
                [
                    (frame * 3, timestamp, false, head.to_vec()),
                    (frame * 3 + 1, timestamp, false, rest(1)),
                    (frame * 3 + 2, timestamp, true, rest(2)),
                ]
            })
            .collect()
    }

    /// Takes outputs into files and asserts that they come in the documented order.
    #[derive(Default)]
    struct Files {
        files: BTreeMap<File, Vec<u8>>,
        open: Option<File>,
    }

    impl Files {
        fn take(&mut self, recording: &mut Recording) {
            while let Some(output) = recording.poll_output() {
                match output {
                    Output::Create { file } => {
                        assert_eq!(self.open.replace(file), None);
                        assert!(self.files.insert(file, Vec::new()).is_none());
                    }
                    Output::Append { file, bytes } => {
                        assert_eq!(self.open, Some(file));
                        self.files.entry(file).or_default().extend(bytes);
                    }
                    Output::Sync { file } => assert_eq!(self.open, Some(file)),
                    Output::Close { file, bytes, .. } => {
                        assert_eq!(self.open.take(), Some(file));
                        assert_eq!(self.files[&file].len() as u64, bytes);
                    }
                    Output::Replace { file, bytes } => drop(self.files.insert(file, bytes)),
                    Output::RequestKeyframe | Output::Finished => {}
                }
            }
        }

        fn parts(&self) -> Vec<Read> {
            let mut parts = Vec::new();
            for (file, bytes) in &self.files {
                let File::Segment(_) = file else { continue };
                let mut rest = &bytes[part::styp().len()..];
                while !rest.is_empty() {
                    let part = part::decode(rest).expect("a whole part");
                    rest = &rest[part.len as usize..];
                    parts.push(part);
                }
            }
            parts
        }

        /// (dts, duration, size) of all video samples.
        fn samples(&self) -> Vec<(i64, u32, u32)> {
            let mut samples = Vec::new();
            for run in self.parts().iter().flat_map(|part| &part.runs) {
                let mut dts = run.dts;
                for sample in &run.samples {
                    samples.push((dts, sample.duration, sample.size));
                    dts += i64::from(sample.duration);
                }
            }
            samples
        }
    }

    /// Sends (milliseconds after the start, packet) in order of time.
    fn send(mut packets: Vec<(u64, Sent)>) -> Files {
        packets.sort_by_key(|(at, (index, ..))| (*at, *index));
        let start = Instant::now();
        let (mut recording, mut files) = (recording(start), Files::default());
        let mut end = start;
        for (at, (index, timestamp, marker, payload)) in packets {
            let now = start + Duration::from_millis(at);
            while let Some(due) = recording.poll_timeout().filter(|due| *due <= now) {
                recording.handle_timeout(due);
                files.take(&mut recording);
            }
            let packet = Packet { codec: Codec::Vp8, source: 1, index, timestamp, marker, payload: &payload };
            recording.handle_rtp(now, packet);
            files.take(&mut recording);
            end = now;
        }
        recording.finish(end);
        files.take(&mut recording);
        files
    }

    #[test]
    fn parts_are_as_long_as_configured_and_segments_begin_with_keyframes() {
        let files = send(frames(300).into_iter().map(|packet| (packet.0 / 3 * 1000 / 30, packet)).collect());
        assert_eq!(files.samples().len(), 300);
        for part in files.parts() {
            let ticks: u32 = part.runs[0].samples.iter().map(|sample| sample.duration).sum();
            assert!(ticks <= 45_000, "{ticks}");
        }
        let starts: Vec<_> = files.parts().iter().map(|part| part.runs[0].dts).collect();
        assert_eq!(files.files.keys().filter(|file| matches!(file, File::Segment(_))).count(), 5);
        assert!([0, 180_000, 360_000, 540_000, 720_000].iter().all(|start| starts.contains(start)), "{starts:?}");
    }

    #[test]
    fn a_duplicate_and_an_empty_packet_change_nothing() {
        let plain: Vec<_> = frames(60).into_iter().map(|packet| (packet.0 / 3 * 33, packet)).collect();
        let mut more: Vec<_> = Vec::new();
        for (at, (index, timestamp, marker, payload)) in plain.clone() {
            // Every index doubled, so that a padding packet fits between.
            more.push((at, (index * 2, timestamp, marker, payload.clone())));
            more.push((at + 5, (index * 2, timestamp, marker, payload)));
            more.push((at, (index * 2 + 1, timestamp, false, vec![])));
        }
        assert_eq!(send(more).samples(), send(plain).samples());
    }

    #[test]
    fn a_camera_that_goes_silent_has_its_last_frame_on_disk_in_a_second() {
        let start = Instant::now();
        let (mut recording, mut files) = (recording(start), Files::default());
        let mut now = start;
        for (index, timestamp, marker, payload) in frames(40) {
            now = start + Duration::from_millis(index / 3 * 33);
            let packet = Packet { codec: Codec::Vp8, source: 1, index, timestamp, marker, payload: &payload };
            recording.handle_rtp(now, packet);
        }
        let silent = now;
        while let Some(due) = recording.poll_timeout() {
            assert!(due <= silent + Duration::from_secs(1));
            recording.handle_timeout(due);
        }
        files.take(&mut recording);
        assert_eq!(files.samples().len(), 40);
    }

    #[test]
    fn timestamps_that_jump_do_not_make_files_without_end() {
        let jumping = frames(300).into_iter().map(|(index, _, marker, _)| {
            let timestamp = ((index / 3) as u32).wrapping_mul(900_000_000);
            (index / 3 * 10, (index, timestamp, marker, if index % 3 == 0 { KEY.to_vec() } else { vec![0, 1] }))
        });
        let files = send(jumping.collect());
        assert!(files.files.len() < 20, "{} files in 3 s", files.files.len());
    }

    #[test]
    fn sizes_that_alternate_do_not_make_files_without_end() {
        let alternating = frames(300).into_iter().map(|(index, timestamp, marker, payload)| {
            let mut key = KEY.to_vec();
            key[7] = if index / 3 % 2 == 0 { 0x40 } else { 0x20 };
            (index / 3 * 33, (index, timestamp, marker, if index % 3 == 0 { key } else { payload }))
        });
        let files = send(alternating.collect());
        assert!(files.files.len() < 60, "{} files in 10 s", files.files.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn order_of_arrival_does_not_matter_within_the_window(
            delays in prop::collection::vec(prop_oneof![4 => 0u64..20, 1 => 0u64..90], 450),
            later in prop::collection::vec(0u64..300, 450),
        ) {
            let packets = frames(150);
            let at = |packet: &Sent| packet.0 / 3 * 33;
            let in_order = send(packets.iter().map(|packet| (at(packet), packet.clone())).collect());
            // The first ones are held for less.
            let delay = |n: usize| if n < 30 { delays[n] } else { delays[n].max(later[n]) };
            let shuffled = packets.iter().enumerate().map(|(n, packet)| (at(packet) + delay(n), packet.clone()));
            let shuffled = send(shuffled.collect());
            prop_assert_eq!(in_order.samples(), shuffled.samples());
            prop_assert!(shuffled.parts().iter().all(|part| part.info.gaps.is_empty()));
        }

        #[test]
        fn whatever_is_lost_is_marked_and_what_is_kept_can_be_decoded(
            lost in prop::collection::btree_set(3u64..450, 1..12),
        ) {
            let packets: Vec<_> = frames(150)
                .into_iter()
                .filter(|(index, ..)| !lost.contains(index))
                .map(|packet| (packet.0 / 3 * 33, packet))
                .collect();
            let files = send(packets);
            let gaps: Vec<_> = files.parts().into_iter().flat_map(|part| part.info.gaps).collect();
            let kept: std::collections::BTreeSet<i64> =
                files.samples().iter().map(|(dts, ..)| (dts + 1500) / 3000).collect();
            for frame in 0..150i64 {
                // What follows a lost frame, up to the next keyframe, is of no use.
                let broken = (frame / 30 * 30..=frame).any(|n| (0..3).any(|k| lost.contains(&(n as u64 * 3 + k))));
                prop_assert_eq!(kept.contains(&frame), !broken, "frame {}", frame);
                let after = kept.last().copied().unwrap_or(0);
                let time = frame as f64 / 30.0 + 0.001;
                if broken && frame < after {
                    prop_assert!(gaps.iter().any(|gap| gap.from <= time && time < gap.to), "frame {} {:?}", frame, gaps);
                }
            }
        }

        #[test]
        fn no_sequence_of_calls_panics(calls in prop::collection::vec(call(), 0..120)) {
            let start = Instant::now();
            let mut now = start;
            let config = Config { max_frame_bytes: 100, max_part_bytes: 50, max_reorder_packets: 5, ..Config::default() };
            let mut recording = Recording::new(start, config, description(), Tracks { audio: true, video: true });
            let mut files = Files::default();
            for call in calls {
                match call {
                    Call::Rtp { codec, source, index, timestamp, marker, payload } => {
                        recording.handle_rtp(now, Packet { codec, source, index, timestamp, marker, payload: &payload });
                    }
                    Call::Report { track, ntp, rtp } => recording.handle_sender_report(now, track, 1, ntp, rtp),
                    Call::Wait(millis) => {
                        now += Duration::from_millis(millis);
                        recording.handle_timeout(now);
                        prop_assert!(recording.poll_timeout().is_none_or(|due| due > now));
                    }
                    Call::Dropped(track) => recording.handle_dropped(now, track, GapReason::Disk),
                    Call::SourceEnd => recording.handle_source_end(now),
                    Call::WriteFailed => {
                        while recording.poll_output().is_some() {}
                        recording.handle_write_failed(now);
                        files = Files::default();
                    }
                }
                files.take(&mut recording);
            }
            recording.finish(now);
            files.take(&mut recording);
            prop_assert_eq!(files.open, None);
            let mut ends = BTreeMap::new();
            for run in files.parts().iter().flat_map(|part| &part.runs) {
                let end = run.dts + run.samples.iter().map(|sample| i64::from(sample.duration)).sum::<i64>();
                let before = ends.insert(run.track, end);
                prop_assert!(before.is_none_or(|before| before <= run.dts), "a track does not go back");
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Call {
        Rtp { codec: Codec, source: u64, index: u64, timestamp: u32, marker: bool, payload: Vec<u8> },
        Report { track: Track, ntp: u64, rtp: u32 },
        Wait(u64),
        Dropped(Track),
        SourceEnd,
        WriteFailed,
    }

    fn call() -> impl Strategy<Value = Call> {
        let track = prop_oneof![Just(Track::Audio), Just(Track::Video)];
        let index = prop_oneof![8 => 0u64..60, 1 => any::<u64>(), 1 => Just(u64::MAX)];
        let timestamp = prop_oneof![8 => (0u32..200).prop_map(|n| n * 1500), 1 => any::<u32>()];
        let media = prop_oneof![
            (Just(Codec::Vp8), Just(KEY.to_vec())),
            (Just(Codec::Vp8), Just(INTER.to_vec())),
            (Just(Codec::Opus), Just(vec![0xfc, 1, 2])),
            (Just(Codec::H264), prop::collection::vec(any::<u8>(), 0..40)),
            (Just(Codec::Av1), prop::collection::vec(any::<u8>(), 0..40)),
        ];
        let rtp = (media, prop_oneof![8 => Just(1u64), 1 => 2u64..4], index, timestamp, any::<bool>()).prop_map(
            |((codec, payload), source, index, timestamp, marker)| Call::Rtp {
                codec,
                source,
                index,
                timestamp,
                marker,
                payload,
            },
        );
        prop_oneof![
            20 => rtp,
            3 => (track.clone(), any::<u64>(), any::<u32>()).prop_map(|(track, ntp, rtp)| Call::Report { track, ntp, rtp }),
            6 => (0u64..700).prop_map(Call::Wait),
            1 => Just(Call::Wait(3_600_000)),
            1 => track.prop_map(Call::Dropped),
            1 => Just(Call::SourceEnd),
            1 => Just(Call::WriteFailed),
        ]
    }
}
