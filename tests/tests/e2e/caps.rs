//! Caps hold, whoever races, and slots of those who vanish come back.

use crate::harness::{
    Answer, Server, Setup, alone, camera, camera_offer, figure, media_client, until, viewer, viewer_offer, within,
};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// From the answer to the first connectivity check.
const NEVER_CONNECTED: Duration = Duration::from_secs(10);
/// From the last sign of life on.
const SILENT: Duration = Duration::from_secs(30);
/// Until the server has noticed, and a look has.
const NOTICE: Duration = Duration::from_secs(2);

fn refused(answer: &Answer, kind: &str, names: &str) {
    let detail = answer.problem(503, kind);
    assert!(detail.contains(names), "{detail}");
    let seconds: u64 = answer.header("retry-after").parse().unwrap_or_else(|_| panic!("Retry-After: {answer:?}"));
    assert!((1..=60).contains(&seconds), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_camera_and_the_third_viewer_are_refused() {
    let _turn = alone().await;
    let setup = Setup::new().variable("MEDIA_MAX_PUBLISHERS", "1").variable("MEDIA_MAX_SUBSCRIBERS_PER_ROOM", "2");
    let server = setup.start().await;
    let first = camera(&server, "door").await;
    refused(&server.api.offer("/whip/garden", camera_offer()).await, "publishers-full", "1");
    let watching = [viewer(&server, "door").await, viewer(&server, "door").await];
    refused(&server.api.offer("/whep/door", viewer_offer()).await, "subscribers-full", "2");

    let [one, two] = watching;
    one.stop().await.unwrap();
    let third = viewer(&server, "door").await;
    let seen = third.wait_for(|report| report.video.as_ref().is_some_and(|video| video.keyframes > 0));
    assert!(within("the third viewer's picture", Duration::from_secs(5), seen).await);
    for viewer in [two, third] {
        viewer.stop().await.unwrap();
    }
    first.stop().await.unwrap();
}

/// 100 at once ask for 10 slots; gives when the first asked.
async fn race(server: &Server, room: &str) -> Instant {
    let start = Instant::now();
    let joins: Vec<_> = (0..100)
        .map(|_| {
            let (api, path) = (server.api.clone(), format!("/whep/{room}"));
            tokio::spawn(async move { api.offer(&path, viewer_offer()).await })
        })
        .collect();
    let mut admitted = 0;
    for join in joins {
        let answer = join.await.unwrap();
        if answer.status == 201 {
            admitted += 1;
        } else {
            refused(&answer, "subscribers-full", "10");
        }
    }
    assert_eq!(admitted, 10, "of 100 that raced for 10 slots");
    start
}

/// Waits until nobody holds a slot without being connected.
async fn nobody_connecting(server: &Server, limit: Duration) {
    until("slots of those who never came", limit, || async {
        let metrics = server.api.get("/metrics").await.body;
        let gauge = metrics.lines().find_map(|line| line.strip_prefix("media_server_sessions_connecting "));
        (gauge.unwrap_or_else(|| panic!("{metrics}")).trim() == "0").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_100_racing_joins_10_are_let_in_and_their_slots_come_back() {
    let _turn = alone().await;
    let setup = Setup::new().variable("MEDIA_MAX_SUBSCRIBERS_PER_ROOM", "10").argument("--rate-limit").argument("0");
    let server = setup.start().await;
    let cameras = [camera(&server, "never").await, camera(&server, "vanish").await];

    // Ten that watch, to be killed; and a hundred that never send a packet.
    let url = server.url("/whep/vanish");
    let mut viewers = media_client(None, &["view", "-n", "10", "--seconds", "60", &url])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let watched = |stream: &serde_json::Value| {
        let connected =
            |viewer: &serde_json::Value| viewer["connected"] == true && viewer["packets"].as_u64() > Some(100);
        stream["live"]["viewers"].as_array().is_some_and(|all| all.len() == 10 && all.iter().all(connected))
    };
    server.api.stream_that("vanish", "ten viewers", Duration::from_secs(15), watched).await;
    viewers.kill().await.unwrap();
    let vanished = Instant::now();
    let raced = race(&server, "never").await;

    let (never, vanish) = tokio::join!(
        async {
            nobody_connecting(&server, NEVER_CONNECTED + NOTICE).await;
            raced.elapsed()
        },
        async {
            let empty = |stream: &serde_json::Value| stream["viewers"] == 0;
            server.api.stream_that("vanish", "slots of those who vanished", SILENT + NOTICE, empty).await;
            vanished.elapsed()
        }
    );
    race(&server, "never").await;
    race(&server, "vanish").await;
    figure(&format!(
        "100 racing joins for 10 slots: 10 let in; slots back {:.1} s after the offer without a check, {:.1} s after kill -9 of viewers",
        never.as_secs_f64(),
        vanish.as_secs_f64()
    ));
    for camera in cameras {
        camera.stop().await.unwrap();
    }
}
