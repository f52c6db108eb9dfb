//! A session's end: what becomes of its recordings, before it may go.
//!
//! `spec.recording.reclaimPolicy` decides, as it is now: it may be changed while the deletion waits, which is the way out
//! when a store is gone for good. Only a session that has something to wait for has the finalizer; all others go at once,
//! and what they own with them.
//!
//! - **WaitForUploads**: the server is told to drain. When it says that it has, a mark on the volume says that all on it is
//!   in the store; the pod goes, and the volume with the session. A volume on which the objects lie (Managed, Local)
//!   stays. So does one whose pod somebody else took away before the uploads were through: nothing is lost by waiting too
//!   little.
//! - **Delete**, with a store of the user's own: the pod goes, so that nothing is uploaded any more, and a Job in the
//!   operator's namespace deletes the objects (`children::final_job`), again and again until it has.
//!
//! Nothing is made in the session's namespace: it may be about to go itself.

use std::time::Duration;

use streamsession_api::{ReclaimPolicy, StorageMode, StreamSessionSpec, StreamSessionStatus, condition};

use super::{
    Child, Cleaned, Elsewhere, FinalJob, Kind, Note, Plan, SessionPush,
    children::{self, final_job},
    conditions::Verdict,
    endpoints, events, names, reasons,
    report::Report,
    scene::Scene,
    status,
    trouble::{self, clipped},
};

/// Between two looks while something goes on.
const GOES_ON: Duration = Duration::from_secs(2);
/// After a step.
const SOON: Duration = Duration::from_millis(500);
/// Seconds for which a final Job that failed stays, to be read, before another one is made.
const RETRY: u64 = 15;

/// Whether a session of this spec has something to wait for when it is deleted.
pub(crate) fn holds(spec: &StreamSessionSpec) -> bool {
    match spec.recording.reclaim_policy {
        ReclaimPolicy::Retain => false,
        ReclaimPolicy::WaitForUploads => true,
        // The volume goes by its owner; objects elsewhere have none.
        ReclaimPolicy::Delete => spec.storage.mode == StorageMode::External,
    }
}

/// What a session that is not being deleted needs, so that it can be: the finalizer, and with it the copied Secret. Added
/// to its plan.
pub(crate) fn prepare(scene: &Scene<'_>, plan: &mut Plan) {
    let (wanted, held) = (holds(scene.spec), is_held(scene));
    if wanted && scene.spec.recording.reclaim_policy == ReclaimPolicy::Delete {
        plan.elsewhere.extend(final_job::copy(scene).map(Elsewhere::Copy));
    } else {
        plan.elsewhere.extend(if held && !wanted { Some(drop_last_copy(scene)) } else { drop_copy(scene) });
    }
    match (wanted, held) {
        // Held only once its keys can be copied: whoever is held can also be let go. And before they are, so that none are
        // copied for a session that may go without a word.
        (true, false) if !lacks_keys(scene) => plan.hold = Some(with(scene)),
        (false, true) => plan.release = Some(without(scene)),
        _ => {}
    }
}

/// The keys that the final Job will need are not there to be copied yet. Nothing is in the store before they are.
fn lacks_keys(scene: &Scene<'_>) -> bool {
    let external = scene.spec.storage.external.as_ref().filter(|_| scene.spec.storage.mode == StorageMode::External);
    let secret = external.and_then(|external| external.credentials_secret_ref.as_ref());
    scene.spec.recording.reclaim_policy == ReclaimPolicy::Delete
        && secret.is_some_and(|secret| !scene.observed.references.contains_key(&secret.name))
}

/// Whether the session has our finalizer.
pub(crate) fn is_held(scene: &Scene<'_>) -> bool {
    finalizers(scene).any(|one| one == names::FINALIZER)
}

fn finalizers<'a>(scene: &Scene<'a>) -> impl Iterator<Item = &'a String> {
    scene.session.metadata.finalizers.iter().flatten()
}

fn with(scene: &Scene<'_>) -> Vec<String> {
    finalizers(scene).cloned().chain([names::FINALIZER.to_owned()]).collect()
}

fn without(scene: &Scene<'_>) -> Vec<String> {
    finalizers(scene).filter(|one| *one != names::FINALIZER).cloned().collect()
}

