//! kill -9 while segments are recorded, uploaded, evicted and finished: what was synced stays, here or in the store.

use crate::harness::{Setup, alone, camera, decode_errors, figure, frames_in, until};
use crate::store::{Kind, Store, check, session};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;

const KILLS: usize = 200;
/// Frames per second of the built-in clip.
const RATE: f64 = 30.0;
/// Seconds that may be missing: a part, and what was not received whole.
const LACK: f64 = 1.0;
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "nightly"]
async fn kill_9_under_uploads_and_eviction_costs_a_part() {
    let _turn = alone().await;
    let Some(store) = Store::start(Kind::Minio).await else { return };
    let seed = std::env::var("E2E_SEED").map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    figure(&format!("E2E_SEED={seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let setup: Setup = store.setup();
    let (mut lacks, mut ids) = (Vec::new(), Vec::new());
    let mut server = setup.start().await;
    for kill in 0..KILLS {
        let room = format!("kill-{kill}");
        let camera = camera(&server, &room).await;
        let id = server.api.stream(&room).await.unwrap()["id"].as_str().unwrap().to_owned();
        // Sometimes the stream ends before, so that the kill hits finishing and upload.
        tokio::time::sleep(Duration::from_millis(random.random_range(1000..6000))).await;
        let sent = camera.stats().video.unwrap().frames;
        if random.random_bool(0.3) {
            let _ =
                tokio::time::timeout(Duration::from_millis(random.random_range(0..400)), server.api.end(&room)).await;
        }
        server.kill();
        drop(camera);

        server = setup.start().await;
        until("it is finished", LIMIT, || async {
            let row = server.api.get(&format!("/recordings/{id}")).await;
            let state = (row.status == 200).then(|| row.json()["state"].as_str().unwrap().to_owned());
            state.filter(|state| state == "complete" || state == "repaired")
        })
        .await;
        let mp4 = store.place().join("recording.mp4");
        let whole = reqwest::get(server.url(&format!("/recordings/{id}/recording.mp4"))).await.unwrap();
        std::fs::write(&mp4, whole.bytes().await.unwrap()).unwrap();
        let kept = frames_in(&mp4).await;
        let lack = (sent as f64 - kept as f64) / RATE;
        assert!(lack <= LACK, "kill {kill}: {kept} of {sent} frames: {lack:.2} s are missing");
        assert_eq!(decode_errors(&mp4).await, "", "kill {kill}");
        lacks.push(lack);
        ids.push((room, id));
    }
    session(&server, "all is uploaded", |session| session["uploads"]["pending"] == 0).await;
    for (room, id) in &ids {
        until("it has left the disk", LIMIT, || async { (!setup.recordings().join(id).exists()).then_some(()) }).await;
        let manifest = check(&server, &store, room, id).await;
        assert!(manifest.gaps.is_empty(), "{room}: {:?}", manifest.gaps);
    }
    let worst = lacks.iter().copied().fold(0.0, f64::max);
    figure(&format!("{KILLS} times kill -9 under uploads: all is in the store; missing at most {worst:.2} s"));
}
