//! The cap on a publisher's bitrate: complete frames are dropped, so that the rest can be decoded.
//!
//! [`Budget`] refills at the cap and a quarter, and holds a second's worth: keyframes and probes are bursts. Audio draws from it
//! too, and is dropped only when it alone exceeds the cap. A video frame that starts within the budget passes to its end, up to
//! a second's worth of debt. While half of the budget is used up, frames that no other refers to (H264 with `nal_ref_idc` 0, ITU-T
//! H.264 §7.4.1) are dropped, which only lowers the frame rate. When it is used up, everything is dropped until a keyframe
//! starts within it; [`Gate::wants_keyframe`] returns when to request one.
//!
//! [`Gate`] also closes the gaps that this leaves in the sequence numbers, or viewers would take the dropped packets for losses
//! and request them. It remembers [`MOST_CUTS`] cuts; packets from before the oldest of them are dropped.

use crate::keyframe::inspect;
use crate::parameters::Codec;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Cuts that are remembered.
const MOST_CUTS: usize = 64;
/// Seconds that [`Budget::is_exceeded`] looks back.
const EXCESS_WINDOW: u64 = 10;
/// Seconds of them with dropped packets that are a sustained excess; a single burst touches two.
const EXCESS_SECONDS: u32 = 3;

/// Bytes that a publisher may still send.
pub(super) struct Budget {
    /// Bytes a second; `None` without a cap.
    rate: Option<i64>,
    video: i64,
    audio: i64,
    refilled: Instant,
    epoch: Instant,
    /// The seconds in which packets were dropped, the newest as bit 0, and the second of that bit.
    excess: (u16, u64),
    packets: u64,
    bytes: u64,
    frames: u64,
}

impl Budget {
    pub(super) fn new(now: Instant, max_bitrate: Option<u64>) -> Self {
        let mut budget = Self {
            rate: None,
            video: 0,
            audio: 0,
            refilled: now,
            epoch: now,
            excess: (0, 0),
            packets: 0,
            bytes: 0,
            frames: 0,
        };
        budget.set_max_bitrate(max_bitrate);
        budget
    }

    /// Sets the cap in bits per second.
    pub(super) fn set_max_bitrate(&mut self, max_bitrate: Option<u64>) {
        let rate = max_bitrate.map(|limit| i64::try_from(limit / 8 * 5 / 4).unwrap_or(i64::MAX / 4).min(i64::MAX / 4));
        if rate != self.rate {
            self.rate = rate;
            (self.video, self.audio) = (rate.unwrap_or(0), rate.unwrap_or(0));
        }
    }

    /// Returns the packets that were dropped.
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    /// Returns the bytes that were dropped.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the frames that were dropped, entirely or from some packet on.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Returns whether packets are dropped again and again.
    pub(super) fn is_exceeded(&self, now: Instant) -> bool {
        let (seconds, newest) = self.excess;
        let age = self.second(now).saturating_sub(newest);
        let recent = if age < EXCESS_WINDOW { u32::from(seconds) << age & ((1 << EXCESS_WINDOW) - 1) } else { 0 };
        recent.count_ones() >= EXCESS_SECONDS
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs()
    }

    fn refill(&mut self, now: Instant) {
        let Some(rate) = self.rate else { return };
        let elapsed = now.saturating_duration_since(self.refilled).min(Duration::from_secs(2)).as_micros() as i64;
        let refill = (i128::from(rate) * i128::from(elapsed) / 1_000_000) as i64;
        if refill > 0 {
            self.refilled = now;
            self.video = (self.video + refill).min(rate);
            self.audio = (self.audio + refill).min(rate);
        }
    }

    /// Returns whether an audio packet passes.
    pub(super) fn take_audio(&mut self, now: Instant, len: usize) -> bool {
        self.refill(now);
        let Some(rate) = self.rate else { return true };
        let len = len as i64;
        if self.audio < len {
            self.drop_packet(now, len as usize);
            return false;
        }
        self.audio -= len;
        self.video = (self.video - len).max(-rate);
        true
    }

