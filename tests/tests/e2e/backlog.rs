//! An absent object store: waiting files cost little, and are uploaded at the rate of the link once the store is back.

use crate::cameras::every_frame_is_recorded;
use crate::harness::{Fleet, Link, Server, Setup, Watch, alone, figure, until};
use crate::store::{Kind, Store};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};
use streamsession_tests::nightly::choose;
use streamsession_tests::stream::Stream;

/// Least share of the link that carries media while the backlog is uploaded.
const LINK_SHARE: f64 = 0.8;
/// Most of a core that the server may use while files wait and no camera sends.
const CORES: f64 = 0.1;
const WAITING_FILES: u32 = 100_000;
/// The longest delay between two attempts, and an attempt.
const RETRY_LIMIT: Duration = Duration::from_secs(75);

struct Away {
    cameras: usize,
    stream: Stream,
    segment: &'static str,
    away: Duration,
    /// Bytes per second.
    link: u64,
    drain_limit: Duration,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "nightly"]
async fn backlog_of_an_absent_store_fills_the_link() {
    let _turn = alone().await;
    let Some(mut store) = Store::start(Kind::Minio).await else { return };
    let second = Duration::from_secs(1);
    let Away { cameras, stream, segment, away, link: rate, drain_limit } = choose(
        Away {
            cameras: 4,
            stream: Stream::default(),
            segment: "1s",
            away: second * 15,
            link: 4_000_000,
            drain_limit: second * 20,
        },
        Away {
            cameras: 50,
            stream: Stream::sized(500, 4500, 60),
            segment: "10s",
            away: second * 3600,
            link: 10_000_000,
            drain_limit: second * 1200,
        },
    );
    let link = Link::start(store.address(), rate).await;
    let fields =
        format!("limits: {{maxPublishers: {cameras}}}, recording: {{segmentDuration: {segment}, maxDuration: 24h}}");
    let setup = store.setup_with(link.address(), &fields).argument("--rate-limit").argument("0");
    let server = setup.start().await;
    let fleet = Fleet::publish(&server, cameras, &stream).await;
    until("the first upload", RETRY_LIMIT, || async {
        (server.metrics().await.value("media_server_upload_bytes_total") > 0.0).then_some(())
    })
    .await;

    store.down();
    let watch = Watch::run(&server, setup.folder(), |sample| sample.at >= away).await;
    store.up().await;
    let drained = drain(&server, &link, cameras, drain_limit).await;
    let sent = fleet.stop().await;
    for (room, _) in &sent {
        server.api.end(room).await;
    }
    let bytes_per_second = drained.bytes / drained.took.as_secs_f64();
    figure(&format!(
        "{cameras} cameras, store away for {away:?}: {:.0} MB of {} files wait, {:.3} cores used meanwhile; {:.1} s after \
         its return uploads start; {:.0} MB uploaded in {:.1} s: {:.2} of {:.2} MB/s of the link, with {:.2} MB/s of it \
         used",
        drained.waiting / 1e6,
        watch.most(|sample| sample.pending),
        watch.cores(),
        drained.started.as_secs_f64(),
        drained.bytes / 1e6,
        drained.took.as_secs_f64(),
        bytes_per_second / 1e6,
        rate as f64 / 1e6,
        drained.carried as f64 / drained.took.as_secs_f64() / 1e6
    ));
    assert!(drained.started <= RETRY_LIMIT, "{:?}", drained.started);
    assert!(bytes_per_second >= LINK_SHARE * rate as f64, "{bytes_per_second:.0} of {rate} bytes a second");
    // A link that carries more than its rate would make the share meaningless.
    assert!(drained.carried as f64 <= rate as f64 * (drained.took.as_secs_f64() + 1.0), "{}", drained.carried);
    every_frame_is_recorded(&server, &sent, None).await;
}

/// How a backlog left.
struct Drained {
    /// Bytes that waited.
    waiting: f64,
    /// From the store's return to the first upload.
    started: Duration,
    /// From the first upload until only the newest segments wait.
    took: Duration,
    /// Uploaded meanwhile.
    bytes: f64,
    /// Carried by the link meanwhile.
    carried: u64,
}

