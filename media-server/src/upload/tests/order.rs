//! What is uploaded when, and how often.

use super::bench::{Bench, room, until};
use crate::objects::Digest;
use crate::objects::fake::Fault;
use crate::store::{NewUpload, Store, Upload, UploadState, key_prefix};
use axum::http::Method;
use recorder::File;
use std::fs;
use std::time::Duration;

#[tokio::test]
async fn the_manifest_is_the_last_of_all() {
    let bench = Bench::new().await;
    let recording = bench.record(&["one", "two", "three"]).await;
    bench.uploads.recording_finished(&recording);
    bench.drained().await;
    let files =
        ["index.m3u8", "init-1.mp4", "manifest.json", "segment-000001.m4s", "segment-000002.m4s", "segment-000003.m4s"];
    assert_eq!(bench.stored(&recording), files, "and no MP4: it can be made");
    let requests = bench.fake.requests();
    let place =
        |request: &str| requests.iter().position(|made| *made == request).unwrap_or_else(|| panic!("{request}"));
    let of = |method: &str, file: &str| place(&format!("{method} gate/{recording}/{file}"));
    let [playlist, .., manifest] = [of("PUT", "index.m3u8"), of("PUT", "manifest.json")];
    for file in &files[3..] {
        assert!(of("PUT", file) < of("HEAD", file) && of("HEAD", file) < playlist, "{file}: {requests:?}");
    }
    assert!(of("HEAD", "index.m3u8") < manifest && playlist < manifest, "{requests:?}");
    for file in files {
        let object = bench.fake.object(&format!("gate/{recording}/{file}")).unwrap();
        assert_eq!(object, fs::read(bench.folder(&recording).join(file)).unwrap(), "{file}");
    }
    assert!(bench.status.store().ok && !bench.status.uploads().failing);
}

#[tokio::test]
async fn segments_go_up_while_the_stream_runs() {
    let bench = Bench::new().await;
    let recording = bench.record(&["one", "two"]).await;
    fs::rename(bench.folder(&recording).join("manifest.json"), bench.place.path().join("aside")).unwrap();
    bench.uploads.file_finished(&recording, &room(), File::Init(1), 4, Digest::of(b"init"));
    bench.uploads.file_finished(&recording, &room(), File::Segment(1), 3, Digest::of(b"one"));
    bench.until("both are there", |bench| bench.stored(&recording).len() == 2).await;
    fs::rename(bench.place.path().join("aside"), bench.folder(&recording).join("manifest.json")).unwrap();
    bench.uploads.recording_finished(&recording);
    bench.drained().await;
    assert_eq!(bench.stored(&recording).len(), 5);
    assert_eq!(bench.fake.count(&format!("PUT gate/{recording}/segment-000001")), 1);
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let mut bench = Bench::new().await;
    let recording = bench.record(&["one", "two", "three", "four"]).await;
    bench.uploads.recording_finished(&recording);
    bench.until("one is there", |bench| !bench.stored(&recording).is_empty()).await;
    bench.fake.fail_on(Method::PUT, Fault::BROKEN);
    bench.until("it fails", |bench| !bench.status.store().ok).await;
    let before = bench.stored(&recording);
    assert!(before.len() < 7);
    bench.stop();
    bench.fake.fail(None);
    bench.restart();
    bench.drained().await;
    assert_eq!(bench.stored(&recording).len(), 7);
    assert!(bench.store.stored_gaps(&recording).await.unwrap().is_some(), "it is known to be there");
}

