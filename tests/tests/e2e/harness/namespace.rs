//! Networks and disks of a test's own, gone when it ends. They need root.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// Runs a program of the system that must succeed; gives its standard output.
pub(super) fn system(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; apt-get install iproute2 nftables ethtool"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said} (as root?)");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The interface of the link in both namespaces.
const LINK: &str = "between";

/// Two namespaces with a link between them, and a way for the test to the server's.
///
/// [`Network::lossy`] loses datagrams at both ends. The kernel here has no netem, so each end drops what comes in, by
/// chance, in nftables. A run of datagrams that left as one is split before, or it would be lost as one.
pub(crate) struct Network {
    name: String,
    /// Of the server on that link.
    pub(crate) server: Ipv4Addr,
    client: Ipv4Addr,
    /// Of the server as the test sees it; nothing is lost there.
    pub(crate) control: Ipv4Addr,
}

impl Network {
    /// Carries at most `mtu` bytes a packet from the server to the clients, and 1,500 back.
    pub(crate) fn narrow(mtu: u32) -> Network {
        let network = Network::clean();
        let (inside, client) = (network.server_namespace(), format!("{}/32", network.client));
        let route = ["-n", &inside, "route", "add", &client, "dev", LINK, "mtu", &mtu.to_string()];
        system("ip", &route);
        network
    }

    /// Loses nothing and carries 1,500 bytes a packet.
    fn clean() -> Network {
        let id: u16 = rand::random_range(0..0x4000);
        let name = format!("e2e{id:04x}");
        // The range for tests between networks (RFC 2544): a /30 each for the link and the control link.
        let address = |last: u16| {
            Ipv4Addr::new(198, 18 + (id >> 13) as u8, (id >> 5) as u8, ((id << 3) as u8 & 0xf8) + last as u8)
        };
        let network = Network { name, server: address(1), client: address(2), control: address(5) };
        let (inside, outside) = (network.server_namespace(), network.client_namespace());
        let control = network.control_link();
        for namespace in [&inside, &outside] {
            system("ip", &["netns", "add", namespace]);
            system("ip", &["-n", namespace, "link", "set", "lo", "up"]);
        }
        system("ip", &["-n", &inside, "link", "add", LINK, "type", "veth", "peer", "name", LINK, "netns", &outside]);
        system("ip", &["link", "add", &control, "type", "veth", "peer", "name", "control", "netns", &inside]);
        for (namespace, link, address) in
            [(&inside, LINK, address(1)), (&outside, LINK, address(2)), (&inside, "control", address(5))]
        {
            system("ip", &["-n", namespace, "addr", "add", &format!("{address}/30"), "dev", link]);
            system("ip", &["-n", namespace, "link", "set", link, "up"]);
        }
        system("ip", &["addr", "add", &format!("{}/30", address(6)), "dev", &control]);
        system("ip", &["link", "set", &control, "up"]);
        network
    }

    /// Loses `percent` of the datagrams each way.
    pub(crate) fn lossy(percent: u32) -> Network {
        let network = Network::clean();
        for namespace in [&network.server_namespace(), &network.client_namespace()] {
            let split = ["tx-udp-segmentation", "off", "gso", "off", "tso", "off", "gro", "off"];
            system("ip", &[&["netns", "exec", namespace, "ethtool", "-K", LINK][..], &split].concat());
            let rules = format!(
                "table inet loss {{
                   counter seen {{ }}
                   counter dropped {{ }}
                   chain incoming {{
                     type filter hook input priority 0;
                     iifname \"{LINK}\" meta l4proto udp counter name seen numgen random mod 100 < {percent} counter name dropped drop
                   }}
                 }}"
            );
            system("ip", &["netns", "exec", namespace, "nft", &rules]);
        }
        network
    }

    /// Where the server runs.
    pub(crate) fn server_namespace(&self) -> String {
        format!("{}s", self.name)
    }

    /// Where cameras and viewers are.
    pub(crate) fn client_namespace(&self) -> String {
        format!("{}c", self.name)
    }

    fn control_link(&self) -> String {
        format!("{}h", self.name)
    }

    /// Datagrams that came to the server and to the clients, and those of them that were dropped.
    pub(crate) fn counters(&self) -> [(u64, u64); 2] {
        [self.server_namespace(), self.client_namespace()].map(|namespace| {
            let count = |name: &str| -> u64 {
                let text = system("ip", &["netns", "exec", &namespace, "nft", "list", "counter", "inet", "loss", name]);
                let words: Vec<&str> = text.split_whitespace().collect();
                let place = words.iter().position(|word| *word == "packets").unwrap();
                words[place + 1].parse().unwrap()
            };
            (count("seen"), count("dropped"))
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in [self.server_namespace(), self.client_namespace()] {
            let _ = Command::new("ip").args(["netns", "del", &namespace]).stderr(Stdio::null()).status();
        }
        let _ = Command::new("ip").args(["link", "del", &self.control_link()]).stderr(Stdio::null()).status();
    }
}

/// A small disk in memory, inside a folder that it keeps.
pub(crate) struct Mount {
    path: PathBuf,
    _folder: Arc<TempDir>,
}

impl Mount {
    /// Mounts one of this size (as `64M`) with these options.
    pub(super) fn new(folder: Arc<TempDir>, size: &str, options: &str) -> Mount {
        let path = folder.path().join("disk");
        std::fs::create_dir(&path).unwrap();
        let options = format!("size={size},{options}");
        system("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", path.to_str().unwrap()]);
        Mount { path, _folder: folder }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}
