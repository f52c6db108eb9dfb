//! A session beside what was seen of it, read once, as the parts of the planner look at it.

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{ContainerStatus, PersistentVolumeClaim, Pod, Service},
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use streamsession_api::{StreamSession, StreamSessionSpec};

use super::{
    Child, Kind, Observed, ServerReport, Settings,
    names::{self, Belongs},
};

/// A session beside what was seen of it.
pub(crate) struct Scene<'a> {
    pub(crate) session: &'a StreamSession,
    pub(crate) spec: &'a StreamSessionSpec,
    pub(crate) settings: &'a Settings,
    pub(crate) observed: &'a Observed,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) stateful_set: Option<StatefulSet>,
    pub(crate) claim: Option<PersistentVolumeClaim>,
    pub(crate) media_service: Option<Service>,
    pub(crate) turn_service: Option<Service>,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(session: &'a StreamSession, settings: &'a Settings, observed: &'a Observed) -> Self {
        let name = session.name_any();
        let mut scene = Self {
            session,
            spec: &session.spec,
            settings,
            observed,
            namespace: session.namespace().unwrap_or_default(),
            stateful_set: None,
            claim: None,
            media_service: None,
            turn_service: None,
            name,
        };
        scene.stateful_set = scene.typed(Kind::StatefulSet, &scene.name);
        scene.claim = scene.typed(Kind::PersistentVolumeClaim, &names::claim(&scene.name));
        scene.media_service = scene.typed(Kind::Service, &names::media(&scene.name));
        scene.turn_service = scene.typed(Kind::Service, &names::turn(&scene.name));
        scene
    }

    /// A child as it was seen.
    pub(crate) fn child(&self, kind: Kind, name: &str) -> Option<&'a Value> {
        self.observed.children.get(&Child { kind, name: name.to_owned() })
    }

    /// A child of this session; one that is somebody else's is as good as absent.
    fn typed<T: DeserializeOwned>(&self, kind: Kind, name: &str) -> Option<T> {
        let value = self.child(kind, name)?;
        if names::belongs(value, self.session) != Belongs::Ours {
            return None;
        }
        serde_json::from_value(value.clone()).ok()
    }

    /// The pod, if it is this session's.
    pub(crate) fn pod(&self) -> Option<&'a Pod> {
        let pod = self.observed.pod.as_ref()?;
        (pod.labels().get(names::SESSION_LABEL) == Some(&self.name)).then_some(pod)
    }

    /// Whether the pod is there and not about to end.
    pub(crate) fn living_pod(&self) -> Option<&'a Pod> {
        self.pod().filter(|pod| pod.metadata.deletion_timestamp.is_none())
    }

    /// Whether the kubelet says that the pod is ready.
    pub(crate) fn pod_is_ready(&self) -> bool {
        self.pod_condition("Ready").is_some_and(|condition| condition.status == "True")
    }

    pub(crate) fn pod_condition(&self, type_: &str) -> Option<&'a k8s_openapi::api::core::v1::PodCondition> {
        let status = self.pod()?.status.as_ref()?;
        status.conditions.iter().flatten().find(|condition| condition.type_ == type_)
    }

    /// States of all containers, those that run first to begin with.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &'a ContainerStatus> {
        let status = self.pod().and_then(|pod| pod.status.as_ref());
        let init = status.and_then(|status| status.init_container_statuses.as_ref());
        let main = status.and_then(|status| status.container_statuses.as_ref());
        init.into_iter().flatten().chain(main.into_iter().flatten())
    }

    /// Whether the kubelet says that a container is ready, be the pod as a whole ready or not.
    pub(crate) fn container_is_ready(&self, container: &str) -> bool {
        self.containers().any(|one| one.name == container && one.ready)
    }

    /// Whether the pod, as it runs now, has this container.
    pub(crate) fn runs(&self, container: &str) -> bool {
        self.pod()
            .and_then(|pod| pod.spec.as_ref())
            .is_some_and(|spec| spec.containers.iter().any(|one| one.name == container))
    }

    /// What the server says.
    pub(crate) fn report(&self) -> Option<&'a ServerReport> {
        self.observed.server.as_ref()?.as_ref().ok()
    }

    /// Whether the server has taken this generation of the spec over, as it said when it last said anything.
    pub(crate) fn is_in_force(&self) -> bool {
        let before = || self.session.status.as_ref()?.limits.as_ref().map(|limits| limits.generation);
        self.report().map(|report| report.generation).or_else(before) == Some(self.generation())
    }

    /// A condition as the status has it now.
    pub(crate) fn condition(&self, type_: &str) -> Option<&'a Condition> {
        self.session.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Generation of the spec.
    pub(crate) fn generation(&self) -> i64 {
        self.session.metadata.generation.unwrap_or_default()
    }

    /// Seconds since `then`, 0 when it lies ahead.
    pub(crate) fn seconds_since(&self, then: jiff::Timestamp) -> u64 {
        u64::try_from(self.observed.now.duration_since(then).as_secs()).unwrap_or_default()
    }
}
