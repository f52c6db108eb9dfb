//! A thousand specs made from the definition, each put in the place of a good one and taken back (A → B → A), on a real API
//! server with a real operator; a quota holds pods at zero. Each B is refused with a message that names the field, or the
//! operator tells of it and rests; and with A again, what belongs to the session is what it was.
//!
//! `FUZZ_SEED` and `FUZZ_CASES` choose which, and how many. A failure names its seed.

use super::inside::{Sessions, condition, given, is_told, number, passes, until};
use super::local::Post;
use super::release::Away;
use super::{chosen, oracle};
use crate::harness::{alone, figure};
use futures_util::future::join_all;
use k8s_openapi::jiff::Timestamp;
use operator::plan::own_secrets;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use streamsession_api::StreamSession;
use streamsession_tests::faults::audit::Entry;
use streamsession_tests::specs::{Case, Specs, Verdict, bases};

/// Sessions at once.
const LANES: usize = 12;
/// For the operator to tell of a spec and come to rest.
const CONVERGED: Duration = Duration::from_secs(30);
/// Between two looks at a session.
const LOOK: Duration = Duration::from_millis(200);
/// Nothing of a session may change within it, for it to be at rest.
const REST: Duration = Duration::from_millis(1_200);

#[test]
fn fuzzed_specs_are_refused_or_converge_and_a_again_is_a() {
    let _alone = alone();
    let _away = Away::begin();
    let post = Post::new("faults-fuzz");
    let namespace = &post.kube.namespace.clone();
    post.kube.apply(&json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-pods"}, "spec": {"hard": {"pods": "0"}},
    }).to_string());
    // The one that fuzzed specs name.
    let data = ["secret", "hs256", "tls.crt", "tls.key", "accessKeyId", "secretAccessKey"]
        .map(|key| (key.to_owned(), json!("of the user, 32 bytes and more.")));
    let data: serde_json::Map<String, Value> = data.into_iter().collect();
    post.kube.apply(
        &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "given"}, "stringData": data}).to_string(),
    );
    let mut operator = post.operator().wait_ready();
    let rests = tempfile::NamedTempFile::new().unwrap();
    let mark = oracle::log().mark();
    let variables = [("FUZZ_NAMESPACE", namespace.clone()), ("FUZZ_RESTS", rests.path().display().to_string())];
    let passed = passes("fuzz::inside_the_cluster", &variables);
    operator.assert_running();
    let log = fs::read_to_string(&operator.log).unwrap();
    // Of a watch that ends because one object of it cannot be read, above all.
    let bad: Vec<&str> =
        log.lines().filter(|line| line.contains("panicked") || line.contains("a watch failed")).collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    let restless = restless(rests.path(), &oracle::written(&mark, namespace, &post.user));
    assert!(restless.is_empty(), "written while a session was at rest:\n{}", restless.join("\n"));
    assert!(passed, "see above");
    oracle::wait_quiet(namespace, &post.user, Duration::from_secs(20), Duration::from_secs(60));
}

/// A time in which a session was at rest.
#[derive(Serialize, Deserialize)]
struct Rested {
    /// What it was to rest of.
    title: String,
    session: String,
    /// As the audit log writes times.
    from: String,
    to: String,
}

/// As the audit log writes it.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// What was written about a session while it was at rest: writes that change nothing are seen by nobody else.
fn restless(rests: &Path, writes: &[Entry]) -> Vec<String> {
    let text = fs::read_to_string(rests).unwrap();
    let mut found = Vec::new();
    for rested in text.lines().map(|line| serde_json::from_str::<Rested>(line).unwrap()) {
        let of_it =
            |entry: &&Entry| entry.name == rested.session || entry.name.starts_with(&format!("{}-", rested.session));
        // What is refused is tried again, after longer and longer times.
        let taken = |entry: &&Entry| entry.code < 300;
        let within = |entry: &&Entry| (&rested.from..&rested.to).contains(&&entry.time);
        let during: Vec<Entry> = writes.iter().filter(of_it).filter(taken).filter(within).cloned().collect();
        if !during.is_empty() {
            found.push(format!("{}:\n{}", rested.title, oracle::told(&during)));
        }
    }
    found
}