    fn drop_packet(&mut self, now: Instant, len: usize) {
        self.packets += 1;
        self.bytes += len as u64;
        let second = self.second(now);
        let (seconds, newest) = self.excess;
        let age = second.saturating_sub(newest);
        self.excess = (if age < 16 { seconds << age | 1 } else { 1 }, second);
    }
}

/// A video packet, as far as it matters here.
#[derive(Clone, Copy)]
pub(super) struct VideoPacket<'a> {
    /// The source's sequence number without wraps.
    pub(super) sequence: u64,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) codec: Codec,
    pub(super) payload: &'a [u8],
    /// Bytes of the RTP packet.
    pub(super) len: usize,
}

/// The frame that the newest packet belongs to.
#[derive(Clone, Copy)]
struct Frame {
    timestamp: u32,
    passes: bool,
    /// The packet that a decoder would start with was dropped.
    start_dropped: bool,
    /// Its last packet has arrived.
    ended: bool,
}

/// Selects the frames of one SSRC that pass, and renumbers their packets.
#[derive(Default)]
pub(super) struct Gate {
    newest: Option<u64>,
    /// The newest that passed.
    newest_passed: u64,
    frame: Option<Frame>,
    /// Nothing passes until a keyframe.
    closed: bool,
    /// It opened for parameters, and no random access point has followed them yet.
    opening: bool,
    /// The packet that passed last was the first after that.
    reopened: bool,
    cuts: VecDeque<Range<u64>>,
    /// Sequence numbers in cuts that are no longer remembered, and the end of the last of them.
    removed: u64,
    lowest: u64,
}

impl Gate {
    /// Returns the packet's sequence number in the stream without the dropped ones; `None` when it is dropped.
    pub(super) fn pass(&mut self, budget: &mut Budget, now: Instant, packet: &VideoPacket<'_>) -> Option<u16> {
        budget.refill(now);
        self.reopened = false;
        let passes = match self.newest {
            Some(newest) if packet.sequence <= newest => self.pass_late(packet),
            _ => self.pass_next(budget, packet),
        };
        if passes && let Some(sequence) = self.renumber(packet.sequence) {
            self.newest_passed = self.newest_passed.max(packet.sequence);
            if let Some(rate) = budget.rate {
                budget.video = (budget.video - packet.len as i64).max(-rate);
            }
            return Some(sequence);
        }
        budget.drop_packet(now, packet.len);
        None
    }

    /// Returns whether a keyframe should be requested: nothing passes without one, and there is room for it.
    pub(super) fn wants_keyframe(&self, budget: &Budget) -> bool {
        self.closed && budget.rate.is_none_or(|rate| budget.video >= rate / 2)
    }

    /// Returns whether the packet that passed last was the first after frames that others refer to had been dropped.
    pub(super) fn has_reopened(&self) -> bool {
        self.reopened
    }

    /// Returns the sequence numbers that were dropped last: they need not be requested.
    pub(super) fn newest_cut(&self) -> Option<Range<u64>> {
        self.cuts.back().cloned()
    }

