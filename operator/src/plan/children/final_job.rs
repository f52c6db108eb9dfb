//! The final Job of a session whose recordings go with it, and lie in a store that does not: it deletes what the session
//! has there.
//!
//! It runs in the operator's namespace, since the session's may be about to go and takes nothing new then; so it has a
//! copy of the store's keys, made in good time, and no document: all that it needs stands among its arguments. It takes one
//! try; the operator makes it anew.

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{Container, PodSpec, PodTemplateSpec, Secret},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;
use std::collections::BTreeMap;

use super::{
    container::{container, env, mount, read_only, resources, words},
    cron_job::REPORT,
    media::PROGRAM,
    pod, reach,
};
use crate::plan::{SecretCopy, hash, names, references::STORE_KEYS, scene::Scene};

/// Seconds after which it is ended: many objects take their time.
const DEADLINE: i64 = 6 * 3600;
/// Key of the authorities in the copied Secret.
pub(crate) const AUTHORITIES: &str = "ca.crt";
/// Seconds after which one that has ended goes by itself, should nobody delete it.
const KEPT: i32 = 3600;

/// The Job; `None` where there is no store of its own, or the operator does not know its namespace.
pub(crate) fn final_job(scene: &Scene<'_>, has_keys: bool) -> Option<Value> {
    let external = scene.spec.storage.external.as_ref()?;
    let name = names::reclaim(scene.session);
    let labels = names::reclaim_labels(scene.session);
    let path_style = format!("--path-style={}", external.path_style);
    let prefix = external.key_prefix(&scene.namespace, &scene.name);
    let mut args = words(&["recordings", "prune", "--endpoint", &external.endpoint, "--bucket", &external.bucket]);
    args.extend(words(&["--region", &external.region, "--prefix", &prefix, &path_style]));
    args.extend(words(&["--all", "--orphans", "--orphan-age", "0s", "--yes", "--json", "--report", REPORT]));
    if let Some(owner) = scene.session.status.as_ref().and_then(|status| status.store_owner.as_deref()) {
        args.extend(words(&["--owner", owner]));
    }
    let (mut volumes, mut mounts) = (vec![pod::empty("tmp", "64Mi")], vec![mount("tmp", "/tmp")]);
    if has_keys {
        args.extend(words(&["--store-credentials-dir", "/etc/streamsession-store"]));
        volumes.push(pod::secret("store-credentials", pod::Mounted::all(name.clone())));
        mounts.push(read_only("store-credentials", "/etc/streamsession-store"));
        if external.ca_bundle.is_some() {
            args.extend(words(&["--store-ca-file", &format!("/etc/streamsession-store/{AUTHORITIES}")]));
        }
    }
    let mut variables = vec![env("HOME", "/tmp")];
    variables.extend(reach::proxies(scene));
    let delete = Container {
        command: Some(words(&[PROGRAM])),
        args: Some(args),
        env: Some(variables),
        volume_mounts: Some(mounts),
        resources: Some(resources("10m", "32Mi", "512Mi")),
        ..container(scene, "delete", &scene.settings.images.media_server)
    };
    let job = Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(scene.settings.operator_namespace.clone()?),
            labels: Some(labels.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(DEADLINE),
            ttl_seconds_after_finished: Some(KEPT),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(PodSpec {
                    containers: vec![delete],
                    volumes: Some(volumes),
                    restart_policy: Some("Never".to_owned()),
                    ..pod::bare(scene)
                }),
            },
            ..JobSpec::default()
        }),
        status: None,
    };
    Some(serde_json::to_value(job).expect("a Job is JSON"))
}

/// The copy of the store's keys that the Job will need, if it is not there as it should be; `None` too where there is
/// nothing to copy.
pub(crate) fn copy(scene: &Scene<'_>) -> Option<SecretCopy> {
    let external = scene.spec.storage.external.as_ref()?;
    let secret = external.credentials_secret_ref.as_ref()?;
    let mut version = scene.observed.references.get(&secret.name)?.version.clone();
    let authorities = external.ca_bundle.clone();
    if let Some(bundle) = &authorities {
        version = format!("{version}+{}", hash::of(bundle));
    }
    if scene.observed.copy.as_ref().is_some_and(|copy| copy.source == version) {
        return None;
    }
    let to = Secret {
        metadata: ObjectMeta {
            name: Some(names::reclaim(scene.session)),
            namespace: Some(scene.settings.operator_namespace.clone()?),
            labels: Some(names::reclaim_labels(scene.session)),
            annotations: Some(BTreeMap::from([(names::COPIED_FROM.to_owned(), version)])),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    let to = serde_json::to_value(to).expect("a Secret is JSON");
    let keys = STORE_KEYS.iter().chain(&["sessionToken"]).map(|&key| key.to_owned()).collect();
    Some(SecretCopy { from: secret.name.clone(), keys, authorities, to })
}
