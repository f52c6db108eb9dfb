//! Events that may explain why a pod does not come up, by watches. The API server has no index of events: each list would
//! read all of a namespace, most often when that has the most of them.

use super::caches::{Observers, Trigger, config, is_expired, retries};
use super::objects::scoped;
use super::observe::is_ready;
use crate::error::explain_watch;
use crate::plan::{Child, Kind, Warning, names};
use futures_util::{Stream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

/// How far back events explain anything; the API server keeps them for as long, by default.
const EXPLAINS: SignedDuration = SignedDuration::from_hours(1);
/// How often what explains nothing any more is dropped.
const SWEEP: SignedDuration = SignedDuration::from_mins(5);
/// Different words that are kept about one object.
const WORDS: usize = 8;
/// What is told of a claim besides warnings.
const CLAIM_REASONS: [&str; 2] = ["FailedBinding", "WaitForFirstConsumer"];
/// What the watches ask for.
const WATCHED: [&str; 3] = [
    "involvedObject.kind=Pod,type=Warning",
    "involvedObject.kind=StatefulSet,type=Warning",
    "involvedObject.kind=PersistentVolumeClaim",
];

/// What events have said lately about what bears the names of a session's objects.
#[derive(Clone, Default)]
pub(super) struct Explanations(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    about: HashMap<Subject, Vec<Said>>,
    swept: Timestamp,
}

/// What an event is about: a kind of object that a session has one of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    kind: Kind,
    namespace: String,
    session: String,
}

/// One of its events: the uid of the object, and what was said.
#[derive(Clone)]
struct Said {
    uid: String,
    warning: Warning,
}

impl Explanations {
    /// Begins to watch events in `namespace`, or everywhere; what is new triggers a pass. Nobody waits for it: what cannot
    /// be read explains nothing, and all else goes on.
    pub(super) fn start(
        client: &Client,
        namespace: Option<&str>,
        triggers: &UnboundedSender<Trigger>,
        observers: &Observers,
        tasks: &mut JoinSet<()>,
    ) -> Explanations {
        let explanations = Explanations::default();
        for fields in WATCHED {
            let events: Api<Event> = scoped(client, namespace);
            let stream = watcher(events, config().fields(fields)).backoff(retries());
            tasks.spawn(follow(stream, explanations.clone(), triggers.clone(), observers.clone()));
        }
        explanations
    }

    /// Remembers an event; gives the session that it may be about, where it says something new.
    fn keep(&self, event: Event, now: Timestamp) -> Option<Trigger> {
        let (subject, said) = read(event)?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.sweep(now);
        if said.warning.at < now - EXPLAINS {
            return None;
        }
        let trigger = ObjectRef::new(&subject.session).within(&subject.namespace);
        let all = known.about.entry(subject).or_default();
        let same = |one: &&mut Said| {
            (&one.uid, &one.warning.reason, &one.warning.message)
                == (&said.uid, &said.warning.reason, &said.warning.message)
        };
        if let Some(one) = all.iter_mut().find(same) {
            one.warning.at = one.warning.at.max(said.warning.at);
            return None;
        }
        all.push(said);
        if all.len() > WORDS {
            let oldest = (0..all.len()).min_by_key(|number| all[*number].warning.at);
            all.swap_remove(oldest.unwrap_or_default());
        }
        Some(trigger)
    }

    /// What may explain why the pod does not come up, the newest last: nothing while it is well, and nothing about what is
    /// not there.
    pub(super) fn of(
        &self,
        namespace: &str,
        session: &str,
        children: &BTreeMap<Child, Value>,
        pod: Option<&Pod>,
        now: Timestamp,
    ) -> Vec<Warning> {
        if pod.is_some_and(is_ready) {
            return Vec::new();
        }
        let is_there = |kind, name: &str| children.contains_key(&Child { kind, name: name.to_owned() });
        let mut about = Vec::new();
        match pod {
            Some(pod) => about.push((Kind::Pod, pod.uid())),
            None if is_there(Kind::StatefulSet, session) => about.push((Kind::StatefulSet, None)),
            None => {}
        }
        if is_there(Kind::PersistentVolumeClaim, &names::claim(session)) {
            about.push((Kind::PersistentVolumeClaim, None));
        }
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut warnings = Vec::new();
        for (kind, uid) in about {
            let subject = Subject { kind, namespace: namespace.to_owned(), session: session.to_owned() };
            let said = known.about.get(&subject).into_iter().flatten();
            let lately = said.filter(|said| uid.as_ref().is_none_or(|uid| *uid == said.uid));
            warnings.extend(lately.map(|said| &said.warning).filter(|one| one.at >= now - EXPLAINS).cloned());
        }
        warnings.sort_by_key(|warning| warning.at);
        warnings
    }
}

