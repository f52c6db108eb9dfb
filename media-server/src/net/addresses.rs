//! Which addresses clients are told to send media to, when nobody says: those of this machine.

use crate::args::Announce;
use crate::config::UdpConfig;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// More candidates than this make every connection check slower.
const MOST: usize = 8;

/// The candidates to announce, best first; never empty. With `loopback` (the pages are served on a loopback address) this
/// machine's own browser is the first guest, so loopback comes first; otherwise it is left out.
pub(super) fn candidates(udp: &UdpConfig, bound: SocketAddr, loopback: bool) -> Vec<SocketAddr> {
    if !udp.announce.is_empty() {
        return udp
            .announce
            .iter()
            .map(|Announce { ip, port }| SocketAddr::new(*ip, port.unwrap_or(bound.port())))
            .collect();
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
}
