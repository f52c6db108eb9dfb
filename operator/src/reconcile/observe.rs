//! Looks up what a plan is made from: caches for what is watched, reads by name for Secrets, and the media server.
//!
//! What cannot be read ends the pass, since a plan from "it is not there" would be wrong; except for the media server, whose
//! silence is itself something to plan from.

use super::Context;
use super::admin::AdminError;
use super::caches::{JOB_LABEL, job_end, last_words};
use super::memory::Remembered;
use super::objects::{api, call, json};
use crate::error::{ApiError, PassError};
use crate::plan::{
    self, Child, Copied, FinalJob, Kind, Observed, OwnSecret, SecretSummary, ServerError, ServerReport, names,
};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use streamsession_api::StreamSession;

/// Port of the admin API in the pod.
const MANAGEMENT_PORT: u16 = 8081;
/// Most pods of a Job that are read.
const PODS: u32 = 50;
/// For how long the last words of a clean-up are waited for.
const WORDS_LAG: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// Everything that a plan for this session is made from.
pub(super) async fn observe(
    context: &Context,
    session: &StreamSession,
    remembered: &mut Remembered,
) -> Result<Observed, PassError> {
    let namespace = session.namespace().unwrap_or_default();
    let name = session.name_any();
    let mut observed = Observed::nothing(Timestamp::now());
    let ends = session.metadata.deletion_timestamp.is_some() && plan::holds(session);
    let pod = if ends {
        // What is not there decides what is deleted: asked of the API server itself, not of a cache that may lag.
        let children = plan::children(session);
        observed.children.extend(confirm_absent(context, &namespace, &children).await?);
        live_pod(context, &namespace, &names::pod(&name)).await?.map(Arc::new)
    } else {
        for child in plan::children(session) {
            let cached = context.caches.child(&child, &namespace);
            if let Some(object) = remembered.newest(&child, cached, Instant::now()) {
                observed.children.insert(child, object);
            }
        }
        context.caches.pod(&names::pod(&name), &namespace)
    };
    let cleanup = context.caches.last_cleanup(&name, &namespace);
    // What its pod said comes by another watch than the Job's end.
    observed.cleanup = cleanup.filter(|run| run.said.is_some() || observed.now.duration_since(run.at) > WORDS_LAG);
    (observed.copy, observed.reclaim) = elsewhere(context, session, remembered, ends).await?;
    observed.node = pod.as_deref().and_then(|pod| node(context, pod));
    (observed.secrets, observed.references) =
        futures_util::future::try_join(own_secrets(context, session, remembered), references(context, session)).await?;
    let tokens = observed.secrets.get(&names::admin(&name)).map(OwnSecret::admin_tokens).unwrap_or_default();
    let server = server(context, pod.as_deref(), &tokens).await;
    let answered = !matches!(server, Some(Err(_)));
    observed.server_failing_since = remembered.asked(pod.as_deref().and_then(ResourceExt::uid), answered, observed.now);
    observed.server = server;
    let explanations = &context.explanations;
    observed.warnings = explanations.of(&namespace, &name, &observed.children, pod.as_deref(), observed.now);
    observed.pod = pod.map(Arc::unwrap_or_clone);
    observed.refusals.clone_from(&remembered.refusals);
    observed.push_refused.clone_from(&remembered.push_refused);
    Ok(observed)
}

/// Reads what a cache does not have from the API server itself: it may be there without our labels, somebody else's or
/// stripped of them, and then the plan must know of it before it writes.
pub(super) async fn confirm_absent(
    context: &Context,
    namespace: &str,
    children: &[Child],
) -> Result<Vec<(Child, Value)>, PassError> {
    let found = try_join_all(children.iter().map(async |child| {
        let objects = api(context.client.clone(), child.kind, namespace);
        match objects.get_opt(&child.name).await {
            Ok(object) => Ok(object.map(|object| (child.clone(), json(child.kind, &object)))),
            Err(error) => Err(failed(context, "child", ApiError::new(call("read", child), &error))),
        }
    }))
    .await?;
    Ok(found.into_iter().flatten().collect())
}

async fn live_pod(context: &Context, namespace: &str, name: &str) -> Result<Option<Pod>, PassError> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let pod = pods.get_opt(name).await;
    pod.map_err(|error| failed(context, "child", ApiError::new(format!("read Pod {name}"), &error)))
}

/// What lies in the operator's own namespace for a session: the copied Secret, and once it `ends` the final Job.
async fn elsewhere(
    context: &Context,
    session: &StreamSession,
    remembered: &mut Remembered,
    ends: bool,
) -> Result<(Option<Copied>, Option<FinalJob>), PassError> {
    let Some(namespace) = context.settings.operator_namespace.as_deref().filter(|_| plan::holds(session)) else {
        return Ok((None, None));
    };
    let name = names::reclaim(session);
    let copy = match remembered.copy(Instant::now()).filter(|_| !ends) {
        Some(copy) => copy,
        None => {
            let copy = secret(context, namespace, &name).await?.map(|secret| Copied {
                source: secret.annotations().get(names::COPIED_FROM).cloned().unwrap_or_default(),
                uid: secret.uid().unwrap_or_default(),
            });
            remembered.keep_copy(copy.clone(), Instant::now());
            copy
        }
    };
    if !ends {
        return Ok((copy, None));
    }
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), namespace);
    let told = |error| failed(context, "job", ApiError::new(format!("read Job {name} in {namespace}"), &error));
    let Some(job) = jobs.get_opt(&name).await.map_err(told)? else { return Ok((copy, None)) };
    let ended = job_end(&job);
    let said = if ended.is_some() { words_of(context, namespace, &name).await } else { None };
    let leaving = job.metadata.deletion_timestamp.is_some();
    Ok((copy, Some(FinalJob { uid: job.uid().unwrap_or_default(), leaving, ended, said })))
}

