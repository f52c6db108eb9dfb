//! At rest the operator writes nothing.

use crate::aborted::wait_in_force;
use crate::chosen;
use crate::harness::{Session, alone, figure};
use crate::local::{Post, sleep_until};
use crate::oracle::{log, told, wait_quiet, written};
use crate::release::Away;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Looked at in which order whatever: each has its own way of being at rest.
fn specs() -> Vec<(&'static str, Value)> {
    let off = json!({"mode": "Disabled"});
    let local = json!({"mode": "Local", "size": "1Gi"});
    vec![
        ("lean", json!({"storage": local, "turn": off})),
        ("managed", json!({"storage": {"mode": "Managed", "size": "1Gi"}})),
        ("silent", json!({"storage": local, "turn": off, "recording": {"enabled": false}})),
        (
            "inside",
            json!({"storage": local, "turn": off, "exposure": {"type": "ClusterIP"}, "auth": {"mode": "Open", "acknowledgeOpen": true}}),
        ),
        ("paused", json!({"storage": local, "turn": off, "paused": true})),
    ]
}

#[test]
fn at_rest_nothing_is_written() {
    let _turn = alone();
    let _away = Away::begin();
    let post = Post::new("faults-rest");
    let mut operator = post.operator().wait_ready();
    let sessions: Vec<Session> = specs().iter().map(|(name, spec)| Session::apply(&post.kube, name, spec)).collect();
    for session in sessions.iter().filter(|session| session.name != "paused") {
        wait_in_force(session, Duration::from_secs(120));
    }
    wait_quiet(&post.kube.namespace, &post.user, Duration::from_secs(5), Duration::from_secs(60));

    // At rest a session is looked at every ten seconds, and its watches are renewed every two minutes.
    let mark = log().mark();
    let time = Duration::from_secs(if chosen::short() { 110 } else { 150 });
    sleep_until(Instant::now() + time);
    let entries = written(&mark, &post.kube.namespace, &post.user);
    let reads = log().by(&mark, &post.user).iter().filter(|entry| !entry.mutates()).count();
    operator.assert_running();
    figure(&format!("{} sessions at rest for {time:?}: {} writes, {reads} reads", sessions.len(), entries.len()));
    assert!(entries.is_empty(), "{}", told(&entries));
    assert!(reads >= 5, "it does nothing at all: {}", operator.last_words());
}
