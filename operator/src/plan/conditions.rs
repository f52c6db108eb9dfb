//! The conditions of a session: each says what is wrong and what to do.
//!
//! Rules: Kubernetes' API conventions for conditions, and kstatus for `Stalled`. `Ready` sums up what people wait for:
//! media, store and relay. What is not known is Unknown, not False.

use streamsession_api::{Endpoints, ExposureType, StorageMode, TurnMode, condition};

use super::{
    ServerError,
    children::{
        Writes,
        claim::{self, Unlike},
        relay::TURN,
        store::STORE,
    },
    endpoints, reasons,
    replace::Standing,
    scene::Scene,
    trouble::{Part, Trouble, clipped},
};

/// Seconds for which a silent server whose pod is ready keeps its conditions.
const SILENCE: u64 = 15;
/// Seconds that relay and store are given to come up.
const START: u64 = 20;
/// Seconds after which an upload that waits is behind.
const BEHIND: u64 = 600;

/// What a condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) type_: &'static str,
    pub(crate) status: &'static str,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// What the conditions are made from, besides the scene.
pub(crate) struct Findings<'a> {
    pub(crate) troubles: &'a [Trouble],
    pub(crate) endpoints: &'a Endpoints,
    pub(crate) writes: &'a Writes,
    pub(crate) standing: Standing,
    /// The pod is deleted in this pass.
    pub(crate) replacing: bool,
    /// What is wrong with the spec.
    pub(crate) violations: Vec<String>,
}

/// All conditions, in the order in which they are read.
pub(crate) fn verdicts(scene: &Scene<'_>, findings: &Findings<'_>) -> Vec<Verdict> {
    let media = media(scene, findings);
    let turn = turn(scene, findings);
    let storage = storage(scene, findings);
    let stalled = stalled(scene, findings);
    let ready = ready(scene, findings, [&media, &storage, &turn], &stalled);
    vec![ready, media, turn, storage, uploads(scene, findings), update(scene, findings), stalled]
}

fn verdict(type_: &'static str, status: &'static str, reason: &str, message: impl Into<String>) -> Verdict {
    Verdict { type_, status, reason: reason.to_owned(), message: message.into() }
}

fn ready(scene: &Scene<'_>, findings: &Findings<'_>, parts: [&Verdict; 3], stalled: &Verdict) -> Verdict {
    let [media, ..] = parts;
    let worst =
        ["False", "Unknown"].into_iter().find_map(|status| parts.into_iter().find(|part| part.status == status));
    match worst {
        // What keeps things from being made is the cause; of the other reasons each leaves the session as it was.
        _ if media.status != "True"
            && [reasons::INVALID_SPEC, reasons::NAME_TAKEN, reasons::REFUSED].contains(&stalled.reason.as_str()) =>
        {
            verdict(condition::READY, "False", &stalled.reason, stalled.message.clone())
        }
        // At first nothing can be said.
        Some(part) if scene.stateful_set.is_none() && reasons::passes(&part.reason) => {
            verdict(condition::READY, "Unknown", &part.reason, part.message.clone())
        }
        Some(part) => verdict(condition::READY, part.status, &part.reason, part.message.clone()),
        None => {
            let url = |url: &Option<String>| url.clone().unwrap_or_default();
            let (whip, whep) = (url(&findings.endpoints.whip), url(&findings.endpoints.whep));
            verdict(
                condition::READY,
                "True",
                reasons::READY,
                format!("cameras publish to {whip}, viewers watch {whep}"),
            )
        }
    }
}

fn media(scene: &Scene<'_>, findings: &Findings<'_>) -> Verdict {
    let type_ = condition::MEDIA_READY;
    if let Some(trouble) = of(findings, Part::Media).filter(|_| scene.report().is_none()) {
        // The pod's trouble comes first if there is one: it is the cause.
        let trouble = of(findings, Part::Pod).unwrap_or(trouble);
        return verdict(type_, "False", trouble.reason, trouble.message.clone());
    }
    let Some(report) = scene.report() else { return silent(scene, findings, type_) };
    let missing = findings.troubles.iter().find(|one| one.part == Part::Media && one.reason == reasons::SECRET_MISSING);
    if let Some(trouble) = missing {
        return verdict(type_, "False", trouble.reason, trouble.message.clone());
    }
    if report.draining || scene.living_pod().is_none() {
        return verdict(
            type_,
            "False",
            reasons::DRAINING,
            "the media server takes nobody new and ends what it has; a new pod follows",
        );
    }
    if report.generation == 0 {
        return verdict(type_, "False", reasons::CONFIGURING, "the media server runs and is being told its addresses");
    }
    if findings.endpoints.announced.is_empty() {
        return verdict(type_, "False", reasons::NO_ADDRESS, no_address(scene, scene.media_service.as_ref(), "media"));
    }
    let addresses = findings.endpoints.announced.join(", ");
    verdict(type_, "True", reasons::SERVING, format!("media is taken at {addresses}"))
}