/// What all lanes share.
struct Fuzz {
    sessions: Sessions,
    specs: Specs,
    next: AtomicU64,
    end: u64,
    broken: AtomicBool,
    outcomes: Mutex<BTreeMap<String, u32>>,
    failures: Mutex<Vec<String>>,
    rests: Mutex<File>,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the test above runs it, where the cluster is reached"]
async fn inside_the_cluster() {
    let (first, count) = (number("FUZZ_SEED", 0), number("FUZZ_CASES", if chosen::short() { 100 } else { 1_000 }));
    let begin = Instant::now();
    let fuzz = Fuzz {
        sessions: Sessions::of(&given("FUZZ_NAMESPACE")).await,
        specs: Specs::new(),
        next: AtomicU64::new(first),
        end: first + count,
        broken: AtomicBool::new(false),
        outcomes: Mutex::default(),
        failures: Mutex::default(),
        rests: Mutex::new(File::options().append(true).open(given("FUZZ_RESTS")).unwrap()),
    };
    join_all((0..LANES).map(|lane| drive(&fuzz, lane))).await;
    figure(&format!("{count} specs from seed {first} in {:.0?}, A → B → A:", begin.elapsed()));
    for (outcome, count) in fuzz.outcomes.lock().unwrap().iter() {
        figure(&format!("{count:6} {outcome}"));
    }
    let failures = fuzz.failures.lock().unwrap();
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n\n"));
}

/// One session, with a good spec of its own that every case comes back to.
async fn drive(fuzz: &Fuzz, lane: usize) {
    let (name, all) = (format!("lane-{lane}"), bases());
    let good = &all[lane % all.len()];
    fuzz.sessions.create(&name, good).await.unwrap();
    let mut before = match fuzz.rest(&name, "A").await {
        Ok((_, children)) => children,
        Err(what) => return fuzz.fails(&format!("{name}, before the first case"), &what, good),
    };
    loop {
        let seed = fuzz.next.fetch_add(1, Ordering::SeqCst);
        if seed >= fuzz.end || fuzz.broken.load(Ordering::SeqCst) {
            break;
        }
        let case = fuzz.specs.case(seed);
        match fuzz.case(&name, good, &case, &before).await {
            Ok((outcome, after)) => {
                *fuzz.outcomes.lock().unwrap().entry(outcome).or_default() += 1;
                before = after.unwrap_or(before);
            }
            Err(what) => {
                fuzz.fails(&format!("{case}\n  in {name}, A = {good}"), &what, &case.spec);
                // So that a failure is that of its own case alone.
                fuzz.sessions.replace(&name, good).await.unwrap();
                match fuzz.rest(&name, "A").await {
                    Ok((_, children)) => before = children,
                    Err(what) => {
                        fuzz.fails(&format!("{name}, after {case}"), &what, good);
                        fuzz.broken.store(true, Ordering::SeqCst);
                    }
                }
            }
        }
    }
    // The plainest, so that its end waits for nothing.
    fuzz.sessions.replace(&name, &json!({})).await.unwrap();
    fuzz.sessions.delete(&name).await;
}

type Children = BTreeMap<String, Value>;

impl Fuzz {
    fn fails(&self, title: &str, what: &str, spec: &Value) {
        let text = format!("{title}\n  {what}\n  {spec}");
        figure(&format!("FAILED {text}"));
        self.failures.lock().unwrap().push(text);
    }

    /// How a case ends, and what there is of the session afterwards, if it may have changed.
    async fn case(
        &self,
        name: &str,
        good: &Value,
        case: &Case,
        before: &Children,
    ) -> Result<(String, Option<Children>), String> {
        let expected = self.specs.verdict(&case.spec);
        let taken = match self.sessions.replace(name, &case.spec).await {
            Ok(taken) => taken,
            Err(message) => {
                if !message.contains("spec") {
                    return Err(format!("it is refused, and no field is named: {message}"));
                }
                return match expected {
                    Verdict::Taken(_) => Err(format!("it is refused, and nobody knew: {message}")),
                    Verdict::Malformed(_) => Ok(("refused as malformed".to_owned(), None)),
                    Verdict::Refused(_) => Ok(("refused by a rule".to_owned(), None)),
                };
            }
        };
        match expected {
            Verdict::Taken(kept) if kept == taken["spec"] => {}
            other => return Err(format!("it is taken as {}, and expected was {other:?}", taken["spec"])),
        }
        if let Err(error) = serde_json::from_value::<StreamSession>(taken) {
            return Err(format!("it is taken, and the operator cannot read it: {error}"));
        }
        let (told, _) = self.rest(name, &format!("B of {case}")).await.map_err(|what| format!("B: {what}"))?;
        let (stalled, why) = condition(&told, "Stalled");
        let (ready, reason) = condition(&told, "Ready");
        let outcome = match stalled.as_str() {
            "True" => format!("stalled: {why}"),
            _ => format!("converged, Ready {ready}: {reason}"),
        };
        self.sessions.replace(name, good).await.map_err(|message| format!("A again: {message}"))?;
        let (_, after) =
            self.rest(name, &format!("A again after {case}")).await.map_err(|what| format!("A again: {what}"))?;
        let differences = differences(before, &after);
        if differences.is_empty() {
            Ok((outcome, Some(after)))
        } else {
            Err(format!("A again is not A: {}", differences.join("\n    ")))
        }
    }

