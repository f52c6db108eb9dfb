//! A whole room in virtual time: cameras and viewers that are written apart from the server, a shard between them, and
//! links that lose, delay, reorder and double what they carry, the same for each seed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

#[path = "shard_sim/fair.rs"]
mod fair;
#[path = "shard_sim/trouble.rs"]
mod trouble;

use sfu::forward::slab::MAX_TRANSMIT;
use sfu::packet::{Kind, classify};
use sfu::parameters::{LocalDescription, MediaKind, PublisherTracks, RoomId, SessionId, TransportParameters};
use sfu::ring::Limits;
use sfu::sdp::{AnswerOptions, Offer};
use sfu::shard::stats::{PublisherStats, RoleStats};
use sfu::tap::{TapBatch, TapRecord};
use sfu::transport::Identity as ServerIdentity;
use sfu::{Command, Event, Feed, LocalPacket, Shard};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use streamsession_tests::camera::{Behaviour, Camera};
use streamsession_tests::nightly::choose;
use streamsession_tests::peer::{IceRole, Identity, credentials};
use streamsession_tests::reception::Arrival;
use streamsession_tests::sdp::{Description, Local, camera_offer, viewer_offer};
use streamsession_tests::stream::{KEYFRAME_INTERVAL, Stream, Tag, identify};
use streamsession_tests::viewer::{Kept, Viewer};

const ROOM: RoomId = RoomId(1);

/// What a link does, the same in both directions.
#[derive(Clone, Copy)]
struct Link {
    /// Of a thousand datagrams.
    lost: u64,
    /// Of a thousand datagrams.
    doubled: u64,
    delay: Duration,
    /// Added to the delay, anything up to this.
    jitter: Duration,
    /// From one datagram to the next, at least.
    spacing: Duration,
    /// Bits per second towards the client, behind a queue of [`QUEUE`].
    rate: Option<u64>,
}

/// Packets are lost while more than this waits for a narrow link.
const QUEUE: Duration = Duration::from_millis(100);

const SMOOTH: Link = Link {
    lost: 0,
    doubled: 0,
    delay: Duration::from_millis(5),
    jitter: Duration::ZERO,
    spacing: Duration::ZERO,
    rate: None,
};

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

enum Client {
    Camera(Box<Camera>),
    Viewer(Box<Viewer>),
}

struct Seat {
    session: SessionId,
    address: SocketAddr,
    link: Link,
    /// When the last datagram arrives, in each direction.
    busy_until: [Instant; 2],
    /// Bytes of RTP that were sent to it, whether they arrive or not.
    sent: u64,
    client: Client,
}

#[derive(Clone, Copy)]
enum Fate {
    Lost,
    Late(Duration),
}

struct Travelling {
    to_shard: bool,
    seat: usize,
    bytes: Vec<u8>,
}

struct World {
    now: Instant,
    start: Instant,
    shard: Shard,
    server: ServerIdentity,
    seats: Vec<Seat>,
    travelling: BTreeMap<(Instant, u64), Travelling>,
    /// What happens to single packets on their way to the shard: by SSRC and sequence number, once.
    fates: BTreeMap<(u32, u16), Fate>,
    posted: u64,
    dice: Dice,
    tracks: PublisherTracks,
    events: Vec<Event>,
    taps: Vec<TapBatch>,
    slab: Vec<u8>,
}

fn identity() -> Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::generate().unwrap()).clone()
}

impl World {
    fn new(seed: u64) -> Self {
        let server = ServerIdentity::generate().unwrap();
        let now = Instant::now();
        let mut shard = Shard::new(server.clone(), [seed as u8; 32]);
        shard.handle_command(now, Command::OpenRoom { room: ROOM, tapped: true });
        Self {
            now,
            start: now,
            shard,
            server,
            seats: Vec::new(),
            travelling: BTreeMap::new(),
            fates: BTreeMap::new(),
            posted: 0,
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            tracks: PublisherTracks::default(),
            events: Vec::new(),
            taps: Vec::new(),
            slab: vec![0; MAX_TRANSMIT],
        }
    }

    fn local_description(&self) -> LocalDescription {
        LocalDescription {
            ice: credentials(),
            fingerprint: self.server.fingerprint(),
            candidates: vec!["198.51.100.1:8189".parse().unwrap()],
            origin: 1,
        }
    }

    fn seat(&mut self, link: Link, client: impl FnOnce(&mut Self, SessionId, SocketAddr) -> Client) -> usize {
        let number = self.seats.len();
        let (session, address) =
            (SessionId(number as u64 + 1), SocketAddr::from(([192, 0, 2, number as u8 + 1], 4000)));
        let client = client(self, session, address);
        self.seats.push(Seat { session, address, link, busy_until: [self.now; 2], sent: 0, client });
        number
    }

    fn camera(&mut self, link: Link, responsive: bool, first_sequence: u16) -> usize {
        self.camera_offering(link, responsive, first_sequence, |offer| offer)
    }

