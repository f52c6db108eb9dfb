//! Secrets that the spec names: which, with which keys, and what is missing of them.

use streamsession_api::{AuthMode, StorageMode, StreamSession, TurnMode};

use super::{Reference, scene::Scene};

/// Keys of the store's credentials.
pub(crate) const STORE_KEYS: [&str; 2] = ["accessKeyId", "secretAccessKey"];

/// What cannot be without a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The server's keys.
    Media,
    /// The relay, or the credentials for it.
    Turn,
    /// The store's credentials.
    Storage,
    /// The ingress alone; the pod starts without it.
    Ingress,
}

/// Secrets that the spec names, with what needs them.
pub(crate) fn needs(session: &StreamSession) -> Vec<(Need, Reference)> {
    let spec = &session.spec;
    let certificate = || vec!["tls.crt".to_owned(), "tls.key".to_owned()];
    let mut found = Vec::new();
    let mut add = |need, name: &str, keys, field| {
        found.push((need, Reference { name: name.to_owned(), keys, field }));
    };
    if let (AuthMode::Jwt, Some(secret)) = (spec.auth.mode, &spec.auth.secret_ref) {
        add(Need::Media, &secret.name, vec![secret.key.clone()], "spec.auth.secretRef");
    }
    match (spec.turn.mode, &spec.turn.external, &spec.turn.tls_secret_name) {
        (TurnMode::Managed, _, Some(name)) => add(Need::Turn, name, certificate(), "spec.turn.tlsSecretName"),
        (TurnMode::External, Some(external), _) => {
            if let Some(secret) = &external.secret_ref {
                add(Need::Turn, &secret.name, vec![secret.key.clone()], "spec.turn.external.secretRef");
            }
        }
        _ => {}
    }
    if let (StorageMode::External, Some(external)) = (spec.storage.mode, &spec.storage.external)
        && let Some(secret) = &external.credentials_secret_ref
    {
        let keys = STORE_KEYS.map(str::to_owned).into();
        add(Need::Storage, &secret.name, keys, "spec.storage.external.credentialsSecretRef");
    }
    if let (StorageMode::External, Some(external)) = (spec.storage.mode, &spec.storage.external)
        && let Some(secret) = external.ca_bundle.as_ref().and_then(|bundle| bundle.secret_key_ref.as_ref())
    {
        add(Need::Storage, &secret.name, vec![secret.key.clone()], "spec.storage.external.caBundle.secretKeyRef");
    }
    if let Some(name) = spec.exposure.ingress.as_ref().and_then(|ingress| ingress.tls_secret_name.as_ref()) {
        add(Need::Ingress, name, certificate(), "spec.exposure.ingress.tlsSecretName");
    }
    found
}

/// What is missing of the Secrets that the spec names, each with a sentence that says what to do.
pub(crate) fn missing(scene: &Scene<'_>) -> Vec<(Need, String)> {
    needs(scene.session)
        .into_iter()
        .filter_map(|(need, reference)| Some((need, complaint(scene, &reference)?)))
        .collect()
}

/// Whether the pod cannot start for want of a Secret.
pub(crate) fn keep_the_pod(scene: &Scene<'_>) -> bool {
    missing(scene).iter().any(|(need, _)| *need != Need::Ingress)
}

fn complaint(scene: &Scene<'_>, reference: &Reference) -> Option<String> {
    let Reference { name, keys, field } = reference;
    let namespace = &scene.namespace;
    match scene.observed.references.get(name) {
        None if keys.iter().any(|key| key == "tls.crt") => Some(format!(
            "Secret {name} ({field}) does not exist in namespace {namespace}: create it with `kubectl -n {namespace} create secret tls {name} --cert=FILE --key=FILE`, or by cert-manager"
        )),
        None => {
            let literals: String = keys.iter().map(|key| format!(" --from-file={key}=FILE")).collect();
            Some(format!(
                "Secret {name} ({field}) does not exist in namespace {namespace}: create it with `kubectl -n {namespace} create secret generic {name}{literals}`"
            ))
        }
        Some(secret) => {
            let absent: Vec<&str> = keys.iter().filter(|key| !secret.keys.contains(*key)).map(String::as_str).collect();
            (!absent.is_empty()).then(|| {
                format!(
                    "Secret {name} ({field}) in namespace {namespace} has nothing at {}: add what is missing to its data, or name another Secret",
                    absent.join(" and ")
                )
            })
        }
    }
}
