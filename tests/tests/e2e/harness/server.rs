//! Starts the release binary and ends it, on free ports, in a folder of its own.

use super::api::Api;
use super::namespace::{Mount, Network};
use super::until;
use super::volatile_disk::VolatileDisk;
use super::watch::Metrics;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use streamsession_tests::sys::process_cpu;
use tempfile::TempDir;

/// Where ports are looked for: below those that the kernel gives to clients, so that none of them takes one meanwhile.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const START_LIMIT: Duration = Duration::from_secs(15);
/// Lines of the log that a failing test shows.
const TAIL: usize = 40;

/// How a server is started; keeps its ports and its folder over restarts.
#[derive(Clone)]
pub(crate) struct Setup {
    folder: Arc<TempDir>,
    /// Where tests reach it.
    pub(crate) http: SocketAddr,
    /// Its media port.
    pub(crate) udp: u16,
    listen: Option<SocketAddr>,
    data: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    namespace: Option<String>,
    /// Where its management routes are, and the token for them.
    management: Option<(SocketAddr, String)>,
}

impl Setup {
    /// With defaults, on 127.0.0.1.
    pub(crate) fn new() -> Setup {
        Setup::at(Ipv4Addr::LOCALHOST.into())
    }

    /// With defaults, HTTP at this address.
    pub(crate) fn at(address: IpAddr) -> Setup {
        let folder = tempfile::Builder::new().prefix("streamsession-e2e-").tempdir().unwrap();
        Setup {
            data: folder.path().join("data"),
            folder: Arc::new(folder),
            http: SocketAddr::new(address, free_port()),
            udp: free_port(),
            listen: None,
            arguments: Vec::new(),
            variables: Vec::new(),
            namespace: None,
            management: None,
        }
    }

    /// Open, in the server's namespace of a network, with the server's address on the link announced.
    pub(crate) fn in_network(network: &Network) -> Setup {
        Setup::at(network.control.into())
            .spec("{auth: {mode: Open, acknowledgeOpen: true}}")
            .inside(&network.server_namespace())
            .argument("--announce")
            .argument(network.server.to_string())
    }

    /// A further argument.
    pub(crate) fn argument(mut self, argument: impl Into<String>) -> Setup {
        self.arguments.push(argument.into());
        self
    }

    /// An environment variable.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Setup {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// A StreamSession with this spec, in YAML's flow form; open, unless it says how people are let in.
    pub(crate) fn spec(self, spec: &str) -> Setup {
        let path = self.folder.path().join("session.yaml");
        let spec = match spec.strip_suffix('}') {
            Some(fields) if !spec.contains("auth:") => {
                format!("{fields}, auth: {{mode: Open, acknowledgeOpen: true}}}}")
            }
            _ => spec.to_owned(),
        };
        let text = format!(
            "apiVersion: media.streamsession.io/v1alpha1\nkind: StreamSession\nmetadata: {{name: e2e}}\nspec: {spec}\n"
        );
        std::fs::write(&path, text).unwrap();
        self.argument("--session").argument(path.to_str().unwrap())
    }

    /// With an address for management alone and a token for it.
    pub(crate) fn managed(mut self) -> Setup {
        let (address, token) =
            (SocketAddr::new(self.http.ip(), free_port()), "management-token-0123456789abcdef".to_owned());
        std::fs::write(self.management_token_file(), &token).unwrap();
        self.management = Some((address, token));
        let file = self.management_token_file().to_str().unwrap().to_owned();
        self.argument("--management").argument(address.to_string()).argument("--admin-token-file").argument(file)
    }

