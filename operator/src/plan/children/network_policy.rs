//! Who may open a connection to the pod: everyone to media, relay and pages; the operator and who reads metrics to the
//! management port; the session's own pods to the store.
//!
//! Ports are named, so that the policy is right for the pod that runs while a changed template waits. What the pod
//! itself opens is not limited here: viewers may be anywhere, and the relay has limits of its own.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::metadata;
use crate::plan::{names, scene::Scene};

pub(super) fn network_policy(scene: &Scene<'_>) -> NetworkPolicy {
    let everyone =
        [("http", "TCP"), ("media", "UDP"), ("turn-udp", "UDP"), ("turn-tcp", "TCP"), ("turns", "TCP")].map(port);
    let managers = scene.settings.operator_namespace.as_ref().map(|operator| {
        vec![namespaces("kubernetes.io/metadata.name", operator), namespaces(names::METRICS_LABEL, "true")]
    });
    let own = NetworkPolicyPeer {
        pod_selector: Some(selector(BTreeMap::from([(names::SESSION_LABEL.to_owned(), scene.name.clone())]))),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicy {
        metadata: metadata(scene, scene.name.clone(), "media"),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(names::selector(&scene.name))),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule { ports: Some(everyone.to_vec()), from: None },
                NetworkPolicyIngressRule { ports: Some(vec![port(("management", "TCP"))]), from: managers },
                NetworkPolicyIngressRule { ports: Some(vec![port(("s3", "TCP"))]), from: Some(vec![own]) },
            ]),
            egress: None,
        }),
    }
}

fn port((name, protocol): (&str, &str)) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::String(name.to_owned())),
        protocol: Some(protocol.to_owned()),
        end_port: None,
    }
}

fn namespaces(label: &str, value: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(selector(BTreeMap::from([(label.to_owned(), value.to_owned())]))),
        ..NetworkPolicyPeer::default()
    }
}

fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}
