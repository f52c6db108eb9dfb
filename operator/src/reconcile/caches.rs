//! What is watched: sessions, what belongs to them, their pods, and nodes for their addresses. Secrets never are; events are
//! by a module of their own.
//!
//! Each watch runs for itself, backs off when it fails, tells the metrics and the log so, and goes on by itself. What
//! changes triggers a pass over the session that it belongs to, by its label.

use super::connect::WATCH_SECONDS;
use super::objects::{WATCHED, api, json, resource, scoped};
use crate::error::explain_watch;
use crate::metrics::Metrics;
use crate::plan::names::{CLEANUP, FIELD_MANAGER, SESSION_LABEL};
use crate::plan::{Child, CleanupRun, Kind};
use crate::readiness::Readiness;
use backon::ExponentialBuilder;
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, NodeAddress, Pod};
use kube::api::{DynamicObject, ListParams};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::utils::{Backoff, ResetTimerBackoff};
use kube::runtime::watcher::{self, Event, ExponentialBackoff, watcher};
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use streamsession_api::StreamSession;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

/// Before a watch that has failed is tried again, at first; twice as long each time, and up to as long again by chance.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// The longest of it: for how long an API server that is back is not noticed.
const LAST_RETRY: Duration = Duration::from_secs(5);
/// After a watch that has lasted so long, the next retry is the first.
const STEADY: Duration = Duration::from_secs(120);
/// Label of a Job's pods, with its name.
pub(super) const JOB_LABEL: &str = "batch.kubernetes.io/job-name";

/// A session to look at.
pub(super) type Trigger = ObjectRef<StreamSession>;

/// Who is told of what watches see.
#[derive(Clone)]
pub(super) struct Observers {
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
}

/// Caches of one namespace, or of all.
#[derive(Clone)]
pub(super) struct Caches {
    children: Arc<HashMap<Kind, Store<DynamicObject>>>,
    pods: Store<Pod>,
    /// Those of clean-ups.
    jobs: Store<Job>,
}

impl Caches {
    /// Begins to watch what belongs to sessions in `namespace`, or everywhere.
    pub(super) fn start(
        client: &Client,
        namespace: Option<&str>,
        triggers: &UnboundedSender<Trigger>,
        observers: &Observers,
        tasks: &mut JoinSet<()>,
    ) -> Caches {
        let config = config().labels(&format!("app.kubernetes.io/managed-by={FIELD_MANAGER},{SESSION_LABEL}"));
        let mut children = HashMap::new();
        for kind in WATCHED {
            let resource = resource(kind);
            let objects: Api<DynamicObject> = match namespace {
                Some(namespace) => api(client.clone(), kind, namespace),
                None => Api::all_with(client.clone(), &resource),
            };
            let writer = Writer::new(resource);
            children.insert(kind, writer.as_reader());
            let triggers = triggers.clone();
            let stream = watcher(objects, config.clone()).backoff(retries()).modify(pack).reflect(writer);
            follow(cache_name(kind.name(), namespace), stream, observers, tasks, move |object| tell(&triggers, object));
        }
        let pods: Api<Pod> = scoped(client, namespace);
        let jobs: Api<Job> = scoped(client, namespace);
        let (pod_writer, job_writer) = (Writer::default(), Writer::default());
        let caches =
            Caches { children: Arc::new(children), pods: pod_writer.as_reader(), jobs: job_writer.as_reader() };
        let pod_triggers = triggers.clone();
        let stream = watcher(pods, config.clone()).backoff(retries()).modify(lighten).reflect(pod_writer);
        follow(cache_name("Pod", namespace), stream, observers, tasks, move |pod| tell(&pod_triggers, pod));
        let triggers = triggers.clone();
        let stream = watcher(jobs, config).backoff(retries()).modify(lighten).reflect(job_writer);
        follow(cache_name("Job", namespace), stream, observers, tasks, move |job| tell(&triggers, job));
        caches
    }

    /// Caches that nothing fills.
    #[cfg(test)]
    pub(super) fn empty() -> Caches {
        Caches { children: Arc::default(), pods: Writer::default().as_reader(), jobs: Writer::default().as_reader() }
    }

