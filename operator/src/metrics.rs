//! What `/metrics` shows, in the text format of Prometheus, named by its conventions: base units as suffixes, `_total`
//! for counters, help for each.
//!
//! No label names a session, so that a cluster with thousands of them costs as many series as one with two. What a
//! single session's state is stands in its conditions.

use jiff::Timestamp;
use metrics::{Unit, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use streamsession_api::condition;

const RECONCILES: &str = "streamsession_operator_reconciles_total";
const DURATION: &str = "streamsession_operator_reconcile_duration_seconds";
const SESSIONS: &str = "streamsession_operator_sessions";
const NOT_WELL: &str = "streamsession_operator_sessions_not_well";
const PUSHES: &str = "streamsession_operator_pushes_total";
const WRITES: &str = "streamsession_operator_api_writes_total";
const API_ERRORS: &str = "streamsession_operator_api_errors_total";
const WATCH_ERRORS: &str = "streamsession_operator_watch_errors_total";
const CLEANUPS: &str = "streamsession_operator_cleanups_total";
const CLEANED_RECORDINGS: &str = "streamsession_operator_cleanup_deleted_recordings_total";
const CLEANED_BYTES: &str = "streamsession_operator_cleanup_deleted_bytes_total";
const DELETING: &str = "streamsession_operator_sessions_deleting";
const OLDEST_DELETION: &str = "streamsession_operator_oldest_deletion_seconds";
const LEADER: &str = "streamsession_operator_leader";
const TRANSITIONS: &str = "streamsession_operator_leader_transitions_total";
const READY: &str = "streamsession_operator_ready";
const BUILD: &str = "streamsession_operator_build_info";

/// Upper bounds of the duration's buckets, in seconds: a pass at rest takes milliseconds, one that writes tenths.
const DURATION_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Conditions that are counted, each with the status in which all is well.
const WELL: [(&str, &str); 7] = [
    (condition::READY, "True"),
    (condition::MEDIA_READY, "True"),
    (condition::TURN_READY, "True"),
    (condition::STORAGE_READY, "True"),
    (condition::UPLOADS_HEALTHY, "True"),
    (condition::UPDATE_PENDING, "False"),
    (condition::STALLED, "False"),
];

/// How a pass over a session, or a call, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Ok,
    /// Not well; it is tried again.
    Error,
    /// Not within its time; it is tried again.
    Timeout,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Error => "error",
            Outcome::Timeout => "timeout",
        }
    }
}

/// The registry. A cheap handle.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    sessions: Arc<Mutex<Sessions>>,
}

/// What is remembered of sessions, each by its namespace/name.
#[derive(Clone, Debug, Default)]
struct Sessions {
    /// Which of [`WELL`] are not well.
    not_well: HashMap<String, [bool; WELL.len()]>,
    /// Since when it is being deleted.
    deleting: HashMap<String, Timestamp>,
}

impl Metrics {
    /// A registry of its own.
    pub fn new() -> Metrics {
        let builder = PrometheusBuilder::new();
        let recorder = builder
            .set_buckets_for_metric(Matcher::Full(DURATION.to_owned()), &DURATION_BUCKETS)
            .unwrap_or_else(|_| PrometheusBuilder::new())
            .build_recorder();
        let handle = recorder.handle();
        let metrics = Metrics { recorder: Arc::new(recorder), handle, sessions: Arc::default() };
        metrics.with(|| {
            describe();
            metrics::gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            metrics::gauge!(READY).set(0.0);
            // There from the start, so that a rate can be built from the first error on.
            for outcome in [Outcome::Ok, Outcome::Error, Outcome::Timeout] {
                metrics::counter!(RECONCILES, "result" => outcome.label()).absolute(0);
            }
            for ok in [true, false] {
                metrics::counter!(CLEANUPS, "result" => cleanup_label(ok)).absolute(0);
            }
            for counter in [CLEANED_RECORDINGS, CLEANED_BYTES, TRANSITIONS] {
                metrics::counter!(counter).absolute(0);
            }
            metrics::gauge!(LEADER).set(0.0);
        });
        metrics
    }

    /// Counts one pass over a session.
    pub fn reconciled(&self, outcome: Outcome, took: Duration) {
        self.with(|| {
            metrics::counter!(RECONCILES, "result" => outcome.label()).increment(1);
            metrics::histogram!(DURATION).record(took.as_secs_f64());
        });
    }

    /// Counts one push of the spec to a media server.
    pub fn pushed(&self, outcome: Outcome) {
        self.with(|| metrics::counter!(PUSHES, "result" => outcome.label()).increment(1));
    }

    /// Counts one call that changes something in the cluster: `verb` is apply, create, delete or status.
    pub fn wrote(&self, verb: &'static str, kind: &str, outcome: Outcome) {
        self.with(|| {
            metrics::counter!(WRITES, "verb" => verb, "kind" => kind.to_owned(), "result" => outcome.label())
                .increment(1);
        });
    }