    fn pass_next(&mut self, budget: &mut Budget, packet: &VideoPacket<'_>) -> bool {
        let last = self.frame;
        let found = inspect(packet.codec, packet.payload);
        let starts = found.may_begin_random_access();
        if self.opening && !starts && last.is_none_or(|last| last.timestamp != packet.timestamp) {
            // The parameters were those of an ordinary frame.
            (self.opening, self.closed) = (false, true);
        }
        self.opening &= found.random_access.is_none();
        let mut frame = match last.filter(|frame| frame.timestamp == packet.timestamp) {
            Some(frame) => frame,
            None => {
                let passes = !self.closed && self.starts_within(budget, packet, starts);
                Frame { timestamp: packet.timestamp, passes, start_dropped: false, ended: false }
            }
        };
        if self.closed && starts && !frame.start_dropped && budget.rate.is_none_or(|_| budget.video > 0) {
            (self.closed, self.reopened) = (false, true);
            self.opening = found.random_access.is_none();
            frame.passes = true;
        } else if frame.passes && budget.rate.is_some_and(|rate| budget.video <= -rate) {
            // Longer than a second of the cap: the rest of the frame is useless.
            (frame.passes, self.closed) = (false, true);
        }
        let was_dropped = last.is_some_and(|last| last.timestamp == frame.timestamp && !last.passes);
        budget.frames += u64::from(!frame.passes && !was_dropped);
        frame.start_dropped |= starts && !frame.passes;
        frame.ended |= packet.marker;
        if !frame.passes {
            // Packets missing in between belong to this frame, or to others that were dropped, unless the last one that passed
            // lacks its end.
            let from = match (last, self.newest) {
                (Some(last), Some(newest)) if !last.passes || last.ended => newest + 1,
                _ => packet.sequence,
            };
            self.cut(from..packet.sequence + 1);
        }
        (self.frame, self.newest) = (Some(frame), Some(packet.sequence));
        frame.passes
    }

    /// Decides on a frame by its first packet.
    fn starts_within(&mut self, budget: &Budget, packet: &VideoPacket<'_>, starts: bool) -> bool {
        let Some(rate) = budget.rate else { return true };
        if !starts && budget.video < rate / 2 && is_discardable(packet.codec, packet.payload) {
            return false;
        }
        if budget.video <= 0 {
            self.closed = true;
            return false;
        }
        true
    }

    /// Decides on a reordered or retransmitted packet as on its neighbours.
    fn pass_late(&mut self, packet: &VideoPacket<'_>) -> bool {
        let dropped = self.frame.filter(|frame| frame.timestamp == packet.timestamp && !frame.passes);
        if dropped.is_some()
            && packet.sequence > self.newest_passed
            && let Some(cut) = self.cuts.back_mut().filter(|cut| packet.sequence < cut.start)
        {
            // The frame began earlier than it seemed, and nothing behind that has been numbered yet.
            cut.start = packet.sequence;
        }
        !self.cuts.iter().any(|cut| cut.contains(&packet.sequence))
    }

    fn cut(&mut self, range: Range<u64>) {
        match self.cuts.back_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.cuts.push_back(range),
        }
        if self.cuts.len() > MOST_CUTS
            && let Some(oldest) = self.cuts.pop_front()
        {
            self.removed += oldest.end - oldest.start;
            self.lowest = oldest.end;
        }
    }

    fn renumber(&self, sequence: u64) -> Option<u16> {
        let before = self.cuts.iter().take_while(|cut| cut.end <= sequence);
        let removed = self.removed + before.map(|cut| cut.end - cut.start).sum::<u64>();
        (sequence >= self.lowest).then(|| sequence.wrapping_sub(removed) as u16)
    }
}

/// Whether no other frame refers to the one that starts with this packet. Only H264 signals it without state; where a delimiter
/// or a message is alone in the first packet, the frame counts as referred to.
fn is_discardable(codec: Codec, payload: &[u8]) -> bool {
    const SLICE: u8 = 1;
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    let unreferenced = |unit: &u8| unit & 0x60 == 0;
    match (codec, payload) {
        (Codec::H264, [unit, rest @ ..]) => match unit & 0x1f {
            SLICE => unreferenced(unit),
            FU_A => unreferenced(unit) && rest.first().is_some_and(|header| header & 0x9f == 0x80 | SLICE),
            STAP_A => {
                let mut rest = rest;
                let mut slices = 0;
                while let [high, low, units @ ..] = rest {
                    let Some((unit, others)) = units.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
                    else {
                        return false;
                    };
                    let Some(first) = unit.first() else { return false };
                    match first & 0x1f {
                        SLICE if unreferenced(first) => slices += 1,
                        2..=5 | SLICE => return false,
                        _ => {}
                    }
                    rest = others;
                }
                slices > 0
            }
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
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
}
