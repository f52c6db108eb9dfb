//! The cost of one RTCP packet and of one idle tick with 10 and with 1,000 viewers, in instructions, as callgrind counts
//! them. The test runs its own binary under valgrind, which must be installed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use sfu::forward::slab::MAX_TRANSMIT;
use sfu::parameters::{LocalDescription, PublisherTracks, RoomId, SessionId, TransportParameters};
use sfu::sdp::{AnswerOptions, Offer};
use sfu::shard::stats::RoleStats;
use sfu::transport::Identity as ServerIdentity;
use sfu::{Command, Feed, Shard};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command as Process;
use std::time::{Duration, Instant};
use streamsession_tests::camera::{Behaviour, Camera};
use streamsession_tests::peer::{IceRole, Identity, credentials};
use streamsession_tests::sdp::{Description, Local, camera_offer, viewer_offer};
use streamsession_tests::viewer::Viewer;

const ROOM: RoomId = RoomId(1);
/// Viewers of the measured run; 10 without it.
const VIEWERS: &str = "SHARD_COST_VIEWERS";

struct World {
    now: Instant,
    shard: Shard,
    server: ServerIdentity,
    client: Identity,
    tracks: PublisherTracks,
    slab: Vec<u8>,
}

fn address(session: SessionId) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1000 + session.0 as u16))
}

impl World {
    fn new() -> Self {
        let (now, server) = (Instant::now(), ServerIdentity::generate().unwrap());
        let mut shard = Shard::new(server.clone(), [1; 32]);
        shard.handle_command(now, Command::OpenRoom { room: ROOM, tapped: false });
        let client = Identity::generate().unwrap();
        Self { now, shard, server, client, tracks: PublisherTracks::default(), slab: vec![0; MAX_TRANSMIT] }
    }

    fn local_description(&self) -> LocalDescription {
        LocalDescription {
            ice: credentials(),
            fingerprint: self.server.fingerprint(),
            candidates: vec!["198.51.100.1:8189".parse().unwrap()],
            origin: 1,
        }
    }

    fn camera(&mut self, session: SessionId) {
        let (ice, local) = (credentials(), self.local_description());
        let description = Local { ice: &ice, fingerprint: self.client.fingerprint(), address: address(session) };
        let text = camera_offer(&description, [1, 2, 3]);
        let offer = Offer::parse(&text).unwrap();
        let (answer, tracks) = offer.answer_publisher(&local, &AnswerOptions::default()).unwrap();
        self.tracks = tracks.clone();
        let feed = Feed::Peer(transport(local, &offer));
        self.shard
            .handle_command(self.now, Command::AddSource { room: ROOM, session, feed, tracks, max_bitrate: None });
        let behaviour = Behaviour { responsive: false, first_sequence: 1, ssrcs: [1, 2, 3] };
        let answer = Description::parse(&answer).unwrap();
        let mut camera = Camera::new(self.now, &self.client, ice, answer, behaviour);
        camera.handle_timeout(self.now);
        while !camera.peer().is_connected() {
            let Some((_, datagram)) = camera.poll_datagram() else { panic!("the handshake stopped") };
            for answer in self.exchange(session, &datagram) {
                camera.handle_datagram(self.now, address(session), &answer);
            }
        }
    }

    fn viewer(&mut self, session: SessionId) -> Viewer {
        let (ice, local) = (credentials(), self.local_description());
        let description = Local { ice: &ice, fingerprint: self.client.fingerprint(), address: address(session) };
        let text = viewer_offer(&description);
        let offer = Offer::parse(&text).unwrap();
        let ssrcs = [1, 2, 3, 4].map(|n| 10_000 + 10 * session.0 as u32 + n);
        let (answer, tracks) = offer.answer_subscriber(&local, &self.tracks, ssrcs, &AnswerOptions::default()).unwrap();
        let transport = transport(local, &offer);
        self.shard.handle_command(self.now, Command::Subscribe { room: ROOM, session, transport, tracks });
        let answer = Description::parse(&answer).unwrap();
        let mut viewer = Viewer::new(self.now, &self.client, IceRole::Controlling, ice, answer, 1);
        viewer.handle_timeout(self.now);
        while viewer.connected_at().is_none() {
            let Some((_, datagram)) = viewer.poll_datagram() else { panic!("the handshake stopped") };
            for answer in self.exchange(session, &datagram) {
                viewer.handle_datagram(self.now, address(session), &answer);
            }
        }
        viewer
    }