    /// Counts one read from the API server that failed.
    pub fn read_failed(&self, what: &'static str) {
        self.with(|| metrics::counter!(API_ERRORS, "what" => what).increment(1));
    }

    /// Counts one error of a watch.
    pub fn watch_failed(&self, kind: &str) {
        self.with(|| metrics::counter!(WATCH_ERRORS, "kind" => kind.to_owned()).increment(1));
    }

    /// Remembers the conditions (type, status) of a session.
    pub fn conditions<'a>(&self, session: &str, conditions: impl Iterator<Item = (&'a str, &'a str)>) {
        // What is not told yet is not well.
        let mut state = WELL.map(|(_, well)| well == "True");
        for (kind, status) in conditions {
            if let Some(index) = WELL.iter().position(|(known, _)| *known == kind) {
                state[index] = status != WELL[index].1;
            }
        }
        self.lock().not_well.insert(session.to_owned(), state);
    }

    /// Remembers since when a session is being deleted; `None` when it is not.
    pub fn deleting(&self, session: &str, since: Option<Timestamp>) {
        let mut sessions = self.lock();
        match since {
            Some(since) => sessions.deleting.insert(session.to_owned(), since),
            None => sessions.deleting.remove(session),
        };
    }

    /// Forgets a session that is gone.
    pub fn forget(&self, session: &str) {
        let mut sessions = self.lock();
        sessions.not_well.remove(session);
        sessions.deleting.remove(session);
    }

    /// Counts one run of a clean-up: whether it did all it had to, and what it deleted.
    pub fn cleaned(&self, ok: bool, recordings: u64, bytes: u64) {
        self.with(|| {
            metrics::counter!(CLEANUPS, "result" => cleanup_label(ok)).increment(1);
            metrics::counter!(CLEANED_RECORDINGS).increment(recordings);
            metrics::counter!(CLEANED_BYTES).increment(bytes);
        });
    }

    /// Whether this process leads: it does as soon as it watches and writes, with or without an election.
    pub fn leads(&self, leads: bool) {
        self.with(|| metrics::gauge!(LEADER).set(if leads { 1.0 } else { 0.0 }));
    }

    /// Counts one change of the leader that was seen, whoever leads now.
    pub fn leader_changed(&self) {
        self.with(|| metrics::counter!(TRANSITIONS).increment(1));
    }

    /// Everything as text, fresh.
    pub fn render(&self, ready: bool) -> String {
        self.render_at(ready, Timestamp::now())
    }

    fn render_at(&self, ready: bool, now: Timestamp) -> String {
        let sessions = self.lock().clone();
        // An API server whose clock is ahead of ours does not make an age negative.
        let oldest =
            sessions.deleting.values().map(|since| now.duration_since(*since).as_secs_f64()).fold(0.0, f64::max);
        self.with(|| {
            metrics::gauge!(READY).set(if ready { 1.0 } else { 0.0 });
            metrics::gauge!(SESSIONS).set(sessions.not_well.len() as f64);
            for (index, (kind, _)) in WELL.iter().enumerate() {
                let count = sessions.not_well.values().filter(|state| state[index]).count();
                metrics::gauge!(NOT_WELL, "condition" => *kind).set(count as f64);
            }
            metrics::gauge!(DELETING).set(sessions.deleting.len() as f64);
            metrics::gauge!(OLDEST_DELETION).set(oldest);
        });
        self.handle.run_upkeep();
        self.handle.render()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, f: impl FnOnce() -> T) -> T {
        with_local_recorder(&*self.recorder, f)
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

fn cleanup_label(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}

fn describe() {
    metrics::describe_gauge!(BUILD, "Always 1; the label tells the version.");
    metrics::describe_gauge!(READY, "1 when /readyz answers 200.");
    metrics::describe_counter!(RECONCILES, "Passes over a session, by how they ended.");
    metrics::describe_histogram!(DURATION, Unit::Seconds, "How long a pass over a session took.");
    metrics::describe_gauge!(SESSIONS, "Sessions that were worked on and still exist.");
    metrics::describe_gauge!(
        NOT_WELL,
        "Sessions whose condition is not in its good state: not True, or not False for UpdatePending and Stalled."
    );
    metrics::describe_gauge!(DELETING, "Sessions that are being deleted and still exist.");
    metrics::describe_gauge!(
        OLDEST_DELETION,
        Unit::Seconds,
        "For how long the session has been deleted that waits longest for its end; 0 when none does."
    );
    metrics::describe_counter!(CLEANUPS, "Runs of clean-ups, by whether they did all they had to.");
    metrics::describe_counter!(CLEANED_RECORDINGS, "Recordings that clean-ups deleted.");
    metrics::describe_counter!(CLEANED_BYTES, Unit::Bytes, "Bytes that clean-ups deleted.");
    metrics::describe_gauge!(LEADER, "1 when this process watches and writes, 0 when it stands by.");
    metrics::describe_counter!(TRANSITIONS, "Changes of the leader that this process saw.");
    metrics::describe_counter!(PUSHES, "Times a spec was pushed to a media server, by how it ended.");
    metrics::describe_counter!(WRITES, "Calls that change something in the cluster, by verb, kind and how they ended.");
    metrics::describe_counter!(API_ERRORS, "Reads from the API server that failed, by what was read.");
    metrics::describe_counter!(WATCH_ERRORS, "Errors of watches, by kind; each is tried again.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_counted_by_how_it_ended() {
        let metrics = Metrics::new();
        metrics.reconciled(Outcome::Ok, Duration::from_millis(20));
        metrics.reconciled(Outcome::Timeout, Duration::from_secs(30));
        metrics.pushed(Outcome::Error);
        metrics.wrote("apply", "Service", Outcome::Ok);
        metrics.wrote("apply", "Service", Outcome::Ok);
        metrics.watch_failed("Pod");
        let text = metrics.render(true);
        for line in [
            r#"streamsession_operator_reconciles_total{result="ok"} 1"#,
            r#"streamsession_operator_reconciles_total{result="error"} 0"#,
            r#"streamsession_operator_reconciles_total{result="timeout"} 1"#,
            r#"streamsession_operator_reconcile_duration_seconds_bucket{le="0.025"} 1"#,
            r#"streamsession_operator_pushes_total{result="error"} 1"#,
            r#"streamsession_operator_api_writes_total{verb="apply",kind="Service",result="ok"} 2"#,
            r#"streamsession_operator_watch_errors_total{kind="Pod"} 1"#,
            "streamsession_operator_ready 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
        }
    }

    #[test]
    fn sessions_are_counted_by_the_condition_that_is_not_well_and_forgotten_with_them() {
        let metrics = Metrics::new();
        metrics.conditions("a/one", [("Ready", "True"), ("Stalled", "False"), ("UpdatePending", "True")].into_iter());
        metrics.conditions("a/two", [("Ready", "Unknown"), ("Stalled", "True"), ("Surprise", "True")].into_iter());
        let count = |text: &str, condition: &str| {
            let start = format!("streamsession_operator_sessions_not_well{{condition=\"{condition}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().to_owned()
        };
        let text = metrics.render(false);
        assert_eq!(count(&text, "Ready"), "1");
        assert_eq!(count(&text, "Stalled"), "1");
        assert_eq!(count(&text, "UpdatePending"), "1");
        assert_eq!(count(&text, "MediaReady"), "2", "what nobody has said is not well");
        metrics.forget("a/two");
        let text = metrics.render(false);
        assert_eq!(count(&text, "Ready"), "0");
        assert!(text.contains("streamsession_operator_sessions 1"), "{text}");
    }

    #[test]
    fn cleanups_are_there_from_the_start_and_count_what_they_deleted() {
        let metrics = Metrics::new();
        let text = metrics.render(true);
        assert!(text.contains(r#"streamsession_operator_cleanups_total{result="failed"} 0"#), "{text}");
        metrics.cleaned(true, 3, 4096);
        metrics.cleaned(false, 1, 1000);
        metrics.cleaned(true, 0, 0);
        let text = metrics.render(true);
        for line in [
            r#"streamsession_operator_cleanups_total{result="ok"} 2"#,
            r#"streamsession_operator_cleanups_total{result="failed"} 1"#,
            "streamsession_operator_cleanup_deleted_recordings_total 4",
            "streamsession_operator_cleanup_deleted_bytes_total 5096",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
        }
    }

    #[test]
    fn a_deletion_ages_until_the_session_is_gone() {
        let (metrics, start) = (Metrics::new(), Timestamp::UNIX_EPOCH);
        let after = |seconds: i64| {
            let text = metrics.render_at(true, start + jiff::SignedDuration::from_secs(seconds));
            let value = |name: &str| {
                text.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap().parse::<f64>().unwrap()
            };
            (value(DELETING), value(OLDEST_DELETION))
        };
        assert_eq!(after(5), (0.0, 0.0), "nothing is deleted");
        metrics.deleting("a/one", Some(start));
        metrics.deleting("a/two", Some(start + jiff::SignedDuration::from_secs(60)));
        metrics.deleting("a/three", None);
        assert_eq!(after(90), (2.0, 90.0));
        assert_eq!(after(-5), (2.0, 0.0), "the API server's clock is ahead of ours");
        metrics.forget("a/one");
        assert_eq!(after(90), (1.0, 30.0));
        metrics.deleting("a/two", None);
        assert_eq!(after(90), (0.0, 0.0));
    }

    #[test]
    fn who_leads_is_told() {
        let metrics = Metrics::new();
        assert!(metrics.render(true).contains("streamsession_operator_leader 0"));
        metrics.leads(true);
        metrics.leader_changed();
        let text = metrics.render(true);
        assert!(text.contains("streamsession_operator_leader 1"), "{text}");
        assert!(text.contains("streamsession_operator_leader_transitions_total 1"), "{text}");
    }
}
