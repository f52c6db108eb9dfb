//! What keeps the pod, or a container of it, from running, and what to do about it.
//!
//! Read from what Kubernetes says: the pod's conditions and container states, the claim's phase, recent events. Words
//! that change from one look to the next (back-off times) are left out, so that a message stands still while nothing
//! changes.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus};
use serde_json::Value;

use super::{
    children::{media::MEDIA, relay::TURN, store::STORE},
    reasons,
    references::{self, Need},
    scene::Scene,
};

/// Seconds for which an event counts.
const RECENT: u64 = 300;
/// Seconds after which a claim that is still pending is told of.
const PATIENCE: u64 = 20;
/// Seconds for which a pod may be not ready, or may be there beyond its end, before that is told.
const LATE: u64 = 120;
/// Most bytes of others' words in a message.
const WORDS: usize = 400;

/// What a trouble is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The pod: nothing runs.
    Pod,
    /// The media server.
    Media,
    /// The relay.
    Turn,
    /// The store.
    Store,
}

/// One trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) part: Part,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// All troubles, the causes before what follows from them.
pub(crate) fn troubles(scene: &Scene<'_>) -> Vec<Trouble> {
    let mut found = Vec::new();
    let mut add = |part, (reason, message): (&'static str, String)| found.push(Trouble { part, reason, message });
    let runs = scene.report().is_some();
    for (need, message) in references::missing(scene) {
        let part = match need {
            Need::Media | Need::Ingress => Part::Media,
            Need::Turn => Part::Turn,
            Need::Storage => Part::Store,
        };
        add(part, (reasons::SECRET_MISSING, message.clone()));
        if !runs && need != Need::Ingress {
            add(Part::Pod, (reasons::SECRET_MISSING, message));
        }
    }
    if !runs {
        for trouble in [refused(scene), stuck(scene), volume(scene), unschedulable(scene), mount(scene), failed(scene)]
        {
            trouble.into_iter().for_each(|trouble| add(Part::Pod, trouble));
        }
    }
    for container in scene.containers() {
        let part = match container.name.as_str() {
            MEDIA => Part::Media,
            TURN => Part::Turn,
            STORE => Part::Store,
            _ => Part::Pod,
        };
        if let Some(trouble) = waiting(scene, container).or_else(|| crashing(scene, container)) {
            add(part, trouble);
        }
    }
    // Only where nothing says why.
    if !runs && found.is_empty() {
        late(scene).into_iter().for_each(|(reason, message)| found.push(Trouble { part: Part::Pod, reason, message }));
    }
    found
}

type Finding = Option<(&'static str, String)>;

/// The API server does not let the StatefulSet make its pod.
fn refused(scene: &Scene<'_>) -> Finding {
    if scene.pod().is_some() {
        return None;
    }
    let message = warning(scene, "StatefulSet", &["FailedCreate"])?;
    Some((
        reasons::POD_REFUSED,
        format!(
            "the cluster refuses the pod: {message}: raise the quota, or change what the policy asks for in spec.pod or on namespace {}",
            scene.namespace
        ),
    ))
}

fn volume(scene: &Scene<'_>) -> Finding {
    let claim = scene.claim.as_ref()?;
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let namespace = &scene.namespace;
    match claim.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Lost") => Some((
            reasons::VOLUME_LOST,
            format!(
                "the volume behind claim {name} is gone: restore it, or delete the claim to begin with an empty one"
            ),
        )),
        Some("Bound") => None,
        _ => {
            let told = warning(scene, "PersistentVolumeClaim", &["ProvisioningFailed", "FailedBinding"]);
            let scheduling = scene.pod_condition("PodScheduled").filter(|condition| condition.status == "False");
            let words = scheduling.and_then(|condition| condition.message.as_deref());
            let blocked = words.filter(|words| words.to_ascii_lowercase().contains("persistentvolumeclaim"));
            let since = claim.metadata.creation_timestamp.as_ref().map(|time| time.0);
            let late = since.is_some_and(|since| scene.seconds_since(since) >= PATIENCE)
                // A volume that waits for its pod to be placed is not what holds the pod up.
                && warning(scene, "PersistentVolumeClaim", &["WaitForFirstConsumer"]).is_none();
            let why = told.or(blocked.map(clipped)).or(late.then(|| "nobody has made it yet".to_owned()))?;
            let class = match &scene.spec.storage.storage_class_name {
                Some(class) => format!("see whether `kubectl get storageclass {class}` is there and works, or write another spec.storage.storageClassName"),
                None => "see whether `kubectl get storageclass` shows a default that works, or write spec.storage.storageClassName".to_owned(),
            };
            Some((
                reasons::VOLUME_PENDING,
                format!(
                    "the volume of claim {name} is not there: {why}: {class} (`kubectl -n {namespace} describe pvc {name}` says more)"
                ),
            ))
        }
    }
}

