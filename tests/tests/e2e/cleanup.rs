//! What an operator does to recordings beside a running server, and has it do: prune them, and drain.

use crate::harness::{Server, Setup, alone, camera, camera_offer, figure, listen, until, viewer_offer};
use crate::store::{Kind, Store, check, record, session, until_gone};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

/// Puts this retention in force, and nothing else.
async fn tell(server: &Server, generation: i64, retention: Value, drain: bool) -> Value {
    let change = json!({"generation": generation, "drain": drain, "spec": {
        "recording": {"segmentDuration": "2s", "retention": retention},
        "auth": {"mode": "Open", "acknowledgeOpen": true},
    }});
    let answer = server.management().put_json("/admin/session", &change).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// `media-server recordings prune`, as a job of the server's own pod would run it.
fn prune(setup: &Setup, store: &Store, words: &[&str]) -> Value {
    let report = setup.folder().join("termination-log");
    let ran = store.recordings(setup, &[&["prune", "--json", "--report", report.to_str().unwrap()], words].concat());
    let told: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let document: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&told["recordings"], &told["kept"]), (&document["deleted"]["recordings"], &document["kept"]));
    document
}

/// Files below a folder, and bytes of them.
fn files(folder: &Path) -> (u64, u64) {
    let Ok(entries) = std::fs::read_dir(folder) else { return (0, 0) };
    entries.fold((0, 0), |(count, bytes), entry| {
        let entry = entry.unwrap();
        let (more, length) = match entry.metadata().unwrap() {
            folder if folder.is_dir() => files(&entry.path()),
            file => (1, file.len()),
        };
        (count + more, bytes + length)
    })
}

