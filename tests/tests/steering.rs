//! The media plane of four threads, with real sockets on loopback: eight rooms are watched and recorded while clients of
//! each room send valid connectivity checks from 100,000 addresses.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use media_server::config::UdpConfig;
use media_server::control::{Media as _, Publish, Subscribe};
use media_server::net::tap::Taps;
use media_server::net::{MediaPlane, NetConfig, Started};
use sfu::Feed;
use sfu::parameters::{PublisherTracks, RoomId, SessionId, TransportParameters};
use sfu::sdp::{AnswerOptions, Offer};
use sfu::tap::TapRecord;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use streamsession_tests::camera::{Behaviour, Camera};
use streamsession_tests::crowd::Crowd;
use streamsession_tests::peer::{IceRole, Identity, Peer, credentials};
use streamsession_tests::sdp::{Description, Local, camera_offer, viewer_offer};
use streamsession_tests::source::Source;
use streamsession_tests::sys::Udp;
use streamsession_tests::viewer::Viewer;

const SHARDS: usize = 4;
const ROOMS: u64 = 8;
const ADDRESSES: u32 = 100_000;
/// Parts of the flood, each short enough for sessions that never connect.
const PARTS: u32 = 40;
/// Addresses that one session may have bound at a time.
const PER_SESSION: usize = 8;
const LIMIT: Duration = Duration::from_secs(60);

/// Video and audio packets of each room, as the recorder is given them.
type Recorded = HashMap<(RoomId, bool), Vec<u64>>;

struct Plane {
    plane: MediaPlane,
    identity: Identity,
    sessions: u64,
}

impl Plane {
    fn session(&mut self) -> SessionId {
        self.sessions += 1;
        SessionId(self.sessions)
    }

    fn camera(&mut self, room: RoomId) -> (Source, PublisherTracks) {
        let (session, socket, ice) = (self.session(), loopback(), credentials());
        let local = self.plane.describe(room);
        let base = 100 * session.0 as u32;
        let ssrcs = [base, base + 1, base + 2];
        let address = socket.local_addr().unwrap();
        let text = camera_offer(&Local { ice: &ice, fingerprint: self.identity.fingerprint(), address }, ssrcs);
        let offer = Offer::parse(&text).unwrap();
        let (answer, tracks) = offer.answer_publisher(&local, &AnswerOptions::default()).unwrap();
        let (fingerprint, dtls_role) = (offer.fingerprint, offer.dtls_role);
        let transport = TransportParameters { local: local.ice, remote: offer.ice, fingerprint, dtls_role };
        self.plane.publish(Publish {
            room,
            session,
            feed: Feed::Peer(transport),
            tracks: tracks.clone(),
            max_bitrate: None,
        });
        let behaviour = Behaviour { responsive: true, first_sequence: 1, ssrcs };
        let description = Description::parse(&answer).unwrap();
        let camera = Camera::new(Instant::now(), &self.identity, ice, description, behaviour);
        (Source::webrtc(socket, camera).unwrap(), tracks)
    }

    /// Answers a viewer's offer. Returns the client's parameters.
    fn subscribe(&mut self, room: RoomId, tracks: &PublisherTracks) -> (sfu::parameters::IceCredentials, Description) {
        let (session, ice) = (self.session(), credentials());
        let local = self.plane.describe(room);
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let text = viewer_offer(&Local { ice: &ice, fingerprint: self.identity.fingerprint(), address });
        let offer = Offer::parse(&text).unwrap();
        let ssrcs = [1, 2, 3, 4].map(|n| 1000 * session.0 as u32 + n);
        let (answer, tracks) = offer.answer_subscriber(&local, tracks, ssrcs, &AnswerOptions::default()).unwrap();
        let (fingerprint, dtls_role) = (offer.fingerprint, offer.dtls_role);
        let transport = TransportParameters { local: local.ice, remote: offer.ice, fingerprint, dtls_role };
        self.plane.subscribe(Subscribe { room, session, transport, tracks });
        (ice, Description::parse(&answer).unwrap())
    }

