//! The cluster, by kubectl: what a user would type.

use super::{Place, command, output_of, run, until};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Output, Stdio};
use std::time::Duration;

/// A namespace of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Kube {
    pub(crate) namespace: String,
}

impl Kube {
    /// A namespace that is there.
    pub(crate) fn namespace(name: &str) -> Kube {
        Kube { namespace: name.to_owned() }
    }

    /// A namespace of that name, made if need be, that takes only pods of the restricted standard.
    pub(crate) fn restricted(name: &str) -> Kube {
        let kube = Kube::namespace(name);
        kube.apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    \
             pod-security.kubernetes.io/enforce: restricted\n    pod-security.kubernetes.io/warn: restricted\n"
        ));
        kube
    }

    /// The same as `restricted`, and empty: what was in one of that name before is gone.
    pub(crate) fn fresh(name: &str) -> Kube {
        let default = Kube::namespace("default");
        default.kubectl(&["delete", "namespace", name, "--ignore-not-found", "--wait=false"]);
        // Sessions of a run that was cut off may wait for an operator that is no more.
        let kube = Kube::namespace(name);
        let left = kube.attempt(&["get", "streamsessions", "-o", "name"], "");
        for session in String::from_utf8_lossy(&left.stdout).lines() {
            kube.attempt(&["patch", session, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#], "");
        }
        until(&format!("namespace {name} is gone"), Duration::from_secs(120), || {
            default.find("namespace", name).map_or(Ok(()), |there| Err(there["status"].to_string()))
        });
        Kube::restricted(name)
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = command(Place::Cluster, "kubectl");
        command.args(["--namespace", &self.namespace, "--request-timeout=20s"]).args(arguments);
        command
    }

    /// What kubectl prints; it must succeed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        output_of(self.command(arguments), "")
    }

    /// Whatever comes of it.
    pub(crate) fn attempt(&self, arguments: &[&str], input: &str) -> Output {
        run(self.command(arguments), input)
    }

    /// `kubectl apply`; gives what it says, warnings included.
    pub(crate) fn apply(&self, yaml: &str) -> String {
        let output = self.attempt(&["apply", "-f", "-"], yaml);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "kubectl apply: {said}\n{yaml}");
        said
    }

    /// Why the API server refuses this document.
    pub(crate) fn refusal(&self, yaml: &str) -> String {
        let output = self.attempt(&["apply", "--dry-run=server", "-f", "-"], yaml);
        assert!(!output.status.success(), "it was taken:\n{yaml}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// An object, or `None` when it is not there.
    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<Value> {
        let printed = self.kubectl(&["get", kind, name, "--ignore-not-found", "-o", "json"]);
        (!printed.trim().is_empty()).then(|| serde_json::from_str(&printed).unwrap())
    }

    /// An object that must be there.
    pub(crate) fn get(&self, kind: &str, name: &str) -> Value {
        self.find(kind, name).unwrap_or_else(|| panic!("there is no {kind} {name} in {}", self.namespace))
    }

    /// All of a kind, with this label.
    pub(crate) fn list(&self, kind: &str, selector: &str) -> Vec<Value> {
        let printed = self.kubectl(&["get", kind, "-l", selector, "-o", "json"]);
        let list: Value = serde_json::from_str(&printed).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// A merge patch.
    pub(crate) fn patch(&self, kind: &str, name: &str, patch: &Value) {
        self.kubectl(&["patch", kind, name, "--type=merge", "-p", &patch.to_string()]);
    }

    /// Deletes, and waits until it is gone.
    pub(crate) fn delete(&self, kind: &str, name: &str) {
        self.kubectl(&["delete", kind, name, "--ignore-not-found", "--wait=true", "--timeout=90s"]);
    }

    /// A key of a Secret.
    pub(crate) fn secret(&self, name: &str, key: &str) -> String {
        use base64::Engine as _;
        let secret = self.get("secret", name);
        let encoded = secret["data"][key].as_str().unwrap_or_else(|| panic!("{name} has no {key}"));
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded).unwrap()).unwrap()
    }

    /// A Secret whose values are not in any command line.
    pub(crate) fn make_secret(&self, name: &str, values: &[(&str, &str)]) {
        let lines: String = values.iter().map(|(key, value)| format!("  {key}: {value:?}\n")).collect();
        self.apply(&format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\nstringData:\n{lines}"));
    }

    /// `kubectl port-forward` to a port of a Service or pod: reached where the cluster is.
    pub(crate) fn forward(&self, target: &str, port: u16) -> Forward {
        let mut command = self.command(&["port-forward", target, &format!(":{port}")]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        // Forwarding from 127.0.0.1:40123 -> 9000
        let local = line.split(" -> ").next().and_then(|from| from.rsplit(':').next()?.parse().ok());
        let local = local.unwrap_or_else(|| panic!("kubectl port-forward {target} {port} said {line:?}"));
        Forward { child, _said: said, local }
    }

    /// Events of the API group events.k8s.io and of the core about an object: `REASON: message`.
    pub(crate) fn events(&self, name: &str) -> Vec<String> {
        let printed =
            self.kubectl(&["get", "events", "-o", "json", "--field-selector", &format!("involvedObject.name={name}")]);
        let list: Value = serde_json::from_str(&printed).unwrap();
        let each = list["items"].as_array().unwrap().iter();
        each.map(|event| format!("{}: {}", super::text(event, "/reason"), super::text(event, "/message"))).collect()
    }

    /// Waits for an event about an object.
    pub(crate) fn event(&self, name: &str, reason: &str, limit: Duration) -> String {
        until(&format!("event {reason} about {name}"), limit, || {
            let events = self.events(name);
            events.iter().find(|event| event.starts_with(reason)).cloned().ok_or_else(|| format!("{events:?}"))
        })
    }
}

/// A forwarded port, until it is dropped.
pub(crate) struct Forward {
    child: Child,
    /// Each connection is a line: it must have somewhere to write it.
    _said: BufReader<ChildStdout>,
    /// On 127.0.0.1, where the cluster is.
    pub(crate) local: u16,
}

impl Drop for Forward {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
