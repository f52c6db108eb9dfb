//! Cameras, viewers and Chromium on a network that is not the cluster's.

use super::{Kube, Place, command, output_of, run, tests_folder, text};
use serde_json::{Value, json};
use sfu::parameters::Fingerprint;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use streamsession_tests::peer::credentials;
use streamsession_tests::sdp::{self, Local};

/// A program that runs until it is stopped or dropped.
pub(crate) struct Background {
    child: Child,
    name: String,
}

impl Background {
    fn start(mut command: Command, name: &str) -> Background {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Background { child: command.spawn().unwrap(), name: name.to_owned() }
    }

    /// Waits until it has ended by itself: standard output as JSON, or what it complained of.
    pub(crate) fn outcome(mut self) -> Result<Value, String> {
        let output = std::mem::replace(&mut self.child, idle()).wait_with_output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            return Err(format!("{}: {}: {stderr}", self.name, output.status));
        }
        serde_json::from_str(&stdout).map_err(|error| format!("{}: {error}: {stdout}{stderr}", self.name))
    }

    /// The same; it must succeed.
    pub(crate) fn finish(self) -> Value {
        self.outcome().unwrap_or_else(|complaint| panic!("{complaint}"))
    }

    /// It must still run.
    pub(crate) fn assert_running(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            let output = std::mem::replace(&mut self.child, idle()).wait_with_output().unwrap();
            panic!("{} ended: {}: {}", self.name, output.status, String::from_utf8_lossy(&output.stderr));
        }
    }
}

fn idle() -> Child {
    Command::new("true").spawn().unwrap()
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate for some hosts, and the authority that signed it.
pub(crate) struct Tls {
    folder: tempfile::TempDir,
}

impl Tls {
    /// For these host names.
    pub(crate) fn make(hosts: &[&str]) -> Tls {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<String> = hosts.iter().map(|host| format!("DNS:{host}")).collect();
        std::fs::write(folder.path().join("extensions"), format!("subjectAltName={}\n", names.join(","))).unwrap();
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            command.args(arguments.split(' ')).current_dir(folder.path());
            output_of(command, "");
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=tests"));
        openssl(&format!("req {key} -keyout tls.key -out tls.csr -subj /CN={}", hosts[0]));
        openssl(
            "x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out tls.crt -days 2 -extfile extensions",
        );
        Tls { folder }
    }

    /// The authority's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Puts it into the namespace as a Secret of type kubernetes.io/tls.
    pub(crate) fn store(&self, kube: &Kube, name: &str) {
        let (certificate, key) = (self.folder.path().join("tls.crt"), self.folder.path().join("tls.key"));
        let made = kube.kubectl(&[
            "create",
            "secret",
            "tls",
            name,
            "--cert",
            certificate.to_str().unwrap(),
            "--key",
            key.to_str().unwrap(),
            "--dry-run=client",
            "-o",
            "yaml",
        ]);
        kube.apply(&made);
    }
}

fn media_client(arguments: &[&str], token: &str) -> Command {
    let program = std::env::var_os("MEDIA_CLIENT")
        .map_or_else(|| tests_folder().join("../target/release/media-client"), PathBuf::from);
    let mut command = command(Place::Outside, program.to_str().unwrap());
    command.args(arguments).arg("--json").env("MEDIA_TOKEN", token);
    command
}

fn with_authority<'a>(arguments: &mut Vec<&'a str>, ca: Option<&'a Path>) {
    if let Some(ca) = ca {
        arguments.extend(["--ca", ca.to_str().unwrap()]);
    }
}

/// The headless camera with the built-in clip (H264 and Opus): publishes to a WHIP URL until it is dropped.
pub(crate) fn camera(url: &str, token: &str, ca: Option<&Path>) -> Background {
    let mut arguments = vec!["camera", url];
    with_authority(&mut arguments, ca);
    Background::start(media_client(&arguments, token), &format!("camera {url}"))
}

/// Headless viewers of a WHEP URL for so many seconds; `finish` gives their report.
pub(crate) fn view(url: &str, token: &str, ca: Option<&Path>, viewers: u32, seconds: u32) -> Background {
    let (count, time) = (viewers.to_string(), seconds.to_string());
    let mut arguments = vec!["view", url, "-n", &count, "--seconds", &time];
    with_authority(&mut arguments, ca);
    Background::start(media_client(&arguments, token), &format!("view {url}"))
}

/// What an offer was answered with.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The first header of that name; empty when there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers(name).first().copied().unwrap_or_default()
    }

    /// All headers of that name.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

/// Posts an offer that no media will follow, of a camera (WHIP) or a viewer (WHEP).
pub(crate) fn answer_of(url: &str, token: &str) -> Answer {
    let ice = credentials();
    let local = Local { ice: &ice, fingerprint: Fingerprint::Sha256([7; 32]), address: "127.0.0.1:9".parse().unwrap() };
    let offer =
        if url.contains("/whip/") { sdp::camera_offer(&local, [1001, 1002, 1003]) } else { sdp::viewer_offer(&local) };
    let offer = offer.replace('\r', "\\r").replace('\n', "\\n");
    let mut curl = command(Place::Outside, "curl");
    curl.args(["-sS", "-i", "-K", "-", "-H", "Content-Type: application/sdp", url]);
    // By standard input: arguments can be read by anybody.
    let output = run(curl, &format!("header = \"Authorization: Bearer {token}\"\ndata-raw = \"{offer}\"\n"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{url}: {output:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// What Chromium saw of a room.
pub(crate) struct Browser;

impl Browser {
    /// Opens the watch page of a room and waits for moving pictures; with `relay` it may use nothing but TURN.
    pub(crate) fn watch(url: &str, token: &str, relay: bool) -> Value {
        let script = tests_folder().join("browser/watch.js");
        let mut node = command(Place::Outside, "node");
        node.arg(script);
        let order = json!({ "url": url, "token": token, "relay": relay }).to_string();
        let output = run(node, &order);
        let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "Chromium at {url} (relay: {relay}): {said}{complaint}");
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }
}

/// Address of the cluster's first node.
pub(crate) fn node_address() -> String {
    let nodes = Kube::namespace("default").kubectl(&["get", "nodes", "-o", "json"]);
    let nodes: Value = serde_json::from_str(&nodes).unwrap();
    let addresses = nodes.pointer("/items/0/status/addresses").and_then(Value::as_array).cloned().unwrap_or_default();
    let internal =
        addresses.iter().find(|address| address["type"] == "InternalIP" && text(address, "/address").contains('.'));
    text(internal.unwrap(), "/address")
}
