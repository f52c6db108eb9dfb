//! A synthetic camera's media: well-formed H264 (RFC 6184) and Opus (RFC 7587) payloads, the same on every run.
//!
//! 720p at 30 frames a second and 2.5 Mbit/s with a keyframe every two seconds, and Opus at 64 kbit/s: about 340 packets
//! a second. Frame sizes vary by a fifth, and a frame is split into parts that differ by a byte at most, as browsers do.
//! Every part says which it is and is filled accordingly, so that a receiver can tell a whole payload from a damaged one.
//! No picture can be decoded from it.

use sfu::parameters::MediaKind;
use std::time::Duration;

/// Frames from one keyframe to the next.
pub const KEYFRAME_INTERVAL: u32 = 60;
/// Frames a second.
pub const FRAME_RATE: u32 = 30;
/// Ticks of the video timestamp in a second.
pub const VIDEO_CLOCK: u32 = 90_000;
/// Ticks of the audio timestamp in a second.
pub const AUDIO_CLOCK: u32 = 48_000;

/// Mean bytes of a frame that is no keyframe.
const FRAME: u32 = 9_600;
/// Bytes of a keyframe.
const KEYFRAME: u32 = 56_000;
/// Most bytes of a part's body.
const PART: usize = 1_160;
/// Bytes of an Opus packet: 64 kbit/s at 20 ms.
const SOUND: usize = 160;
const SOUND_EVERY: Duration = Duration::from_millis(20);
/// FU-A indicator and header (RFC 6184 §5.8).
const FU: usize = 2;
/// Frame (28 bits), part (14 bits), parts (14 bits), seven bits a byte, so that no start code can appear.
const TAG: usize = 8;

/// Sequence and picture parameter sets of a 1280x720 constrained-baseline stream.
const SPS: &[u8] = &[0x67, 0x42, 0x00, 0x1f, 0x95, 0xa8, 0x14, 0x01, 0x6e, 0x40];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

/// What leaves together: one video frame, or one sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Time since the stream's start at which it leaves.
    pub at: Duration,
    /// Sound or picture.
    pub kind: MediaKind,
    /// RTP timestamp.
    pub timestamp: u32,
    /// A decoder can start here.
    pub keyframe: bool,
    /// RTP payloads in order; the last one of a video frame carries the marker.
    pub payloads: Vec<Vec<u8>>,
}

/// What a payload says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tag {
    /// Parameter sets.
    Parameters,
    /// One part of a frame.
    Part {
        /// Number of the frame, from 0.
        frame: u32,
        /// Number of the part, from 0.
        part: u16,
        /// Parts of this frame.
        parts: u16,
    },
    /// One sound.
    Sound(u32),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Stream {
    frame: u32,
    sound: u32,
    /// Frames since the last keyframe.
    since_keyframe: u32,
    /// Mean bytes of a frame, bytes of a keyframe, and frames from one to the next.
    sizes: (u32, u32, u32),
    /// Keyframes start without parameter sets.
    bare: bool,
    dice: u64,
}

impl Default for Stream {
    fn default() -> Self {
        Self::sized(FRAME, KEYFRAME, KEYFRAME_INTERVAL)
    }
}

impl Stream {
    /// A stream of other frames: mean bytes of one, bytes of a keyframe, and frames from one keyframe to the next.
    pub fn sized(frame: u32, keyframe: u32, interval: u32) -> Self {
        let sizes = (frame, keyframe, interval);
        Self { frame: 0, sound: 0, since_keyframe: 0, sizes, bare: false, dice: 0x9e37_79b9_7f4a_7c15 }
    }

    /// When the next burst leaves, since the start.
    pub fn next_at(&self) -> Duration {
        self.frame_at().min(self.sound_at())
    }

    /// Sends no parameter sets from now on.
    pub fn omit_parameters(&mut self) {
        self.bare = true;
    }

    /// Makes the next frame a keyframe.
    pub fn force_keyframe(&mut self) {
        self.since_keyframe = 0;
    }

    fn frame_at(&self) -> Duration {
        Duration::from_secs(1) * self.frame / FRAME_RATE
    }

    fn sound_at(&self) -> Duration {
        SOUND_EVERY * self.sound
    }

    fn random(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }

