//! A recording plane in a folder of its own, and a camera whose media comes from the future: the writers go by the
//! arrival of what they handle, so that minutes of media pass in no time, and no timer strikes in between.

use crate::control::{Recorder, RecordingId, RoomName, StreamId};
use crate::net::tap::{Gone, TapBatch, TapRecord};
use crate::recording::{Library, RecordingParts, RecordingPlane, RecordingSettings, Shown, TapSource};
use crate::store::{Recording, RecordingState, Store};
use crate::upload::Uploads;
use jiff::Timestamp;
use recorder::Manifest;
use sfu::parameters::{Codec, HeaderExtensions, IncomingTrack, MediaKind, PublisherTracks, RoomId, SessionId};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Video frames a second; audio packets are 50.
pub(crate) const RATE: u64 = 25;
/// Cameras here send for hours in a moment: no recording ends by its duration.
pub(crate) const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);
const PATIENCE: Duration = Duration::from_secs(20);

struct FakeTaps {
    batches: Receiver<TapBatch>,
    recycled: Sender<TapBatch>,
}

impl TapSource for FakeTaps {
    fn next(&self, timeout: Duration) -> Result<Option<TapBatch>, Gone> {
        match self.batches.recv_timeout(timeout) {
            Ok(batch) => Ok(Some(batch)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Gone),
        }
    }

    fn recycle(&self, batch: TapBatch) {
        let _ = self.recycled.send(batch);
    }
}

pub(crate) struct Bench {
    pub(crate) plane: RecordingPlane,
    pub(crate) store: Store,
    pub(crate) folder: PathBuf,
    taps: Sender<TapBatch>,
    recycled: Receiver<TapBatch>,
    pub(crate) asked: Arc<Mutex<Vec<RoomId>>>,
}

pub(crate) fn settings(folder: &Path) -> RecordingSettings {
    RecordingSettings {
        min_free: 0,
        max_duration: NEVER,
        write_retry: Duration::from_millis(20),
        finish_retry: Duration::from_millis(50),
        ..RecordingSettings::new(folder, Duration::from_secs(2))
    }
}

impl Bench {
    pub(crate) async fn new(folder: &Path) -> Bench {
        Bench::with(settings(folder), Store::in_memory().await.unwrap()).await
    }

    pub(crate) async fn with(settings: RecordingSettings, store: Store) -> Bench {
        Bench::uploading(settings, store, None).await
    }

    pub(crate) async fn uploading(settings: RecordingSettings, store: Store, uploads: Option<Uploads>) -> Bench {
        let (taps, batches) = channel();
        let (recycler, recycled) = channel();
        let asked: Arc<Mutex<Vec<RoomId>>> = Arc::default();
        let folder = settings.folder.clone();
        let heard = asked.clone();
        let plane = RecordingPlane::start(RecordingParts {
            settings,
            store: store.clone(),
            taps: Some(Box::new(FakeTaps { batches, recycled: recycler })),
            keyframes: Some(Arc::new(move |room| heard.lock().unwrap().push(room))),
            uploads,
        })
        .await
        .unwrap();
        Bench { plane, store, folder, taps, recycled, asked }
    }

    pub(crate) fn library(&self) -> Library {
        self.plane.library()
    }

    /// Starts a recording.
    pub(crate) fn start(&self, room: u64) -> Camera {
        let camera = Camera::new(room, 0.0);
        self.begin(&camera);
        camera
    }

    pub(crate) fn begin(&self, camera: &Camera) {
        let (at, room) = (Timestamp::now(), RoomName::parse("front-door").unwrap());
        let tracks = camera.tracks();
        self.plane.start(camera.room, camera.stream.clone(), room, "me".into(), &tracks, at);
    }

    /// The camera sends for so many seconds of its time; returns when the router has taken all of it.
    pub(crate) fn send(&self, camera: &mut Camera, seconds: f64) {
        let batches = camera.record(seconds);
        let count = batches.len();
        batches.into_iter().for_each(|batch| self.taps.send(batch).unwrap());
        for _ in 0..count {
            self.recycled.recv_timeout(PATIENCE).expect("the router does not wait for disks");
        }
    }

    pub(crate) async fn finish(&self, camera: &Camera) {
        tokio::time::timeout(PATIENCE, self.plane.finish(camera.room)).await.expect("it is finished");
    }

    /// As a crash: nobody says that anything is over.
    pub(crate) fn crash(self) -> Store {
        let Bench { plane, store, taps, recycled, .. } = self;
        drop(taps);
        // The router has ended when nobody can send here any more.
        while recycled.recv_timeout(PATIENCE).is_ok() {}
        let ended = Arc::downgrade(&plane.0.shared);
        drop(plane);
        wait("all threads have ended", || ended.strong_count() == 0);
        store
    }

    pub(crate) async fn row(&self, camera: &Camera) -> Recording {
        self.store.recording(&camera.id).await.unwrap().expect("a row")
    }

    pub(crate) async fn shown(&self, camera: &Camera) -> Shown {
        self.library().recording(&camera.id).await.unwrap().expect("a row")
    }