    /// A camera with another offer than its own.
    fn camera_offering(
        &mut self,
        link: Link,
        responsive: bool,
        first_sequence: u16,
        adapt: impl FnOnce(String) -> String,
    ) -> usize {
        self.seat(link, |world, session, address| {
            let (ice, local) = (credentials(), world.local_description());
            let base = 100 * session.0 as u32;
            let ssrcs = [base, base + 1, base + 2];
            let text = camera_offer(&Local { ice: &ice, fingerprint: identity().fingerprint(), address }, ssrcs);
            let offer = Offer::parse(&adapt(text)).unwrap();
            let (answer, tracks) = offer.answer_publisher(&local, &AnswerOptions::default()).unwrap();
            world.tracks = tracks.clone();
            let transport = TransportParameters {
                local: local.ice,
                remote: offer.ice,
                fingerprint: offer.fingerprint,
                dtls_role: offer.dtls_role,
            };
            let command =
                Command::AddSource { room: ROOM, session, feed: Feed::Peer(transport), tracks, max_bitrate: None };
            world.shard.handle_command(world.now, command);
            let behaviour = Behaviour { responsive, first_sequence, ssrcs };
            let description = Description::parse(&answer).unwrap();
            Client::Camera(Box::new(Camera::new(world.now, &identity(), ice, description, behaviour)))
        })
    }

    /// A viewer that opens and keeps everything. `rtx` says whether it offers the retransmission format.
    fn viewer(&mut self, link: Link, rtx: bool) -> usize {
        self.viewer_offering(link, |offer| if rtx { offer } else { offer.replace("SAVPF 102 103", "SAVPF 102") })
    }

    /// A viewer with another offer than its own.
    fn viewer_offering(&mut self, link: Link, adapt: impl FnOnce(String) -> String) -> usize {
        self.seat(link, |world, session, address| {
            let (ice, local) = (credentials(), world.local_description());
            let text = viewer_offer(&Local { ice: &ice, fingerprint: identity().fingerprint(), address });
            let offer = Offer::parse(&adapt(text)).unwrap();
            let ssrcs = [1, 2, 3, 4].map(|n| 1000 * session.0 as u32 + n);
            let (answer, tracks) =
                offer.answer_subscriber(&local, &world.tracks, ssrcs, &AnswerOptions::default()).unwrap();
            let transport = TransportParameters {
                local: local.ice,
                remote: offer.ice,
                fingerprint: offer.fingerprint,
                dtls_role: offer.dtls_role,
            };
            world.shard.handle_command(world.now, Command::Subscribe { room: ROOM, session, transport, tracks });
            let description = Description::parse(&answer).unwrap();
            let mut viewer = Viewer::new(world.now, &identity(), IceRole::Controlling, ice, description, 1);
            viewer.keep();
            Client::Viewer(Box::new(viewer))
        })
    }

    fn camera_at(&mut self, seat: usize) -> &mut Camera {
        match &mut self.seats[seat].client {
            Client::Camera(camera) => camera,
            Client::Viewer(_) => panic!("seat {seat} is a viewer"),
        }
    }

    fn viewer_at(&mut self, seat: usize) -> &mut Viewer {
        match &mut self.seats[seat].client {
            Client::Viewer(viewer) => viewer,
            Client::Camera(_) => panic!("seat {seat} is a camera"),
        }
    }

    fn post(&mut self, seat: usize, to_shard: bool, bytes: &[u8]) {
        let link = self.seats[seat].link;
        if !to_shard && classify(bytes) == Some(Kind::Rtp) {
            self.seats[seat].sent += bytes.len() as u64;
        }
        if self.dice.below(1000) < link.lost {
            return;
        }
        let copies = if self.dice.below(1000) < link.doubled { 2 } else { 1 };
        for _ in 0..copies {
            let mut jitter = Duration::from_micros(self.dice.below(link.jitter.as_micros() as u64 + 1));
            match named(bytes).filter(|_| to_shard).and_then(|name| self.fates.remove(&name)) {
                Some(Fate::Lost) => continue,
                Some(Fate::Late(by)) => jitter += by,
                None => {}
            }
            self.posted += 1;
            let travelling = Travelling { to_shard, seat, bytes: bytes.to_vec() };
            let busy_until = &mut self.seats[seat].busy_until[usize::from(to_shard)];
            let mut at = self.now + link.delay + jitter;
            if let Some(rate) = link.rate.filter(|_| !to_shard) {
                let begins = self.now.max(*busy_until);
                if begins - self.now > QUEUE {
                    continue;
                }
                *busy_until = begins + Duration::from_micros(bytes.len() as u64 * 8_000_000 / rate);
                at = *busy_until + link.delay;
            }
            if !link.spacing.is_zero() {
                at = at.max(*busy_until + link.spacing);
                *busy_until = at;
            }
            self.travelling.insert((at, self.posted), travelling);
        }
    }

