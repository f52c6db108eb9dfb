//! The operator dies at each of its writes, before it, instead of its answer, or after it; another one takes over, and in
//! the end all is as if nothing had happened: the same objects, made and deleted as often.

use crate::chosen;
use crate::harness::{Kube, Session, alone, document, figure, text, until};
use crate::local::{Operator, Post, at_once};
use crate::objects::{difference, snapshot};
use crate::oracle::log;
use crate::release::Away;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use streamsession_tests::faults::abort::{Act, At};
use streamsession_tests::faults::audit::births_and_deaths;

/// From the start of the operator that takes over until all is as it should be; what the node alone takes to clear away a
/// pod whose programs have ended is not counted.
const READY: Duration = Duration::from_secs(30);
/// Without any fault; there are several at once.
const PATIENCE: Duration = Duration::from_secs(120);
const ACTS: [Act; 3] = [Act::AbortBefore, Act::AbortInstead, Act::AbortAfter];
const PHASES: [&str; 3] = ["create", "update", "delete"];

type Objects = BTreeMap<String, Value>;
type Counts = BTreeMap<String, u32>;

/// What one phase of a session's life came to.
#[derive(Clone, Debug)]
struct Phase {
    objects: Objects,
    /// Made and deleted by the operator, and pods by whomever.
    counts: Counts,
    /// That the operator which began it has written.
    writes: u32,
    /// From the start of the next operator, when the first one died.
    recovered: Option<Duration>,
}

/// Without what the case does not need, so that it is ready within seconds.
fn spec() -> Value {
    json!({
        "recording": {"enabled": false, "reclaimPolicy": "WaitForUploads"},
        "storage": {"mode": "Local", "size": "1Gi"}, "turn": {"mode": "Disabled"},
    })
}

#[test]
fn aborted_at_every_write_the_operator_ends_where_it_would_have_without() {
    let _turn = alone();
    let _away = Away::begin();
    let posts: Vec<Post> = (0..at_once()).map(|number| Post::new(&format!("faults-aborted-{number}"))).collect();
    let plain = live(&posts[0], "plain", None, None);
    let most = plain.iter().map(|phase| phase.writes).max().unwrap();
    for (name, phase) in PHASES.iter().zip(&plain) {
        figure(&format!("{name} without faults: {} writes, {:?}", phase.writes, phase.counts));
    }
    assert!(plain[0].writes >= 8, "{plain:#?}");

    // One more than there were: how often the status is written depends on the clock.
    let all = (1..=most + 1).flat_map(|write| ACTS.map(|act| At { write, act }));
    let chosen: VecDeque<At> = if chosen::short() { all.step_by(11).collect() } else { all.collect() };
    let (lives, begin) = (chosen.len(), Instant::now());
    let (queue, failures, recovered) = (Mutex::new(chosen), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for post in &posts {
            let (queue, failures, recovered, plain) = (&queue, &failures, &recovered, &plain);
            scope.spawn(move || {
                loop {
                    let Some(at) = queue.lock().unwrap().pop_front() else { return };
                    let name = format!("w{:02}-{}", at.write, format!("{:?}", at.act).to_lowercase());
                    match catch_unwind(AssertUnwindSafe(|| judged(post, &name, at, plain))) {
                        Ok(times) => recovered.lock().unwrap().extend(times),
                        Err(panic) => failures.lock().unwrap().push(format!("{at:?}: {}", words(&*panic))),
                    }
                }
            });
        }
    });
    let mut times: Vec<f64> = recovered.into_inner().unwrap();
    times.sort_by(f64::total_cmp);
    let at =
        |share: f64| times.get((times.len() as f64 * share) as usize).or(times.last()).copied().unwrap_or_default();
    figure(&format!(
        "{lives} lives in {:.0} s, {} aborts; settled after the restart: p50 {:.1} s, p90 {:.1} s, at most {:.1} s",
        begin.elapsed().as_secs_f64(),
        times.len(),
        at(0.5),
        at(0.9),
        at(1.0),
    ));
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {lives} lives:\n{}", failures.len(), failures.join("\n"));
    assert!(times.len() >= lives, "only {} aborts in {lives} lives", times.len());
}

/// A life with an abort in each phase, compared with one without. Gives the seconds that the operators took to recover.
fn judged(post: &Post, name: &str, at: At, plain: &[Phase]) -> Vec<f64> {
    let lived = live(post, name, Some(at), Some(plain));
    for (number, (wanted, seen)) in plain.iter().zip(&lived).enumerate() {
        if let Some(words) = difference(&wanted.objects, &seen.objects) {
            panic!("after {}: {words}", PHASES[number]);
        }
        assert_eq!(wanted.counts, seen.counts, "made and deleted in {}", PHASES[number]);
    }
    lived.iter().filter_map(|phase| phase.recovered).map(|time| time.as_secs_f64()).collect()
}

