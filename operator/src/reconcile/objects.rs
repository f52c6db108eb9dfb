//! From the planner's kinds to the API server's resources.

use crate::plan::{Child, Kind};
use k8s_openapi::NamespaceResourceScope;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource};
use serde_json::Value;

/// Kinds whose objects are watched: all but Secrets, which are only ever read by name, and the pod, which has a type.
pub(super) const WATCHED: [Kind; 9] = [
    Kind::ServiceAccount,
    Kind::ConfigMap,
    Kind::PersistentVolumeClaim,
    Kind::Service,
    Kind::NetworkPolicy,
    Kind::PodDisruptionBudget,
    Kind::StatefulSet,
    Kind::Ingress,
    Kind::CronJob,
];

/// The resource of a kind.
pub(super) fn resource(kind: Kind) -> ApiResource {
    ApiResource {
        group: kind.group().to_owned(),
        version: "v1".to_owned(),
        api_version: kind.api_version().to_owned(),
        kind: kind.name().to_owned(),
        plural: kind.plural().to_owned(),
    }
}

/// Objects of a kind in a namespace.
pub(super) fn api(client: Client, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, &resource(kind))
}

/// Objects of a type in `namespace`, or everywhere.
pub(super) fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// As the planner reads it: with `apiVersion` and `kind`, which lists leave out.
pub(super) fn json(kind: Kind, object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    value["apiVersion"] = kind.api_version().into();
    value["kind"] = kind.name().into();
    value
}

/// The version of an object, as far as it can be compared (since Kubernetes 1.35 it can).
pub(super) fn version(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

/// What is told of a call in errors and the log.
pub(super) fn call(verb: &str, child: &Child) -> String {
    format!("{verb} {child}")
}
