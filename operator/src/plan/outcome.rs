//! What a plan says is to be done, in the order in which to do it.
//!
//! Objects may hold values of Secrets; nothing here shows them by `Debug`.

use std::{fmt, time::Duration};

use serde_json::Value;
use streamsession_api::{CaBundle, StreamSessionStatus};

use super::SessionPush;

/// What is to be done, in the order of its fields.
#[derive(Debug)]
pub struct Plan {
    /// The session's finalizers, ours among them: written before anything is made that it is there for.
    pub hold: Option<Vec<String>>,
    /// What is to be done in the operator's own namespace. One that fails ends the rest of these, and keeps `release` back.
    pub elsewhere: Vec<Elsewhere>,
    /// Objects to write, in order; nothing that is already as it should be. One that fails ends neither the others nor
    /// the status, but `push`.
    pub apply: Vec<Apply>,
    /// Objects that are no longer wanted.
    pub delete: Vec<Delete>,
    /// The pod to delete, so that it is made anew from the template.
    pub delete_pod: Option<DeletePod>,
    /// What the media server is to take over.
    pub push: Option<SessionPush>,
    /// The status to write; `None` when it stands as it should.
    pub status: Option<StreamSessionStatus>,
    /// A clean-up has ended, and this plan is the first that says so in the status; or a final Job has.
    pub cleaned: Option<Cleaned>,
    /// Events to tell.
    pub events: Vec<Note>,
    /// The session's finalizers without ours: written last of all, and only if nothing else has failed.
    pub release: Option<Vec<String>>,
    /// When to look again, if nothing happens before.
    pub requeue: Duration,
}

impl Plan {
    /// Nothing is to be done.
    pub(crate) fn nothing(requeue: Duration) -> Self {
        Self {
            elsewhere: Vec::new(),
            hold: None,
            apply: Vec::new(),
            delete: Vec::new(),
            delete_pod: None,
            push: None,
            status: None,
            cleaned: None,
            events: Vec::new(),
            release: None,
            requeue,
        }
    }
}

/// What is to be done in the operator's own namespace, for a session that may be gone before it is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Elsewhere {
    /// Copy the values of a Secret of the session's namespace, which never pass through a plan.
    Copy(SecretCopy),
    /// Create a Job; that it is there already is no failure.
    CreateJob(Value),
    /// Delete a Job and its pods.
    DeleteJob {
        /// Its name.
        name: String,
        /// As precondition.
        uid: String,
    },
    /// Delete the copied Secret.
    DeleteCopy {
        /// Its name.
        name: String,
        /// As precondition; `None` where none was seen, and one may be there all the same.
        uid: Option<String>,
    },
}

/// A Secret that is copied.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretCopy {
    /// Its name in the session's namespace.
    pub from: String,
    /// Keys whose values are taken; what else it has is not.
    pub keys: Vec<String>,
    /// Where the authorities of the store are, which the copy gets as `ca.crt`.
    pub authorities: Option<CaBundle>,
    /// The copy, without values: it says in [`COPIED_FROM`](super::names::COPIED_FROM) what it is a copy of.
    pub to: Value,
}

/// What a clean-up did, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// Whether it did all that it was to do.
    pub ok: bool,
    /// Recordings that it deleted.
    pub recordings: u64,
    /// Bytes that it deleted.
    pub bytes: u64,
}

/// Kinds of objects that belong to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// core/v1
    ServiceAccount,
    /// core/v1
    Secret,
    /// core/v1
    ConfigMap,
    /// core/v1
    PersistentVolumeClaim,
    /// core/v1
    Service,
    /// networking.k8s.io/v1
    NetworkPolicy,
    /// policy/v1
    PodDisruptionBudget,
    /// apps/v1
    StatefulSet,
    /// networking.k8s.io/v1
    Ingress,
    /// batch/v1
    CronJob,
    /// core/v1; only its annotations are ever written
    Pod,
}

impl Kind {
    /// The group; empty for core.
    pub const fn group(self) -> &'static str {
        match self {
            Self::NetworkPolicy | Self::Ingress => "networking.k8s.io",
            Self::PodDisruptionBudget => "policy",
            Self::StatefulSet => "apps",
            Self::CronJob => "batch",
            _ => "",
        }
    }

    /// `apiVersion` of its objects; the version is v1 for all.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::NetworkPolicy | Self::Ingress => "networking.k8s.io/v1",
            Self::PodDisruptionBudget => "policy/v1",
            Self::StatefulSet => "apps/v1",
            Self::CronJob => "batch/v1",
            _ => "v1",
        }
    }

    /// `kind` of its objects.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Service => "Service",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::StatefulSet => "StatefulSet",
            Self::Ingress => "Ingress",
            Self::CronJob => "CronJob",
            Self::Pod => "Pod",
        }
    }

    /// The resource's name in URLs.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::ServiceAccount => "serviceaccounts",
            Self::Secret => "secrets",
            Self::ConfigMap => "configmaps",
            Self::PersistentVolumeClaim => "persistentvolumeclaims",
            Self::Service => "services",
            Self::NetworkPolicy => "networkpolicies",
            Self::PodDisruptionBudget => "poddisruptionbudgets",
            Self::StatefulSet => "statefulsets",
            Self::Ingress => "ingresses",
            Self::CronJob => "cronjobs",
            Self::Pod => "pods",
        }
    }
}

/// An object that belongs to a session, in the session's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Child {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)
    }
}

/// One write.
#[derive(Clone, PartialEq)]
pub struct Apply {
    /// What is written.
    pub child: Child,
    /// How.
    pub write: Write,
    /// The body, with `apiVersion`, `kind`, name and namespace.
    pub object: Value,
}

impl fmt::Debug for Apply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Apply").field("child", &self.child).field("write", &self.write).finish_non_exhaustive()
    }
}

/// How an object is written, always as [`FIELD_MANAGER`](super::names::FIELD_MANAGER).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Server-side apply with force.
    Apply,
    /// Create; that it is there already (409) is no failure: the next pass sees it.
    Create,
    /// JSON merge patch. The body names the uid or resourceVersion that was seen: a conflict (409) is no failure.
    Merge,
}

/// One deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// What goes.
    pub child: Child,
    /// As precondition: this one and no other of its name.
    pub uid: String,
}

/// The deletion of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletePod {
    /// Its name.
    pub name: String,
    /// As precondition: this one and no other of its name.
    pub uid: String,
    /// Seconds that it has to end in, by the spec of now.
    pub grace_seconds: u32,
    /// Why, for the log.
    pub why: String,
}

/// An event about the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it is a warning.
    pub warning: bool,
    /// Reason, in CamelCase.
    pub reason: String,
    /// What the operator was about: the event's action, in CamelCase.
    pub action: &'static str,
    /// What happened, and what to do; at most 1 kB.
    pub message: String,
}