    fn picture(&mut self) -> Burst {
        let (at, frame) = (self.frame_at(), self.frame);
        let keyframe = self.since_keyframe == 0;
        let (mean, whole, interval) = self.sizes;
        let spread = (self.random() % u64::from(mean * 2 / 5)) as u32;
        let bytes = if keyframe { whole } else { mean - mean / 5 + spread } as usize;
        let parts = bytes.div_ceil(PART);
        let mut payloads = Vec::with_capacity(parts + 1);
        if keyframe && !self.bare {
            payloads.push(parameters());
        }
        for part in 0..parts {
            // The longer ones come last.
            let len = (bytes + part) / parts;
            let (unit, start, end) = (if keyframe { 5 } else { 1 }, part == 0, part + 1 == parts);
            let mut payload = vec![0x7c, u8::from(start) << 7 | u8::from(end) << 6 | unit];
            fill(&mut payload, len, frame, part as u16, parts as u16);
            payloads.push(payload);
        }
        self.frame += 1;
        self.since_keyframe = (self.since_keyframe + 1) % interval;
        Burst {
            at,
            kind: MediaKind::Video,
            timestamp: frame.wrapping_mul(VIDEO_CLOCK / FRAME_RATE),
            keyframe,
            payloads,
        }
    }

    fn sound(&mut self) -> Burst {
        let (at, sound) = (self.sound_at(), self.sound);
        // Configuration 31, stereo, one frame: full-band CELT, 20 ms (RFC 6716 §3.1).
        let mut payload = vec![0xfc];
        fill(&mut payload, SOUND - 1, sound, 0, 1);
        self.sound += 1;
        let timestamp = sound.wrapping_mul(AUDIO_CLOCK / 50);
        Burst { at, kind: MediaKind::Audio, timestamp, keyframe: false, payloads: vec![payload] }
    }
}

/// Never ends.
impl Iterator for Stream {
    type Item = Burst;

    fn next(&mut self) -> Option<Burst> {
        Some(if self.frame_at() <= self.sound_at() { self.picture() } else { self.sound() })
    }
}

/// Both parameter sets in one aggregation packet (STAP-A, RFC 6184 §5.7.1).
fn parameters() -> Vec<u8> {
    let mut payload = vec![0x78];
    for unit in [SPS, PPS] {
        payload.extend_from_slice(&(unit.len() as u16).to_be_bytes());
        payload.extend_from_slice(unit);
    }
    payload
}

fn fill(payload: &mut Vec<u8>, len: usize, number: u32, part: u16, parts: u16) {
    let seven = |value: u32, shift: u32| 0x80 | (value >> shift & 0x7f) as u8;
    payload.extend([21, 14, 7, 0].map(|shift| seven(number, shift)));
    payload.extend([7, 0].map(|shift| seven(part.into(), shift)));
    payload.extend([7, 0].map(|shift| seven(parts.into(), shift)));
    payload.extend((TAG..len).map(|at| filling(number, part, at)));
}

fn filling(number: u32, part: u16, at: usize) -> u8 {
    0x80 | (number.wrapping_mul(31) + u32::from(part) * 7 + at as u32 * 13) as u8
}

/// Returns the number of the frame or audio packet, that of the part, and the count of parts.
fn numbers(tag: &[u8; TAG]) -> (u32, u16, u16) {
    let joined = |bytes: &[u8]| bytes.iter().fold(0u32, |value, byte| value << 7 | u32::from(byte & 0x7f));
    (joined(&tag[..4]), joined(&tag[4..6]) as u16, joined(&tag[6..]) as u16)
}

fn is_filled(body: &[u8], number: u32, part: u16) -> bool {
    body.iter().zip(TAG..).all(|(byte, at)| *byte == filling(number, part, at))
}

/// Tells what a payload is; `None` when not every byte is as it was sent.
pub fn identify(kind: MediaKind, payload: &[u8]) -> Option<Tag> {
    if kind == MediaKind::Video && payload == parameters() {
        return Some(Tag::Parameters);
    }
    let (head, body) = match kind {
        MediaKind::Video => payload.split_at_checked(FU)?,
        MediaKind::Audio => payload.split_at_checked(1)?,
    };
    let (tag, rest) = body.split_first_chunk::<TAG>()?;
    let (number, part, parts) = numbers(tag);
    if !is_filled(rest, number, part) {
        return None;
    }
    match kind {
        MediaKind::Audio => (head == [0xfc]).then_some(Tag::Sound(number)),
        MediaKind::Video => (head[0] == 0x7c && part < parts).then_some(Tag::Part { frame: number, part, parts }),
    }
}

