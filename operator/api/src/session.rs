//! The root type, and those groups of the spec that are too small for a file of their own.

// KubeSchema repeats the struct inside a function, `pub` and all.
#![allow(unreachable_pub)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Auth, DurationString, Exposure, Http, Media, Quantity, Recording, Storage, StreamSessionStatus, Turn, rules,
};

/// What one pod of cameras and viewers is to be: how it is reached, who may use it, how many, and what is kept.
///
/// Every field has a default, so that `spec: {}` is a whole session.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "media.streamsession.io",
    version = "v1alpha1",
    kind = "StreamSession",
    plural = "streamsessions",
    namespaced,
    shortname = "ss",
    category = "all",
    category = "media",
    status = "StreamSessionStatus",
    derive = "PartialEq",
    doc = "One pod that takes cameras over WHIP, shows them over WHEP, and records them.",
    validation = rules::METADATA_NAME.rule(),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Publishers", type_ = "integer", json_path = ".status.publishers"),
    printcolumn(name = "Viewers", type_ = "integer", json_path = ".status.subscribers"),
    printcolumn(
        name = "Caps",
        type_ = "string",
        json_path = ".status.limits.caps",
        description = "Publishers in the pod / subscribers in a room, as enforced now."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    printcolumn(name = "WHIP", type_ = "string", json_path = ".status.endpoints.whip", priority = 1),
    printcolumn(name = "Storage", type_ = "string", json_path = ".spec.storage.mode", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::MAX_PUBLISHERS.rule())]
#[x_kube(validation = rules::MAX_SUBSCRIBERS.rule())]
#[x_kube(validation = rules::MAX_STREAMS.rule())]
#[x_kube(validation = rules::MAX_BITRATE.rule())]
#[x_kube(validation = rules::GOP_CACHE.rule())]
#[x_kube(validation = rules::MEDIA_PORT.rule())]
#[x_kube(validation = rules::MEDIA_NODE_PORT.rule())]
#[x_kube(validation = rules::ANNOUNCE.rule())]
#[x_kube(validation = rules::INGRESS_HOST.rule())]
#[x_kube(validation = rules::ALLOWED_ORIGINS.rule())]
#[x_kube(validation = rules::TRUSTED_PROXIES.rule())]
#[x_kube(validation = rules::BASE_PATH.rule())]
#[x_kube(validation = rules::TURN_EXTERNAL.rule())]
#[x_kube(validation = rules::TURN_URLS.rule())]
#[x_kube(validation = rules::TURN_CREDENTIAL_TTL.rule())]
#[x_kube(validation = rules::TURN_NODE_PORT.rule())]
#[x_kube(validation = rules::STORAGE_EXTERNAL.rule())]
#[x_kube(validation = rules::STORAGE_ENDPOINT.rule())]
#[x_kube(validation = rules::STORAGE_BUCKET.rule())]
#[x_kube(validation = rules::STORAGE_PREFIX.rule())]
#[x_kube(validation = rules::STORAGE_CA_BUNDLE.rule())]
#[x_kube(validation = rules::STORAGE_WEB_IDENTITY.rule())]
#[x_kube(validation = rules::STORAGE_STS_ENDPOINT.rule())]
#[x_kube(validation = rules::STORAGE_SIZE.rule())]
#[x_kube(validation = rules::SEGMENT_DURATION.rule())]
#[x_kube(validation = rules::MAX_DURATION.rule())]
#[x_kube(validation = rules::IDLE_TIMEOUT.rule())]
#[x_kube(validation = rules::MAX_AGE.rule())]
#[x_kube(validation = rules::MAX_BYTES.rule())]
#[x_kube(validation = rules::CLEANUP_SCHEDULE.rule())]
#[x_kube(validation = rules::RECLAIM_DELETE.rule())]
#[x_kube(validation = rules::AUTH_OPEN.rule())]
#[x_kube(validation = rules::AUTH_CALLBACK.rule())]
#[x_kube(validation = rules::CALLBACK_URL.rule())]
#[x_kube(validation = rules::CALLBACK_TIMEOUT.rule())]
#[x_kube(validation = rules::AUTH_KEYS.rule())]
#[x_kube(validation = rules::JWKS_URL.rule())]
#[x_kube(validation = rules::JWKS_ISSUER.rule())]
#[x_kube(validation = rules::JWKS_AUDIENCE.rule())]
#[x_kube(validation = rules::DRAIN_DEADLINE.rule())]
#[x_kube(validation = rules::DATABASE_URL.rule())]
pub struct StreamSessionSpec {
    /// How many may come in, and how much they may send. Live.
    #[serde(default)]
    pub limits: Limits,
    /// How offers of cameras and viewers are answered, and the memory for viewers that join. Live.
    #[serde(default)]
    pub media: Media,
    /// How cameras and viewers reach the pod. Live, except where a field says otherwise; addresses of Service and Node are followed as they change.
    #[serde(default)]
    pub exposure: Exposure,
    /// HTTP for players and proxies. Live.
    #[serde(default)]
    pub http: Http,
    /// The relay for peers that cannot send UDP to the media port. When the pod is replaced, except where a field says otherwise.
    #[serde(default)]
    pub turn: Turn,
    /// Where recordings end up. When the pod is replaced.
    #[serde(default)]
    pub storage: Storage,
    /// What is recorded, and for how long it is kept. Live.
    #[serde(default)]
    pub recording: Recording,
    /// Who may publish, watch and administer. When the pod is replaced; keys are read again when their Secret changes.
    #[serde(default)]
    pub auth: Auth,
    /// How the pod is emptied before it ends. Live.
    #[serde(default)]
    pub drain: Drain,
    /// Where the registry of streams and recordings is kept. When the pod is replaced.
    #[serde(default)]
    pub database: Database,
    /// When a change that needs a new pod is made: WhenIdle waits until nobody publishes (the condition UpdatePending says so meanwhile), Immediate drains and replaces at once. Default WhenIdle. Live.
    #[serde(default)]
    pub update_policy: UpdatePolicy,
    /// While true the operator leaves everything that belongs to this session as it is, and tells the server nothing: Ready stays with the generation in force. Default false. Live.
    #[serde(default)]
    pub paused: bool,
    /// What the pod's template says besides. When the pod is replaced.
    #[serde(default)]
    pub pod: PodOverrides,
}

