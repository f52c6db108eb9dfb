//! The shell around the planner: the only code that talks to the API server and to media servers.
//!
//! A pass over a session observes, plans and carries out; it has half a minute. Passes are triggered by what changes (the
//! session beyond its status, what belongs to it, its pod, its node's addresses, events that explain) and by the plan's own
//! wish to look again. A pass that fails is tried again after a back-off of its session's own. Nothing here decides what is
//! to be done.

pub mod admin;
mod backoff;
mod caches;
mod connect;
mod execute;
mod explanations;
mod memory;
mod objects;
mod observe;
mod served;
#[cfg(test)]
pub(crate) mod testing;

pub use connect::Clients;

use crate::error::{PassError, StartError};
use crate::metrics::{Metrics, Outcome};
use crate::plan::{self, Kind, Plan, Random, Settings};
use crate::readiness::Readiness;
use admin::AdminClient;
use backoff::Backoff;
use caches::{Caches, Observers, key};
use explanations::Explanations;
use futures_util::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::events::Reporter;
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};
use memory::Memory;
use ring::rand::SecureRandom;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamsession_api::StreamSession;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// For one pass, all of its calls together.
const PASS: Duration = Duration::from_secs(30);
/// Changes within this time are one trigger: an apply of ten objects is answered by ten events.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// After a pass that changed what there is to see.
const SOON: Duration = Duration::from_millis(300);
/// How often absence is confirmed and planned from anew, in one pass.
const CONFIRMATIONS: usize = 3;

/// What the operator runs with.
#[derive(Clone)]
pub struct Options {
    /// Namespaces to watch; none for all.
    pub namespaces: Vec<String>,
    /// Sessions that are worked on at once.
    pub concurrency: u16,
    /// What the flags say about every session.
    pub settings: Settings,
    /// Name of the operator's pod, told in events.
    pub instance: Option<String>,
}

/// What a pass works with.
struct Context {
    client: Client,
    settings: Settings,
    caches: Caches,
    explanations: Explanations,
    nodes: Option<Store<Node>>,
    admin: AdminClient,
    reporter: Reporter,
    metrics: Metrics,
    shared: Arc<Shared>,
}

/// What all namespaces share.
struct Shared {
    memory: Memory,
    backoff: Backoff,
    slots: Semaphore,
    random: ring::rand::SystemRandom,
    metrics: Metrics,
}

impl Shared {
    fn forget(&self, key: &str) {
        self.memory.forget(key);
        self.backoff.reset(key);
        self.metrics.forget(key);
    }

    fn random(&self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        self.random.fill(&mut bytes).ok()?;
        Some(bytes)
    }

    /// In 0..1, for jitter; where there is no randomness there is no jitter.
    fn jitter(&self) -> f64 {
        self.random().map_or(1.0, |bytes| f64::from(u16::from_le_bytes([bytes[0], bytes[1]])) / f64::from(u16::MAX))
    }
}

/// Runs until `shutdown` is cancelled; passes that are under way are finished first.
pub async fn run(
    clients: Clients,
    options: Options,
    metrics: Metrics,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let observers = Observers { metrics: metrics.clone(), readiness: readiness.clone() };
    let shared = Arc::new(Shared {
        memory: Memory::default(),
        backoff: Backoff::default(),
        slots: Semaphore::new(usize::from(options.concurrency)),
        random: ring::rand::SystemRandom::new(),
        metrics: metrics.clone(),
    });
    // Dropped, and with it every watch, when this function ends.
    let mut watches = JoinSet::new();
    watches.spawn(served::watch(clients.calls.clone(), readiness.clone()));
    let scopes: Vec<Option<String>> =
        if options.namespaces.is_empty() { vec![None] } else { options.namespaces.iter().cloned().map(Some).collect() };
    let mut parts = Vec::new();
    for scope in scopes {
        let (sender, receiver) = unbounded_channel();
        let caches = Caches::start(&clients.watches, scope.as_deref(), &sender, &observers, &mut watches);
        let explanations = Explanations::start(&clients.watches, scope.as_deref(), &sender, &observers, &mut watches);
        parts.push((scope, caches, explanations, sender, receiver));
    }
    let told: Vec<(Caches, UnboundedSender<_>)> =
        parts.iter().map(|(_, caches, _, sender, _)| (caches.clone(), sender.clone())).collect();
    let nodes = tokio::select! {
        nodes = caches::nodes(&clients.watches, told, &observers, &mut watches) => nodes,
        () = shutdown.cancelled() => return Ok(()),
    };
    let mut controllers = JoinSet::new();
    for (scope, caches, explanations, _sender, receiver) in parts {
        let context = Arc::new(Context {
            client: clients.calls.clone(),
            settings: options.settings.clone(),
            caches: caches.clone(),
            explanations,
            nodes: nodes.clone(),
            admin: AdminClient::default(),
            reporter: Reporter {
                controller: plan::names::FIELD_MANAGER.to_owned(),
                instance: options.instance.clone(),
            },
            metrics: metrics.clone(),
            shared: Arc::clone(&shared),
        });
        let gone = {
            let shared = Arc::clone(&shared);
            move |key: &str| shared.forget(key)
        };
        let (stream, reader) = caches::sessions(&clients.watches, scope.as_deref(), &observers, gone);
        let nodes = nodes.clone();
        let shutdown = shutdown.clone();
        let concurrency = options.concurrency;
        controllers.spawn(async move {
            // Before the caches are filled, everything would look absent.
            let filled = async {
                caches.filled().await;
                if let Some(nodes) = &nodes {
                    let _ = nodes.wait_until_ready().await;
                }
            };
            if shutdown.run_until_cancelled(filled).await.is_none() {
                return;
            }
            let passes = Controller::for_stream(stream, reader)
                .with_config(controller::Config::default().debounce(DEBOUNCE).concurrency(concurrency))
                .reconcile_on(UnboundedReceiverStream::new(receiver))
                .graceful_shutdown_on(shutdown.cancelled_owned())
                .run(|session, context| reconcile(session, context).boxed(), after_failure, Arc::clone(&context));
            passes.for_each(async |pass| heed(&context, pass)).await;
        });
    }
    readiness.expect_no_more();
    loop {
        tokio::select! {
            ended = controllers.join_next() => match ended {
                Some(Ok(())) if shutdown.is_cancelled() => {}
                None if shutdown.is_cancelled() => return Ok(()),
                _ => return Err(StartError::Ended("the controller")),
            },
            Some(_) = watches.join_next() => return Err(StartError::Ended("a watch")),
        }
    }
}

