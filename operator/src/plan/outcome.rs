//! What a plan says is to be done, in the order in which to do it.
//!
//! Objects may hold values of Secrets; nothing here shows them by `Debug`.

use std::{fmt, time::Duration};

use serde_json::Value;
use streamsession_api::StreamSessionStatus;

use super::SessionPush;

/// What is to be done, in the order of its fields.
#[derive(Debug)]
pub struct Plan {
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
    /// Events to tell.
    pub events: Vec<Note>,
    /// When to look again, if nothing happens before.
    pub requeue: Duration,
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
            _ => "",
        }
    }

    /// `apiVersion` of its objects; the version is v1 for all.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::NetworkPolicy | Self::Ingress => "networking.k8s.io/v1",
            Self::PodDisruptionBudget => "policy/v1",
            Self::StatefulSet => "apps/v1",
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