/// What is to be done for a session that is being deleted.
pub(crate) fn plan(scene: &Scene<'_>) -> Plan {
    if !is_held(scene) {
        return Plan::nothing(super::ASLEEP);
    }
    let external = scene.spec.storage.mode == StorageMode::External;
    // A server that was not replaced yet has the store of the spec before.
    let on_volume = |mode: &str| matches!(mode, "Managed" | "Local");
    let serves_external = external && !scene.report().is_some_and(|report| on_volume(&report.store.mode));
    match scene.spec.recording.reclaim_policy {
        ReclaimPolicy::Retain => kept(scene, "spec.recording.reclaimPolicy is Retain"),
        ReclaimPolicy::Delete if external => delete(scene),
        ReclaimPolicy::Delete => let_go(scene, true, None),
        ReclaimPolicy::WaitForUploads => wait(scene, serves_external),
    }
}

fn wait(scene: &Scene<'_>, external: bool) -> Plan {
    let set = Child { kind: Kind::StatefulSet, name: scene.name.clone() };
    let running = scene.child(set.kind, &set.name).filter(|set| set["metadata"]["deletionTimestamp"].is_null());
    let drained = scene.living_pod().is_some() && scene.report().is_some_and(|report| report.drained);
    if drained && !external {
        return kept(scene, "all recordings are finished, and lie on it");
    }
    if drained && !is_uploaded(scene) {
        let mut plan = Plan::nothing(SOON);
        plan.apply.extend(children::claim::mark_uploaded(scene));
        if !plan.apply.is_empty() {
            return plan;
        }
        // There is no volume to mark: nothing can be lost with it.
    }
    match (running, scene.pod()) {
        (Some(_), Some(_)) if drained => stop(scene, "all recordings are in the store; the pod ends"),
        (Some(_), _) => draining(scene),
        (None, Some(_)) => progress(scene, reasons::STOPPING, "the pod ends".to_owned(), GOES_ON),
        (None, None) if scene.claim.is_none() => let_go(scene, true, None),
        (None, None) if is_uploaded(scene) => {
            let store = scene.spec.storage.external.as_ref();
            let place =
                store.map_or_else(String::new, |store| format!(" in bucket {} at {}", store.bucket, store.endpoint));
            let told = format!("all recordings are{place}; the volume goes with the session");
            let_go(scene, true, Some(note(false, reasons::RECORDINGS_UPLOADED, told)))
        }
        (None, None) => {
            let pending = scene.session.status.as_ref().and_then(|status| status.recordings.as_ref());
            let pending = pending.map_or(0, |recordings| recordings.pending_uploads);
            let told = format!(
                "the pod was taken away before all was uploaded ({pending} recordings were waiting when it was last asked): volume {} stays in namespace {}; a session of the same name goes on with it",
                names::claim(&scene.name),
                scene.namespace
            );
            let_go(scene, false, Some(note(true, reasons::RECORDINGS_KEPT, told)))
        }
    }
}

/// The server empties itself.
fn draining(scene: &Scene<'_>) -> Plan {
    let Some(report) = scene.report().filter(|_| scene.living_pod().is_some()) else {
        let told = |reason, why: &str| {
            let message =
                format!("recordings may still have to be uploaded, and cannot be now: {why}; {}", way_out(scene));
            progress(scene, reason, message, GOES_ON)
        };
        return match trouble::troubles(scene).first() {
            Some(trouble) => told(reasons::RECLAIM_FAILED, &trouble.message),
            None => told(reasons::WAITING_FOR_UPLOADS, "the media server does not answer yet"),
        };
    };
    if !report.draining {
        let endpoints = endpoints::endpoints(scene);
        let message = "cameras and viewers are let go, and recordings finished".to_owned();
        let mut plan = progress(scene, reasons::DRAINING, message, SOON);
        plan.push = Some(SessionPush {
            generation: scene.generation(),
            spec: scene.spec.clone(),
            announced: endpoints.announced,
            turn_urls: endpoints.turn,
            drain: true,
        });
        return plan;
    }
    if let Some(elsewhere) = report.uploads.elsewhere.as_ref().filter(|elsewhere| elsewhere.on_volume > 0) {
        let message = format!("{}; {}", clipped(&elsewhere.message), way_out(scene));
        return progress(scene, reasons::RECLAIM_FAILED, message, GOES_ON);
    }
    let (files, recordings) = (report.uploads.pending, report.recordings.pending_uploads);
    let words = report.uploads.message.as_deref().filter(|_| report.uploads.failing);
    let words = words.or(report.store.message.as_deref()).unwrap_or("it does not answer");
    match report.uploads.failing || !report.store.ok {
        true => {
            let why = clipped(words);
            let message = format!("{recordings} recordings wait for the store: {why}; {}", way_out(scene));
            progress(scene, reasons::RECLAIM_FAILED, message, GOES_ON)
        }
        false if files + recordings > 0 => {
            let message = format!("{files} files of {recordings} recordings are still to be uploaded");
            progress(scene, reasons::WAITING_FOR_UPLOADS, message, GOES_ON)
        }
        false => progress(scene, reasons::DRAINING, "recordings are being finished".to_owned(), GOES_ON),
    }
}