    /// Takes everything that anyone has to send.
    fn collect(&mut self) {
        let mut slab = std::mem::take(&mut self.slab);
        while let Some(transmit) = self.shard.poll_transmit(self.now, &mut slab) {
            let bytes = &slab[..transmit.len];
            let Some(seat) = self.seats.iter().position(|seat| seat.address == transmit.destination) else { continue };
            for datagram in bytes.chunks(transmit.segment_size.map_or(bytes.len(), usize::from)) {
                self.post(seat, false, datagram);
            }
        }
        self.slab = slab;
        while let Some(event) = self.shard.poll_event() {
            self.events.push(event);
        }
        while let Some(batch) = self.shard.poll_tap() {
            self.taps.push(batch);
        }
        for seat in 0..self.seats.len() {
            loop {
                let datagram = match &mut self.seats[seat].client {
                    Client::Camera(camera) => camera.poll_datagram(),
                    Client::Viewer(viewer) => viewer.poll_datagram(),
                };
                let Some((_, bytes)) = datagram else { break };
                self.post(seat, true, &bytes);
            }
        }
    }

    /// Goes on for `span`.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let mut turns_here = 0;
        loop {
            self.collect();
            let clients = self.seats.iter().filter_map(|seat| match &seat.client {
                Client::Camera(camera) => camera.poll_timeout(),
                Client::Viewer(viewer) => viewer.poll_timeout(),
            });
            let arrival = self.travelling.keys().next().map(|(at, _)| *at);
            let next = clients.chain(arrival).chain(self.shard.poll_timeout()).min();
            let Some(next) = next.filter(|at| *at <= end) else { break };
            turns_here = if next <= self.now { turns_here + 1 } else { 0 };
            assert!(turns_here < 10_000, "time stands still {:?} after the start", self.now - self.start);
            self.now = self.now.max(next);
            while let Some(entry) = self.travelling.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let Travelling { to_shard, seat, bytes } = entry.remove();
                let from = self.seats[seat].address;
                match &mut self.seats[seat].client {
                    _ if to_shard => self.shard.handle_datagram(self.now, from, &bytes),
                    Client::Camera(camera) => camera.handle_datagram(self.now, from, &bytes),
                    Client::Viewer(viewer) => viewer.handle_datagram(self.now, from, &bytes),
                }
            }
            self.shard.handle_timeout(self.now);
            for seat in &mut self.seats {
                match &mut seat.client {
                    Client::Camera(camera) => camera.handle_timeout(self.now),
                    Client::Viewer(viewer) => viewer.handle_timeout(self.now),
                }
            }
        }
        self.now = end;
    }
}

/// SSRC and sequence number of an RTP packet, which are not encrypted.
fn named(datagram: &[u8]) -> Option<(u32, u16)> {
    let header = datagram.first_chunk::<12>().filter(|_| classify(datagram) == Some(Kind::Rtp))?;
    let ssrc = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    Some((ssrc, u16::from_be_bytes([header[2], header[3]])))
}

fn video(kept: &[Kept]) -> Vec<&Kept> {
    kept.iter().filter(|packet| packet.kind == MediaKind::Video).collect()
}

/// Parts that are missing of the frames from `from` up to `until`.
fn missing_parts(kept: &[Kept], from: u32, until: u32) -> Vec<(u32, u16)> {
    let mut parts: BTreeMap<u32, (u16, BTreeSet<u16>)> = BTreeMap::new();
    for packet in kept {
        if let Some(Tag::Part { frame, part, parts: all }) = packet.tag {
            let entry = parts.entry(frame).or_insert((all, BTreeSet::new()));
            entry.1.insert(part);
        }
    }
    let absent = |frame: u32| match parts.get(&frame) {
        Some((all, there)) => (0..*all).filter(|part| !there.contains(part)).map(|part| (frame, part)).collect(),
        None => vec![(frame, 0)],
    };
    (from..until).flat_map(absent).collect()
}

/// Sequence numbers as they came, without wraps, from 0.
fn steps(packets: &[&Kept]) -> Vec<i32> {
    packets.windows(2).map(|pair| i32::from(pair[1].sequence.wrapping_sub(pair[0].sequence) as i16)).collect()
}

/// Steps other than 1, with where they are.
fn irregular(steps: &[i32]) -> Vec<(usize, i32)> {
    steps.iter().copied().enumerate().filter(|(_, step)| *step != 1).take(20).collect()
}

#[test]
fn a_smooth_stream_arrives_as_it_was_sent() {
    let mut world = World::new(1);
    let camera = world.camera(SMOOTH, false, 65_000);
    let viewer = world.viewer(SMOOTH, true);
    world.run(Duration::from_secs(10));
    let sent = world.camera_at(camera).totals();
    let viewer = world.viewer_at(viewer);
    let totals = viewer.totals();
    assert_eq!((totals.duplicates, totals.damaged, totals.forged, totals.asked), (0, 0, 0, 0));
    assert!(totals.unique + 40 >= sent.packets && totals.unique <= sent.packets, "{totals:?} of {sent:?}");
    assert!(totals.reports >= 16, "{} sender reports of two tracks in ten seconds", totals.reports);
    let video = video(viewer.kept());
    assert!(steps(&video).iter().all(|step| *step == 1));
    let frames: Vec<_> = video.iter().filter(|packet| packet.marker).collect();
    assert!(frames.len() >= 290, "{} markers", frames.len());
    assert!(frames.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) == 3000));
    let audio: Vec<&Kept> = viewer.kept().iter().filter(|packet| packet.kind == MediaKind::Audio).collect();
    assert!(audio.len() >= 480 && steps(&audio).iter().all(|step| *step == 1));
}