    /// Caches of one pod, for good.
    #[cfg(test)]
    pub(super) fn with_pod(pod: Pod) -> Caches {
        let mut writer = Writer::default();
        writer.apply_watcher_event(&Event::Apply(pod));
        Caches { children: Arc::default(), pods: writer.as_reader(), jobs: Writer::default().as_reader() }
    }

    /// Waits until each cache was filled once: before that, what is absent is only not known yet.
    pub(super) async fn filled(&self) {
        for store in self.children.values() {
            // It fails only when the watch is gone, and then the operator is about to end.
            let _ = store.wait_until_ready().await;
        }
        let _ = self.pods.wait_until_ready().await;
        let _ = self.jobs.wait_until_ready().await;
    }

    /// A child, as JSON.
    pub(super) fn child(&self, child: &Child, namespace: &str) -> Option<Value> {
        let store = self.children.get(&child.kind)?;
        let key = ObjectRef::new_with(&child.name, resource(child.kind)).within(namespace);
        store.get(&key).map(|object| json(child.kind, &unpacked(&object)))
    }

    /// A pod.
    pub(super) fn pod(&self, name: &str, namespace: &str) -> Option<Arc<Pod>> {
        self.pods.get(&ObjectRef::new(name).within(namespace))
    }

    /// The clean-up of a session that ended last.
    pub(super) fn last_cleanup(&self, session: &str, namespace: &str) -> Option<CleanupRun> {
        let of_it = |job: &Job| {
            let label = |key: &str| job.labels().get(key).map(String::as_str);
            job.namespace().as_deref() == Some(namespace)
                && label(SESSION_LABEL) == Some(session)
                && label("app.kubernetes.io/name") == Some(CLEANUP)
        };
        let ended = self.jobs.state_filter(of_it).into_iter().filter_map(|job| {
            let (succeeded, at) = job_end(&job)?;
            Some((job.name_any(), succeeded, at))
        });
        let (job, succeeded, at) = ended.max_by_key(|(_, _, at)| *at)?;
        let of_job =
            |pod: &Pod| pod.labels().get(JOB_LABEL) == Some(&job) && pod.namespace().as_deref() == Some(namespace);
        let pods = self.pods.state_filter(of_job);
        // The pod's end is seen a moment before or after the Job's.
        let said = pods.iter().find_map(|pod| last_words(pod));
        Some(CleanupRun { job, at, succeeded, said })
    }

    /// The sessions whose pods are on a node.
    fn sessions_on(&self, node: &str) -> Vec<Trigger> {
        let on_it = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
        self.pods.state_filter(on_it).iter().filter_map(|pod| session_of(&**pod)).collect()
    }
}

/// Begins to watch sessions: a stream of those of which more has changed than the status, and their cache.
///
/// `gone` is told of each that was deleted (namespace/name).
pub(super) fn sessions(
    client: &Client,
    namespace: Option<&str>,
    observers: &Observers,
    gone: impl Fn(&str) + Send + 'static,
) -> (impl Stream<Item = Result<StreamSession, watcher::Error>> + Send + 'static, Store<StreamSession>) {
    let sessions: Api<StreamSession> = scoped(client, namespace);
    let writer = Writer::default();
    let reader = writer.as_reader();
    let name = cache_name("StreamSession", namespace);
    observers.readiness.expect(&name);
    let observers = observers.clone();
    let stream = watcher(sessions, config())
        .backoff(retries())
        .reflect(writer)
        .inspect(move |event| {
            if let Ok(Event::Delete(session)) = event {
                gone(&key(session));
            }
            note(&name, event, &observers);
        })
        // Told just now; the watch goes on, and a pass that is due must not wait for it.
        .filter(|event| std::future::ready(event.is_ok()))
        .touched_objects()
        // The generation alone would swallow finalizers and annotations, which it does not count.
        .predicate_filter(
            predicates::generation.combine(predicates::annotations).combine(predicates::finalizers),
            PredicateConfig::default(),
        );
    (stream, reader)
}

