//! Janus beside us: its streaming plugin takes the same stream as plain RTP, so it decrypts nothing on the way in, and
//! offers it to each viewer.
//!
//! It runs with a configuration of its own in a temporary folder, two event loops (the number of cores of the machine that
//! the bar was set on), on loopback ports.

use super::run::{Joined, Plan, Subject, until};
use super::{LoadError, Process};
use crate::http::Http;
use crate::peer::{IceRole, Identity, credentials};
use crate::sdp::{Description, Local, viewer_answer};
use crate::source::{PLAIN_AUDIO, PLAIN_VIDEO, Source};
use crate::sys::Udp;
use crate::viewer::Viewer;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const EVENT_LOOPS: u32 = 2;

/// See the module.
pub struct Janus {
    http: Http,
    base: String,
    video: SocketAddr,
    audio: SocketAddr,
    process: Process,
    _folder: TempDir,
}

/// Where a package puts Janus's modules.
fn modules() -> Option<PathBuf> {
    let roots = ["/usr/lib/x86_64-linux-gnu/janus", "/usr/lib/aarch64-linux-gnu/janus", "/usr/lib/janus"];
    roots.into_iter().map(PathBuf::from).find(|root| root.join("plugins/libjanus_streaming.so").exists())
}

/// Every module of a folder but those named, as a value of `disable`.
fn others(folder: &Path, wanted: &str) -> std::io::Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".so") && name != wanted {
            names.push(name);
        }
    }
    Ok(names.join(","))
}

impl Janus {
    /// Whether it is installed.
    pub fn is_installed() -> bool {
        modules().is_some()
    }

    /// Starts it and waits until it answers.
    pub fn start() -> Result<Self, LoadError> {
        let modules = modules().ok_or_else(|| LoadError::Server("Janus is not installed".to_owned()))?;
        let folder = tempfile::tempdir()?;
        let root = modules.display();
        let conf = folder.path().display();
        let http_port = TcpListener::bind((LOCALHOST, 0))?.local_addr()?.port();
        let ports = [UdpSocket::bind((LOCALHOST, 0))?, UdpSocket::bind((LOCALHOST, 0))?];
        let [video, audio] = [ports[0].local_addr()?, ports[1].local_addr()?];
        drop(ports);
        let plugins = others(&modules.join("plugins"), "libjanus_streaming.so")?;
        let transports = others(&modules.join("transports"), "libjanus_http.so")?;
        let files = [
            (
                "janus.jcfg",
                format!(
                    "general: {{ configs_folder = \"{conf}\" plugins_folder = \"{root}/plugins\" \
                     transports_folder = \"{root}/transports\" events_folder = \"{root}/events\" \
                     loggers_folder = \"{root}/loggers\" debug_level = 3 event_loops = {EVENT_LOOPS} session_timeout = 0 }}\n\
                     plugins: {{ disable = \"{plugins}\" }}\ntransports: {{ disable = \"{transports}\" }}\n"
                ),
            ),
            (
                "janus.transport.http.jcfg",
                format!(
                    "general: {{ json = \"compact\" base_path = \"/janus\" http = true port = {http_port} ip = \"127.0.0.1\" https = false }}\n"
                ),
            ),
            (
                "janus.plugin.streaming.jcfg",
                format!(
                    "general: {{ }}\ncamera: {{ type = \"rtp\" id = 1 audio = true audioport = {} audioiface = \"127.0.0.1\" \
                     audiopt = {PLAIN_AUDIO} audiocodec = \"opus\" video = true videoport = {} videoiface = \"127.0.0.1\" \
                     videopt = {PLAIN_VIDEO} videocodec = \"h264\" \
                     videofmtp = \"profile-level-id=42e01f;packetization-mode=1\" }}\n",
                    audio.port(),
                    video.port()
                ),
            ),
        ];
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text)?;
        }
        let mut command = Command::new("janus");
        command.arg("-F").arg(folder.path());
        let mut process = Process::start(command, &folder.path().join("log"))?;
        let (http, base) = (Http::new()?, format!("http://127.0.0.1:{http_port}/janus"));
        until("Janus to answer", || {
            process.check().is_err() || http.page(&format!("{base}/info")).is_ok_and(|(status, _)| status == 200)
        })?;
        process.check()?;
        Ok(Self { http, base, video, audio, process, _folder: folder })
    }

    fn call(&self, path: &str, body: &Value) -> Result<Value, LoadError> {
        let answer = self.http.json(&format!("{}{path}", self.base), Some(body))?;
        match answer["janus"].as_str() {
            Some("success" | "ack" | "event") => Ok(answer),
            _ => Err(LoadError::Server(format!("Janus said {answer} to {body}"))),
        }
    }

    fn create(&self, path: &str, body: &Value) -> Result<u64, LoadError> {
        let answer = self.call(path, body)?;
        answer["data"]["id"].as_u64().ok_or_else(|| LoadError::Server(format!("Janus gave no id: {answer}")))
    }

    /// The next event of a session.
    fn event(&self, session: u64) -> Result<Value, LoadError> {
        Ok(self.http.json(&format!("{}/{session}?maxev=1", self.base), None)?)
    }
}

impl Subject for Janus {
    fn name(&self) -> &'static str {
        "Janus"
    }

    fn camera(&mut self, _: &Identity) -> Result<Option<Source>, LoadError> {
        Ok(Some(Source::plain(Udp::bind(LOCALHOST, false)?, self.video, self.audio)?))
    }

    fn join(&mut self, identity: &Identity, plan: &Plan) -> Result<Joined, LoadError> {
        let posted = Instant::now();
        let session = self.create("", &json!({"janus": "create", "transaction": "1"}))?;
        let attach = json!({"janus": "attach", "plugin": "janus.plugin.streaming", "transaction": "2"});
        let handle = self.create(&format!("/{session}"), &attach)?;
        let path = format!("/{session}/{handle}");
        let watch = json!({"janus": "message", "transaction": "3", "body": {"request": "watch", "id": 1}});
        self.call(&path, &watch)?;
        let mut event = self.event(session)?;
        while event["jsep"]["sdp"].is_null() && event["janus"] != "error" {
            event = self.event(session)?;
        }
        let offered = event["jsep"]["sdp"].as_str().unwrap_or_default();
        let mut description = Description::parse(offered)?;
        description.remote.candidates.retain(SocketAddr::is_ipv4);
        let candidate = description.remote.candidates.first().copied();
        let candidate = candidate.ok_or_else(|| LoadError::Server("Janus offers no IPv4 candidate".to_owned()))?;
        let (socket, ice) = (Udp::bind(local_ip(candidate)?, plan.coalesce)?, credentials());
        let local = Local { ice: &ice, fingerprint: identity.fingerprint(), address: socket.local_addr()? };
        let answer = viewer_answer(&description, offered, &local);
        let start = json!({
            "janus": "message", "transaction": "4", "body": {"request": "start"}, "jsep": {"type": "answer", "sdp": answer},
        });
        self.call(&path, &start)?;
        let viewer = Viewer::new(Instant::now(), identity, IceRole::Lite, ice, description, plan.sample);
        Ok(Joined { socket, viewer: Some(viewer), posted })
    }

    fn cpu(&mut self) -> Result<Duration, LoadError> {
        self.process.check()?;
        Ok(self.process.cpu()?)
    }

    fn memory(&mut self) -> Result<u64, LoadError> {
        Ok(self.process.memory()?)
    }
}

/// The address from which this machine reaches `to`.
fn local_ip(to: SocketAddr) -> std::io::Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}
