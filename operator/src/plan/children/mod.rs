//! The objects of a session, one file for each kind, and which of them have to be written.
//!
//! What is wanted is applied server-side, whole, with one field manager; an annotation keeps the hash of it. An object is
//! written when the hash differs (something new is wanted, or less) or when it no longer holds what is wanted (somebody
//! changed it); so at rest nothing is. Volume and Secrets are created and then only patched: much of them is for good.
//! What somebody else has under a name of ours is left alone and told.

pub(crate) mod claim;
pub(crate) mod config_map;
mod container;
mod cron_job;
mod disruption_budget;
pub(crate) mod final_job;
mod ingress;
pub(crate) mod media;
mod network_policy;
pub(crate) mod pod;
pub(crate) mod reach;
pub(crate) mod relay;
pub(crate) mod secrets;
mod service_account;
mod services;
mod stateful_set;
pub(crate) mod store;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};
use streamsession_api::StreamSession;

use super::{
    Apply, Child, Delete, Kind, Random, Write, compare, hash,
    names::{self, Belongs},
    references,
    scene::Scene,
};

/// Which objects have to be written or deleted, and what is in the way.
#[derive(Default)]
pub(crate) struct Writes {
    pub(crate) apply: Vec<Apply>,
    pub(crate) delete: Vec<Delete>,
    /// Names that somebody else has.
    pub(crate) taken: Vec<Child>,
    /// Something of an earlier session of this name is still to be collected.
    pub(crate) predecessor: bool,
    /// Secrets that are made anew.
    pub(crate) rotated: Vec<String>,
}

/// What may exist of a session, except Secrets and the pod.
pub(crate) fn possible(session: &StreamSession) -> Vec<Child> {
    let name = session.metadata.name.as_deref().unwrap_or_default();
    [
        (Kind::ServiceAccount, name.to_owned()),
        (Kind::ConfigMap, name.to_owned()),
        (Kind::PersistentVolumeClaim, names::claim(name)),
        (Kind::Service, name.to_owned()),
        (Kind::Service, names::media(name)),
        (Kind::Service, names::turn(name)),
        (Kind::Service, names::store(name)),
        (Kind::NetworkPolicy, name.to_owned()),
        (Kind::PodDisruptionBudget, name.to_owned()),
        (Kind::StatefulSet, name.to_owned()),
        (Kind::Ingress, name.to_owned()),
        (Kind::CronJob, name.to_owned()),
    ]
    .map(|(kind, name)| Child { kind, name })
    .into()
}

/// What has to be written and deleted. `settled`: the pod that runs was made from the template that is wanted.
pub(crate) fn writes(scene: &Scene<'_>, random: Random, settled: bool) -> Writes {
    let secrets = secrets::secrets(scene, random);
    let mut writes = Writes {
        apply: secrets.apply,
        delete: Vec::new(),
        taken: secrets.taken,
        predecessor: secrets.predecessor,
        rotated: secrets.rotated,
    };
    let wanted = wanted(scene);
    for child in possible(scene.session) {
        let seen = scene.child(child.kind, &child.name);
        let belongs = seen.map(|seen| names::belongs(seen, scene.session));
        let object = wanted.iter().find(|(name, _)| *name == child).map(|(_, object)| object);
        let is_claim = child.kind == Kind::PersistentVolumeClaim;
        match (belongs, object) {
            (Some(Belongs::Stranger), Some(_)) => writes.taken.push(child),
            (Some(Belongs::Stranger), None) if is_claim => writes.taken.push(child),
            (Some(Belongs::Stranger), None) => {}
            (Some(Belongs::Predecessor), _) => writes.predecessor = true,
            _ if is_claim => writes.apply.extend(claim::claim(scene)),
            (_, Some(object)) => writes.apply.extend(apply(child, seen, object)),
            (_, None) => writes.delete.extend(seen.and_then(|seen| goes(child, seen, settled))),
        }
    }
    // A pod whose keys, volume or configuration are somebody else's would start, fail and be started again.
    let needs = |child: &Child| {
        use Kind::{ConfigMap, PersistentVolumeClaim, Secret, ServiceAccount};
        matches!(child.kind, ConfigMap | PersistentVolumeClaim | Secret | ServiceAccount)
    };
    if scene.child(Kind::StatefulSet, &scene.name).is_none() && writes.taken.iter().any(needs) {
        writes.apply.retain(|apply| apply.child.kind != Kind::StatefulSet);
    }
    if let Some(patch) = pod::secrets_hash(scene) {
        writes.apply.push(patch);
    }
    writes
}