/// Begins to watch nodes, if that is allowed. `caches` tell whose pods are on them.
pub(super) async fn nodes(
    client: &Client,
    caches: Vec<(Caches, UnboundedSender<Trigger>)>,
    observers: &Observers,
    tasks: &mut JoinSet<()>,
) -> Option<Store<Node>> {
    let nodes: Api<Node> = Api::all(client.clone());
    if let Err(kube::Error::Api(status)) = nodes.list_metadata(&ListParams::default().limit(1)).await
        && status.is_forbidden()
    {
        tracing::warn!(
            "nodes may not be read, so their addresses are not announced: \
             sessions of type NodePort and HostPort need spec.exposure.announce (docs/rbac.md)"
        );
        return None;
    }
    let writer = Writer::default();
    let reader = writer.as_reader();
    // Of a node only its addresses are kept; its status changes with every heartbeat.
    let stream = watcher(nodes, config()).backoff(retries()).modify(strip).reflect(writer);
    let mut addresses: HashMap<String, Vec<NodeAddress>> = HashMap::new();
    follow(cache_name("Node", None), stream, observers, tasks, move |node: &Node| {
        let now = node.status.as_ref().and_then(|status| status.addresses.clone()).unwrap_or_default();
        if addresses.get(&node.name_any()) == Some(&now) {
            return;
        }
        addresses.insert(node.name_any(), now);
        for (caches, triggers) in &caches {
            for session in caches.sessions_on(&node.name_any()) {
                // Nobody listens when the operator is about to end.
                let _ = triggers.send(session);
            }
        }
    });
    Some(reader)
}

/// Half of an object that is often written says who wrote what; the plan asks that of sessions alone.
fn lighten<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// Keeps what an object says as text: as a tree of maps it takes ten times as much memory, and it is read once a pass.
fn pack(object: &mut DynamicObject) {
    lighten(object);
    object.data = Value::String(object.data.to_string().into_boxed_str().into());
}

/// As it was before [`pack`].
fn unpacked(object: &DynamicObject) -> DynamicObject {
    let data = object.data.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    DynamicObject { types: object.types.clone(), metadata: object.metadata.clone(), data }
}

fn strip(node: &mut Node) {
    lighten(node);
    node.spec = None;
    node.metadata.annotations = None;
    if let Some(status) = &mut node.status {
        let addresses = status.addresses.take();
        *status = k8s_openapi::api::core::v1::NodeStatus { addresses, ..Default::default() };
    }
}

pub(super) fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// kube's own wait for up to a minute.
pub(super) fn retries() -> impl Backoff {
    let builder = ExponentialBuilder::default().with_min_delay(FIRST_RETRY).with_max_delay(LAST_RETRY).with_jitter();
    ResetTimerBackoff::new(ExponentialBackoff::from(builder.without_max_times()), STEADY)
}

fn cache_name(kind: &str, namespace: Option<&str>) -> String {
    namespace.map_or_else(|| kind.to_owned(), |namespace| format!("{kind} in {namespace}"))
}

/// Namespace and name, as a key.
pub(super) fn key(session: &StreamSession) -> String {
    format!("{}/{}", session.namespace().unwrap_or_default(), session.name_any())
}

/// How a Job ended, and when; `None` while it goes on.
pub(super) fn job_end(job: &Job) -> Option<(bool, Timestamp)> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended =
        conditions.iter().find(|one| ["Complete", "Failed"].contains(&one.type_.as_str()) && one.status == "True")?;
    Some((ended.type_ == "Complete", ended.last_transition_time.as_ref()?.0))
}

/// What the program of a Job's pod said last.
pub(super) fn last_words(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find_map(|one| one.state.as_ref()?.terminated.as_ref()?.message.clone())
}

fn session_of<K: Resource>(object: &K) -> Option<Trigger> {
    let name = object.meta().labels.as_ref()?.get(SESSION_LABEL)?;
    Some(ObjectRef::new(name).within(object.meta().namespace.as_deref()?))
}

fn tell<K: Resource>(triggers: &UnboundedSender<Trigger>, object: &K) {
    if let Some(session) = session_of(object) {
        // Nobody listens when the operator is about to end.
        let _ = triggers.send(session);
    }
}

/// Reads a watch to the end of the program, and tells `changed` of each object that came, changed or went.
fn follow<K>(
    name: String,
    stream: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
    observers: &Observers,
    tasks: &mut JoinSet<()>,
    mut changed: impl FnMut(&K) + Send + 'static,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    observers.readiness.expect(&name);
    let observers = observers.clone();
    tasks.spawn(async move {
        let mut stream = pin!(stream);
        while let Some(event) = stream.next().await {
            note(&name, &event, &observers);
            if let Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) = &event {
                changed(object);
            }
        }
    });
}

