//! What the cluster's tests share: programs run where the cluster is, or outside of it, and waiting with a deadline.
//!
//! `CLUSTER_EXEC` names the program that runs a command where the cluster's API is reached (default: tests/lab/exec), and
//! `CLUSTER_OUTSIDE` the one that runs it on another network, where cameras and viewers are (default: tests/lab/outside).
//! The binaries `cluster` and `faults` share it.

#![allow(dead_code, unused_imports, reason = "each of the two binaries uses its part")]

mod install;
mod kube;
mod outside;
mod s3;
mod session;

pub(crate) use install::{helm, helm_values, install, uninstall};
pub(crate) use kube::{Forward, Kube};
pub(crate) use outside::{Background, Browser, Tls, answer_of, camera, node_address, view};
pub(crate) use s3::{Bucket, Credentials, second_store};
pub(crate) use session::{Session, document, open_http};

use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The folder `tests` of the repository.
pub(crate) fn tests_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Tells what was measured, past the runner's capture.
pub(crate) fn figure(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "    {text}");
}

/// One test at a time: they measure, and share the cluster.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a command runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// Where the API server is reached.
    Cluster,
    /// On another network.
    Outside,
}

/// A command at a place.
pub(crate) fn command(place: Place, program: &str) -> Command {
    let (variable, script) = match place {
        Place::Cluster => ("CLUSTER_EXEC", "lab/exec"),
        Place::Outside => ("CLUSTER_OUTSIDE", "lab/outside"),
    };
    let wrapper = std::env::var_os(variable).map_or_else(|| tests_folder().join(script), PathBuf::from);
    let mut command = Command::new(wrapper);
    command.arg(program).current_dir(tests_folder().join(".."));
    command
}

/// Runs to the end with this as standard input.
pub(crate) fn run(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A program that does not read its input may be gone by now.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Standard output of a command that must succeed.
pub(crate) fn output_of(command: Command, input: &str) -> String {
    let shown = format!("{command:?}");
    let output = run(command, input);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}: {}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks every 200 ms until there is an answer; fails with what was seen last.
pub(crate) fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(last) if begin.elapsed() > limit => panic!("not within {limit:?}: {what}; last: {last}"),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// At a JSON pointer, as text; empty when it is not there.
pub(crate) fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// At a JSON pointer, as a number.
pub(crate) fn number(value: &Value, pointer: &str) -> Option<f64> {
    value.pointer(pointer).and_then(Value::as_f64)
}

/// The middle of an odd number of values, the upper middle of an even one.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
