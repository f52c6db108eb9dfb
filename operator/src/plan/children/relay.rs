//! The containers of the relay: coturn under a supervisor, and the one that brings the supervisor into coturn's image.
//!
//! The supervisor is the media server's own program. It writes coturn's configuration, so that no secret stands in an
//! argument, and lets the relay reach this pod's address and nothing else.

use k8s_openapi::api::core::v1::Container;
use streamsession_api::{ExposureType, TurnMode};

use super::{
    container::{container, field, media_image, mount, port, read_only, resources, words},
    media::PROGRAM,
    services::{TURN_PORT, TURNS_PORT},
};
use crate::plan::scene::Scene;

/// Name of the relay's container.
pub(crate) const TURN: &str = "turn";
/// Name of the container that brings the supervisor.
pub(crate) const INSTALL: &str = "install";

/// Realm of the relay.
fn realm(scene: &Scene<'_>) -> String {
    let host = scene.spec.exposure.ingress.as_ref().map(|ingress| ingress.host.clone());
    scene.spec.turn.realm.clone().or(host).unwrap_or_else(|| scene.name.clone())
}

pub(super) fn install(scene: &Scene<'_>) -> Option<Container> {
    (scene.spec.turn.mode == TurnMode::Managed).then(|| Container {
        command: Some(words(&[PROGRAM, "install", "/shared"])),
        volume_mounts: Some(vec![mount("shared", "/shared")]),
        resources: Some(resources("20m", "32Mi", "128Mi")),
        ..container(scene, INSTALL, media_image(scene))
    })
}

pub(super) fn turn(scene: &Scene<'_>) -> Option<Container> {
    let turn = &scene.spec.turn;
    if turn.mode != TurnMode::Managed {
        return None;
    }
    let host = scene.spec.exposure.type_ == ExposureType::HostPort;
    let mut command = words(&["/shared/media-server", "relay", "--realm"]);
    command.push(realm(scene));
    command.extend(words(&["--listen-port", "3478", "--log-format", "json"]));
    let mut ports = vec![port("turn-udp", "UDP", TURN_PORT, host), port("turn-tcp", "TCP", TURN_PORT, host)];
    let mut mounts = vec![
        read_only("shared", "/shared"),
        read_only("turn-secret", "/etc/streamsession-turn"),
        mount("turn-tmp", "/tmp"),
    ];
    if turn.tls_secret_name.is_some() {
        command.extend(words(&["--tls-port", "5349", "--tls-dir", "/etc/streamsession-turn-tls"]));
        ports.push(port("turns", "TCP", TURNS_PORT, host));
        mounts.push(read_only("turn-tls", "/etc/streamsession-turn-tls"));
    }
    command.extend(words(&[
        "--secret-dir",
        "/etc/streamsession-turn",
        "--state-dir",
        "/tmp",
        "--relay-address",
        "$(POD_IP)",
        "--allow-peer",
        "$(POD_IP)",
        "--",
        "turnserver",
    ]));
    Some(Container {
        command: Some(command),
        env: Some(vec![field("POD_IP", "status.podIP")]),
        ports: Some(ports),
        volume_mounts: Some(mounts),
        resources: Some(resources("20m", "32Mi", "256Mi")),
        ..container(scene, TURN, &scene.settings.images.coturn)
    })
}