fn unschedulable(scene: &Scene<'_>) -> Finding {
    let condition = scene.pod_condition("PodScheduled")?;
    if condition.status != "False" || condition.reason.as_deref() != Some("Unschedulable") {
        return None;
    }
    let words = clipped(condition.message.as_deref().unwrap_or("no node is suitable"));
    Some((
        reasons::UNSCHEDULABLE,
        format!(
            "no node takes the pod: {words}: make room or add a node, or ask for less in spec.pod (resources, nodeSelector, affinity, tolerations)"
        ),
    ))
}

fn mount(scene: &Scene<'_>) -> Finding {
    if !hangs(scene) {
        return None;
    }
    let words = warning(scene, "Pod", &["FailedMount", "FailedAttachVolume", "FailedMapVolume"])?;
    Some((
        reasons::MOUNT_FAILED,
        format!(
            "a volume cannot be mounted: {words}: see to what it names; `kubectl -n {} describe pod {}-0` says more",
            scene.namespace, scene.name
        ),
    ))
}

/// Whether the pod has a node but no container of it runs yet.
pub(crate) fn hangs(scene: &Scene<'_>) -> bool {
    let waits = |container: &ContainerStatus| {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        waiting.is_some_and(|waiting| {
            matches!(waiting.reason.as_deref(), None | Some("ContainerCreating" | "PodInitializing"))
        })
    };
    scene.living_pod().is_some()
        && scene.pod_condition("PodScheduled").is_some_and(|condition| condition.status == "True")
        && scene.containers().all(waits)
}

/// The pod ended as a whole: evicted, or its node ended it.
fn failed(scene: &Scene<'_>) -> Finding {
    let status = scene.living_pod()?.status.as_ref()?;
    if status.phase.as_deref() != Some("Failed") {
        return None;
    }
    let reason = status.reason.as_deref().unwrap_or("Failed");
    let words = clipped(status.message.as_deref().unwrap_or("the node says no more"));
    Some((
        reasons::POD_FAILED,
        format!(
            "the node ended the pod ({reason}): {words}: it is made anew; look after the node if that happens again"
        ),
    ))
}

/// The pod should have ended, and has not. Kubernetes makes no other one of its name until it is sure.
fn stuck(scene: &Scene<'_>) -> Finding {
    let pod = scene.pod()?;
    // That is the time by which it has to have ended.
    let end = pod.metadata.deletion_timestamp.as_ref()?;
    if scene.seconds_since(end.0) < LATE {
        return None;
    }
    let node = node_name(scene);
    Some((
        reasons::POD_STUCK,
        format!(
            "pod {name}-0 should have ended and has not, and no other is made until it has: see whether node {node} answers (`kubectl get node {node}`) and bring it back; only when that machine is off for good, `kubectl -n {namespace} delete pod {name}-0 --force`",
            name = scene.name,
            namespace = scene.namespace,
        ),
    ))
}

/// The pod has a node and is not ready, and nothing that is told says why.
fn late(scene: &Scene<'_>) -> Finding {
    scene.living_pod()?;
    let ready = scene.pod_condition("Ready")?;
    let since = ready.last_transition_time.as_ref()?;
    if ready.status == "True" || scene.seconds_since(since.0) < LATE {
        return None;
    }
    let (name, namespace, node) = (&scene.name, &scene.namespace, node_name(scene));
    if hangs(scene) {
        let message = format!(
            "nothing of pod {name}-0 has started in two minutes: an image or a volume is slow to come, or node {node} does not answer: `kubectl -n {namespace} describe pod {name}-0` says more"
        );
        return Some((reasons::NOT_READY, message));
    }
    Some((
        reasons::NOT_READY,
        format!(
            "pod {name}-0 has not been ready for more than two minutes: it repairs many recordings (`kubectl -n {namespace} logs {name}-0 -c {MEDIA}` says so), or node {node} does not answer (`kubectl get node {node}`); `kubectl -n {namespace} describe pod {name}-0` says more"
        ),
    ))
}

fn node_name<'a>(scene: &Scene<'a>) -> &'a str {
    let spec = scene.pod().and_then(|pod| pod.spec.as_ref());
    spec.and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

