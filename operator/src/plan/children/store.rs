//! The container of the store in the pod: MinIO, which is told its credentials by files.
//!
//! When the pod ends, a hook holds it back until the media server has ended: what a drain finalises has somewhere to go. It
//! is no sidecar, since then no camera could come while its image cannot be had.

use k8s_openapi::api::core::v1::{Container, ExecAction, Lifecycle, LifecycleHandler};
use streamsession_api::StorageMode;

use super::{
    container::{container, data, env, mount, port, probe, read_only, resources, words},
    services::STORE_PORT,
};
use crate::plan::scene::Scene;

/// Its name.
pub(crate) const STORE: &str = "store";

pub(super) fn store(scene: &Scene<'_>) -> Option<Container> {
    (scene.spec.storage.mode == StorageMode::Managed).then(|| Container {
        command: Some(words(&["minio", "server", "/data", "--address", "0.0.0.0:9000"])),
        env: Some(vec![
            env("MINIO_ROOT_USER_FILE", "/etc/streamsession-store/accessKeyId"),
            env("MINIO_ROOT_PASSWORD_FILE", "/etc/streamsession-store/secretAccessKey"),
            env("MINIO_BROWSER", "off"),
            env("MINIO_UPDATE", "off"),
            env("MINIO_CALLHOME_ENABLE", "off"),
            // It makes a folder for certificates there.
            env("HOME", "/tmp"),
        ]),
        ports: Some(vec![port("s3", "TCP", STORE_PORT, false)]),
        volume_mounts: Some(vec![
            data("store"),
            read_only("store-credentials", "/etc/streamsession-store"),
            read_only("shared", "/shared"),
            mount("store-tmp", "/tmp"),
        ]),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                exec: Some(ExecAction { command: Some(words(&["/shared/media-server", "linger"])) }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(resources("50m", "128Mi", "1Gi")),
        readiness_probe: Some(probe("s3", "/minio/health/live", 2, 3)),
        ..container(scene, STORE, &scene.settings.images.minio)
    })
}
