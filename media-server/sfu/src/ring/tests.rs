//! The ring compared with a model, and its memory.

use super::chunks::CHUNK;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn meta(index: u64) -> PacketMeta {
    PacketMeta { index, timestamp: index as u32, payload_type: 96, marker: false, len: 0, padding: 0 }
}

#[test]
fn late_packet_fills_its_hole_once() {
    let mut ring = PacketRing::new(8);
    assert!(ring.put(meta(0), b"a"));
    assert!(ring.put(meta(3), b"d"));
    assert!(ring.meta(1).is_none());
    assert!(ring.put(meta(1), b"b"));
    assert!(!ring.put(meta(1), b"x"));
    let got: Vec<_> = ring.range(0..4).map(|m| ring.payload(m)[0]).collect();
    assert_eq!(got, b"abd");
}

#[test]
fn a_jump_longer_than_the_ring_leaves_only_holes() {
    let mut ring = PacketRing::new(8);
    for index in 0..8 {
        ring.put(meta(index), b"x");
    }
    ring.put(meta(1000), b"y");
    assert_eq!(ring.range(0..2000).map(|m| m.index).collect::<Vec<_>>(), [1000]);
    assert!(!ring.put(meta(5), b"old"));
}

#[test]
fn too_long_a_payload_is_refused() {
    let mut ring = PacketRing::new(8);
    assert!(!ring.put(meta(0), &[0; PAYLOAD_MAX + 1]));
    assert_eq!(ring.head(), 0);
}

/// A stream of 10 packets of 1,250 bytes every 100 ms multiplied by `mbits`, with a keyframe every `gop`, for `seconds`.
fn stream(ring: &mut PacketRing, start: Instant, from: Duration, seconds: u64, bytes_a_second: usize, gop: Duration) {
    let payload = [7; 1250];
    let end = from + Duration::from_secs(seconds);
    let step = Duration::from_secs_f64(payload.len() as f64 / bytes_a_second as f64);
    let (mut at, mut keyframe) = (from, (ring.head(), from));
    while at < end {
        let index = ring.head();
        if at >= keyframe.1 + gop {
            keyframe = (index, at);
        }
        ring.release(start + at, Some(keyframe.0));
        assert!(ring.put(meta(index), &payload));
        at += step;
    }
}

#[test]
fn the_group_of_pictures_is_kept_up_to_the_cap() {
    let start = Instant::now();
    for (mbits, gop, whole) in [(7, 10, true), (12, 10, true), (50, 2, true), (20, 10, false), (50, 10, false)] {
        let mut ring = PacketRing::with_limits(Limits::VIDEO);
        let bytes = mbits * 125_000;
        // Up to just before the third keyframe.
        stream(&mut ring, start, Duration::ZERO, 2 * gop, bytes, Duration::from_secs(gop));
        let group = bytes as u64 * gop / 1250;
        let kept = ring.head() - ring.tail();
        assert_eq!(kept >= group, whole, "{mbits} Mbit/s, {gop} s: {kept} of {group}");
        assert!(kept >= 12_000 || whole, "{mbits} Mbit/s, {gop} s: {kept}");
        let most = Limits::VIDEO.bytes + Limits::VIDEO.packets * size_of::<Slot>();
        assert!(ring.memory() <= most, "{mbits} Mbit/s, {gop} s: {} bytes", ring.memory());
    }
}

#[test]
fn long_group_of_a_fast_stream_fits_a_larger_cap() {
    let start = Instant::now();
    for (mbits, cap) in [(20, 32), (30, 40), (50, 64)] {
        let limits = Limits::video(cap << 20);
        let mut ring = PacketRing::with_limits(limits);
        stream(&mut ring, start, Duration::ZERO, 20, mbits * 125_000, Duration::from_secs(10));
        let group = mbits as u64 * 1_000;
        assert!(ring.head() - ring.tail() >= group, "{mbits} Mbit/s: {} of {group}", ring.head() - ring.tail());
        assert!(ring.memory() <= limits.bytes + limits.packets * size_of::<Slot>(), "{mbits}: {}", ring.memory());
    }
}

#[test]
fn lowered_limits_drop_the_oldest_packets_at_once() {
    let start = Instant::now();
    let mut ring = PacketRing::with_limits(Limits::video(64 << 20));
    stream(&mut ring, start, Duration::ZERO, 10, 6_250_000, Duration::from_secs(10));
    let head = ring.head();
    ring.set_limits(Limits::VIDEO);
    let kept: usize = ring.range(0..head).map(|meta| usize::from(meta.len)).sum();
    assert!((15 << 20..=16 << 20).contains(&kept), "{kept} bytes stay");
    assert_eq!(ring.range(0..head).last().map(|meta| meta.index), Some(head - 1), "the newest stays");
    stream(&mut ring, start, Duration::from_secs(10), 120, 1_250_000, Duration::from_secs(10));
    let most = Limits::VIDEO.bytes + Limits::VIDEO.packets * size_of::<Slot>();
    assert!(ring.memory() <= most, "{} bytes", ring.memory());
}

