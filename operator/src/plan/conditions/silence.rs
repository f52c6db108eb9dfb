//! What is said of what only the server knows, when the server says nothing.
//!
//! The pod's trouble, if it has one; that it comes or goes; and that a ready server does not answer, but only once that
//! has lasted: one question without an answer is no outage.

use streamsession_api::condition;

use super::{Findings, Verdict, blocked, of, verdict};
use crate::plan::{
    ServerError, reasons,
    scene::Scene,
    trouble::{Part, clipped},
};

/// Seconds for which a silent server whose pod is ready keeps its conditions.
const SILENCE: u64 = 15;

/// What a condition says whose part is known from the server alone, when the server says nothing.
pub(super) fn silent(scene: &Scene<'_>, findings: &Findings<'_>, type_: &'static str) -> Verdict {
    let media = findings.troubles.iter().find(|trouble| trouble.part == Part::Media);
    if let Some(trouble) = of(findings, Part::Pod).or(media) {
        let status = if trouble.part == Part::Pod || type_ == condition::MEDIA_READY { "False" } else { "Unknown" };
        return verdict(type_, status, trouble.reason, trouble.message.clone());
    }
    let (name, namespace) = (&scene.name, &scene.namespace);
    if scene.living_pod().is_none() {
        return match (scene.pod(), blocked(scene, findings)) {
            (Some(_), _) => verdict(type_, "False", reasons::REPLACING, "the pod ends, and a new one follows"),
            (None, Some(why)) => Verdict { type_, status: "False", ..why },
            (None, None) if scene.spec.paused => verdict(
                type_,
                "False",
                reasons::PAUSED,
                "there is no pod, and spec.paused is true: write false to go on",
            ),
            (None, None) => verdict(type_, "False", reasons::STARTING, "the pod is being made"),
        };
    }
    let error = match &scene.observed.server {
        Some(Err(error)) if scene.pod_is_ready() => error,
        _ => return verdict(type_, "False", reasons::STARTING, "the pod starts"),
    };
    let lasts = scene.observed.server_failing_since.is_none_or(|since| scene.seconds_since(since) > SILENCE);
    if let Some(before) = scene.condition(type_).filter(|before| before.status == "True" && !lasts) {
        return verdict(type_, "True", &before.reason, before.message.clone());
    }
    let status = if type_ == condition::MEDIA_READY { "False" } else { "Unknown" };
    match error {
        ServerError::Unreachable(why) => verdict(
            type_,
            status,
            reasons::UNREACHABLE,
            format!(
                "the operator does not reach the media server's management port, though the pod is ready: {}: see whether a NetworkPolicy keeps it from port 8081 of pod {name}-0 in namespace {namespace}",
                clipped(why)
            ),
        ),
        ServerError::Unauthorized => verdict(
            type_,
            status,
            reasons::UNAUTHORIZED,
            format!(
                "the media server does not take the operator's token: it reads Secret {name}-admin again within a minute or two; if that does not help, `kubectl -n {namespace} delete pod {name}-0`"
            ),
        ),
        ServerError::Malformed(why) => verdict(
            type_,
            status,
            reasons::ANSWER_UNREADABLE,
            format!(
                "the media server's answer cannot be read: {}: its image must belong to the operator's version; see spec.pod.image",
                clipped(why)
            ),
        ),
    }
}
