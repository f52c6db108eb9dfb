//! The account that the pod runs as. It may do nothing, and no token of it is mounted.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::metadata;
use crate::plan::scene::Scene;

pub(super) fn service_account(scene: &Scene<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(scene, scene.name.clone(), "media"),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