#[test]
fn a_small_stream_takes_little_memory() {
    let start = Instant::now();
    let mut ring = PacketRing::with_limits(Limits::VIDEO);
    stream(&mut ring, start, Duration::ZERO, 60, 25_000, Duration::from_secs(2));
    assert!(ring.memory() <= 128 << 10, "{} bytes", ring.memory());
    assert!((190_000..210_000).contains(&ring.bitrate()), "{}", ring.bitrate());
}

#[test]
fn memory_follows_the_bitrate_down() {
    let start = Instant::now();
    let mut ring = PacketRing::with_limits(Limits::VIDEO);
    let gop = Duration::from_secs(2);
    stream(&mut ring, start, Duration::ZERO, 20, 2_500_000, gop);
    let large = ring.memory();
    stream(&mut ring, start, Duration::from_secs(20), 100, 25_000, gop);
    assert!(large > 4_500_000 && ring.memory() <= 160 << 10, "{large}, then {}", ring.memory());
}

#[test]
fn a_jump_of_numbers_takes_no_payload_memory() {
    let mut ring = PacketRing::with_limits(Limits::VIDEO);
    let start = Instant::now();
    for jump in 0..100u64 {
        ring.release(start + Duration::from_millis(jump), None);
        ring.put(meta(jump * 16_000), b"x");
    }
    assert!(ring.memory() <= CHUNK * 2 + Limits::VIDEO.packets * size_of::<Slot>(), "{}", ring.memory());
}

#[test]
fn a_hole_stays_open_for_as_long_as_its_neighbours() {
    let start = Instant::now();
    let mut ring = PacketRing::with_limits(Limits::VIDEO);
    ring.release(start, None);
    ring.put(meta(0), b"a");
    let later = start + Duration::from_millis(2100);
    ring.release(later, None);
    ring.put(meta(2), b"c");
    ring.release(later + Duration::from_millis(600), None);
    assert!(ring.meta(0).is_none());
    assert!(ring.put(meta(1), b"b"), "a retransmission 600 ms later");
}

proptest! {
    #[test]
    fn holds_exactly_the_newest(puts in proptest::collection::vec(0u64..200, 1..300)) {
        let mut ring = PacketRing::new(16);
        let mut model = BTreeMap::new();
        let mut head = 0u64;
        for (n, index) in puts.iter().enumerate() {
            let fits = *index >= head.saturating_sub(16) && !model.contains_key(index);
            let payload = (n as u32).to_be_bytes();
            prop_assert_eq!(ring.put(meta(*index), &payload), fits);
            if fits { model.insert(*index, payload); }
            head = head.max(index + 1);
            model.retain(|k, _| *k >= head.saturating_sub(16));
            let got: Vec<_> = ring.range(0..head).map(|m| (m.index, ring.payload(m).to_vec())).collect();
            let want: Vec<_> = model.iter().map(|(k, v)| (*k, v.to_vec())).collect();
            prop_assert_eq!(got, want);
        }
    }

    /// For any input: the ring has the payloads that were put, from the tail on, no required packet is missing, and memory is bounded.
    #[test]
    fn agrees_with_a_model_of_time_and_bytes(
        steps in proptest::collection::vec((0u64..40, 0u64..6, 0usize..1473, 0u64..400, prop::bool::weighted(0.1)), 1..400),
    ) {
        let limits = Limits { bytes: 4 * CHUNK, packets: 256, window: Duration::from_secs(1) };
        let mut ring = PacketRing::with_limits(limits);
        let start = Instant::now();
        let (mut now, mut keep) = (0u64, None);
        let mut model: BTreeMap<u64, (u64, Vec<u8>)> = BTreeMap::new();
        for (back, forth, len, millis, keyframe) in steps {
            now += millis / 10;
            ring.release(start + Duration::from_millis(now), keep);
            model.retain(|index, _| *index >= ring.tail());
            let tail = ring.tail();
            let index = (ring.head() + forth).saturating_sub(if back < 8 { back } else { 0 });
            let payload: Vec<u8> = (0..len).map(|n| (n as u64 ^ index) as u8).collect();
            let fits = index >= tail && !model.contains_key(&index);
            let bytes: usize = model.values().map(|(_, payload)| payload.len()).sum();
            let put = ring.put(meta(index), &payload);
            if put {
                prop_assert!(fits);
                model.insert(index, (now, payload));
            } else {
                prop_assert!(!fits || bytes + len > 2 * CHUNK);
            }
            if bytes + len < 2 * CHUNK && ring.head() - tail <= 256 {
                prop_assert_eq!(ring.tail(), tail, "nothing is dropped while there is room");
            }
            model.retain(|index, _| *index >= ring.tail());
            let got: Vec<_> = ring.range(0..u64::MAX).map(|m| (m.index, ring.payload(m).to_vec())).collect();
            let want: Vec<_> = model.iter().map(|(k, (_, v))| (*k, v.clone())).collect();
            prop_assert_eq!(got, want);
            for (index, (at, _)) in &model {
                let kept = keep.is_some_and(|keep| *index >= keep) || now - at < 1000 + 40;
                prop_assert!(kept || index > model.keys().next().unwrap(), "{} of {} is too old at {}", index, at, now);
            }
            prop_assert!(ring.memory() <= 4 * CHUNK + 256 * size_of::<Slot>());
            if keyframe { keep = Some(index); }
        }
    }
}
