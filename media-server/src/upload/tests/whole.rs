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
        self.record_in(1).await
    }

    async fn record_in(&self, room: u64) -> Camera {
        let mut camera = self.recordings.start(room);
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
        let row = self.recordings.row(camera).await;
        let mut bytes = match self.recordings.library().open(&row, file).await? {
            Opened::Local(mut file, _) => {
                file.read_to_end(&mut all).await.unwrap();
                return Ok((true, all));
            }
            Opened::Stored(stored) => stored.read(None).await.unwrap(),
            Opened::Composed(mp4) => mp4.read(0..=mp4.len() - 1),
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
        assert!(local || *file == File::Export(1), "{file}");
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
async fn stored_segments_leave_the_disk_while_the_camera_sends() {
    let bench = bench(true).await;
    let mut camera = bench.recordings.start(1);
    bench.recordings.send(&mut camera, 11.0);
    let here = |bench: &Bench| -> Vec<bool> {
        (1..=5).map(|n| bench.recordings.path(&camera).join(File::Segment(n).to_string()).exists()).collect()
    };
    let deadline = Instant::now() + Duration::from_secs(40);
    while bench.fake.keys().len() < 6 || here(&bench).into_iter().any(|there| there) {
        assert!(Instant::now() < deadline, "closed segments leave the disk: {:?}", here(&bench));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (local, second) = bench.read(&camera, File::Segment(2)).await.unwrap();
    assert!(!local && !second.is_empty());
    bench.recordings.finish(&camera).await;
    let row = bench.recordings.row(&camera).await;
    assert_eq!((row.state, row.gaps), (RecordingState::Complete, 0));
    bench.drained().await;
    bench.until_gone(&camera).await;
    let (_, manifest) = bench.read(&camera, File::Manifest).await.unwrap();
    let manifest: recorder::Manifest = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest.segments.len(), 6);
    for segment in &manifest.segments {
        let (_, bytes) = bench.read(&camera, segment.file.parse().unwrap()).await.unwrap();
        assert_eq!(Digest::of(&bytes).to_string(), segment.sha256);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_keeps_segments_that_only_the_store_has() {
    let bench = bench(true).await;
    let mut camera = bench.recordings.start(1);
    bench.recordings.send(&mut camera, 11.0);
    let first = bench.recordings.path(&camera).join(File::Segment(1).to_string());
    let deadline = Instant::now() + Duration::from_secs(40);
    while bench.fake.keys().len() < 6 || first.exists() {
        assert!(Instant::now() < deadline, "closed segments leave the disk");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let Bench { fake, recordings, uploads, _place } = bench;
    let folder = recordings.folder.clone();
    uploads.stop();
    let store = recordings.crash();
    let settings = UploadSettings { same_volume: true, ..settings(&folder, &fake) };
    let (uploads, _) = starting(&settings, fake.objects(), &store);
    let recordings = Recordings::uploading(recording(&folder), store, Some(uploads.clone())).await;
    let bench = Bench { fake, recordings, uploads, _place };
    let row = bench.recordings.until(&camera, RecordingState::Repaired).await;
    assert!((9_900..=11_050).contains(&row.duration_ms) && row.gaps == 0, "{row:?}");
    bench.drained().await;
    let (_, mp4) = bench.read(&camera, File::Export(1)).await.unwrap();
    assert!(mp4.len() as u64 > row.bytes);
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
    assert!(bench.read(&camera, File::Segment(1)).await.unwrap().0, "it is played from the disk");
    let (_, mp4) = bench.read(&camera, File::Export(1)).await.unwrap();
    assert!(mp4.len() as u64 > manifest.segments.iter().map(|segment| segment.bytes).sum());
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
    let row = bench.recordings.row(&camera).await;
    match bench.recordings.library().open(&row, File::Segment(1)).await.unwrap() {
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
async fn lost_disk_is_restored_from_the_store() {
    let bench = bench(true).await;
    let mut whole = Vec::new();
    for room in 1..=4 {
        let camera = bench.record_in(room).await;
        bench.drained().await;
        bench.until_gone(&camera).await;
        let (_, mp4) = bench.read(&camera, File::Export(1)).await.unwrap();
        whole.push((camera, mp4));
    }
    let mut running = bench.recordings.start(5);
    bench.recordings.send(&mut running, 11.0);
    let keys = |bench: &Bench| bench.fake.keys().iter().filter(|key| key.contains(running.id.as_str())).count();
    let deadline = Instant::now() + Duration::from_secs(20);
    while keys(&bench) < 6 {
        assert!(Instant::now() < deadline, "its init segment and five segments are in the store");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.uploads.stop();
    let Bench { fake, recordings, .. } = bench;
    drop(recordings.crash());
    // Another disk, and another registry.
    let place = tempfile::tempdir().unwrap();
    let (folder, store) = (place.path().join("recordings"), Store::in_memory().await.unwrap());
    std::fs::create_dir(&folder).unwrap();
    let settings = UploadSettings { same_volume: true, ..settings(&folder, &fake) };
    let (uploads, _) = starting(&settings, fake.objects(), &store);
    let recordings = Recordings::uploading(recording(&folder), store, Some(uploads.clone())).await;
    let bench = Bench { fake, recordings, uploads, _place: place };
    while bench.recordings.store.recording(&running.id).await.unwrap().is_none() {
        assert!(Instant::now() < deadline + Duration::from_secs(20), "it is listed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let row = bench.recordings.until(&running, RecordingState::Repaired).await;
    assert!((9_900..=10_100).contains(&row.duration_ms) && row.gaps == 0, "{row:?}");
    // It is another owner: nothing is written before that is confirmed.
    let owner = bench.recordings.store.store_owner().await.unwrap();
    bench.fake.objects().take_over(&owner).await.unwrap();
    bench.drained().await;
    for (camera, expected) in &whole {
        let shown = bench.recordings.shown(camera).await;
        assert_eq!((shown.recording.state, shown.stored), (RecordingState::Complete, Some(true)));
        let (local, mp4) = bench.read(camera, File::Export(1)).await.unwrap();
        assert!(!local && mp4 == *expected, "{}", camera.id);
    }
    let (_, mp4) = bench.read(&running, File::Export(1)).await.unwrap();
    assert!(mp4.len() as u64 > row.bytes);
    let manifest = format!("front-door/{}/manifest.json", running.id);
    assert!(bench.fake.keys().contains(&manifest), "nothing of it is an orphan");
    // Again: nothing changes.
    let puts = bench.fake.count("PUT");
    let reindex = crate::recording::reindex::Reindex {
        store: &bench.recordings.store,
        objects: Some(&bench.fake.objects()),
        directory: &bench.recordings.folder,
    };
    let again = reindex.run().await.unwrap();
    assert_eq!((again.added, again.unfinished.len(), again.unreadable.len()), (0, 0, 0), "{again:?}");
    assert_eq!(bench.fake.count("PUT"), puts);
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
