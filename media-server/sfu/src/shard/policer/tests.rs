//! The policer with synthetic cameras: what it drops, and that the rest can be decoded.

use super::*;
use proptest::prelude::*;

const CAP: u64 = 8_000_000;
const KEY: &[u8] = &[0x65, 0x88];
const DELTA: &[u8] = &[0x41, 0x9a];
const UNREFERENCED: &[u8] = &[0x01, 0x9a];

/// A packet that arrived: sequence number sent, sequence number given, frame.
type Passed = (u64, u16, u32);

struct Camera {
    gate: Gate,
    budget: Budget,
    start: Instant,
    sequence: u64,
    passed: Vec<Passed>,
    requests: usize,
}

impl Camera {
    fn new(cap: u64) -> Self {
        let start = Instant::now();
        let budget = Budget::new(start, Some(cap));
        let gate = Gate::default();
        Self { gate, budget, start, sequence: 65_500, passed: Vec::new(), requests: 0 }
    }

    /// Sends a frame of `bytes` in packets of 1,200.
    fn frame(&mut self, number: u32, at: Duration, bytes: usize, first: &[u8]) {
        let parts = bytes.div_ceil(1200);
        for part in 0..parts {
            let packet = VideoPacket {
                sequence: self.sequence,
                timestamp: number * 3000,
                marker: part + 1 == parts,
                codec: Codec::H264,
                payload: if part == 0 { first } else { &[0x7c, 0x05] },
                len: 1200,
            };
            if let Some(given) = self.gate.pass(&mut self.budget, self.start + at, &packet) {
                self.passed.push((self.sequence, given, number));
            }
            self.sequence += 1;
        }
        self.requests += usize::from(self.gate.wants_keyframe(&self.budget));
    }

    /// Sends 30 frames a second for `seconds`, a keyframe every `interval` frames; every third delta may be unreferenced.
    fn send(&mut self, seconds: u32, bitrate: usize, interval: u32, unreferenced: bool) {
        for n in 0..seconds * 30 {
            let first = match n {
                n if n % interval == 0 => KEY,
                n if unreferenced && n % 3 != 0 => UNREFERENCED,
                _ => DELTA,
            };
            self.frame(n, Duration::from_secs(1) * n / 30, bitrate / 8 / 30, first);
        }
    }

    fn frames(&self) -> Vec<u32> {
        let mut frames: Vec<u32> = self.passed.iter().map(|(_, _, frame)| *frame).collect();
        frames.dedup();
        frames
    }

    fn assert_decodable(&self, interval: u32, unreferenced: bool) {
        let frames = self.frames();
        for frame in &frames {
            let parts = self.passed.iter().filter(|(_, _, of)| of == frame).count();
            let whole = self.passed.iter().filter(|(_, _, of)| *of == frames[0]).count();
            assert_eq!(parts, whole, "frame {frame} is incomplete");
            let referred = match (frame % interval, unreferenced) {
                (0, _) => continue,
                (_, false) => frame - 1,
                (n, true) => frame - if n % 3 == 0 { 3 } else { n % 3 },
            };
            assert!(frames.binary_search(&referred).is_ok(), "{frame} refers to {referred}, which was dropped");
        }
        let steps = self.passed.windows(2).map(|pair| pair[1].1.wrapping_sub(pair[0].1));
        assert!(steps.into_iter().all(|step| step == 1), "numbers without gaps");
    }
}

#[test]
fn excess_leaves_decodable_frames() {
    for (interval, share) in [(15, 70), (60, 70), (300, 45)] {
        let mut camera = Camera::new(CAP);
        camera.send(30, 12_000_000, interval, false);
        camera.assert_decodable(interval, false);
        let shown = camera.frames().len() * 100 / 900;
        assert!((share..=90).contains(&shown), "{shown} % of the frames with a keyframe every {interval}");
        assert!(camera.budget.is_exceeded(camera.start + Duration::from_secs(30)));
        assert!(camera.budget.frames() as usize + camera.frames().len() == 900);
        let bits = camera.passed.len() as u64 * 1200 * 8;
        assert!(bits <= CAP * 5 / 4 * 31 + 1_000_000, "{bits} bits in 30 s");
    }
}