#[test]
fn every_frame_is_whole_after_repair() {
    for seed in 1..=4 {
        let mut world = World::new(seed);
        let (delay, jitter) = (Duration::from_millis(15), Duration::from_millis(8));
        let rough = |lost| Link { lost, doubled: 10, delay, jitter, ..SMOOTH };
        let camera = world.camera(rough(20), false, 60_000);
        let viewers = [(0, true), (50, true), (50, false)].map(|(lost, rtx)| world.viewer(rough(lost), rtx));
        world.run(Duration::from_secs(12));
        world.camera_at(camera).pause();
        world.run(Duration::from_secs(2));
        let sent = world.camera_at(camera).totals();
        assert!(sent.repaired > 0, "the camera was asked for nothing");
        for (n, viewer) in viewers.into_iter().enumerate() {
            let viewer = world.viewer_at(viewer);
            // A viewer whose first packets come in disorder does not ask for what was lost among them; what was lost at the
            // very end, nobody can miss.
            let from = if n == 0 { 0 } else { KEYFRAME_INTERVAL };
            let until = sent.frames as u32 - 3;
            let missing = missing_parts(viewer.kept(), from, until);
            assert!(until - from > 280, "seed {seed}, viewer {n}: frames {from} to {until}");
            assert!(
                missing.is_empty(),
                "seed {seed}, viewer {n}: {missing:?} of {from}..{until}, {:?}",
                viewer.totals()
            );
            assert_eq!((viewer.totals().damaged, viewer.totals().forged), (0, 0), "seed {seed}, viewer {n}");
            assert!(n == 0 || viewer.totals().repaired > 100, "seed {seed}, viewer {n}: {:?}", viewer.totals());
        }
    }
}

#[test]
fn a_joiner_starts_with_the_cached_keyframe_at_once() {
    for seed in 1..=8 {
        let mut world = World::new(seed);
        let camera = world.camera(SMOOTH, false, 100);
        world.viewer(SMOOTH, true);
        // Anywhere in the keyframe interval.
        world.run(Duration::from_millis(2100 + 233 * seed));
        let joined = world.now;
        let joiner = world.viewer(SMOOTH, true);
        world.run(Duration::from_secs(3));
        let asked = world.camera_at(camera).totals().keyframe_requests;
        assert_eq!(asked, 0, "a fresh keyframe is there: nobody needs to ask for one");
        let viewer = world.viewer_at(joiner);
        let video = video(viewer.kept());
        assert_eq!(video[0].tag, Some(Tag::Parameters), "seed {seed}");
        assert!(steps(&video).iter().all(|step| *step == 1), "seed {seed}: {:?}", irregular(&steps(&video)));
        let waited = viewer.first_keyframe().unwrap() - joined;
        assert!(waited < Duration::from_millis(80), "seed {seed}: keyframe after {waited:?}");
        // Time is drawn together, but never runs backwards, and goes at the camera's pace in the end.
        let forward = |pair: &[&Kept]| (pair[1].timestamp.wrapping_sub(pair[0].timestamp) as i32) >= 0;
        assert!(video.windows(2).all(forward), "seed {seed}");
        let frames: Vec<&&Kept> = video.iter().filter(|packet| packet.marker).collect();
        let last = frames.windows(2).rev().take(30);
        assert!(last.map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp)).all(|step| step == 3000));
        assert_eq!(missing_parts(viewer.kept(), frame_of(video[1]), frame_of(video[video.len() - 1])), []);
    }
}

fn frame_of(packet: &Kept) -> u32 {
    match packet.tag {
        Some(Tag::Part { frame, .. }) => frame,
        other => panic!("{other:?}"),
    }
}

/// No sequence number is left out from the first packet to the last, and time never runs backwards.
fn assert_unbroken(viewer: &Viewer, what: &str) {
    for kind in [MediaKind::Video, MediaKind::Audio] {
        let kept: Vec<&Kept> = viewer.kept().iter().filter(|packet| packet.kind == kind).collect();
        let irregular = irregular(&steps(&kept));
        assert!(irregular.is_empty() && kept.len() > 50, "{what}, {kind:?}: {irregular:?} of {}", kept.len());
        let forward = |pair: &[&Kept]| (pair[1].timestamp.wrapping_sub(pair[0].timestamp) as i32) >= 0;
        assert!(kept.windows(2).all(forward), "{what}, {kind:?}");
    }
}