    /// Waits until the registry says that the recording is in this state.
    pub(crate) async fn until(&self, camera: &Camera, state: RecordingState) -> Recording {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let row = self.store.recording(&camera.id).await.unwrap();
            if let Some(row) = row.as_ref().filter(|row| row.state == state) {
                return row.clone();
            }
            assert!(Instant::now() < deadline, "waited in vain for {state:?}: {row:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) fn path(&self, camera: &Camera) -> PathBuf {
        self.folder.join(camera.id.as_str())
    }

    pub(crate) fn manifest(&self, camera: &Camera) -> Manifest {
        serde_json::from_slice(&fs::read(self.path(camera).join("manifest.json")).unwrap()).unwrap()
    }

    /// Names of the segments that hold something, in order.
    pub(crate) fn segments(&self, camera: &Camera) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(camera)) else { return Vec::new() };
        let files = entries.map(|entry| entry.unwrap()).filter(|entry| {
            entry.file_type().unwrap().is_file() && entry.metadata().is_ok_and(|metadata| metadata.len() > 0)
        });
        let names = files.map(|entry| entry.file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.ends_with(".m4s")).collect();
        names.sort();
        names
    }

    pub(crate) fn has(&self, camera: &Camera, file: &str) -> bool {
        self.path(camera).join(file).is_file()
    }
}

/// Waits for what other threads bring about, with a deadline.
pub(crate) fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// VP8, a keyframe a second, and Opus.
pub(crate) struct Camera {
    pub(crate) room: RoomId,
    pub(crate) stream: StreamId,
    /// Of the first recording.
    pub(crate) id: RecordingId,
    pub(crate) session: SessionId,
    /// It sends sound, too.
    pub(crate) has_sound: bool,
    /// Of the audio.
    pub(crate) audio: Codec,
    start: Instant,
    frames: u64,
    sounds: u64,
}

impl Camera {
    /// Its media begins so many seconds from now.
    pub(crate) fn new(room: u64, begins: f64) -> Camera {
        let start = Instant::now() + Duration::from_secs_f64(begins);
        let (room, session, stream) = (RoomId(room), SessionId(room * 10), StreamId::random());
        Camera {
            room,
            id: RecordingId::first_of(&stream),
            stream,
            session,
            has_sound: true,
            audio: Codec::Opus,
            start,
            frames: 0,
            sounds: 0,
        }
    }

    pub(crate) fn tracks(&self) -> PublisherTracks {
        let track = |kind| IncomingTrack {
            mid: String::new(),
            kind,
            payload_types: vec![],
            extensions: HeaderExtensions::default(),
            ssrc: None,
            rtx_ssrc: None,
            rid: None,
        };
        PublisherTracks { audio: self.has_sound.then(|| track(MediaKind::Audio)), video: Some(track(MediaKind::Video)) }
    }

    /// A batch for each video frame and each packet of sound.
    fn record(&mut self, seconds: f64) -> Vec<TapBatch> {
        let until = self.frames as f64 / RATE as f64 + seconds - 0.001;
        let mut batches = Vec::new();
        while (self.frames as f64 / RATE as f64) < until {
            while self.has_sound && self.sounds * RATE <= self.frames * 50 {
                batches.push(self.packet(MediaKind::Audio, self.sounds, 20, 960, &[0xf8, 0xff, 0xfe]));
                self.sounds += 1;
            }
            let frame = vp8(self.frames.is_multiple_of(RATE));
            batches.push(self.packet(MediaKind::Video, self.frames, 1000 / RATE, 90_000 / RATE, &frame));
            self.frames += 1;
        }
        batches
    }

    pub(crate) fn leave(&self) -> TapBatch {
        let at = self.start + Duration::from_millis(self.frames * 1000 / RATE);
        TapBatch {
            room: self.room,
            records: vec![TapRecord::SourceEnded { source: self.session, at }],
            bytes: Vec::new(),
        }
    }

    fn packet(&self, kind: MediaKind, number: u64, milliseconds: u64, ticks: u64, payload: &[u8]) -> TapBatch {
        let record = TapRecord::Packet {
            kind,
            codec: if kind == MediaKind::Video { Codec::Vp8 } else { self.audio },
            source: self.session,
            index: number,
            timestamp: (number * ticks) as u32,
            marker: kind == MediaKind::Video,
            arrival: self.start + Duration::from_millis(number * milliseconds),
            payload: 0..payload.len() as u32,
        };
        TapBatch { room: self.room, records: vec![record], bytes: payload.to_vec() }
    }
}

impl Bench {
    /// The camera's session ends.
    pub(crate) fn leave(&self, camera: &Camera) {
        self.taps.send(camera.leave()).unwrap();
        self.recycled.recv_timeout(PATIENCE).expect("the router does not wait for disks");
    }
}

/// A frame of 320x240 as far as its header goes (RFC 6386 §9.1), with the RTP descriptor in front.
fn vp8(key: bool) -> Vec<u8> {
    let tag: u32 = u32::from(!key) | 1 << 4 | 20 << 5;
    let mut payload = vec![0x10];
    payload.extend_from_slice(&tag.to_le_bytes()[..3]);
    if key {
        payload.extend_from_slice(&[0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00]);
    }
    payload.resize(payload.len() + 200, 0x55);
    payload
}
