//! What operator and media server say to each other on the management port: `GET` and `PUT /admin/session`.
//!
//! Fields that are missing take their defaults and unknown ones are passed over, so that an operator and a server of
//! neighbouring versions understand each other.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use streamsession_api::StreamSessionSpec;

/// Answer of `GET /admin/session`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerReport {
    /// Version of the server.
    pub version: String,
    /// Generation of the spec in force; 0 until the first push.
    pub generation: i64,
    /// Whether newcomers are refused because it is about to end.
    pub draining: bool,
    /// Whether it drains, and has nothing left to do: all has ended, is finalised and, where there is a store, is in it.
    pub drained: bool,
    /// Caps in force.
    pub limits: ReportedLimits,
    /// Media addresses told to peers, the pod's own last.
    pub announced: Vec<String>,
    /// URLs of the relay told to peers.
    pub turn_urls: Vec<String>,
    /// Cameras that stream now.
    pub publishers: u32,
    /// Viewers in all rooms now.
    pub subscribers: u32,
    /// Rooms with anyone in them.
    pub rooms: u32,
    /// What is kept.
    pub recordings: ReportedRecordings,
    /// The object store, or the folder.
    pub store: ReportedStore,
    /// The way of recordings to the store.
    pub uploads: ReportedUploads,
    /// The relay.
    pub turn: ReportedTurn,
}

/// Caps in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReportedLimits {
    /// Cameras at once in the pod.
    pub max_publishers: u32,
    /// Viewers at once in each room.
    pub max_subscribers_per_room: u32,
    /// Cameras at once for each account.
    pub max_streams_per_account: Option<u32>,
    /// Bits per second of a publisher.
    pub max_bitrate: Option<u64>,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReportedRecordings {
    /// Recordings, finished or under way.
    pub count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Finished recordings that are not wholly in the store.
    pub pending_uploads: u64,
    /// Recordings that have left the volume's directories: only a store holds them. Absent from older servers.
    pub only_in_store: Option<u64>,
    /// Start of the oldest.
    pub oldest: Option<Timestamp>,
}

/// The object store, or the folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReportedStore {
    /// Managed, External or Local.
    pub mode: String,
    /// Whether the last request that it answered went well.
    pub ok: bool,
    /// Why not, in CamelCase: AccessDenied, NoSuchBucket, Unreachable and the like.
    pub reason: Option<String>,
    /// Why not, and what to do.
    pub message: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Id by which the server marks its prefix there.
    pub owner: Option<String>,
}

impl Default for ReportedStore {
    fn default() -> Self {
        Self { mode: String::new(), ok: true, reason: None, message: None, since: None, owner: None }
    }
}

/// The way of recordings to the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReportedUploads {
    /// Files that are still to go.
    pub pending: u64,
    /// Seconds that the oldest of them has waited.
    pub oldest_pending_seconds: Option<u64>,
    /// Whether attempts fail.
    pub failing: bool,
    /// Why, and what to do.
    pub message: Option<String>,
    /// Recordings that only a store of before holds.
    pub elsewhere: Option<ReportedElsewhere>,
}

/// Recordings that only a store of before holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReportedElsewhere {
    /// Their number.
    pub recordings: u64,
    /// Of those, recordings in the managed store of before, on the volume.
    pub on_volume: u64,
    /// Where they are, and what to do.
    pub message: String,
}

/// The relay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReportedTurn {
    /// Managed, External or Disabled.
    pub mode: String,
    /// Whether it answers STUN bindings.
    pub ok: bool,
    /// Why not, and what to do.
    pub message: Option<String>,
}

impl Default for ReportedTurn {
    fn default() -> Self {
        Self { mode: String::new(), ok: true, message: None }
    }
}

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerError {
    /// Nobody answers at the pod's address.
    Unreachable(String),
    /// The token is not (or not yet) the server's.
    Unauthorized,
    /// It answered, but not with a report.
    Malformed(String),
}

/// Body of `PUT /admin/session`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionPush {
    /// Generation of the spec.
    pub generation: i64,
    /// The whole spec; the server takes what is live.
    pub spec: StreamSessionSpec,
    /// Media addresses to tell peers, best first, each with its port; the server adds the pod's own.
    pub announced: Vec<String>,
    /// URLs of the relay to tell peers.
    pub turn_urls: Vec<String>,
    /// Whether it is to drain: for good.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
}
