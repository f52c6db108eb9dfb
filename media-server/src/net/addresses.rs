//! Which addresses clients are told to send media to: those that somebody says, otherwise those of this machine, and in a
//! pod always the pod's own besides. They may change while the server runs.

use crate::args::Announce;
use crate::config::UdpConfig;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// More candidates than this make every connection check slower.
const MOST: usize = 8;

/// What clients are told, from now until it changes.
pub(super) struct Announced {
    /// When nobody says otherwise.
    initial: Vec<SocketAddr>,
    /// The pod's own address, which is always the last one: relays and peers in the cluster reach it.
    own: Option<SocketAddr>,
    now: Mutex<Vec<SocketAddr>>,
}

impl Announced {
    /// With `loopback` (the pages are served on a loopback address) this machine's own browser is the first guest, so
    /// loopback comes first; otherwise it is left out.
    pub(super) fn new(udp: &UdpConfig, bound: SocketAddr, loopback: bool) -> Announced {
        let own = udp.pod_ip.map(|ip| SocketAddr::new(ip, bound.port()));
        let initial = with_own(candidates(udp, bound, loopback), own);
        Announced { now: Mutex::new(initial.clone()), initial, own }
    }

    /// Best first; never empty.
    pub(super) fn now(&self) -> Vec<SocketAddr> {
        self.lock().clone()
    }

    /// From now on these; without any, those of the start.
    pub(super) fn set(&self, addresses: Vec<SocketAddr>) {
        let addresses = if addresses.is_empty() { self.initial.clone() } else { with_own(addresses, self.own) };
        let mut now = self.lock();
        if *now != addresses {
            tracing::info!(announced = ?addresses, "newcomers are told to send media here");
            *now = addresses;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        // A list is replaced whole.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn with_own(addresses: Vec<SocketAddr>, own: Option<SocketAddr>) -> Vec<SocketAddr> {
    let mut once: Vec<SocketAddr> = Vec::new();
    for address in addresses.into_iter().filter(|address| Some(*address) != own).chain(own) {
        if !once.contains(&address) {
            once.push(address);
        }
    }
    once
}

/// What to announce at the start, best first, the pod's own address aside.
fn candidates(udp: &UdpConfig, bound: SocketAddr, loopback: bool) -> Vec<SocketAddr> {
    if !udp.announce.is_empty() {
        return udp
            .announce
            .iter()
            .map(|Announce { ip, port }| SocketAddr::new(*ip, port.unwrap_or(bound.port())))
            .collect();
    }
    if udp.pod_ip.is_some() {
        return Vec::new();
    }
    let ips = match udp.address.filter(|address| !address.is_unspecified()) {
        Some(address) => vec![address],
        None => choose(interfaces(), bound.is_ipv6(), loopback),
    };
    ips.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect()
}

fn interfaces() -> Vec<IpAddr> {
    if_addrs::get_if_addrs().map(|all| all.iter().map(if_addrs::Interface::ip).collect()).unwrap_or_default()
}

fn choose(all: Vec<IpAddr>, ipv6: bool, loopback: bool) -> Vec<IpAddr> {
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => ipv6 && !is_link_local(v6) && !v6.is_unspecified(),
    };
    let mut ips: Vec<IpAddr> = all.into_iter().filter(usable).collect();
    let others = ips.iter().any(|ip| !ip.is_loopback());
    if others && !loopback {
        ips.retain(|ip| !ip.is_loopback());
    }
    // Loopback (when kept), then IPv4, then IPv6: what a client on the same network most likely reaches.
    ips.sort_by_key(|ip| (!ip.is_loopback(), ip.is_ipv6()));
    ips.dedup();
    ips.truncate(MOST);
    if ips.is_empty() { vec![IpAddr::from([127, 0, 0, 1])] } else { ips }
}

fn is_link_local(ip: &Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(all: &[&str]) -> Vec<IpAddr> {
        all.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn loopback_is_first_for_a_laptop_and_absent_for_a_server() {
        let all = ["fe80::1", "2001:db8::5", "192.0.2.7", "127.0.0.1", "::1", "169.254.3.4"];
        assert_eq!(choose(ips(&all), true, true), ips(&["127.0.0.1", "::1", "192.0.2.7", "2001:db8::5"]));
        assert_eq!(choose(ips(&all), true, false), ips(&["192.0.2.7", "2001:db8::5"]));
        assert_eq!(choose(ips(&all), false, false), ips(&["192.0.2.7"]));
        assert_eq!(choose(ips(&["127.0.0.1"]), true, false), ips(&["127.0.0.1"]));
        assert_eq!(choose(vec![], true, false), ips(&["127.0.0.1"]));
    }

    #[test]
    fn what_is_announced_by_hand_is_all_that_is_announced() {
        let announce = vec![Announce { ip: "203.0.113.7".parse().unwrap(), port: Some(31_189) }];
        let udp = UdpConfig { address: None, port: 8189, announce, pod_ip: None };
        let bound = "[::]:8189".parse().unwrap();
        assert_eq!(candidates(&udp, bound, true), ["203.0.113.7:31189".parse::<SocketAddr>().unwrap()]);
    }

    fn addresses(all: &[&str]) -> Vec<SocketAddr> {
        all.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn a_pods_own_address_is_always_the_last_one() {
        let bound = "[::]:8189".parse().unwrap();
        let udp =
            UdpConfig { address: None, port: 8189, announce: vec![], pod_ip: Some("10.244.0.9".parse().unwrap()) };
        let announced = Announced::new(&udp, bound, false);
        assert_eq!(announced.now(), addresses(&["10.244.0.9:8189"]));
        announced.set(addresses(&["10.244.0.9:8189", "203.0.113.7:31189", "198.51.100.7:31189", "203.0.113.7:31189"]));
        assert_eq!(announced.now(), addresses(&["203.0.113.7:31189", "198.51.100.7:31189", "10.244.0.9:8189"]));
        announced.set(vec![]);
        assert_eq!(announced.now(), addresses(&["10.244.0.9:8189"]));
    }

    #[test]
    fn without_a_pod_what_is_set_replaces_what_was_chosen_and_nothing_brings_that_back() {
        let announce = vec![Announce { ip: "203.0.113.7".parse().unwrap(), port: None }];
        let udp = UdpConfig { address: None, port: 8189, announce, pod_ip: None };
        let announced = Announced::new(&udp, "[::]:8189".parse().unwrap(), true);
        announced.set(addresses(&["198.51.100.7:1"]));
        assert_eq!(announced.now(), addresses(&["198.51.100.7:1"]));
        announced.set(vec![]);
        assert_eq!(announced.now(), addresses(&["203.0.113.7:8189"]));
    }
}
