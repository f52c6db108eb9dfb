//! What is counted of uploads, for `/metrics`.

use crate::objects::Reason;
use crate::store::UploadBacklog;
use jiff::Timestamp;
use metrics::Unit;

const PENDING: &str = "media_server_uploads_pending";
const PENDING_BYTES: &str = "media_server_uploads_pending_bytes";
const OLDEST: &str = "media_server_uploads_oldest_pending_seconds";
const RECORDINGS: &str = "media_server_uploads_pending_recordings";
const REMOVALS: &str = "media_server_store_removals_pending";
const FILES: &str = "media_server_uploads_total";
const BYTES: &str = "media_server_upload_bytes_total";
const FAILURES: &str = "media_server_store_failures_total";
const UP: &str = "media_server_store_up";
const EVICTED: &str = "media_server_recordings_evicted_total";
const ELSEWHERE: &str = "media_server_store_recordings_elsewhere";

pub(super) fn describe() {
    metrics::describe_gauge!(PENDING, "Files that are not known to be in the object store yet.");
    metrics::describe_gauge!(PENDING_BYTES, Unit::Bytes, "Bytes of those.");
    metrics::describe_gauge!(OLDEST, Unit::Seconds, "How long the file waits that waits longest.");
    metrics::describe_gauge!(RECORDINGS, "Finished recordings that are not wholly in the object store.");
    metrics::describe_gauge!(REMOVALS, "Deleted recordings that may still have objects in the store.");
    metrics::describe_counter!(FILES, "Files that were uploaded and verified since start.");
    metrics::describe_counter!(BYTES, Unit::Bytes, "Bytes of those.");
    metrics::describe_counter!(FAILURES, "Requests to the object store that failed, by reason.");
    metrics::describe_gauge!(UP, "1 while the object store does what it is asked.");
    metrics::describe_counter!(EVICTED, "Recordings whose folder left the disk since they are in the store.");
    metrics::describe_gauge!(
        ELSEWHERE,
        "Recordings that only a store of before holds, neither the disk nor the present store."
    );
    metrics::counter!(FILES).absolute(0);
    metrics::counter!(BYTES).absolute(0);
    metrics::counter!(EVICTED).absolute(0);
    metrics::gauge!(UP).set(0.0);
    backlog(&UploadBacklog::default(), Timestamp::UNIX_EPOCH);
}

pub(super) fn backlog(backlog: &UploadBacklog, now: Timestamp) {
    let age = backlog.oldest.map_or(0.0, |oldest| now.duration_since(oldest).as_secs_f64().max(0.0));
    metrics::gauge!(PENDING).set(backlog.files as f64);
    metrics::gauge!(PENDING_BYTES).set(backlog.bytes as f64);
    metrics::gauge!(OLDEST).set(age);
    metrics::gauge!(RECORDINGS).set(backlog.recordings as f64);
    metrics::gauge!(REMOVALS).set(backlog.removals as f64);
    metrics::gauge!(ELSEWHERE).set(backlog.elsewhere as f64);
}

pub(super) fn up(up: bool) {
    metrics::gauge!(UP).set(if up { 1.0 } else { 0.0 });
}

pub(super) fn uploaded(bytes: u64) {
    metrics::counter!(FILES).increment(1);
    metrics::counter!(BYTES).increment(bytes);
}

pub(super) fn failed(reason: Reason) {
    metrics::counter!(FAILURES, "reason" => reason.as_str()).increment(1);
}

pub(super) fn evicted() {
    metrics::counter!(EVICTED).increment(1);
}
