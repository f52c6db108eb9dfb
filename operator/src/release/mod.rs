//! `operator release`: what goes before the operator is taken away, so that no session is left with a finalizer that
//! nobody looks after. The chart runs it as a Job before `helm uninstall`.
//!
//! [`decide`] says what is next; this shell looks, does it, and looks again, until nothing is left or the time is over.
//! It does not read StreamSessions as this program knows them, so that those of another version hinder nothing.

pub mod decide;

use crate::args::ReleaseArgs;
use crate::error::{ApiError, StartError};
use crate::plan::names::{self, FIELD_MANAGER, FINALIZER};
use crate::reconcile::Clients;
use decide::{Next, Operator, PATIENCE, Session, World};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::time::Duration;
use streamsession_api::StreamSession;
use tokio::time::Instant;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// A rest between what is done and the look at what came of it.
const SOON: Duration = Duration::from_millis(200);

/// Does it, within the deadline of the arguments.
pub async fn release(args: &ReleaseArgs, clients: Clients) -> Result<(), StartError> {
    let namespace = args.operator_namespace.clone().or(clients.namespace);
    let namespace = namespace.ok_or(StartError::NoNamespace { flag: "release" })?;
    let release = Release {
        sessions: sessions(&clients.calls, &args.namespaces()),
        deployments: Api::namespaced(clients.calls.clone(), &namespace),
        pods: Api::namespaced(clients.calls.clone(), &namespace),
        secrets: Api::namespaced(clients.calls.clone(), &namespace),
        client: clients.calls,
        namespace,
        deployment: args.deployment.clone(),
        delete_sessions: args.delete_sessions,
    };
    let mut last = "the API server's first answer".to_owned();
    let deadline = args.deadline.0;
    match tokio::time::timeout(deadline, release.carry_out(&mut last)).await {
        Ok(ended) => ended,
        Err(_) => Err(StartError::NotReleased(format!("not within {} s: {last}", deadline.as_secs()))),
    }
}

struct Release {
    client: Client,
    /// Of each watched namespace, or of all at once.
    sessions: Vec<Api<DynamicObject>>,
    deployments: Api<Deployment>,
    pods: Api<Pod>,
    secrets: Api<Secret>,
    namespace: String,
    deployment: String,
    delete_sessions: bool,
}

