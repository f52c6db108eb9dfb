//! Tests of the planner: against a small cluster of its own, and against single observations.

mod anything;
mod changes;
mod children;
mod conditions;
mod convergence;
mod endpoints;
mod reclaim;
mod remedies;
mod secrets;
mod security;
mod specs;
mod stores;
mod turmoil;
mod world;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use streamsession_api::{StreamSession, StreamSessionStatus};

use super::*;

/// The images of the tests.
fn settings() -> Settings {
    Settings {
        images: Images { media_server: "media-server:1".into(), coturn: "coturn:1".into(), minio: "minio:1".into() },
        pull_policy: Some("IfNotPresent".into()),
        pull_secrets: Vec::new(),
        operator_namespace: Some("streamsession".into()),
        rotate_secrets_after: Some(Duration::from_secs(30 * 24 * 3600)),
        proxies: Proxies::default(),
    }
}

fn session_named(name: &str, spec: &Value) -> StreamSession {
    serde_json::from_value(json!({
        "apiVersion": "media.streamsession.io/v1alpha1",
        "kind": "StreamSession",
        "metadata": {"name": name, "namespace": "cameras", "uid": "session-uid", "generation": 1},
        "spec": spec,
    }))
    .unwrap_or_else(|error| panic!("{spec}: {error}"))
}

fn session(spec: &Value) -> StreamSession {
    session_named("front-door", spec)
}

fn start() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// Status, reason and message of a condition.
fn condition_of<'a>(status: Option<&'a StreamSessionStatus>, type_: &str) -> (&'a str, &'a str, &'a str) {
    let conditions = &status.expect("there is a status").conditions;
    let found = conditions.iter().find(|one| one.type_ == type_).unwrap_or_else(|| panic!("no condition {type_}"));
    (&found.status, &found.reason, &found.message)
}
