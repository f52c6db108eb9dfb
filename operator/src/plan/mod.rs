//! What is to be done for a session: a pure function of what is wanted and what was seen.
//!
//! [`plan`] opens no connection, reads no clock and makes no randomness; all of that is an argument. It is
//! level-triggered: it looks at what is, never at what happened, so that a pass may fail anywhere and the next one goes
//! on. At rest a plan writes nothing.
//!
//! Before a plan is made, the caller looks up what [`children`], [`own_secrets`] and [`references`] name, the pod, its
//! node and what the media server says; afterwards it carries the [`Plan`] out in the order of its fields.

mod children;
mod compare;
mod conditions;
mod endpoints;
mod events;
mod hash;
pub mod names;
mod observed;
mod outcome;
mod push;
mod reasons;
mod reclaim;
mod references;
mod replace;
mod report;
mod scene;
mod server;
mod settings;
mod status;
mod store_change;
mod trouble;
mod unsupported;

use std::{fmt, time::Duration};

pub(crate) use children::final_job::AUTHORITIES;
pub use observed::{CleanupRun, Copied, FinalJob, Observed, OwnSecret, PushRefused, Refusal, SecretSummary, Warning};
pub use outcome::{Apply, Child, Cleaned, Delete, DeletePod, Elsewhere, Kind, Note, Plan, SecretCopy, Write};
pub use server::{
    ReportedElsewhere, ReportedLimits, ReportedRecordings, ReportedStore, ReportedTurn, ReportedUploads, ServerError,
    ServerReport, SessionPush,
};
pub use settings::{Images, Proxies, Settings};
use streamsession_api::{StreamSession, condition};

use conditions::Findings;
use replace::Standing;
use scene::Scene;

/// Key of the admin API's token in its Secret.
pub const TOKEN: &str = "token";
/// Key of the token before it, which is taken for a while.
pub const TOKEN_PREVIOUS: &str = "token.previous";

/// Fresh randomness for the secrets of one plan: never the same twice.
#[derive(Clone, Copy)]
pub struct Random(pub [u8; 32]);

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random(..)")
    }
}

/// A Secret that the spec names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its name, in the session's namespace.
    pub name: String,
    /// Keys that it must have.
    pub keys: Vec<String>,
    /// Field of the spec that names it, such as `spec.auth.secretRef`.
    pub field: &'static str,
}

/// What may exist of a session, except Secrets and the pod: what to look up before a plan is made.
pub fn children(session: &StreamSession) -> Vec<Child> {
    children::possible(session)
}

/// Whether something has to be seen to before this session may go: whether what lies in the operator's namespace for it
/// ([`names::reclaim`]) is to be looked up before a plan is made.
pub fn holds(session: &StreamSession) -> bool {
    let has = session.metadata.finalizers.iter().flatten().any(|one| one == names::FINALIZER);
    has || reclaim::holds(&session.spec)
}

/// Names of the Secrets that the operator makes for a session: what to look up, by name, before a plan is made.
pub fn own_secrets(session: &StreamSession) -> Vec<String> {
    children::secrets::own(session)
}

/// Secrets that the spec names: what to look up, by name, before a plan is made.
pub fn references(session: &StreamSession) -> Vec<Reference> {
    references::needs(session).into_iter().map(|(_, reference)| reference).collect()
}

/// What is to be done.
pub fn plan(session: &StreamSession, settings: &Settings, observed: &Observed, random: Random) -> Plan {
    let scene = Scene::new(session, settings, observed);
    if session.metadata.deletion_timestamp.is_some() {
        return reclaim::plan(&scene);
    }
    let mut plan = Plan::nothing(ASLEEP);
    let violations: Vec<String> = session.validate().iter().map(ToString::to_string).collect();
    let unsupported = unsupported::unsupported(&session.spec);
    let store_change = store_change::refused(&scene);
    let acts = violations.is_empty() && unsupported.is_empty() && store_change.is_none() && !session.spec.paused;

    let template = children::pod::template(&scene);
    let wanted = children::pod::template_hash(&template).unwrap_or_default();
    let standing = replace::standing(&scene, wanted);
    let endpoints = endpoints::endpoints(&scene);
    let mut writes = children::writes(&scene, random, standing == Standing::Settled);
    if acts {
        plan.apply = std::mem::take(&mut writes.apply);
        plan.delete = std::mem::take(&mut writes.delete);
        plan.delete_pod = replace::replacement(&scene, wanted);
        // A server that is about to end is told nothing more.
        plan.push = push::push(&scene, &endpoints).filter(|_| plan.delete_pod.is_none());
        plan.events = events::of_actions(&plan, &writes.rotated);
        reclaim::prepare(&scene, &mut plan);
    }

    let verdicts = conditions::verdicts(
        &scene,
        &Findings {
            troubles: &trouble::troubles(&scene),
            endpoints: &endpoints,
            writes: &writes,
            standing,
            replacing: plan.delete_pod.is_some(),
            violations,
            unsupported,
            store_change,
        },
    );
    plan.events.extend(events::of_conditions(&scene, &verdicts));
    let wait = match status::due(&scene, status::status(&scene, &endpoints, &verdicts)) {
        Ok(status) => {
            let run = status.cleanup.as_ref().filter(|run| status::cleanup_before(&scene) != Some(run));
            plan.events.extend(run.and_then(|run| events::of_cleanup(&scene, run)));
            plan.cleaned = run.map(|run| Cleaned { ok: run.succeeded, recordings: run.recordings, bytes: run.bytes });
            plan.status = Some(status);
            None
        }
        Err(wait) => wait,
    };
    plan.requeue = requeue(&scene, &plan, &verdicts, writes.predecessor).min(wait.map_or(ASLEEP, Duration::from_secs));
    plan
}

/// Nothing is expected: a change of what is watched comes first.
const ASLEEP: Duration = Duration::from_secs(300);
/// Something has just been done, or is about to come.
const SOON: Duration = Duration::from_secs(1);
/// Something goes on.
const BUSY: Duration = Duration::from_secs(5);
/// All is well and nobody is there.
const REST: Duration = Duration::from_secs(10);

fn requeue(scene: &Scene<'_>, plan: &Plan, verdicts: &[conditions::Verdict], predecessor: bool) -> Duration {
    let is = |type_: &str, status: &str| verdicts.iter().any(|one| one.type_ == type_ && one.status == status);
    let ready = is(condition::READY, "True");
    let passing = verdicts.iter().any(|one| one.type_ == condition::READY && reasons::passes(&one.reason));
    let lively = match &scene.observed.server {
        Some(Ok(report)) => report.publishers > 0 || report.uploads.pending > 0,
        // Whether the silence lasts is to be known soon.
        Some(Err(_)) => true,
        None => false,
    };
    if scene.session.spec.paused {
        REST
    } else if is(condition::STALLED, "True") {
        BUSY
    } else if plan.push.is_some()
        || predecessor
        || !plan.apply.is_empty()
        || plan.hold.is_some()
        || plan.release.is_some()
        || !ready && passing
    {
        SOON
    } else if !ready || lively || is(condition::UPDATE_PENDING, "True") {
        BUSY
    } else {
        REST
    }
}

#[cfg(test)]
mod tests;
