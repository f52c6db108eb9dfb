//! The Services: signalling and pages, media, relay, store.
//!
//! All of them lead to the pod whether it is ready or not. There is no other pod to prefer: a server that drains or
//! starts answers for itself (503 with Retry-After), and media of streams that go on must not be cut because a
//! neighbouring container is unwell. Target ports are named, so that a Service is right for the pod that runs while a
//! changed template waits. `externalTrafficPolicy: Local` keeps the peer's address and spares a hop.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use streamsession_api::{ExposureType, StorageMode, TurnMode};

use super::metadata;
use crate::plan::{names, scene::Scene};

/// Port of the relay, UDP and TCP.
pub(crate) const TURN_PORT: u16 = 3478;
/// Port of the relay over TLS.
pub(crate) const TURNS_PORT: u16 = 5349;
/// Port of the store in the pod.
pub(crate) const STORE_PORT: u16 = 9000;
/// Port of signalling and pages on the Service.
const HTTP_PORT: u16 = 80;

/// Signalling and pages.
pub(super) fn http(scene: &Scene<'_>) -> Service {
    let mut http = port("http", "TCP", HTTP_PORT, None);
    http.app_protocol = Some("http".to_owned());
    service(scene, scene.name.clone(), "http", ExposureType::ClusterIP, vec![http])
}

/// Media.
pub(super) fn media(scene: &Scene<'_>) -> Option<Service> {
    let exposure = &scene.spec.exposure;
    if exposure.type_ == ExposureType::HostPort {
        return None;
    }
    let media = port("media", "UDP", exposure.media_port, exposure.node_port);
    Some(service(scene, names::media(&scene.name), "media", exposure.type_, vec![media]))
}

/// The relay in the pod.
pub(super) fn turn(scene: &Scene<'_>) -> Option<Service> {
    let (turn, type_) = (&scene.spec.turn, scene.spec.exposure.type_);
    if turn.mode != TurnMode::Managed || type_ == ExposureType::HostPort {
        return None;
    }
    let mut ports =
        vec![port("turn-udp", "UDP", TURN_PORT, turn.node_port), port("turn-tcp", "TCP", TURN_PORT, turn.node_port)];
    if turn.tls_secret_name.is_some() {
        ports.push(port("turns", "TCP", TURNS_PORT, None));
    }
    Some(service(scene, names::turn(&scene.name), "turn", type_, ports))
}

/// The store in the pod, for those of the session's own pods that look after it.
pub(super) fn store(scene: &Scene<'_>) -> Option<Service> {
    (scene.spec.storage.mode == StorageMode::Managed).then(|| {
        let s3 = port("s3", "TCP", STORE_PORT, None);
        service(scene, names::store(&scene.name), "store", ExposureType::ClusterIP, vec![s3])
    })
}

fn service(
    scene: &Scene<'_>,
    name: String,
    component: &str,
    exposure: ExposureType,
    ports: Vec<ServicePort>,
) -> Service {
    let (type_, outside) = match exposure {
        ExposureType::NodePort => ("NodePort", true),
        ExposureType::LoadBalancer => ("LoadBalancer", true),
        ExposureType::HostPort | ExposureType::ClusterIP => ("ClusterIP", false),
    };
    Service {
        metadata: metadata(scene, name, component),
        spec: Some(ServiceSpec {
            type_: Some(type_.to_owned()),
            external_traffic_policy: outside.then(|| "Local".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::selector(&scene.name)),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, protocol: &str, number: u16, node_port: Option<u16>) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        protocol: Some(protocol.to_owned()),
        port: number.into(),
        target_port: Some(IntOrString::String(name.to_owned())),
        node_port: node_port.map(i32::from),
        ..ServicePort::default()
    }
}
