//! From a camera to the store and back to a player.

use super::bench::{settings, starting};
use crate::objects::fake::{FakeStore, Fault};
use crate::objects::{Digest, Source};
use crate::recording::tests::bench::{Bench as Recordings, Camera, settings as recording};
use crate::recording::{LibraryError, OpenError, Opened};
use crate::store::{RecordingState, Store};
use crate::upload::{UploadSettings, Uploads};
use futures_util::StreamExt as _;
use recorder::File;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;

struct Bench {
    fake: FakeStore,
    recordings: Recordings,
    uploads: Uploads,
    _place: tempfile::TempDir,
}

async fn bench(same_volume: bool) -> Bench {
    let (fake, place) = (FakeStore::start().await, tempfile::tempdir().unwrap());
    let store = Store::in_memory().await.unwrap();
    let folder = place.path().join("recordings");
    std::fs::create_dir(&folder).unwrap();
    let settings = UploadSettings { same_volume, ..settings(&folder, &fake) };
    let (uploads, _) = starting(&settings, fake.objects(), &store);
    let recordings = Recordings::uploading(recording(&folder), store, Some(uploads.clone())).await;
    Bench { fake, recordings, uploads, _place: place }
}

impl Bench {
    async fn record(&self) -> Camera {
        let mut camera = self.recordings.start(1);
        self.recordings.send(&mut camera, 10.0);
        self.recordings.finish(&camera).await;
        camera
    }

    async fn drained(&self) {
        tokio::time::timeout(Duration::from_secs(20), self.uploads.drained()).await.expect("all is uploaded");
    }

    async fn until_gone(&self, camera: &Camera) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.recordings.path(camera).exists() {
            assert!(Instant::now() < deadline, "the folder has not left the disk");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn read(&self, camera: &Camera, file: File) -> Result<(bool, Vec<u8>), OpenError> {
        let mut all = Vec::new();
        let mut bytes = match self.recordings.library().open(&camera.id, file).await? {
            Opened::Local(mut file, _) => {
                file.read_to_end(&mut all).await.unwrap();
                return Ok((true, all));
            }
            Opened::Stored(stored) => stored.read(None).await.unwrap(),
            Opened::Made(mp4) => mp4.make(),
        };
        while let Some(bytes) = bytes.next().await {
            all.extend_from_slice(&bytes.map_err(OpenError::Io)?);
        }
        Ok((false, all))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_played_from_the_store_as_from_the_disk() {
    let bench = bench(true).await;
    let mut camera = bench.recordings.start(1);
    bench.recordings.send(&mut camera, 10.0);
    bench.recordings.until(&camera, RecordingState::Recording).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while bench.fake.keys().len() < 3 {
        assert!(Instant::now() < deadline, "segments go up while the camera sends: {:?}", bench.fake.keys());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Held for a moment, to compare.
    std::fs::write(bench.recordings.path(&camera).join("hold"), "").unwrap();
    bench.recordings.finish(&camera).await;
    let manifest = bench.recordings.manifest(&camera);
    bench.drained().await;
    let mut files = vec![File::Manifest, File::Playlist, File::Init(1), File::Export(1)];
    files.extend((1..=manifest.segments.len() as u32).map(File::Segment));
    let mut here = Vec::new();
    for file in &files {
        let (local, bytes) = bench.read(&camera, *file).await.unwrap();
        assert!(local, "{file}");
        here.push(bytes);
    }
    std::fs::remove_file(bench.recordings.path(&camera).join("hold")).unwrap();
    bench.recordings.library().recording(&camera.id).await.unwrap();
    let other = bench.record().await;
    bench.until_gone(&camera).await;
    bench.until_gone(&other).await;
    for (file, expected) in files.iter().zip(here) {
        let (local, bytes) = bench.read(&camera, *file).await.unwrap();
        assert!(!local && bytes == expected, "{file}: {} and {} bytes", bytes.len(), expected.len());
    }
    let (_, mp4) = bench.read(&camera, File::Export(1)).await.unwrap();
    assert_eq!(Digest::of(&mp4).to_string(), manifest.exports[0].sha256);
    for segment in &manifest.segments {
        let object = bench.fake.object(&format!("front-door/{}/{}", camera.id, segment.file)).unwrap();
        assert_eq!(Digest::of(&object).to_string(), segment.sha256);
    }
    assert!(matches!(bench.read(&camera, File::Segment(99)).await, Err(OpenError::NotFound)));
    let shown = bench.recordings.shown(&camera).await;
    assert_eq!((shown.recording.state, shown.trouble), (RecordingState::Complete, None));
    let hold = format!("front-door/{}/hold", camera.id);
    let put = bench.fake.objects().put(&hold, &Source::Bytes(Default::default()), Digest::of(b"")).await;
    put.unwrap();
    let remove = async || bench.recordings.library().remove(&camera.id).await;
    assert!(matches!(remove().await, Err(LibraryError::Held)), "somebody holds it in the store");
    bench.fake.fail(Fault::DENIED);
    assert!(matches!(remove().await, Err(LibraryError::Objects(_))), "nobody knows");
    bench.fake.fail(None);
    bench.fake.objects().delete(&[hold]).await.unwrap();
    assert!(remove().await.unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    while bench.fake.keys().iter().any(|key| key.contains(camera.id.as_str())) {
        assert!(Instant::now() < deadline, "it has not left the store");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_holds_up_no_recording() {
    let bench = bench(true).await;
    bench.fake.fail(Fault::Silent);
    let started = Instant::now();
    let camera = bench.record().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let manifest = bench.recordings.manifest(&camera);
    assert!(!manifest.repaired && manifest.gaps.is_empty());
    assert!(bench.read(&camera, File::Export(1)).await.unwrap().0, "it is played from the disk");
    bench.fake.fail(None);
    bench.drained().await;
    bench.until_gone(&camera).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_does_not_give_has_a_reason() {
    let bench = bench(true).await;
    let camera = bench.record().await;
    bench.drained().await;
    bench.until_gone(&camera).await;
    bench.fake.fail(Fault::DENIED);
    match bench.recordings.library().open(&camera.id, File::Segment(1)).await.unwrap() {
        Opened::Stored(stored) => {
            let error = stored.read(None).await.err().expect("it is denied");
            assert_eq!(error.reason().as_str(), "AccessDenied");
        }
        other => panic!("{other:?}"),
    }
    match bench.read(&camera, File::Export(1)).await {
        Err(OpenError::Objects(error)) => assert_eq!(error.reason().as_str(), "AccessDenied"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recording_of_another_store_has_a_reason() {
    let bench = bench(true).await;
    let camera = bench.record().await;
    bench.drained().await;
    bench.until_gone(&camera).await;
    let store = &bench.recordings.store;
    while store.upload_backlog().await.unwrap().evicted == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.set_journal_store("https://s3.example.com/other/", jiff::Timestamp::now()).await.unwrap();
    for file in [File::Playlist, File::Export(1)] {
        match bench.read(&camera, file).await {
            Err(OpenError::Objects(error)) => assert_eq!(error.reason().as_str(), "InAnotherStore", "{error}"),
            other => panic!("{other:?}"),
        }
    }
    let removed = bench.recordings.library().remove(&camera.id).await;
    assert!(matches!(removed, Err(LibraryError::Objects(_))), "nobody knows whether it is held: {removed:?}");
}
