//! What has to hold of the objects that the operator makes of any spec: names and labels that an API server takes, pods of the
//! restricted standard, every mount with what is mounted, and no secret value outside of Secrets.
//!
//! Sources: RFC 1123 and RFC 1035 as Kubernetes reads them ("Object Names and IDs", "Labels and Selectors"), and the Pod
//! Security Standards. What a spec puts in word for word (annotations of the Ingress, the scheduler's fields, resources) is its
//! author's, and left to the API server.

use super::world::{NAMESPACE, World};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use operator::plan::{Kind, names, own_secrets, references};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
use streamsession_api::{PodOverrides, StreamSession, StreamSessionSpec, from_yaml};

/// What is wrong with what was made of the session; empty when nothing is.
pub fn broken(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    for object in world.objects() {
        let title = format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]));
        let mut say = |what: String| wrong.push(format!("{title}: {what}"));
        metadata(object, &mut say);
        typed(object, &mut say);
        for (template, _) in templates(object) {
            pod(template, world, &mut say);
        }
        selects_its_own(object, &mut say);
    }
    secrets_stay(world, &mut |what| wrong.push(what));
    wrong.extend(document(world));
    wrong
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn each<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

/// A DNS label (RFC 1123), of which a Service needs one that begins with a letter (RFC 1035).
fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.chars().all(inner)
}

fn is_label_value(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || text.len() <= 63
            && text.starts_with(edge)
            && text.ends_with(edge)
            && text.chars().all(|c| edge(c) || "-_.".contains(c))
}

fn metadata(object: &Value, say: &mut impl FnMut(String)) {
    let metadata = &object["metadata"];
    if !is_label(text(&metadata["name"])) {
        say("a name that is no label".to_owned());
    }
    let size = object.to_string().len();
    if size > 512 * 1024 {
        say(format!("{size} bytes"));
    }
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        let (prefix, name) = key.split_once('/').unwrap_or(("", key));
        if prefix.len() > 253 || name.is_empty() || !is_label_value(name) || !value.as_str().is_some_and(is_label_value)
        {
            say(format!("label {key}: {value}"));
        }
    }
    let ours = metadata["labels"][names::SESSION_LABEL].is_string() && metadata["namespace"] == NAMESPACE;
    if !ours {
        say("of no session, or in no namespace of one".to_owned());
    }
}

/// Whether the object is one of its kind, and says nothing that its kind does not know.
fn typed(object: &Value, say: &mut impl FnMut(String)) {
    let same = match text(&object["kind"]) {
        "ServiceAccount" => is::<ServiceAccount>(object),
        "ConfigMap" => is::<ConfigMap>(object),
        "PersistentVolumeClaim" => is::<PersistentVolumeClaim>(object),
        "Service" => is::<Service>(object),
        "NetworkPolicy" => is::<NetworkPolicy>(object),
        "PodDisruptionBudget" => is::<PodDisruptionBudget>(object),
        "StatefulSet" => is::<StatefulSet>(object),
        "Ingress" => is::<Ingress>(object),
        "CronJob" => is::<CronJob>(object),
        "Job" => is::<Job>(object),
        kind => Err(format!("kind {kind} is unknown here")),
    };
    if let Err(what) = same {
        say(what);
    }
}

fn is<T: Serialize + DeserializeOwned>(object: &Value) -> Result<(), String> {
    let typed: T = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    let again = serde_json::to_value(typed).map_err(|error| error.to_string())?;
    // Empty things are left out by the types.
    if holds(&again, object) { Ok(()) } else { Err(format!("not all of it is of its kind: {object}")) }
}

fn holds(seen: &Value, wanted: &Value) -> bool {
    match (seen, wanted) {
        (_, Value::Null) => true,
        (Value::Null, Value::Object(wanted)) => wanted.is_empty(),
        (Value::Null, Value::Array(wanted)) => wanted.is_empty(),
        (Value::Object(seen), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| holds(seen.get(key).unwrap_or(&Value::Null), wanted))
        }
        (Value::Array(seen), Value::Array(wanted)) => {
            seen.len() == wanted.len() && seen.iter().zip(wanted).all(|(seen, wanted)| holds(seen, wanted))
        }
        (seen, wanted) => seen == wanted,
    }
}

/// The pod templates in an object: spec and labels of each.
fn templates(object: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    let paths = ["/spec/template", "/spec/jobTemplate/spec/template"];
    paths
        .into_iter()
        .filter_map(|path| object.pointer(path))
        .map(|template| (&template["spec"], &template["metadata"]["labels"]))
}

fn selects_its_own(object: &Value, say: &mut impl FnMut(String)) {
    let Some(wanted) = object.pointer("/spec/selector/matchLabels") else { return };
    for (_, labels) in templates(object) {
        if !holds(labels, wanted) {
            say("the selector selects no pod of the template".to_owned());
        }
    }
}