async fn listed(server: &Server) -> Vec<String> {
    let list = server.api.get("/recordings").await.json();
    list["recordings"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pruned_beside_a_running_server_is_forgotten_everywhere() {
    let _turn = alone().await;
    let Some(store) = Store::start(Kind::Versity).await else { return };
    let setup = store.setup();
    let server = setup.start().await;
    let evicted = record(&server, "gate", 3).await;
    let held = record(&server, "gate", 3).await;
    until_gone(&setup.recordings().join(&evicted)).await;
    until_gone(&setup.recordings().join(&held)).await;
    std::fs::write(store.objects("gate", &held).join("hold"), "").unwrap();
    tell(&server, 1, json!({"keepFree": "0%"}), false).await;
    let both = record(&server, "gate", 3).await;
    session(&server, "it is in the store", |session| session["recordings"]["pendingUploads"] == 0).await;
    assert!(setup.recordings().join(&both).exists());
    let camera = camera(&server, "yard").await;
    let running = server.api.stream("yard").await.unwrap()["id"].as_str().unwrap().to_owned();
    until("it is recorded", LIMIT, || async { listed(&server).await.contains(&running).then_some(()) }).await;

    let in_store = || files(store.objects("gate", "").as_path());
    let on_disk = || [&evicted, &held, &both].map(|id| files(&setup.recordings().join(id)));
    let (objects, folders) = (in_store(), on_disk());
    let dry = prune(&setup, &store, &["--max-age", "0s", "--orphans", "--dry-run"]);
    assert_eq!((in_store(), on_disk()), (objects, folders), "a dry run deletes nothing");
    let real = prune(&setup, &store, &["--max-age", "0s", "--orphans", "--yes"]);
    for part in ["recordings", "orphans", "debris", "deleted", "kept"] {
        assert_eq!(dry[part], real[part], "{part}");
    }
    assert_eq!((&real["deleted"]["recordings"], &real["kept"]["held"]), (&json!(2), &json!(1)), "{real}");
    let (left, gone) = (in_store(), folders.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)));
    let gone = (gone.0 + objects.0 - left.0, gone.1 + objects.1 - left.1);
    assert_eq!((&real["deleted"]["files"], &real["deleted"]["bytes"]), (&json!(gone.0), &json!(gone.1)));
    assert_eq!((on_disk(), files(&store.objects("gate", &both)).0), ([(0, 0); 3], 0));

    assert_eq!(listed(&server).await, [running.as_str(), held.as_str()], "the server knows, while it runs");
    for id in [&evicted, &both] {
        server.api.get(&format!("/recordings/{id}")).await.problem(404, "recording-not-found");
        server.api.get(&format!("/recordings/{id}/manifest.json")).await.problem(404, "recording-not-found");
    }
    server.api.delete(&format!("/recordings/{held}")).await.problem(409, "held");
    server.api.end("yard").await;
    drop(camera);
    let well = |session: &Value| session["recordings"]["pendingUploads"] == 0 && session["uploads"]["pending"] == 0;
    session(&server, "what was recorded meanwhile is in the store", well).await;
    assert!(check(&server, &store, "yard", &running).await.gaps.is_empty());
    assert_eq!(in_store(), left, "nothing came back");

    assert!(server.terminate(LIMIT).await.success());
    let server = setup.start().await;
    session(&server, "the store is asked", |session| session["store"]["ok"] == true).await;
    session(&server, "nothing waits", well).await;
    assert_eq!(listed(&server).await, [running, held]);
    assert_eq!(in_store(), left, "nothing came back after a restart");
    figure(&format!("pruned beside a running server: {} files and objects, {} bytes", gone.0, gone.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_has_the_server_drain_and_waits_until_the_store_has_all() {
    let _turn = alone().await;
    let Some(mut store) = Store::start(Kind::Versity).await else { return };
    let setup = store.setup();
    let mut server = setup.start().await;
    session(&server, "the store is asked", |session| session["store"]["ok"] == true).await;
    let camera = camera(&server, "gate").await;
    let id = server.api.stream("gate").await.unwrap()["id"].as_str().unwrap().to_owned();
    until("the first segment", LIMIT, || async {
        setup.recordings().join(&id).join("segment-000002.m4s").exists().then_some(())
    })
    .await;
    // Without media its session does not last.
    let notices = listen(&server, "gate").await;
    store.down();
    let begun = Instant::now();
    let told = tell(&server, 1, json!({"keepFree": "90%"}), true).await;
    assert_eq!((&told["draining"], &told["drained"]), (&json!(true), &json!(false)), "{told}");
    let answered = begun.elapsed();
    assert!(answered < Duration::from_secs(2), "{answered:?}");
    assert!(notices.await.unwrap().ends_with("event: reconnect\ndata: {}\n\n"));
    server.api.offer("/whip/gate", camera_offer()).await.problem(503, "draining");
    server.api.offer("/whep/gate", viewer_offer()).await.problem(503, "draining");
    drop(camera);
    assert_eq!(server.management().get("/healthz").await.status, 200);
    server.management().get("/readyz").await.problem(503, "not-ready");
    let finished =
        |session: &Value| session["recordings"]["pendingUploads"] == 1 && session["uploads"]["failing"] == true;
    let waits = session(&server, "it is finished, and not uploaded", finished).await;
    assert_eq!((&waits["drained"], &waits["store"]["reason"]), (&json!(false), &json!("Unreachable")), "{waits}");
    assert!(waits["uploads"]["message"].is_string() && waits["rooms"] == 0, "{waits}");

    store.up().await;
    let back = Instant::now();
    let done = session(&server, "drained", |session| session["drained"] == true).await;
    let uploaded = back.elapsed();
    assert_eq!((&done["uploads"]["pending"], &done["recordings"]["pendingUploads"]), (&json!(0), &json!(0)), "{done}");
    assert!(store.objects("gate", &id).join("manifest.json").is_file());
    assert!(server.is_alive());
    assert_eq!(tell(&server, 2, json!({"keepFree": "90%"}), false).await["drained"], true, "it is never undone");
    let told = Instant::now();
    assert!(server.terminate(Duration::from_secs(5)).await.success());
    figure(&format!(
        "drained by the operator: answered after {:.3} s, all in the store {:.2} s after it was back, ended {:.2} s after \
         SIGTERM",
        answered.as_secs_f64(),
        uploaded.as_secs_f64(),
        told.elapsed().as_secs_f64()
    ));
    let server = setup.start().await;
    let manifest = check(&server, &store, "gate", &id).await;
    assert!(!manifest.repaired && manifest.gaps.is_empty(), "{manifest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_a_server_has_drained_when_its_recordings_are_finalised() {
    let _turn = alone().await;
    let setup = Setup::new().managed().spec("{drain: {deadline: 10s}}");
    let server = setup.start().await;
    let camera = camera(&server, "gate").await;
    let id = server.api.stream("gate").await.unwrap()["id"].as_str().unwrap().to_owned();
    until("a segment", LIMIT, || async {
        setup.recordings().join(&id).join("segment-000001.m4s").exists().then_some(())
    })
    .await;
    tell(&server, 1, json!({}), true).await;
    session(&server, "drained", |session| session["drained"] == true).await;
    drop(camera);
    // At once: it was all done when it was said.
    assert!(setup.recordings().join(&id).join("manifest.json").is_file());
    assert!(server.terminate(Duration::from_secs(5)).await.success());
}
