//! One recording's thread: media in, files out, until the stream is over; then everything is finished.
//!
//! Time is the media's: while the writer is behind, what it handles is as old as its arrival says, so that a slow disk
//! alone never makes packets look lost. A write that fails pauses the recording: the rest of what was to be written is
//! given up, and media is passed over until a probe can be written; then a new segment begins and the gap is marked.

use super::RequestKeyframe;
use super::conclude::conclude;
use super::disk::RecordingFolder;
use super::error::DiskError;
use super::measure::{self, Counted};
use super::queue::{Input, Load, track};
use super::repair::Job;
use super::router::GATHER;
use super::shared::{Progress, Shared};
use super::tap::arrival;
use super::wall_clock::{clock_step, until_multiple};
use crate::control::RecordingId;
use crate::net::tap::{TapBatch, TapRecord};
use crate::objects::Digest;
use crate::store::{NewRecording, RecordingState};
use jiff::Timestamp;
use recorder::{
    Config, Continuation, Description, Ending, File, Gap, GapReason, Output, Packet, Recording, SegmentRecord, Tracks,
};
use sfu::parameters::{Codec, MediaKind, RoomId, SessionId};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Longest delay of media that was sent before the stream's end, unless its source ends earlier.
const LINGER: Duration = Duration::from_secs(1);
/// Age of media that has been handled, unless router or writer is behind.
const SETTLED: Duration = GATHER;
/// How often a disk that goes on failing is told of.
const REMIND: Duration = Duration::from_secs(60);
/// The trouble of a recording of a publisher that sends G.711.
const G711: &str = "G.711 audio is not recorded";
/// Between two looks at the wall clock.
const CLOCK_CHECK: Duration = Duration::from_secs(1);
/// With nothing to do, look up this often.
const IDLE: Duration = Duration::from_secs(60);

/// Since the disk failed.
struct Failing {
    since: Instant,
    retry_at: Instant,
    told_at: Instant,
    /// A probe was written: media is recorded again, and nothing of it has failed yet.
    probed: bool,
    _counted: Counted,
}

/// Whom a writer talks to besides the disk.
pub(super) struct Contacts {
    pub(super) room: RoomId,
    pub(super) keyframes: Option<RequestKeyframe>,
    /// Takes what cannot be finished yet.
    pub(super) jobs: Sender<Job>,
    pub(super) load: Arc<Load>,
}

/// See the module.
pub(super) struct Writer {
    shared: Arc<Shared>,
    new: NewRecording,
    recording: Recording,
    folder: RecordingFolder,
    progress: Arc<Progress>,
    contacts: Contacts,
    /// Who publishes, while somebody does.
    source: Option<SessionId>,
    /// The newest arrival that was handled.
    handled: Instant,
    orderly: bool,
    failing: Option<Failing>,
    /// The publisher and codec of the audio that is left out now.
    unrecorded: Option<(SessionId, Codec)>,
    /// Arrival of the first frame of this recording, and its maximum duration.
    began: Instant,
    max_duration: Duration,
    /// The reading of the wall clock that this recording goes by.
    clock: (Instant, Timestamp),
    clock_checked: Instant,
}

impl Writer {
    /// `created` is the moment of `description.started_at`; `expected` was negotiated.
    pub(super) fn new(
        shared: Arc<Shared>,
        contacts: Contacts,
        new: NewRecording,
        expected: Tracks,
        description: Description,
        created: Instant,
    ) -> Writer {
        let config = Config { segment_duration: shared.segment_duration(), ..Config::default() };
        let max_duration = shared.max_duration();
        let started_at = description.started_at;
        let mut writer = Writer {
            folder: RecordingFolder::new(shared.folder(&new.id), shared.settings.min_free),
            progress: shared.begin(&new.id),
            new,
            recording: Recording::new(created, config, description, expected),
            contacts,
            source: None,
            handled: created,
            orderly: true,
            failing: None,
            unrecorded: None,
            began: created,
            max_duration,
            clock: (created, started_at),
            clock_checked: created,
            shared,
        };
        writer.schedule_next();
        writer
    }

    /// Schedules the recording that continues this one.
    fn schedule_next(&mut self) {
        self.max_duration = self.shared.max_duration();
        // The wall clock is read anew each time: it may have been set.
        let (now, wall) = (Instant::now(), Timestamp::now());
        let began = match self.began.checked_duration_since(now) {
            Some(ahead) => wall + ahead,
            None => wall - now.saturating_duration_since(self.began),
        };
        let at = self.began + until_multiple(began, self.max_duration);
        self.clock = (now, wall);
        self.continue_at(at, began + (at - self.began));
    }