fn pod(pod: &Value, world: &World, say: &mut impl FnMut(String)) {
    for what in unrestricted(pod) {
        say(what);
    }
    if pod.to_string().contains("hostPort")
        && world.session.spec.exposure.type_ != streamsession_api::ExposureType::HostPort
    {
        say("a port of the node that nobody asked for".to_owned());
    }
    let volumes: Vec<&str> = each(pod, "volumes").map(|volume| text(&volume["name"])).collect();
    let mut mounted = BTreeSet::new();
    for container in containers(pod) {
        let name = text(&container["name"]);
        let mut paths = BTreeSet::new();
        for mount in each(container, "volumeMounts") {
            mounted.insert(text(&mount["name"]));
            if !paths.insert(text(&mount["mountPath"])) {
                say(format!("{name} mounts {} twice", mount["mountPath"]));
            }
        }
        for port in each(container, "ports") {
            let number = port["containerPort"].as_u64().unwrap_or_default();
            if text(&port["name"]).len() > 15 || !(1..=65535).contains(&number) {
                say(format!("{name} has port {port}"));
            }
        }
    }
    if volumes.iter().copied().collect::<BTreeSet<_>>() != mounted || volumes.len() != mounted.len() {
        say(format!("volumes {volumes:?}, mounted {mounted:?}"));
    }
    sources(pod, world, say);
}

/// Checks that every volume's Secret, ConfigMap and claim is one of the session's, or one that the spec names.
fn sources(pod: &Value, world: &World, say: &mut impl FnMut(String)) {
    let session = &world.session;
    let name = session.metadata.name.as_deref().unwrap_or_default();
    let mut known: BTreeSet<String> = own_secrets(session).into_iter().collect();
    known.extend(references(session).into_iter().map(|reference| reference.name));
    for volume in each(pod, "volumes") {
        let secrets = [&volume["secret"]["secretName"]]
            .into_iter()
            .chain(each(&volume["projected"], "sources").map(|source| &source["secret"]["name"]));
        for secret in secrets.filter_map(Value::as_str) {
            if !known.contains(secret) {
                say(format!("mounts Secret {secret}, which nobody looks for"));
            }
        }
        let claim = volume["persistentVolumeClaim"]["claimName"].as_str();
        let map = volume["configMap"]["name"].as_str();
        let foreign_map = map.is_some_and(|map| map != name && Some(map) != authorities(session));
        if claim.is_some_and(|claim| claim != names::claim(name)) || foreign_map {
            say(format!("mounts {volume}"));
        }
    }
    for container in containers(pod) {
        let values = each(container, "env").map(|variable| &variable["valueFrom"]["secretKeyRef"]);
        let mut all = values.chain(each(container, "envFrom").map(|source| &source["secretRef"]));
        if all.any(|secret| !secret.is_null()) {
            say(format!("{} has a Secret in a variable", container["name"]));
        }
    }
}

/// Returns the ConfigMap with the store's certificate authorities, if the spec names one.
fn authorities(session: &StreamSession) -> Option<&str> {
    let external = session.spec.storage.external.as_ref()?;
    Some(&external.ca_bundle.as_ref()?.config_map_key_ref.as_ref()?.name)
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    each(pod, "initContainers").chain(each(pod, "containers"))
}

/// What the restricted standard says against a pod's spec.
fn unrestricted(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let shared = ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"];
    found.extend(shared.into_iter().filter(|field| pod[*field] == true).map(|field| format!("{field} is on")));
    let kinds =
        ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
    for volume in each(pod, "volumes") {
        let known = |key: &String| key == "name" || kinds.contains(&key.as_str());
        if !volume.as_object().is_some_and(|volume| volume.keys().all(known)) {
            found.push(format!("volume {volume}"));
        }
    }
    for container in containers(pod) {
        let (name, own, all) = (text(&container["name"]), &container["securityContext"], &pod["securityContext"]);
        let either = |field: &str| if own[field].is_null() { &all[field] } else { &own[field] };
        let drops = each(&own["capabilities"], "drop").any(|one| one == "ALL");
        let adds = each(&own["capabilities"], "add").any(|one| one != "NET_BIND_SERVICE");
        let seccomp = ["RuntimeDefault", "Localhost"].contains(&text(&either("seccompProfile")["type"]));
        for (bad, what) in [
            (own["privileged"] == true, "is privileged"),
            (own["allowPrivilegeEscalation"] != false, "may gain privileges"),
            (!drops || adds, "has capabilities"),
            (*either("runAsNonRoot") != true || *either("runAsUser") == 0, "may be root"),
            (!seccomp, "may make every system call"),
            (own["readOnlyRootFilesystem"] != true, "may write its image"),
        ] {
            if bad {
                found.push(format!("container {name} {what}"));
            }
        }
    }
    found
}

fn secrets_stay(world: &World, say: &mut impl FnMut(String)) {
    let status = serde_json::to_string(&world.session.status).unwrap_or_default();
    let pod = serde_json::to_string(&world.observed.pod).unwrap_or_default();
    let texts: Vec<String> =
        world.objects().map(Value::to_string).chain([status, pod, world.events.join("\n")]).collect();
    for value in world.secret_values() {
        if value.len() < 16 {
            say("a secret that can be guessed".to_owned());
        }
        if texts.iter().any(|text| text.contains(&value)) {
            say("a secret's value outside of Secrets".to_owned());
        }
    }
}

/// Whether the media server reads of the document what the operator read of the session.
fn document(world: &World) -> Option<String> {
    let map = world.object(Kind::ConfigMap)?;
    let yaml = text(&map["data"]["session.yaml"]);
    let read: StreamSession = match from_yaml(yaml, "session.yaml") {
        Ok(read) => read,
        Err(error) => return Some(format!("the media server cannot read its session: {error}\n{yaml}")),
    };
    let spec = &world.session.spec;
    let wanted = StreamSessionSpec { pod: PodOverrides::default(), paused: false, ..spec.clone() };
    if read.spec != wanted {
        return Some(format!("the media server reads another session:\n{yaml}"));
    }
    let violations = read.validate();
    (!violations.is_empty()).then(|| format!("the media server refuses its session: {violations:?}"))
}
