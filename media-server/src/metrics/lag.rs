//! How late the control plane's event loop is: a timer that should fire every second, and the time by which it is late.
//! Beside it, the task that sums up the media plane's numbers.

use super::Metrics;
use crate::http::SnapshotSource;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

pub(super) const NAME: &str = "media_server_event_loop_lag_seconds";

/// A timer of 100 ms took 8 % of the CPU of a room of 10 viewers.
const PERIOD: Duration = Duration::from_secs(1);
/// As often as the media plane counts up.
const LOOK: Duration = Duration::from_secs(1);

/// Measures until `shutdown`. Spawn it on the runtime that serves HTTP.
pub async fn watch_event_loop(metrics: Metrics, shutdown: CancellationToken) {
    let histogram = metrics.with(|| metrics::histogram!(NAME));
    let measure = async {
        loop {
            let due = Instant::now() + PERIOD;
            sleep_until(due).await;
            histogram.record(due.elapsed().as_secs_f64());
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = measure => {}
    }
}

/// Sums up the media plane's numbers every second until `shutdown`.
pub async fn watch_media(metrics: Metrics, snapshot: SnapshotSource, shutdown: CancellationToken) {
    let look = async {
        loop {
            sleep(LOOK).await;
            metrics.observe(&snapshot());
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = look => {}
    }
}
