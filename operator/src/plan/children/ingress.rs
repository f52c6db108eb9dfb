//! The ingress for signalling and the pages; media does not pass it.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    IngressTLS, ServiceBackendPort,
};

use super::metadata;
use crate::plan::scene::Scene;

pub(super) fn ingress(scene: &Scene<'_>) -> Option<Ingress> {
    let wanted = scene.spec.exposure.ingress.as_ref()?;
    let mut metadata = metadata(scene, scene.name.clone(), "http");
    metadata.annotations =
        Some(wanted.annotations.clone()).filter(|annotations: &BTreeMap<_, _>| !annotations.is_empty());
    let backend = IngressBackend {
        service: Some(IngressServiceBackend {
            name: scene.name.clone(),
            port: Some(ServiceBackendPort { name: Some("http".to_owned()), number: None }),
        }),
        resource: None,
    };
    // The server removes the base path itself, so that no controller has to rewrite requests.
    let below = Some(scene.spec.http.base_path.as_str()).filter(|path| !path.is_empty()).unwrap_or("/");
    let path = HTTPIngressPath { path: Some(below.to_owned()), path_type: "Prefix".to_owned(), backend };
    Some(Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: wanted.class_name.clone(),
            rules: Some(vec![IngressRule {
                host: Some(wanted.host.clone()),
                http: Some(HTTPIngressRuleValue { paths: vec![path] }),
            }]),
            tls: wanted.tls_secret_name.as_ref().map(|name| {
                vec![IngressTLS { hosts: Some(vec![wanted.host.clone()]), secret_name: Some(name.clone()) }]
            }),
            default_backend: None,
        }),
        ..Ingress::default()
    })
}
