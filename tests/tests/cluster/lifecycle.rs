//! The operator's own life: one of several follows another, and an uninstall leaves no session waiting for nobody.

use crate::harness::{
    Kube, Place, Session, alone, command, figure, helm, helm_values, install, output_of, tests_folder, text, uninstall,
    until,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SYSTEM: &str = "streamsession-system";
const OPERATOR: &str = "streamsession-operator";
const OPERATORS: &str = "app.kubernetes.io/name=streamsession-operator";
const FINALIZER: &str = "media.streamsession.io/recordings";
/// A finalizer of somebody else: a session that has it ends when he says so.
const OTHERS: &str = "example.com/archive";

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// As `install`, with other values.
fn install_with(set: &[&str]) {
    Kube::restricted(SYSTEM);
    let chart = tests_folder().join("../charts/streamsession");
    let values = helm_values();
    let mut arguments = vec!["upgrade", "--install", "streamsession", chart.to_str().unwrap()];
    arguments.extend(["--reset-values", "--wait", "--timeout", "90s"]);
    arguments.extend(values.iter().map(String::as_str));
    arguments.extend(set.iter().flat_map(|value| ["--set", *value]));
    let output = helm(&arguments);
    assert!(output.status.success(), "helm {arguments:?}: {}", said(&output));
}

/// Who has the lease, if anybody.
fn leader(system: &Kube) -> Option<String> {
    let lease = system.find("lease", OPERATOR)?;
    Some(text(&lease, "/spec/holderIdentity")).filter(|holder| !holder.is_empty())
}

/// Waits until another leads; gives who.
fn followed(system: &Kube, before: &str, limit: Duration) -> String {
    until(&format!("another than {before} leads"), limit, || match leader(system) {
        Some(now) if now != before => Ok(now),
        other => Err(format!("{other:?}")),
    })
}

/// What a pod's endpoint answers, through the API server.
fn asked(system: &Kube, pod: &str, path: &str) -> String {
    let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy{path}");
    let output = system.attempt(&["get", "--raw", &path], "");
    said(&output)
}

/// The pods of the operator that are ready, by name.
fn ready_pods(system: &Kube, number: usize) -> Vec<String> {
    until(&format!("{number} operators are ready"), Duration::from_secs(60), || {
        let pods = system.list("pods", OPERATORS);
        let ready = |pod: &Value| {
            let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
            conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        let names: Vec<String> = pods.iter().filter(|pod| ready(pod)).map(|pod| text(pod, "/metadata/name")).collect();
        if names.len() == number && pods.len() == number { Ok(names) } else { Err(format!("{names:?}")) }
    })
}

/// Sends a signal to the operator of this pod, from the node that it runs on.
fn signal(pod: &str, signal: &str) {
    let script = format!(
        "for p in /proc/[0-9]*; do tr '\\0' '\\n' <$p/environ 2>/dev/null | grep -qx STREAMSESSION_POD_NAME={pod} && kill -{signal} ${{p#/proc/}} && echo sent; done; true"
    );
    let mut docker = command(Place::Cluster, "docker");
    docker.args(["exec", "streamsession-control-plane", "sh", "-c", &script]);
    assert!(output_of(docker, "").contains("sent"), "there is no process of {pod}");
}

fn finalizers(session: &Session) -> Vec<String> {
    let session = session.get();
    let list = session.pointer("/metadata/finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    list.iter().filter_map(|finalizer| finalizer.as_str().map(str::to_owned)).collect()
}

fn set_finalizers(session: &Session, finalizers: &[&str]) {
    session.kube.patch("streamsession", &session.name, &json!({"metadata": {"finalizers": finalizers}}));
}

fn small() -> Value {
    json!({"recording": {"enabled": false}, "storage": {"mode": "Local", "size": "1Gi"}, "turn": {"mode": "Disabled"}})
}

/// The cap that is in force: it follows the spec only while an operator works.
fn converges(session: &Session, publishers: u64, limit: Duration) {
    session.patch(json!({"limits": {"maxPublishers": publishers}}));
    until(&format!("a cap of {publishers} is in force"), limit, || {
        let caps = text(&session.get(), "/status/limits/caps");
        if caps.starts_with(&format!("{publishers}/")) { Ok(()) } else { Err(caps) }
    });
}

#[test]
fn another_operator_leads_when_one_goes_is_killed_or_falls_silent_and_no_stream_notices() {
    let _turn = alone();
    install_with(&["replicas=2"]);
    let system = Kube::namespace(SYSTEM);
    let kube = Kube::restricted("lifecycle");
    let session = Session::apply(&kube, "steady", &small());
    session.wait_ready(Duration::from_secs(60));
    let pod = session.pod_uid();

    let pods = ready_pods(&system, 2);
    let first = leader(&system).unwrap();
    let other = pods.iter().find(|pod| **pod != first).unwrap();
    assert!(asked(&system, other, "/readyz").contains(&format!("stands by; {first} leads")));
    assert!(asked(&system, &first, "/metrics").contains("streamsession_operator_leader 1"));
    assert!(asked(&system, other, "/metrics").contains("streamsession_operator_leader 0"));

    let begin = Instant::now();
    system.kubectl(&["delete", "pod", &first, "--wait=false"]);
    let second = followed(&system, &first, Duration::from_secs(20));
    let asked_to_go = begin.elapsed();
    converges(&session, 3, Duration::from_secs(30));

    ready_pods(&system, 2);
    let begin = Instant::now();
    system.kubectl(&["delete", "pod", &second, "--force", "--grace-period=0"]);
    let third = followed(&system, &second, Duration::from_secs(25));
    let killed = begin.elapsed();
    converges(&session, 4, Duration::from_secs(30));

    // Stopped in the middle of whatever it does: it holds its lease, and thinks that it leads when it comes back.
    ready_pods(&system, 2);
    let begin = Instant::now();
    signal(&third, "STOP");
    let fourth = followed(&system, &third, Duration::from_secs(25));
    let silent = begin.elapsed();
    converges(&session, 5, Duration::from_secs(30));
    signal(&third, "CONT");
    until("the one that came back has ended", Duration::from_secs(30), || {
        let pod = system.get("pod", &third);
        let last = pod.pointer("/status/containerStatuses/0/lastState/terminated").cloned().unwrap_or_default();
        if last["exitCode"] == 1 { Ok(()) } else { Err(pod["status"]["containerStatuses"].to_string()) }
    });
    let log = system.kubectl(&["logs", &third, "--previous", "--tail=5"]);
    assert!(log.contains("leadership is lost"), "{log}");
    ready_pods(&system, 2);
    assert_eq!(leader(&system), Some(fourth));
    converges(&session, 6, Duration::from_secs(30));
    assert_eq!((session.pod_uid(), session.restarts()), (pod, 0));
    uninstall();
    figure(&format!(
        "another operator leads {:.1} s after its leader was asked to go, {:.1} s after it was killed, {:.1} s after it fell silent",
        asked_to_go.as_secs_f64(),
        killed.as_secs_f64(),
        silent.as_secs_f64()
    ));
    assert!(asked_to_go <= Duration::from_secs(5), "{asked_to_go:?}");
    assert!(killed <= Duration::from_secs(20) && silent <= Duration::from_secs(20), "{killed:?}, {silent:?}");
}

#[test]
fn an_upgrade_of_several_operators_goes_on_without_a_gap() {
    let _turn = alone();
    install_with(&["replicas=2"]);
    let system = Kube::namespace(SYSTEM);
    let kube = Kube::restricted("lifecycle");
    let session = Session::apply(&kube, "rolled", &small());
    session.wait_ready(Duration::from_secs(60));
    let pod = session.pod_uid();
    let before = ready_pods(&system, 2);
    install_with(&["replicas=2", "concurrency=8"]);
    let after = ready_pods(&system, 2);
    assert!(after.iter().all(|pod| !before.contains(pod)), "{before:?} {after:?}");
    let leads = followed(&system, "none", Duration::from_secs(20));
    assert!(after.contains(&leads), "{leads} of {after:?}");
    converges(&session, 3, Duration::from_secs(30));
    assert_eq!((session.pod_uid(), session.restarts()), (pod, 0));
}

#[test]
fn an_uninstall_waits_for_a_deletion_and_frees_the_sessions_that_stay() {
    let _turn = alone();
    install();
    let kube = Kube::restricted("lifecycle");
    let staying = Session::apply(&kube, "staying", &small());
    let going = Session::apply(&kube, "going", &small());
    staying.wait_ready(Duration::from_secs(60));
    let pod = staying.pod_uid();
    set_finalizers(&staying, &[FINALIZER, OTHERS]);
    set_finalizers(&going, &[OTHERS]);
    kube.kubectl(&["delete", "streamsession", "going", "--wait=false"]);

    let begin = Instant::now();
    let uninstalling = std::thread::spawn(|| helm(&["uninstall", "streamsession", "--timeout", "120s"]));
    let system = Kube::namespace(SYSTEM);
    until("the guard says what it waits for", Duration::from_secs(60), || {
        let log = said(&system.attempt(&["logs", "job/streamsession-uninstall"], ""));
        if log.contains("lifecycle/going") { Ok(()) } else { Err(log) }
    });
    assert!(system.find("deployment", OPERATOR).is_some(), "nothing is taken away yet");
    set_finalizers(&going, &[]);
    let output = uninstalling.join().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    figure(&format!("helm uninstall, with a deletion under way: {:.1} s", begin.elapsed().as_secs_f64()));

    assert!(kube.find("streamsession", "going").is_none());
    assert_eq!(finalizers(&staying), [OTHERS], "ours is taken off, and no other");
    set_finalizers(&staying, &[]);
    assert_eq!((staying.pod_uid(), staying.restarts()), (pod, 0));
    for kind in ["deployment", "job", "role", "rolebinding", "serviceaccount"] {
        let left = system.kubectl(&["get", kind, "-l", "app.kubernetes.io/part-of=streamsession", "-o", "name"]);
        assert_eq!(left.trim(), "", "left of {kind}");
    }
}

#[test]
fn without_an_operator_an_uninstall_tells_which_deletion_needs_it_and_takes_nothing() {
    let _turn = alone();
    install();
    let system = Kube::namespace(SYSTEM);
    let kube = Kube::restricted("lifecycle");
    let held = Session::apply(&kube, "held", &small());
    held.wait_ready(Duration::from_secs(60));
    system.kubectl(&["scale", "deployment", OPERATOR, "--replicas=0"]);
    until("the operator is gone", Duration::from_secs(60), || {
        let pods = system.list("pods", OPERATORS);
        if pods.is_empty() { Ok(()) } else { Err(format!("{} pods", pods.len())) }
    });
    set_finalizers(&held, &[FINALIZER, OTHERS]);
    kube.kubectl(&["delete", "streamsession", "held", "--wait=false"]);

    let begin = Instant::now();
    let output = helm(&["uninstall", "streamsession", "--timeout", "120s"]);
    let took = begin.elapsed();
    assert!(!output.status.success(), "it was uninstalled: {}", said(&output));
    let log = system.kubectl(&["logs", "job/streamsession-uninstall"]);
    for part in ["the operator does not run", "lifecycle/held", "--replicas=1", "--no-hooks"] {
        assert!(log.contains(part), "no {part} in: {log}");
    }
    assert!(took <= Duration::from_secs(30), "it is told at once: {took:?}");
    assert_eq!(finalizers(&held), [FINALIZER, OTHERS], "nothing is taken off");
    assert!(system.find("deployment", OPERATOR).is_some());
    figure(&format!("helm uninstall without an operator: refused after {:.1} s", took.as_secs_f64()));

    // The remedy that it names.
    system.kubectl(&["scale", "deployment", OPERATOR, "--replicas=1"]);
    set_finalizers(&held, &[]);
    until("the session is gone", Duration::from_secs(60), || match kube.find("streamsession", "held") {
        None => Ok(()),
        Some(session) => Err(session["metadata"].to_string()),
    });
    uninstall();
}