/// Returns the number of the frame that a NAL unit holds, reassembled from its parts; `None` when not every byte is as it
/// was sent.
pub fn identify_unit(unit: &[u8]) -> Option<u32> {
    let (head, mut body) = unit.split_first()?;
    if !matches!(head, 0x61 | 0x65) {
        return None;
    }
    let bytes = body.len();
    let first = numbers(body.first_chunk::<TAG>()?);
    let (frame, parts) = (first.0, first.2);
    for part in 0..parts {
        let len = (bytes + usize::from(part)) / usize::from(parts);
        let (this, rest) = body.split_at_checked(len)?;
        let (tag, filled) = this.split_first_chunk::<TAG>()?;
        if numbers(tag) != (frame, part, parts) || !is_filled(filled, frame, part) {
            return None;
        }
        body = rest;
    }
    (parts > 0 && body.is_empty()).then_some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu::keyframe::inspect;
    use sfu::parameters::Codec;

    #[test]
    fn rate_is_that_of_a_720p_camera() {
        let bursts: Vec<Burst> = Stream::default().take_while(|burst| burst.at < Duration::from_secs(20)).collect();
        let packets: usize = bursts.iter().map(|burst| burst.payloads.len()).sum();
        let video = bursts.iter().filter(|burst| burst.kind == MediaKind::Video);
        let bits: usize = video.flat_map(|burst| &burst.payloads).map(|payload| payload.len() * 8).sum();
        assert!((310..=360).contains(&(packets / 20)), "{} packets a second", packets / 20);
        assert!((2_400_000..2_600_000).contains(&(bits / 20)), "{} bits a second", bits / 20);
    }

    #[test]
    fn every_payload_says_what_it_is() {
        let mut next = 0;
        for burst in Stream::default().take(500) {
            let tags: Vec<Tag> = burst.payloads.iter().map(|p| identify(burst.kind, p).unwrap()).collect();
            if burst.kind == MediaKind::Video {
                let parts: Vec<&Tag> = tags.iter().filter(|tag| **tag != Tag::Parameters).collect();
                for (n, tag) in parts.iter().enumerate() {
                    assert_eq!(**tag, Tag::Part { frame: next, part: n as u16, parts: parts.len() as u16 });
                }
                assert_eq!(burst.keyframe, next % KEYFRAME_INTERVAL == 0);
                assert_eq!(inspect(Codec::H264, &burst.payloads[0]).may_begin_random_access(), burst.keyframe);
                let found = burst.payloads.iter().any(|p| inspect(Codec::H264, p).random_access.is_some());
                assert_eq!(found, burst.keyframe);
                next += 1;
            }
        }
        assert!(next > 100);
    }

    #[test]
    fn reassembled_unit_returns_its_frame_number() {
        let pictures = Stream::sized(500, 4500, 10).filter(|burst| burst.kind == MediaKind::Video);
        for (number, burst) in pictures.take(25).enumerate() {
            // RFC 6184 §5.8: the header from indicator and header, then the bodies one after the other.
            let parts = burst.payloads.iter().filter(|payload| identify(burst.kind, payload) != Some(Tag::Parameters));
            let bodies = parts.clone().flat_map(|payload| &payload[FU..]).copied();
            let mut unit: Vec<u8> = [if burst.keyframe { 0x65 } else { 0x61 }].into_iter().chain(bodies).collect();
            assert_eq!(identify_unit(&unit), Some(number as u32), "{} parts", parts.count());
            *unit.last_mut().unwrap() ^= 1;
            assert_eq!(identify_unit(&unit), None);
        }
        assert_eq!(identify_unit(&[]), None);
    }

    #[test]
    fn a_damaged_payload_is_noticed() {
        let burst = Stream::default().next().unwrap();
        for at in [0, 5, 700] {
            let mut payload = burst.payloads[1].clone();
            payload[at] ^= 1;
            let good = identify(MediaKind::Video, &burst.payloads[1]);
            assert_ne!(identify(MediaKind::Video, &payload), good, "byte {at}");
        }
        assert_eq!(identify(MediaKind::Video, &[]), None);
    }
}