impl Release {
    /// Until nothing is left to do. What it waits for, and what to do if that does not come, stands in `last`.
    async fn carry_out(&self, last: &mut String) -> Result<(), StartError> {
        let begin = Instant::now();
        let (mut worked, mut told) = (begin, String::new());
        loop {
            let world = match self.observe().await {
                Ok(world) => world,
                Err(error) => {
                    // Rights that were granted a moment ago may not be in force yet.
                    if error.is_lasting() && begin.elapsed() >= PATIENCE {
                        return Err(StartError::NotReleased(error.to_string()));
                    }
                    tell(&mut told, last, format!("{error}; it is tried again"), "");
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
            };
            if world.operator.ready > 0 {
                worked = Instant::now();
            }
            let next = decide::next(&world, self.delete_sessions, worked.elapsed());
            let done = match &next {
                Next::Done => {
                    tracing::info!("nothing needs the operator any more");
                    return Ok(());
                }
                Next::Abandoned(sessions) => {
                    let why = decide::abandoned(sessions, &self.deployment, &self.namespace);
                    return Err(StartError::NotReleased(why));
                }
                Next::Wait(waiting) => {
                    tell(&mut told, last, format!("waits for {}", waiting.told()), &waiting.remedy());
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                Next::Stop => self.stop().await,
                Next::Delete(sessions) => self.delete(sessions).await,
                Next::Free(sessions) => self.free(sessions).await,
            };
            match done {
                Ok(()) => tokio::time::sleep(SOON).await,
                Err(error) => {
                    tell(&mut told, last, format!("{error}; it is tried again"), "");
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    async fn observe(&self) -> Result<World, ApiError> {
        let mut world = World::default();
        for api in &self.sessions {
            match api.list(&ListParams::default()).await {
                Ok(list) => world.sessions.extend(list.items.iter().map(summary)),
                // The definition is gone, and with it every session.
                Err(error) if crate::error::code(&error) == 404 => {}
                Err(error) => return Err(ApiError::new("list StreamSessions", &error)),
            }
        }
        let what = || format!("read Deployment {} in {}", self.deployment, self.namespace);
        let found = self.deployments.get_opt(&self.deployment).await.map_err(|error| ApiError::new(what(), &error))?;
        let Some(spec) = found.as_ref().and_then(|deployment| deployment.spec.as_ref()) else { return Ok(world) };
        let labels = spec.selector.match_labels.iter().flatten();
        let selector = labels.map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(",");
        let pods = self.pods.list(&ListParams::default().labels(&selector)).await;
        let pods = pods.map_err(|error| ApiError::new(format!("list pods in {}", self.namespace), &error))?;
        // A pod that has ended is deleted by nobody for a long time.
        let ended = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        let status = found.as_ref().and_then(|deployment| deployment.status.as_ref());
        world.operator = Operator {
            wanted: spec.replicas.unwrap_or(1),
            ready: status.and_then(|status| status.ready_replicas).unwrap_or_default(),
            pods: pods.iter().filter(|pod| !ended(pod)).count(),
        };
        Ok(world)
    }

    async fn stop(&self) -> Result<(), ApiError> {
        tracing::info!(deployment = self.deployment, "the operator is stopped");
        let patch = Patch::Merge(json!({"spec": {"replicas": 0}}));
        let what = || format!("scale Deployment {} to 0", self.deployment);
        self.deployments
            .patch(&self.deployment, &parameters(), &patch)
            .await
            .map(drop)
            .map_err(|error| ApiError::new(what(), &error))
    }

    async fn delete(&self, sessions: &[&Session]) -> Result<(), ApiError> {
        for session in sessions {
            tracing::info!(session = session.key(), "is deleted, since its definition goes");
            let only = Preconditions { uid: Some(session.uid.clone()), resource_version: None };
            let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
            heed(self.of(session).delete(&session.name, &params).await.map(drop), session, "delete")?;
        }
        Ok(())
    }

    async fn free(&self, sessions: &[&Session]) -> Result<(), ApiError> {
        for session in sessions {
            self.drop_keys(session).await?;
            let rest: Vec<_> = session.finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).collect();
            let patch = json!({"metadata": {"resourceVersion": session.version, "finalizers": rest}});
            let written = self.of(session).patch(&session.name, &parameters(), &Patch::Merge(patch)).await;
            if heed(written.map(drop), session, "free")? {
                tracing::info!(
                    session = session.key(),
                    "goes on without an operator; when it is deleted before one is installed again, it goes at once, \
                     and its reclaimPolicy is not carried out"
                );
            }
        }
        Ok(())
    }

    /// The store's keys that were copied for the session's end: nobody is left who would use them.
    async fn drop_keys(&self, session: &Session) -> Result<(), ApiError> {
        let name = names::reclaim_of(&session.namespace, &session.name, &session.uid);
        match self.secrets.delete(&name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(error) if crate::error::code(&error) == 404 => Ok(()),
            Err(error) => Err(ApiError::new(format!("delete Secret {name}"), &error)),
        }
    }

    /// The API that has this session.
    fn of(&self, session: &Session) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &session.namespace, &resource())
    }
}

/// Whether it was done; not when the session has changed meanwhile or is gone, which the next look shows.
fn heed(result: kube::Result<()>, session: &Session, verb: &str) -> Result<bool, ApiError> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if matches!(crate::error::code(&error), 404 | 409) => Ok(false),
        Err(error) => Err(ApiError::new(format!("{verb} StreamSession {}", session.key()), &error)),
    }
}

/// Logs what is new, and keeps it for the end of the time.
fn tell(told: &mut String, last: &mut String, text: String, remedy: &str) {
    *last = if remedy.is_empty() { text.clone() } else { format!("{text}; {remedy}") };
    if *told != text {
        tracing::info!("{text}");
        *told = text;
    }
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

fn resource() -> ApiResource {
    ApiResource::erase::<StreamSession>(&())
}

fn sessions(client: &Client, namespaces: &[String]) -> Vec<Api<DynamicObject>> {
    if namespaces.is_empty() {
        return vec![Api::all_with(client.clone(), &resource())];
    }
    namespaces.iter().map(|namespace| Api::namespaced_with(client.clone(), namespace, &resource())).collect()
}

fn summary(object: &DynamicObject) -> Session {
    let conditions = object.data.pointer("/status/conditions").and_then(serde_json::Value::as_array);
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    Session {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        version: object.resource_version().unwrap_or_default(),
        deleting: object.metadata.deletion_timestamp.is_some(),
        finalizers: object.finalizers().to_vec(),
        message: ready.and_then(|ready| ready["message"].as_str()).unwrap_or_default().trim_end_matches('.').to_owned(),
    }
}

#[cfg(test)]
mod tests;
