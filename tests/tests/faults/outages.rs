//! The API server goes away, or the operator does, while a camera streams and somebody watches: neither notices, and
//! afterwards the operator goes on.

use crate::chosen::{numbers, short};
use crate::harness::{Kube, alone, figure, helm, helm_values, install, tests_folder, text, until};
use crate::local::sleep_until;
use crate::oracle::in_node;
use crate::release::{CONVERGED, DEPLOYMENT, NAMESPACE, pods, restarts, scale};
use crate::stream::Stream;
use std::time::{Duration, Instant};

/// The manifest by which the node runs the API server, and where it is put meanwhile.
const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const ASIDE: &str = "/etc/kubernetes/kube-apiserver.yaml.aside";
/// For the node to notice, either way: it looks every 20 s at the latest, and the API server takes a while to come up.
const NOTICED: Duration = Duration::from_secs(120);

/// There is no API server, until this is dropped.
struct Outage {
    /// Of the Service by which pods reach it.
    address: String,
}

impl Outage {
    fn begin() -> Outage {
        let address = text(&Kube::namespace("default").get("service", "kubernetes"), "/spec/clusterIP");
        in_node(&format!("mv {MANIFEST} {ASIDE}"), &[]);
        let outage = Outage { address };
        until("the API server is gone", NOTICED, || if answers() { Err("it answers".to_owned()) } else { Ok(()) });
        outage
    }

    /// For pods it is back when kube-proxy has heard of it, which tries again after longer and longer times.
    fn end(self) {
        let address = self.address.clone();
        drop(self);
        let from_pods =
            || in_node("curl -ksf -m 2 -o /dev/null \"https://$1/readyz\" && echo yes || true", &[&address]);
        until("the API server is back", NOTICED, || match (answers(), from_pods().trim() == "yes") {
            (true, true) => Ok(()),
            (here, for_pods) => Err(format!("it answers here: {here}, by its Service: {for_pods}")),
        });
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        in_node(&format!("if [ -e {ASIDE} ]; then mv {ASIDE} {MANIFEST}; fi"), &[]);
    }
}

fn answers() -> bool {
    let output = Kube::namespace("default").attempt(&["get", "--raw", "/readyz", "--request-timeout=2s"], "");
    output.status.success()
}

#[test]
fn the_api_server_goes_away_and_media_flows() {
    let _turn = alone();
    install();
    for seconds in numbers("FAULT_OUTAGES", &[10], &[10, 60, 300]) {
        let (operators, ends) = (pods(), restarts());
        // Beside the outage itself: until it is noticed, until it is over, and what comes after it.
        let stream = Stream::begin("faults-outage", u32::try_from(seconds).unwrap() + 150);
        let outage = Outage::begin();
        sleep_until(Instant::now() + Duration::from_secs(seconds));
        let begin = Instant::now();
        outage.end();
        let back = begin.elapsed();
        let patched = stream.patch(u32::try_from(seconds % 90).unwrap() + 5, CONVERGED);
        let seen = stream.finish();
        assert_eq!((pods(), restarts()), (operators, ends), "the operator was started anew");
        figure(&format!(
            "no API server for {seconds} s (back after {:.0} s more): {seen}; a patch was in force after {:.1} s",
            back.as_secs_f64(),
            patched.as_secs_f64(),
        ));
    }
}

#[test]
fn the_operator_goes_away_and_media_flows() {
    let _turn = alone();
    install();
    let away = Duration::from_secs(if short() { 20 } else { 60 });
    let stream = Stream::begin("faults-operator", u32::try_from(away.as_secs()).unwrap() + 150);
    let system = Kube::namespace(NAMESPACE);

    // Killed.
    let before = pods();
    system.kubectl(&[
        "delete",
        "pod",
        "-l",
        "app.kubernetes.io/name=streamsession-operator",
        "--force",
        "--grace-period=0",
    ]);
    let killed = stream.patch(11, CONVERGED);
    assert!(pods().iter().all(|pod| !before.contains(pod)), "it was not killed");

    // Nobody there, while the spec changes.
    scale(0);
    let begin = Instant::now();
    stream.session.patch(serde_json::json!({"limits": {"maxPublishers": 12}}));
    sleep_until(begin + away);
    scale(1);
    let scaled = stream.patch(13, CONVERGED);

    // Another version, by all that can be told from outside: other tags, and another flag.
    let values = helm_values();
    let next = [next_tag("operator"), next_tag("media-server")];
    let chart = tests_folder().join("../charts/streamsession");
    let mut upgrade = vec!["upgrade", "streamsession", chart.to_str().unwrap(), "--wait", "--timeout", "90s"];
    upgrade.extend(values.iter().map(String::as_str));
    let as_it_was = upgrade.clone();
    let tags = format!("images.operator.tag={},images.mediaServer.tag={}", next[0], next[1]);
    upgrade.extend(["--set-string", &tags, "--set", "concurrency=8"]);
    let output = helm(&upgrade);
    assert!(output.status.success(), "helm upgrade: {}", String::from_utf8_lossy(&output.stderr));
    let image = text(
        &system.get("deployment", DEPLOYMENT.trim_start_matches("deployment/")),
        "/spec/template/spec/containers/0/image",
    );
    assert!(image.ends_with(&next[0]), "{image}");
    // The media server's image is another one too: that waits for the camera.
    let waits = stream.session.wait_condition("UpdatePending", "True", "", CONVERGED);
    let upgraded = stream.patch(14, CONVERGED);
    let output = helm(&as_it_was);
    assert!(output.status.success(), "helm upgrade: {}", String::from_utf8_lossy(&output.stderr));
    let seen = stream.finish();
    figure(&format!(
        "operator killed, away for {away:?}, upgraded ({waits}): {seen}; patches in force after {:.1}, {:.1} and {:.1} s",
        killed.as_secs_f64(),
        scaled.as_secs_f64(),
        upgraded.as_secs_f64(),
    ));
}

/// Gives the image of a program another tag in the node: the same program, as a version that follows.
fn next_tag(program: &str) -> String {
    let script = "set -e
image=$(ctr --namespace k8s.io images list -q | grep \"/streamsession/$1:lab\\$\" | head -n 1)
ctr --namespace k8s.io images tag --force \"$image\" \"${image%:*}:next\" >/dev/null";
    in_node(script, &[program]);
    "next".to_owned()
}