    /// The session when all of its conditions tell of its generation, and nothing of it changes any more; and its children.
    async fn rest(&self, name: &str, title: &str) -> Result<(Value, Children), String> {
        let mut last: Option<(Value, Children, (Instant, String))> = None;
        let moment = || (Instant::now(), now());
        until(CONVERGED, LOOK, async || {
            // What comes after it may be seen or not.
            let asked = now();
            let session = self.sessions.get(name).await;
            if !is_told(&session) {
                last = None;
                return Err(format!("the operator does not tell of it: {}", session["status"]));
            }
            if last.as_ref().is_some_and(|(_, _, (since, _))| since.elapsed() < REST) {
                return Err("it has to rest for a moment".to_owned());
            }
            let children = normal(&session, self.sessions.children(name).await);
            match last.take() {
                Some((before, seen, (_, from))) if seen == children && told(&before) == told(&session) => {
                    let rested = Rested { title: title.to_owned(), session: name.to_owned(), from, to: asked };
                    let line = serde_json::to_string(&rested).unwrap();
                    writeln!(self.rests.lock().unwrap(), "{line}").unwrap();
                    Ok((session, children))
                }
                Some((before, seen, _)) => {
                    let mut what = differences(&seen, &children);
                    if told(&before) != told(&session) {
                        what.push(format!("{} is now {}", told(&before), told(&session)));
                    }
                    last = Some((session, children, moment()));
                    Err(format!("it goes on changing: {}", what.join("\n    ")))
                }
                None => {
                    last = Some((session, children, moment()));
                    Err("it has only just been told".to_owned())
                }
            }
        })
        .await
    }
}

/// What the operator writes into the session itself.
fn told(session: &Value) -> Value {
    json!({"finalizers": session["metadata"]["finalizers"], "status": session["status"]})
}

/// Objects without what is another one each time: identity, versions, times, addresses, ports that the cluster gives out, the
/// size of a volume (it never shrinks), and what others than the operator write. No Secret is ever deleted: one that the spec
/// has no use for any more is as it was left, and left out.
fn normal(session: &Value, children: Children) -> Children {
    let session: StreamSession = serde_json::from_value(session.clone()).unwrap();
    let secrets = own_secrets(&session);
    let wanted = |name: &str| name.strip_prefix("Secret ").is_none_or(|name| secrets.iter().any(|own| own == name));
    let bare = |(name, mut object): (String, Value)| {
        let metadata = object["metadata"].as_object_mut().unwrap();
        for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|key, _| !key.contains("kubernetes.io/") && key != "media.streamsession.io/rotated-at");
        }
        object.as_object_mut().unwrap().remove("status");
        if name.starts_with("Service ")
            && let Some(spec) = object["spec"].as_object_mut()
        {
            for field in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
                spec.remove(field);
            }
            for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                port.as_object_mut().unwrap().remove("nodePort");
            }
        }
        if name.starts_with("PersistentVolumeClaim ") {
            object["spec"]["resources"]["requests"] = Value::Null;
        }
        (name, object)
    };
    children.into_iter().filter(|(name, _)| wanted(name)).map(bare).collect()
}

/// What was there and is no more or is another, and what is there besides.
fn differences(before: &Children, after: &Children) -> Vec<String> {
    let mut found = Vec::new();
    for (name, old) in before {
        match after.get(name) {
            None => found.push(format!("{name} is gone")),
            Some(new) if new != old => found.push(format!("{name}: {old}\n    is now {new}")),
            Some(_) => {}
        }
    }
    found.extend(after.keys().filter(|name| !before.contains_key(*name)).map(|name| format!("{name} is left over")));
    found
}