impl Known {
    fn sweep(&mut self, now: Timestamp) {
        if now.duration_since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        self.about.retain(|_, said| {
            said.retain(|said| said.warning.at >= now - EXPLAINS);
            !said.is_empty()
        });
    }
}

async fn follow(
    stream: impl Stream<Item = watcher::Result<watcher::Event<Event>>> + Send + 'static,
    explanations: Explanations,
    triggers: UnboundedSender<Trigger>,
    observers: Observers,
) {
    let mut stream = pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Apply(event) | watcher::Event::InitApply(event)) => {
                if let Some(session) = explanations.keep(event, Timestamp::now()) {
                    // Nobody listens when the operator is about to end.
                    let _ = triggers.send(session);
                }
            }
            Ok(_) => {}
            Err(error) if is_expired(&error) => {}
            Err(error) => {
                let error = explain_watch(&error);
                tracing::warn!(error, "events cannot be read: why a pod does not come up may stay unknown");
                observers.metrics.watch_failed("Event");
            }
        }
    }
}

/// What an event says about something that may be a session's.
fn read(event: Event) -> Option<(Subject, Said)> {
    let object = event.involved_object;
    let name = object.name?;
    let (kind, session) = match object.kind?.as_str() {
        "Pod" => (Kind::Pod, name.strip_suffix(names::POD)?),
        "StatefulSet" => (Kind::StatefulSet, name.as_str()),
        "PersistentVolumeClaim" => (Kind::PersistentVolumeClaim, name.strip_suffix(names::CLAIM)?),
        _ => return None,
    };
    let reason = event.reason.unwrap_or_default();
    let of_the_claim = kind == Kind::PersistentVolumeClaim && CLAIM_REASONS.contains(&reason.as_str());
    if event.type_.as_deref() != Some("Warning") && !of_the_claim {
        return None;
    }
    let series = event.series.and_then(|series| series.last_observed_time).map(|time| time.0);
    let last = event.last_timestamp.map(|time| time.0);
    let once = event.event_time.map(|time| time.0);
    let created = event.metadata.creation_timestamp.map(|time| time.0);
    let subject = Subject { kind, namespace: object.namespace?, session: session.to_owned() };
    let warning = Warning {
        about: kind.name().to_owned(),
        reason,
        message: event.message.unwrap_or_default(),
        at: series.or(last).or(once).or(created)?,
    };
    Some((subject, Said { uid: object.uid.unwrap_or_default(), warning }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Api as FakeApi, answer};
    use super::*;
    use crate::metrics::Metrics;
    use crate::readiness::Readiness;
    use serde_json::json;
    use tokio::sync::mpsc::unbounded_channel;

    fn now() -> Timestamp {
        "2026-01-01T00:30:00Z".parse().unwrap()
    }

    fn event(kind: &str, name: &str, type_: &str, reason: &str, message: &str) -> Event {
        let event = json!({
            "metadata": {"name": "e", "namespace": "a"},
            "involvedObject": {"kind": kind, "namespace": "a", "name": name, "uid": "u"},
            "type": type_, "reason": reason, "message": message,
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:10:00Z",
        });
        serde_json::from_value(event).unwrap()
    }

    fn of(explanations: &Explanations, there: &[(Kind, &str)], pod: Option<&Pod>) -> Vec<String> {
        let children = there.iter().map(|(kind, name)| (Child { kind: *kind, name: (*name).to_owned() }, json!({})));
        let warnings = explanations.of("a", "x", &children.collect(), pod, now());
        warnings.into_iter().map(|one| one.message).collect()
    }

    fn pod(uid: &str, ready: &str) -> Pod {
        let conditions = json!([{"type": "Ready", "status": ready}]);
        serde_json::from_value(json!({"metadata": {"uid": uid}, "status": {"conditions": conditions}})).unwrap()
    }

    #[test]
    fn warnings_explain_and_so_does_what_a_claim_waits_for() {
        let read = |kind, name, type_, reason| read(event(kind, name, type_, reason, "m"));
        let (subject, said) = read("Pod", "x-0", "Warning", "FailedMount").unwrap();
        assert_eq!((subject.session.as_str(), said.warning.at), ("x", "2026-01-01T00:10:00Z".parse().unwrap()));
        assert!(read("Pod", "x-0", "Normal", "Pulled").is_none());
        assert!(read("PersistentVolumeClaim", "x-data", "Normal", "FailedBinding").is_some());
        assert!(read("PersistentVolumeClaim", "x-data", "Normal", "Provisioning").is_none());
        assert!(read("Pod", "deployment-7f9c-abcde", "Warning", "BackOff").is_none(), "of nobody's session");
        assert!(read("Node", "x", "Warning", "Rebooted").is_none());
    }

    #[test]
    fn of_what_is_not_there_and_of_a_pod_that_is_well_nothing_is_told() {
        let explanations = Explanations::default();
        for event in [
            event("StatefulSet", "x", "Warning", "FailedCreate", "of the set"),
            event("PersistentVolumeClaim", "x-data", "Normal", "FailedBinding", "of the claim"),
            event("Pod", "x-0", "Warning", "FailedMount", "of the pod"),
            event("Pod", "y-0", "Warning", "FailedMount", "of another's pod"),
        ] {
            assert!(explanations.keep(event, now()).is_some());
        }
        let (set, claim) = ((Kind::StatefulSet, "x"), (Kind::PersistentVolumeClaim, "x-data"));
        assert!(of(&explanations, &[], None).is_empty());
        assert_eq!(of(&explanations, &[set, claim], None), ["of the set", "of the claim"]);
        assert_eq!(of(&explanations, &[set, claim], Some(&pod("u", "False"))), ["of the pod", "of the claim"]);
        assert_eq!(of(&explanations, &[set], Some(&pod("an earlier one", "False"))), [""; 0]);
        assert!(of(&explanations, &[set, claim], Some(&pod("u", "True"))).is_empty());
    }

    #[test]
    fn only_what_is_new_triggers_a_pass() {
        let explanations = Explanations::default();
        let quota = || event("StatefulSet", "x", "Warning", "FailedCreate", "quota");
        let trigger = explanations.keep(quota(), now()).unwrap();
        assert_eq!((trigger.name.as_str(), trigger.namespace.as_deref()), ("x", Some("a")));
        assert!(explanations.keep(quota(), now()).is_none(), "said once more");
        let policy = event("StatefulSet", "x", "Warning", "FailedCreate", "policy");
        assert!(explanations.keep(policy, now()).is_some());
    }

    #[test]
    fn what_is_old_is_dropped_and_what_is_much_is_cut() {
        let explanations = Explanations::default();
        for number in 0..20 {
            explanations.keep(event("Pod", "x-0", "Warning", "BackOff", &number.to_string()), now());
        }
        assert_eq!(of(&explanations, &[], Some(&pod("u", "False"))).len(), WORDS);
        let later = now() + EXPLAINS;
        assert!(explanations.keep(event("Pod", "y-0", "Warning", "BackOff", "too old"), later).is_none());
        assert!(explanations.0.lock().unwrap().about.is_empty());
    }

    #[tokio::test]
    async fn they_are_watched_by_kind_and_tell_their_session() {
        let api = FakeApi::new(|asked| {
            if asked.query.contains("watch=true") {
                return answer(200, Value::Null);
            }
            let mut event = event("StatefulSet", "x", "Warning", "FailedCreate", "quota");
            event.last_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now()));
            let items = if asked.query.contains("StatefulSet") { vec![event] } else { vec![] };
            answer(
                200,
                json!({"kind": "EventList", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "items": items}),
            )
        });
        let observers = Observers { metrics: Metrics::new(), readiness: Readiness::default() };
        let (sender, mut receiver) = unbounded_channel();
        let mut tasks = JoinSet::new();
        let explanations = Explanations::start(&api.client(), Some("a"), &sender, &observers, &mut tasks);
        let session = receiver.recv().await.unwrap();
        assert_eq!((session.name.as_str(), session.namespace.as_deref()), ("x", Some("a")));
        let children = BTreeMap::from([(Child { kind: Kind::StatefulSet, name: "x".to_owned() }, json!({}))]);
        assert_eq!(explanations.of("a", "x", &children, None, Timestamp::now())[0].message, "quota");
        let asked = api.asked();
        assert!(asked.iter().all(|asked| asked.path.contains("/namespaces/a/events")), "{asked:?}");
        assert!(asked.iter().all(|asked| asked.query.contains("involvedObject.kind")), "{asked:?}");
    }
}