/// What the program of a Job said last, as far as it can be had.
async fn words_of(context: &Context, namespace: &str, job: &str) -> Option<String> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let params = ListParams::default().labels(&format!("{JOB_LABEL}={job}")).limit(PODS);
    match pods.list(&params).await {
        Ok(pods) => pods.items.iter().find_map(last_words),
        Err(error) => {
            let error = ApiError::new(format!("list the pods of Job {job}"), &error);
            tracing::info!(%error, "what it said stays unknown");
            context.metrics.read_failed("job");
            None
        }
    }
}

/// Where the media server's management port is, when the pod has an address.
pub(super) fn management(pod: Option<&Pod>) -> Option<SocketAddr> {
    let address: IpAddr = pod?.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    Some(SocketAddr::new(address, MANAGEMENT_PORT))
}

fn node(context: &Context, pod: &Pod) -> Option<Node> {
    let name = pod.spec.as_ref()?.node_name.as_ref()?;
    context.nodes.as_ref()?.get(&ObjectRef::new(name)).map(Arc::unwrap_or_clone)
}

async fn own_secrets(
    context: &Context,
    session: &StreamSession,
    remembered: &mut Remembered,
) -> Result<BTreeMap<String, OwnSecret>, PassError> {
    let (mut secrets, mut unknown) = (BTreeMap::new(), Vec::new());
    for name in plan::own_secrets(session) {
        match remembered.secret(&name, Instant::now()) {
            Some(secret) => {
                secrets.insert(name, secret);
            }
            None => unknown.push(name),
        }
    }
    let namespace = session.namespace().unwrap_or_default();
    let read = try_join_all(unknown.iter().map(|name| secret(context, &namespace, name))).await?;
    for (name, secret) in unknown.into_iter().zip(read) {
        if let Some(secret) = secret.map(OwnSecret) {
            remembered.keep_secret(&name, secret.clone(), Instant::now());
            secrets.insert(name, secret);
        }
    }
    Ok(secrets)
}

async fn references(context: &Context, session: &StreamSession) -> Result<BTreeMap<String, SecretSummary>, PassError> {
    let mut names: Vec<_> = plan::references(session).into_iter().map(|reference| reference.name).collect();
    names.sort();
    names.dedup();
    let namespace = session.namespace().unwrap_or_default();
    let read = try_join_all(names.iter().map(|name| secret(context, &namespace, name))).await?;
    let found = names.into_iter().zip(read).filter_map(|(name, secret)| Some((name, SecretSummary::of(&secret?))));
    Ok(found.collect())
}

async fn secret(context: &Context, namespace: &str, name: &str) -> Result<Option<Secret>, PassError> {
    // A spec may name what no Secret can be called. As part of a URL it would be another one, or none.
    if !is_object_name(name) {
        return Ok(None);
    }
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let child = Child { kind: Kind::Secret, name: name.to_owned() };
    secrets
        .get_opt(name)
        .await
        .map_err(|error| failed(context, "secret", ApiError::without_words(call("read", &child), &error)))
}

/// A DNS subdomain (RFC 1123), as the API server asks of names.
fn is_object_name(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |part: &str| part.starts_with(edge) && part.ends_with(edge) && part.chars().all(|c| edge(c) || c == '-');
    text.len() <= 253 && text.split('.').all(part)
}

async fn server(context: &Context, pod: Option<&Pod>, tokens: &[&str]) -> Option<Result<ServerReport, ServerError>> {
    let address = management(pod)?;
    if tokens.is_empty() {
        return Some(Err(ServerError::Unauthorized));
    }
    Some(context.admin.read(address, tokens).await.map_err(|error| match error {
        AdminError::Unreachable { why, .. } => ServerError::Unreachable(why),
        AdminError::Unauthorized => ServerError::Unauthorized,
        AdminError::Refused { status, detail } => ServerError::Malformed(format!("{status}: {detail}")),
        AdminError::Malformed(why) => ServerError::Malformed(why),
    }))
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn failed(context: &Context, what: &'static str, error: ApiError) -> PassError {
    context.metrics.read_failed(what);
    PassError::Api(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_no_secret_can_be_called_is_not_asked_for() {
        for name in ["given", "a.b-c", "7"] {
            assert!(is_object_name(name), "{name}");
        }
        for name in ["", "a b", "a/b", "../configmaps/a", ".", "a?b=c", "a%20", "Upper", "-a", "a.", &"a".repeat(254)] {
            assert!(!is_object_name(name), "{name}");
        }
    }

    #[test]
    fn the_management_port_is_at_the_pods_address() {
        let pod = |ip: &str| serde_json::from_value::<Pod>(json!({"status": {"podIP": ip}})).unwrap();
        assert_eq!(management(Some(&pod("10.0.0.9"))), Some("10.0.0.9:8081".parse().unwrap()));
        assert_eq!(management(Some(&pod("fd00::9"))), Some("[fd00::9]:8081".parse().unwrap()));
        assert_eq!(management(Some(&pod(""))), None);
        assert_eq!(management(None), None);
    }
}
