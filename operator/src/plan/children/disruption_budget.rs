//! The budget that lets a node be drained: one pod is all there is, and it drains itself when it is told to end.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::metadata;
use crate::plan::{names, scene::Scene};

pub(super) fn disruption_budget(scene: &Scene<'_>) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(scene, scene.name.clone(), "media"),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(names::selector(&scene.name)),
                ..LabelSelector::default()
            }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
