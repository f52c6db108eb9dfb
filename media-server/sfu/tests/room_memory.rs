//! The memory of a room follows its stream: measured at the allocator, for both tracks.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use allocation_counter::measure;
use sfu::parameters::{Codec, MediaKind, SessionId};
use sfu::track::{SourcePacket, Track};
use std::time::{Duration, Instant};

/// Bytes that two tracks hold after a minute of video at `bits` per second with a keyframe every `gop`, and of Opus at 64 kbit/s.
fn held(bits: u64, gop: Duration) -> i64 {
    const VIDEO: usize = 1_000;
    let start = Instant::now();
    let mut kept = None;
    let info = measure(|| {
        let (mut video, mut audio) = (Track::new(MediaKind::Video), Track::new(MediaKind::Audio));
        let key = (SessionId(1), 7);
        let mut keyframe_at = Duration::ZERO;
        let step = Duration::from_secs(VIDEO as u64 * 8) / bits as u32;
        for n in 0..(60 * bits / (VIDEO as u64 * 8)) as u32 {
            let at = step * n;
            let mut payload = [0x5a; VIDEO];
            payload[..7].copy_from_slice(&[0x10, 0x01, 0, 0, 0, 0, 0]);
            if at >= keyframe_at {
                payload[..7].copy_from_slice(&[0x10, 0x00, 0, 0, 0x9d, 0x01, 0x2a]);
                keyframe_at += gop;
            }
            let packet = SourcePacket {
                sequence: n as u16,
                timestamp: (at.as_millis() * 90) as u32,
                marker: true,
                payload_type: 96,
                codec: Codec::Vp8,
                payload: &payload,
            };
            video.put(start + at, key, &packet);
            video.begin_source(start + at);
        }
        for n in 0..3_000u32 {
            let at = start + Duration::from_millis(20) * n;
            let (payload, codec) = (&[0xfc; 160], Codec::Opus);
            let (sequence, timestamp) = (n as u16, n * 960);
            let packet = SourcePacket { sequence, timestamp, marker: false, payload_type: 111, codec, payload };
            audio.put(at, (SessionId(1), 8), &packet);
            audio.begin_source(at);
        }
        assert!(video.keyframe().is_some() && audio.ring().head() == 3_000);
        kept = Some((video, audio));
    });
    drop(kept);
    info.bytes_current
}

#[test]
fn room_memory_follows_bitrate() {
    for (bits, gop, most) in [(200_000, 2, 256 << 10), (2_500_000, 2, 3 << 19), (7_000_000, 10, 20 << 20)] {
        let held = held(bits, Duration::from_secs(gop));
        assert!(held <= most, "{bits} bit/s, {gop} s: {held} bytes of {most}");
        assert!(held as u64 >= bits / 8 * 2, "{bits} bit/s, {gop} s: {held} bytes");
    }
}