    /// Passes one datagram to the shard, and returns those that it answers.
    fn exchange(&mut self, session: SessionId, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.shard.handle_datagram(self.now, address(session), datagram);
        let mut answers = Vec::new();
        while let Some(transmit) = self.shard.poll_transmit(self.now, &mut self.slab) {
            assert_eq!(transmit.destination, address(session));
            answers.push(self.slab[..transmit.len].to_vec());
        }
        answers
    }
}

fn transport(local: LocalDescription, offer: &Offer) -> TransportParameters {
    TransportParameters {
        local: local.ice,
        remote: offer.ice.clone(),
        fingerprint: offer.fingerprint,
        dtls_role: offer.dtls_role,
    }
}

/// One iteration of the event loop of a media thread that received an RTCP packet; callgrind counts in here.
#[inline(never)]
fn measured_rtcp(shard: &mut Shard, now: Instant, from: SocketAddr, datagram: &[u8], slab: &mut [u8]) {
    shard.handle_datagram(now, from, datagram);
    iterate(shard, now, slab);
}

/// One iteration of the event loop at a deadline; callgrind counts in here. Returns the datagrams that were sent.
#[inline(never)]
fn measured_tick(shard: &mut Shard, now: Instant, slab: &mut [u8]) -> usize {
    iterate(shard, now, slab)
}

fn iterate(shard: &mut Shard, now: Instant, slab: &mut [u8]) -> usize {
    shard.handle_timeout(now);
    let mut sent = 0;
    while shard.poll_transmit(now, slab).is_some() {
        sent += 1;
    }
    while shard.poll_event().is_some() {}
    assert!(shard.poll_timeout().is_none_or(|at| at > now));
    sent
}

#[test]
fn rtcp_and_tick_reach_only_their_peer() {
    let viewers = std::env::var(VIEWERS).map_or(10, |count| count.parse().unwrap());
    let mut world = World::new();
    let start = world.now;
    world.camera(SessionId(1));
    let mut last = None;
    for n in 0..viewers {
        last = Some(world.viewer(SessionId(2 + n)));
    }
    let (mut viewer, session) = (last.unwrap(), SessionId(1 + viewers));
    // Work left by the joins is done before the measurement.
    world.now += Duration::from_millis(100);
    iterate(&mut world.shard, world.now, &mut world.slab);
    viewer.request_keyframe();
    let (_, datagram) = std::iter::from_fn(|| viewer.poll_datagram()).last().unwrap();
    measured_rtcp(&mut world.shard, world.now, address(session), &datagram, &mut world.slab);
    let requests = world.shard.stats(world.now).into_iter().map(|stats| match stats.role {
        RoleStats::Subscriber(subscriber) => (stats.session, subscriber.keyframe_requests),
        RoleStats::Publisher(publisher) => (stats.session, publisher.keyframe_requests),
    });
    assert_eq!(requests.filter(|(_, count)| *count > 0).collect::<Vec<_>>(), [(session, 1)]);
    // The timers of the handshakes run out once; the rest is the camera's report, every second.
    while let Some(at) = world.shard.poll_timeout().filter(|at| *at < start + Duration::from_millis(1500)) {
        iterate(&mut world.shard, at, &mut world.slab);
    }
    world.now = world.shard.poll_timeout().unwrap();
    assert_eq!(measured_tick(&mut world.shard, world.now, &mut world.slab), 1);
}

/// Instructions of both measured functions.
fn instructions(viewers: u64, directory: &Path) -> [u64; 2] {
    let totals = ["measured_rtcp", "measured_tick"].map(|function| directory.join(format!("{viewers}-{function}")));
    for (out, function) in totals.iter().zip(["measured_rtcp", "measured_tick"]) {
        let output = Process::new("valgrind")
            .args(["--tool=callgrind", "--cache-sim=no"])
            .arg(format!("--toggle-collect=*{function}*"))
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "rtcp_and_tick_reach_only_their_peer", "--test-threads=1"])
            .env(VIEWERS, viewers.to_string())
            .output()
            .expect("valgrind is installed: apt-get install valgrind");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    totals.map(|out| {
        let text = std::fs::read_to_string(out).unwrap();
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
        total.trim().parse().unwrap()
    })
}

#[test]
#[ignore = "nightly"]
fn instructions_do_not_grow_with_viewers() {
    let directory = tempfile::tempdir().unwrap();
    let (few, many) = (instructions(10, directory.path()), instructions(1000, directory.path()));
    for (what, few, many) in [("RTCP packet", few[0], many[0]), ("idle tick", few[1], many[1])] {
        println!("{what}: {few} instructions with 10 viewers, {many} with 1,000");
        assert!(few > 1000, "{what}: nothing was counted");
        assert!(few.abs_diff(many) * 10 <= few, "{what}: {few} instructions with 10 viewers, {many} with 1,000");
    }
}
