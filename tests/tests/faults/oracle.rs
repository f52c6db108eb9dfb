//! The audit log of the node, and what is asked of it.

use crate::harness::{Place, command, output_of};
use std::time::{Duration, Instant};
use streamsession_tests::faults::audit::{Entry, Log, Mark};

/// The node that the API server runs on.
pub(crate) const NODE: &str = "streamsession-control-plane";

/// Runs a script of sh in the node.
pub(crate) fn in_node(script: &str, arguments: &[&str]) -> String {
    let mut docker = command(Place::Cluster, "docker");
    docker.args(["exec", NODE, "sh", "-c", script, "sh"]).args(arguments);
    output_of(docker, "")
}

/// The log of the one node.
pub(crate) fn log() -> Log<fn(&str, &[&str]) -> String> {
    Log::new(in_node)
}

/// What this user asked to change in a namespace since a mark, events and leases apart.
pub(crate) fn written(mark: &Mark, namespace: &str, user: &str) -> Vec<Entry> {
    let mut entries = log().about(mark, namespace);
    entries.retain(|entry| entry.mutates() && !entry.passing() && entry.user.starts_with(user));
    entries
}

/// In words, one a line.
pub(crate) fn told(entries: &[Entry]) -> String {
    let line = |entry: &Entry| {
        let Entry { time, verb, resource, name, code, .. } = entry;
        format!("{time} {verb} {resource} {name}: {code}\n")
    };
    entries.iter().map(line).collect()
}

/// Waits until this user has written nothing there for so long.
pub(crate) fn wait_quiet(namespace: &str, user: &str, quiet: Duration, limit: Duration) {
    let begin = Instant::now();
    loop {
        let mark = log().mark();
        // Time passes without a write: nothing else tells it.
        std::thread::sleep(quiet);
        let entries = written(&mark, namespace, user);
        if entries.is_empty() {
            return;
        }
        assert!(begin.elapsed() < limit, "it still writes after {limit:?}:\n{}", told(&entries));
    }
}
