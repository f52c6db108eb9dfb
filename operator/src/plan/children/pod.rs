//! The pod's template: containers, volumes, security; and the annotations by which a pod is told from the one wanted.
//!
//! Rules: the restricted Pod Security standard. Every Secret is mounted as files. What is live is not part of the hash
//! of the template, so that no change of it asks for a new pod.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, LocalObjectReference,
        PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile,
        SecretVolumeSource, Volume,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::ResourceExt;
use serde_json::json;
use streamsession_api::{AuthMode, StorageMode, TurnMode};

use super::{claim, media, reach, relay, secrets, store};
use crate::plan::{
    Apply, Child, Kind, SecretSummary, hash, names,
    references::{self, Need},
    scene::Scene,
};

/// User and group of all containers, and the group of the volumes.
const NOBODY: i64 = 65532;
/// Seconds that a pod is given beyond the drain's deadline.
const GRACE: u64 = 10;
/// Mode of a Secret's files: for owner and group to read.
pub(super) const SECRET_MODE: i32 = 0o440;

/// A Secret, and the keys of it that are mounted with the names that they get; all keys when there are none.
pub(super) struct Mounted {
    name: String,
    items: Vec<(String, &'static str)>,
}

impl Mounted {
    pub(super) fn all(name: String) -> Self {
        Self { name, items: Vec::new() }
    }

    fn one(name: &str, key: &str) -> Self {
        Self { name: name.to_owned(), items: vec![(key.to_owned(), "secret")] }
    }
}

/// The secret that tokens are signed with.
pub(super) struct Keys;

impl Keys {
    pub(super) fn of(scene: &Scene<'_>) -> Option<Mounted> {
        match (&scene.spec.auth.secret_ref, scene.spec.auth.mode) {
            (Some(secret), AuthMode::Jwt) => Some(Mounted::one(&secret.name, &secret.key)),
            _ => secrets::makes_keys(scene.session).then(|| Mounted::all(names::keys(&scene.name))),
        }
    }
}

/// The secret shared with the relay.
pub(super) fn turn_secret(scene: &Scene<'_>) -> Option<Mounted> {
    let turn = &scene.spec.turn;
    match turn.mode {
        TurnMode::Managed => Some(Mounted::all(names::turn(&scene.name))),
        TurnMode::External => {
            let secret = turn.external.as_ref()?.secret_ref.as_ref()?;
            Some(Mounted::one(&secret.name, &secret.key))
        }
        TurnMode::Disabled => None,
    }
}

/// Returns the volume with the credentials of the store.
pub(super) fn store_credentials(scene: &Scene<'_>) -> Option<Volume> {
    let storage = &scene.spec.storage;
    match storage.mode {
        StorageMode::Managed => Some(secret("store-credentials", Mounted::all(names::store(&scene.name)))),
        StorageMode::External => Some(reach::keys(&storage.external.as_ref()?.credentials_secret_ref.as_ref()?.name)),
        StorageMode::Local => None,
    }
}

/// Seconds from SIGTERM to SIGKILL.
pub(crate) fn grace_seconds(scene: &Scene<'_>) -> u32 {
    u32::try_from(scene.spec.drain.deadline.as_duration().as_secs() + GRACE).unwrap_or(u32::MAX)
}

/// What all pods have in common: nobody's rights, and no token.
pub(super) fn bare(scene: &Scene<'_>) -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(NOBODY),
            run_as_group: Some(NOBODY),
            fs_group: Some(NOBODY),
            // A volume with many recordings would take minutes otherwise.
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        image_pull_secrets: some(
            scene.settings.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect(),
        ),
        ..PodSpec::default()
    }
}

/// The template, with its hash among its annotations.
pub(crate) fn template(scene: &Scene<'_>) -> PodTemplateSpec {
    let spec = PodSpec {
        init_containers: relay::install(scene).map(|install| vec![install]),
        containers: [Some(media::media(scene)), relay::turn(scene), store::store(scene)]
            .into_iter()
            .flatten()
            .collect(),
        volumes: Some(volumes(scene)),
        service_account_name: Some(scene.name.clone()),
        node_selector: Some(scene.spec.pod.node_selector.clone()).filter(|selector| !selector.is_empty()),
        tolerations: some(scene.spec.pod.tolerations.clone()),
        affinity: Some(scene.spec.pod.affinity.clone()).filter(|affinity| *affinity != Default::default()),
        ..bare(scene)
    };
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(names::labels(&scene.name, "media")),
            annotations: Some(BTreeMap::from([(names::SPEC_HASH.to_owned(), spec_hash(scene))])),
            ..ObjectMeta::default()
        }),
        spec: Some(spec),
    };
    let hash = hash::of(&template);
    if let Some(metadata) = &mut template.metadata {
        metadata.annotations.get_or_insert_default().insert(names::TEMPLATE_HASH.to_owned(), hash);
    }
    if let Some(spec) = &mut template.spec {
        // Live, as far as it goes: not part of the hash. The pod that runs ends by its own, unless the operator deletes it.
        spec.termination_grace_period_seconds = Some(grace_seconds(scene).into());
    }
    template
}