fn no_address(scene: &Scene<'_>, service: Option<&k8s_openapi::api::core::v1::Service>, what: &str) -> String {
    match scene.spec.exposure.type_ {
        ExposureType::LoadBalancer => {
            let names = service.map(|service| endpoints::load_balancer(service).1).unwrap_or_default();
            match names.first() {
                Some(name) => format!(
                    "the load balancer for {what} has a name ({name}) and no address, and peers are told addresses: write those that it resolves to into spec.exposure.announce, each with the port"
                ),
                None => format!(
                    "the load balancer for {what} has no address: see whether the cluster has one (`kubectl -n {} get service`), or write exposure.type NodePort, or addresses into spec.exposure.announce",
                    scene.namespace
                ),
            }
        }
        ExposureType::NodePort | ExposureType::HostPort => format!(
            "no address of the pod's node is known for {what}: let the operator read nodes, or write addresses into spec.exposure.announce"
        ),
        ExposureType::ClusterIP => format!("the Service for {what} has no address yet"),
    }
}

fn turn(scene: &Scene<'_>, findings: &Findings<'_>) -> Verdict {
    let type_ = condition::TURN_READY;
    let mode = scene.spec.turn.mode;
    if mode == TurnMode::Disabled {
        return verdict(
            type_,
            "True",
            reasons::DISABLED,
            "no relay is wanted: who cannot send UDP to the media port is not served",
        );
    }
    if let Some(trouble) = part(findings, Part::Turn, mode == TurnMode::Managed) {
        return verdict(type_, "False", trouble.reason, trouble.message.clone());
    }
    let report = match (scene.report(), mode) {
        (None, TurnMode::External) => {
            return verdict(
                type_,
                "True",
                reasons::EXTERNAL,
                "peers are told of the relay in spec.turn.external; it is not watched",
            );
        }
        (None, _) => return silent(scene, findings, type_),
        (Some(report), _) => report,
    };
    if !report.turn.ok {
        let words = report.turn.message.as_deref().map(clipped);
        if mode == TurnMode::Managed && is_young(scene, TURN) {
            return verdict(type_, "False", reasons::STARTING, "the relay starts");
        }
        let words = words.unwrap_or_else(|| {
            format!(
                "the relay does not answer: `kubectl -n {} logs {}-0 -c {TURN}` says why",
                scene.namespace, scene.name
            )
        });
        return verdict(type_, "False", reasons::NOT_ANSWERING, words);
    }
    if mode == TurnMode::External {
        return verdict(
            type_,
            "True",
            reasons::EXTERNAL,
            "peers are told of the relay in spec.turn.external; it is not watched",
        );
    }
    if !scene.runs(TURN) {
        return verdict(type_, "False", reasons::REPLACING, "the relay comes with the next pod (see UpdatePending)");
    }
    if findings.endpoints.turn.is_empty() {
        return verdict(
            type_,
            "False",
            reasons::NO_ADDRESS,
            no_address(scene, scene.turn_service.as_ref(), "the relay"),
        );
    }
    verdict(type_, "True", reasons::RELAYING, format!("peers are relayed by {}", findings.endpoints.turn.join(", ")))
}

