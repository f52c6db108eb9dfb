//! Many cameras for hours, on a small disk with a store behind it: each rotation keeps every frame, and nothing grows.

use crate::harness::{Fleet, Server, Setup, Watch, alone, figure, until};
use crate::store::{Kind, Store};
use recorder::Manifest;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use streamsession_tests::camera::Totals;
use streamsession_tests::nightly::choose;
use streamsession_tests::samples::Samples;
use streamsession_tests::stream::Stream;

/// Of `recording.maxDuration`, which counts from midnight.
const ROTATION: Duration = Duration::from_secs(60);
/// From a rotation to the end of the cameras: more than a keyframe interval, at which the next recording starts.
const TAIL: Duration = Duration::from_secs(4);
/// Until the server has finished and uploaded all recordings.
const UPLOAD_LIMIT: Duration = Duration::from_secs(120);
/// A stream starts, its publisher joins and leaves, and it ends.
const EVENTS_PER_STREAM: usize = 4;
const DISK_LIMIT: f64 = 0.9;
/// Rooms that are read at a time.
const READERS: usize = 4;

struct Plan {
    cameras: usize,
    /// 64 kbit/s of it are audio.
    stream: Stream,
    rotations: u32,
    /// The cameras need it to start: they start earlier before a rotation, or after it.
    margin: Duration,
    disk: &'static str,
    keep_free: &'static str,
    memory: Flatness,
}

/// Mean resident memory of the last `window` may exceed that of a window after `warm_up` by a share.
struct Flatness {
    warm_up: Duration,
    window: Duration,
    growth: f64,
}

fn plan() -> Plan {
    let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
    choose(
        Plan {
            cameras: 6,
            stream: Stream::default(),
            rotations: 1,
            margin: second * 3,
            // Stored files are evicted at once, segments of recordings under way included.
            disk: "140M",
            keep_free: "90%",
            memory: Flatness { warm_up: second, window: second * 2, growth: 0.5 },
        },
        Plan {
            cameras: 50,
            // 136 kbit/s of picture: 59 frames of 500 bytes and one of 4,500 in two seconds.
            stream: Stream::sized(500, 4500, 60),
            // Two hours, or another number of minutes.
            rotations: std::env::var("E2E_ROTATIONS").map_or(120, |text| text.parse().unwrap()),
            margin: second * 15,
            // The server keeps 96 MiB free.
            disk: "300M",
            keep_free: "10%",
            memory: Flatness { warm_up: minute * 15, window: minute * 15, growth: 0.05 },
        },
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "nightly"]
async fn rotating_recordings_keep_every_frame_on_a_small_disk() {
    let _turn = alone().await;
    let Some(store) = Store::start(Kind::Minio).await else { return };
    let Plan { cameras, stream, rotations, margin, disk, keep_free, memory } = plan();
    let fields = format!(
        "limits: {{maxPublishers: {cameras}}}, recording: {{maxDuration: 1m, retention: {{keepFree: {keep_free}}}}}"
    );
    let setup = store.setup_with(store.address(), &fields).argument("--rate-limit").argument("0");
    let mount = setup.mount(disk, "rw");
    let setup = setup.data(mount.path());
    let server = setup.start().await;

    if until_rotation() < margin {
        tokio::time::sleep(until_rotation() + Duration::from_millis(10)).await;
    }
    let first_rotation = Instant::now() + until_rotation();
    let fleet = Fleet::publish(&server, cameras, &stream).await;
    let left = first_rotation.saturating_duration_since(Instant::now());
    assert!(left > Duration::from_millis(200), "the cameras did not start before a rotation");
    let end = left + ROTATION * (rotations - 1) + TAIL;
    let watch = Watch::run(&server, mount.path(), |sample| sample.at >= end).await;
    let sent = fleet.stop().await;
    for (room, _) in &sent {
        server.api.end(room).await;
    }
    let after = Watch::run(&server, mount.path(), drained(UPLOAD_LIMIT)).await;

    report(&watch, &memory, cameras);
    for (name, watch) in [("cameras", &watch), ("uploads", &after)] {
        assert!(watch.most(|sample| sample.disk) <= DISK_LIMIT, "{name}: {:.3}", watch.most(|sample| sample.disk));
        assert_eq!(watch.most(|sample| sample.paused), 0.0, "{name}: a recording was paused");
    }
    let recordings = rotations as usize + 1;
    let files = every_frame_is_recorded(&server, &sent, Some(recordings)).await;
    let metrics = server.metrics().await;
    for name in ["recorder_write_errors_total", "recorder_dropped_packets_total", "recorder_dropped_batches_total"] {
        assert_eq!(metrics.value(&format!("media_server_{name}")), 0.0, "{name}");
    }
    let finished = metrics.value("media_server_recordings_finished_total");
    assert_eq!(finished, (cameras * recordings) as f64, "recordings that were finished");
    assert!(metrics.value("media_server_recordings_evicted_total") > 0.0, "nothing left the disk");
    assert!(server.terminate(UPLOAD_LIMIT).await.success());
    registry_has(&setup, cameras, cameras * recordings, files).await;
    let growth = growth(&watch, &memory);
    assert!(growth <= memory.growth, "resident memory grew by {:.1} %", growth * 1e2);
}

/// Returns the time until the next rotation.
fn until_rotation() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let past = Duration::from_nanos((now.as_nanos() % ROTATION.as_nanos()) as u64);
    ROTATION - past
}

