//! A cluster in memory with one session: it keeps what the operator's plans write, makes the pod of the StatefulSet, and
//! answers for the media server. It refuses nothing, and adds nothing of an API server's own.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use operator::plan::{
    Apply, Images, Kind, Observed, OwnSecret, Plan, Random, SecretSummary, ServerReport, Settings, Write, names, plan,
    references,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use streamsession_api::StreamSession;

/// Namespace of the session.
pub const NAMESPACE: &str = "cameras";

const POD_IP: &str = "10.244.0.9";

/// The cluster.
pub struct World {
    /// The session, with the status that was written last.
    pub session: StreamSession,
    /// What the next plan is made from.
    pub observed: Observed,
    /// Every event so far.
    pub events: Vec<String>,
    settings: Settings,
    counter: u64,
}

impl World {
    /// With a session of this name and spec, of which nothing is there yet but the Secrets that it names. Fails when the
    /// session cannot be decoded.
    pub fn new(name: &str, spec: &Value) -> Result<World, serde_json::Error> {
        let session: StreamSession = serde_json::from_value(json!({
            "apiVersion": "media.streamsession.io/v1alpha1",
            "kind": "StreamSession",
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": "session-uid", "generation": 1},
            "spec": spec,
        }))?;
        let images =
            Images { media_server: "media-server:1".into(), coturn: "coturn:1".into(), minio: "minio:1".into() };
        let mut world = World {
            session,
            observed: Observed::nothing(Timestamp::UNIX_EPOCH),
            events: Vec::new(),
            settings: Settings {
                images,
                pull_policy: Some("IfNotPresent".into()),
                pull_secrets: Vec::new(),
                operator_namespace: Some("streamsession-system".into()),
                rotate_secrets_after: Some(Duration::from_secs(30 * 24 * 3600)),
                proxies: Default::default(),
            },
            counter: 0,
        };
        for reference in references(&world.session) {
            let version = format!("{}/1", reference.name);
            let known = world.observed.references.entry(reference.name);
            let keys = &mut known.or_insert(SecretSummary { keys: BTreeSet::new(), version }).keys;
            keys.extend(reference.keys);
        }
        Ok(world)
    }

    /// What the operator would do now.
    pub fn plan(&mut self) -> Plan {
        self.counter += 1;
        let mut random = [0; 32];
        random[..8].copy_from_slice(&self.counter.to_le_bytes());
        plan(&self.session, &self.settings, &self.observed, Random(random))
    }

    /// Does what a plan says, and what a cluster makes of it.
    pub fn carry_out(&mut self, plan: Plan) {
        for apply in plan.apply {
            self.write(apply);
        }
        for delete in plan.delete {
            self.observed.children.remove(&delete.child);
        }
        if plan.delete_pod.is_some() {
            (self.observed.pod, self.observed.server) = (None, None);
        }
        if let (Some(push), Some(Ok(report))) = (plan.push, &mut self.observed.server) {
            report.generation = push.generation;
            report.announced = push.announced;
            report.turn_urls = push.turn_urls;
        }
        if let Some(status) = plan.status {
            self.session.status = Some(status);
        }
        self.events.extend(plan.events.into_iter().map(|note| format!("{}: {}", note.reason, note.message)));
        self.controllers();
    }

    /// Plans and carries out until nothing is written any more, at most `passes` times; whether it came to rest.
    pub fn settle(&mut self, passes: usize) -> bool {
        for _ in 0..passes {
            let plan = self.plan();
            let rests =
                plan.apply.is_empty() && plan.delete.is_empty() && plan.delete_pod.is_none() && plan.push.is_none();
            self.carry_out(plan);
            if rests {
                return true;
            }
        }
        false
    }

    /// Every object but Secrets and the pod, by what it is.
    pub fn objects(&self) -> impl Iterator<Item = &Value> {
        self.observed.children.values()
    }

    /// The one object of a kind that has the session's own name.
    pub fn object(&self, kind: Kind) -> Option<&Value> {
        let name = self.session.metadata.name.as_deref().unwrap_or_default();
        self.observed
            .children
            .iter()
            .find(|(child, _)| child.kind == kind && child.name == name)
            .map(|(_, object)| object)
    }