    /// Sets the recording that continues this one: from `at` on, which is `start` on the wall clock.
    fn continue_at(&mut self, at: Instant, start: Timestamp) {
        let id = RecordingId::at(start).to_string();
        self.recording.continue_at(Continuation { id, at, clock: self.clock });
    }

    /// Ends the recording soon if the wall clock was set: its times are those of the old clock.
    fn check_clock(&mut self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.clock_checked) < CLOCK_CHECK {
            return;
        }
        self.clock_checked = now;
        let wall = Timestamp::now();
        if let Some(step) = clock_step(self.clock, (now, wall)) {
            tracing::warn!(recording = %self.new.id, ?step, "wall clock was set, the next recording begins");
            self.clock = (now, wall);
            self.continue_at(now, wall);
        }
    }

    /// The thread's body.
    pub(super) fn run(mut self, inputs: Receiver<Input>) {
        let active = Counted::active(RecordingState::Recording);
        self.announce();
        let recorded = catch_unwind(AssertUnwindSafe(|| self.record(&inputs)));
        drop((inputs, active));
        let id = self.new.id.clone();
        let done = match recorded {
            Ok(Some(done)) => Some(done),
            // The plane is gone without a word: as after a crash, the next start finishes it.
            Ok(None) => return self.shared.end(&id),
            Err(_) => {
                tracing::error!(recording = %id, "the recorder failed: what was recorded until now is kept");
                self.orderly = false;
                None
            }
        };
        let ending = Ending { orderly: self.orderly, gaps: self.recording.untold_gaps().to_vec() };
        let left = conclude(&self.shared, Job { id: id.clone(), ending });
        self.shared.end(&id);
        if let Some(job) = left {
            // When nobody takes it any more the process ends, and the next start finishes it.
            let _ = self.contacts.jobs.send(job);
        }
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    /// Tells the registry and the log that the recording has begun.
    fn announce(&self) {
        let NewRecording { id, stream, room, .. } = &self.new;
        tracing::info!(recording = %id, %stream, %room, folder = %self.shared.folder(id).display(), "recording");
        let (shared, new) = (Arc::clone(&self.shared), self.new.clone());
        // Not waited for: media comes. When it fails it is made up for at the end.
        self.shared.spawn(async move {
            if let Err(error) = shared.store.recording_started(&new).await {
                tracing::warn!(recording = %new.id, %error, "a recording's start is not in the registry yet");
            }
        });
    }

    /// Hands the recording over to be finished; what comes from now on belongs to the next one.
    fn begin_next(&mut self, description: Description, began: Instant, untold: Vec<Gap>) {
        let Some(id) = RecordingId::parse(&description.id) else { return };
        let new = NewRecording {
            path: id.to_string(),
            started_at: description.started_at,
            id,
            stream: self.new.stream.clone(),
            room: self.new.room.clone(),
        };
        let old = std::mem::replace(&mut self.new, new).id;
        let ending = Ending { orderly: std::mem::replace(&mut self.orderly, self.failing.is_none()), gaps: untold };
        self.shared.set_finishing(&old, true);
        self.shared.end(&old);
        // When nobody takes it any more the process ends, and the next start finishes it.
        let _ = self.contacts.jobs.send(Job { id: old.clone(), ending });
        self.folder = RecordingFolder::new(self.shared.folder(&self.new.id), self.shared.settings.min_free);
        self.progress = self.shared.begin(&self.new.id);
        self.shared.set_trouble(&self.new.id, self.shared.trouble(&old));
        self.began = began;
        self.announce();
        self.schedule_next();
    }

    /// Records until the stream is over; `None` when the other end is gone.
    fn record(&mut self, inputs: &Receiver<Input>) -> Option<oneshot::Sender<()>> {
        let mut finishing: Option<(Instant, oneshot::Sender<()>)> = None;
        loop {
            let now = Instant::now();
            let wait = match &finishing {
                Some((asked, _)) => {
                    // Without a source its first packets may still gather in the router.
                    let delay = if self.source.is_none() { 2 * SETTLED } else { LINGER };
                    (*asked + delay).saturating_duration_since(now)
                }
                None => self.recording.poll_timeout().map_or(IDLE, |at| (at + SETTLED).saturating_duration_since(now)),
            };
            match inputs.recv_timeout(wait) {
                Ok(Input::Batch(batch)) => {
                    // What came after the end is not of this stream any more, however much of it there is.
                    let first = batch.records.first().map(arrival);
                    if let Some((_, done)) =
                        finishing.take_if(|(asked, _)| first.is_some_and(|first| first > *asked + LINGER))
                    {
                        self.finish();
                        return Some(done);
                    }
                    self.take(&batch);
                }
                Ok(Input::Dropped(dropped)) => {
                    tracing::warn!(recording = %self.new.id, "the disk is too slow: a gap is recorded");
                    for (track, newest) in dropped {
                        self.recording.handle_dropped(newest, track, GapReason::Disk);
                    }
                }
                Ok(Input::Expected(tracks)) => self.recording.set_expected(self.handled, tracks),
                Ok(Input::Finish { asked, done }) => finishing = Some((asked, done)),
                Err(RecvTimeoutError::Timeout) => match finishing.take() {
                    Some((_, done)) => {
                        self.finish();
                        return Some(done);
                    }
                    None => self.handle_timeout(Instant::now().checked_sub(SETTLED).unwrap_or(now)),
                },
                Err(RecvTimeoutError::Disconnected) => return None,
            }
            self.carry_out();
            self.progress.note(&self.recording.stats());
            if self.max_duration != self.shared.max_duration() {
                self.schedule_next();
            }
            self.check_clock();
        }
    }

    fn take(&mut self, batch: &TapBatch) {
        if let Some(first) = batch.records.first().map(arrival) {
            self.contacts.load.begin(first);
        }
        let paused = self.is_paused();
        for record in &batch.records {
            match record {
                TapRecord::Packet { codec, source, .. } if recorded(*codec).is_none() => {
                    self.source = Some(*source);
                    self.leave_out(*source, *codec);
                }
                TapRecord::Packet { kind, source, arrival, .. } if paused => {
                    self.source = Some(*source);
                    self.recording.handle_dropped(*arrival, track(*kind), GapReason::Disk);
                }
                record => self.handle(record, &batch.bytes),
            }
        }
        self.carry_out();
        self.contacts.load.end(batch);
    }

    /// Handles the timers that are due at `now`.
    fn handle_timeout(&mut self, now: Instant) {
        if self.recording.poll_timeout().is_some_and(|at| at <= now) {
            self.recording.handle_timeout(now);
        }
    }

    fn handle(&mut self, record: &TapRecord, bytes: &[u8]) {
        let now = arrival(record);
        self.handle_timeout(now);
        self.handled = self.handled.max(now);
        match record {
            TapRecord::Packet { codec, source, index, timestamp, marker, payload, .. } => {
                let Some(payload) = bytes.get(payload.start as usize..payload.end as usize) else { return };
                self.source = Some(*source);
                let Some(codec) = recorded(*codec) else { return };
                if codec == recorder::Codec::Opus && self.unrecorded.take().is_some() && self.failing.is_none() {
                    self.shared.set_trouble(&self.new.id, None);
                }
                let (source, index) = (source.0, *index);
                let packet = Packet { codec, source, index, timestamp: *timestamp, marker: *marker, payload };
                self.recording.handle_rtp(now, packet);
            }
            TapRecord::SenderReport { kind: MediaKind::Audio, source, .. }
                if self.unrecorded.is_some_and(|(session, _)| session == *source) => {}
            TapRecord::SenderReport { kind, source, ntp, timestamp, .. } => {
                self.recording.handle_sender_report(now, track(*kind), source.0, *ntp, *timestamp);
            }
            TapRecord::SourceEnded { source, .. } => {
                // Of one that was replaced before it ended nothing is open any more.
                if self.source.take_if(|current| current == source).is_some() {
                    self.recording.handle_source_end(now);
                }
            }
        }
    }

    /// Leaves a packet out, and logs that once for each publisher and codec.
    fn leave_out(&mut self, source: SessionId, codec: Codec) {
        if self.unrecorded == Some((source, codec)) {
            return;
        }
        self.unrecorded = Some((source, codec));
        let remedy = "let the camera send Opus";
        tracing::warn!(recording = %self.new.id, codec = codec.name(), remedy, "{G711}");
        if self.failing.is_none() {
            self.shared.set_trouble(&self.new.id, Some(G711));
        }
    }

    /// Whether nothing can be recorded now. When it is time, the disk is tried.
    fn is_paused(&mut self) -> bool {
        let now = Instant::now();
        match &mut self.failing {
            None | Some(Failing { probed: true, .. }) => return false,
            Some(failing) if now < failing.retry_at => return true,
            Some(_) => {}
        }
        if let Err(error) = self.folder.probe() {
            self.failed(&error);
            return true;
        }
        if let Some(failing) = &mut self.failing {
            failing.probed = true;
        }
        self.request_keyframe();
        false
    }

    fn finish(&mut self) {
        self.recording.finish(Instant::now().max(self.handled));
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.recording.poll_output() {
            match output {
                Output::Finished => return,
                Output::RequestKeyframe => self.request_keyframe(),
                Output::Continue { description, at, untold } => self.begin_next(description, at, untold),
                output => {
                    let synced = matches!(output, Output::Sync { file: File::Segment(_) });
                    match self.write(output) {
                        Ok(()) if synced => self.recovered(),
                        Ok(()) => {}
                        Err(error) => {
                            self.failed(&error);
                            self.recording.handle_write_failed(Instant::now());
                        }
                    }
                }
            }
        }
    }

    fn write(&mut self, output: Output) -> Result<(), DiskError> {
        match &self.failing {
            Some(Failing { probed: false, .. }) => Err(DiskError::Paused),
            _ => {
                let (finished, record) = (finished(&output), closed(&output));
                self.folder.carry_out(output)?;
                if let Some(record) = record {
                    self.shared.indexer.add(&self.new.id, record);
                }
                if let (Some(uploads), Some((file, bytes, sha256))) = (&self.shared.uploads, finished) {
                    uploads.file_finished(&self.new.id, &self.new.room, file, bytes, sha256);
                }
                Ok(())
            }
        }
    }

    fn failed(&mut self, error: &DiskError) {
        self.orderly = false;
        if matches!(error, DiskError::Paused) {
            return;
        }
        measure::write_failed();
        self.shared.set_trouble(&self.new.id, Some(error.in_short()));
        let now = Instant::now();
        let retry_at = now + self.shared.settings.write_retry;
        let remedy = error.remedy();
        match &mut self.failing {
            None => {
                tracing::error!(recording = %self.new.id, %error, remedy, "recording is paused; the stream goes on");
                self.failing =
                    Some(Failing { since: now, retry_at, told_at: now, probed: false, _counted: Counted::paused() });
            }
            Some(failing) => {
                (failing.retry_at, failing.probed) = (retry_at, false);
                if now.saturating_duration_since(failing.told_at) >= REMIND {
                    failing.told_at = now;
                    tracing::error!(recording = %self.new.id, %error, remedy, "recording is still paused");
                }
            }
        }
    }

    fn recovered(&mut self) {
        let Some(failing) = self.failing.take() else { return };
        self.shared.set_trouble(&self.new.id, self.unrecorded.map(|_| G711));
        let paused = failing.since.elapsed().as_secs();
        tracing::info!(recording = %self.new.id, paused, "recording goes on; the gap is marked");
    }

    /// Not while nothing could be written anyhow: each costs the camera's viewers bandwidth.
    fn request_keyframe(&self) {
        let paused = self.failing.as_ref().is_some_and(|failing| !failing.probed);
        if let (false, Some(request)) = (paused, &self.contacts.keyframes) {
            request(self.contacts.room);
        }
    }
}

/// A file that stays as it is once this is carried out.
fn finished(output: &Output) -> Option<(File, u64, Digest)> {
    match output {
        Output::Close { file, record } => Some((*file, record.bytes, Digest::from_hex(&record.sha256)?)),
        Output::Replace { file: file @ File::Init(_), bytes } => Some((*file, bytes.len() as u64, Digest::of(bytes))),
        _ => None,
    }
}

/// Returns the record of a segment that an output closes.
fn closed(output: &Output) -> Option<SegmentRecord> {
    match output {
        Output::Close { record, .. } => Some((**record).clone()),
        _ => None,
    }
}

/// The recorder's codec; `None` for G.711, which browsers do not play from MP4.
pub(super) fn recorded(codec: Codec) -> Option<recorder::Codec> {
    match codec {
        Codec::Opus => Some(recorder::Codec::Opus),
        Codec::Vp8 => Some(recorder::Codec::Vp8),
        Codec::Vp9 => Some(recorder::Codec::Vp9),
        Codec::H264 => Some(recorder::Codec::H264),
        Codec::Av1 => Some(recorder::Codec::Av1),
        Codec::Pcmu | Codec::Pcma => None,
    }
}