fn waiting(scene: &Scene<'_>, container: &ContainerStatus) -> Finding {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let (name, image) = (&container.name, &container.image);
    let words = waiting.message.as_deref().unwrap_or_default();
    match waiting.reason.as_deref()? {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => {
            let image = wanted_image(scene, name).unwrap_or(image);
            // "Back-off pulling image "x": ErrImagePull: why"
            let why = words.split_once("ErrImagePull: ").map_or(words, |(_, why)| why);
            let field = match (name.as_str(), scene.spec.pod.image.is_empty()) {
                (MEDIA | "install", false) => "correct spec.pod.image",
                _ => "correct the operator's image settings",
            };
            Some((
                reasons::IMAGE_PULL_FAILED,
                format!(
                    "image {image} of container {name} cannot be pulled: {}: {field}, or give the node access to the registry (pull secrets)",
                    clipped(why)
                ),
            ))
        }
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "PreCreateHookError"
        | "PreStartHookError"
        | "PostStartHookError" => Some((
            reasons::CONTAINER_CONFIG_ERROR,
            format!(
                "container {name} cannot be started: {}: see to what it names; `kubectl -n {} describe pod {}-0` says more",
                clipped(words),
                scene.namespace,
                scene.name
            ),
        )),
        _ => None,
    }
}

/// The image as the pod's spec has it; a status may have another name for it.
fn wanted_image<'a>(scene: &Scene<'a>, container: &str) -> Option<&'a String> {
    let spec = scene.pod()?.spec.as_ref()?;
    let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
    all.find(|one| one.name == container)?.image.as_ref()
}

fn crashing(scene: &Scene<'_>, container: &ContainerStatus) -> Finding {
    let state = container.state.as_ref()?;
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let backs_off = state.waiting.as_ref().is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff"));
    let ended = state.terminated.as_ref().filter(|ended| ended.exit_code != 0);
    // Between two back-offs it runs for a moment: that is no recovery.
    let again = !container.ready
        && container.restart_count >= 2
        && last.and_then(|last| last.finished_at.as_ref()).is_some_and(|at| scene.seconds_since(at.0) < RECENT);
    if !(backs_off || ended.is_some() && container.restart_count >= 1 || again) {
        return None;
    }
    let end = ended.or(last);
    let name = &container.name;
    let how = end.map_or_else(|| "it does not say why".to_owned(), ending);
    let remedy = if end.is_some_and(|end| end.reason.as_deref() == Some("OOMKilled")) && name == MEDIA {
        "write a higher spec.pod.resources.limits.memory".to_owned()
    } else {
        format!("`kubectl -n {} logs {}-0 -c {name} --previous` says more", scene.namespace, scene.name)
    };
    Some((reasons::CRASH_LOOPING, format!("container {name} ends again and again, last {how}: {remedy}")))
}

fn ending(end: &ContainerStateTerminated) -> String {
    let how = match end.reason.as_deref() {
        Some("OOMKilled") => "for want of memory (OOMKilled)".to_owned(),
        _ => format!("with exit code {}", end.exit_code),
    };
    match end.message.as_deref().and_then(last_words) {
        Some(words) => format!("{how}: {words}"),
        None => how,
    }
}

/// What a program said last: its last line, and of a line of its JSON log the message alone.
fn last_words(log: &str) -> Option<String> {
    let line = log.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let parsed: Option<Value> = serde_json::from_str(line).ok();
    let message = parsed.as_ref().and_then(|line| {
        [&line["fields"]["message"], &line["message"]].into_iter().find_map(|message| message.as_str())
    });
    Some(clipped(message.unwrap_or(line)))
}

/// The newest event of one of these reasons.
fn warning(scene: &Scene<'_>, about: &str, of: &[&str]) -> Option<String> {
    let fits = |warning: &&super::Warning| {
        warning.about == about && of.contains(&warning.reason.as_str()) && scene.seconds_since(warning.at) < RECENT
    };
    let newest = scene.observed.warnings.iter().filter(fits).max_by_key(|warning| warning.at)?;
    Some(clipped(&newest.message))
}

/// Returns a text without control characters. A Secret's key may have them, and the API server's YAML parser refuses a
/// status with DEL and the like, which JSON does not escape.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() && char != '\n' { char::REPLACEMENT_CHARACTER } else { char })
        .collect()
}

/// Others' words, cut to a bearable length, without what they end with.
pub(crate) fn clipped(words: &str) -> String {
    let words = &printable(words.trim().trim_end_matches(['.', ':', ' ']));
    match words.char_indices().map(|(at, _)| at).take_while(|at| *at <= WORDS).last() {
        Some(end) if words.len() > WORDS => format!("{}…", &words[..end]),
        _ => words.to_owned(),
    }
}
