//! Whether the pod has to be made anew, and whether now.
//!
//! A pod that was made from another template waits until nobody publishes, unless the spec says otherwise; an operator
//! that was upgraded is no reason to cut a stream. One that does not run has nothing to lose. A pod whose Secret came so
//! late that the kubelet would take minutes to look again is made anew as well. So is one whose store was started with keys
//! that are no more.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use streamsession_api::{StorageMode, UpdatePolicy};

use super::{
    DeletePod,
    children::{media::MEDIA, pod},
    names,
    scene::Scene,
    trouble,
};

/// A pod that is no older is looked at again by the kubelet within as long again: it waits half a second first, and twice as
/// long each time.
const LOOKED_AT_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// How the pod stands to the template that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was made from it, or there is none.
    Settled,
    /// It was made from another one.
    Outdated,
    /// It was made from another one and is about to end.
    Leaving,
}

pub(crate) fn standing(scene: &Scene<'_>, wanted: &str) -> Standing {
    match scene.pod() {
        None => Standing::Settled,
        Some(pod)
            if pod.annotations().get(names::TEMPLATE_HASH).is_some_and(|hash| hash == wanted)
                && !store_has_old_keys(scene) =>
        {
            Standing::Settled
        }
        Some(pod) if pod.metadata.deletion_timestamp.is_some() => Standing::Leaving,
        Some(_) => Standing::Outdated,
    }
}

/// The pod to delete, if now is the time.
pub(crate) fn replacement(scene: &Scene<'_>, wanted: &str) -> Option<DeletePod> {
    let pod = scene.living_pod()?;
    let why = if standing(scene, wanted) == Standing::Outdated {
        outdated(scene, wanted)?
    } else if mount_is_mended(scene) {
        "it hangs, and the Secret that it waited for is there now".to_owned()
    } else {
        return None;
    };
    Some(DeletePod {
        name: pod.name_any(),
        uid: pod.metadata.uid.clone()?,
        grace_seconds: pod::grace_seconds(scene),
        why,
    })
}

fn outdated(scene: &Scene<'_>, wanted: &str) -> Option<String> {
    // The next pod has to come from the new template, so the controller must have seen it.
    let set = scene.stateful_set.as_ref()?;
    let template = set.spec.as_ref().map(|spec| &spec.template)?;
    let seen = set.status.as_ref().and_then(|status| status.observed_generation);
    if pod::template_hash(template) != Some(wanted) || seen < set.metadata.generation {
        return None;
    }
    let immediate = scene.spec.update_policy == UpdatePolicy::Immediate;
    let and = match scene.report() {
        _ if immediate => "spec.updatePolicy is Immediate",
        Some(report) if report.publishers == 0 => "nobody publishes",
        Some(_) => return None,
        // That the relay or the store is unwell ends no stream, and neither does one question without an answer.
        None if !scene.container_is_ready(MEDIA) => "its media server is not ready",
        None => return None,
    };
    let what =
        if store_has_old_keys(scene) { "its store does not know the keys of today" } else { "its template changed" };
    Some(format!("{what}, and {and}"))
}

/// Whether somebody deleted the keys of the store in the pod, so that others were made: it reads its own when it starts.
fn store_has_old_keys(scene: &Scene<'_>) -> bool {
    let made_at = |metadata: &ObjectMeta| metadata.creation_timestamp.as_ref().map(|time| time.0);
    let keys = scene.observed.secrets.get(&names::store(&scene.name)).and_then(|secret| made_at(&secret.0.metadata));
    let pod = scene.pod().and_then(|pod| made_at(&pod.metadata));
    scene.spec.storage.mode == StorageMode::Managed && matches!((keys, pod), (Some(keys), Some(pod)) if keys > pod)
}

/// Whether the pod hangs for want of a Secret, or of a key of one, that is there now.
fn mount_is_mended(scene: &Scene<'_>) -> bool {
    let made = scene.pod().and_then(|pod| pod.metadata.creation_timestamp.as_ref());
    if made.is_some_and(|made| scene.observed.now.duration_since(made.0) <= LOOKED_AT_AGAIN) {
        return false;
    }
    if !trouble::hangs(scene) || !super::references::missing(scene).is_empty() {
        return false;
    }
    let observed = scene.observed;
    let mut there = observed.references.keys().chain(observed.secrets.keys());
    let words = |warning: &&super::Warning| warning.about == "Pod" && warning.reason == "FailedMount";
    let complaints: Vec<&str> =
        observed.warnings.iter().filter(words).map(|warning| warning.message.as_str()).collect();
    let lacks_key = complaints.iter().any(|words| words.contains("references non-existent secret key"));
    lacks_key
        || there.any(|name| complaints.iter().any(|words| words.contains(&format!("secret \"{name}\" not found"))))
}
