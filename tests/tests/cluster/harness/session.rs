//! A StreamSession of a test: applied, waited for, patched, and deleted in the end.

use super::{Kube, text, until};
use serde_json::{Value, json};
use std::time::Duration;

/// Goes when it is dropped.
pub(crate) struct Session {
    pub(crate) kube: Kube,
    pub(crate) name: String,
}

impl Session {
    /// Applies one with this spec (indented YAML below `spec:`, or `{}`).
    pub(crate) fn apply(kube: &Kube, name: &str, spec: &Value) -> Session {
        let said = kube.apply(&document(name, spec));
        assert!(!said.contains("Warning"), "{said}");
        Session { kube: kube.clone(), name: name.to_owned() }
    }

    /// The resource as it is now.
    pub(crate) fn get(&self) -> Value {
        self.kube.get("streamsession", &self.name)
    }

    /// `kubectl wait`, as a user would.
    pub(crate) fn wait_ready(&self, limit: Duration) {
        let (what, timeout) = (format!("streamsession/{}", self.name), format!("--timeout={}s", limit.as_secs()));
        let output = self.kube.attempt(&["wait", "--for=condition=Ready", &what, &timeout], "");
        assert!(
            output.status.success(),
            "not Ready within {limit:?}: {}\n{:#}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.get()["status"],
            self.story()
        );
    }

    /// What an engineer would look at next.
    pub(crate) fn story(&self) -> String {
        let label = format!("media.streamsession.io/session={}", self.name);
        let show = |arguments: &[&str]| {
            let output = self.kube.attempt(arguments, "");
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
        };
        let pod = format!("{}-0", self.name);
        let mut story = show(&["get", "all,pvc,ingress,secret", "-l", &label]);
        story += &show(&["describe", "pod", &pod]);
        for container in ["install", "media", "turn", "store"] {
            story += &format!("--- {container}\n{}", show(&["logs", &pod, "-c", container, "--tail=30"]));
        }
        story
    }

    /// A condition: (status, reason, message).
    pub(crate) fn condition(&self, kind: &str) -> Option<(String, String, String)> {
        let session = self.get();
        let conditions = session.pointer("/status/conditions")?.as_array()?.clone();
        let found = conditions.into_iter().find(|condition| condition["type"] == kind)?;
        Some((text(&found, "/status"), text(&found, "/reason"), text(&found, "/message")))
    }

    /// Waits until a condition has this status and reason; gives its message.
    pub(crate) fn wait_condition(&self, kind: &str, status: &str, reason: &str, limit: Duration) -> String {
        until(&format!("{kind} is {status} by {reason}"), limit, || match self.condition(kind) {
            Some((is, why, message)) if is == status && (reason.is_empty() || why == reason) => Ok(message),
            other => Err(format!("{other:?}")),
        })
    }

    /// A merge patch of the spec.
    pub(crate) fn patch(&self, spec: Value) {
        self.kube.patch("streamsession", &self.name, &json!({ "spec": spec }));
    }

    /// The pod's UID.
    pub(crate) fn pod_uid(&self) -> String {
        text(&self.kube.get("pod", &format!("{}-0", self.name)), "/metadata/uid")
    }

    /// Restarts of all containers, in all.
    pub(crate) fn restarts(&self) -> u64 {
        let pod = self.kube.get("pod", &format!("{}-0", self.name));
        let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array).cloned().unwrap_or_default();
        statuses.iter().filter_map(|status| status["restartCount"].as_u64()).sum()
    }

    /// A token for everything, signed with the session's own secret.
    pub(crate) fn token(&self, scope: &str) -> String {
        token(&self.kube.secret(&format!("{}-keys", self.name), "secret"), scope)
    }

    /// Deletes it and waits until its pod is gone too.
    pub(crate) fn delete(self) {
        drop(self);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = self.kube.find("streamsession", &self.name).unwrap_or_default()["status"].clone();
            super::figure(&format!("{status:#}\n{}", self.story()));
        }
        let pod = format!("pod/{}-0", self.name);
        let _ = self.kube.attempt(&["delete", "streamsession", &self.name, "--ignore-not-found", "--timeout=60s"], "");
        let _ = self.kube.attempt(&["wait", "--for=delete", &pod, "--timeout=90s"], "");
    }
}

/// The resource as YAML; JSON is YAML. Unless the spec says otherwise, recordings last a day: a full hour in the middle of a
/// test must not split them.
pub(crate) fn document(name: &str, spec: &Value) -> String {
    let mut spec = spec.clone();
    if let Some(recording) =
        spec.as_object_mut().and_then(|spec| spec.entry("recording").or_insert_with(|| json!({})).as_object_mut())
    {
        recording.entry("maxDuration").or_insert_with(|| "24h".into());
    }
    let document = json!({
        "apiVersion": "media.streamsession.io/v1alpha1", "kind": "StreamSession", "metadata": {"name": name}, "spec": spec,
    });
    document.to_string()
}

/// A token of HS256 for every room.
fn token(secret: &str, scope: &str) -> String {
    let claims = json!({"sub": "cluster-tests", "exp": jsonwebtoken::get_current_timestamp() + 3600, "scope": scope, "room": "*"});
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

/// Opens the session's HTTP on a port of every node: the way in where there is no ingress. Gives the base URL.
pub(crate) fn open_http(kube: &Kube, name: &str) -> String {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("{name}-from-outside")},
        "spec": {
            "type": "NodePort", "selector": {"media.streamsession.io/session": name},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    });
    kube.apply(&service.to_string());
    let made = kube.get("service", &format!("{name}-from-outside"));
    let base = format!("http://{}:{}", super::node_address(), text(&made, "/spec/ports/0/nodePort"));
    // The node learns of a Service a moment after it is made.
    until(&format!("{base} answers"), Duration::from_secs(20), || {
        let mut curl = super::command(super::Place::Outside, "curl");
        curl.args(["-sS", "-o", "/dev/null", "--max-time", "2", &base]);
        let output = super::run(curl, "");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
    base
}
