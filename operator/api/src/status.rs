//! What the operator says of a session. Written by it alone; a document that is read from a file has none.

// KubeSchema repeats the struct inside a function, `pub` and all.
#![allow(unreachable_pub)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Types of the conditions in a session's status.
pub mod condition {
    /// The summary: cameras can publish and viewers can watch, and relay and store answer; live fields of its observedGeneration are in force. Its message names the next action when it is not True.
    pub const READY: &str = "Ready";
    /// The media server answers, and an announced address reaches it.
    pub const MEDIA_READY: &str = "MediaReady";
    /// The relay answers.
    pub const TURN_READY: &str = "TurnReady";
    /// The store can be written.
    pub const STORAGE_READY: &str = "StorageReady";
    /// Recordings reach the store without falling behind.
    pub const UPLOADS_HEALTHY: &str = "UploadsHealthy";
    /// A change waits for a new pod.
    pub const UPDATE_PENDING: &str = "UpdatePending";
    /// The operator cannot go on by itself (kstatus).
    pub const STALLED: &str = "Stalled";
}

/// What the operator last saw. Counts are written no more often than every 10 s, and not at all at rest.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamSessionStatus {
    /// Generation of the spec that this status tells of. It lags while a change is on its way to a server that serves well: then Ready is True of this generation still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, MediaReady, TurnReady, StorageReady, UploadsHealthy, UpdatePending, Stalled: each with reason, message and observedGeneration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// Where the session is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// Limits as the running server enforces them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<EnforcedLimits>,
    /// Cameras that stream now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publishers: Option<u32>,
    /// Viewers in all rooms now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribers: Option<u32>,
    /// What is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recordings: Option<RecordingTotals>,
    /// The clean-up that ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<LastCleanup>,
    /// Id by which the media server marks its prefix in an External store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_owner: Option<String>,
    /// Name of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
}

/// Where a session is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoints {
    /// URL that cameras publish to, with {room} in the room's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whip: Option<String>,
    /// URL that viewers watch at, with {room} in the room's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whep: Option<String>,
    /// URL of the console.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
    /// URLs of the relay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub turn: Vec<String>,
    /// Media addresses told to peers, each with its port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub announced: Vec<String>,
}

/// Limits as the running server enforces them, read back from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnforcedLimits {
    /// Publishers in the pod / subscribers in a room, for people: 4/50.
    pub caps: String,
    /// Cameras at once in the pod.
    pub max_publishers: u32,
    /// Viewers at once in each room.
    pub max_subscribers_per_room: u32,
    /// Cameras at once for each account; absent when there is no such cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_streams_per_account: Option<u32>,
    /// Bits per second that each publisher may send.
    pub max_bitrate: u64,
    /// Generation of the spec that these limits came from.
    pub generation: i64,
}

/// What is kept, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RecordingTotals {
    /// Recordings, finished or under way.
    pub count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Finished recordings that are not yet wholly in the store.
    pub pending_uploads: u64,
    /// Start of the oldest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Time>,
}

/// What the clean-up that ended last did (spec.recording.retention, cleanupSchedule).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LastCleanup {
    /// Name of its Job.
    pub job: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// Whether it did all that it was to do.
    pub succeeded: bool,
    /// Recordings that it deleted, those included that were left unfinished for good.
    pub recordings: u64,
    /// Bytes that it deleted, in all places together.
    pub bytes: u64,
    /// What went, what stays whatever the rules say, or why it failed and what to do.
    pub message: String,
}
