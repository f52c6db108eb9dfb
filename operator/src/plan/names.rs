//! Names, labels and annotations of everything that belongs to a session.
//!
//! Rules: a session's name has at most 52 characters (its CustomResourceDefinition says so), so that with a suffix it
//! stays below the 63 of a label and of a Service (RFC 1123). Labels are those that Kubernetes recommends
//! (app.kubernetes.io), and one of our own that selects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use serde_json::Value;
use streamsession_api::StreamSession;

/// Field manager of every write, and the value of `app.kubernetes.io/managed-by`.
pub const FIELD_MANAGER: &str = "streamsession-operator";

/// Label that everything of a session carries, with the session's name.
pub const SESSION_LABEL: &str = "media.streamsession.io/session";

/// Label of a namespace whose pods may read the metrics of sessions: `true`.
pub const METRICS_LABEL: &str = "media.streamsession.io/metrics";

/// Annotation of a child: hash of what was last applied.
pub const APPLIED_HASH: &str = "media.streamsession.io/applied-hash";

/// Annotation of the pod: hash of the template that it was made from.
pub const TEMPLATE_HASH: &str = "media.streamsession.io/template-hash";

/// Annotation of the pod's template: hash of those fields of the spec that the server reads when it starts, and then no more.
pub const SPEC_HASH: &str = "media.streamsession.io/spec-hash";

/// Annotation of the pod: hash of the versions of the Secrets that it mounts.
pub const SECRETS_HASH: &str = "media.streamsession.io/secrets-hash";

/// Annotation of a session: each new value makes the operator rotate the secrets that it made.
pub const ROTATE_SECRETS: &str = "media.streamsession.io/rotate-secrets";

/// Annotation of a session: accepts that recordings stay behind in the store that it names, when the mode changes.
pub const LEAVE_RECORDINGS: &str = "media.streamsession.io/leave-recordings";

/// Value of that annotation: the store in the pod.
pub const MANAGED: &str = "managed";

/// Annotation of a Secret that rotates: when its value was made (RFC 3339).
pub const ROTATED_AT: &str = "media.streamsession.io/rotated-at";

/// Finalizer of a session whose recordings somebody has to see to before it goes.
pub const FINALIZER: &str = "media.streamsession.io/recordings";

/// Annotation of the volume: `true` once all that is on it was in the store, and nothing more came.
pub const UPLOADED: &str = "media.streamsession.io/uploaded";

/// Annotation of a copied Secret: which version of which Secret it is a copy of.
pub const COPIED_FROM: &str = "media.streamsession.io/copied-from";

/// Label of what lies in the operator's namespace: the session's namespace.
pub const NAMESPACE_LABEL: &str = "media.streamsession.io/session-namespace";

/// `app.kubernetes.io/name` of clean-up pods; not that of the session's pod, so that no Service leads to them.
pub const CLEANUP: &str = "streamsession-cleanup";

/// `app.kubernetes.io/name` of what a session's deletion needs in the operator's namespace.
pub const RECLAIM: &str = "streamsession-reclaim";

/// What the pod's name adds to the session's: there is one, so its number is 0.
pub const POD: &str = "-0";

/// What the name of the volume adds.
pub const CLAIM: &str = "-data";

/// The pod of a session.
pub fn pod(session: &str) -> String {
    format!("{session}{POD}")
}

/// The volume of recordings and of the registry.
pub fn claim(session: &str) -> String {
    format!("{session}{CLAIM}")
}

/// The Service of the media port.
pub fn media(session: &str) -> String {
    format!("{session}-media")
}

/// The Service of the relay, and the Secret that it shares with the server.
pub fn turn(session: &str) -> String {
    format!("{session}-turn")
}

/// The Service of the store in the pod, and the Secret with its credentials.
pub fn store(session: &str) -> String {
    format!("{session}-store")
}

/// The Secret with the token of the admin API.
pub fn admin(session: &str) -> String {
    format!("{session}-admin")
}

/// The Secret that tokens are signed with, when the session names no keys.
pub fn keys(session: &str) -> String {
    format!("{session}-keys")
}

/// The final Job of a session, and the copied Secret that it has, both in the operator's namespace. Of this session alone,
/// and not of a later one of its name.
pub fn reclaim(session: &StreamSession) -> String {
    let namespace = session.namespace().unwrap_or_default();
    reclaim_of(&namespace, &session.name_any(), &session.uid().unwrap_or_default())
}

/// The same, for a session of which no more is known.
pub fn reclaim_of(namespace: &str, name: &str, uid: &str) -> String {
    let hash = super::hash::of(&[namespace, name, uid]);
    let legible = name.get(..30).unwrap_or(name).trim_end_matches(['-', '.']);
    format!("{legible}-reclaim-{}", &hash[..12])
}

/// Labels of a clean-up's Job and pod.
pub fn cleanup_labels(session: &str) -> BTreeMap<String, String> {
    let mut labels = labels(session, "cleanup");
    labels.insert("app.kubernetes.io/name".to_owned(), CLEANUP.to_owned());
    labels
}

/// Labels of what lies in the operator's namespace for a session.
pub fn reclaim_labels(session: &StreamSession) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), RECLAIM.to_owned()),
        ("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned()),
        (NAMESPACE_LABEL.to_owned(), session.namespace().unwrap_or_default()),
        // Not the session's label: the objects that carry that one are in the session's namespace.
        ("app.kubernetes.io/instance".to_owned(), session.name_any()),
    ])
}

/// What selects the pod of a session.
pub fn selector(session: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "streamsession".to_owned()),
        ("app.kubernetes.io/instance".to_owned(), session.to_owned()),
        (SESSION_LABEL.to_owned(), session.to_owned()),
    ])
}

/// Every label of a child; `component` is what it is for.
pub fn labels(session: &str, component: &str) -> BTreeMap<String, String> {
    let mut labels = selector(session);
    labels.insert("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned());
    labels.insert("app.kubernetes.io/component".to_owned(), component.to_owned());
    labels
}

/// The session as the owner of a child.
pub(crate) fn owner(session: &StreamSession) -> OwnerReference {
    OwnerReference {
        api_version: StreamSession::api_version(&()).into_owned(),
        kind: StreamSession::kind(&()).into_owned(),
        name: session.name_any(),
        uid: session.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// Whose an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Belongs {
    /// To this session, or to nobody yet but made for one of its name.
    Ours,
    /// To an earlier session of the same name: it is about to be collected.
    Predecessor,
    /// To somebody else.
    Stranger,
}

/// Whose `object` is: told by its controller, else by its labels, else by the mark of what was applied.
pub(crate) fn belongs(object: &Value, session: &StreamSession) -> Belongs {
    let metadata = &object["metadata"];
    let name = session.name_any();
    let labels = &metadata["labels"];
    let marked = labels[SESSION_LABEL] == *name && labels["app.kubernetes.io/managed-by"] == FIELD_MANAGER
        || metadata["annotations"][APPLIED_HASH].is_string();
    let controller = metadata["ownerReferences"]
        .as_array()
        .and_then(|owners| owners.iter().find(|owner| owner["controller"] == true));
    match controller {
        Some(owner) if owner["uid"] == *session.uid().unwrap_or_default() => Belongs::Ours,
        Some(owner) if owner["kind"] == *StreamSession::kind(&()) && owner["name"] == *name => Belongs::Predecessor,
        Some(_) => Belongs::Stranger,
        None if marked => Belongs::Ours,
        None => Belongs::Stranger,
    }
}