type Pass = Result<
    (kube::runtime::reflector::ObjectRef<StreamSession>, Action),
    controller::Error<PassError, kube::runtime::watcher::Error>,
>;

/// What the controller tells of each pass. Nothing of it is dropped without a word.
fn heed(context: &Context, pass: Pass) {
    match pass {
        Ok(_) => {}
        // Told where it happened.
        Err(controller::Error::ReconcilerFailed(..)) => {}
        // A trigger of a session that is gone, by its watch or in a gap of it.
        Err(controller::Error::ObjectNotFound(session)) => {
            context.shared.forget(&format!("{}/{}", session.namespace.unwrap_or_default(), session.name));
        }
        Err(error) => tracing::warn!(%error, "the controller's queue failed; it goes on"),
    }
}

async fn reconcile(session: Arc<StreamSession>, context: Arc<Context>) -> Result<Action, PassError> {
    // The semaphore is never closed.
    let _slot = context.shared.slots.acquire().await;
    let begin = Instant::now();
    let key = key(&session);
    let span = tracing::info_span!("pass", session = key);
    let work = pass(&session, &context, &key).instrument(span.clone());
    let result = match tokio::time::timeout(PASS, work).await {
        Ok(result) => result,
        Err(_) => Err(PassError::Timeout(PASS)),
    };
    let _told = span.entered();
    let outcome = match &result {
        Ok(_) => Outcome::Ok,
        Err(PassError::Timeout(_)) => Outcome::Timeout,
        Err(_) => Outcome::Error,
    };
    context.metrics.reconciled(outcome, begin.elapsed());
    match &result {
        Ok(_) => context.shared.backoff.reset(&key),
        Err(error) => tracing::warn!(%error, "this pass is tried again"),
    }
    result
}

fn after_failure(session: Arc<StreamSession>, _: &PassError, context: Arc<Context>) -> Action {
    let shared = &context.shared;
    Action::requeue(shared.backoff.failed(&key(&session), shared.jitter()))
}

async fn pass(session: &Arc<StreamSession>, context: &Context, key: &str) -> Result<Action, PassError> {
    let remembered = context.shared.memory.of(key, session);
    let mut remembered = remembered.lock().await;
    let session = remembered.newest_session(Arc::clone(session));
    let mut observed = observe::observe(context, &session, &mut remembered).await?;
    let plan = planned(context, &session, &mut observed).await?;
    let requeue = plan.requeue;
    let conditions = plan.status.as_ref().or(session.status.as_ref()).map(|status| status.conditions.clone());
    let told = conditions.iter().flatten().map(|condition| (condition.type_.as_str(), condition.status.as_str()));
    context.metrics.conditions(key, told);
    let deleting = session.metadata.deletion_timestamp.as_ref().filter(|_| plan::holds(&session));
    context.metrics.deleting(key, deleting.map(|time| time.0));
    let carried = execute::execute(context, &session, &observed, plan, &mut remembered).await;
    if !carried.failures.is_empty() {
        return Err(PassError::Incomplete(carried.failures));
    }
    Ok(Action::requeue(if carried.look_again { requeue.min(SOON) } else { requeue.max(SOON) }))
}

/// The plan. What it would make because a cache does not have it is looked up first, and planned from if it is there.
async fn planned(context: &Context, session: &StreamSession, observed: &mut plan::Observed) -> Result<Plan, PassError> {
    let random = context.shared.random().map(Random).ok_or(PassError::NoRandomness)?;
    let namespace = session.namespace().unwrap_or_default();
    let mut confirmed = HashSet::new();
    for _ in 0..CONFIRMATIONS {
        let plan = plan::plan(session, &context.settings, observed, random);
        let absent: Vec<_> = plan
            .apply
            .iter()
            .map(|apply| &apply.child)
            .filter(|child| ![Kind::Secret, Kind::Pod].contains(&child.kind))
            .filter(|child| !observed.children.contains_key(child) && !confirmed.contains(*child))
            .cloned()
            .collect();
        let found = observe::confirm_absent(context, &namespace, &absent).await?;
        if found.is_empty() {
            return Ok(plan);
        }
        confirmed.extend(absent);
        observed.children.extend(found);
    }
    Ok(plan::plan(session, &context.settings, observed, random))
}

#[cfg(test)]
mod tests;
