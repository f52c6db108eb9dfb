//! A cluster as small as can be: it keeps what is written, adds what an API server adds, makes the pod from the
//! StatefulSet, and answers for the media server.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Node, Pod, Secret},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};
use streamsession_api::{StreamSession, condition};

use crate::plan::{
    Apply, Child, CleanupRun, Copied, DeletePod, Elsewhere, FinalJob, Kind, Observed, OwnSecret, Plan, Random,
    SecretSummary, ServerError, ServerReport, SessionPush, Settings, Write, children, compare, names, own_secrets,
    plan, references,
};

pub(super) const NODE_INTERNAL: &str = "10.1.2.3";
pub(super) const NODE_EXTERNAL: &str = "203.0.113.7";
pub(super) const POD_IP: &str = "10.244.0.9";

/// The cluster, with one session.
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) session: StreamSession,
    pub(super) settings: Settings,
    /// Everything that the operator may write, Secrets included; the pod is apart.
    pub(super) objects: BTreeMap<Child, Value>,
    pub(super) pod: Option<Value>,
    pub(super) node: Option<Node>,
    pub(super) server: Option<ServerReport>,
    /// In the operator's namespace.
    pub(super) copy: Option<Copied>,
    pub(super) final_job: Option<FinalJob>,
    /// The clean-up that ended last.
    pub(super) cleanup: Option<CleanupRun>,
    /// What the metrics were told: ok, recordings, bytes.
    pub(super) cleaned: Vec<(bool, u64, u64)>,
    /// Whether the store answers: else nothing is uploaded, and no final Job ends well.
    pub(super) store_answers: bool,
    /// Whether the store has objects of the session.
    pub(super) objects_stored: bool,
    /// Whether a precondition that does not hold is passed over, as the API server's 404 and 409 are; else it is a fault.
    pub(super) tolerant: bool,
    /// The session is gone, and all that it owned.
    pub(super) gone: bool,
    /// What is written, in order: `apply Service front-door`.
    pub(super) log: Vec<String>,
    pub(super) events: Vec<String>,
    /// Plans so far; also the source of uids, versions and randomness.
    counter: u64,
}

impl World {
    pub(super) fn new(session: StreamSession) -> Self {
        let node = json!({"metadata": {"name": "node"}, "status": {"addresses": [
            {"type": "InternalIP", "address": NODE_INTERNAL},
            {"type": "ExternalIP", "address": NODE_EXTERNAL},
            {"type": "Hostname", "address": "node"},
        ]}});
        let mut world = Self {
            now: super::start(),
            session,
            settings: super::settings(),
            objects: BTreeMap::new(),
            pod: None,
            node: Some(serde_json::from_value(node).unwrap()),
            server: None,
            copy: None,
            final_job: None,
            cleanup: None,
            cleaned: Vec::new(),
            store_answers: true,
            objects_stored: true,
            tolerant: false,
            gone: false,
            log: Vec::new(),
            events: Vec::new(),
            counter: 0,
        };
        world.supply_references();
        world
    }

    /// Every Secret that the spec names, with the keys that are wanted.
    pub(super) fn supply_references(&mut self) {
        for reference in references(&self.session) {
            let data: serde_json::Map<String, Value> =
                reference.keys.iter().map(|key| (key.clone(), json!(ByteString(b"of the user".to_vec())))).collect();
            let mut secret = json!({"metadata": {"name": reference.name, "namespace": "cameras"}, "data": data});
            self.stamp(&mut secret);
            self.objects.entry(Child { kind: Kind::Secret, name: reference.name }).or_insert(secret);
        }
    }

    fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Uid and version of a new object, or a new version of an old one.
    fn stamp(&mut self, object: &mut Value) {
        let number = self.next();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{number}"));
            object["metadata"]["creationTimestamp"] = json!(self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
        object["metadata"]["resourceVersion"] = json!(number.to_string());
    }

    pub(super) fn object(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.objects.get(&Child { kind, name: name.to_owned() })
    }

    pub(super) fn object_mut(&mut self, kind: Kind, name: &str) -> &mut Value {
        self.objects.get_mut(&Child { kind, name: name.to_owned() }).expect("it is there")
    }

    fn secret(&self, name: &str) -> Option<Secret> {
        Some(serde_json::from_value(self.object(Kind::Secret, name)?.clone()).unwrap())
    }

    pub(super) fn value(&self, secret: &str, key: &str) -> Option<String> {
        OwnSecret(self.secret(secret)?).value(key).map(str::to_owned)
    }

    pub(super) fn observe(&self) -> Observed {
        let mut observed = Observed::nothing(self.now);
        for child in children(&self.session) {
            if let Some(object) = self.objects.get(&child) {
                observed.children.insert(child, object.clone());
            }
        }
        for name in own_secrets(&self.session) {
            if let Some(secret) = self.secret(&name) {
                observed.secrets.insert(name, OwnSecret(secret));
            }
        }
        for reference in references(&self.session) {
            if let Some(secret) = self.secret(&reference.name) {
                observed.references.insert(reference.name, SecretSummary::of(&secret));
            }
        }
        observed.pod = self.pod.clone().map(|pod| serde_json::from_value::<Pod>(pod).unwrap());
        observed.node = self.node.clone();
        observed.server = match (&self.pod, &self.server) {
            (None, _) => None,
            (Some(_), Some(report)) => Some(Ok(report.clone())),
            (Some(_), None) => Some(Err(ServerError::Unreachable("connection refused".into()))),
        };
        observed.copy = self.copy.clone();
        observed.reclaim = self.final_job.clone();
        observed.cleanup = self.cleanup.clone();
        observed
    }

    pub(super) fn plan(&mut self) -> Plan {
        let mut random = [0; 32];
        random[..8].copy_from_slice(&self.next().to_le_bytes());
        plan(&self.session, &self.settings, &self.observe(), Random(random))
    }

    /// One pass of the operator, and what the cluster makes of it. Whether anything was written.
    pub(super) fn pass(&mut self) -> bool {
        let plan = self.plan();
        let before = self.log.len();
        self.carry_out(plan);
        self.controllers();
        self.now += SignedDuration::from_secs(11);
        self.log.len() > before
    }

    /// The session is deleted, as by kubectl; what waits for nothing is gone at once.
    pub(super) fn delete_session(&mut self) {
        self.session.metadata.deletion_timestamp = Some(Time(self.now));
        *self.session.metadata.generation.get_or_insert(0) += 1;
        self.collect();
    }

    /// The garbage collector: a session without finalizers goes, and takes what it owns along.
    fn collect(&mut self) {
        let held = self.session.metadata.finalizers.iter().flatten().next().is_some();
        if self.session.metadata.deletion_timestamp.is_none() || held {
            return;
        }
        self.gone = true;
        self.objects.retain(|_, object| object["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty));
        (self.pod, self.server) = (None, None);
    }

    /// Passes until the session is gone. How many.
    pub(super) fn settle_deletion(&mut self) -> Result<usize, String> {
        for passes in 0..40 {
            if self.gone {
                return Ok(passes);
            }
            self.pass();
        }
        Err(format!("not gone: {:?}; {:?}", self.condition(condition::READY), self.log))
    }

    /// Passes until one writes nothing and nothing moves. How many.
    pub(super) fn settle(&mut self) -> usize {
        for passes in 1..=30 {
            let before = (self.pod.clone(), self.server.clone());
            if !self.pass() && before == (self.pod.clone(), self.server.clone()) {
                return passes;
            }
        }
        panic!("no rest after 30 passes; the last writes: {:#?}", &self.log[self.log.len().saturating_sub(8)..]);
    }

    pub(super) fn carry_out(&mut self, plan: Plan) {
        if let Some(finalizers) = plan.hold {
            self.session.metadata.finalizers = Some(finalizers);
            self.log.push("hold".to_owned());
        }
        for step in plan.elsewhere {
            self.carry_out_elsewhere(step);
        }
        for apply in plan.apply {
            self.write(apply);
        }
        for delete in plan.delete {
            let same = self.objects.get(&delete.child).is_some_and(|seen| seen["metadata"]["uid"] == *delete.uid);
            assert!(same || self.tolerant, "only what was seen is deleted: {}", delete.child);
            if !same {
                continue;
            }
            self.objects.remove(&delete.child);
            self.log.push(format!("delete {}", delete.child));
        }
        if let Some(DeletePod { uid, .. }) = plan.delete_pod {
            let same = self.pod.as_ref().is_some_and(|pod| pod["metadata"]["uid"] == *uid);
            assert!(same || self.tolerant, "only what was seen is deleted");
            if same {
                (self.pod, self.server) = (None, None);
                self.log.push("delete Pod".to_owned());
            }
        }
        if let Some(SessionPush { generation, spec, announced, turn_urls, drain }) = plan.push {
            let mut nobody = ServerReport::default();
            assert!(self.server.is_some() || self.tolerant, "only who answers is pushed to");
            let server = self.server.as_mut().unwrap_or(&mut nobody);
            server.generation = generation;
            server.limits.max_publishers = spec.limits.max_publishers;
            server.limits.max_subscribers_per_room = spec.limits.max_subscribers_per_room;
            server.announced = announced;
            server.announced.push(format!("{POD_IP}:{}", spec.exposure.media_port));
            server.turn_urls = turn_urls;
            server.draining |= drain;
            self.log.push("push".to_owned());
        }
        if let Some(status) = plan.status {
            let written = serde_json::to_value(status).unwrap();
            self.session.status = Some(serde_json::from_value(written).unwrap());
            let field = json!({
                "manager": names::FIELD_MANAGER, "operation": "Apply", "subresource": "status",
                "time": self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            });
            self.session.metadata.managed_fields = Some(vec![serde_json::from_value(field).unwrap()]);
            self.log.push("status".to_owned());
        }
        self.cleaned.extend(plan.cleaned.map(|cleaned| (cleaned.ok, cleaned.recordings, cleaned.bytes)));
        self.events.extend(plan.events.into_iter().map(|note| {
            format!("{} {}: {}", if note.warning { "Warning" } else { "Normal" }, note.reason, note.message)
        }));
        if let Some(finalizers) = plan.release {
            self.session.metadata.finalizers = Some(finalizers);
            self.log.push("release".to_owned());
            self.collect();
        }
    }

    fn carry_out_elsewhere(&mut self, step: Elsewhere) {
        match step {
            Elsewhere::Copy(copy) => {
                let source = copy.to["metadata"]["annotations"][names::COPIED_FROM].as_str().unwrap().to_owned();
                let there = self.object(Kind::Secret, &copy.from).is_some();
                assert!(there || self.tolerant, "only what is there is copied");
                if !there {
                    return;
                }
                assert!(copy.to["data"].is_null(), "no value is in a plan");
                self.copy = Some(Copied { uid: "copy".into(), source });
                self.log.push("copy".to_owned());
            }
            Elsewhere::CreateJob(job) => {
                assert!(self.pod.is_none() || self.tolerant, "what deletes does not run beside what uploads");
                let wants_keys = job["spec"]["template"].to_string().contains("secretName");
                assert!(!wants_keys || self.copy.is_some(), "its keys are there");
                if self.final_job.is_none() {
                    let uid = format!("job-{}", self.next());
                    self.final_job = Some(FinalJob { uid, leaving: false, ended: None, said: None });
                }
                self.log.push("create Job".to_owned());
            }
            Elsewhere::DeleteJob { uid, .. } => {
                let same = self.final_job.as_ref().is_some_and(|job| job.uid == uid);
                assert!(same || self.tolerant, "only what was seen is deleted");
                self.final_job = self.final_job.take().filter(|_| !same);
                self.log.push("delete Job".to_owned());
            }
            Elsewhere::DeleteCopy { uid, .. } => {
                let same = self.copy.as_ref().is_some_and(|copy| uid.as_ref().is_none_or(|uid| copy.uid == *uid));
                assert!(same || uid.is_none() || self.tolerant, "only what was seen is deleted");
                if same {
                    self.copy = None;
                    self.log.push("delete copy".to_owned());
                }
            }
        }
    }

    fn write(&mut self, Apply { child, write, object }: Apply) {
        assert_eq!(object["kind"], child.kind.name());
        assert_eq!(object["apiVersion"], child.kind.api_version());
        assert_eq!(object["metadata"]["name"], *child.name);
        assert_eq!(object["metadata"]["namespace"], "cameras");
        self.log.push(format!("{write:?} {child}"));
        if child.kind == Kind::Pod {
            assert_eq!(write, Write::Merge);
            match self.pod.as_mut().filter(|pod| object["metadata"]["uid"] == pod["metadata"]["uid"]) {
                Some(pod) => merge(pod, &object),
                None => assert!(self.tolerant, "only what was seen is patched"),
            }
            return;
        }
        let seen = self.objects.get(&child).cloned();
        let mut new = match (write, &seen) {
            (Write::Create, Some(_)) => return,
            (Write::Merge, None) if self.tolerant => return,
            (Write::Merge, None) => panic!("{child} is patched and not there"),
            (Write::Merge, Some(seen)) => {
                let newer = child.kind == Kind::Secret
                    && seen["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"];
                let same = seen["metadata"]["uid"] == object["metadata"]["uid"] && !newer;
                assert!(same || self.tolerant, "only what was seen is patched: {child}");
                if !same {
                    return;
                }
                let mut new = seen.clone();
                merge(&mut new, &object);
                new
            }
            (Write::Create | Write::Apply, seen) => {
                let mut new = object;
                for field in ["uid", "creationTimestamp", "resourceVersion", "generation"] {
                    new["metadata"][field] = seen.as_ref().map_or(Value::Null, |seen| seen["metadata"][field].clone());
                }
                new["status"] = seen.as_ref().map_or(Value::Null, |seen| seen["status"].clone());
                new
            }
        };
        normalise(&mut new);
        if child.kind == Kind::Service {
            self.service(&mut new, seen.as_ref());
        }
        if child.kind == Kind::StatefulSet {
            let changed = seen.as_ref().is_none_or(|seen| seen["spec"] != new["spec"]);
            let generation = seen.as_ref().and_then(|seen| seen["metadata"]["generation"].as_i64()).unwrap_or(0);
            new["metadata"]["generation"] = json!(generation + i64::from(changed));
        }
        self.stamp(&mut new);
        self.objects.insert(child, new);
    }

    /// What the API server adds to a Service.
    fn service(&mut self, new: &mut Value, seen: Option<&Value>) {
        new["spec"]["clusterIP"] = json!("10.96.0.10");
        new["spec"]["clusterIPs"] = json!(["10.96.0.10"]);
        new["spec"]["ipFamilies"] = json!(["IPv4"]);
        new["spec"]["sessionAffinity"] = json!("None");
        let outside = ["NodePort", "LoadBalancer"].iter().any(|type_| new["spec"]["type"] == *type_);
        for index in 0..new["spec"]["ports"].as_array().map_or(0, Vec::len) {
            let old = seen.map_or(Value::Null, |seen| seen["spec"]["ports"][index]["nodePort"].clone());
            let port = &mut new["spec"]["ports"][index];
            if outside && port["nodePort"].is_null() {
                port["nodePort"] = if old.is_null() { json!(30000 + self.next() % 2000) } else { old };
            }
        }
        if new["spec"]["type"] == "LoadBalancer" {
            new["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}});
        } else {
            new["status"] = json!({"loadBalancer": {}});
        }
    }

    /// What the controllers do: they bind the claim, look at the StatefulSet, and take the pod one step further.
    pub(super) fn controllers(&mut self) {
        for object in self.objects.values_mut() {
            match object["kind"].as_str() {
                Some("PersistentVolumeClaim") => object["status"] = json!({"phase": "Bound"}),
                Some("StatefulSet") => {
                    object["status"] = json!({"observedGeneration": object["metadata"]["generation"]})
                }
                _ => {}
            }
        }
        if let Some(job) = self.final_job.as_mut().filter(|job| job.ended.is_none()) {
            job.ended = Some((self.store_answers, self.now));
            job.said = Some(match self.store_answers {
                true => json!({"recordings": 2, "bytes": 9}).to_string(),
                false => json!({"error": "the store does not answer"}).to_string(),
            });
            self.objects_stored &= !self.store_answers;
        }
        if let Some(server) = self.server.as_mut().filter(|server| server.draining) {
            server.publishers = 0;
            if self.store_answers {
                server.recordings.pending_uploads = server.recordings.pending_uploads.saturating_sub(1);
            }
            server.store.ok = self.store_answers;
            server.drained = server.recordings.pending_uploads == 0;
        }
        if self.pod.as_ref().is_some_and(|pod| !pod["metadata"]["deletionTimestamp"].is_null()) {
            (self.pod, self.server) = (None, None);
        }
        let name = self.session.metadata.name.clone().unwrap();
        let Some(set) = self.object(Kind::StatefulSet, &name).cloned() else {
            // Ended by the collector, one step after the other.
            let now = self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            if let Some(pod) = &mut self.pod {
                pod["metadata"]["deletionTimestamp"] = json!(now);
            }
            return;
        };
        match &self.pod {
            None => {
                let template = &set["spec"]["template"];
                let mut pod = json!({"metadata": template["metadata"], "spec": template["spec"]});
                pod["metadata"]["name"] = json!(names::pod(&name));
                pod["metadata"]["namespace"] = json!("cameras");
                pod["status"] = json!({"phase": "Pending"});
                self.stamp(&mut pod);
                self.pod = Some(pod);
            }
            Some(pod) if pod["status"]["phase"] == "Pending" => self.run_pod(),
            Some(_) => {}
        }
    }

    /// The pod runs and is ready, and its server has started.
    pub(super) fn run_pod(&mut self) {
        let now = self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let pod = self.pod.as_mut().expect("there is a pod");
        let running = |container: &Value| {
            json!({
                "name": container["name"], "image": container["image"], "imageID": "", "ready": true, "started": true,
                "restartCount": 0, "state": {"running": {"startedAt": now}},
            })
        };
        let statuses: Vec<Value> = pod["spec"]["containers"].as_array().unwrap().iter().map(running).collect();
        pod["status"] = json!({
            "phase": "Running", "podIP": POD_IP, "hostIP": NODE_INTERNAL, "hostIPs": [{"ip": NODE_INTERNAL}],
            "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
            "containerStatuses": statuses,
        });
        let mode = format!("{:?}", self.session.spec.storage.mode);
        let owner = (mode == "External").then(|| "owner-of-the-volume".to_owned());
        self.server = Some(ServerReport {
            store: crate::plan::ReportedStore { mode, owner, ..Default::default() },
            ..Default::default()
        });
    }

    pub(super) fn change(&mut self, change: impl FnOnce(&mut Value)) {
        let mut spec = serde_json::to_value(&self.session.spec).unwrap();
        change(&mut spec);
        self.session.spec = serde_json::from_value(spec).unwrap();
        *self.session.metadata.generation.get_or_insert(0) += 1;
        self.supply_references();
    }

    pub(super) fn condition(&self, type_: &str) -> (&str, &str, &str) {
        super::condition_of(self.session.status.as_ref(), type_)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.condition(condition::READY).0 == "True"
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}

/// What is empty is left out and quantities are written in one way, as the API server does.
fn normalise(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                if ["cpu", "memory", "storage"].contains(&key.as_str()) {
                    let text = value.as_str().unwrap_or_default();
                    *value = compare::quantity(text).map_or(value.clone(), |milli| json!(format!("{milli}m")));
                }
                normalise(value);
            }
            object.retain(|key, value| {
                let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty) || *value == json!(0);
                !empty || key == "exitCode"
            });
        }
        Value::Array(values) => values.iter_mut().for_each(normalise),
        _ => {}
    }
}
