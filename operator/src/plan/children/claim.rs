//! The volume that holds recordings and registry.
//!
//! It is made once. Afterwards it can grow, and that is all that Kubernetes lets happen to it: a smaller size and
//! another class are told as what they are. Only while `reclaimPolicy` is Delete does it have an owner, so that it goes
//! with the session. Else it outlives it, and a session of the same name takes it up again; with WaitForUploads it is
//! given its owner at last, when all is uploaded.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::ResourceExt;
use serde_json::{Value, json};
use streamsession_api::ReclaimPolicy;

use super::{metadata, owners_patch};
use crate::plan::{Apply, Child, Kind, Write, compare, names, scene::Scene};

/// Why the volume is not what the spec says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unlike {
    /// The spec wants it smaller.
    Larger,
    /// The spec wants another storage class.
    OtherClass,
}

/// Whether what holds data goes with the session.
pub(super) fn goes_with_the_session(scene: &Scene<'_>) -> bool {
    scene.spec.recording.reclaim_policy == ReclaimPolicy::Delete
}

/// How the volume differs from the spec in a way that nobody can mend.
pub(crate) fn unlike(scene: &Scene<'_>) -> Option<Unlike> {
    let spec = scene.claim.as_ref()?.spec.as_ref()?;
    let seen = compare::quantity(requested(spec)?);
    let wanted = compare::quantity(scene.spec.storage.size.as_str());
    let class = &scene.spec.storage.storage_class_name;
    if matches!((seen, wanted), (Some(seen), Some(wanted)) if wanted < seen) {
        Some(Unlike::Larger)
    } else if class.is_some() && spec.storage_class_name.is_some() && *class != spec.storage_class_name {
        Some(Unlike::OtherClass)
    } else {
        None
    }
}

/// The write that makes the volume, or makes it grow. `None` when it is as it should be.
pub(super) fn claim(scene: &Scene<'_>) -> Option<Apply> {
    let child = Child { kind: Kind::PersistentVolumeClaim, name: names::claim(&scene.name) };
    let storage = &scene.spec.storage;
    let Some(seen) = scene.child(child.kind, &child.name) else {
        let mut metadata = metadata(scene, child.name.clone(), "data");
        if !goes_with_the_session(scene) {
            metadata.owner_references = None;
        }
        let claim = PersistentVolumeClaim {
            metadata,
            spec: Some(PersistentVolumeClaimSpec {
                access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
                storage_class_name: storage.storage_class_name.clone(),
                resources: Some(VolumeResourceRequirements {
                    requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(storage.size.to_string()))])),
                    limits: None,
                }),
                ..PersistentVolumeClaimSpec::default()
            }),
            status: None,
        };
        let object = serde_json::to_value(claim).expect("a claim is JSON");
        return Some(Apply { child, write: Write::Create, object });
    };
    let mut metadata = json!({"labels": names::labels(&scene.name, "data")});
    if scene.claim.as_ref().is_some_and(|claim| claim.annotations().contains_key(names::UPLOADED)) {
        // Of an earlier session, or of a deletion that was called off.
        metadata["annotations"] = json!({names::UPLOADED: null});
    }
    if let Some(owners) = owners_patch(scene, seen, goes_with_the_session(scene)) {
        metadata["ownerReferences"] = owners;
    }
    let mut wanted = json!({"metadata": metadata});
    if unlike(scene) != Some(Unlike::Larger) {
        wanted["spec"] = json!({"resources": {"requests": {"storage": storage.size.as_str()}}});
    }
    if compare::holds(seen, &wanted) {
        return None;
    }
    merge(scene, child, seen, wanted)
}

/// Says of the volume that all on it is in the store, unless it says so already.
pub(crate) fn mark_uploaded(scene: &Scene<'_>) -> Option<Apply> {
    let child = Child { kind: Kind::PersistentVolumeClaim, name: names::claim(&scene.name) };
    let seen = scene.child(child.kind, &child.name).filter(|_| scene.claim.is_some())?;
    let wanted = json!({"metadata": {"annotations": {names::UPLOADED: "true"}}});
    if compare::holds(seen, &wanted) {
        return None;
    }
    merge(scene, child, seen, wanted)
}

/// A merge patch of what was seen, and of nothing else of that name.
pub(super) fn merge(scene: &Scene<'_>, child: Child, seen: &Value, mut body: Value) -> Option<Apply> {
    body["apiVersion"] = json!(child.kind.api_version());
    body["kind"] = json!(child.kind.name());
    body["metadata"]["name"] = json!(child.name);
    body["metadata"]["namespace"] = json!(scene.namespace);
    body["metadata"]["uid"] = seen["metadata"]["uid"].clone();
    Some(Apply { child, write: Write::Merge, object: body })
}

fn requested(spec: &PersistentVolumeClaimSpec) -> Option<&str> {
    spec.resources.as_ref()?.requests.as_ref()?.get("storage").map(|size| size.0.as_str())
}
