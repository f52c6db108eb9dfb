//! What is said of the store and of the way to it: the server's own words, and where in the cluster to mend it.

use streamsession_api::{StorageMode, condition};

use super::{Findings, Verdict, is_young, part, silence::silent, verdict};
use crate::plan::{
    children::store::STORE,
    names, reasons,
    scene::Scene,
    trouble::{Part, clipped},
};

/// Seconds after which an upload that waits is behind.
const BEHIND: u64 = 600;

pub(super) fn storage(scene: &Scene<'_>, findings: &Findings<'_>) -> Verdict {
    let type_ = condition::STORAGE_READY;
    if let Some(trouble) = part(findings, Part::Store, scene.spec.storage.mode == StorageMode::Managed) {
        return verdict(type_, "False", trouble.reason, trouble.message.clone());
    }
    let Some(report) = scene.report() else { return silent(scene, findings, type_) };
    let store = &report.store;
    if !store.ok {
        if scene.spec.storage.mode == StorageMode::Managed && is_young(scene, STORE) {
            return verdict(type_, "False", reasons::STARTING, "the store starts");
        }
        let reason = store.reason.as_deref().filter(|reason| is_reason(reason)).unwrap_or(reasons::STORE_REFUSES);
        let words = store.message.as_deref().map(clipped).unwrap_or_else(|| {
            format!("the store cannot be written: `kubectl -n {} logs {}-0` says why", scene.namespace, scene.name)
        });
        let words = match remedy(scene, reason) {
            Some(remedy) => format!("{words}; {remedy}"),
            None => words,
        };
        return verdict(type_, "False", reason, words);
    }
    match (scene.spec.storage.mode, &scene.spec.storage.external) {
        (StorageMode::Local, _) => {
            verdict(type_, "True", reasons::LOCAL, "recordings stay on the pod's volume (spec.storage.mode is Local)")
        }
        (StorageMode::External, Some(external)) => verdict(
            type_,
            "True",
            reasons::WRITABLE,
            format!("recordings go to bucket {} at {}", external.bucket, external.endpoint),
        ),
        _ => verdict(type_, "True", reasons::WRITABLE, "recordings go to the store in the pod"),
    }
}

pub(super) fn uploads(scene: &Scene<'_>, findings: &Findings<'_>) -> Verdict {
    let type_ = condition::UPLOADS_HEALTHY;
    if scene.spec.storage.mode == StorageMode::Local {
        return verdict(
            type_,
            "True",
            reasons::NOT_NEEDED,
            "recordings stay on the pod's volume (spec.storage.mode is Local)",
        );
    }
    let Some(report) = scene.report() else {
        let silent = silent(scene, findings, type_);
        let status = if silent.status == "False" { "Unknown" } else { silent.status };
        return Verdict { status, ..silent };
    };
    let uploads = &report.uploads;
    if uploads.failing {
        let words = uploads.message.as_deref().map(clipped);
        let words = words.unwrap_or_else(|| "uploads fail and are tried again; see StorageReady".to_owned());
        return verdict(type_, "False", reasons::UPLOADS_FAILING, words);
    }
    if uploads.oldest_pending_seconds.is_some_and(|seconds| seconds > BEHIND) {
        return verdict(
            type_,
            "False",
            reasons::FALLING_BEHIND,
            "a finished file has waited for more than ten minutes: the store is slower than what is recorded; give it more bandwidth, or lower spec.limits.maxBitrate",
        );
    }
    if let Some(elsewhere) = uploads.elsewhere.as_ref().filter(|elsewhere| elsewhere.recordings > 0) {
        return verdict(type_, "False", reasons::RECORDINGS_ELSEWHERE, clipped(&elsewhere.message));
    }
    verdict(type_, "True", reasons::UPLOADING, "finished files reach the store")
}

/// The field or the Secret to mend; the server, which gives the reason, knows of neither.
fn remedy(scene: &Scene<'_>, reason: &str) -> Option<String> {
    let (namespace, name) = (&scene.namespace, &scene.name);
    if reason == "OwnedByAnother" {
        return Some(format!(
            "give this session a prefix of its own in spec.storage.external.prefix, or run `kubectl -n {namespace} exec {name}-0 -c media -- /media-server recordings take-over OWNER`"
        ));
    }
    let external = scene.spec.storage.external.as_ref();
    let secret = external.and_then(|external| external.credentials_secret_ref.as_ref());
    match (reason, scene.spec.storage.mode) {
        ("AccessDenied" | "CredentialsMissing", StorageMode::External) => Some(match secret {
            Some(secret) => format!(
                "give Secret {} in namespace {namespace} the right accessKeyId and secretAccessKey",
                secret.name
            ),
            None if external.is_some_and(|external| external.web_identity.is_some()) => {
                "have the role of spec.storage.external.webIdentity trust the pod's service account, and allow it the bucket"
                    .to_owned()
            }
            None => "name a Secret with accessKeyId and secretAccessKey in spec.storage.external.credentialsSecretRef"
                .to_owned(),
        }),
        ("AccessDenied" | "CredentialsMissing", StorageMode::Managed) => Some(format!(
            "the store in the pod took its keys from Secret {} when it started: if that was changed, `kubectl -n {namespace} delete pod {name}-0`",
            names::store(name)
        )),
        ("WrongRegion", StorageMode::External) => Some("correct spec.storage.external.region".to_owned()),
        ("NoSuchBucket", StorageMode::External) => Some("its name is in spec.storage.external.bucket".to_owned()),
        _ => None,
    }
}

/// What the API server takes as a reason.
fn is_reason(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.len() <= 64
        && text.chars().all(|c| c.is_ascii_alphanumeric())
}