fn storage(scene: &Scene<'_>, findings: &Findings<'_>) -> Verdict {
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
        let words = store.message.as_deref().map(clipped);
        let words = words.unwrap_or_else(|| {
            format!("the store cannot be written: `kubectl -n {} logs {}-0` says why", scene.namespace, scene.name)
        });
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

fn uploads(scene: &Scene<'_>, findings: &Findings<'_>) -> Verdict {
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
    verdict(type_, "True", reasons::UPLOADING, "finished files reach the store")
}

fn update(scene: &Scene<'_>, findings: &Findings<'_>) -> Verdict {
    let type_ = condition::UPDATE_PENDING;
    match findings.standing {
        Standing::Settled => verdict(type_, "False", reasons::UP_TO_DATE, "the pod is as the spec says"),
        Standing::Leaving => verdict(type_, "True", reasons::REPLACING, "the pod ends, and a new one follows"),
        Standing::Outdated if findings.replacing => {
            verdict(type_, "True", reasons::REPLACING, "the pod ends, and a new one follows")
        }
        Standing::Outdated if scene.spec.paused => verdict(
            type_,
            "True",
            reasons::PAUSED,
            "a change needs a new pod, and spec.paused is true: write false to go on",
        ),
        Standing::Outdated => verdict(
            type_,
            "True",
            reasons::WAITING_FOR_IDLE,
            format!(
                "a change needs a new pod, which is made when nobody publishes: end the streams, or write updatePolicy: Immediate, or `kubectl -n {} delete pod {}-0`",
                scene.namespace, scene.name
            ),
        ),
    }
}

fn stalled(scene: &Scene<'_>, findings: &Findings<'_>) -> Verdict {
    let type_ = condition::STALLED;
    if !findings.violations.is_empty() {
        return verdict(type_, "True", reasons::INVALID_SPEC, findings.violations.join("; "));
    }
    if let Some(child) = findings.writes.taken.first() {
        return verdict(
            type_,
            "True",
            reasons::NAME_TAKEN,
            format!(
                "{child} in namespace {} belongs to somebody else and is left alone: remove it, or give this session another name",
                scene.namespace
            ),
        );
    }
    if let Some(refusal) = scene.observed.refusals.first() {
        return verdict(
            type_,
            "True",
            reasons::REFUSED,
            format!(
                "the API server refuses {}: {}: change what it names; it is tried again",
                refusal.child,
                clipped(&refusal.message)
            ),
        );
    }
    if let Some(refused) =
        scene.observed.push_refused.as_ref().filter(|refused| refused.generation == scene.generation())
    {
        return verdict(
            type_,
            "True",
            reasons::SETTINGS_REFUSED,
            format!(
                "the media server goes on with the settings it has: {}: correct that field",
                clipped(&refused.message)
            ),
        );
    }
    match claim::unlike(scene) {
        Some(Unlike::Larger) => verdict(
            type_,
            "True",
            reasons::VOLUME_CANNOT_SHRINK,
            format!(
                "the volume is larger than spec.storage.size {} and cannot shrink: write its size, or make a new session",
                scene.spec.storage.size
            ),
        ),
        Some(Unlike::OtherClass) => verdict(
            type_,
            "True",
            reasons::VOLUME_CLASS_FIXED,
            "the volume was made with another storage class than spec.storage.storageClassName, and keeps it: write that one, or make a new session",
        ),
        None if scene.spec.paused => verdict(
            type_,
            "False",
            reasons::PAUSED,
            "spec.paused is true: all that belongs to this session is left as it is; write false to go on",
        ),
        None => verdict(type_, "False", reasons::NOT_STALLED, "nothing is in the way of the operator"),
    }
}

/// What a condition says whose part is known from the server alone, when the server says nothing.
fn silent(scene: &Scene<'_>, findings: &Findings<'_>, type_: &'static str) -> Verdict {
    let media = findings.troubles.iter().find(|trouble| trouble.part == Part::Media);
    if let Some(trouble) = of(findings, Part::Pod).or(media) {
        let status = if trouble.part == Part::Pod || type_ == condition::MEDIA_READY { "False" } else { "Unknown" };
        return verdict(type_, status, trouble.reason, trouble.message.clone());
    }
    let (name, namespace) = (&scene.name, &scene.namespace);
    let Some(_) = scene.living_pod() else {
        return match (scene.pod(), scene.spec.paused) {
            (Some(_), _) => verdict(type_, "False", reasons::REPLACING, "the pod ends, and a new one follows"),
            (None, true) => verdict(
                type_,
                "False",
                reasons::PAUSED,
                "there is no pod, and spec.paused is true: write false to go on",
            ),
            (None, false) => verdict(type_, "False", reasons::STARTING, "the pod is being made"),
        };
    };
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

fn of<'a>(findings: &Findings<'a>, part: Part) -> Option<&'a Trouble> {
    findings.troubles.iter().find(|trouble| trouble.part == part)
}

/// The trouble of a part whose container may be one that is no longer wanted.
fn part<'a>(findings: &Findings<'a>, part: Part, has_container: bool) -> Option<&'a Trouble> {
    let mut troubles = findings.troubles.iter().filter(|trouble| trouble.part == part);
    troubles.find(|trouble| has_container || trouble.reason == reasons::SECRET_MISSING)
}

/// Whether a container has only just been started.
fn is_young(scene: &Scene<'_>, container: &str) -> bool {
    let mut containers = scene.containers().filter(|one| one.name == container);
    containers.any(|one| {
        let running = one.state.as_ref().and_then(|state| state.running.as_ref());
        let since = running.and_then(|running| running.started_at.as_ref());
        one.restart_count == 0 && since.is_none_or(|since| scene.seconds_since(since.0) < START)
    })
}

/// What the API server takes as a reason.
fn is_reason(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.len() <= 64
        && text.chars().all(|c| c.is_ascii_alphanumeric())
}
