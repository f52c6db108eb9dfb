//! Caps come from the spec, change while streams run, and drop nobody.

use crate::harness::{
    Kube, Session, alone, answer_of, camera, document, figure, install, number, open_http, text, until, view,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// From the patch until the new cap is in force.
const IN_FORCE: Duration = Duration::from_secs(3);

/// The status that a camera (WHIP) or viewer (WHEP) is answered with, and the problem's type.
fn knock(url: &str, token: &str) -> (u16, String) {
    let answer = answer_of(url, token);
    let problem: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    (answer.status, text(&problem, "/type"))
}

#[test]
fn a_changed_cap_is_in_force_within_three_seconds_and_no_viewer_drops() {
    let _turn = alone();
    install();
    let kube = Kube::restricted("caps");
    let spec = json!({
        "limits": {"maxPublishers": 1, "maxSubscribersPerRoom": 2},
        "recording": {"enabled": false}, "storage": {"mode": "Local", "size": "1Gi"}, "turn": {"mode": "Disabled"},
    });
    let session = Session::apply(&kube, "capped", &spec);
    session.wait_ready(Duration::from_secs(60));
    let pod = session.pod_uid();
    let token = session.token("publish subscribe");
    // Without an ingress the Service is the way in: opened on a node's port for this test.
    let base = open_http(&kube, "capped");
    let url = |path: &str| format!("{base}{path}");
    let mut publisher = camera(&url("/whip/door"), &token, None);
    let counted = |publishers: f64, viewers: f64| {
        let what = format!("{publishers} publishers and {viewers} viewers in status");
        until(&what, Duration::from_secs(25), || {
            let now = session.get();
            let seen = (number(&now, "/status/publishers"), number(&now, "/status/subscribers"));
            if seen == (Some(publishers), Some(viewers)) { Ok(()) } else { Err(now["status"].to_string()) }
        });
    };
    counted(1.0, 0.0);
    let watching = view(&url("/whep/door"), &token, None, 2, 45);
    counted(1.0, 2.0);
    assert_eq!(text(&session.get(), "/status/limits/caps"), "1/2");
    let full = |url: &str, kind: &str| {
        let (status, problem) = knock(url, &token);
        assert!(status == 503 && problem.contains(kind), "{url}: {status} {problem}");
    };
    full(&url("/whip/garden"), "publishers-full");
    full(&url("/whep/door"), "subscribers-full");

    session.patch(json!({"limits": {"maxPublishers": 1, "maxSubscribersPerRoom": 5}}));
    let begin = Instant::now();
    let taken =
        until("a third viewer is let in", Duration::from_secs(20), || match knock(&url("/whep/door"), &token) {
            (201, _) => Ok(begin.elapsed()),
            other => Err(format!("{other:?}")),
        });
    let generation = session.get()["metadata"]["generation"].as_i64().unwrap();
    until("the caps in force are in status, with their generation", Duration::from_secs(15), || {
        let limits = session.get()["status"]["limits"].clone();
        if limits["caps"] == "1/5" && limits["generation"] == generation { Ok(()) } else { Err(limits.to_string()) }
    });
    full(&url("/whip/garden"), "publishers-full");

    // Lowered below what is there: who watches stays, who comes later waits.
    session.patch(json!({"limits": {"maxPublishers": 1, "maxSubscribersPerRoom": 1}}));
    until("newcomers wait again", Duration::from_secs(20), || match knock(&url("/whep/door"), &token) {
        (503, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });

    let report = watching.finish();
    let (packets, lost) = (number(&report, "/packets").unwrap(), number(&report, "/lost").unwrap());
    assert_eq!((number(&report, "/failed"), lost), (Some(0.0), 0.0), "{report:#}");
    assert!(number(&report, "/frames").unwrap() > 2.0 * 30.0 * 40.0, "{report:#}");
    publisher.assert_running();
    assert_eq!((session.pod_uid(), session.restarts()), (pod, 0));
    figure(&format!(
        "caps 1/2 to 1/5 in force {:.1} s after the patch; viewers: {packets} packets, {lost} lost",
        taken.as_secs_f64()
    ));
    assert!(taken <= IN_FORCE, "{taken:?}");
}

#[test]
fn a_spec_that_contradicts_itself_is_refused_with_what_to_write() {
    let _turn = alone();
    install();
    let kube = Kube::restricted("caps");
    for (spec, field, remedy) in [
        (json!({"limits": {"maxPublishers": 0}}), "maxPublishers", "at least 1"),
        (json!({"storage": {"mode": "External"}}), "storage.external", "endpoint"),
        (
            json!({"storage": {"external": {"endpoint": "https://s3.example.com", "bucket": "recordings"}}}),
            "storage.external",
            "External",
        ),
        (json!({"turn": {"mode": "External"}}), "turn.external", "urls"),
        (json!({"auth": {"mode": "Open"}}), "auth.mode", "ClusterIP"),
        (json!({"recording": {"cleanupSchedule": "hourly"}}), "cleanupSchedule", "five fields"),
        (json!({"limits": {"maxPublisher": 3}}), "maxPublisher", "unknown field"),
    ] {
        let said = kube.refusal(&document("refused", &spec));
        assert!(said.contains(field) && said.contains(remedy), "{spec} was refused with: {said}");
    }
}