#[test]
fn parameters_alone_do_not_reopen() {
    let mut camera = Camera::new(CAP);
    camera.frame(0, Duration::ZERO, 2_400_000, KEY);
    camera.frame(1, Duration::from_millis(33), 12_000, DELTA);
    assert_eq!(camera.frames(), [0], "beyond the cap");
    // Parameter sets ahead of every frame, and no random access point.
    for n in 0..30 {
        let at = Duration::from_millis(2000 + 33 * n);
        camera.frame(2 + 2 * n as u32, at, 1200, &[0x67, 0x42]);
        camera.frame(3 + 2 * n as u32, at, 12_000, DELTA);
    }
    assert!(camera.frames().iter().all(|frame| frame % 2 == 0), "{:?}", camera.frames());
    camera.frame(100, Duration::from_secs(4), 1200, &[0x67, 0x42]);
    camera.frame(101, Duration::from_secs(4), 12_000, KEY);
    camera.frame(102, Duration::from_secs(4), 12_000, DELTA);
    assert!(camera.frames().ends_with(&[100, 101, 102]));
}

#[test]
fn unreferenced_frames_are_dropped_first() {
    let mut camera = Camera::new(CAP);
    camera.send(30, 14_000_000, 60, true);
    camera.assert_decodable(60, true);
    let frames = camera.frames();
    let longest = frames.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(longest <= Some(3), "a pause of {longest:?} frames");
    assert!(frames.len() > 500, "{} of 900 frames", frames.len());
}

#[test]
fn stream_within_the_cap_passes_untouched() {
    let mut camera = Camera::new(CAP);
    camera.send(20, 9_500_000, 300, true);
    assert_eq!((camera.passed.len() as u64, camera.budget.packets()), (camera.sequence - 65_500, 0));
    assert!(camera.passed.iter().all(|(sent, given, _)| *sent as u16 == *given));
    assert!(!camera.budget.is_exceeded(camera.start + Duration::from_secs(20)));
}

#[test]
fn keyframe_is_requested_once_there_is_room() {
    let mut camera = Camera::new(CAP);
    let mut requested = None;
    for n in 0..300 {
        let first = if n == 0 || requested == Some(n - 1) { KEY } else { DELTA };
        let before = camera.requests;
        camera.frame(n, Duration::from_secs(1) * n / 30, 14_000_000 / 240, first);
        if camera.requests > before && requested != Some(n - 1) {
            requested = Some(n);
        }
    }
    let (frames, shown) = (camera.frames(), camera.frames().len());
    let longest = frames.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!((10..=20).contains(&longest), "a pause of {longest} frames");
    assert!(shown > 190 && camera.requests < 20, "{shown} of 300 frames, {} requests", camera.requests);
}

#[test]
fn late_packets_follow_their_frame() {
    let mut camera = Camera::new(800_000);
    let at = camera.start;
    let packet = |sequence, timestamp, payload, len| VideoPacket {
        sequence,
        timestamp,
        marker: true,
        codec: Codec::H264,
        payload,
        len,
    };
    let mut pass = |packet: VideoPacket<'_>| camera.gate.pass(&mut camera.budget, at, &packet);
    assert_eq!(pass(packet(100, 0, KEY, 124_000)), Some(100));
    assert_eq!(pass(packet(102, 1, DELTA, 2_000)), Some(102), "within the budget, if not to its end");
    // Neither 104 nor 105 is known to belong to 102's frame: it has ended.
    assert_eq!(pass(packet(106, 2, DELTA, 1_000)), None);
    assert_eq!(pass(packet(105, 2, DELTA, 1_000)), None);
    assert_eq!(pass(packet(101, 0, DELTA, 1_000)), Some(101));
    assert_eq!(camera.gate.newest_cut(), Some(103..107));
    let later = at + Duration::from_secs(1);
    let next = packet(108, 4, KEY, 1_000);
    assert_eq!(camera.gate.pass(&mut camera.budget, later, &next), Some(104), "107 may be of the keyframe");
    assert_eq!(camera.gate.pass(&mut camera.budget, later, &packet(104, 2, DELTA, 1_000)), None);
    assert_eq!(camera.gate.pass(&mut camera.budget, later, &packet(107, 4, KEY, 1_000)), Some(103));
}

