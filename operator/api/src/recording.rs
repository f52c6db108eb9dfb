//! What is recorded, and for how long it is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DurationString, KeepFree, Quantity};

/// What is recorded, and for how long it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Recording {
    /// Whether streams are recorded. Default true. Live, from the next stream on.
    pub enabled: bool,
    /// Length of a segment file, 1s to 60s; it is cut at the first keyframe after that. Default 10s. Live, from the next recording on.
    pub segment_duration: DurationString,
    /// Time after which a recording ends and the stream's next one begins, without a frame between them lost; 1m to 24h, counted from midnight UTC, so that recordings of 1h begin at full hours. It is cut at the next keyframe. Retention, upload and hold apply to each recording by itself. Default 1h. Live.
    pub max_duration: DurationString,
    /// Time after a camera's last packet at which its recording is finalised, 1s to 1h. Default 30s. Live.
    pub idle_timeout: DurationString,
    /// What is deleted by itself, oldest first. Live.
    pub retention: Retention,
    /// What becomes of recordings when this session is deleted: Retain keeps the volume and the objects; Delete removes both, except recordings that are held; WaitForUploads holds the deletion until all is uploaded, and then removes the volume, unless the objects lie on it (storage.mode Managed, Local). May be changed while the session is being deleted: Retain lets it go at once. Default Retain. Live.
    pub reclaim_policy: ReclaimPolicy,
    /// When a Job applies retention, and sweeps what was left unfinished for a day: five fields of cron, in UTC. Default "17 * * * *", hourly. Live.
    #[schemars(length(max = 64))]
    pub cleanup_schedule: String,
}

impl Default for Recording {
    fn default() -> Self {
        Self {
            enabled: true,
            segment_duration: DurationString::literal("10s"),
            max_duration: DurationString::literal("1h"),
            idle_timeout: DurationString::literal("30s"),
            retention: Retention::default(),
            reclaim_policy: ReclaimPolicy::Retain,
            cleanup_schedule: "17 * * * *".to_owned(),
        }
    }
}

/// What is deleted by itself, oldest first. A recording goes as soon as one of these says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Retention {
    /// Age, counted from a recording's end, at which it is deleted; at least 1m. Default: never by age. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<DurationString>,
    /// Bytes that all recordings may take together, at least 100Mi. Default: no such cap. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Quantity>,
    /// Space on the volume that stays free: a percentage from 0% to 90%, or bytes with a unit. Default 10%. Live.
    pub keep_free: KeepFree,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_age: None, max_bytes: None, keep_free: KeepFree::Percent(10) }
    }
}

/// What becomes of recordings when their session is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReclaimPolicy {
    /// Volume and objects stay.
    #[default]
    Retain,
    /// Volume and objects go; what is held stays in a store of your own.
    Delete,
    /// The deletion waits until all is uploaded; then the volume goes and the objects stay. Where they lie on it, it stays.
    WaitForUploads,
}