/// Returns whether nothing waits for its upload; panics at the limit.
fn drained(limit: Duration) -> impl FnMut(&crate::harness::Sample) -> bool {
    move |sample| {
        assert!(sample.at < limit, "{} files are not uploaded within {limit:?}", sample.pending);
        // The last recordings are queued when they are finished.
        sample.at >= Duration::from_secs(3) && sample.pending == 0.0
    }
}

fn growth(watch: &Watch, memory: &Flatness) -> f64 {
    let end = watch.samples.last().expect("samples").at;
    let early = watch.mean_memory(memory.warm_up, memory.warm_up + memory.window);
    watch.mean_memory(end - memory.window, end) / early - 1.0
}

fn report(watch: &Watch, memory: &Flatness, cameras: usize) {
    let end = watch.samples.last().expect("samples").at;
    let mib = |from: Duration, to: Duration| watch.mean_memory(from, to) / f64::from(1 << 20);
    figure(&format!(
        "{cameras} cameras for {end:?}: {:.3} % of a core a camera; resident memory {:.1} MiB after {:?}, {:.1} MiB at the \
         end ({:+.1} %); disk used up to {:.1} %; up to {} files waited",
        watch.cores() / cameras as f64 * 1e2,
        mib(memory.warm_up, memory.warm_up + memory.window),
        memory.warm_up,
        mib(end - memory.window, end),
        growth(watch, memory) * 1e2,
        watch.most(|sample| sample.disk) * 1e2,
        watch.most(|sample| sample.pending)
    ));
}

/// Reads every recording back, and checks that it has each frame and audio packet once, in order, and that each room has
/// this number of recordings. Returns the number of their files.
pub(crate) async fn every_frame_is_recorded(
    server: &Server,
    sent: &[(String, Totals)],
    recordings: Option<usize>,
) -> usize {
    let mut files = 0;
    for rooms in sent.chunks(READERS) {
        let reads = rooms.iter().map(|(room, totals)| read_room(server, room, totals, recordings));
        files += futures_util::future::join_all(reads).await.into_iter().sum::<usize>();
    }
    let (frames, sounds) =
        sent.iter().fold((0, 0), |(frames, sounds), (_, totals)| (frames + totals.frames, sounds + totals.sounds));
    let repaired: u64 = sent.iter().map(|(_, totals)| totals.repaired).sum();
    figure(&format!(
        "{frames} frames and {sounds} sounds sent by {} cameras, all recorded once, in {files} files; {repaired} packets were \
         sent again",
        sent.len()
    ));
    files
}

