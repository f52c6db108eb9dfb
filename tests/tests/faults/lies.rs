//! An API server whose answers cannot be believed, by a seed: refusals, answers that are lost after the change was made,
//! and watches that freeze, end, or lack something. Once it has calmed down, all is as it should be, and at rest.

use crate::aborted::{wait_in_force, words};
use crate::chosen::numbers;
use crate::harness::{Session, alone, document, figure, text, until};
use crate::local::{Post, at_once, sleep_until};
use crate::objects::{difference, snapshot};
use crate::oracle::{log, told, wait_quiet, written};
use crate::release::Away;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use streamsession_tests::faults::storm::Rates;

/// From the end of the storm; a session that could not be worked on may wait for a minute.
const CONVERGED: Duration = Duration::from_secs(75);
/// Of a storm, after each change.
const STORM: Duration = Duration::from_secs(4);
/// Longer than a session at rest is left alone.
const REST: Duration = Duration::from_secs(12);

fn spec() -> Value {
    json!({
        "recording": {"reclaimPolicy": "WaitForUploads"},
        "storage": {"mode": "Local", "size": "1Gi"}, "turn": {"mode": "Disabled"},
    })
}

/// Live fields, one after the other.
fn updates() -> [Value; 2] {
    [json!({"limits": {"maxPublishers": 7}}), json!({"exposure": {"announce": ["203.0.113.9"]}})]
}

#[test]
fn after_answers_that_lie_the_state_converges_and_nothing_is_written_at_rest() {
    let _turn = alone();
    let _away = Away::begin();
    let posts: Vec<Post> = (0..at_once()).map(|number| Post::new(&format!("faults-lies-{number}"))).collect();
    let operator = posts[0].operator().wait_ready();
    let session = Session::apply(&posts[0].kube, "truth", &spec());
    wait_in_force(&session, Duration::from_secs(60));
    for update in updates() {
        session.patch(update);
    }
    wait_in_force(&session, Duration::from_secs(60));
    let wanted = snapshot(&posts[0].kube, "truth");
    session.delete();
    drop(operator);

    let seeds = numbers("FAULT_SEEDS", &[1, 2], &(1..=20).collect::<Vec<_>>());
    figure(&format!("seeds {seeds:?}; one of them again: FAULT_SEEDS=N"));
    let (count, begin) = (seeds.len(), Instant::now());
    let queue = Mutex::new(seeds.into_iter().collect::<VecDeque<u64>>());
    let (failures, times) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for post in &posts {
            let (queue, failures, times, wanted) = (&queue, &failures, &times, &wanted);
            scope.spawn(move || {
                loop {
                    let Some(seed) = queue.lock().unwrap().pop_front() else { return };
                    match catch_unwind(AssertUnwindSafe(|| lied_to(post, seed, wanted))) {
                        Ok(time) => times.lock().unwrap().push(time),
                        Err(panic) => failures.lock().unwrap().push(format!("seed {seed}: {}", words(&*panic))),
                    }
                }
            });
        }
    });
    let (failures, times) = (failures.into_inner().unwrap(), times.into_inner().unwrap());
    let most = times.iter().copied().fold(0.0, f64::max);
    figure(&format!(
        "{count} seeds in {:.0} s; converged at most {most:.1} s after the storm",
        begin.elapsed().as_secs_f64()
    ));
    assert!(failures.is_empty(), "{} of {count} seeds:\n{}", failures.len(), failures.join("\n"));
}

/// Seconds from the end of the storm until all was in force.
fn lied_to(post: &Post, seed: u64, wanted: &BTreeMap<String, Value>) -> f64 {
    let (kube, name) = (&post.kube, format!("seed-{seed:04}"));
    let mut operator = post.behind(&name, seed, Rates::default());
    let mark = log().mark();
    kube.apply(&document(&name, &spec()));
    let session = Session { kube: kube.clone(), name: name.clone() };
    let pod_uid = || kube.find("pod", &format!("{name}-0")).map(|pod| text(&pod, "/metadata/uid"));
    // The storm may be such that there is no pod yet.
    sleep_until(Instant::now() + STORM);
    let before = pod_uid();
    for update in updates() {
        session.patch(update);
        sleep_until(Instant::now() + STORM);
    }
    operator.order("calm");
    let calm = Instant::now();
    wait_in_force(&session, CONVERGED);
    until("the objects are those of a run without faults", CONVERGED, || {
        difference(wanted, &snapshot(kube, &name)).map_or(Ok(()), Err)
    });
    let took = calm.elapsed().as_secs_f64();
    wait_quiet(&kube.namespace, &post.user, Duration::from_secs(3), Duration::from_secs(30));
    let rest = log().mark();
    sleep_until(Instant::now() + REST);
    let restless = written(&rest, &kube.namespace, &post.user);
    assert!(restless.is_empty(), "it writes at rest:\n{}", told(&restless));
    assert!(before.is_none() || before == pod_uid(), "the pod was made anew");
    let entries = log().about(&mark, &kube.namespace);
    let pods =
        entries.iter().filter(|entry| entry.resource == "pods" && entry.name == format!("{name}-0") && entry.created());
    assert_eq!((pods.count(), session.restarts()), (1, 0), "pods made, restarts");

    operator.order("storm");
    kube.kubectl(&["delete", "streamsession", &name, "--wait=false"]);
    sleep_until(Instant::now() + STORM);
    operator.order("calm");
    until("all of it is gone", CONVERGED, || {
        let left: Vec<String> =
            snapshot(kube, &name).into_keys().filter(|name| !name.starts_with("PersistentVolumeClaim")).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    operator.assert_running();
    kube.delete("pvc", &format!("{name}-data"));
    took
}