    /// Holds the token for management.
    pub(crate) fn management_token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// Listens on all addresses of a network namespace.
    pub(crate) fn inside(mut self, namespace: &str) -> Setup {
        self.listen = Some(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), self.http.port()));
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Another data folder.
    pub(crate) fn data(mut self, data: &Path) -> Setup {
        data.clone_into(&mut self.data);
        self
    }

    /// A folder of the test's own, gone with the last setup and server that knows it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A disk of its own in that folder.
    pub(crate) fn mount(&self, size: &str, options: &str) -> Mount {
        Mount::new(Arc::clone(&self.folder), size, options)
    }

    /// Mounts a disk of this size in the test's directory; its power can be cut.
    pub(crate) fn volatile_disk(&self, bytes: u64) -> VolatileDisk {
        VolatileDisk::new(Arc::clone(&self.folder), bytes)
    }

    /// Holds the registry.
    pub(crate) fn registry(&self) -> PathBuf {
        self.data.join("registry.sqlite")
    }

    /// Where recordings are, unless a variable says otherwise.
    pub(crate) fn recordings(&self) -> PathBuf {
        let said = self.variables.iter().find(|(name, _)| name == "MEDIA_RECORDINGS_DIR");
        said.map_or_else(|| self.data.join("recordings"), |(_, path)| PathBuf::from(path))
    }

    fn command(&self) -> Command {
        let binary = binary("MEDIA_SERVER", "media-server");
        let mut command = match &self.namespace {
            None => Command::new(binary),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(binary);
                command
            }
        };
        for name in ["RUST_LOG", "MEDIA_MODE", "MEDIA_MAX_PUBLISHERS", "MEDIA_MAX_SUBSCRIBERS_PER_ROOM"] {
            command.env_remove(name);
        }
        for name in ["MEDIA_RECORDINGS_DIR", "MEDIA_JWT_SECRET", "TURN_URLS", "TURN_USERNAME", "TURN_CREDENTIAL"] {
            command.env_remove(name);
        }
        command
            .args(["--http", &self.listen.unwrap_or(self.http).to_string(), "--udp-port", &self.udp.to_string()])
            .arg("--data-dir")
            .arg(&self.data)
            .args(&self.arguments)
            .envs(self.variables.iter().cloned())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// Starts it.
    pub(crate) fn spawn(&self) -> Server {
        let log = self.folder.path().join("server.log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = self.command().stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let api = Api::new(self.http);
        let management = match &self.management {
            Some((address, token)) => Api::new(*address).with_token(token),
            None => api.clone(),
        };
        Server { child, setup: self.clone(), api, management, log }
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(&self) -> Server {
        let mut server = self.spawn();
        let ready = server.management.clone();
        let mut waited = std::time::Instant::now();
        let deadline = waited + START_LIMIT;
        until("/readyz", START_LIMIT + Duration::from_secs(1), || {
            waited = std::time::Instant::now();
            let ended = server.child.try_wait().unwrap();
            let ready = ready.clone();
            async move {
                assert!(ended.is_none(), "the server ended at its start: {ended:?}");
                assert!(waited < deadline, "the server is not ready within {START_LIMIT:?}");
                ready.is_ready().await.then_some(())
            }
        })
        .await;
        server
    }

    /// Runs it where it is expected to refuse to start.
    pub(crate) fn run(&self) -> Output {
        let log = self.folder.path().join("refusal.log");
        let file = File::create(&log).unwrap();
        let mut child = self.command().stdout(Stdio::null()).stderr(file).spawn().unwrap();
        let start = std::time::Instant::now();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if start.elapsed() < START_LIMIT => std::thread::sleep(Duration::from_millis(5)),
                None => {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("the server did not refuse to start");
                }
            }
        };
        Output { status, stdout: Vec::new(), stderr: std::fs::read(&log).unwrap() }
    }
}

/// A running server. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    setup: Setup,
    /// Its HTTP side.
    pub(crate) api: Api,
    management: Api,
    log: PathBuf,
}

impl Server {
    /// URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        self.api.url(path)
    }

    /// The media port on the loopback address that HTTP listens on.
    pub(crate) fn media(&self) -> SocketAddr {
        SocketAddr::new(self.setup.http.ip(), self.setup.udp)
    }

    /// Its management routes.
    pub(crate) fn management(&self) -> &Api {
        &self.management
    }

    /// How it was started.
    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// All that it has logged, earlier runs of the same setup included.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Returns its resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Returns its CPU time.
    pub(crate) fn cpu(&self) -> Duration {
        process_cpu(self.child.id()).unwrap()
    }

    /// Returns its metrics.
    pub(crate) async fn metrics(&self) -> Metrics {
        let answer = self.management.get("/metrics").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        Metrics(answer.body)
    }

    /// It has not ended.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; waits for the end.
    pub(crate) async fn terminate(mut self, limit: Duration) -> ExitStatus {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        until("the end after SIGTERM", limit, || {
            let ended = self.child.try_wait().unwrap();
            async move { ended }
        })
        .await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            super::figure(&format!("the server's log ends:\n{}", lines[lines.len().saturating_sub(TAIL)..].join("\n")));
        }
    }
}

/// The headless client, to be run in a namespace if one is named.
pub(crate) fn media_client(namespace: Option<&str>, arguments: &[&str]) -> tokio::process::Command {
    let binary = binary("MEDIA_CLIENT", "media-client");
    let mut command = match namespace {
        None => tokio::process::Command::new(binary),
        Some(namespace) => {
            let mut command = tokio::process::Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(binary);
            command
        }
    };
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The shipped program, for what is no server.
pub(crate) fn media_server() -> PathBuf {
    binary("MEDIA_SERVER", "media-server")
}

fn binary(variable: &str, name: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(
        || {
            // target/PROFILE/deps/e2e-…
            let own = std::env::current_exe().unwrap();
            own.ancestors().nth(3).unwrap().join("release").join(name)
        },
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "{} is not there: cargo build --release -p media-server -p media-client, or name it by {variable}",
        path.display()
    );
    path
}

fn free_port() -> u16 {
    loop {
        let port = rand::random_range(PORTS);
        let free = UdpSocket::bind(("::", port)).is_ok() && TcpListener::bind(("::", port)).is_ok();
        if free {
            return port;
        }
    }
}
