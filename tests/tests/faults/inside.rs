//! Tests that ask the API server thousands of times: too often for kubectl. Such a test runs itself once more, where the
//! cluster is reached, with a client of its own.

use crate::harness::{Place, command};
use axum::http::Request;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client};
use operator::plan::names::SESSION_LABEL;
use operator::reconcile::Clients;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Runs the ignored test of this name, with these variables; whether it passes.
pub(crate) fn passes(test: &str, variables: &[(&str, String)]) -> bool {
    let mut command = command(Place::Cluster, "env");
    command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
    command.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--ignored", "--nocapture"]);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    status.success()
}

/// A number of the environment.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// A text of the environment, which `passes` sets.
pub(crate) fn given(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: another test sets it"))
}

/// What belongs to sessions, Secrets apart: group, kind, plural; all v1.
const KINDS: [(&str, &str, &str); 9] = [
    ("", "ServiceAccount", "serviceaccounts"),
    ("", "ConfigMap", "configmaps"),
    ("", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("", "Service", "services"),
    ("networking.k8s.io", "NetworkPolicy", "networkpolicies"),
    ("networking.k8s.io", "Ingress", "ingresses"),
    ("policy", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("apps", "StatefulSet", "statefulsets"),
    ("batch", "CronJob", "cronjobs"),
];

/// StreamSessions of a namespace.
#[derive(Clone)]
pub(crate) struct Sessions {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Sessions {
    /// In the cluster that this process reaches.
    pub(crate) async fn of(namespace: &str) -> Sessions {
        Sessions { client: Clients::infer().await.unwrap().calls, namespace: namespace.to_owned() }
    }

    fn path(&self, name: &str, query: &str) -> String {
        format!("/apis/media.streamsession.io/v1alpha1/namespaces/{}/streamsessions{name}?{query}", self.namespace)
    }

    async fn ask(&self, method: &str, path: String, content: &str, body: &Value) -> Result<Value, String> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("content-type", content).body(body);
        self.client.request(request.unwrap()).await.map_err(|error| match error {
            kube::Error::Api(status) => status.message.clone(),
            // What is no answer of the API server is no refusal.
            other => panic!("{method}: {other}"),
        })
    }

    /// Creates one.
    pub(crate) async fn create(&self, name: &str, spec: &Value) -> Result<Value, String> {
        let document = json!({
            "apiVersion": "media.streamsession.io/v1alpha1", "kind": "StreamSession",
            "metadata": {"name": name}, "spec": spec,
        });
        self.ask("POST", self.path("", "fieldValidation=Strict"), "application/json", &document).await
    }

    /// Puts this in the place of its spec, as it is; what the API server says against it is the error.
    pub(crate) async fn replace(&self, name: &str, spec: &Value) -> Result<Value, String> {
        let patch = json!([{"op": "add", "path": "/spec", "value": spec}]);
        self.ask(
            "PATCH",
            self.path(&format!("/{name}"), "fieldValidation=Strict"),
            "application/json-patch+json",
            &patch,
        )
        .await
    }

    /// Changes fields of its spec.
    pub(crate) async fn merge(&self, name: &str, spec: &Value) -> Result<Value, String> {
        let patch = json!({ "spec": spec });
        self.ask("PATCH", self.path(&format!("/{name}"), ""), "application/merge-patch+json", &patch).await
    }

    /// As it is now.
    pub(crate) async fn get(&self, name: &str) -> Value {
        self.ask("GET", self.path(&format!("/{name}"), ""), "application/json", &Value::Null).await.unwrap()
    }

    /// All of them.
    pub(crate) async fn list(&self) -> Vec<Value> {
        let list = self.ask("GET", self.path("", ""), "application/json", &Value::Null).await.unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Deletes one.
    pub(crate) async fn delete(&self, name: &str) {
        let _ = self.ask("DELETE", self.path(&format!("/{name}"), ""), "application/json", &Value::Null).await;
    }

    /// Everything that belongs to one, by kind and name; of Secrets the keys.
    pub(crate) async fn children(&self, name: &str) -> BTreeMap<String, Value> {
        let params = ListParams::default().labels(&format!("{SESSION_LABEL}={name}"));
        let mut found = BTreeMap::new();
        for (group, kind, plural) in KINDS {
            let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
            let resource = ApiResource {
                group: group.to_owned(),
                version: "v1".to_owned(),
                api_version,
                kind: kind.to_owned(),
                plural: plural.to_owned(),
            };
            let objects: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
            for object in objects.list(&params).await.unwrap() {
                let name = object.metadata.name.clone().unwrap_or_default();
                found.insert(format!("{kind} {name}"), serde_json::to_value(object).unwrap());
            }
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        for mut secret in secrets.list(&params).await.unwrap() {
            let keys: Vec<String> = secret.data.take().unwrap_or_default().into_keys().collect();
            let mut value = serde_json::to_value(&secret).unwrap();
            value["keys"] = json!(keys);
            found.insert(format!("Secret {}", secret.metadata.name.unwrap_or_default()), value);
        }
        found
    }
}

/// Whether every condition of this session is of its newest generation.
pub(crate) fn is_told(session: &Value) -> bool {
    let generation = &session["metadata"]["generation"];
    let conditions = session["status"]["conditions"].as_array();
    let of_it =
        |one: &Value| one["observedGeneration"] == *generation && !one["reason"].as_str().unwrap_or("").is_empty();
    session["status"]["observedGeneration"] == *generation
        && conditions.is_some_and(|all| !all.is_empty() && all.iter().all(of_it))
}

/// Status and reason of a condition.
pub(crate) fn condition(session: &Value, kind: &str) -> (String, String) {
    let conditions = session["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.into_iter().find(|condition| condition["type"] == kind);
    let text = |field: &str| found.and_then(|one| one[field].as_str()).unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

/// Asks again and again until the answer is right; after `limit` the last answer is the error.
pub(crate) async fn until<T, E>(
    limit: Duration,
    every: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    let end = Instant::now() + limit;
    loop {
        match ask().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => tokio::time::sleep(every).await,
        }
    }
}