#[test]
fn a_takeover_goes_on_with_the_next_sequence_number_and_a_keyframe() {
    // Wherever in a frame of the first camera the second begins.
    for phase in 0..24 {
        let mut world = World::new(3);
        let first = world.camera(SMOOTH, false, 7);
        let viewer = world.viewer(SMOOTH, true);
        // Its frames spread over half their interval.
        world.seats[first].link.spacing = Duration::from_millis(2);
        world.run(Duration::from_millis(2600) + Duration::from_micros(1429 * phase));
        let second = world.camera(SMOOTH, false, 40_000);
        world.run(Duration::from_millis(500));
        let gone = world.seats[first].session;
        let now = world.now;
        world.shard.handle_command(now, Command::Close(gone));
        world.run(Duration::from_secs(2));
        let started: Vec<u64> = world
            .events
            .iter()
            .filter_map(|event| match event {
                Event::MediaStarted { session, .. } => Some(session.0),
                _ => None,
            })
            .collect();
        let sessions = [first, second].map(|seat| world.seats[seat].session.0);
        assert_eq!(started, sessions);
        let viewer = world.viewer_at(viewer);
        assert_unbroken(viewer, &format!("phase {phase}"));
        let video = video(viewer.kept());
        // The second camera counts its frames from 0 again: there the picture goes on, with parameter sets and a keyframe.
        let zero = |packet: &&Kept| packet.tag == Some(Tag::Part { frame: 0, part: 0, parts: 49 });
        let turn = video.iter().rposition(zero).unwrap() - 1;
        assert_eq!(video[turn].tag, Some(Tag::Parameters), "phase {phase}");
        assert!(frame_of(video[turn - 1]) > 60);
        assert!(frame_of(video[video.len() - 1]) > 55);
    }
}

#[test]
fn audio_of_a_later_camera_reaches_earlier_viewers() {
    let mut world = World::new(5);
    // Its audio section is inactive, so that the server answers the video alone.
    let silent = world.camera_offering(SMOOTH, false, 100, |offer| {
        let at = offer.find("m=audio").unwrap();
        format!("{}{}", &offer[..at], offer[at..].replace("a=sendonly", "a=inactive"))
    });
    assert!(world.tracks.audio.is_none() && world.tracks.video.is_some());
    let viewer = world.viewer(SMOOTH, true);
    world.run(Duration::from_secs(2));
    let audio = |world: &mut World| {
        let kept = world.viewer_at(viewer).kept().iter();
        kept.filter(|packet| packet.kind == MediaKind::Audio).count()
    };
    assert_eq!(audio(&mut world), 0);
    assert!(!video(world.viewer_at(viewer).kept()).is_empty());
    world.camera_at(silent).pause();
    world.camera(SMOOTH, false, 9000);
    world.run(Duration::from_secs(4));
    assert!(audio(&mut world) >= 100, "{} packets of audio", audio(&mut world));
}

#[test]
fn a_viewer_who_is_still_catching_up_goes_on_with_the_camera_that_takes_over() {
    for phase in 0..12 {
        let mut world = World::new(phase + 1);
        let first = world.camera(SMOOTH, false, 7);
        world.run(Duration::from_millis(3900));
        let viewer = world.viewer(SMOOTH, true);
        world.run(Duration::from_millis(8 * phase));
        world.camera(SMOOTH, false, 40_000);
        world.run(Duration::from_secs(2));
        let gone = world.seats[first].session;
        let now = world.now;
        world.shard.handle_command(now, Command::Close(gone));
        world.run(Duration::from_secs(1));
        assert_unbroken(world.viewer_at(viewer), &format!("phase {phase}"));
    }
}

#[test]
fn a_camera_whose_parameter_sets_come_late_begins_with_them() {
    for late in [2, 9, 30, 120] {
        let mut world = World::new(late);
        let camera = world.camera(SMOOTH, false, 500);
        world.fates.insert((100, 500), Fate::Late(Duration::from_millis(late)));
        let viewer = world.viewer(SMOOTH, true);
        world.run(Duration::from_secs(3));
        let frames = world.camera_at(camera).totals().frames as u32;
        let viewer = world.viewer_at(viewer);
        assert_unbroken(viewer, &format!("{late} ms"));
        assert_eq!(video(viewer.kept())[0].tag, Some(Tag::Parameters), "{late} ms");
        assert_eq!(missing_parts(viewer.kept(), 0, frames - 2), [], "{late} ms");
    }
}

#[test]
fn a_joiner_starts_with_parameter_sets_that_were_lost_and_repaired() {
    let before: usize = Stream::default()
        .filter(|burst| burst.kind == MediaKind::Video)
        .take(KEYFRAME_INTERVAL as usize)
        .map(|burst| burst.payloads.len())
        .sum();
    for phase in 0..24 {
        let mut world = World::new(phase + 1);
        let link = Link { delay: Duration::from_millis(20), ..SMOOTH };
        world.camera(link, false, 500);
        world.fates.insert((100, 500 + before as u16), Fate::Lost);
        world.run(Duration::from_millis(2000 + 5 * phase));
        let joiner = world.viewer(SMOOTH, true);
        world.run(Duration::from_secs(2));
        assert!(world.fates.is_empty());
        let video = video(world.viewer_at(joiner).kept());
        assert_eq!(video[0].tag, Some(Tag::Parameters), "phase {phase}");
    }
}

