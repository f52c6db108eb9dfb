//! Whether the store may be changed: the managed store's objects are on the volume, and nobody serves them in another mode.
//!
//! The server loses no recording by the change, but those that only the managed store holds could not be played, nor
//! deleted by retention, until they are copied. So nothing of such a spec is applied before there are none, or before the
//! session's annotation accepts that they stay behind.

use kube::ResourceExt as _;
use streamsession_api::StorageMode;

use super::{children::store::STORE, names, scene::Scene};

/// Returns why the change to another store is not made.
pub(crate) fn refused(scene: &Scene<'_>) -> Option<String> {
    let mode = scene.spec.storage.mode;
    if mode == StorageMode::Managed || !runs_managed(scene) || is_accepted(scene) {
        return None;
    }
    let (namespace, name) = (&scene.namespace, &scene.name);
    let held = match scene.report() {
        Some(report) => report.recordings.only_in_store.unwrap_or(report.recordings.count),
        // Not known now: as many as there were.
        None => scene.session.status.as_ref()?.recordings.as_ref()?.count,
    };
    (held > 0).then(|| {
        format!(
            "{held} recordings are only in the managed store, which does not run with spec.storage.mode {mode:?}: copy them to the new store first (docs/kubernetes.md, Change the store), then accept the change by `kubectl -n {namespace} annotate ss {name} {}={}`; or write mode: Managed again",
            names::LEAVE_RECORDINGS,
            names::MANAGED,
        )
    })
}

/// The pod, or the template that the next one is made from, has the managed store.
fn runs_managed(scene: &Scene<'_>) -> bool {
    let template = scene.stateful_set.as_ref().and_then(|set| set.spec.as_ref()?.template.spec.as_ref());
    scene.runs(STORE) || template.is_some_and(|pod| pod.containers.iter().any(|one| one.name == STORE))
}

fn is_accepted(scene: &Scene<'_>) -> bool {
    scene.session.annotations().get(names::LEAVE_RECORDINGS).is_some_and(|store| store == names::MANAGED)
}
