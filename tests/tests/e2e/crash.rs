//! A recording survives kill -9 of the server: at most the last second is missing.

use crate::harness::{Recorded, Setup, alone, camera, decode_errors, figure, frames_in};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;

const KILLS: usize = 10;
/// Frames per second of the built-in clip.
const RATE: f64 = 30.0;
/// Seconds that may be missing.
const LACK: f64 = 1.0;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_ten_random_moments_costs_at_most_a_second() {
    let _turn = alone().await;
    let seed = std::env::var("E2E_SEED").map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    figure(&format!("E2E_SEED={seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let setup = Setup::new();
    let mut lacks = Vec::new();
    let mut ids = Vec::new();
    let mut server = setup.start().await;
    for kill in 0..KILLS {
        let room = format!("kill-{kill}");
        let camera = camera(&server, &room).await;
        let id = server.api.stream(&room).await.unwrap()["id"].as_str().unwrap().to_owned();
        tokio::time::sleep(Duration::from_millis(random.random_range(1000..4000))).await;
        let sent = camera.stats().video.unwrap().frames;
        server.kill();
        drop(camera);

        server = setup.start().await;
        let recorded = Recorded::complete(&setup.recordings(), &id).await;
        let mp4 = recorded.mp4();
        let kept = frames_in(&mp4).await;
        let lack = (sent as f64 - kept as f64) / RATE;
        lacks.push(lack);
        assert!(lack <= LACK, "kill {kill}: {kept} of {sent} frames: {lack:.2} s are missing");
        assert!(recorded.manifest.repaired, "kill {kill}");
        assert_eq!(recorded.manifest.gaps, [], "kill {kill}");
        assert_eq!(decode_errors(&mp4).await, "", "kill {kill}");
        let stream = server.api.stream(&room).await.unwrap();
        assert_eq!((&stream["state"], &stream["endReason"]), (&"ended".into(), &"server-restart".into()), "{stream}");
        ids.push(id);
    }
    for id in &ids {
        assert!(Recorded::now(&setup.recordings(), id).is_some(), "{id} was complete and is no longer");
    }
    let worst = lacks.iter().copied().fold(0.0, f64::max);
    let mean = lacks.iter().sum::<f64>() / lacks.len() as f64;
    figure(&format!("{KILLS} times kill -9: all play; missing at most {worst:.2} s, {mean:.2} s on average"));
}
