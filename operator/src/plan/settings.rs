//! What the operator's flags say about every session.

use std::time::Duration;

/// What the operator's flags say about every session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Images of the pod's containers.
    pub images: Images,
    /// `imagePullPolicy` of every container; `None` leaves it to the cluster.
    pub pull_policy: Option<String>,
    /// Names of Secrets in the session's namespace to pull images with.
    pub pull_secrets: Vec<String>,
    /// Namespace that the operator runs in: from there alone the management port may be reached. `None`: from anywhere.
    pub operator_namespace: Option<String>,
    /// Age at which the secrets of relay and admin API are made anew; `None`: only when the session's annotation asks.
    pub rotate_secrets_after: Option<Duration>,
    /// Proxies on the way to stores elsewhere.
    pub proxies: Proxies,
}

/// Proxies on the way to stores elsewhere, without passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http://`.
    pub http: Option<String>,
    /// For `https://`.
    pub https: Option<String>,
    /// Hosts, domains and networks that are reached directly.
    pub direct: Option<String>,
}

/// Images of the pod's containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// The media server.
    pub media_server: String,
    /// coturn, with `turnserver` on its PATH.
    pub coturn: String,
    /// MinIO, with `minio` on its PATH.
    pub minio: String,
}
