//! The media socket on narrow and on dead paths, between network namespaces. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use media_server::net::socket::{Outcome, Socket};
use sfu::forward::slab::Transmit;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use streamsession_tests::sys::enter_namespace;

const LIMIT: Duration = Duration::from_secs(20);
/// Bytes of a datagram: a usual payload with its header and tag.
const DATAGRAM: usize = 1_228;

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {} (as root?)", String::from_utf8_lossy(&output.stderr));
}

/// Two namespaces and a link between them.
struct Link {
    near: String,
    far: String,
}

impl Link {
    fn new(mtu: u32) -> Link {
        let id: u16 = rand::random();
        let link = Link { near: format!("path{id:04x}a"), far: format!("path{id:04x}b") };
        for namespace in [&link.near, &link.far] {
            ip(&format!("netns add {namespace}"));
            ip(&format!("-n {namespace} link set lo up"));
        }
        ip(&format!("-n {} link add v type veth peer name v netns {}", link.near, link.far));
        for (namespace, address) in [(&link.near, "198.18.0.1"), (&link.far, "198.18.0.2")] {
            ip(&format!("-n {namespace} addr add {address}/24 dev v"));
            ip(&format!("-n {namespace} link set v mtu {mtu} up"));
        }
        link
    }

    /// Makes something in one of the namespaces; sockets stay there.
    fn inside<T: Send>(namespace: &str, make: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                enter_namespace(namespace).unwrap();
                make()
            });
            made.join().unwrap()
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for namespace in [&self.near, &self.far] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).stderr(Stdio::null()).status();
        }
    }
}

/// Receives `count` datagrams, each of which names itself in its first four bytes.
fn receive(receiver: &mut Socket, count: usize) -> Vec<u32> {
    let never = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut got: Vec<u32> = Vec::new();
    while got.len() < count {
        assert!(receiver.wait(&never, Some(LIMIT)).0, "{} of {count} arrived", got.len());
        receiver.receive(|_, bytes| {
            assert_eq!(bytes.len(), DATAGRAM);
            got.push(u32::from_be_bytes(*bytes.first_chunk().unwrap()));
        });
    }
    got
}

fn socket(namespace: &str, address: &str) -> Socket {
    Link::inside(namespace, || Socket::bind(address.parse().unwrap(), false).unwrap())
}

fn slab(first: u32, count: u32) -> Vec<u8> {
    let mut slab = Vec::new();
    for n in first..first + count {
        let mut datagram = [n as u8; DATAGRAM];
        datagram[..4].copy_from_slice(&n.to_be_bytes());
        slab.extend_from_slice(&datagram);
    }
    slab
}

fn runs(destination: SocketAddr, count: u32, run: u32) -> Vec<Transmit> {
    let transmit = Transmit { destination, len: DATAGRAM * run as usize, segment_size: Some(DATAGRAM as u16) };
    vec![transmit; (count / run) as usize]
}

fn runs_arrive_over(mtu: u32) {
    let link = Link::new(mtu);
    let mut receiver = socket(&link.far, "198.18.0.2:0");
    let mut sender = socket(&link.near, "[::]:0");
    let to = receiver.local_addr().unwrap();
    // The neighbour is found by one datagram: the kernel keeps only few until then.
    sender.send(&[Transmit { destination: to, len: DATAGRAM, segment_size: None }], &slab(9, 1));
    assert_eq!(receive(&mut receiver, 1), [9]);
    let first = sender.send(&runs(to, 120, 40), &slab(0, 120));
    assert_eq!((first.datagrams, first.errors, first.dropped), (120, 0, 0), "MTU {mtu}");
    assert_eq!(receive(&mut receiver, 120), (0..120).collect::<Vec<_>>(), "first delivery is complete and in order");
    let narrow = DATAGRAM + 28 > mtu as usize;
    assert_eq!((first.unsegmented > 0, sender.narrow_paths()), (narrow, usize::from(narrow)), "MTU {mtu}");
    // The path is known by now: no call fails, and those that send many are used again.
    let again = sender.send(&runs(to, 120, 40), &slab(200, 120));
    assert_eq!((again.datagrams, again.errors, again.unsegmented, again.calls), (120, 0, 0, 1), "MTU {mtu}");
    assert_eq!(receive(&mut receiver, 120), (200..320).collect::<Vec<_>>());
}

#[test]
fn runs_arrive_over_mtu_1100() {
    runs_arrive_over(1100);
}

#[test]
fn runs_arrive_over_mtu_1280_and_1400() {
    runs_arrive_over(1280);
    runs_arrive_over(1400);
}

#[test]
fn full_socket_buffer_delays_without_waiting() {
    let link = Link::new(1500);
    let mut receiver = socket(&link.far, "198.18.0.2:0");
    let mut sender = socket(&link.near, "0.0.0.0:0");
    sender.set_send_buffer(32 * 1024).unwrap();
    // No host has this address: packets to it hold the buffer until the kernel gives up, after 3 s.
    let dead: SocketAddr = (Ipv4Addr::new(198, 18, 0, 9), 9).into();
    let began = Instant::now();
    let mut outcome = sender.send(&runs(dead, 120, 40), &slab(0, 120));
    let live = sender.send(&runs(receiver.local_addr().unwrap(), 80, 40), &slab(1000, 80));
    assert!(began.elapsed() < Duration::from_millis(500), "it does not wait: {:?}", began.elapsed());
    assert!(sender.backlog() >= 80 * DATAGRAM, "{} bytes wait, {outcome:?} {live:?}", sender.backlog());
    assert_eq!((outcome.dropped, live.dropped), (0, 0));

    let never = UdpSocket::bind("127.0.0.1:0").unwrap();
    while sender.backlog() > 0 {
        assert!(began.elapsed() < LIMIT, "{} bytes still wait", sender.backlog());
        sender.wait(&never, Some(Duration::from_secs(1)));
        let more = sender.resume();
        outcome = Outcome { datagrams: outcome.datagrams + more.datagrams, ..more };
    }
    assert_eq!(outcome.datagrams + live.datagrams, 200);
    let (got, all) = (receive(&mut receiver, 80), (1000..1080).collect::<Vec<_>>());
    assert_eq!(got, all, "nothing is lost, and the order stays");
}

#[test]
fn backlog_is_bounded_and_counts_drops() {
    let link = Link::new(1500);
    let mut sender = socket(&link.near, "0.0.0.0:0");
    sender.set_send_buffer(32 * 1024).unwrap();
    let dead: SocketAddr = (Ipv4Addr::new(198, 18, 0, 9), 9).into();
    let (transmits, slab) = (runs(dead, 200, 40), slab(0, 200));
    let (mut sent, mut dropped) = (0, 0);
    for _ in 0..60 {
        let outcome = sender.send(&transmits, &slab);
        sent += outcome.datagrams;
        dropped += outcome.dropped;
    }
    let waiting = sender.backlog() / DATAGRAM;
    assert!(sender.backlog() <= 8 << 20, "{}", sender.backlog());
    assert!(dropped > 0);
    assert_eq!(sent + dropped + waiting as u64, 60 * 200);
}