async fn read_room(server: &Server, room: &str, sent: &Totals, recordings: Option<usize>) -> usize {
    let listed = until("every recording is stored", UPLOAD_LIMIT, || async {
        let page = server.api.get(&format!("/recordings?room={room}&limit=500")).await.json();
        let listed = page["recordings"].as_array().unwrap().clone();
        listed.iter().all(|recording| recording["stored"] == true).then_some(listed)
    })
    .await;
    assert_eq!(listed.len(), recordings.unwrap_or(listed.len()), "{room}: {listed:?}");
    let (mut samples, mut files) = (Samples::default(), 0);
    // The newest is listed first.
    for recording in listed.iter().rev() {
        let (state, gaps) = (&recording["state"], &recording["gapCount"]);
        assert!(state == "complete" && gaps == 0, "{recording}");
        assert!(recording["trouble"].is_null(), "{recording}");
        let id = recording["id"].as_str().unwrap();
        let manifest: Manifest =
            serde_json::from_slice(&server.api.file(&format!("/recordings/{id}/manifest.json")).await).unwrap();
        assert!(manifest.gaps.is_empty() && !manifest.repaired, "{manifest:?}");
        files += manifest.inits.len() + manifest.segments.len() + 2;
        for segment in &manifest.segments {
            let bytes = server.api.file(&format!("/recordings/{id}/{}", segment.file)).await;
            assert_eq!(bytes.len() as u64, segment.bytes, "{room}: {id}/{}", segment.file);
            samples.add(&bytes).unwrap_or_else(|error| panic!("{room}: {id}/{}: {error}", segment.file));
        }
    }
    in_order(room, "frames", &samples.frames, sent.frames);
    in_order(room, "sounds", &samples.sounds, sent.sounds);
    files
}

/// Checks that the numbers are those from 0 up to `sent`, each once.
fn in_order(room: &str, what: &str, numbers: &[u32], sent: u64) {
    let wrong = numbers.iter().zip(0..).find(|(found, expected)| *found != expected);
    assert_eq!(wrong, None, "{room}: the first of {what} that is not the expected one; {sent} were sent");
    assert_eq!(numbers.len() as u64, sent, "{room}: {what} recorded, and sent");
}

/// Checks the number of rows: those of streams and recordings, and none that was left behind.
async fn registry_has(setup: &Setup, streams: usize, recordings: usize, files: usize) {
    let registry = open(&setup.registry()).await;
    let rows = |query: &'static str| {
        let registry = registry.clone();
        async move { sqlx::query_scalar::<_, i64>(query).fetch_one(&registry).await.unwrap() as usize }
    };
    let found = [
        rows("SELECT count(*) FROM streams").await,
        rows("SELECT count(*) FROM sessions").await,
        rows("SELECT count(*) FROM recordings WHERE state = 'complete'").await,
        rows("SELECT count(*) FROM recordings").await,
        rows("SELECT count(*) FROM recording_index").await,
        rows("SELECT count(*) FROM stored_recordings WHERE committed_at IS NOT NULL").await,
        rows("SELECT count(*) FROM uploads WHERE state = 'verified'").await,
        rows("SELECT count(*) FROM uploads").await,
        rows("SELECT count(*) FROM open_segments").await,
        rows("SELECT count(*) FROM removals").await,
        rows("SELECT count(*) FROM events").await,
    ];
    let recorded = recordings;
    let expected =
        [streams, streams, recorded, recorded, recorded, recorded, files, files, 0, 0, streams * EVENTS_PER_STREAM];
    figure(&format!("registry: {found:?} rows, {} bytes", std::fs::metadata(setup.registry()).unwrap().len()));
    assert_eq!(
        found, expected,
        "rows of streams, sessions, recordings (complete, all), index, stored, files (verified, all), ..."
    );
}

async fn open(registry: &Path) -> SqlitePool {
    SqlitePool::connect_with(SqliteConnectOptions::new().filename(registry)).await.unwrap()
}
