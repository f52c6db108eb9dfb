//! An operator as a process of this machine, started where the cluster is reached, for one namespace: with the rights that
//! the chart gives one, its flags, and an identity of its own, so that the audit log tells its requests apart.

use super::chosen;
use super::release::rendered;
use crate::harness::{Kube, Place, command, output_of, text, until};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use streamsession_tests::faults::abort::{At, Written};
use streamsession_tests::faults::storm::Rates;
use streamsession_tests::faults::{Faults, Proxied, VARIABLE};

/// Ports on loopback, where the cluster is reached.
static PORT: AtomicU16 = AtomicU16::new(19_000);
/// Kinds of the chart that grant something.
const RIGHTS: [&str; 5] = ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
/// Until its caches are filled.
const STARTED: Duration = Duration::from_secs(30);

fn port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], PORT.fetch_add(1, Ordering::SeqCst)))
}

/// Where an operator works and who it is. Its namespace and its rights go when this is dropped.
pub(crate) struct Post {
    pub(crate) kube: Kube,
    /// As the audit log has it.
    pub(crate) user: String,
    arguments: Vec<String>,
    kubeconfig: Value,
    folder: tempfile::TempDir,
    cluster_wide: Vec<String>,
}

impl Post {
    /// In a namespace of this name, which is new.
    pub(crate) fn new(namespace: &str) -> Post {
        let kube = Kube::fresh(namespace);
        let all = rendered(namespace, namespace, &["--set", &format!("watchNamespaces={{{namespace}}}")]);
        let rights: Vec<&Value> = all.iter().filter(|object| grants(object)).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": rights});
        kube.apply(&list.to_string());
        let is = |object: &&Value, kind: &str| object["kind"] == kind;
        let deployment = all.iter().find(|object| is(object, "Deployment")).unwrap();
        let account = text(deployment, "/spec/template/spec/serviceAccountName");
        let flags = deployment.pointer("/spec/template/spec/containers/0/args").and_then(Value::as_array).unwrap();
        let flags = flags.iter().map(|flag| flag.as_str().unwrap().to_owned());
        let cluster_wide = rights.iter().filter(|object| text(object, "/kind").starts_with("Cluster"));
        let name = |object: &&&Value| format!("{}/{}", text(object, "/kind"), text(object, "/metadata/name"));
        Post {
            user: format!("system:serviceaccount:{namespace}:{account}"),
            arguments: flags
                .filter(|flag| !flag.starts_with("--listen=") && !flag.starts_with("--log-format="))
                .collect(),
            kubeconfig: kubeconfig(&kube.kubectl(&["create", "token", &account, "--duration=4h"])),
            folder: tempfile::tempdir().unwrap(),
            cluster_wide: cluster_wide.map(|object| name(&object)).collect(),
            kube,
        }
    }

    /// An operator without faults; its caches are filled.
    pub(crate) fn operator(&self) -> Operator {
        self.start("plain", Faults::default())
    }

    /// One to which something happens at a write.
    pub(crate) fn failing(&self, name: &str, at: Option<At>) -> Operator {
        self.start(name, Faults { at, ..Faults::default() })
    }

    /// One behind a proxy.
    pub(crate) fn behind(&self, name: &str, seed: u64, rates: Rates) -> Operator {
        let kubeconfig = self.write("kubeconfig", &self.kubeconfig);
        let proxied = Proxied { listen: port(), kubeconfig, seed, rates };
        self.start(name, Faults { proxy: Some(proxied), ..Faults::default() })
    }