#[test]
fn a_camera_whose_first_keyframe_is_lost_is_asked_for_another() {
    let mut world = World::new(9);
    world.camera(SMOOTH, true, 500);
    // Of a browser there would be no other for minutes: parameter sets and the beginning of the picture.
    world.fates.extend([((100, 500), Fate::Lost), ((100, 501), Fate::Lost)]);
    let viewer = world.viewer(SMOOTH, true);
    world.run(Duration::from_secs(1));
    let viewer = world.viewer_at(viewer);
    assert_eq!(video(viewer.kept())[0].tag, Some(Tag::Parameters));
}

/// The counts of the only publisher.
fn publisher_stats(world: &World) -> PublisherStats {
    let roles = world.shard.stats(world.now).into_iter().map(|session| session.role);
    roles.filter_map(|role| if let RoleStats::Publisher(stats) = role { Some(stats) } else { None }).next().unwrap()
}

#[test]
fn encoder_restarts_are_followed_within_300_ms() {
    let restarts: u32 = choose(20, 1000);
    for (pause, lost) in [(0, 0), (0, 10), (2300, 0)] {
        let mut world = World::new(20 + pause);
        let link = Link { lost, delay: Duration::from_millis(10), ..SMOOTH };
        let camera = world.camera(link, true, 500);
        let viewer = world.viewer(SMOOTH, true);
        world.run(Duration::from_secs(2));
        for n in 1..=restarts {
            if pause > 0 {
                world.camera_at(camera).pause();
                world.run(Duration::from_millis(pause));
                let now = world.now;
                world.camera_at(camera).resume(now);
            }
            let restarted = world.now;
            world.camera_at(camera).restart_video(10_000 + 2 * n, 10_001 + 2 * n);
            world.run(Duration::from_millis(700));
            let kept = video(world.viewer_at(viewer).kept());
            // A lost packet ahead of all others is never missed: then the parameter sets are those of the last keyframe.
            let keyframe = |tag| matches!(tag, Some(Tag::Parameters | Tag::Part { part: 0, parts: 40.., .. }));
            let back = kept.iter().find(|packet| packet.at > restarted && keyframe(packet.tag));
            let took = back.map(|packet| packet.at - restarted);
            let in_time = took.is_some_and(|took| took <= Duration::from_millis(300));
            assert!(in_time, "restart {n}, pause {pause}, loss {lost}: back after {took:?}");
        }
        let stats = publisher_stats(&world);
        assert_eq!(stats.ssrc_changes, u64::from(restarts), "pause {pause}, loss {lost}");
        let viewer = world.viewer_at(viewer);
        if lost == 0 {
            assert_unbroken(viewer, &format!("pause {pause}"));
        }
        // The recording is to mark that the picture was missing, and only that.
        let records = world.taps.iter().flat_map(|batch| &batch.records);
        let indices = records.filter_map(|record| match record {
            TapRecord::Packet { kind: MediaKind::Video, index, .. } => Some(*index),
            _ => None,
        });
        let indices: BTreeSet<u64> = indices.collect();
        let holes = indices.iter().zip(indices.iter().skip(1)).filter(|(a, b)| **b != **a + 1).count();
        assert!(lost > 0 || holes == if pause > 0 { restarts as usize } else { 0 }, "{holes} holes, pause {pause}");
    }
}

#[test]
fn lost_packets_are_requested_once_whatever_the_round_trip() {
    for round_trip in [10, 100, 300, 600] {
        let mut world = World::new(round_trip);
        let link = Link { lost: 30, delay: Duration::from_millis(round_trip / 2), ..SMOOTH };
        let camera = world.camera(link, true, 500);
        world.run(Duration::from_secs(30));
        let stats = publisher_stats(&world);
        let sent = world.camera_at(camera).totals().repaired;
        let repaired = stats.repaired;
        let each = sent as f64 / repaired as f64;
        println!(
            "{round_trip} ms: {sent} retransmissions, {each:.2} for each of {repaired}, {} never arrived",
            stats.lost
        );
        assert!(repaired > 150 && each <= 1.3, "{round_trip} ms: {sent} retransmissions for {repaired} lost packets");
        // This camera repeats no audio: 3 % of 1,500 packets are lost for good.
        let audio = 50 * 30 * 30 / 1000;
        assert!(stats.lost <= audio * 2, "{round_trip} ms: {} packets never arrived", stats.lost);
        let measured = stats.round_trip.unwrap().as_millis() as u64;
        assert!((round_trip..round_trip + 40).contains(&measured), "{measured} ms of {round_trip}");
    }
}

