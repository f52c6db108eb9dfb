//! What was seen of a session before a plan is made: owned values, absent ones as `None`.
//!
//! Values of Secrets are among them; nothing here shows them by `Debug`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use serde_json::Value;

use super::{Child, ServerError, ServerReport};

/// What was seen of one session.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The time.
    pub now: Timestamp,
    /// Those of [`children`](super::children) that exist, as JSON with `apiVersion`, `kind` and whole `metadata`.
    pub children: BTreeMap<Child, Value>,
    /// Those of [`own_secrets`](super::own_secrets) that exist, by name.
    pub secrets: BTreeMap<String, OwnSecret>,
    /// Those of [`references`](super::references) that exist, by name.
    pub references: BTreeMap<String, SecretSummary>,
    /// The pod (`names::pod`).
    pub pod: Option<Pod>,
    /// The node that the pod is on; `None` too when nodes may not be read.
    pub node: Option<Node>,
    /// Recent events (at most an hour old, newest last) about the pod (this one, by its uid), the StatefulSet and the
    /// claim: all Warnings, and of the claim also `FailedBinding` and `WaitForFirstConsumer`.
    pub warnings: Vec<Warning>,
    /// What the server said to `GET /admin/session`; `None` when there is no pod with an address to ask.
    pub server: Option<Result<ServerReport, ServerError>>,
    /// Since when calls of the server have failed without one in between that went well; `None` when the last one went
    /// well or there was none. A short silence of a pod that the kubelet calls ready is not told as an outage.
    pub server_failing_since: Option<Timestamp>,
    /// The clean-up of this session that ended last, if its Job is still there.
    pub cleanup: Option<CleanupRun>,
    /// The copy of the store's credentials in the operator's namespace (`names::reclaim`).
    pub copy: Option<Copied>,
    /// The final Job in the operator's namespace (`names::reclaim`); only looked up for a session that is being deleted.
    pub reclaim: Option<FinalJob>,
    /// What the API server refused of the last pass (4xx other than 409), until a pass without it.
    pub refusals: Vec<Refusal>,
    /// The server's refusal (422) of the last push, with the generation that was pushed.
    pub push_refused: Option<PushRefused>,
}

impl Observed {
    /// Nothing seen yet.
    pub fn nothing(now: Timestamp) -> Self {
        Self {
            now,
            children: BTreeMap::new(),
            secrets: BTreeMap::new(),
            references: BTreeMap::new(),
            pod: None,
            node: None,
            warnings: Vec::new(),
            server: None,
            server_failing_since: None,
            cleanup: None,
            copy: None,
            reclaim: None,
            refusals: Vec::new(),
            push_refused: None,
        }
    }
}

/// A clean-up that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanupRun {
    /// Name of its Job.
    pub job: String,
    /// When it ended.
    pub at: Timestamp,
    /// Whether the Job says that it went well.
    pub succeeded: bool,
    /// What its program said last: a report (`report::Report`), or whatever else.
    pub said: Option<String>,
}

/// The copy of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its uid.
    pub uid: String,
    /// Which version of which Secret it is a copy of.
    pub source: String,
}

/// The final Job of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalJob {
    /// Its uid.
    pub uid: String,
    /// Whether it is about to go.
    pub leaving: bool,
    /// How it ended, and when; `None` while it goes on.
    pub ended: Option<(bool, Timestamp)>,
    /// What its program said last.
    pub said: Option<String>,
}

/// A Secret that the operator made, with its values.
#[derive(Clone)]
pub struct OwnSecret(pub Secret);

impl OwnSecret {
    /// A value, when it is there and is text.
    pub fn value(&self, key: &str) -> Option<&str> {
        let value = self.0.data.as_ref()?.get(key)?;
        std::str::from_utf8(&value.0).ok().filter(|value| !value.is_empty())
    }

    /// What to try as the bearer token of the admin API, in this order: a server that has not yet read the newest one
    /// still takes the one before.
    pub fn admin_tokens(&self) -> Vec<&str> {
        [super::TOKEN, super::TOKEN_PREVIOUS].into_iter().filter_map(|key| self.value(key)).collect()
    }
}

impl fmt::Debug for OwnSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnSecret").field(&self.0.metadata.name).finish_non_exhaustive()
    }
}

/// What is told of a Secret without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretSummary {
    /// Keys with a value that is not empty.
    pub keys: BTreeSet<String>,
    /// Changes whenever the Secret does. Of its identity and version alone, so that nobody can guess values from it.
    pub version: String,
}

impl SecretSummary {
    /// Of a Secret as the API server gave it.
    pub fn of(secret: &Secret) -> Self {
        let metadata = &secret.metadata;
        let keys = secret.data.iter().flatten().filter(|(_, value)| !value.0.is_empty()).map(|(key, _)| key.clone());
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        Self { keys: keys.collect(), version: format!("{}/{}", part(&metadata.uid), part(&metadata.resource_version)) }
    }
}

/// An event about the pod, its StatefulSet or its claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What it is about: `Pod`, `StatefulSet` or `PersistentVolumeClaim`.
    pub about: String,
    /// The event's reason, such as `FailedMount`.
    pub reason: String,
    /// The event's message.
    pub message: String,
    /// When it was last seen.
    pub at: Timestamp,
}

/// What the API server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was to be written.
    pub child: Child,
    /// Why not, in the API server's words.
    pub message: String,
}

/// What the media server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushRefused {
    /// Generation that was pushed.
    pub generation: i64,
    /// Why not, in the server's words (a problem's detail).
    pub message: String,
}
