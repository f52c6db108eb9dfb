//! The clean-up: a Job that applies retention to store and volume, by the schedule of the spec.
//!
//! It runs beside the session's pod, on the same node, since the volume can be mounted there and nowhere else. It is the
//! media server's own program, with the session's document, and finds all else where the server finds it. One at a time,
//! and none is made up for: the next one does what the last one did not.

use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobSpec, JobSpec, JobTemplateSpec},
        core::v1::{Affinity, Container, PodAffinity, PodAffinityTerm, PodSpec, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use streamsession_api::StorageMode;

use super::{
    container::{container, data, env, field, media_image, mount, read_only, resources, words},
    media::PROGRAM,
    metadata, pod, reach,
    services::STORE_PORT,
};
use crate::plan::{names, scene::Scene};

/// Seconds after which a clean-up that has not ended is ended. Also: for how long it waits for the session's pod.
const DEADLINE: i64 = 3600;
/// Seconds that one may be late, when the controller was away; later it is left out.
const LATE: i64 = 300;
/// Where a program writes what the pod's status is to say of its end.
pub(super) const REPORT: &str = "/dev/termination-log";

pub(super) fn cron_job(scene: &Scene<'_>) -> CronJob {
    let labels = names::cleanup_labels(&scene.name);
    let labelled = || Some(ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() });
    CronJob {
        metadata: metadata(scene, scene.name.clone(), "cleanup"),
        spec: Some(CronJobSpec {
            schedule: scene.spec.recording.cleanup_schedule.clone(),
            time_zone: Some("Etc/UTC".to_owned()),
            concurrency_policy: Some("Forbid".to_owned()),
            starting_deadline_seconds: Some(LATE),
            successful_jobs_history_limit: Some(1),
            failed_jobs_history_limit: Some(1),
            job_template: JobTemplateSpec {
                metadata: labelled(),
                spec: Some(JobSpec {
                    backoff_limit: Some(0),
                    active_deadline_seconds: Some(DEADLINE),
                    template: PodTemplateSpec { metadata: labelled(), spec: Some(pod_spec(scene)) },
                    ..JobSpec::default()
                }),
            },
            ..CronJobSpec::default()
        }),
        status: None,
    }
}

fn pod_spec(scene: &Scene<'_>) -> PodSpec {
    let beside = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some(names::selector(&scene.name)),
            ..LabelSelector::default()
        }),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    let mut volumes = pod::data_volumes(scene);
    volumes.push(pod::empty("tmp", "64Mi"));
    PodSpec {
        containers: vec![cleanup(scene)],
        volumes: Some(volumes),
        service_account_name: Some(scene.name.clone()),
        restart_policy: Some("Never".to_owned()),
        tolerations: Some(scene.spec.pod.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
        affinity: Some(Affinity {
            pod_affinity: Some(PodAffinity {
                required_during_scheduling_ignored_during_execution: Some(vec![beside]),
                ..PodAffinity::default()
            }),
            ..Affinity::default()
        }),
        ..pod::bare(scene)
    }
}

fn cleanup(scene: &Scene<'_>) -> Container {
    let mut variables = vec![field("POD_NAMESPACE", "metadata.namespace"), env("HOME", "/tmp")];
    if scene.spec.storage.mode == StorageMode::Managed {
        let (service, namespace) = (names::store(&scene.name), &scene.namespace);
        variables.push(env("MEDIA_STORE_ENDPOINT", &format!("http://{service}.{namespace}.svc:{STORE_PORT}")));
    }
    let mut mounts = vec![data("media"), read_only("session", "/etc/streamsession"), mount("tmp", "/tmp")];
    if pod::store_credentials(scene).is_some() {
        mounts.push(read_only("store-credentials", "/etc/streamsession-store"));
    }
    variables.extend(reach::variables(scene));
    mounts.extend(reach::mounts(scene));
    Container {
        command: Some(words(&[PROGRAM])),
        args: Some(words(&["recordings", "prune", "--orphans", "--yes", "--json", "--report", REPORT])),
        env: Some(variables),
        volume_mounts: Some(mounts),
        resources: Some(resources("10m", "32Mi", "512Mi")),
        ..container(scene, "cleanup", media_image(scene))
    }
}
