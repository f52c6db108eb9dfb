//! Where a session is reached: media addresses, URLs of the relay, URLs for cameras and viewers.
//!
//! Told from what is there, not from what is wanted: from the Service as the cluster made it, from the ports that the
//! running pod opens on its node, from the addresses of that node. So what peers are told follows every change of them,
//! and is right also while a changed template waits. Best first: what the spec names, external before internal addresses.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use streamsession_api::{Endpoints, TurnMode};

use super::{
    children::{media::MEDIA, relay::TURN},
    scene::Scene,
};

/// Most hosts whose relay is named, of several that lead to the same one: browsers are slowed down by many URLs.
const RELAY_HOSTS: usize = 2;

/// Where the session is reached now.
pub(crate) fn endpoints(scene: &Scene<'_>) -> Endpoints {
    let base = base(scene);
    Endpoints {
        whip: Some(format!("{base}/whip/{{room}}")),
        whep: Some(format!("{base}/whep/{{room}}")),
        console: Some(format!("{base}/")),
        turn: turn_urls(scene),
        announced: announced(scene).iter().map(ToString::to_string).collect(),
    }
}

/// Scheme, authority and base path of signalling and pages.
fn base(scene: &Scene<'_>) -> String {
    let path = &scene.spec.http.base_path;
    match &scene.spec.exposure.ingress {
        Some(ingress) if ingress.tls_secret_name.is_some() => format!("https://{}{path}", ingress.host),
        Some(ingress) => format!("http://{}{path}", ingress.host),
        None => format!("http://{}.{}.svc{path}", scene.name, scene.namespace),
    }
}

/// Media addresses to tell peers.
pub(crate) fn announced(scene: &Scene<'_>) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    let mut public = scene.spec.exposure.media_port;
    if let Some(service) = &scene.media_service
        && let Some(port) = service_port(service, "media")
    {
        match kind(service) {
            "NodePort" => {
                if let Some(node_port) = node_port(port) {
                    public = node_port;
                    found.extend(node_addresses(scene, service).into_iter().map(|ip| SocketAddr::new(ip, node_port)));
                }
            }
            "LoadBalancer" => {
                let port = number(port.port).unwrap_or(public);
                found.extend(load_balancer(service).0.into_iter().map(|ip| SocketAddr::new(ip, port)));
            }
            _ => {
                let port = number(port.port).unwrap_or(public);
                found.extend(cluster_ips(service).into_iter().map(|ip| SocketAddr::new(ip, port)));
            }
        }
    }
    if let Some(port) = host_port(scene, MEDIA, "media") {
        found.extend(all_node_addresses(scene).into_iter().map(|ip| SocketAddr::new(ip, port)));
    }
    let named = scene.spec.exposure.announce.iter().filter_map(|text| match text.parse() {
        Ok(ip) => Some(SocketAddr::new(ip, public)),
        Err(_) => text.parse().ok(),
    });
    deduplicated(named.chain(found).collect())
}

/// URLs of the relay to tell peers (RFC 7065).
pub(crate) fn turn_urls(scene: &Scene<'_>) -> Vec<String> {
    match (scene.spec.turn.mode, &scene.spec.turn.external) {
        (TurnMode::External, Some(external)) => external.urls.clone(),
        (TurnMode::Managed, _) if scene.runs(TURN) => managed_urls(scene),
        _ => Vec::new(),
    }
}

fn managed_urls(scene: &Scene<'_>) -> Vec<String> {
    let (hosts, [udp, tcp, tls]) = match &scene.turn_service {
        Some(service) => {
            let ports = ["turn-udp", "turn-tcp", "turns"].map(|name| service_port(service, name));
            match kind(service) {
                "NodePort" => {
                    let hosts = best(scene, node_addresses(scene, service));
                    (hosts, ports.map(|port| port.and_then(node_port)))
                }
                "LoadBalancer" => {
                    let (ips, names) = load_balancer(service);
                    let mut hosts = best(scene, ips);
                    hosts.extend(names);
                    (hosts, ports.map(|port| number(port?.port)))
                }
                _ => (written(cluster_ips(service)), ports.map(|port| number(port?.port))),
            }
        }
        None => {
            let ports = ["turn-udp", "turn-tcp", "turns"].map(|name| host_port(scene, TURN, name));
            (best(scene, all_node_addresses(scene)), ports)
        }
    };
    let hosts = &hosts[..hosts.len().min(RELAY_HOSTS)];
    let mut urls = Vec::new();
    for (port, transport) in [(udp, "udp"), (tcp, "tcp")] {
        urls.extend(
            port.iter()
                .flat_map(|port| hosts.iter().map(move |host| format!("turn:{host}:{port}?transport={transport}"))),
        );
    }
    if let (Some(port), Some(host)) = (tls, certified(scene).or(hosts.first().cloned()))
        && !hosts.is_empty()
    {
        urls.push(format!("turns:{host}:{port}?transport=tcp"));
    }
    urls
}

