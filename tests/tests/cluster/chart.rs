//! The chart's life: installed, tested, upgraded, taken away and brought back, while a session goes on.

use crate::harness::{Kube, Session, alone, figure, helm, helm_values, install, tests_folder, uninstall};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_chart_is_tested_upgraded_taken_away_and_brought_back_under_a_session() {
    let _turn = alone();
    install();
    let begin = Instant::now();
    let output = helm(&["test", "streamsession", "--timeout", "180s"]);
    let system = Kube::namespace("streamsession-system");
    let log = system.kubectl(&["logs", "streamsession-test-probe"]);
    assert!(output.status.success(), "helm test: {}{log}", said(&output));
    assert!(log.contains("as its checksum says, in the store"), "nothing was read back from the store: {log}");
    figure(&format!("helm test: {:.1} s: {}", begin.elapsed().as_secs_f64(), log.trim().replace('\n', "; ")));

    let kube = Kube::restricted("charted");
    let spec = json!({"storage": {"mode": "Local", "size": "1Gi"}, "turn": {"mode": "Disabled"}});
    let session = Session::apply(&kube, "steady", &spec);
    session.wait_ready(Duration::from_secs(60));
    let pod = session.pod_uid();

    let chart = tests_folder().join("../charts/streamsession");
    let values = helm_values();
    let mut upgrade = vec!["upgrade", "streamsession", chart.to_str().unwrap(), "--wait", "--timeout", "90s"];
    upgrade.extend(values.iter().map(String::as_str));
    upgrade.extend(["--set", "logFormat=text", "--set", "concurrency=8"]);
    let output = helm(&upgrade);
    assert!(output.status.success(), "helm upgrade: {}", said(&output));
    assert!(!said(&output).contains("Warning"), "{}", said(&output));
    session.wait_ready(Duration::from_secs(30));
    assert_eq!(session.pod_uid(), pod, "an upgrade of the operator replaced the pod");

    uninstall();
    assert_eq!(session.pod_uid(), pod, "the session's pod went with the operator");
    assert!(kube.find("crd", "streamsessions.media.streamsession.io").is_some(), "the definition is kept");
    install();
    session.patch(json!({"limits": {"maxPublishers": 7}}));
    session.wait_condition("Ready", "True", "", Duration::from_secs(60));
    assert_eq!((session.pod_uid(), session.restarts()), (pod, 0));
}

#[test]
fn a_restricted_namespace_takes_every_pod_without_a_warning() {
    let _turn = alone();
    install();
    let kube = Kube::restricted("warned");
    let session = Session::apply(&kube, "whole", &json!({}));
    session.wait_ready(Duration::from_secs(60));
    let system = Kube::namespace("streamsession-system");
    let mut checked = 0;
    for (place, kind, selector) in [
        (&kube, "statefulset", "media.streamsession.io/session=whole"),
        (&system, "deployment", "app.kubernetes.io/name=streamsession-operator"),
    ] {
        for object in place.list(kind, selector) {
            // Made anew under another name: what the API server warns of is printed.
            let fresh = json!({
                "apiVersion": object["apiVersion"], "kind": object["kind"], "spec": object["spec"],
                "metadata": {"name": "judged", "labels": object["metadata"]["labels"]},
            });
            let output = kube.attempt(&["create", "--dry-run=server", "-f", "-"], &Value::to_string(&fresh));
            assert!(output.status.success() && !said(&output).contains("Warning"), "{kind}: {}", said(&output));
            checked += 1;
        }
    }
    assert_eq!(checked, 2);
    let pod = kube.get("pod", "whole-0");
    let containers = pod["spec"]["containers"].as_array().unwrap().len();
    assert_eq!(containers, 3, "media, turn and store");
}