    /// Values of all Secrets that the operator made.
    pub fn secret_values(&self) -> Vec<String> {
        let data = self.observed.secrets.values().flat_map(|secret| secret.0.data.iter().flatten());
        data.map(|(_, ByteString(value))| String::from_utf8_lossy(value).into_owned()).collect()
    }

    fn write(&mut self, Apply { child, write, object }: Apply) {
        self.counter += 1;
        let mut new = match child.kind {
            Kind::Secret => {
                self.observed.secrets.get(&child.name).and_then(|secret| serde_json::to_value(&secret.0).ok())
            }
            Kind::Pod => self.observed.pod.as_ref().and_then(|pod| serde_json::to_value(pod).ok()),
            _ => self.observed.children.get(&child).cloned(),
        };
        match (&mut new, write) {
            (Some(seen), Write::Merge) => merge(seen, &object),
            (Some(_), Write::Create) => return,
            (seen, _) => {
                let uid = seen.as_ref().map_or(Value::Null, |seen| seen["metadata"]["uid"].clone());
                let mut object = object;
                object["metadata"]["uid"] = if uid.is_null() { json!(format!("uid-{}", self.counter)) } else { uid };
                *seen = Some(object);
            }
        }
        let Some(mut new) = new else { return };
        new["metadata"]["resourceVersion"] = json!(self.counter.to_string());
        match child.kind {
            Kind::Secret => {
                if let Ok(secret) = serde_json::from_value::<Secret>(new) {
                    self.observed.secrets.insert(child.name, OwnSecret(secret));
                }
            }
            Kind::Pod => self.observed.pod = serde_json::from_value(new).ok(),
            _ => {
                self.observed.children.insert(child, new);
            }
        }
    }

    /// The controllers of a cluster: the claim is bound, ports of nodes are given out, the pod is made and runs.
    fn controllers(&mut self) {
        for (child, object) in &mut self.observed.children {
            match child.kind {
                Kind::PersistentVolumeClaim => object["status"] = json!({"phase": "Bound"}),
                Kind::Service if object["spec"]["type"] != "ClusterIP" => {
                    for port in object["spec"]["ports"].as_array_mut().into_iter().flatten() {
                        if port["nodePort"].is_null() {
                            port["nodePort"] = json!(31_000);
                        }
                    }
                }
                _ => {}
            }
        }
        let Some(set) = self.object(Kind::StatefulSet) else { return };
        if self.observed.pod.is_some() {
            return;
        }
        let template = &set["spec"]["template"];
        let mut pod = json!({"metadata": template["metadata"], "spec": template["spec"]});
        let name = self.session.metadata.name.as_deref().unwrap_or_default();
        let containers: Vec<Value> =
            template["spec"]["containers"].as_array().into_iter().flatten().map(running).collect();
        merge(
            &mut pod,
            &json!({
                "metadata": {"name": names::pod(name), "namespace": NAMESPACE, "uid": "pod-uid"},
                "spec": {"nodeName": "node"},
                "status": {
                    "phase": "Running", "podIP": POD_IP, "hostIP": "10.1.2.3",
                    "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
                    "containerStatuses": containers,
                },
            }),
        );
        self.observed.pod = serde_json::from_value::<Pod>(pod).ok();
        let addresses =
            json!([{"type": "InternalIP", "address": "10.1.2.3"}, {"type": "ExternalIP", "address": "203.0.113.7"}]);
        self.observed.node =
            serde_json::from_value::<Node>(json!({"metadata": {"name": "node"}, "status": {"addresses": addresses}}))
                .ok();
        self.observed.server = Some(Ok(ServerReport::default()));
    }
}

fn running(container: &Value) -> Value {
    json!({
        "name": container["name"], "image": container["image"], "imageID": "", "ready": true, "started": true,
        "restartCount": 0, "state": {"running": {"startedAt": "2026-11-22T12:00:00Z"}},
    })
}

/// RFC 7386.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Map::new().into();
    }
    let Some(object) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
