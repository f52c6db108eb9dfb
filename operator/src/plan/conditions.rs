//! The conditions of a session: each says what is wrong and what to do.
//!
//! Rules: Kubernetes' API conventions for conditions, and kstatus for `Stalled`. `Ready` sums up what people wait for:
//! media, store and relay. What is not known is Unknown, not False.
//!
//! Ready is True of a generation only once the server says that it has it in force. While a change is on its way, Ready
//! stays True of the generation before (`observedGeneration` lags, which `kubectl wait` and kstatus heed), so that a
//! change does not look like an outage; when the change cannot be taken over, Ready is False with the reason of Stalled.

mod address;
mod silence;
mod storage;

use streamsession_api::{Endpoints, TurnMode, condition};

use super::{
    children::{
        Writes,
        claim::{self, Unlike},
        relay::TURN,
    },
    reasons,
    replace::Standing,
    scene::Scene,
    trouble::{Part, Trouble, clipped},
};

/// Seconds that relay, store and load balancer are given to come up.
const START: u64 = 20;

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
    /// What the spec asks for and this version does not do.
    pub(crate) unsupported: Vec<&'static str>,
    /// Why the change to another store is not made.
    pub(crate) store_change: Option<String>,
}

/// All conditions, in the order in which they are read.
pub(crate) fn verdicts(scene: &Scene<'_>, findings: &Findings<'_>) -> Vec<Verdict> {
    let media = media(scene, findings);
    let turn = turn(scene, findings);
    let storage = storage::storage(scene, findings);
    let stalled = stalled(scene, findings);
    let ready = ready(scene, findings, [&media, &storage, &turn]);
    vec![ready, media, turn, storage, storage::uploads(scene, findings), update(scene, findings), stalled]
}

/// The generation of the spec that a condition tells of.
pub(crate) fn generation(scene: &Scene<'_>, verdict: &Verdict) -> i64 {
    let before = lagging(scene).filter(|_| verdict.type_ == condition::READY && verdict.status == "True");
    before.unwrap_or_else(|| scene.generation())
}

/// The generation that Ready was True of and still is, while a newer one is on its way.
fn lagging(scene: &Scene<'_>) -> Option<i64> {
    let before = scene.condition(condition::READY).filter(|before| before.status == "True")?;
    before.observed_generation.filter(|before| !scene.is_in_force() && *before < scene.generation())
}

/// What keeps the spec from being carried out.
fn blocked(scene: &Scene<'_>, findings: &Findings<'_>) -> Option<Verdict> {
    let all =
        [reasons::INVALID_SPEC, reasons::UNSUPPORTED, reasons::NAME_TAKEN, reasons::REFUSED, reasons::SETTINGS_REFUSED];
    Some(stalled(scene, findings)).filter(|stalled| all.contains(&stalled.reason.as_str()))
}

fn verdict(type_: &'static str, status: &'static str, reason: &str, message: impl Into<String>) -> Verdict {
    Verdict { type_, status, reason: reason.to_owned(), message: message.into() }
}

fn ready(scene: &Scene<'_>, findings: &Findings<'_>, parts: [&Verdict; 3]) -> Verdict {
    let [media, ..] = parts;
    let worst =
        ["False", "Unknown"].into_iter().find_map(|status| parts.into_iter().find(|part| part.status == status));
    // It is the cause where it keeps things from being made, and else leaves the session as it was.
    let blocked = blocked(scene, findings).filter(|_| media.status != "True" || !scene.is_in_force());
    if let Some(why) = blocked {
        return Verdict { type_: condition::READY, status: "False", ..why };
    }
    match worst {
        // At first nothing can be said.
        Some(part) if scene.stateful_set.is_none() && reasons::passes(&part.reason) => {
            verdict(condition::READY, "Unknown", &part.reason, part.message.clone())
        }
        Some(part) => verdict(condition::READY, part.status, &part.reason, part.message.clone()),
        None if !scene.is_in_force() && lagging(scene).is_none() => {
            let (reason, message) = match scene.spec.paused {
                true => {
                    (reasons::PAUSED, "spec.paused is true, so the media server is told nothing: write false to go on")
                }
                false => (reasons::CONFIGURING, "the media server serves, and is being told what the spec says now"),
            };
            verdict(condition::READY, "False", reason, message)
        }
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
    let Some(report) = scene.report() else { return silence::silent(scene, findings, type_) };
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
        return match scene.spec.paused {
            true => verdict(
                type_,
                "False",
                reasons::PAUSED,
                "the media server has started anew, and spec.paused keeps it from being told its addresses: write false to go on",
            ),
            false => {
                verdict(type_, "False", reasons::CONFIGURING, "the media server runs and is being told its addresses")
            }
        };
    }
    if findings.endpoints.announced.is_empty() {
        return address::none(scene, type_, scene.media_service.as_ref(), "media");
    }
    let addresses = findings.endpoints.announced.join(", ");
    verdict(type_, "True", reasons::SERVING, format!("media is taken at {addresses}"))
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
        (None, _) => return silence::silent(scene, findings, type_),
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
        return address::none(scene, type_, scene.turn_service.as_ref(), "the relay");
    }
    verdict(type_, "True", reasons::RELAYING, format!("peers are relayed by {}", findings.endpoints.turn.join(", ")))
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
    if !findings.unsupported.is_empty() {
        return verdict(type_, "True", reasons::UNSUPPORTED, findings.unsupported.join("; "));
    }
    if let Some(refused) = &findings.store_change {
        return verdict(type_, "True", reasons::RECORDINGS_IN_MANAGED_STORE, refused.clone());
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
