//! The status that is to be written, and whether it is worth a write.
//!
//! `observedGeneration` is that of Ready: while a changed spec is on its way to a server that serves well, both stay behind
//! (see [`conditions`](super::conditions)). A condition's `lastTransitionTime` moves only when its status flips, so that writing a status never makes the next
//! one differ. Counts change all the time while cameras stream: for their sake alone a status is written no more often
//! than every ten seconds.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use streamsession_api::{Endpoints, EnforcedLimits, LastCleanup, RecordingTotals, StreamSessionStatus, condition};

use super::{
    ServerReport,
    conditions::{Verdict, generation},
    names,
    report::Report,
    scene::Scene,
    trouble::{clipped, printable},
};

/// Seconds between two writes of counts.
pub(crate) const COUNTS: u64 = 10;

/// The status as it should be.
pub(crate) fn status(scene: &Scene<'_>, endpoints: &Endpoints, verdicts: &[Verdict]) -> StreamSessionStatus {
    let before = scene.session.status.clone().unwrap_or_default();
    let mut status = StreamSessionStatus {
        observed_generation: verdicts
            .iter()
            .find(|one| one.type_ == condition::READY)
            .map(|ready| generation(scene, ready)),
        conditions: verdicts.iter().map(|verdict| told(scene, verdict)).collect(),
        endpoints: Some(endpoints.clone()),
        pod_name: scene.pod().map(ResourceExt::name_any),
        // Recordings outlive the pod.
        recordings: before.recordings.clone(),
        store_owner: before.store_owner.clone(),
        cleanup: cleanup(scene).or_else(|| before.cleanup.clone()),
        ..StreamSessionStatus::default()
    };
    match scene.report() {
        Some(report) => {
            status.limits = Some(limits(report));
            status.publishers = Some(report.publishers);
            status.subscribers = Some(report.subscribers);
            status.recordings = Some(recordings(report));
            // It outlives a change of the mode: the prefix stays marked.
            status.store_owner = report.store.owner.clone().or(status.store_owner);
        }
        None if scene.living_pod().is_some() => {
            status.limits = before.limits;
            status.publishers = before.publishers;
            status.subscribers = before.subscribers;
        }
        None => {}
    }
    status
}

/// The status with the server's counts, while a session goes.
pub(crate) fn counted(status: &StreamSessionStatus, report: &ServerReport) -> StreamSessionStatus {
    StreamSessionStatus {
        publishers: Some(report.publishers),
        subscribers: Some(report.subscribers),
        recordings: Some(recordings(report)),
        ..status.clone()
    }
}

/// The clean-up that the status tells of now.
pub(crate) fn cleanup_before<'a>(scene: &Scene<'a>) -> Option<&'a LastCleanup> {
    scene.session.status.as_ref()?.cleanup.as_ref()
}

/// The clean-up that was seen, if it is another one than the status tells of, and ended later.
fn cleanup(scene: &Scene<'_>) -> Option<LastCleanup> {
    let run = scene.observed.cleanup.as_ref()?;
    let at = Time(Timestamp::from_second(run.at.as_second()).unwrap_or(run.at));
    if cleanup_before(scene).is_some_and(|before| before.job == run.job || before.at.as_ref() > Some(&at)) {
        return None;
    }
    let report = run.said.as_deref().and_then(Report::parse);
    let message = match (&report, run.said.as_deref().map(clipped)) {
        (Some(report), _) => report.text(),
        (None, Some(said)) if !said.is_empty() => said,
        (None, _) if run.succeeded => "it ended well, and its pod is gone with what it said".to_owned(),
        (None, _) => format!(
            "it did not run, or not to its end: `kubectl -n {} describe job {}` says why",
            scene.namespace, run.job
        ),
    };
    let report = report.unwrap_or_default();
    Some(LastCleanup {
        job: run.job.clone(),
        at: Some(at),
        succeeded: run.succeeded,
        recordings: report.recordings + report.orphans,
        bytes: report.bytes,
        message,
    })
}

/// Whether a status was written just now.
pub(crate) fn is_fresh(scene: &Scene<'_>) -> bool {
    last_write(scene).is_some_and(|at| scene.seconds_since(at) < COUNTS)
}

/// The status, if it is to be written now; otherwise the seconds until its counts may be.
pub(crate) fn due(scene: &Scene<'_>, wanted: StreamSessionStatus) -> Result<StreamSessionStatus, Option<u64>> {
    let Some(seen) = &scene.session.status else { return Ok(wanted) };
    if *seen == wanted {
        return Err(None);
    }
    let only_counts = StreamSessionStatus {
        publishers: wanted.publishers,
        subscribers: wanted.subscribers,
        recordings: wanted.recordings.clone(),
        ..seen.clone()
    } == wanted;
    let since = last_write(scene).map(|at| scene.seconds_since(at));
    match since.filter(|since| only_counts && *since < COUNTS) {
        Some(since) => Err(Some(COUNTS - since)),
        None => Ok(wanted),
    }
}

/// When the operator last wrote a status, as the API server keeps it.
fn last_write(scene: &Scene<'_>) -> Option<Timestamp> {
    let fields = scene.session.metadata.managed_fields.as_ref()?;
    let ours = fields.iter().filter(|field| {
        field.manager.as_deref() == Some(names::FIELD_MANAGER) && field.subresource.as_deref() == Some("status")
    });
    ours.filter_map(|field| field.time.as_ref().map(|time| time.0)).max()
}

/// A verdict as a condition.
pub(crate) fn told(scene: &Scene<'_>, verdict: &Verdict) -> Condition {
    let now = scene.observed.now;
    // The API server keeps whole seconds.
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    let before = scene.condition(verdict.type_).filter(|before| before.status == verdict.status);
    Condition {
        type_: verdict.type_.to_owned(),
        status: verdict.status.to_owned(),
        reason: verdict.reason.clone(),
        message: printable(&verdict.message),
        observed_generation: Some(generation(scene, verdict)),
        last_transition_time: before.map_or(now, |before| before.last_transition_time.clone()),
    }
}

fn limits(report: &ServerReport) -> EnforcedLimits {
    let limits = &report.limits;
    EnforcedLimits {
        caps: format!("{}/{}", limits.max_publishers, limits.max_subscribers_per_room),
        max_publishers: limits.max_publishers,
        max_subscribers_per_room: limits.max_subscribers_per_room,
        max_streams_per_account: limits.max_streams_per_account,
        max_bitrate: limits.max_bitrate.unwrap_or_default(),
        generation: report.generation,
    }
}

fn recordings(report: &ServerReport) -> RecordingTotals {
    let kept = &report.recordings;
    RecordingTotals {
        count: kept.count,
        bytes: kept.bytes,
        pending_uploads: kept.pending_uploads,
        oldest: kept.oldest.map(|at| Time(Timestamp::from_second(at.as_second()).unwrap_or(at))),
    }
}
