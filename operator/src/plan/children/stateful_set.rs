//! The StatefulSet: one pod, replaced only when the operator deletes it.

use k8s_openapi::{
    api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{metadata, pod};
use crate::plan::{names, scene::Scene};

pub(super) fn stateful_set(scene: &Scene<'_>) -> StatefulSet {
    StatefulSet {
        metadata: metadata(scene, scene.name.clone(), "media"),
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(scene.name.clone()),
            selector: LabelSelector { match_labels: Some(names::selector(&scene.name)), ..LabelSelector::default() },
            template: pod::template(scene),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                rolling_update: None,
            }),
            revision_history_limit: Some(3),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}
