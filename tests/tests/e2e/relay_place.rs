//! A place for a relay as in a pod: a network namespace of its own, mounted secrets that are swapped as a kubelet does it,
//! the shipped program as its supervisor, and coturn.
//!
//! All addresses of the world lie behind the pod's default route, so that what a relay lets out leaves; a counter of the
//! namespace tells of each datagram that is not for the pod itself or for the test. It needs root.

use crate::harness::{Setup, figure, media_server, until};
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use streamsession_tests::turn::{Account, Allocation, TurnError};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UdpSocket;

const REALM: &str = "cams.example.com";
pub(crate) const SECRET: &str = "north-north-north-north-north-north";
/// What is to be noticed is looked for once a second.
pub(crate) const NOTICED: Duration = Duration::from_secs(5);
const START_LIMIT: Duration = Duration::from_secs(10);
const END_LIMIT: Duration = Duration::from_secs(12);
/// Lines of the log that a failing test shows.
const TAIL: usize = 30;

/// Runs a program of the system that must succeed; gives its standard output.
fn system(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; apt-get install iproute2 nftables openssl"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said} (as root?)");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A namespace with one link to the test.
pub(crate) struct Place {
    name: String,
    /// The pod's.
    pub(crate) pod: Ipv4Addr,
    /// The pod's too.
    pub(crate) pod_v6: Ipv6Addr,
}