#[tokio::test]
async fn what_the_journal_lost_is_found_on_the_disk() {
    let mut bench = Bench::new().await;
    let recording = bench.record(&["one", "two"]).await;
    bench.uploads.recording_finished(&recording);
    bench.drained().await;
    let before = bench.fake.keys();
    bench.stop();
    // Such as one that was restored without its database.
    let store = Store::in_memory().await.unwrap();
    bench.fake.objects().take_over(&store.store_owner().await.unwrap()).await.unwrap();
    bench.go_on_with(store);
    bench.until("it is known", |bench| bench.status.store().ok).await;
    bench.drained().await;
    assert_eq!(bench.fake.keys(), before, "to put it again changes nothing");
    assert!(bench.store.uploaded(&recording, File::Segment(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_recording_from_before_there_was_a_store_goes_up() {
    let mut bench = Bench::new().await;
    bench.stop();
    let recording = bench.record(&["one"]).await;
    bench.restart();
    bench.until("it is there", |bench| bench.stored(&recording).contains(&"manifest.json".to_owned())).await;
}

#[tokio::test]
async fn to_tell_it_twice_uploads_it_once() {
    let bench = Bench::new().await;
    let recording = bench.record(&["one"]).await;
    bench.uploads.recording_finished(&recording);
    bench.uploads.recording_finished(&recording);
    bench.drained().await;
    bench.uploads.recording_finished(&recording);
    bench.drained().await;
    assert_eq!(bench.fake.count("PUT"), 4);
}

#[tokio::test]
async fn a_new_manifest_replaces_the_old_one_and_nothing_else() {
    let bench = Bench::new().await;
    let recording = bench.record(&["one"]).await;
    bench.uploads.recording_finished(&recording);
    bench.drained().await;
    let path = bench.folder(&recording).join("manifest.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"me\"", "\"somebody\"");
    fs::write(&path, &text).unwrap();
    bench.uploads.recording_finished(&recording);
    bench.drained().await;
    assert_eq!(bench.fake.object(&format!("gate/{recording}/manifest.json")).unwrap(), text.as_bytes());
    assert_eq!(bench.fake.count("PUT"), 5);
}

#[tokio::test]
async fn a_segment_that_turned_out_unreadable_does_not_stay_there() {
    let bench = Bench::new().await;
    let recording = bench.record(&["one"]).await;
    fs::write(bench.folder(&recording).join("segment-000002.m4s"), "torn").unwrap();
    fs::rename(bench.folder(&recording).join("manifest.json"), bench.place.path().join("aside")).unwrap();
    bench.uploads.file_finished(&recording, &room(), File::Segment(2), 4, Digest::of(b"torn"));
    bench.until("it is there", |bench| bench.stored(&recording) == ["segment-000002.m4s"]).await;
    bench.fake.overwrite(&format!("gate/{recording}/hold"), b"");
    fs::rename(bench.place.path().join("aside"), bench.folder(&recording).join("manifest.json")).unwrap();
    bench.uploads.recording_finished(&recording);
    bench.drained().await;
    let files = ["hold", "index.m3u8", "init-1.mp4", "manifest.json", "segment-000001.m4s"];
    assert_eq!(bench.stored(&recording), files, "what is not ours stays");
}

#[tokio::test]
async fn at_most_two_run_at_once() {
    let bench = Bench::new().await;
    bench.fake.delay(Duration::from_millis(50));
    let mut recordings = Vec::new();
    for _ in 0..3 {
        recordings.push(bench.record(&["one", "two", "three"]).await);
    }
    recordings.iter().for_each(|recording| bench.uploads.recording_finished(recording));
    bench.drained().await;
    assert_eq!(bench.fake.most_puts(), 2);
}

#[tokio::test]
async fn large_backlog_runs_sixteen_at_once() {
    let bench = Bench::patient().await;
    // Much longer than the CPU time of a transfer, so that puts overlap.
    bench.fake.delay(Duration::from_millis(500));
    let segments = vec!["one"; 122];
    for _ in 0..4 {
        bench.uploads.recording_finished(&bench.record(&segments).await);
    }
    bench.until("16 run at once", |bench| bench.fake.most_puts() == 16).await;
    bench.fake.delay(Duration::ZERO);
    tokio::time::timeout(Duration::from_secs(60), bench.uploads.drained()).await.expect("all is uploaded");
    assert_eq!(bench.fake.most_puts(), 16);
    bench.fake.reset_most_puts();
    bench.fake.delay(Duration::from_millis(50));
    for _ in 0..3 {
        bench.uploads.recording_finished(&bench.record(&["one", "two", "three"]).await);
    }
    bench.drained().await;
    assert_eq!(bench.fake.most_puts(), 2, "the backlog is small again");
}

#[tokio::test]
async fn distant_due_time_does_not_delay_a_file() {
    let bench = Bench::new().await;
    // By now the uploader has reset the due times that it found at its start.
    bench.until("the bucket is probed", |bench| !bench.fake.requests().is_empty()).await;
    let recording = bench.record(&["one"]).await;
    let (file, bytes, sha256) = (File::Segment(1), 3, Digest::of(b"one"));
    bench.store.upload_queued(&recording, &room(), &NewUpload { file, bytes, sha256 }).await.unwrap();
    let key = format!("{}{file}", key_prefix(&room(), &recording));
    let upload =
        Upload { recording: recording.clone(), file, key, bytes, sha256, state: UploadState::Pending, attempts: 0 };
    // As left by a process with a clock a day ahead.
    let tomorrow = jiff::Timestamp::now() + Duration::from_secs(86_400);
    bench.store.upload_failed(&upload, tomorrow, "Failed").await.unwrap();
    bench.until("it is uploaded", |bench| bench.stored(&recording) == ["segment-000001.m4s"]).await;
    until("the journal has it", async || bench.store.upload_backlog().await.unwrap().files == 0).await;
}
