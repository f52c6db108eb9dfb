//! Two hundred sessions and one operator: how much memory it takes, and how long its passes are. First they are paused, which
//! holds their pods at zero: made, and changed each once. Then all are let go at once, and a quota holds the pods at zero:
//! every other object is made and watched. How long a pass of that storm takes is the API server's affair, which has a core
//! and more to do; so there the time counts in which all are done, and the mean.

use super::inside::{Sessions, given, is_told, number, passes, until};
use super::local::Post;
use super::oracle::{self, told, written};
use super::release::Away;
use crate::harness::{alone, figure};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How many.
const SESSIONS: usize = 200;
/// Requests of the test at once: what it asks of the API server, the operator waits for.
const AT_ONCE: usize = 2;
/// What the operator may take, in KiB.
const MEMORY: u64 = 60 * 1024;
/// Within which 99 of 100 passes are over; a bound of a bucket.
const PASS: &str = "0.25";
/// The mean of a storm's passes, in seconds.
const MEAN: f64 = 0.25;
/// For all sessions to be told of.
const CONVERGED: Duration = Duration::from_secs(120);
/// At rest; longer than the longest time after which the operator looks again at what is well.
const REST: Duration = Duration::from_secs(60);

#[test]
fn two_hundred_sessions_take_little_memory_and_short_passes() {
    let _alone = alone();
    let _away = Away::begin();
    let post = Post::new("faults-scale");
    let namespace = post.kube.namespace.clone();
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-pods"}, "spec": {"hard": {"pods": "0"}},
    });
    post.kube.apply(&quota.to_string());
    let mut operator = post.operator().wait_ready();
    let variables = |phase: &str| {
        [
            ("SCALE_PHASE", phase.to_owned()),
            ("SCALE_NAMESPACE", namespace.clone()),
            ("SCALE_PID", operator.pid().to_string()),
            ("SCALE_METRICS", format!("http://{}/metrics", operator.listen())),
        ]
    };
    let inside = |phase: &str| passes("scale::inside_the_cluster", &variables(phase));
    let mut passed = vec![inside("busy")];
    oracle::wait_quiet(&namespace, &post.user, Duration::from_secs(20), Duration::from_secs(180));
    let mark = oracle::log().mark();
    passed.push(inside("rest"));
    let writes = written(&mark, &namespace, &post.user);
    passed.push(inside("changes"));
    assert!(writes.is_empty(), "at rest it writes:\n{}", told(&writes));
    assert_eq!(passed, [true; 3], "see above");
    operator.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the test above runs it, where the cluster is reached"]
async fn inside_the_cluster() {
    let scale = Scale {
        sessions: Sessions::of(&given("SCALE_NAMESPACE")).await,
        process: given("SCALE_PID"),
        metrics: given("SCALE_METRICS"),
        count: number("SCALE_SESSIONS", SESSIONS as u64) as usize,
    };
    let mut wrong = Vec::new();
    match given("SCALE_PHASE").as_str() {
        "busy" => {
            wrong.extend(scale.measured("created, paused", Bound::Share, async || scale.create().await).await);
            let changed = json!({"limits": {"maxPublishers": 7}});
            let change = async || scale.change(&changed).await;
            wrong.extend(scale.measured("changed, paused", Bound::Share, change).await);
            let unpaused = json!({"paused": false});
            let change = async || scale.change(&unpaused).await;
            wrong.extend(scale.measured("no longer paused", Bound::Mean, change).await);
        }
        "rest" => {
            wrong.extend(scale.measured("at rest", Bound::Share, async || tokio::time::sleep(REST).await).await);
        }
        _ => {
            let changed = json!({"limits": {"maxPublishers": 9}});
            let change = async || scale.change(&changed).await;
            wrong.extend(scale.measured("changed, each once", Bound::Mean, change).await);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

struct Scale {
    sessions: Sessions,
    process: String,
    metrics: String,
    count: usize,
}

/// What passes are held to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// 99 of 100 within [`PASS`].
    Share,
    /// [`MEAN`].
    Mean,
}

/// What the operator says of its passes: how many, and how many of them took no longer than allowed.
#[derive(Clone, Copy, Default)]
struct Passes {
    all: f64,
    short: f64,
    seconds: f64,
}

impl Scale {
    /// Does something, waits until all is told, and says where the operator is beyond its bounds.
    async fn measured(&self, what: &str, bound: Bound, work: impl AsyncFnOnce()) -> Vec<String> {
        let (before, cpu, begin) = (self.passes().await, self.cpu(), Instant::now());
        work().await;
        let all_told = until(CONVERGED, Duration::from_secs(1), async || {
            let sessions = self.sessions.list().await;
            let told = sessions.iter().filter(|session| is_told(session)).count();
            if told == self.count { Ok(()) } else { Err(format!("{told} of {} are told of", self.count)) }
        });
        let took = match all_told.await {
            Ok(()) => begin.elapsed(),
            Err(why) => panic!("{what}: {why} after {CONVERGED:?}"),
        };
        let (after, cpu) = (self.passes().await, self.cpu() - cpu);
        let (all, short) = (after.all - before.all, after.short - before.short);
        let share = if all > 0.0 { short / all } else { 1.0 };
        let mean = (after.seconds - before.seconds) / all.max(1.0);
        let (now, most) = (self.memory("VmRSS"), self.memory("VmHWM"));
        figure(&format!(
            "{} sessions {what} in {took:.1?}: {all} passes, {:.2} % within {PASS} s, {:.1} ms in the mean, {cpu:.1} s of CPU; {:.1} MiB now, {:.1} at most",
            self.count,
            share * 100.0,
            mean * 1e3,
            now as f64 / 1024.0,
            most as f64 / 1024.0,
        ));
        let mut wrong = Vec::new();
        if bound == Bound::Mean && mean > MEAN {
            wrong.push(format!("{what}: {all} passes took {mean:.3} s in the mean"));
        }
        if bound == Bound::Share && share < 0.99 {
            wrong.push(format!("{what}: {:.2} % of {all} passes took no longer than {PASS} s", share * 100.0));
        }
        if most > MEMORY {
            wrong.push(format!("{what}: the operator took {most} KiB"));
        }
        wrong
    }

    async fn create(&self) {
        stream::iter(0..self.count)
            .for_each_concurrent(AT_ONCE, async |number| {
                self.sessions.create(&name(number), &json!({"paused": true})).await.map(drop).unwrap();
            })
            .await;
    }

    async fn change(&self, spec: &Value) {
        stream::iter(0..self.count)
            .for_each_concurrent(AT_ONCE, async |number| {
                self.sessions.merge(&name(number), spec).await.map(drop).unwrap();
            })
            .await;
    }

    async fn passes(&self) -> Passes {
        let text = reqwest::get(&self.metrics).await.unwrap().text().await.unwrap();
        let value = |start: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(start));
            line.map_or(0.0, |value| value.trim().parse().unwrap())
        };
        const DURATION: &str = "streamsession_operator_reconcile_duration_seconds";
        Passes {
            all: value(&format!("{DURATION}_count")),
            short: value(&format!("{DURATION}_bucket{{le=\"{PASS}\"}}")),
            seconds: value(&format!("{DURATION}_sum")),
        }
    }

    /// In KiB.
    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Seconds.
    fn cpu(&self) -> f64 {
        let pid = self.process.parse().unwrap();
        streamsession_tests::sys::process_cpu(pid).map_or(0.0, |time| time.as_secs_f64())
    }
}

fn name(number: usize) -> String {
    format!("camera-{number}")
}
