//! What `/metrics` shows, in the text format of Prometheus, named by its conventions: base units as suffixes, `_total`
//! for counters, help for each. No label has a value per viewer or per room.
//!
//! Most numbers are kept elsewhere and copied when somebody asks ([`Metrics::render`]); what is counted here are
//! HTTP requests and the event loop's lag. Other layers may use the `metrics` macros: [`Metrics::install`] makes this
//! registry the process's.

mod lag;
mod media;
mod process;

pub use lag::{watch_event_loop, watch_media};

use crate::control::Counts;
use crate::net::Snapshot;
use axum::http::{Method, StatusCode};
use metrics::{Unit, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::sync::{Arc, Mutex, PoisonError};

/// Upper bounds of the lag's buckets, in seconds.
const LAG_BUCKETS: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// The registry. A cheap handle.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    totals: Arc<Mutex<media::Totals>>,
}

impl Metrics {
    /// A registry of its own, for tests too.
    pub fn new() -> Metrics {
        let builder = PrometheusBuilder::new();
        let recorder = builder
            .set_buckets_for_metric(Matcher::Full(lag::NAME.to_owned()), &LAG_BUCKETS)
            .unwrap_or_else(|_| PrometheusBuilder::new())
            .build_recorder();
        let handle = recorder.handle();
        let metrics = Metrics { recorder: Arc::new(recorder), handle, totals: Arc::default() };
        metrics.with(|| {
            describe();
            media::describe();
            metrics::gauge!("media_server_draining").set(0.0);
            metrics::gauge!("media_server_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        });
        metrics
    }

    /// Makes this registry the one that the `metrics` macros use everywhere. Only the first call of a process does.
    pub fn install(&self) {
        let _ = metrics::set_global_recorder(Arc::clone(&self.recorder));
    }

    /// Counts one answered request.
    pub fn request(&self, route: &'static str, method: &Method, status: StatusCode) {
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            Method::OPTIONS => "OPTIONS",
            _ => "other",
        };
        self.with(|| {
            let status = status.as_str().to_owned();
            metrics::counter!("media_server_http_requests_total", "route" => route, "method" => method, "status" => status)
                .increment(1);
        });
    }

    /// Sums up what sessions count. [`watch_media`] calls it every second.
    pub fn observe(&self, snapshot: &Snapshot) {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).add(snapshot);
    }

    /// Everything as text, fresh.
    pub fn render(&self, counts: &Counts, caps: &Caps, snapshot: &Snapshot) -> String {
        self.observe(snapshot);
        self.with(|| {
            sessions(counts, caps);
            media::copy(snapshot);
            self.totals.lock().unwrap_or_else(PoisonError::into_inner).copy();
        });
        self.handle.run_upkeep();
        let mut text = self.handle.render();
        media::write(snapshot, &mut text);
        process::write(&mut text);
        text
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

/// Caps as they are enforced.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// `limits.maxPublishers`
    pub publishers: usize,
    /// `limits.maxSubscribersPerRoom`
    pub subscribers_per_room: usize,
}

fn describe() {
    metrics::describe_gauge!("media_server_build_info", "Always 1; the label tells the version.");
    metrics::describe_counter!("media_server_http_requests_total", "HTTP requests answered, by route family.");
    metrics::describe_gauge!(
        "media_server_http_connections",
        "HTTP connections, idle ones and event streams included."
    );
    metrics::describe_histogram!(
        lag::NAME,
        Unit::Seconds,
        "How late a timer of the control plane's event loop fires; media runs on threads of its own."
    );
    metrics::describe_gauge!("media_server_sessions", "Connected sessions, by role.");
    metrics::describe_gauge!(
        "media_server_sessions_connecting",
        "Sessions that were let in and are not connected yet."
    );
    metrics::describe_gauge!("media_server_rooms", "Rooms with a stream that is not over.");
    metrics::describe_counter!("media_server_refused_total", "Newcomers refused, by reason.");
    metrics::describe_gauge!(
        "media_server_session_generation",
        "Generation of the StreamSession that was taken over last; 0 at the start."
    );
    metrics::describe_gauge!(
        "media_server_draining",
        "1 while newcomers are refused since the server is about to stop."
    );
    metrics::describe_gauge!("media_server_relay_up", "Whether the relay in the pod answers; absent without one.");
    metrics::describe_gauge!("media_server_publishers_limit", "limits.maxPublishers as enforced now.");
    metrics::describe_gauge!(
        "media_server_subscribers_per_room_limit",
        "limits.maxSubscribersPerRoom as enforced now."
    );
}

fn sessions(counts: &Counts, caps: &Caps) {
    metrics::gauge!("media_server_sessions", "role" => "publisher").set(counts.publishers as f64);
    metrics::gauge!("media_server_sessions", "role" => "subscriber").set(counts.subscribers as f64);
    metrics::gauge!("media_server_sessions_connecting").set(counts.reserved as f64);
    metrics::gauge!("media_server_rooms").set(counts.rooms as f64);
    metrics::gauge!("media_server_publishers_limit").set(caps.publishers as f64);
    metrics::gauge!("media_server_subscribers_per_room_limit").set(caps.subscribers_per_room as f64);
    for (reason, count) in &counts.refused {
        metrics::counter!("media_server_refused_total", "reason" => *reason).absolute(*count);
    }
}