#[test]
fn viewers_get_reports_of_a_camera_without() {
    let mut world = World::new(32);
    let camera = world.camera(SMOOTH, false, 500);
    world.camera_at(camera).omit_reports();
    let viewer = world.viewer(SMOOTH, true);
    world.run(Duration::from_millis(1900));
    assert_eq!(world.viewer_at(viewer).totals().reports, 0);
    world.run(Duration::from_secs(8));
    let reports = world.viewer_at(viewer).totals().reports;
    assert!((14..=18).contains(&reports), "{reports} sender reports of two tracks in eight seconds");
    let recorded = world.taps.iter().flat_map(|batch| &batch.records);
    assert_eq!(recorded.filter(|record| matches!(record, TapRecord::SenderReport { .. })).count(), 0);
}

#[test]
fn camera_beyond_the_cap_stays_decodable() {
    let mut world = World::new(31);
    let camera = world.camera(SMOOTH, false, 500);
    // The camera sends 2.5 Mbit/s, half as much again.
    world.shard.handle_command(world.now, Command::SetMaxBitrate(Some(1_670_000)));
    let viewer = world.viewer(SMOOTH, true);
    world.run(Duration::from_secs(20));
    let sent = world.camera_at(camera).totals();
    let stats = publisher_stats(&world);
    assert!(stats.bitrate_exceeded && stats.policed > 0 && stats.nacks_sent == 0, "{stats:?}");
    let viewer = world.viewer_at(viewer);
    assert_eq!(viewer.totals().asked, 0, "policed packets are no losses");
    assert_unbroken(viewer, "beyond the cap");
    let mut frames: BTreeMap<u32, BTreeSet<u16>> = BTreeMap::new();
    let mut sizes = BTreeMap::new();
    for packet in video(viewer.kept()) {
        if let Some(Tag::Part { frame, part, parts }) = packet.tag {
            frames.entry(frame).or_default().insert(part);
            sizes.insert(frame, parts);
        }
    }
    let last = *frames.keys().last().unwrap();
    for (frame, parts) in frames.iter().filter(|(frame, _)| **frame < last) {
        assert_eq!(parts.len(), usize::from(sizes[frame]), "frame {frame} is incomplete");
        let decodable = frame % KEYFRAME_INTERVAL == 0 || frames.contains_key(&(frame - 1));
        assert!(decodable, "frame {frame} refers to one that was dropped");
    }
    let shown = frames.len() as u64 * 100 / sent.frames;
    println!("{shown} % of the frames shown at two thirds of the bitrate");
    assert!((60..90).contains(&shown), "{shown} % of the frames");
    let seen = frames.len() as u64 + stats.frames_policed;
    assert!(
        seen <= sent.frames && seen + 1 >= sent.frames,
        "{seen} of {} frames, the last may be on its way",
        sent.frames
    );
}

#[test]
fn the_tap_tells_everything_that_two_cameras_send() {
    let mut world = World::new(11);
    // A report comes on its own, when no burst is under way.
    let spaced = Link { spacing: Duration::from_micros(300), ..SMOOTH };
    world.camera(spaced, false, 65_500);
    world.run(Duration::from_millis(3300));
    world.camera(spaced, false, 40_000);
    world.run(Duration::from_millis(3300));
    let sessions = [0, 1].map(|seat| world.seats[seat].session);
    let mut reports = BTreeMap::new();
    let mut packets = BTreeMap::new();
    for batch in &world.taps {
        for record in &batch.records {
            match record {
                TapRecord::SenderReport { kind, source, .. } => {
                    *reports.entry((*source, *kind == MediaKind::Video)).or_insert(0) += 1;
                }
                TapRecord::Packet { kind, source, index, payload, .. } => {
                    let payload = &batch.bytes[payload.start as usize..payload.end as usize];
                    let tag = identify(*kind, payload).unwrap();
                    packets.entry(*kind == MediaKind::Video).or_insert_with(Vec::new).push((*index, *source, tag));
                }
                TapRecord::SourceEnded { .. } => {}
            }
        }
    }
    for session in sessions {
        for video in [true, false] {
            let told = reports.get(&(session, video)).copied().unwrap_or(0);
            assert!((3..=4).contains(&told), "{session:?}, video {video}: {told} reports in three seconds");
        }
    }
    for (video, packets) in packets {
        assert!(packets.len() > 300);
        assert!(packets.iter().enumerate().all(|(n, (index, ..))| n as u64 == *index), "video {video}");
        let turn = packets.iter().position(|(_, source, _)| *source == sessions[1]).unwrap();
        assert!(packets[..turn].iter().all(|(_, source, _)| *source == sessions[0]));
        assert!(packets[turn..].iter().all(|(_, source, _)| *source == sessions[1]));
        assert!(!video || packets[turn].2 == Tag::Parameters);
    }
}