/// The hash in the template's annotations.
pub(crate) fn template_hash(template: &PodTemplateSpec) -> Option<&str> {
    template.metadata.as_ref()?.annotations.as_ref()?.get(names::TEMPLATE_HASH).map(String::as_str)
}

/// Hash of the fields that the server reads when it starts, and that neither are pushed to it nor stand in the template.
fn spec_hash(scene: &Scene<'_>) -> String {
    let spec = scene.spec;
    hash::of(&json!({
        "auth": spec.auth,
        "turn": spec.turn.mode,
        "storage": {"mode": spec.storage.mode, "external": spec.storage.external},
        "database": spec.database,
    }))
}

/// The annotation of the pod that makes the kubelet read its Secrets again at once, if it is behind.
pub(super) fn secrets_hash(scene: &Scene<'_>) -> Option<Apply> {
    let pod = scene.living_pod()?;
    let own = secrets::own(scene.session);
    let referenced = references::needs(scene.session).into_iter().filter(|(need, _)| *need != Need::Ingress);
    let mut versions = BTreeMap::new();
    for name in own {
        versions.insert(name.clone(), SecretSummary::of(&scene.observed.secrets.get(&name)?.0).version);
    }
    for (_, reference) in referenced {
        versions.insert(reference.name.clone(), scene.observed.references.get(&reference.name)?.version.clone());
    }
    let hash = hash::of(&versions);
    if pod.annotations().get(names::SECRETS_HASH) == Some(&hash) {
        return None;
    }
    let seen = json!({"metadata": {"uid": pod.metadata.uid}});
    let body = json!({"metadata": {"annotations": {names::SECRETS_HASH: hash}}});
    claim::merge(scene, Child { kind: Kind::Pod, name: names::pod(&scene.name) }, &seen, body)
}

/// What whoever looks after recordings needs: the volume, the session's document, the keys of the store.
pub(super) fn data_volumes(scene: &Scene<'_>) -> Vec<Volume> {
    let named = |name: &str| Volume { name: name.to_owned(), ..Volume::default() };
    let mut volumes = vec![
        Volume {
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: names::claim(&scene.name),
                read_only: None,
            }),
            ..named("data")
        },
        Volume {
            config_map: Some(ConfigMapVolumeSource { name: scene.name.clone(), ..ConfigMapVolumeSource::default() }),
            ..named("session")
        },
    ];
    volumes.extend(store_credentials(scene));
    volumes.extend(reach::volumes(scene));
    volumes
}

fn volumes(scene: &Scene<'_>) -> Vec<Volume> {
    let mut volumes = data_volumes(scene);
    volumes.extend([secret("admin", Mounted::all(names::admin(&scene.name))), empty("media-tmp", "256Mi")]);
    volumes.extend(Keys::of(scene).map(|mounted| secret("keys", mounted)));
    volumes.extend(turn_secret(scene).map(|mounted| secret("turn-secret", mounted)));
    if relay::install(scene).is_some() {
        volumes.push(empty("shared", "256Mi"));
    }
    if scene.spec.turn.mode == TurnMode::Managed {
        volumes.push(empty("turn-tmp", "64Mi"));
        if let Some(name) = &scene.spec.turn.tls_secret_name {
            let items = ["tls.crt", "tls.key"].map(|key| (key.to_owned(), key)).into();
            volumes.push(secret("turn-tls", Mounted { name: name.clone(), items }));
        }
    }
    if scene.spec.storage.mode == StorageMode::Managed {
        volumes.push(empty("store-tmp", "256Mi"));
    }
    volumes
}

pub(super) fn secret(volume: &str, mounted: Mounted) -> Volume {
    let items = mounted.items.into_iter().map(|(key, path)| KeyToPath { key, path: path.to_owned(), mode: None });
    Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(mounted.name),
            items: some(items.collect()),
            default_mode: Some(SECRET_MODE),
            optional: None,
        }),
        ..Volume::default()
    }
}

pub(super) fn empty(name: &str, most: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { medium: None, size_limit: Some(Quantity(most.to_owned())) }),
        ..Volume::default()
    }
}

fn some<T>(values: Vec<T>) -> Option<Vec<T>> {
    (!values.is_empty()).then_some(values)
}
