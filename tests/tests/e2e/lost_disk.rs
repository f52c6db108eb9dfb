//! After the loss of its disk a server has the recordings of its store again.

use crate::harness::{Server, Setup, alone, camera, decode_errors, figure, frames_in, until};
use crate::store::{Kind, Store, record, session};
use serde_json::Value;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const ROOMS: [&str; 4] = ["gate", "yard", "hall", "roof"];

/// Deletes orphans of any age, and returns how many recordings and orphans that were.
fn prune_orphans(setup: &Setup, store: &Store) -> (u64, u64) {
    let ran = store.recordings(setup, &["prune", "--orphans", "--orphan-age", "0s", "--yes", "--json"]);
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let count = |field: &str| report["deleted"][field].as_u64().unwrap();
    (count("recordings"), count("orphans"))
}

/// Plays a recording to its end, and returns its frames.
async fn play(server: &Server, id: &str) -> u64 {
    let response = reqwest::get(server.url(&format!("/recordings/{id}/recording.mp4"))).await.unwrap();
    assert_eq!(response.status(), 200, "{id}");
    let path = server.setup().folder().join(format!("{id}.mp4"));
    std::fs::write(&path, response.bytes().await.unwrap()).unwrap();
    assert_eq!(decode_errors(&path).await, "", "{id}");
    frames_in(&path).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_disk_leaves_every_stored_recording() {
    let _turn = alone().await;
    let Some(store) = Store::start(Kind::Minio).await else { return };
    let setup = store.setup();
    let server = setup.start().await;
    let complete = futures_util::future::join_all(ROOMS.map(|room| record(&server, room, 5))).await;
    session(&server, "all of them are stored", |session| session["recordings"]["pendingUploads"] == 0).await;
    let mut frames = Vec::new();
    for id in &complete {
        frames.push(play(&server, id).await);
    }
    let camera = camera(&server, "door").await;
    let unfinished = server.api.stream("door").await.unwrap()["id"].as_str().unwrap().to_owned();
    until("two segments of the fifth are stored", LIMIT, || async {
        store.holds("door", &unfinished, "segment-000002.m4s").then_some(())
    })
    .await;
    server.kill();
    drop(camera);
    std::fs::remove_dir_all(setup.folder().join("data")).unwrap();

    let started = Instant::now();
    let server = setup.start().await;
    let listed = until("all are listed", LIMIT, || async {
        let list = server.api.get("/recordings").await.json();
        let ended = |one: &Value| ["complete", "repaired"].contains(&one["state"].as_str().unwrap());
        let ids = list["recordings"].as_array().unwrap().iter().filter(|one| ended(one));
        let ids: Vec<String> = ids.map(|one| one["id"].as_str().unwrap().to_owned()).collect();
        (ids.len() == complete.len() + 1).then_some(ids)
    })
    .await;
    let took = started.elapsed();
    assert!(complete.iter().chain([&unfinished]).all(|id| listed.contains(id)), "{listed:?}");
    assert_eq!(prune_orphans(&setup, &store), (0, 0), "before the take-over");
    for (id, frames) in complete.iter().zip(&frames) {
        assert_eq!(play(&server, id).await, *frames, "{id}");
    }
    let kept = play(&server, &unfinished).await;
    assert!(kept >= 100, "two segments of 2 s, and {kept} frames");

    let said = session(&server, "the owner is named", |session| session["store"]["reason"] == "OwnedByAnother").await;
    let said = said["store"]["message"].as_str().unwrap().to_owned();
    let (_, owner) = said.split_once("another server, ").unwrap();
    let owner = owner.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap();
    store.recordings(&setup, &["take-over", owner]);
    until("the manifest of the fifth is stored", LIMIT * 2, || async {
        store.holds("door", &unfinished, "manifest.json").then_some(())
    })
    .await;
    assert_eq!(prune_orphans(&setup, &store), (0, 0), "after the take-over");
    for id in complete.iter().chain([&unfinished]) {
        let out = setup.folder().join(format!("{id}-export.mp4"));
        store.recordings(&setup, &["export", id, "--out", out.to_str().unwrap()]);
        assert_eq!(decode_errors(&out).await, "", "{id}");
    }
    figure(&format!(
        "lost disk: {} recordings are listed {:.2} s after the start, {kept} frames of the unfinished one",
        listed.len(),
        took.as_secs_f64()
    ));
}