fn delete(scene: &Scene<'_>) -> Plan {
    if scene.child(Kind::StatefulSet, &scene.name).is_some() || scene.child(Kind::CronJob, &scene.name).is_some() {
        return stop(scene, "the pod ends, and then its objects are deleted");
    }
    if scene.pod().is_some() {
        return progress(
            scene,
            reasons::STOPPING,
            "the pod ends, and then its objects are deleted".to_owned(),
            GOES_ON,
        );
    }
    match &scene.observed.reclaim {
        None => begin(scene),
        Some(FinalJob { leaving: true, .. }) | Some(FinalJob { ended: None, .. }) => {
            let namespace = scene.settings.operator_namespace.as_deref().unwrap_or_default();
            let message = format!(
                "Job {} in namespace {namespace} deletes what the session has in the store",
                names::reclaim(scene.session)
            );
            progress(scene, reasons::DELETING_RECORDINGS, message, GOES_ON)
        }
        Some(FinalJob { ended: Some((true, _)), said, .. }) => {
            let report = said.as_deref().and_then(Report::parse).unwrap_or_default();
            let told = note(false, reasons::RECORDINGS_DELETED, format!("in the store: {}", report.text()));
            let mut plan = let_go(scene, true, Some(told));
            let Report { recordings, orphans, bytes, .. } = report;
            let cleaned = Cleaned { ok: true, recordings: recordings + orphans, bytes };
            plan.cleaned = plan.release.is_some().then_some(cleaned);
            plan
        }
        Some(job @ FinalJob { ended: Some((false, at)), .. }) => again(scene, job, *at),
    }
}

/// Makes the final Job.
fn begin(scene: &Scene<'_>) -> Plan {
    let waits = |message: String| progress(scene, reasons::RECLAIM_FAILED, message, GOES_ON);
    if scene.settings.operator_namespace.is_none() {
        return waits(format!(
            "the operator does not know its own namespace, where the Job would run that deletes the objects: start it with --operator-namespace; {}",
            way_out(scene)
        ));
    }
    let keys = scene.spec.storage.external.as_ref().and_then(|external| external.credentials_secret_ref.as_ref());
    let copy = final_job::copy(scene);
    if let (Some(secret), None, None) = (keys, &copy, &scene.observed.copy) {
        return waits(format!(
            "the store's keys are gone: Secret {} is not in namespace {} any more: make it again; {}",
            secret.name,
            scene.namespace,
            way_out(scene)
        ));
    }
    let message = "what the session has in the store is about to be deleted".to_owned();
    let mut plan = progress(scene, reasons::DELETING_RECORDINGS, message, SOON);
    plan.elsewhere.extend(copy.map(Elsewhere::Copy));
    plan.elsewhere.extend(final_job::final_job(scene, keys.is_some()).map(Elsewhere::CreateJob));
    plan
}

/// The final Job has failed: told, and after a while made anew.
fn again(scene: &Scene<'_>, job: &FinalJob, at: jiff::Timestamp) -> Plan {
    let said =
        job.said.as_deref().map(|said| Report::parse(said).map_or_else(|| clipped(said), |report| report.text()));
    let namespace = scene.settings.operator_namespace.as_deref().unwrap_or_default();
    let name = names::reclaim(scene.session);
    let why = said.filter(|said| !said.is_empty()).unwrap_or_else(|| {
        format!("Job {name} failed without a word: `kubectl -n {namespace} describe job {name}` says more")
    });
    let message = format!("the objects cannot be deleted: {why}; it is tried again; {}", way_out(scene));
    let mut plan = progress(scene, reasons::RECLAIM_FAILED, message, GOES_ON);
    if scene.seconds_since(at) >= RETRY {
        plan.elsewhere.push(delete_job(scene, job));
        plan.cleaned = Some(Cleaned { ok: false, recordings: 0, bytes: 0 });
    }
    plan
}

