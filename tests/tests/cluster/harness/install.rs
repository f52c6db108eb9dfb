//! The chart, installed as a user would: `helm install`, with the images that are in the cluster already.

use super::{Kube, Place, command, output_of, run, tests_folder};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

/// Namespace and name of the release.
const NAMESPACE: &str = "streamsession-system";
const RELEASE: &str = "streamsession";

static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Runs helm, for the release's namespace. After what changes the release, the next `install` makes it as all tests want it.
pub(crate) fn helm(arguments: &[&str]) -> Output {
    if arguments.first().is_some_and(|verb| ["upgrade", "uninstall", "rollback"].contains(verb)) {
        INSTALLED.store(false, Ordering::SeqCst);
    }
    let mut helm = command(Place::Cluster, "helm");
    helm.args(["--namespace", NAMESPACE]).args(arguments);
    run(helm, "")
}

/// What names the cluster's images: a file of chart values (`CLUSTER_VALUES`), and tags of what was built last
/// (`OPERATOR_IMAGE`, `MEDIA_SERVER_IMAGE`). Without them the chart's defaults hold.
pub(crate) fn helm_values() -> Vec<String> {
    let mut values = Vec::new();
    if let Ok(file) = std::env::var("CLUSTER_VALUES") {
        values.extend(["--values".to_owned(), file]);
    }
    for (variable, program) in [("OPERATOR_IMAGE", "operator"), ("MEDIA_SERVER_IMAGE", "mediaServer")] {
        if let Some((repository, tag)) =
            std::env::var(variable).ok().as_deref().and_then(|image| image.rsplit_once(':'))
        {
            let set = format!("images.{program}.repository={repository},images.{program}.tag={tag}");
            values.extend(["--set-string".to_owned(), set]);
        }
    }
    values
}

/// The operator, watching all namespaces. Once for all tests of a run.
pub(crate) fn install() {
    if INSTALLED.swap(true, Ordering::SeqCst) {
        return;
    }
    Kube::restricted(NAMESPACE);
    let chart = tests_folder().join("../charts/streamsession");
    let mut helm = command(Place::Cluster, "helm");
    helm.args(["--namespace", NAMESPACE, "upgrade", "--install", RELEASE]).arg(chart);
    helm.args(["--reset-values", "--wait", "--timeout", "90s"]).args(helm_values());
    output_of(helm, "");
}

/// Takes the operator away, so that the next test installs it anew.
pub(crate) fn uninstall() {
    let output = helm(&["uninstall", RELEASE, "--wait", "--timeout", "90s"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
