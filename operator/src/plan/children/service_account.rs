//! The account that the pod runs as. It may do nothing in the cluster, and no token for the API server is mounted. With
//! `storage.external.webIdentity`, or by its annotations, it is an identity for the store.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::metadata;
use crate::plan::scene::Scene;

pub(super) fn service_account(scene: &Scene<'_>) -> ServiceAccount {
    let mut metadata = metadata(scene, scene.name.clone(), "media");
    let own = &scene.spec.pod.service_account_annotations;
    if !own.is_empty() {
        metadata.annotations.get_or_insert_default().extend(own.clone());
    }
    ServiceAccount { metadata, automount_service_account_token: Some(false), ..ServiceAccount::default() }
}
