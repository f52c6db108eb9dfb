//! A room's ring, its plan, and the video of many subscribers, without transports: the fan-out step alone.

use sfu::entry::PATIENCE;
use sfu::forward::outgoing::Outgoing;
use sfu::forward::plan::Plan;
use sfu::forward::slab::MAX_TRANSMIT;
use sfu::parameters::{Codec, HeaderExtensions, IncomingTrack, MediaKind, OutgoingTrack, PayloadType, SessionId};
use sfu::track::{Put, SourcePacket, Track};
use sfu::transport::{Sealer, SrtpProfile};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Packets of one frame.
pub(crate) const FRAME: usize = 9;
/// Bytes of the longer payloads; the shorter ones have one less, as a browser's.
const PAYLOAD: usize = 1100;
const FRAME_TIME: Duration = Duration::from_millis(33);
/// Frames from one keyframe to the next.
const KEYFRAME_INTERVAL: usize = 60;
/// Frames after which the ring has the memory that it needs: more than its measuring span.
const SETTLED: usize = 2_000;

struct Subscriber {
    outgoing: Outgoing,
    sealer: Sealer,
    to: SocketAddr,
    run: usize,
}

/// See the module.
pub(crate) struct Fanout {
    now: Instant,
    track: Track,
    plan: Plan,
    planned: u64,
    frames: usize,
    sequence: u16,
    timestamp: u32,
    payload: Vec<u8>,
    subscribers: Vec<Subscriber>,
    slab: Vec<u8>,
}

fn payload_type(number: u8) -> PayloadType {
    PayloadType {
        number,
        codec: Codec::H264,
        fmtp: "packetization-mode=1;profile-level-id=42e01f".to_owned(),
        rtx: Some(number + 1),
        nack: true,
        pli: true,
        fir: false,
        remb: false,
        transport_cc: false,
    }
}

impl Fanout {
    /// All subscribers are live, and the ring is as large as it gets.
    pub(crate) fn new(profile: SrtpProfile, subscribers: usize) -> Self {
        let source = IncomingTrack {
            mid: "0".to_owned(),
            kind: MediaKind::Video,
            payload_types: vec![payload_type(96)],
            extensions: HeaderExtensions::default(),
            ssrc: Some(1),
            rtx_ssrc: None,
            rid: None,
        };
        let subscriber = |n: usize| {
            let track = OutgoingTrack {
                mid: "0".to_owned(),
                kind: MediaKind::Video,
                payload_types: vec![payload_type(102)],
                ssrc: n as u32,
                rtx_ssrc: Some(1_000_000 + n as u32),
            };
            let mut outgoing = Outgoing::new(track, n as u16, 0);
            outgoing.follow(&source);
            outgoing.start_live(0);
            let (key, salt) = (vec![n as u8; profile.key_len()], vec![1; profile.salt_len()]);
            let sealer = Sealer::new(profile, &key, &salt).unwrap();
            Subscriber { outgoing, sealer, to: SocketAddr::from(([127, 0, 0, 1], n as u16 + 1)), run: 0 }
        };
        let mut fanout = Self {
            now: Instant::now(),
            track: Track::new(MediaKind::Video),
            plan: Plan::default(),
            planned: 0,
            frames: 0,
            sequence: 0,
            timestamp: 0,
            payload: vec![0xa5; PAYLOAD],
            subscribers: (0..subscribers).map(subscriber).collect(),
            slab: vec![0; MAX_TRANSMIT],
        };
        assert_eq!(fanout.frame(), FRAME * subscribers);
        for _ in 0..SETTLED {
            fanout.receive();
        }
        fanout.planned = fanout.track.ring().head();
        assert_eq!(fanout.frame(), FRAME * subscribers);
        fanout
    }

    /// One frame comes and goes to everyone; gives the packets that were sealed.
    pub(crate) fn frame(&mut self) -> usize {
        self.receive();
        self.send()
    }

    /// One frame comes into the ring.
    pub(crate) fn receive(&mut self) {
        self.now += FRAME_TIME;
        self.timestamp = self.timestamp.wrapping_add(2970);
        let unit = if self.frames.is_multiple_of(KEYFRAME_INTERVAL) { 5 } else { 1 };
        self.frames += 1;
        for n in 0..FRAME {
            // A keyframe starts the track, even without parameter sets.
            self.payload[..2].copy_from_slice(&[0x7c, u8::from(n == 0) << 7 | unit]);
            let payload = &self.payload[..PAYLOAD - usize::from(n < FRAME / 2)];
            let packet = SourcePacket {
                sequence: self.sequence,
                timestamp: self.timestamp,
                marker: n + 1 == FRAME,
                payload_type: 96,
                codec: Codec::H264,
                payload,
            };
            self.sequence = self.sequence.wrapping_add(1);
            let put = self.track.put(self.now, (SessionId(1), 1), &packet);
            assert!(matches!((put, self.track.source()), (Put::Appended(_), Some(_)) | (Put::Held, None)));
        }
        if self.track.source().is_none() {
            assert!(self.track.begin_source(self.now + PATIENCE).is_some());
        }
    }

    /// What is new in the ring goes to everyone; gives the packets that were sealed.
    pub(crate) fn send(&mut self) -> usize {
        let head = self.track.ring().head();
        self.plan.fill(self.track.ring_mut(), &[], self.planned..head);
        self.planned = head;
        let mut packets = 0;
        for subscriber in &mut self.subscribers {
            subscriber.run = 0;
            while let Some(transmit) = subscriber.outgoing.poll(
                self.now,
                self.track.ring(),
                self.planned,
                &self.plan,
                &mut subscriber.run,
                subscriber.to,
                &subscriber.sealer,
                &mut self.slab,
            ) {
                packets += transmit.segment_size.map_or(1, |size| transmit.len.div_ceil(usize::from(size)));
            }
        }
        packets
    }
}