async fn drain(server: &Server, link: &Link, cameras: usize, limit: Duration) -> Drained {
    let uploaded = async || server.metrics().await.value("media_server_upload_bytes_total");
    let (back, before) = (Instant::now(), uploaded().await);
    let waiting = server.metrics().await.value("media_server_uploads_pending_bytes");
    let carried_before = until("an upload after the store's return", RETRY_LIMIT, || async {
        let carried = link.carried();
        (uploaded().await > before).then_some(carried)
    })
    .await;
    let first = Instant::now();
    let bytes = until("the backlog is uploaded", limit, || async {
        let metrics = server.metrics().await;
        let few = metrics.value("media_server_uploads_pending") <= cameras as f64;
        few.then(|| metrics.value("media_server_upload_bytes_total") - before)
    })
    .await;
    let carried = link.carried() - carried_before;
    Drained { waiting, started: first - back, took: first.elapsed(), bytes, carried }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "nightly"]
async fn waiting_uploads_cost_little_while_the_store_refuses() {
    // Nothing listens there.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let failures = waiting_uploads_cost_little("refuses", address).await;
    assert!(failures > 0.0, "no attempt failed");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "nightly"]
async fn waiting_uploads_cost_little_while_the_store_is_silent() {
    // The kernel completes connections, and nothing answers on them.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    silent.set_nonblocking(true).unwrap();
    waiting_uploads_cost_little("is silent", silent.local_addr().unwrap()).await;
    assert!(silent.accept().is_ok(), "the store was not tried");
}

/// Measures a server with files that wait for a store at an address. Returns the number of requests that failed.
async fn waiting_uploads_cost_little(how: &str, store: SocketAddr) -> f64 {
    let _turn = alone().await;
    let setup = Setup::new().managed();
    let keys = setup.folder().join("keys");
    std::fs::create_dir(&keys).unwrap();
    for key in ["accessKeyId", "secretAccessKey"] {
        std::fs::write(keys.join(key), "tester-secret").unwrap();
    }
    let spec =
        format!("{{storage: {{mode: External, external: {{endpoint: \"http://{store}\", bucket: recordings}}}}}}");
    let setup = setup.spec(&spec).argument("--store-credentials-dir").argument(keys.to_str().unwrap());
    // It makes the registry.
    assert!(setup.start().await.terminate(RETRY_LIMIT).await.success());
    seed(&setup, WAITING_FILES).await;

    let server = setup.start().await;
    until("the files wait", RETRY_LIMIT, || async {
        (server.metrics().await.value("media_server_uploads_pending") == f64::from(WAITING_FILES)).then_some(())
    })
    .await;
    let span = Duration::from_secs(choose(15, 300));
    let watch = Watch::run(&server, setup.folder(), |sample| sample.at >= span).await;
    let cores = watch.cores();
    figure(&format!("{WAITING_FILES} files wait for a store that {how}: {cores:.4} cores over {span:?}"));
    let metrics = server.metrics().await;
    assert_eq!(metrics.value("media_server_uploads_pending"), f64::from(WAITING_FILES));
    assert!(cores < CORES, "{cores:.3} cores");
    // The metric appears with the first failure.
    metrics.find("media_server_store_failures_total").unwrap_or(0.0)
}

/// Queues files of recordings of 100 files each. A third of the files failed and is due within the next minute.
async fn seed(setup: &Setup, files: u32) {
    let registry = SqlitePool::connect_with(SqliteConnectOptions::new().filename(setup.registry())).await.unwrap();
    let seeded = sqlx::query(
        "WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < ?1 - 1)
         INSERT INTO uploads (recording, file, rank, key, bytes, sha256, state, attempts, next_at, queued_at, ready)
         SELECT printf('01900000-0000-7000-8000-%012d', n / 100),
             CASE n % 100 WHEN 98 THEN 'index.m3u8' WHEN 99 THEN 'manifest.json'
                 ELSE printf('segment-%06d.m4s', n % 100 + 1) END,
             max(n % 100 - 97, 0), 'gate/x/y', 1000000, printf('%064d', n), 'pending', n % 3 = 0,
             strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', printf('+%d seconds', n % 60)),
             printf('2026-01-01T00:00:00.%06dZ', n), n % 100 < 98
         FROM number",
    )
    .bind(files)
    .execute(&registry)
    .await
    .unwrap();
    assert_eq!(seeded.rows_affected(), u64::from(files));
    registry.close().await;
}
