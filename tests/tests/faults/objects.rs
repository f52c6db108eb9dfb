//! What is there of a session, without what differs from one making to the next: names of their own, UIDs, versions,
//! addresses, times, and what Secrets hold.

use crate::harness::{Kube, text};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Kinds that may belong to a session.
const KINDS: &str = "serviceaccounts,configmaps,persistentvolumeclaims,services,networkpolicies,poddisruptionbudgets,\
                     statefulsets,ingresses,secrets,pods,cronjobs";
/// Below spec, filled in by the cluster.
const GIVEN: [&str; 6] = ["clusterIP", "clusterIPs", "healthCheckNodePort", "volumeName", "nodeName", "nodePort"];

/// Every object of the session, by kind and name, and what its conditions say.
pub(crate) fn snapshot(kube: &Kube, session: &str) -> BTreeMap<String, Value> {
    let selector = format!("media.streamsession.io/session={session}");
    let pod = format!("{session}-0");
    let mut objects: BTreeMap<String, Value> = kube
        .list(KINDS, &selector)
        .iter()
        // Those of clean-ups come and go by the clock.
        .filter(|object| object["kind"] != "Pod" || object["metadata"]["name"] == *pod)
        .map(|object| (format!("{} {}", text(object, "/kind"), text(object, "/metadata/name")), normal(object)))
        .collect();
    if let Some(resource) = kube.find("streamsession", session) {
        objects.insert("StreamSession".to_owned(), json!({
            "finalizers": resource["metadata"]["finalizers"], "spec": resource["spec"], "conditions": conditions(&resource),
        }));
    }
    let renamed = |text: String| text.replace(session, "NAME").replace(&kube.namespace, "NAMESPACE");
    objects
        .into_iter()
        .map(|(name, object)| (renamed(name), serde_json::from_str(&renamed(object.to_string())).unwrap()))
        .collect()
}

/// Type and status.
fn conditions(resource: &Value) -> Vec<String> {
    let conditions = resource.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    conditions.iter().map(|condition| format!("{} {}", text(condition, "/type"), text(condition, "/status"))).collect()
}

fn normal(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut kept = Map::new();
    for key in ["labels", "finalizers"] {
        kept.insert(key.to_owned(), metadata[key].clone());
    }
    let owners = metadata["ownerReferences"].as_array().cloned().unwrap_or_default();
    let owner = |owner: &Value| json!([owner["kind"], owner["name"], owner["controller"]]);
    kept.insert("owners".to_owned(), owners.iter().map(owner).collect());
    let is = |kind: &str| object["kind"] == kind;
    if is("Pod") {
        // A pod says what its template says, and what the cluster added.
        let labels = kept["labels"].as_object_mut().unwrap();
        labels.retain(|key, _| key.starts_with("app.kubernetes.io") || key.starts_with("media.streamsession.io"));
        let containers = object.pointer("/spec/containers").and_then(Value::as_array).cloned().unwrap_or_default();
        kept.insert("nodeSelector".to_owned(), object["spec"]["nodeSelector"].clone());
        kept.insert(
            "containers".to_owned(),
            containers
                .iter()
                .map(|container| json!([container["name"], container["image"], container["args"]]))
                .collect(),
        );
        return Value::Object(kept);
    }
    let annotations = metadata["annotations"].as_object().cloned().unwrap_or_default();
    kept.insert(
        "annotations".to_owned(),
        annotations.keys().filter(|key| key.contains("streamsession.io")).cloned().collect(),
    );
    for part in ["spec", "data", "type"] {
        let mut value = object[part].clone();
        if is("Secret") && part == "data" {
            value = value.as_object().map(|data| data.keys().cloned().collect()).unwrap_or_default();
        }
        without(&mut value);
        kept.insert(part.to_owned(), value);
    }
    Value::Object(kept)
}

/// Leaves out what the cluster gave, and hashes: they are of names too.
fn without(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !GIVEN.contains(&key.as_str()) && !key.ends_with("-hash"));
            map.values_mut().for_each(without);
        }
        Value::Array(list) => list.iter_mut().for_each(without),
        _ => {}
    }
}

/// How two snapshots differ, in words; `None` when they do not.
pub(crate) fn difference(wanted: &BTreeMap<String, Value>, seen: &BTreeMap<String, Value>) -> Option<String> {
    let mut words = String::new();
    for name in wanted.keys().chain(seen.keys().filter(|name| !wanted.contains_key(*name))) {
        match (wanted.get(name), seen.get(name)) {
            (Some(wanted), Some(seen)) if wanted == seen => {}
            (Some(wanted), Some(seen)) => words += &format!("{name} is\n  {seen}\nand not\n  {wanted}\n"),
            (Some(_), None) => words += &format!("{name} is not there\n"),
            (None, _) => words += &format!("{name} is there, and should not be\n"),
        }
    }
    (!words.is_empty()).then_some(words)
}
