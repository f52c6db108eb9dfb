//! The container of the media server.

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use streamsession_api::{AuthMode, ExposureType};

use super::{
    container::{container, data, env, field, media_image, mount, port, probe, read_only, resources, words},
    pod::{Keys, turn_secret},
    reach,
};
use crate::plan::scene::Scene;

/// Its name.
pub(crate) const MEDIA: &str = "media";
/// The program in its image.
pub(super) const PROGRAM: &str = "/media-server";
/// Port of signalling and pages.
pub(crate) const HTTP_PORT: u16 = 8080;
/// Port of admin API, metrics and probes.
pub(crate) const MANAGEMENT_PORT: u16 = 8081;

pub(super) fn media(scene: &Scene<'_>) -> Container {
    let exposure = &scene.spec.exposure;
    let media_port = exposure.media_port.to_string();
    let mut args = words(&[
        "--http",
        "0.0.0.0:8080",
        "--management",
        "0.0.0.0:8081",
        "--udp-port",
        &media_port,
        "--data-dir",
        "/data",
        "--session",
        "/etc/streamsession/session.yaml",
        "--log-format",
        "json",
        "--admin-token-file",
        "/etc/streamsession-admin/token",
    ]);
    let mut mounts = vec![
        data("media"),
        read_only("session", "/etc/streamsession"),
        read_only("admin", "/etc/streamsession-admin"),
        mount("media-tmp", "/tmp"),
    ];
    if scene.spec.auth.mode == AuthMode::Jwt && Keys::of(scene).is_some() {
        args.extend(words(&["--jwt-secret-file", "/etc/streamsession-keys/secret"]));
        mounts.push(read_only("keys", "/etc/streamsession-keys"));
    }
    if turn_secret(scene).is_some() {
        args.extend(words(&["--turn-secret-dir", "/etc/streamsession-turn"]));
        mounts.push(read_only("turn-secret", "/etc/streamsession-turn"));
    }
    if super::pod::store_credentials(scene).is_some() {
        args.extend(words(&["--store-credentials-dir", "/etc/streamsession-store"]));
        mounts.push(read_only("store-credentials", "/etc/streamsession-store"));
    }
    args.extend(reach::args(scene));
    mounts.extend(reach::mounts(scene));
    let mut variables =
        vec![field("POD_IP", "status.podIP"), field("POD_NAMESPACE", "metadata.namespace"), env("HOME", "/tmp")];
    variables.extend(reach::variables(scene));
    let given = &scene.spec.pod.resources;
    let resources =
        if *given == ResourceRequirements::default() { resources("100m", "128Mi", "1Gi") } else { given.clone() };
    Container {
        command: Some(words(&[PROGRAM])),
        args: Some(args),
        env: Some(variables),
        ports: Some(vec![
            port("http", "TCP", HTTP_PORT, false),
            port("management", "TCP", MANAGEMENT_PORT, false),
            port("media", "UDP", exposure.media_port, exposure.type_ == ExposureType::HostPort),
        ]),
        volume_mounts: Some(mounts),
        resources: Some(resources),
        // Recordings that a crash left are repaired before it is ready.
        startup_probe: Some(probe("management", "/readyz", 1, 600)),
        readiness_probe: Some(probe("management", "/readyz", 2, 3)),
        liveness_probe: Some(probe("management", "/healthz", 10, 6)),
        ..container(scene, MEDIA, media_image(scene))
    }
}
