//! Carries a plan out, in its order. A write that fails holds up neither the others nor the status: only what would rest
//! on it, the push and the pod's deletion.
//!
//! That an object is there already, has changed meanwhile or is gone is no failure: the next pass sees it.

mod elsewhere;

use super::Context;
use super::admin::AdminError;
use super::memory::Remembered;
use super::objects::{api, call, json};
use super::observe::management;
use crate::error::{ApiError, code};
use crate::metrics::Outcome;
use crate::plan::names::FIELD_MANAGER;
use crate::plan::{
    Apply, Delete, DeletePod, Kind, Note, Observed, OwnSecret, Plan, PushRefused, Refusal, ServerReport,
};
use crate::plan::{SessionPush, Write, names};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use std::time::Instant;
use streamsession_api::{StreamSession, StreamSessionStatus};

/// Most bytes of an event's note (events.k8s.io/v1).
const NOTE: usize = 1024;

/// How a plan went.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// What could not be done.
    pub(super) failures: Vec<ApiError>,
    /// Whether there is something new to see: a spec was pushed, or a refusal came or went.
    pub(super) look_again: bool,
}

/// Carries `plan` out.
pub(super) async fn execute(
    context: &Context,
    session: &StreamSession,
    observed: &Observed,
    plan: Plan,
    remembered: &mut Remembered,
) -> Carried {
    let namespace = session.namespace().unwrap_or_default();
    let mut carried = Carried::default();
    let mut refusals = Vec::new();
    if let Some(finalizers) = plan.hold {
        carried.failures.extend(write_finalizers(context, session, &finalizers, remembered).await.err());
        carried.look_again = true;
    }
    // Nothing is made there for a session that may go without a word.
    if carried.failures.is_empty()
        && let Err(error) = elsewhere::carry_out(context, &namespace, &plan.elsewhere, remembered).await
    {
        carried.failures.push(error);
    }
    for apply in plan.apply {
        if let Err(error) = write(context, &namespace, &apply, remembered).await {
            tracing::debug!(%error, "a write failed");
            if (400..500).contains(&error.code) && ![408, 409, 429].contains(&error.code) {
                refusals.push(Refusal { child: apply.child, message: error.why.clone() });
            }
            carried.failures.push(error);
        }
    }
    carried.look_again |= refusals != remembered.refusals;
    remembered.refusals = refusals;
    let whole = carried.failures.is_empty();
    for gone in plan.delete {
        remembered.deleted(&gone.child);
        carried.failures.extend(delete(context, &namespace, &gone).await.err());
    }
    if whole {
        if let Some(pod) = plan.delete_pod {
            carried.failures.extend(delete_pod(context, &namespace, &pod).await.err());
        }
        if let Some(push) = plan.push {
            carried.look_again |= push_session(context, session, observed, push, remembered).await;
        }
    }
    let mut told = carried.failures.is_empty();
    if let Some(status) = plan.status {
        let written = write_status(context, session, status, remembered).await;
        told = written.is_ok();
        carried.failures.extend(written.err());
    }
    if let Some(cleaned) = plan.cleaned.filter(|_| told) {
        context.metrics.cleaned(cleaned.ok, cleaned.recordings, cleaned.bytes);
    }
    for note in plan.events {
        // No failure of the pass: the next one would not tell it again, and the condition says the same.
        if let Err(error) = tell(context, session, &note, remembered).await {
            tracing::warn!(%error, "an event is lost");
        }
    }
    if let Some(finalizers) = plan.release.filter(|_| carried.failures.is_empty()) {
        carried.failures.extend(write_finalizers(context, session, &finalizers, remembered).await.err());
    }
    carried
}

/// The session's finalizers, if nobody else has changed anything of it meanwhile.
async fn write_finalizers(
    context: &Context,
    session: &StreamSession,
    finalizers: &[String],
    remembered: &mut Remembered,
) -> Result<(), ApiError> {
    let sessions: Api<StreamSession> =
        Api::namespaced(context.client.clone(), &session.namespace().unwrap_or_default());
    let body = json!({"metadata": {
        "uid": session.uid(), "resourceVersion": session.resource_version(), "finalizers": finalizers,
    }});
    let result = sessions.patch(&session.name_any(), &merging(), &Patch::Merge(&body)).await;
    match counted(context, "finalizers", "StreamSession", result, &[404, 409]) {
        Ok(Some(written)) => {
            tracing::info!(?finalizers, "the session's finalizers are written");
            remembered.wrote_session(written);
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) => Err(ApiError::new("write the finalizers", &error)),
    }
}

