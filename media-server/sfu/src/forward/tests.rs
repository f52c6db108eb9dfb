//! One viewer of one track, without a transport: what it is sent, packet by packet.

use crate::forward::catch_up::SharedBudget;
use crate::forward::outgoing::Outgoing;
use crate::forward::plan::Plan;
use crate::forward::slab::MAX_TRANSMIT;
use crate::parameters::{Codec, HeaderExtensions, IncomingTrack, MediaKind, OutgoingTrack, PayloadType, SessionId};
use crate::track::{Put, SourcePacket, Track};
use crate::transport::{Sealer, SrtpProfile};
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const KEY: u8 = 0x00;
const DELTA: u8 = 0x01;
const MEDIA: u32 = 1;
const REPAIR: u32 = 2;
const START: u16 = 1000;

fn payload_type(number: u8, codec: Codec) -> PayloadType {
    PayloadType {
        number,
        codec,
        fmtp: String::new(),
        rtx: None,
        nack: true,
        pli: true,
        fir: false,
        remb: false,
        transport_cc: false,
    }
}

/// Of two sources, the same number means another codec, and to the viewer another number.
fn source(session: u64) -> IncomingTrack {
    IncomingTrack {
        mid: "0".to_owned(),
        kind: MediaKind::Video,
        payload_types: vec![payload_type(96, if session % 2 == 1 { Codec::Vp8 } else { Codec::Vp9 })],
        extensions: HeaderExtensions::default(),
        ssrc: None,
        rtx_ssrc: None,
        rid: None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Sent {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    len: usize,
}

struct Stage {
    now: Instant,
    track: Track,
    session: u64,
    plan: Plan,
    planned: u64,
    late: Vec<u64>,
    outgoing: Outgoing,
    shared: SharedBudget,
    sealer: Sealer,
    slab: Vec<u8>,
    /// Every datagram as it was first sent.
    wire: HashMap<(u32, u16), Vec<u8>>,
}

impl Stage {
    fn new(rtx: bool) -> Self {
        let mut payload_types = vec![payload_type(102, Codec::Vp8), payload_type(104, Codec::Vp9)];
        if rtx {
            payload_types.iter_mut().for_each(|p| p.rtx = Some(p.number + 1));
        }
        let rtx_ssrc = rtx.then_some(REPAIR);
        let track = OutgoingTrack { mid: "0".to_owned(), kind: MediaKind::Video, payload_types, ssrc: MEDIA, rtx_ssrc };
        let mut outgoing = Outgoing::new(track, START, 0);
        outgoing.follow(&source(1));
        Self {
            now: Instant::now(),
            track: Track::new(MediaKind::Video),
            session: 1,
            plan: Plan::default(),
            planned: 0,
            late: Vec::new(),
            outgoing,
            shared: SharedBudget::default(),
            sealer: Sealer::new(SrtpProfile::Aes128Gcm, &[1; 16], &[2; 12]).unwrap(),
            slab: vec![0; MAX_TRANSMIT],
            wire: HashMap::new(),
        }
    }

    fn put(&mut self, sequence: u16, timestamp: u32, first: u8, len: usize) {
        let mut payload = vec![sequence as u8; len.max(2)];
        payload[..2].copy_from_slice(&[0x10, first]);
        let codec = source(self.session).payload_types[0].codec;
        let (code_at, code) = if codec == Codec::Vp9 { (2, [0x49, 0x83, 0x42]) } else { (4, [0x9d, 0x01, 0x2a]) };
        if codec == Codec::Vp9 {
            payload[..2].copy_from_slice(if first == KEY { &[0x08, 0x82] } else { &[0x48, 0x86] });
        }
        if first == KEY {
            payload.iter_mut().skip(code_at).zip(code).for_each(|(byte, code)| *byte = code);
        }
        let packet = SourcePacket { sequence, timestamp, marker: true, payload_type: 96, codec, payload: &payload };
        if let Put::Filled(index) = self.track.put(self.now, (SessionId(self.session), 1), &packet)
            && index < self.planned
        {
            self.late.push(index);
        }
    }

    /// As a room does it: what is pending leaves before another source begins.
    fn burst(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        if self.track.ready(self.now).is_some() {
            sent.extend(self.flush());
            self.outgoing.follow(&source(self.session));
            let range = self.track.begin_source(self.now).unwrap();
            self.planned = range.start;
            self.outgoing.begin_source(range.start);
        }
        if let (true, Some(keyframe)) = (self.outgoing.is_waiting(), self.track.entry(self.now)) {
            self.outgoing.start_at_keyframe(self.now, keyframe, self.newest());
        }
        sent.extend(self.flush());
        sent
    }

    fn newest(&self) -> (u64, u32) {
        (self.track.ring().head() - 1, self.track.newest().unwrap().0)
    }

    fn flush(&mut self) -> Vec<Sent> {
        let head = self.track.ring().head();
        self.plan.fill(self.track.ring_mut(), &self.late, self.planned..head);
        self.planned = head;
        self.late.clear();
        self.outgoing.grant(self.now, self.track.ring(), self.track.entry(self.now), &mut self.shared);
        let mut run = 0;
        let mut sent = Vec::new();
        let to = SocketAddr::from(([127, 0, 0, 1], 9));
        while let Some(transmit) = self.outgoing.poll(
            self.now,
            self.track.ring(),
            self.planned,
            &self.plan,
            &mut run,
            to,
            &self.sealer,
            &mut self.slab,
        ) {
            let bytes = &self.slab[..transmit.len];
            for datagram in bytes.chunks(transmit.segment_size.map_or(bytes.len(), usize::from)) {
                let word = |at: usize| u32::from_be_bytes(datagram[at..at + 4].try_into().unwrap());
                let (ssrc, sequence) = (word(8), word(0) as u16);
                sent.push(Sent { ssrc, sequence, timestamp: word(4), len: datagram.len() });
                let first = self.wire.entry((ssrc, sequence)).or_insert_with(|| datagram.to_vec());
                assert_eq!(first, datagram, "two packets under one nonce: {ssrc} {sequence}");
            }
        }
        sent
    }

    /// Frames of one packet, each in a burst of its own.
    fn frames(&mut self, sequences: std::ops::Range<u16>, len: usize) -> Vec<Sent> {
        let mut sent = Vec::new();
        for sequence in sequences {
            self.now += Duration::from_millis(33);
            self.put(sequence, u32::from(sequence) * 3000, if sequence == 0 { KEY } else { DELTA }, len);
            sent.extend(self.burst());
        }
        sent
    }
}

#[test]
fn time_is_drawn_together_only_before_the_joining_however_long_one_watches() {
    let mut stage = Stage::new(true);
    stage.frames(0..1, 100);
    // More than half the range of a timestamp, 6 h 38 min of video: "before" and "after" change places.
    for (sequence, timestamp) in [(1, 3000), (2, 1 << 30), (3, (1 << 31) + 5000), (4, (1 << 31) + 8000)] {
        stage.put(sequence, timestamp, DELTA, 100);
        assert_eq!(stage.burst()[0].timestamp, timestamp);
    }
}

#[test]
fn another_source_goes_on_with_the_next_number_and_old_ones_are_not_repeated() {
    let mut stage = Stage::new(true);
    stage.frames(0..10, 100);
    // Two packets of the last source are here, of three, and no burst has sent them when the next one begins.
    stage.put(10, 30_000, DELTA, 100);
    stage.put(12, 36_000, DELTA, 100);
    stage.session = 2;
    stage.put(700, 9, KEY, 100);
    stage.put(701, 9, DELTA, 100);
    let sequences: Vec<u16> = stage.burst().iter().map(|sent| sent.sequence).collect();
    assert_eq!(sequences, [10, 12, 13, 14].map(|n| START + n));
    let old: Vec<u16> = (0..13).map(|n| START + n).collect();
    stage.outgoing.nacked(stage.now, &old, None);
    assert_eq!(stage.burst(), []);
    stage.outgoing.nacked(stage.now, &[START + 13], None);
    assert_eq!(stage.burst().len(), 1);
}

#[test]
fn one_who_catches_up_goes_on_with_another_source_without_a_gap() {
    let mut stage = Stage::new(true);
    // Nobody watches yet; the first burst of the joiner is shorter than what there is.
    stage.put(0, 0, KEY, 1200);
    stage.track.begin_source(stage.now).unwrap();
    (1..300).for_each(|n| stage.put(n, u32::from(n) * 3000, DELTA, 1200));
    let first = stage.burst();
    assert!(first.len() < 100 && stage.outgoing.is_behind(), "{}", first.len());
    stage.session = 2;
    stage.now += Duration::from_millis(10);
    stage.put(700, 9, KEY, 100);
    let mut next = stage.burst();
    stage.now += Duration::from_millis(10);
    next.extend(stage.burst());
    let last = first.len() as u16 + START;
    let sequences: Vec<u16> = next.iter().map(|sent| sent.sequence).collect();
    assert_eq!(sequences, (last..last + sequences.len() as u16).collect::<Vec<_>>());
    assert!(!stage.outgoing.is_behind() && next.len() < 50, "{}", next.len());
}

#[test]
fn a_step_that_could_be_taken_for_a_rollover_is_not_sent() {
    let mut stage = Stage::new(true);
    stage.frames(0..3, 100);
    for (n, sequence) in [20_000u16, 40_000, 60_000].into_iter().enumerate() {
        stage.put(sequence, u32::from(sequence) * 3000, DELTA, 100);
        assert_eq!(stage.burst()[0].sequence, START + 3 + n as u16);
    }
}

#[test]
fn retransmissions_are_limited_to_a_part_of_the_stream() {
    let mut stage = Stage::new(true);
    // 291 kbit/s, of which a fifth may be sent again, after 16 kB at once.
    let sent = stage.frames(0..400, 1200);
    let all: Vec<u16> = sent.iter().map(|sent| sent.sequence).collect();
    let mut repeated = 0;
    // A flood: everything is requested, every millisecond, for ten seconds.
    for _ in 0..10_000 {
        stage.now += Duration::from_millis(1);
        stage.outgoing.nacked(stage.now, &all, None);
        repeated += stage.burst().iter().map(|sent| sent.len).sum::<usize>();
    }
    assert!((70_000..95_000).contains(&repeated), "{repeated} bytes in ten seconds");
    // One who asks for what it lost gets it at once.
    while stage.outgoing.is_behind() {
        stage.now += Duration::from_secs(1);
        stage.burst();
    }
    stage.now += Duration::from_secs(3);
    stage.outgoing.nacked(stage.now, &all[300..312], None);
    assert_eq!(stage.burst().len(), 12);
}

#[test]
fn a_limited_viewer_gets_the_beginning_of_each_group() {
    let mut stage = Stage::new(true);
    stage.frames(0..60, 1200);
    // A fifth of the stream of 291 kbit/s: the next keyframe follows after 2 s.
    stage.outgoing.set_limit(stage.now, Some(58_000));
    let (mut bytes, mut groups) = (0, Vec::new());
    for n in 60..660u16 {
        stage.now += Duration::from_millis(33);
        let keyframe = n % 60 == 0;
        stage.put(n, u32::from(n) * 3000, if keyframe { KEY } else { DELTA }, 1200);
        let sent = stage.burst();
        bytes += sent.iter().map(|sent| sent.len).sum::<usize>();
        groups.extend(sent.iter().map(|sent| (sent.sequence, sent.timestamp / 3000)));
    }
    // 20 s at 58 kbit/s are 145 kB.
    assert!((120_000..150_000).contains(&bytes), "{bytes} bytes");
    assert!(groups.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "no number is left out: {groups:?}");
    // From one frame to the next, or to the next keyframe.
    assert!(groups.windows(2).all(|pair| pair[1].1 == pair[0].1 + 1 || pair[1].1 % 60 == 0), "{groups:?}");
    let keyframes = groups.iter().filter(|(_, frame)| frame % 60 == 0).count();
    assert!(keyframes >= 8, "{keyframes} of 10 keyframes");
    stage.outgoing.set_limit(stage.now, None);
    for n in 660..720u16 {
        stage.now += Duration::from_millis(33);
        stage.put(n, u32::from(n) * 3000, if n == 660 { KEY } else { DELTA }, 1200);
        stage.burst();
    }
    assert!(!stage.outgoing.is_behind());
}

#[test]
fn numbers_that_were_never_sent_are_not_repeated() {
    let mut stage = Stage::new(false);
    stage.outgoing.nacked(stage.now, &[START, 0, u16::MAX], None);
    assert_eq!(stage.burst(), []);
    stage.frames(0..3, 100);
    stage.put(3, 9000, DELTA, 100);
    stage.outgoing.nacked(stage.now, &[START - 1, START + 3, START + 4, START.wrapping_add(0x8000)], None);
    assert_eq!(stage.burst().len(), 1, "the one that is new");
}

#[derive(Clone, Debug)]
enum Step {
    Frame { packets: u16, lost: u16, keyframe: bool, len: usize },
    Late(u16),
    Burst,
    Nack(u16, u16),
    TakeOver,
    Restart,
    Limit(Option<u64>),
    Time(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1u16..40, 0u16..8, prop::bool::weighted(0.2), 2usize..1400)
            .prop_map(|(packets, lost, keyframe, len)| Step::Frame { packets, lost, keyframe, len }),
        3 => (0u16..60).prop_map(Step::Late),
        6 => Just(Step::Burst),
        3 => (0u16..80, 1u16..40).prop_map(|(back, count)| Step::Nack(back, count)),
        1 => Just(Step::TakeOver),
        1 => Just(Step::Restart),
        1 => prop::option::of(50_000u64..2_000_000).prop_map(Step::Limit),
        3 => (1u64..40).prop_map(Step::Time),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    /// [`Stage::flush`] checks each datagram.
    #[test]
    fn no_two_packets_leave_under_one_nonce(steps in steps(), rtx: bool, first: u16) {
        let mut stage = Stage::new(rtx);
        let (mut next, mut timestamp, mut newest) = (first, 0u32, START);
        let mut missing: Vec<(u16, u32, usize)> = Vec::new();
        for step in steps {
            match step {
                Step::Frame { packets, lost, keyframe, len } => {
                    timestamp = timestamp.wrapping_add(3000);
                    for n in 0..packets {
                        let len = len + usize::from(n % 7);
                        if lost > 0 && n % (lost + 1) == lost {
                            missing.push((next, timestamp, len));
                        } else {
                            stage.put(next, timestamp, if keyframe && n == 0 { KEY } else { DELTA }, len);
                        }
                        next = next.wrapping_add(1);
                    }
                }
                Step::Late(n) if !missing.is_empty() => {
                    let (sequence, timestamp, len) = missing.remove(usize::from(n) % missing.len());
                    stage.put(sequence, timestamp, DELTA, len);
                }
                Step::Nack(back, count) => {
                    let from = newest.wrapping_sub(back);
                    let wanted: Vec<u16> = (0..count).map(|n| from.wrapping_add(n)).collect();
                    stage.outgoing.nacked(stage.now, &wanted, None);
                }
                Step::TakeOver => {
                    stage.session += 1;
                    missing.clear();
                    next = next.wrapping_mul(31);
                }
                Step::Restart => if let Some(keyframe) = stage.track.entry(stage.now) {
                    stage.outgoing.restart_at_keyframe(stage.now, keyframe, stage.newest());
                },
                Step::Limit(limit) => stage.outgoing.set_limit(stage.now, limit),
                Step::Time(millis) => stage.now += Duration::from_millis(millis),
                Step::Burst | Step::Late(_) => {
                    let sent = stage.burst();
                    newest = sent.iter().rev().find(|sent| sent.ssrc == MEDIA).map_or(newest, |sent| sent.sequence);
                }
            }
        }
    }
}