#[test]
fn what_is_replayed_is_delivered_once() {
    let mut world = World::new(5);
    let doubling = Link { doubled: 500, jitter: Duration::from_millis(40), ..SMOOTH };
    world.camera(doubling, false, 0);
    let viewer = world.viewer(SMOOTH, true);
    world.run(Duration::from_secs(6));
    let viewer = world.viewer_at(viewer);
    assert!(viewer.totals().unique > 1500, "{:?}", viewer.totals());
    let twice = viewer.kept().iter().filter(|packet| packet.arrival == Arrival::Duplicate).count();
    // What a reordered link lets the viewer ask for twice is no replay; without loss there is hardly any.
    assert!(twice as u64 <= viewer.totals().asked, "{twice} came twice: {:?}", viewer.totals());
    let mut tags: Vec<Tag> =
        viewer.kept().iter().filter(|p| p.arrival != Arrival::Duplicate).filter_map(|p| p.tag).collect();
    tags.retain(|tag| *tag != Tag::Parameters);
    let all = tags.len();
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), all, "the same packet under two sequence numbers");
}

#[test]
fn keyframe_requests_reach_the_camera_but_not_all_of_them() {
    let mut world = World::new(6);
    let camera = world.camera(SMOOTH, true, 0);
    let viewers = [world.viewer(SMOOTH, true), world.viewer(SMOOTH, true)];
    world.run(Duration::from_secs(3));
    let before = world.camera_at(camera).totals().keyframe_requests;
    for _ in 0..40 {
        for viewer in viewers {
            world.viewer_at(viewer).request_keyframe();
        }
        world.run(Duration::from_millis(25));
    }
    let asked = world.camera_at(camera).totals().keyframe_requests - before;
    assert!((1..=4).contains(&asked), "80 requests in a second were relayed as {asked}");
}

#[test]
fn a_viewer_who_waits_for_the_camera_gets_its_first_keyframe() {
    let mut world = World::new(7);
    let camera = world.camera(SMOOTH, false, 0);
    let viewer = world.viewer(SMOOTH, true);
    world.run(Duration::from_secs(2));
    world.camera_at(camera).pause();
    world.run(Duration::from_secs(10));
    let gone = world.seats[camera].session;
    let now = world.now;
    world.shard.handle_command(now, Command::Close(gone));
    let late = world.viewer(SMOOTH, true);
    world.run(Duration::from_secs(3));
    assert!(world.viewer_at(late).kept().is_empty(), "nothing is shown of a camera that is gone");
    world.camera(SMOOTH, false, 9_000);
    world.run(Duration::from_secs(2));
    for seat in [viewer, late] {
        let video = video(world.viewer_at(seat).kept());
        assert!(steps(&video).iter().all(|step| *step == 1), "{:?}", irregular(&steps(&video)));
        assert!(frame_of(video[video.len() - 1]) > 50);
    }
    assert_eq!(video(world.viewer_at(late).kept())[0].tag, Some(Tag::Parameters));
}

#[test]
fn local_source_reaches_a_viewer_complete() {
    let mut world = World::new(5);
    let session = SessionId(100);
    let (ice, address) = (credentials(), SocketAddr::from(([192, 0, 2, 200], 4000)));
    let text = camera_offer(&Local { ice: &ice, fingerprint: identity().fingerprint(), address }, [1, 2, 3]);
    let (_, tracks) =
        Offer::parse(&text).unwrap().answer_publisher(&world.local_description(), &AnswerOptions::default()).unwrap();
    world.tracks = tracks.clone();
    let number = |kind| {
        let track = if kind == MediaKind::Video { &tracks.video } else { &tracks.audio };
        track.as_ref().unwrap().payload_types[0].number
    };
    let numbers = [number(MediaKind::Audio), number(MediaKind::Video)];
    let add = Command::AddSource { room: ROOM, session, feed: Feed::Local, tracks, max_bitrate: None };
    world.shard.handle_command(world.now, add);
    let viewer = world.viewer(SMOOTH, true);
    let mut sequences = [0u16; 2];
    for burst in Stream::default().take_while(|burst| burst.at < Duration::from_secs(5)) {
        world.run(world.start + burst.at - world.now);
        let video = burst.kind == MediaKind::Video;
        let last = burst.payloads.len() - 1;
        let packets = burst.payloads.into_iter().enumerate().map(|(n, payload)| {
            let sequence = &mut sequences[usize::from(video)];
            *sequence = sequence.wrapping_add(1);
            LocalPacket {
                kind: burst.kind,
                payload_type: numbers[usize::from(video)],
                sequence: *sequence,
                timestamp: burst.timestamp,
                marker: video && n == last,
                captured: burst.at,
                payload: payload.into(),
            }
        });
        let packets: Vec<_> = packets.collect();
        world.shard.handle_source_packets(world.now, session, &packets);
    }
    world.run(Duration::from_secs(1));
    let viewer = world.viewer_at(viewer);
    assert_eq!((viewer.totals().damaged, viewer.totals().duplicates, viewer.lost()), (0, 0, 0));
    assert_eq!(viewer.started_with_keyframe(), Some(true));
    assert!(viewer.totals().reports >= 8, "both tracks, every second: {:?}", viewer.totals());
    let kept = viewer.kept();
    assert!(missing_parts(kept, 0, 150).is_empty(), "{:?}", missing_parts(kept, 0, 150));
}