/// The objects that are applied whole.
fn wanted(scene: &Scene<'_>) -> Vec<(Child, Value)> {
    let mut wanted = vec![
        object(Kind::ServiceAccount, &service_account::service_account(scene)),
        object(Kind::ConfigMap, &config_map::config_map(scene)),
        object(Kind::Service, &services::http(scene)),
        object(Kind::NetworkPolicy, &network_policy::network_policy(scene)),
        object(Kind::PodDisruptionBudget, &disruption_budget::disruption_budget(scene)),
        object(Kind::CronJob, &cron_job::cron_job(scene)),
    ];
    for service in [services::media(scene), services::turn(scene), services::store(scene)].iter().flatten() {
        wanted.push(object(Kind::Service, service));
    }
    // A pod that lacks a Secret would hang, and be slow to notice when it comes; one that runs is left to run.
    let hangs = scene.child(Kind::StatefulSet, &scene.name).is_none() && references::keep_the_pod(scene);
    if !hangs {
        wanted.push(object(Kind::StatefulSet, &stateful_set::stateful_set(scene)));
    }
    if let Some(ingress) = ingress::ingress(scene) {
        wanted.push(object(Kind::Ingress, &ingress));
    }
    wanted
}

fn object(kind: Kind, object: &impl Serialize) -> (Child, Value) {
    let object = serde_json::to_value(object).expect("an object is JSON");
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    (Child { kind, name }, object)
}

fn apply(child: Child, seen: Option<&Value>, object: &Value) -> Option<Apply> {
    let hash = hash::of(object);
    let there = seen.is_some_and(|seen| {
        seen["metadata"]["annotations"][names::APPLIED_HASH] == *hash && compare::holds(seen, object)
    });
    if there {
        return None;
    }
    let mut object = object.clone();
    object["metadata"]["annotations"][names::APPLIED_HASH] = json!(hash);
    Some(Apply { child, write: Write::Apply, object })
}

/// The deletion of what is no longer wanted, once no pod needs it any more.
pub(super) fn goes(child: Child, seen: &Value, settled: bool) -> Option<Delete> {
    let metadata = &seen["metadata"];
    let needed = child.kind == Kind::Service && !settled;
    let uid = metadata["uid"].as_str()?.to_owned();
    (!needed && metadata["deletionTimestamp"].is_null()).then_some(Delete { child, uid })
}

/// Name, namespace, labels, owner.
fn metadata(scene: &Scene<'_>, name: String, component: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(scene.namespace.clone()),
        labels: Some(names::labels(&scene.name, component)),
        owner_references: Some(vec![names::owner(scene.session)]),
        ..ObjectMeta::default()
    }
}

/// What of the volume and the Secrets beside it has to be written so that what is to go with the session does, and what
/// is to stay does not: the last thing before a session is let go.
pub(crate) fn bequest(scene: &Scene<'_>, goes: bool) -> Vec<Apply> {
    let claim = Child { kind: Kind::PersistentVolumeClaim, name: names::claim(&scene.name) };
    let store = Child { kind: Kind::Secret, name: names::store(&scene.name) };
    let secret = scene.observed.secrets.get(&store.name).and_then(|secret| serde_json::to_value(&secret.0).ok());
    let seen = [(claim.clone(), scene.child(claim.kind, &claim.name).cloned()), (store, secret)];
    seen.into_iter()
        .filter_map(|(child, seen)| {
            let seen = seen.filter(|seen| names::belongs(seen, scene.session) == Belongs::Ours)?;
            let owners = owners_patch(scene, &seen, goes)?;
            let mut metadata = json!({"ownerReferences": owners});
            if child.kind == Kind::Secret {
                metadata["resourceVersion"] = seen["metadata"]["resourceVersion"].clone();
            }
            claim::merge(scene, child, &seen, json!({"metadata": metadata}))
        })
        .collect()
}

/// The owners that an object should have, if it has not: with the session or without it, and with all others as they are.
fn owners_patch(scene: &Scene<'_>, seen: &Value, owned: bool) -> Option<Value> {
    let mut owners = seen["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let ours = json!(names::owner(scene.session));
    let at = owners.iter().position(|owner| owner["uid"] == ours["uid"]);
    match (at, owned) {
        (None, true) => owners.push(ours),
        (Some(at), false) => drop(owners.remove(at)),
        _ => return None,
    }
    Some(if owners.is_empty() { Value::Null } else { Value::Array(owners) })
}
