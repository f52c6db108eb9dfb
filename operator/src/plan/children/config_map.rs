//! The session as the server reads it when it starts. What changes later is pushed to it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use streamsession_api::{PodOverrides, StreamSessionSpec};

use super::metadata;
use crate::plan::scene::Scene;

/// Name of the document in the ConfigMap.
pub(crate) const SESSION_FILE: &str = "session.yaml";

pub(super) fn config_map(scene: &Scene<'_>) -> ConfigMap {
    // The template says all that there is to say about the pod.
    let spec = StreamSessionSpec { pod: PodOverrides::default(), paused: false, ..scene.spec.clone() };
    let mut spec = serde_json::to_value(spec).expect("a spec is JSON");
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("pod");
    }
    let document = json!({
        "apiVersion": "media.streamsession.io/v1alpha1",
        "kind": "StreamSession",
        "metadata": {"name": scene.name, "namespace": scene.namespace},
        "spec": spec,
    });
    let text = serde_yaml::to_string(&document).expect("JSON is YAML");
    ConfigMap {
        metadata: metadata(scene, scene.name.clone(), "media"),
        data: Some(BTreeMap::from([(SESSION_FILE.to_owned(), text)])),
        ..ConfigMap::default()
    }
}