/// Creates, updates and deletes a session.
fn live(post: &Post, name: &str, at: Option<At>, plain: Option<&[Phase]>) -> Vec<Phase> {
    let kube = &post.kube;
    let session = Session { kube: kube.clone(), name: name.to_owned() };
    let wanted = |number: usize| plain.map(|plain| &plain[number].objects);
    let settled = |objects: Option<&Objects>| {
        let resource = kube.find("streamsession", name).unwrap_or_default();
        let generation = resource["metadata"]["generation"].as_i64();
        if resource["status"]["observedGeneration"].as_i64() != generation || !ready(&resource) {
            return Err(resource["status"].to_string());
        }
        as_wanted(kube, name, objects)
    };
    let created = phase(post, name, at, || drop(kube.apply(&document(name, &spec()))), || settled(wanted(0)));
    let update = || {
        // A live field, and one that needs a new pod.
        session.patch(json!({"limits": {"maxPublishers": 7}, "pod": {"nodeSelector": {"kubernetes.io/os": "linux"}}}));
    };
    let updated = phase(post, name, at, update, || settled(wanted(1)));
    let delete = || drop(kube.kubectl(&["delete", "streamsession", name, "--wait=false"]));
    let gone = || {
        let objects = snapshot(kube, name);
        let there: Vec<_> = objects.keys().filter(|name| !name.starts_with("PersistentVolumeClaim")).collect();
        if there.is_empty() { as_wanted(kube, name, wanted(2)) } else { Err(format!("{there:?}")) }
    };
    let deleted = phase(post, name, at, delete, gone);
    kube.delete("pvc", &format!("{name}-data"));
    vec![created, updated, deleted]
}

/// Does something under an operator that dies at a write, and waits until it is `settled`, by another one if need be.
fn phase(
    post: &Post,
    name: &str,
    at: Option<At>,
    act: impl FnOnce(),
    settled: impl Fn() -> Result<Objects, String>,
) -> Phase {
    let mark = log().mark();
    let mut operator = post.failing(name, at).wait_ready();
    let (mut next, mut restarted): (Option<Operator>, Option<Instant>) = (None, None);
    // Since when the time of the one that takes over is counted.
    let mut counted = None;
    act();
    let begin = Instant::now();
    let objects = loop {
        if next.is_none() && operator.ended().is_some() {
            (restarted, counted) = (Some(Instant::now()), Some(Instant::now()));
            next = Some(post.operator());
        }
        match settled() {
            Ok(objects) => break objects,
            Err(last) => {
                if let Some(counted) = &mut counted
                    && post.kube.find("pod", &format!("{name}-0")).is_some_and(|pod| is_being_cleared_away(&pod))
                {
                    *counted = Instant::now();
                }
                let late = begin.elapsed() > PATIENCE || counted.is_some_and(|moment| moment.elapsed() > READY);
                let journal = operator.written();
                assert!(!late, "not settled in time (restarted: {}); last: {last}\n{journal:#?}", restarted.is_some());
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let recovered = restarted.map(|moment| moment.elapsed());
    let writes = operator.written().len().try_into().unwrap();
    // What is made and deleted is so before anything is ready; the rest of the status is no matter here.
    drop((operator, next));
    let entries = log().about(&mark, &post.kube.namespace);
    let ours = |name_of: &str| name_of.starts_with(name);
    let by_operator = entries.iter().filter(|entry| entry.user == post.user && ours(&entry.name));
    let pod = format!("{name}-0");
    let pods = entries.iter().filter(|entry| entry.resource == "pods" && entry.name == pod && entry.created());
    let mut counts = births_and_deaths(by_operator);
    counts.insert("pods made".to_owned(), pods.count().try_into().unwrap());
    Phase { objects, counts, writes, recovered }
}

/// Whether a deleted pod's programs have all ended, and its node has yet to remove its cgroup, for which systemd may take
/// half a minute.
fn is_being_cleared_away(pod: &Value) -> bool {
    let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let ended = statuses.iter().all(|status| status.pointer("/state/terminated").is_some());
    pod.pointer("/metadata/deletionTimestamp").is_some() && !statuses.is_empty() && ended
}

fn as_wanted(kube: &Kube, name: &str, wanted: Option<&Objects>) -> Result<Objects, String> {
    let seen = snapshot(kube, name);
    match wanted.and_then(|wanted| difference(wanted, &seen)) {
        Some(words) => Err(words),
        None => Ok(seen),
    }
}

pub(crate) fn ready(resource: &Value) -> bool {
    let conditions = resource.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && text(condition, "/status") == "True")
}

/// What a panic said.
pub(crate) fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Waits until the session is Ready of the newest generation of its spec.
pub(crate) fn wait_in_force(session: &Session, limit: Duration) -> Duration {
    let begin = Instant::now();
    until(&format!("{} is in force", session.name), limit, || {
        let resource = session.get();
        let generation = resource["metadata"]["generation"].as_i64();
        if resource["status"]["observedGeneration"].as_i64() == generation && ready(&resource) {
            Ok(begin.elapsed())
        } else {
            Err(resource["status"].to_string())
        }
    })
}
