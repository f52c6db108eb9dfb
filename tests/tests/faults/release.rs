//! The operator of the chart: there, or out of the way of those that the tests start themselves.

use crate::harness::{Kube, helm, helm_values, install, tests_folder};
use serde_json::Value;
use std::time::Duration;

/// The release's namespace and its Deployment.
pub(crate) const NAMESPACE: &str = "streamsession-system";
pub(crate) const DEPLOYMENT: &str = "deployment/streamsession-operator";

/// The release's operator is away until this is dropped; the definition of StreamSession is there.
pub(crate) struct Away;

impl Away {
    pub(crate) fn begin() -> Away {
        install();
        scale(0);
        Away
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let kube = Kube::namespace(NAMESPACE);
        let _ = kube.attempt(&["scale", DEPLOYMENT, "--replicas=1"], "");
        let _ = kube.attempt(&["rollout", "status", DEPLOYMENT, "--timeout=60s"], "");
    }
}

/// So many operators, and no other any more.
pub(crate) fn scale(replicas: u32) {
    let kube = Kube::namespace(NAMESPACE);
    kube.kubectl(&["scale", DEPLOYMENT, &format!("--replicas={replicas}")]);
    if replicas == 0 {
        kube.kubectl(&["wait", "--for=delete", "pod", "-l", SELECTOR, "--timeout=90s"]);
    } else {
        kube.kubectl(&["rollout", "status", DEPLOYMENT, "--timeout=60s"]);
    }
}

/// Its pods.
const SELECTOR: &str = "app.kubernetes.io/name=streamsession-operator";

/// What the chart makes with these values, in a namespace that need not be there; hooks and tests left out.
pub(crate) fn rendered(release: &str, namespace: &str, values: &[&str]) -> Vec<Value> {
    let chart = tests_folder().join("../charts/streamsession");
    let from_environment = helm_values();
    let mut arguments = vec!["template", release, chart.to_str().unwrap(), "--namespace", namespace, "--no-hooks"];
    // Rendered without a cluster to ask; the chart wants to know.
    arguments.extend(["--kube-version", "1.35.0"]);
    arguments.extend(from_environment.iter().map(String::as_str));
    arguments.extend(values);
    let output = helm(&arguments);
    assert!(output.status.success(), "helm template: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let documents = text.split("\n---").filter(|part| part.contains("\nkind:"));
    documents.map(|part| serde_yaml::from_str(part.trim_start_matches("---")).unwrap()).collect()
}

/// Containers of the operator that ended since their pods began.
pub(crate) fn restarts() -> u64 {
    let pods = Kube::namespace(NAMESPACE).list("pods", SELECTOR);
    let counts = pods.iter().filter_map(|pod| pod.pointer("/status/containerStatuses/0/restartCount")?.as_u64());
    counts.sum()
}

/// UIDs of its pods.
pub(crate) fn pods() -> Vec<String> {
    let pods = Kube::namespace(NAMESPACE).list("pods", SELECTOR);
    pods.iter().map(|pod| crate::harness::text(pod, "/metadata/uid")).collect()
}

/// For which a patch may take to be in force afterwards.
pub(crate) const CONVERGED: Duration = Duration::from_secs(60);