#[test]
fn audio_passes_while_video_exceeds() {
    let mut camera = Camera::new(CAP);
    for n in 0..900 {
        let at = Duration::from_secs(1) * n / 30;
        camera.frame(n, at, 20_000_000 / 240, if n % 60 == 0 { KEY } else { DELTA });
        assert!(camera.budget.take_audio(camera.start + at, 200));
    }
    let mut alone = Budget::new(camera.start, Some(CAP));
    let passed = (0..3000).filter(|_| alone.take_audio(camera.start, 1000)).count();
    assert_eq!(passed, 1250, "a second's worth, if there is nothing but audio");
}

#[test]
fn single_burst_is_no_sustained_excess() {
    let mut camera = Camera::new(CAP);
    camera.frame(0, Duration::ZERO, 1_250_000, KEY);
    camera.frame(1, Duration::from_millis(33), 1_250_000, DELTA);
    camera.frame(2, Duration::from_millis(66), 100_000, DELTA);
    assert!(camera.budget.packets() > 0);
    assert!((0..20).all(|s| !camera.budget.is_exceeded(camera.start + Duration::from_secs(s))));
}

#[test]
fn discardable_frame_is_known_by_first_packet() {
    let yes: [&[u8]; 3] = [&[0x01, 0x9a], &[0x1c, 0x81, 1], &[0x18, 0, 2, 0x09, 0xf0, 0, 2, 0x01, 0x9a]];
    let no: [&[u8]; 8] = [
        &[0x41, 0x9a],
        &[0x09, 0xf0],
        &[0x06, 5],
        &[0x1c, 0x01, 1],
        &[0x1c, 0x85, 1],
        &[0x18, 0, 9, 0x01],
        &[0x18, 0, 2, 0x09, 0xf0],
        &[],
    ];
    assert!(yes.iter().all(|payload| is_discardable(Codec::H264, payload)));
    no.iter().for_each(|payload| assert!(!is_discardable(Codec::H264, payload), "{payload:?}"));
    assert!(!is_discardable(Codec::Vp8, yes[0]));
}

proptest! {
    #[test]
    fn numbers_given_are_unique_and_ordered(
        steps in proptest::collection::vec((0u64..4, any::<bool>(), 1usize..200_000, 0u64..60, 0u64..3), 1..300),
    ) {
        let mut camera = Camera::new(CAP);
        let (mut at, mut timestamp, mut given) = (camera.start, 0, std::collections::BTreeMap::new());
        for (skipped, key, len, millis, back) in steps {
            at += Duration::from_millis(millis);
            timestamp += u32::from(millis > 20) * 3000;
            camera.sequence += skipped;
            let sequence = camera.sequence - back.min(skipped);
            let payload = if key { KEY } else { DELTA };
            let packet = VideoPacket { sequence, timestamp, marker: len % 2 == 0, codec: Codec::H264, payload, len };
            if let Some(number) = camera.gate.pass(&mut camera.budget, at, &packet) {
                let known = given.insert(sequence, number);
                prop_assert!(known.is_none_or(|known| known == number));
            }
            prop_assert!(camera.gate.cuts.len() <= MOST_CUTS);
        }
        let numbers: Vec<u16> = given.values().copied().collect();
        prop_assert!(numbers.windows(2).all(|pair| (pair[1].wrapping_sub(pair[0]) as i16) > 0), "{given:?}");
    }
}