/// Ends the pod, for good: nobody makes it anew.
fn stop(scene: &Scene<'_>, message: &str) -> Plan {
    let mut plan = progress(scene, reasons::STOPPING, message.to_owned(), SOON);
    for kind in [Kind::CronJob, Kind::StatefulSet] {
        let child = Child { kind, name: scene.name.clone() };
        let seen = scene.child(child.kind, &child.name);
        plan.delete.extend(seen.and_then(|seen| children::goes(child, seen, true)));
    }
    plan
}

fn kept(scene: &Scene<'_>, why: &str) -> Plan {
    let told = format!("volume {} stays in namespace {}: {why}", names::claim(&scene.name), scene.namespace);
    let told = scene.claim.as_ref().map(|_| note(false, reasons::RECORDINGS_KEPT, told));
    let_go(scene, false, told)
}

/// Lets the session go, and with it the volume or not; once volume and keys are as they are to be.
fn let_go(scene: &Scene<'_>, volume_goes: bool, told: Option<Note>) -> Plan {
    let mut plan = Plan::nothing(SOON);
    plan.apply = children::bequest(scene, volume_goes);
    if plan.apply.is_empty() {
        // One that has ended well stays for an hour, to be read: were it to go first, another would be made.
        let unwanted = |job: &&FinalJob| !job.leaving && !matches!(job.ended, Some((true, _)));
        plan.elsewhere.extend(scene.observed.reclaim.as_ref().filter(unwanted).map(|job| delete_job(scene, job)));
        plan.elsewhere.push(drop_last_copy(scene));
        plan.events.extend(told);
        plan.release = Some(without(scene));
    }
    plan
}

fn delete_job(scene: &Scene<'_>, job: &FinalJob) -> Elsewhere {
    Elsewhere::DeleteJob { name: names::reclaim(scene.session), uid: job.uid.clone() }
}

fn drop_copy(scene: &Scene<'_>) -> Option<Elsewhere> {
    let copy = scene.observed.copy.as_ref()?;
    Some(Elsewhere::DeleteCopy { name: names::reclaim(scene.session), uid: Some(copy.uid.clone()) })
}

/// The same, as the last thing before nobody looks for it any more: also where none was seen, which another operator may
/// have made a moment ago.
fn drop_last_copy(scene: &Scene<'_>) -> Elsewhere {
    let name = names::reclaim(scene.session);
    drop_copy(scene).unwrap_or(Elsewhere::DeleteCopy { name, uid: None })
}

fn is_uploaded(scene: &Scene<'_>) -> bool {
    let annotations = scene.claim.as_ref().and_then(|claim| claim.metadata.annotations.as_ref());
    annotations.is_some_and(|annotations| annotations.get(names::UPLOADED).is_some_and(|value| value == "true"))
}

fn way_out(scene: &Scene<'_>) -> String {
    format!(
        "if the store is gone for good, `kubectl -n {} patch ss {} --type merge -p '{{\"spec\":{{\"recording\":{{\"reclaimPolicy\":\"Retain\"}}}}}}'` lets the session go as it is",
        scene.namespace, scene.name
    )
}

/// Tells how far it is.
fn progress(scene: &Scene<'_>, reason: &str, message: String, requeue: Duration) -> Plan {
    let mut plan = Plan::nothing(requeue);
    let ready = Verdict { type_: condition::READY, status: "False", reason: reason.to_owned(), message };
    let verdicts = [ready];
    plan.events = events::of_conditions(scene, &verdicts);
    let [ready] = &verdicts;
    let mut wanted = scene.session.status.clone().unwrap_or_default();
    let told = status::told(scene, ready);
    match wanted.conditions.iter_mut().find(|one| one.type_ == condition::READY) {
        // Counts in the words change all the time.
        Some(before) if before.reason == told.reason && status::is_fresh(scene) => {}
        Some(before) => *before = told,
        None => wanted.conditions.push(told),
    }
    let counted =
        scene.report().map(|report| status::counted(&wanted, report)).unwrap_or_else(|| StreamSessionStatus {
            publishers: scene.living_pod().and(wanted.publishers),
            subscribers: scene.living_pod().and(wanted.subscribers),
            ..wanted.clone()
        });
    plan.status =
        status::due(scene, StreamSessionStatus { observed_generation: Some(scene.generation()), ..counted }).ok();
    plan
}

fn note(warning: bool, reason: &'static str, message: String) -> Note {
    Note { warning, reason: reason.to_owned(), action: "Reclaim", message }
}
