//! What is counted of recordings, for `/metrics`.

use crate::store::RecordingState;
use metrics::Unit;
use std::time::Duration;

const LAG: &str = "media_server_recorder_lag_seconds";
const BYTES: &str = "media_server_recorder_bytes_total";
const DROPPED: &str = "media_server_recorder_dropped_packets_total";
const ERRORS: &str = "media_server_recorder_write_errors_total";
const PAUSED: &str = "media_server_recorder_paused";
const FREE: &str = "media_server_recordings_free_bytes";
const ACTIVE: &str = "media_server_recordings_active";
const FINISHED: &str = "media_server_recordings_finished_total";

pub(super) fn describe() {
    metrics::describe_gauge!(LAG, Unit::Seconds, "Age of the oldest media that a recording's writer is busy with.");
    metrics::describe_counter!(BYTES, Unit::Bytes, "Bytes of media written to recordings.");
    metrics::describe_counter!(DROPPED, "Packets that were not recorded since a disk was too slow.");
    metrics::describe_counter!(ERRORS, "Writes to recordings that failed, probes of a failing disk included.");
    metrics::describe_gauge!(PAUSED, "Recordings that wait for their disk to be well again.");
    metrics::describe_gauge!(FREE, Unit::Bytes, "Bytes free where recordings are written, as of the newest write.");
    metrics::describe_gauge!(ACTIVE, "Recordings under way, by state: recording, finalising.");
    metrics::describe_counter!(FINISHED, "Recordings finished since start, by what became of them.");
    metrics::gauge!(LAG).set(0.0);
    metrics::gauge!(PAUSED).set(0.0);
    metrics::counter!(BYTES).absolute(0);
    metrics::counter!(DROPPED).absolute(0);
    metrics::counter!(ERRORS).absolute(0);
}

pub(super) fn lag(lag: Duration) {
    metrics::gauge!(LAG).set(lag.as_secs_f64());
}

pub(super) fn written(bytes: usize) {
    metrics::counter!(BYTES).increment(bytes as u64);
}

pub(super) fn dropped(packets: usize) {
    metrics::counter!(DROPPED).increment(packets as u64);
}

pub(super) fn write_failed() {
    metrics::counter!(ERRORS).increment(1);
}

pub(super) fn free(bytes: u64) {
    metrics::gauge!(FREE).set(bytes as f64);
}

pub(super) fn finished(state: RecordingState) {
    metrics::counter!(FINISHED, "state" => state.as_str()).increment(1);
}

/// Counts something for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted(metrics::Gauge);

impl Counted {
    /// A recording in this state.
    pub(super) fn active(state: RecordingState) -> Counted {
        Counted::new(metrics::gauge!(ACTIVE, "state" => state.as_str()))
    }

    /// A recording that is paused.
    pub(super) fn paused() -> Counted {
        Counted::new(metrics::gauge!(PAUSED))
    }

    fn new(gauge: metrics::Gauge) -> Counted {
        gauge.increment(1.0);
        Counted(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
