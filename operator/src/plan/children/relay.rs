//! The containers of the relay: coturn under a supervisor, and the one that brings the supervisor into coturn's image.
//!
//! The supervisor is the media server's own program. It writes coturn's configuration, so that no secret stands in an
//! argument, and lets the relay reach this pod's address and nothing else.

use k8s_openapi::api::core::v1::{Capabilities, Container};
use streamsession_api::{ExposureType, StorageMode, TurnMode};

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
/// Bits per second up to which the relay's own cap of 100 Mbit/s for each relay is ample: a publisher's bitrate, and
/// two thirds of it for what is sent again and for headers.
const AMPLE: u64 = 60_000_000;

/// Realm of the relay.
fn realm(scene: &Scene<'_>) -> String {
    let host = scene.spec.exposure.ingress.as_ref().map(|ingress| ingress.host.clone());
    scene.spec.turn.realm.clone().or(host).unwrap_or_else(|| scene.name.clone())
}

/// Bytes per second that one relay has to carry, when that is more than the relay allows by itself.
fn most_bytes(scene: &Scene<'_>) -> Option<u32> {
    let bitrate = scene.spec.limits.max_bitrate.as_u64();
    let bytes = bitrate.saturating_mul(5) / 3 / 8;
    (bitrate > AMPLE).then(|| u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// Brings our program to the containers of other images: the relay's supervisor, and what holds the store back at the end.
pub(super) fn install(scene: &Scene<'_>) -> Option<Container> {
    let wanted = scene.spec.turn.mode == TurnMode::Managed || scene.spec.storage.mode == StorageMode::Managed;
    wanted.then(|| Container {
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
    if let Some(bytes) = most_bytes(scene) {
        command.extend(["--max-bytes-per-second".to_owned(), bytes.to_string()]);
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
    let mut relay = container(scene, TURN, &scene.settings.images.coturn);
    if let Some(context) = &mut relay.security_context {
        // coturn's image gives its program this capability by its file; without it in the bounding set the kernel does
        // not start the program at all. It is the one that the restricted standard lets a container add.
        let (all, bind) = (words(&["ALL"]), words(&["NET_BIND_SERVICE"]));
        context.capabilities = Some(Capabilities { drop: Some(all), add: Some(bind) });
    }
    Some(Container {
        command: Some(command),
        env: Some(vec![field("POD_IP", "status.podIP")]),
        ports: Some(ports),
        volume_mounts: Some(mounts),
        resources: Some(resources("20m", "32Mi", "256Mi")),
        ..relay
    })
}