    fn start(&self, name: &str, mut faults: Faults) -> Operator {
        let listen = port();
        let name = format!("{}-{name}-{}", self.kube.namespace, listen.port());
        let logs = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../test-logs/faults");
        fs::create_dir_all(&logs).unwrap();
        let log = logs.join(format!("{name}.log"));
        let file = File::create(&log).unwrap();
        let journal = self.folder.path().join(format!("{name}.writes"));
        faults.journal = Some(journal.clone());
        let kubeconfig = match &faults.proxy {
            Some(proxied) => through(proxied.listen),
            None => self.kubeconfig.clone(),
        };
        let kubeconfig = self.write(&format!("{name}.kubeconfig"), &kubeconfig);
        // `env` replaces itself, as the scripts of the lab do: the child is the operator.
        let mut command = command(Place::Cluster, "env");
        command.arg(format!("KUBECONFIG={}", kubeconfig.display()));
        command.arg(format!("{VARIABLE}={}", serde_json::to_string(&faults).unwrap()));
        command.arg(format!("STREAMSESSION_OPERATOR_NAMESPACE={}", self.kube.namespace));
        command.arg(format!("STREAMSESSION_POD_NAME={name}"));
        command.arg(env!("CARGO_BIN_EXE_operator-under-faults"));
        command.args(&self.arguments).arg(format!("--listen={listen}"));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Operator { child, log, journal, listen, proxied: faults.proxy.is_some() }
    }

    fn write(&self, name: &str, kubeconfig: &Value) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, kubeconfig.to_string()).unwrap();
        path
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        for object in &self.cluster_wide {
            let _ = self.kube.attempt(&["delete", object, "--ignore-not-found"], "");
        }
        // What failed stays to be looked at; the next run makes the namespace anew.
        if !std::thread::panicking() {
            let _ = self.kube.attempt(&["delete", "namespace", &self.kube.namespace, "--wait=false"], "");
        }
    }
}

/// Of the operator's rights; those for people are others.
fn grants(object: &Value) -> bool {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let of_people = labels.is_some_and(|labels| labels.keys().any(|key| key.contains("aggregate-to")));
    RIGHTS.contains(&text(object, "/kind").as_str()) && !of_people
}

/// The cluster's, with a token in the place of its user.
fn kubeconfig(token: &str) -> Value {
    let mut kubectl = command(Place::Cluster, "kubectl");
    kubectl.args(["config", "view", "--raw", "--minify", "--flatten", "-o", "json"]);
    let mut config: Value = serde_json::from_str(&output_of(kubectl, "")).unwrap();
    config["users"][0]["user"] = json!({"token": token.trim()});
    config
}

/// By way of a proxy, which knows who asks.
fn through(listen: SocketAddr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
        "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{listen}")}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        "users": [{"name": "proxy", "user": {}}],
    })
}

/// A process; it ends when it is dropped.
pub(crate) struct Operator {
    child: Child,
    pub(crate) log: PathBuf,
    journal: PathBuf,
    listen: SocketAddr,
    proxied: bool,
}

impl Operator {
    /// Waits until it says of itself that it is ready.
    pub(crate) fn wait_ready(mut self) -> Operator {
        until(&format!("the operator of {} is ready", self.log.display()), STARTED, || {
            if let Some(status) = self.ended() {
                panic!("the operator ended ({status}): {}", self.last_words());
            }
            let mut curl = command(Place::Cluster, "curl");
            curl.args(["-sS", "--max-time", "2", &format!("http://{}/readyz", self.listen)]);
            let output = crate::harness::run(curl, "");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if said.starts_with("ready") { Ok(()) } else { Err(said) }
        });
        self
    }

    /// Of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where /metrics is, on the machine that reaches the cluster.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Tells its proxy `storm`, `calm`, `freeze` or `thaw`.
    pub(crate) fn order(&mut self, order: &str) {
        assert!(self.proxied, "there is no proxy");
        writeln!(self.child.stdin.as_mut().unwrap(), "{order}").unwrap();
    }

    /// What it has written so far.
    pub(crate) fn written(&self) -> Vec<Written> {
        let text = fs::read_to_string(&self.journal).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// It must still run.
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.ended() {
            panic!("the operator ended ({status}): {}", self.last_words());
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often something is done at once: as many as the machine carries.
pub(crate) fn at_once() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    if chosen::short() { cores } else { cores * 2 }
}

/// Waits until a moment; for what is measured over a time.
pub(crate) fn sleep_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}