/// How a watch learns that it has to begin anew.
pub(super) fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(status) if status.code == 410)
}

fn note<K>(name: &str, event: &Result<Event<K>, watcher::Error>, observers: &Observers) {
    match event {
        Ok(Event::InitDone) => observers.readiness.filled(name),
        Ok(_) => {}
        Err(error) => {
            let why = explain_watch(error);
            if !is_expired(error) {
                tracing::warn!(cache = name, error = why, "a watch failed; it is tried again");
                observers.metrics.watch_failed(name.split(' ').next().unwrap_or(name));
            }
            observers.readiness.failed(name, &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Api as FakeApi, answer};
    use super::*;
    use serde_json::json;
    use std::time::Instant;
    use tokio::sync::mpsc::unbounded_channel;

    fn service() -> Value {
        json!({"metadata": {"name": "x-media", "namespace": "a", "resourceVersion": "5", "labels": {SESSION_LABEL: "x"}}, "spec": {}})
    }

    /// Lists have one Service and nothing else; watches end at once.
    fn api() -> FakeApi {
        FakeApi::new(|asked| {
            if asked.query.contains("watch=true") {
                return answer(200, Value::Null);
            }
            let items = if asked.path.ends_with("/services") { vec![service()] } else { vec![] };
            answer(
                200,
                json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "items": items}),
            )
        })
    }

    async fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < end, "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_childs_change_triggers_its_session_and_the_cache_has_it() {
        let (api, (sender, mut receiver)) = (api(), unbounded_channel());
        let observers = Observers { metrics: Metrics::new(), readiness: Readiness::default() };
        let mut tasks = JoinSet::new();
        let caches = Caches::start(&api.client(), Some("a"), &sender, &observers, &mut tasks);
        observers.readiness.expect_no_more();
        observers.readiness.served(Ok(()), Instant::now());
        let session = receiver.recv().await.unwrap();
        assert_eq!((session.name.as_str(), session.namespace.as_deref()), ("x", Some("a")));
        until("every cache is filled", || observers.readiness.missing(Instant::now()).is_empty()).await;
        let child = Child { kind: Kind::Service, name: "x-media".to_owned() };
        let found = caches.child(&child, "a").unwrap();
        assert_eq!((found["kind"].as_str(), found["apiVersion"].as_str()), (Some("Service"), Some("v1")));
        assert_eq!(caches.child(&child, "b"), None);
        let asked = api.asked();
        assert!(asked.iter().all(|asked| asked.path.contains("/namespaces/a/")), "{asked:?}");
        assert!(asked.iter().all(|asked| asked.query.contains("managed-by")), "{asked:?}");
        assert!(asked.iter().all(|asked| !asked.path.contains("secrets")), "{asked:?}");
    }

    #[test]
    fn an_api_server_that_is_back_is_noticed_within_seconds_however_long_it_was_away() {
        let waits: Vec<_> = retries().take(200).collect();
        assert!(waits[0] >= FIRST_RETRY && waits[0] <= 2 * FIRST_RETRY, "{waits:?}");
        assert!(waits[10..].iter().all(|wait| *wait >= LAST_RETRY && *wait <= 2 * LAST_RETRY), "{waits:?}");
    }

    #[tokio::test]
    async fn a_watch_that_is_refused_is_told_and_counted() {
        let forbidden = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "pods is forbidden"});
        let api = FakeApi::new(move |_| answer(403, forbidden.clone()));
        let (sender, _receiver) = unbounded_channel();
        let observers = Observers { metrics: Metrics::new(), readiness: Readiness::default() };
        let mut tasks = JoinSet::new();
        Caches::start(&api.client(), None, &sender, &observers, &mut tasks);
        until("the refusal is told", || {
            observers.readiness.missing(Instant::now()).iter().any(|line| line.starts_with("Pod: pods is forbidden"))
        })
        .await;
        assert!(observers.metrics.render(false).contains(r#"watch_errors_total{kind="Pod"}"#));
        assert!(nodes(&api.client(), vec![], &observers, &mut tasks).await.is_none(), "nodes are done without");
    }
}