    fn wait_until(&self, what: &str, mut done: impl FnMut(&media_server::net::Snapshot) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !done(&self.plane.snapshot()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.plane.snapshot().shards);
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

fn loopback() -> Udp {
    Udp::bind(IpAddr::V4(Ipv4Addr::LOCALHOST), false).unwrap()
}

fn record(taps: Taps, stop: Arc<AtomicBool>) -> JoinHandle<Recorded> {
    std::thread::spawn(move || {
        let mut recorded = Recorded::new();
        while !stop.load(Ordering::Relaxed) {
            let Ok(Some(batch)) = taps.next(Duration::from_millis(20)) else { continue };
            for tapped in &batch.records {
                if let TapRecord::Packet { kind, index, .. } = tapped {
                    let video = *kind == sfu::parameters::MediaKind::Video;
                    recorded.entry((batch.room, video)).or_default().push(*index);
                }
            }
            taps.recycle(batch);
        }
        recorded
    })
}

/// One valid check of a session, which any number of addresses may send.
fn valid_check(plane: &mut Plane, room: RoomId, tracks: &PublisherTracks) -> (SocketAddr, Vec<u8>) {
    let (ice, description) = plane.subscribe(room, tracks);
    let now = Instant::now();
    let mut peer = Peer::new(now, &plane.identity, IceRole::Controlling, ice, description.remote);
    peer.handle_timeout(now);
    peer.poll_datagram().unwrap()
}

/// Sends valid checks of sessions in all rooms, each from its own address, and waits for each answer. A session that
/// never connects ends after 20 seconds, so each part of the flood has new ones.
fn flood(plane: &mut Plane, rooms: &[(RoomId, PublisherTracks)]) {
    for part in 0..PARTS {
        let checks: Vec<_> = rooms.iter().map(|(room, tracks)| valid_check(plane, *room, tracks)).collect();
        for n in part * ADDRESSES / PARTS..(part + 1) * ADDRESSES / PARTS {
            let ip = Ipv4Addr::new(127, 1 + (n >> 16) as u8, (n >> 8) as u8, n as u8);
            let socket = UdpSocket::bind((ip, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let (to, check) = &checks[n as usize % checks.len()];
            let answered = (0..10).any(|_| {
                socket.send_to(check, to).unwrap();
                socket.recv(&mut [0; 256]).is_ok()
            });
            assert!(answered, "address {n} is answered");
        }
    }
}

#[test]
fn hundred_thousand_addresses_disturb_no_room() {
    let udp = UdpConfig { address: Some([127, 0, 0, 1].into()), port: 0, announce: Vec::new(), pod_ip: None };
    let shards = NonZeroUsize::new(SHARDS);
    let config = NetConfig { udp, shards, loopback: true, segmentation: true };
    let Started { plane, events: _events, taps, .. } = MediaPlane::start(&config).unwrap();
    let mut plane = Plane { plane, identity: Identity::generate().unwrap(), sessions: 0 };
    let stop = Arc::new(AtomicBool::new(false));
    let recorder = record(taps, stop.clone());

    let crowd = Crowd::start().unwrap();
    let mut cameras = Vec::new();
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        let room = plane.plane.open_room(true);
        let (camera, tracks) = plane.camera(room);
        let (ice, description) = plane.subscribe(room, &tracks);
        let now = Instant::now();
        let viewer = Viewer::new(now, &plane.identity, IceRole::Controlling, ice, description, 50);
        crowd.join(loopback(), viewer, now);
        rooms.push((room, tracks));
        cameras.push(camera);
    }
    let deadline = Instant::now() + LIMIT;
    while crowd.report().viewers.iter().any(|viewer| viewer.first_keyframe.is_none()) {
        assert!(Instant::now() < deadline, "no picture: {:?}", crowd.report().viewers);
        std::thread::park_timeout(Duration::from_millis(20));
    }
    crowd.mark();
    let sent: Vec<u64> = cameras.iter().map(|camera| camera.packets()).collect();
    flood(&mut plane, &rooms);
    let flooded: Vec<u64> = cameras.iter().map(|camera| camera.packets()).collect();

    // Every room continues afterwards: a second's worth of packets more.
    let deadline = Instant::now() + LIMIT;
    while cameras.iter().zip(&flooded).any(|(camera, before)| camera.packets() < before + 300) {
        assert!(Instant::now() < deadline, "a camera has stopped");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let marked = crowd.mark();
    plane.wait_until("counts of the whole flood", |snapshot| {
        snapshot.shards.iter().map(|shard| shard.counters.stun_passed).sum::<u64>() >= u64::from(ADDRESSES)
    });
    let snapshot = plane.plane.snapshot();
    let sessions = (2 + PARTS as usize) * ROOMS as usize;
    for shard in &snapshot.shards {
        let sizes = (shard.steering_others, shard.steering_taught);
        assert!(sizes.0 <= PER_SESSION * sessions && sizes.1 <= PER_SESSION * sessions, "{sizes:?}");
        assert_eq!(shard.not_steered, 0);
    }
    assert!(snapshot.shards.iter().map(|shard| shard.steered).sum::<u64>() > u64::from(ADDRESSES) / 2);
    for (n, viewer) in marked.viewers.iter().enumerate() {
        let (expected, lost) = viewer.spans[0];
        assert!(expected > flooded[n] - sent[n], "viewer {n} was sent {expected} of {}", flooded[n] - sent[n]);
        assert_eq!((lost, viewer.totals.forged, viewer.totals.damaged), (0, 0, 0), "viewer {n}");
    }

    for camera in cameras {
        camera.stop();
    }
    crowd.leave();
    plane.wait_until("entries of ended sessions", |snapshot| {
        snapshot.shards.iter().all(|shard| shard.steering_taught <= PER_SESSION * ROOMS as usize)
    });
    plane.plane.stop();
    stop.store(true, Ordering::Relaxed);
    let recorded = recorder.join().unwrap();
    assert_eq!(recorded.len(), 2 * ROOMS as usize);
    for ((room, video), mut indices) in recorded {
        indices.sort_unstable();
        indices.dedup();
        let holes = indices.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
        assert_eq!(holes, 0, "{room:?} video {video}: {} packets", indices.len());
    }
}
