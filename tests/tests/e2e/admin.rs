//! A newer spec holds at once and nobody notices but those who come: the operator's side of the server, as it is shipped.

use crate::harness::{Server, Setup, alone, camera, camera_offer, figure, until, viewer, viewer_offer};
use media_client::viewer::{ViewerReport, Watching};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;

/// A change is to be in force within this time.
const IN_FORCE: Duration = Duration::from_secs(3);

async fn tell(server: &Server, change: &Value) -> Value {
    let answer = server.management().put_json("/admin/session", change).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn caps(generation: i64, publishers: u32, subscribers: u32) -> Value {
    json!({"generation": generation, "spec": {
        "limits": {"maxPublishers": publishers, "maxSubscribersPerRoom": subscribers},
        "auth": {"mode": "Open", "acknowledgeOpen": true},
    }})
}

fn packets(report: &ViewerReport) -> (u64, u64) {
    (report.video.as_ref().map_or(0, |track| track.packets), report.audio.as_ref().map_or(0, |track| track.packets))
}

/// Waits for so many more packets of picture and sound.
async fn goes_on(watching: &Watching, video: u64, audio: u64) {
    let before = packets(&watching.report());
    until("more packets", Duration::from_secs(10), || async {
        let now = packets(&watching.report());
        (now.0 >= before.0 + video && now.1 >= before.1 + audio).then_some(())
    })
    .await;
}

/// Nothing is missing of what was sent since it came: sequence numbers are counted on the way of every packet.
fn is_whole(report: &ViewerReport, who: &str) {
    for track in [report.video.as_ref().unwrap(), report.audio.as_ref().unwrap()] {
        assert_eq!((track.lost, track.broken_frames), (0, 0), "{who}: {track:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caps_are_raised_and_lowered_while_people_watch_and_no_packet_is_missing() {
    let _turn = alone().await;
    let server = Setup::new().managed().variable("POD_IP", "127.0.0.1").start().await;
    let session = tell(&server, &caps(1, 1, 2)).await;
    assert_eq!(session["announced"], json!([server.media().to_string()]), "the pod's own address");
    let camera = camera(&server, "door").await;
    let mut watching = vec![viewer(&server, "door").await, viewer(&server, "door").await];
    server.api.offer("/whip/garden", camera_offer()).await.problem(503, "publishers-full");
    server.api.offer("/whep/door", viewer_offer()).await.problem(503, "subscribers-full");
    for watching in &watching {
        goes_on(watching, 60, 60).await;
    }

    let begun = Instant::now();
    tell(&server, &caps(2, 1, 5)).await;
    for _ in 0..3 {
        watching.push(viewer(&server, "door").await);
    }
    let joined = begun.elapsed();
    assert!(joined < IN_FORCE, "{joined:?}");
    server.api.offer("/whep/door", viewer_offer()).await.problem(503, "subscribers-full");
    for watching in &watching {
        goes_on(watching, 60, 60).await;
    }
    let session = server.management().get("/admin/session").await.json();
    assert_eq!(
        (&session["generation"], &session["limits"]["maxSubscribersPerRoom"], &session["subscribers"]),
        (&json!(2), &json!(5), &json!(5)),
        "{session}"
    );

    tell(&server, &caps(3, 1, 1)).await;
    for watching in &watching {
        goes_on(watching, 60, 60).await;
    }
    assert_eq!(server.management().get("/admin/session").await.json()["subscribers"], 5, "who is there stays");
    server.api.offer("/whep/door", viewer_offer()).await.problem(503, "subscribers-full");

    let mut counted = 0;
    for (index, watching) in watching.into_iter().enumerate() {
        let report = watching.stop().await.unwrap();
        is_whole(&report, &format!("viewer {index}"));
        counted += packets(&report).0 + packets(&report).1;
    }
    camera.stop().await.unwrap();
    figure(&format!(
        "caps 1/2 to 1/5 to 1/1 under 5 viewers: {counted} packets, none missing; three more watch {:.2} s after the change",
        joined.as_secs_f64()
    ));
}

/// A port that leads to the server, as a Service's does; counts what comes to it.
async fn way_to(server: SocketAddr) -> (SocketAddr, Arc<AtomicU64>) {
    let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let (address, count) = (front.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = front.recv_from(&mut buffer).await {
            counted.fetch_add(1, Ordering::Relaxed);
            if let Entry::Vacant(vacant) = backs.entry(from) {
                let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                back.connect(server).await.unwrap();
                vacant.insert(Arc::clone(&back));
                let front = Arc::clone(&front);
                tokio::spawn(async move {
                    let mut buffer = [0; 2048];
                    while let Ok(length) = back.recv(&mut buffer).await {
                        let _ = front.send_to(&buffer[..length], from).await;
                    }
                });
            }
            let _ = backs[&from].send(&buffer[..length]).await;
        }
    });
    (address, count)
}

fn candidates(answer: &str) -> Vec<String> {
    let lines = answer.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
    let address =
        |line: &str| line.split(' ').nth(4).zip(line.split(' ').nth(5)).map(|(ip, port)| format!("{ip}:{port}"));
    let mut all: Vec<String> = lines.filter_map(address).collect();
    all.dedup();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn another_announced_address_is_in_the_next_answer_without_a_restart() {
    let _turn = alone().await;
    let server = Setup::new().managed().start().await;
    let camera = camera(&server, "door").await;
    let announce = |address: SocketAddr| json!({"generation": 1, "spec": {}, "announced": [address.to_string()]});
    let (first, through_first) = way_to(server.media()).await;
    assert_eq!(tell(&server, &announce(first)).await["announced"], json!([first.to_string()]));
    let one = viewer(&server, "door").await;
    goes_on(&one, 60, 60).await;
    assert!(through_first.load(Ordering::Relaxed) > 0, "by the way that was announced");

    let (second, through_second) = way_to(server.media()).await;
    let begun = Instant::now();
    tell(&server, &announce(second)).await;
    let answer = server.api.offer("/whep/door", viewer_offer()).await;
    let followed = begun.elapsed();
    assert_eq!((answer.status.as_u16(), candidates(&answer.body)), (201, vec![second.to_string()]), "{answer:?}");
    let other = viewer(&server, "door").await;
    goes_on(&other, 60, 60).await;
    assert!(through_second.load(Ordering::Relaxed) > 0);
    goes_on(&one, 60, 60).await;

    for (watching, who) in [(one, "the first viewer"), (other, "the second viewer")] {
        is_whole(&watching.stop().await.unwrap(), who);
    }
    camera.stop().await.unwrap();
    figure(&format!(
        "announced address: the new one was in the next answer, {:.0} ms later",
        followed.as_secs_f64() * 1e3
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_management_token_is_taken_without_a_restart_and_the_one_before_for_as_long_as_it_is_there() {
    let _turn = alone().await;
    let server = Setup::new().managed().start().await;
    let old = server.management().clone();
    let token = "another-management-token-0123456789abcdef";
    let new = old.with_token(token);
    assert_eq!(new.get("/admin/session").await.status, 401);
    let file = server.setup().management_token_file();
    std::fs::copy(&file, file.with_file_name("token.previous")).unwrap();
    std::fs::write(&file, token).unwrap();
    let taken = async |api: &crate::harness::Api, status: u16| {
        until("the token", Duration::from_secs(10), || async {
            (api.get("/admin/session").await.status == status).then_some(())
        })
        .await;
    };
    taken(&new, 200).await;
    assert_eq!(old.get("/admin/session").await.status, 200);
    std::fs::remove_file(file.with_file_name("token.previous")).unwrap();
    taken(&old, 401).await;
    assert_eq!(new.get("/admin/session").await.status, 200);
    assert_eq!(server.api.get("/admin/session").await.status, 404, "management is not where people are");
}
