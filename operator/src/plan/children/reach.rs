//! How containers reach a store elsewhere: authorities, the pod's identity, proxies.
//!
//! The kubelet renews the token of the identity and the authorities' file; both are read again where they are used. No
//! value of these is secret: proxies with a password are refused by the operator's flags.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EnvVar, KeyToPath, ProjectedVolumeSource, SecretProjection, SecretVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use streamsession_api::{ExternalStorage, StorageMode};

use super::{
    container::{env, read_only, words},
    pod::SECRET_MODE,
};
use crate::plan::{references::STORE_KEYS, scene::Scene};

/// Directory of the authorities' file.
const AUTHORITIES: &str = "/etc/streamsession-store-ca";
/// The authorities' file.
const AUTHORITIES_FILE: &str = "ca.crt";
/// Directory of the identity's token.
const IDENTITY: &str = "/var/run/secrets/streamsession-store";
/// Seconds that a token is good for; the kubelet renews it in time.
const TOKEN_SECONDS: i64 = 3600;

fn external<'a>(scene: &'a Scene<'_>) -> Option<&'a ExternalStorage> {
    scene.spec.storage.external.as_ref().filter(|_| scene.spec.storage.mode == StorageMode::External)
}

/// Returns the arguments of the media server.
pub(super) fn args(scene: &Scene<'_>) -> Vec<String> {
    match external(scene).and_then(|external| external.ca_bundle.as_ref()) {
        Some(_) => words(&["--store-ca-file", &format!("{AUTHORITIES}/{AUTHORITIES_FILE}")]),
        None => Vec::new(),
    }
}

/// Returns the environment: proxies, and the role to assume.
pub(super) fn variables(scene: &Scene<'_>) -> Vec<EnvVar> {
    let Some(external) = external(scene) else { return Vec::new() };
    let mut variables = proxies(scene);
    if let Some(identity) = &external.web_identity {
        variables.push(env("AWS_ROLE_ARN", &identity.role_arn));
        variables.push(env("AWS_WEB_IDENTITY_TOKEN_FILE", &format!("{IDENTITY}/token")));
        variables.extend(identity.sts_endpoint.as_ref().map(|endpoint| env("AWS_ENDPOINT_URL_STS", endpoint)));
    }
    variables
}

/// Returns the proxies of the operator's flags.
pub(super) fn proxies(scene: &Scene<'_>) -> Vec<EnvVar> {
    let proxies = &scene.settings.proxies;
    let named = [("HTTP_PROXY", &proxies.http), ("HTTPS_PROXY", &proxies.https), ("NO_PROXY", &proxies.direct)];
    named.into_iter().filter_map(|(name, value)| Some(env(name, value.as_deref()?))).collect()
}

/// Returns the mounts of what [`volumes`] has.
pub(super) fn mounts(scene: &Scene<'_>) -> Vec<VolumeMount> {
    let Some(external) = external(scene) else { return Vec::new() };
    let authorities = external.ca_bundle.as_ref().map(|_| read_only("store-ca", AUTHORITIES));
    let identity = external.web_identity.as_ref().map(|_| read_only("store-identity", IDENTITY));
    authorities.into_iter().chain(identity).collect()
}

/// Returns the volumes with the authorities and the identity.
pub(super) fn volumes(scene: &Scene<'_>) -> Vec<Volume> {
    let Some(external) = external(scene) else { return Vec::new() };
    authorities(external).into_iter().chain(identity(external)).collect()
}

fn authorities(external: &ExternalStorage) -> Option<Volume> {
    let bundle = external.ca_bundle.as_ref()?;
    let item = |key: &str| Some(vec![item(key, AUTHORITIES_FILE)]);
    let config_map = bundle.config_map_key_ref.as_ref().map(|reference| ConfigMapVolumeSource {
        name: reference.name.clone(),
        items: item(&reference.key),
        ..ConfigMapVolumeSource::default()
    });
    let secret = bundle.secret_key_ref.as_ref().map(|reference| SecretVolumeSource {
        secret_name: Some(reference.name.clone()),
        items: item(&reference.key),
        default_mode: Some(SECRET_MODE),
        ..SecretVolumeSource::default()
    });
    Some(Volume { name: "store-ca".to_owned(), config_map, secret, ..Volume::default() })
}

fn identity(external: &ExternalStorage) -> Option<Volume> {
    let identity = external.web_identity.as_ref()?;
    let token = ServiceAccountTokenProjection {
        audience: Some(identity.audience.clone()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: "token".to_owned(),
    };
    let source = VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() };
    Some(projected("store-identity", vec![source]))
}

/// Returns the volume with the keys of a Secret, and with its session token if it has one.
pub(super) fn keys(secret: &str) -> Volume {
    let source = |keys: &[&str], optional: Option<bool>| VolumeProjection {
        secret: Some(SecretProjection {
            name: secret.to_owned(),
            items: Some(keys.iter().map(|key| item(key, key)).collect()),
            optional,
        }),
        ..VolumeProjection::default()
    };
    projected("store-credentials", vec![source(&STORE_KEYS, None), source(&["sessionToken"], Some(true))])
}

fn projected(name: &str, sources: Vec<VolumeProjection>) -> Volume {
    let projected = ProjectedVolumeSource { default_mode: Some(SECRET_MODE), sources: Some(sources) };
    Volume { name: name.to_owned(), projected: Some(projected), ..Volume::default() }
}

fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath { key: key.to_owned(), path: path.to_owned(), mode: None }
}