impl Place {
    pub(crate) fn new() -> Place {
        let id: u16 = rand::random_range(0..0x4000);
        let name = format!("e2e{id:04x}t");
        // The range for tests between networks (RFC 2544), a /30 each; and of documentation: coturn 4.17 never relays to
        // unique local addresses.
        let address = |last: u16| {
            Ipv4Addr::new(198, 18 + (id >> 13) as u8, (id >> 5) as u8, ((id << 3) as u8 & 0xf8) + last as u8)
        };
        let address_v6 = |last: u16| Ipv6Addr::new(0x2001, 0xdb8, 0x18, id, 0, 0, 0, last);
        let place = Place { name, pod: address(1), pod_v6: address_v6(1) };
        let (inside, outside) = (place.namespace(), place.link());
        system("ip", &["netns", "add", inside]);
        system("ip", &["-n", inside, "link", "set", "lo", "up"]);
        system("ip", &["link", "add", &outside, "type", "veth", "peer", "name", "pod", "netns", inside]);
        let in_namespace = ["-n", inside];
        for (namespace, link, last) in [(&in_namespace[..], "pod", 1), (&[], outside.as_str(), 2)] {
            let (v4, v6) = (format!("{}/30", address(last)), format!("{}/64", address_v6(last)));
            system("ip", &[namespace, &["addr", "add", &v4, "dev", link]].concat());
            system("ip", &[namespace, &["addr", "add", &v6, "dev", link, "nodad"]].concat());
            system("ip", &[namespace, &["link", "set", link, "up"]].concat());
        }
        system("ip", &["-n", inside, "route", "add", "default", "via", &address(2).to_string()]);
        system("ip", &["-n", inside, "-6", "route", "add", "default", "via", &address_v6(2).to_string()]);
        let (pod, test, pod_v6, test_v6) = (address(1), address(2), address_v6(1), address_v6(2));
        let rules = format!(
            "table inet watch {{
               counter escaped {{ }}
               chain outgoing {{
                 type filter hook output priority 0;
                 meta l4proto != udp accept
                 ip daddr {{ {pod}, {test} }} accept
                 ip6 daddr {{ {pod_v6}, {test_v6} }} accept
                 counter name escaped
               }}
             }}"
        );
        system("ip", &["netns", "exec", inside, "nft", &rules]);
        place
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.name
    }

    fn link(&self) -> String {
        format!("{}h", self.name)
    }

    /// Datagrams of the namespace that were for neither the pod nor the test.
    pub(crate) fn escaped(&self) -> u64 {
        let arguments = ["netns", "exec", self.namespace(), "nft", "list", "counter", "inet", "watch", "escaped"];
        let text = system("ip", &arguments);
        let words: Vec<&str> = text.split_whitespace().collect();
        words[words.iter().position(|word| *word == "packets").unwrap() + 1].parse().unwrap()
    }

    /// Sends a datagram from the namespace without a relay.
    pub(crate) fn send_directly(&self, to: SocketAddr) {
        let line = format!("echo x > /dev/udp/{}/{}", to.ip(), to.port());
        system("ip", &["netns", "exec", self.namespace(), "bash", "-c", &line]);
    }

    /// A relay at this one of the pod's addresses, which may reach it alone.
    pub(crate) async fn relay(&self, address: IpAddr) -> Relay {
        self.relay_with(address, false).await
    }

    /// A relay that speaks TLS too.
    pub(crate) async fn secure_relay(&self) -> Relay {
        self.relay_with(self.pod.into(), true).await
    }

    async fn relay_with(&self, address: IpAddr, secure: bool) -> Relay {
        let folder = tempfile::Builder::new().prefix("streamsession-relay-").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut relay = Relay {
            child: None,
            address: SocketAddr::new(address, 3478),
            secrets: Mounted::new(&at("secrets")),
            certificate: Mounted::new(&at("tls")),
            log: at("relay.log"),
            folder,
        };
        relay.secrets.swap(&[("secret", SECRET)]);
        if secure {
            relay.renew_certificate("first");
        }
        let log = File::create(&relay.log).unwrap();
        let path = |name: &str| relay.folder.path().join(name).display().to_string();
        let address = address.to_string();
        let child = Command::new("ip")
            .args(["netns", "exec", self.namespace()])
            .arg(media_server())
            .args(["relay", "--realm", REALM, "--relay-address", &address, "--allow-peer", &address])
            .args(["--secret-dir", &path("secrets"), "--state-dir", &path("state"), "--tls-dir", &path("tls")])
            .args(["--", "turnserver"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        relay.child = Some(child);
        relay.answers().await;
        relay
    }

    /// A server in the same namespace, as in the same pod, that tells its clients of the relay.
    pub(crate) fn server(&self, relay: &Relay) -> Setup {
        let url = format!("turn:{}?transport=udp", relay.address);
        let turn = format!("{{mode: External, external: {{urls: [\"{url}\"]}}, credentialTTL: 5m}}");
        Setup::at(self.pod.into())
            .spec(&format!("{{turn: {turn}}}"))
            .inside(self.namespace())
            .argument("--turn-secret-dir")
            .argument(relay.secrets.folder.display().to_string())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", self.namespace()]).stderr(Stdio::null()).status();
        let _ = Command::new("ip").args(["link", "del", &self.link()]).stderr(Stdio::null()).status();
    }
}

/// Files as a kubelet mounts them: links to a folder behind a link, which is swapped.
pub(crate) struct Mounted {
    folder: PathBuf,
    versions: u32,
}

impl Mounted {
    fn new(folder: &Path) -> Mounted {
        fs::create_dir_all(folder).unwrap();
        Mounted { folder: folder.to_owned(), versions: 0 }
    }

    /// Exactly these files are there from now on.
    pub(crate) fn swap(&mut self, files: &[(&str, &str)]) {
        self.versions += 1;
        let version = format!("..{}", self.versions);
        fs::create_dir(self.folder.join(&version)).unwrap();
        for (name, text) in files {
            fs::write(self.folder.join(&version).join(name), text).unwrap();
        }
        symlink(&version, self.folder.join("..data_tmp")).unwrap();
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).unwrap();
        for (name, _) in files {
            let link = self.folder.join(name);
            if link.symlink_metadata().is_err() {
                symlink(Path::new("..data").join(name), link).unwrap();
            }
        }
        for entry in fs::read_dir(&self.folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if !name.starts_with("..") && !files.iter().any(|(wanted, _)| *wanted == name) {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

/// A running relay. Dropping it ends it.
pub(crate) struct Relay {
    child: Option<Child>,
    /// Where clients reach it.
    pub(crate) address: SocketAddr,
    pub(crate) secrets: Mounted,
    certificate: Mounted,
    log: PathBuf,
    folder: TempDir,
}

impl Relay {
    /// Waits until it challenges a client.
    pub(crate) async fn answers(&self) {
        let address = self.address;
        until("the relay's answer", START_LIMIT, || async move {
            let refused = Allocation::open(address, None).await.err().and_then(|error| error.code());
            (refused == Some(401)).then_some(())
        })
        .await;
    }

    /// Makes a certificate for this name and swaps it in.
    pub(crate) fn renew_certificate(&mut self, name: &str) {
        let [key, chain] = ["key", "chain"].map(|part| self.folder.path().join(part).display().to_string());
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
        let subject = format!("/CN={name}");
        let rest = ["-nodes", "-days", "2", "-subj", &subject, "-keyout", &key, "-out", &chain];
        system("openssl", &[&["req", "-x509"], &curve[..], &rest[..]].concat());
        let [key, chain] = [key, chain].map(|path| fs::read_to_string(path).unwrap());
        self.certificate.swap(&[("tls.crt", &chain), ("tls.key", &key)]);
    }

    /// What openssl says of a TLS connection to it, with these further arguments.
    pub(crate) fn tls(&self, arguments: &[&str]) -> String {
        let to = SocketAddr::new(self.address.ip(), 5349).to_string();
        let output =
            Command::new("openssl").args(["s_client", "-connect", &to]).args(arguments).stdin(Stdio::null()).output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    }

    /// A port of this machine that leads to the relay by one TLS connection, which lives as long as the test.
    pub(crate) async fn tls_tunnel(&self) -> SocketAddr {
        let to = SocketAddr::new(self.address.ip(), 5349).to_string();
        let log = File::create(self.folder.path().join("tunnel.log")).unwrap();
        // With -quiet no letter of what it carries is a command to it.
        let mut openssl = tokio::process::Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &to])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (into, out) = (openssl.stdin.take().unwrap(), openssl.stdout.take().unwrap());
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let _openssl = openssl;
            carry(socket, into, out).await
        });
        address
    }

    /// What openssl says of the tunnel's connection.
    pub(crate) fn tunnel_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("tunnel.log")).unwrap()
    }

    /// The number of coturn's process.
    pub(crate) fn process(&self) -> u32 {
        fs::read_to_string(self.folder.path().join("state/turn/turnserver.pid")).unwrap().trim().parse().unwrap()
    }

    /// All that supervisor and coturn have logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// SIGTERM; waits for the end.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        signal("TERM", child.id());
        until("the end after SIGTERM", END_LIMIT, || {
            let ended = child.try_wait().unwrap();
            async move { ended }
        })
        .await
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It ends coturn with itself, which its own end by force would not.
            signal("TERM", child.id());
            let start = Instant::now();
            while child.try_wait().unwrap().is_none() && start.elapsed() < END_LIMIT {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
            figure(&format!("the relay's log ends:\n{tail}"));
        }
    }
}

