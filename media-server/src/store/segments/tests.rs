//! The index of many rooms over a month, and what goes in and out of it.

use super::*;
use crate::control::StreamId;
use crate::objects::Digest;
use crate::store::{NewRecording, RecordingOutcome, RecordingQuery, RecordingState, Upload, UploadState, key_prefix};
use recorder::File;
use recorder::index::IndexedSegment;
use std::time::{Duration, Instant};

const HOUR: u64 = 3600;

fn start() -> Timestamp {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

fn room(n: u64) -> RoomName {
    RoomName::parse(&format!("room-{n}")).unwrap()
}

/// An hour of segments of 10 s.
fn index(hour: u64) -> FinishedIndex {
    let segment = |n: u64| IndexedSegment {
        number: n as u32 + 1,
        init: 1,
        bytes: 250_000 + (n * 7919 + hour) % 5000,
        start: Duration::from_micros(10_000_111 * n),
        duration: Duration::from_micros(10_000_111),
        at: start() + Duration::from_millis(hour * HOUR * 1000 + 10_000 * n + n % 7),
        keyframe: true,
        discontinuity: false,
    };
    let gap =
        |from: f64| Gap { track: recorder::Track::Video, from, to: from + 2.5, reason: recorder::GapReason::Loss };
    FinishedIndex {
        segments: SegmentIndex { in_band: true, segments: (0..360).map(segment).collect() }.encode(),
        gaps: serde_json::to_string(&[gap(100.0), gap(2000.0)]).unwrap(),
    }
}

/// Fills a registry in one transaction: the first hour of each room by the usual path, the others like it.
async fn fill(store: &Store, rooms: u64, hours: u64) {
    for n in 0..rooms {
        let stream = StreamId::random();
        for hour in 0..hours {
            let started_at = start() + Duration::from_secs(hour * HOUR);
            let id = RecordingId::at(started_at);
            let new = NewRecording { path: id.to_string(), id, stream: stream.clone(), room: room(n), started_at };
            let outcome = RecordingOutcome {
                state: RecordingState::Complete,
                bytes: 90_000_000,
                duration: Duration::from_secs(HOUR),
                gaps: 2,
                ended_at: started_at + Duration::from_secs(HOUR),
                index: Some(index(hour)),
            };
            store.recording_started(&new).await.unwrap();
            store.recording_finished(&new.id, &outcome).await.unwrap();
        }
    }
}

#[tokio::test]
async fn day_view_of_many_rooms_is_quick() {
    let nightly = std::env::var_os("NIGHTLY").is_some_and(|value| value == "1");
    let (rooms, days) = if nightly { (100, 30) } else { (5, 4) };
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("registry.sqlite");
    let store = Store::open(&path).await.unwrap();
    // Durability is not what is measured.
    sqlx::query("PRAGMA synchronous = OFF").execute(&store.pool).await.unwrap();
    fill(&store, rooms, days * 24).await;
    let (mut views, mut pages) = (Vec::new(), Vec::new());
    for n in 0..200u64 {
        let from = start() + Duration::from_secs((n * 31 % (days - 1)) * 24 * HOUR + n * 17 % 3600);
        let to = from + Duration::from_secs(24 * HOUR);
        let began = Instant::now();
        let found = store.stretches(&room(n % rooms), from, to, 2160).await.unwrap();
        views.push(began.elapsed());
        assert!((24..=26).contains(&found.len()) && found[0].gaps.len() == 2, "{}", found.len());
        let began = Instant::now();
        let only = (n % 2 == 0).then(|| room(n % rooms));
        let query = RecordingQuery { room: only, from: Some(from), to: Some(to), ..RecordingQuery::default() };
        let page = store.listed_recordings(&query).await.unwrap();
        pages.push(began.elapsed());
        assert!(page.len() >= 24 && page.iter().all(|listed| listed.gaps.is_some()));
    }
    let p95 = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() * 95 / 100]
    };
    let (view, page) = (p95(&mut views), p95(&mut pages));
    store.close().await;
    let bytes = std::fs::metadata(&path).unwrap().len();
    let segments = rooms * days * 24 * 360;
    eprintln!("{segments} segments: day view p95 {view:?}, list page p95 {page:?}, SQLite {} MB", bytes >> 20);
    assert!(bytes / segments < 20, "{bytes} bytes");
    assert!(view <= Duration::from_millis(50) && page <= Duration::from_millis(50));
}

#[tokio::test]
async fn stretch_starts_with_the_recording_that_reaches_into_it() {
    let store = Store::in_memory().await.unwrap();
    fill(&store, 1, 5).await;
    let at = |minutes: u64| start() + Duration::from_secs(minutes * 60);
    for (from, to, expected) in
        [(90, 100, vec![1]), (59, 61, vec![0, 1]), (0, 600, vec![0, 1, 2, 3, 4]), (301, 400, vec![])]
    {
        let found = store.stretches(&room(0), at(from), at(to), 100).await.unwrap();
        let hours: Vec<i64> =
            found.iter().map(|stretch| stretch.recording.started_at.duration_since(start()).as_hours()).collect();
        assert_eq!(hours, expected, "{from} to {to}");
    }
    assert!(store.stretches(&room(1), at(0), at(600), 100).await.unwrap().is_empty());
}

#[tokio::test]
async fn segment_of_recording_being_finished_stays_on_disk() {
    let store = Store::in_memory().await.unwrap();
    let (id, room) = (RecordingId::at(start()), room(0));
    let new = NewRecording {
        path: id.to_string(),
        id: id.clone(),
        stream: StreamId::random(),
        room: room.clone(),
        started_at: start(),
    };
    store.recording_started(&new).await.unwrap();
    let record = |number: u32| -> SegmentRecord {
        let json = serde_json::json!({
            "number": number, "init": 1, "bytes": 10, "sha256": "", "start": 0, "end": 1, "at": "2026-11-01T00:00:00Z",
            "endedAt": "2026-11-01T00:00:01Z", "keyframe": true, "parts": {"start": 1, "end": 2}, "spans": [],
        });
        serde_json::from_value(json).unwrap()
    };
    store.segments_closed(&[(id.clone(), record(1)), (id.clone(), record(2))]).await.unwrap();
    for number in [1, 2] {
        let file = File::Segment(number);
        let new = NewUpload { file, bytes: 10, sha256: Digest::of(b"segment") };
        store.upload_queued(&id, &room, &new).await.unwrap();
        let upload = Upload {
            recording: id.clone(),
            file,
            key: format!("{}{file}", key_prefix(&room, &id)),
            bytes: 10,
            sha256: new.sha256,
            state: UploadState::Pending,
            attempts: 0,
        };
        store.upload_verified(&upload, start()).await.unwrap();
    }
    assert_eq!(store.evictable_segments(10).await.unwrap(), [(id.clone(), 1), (id.clone(), 2)]);
    assert!(store.segment_leaves_disk(&id, 1).await.unwrap());

    store.recording_finalising(&id).await.unwrap();
    assert!(store.evictable_segments(10).await.unwrap().is_empty());
    assert!(!store.segment_leaves_disk(&id, 2).await.unwrap());
    let elsewhere: Vec<bool> = store.open_segments(&id).await.unwrap().iter().map(|known| known.elsewhere).collect();
    assert_eq!(elsewhere, [true, false]);
}
