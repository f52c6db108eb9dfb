//! How long it takes from `kubectl apply` until cameras can come.

use crate::harness::{Kube, Session, alone, figure, install, median, tests_folder};
use std::time::{Duration, Instant};

/// Sessions that are timed, one after the other.
const ROUNDS: usize = 5;
/// Seconds, half of the rounds.
const BOUND: f64 = 12.0;

#[test]
fn an_applied_session_is_ready_within_twelve_seconds() {
    let _turn = alone();
    install();
    let kube = Kube::restricted("ready");
    let example = std::fs::read_to_string(tests_folder().join("../examples/front-door.yaml")).unwrap();
    let mut seconds = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let said = kube.apply(&example);
        let session = Session { kube: kube.clone(), name: "front-door".to_owned() };
        session.wait_ready(Duration::from_secs(60));
        seconds.push(begin.elapsed().as_secs_f64());
        assert!(!said.contains("Warning"), "{said}");
        session.delete();
        kube.delete("pvc", "front-door-data");
    }
    let each: Vec<String> = seconds.iter().map(|seconds| format!("{seconds:.1}")).collect();
    let middle = median(&mut seconds);
    figure(&format!("from kubectl apply to Ready: p50 {middle:.1} s of {ROUNDS} ({} s)", each.join(", ")));
    assert!(middle <= BOUND, "p50 {middle:.1} s");
}
