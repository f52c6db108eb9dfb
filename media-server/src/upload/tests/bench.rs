//! Uploads from a folder to a store, both a test's own.

use crate::control::{RecordingId, RoomName, StreamId};
use crate::objects::fake::FakeStore;
use crate::objects::{Digest, Objects};
use crate::status::StatusBoard;
use crate::store::{NewRecording, Store};
use crate::upload::{UploadParts, UploadSettings, Uploads};
use jiff::Timestamp;
use recorder::{Description, Export, Init, Manifest, Segment};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use streamsession_api::{Retention, StorageMode, TurnMode};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) fake: FakeStore,
    pub(crate) store: Store,
    pub(crate) status: StatusBoard,
    pub(crate) place: tempfile::TempDir,
    pub(crate) uploads: Uploads,
    pub(super) settings: UploadSettings,
}

/// Impatient ones.
pub(crate) fn settings(folder: &Path, fake: &FakeStore) -> UploadSettings {
    UploadSettings {
        // However full the disk is where tests run.
        keep_free: "0%".parse().unwrap(),
        credentials: Some(fake.credentials.path().to_owned()),
        first_delay: Duration::from_millis(20),
        longest_delay: Duration::from_millis(100),
        probe_every: Duration::from_millis(100),
        ..UploadSettings::new(folder)
    }
}

/// Uploads, of a process that starts.
pub(crate) fn starting(settings: &UploadSettings, objects: Objects, store: &Store) -> (Uploads, StatusBoard) {
    let status = StatusBoard::new(StorageMode::External, TurnMode::Disabled);
    let (settings, store) = (settings.clone(), store.clone());
    (Uploads::start(UploadParts { settings, objects, store, status: status.clone() }), status)
}

impl Bench {
    pub(crate) async fn new() -> Bench {
        Bench::with(|settings| settings).await
    }

    pub(crate) async fn with(change: impl FnOnce(UploadSettings) -> UploadSettings) -> Bench {
        Bench::start(change, FakeStore::objects).await
    }

    /// With the usual time limit of requests, for many at once on a busy machine.
    pub(super) async fn patient() -> Bench {
        Bench::start(|settings| settings, |fake| Objects::connect(&fake.config())).await
    }

    async fn start(
        change: impl FnOnce(UploadSettings) -> UploadSettings,
        objects: impl FnOnce(&FakeStore) -> Objects,
    ) -> Bench {
        let (fake, place) = (FakeStore::start().await, tempfile::tempdir().unwrap());
        let settings = change(settings(place.path(), &fake));
        let store = Store::in_memory().await.unwrap();
        let (uploads, status) = starting(&settings, objects(&fake), &store);
        Bench { fake, store, status, place, uploads, settings }
    }

    /// The process ends without a word, and the next one begins.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let store = self.store.clone();
        self.go_on_with(store);
    }

    pub(crate) fn stop(&self) {
        self.uploads.stop();
    }

    /// A process begins, with this database.
    pub(crate) fn go_on_with(&mut self, store: Store) {
        (self.uploads, self.status) = starting(&self.settings, self.fake.objects(), &store);
        self.store = store;
    }

    /// A recording of the room `gate` lies in its folder, finished, with these segments; nobody has told of it.
    pub(crate) async fn record(&self, segments: &[&str]) -> RecordingId {
        let recording = RecordingId::random();
        write(self.place.path(), &recording, segments);
        let path = recording.to_string();
        let stream = StreamId::parse(&path).unwrap();
        let new = NewRecording { stream, id: recording.clone(), room: room(), path, started_at: Timestamp::now() };
        self.store.recording_started(&new).await.unwrap();
        recording
    }

    pub(crate) fn folder(&self, recording: &RecordingId) -> PathBuf {
        self.place.path().join(recording.as_str())
    }

    /// Keys of the recording's objects, without what is common to them.
    pub(crate) fn stored(&self, recording: &RecordingId) -> Vec<String> {
        let prefix = format!("gate/{recording}/");
        self.fake.keys().iter().filter_map(|key| key.strip_prefix(&prefix).map(str::to_owned)).collect()
    }

    pub(crate) async fn drained(&self) {
        tokio::time::timeout(PATIENCE, self.uploads.drained()).await.expect("all is uploaded");
    }

    /// Waits until the journal has each eviction. The directory is removed before the journal is written, so a restart in
    /// between would be overtaken by the write of the process before it.
    pub(crate) async fn wait_for_evictions(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.store.evictable().await.unwrap().is_empty() {
            assert!(Instant::now() < deadline, "the journal never had the eviction");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for what the uploader brings about, with a deadline.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Bench) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            let now = (self.status.store(), self.status.uploads());
            assert!(Instant::now() < deadline, "waited in vain: {what}; {now:?} {:?}", self.fake.keys());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Stops tokio's clock: it moves by `tokio::time::advance` only. A blocking task keeps tokio from jumping to the next timer
/// while the network and the registry's thread work.
pub(super) struct Frozen {
    _thaw: std::sync::mpsc::Sender<()>,
}

impl Frozen {
    pub(super) fn freeze() -> Frozen {
        tokio::time::pause();
        let (thaw, wait) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || wait.recv());
        Frozen { _thaw: thaw }
    }
}

/// Waits for a condition with a deadline, also while the clock is frozen.
pub(super) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::task::yield_now().await;
    }
}

/// Rules that keep this much of the disk free.
pub(super) fn keeping(free: &str) -> Retention {
    Retention { keep_free: free.parse().unwrap(), ..Retention::default() }
}

pub(crate) fn room() -> RoomName {
    RoomName::parse("gate").unwrap()
}

fn write(folder: &Path, recording: &RecordingId, segments: &[&str]) {
    let folder = folder.join(recording.as_str());
    fs::create_dir_all(&folder).unwrap();
    let sha256 = |text: &str| Digest::of(text.as_bytes()).to_string();
    let put = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    let at = Timestamp::now();
    let segments = segments.iter().zip(1..).map(|(text, number)| {
        let file = format!("segment-{number:06}.m4s");
        put(&file, text);
        let (bytes, init) = (text.len() as u64, "init-1.mp4".to_owned());
        let (sha256, start) = (sha256(text), f64::from(number));
        Segment { file, init, bytes, sha256, start, duration: 1.0, at, keyframe: true, discontinuity: false }
    });
    let segments = segments.collect();
    put("init-1.mp4", "init");
    put("index.m3u8", "list");
    let whole = |file: &str, text: &str| Export {
        file: file.to_owned(),
        bytes: text.len() as u64,
        sha256: sha256(text),
        start: 0.0,
        duration: 1.0,
    };
    let manifest = Manifest {
        version: 2,
        description: Description {
            id: recording.to_string(),
            stream: None,
            room: "gate".to_owned(),
            publisher: "me".to_owned(),
            started_at: at,
        },
        ended_at: at,
        duration: 1.0,
        complete: true,
        repaired: false,
        codecs: vec![],
        width: None,
        height: None,
        playlist: whole("index.m3u8", "list"),
        inits: vec![Init {
            file: "init-1.mp4".to_owned(),
            bytes: 4,
            sha256: sha256("init"),
            codecs: vec![],
            width: None,
            height: None,
        }],
        segments,
        gaps: vec![],
        exports: vec![],
    };
    fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
}