async fn write(context: &Context, namespace: &str, apply: &Apply, remembered: &mut Remembered) -> Result<(), ApiError> {
    let (child, kind) = (&apply.child, apply.child.kind);
    let objects = api(context.client.clone(), kind, namespace);
    let (verb, result) = match apply.write {
        Write::Apply => ("apply", apply_or_mend(&objects, apply).await),
        Write::Merge => ("merge", objects.patch(&child.name, &merging(), &Patch::Merge(&apply.object)).await),
        Write::Create => {
            let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            let object = serde_json::from_value::<DynamicObject>(apply.object.clone());
            (
                "create",
                match object {
                    Ok(object) => objects.create(&params, &object).await,
                    Err(error) => Err(kube::Error::SerdeError(error)),
                },
            )
        }
    };
    if kind == Kind::Secret {
        remembered.drop_secret(&child.name);
    }
    let tolerated = match apply.write {
        Write::Apply => &[][..],
        Write::Create => &[409],
        // The pod may have gone since it was seen.
        Write::Merge => &[404, 409],
    };
    match counted(context, verb, kind.name(), result, tolerated) {
        Ok(Some(object)) => {
            tracing::info!(object = %child, verb, "written");
            let object = json(kind, &object);
            if kind == Kind::Secret {
                if let Ok(secret) = serde_json::from_value(object) {
                    remembered.keep_secret(&child.name, OwnSecret(secret), Instant::now());
                }
            } else if kind != Kind::Pod {
                remembered.wrote(child.clone(), object, Instant::now());
            }
            Ok(())
        }
        Ok(None) => Ok(()),
        // It takes nothing new, and the session is about to go with it.
        Err(error) if is_terminating(&error) => Ok(()),
        Err(error) if kind == Kind::Secret => Err(ApiError::without_words(call(verb, child), &error)),
        Err(error) => Err(ApiError::new(call(verb, child), &error)),
    }
}

/// Whether a namespace refuses what is new since it is about to go (its admission says so in a cause, and in words).
fn is_terminating(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403 && status.message.contains("because it is being terminated"))
}

/// Server-side apply. It leaves entries that others have put into a list where they are, and these can make the whole
/// invalid (two ports of one name); then the lists are replaced by ours.
async fn apply_or_mend(objects: &Api<DynamicObject>, apply: &Apply) -> Result<DynamicObject, kube::Error> {
    let name = &apply.child.name;
    let applying = PatchParams::apply(FIELD_MANAGER).force();
    let refused = match objects.patch(name, &applying, &Patch::Apply(&apply.object)).await {
        Err(error) if code(&error) == 422 => error,
        other => return other,
    };
    match objects.patch(name, &merging(), &Patch::Merge(&apply.object)).await {
        Ok(_) => {
            tracing::info!(object = %apply.child, "mended: somebody else's entries were in the way");
            objects.patch(name, &applying, &Patch::Apply(&apply.object)).await
        }
        // It is ours that is refused, or there is nothing to mend.
        Err(_) => Err(refused),
    }
}

fn merging() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

async fn delete(context: &Context, namespace: &str, delete: &Delete) -> Result<(), ApiError> {
    let objects = api(context.client.clone(), delete.child.kind, namespace);
    let params = DeleteParams { preconditions: only(&delete.uid), ..DeleteParams::background() };
    let result = objects.delete(&delete.child.name, &params).await;
    match counted(context, "delete", delete.child.kind.name(), result, &[404, 409]) {
        Ok(done) => {
            if done.is_some() {
                tracing::info!(object = %delete.child, "deleted: it is no longer wanted");
            }
            Ok(())
        }
        Err(error) => Err(ApiError::new(call("delete", &delete.child), &error)),
    }
}