/// Carries datagrams of one client into a stream, and STUN messages out of it.
async fn carry(
    socket: UdpSocket,
    mut into: impl AsyncWrite + Unpin,
    mut out: impl AsyncRead + Unpin,
) -> io::Result<()> {
    let mut datagram = vec![0; 65_536];
    let (length, client) = socket.recv_from(&mut datagram).await?;
    socket.connect(client).await?;
    into.write_all(&datagram[..length]).await?;
    let mut message = Vec::new();
    let mut header = [0; 20];
    let mut read = 0;
    loop {
        // Both wait in ways that lose nothing when the other one is ready first.
        tokio::select! {
            received = socket.recv(&mut datagram) => into.write_all(&datagram[..received?]).await?,
            more = out.read(&mut header[read..]) => match more? {
                0 => return Ok(()),
                more => read += more,
            },
        }
        if read == header.len() {
            // The header has a length that does not count it (RFC 8489 §5).
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            message.clear();
            message.extend_from_slice(&header);
            message.resize(header.len() + length, 0);
            out.read_exact(&mut message[header.len()..]).await?;
            socket.send(&message).await?;
            read = 0;
        }
    }
}

/// Sends a signal by name.
pub(crate) fn signal(name: &str, process: u32) {
    let _ = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status();
}

/// Credentials as one who knows the secret makes them, good for `seconds` from now.
pub(crate) fn account(secret: &str, id: &str, seconds: i64) -> Account {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let username = format!("{}:{id}", now + seconds);
    let output = Command::new("bash")
        .args(["-c", "printf %s \"$1\" | openssl dgst -sha1 -hmac \"$2\" -binary | openssl base64 -A", "-"])
        .args([&username, secret])
        .output()
        .unwrap();
    Account { username, credential: String::from_utf8(output.stdout).unwrap() }
}

/// The code by which an allocation is refused; `None` when it is given.
pub(crate) async fn refusal(relay: &Relay, account: Option<&Account>) -> Option<u16> {
    match Allocation::open(relay.address, account).await {
        Ok(_) => None,
        Err(TurnError::Refused(code)) => Some(code),
        Err(error) => panic!("{error}"),
    }
}