/// Caps of admission and of bitrate. A slot is reserved before anything is allocated; a full room answers 503.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Cameras at once in the whole pod, at least 1. Default 4. Live.
    pub max_publishers: u32,
    /// Viewers at once in each room, at least 1. Default 50. Live.
    pub max_subscribers_per_room: u32,
    /// Streams at once for each account (the claim account of the token; tokens without it are not counted), at least 1. Default: no such cap. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_streams_per_account: Option<u32>,
    /// Bits per second that each publisher may send, at least 100k: signalled to it, then enforced by dropping frames. Default 20M, enough for a 4K camera. Live, but a managed relay carries more than 60M only when the pod is replaced.
    pub max_bitrate: Quantity,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_publishers: 4,
            max_subscribers_per_room: 50,
            max_streams_per_account: None,
            max_bitrate: Quantity::literal("20M"),
        }
    }
}

/// How the pod is emptied: it refuses new sessions, tells viewers to reconnect, finalises and uploads recordings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Drain {
    /// Time after which the pod ends whatever is left to do, 1s to 1h. Default 60s. Live; but when it is a node that is drained, not more than the deadline that the pod was made with.
    pub deadline: DurationString,
}

impl Default for Drain {
    fn default() -> Self {
        Self { deadline: DurationString::literal("60s") }
    }
}

/// The database behind the registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Database {
    /// SQLite, a file on the pod's volume, or Postgres, at the URL of urlSecretRef (not in this version). Default SQLite. When the pod is replaced.
    pub mode: DatabaseMode,
    /// Where the connection URL stands (postgres://user:password@host/database). Exactly when mode is Postgres; no default. When the pod is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKeyRef>,
}

/// Which database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DatabaseMode {
    /// A file on the pod's volume.
    #[default]
    #[serde(rename = "SQLite")]
    Sqlite,
    /// A server elsewhere.
    Postgres,
}

/// When a change that needs a new pod is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdatePolicy {
    /// Once nobody publishes.
    #[default]
    WhenIdle,
    /// At once, after draining.
    Immediate,
}

/// What the pod's template says besides what the operator writes into it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodOverrides {
    /// Image of the media server. Default empty: the one that belongs to the operator's version. When the pod is replaced.
    pub image: String,
    /// Requests and limits of the media server's container. Default empty: the operator's own. When the pod is replaced.
    pub resources: ResourceRequirements,
    /// Labels that the node must have. Default none. When the pod is replaced.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pod tolerates. Default none. When the pod is replaced.
    pub tolerations: Vec<Toleration>,
    /// Where the pod may run, in full. Default none. When the pod is replaced.
    pub affinity: Affinity,
    /// Annotations of the pod's ServiceAccount, such as eks.amazonaws.com/role-arn. Default none. Live; a pod gets an identity by them when it is replaced.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub service_account_annotations: BTreeMap<String, String>,
}

/// One key of a Secret in the session's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// Name of the Secret; no default.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret's data; no default.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A Secret in the session's namespace; which keys it has is said where it is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// Name of the Secret; no default.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