/// The name that the relay's certificate most likely bears.
fn certified(scene: &Scene<'_>) -> Option<String> {
    let realm = scene.spec.turn.realm.clone().filter(|realm| realm.contains('.'));
    realm.or_else(|| scene.spec.exposure.ingress.as_ref().map(|ingress| ingress.host.clone()))
}

/// Hosts of the relay: what the spec names without a port (the same port leads on from there), else external addresses
/// of the node, else its internal ones.
fn best(scene: &Scene<'_>, addresses: Vec<IpAddr>) -> Vec<String> {
    let external: Vec<IpAddr> =
        node_ips(scene, &["ExternalIP"]).into_iter().filter(|ip| addresses.contains(ip)).collect();
    let mut hosts: Vec<IpAddr> = scene.spec.exposure.announce.iter().filter_map(|text| text.parse().ok()).collect();
    hosts.extend(if external.is_empty() { addresses } else { external });
    written(deduplicated(hosts))
}

/// As hosts of URLs.
fn written(ips: Vec<IpAddr>) -> Vec<String> {
    ips.into_iter()
        .map(|ip| match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        })
        .collect()
}

/// The node's addresses of those families that the Service has.
fn node_addresses(scene: &Scene<'_>, service: &Service) -> Vec<IpAddr> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    let mut ips = all_node_addresses(scene);
    ips.retain(|ip| {
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        families.is_empty() || families.iter().any(|one| one == family)
    });
    ips
}

/// The addresses of the pod's node, external ones first. Where nodes may not be read, what the pod says of its node.
pub(crate) fn all_node_addresses(scene: &Scene<'_>) -> Vec<IpAddr> {
    let ips = node_ips(scene, &["ExternalIP", "InternalIP"]);
    if !ips.is_empty() {
        return ips;
    }
    let Some(status) = scene.pod().and_then(|pod| pod.status.as_ref()) else { return Vec::new() };
    let several = status.host_ips.iter().flatten().map(|ip| ip.ip.as_str());
    deduplicated(several.chain(status.host_ip.as_deref()).filter_map(|ip| ip.parse().ok()).collect())
}

fn node_ips(scene: &Scene<'_>, types: &[&str]) -> Vec<IpAddr> {
    let addresses = scene.observed.node.as_ref().and_then(|node| node.status.as_ref()?.addresses.as_ref());
    let of = |type_: &str| {
        let mut ips = Vec::new();
        for address in addresses.into_iter().flatten().filter(|address| address.type_ == type_) {
            ips.extend(address.address.parse::<IpAddr>().ok());
        }
        ips
    };
    deduplicated(types.iter().flat_map(|type_| of(type_)).collect())
}

/// Addresses and names of the load balancer.
pub(crate) fn load_balancer(service: &Service) -> (Vec<IpAddr>, Vec<String>) {
    let points = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let mut found = (Vec::new(), Vec::new());
    for point in points.into_iter().flatten() {
        match point.ip.as_ref().and_then(|ip| ip.parse().ok()) {
            Some(ip) => found.0.push(ip),
            None => found.1.extend(point.hostname.clone()),
        }
    }
    found
}

fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let several = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    deduplicated(several.filter_map(|ip| ip.parse().ok()).collect())
}

fn kind(service: &Service) -> &str {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()).unwrap_or("ClusterIP")
}

/// Whether the cluster has given the Service a port of the nodes.
pub(crate) fn has_node_port(service: &Service) -> bool {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    ports.into_iter().flatten().any(|port| node_port(port).is_some())
}

fn service_port<'a>(service: &'a Service, name: &str) -> Option<&'a ServicePort> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    ports.iter().find(|port| port.name.as_deref() == Some(name))
}

fn node_port(port: &ServicePort) -> Option<u16> {
    number(port.node_port?)
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}

/// A port that the running pod has on its node.
fn host_port(scene: &Scene<'_>, container: &str, port: &str) -> Option<u16> {
    let containers = &scene.pod()?.spec.as_ref()?.containers;
    let ports = containers.iter().find(|one| one.name == container)?.ports.as_ref()?;
    number(ports.iter().find(|one| one.name.as_deref() == Some(port))?.host_port?)
}

fn deduplicated<T: PartialEq>(values: Vec<T>) -> Vec<T> {
    let mut once = Vec::with_capacity(values.len());
    for value in values {
        if !once.contains(&value) {
            once.push(value);
        }
    }
    once
}
