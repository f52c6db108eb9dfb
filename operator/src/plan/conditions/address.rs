//! Why peers can be told no address: what Kubernetes has not done yet, and what only somebody can mend.

use k8s_openapi::api::core::v1::Service;
use streamsession_api::ExposureType;

use super::{START, Verdict, verdict};
use crate::plan::{endpoints, reasons, scene::Scene};

/// There is no address for `what`, whose Service, if it is there, is this one.
pub(super) fn none(scene: &Scene<'_>, type_: &'static str, service: Option<&Service>, what: &str) -> Verdict {
    let no = |message: String| verdict(type_, "False", reasons::NO_ADDRESS, message);
    let not_yet = |message: String| verdict(type_, "False", reasons::CONFIGURING, message);
    let exposure = scene.spec.exposure.type_;
    let service = match (service, exposure) {
        (_, ExposureType::HostPort) => return no(unknown_node(what)),
        (Some(service), _) => service,
        (None, _) if scene.spec.paused => {
            let message = format!("there is no Service for {what}, and spec.paused is true: write false to go on");
            return verdict(type_, "False", reasons::PAUSED, message);
        }
        (None, _) => return not_yet(format!("the Service for {what} is being made")),
    };
    match exposure {
        ExposureType::NodePort if !endpoints::has_node_port(service) => {
            not_yet(format!("the cluster has not given the Service for {what} a port of the nodes yet"))
        }
        ExposureType::NodePort if endpoints::all_node_addresses(scene).is_empty() => no(unknown_node(what)),
        ExposureType::NodePort | ExposureType::HostPort => no(format!(
            "the pod's node has no address of the family that the Service for {what} has: give the node one, or write addresses into spec.exposure.announce"
        )),
        ExposureType::LoadBalancer => match endpoints::load_balancer(service).1.first() {
            Some(name) => no(format!(
                "the load balancer for {what} has a name ({name}) and no address, and peers are told addresses: write those that it resolves to into spec.exposure.announce, each with the port"
            )),
            None if is_new(scene, service) => {
                not_yet(format!("the load balancer for {what} is being given an address"))
            }
            None => no(format!(
                "the load balancer for {what} has no address: see whether the cluster has one (`kubectl -n {} get service`), or write exposure.type NodePort, or addresses into spec.exposure.announce",
                scene.namespace
            )),
        },
        ExposureType::ClusterIP => no(format!("the Service for {what} has no address in the cluster")),
    }
}

fn unknown_node(what: &str) -> String {
    format!(
        "no address of the pod's node is known for {what}: let the operator read nodes, or write addresses into spec.exposure.announce"
    )
}

fn is_new(scene: &Scene<'_>, service: &Service) -> bool {
    let created = service.metadata.creation_timestamp.as_ref();
    created.is_some_and(|created| scene.seconds_since(created.0) < START)
}