async fn delete_pod(context: &Context, namespace: &str, pod: &DeletePod) -> Result<(), ApiError> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let params = DeleteParams {
        preconditions: only(&pod.uid),
        grace_period_seconds: Some(pod.grace_seconds),
        ..DeleteParams::default()
    };
    let result = pods.delete(&pod.name, &params).await;
    match counted(context, "delete", "Pod", result, &[404, 409]) {
        Ok(done) => {
            if done.is_some() {
                tracing::info!(pod = pod.name, why = pod.why, "the pod is deleted, to be made anew");
            }
            Ok(())
        }
        Err(error) => Err(ApiError::new(format!("delete Pod {}", pod.name), &error)),
    }
}

/// Whether there is something new to see.
async fn push_session(
    context: &Context,
    session: &StreamSession,
    observed: &Observed,
    push: SessionPush,
    remembered: &mut Remembered,
) -> bool {
    let secret = observed.secrets.get(&names::admin(&session.name_any()));
    let tokens = secret.map(OwnSecret::admin_tokens).unwrap_or_default();
    let Some(address) = management(observed.pod.as_ref()) else { return false };
    match context.admin.push::<ServerReport>(address, &tokens, &push).await {
        Ok(report) => {
            context.metrics.pushed(Outcome::Ok);
            remembered.push_refused = None;
            tracing::info!(generation = report.generation, "the media server has taken the spec over");
            true
        }
        Err(AdminError::Refused { status: 422, detail }) => {
            context.metrics.pushed(Outcome::Error);
            tracing::warn!(generation = push.generation, detail, "the media server refuses the spec");
            let refused = Some(PushRefused { generation: push.generation, message: detail });
            let news = remembered.push_refused != refused;
            remembered.push_refused = refused;
            news
        }
        Err(error) => {
            context.metrics.pushed(Outcome::Error);
            tracing::warn!(%error, generation = push.generation, "the spec does not reach the media server; it is tried again");
            false
        }
    }
}

async fn write_status(
    context: &Context,
    session: &StreamSession,
    status: StreamSessionStatus,
    remembered: &mut Remembered,
) -> Result<(), ApiError> {
    let sessions: Api<StreamSession> =
        Api::namespaced(context.client.clone(), &session.namespace().unwrap_or_default());
    let body = json!({
        "apiVersion": StreamSession::api_version(&()),
        "kind": StreamSession::kind(&()),
        // This session and no later one of its name.
        "metadata": {"name": session.name_any(), "uid": session.uid()},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let result = sessions.patch_status(&session.name_any(), &params, &Patch::Apply(&body)).await;
    match counted(context, "status", "StreamSession", result, &[404, 409]) {
        Ok(written) => {
            if let Some(session) = written {
                remembered.wrote_session(session);
            }
            Ok(())
        }
        Err(error) => Err(ApiError::new("write the status", &error)),
    }
}

async fn tell(
    context: &Context,
    session: &StreamSession,
    note: &Note,
    remembered: &mut Remembered,
) -> Result<(), ApiError> {
    let recorder = remembered
        .recorder(&note.reason, &note.message, || Recorder::new(context.client.clone(), context.reporter.clone()));
    let event = Event {
        type_: if note.warning { EventType::Warning } else { EventType::Normal },
        reason: note.reason.clone(),
        note: Some(shortened(&note.message, NOTE)),
        action: note.action.to_owned(),
        secondary: None,
    };
    let result = recorder.publish(&event, &session.object_ref(&())).await;
    match counted(context, "event", "Event", result, &[404, 409]) {
        Ok(_) => Ok(()),
        Err(error) => Err(ApiError::new(format!("tell the event {}", note.reason), &error)),
    }
}

/// `None` for what is tolerated.
pub(super) fn counted<T>(
    context: &Context,
    verb: &'static str,
    kind: &str,
    result: Result<T, kube::Error>,
    tolerated: &[u16],
) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => {
            context.metrics.wrote(verb, kind, Outcome::Ok);
            Ok(Some(value))
        }
        Err(error) if tolerated.contains(&code(&error)) => {
            context.metrics.wrote(verb, kind, Outcome::Ok);
            Ok(None)
        }
        Err(error) => {
            context.metrics.wrote(verb, kind, Outcome::Error);
            Err(error)
        }
    }
}

fn only(uid: &str) -> Option<Preconditions> {
    Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None })
}

/// At most `most` bytes, cut between characters.
fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most - '…'.len_utf8()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests;
