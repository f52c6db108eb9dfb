//! Sources that start, end and report to the tap.

use super::media::MAX_UNSENT;
use super::*;
use crate::forward::catch_up::SharedBudget;
use crate::parameters::Codec;
use crate::ring::Limits;
use crate::shard::publisher::Received;
use crate::shard::publisher::tests::publisher;
use crate::shard::source::ClockReport;
use crate::tap::TapRecord;

const KEYFRAME: &[u8] = &[0x10, 0x00];

fn picture(sequence: u16, payload: &[u8]) -> Received<'_> {
    let (kind, codec) = (MediaKind::Video, Codec::Vp8);
    Received { kind, ssrc: 1, codec, payload_type: 96, sequence, timestamp: 9, marker: true, payload, after_gap: false }
}

fn room(now: Instant) -> Room {
    let mut room = Room::new(RoomId(1), true, Limits::VIDEO.bytes);
    let mut publisher = publisher(now);
    publisher.streams.hear(now, 1, (MediaKind::Video, false));
    room.publishers.insert(publisher);
    room
}

/// Runs all bursts that are due, and returns their number.
fn burst(room: &mut Room, now: Instant) -> usize {
    let mut bursts = 0;
    while room.start_burst(now, &mut SharedBudget::default()) {
        bursts += 1;
        assert!(bursts < 10, "endless bursts");
        while room.poll_transmit(now, &mut []).is_some() {}
    }
    bursts
}

#[test]
fn source_starts_when_its_keyframe_arrives() {
    let now = Instant::now();
    let mut room = room(now);
    room.receive(now, SessionId(1), &picture(4, &[0x10, 0x01]));
    assert_eq!((burst(&mut room, now), room.poll_timeout()), (0, None));
    room.receive(now, SessionId(1), &picture(5, KEYFRAME));
    assert_eq!(burst(&mut room, now), 1);
    assert_eq!((room.started.take(), room.active), (Some(SessionId(1)), Some(SessionId(1))));
    assert_eq!(room.poll_timeout(), None);
    assert_eq!(room.tap.as_ref().map(|tap| tap.records.len()), Some(1));
}

#[test]
fn injected_parameter_sets_reach_the_tap() {
    let now = Instant::now();
    let mut room = room(now);
    let h264 = |sequence, timestamp, payload| Received {
        codec: Codec::H264,
        payload_type: 102,
        timestamp,
        ..picture(sequence, payload)
    };
    let sets: [&[u8]; 2] = [&[0x67, 0x42, 0xc0, 0x1f, 0xda], &[0x68, 0xce, 0x3c, 0x80]];
    room.receive(now, SessionId(1), &h264(1, 0, sets[0]));
    room.receive(now, SessionId(1), &h264(2, 0, sets[1]));
    room.receive(now, SessionId(1), &h264(3, 0, &[0x65, 1]));
    burst(&mut room, now);
    assert_eq!(room.tap.as_ref().map(|tap| tap.records.len()), Some(3));
    room.receive(now + Duration::from_secs(2), SessionId(1), &h264(4, 180_000, &[0x65, 2]));
    let tap = room.tap.unwrap();
    let taken: Vec<_> = tap
        .records
        .iter()
        .filter_map(|record| match record {
            TapRecord::Packet { index, payload, .. } => Some((*index, tap.bytes[payload.start as usize] & 0x1f)),
            _ => None,
        })
        .collect();
    assert_eq!(taken, [(0, 7), (1, 8), (2, 5), (3, 24), (4, 5)]);
}

#[test]
fn held_packets_reach_the_tap_with_their_arrival() {
    let start = Instant::now();
    let mut room = room(start);
    let at = |frame: u32| start + Duration::from_millis(u64::from(frame) * 40);
    for frame in 0..6 {
        // Without parameter sets the beginning is certain only after a while.
        let payload: &[u8] = if frame == 0 { &[0x65, 1] } else { &[0x41, 1] };
        let (sequence, timestamp) = (frame as u16 + 1, frame * 3600);
        room.receive(
            at(frame),
            SessionId(1),
            &Received { codec: Codec::H264, timestamp, ..picture(sequence, payload) },
        );
    }
    burst(&mut room, at(6));
    let arrivals: Vec<Duration> = room
        .tap
        .unwrap()
        .records
        .iter()
        .filter_map(|record| match record {
            TapRecord::Packet { arrival, .. } => Some(arrival.saturating_duration_since(start)),
            _ => None,
        })
        .collect();
    assert_eq!(arrivals, (0..6).map(|frame| at(frame) - start).collect::<Vec<_>>());
}

#[test]
fn publisher_that_left_before_its_start_starts_nothing() {
    let now = Instant::now();
    let mut room = room(now);
    room.receive(now, SessionId(1), &picture(5, KEYFRAME));
    room.publishers.clear();
    room.publisher_left(now, SessionId(1));
    assert_eq!((burst(&mut room, now), room.started, room.poll_timeout()), (0, None, None));
}

#[test]
fn report_of_a_held_source_takes_effect_at_its_start() {
    let now = Instant::now();
    let mut room = room(now);
    room.receive(now, SessionId(1), &picture(4, &[0x10, 0x01]));
    let report = ClockReport { kind: MediaKind::Video, ssrc: 1, clock_rate: 90_000, ntp: 7, timestamp: 9 };
    room.clock_report(now, SessionId(1), &report);
    // Another source's report is not taken for it.
    room.clock_report(now, SessionId(1), &ClockReport { ssrc: 2, ntp: 8, ..report });
    room.clock_report(now, SessionId(1), &report);
    room.receive(now, SessionId(1), &picture(5, KEYFRAME));
    burst(&mut room, now);
    let reports = |records: &[TapRecord]| -> Vec<u64> {
        let ntp = |record: &TapRecord| match record {
            TapRecord::SenderReport { ntp, .. } => Some(*ntp),
            _ => None,
        };
        records.iter().filter_map(ntp).collect()
    };
    assert_eq!(room.tap.as_ref().map(|tap| reports(&tap.records)), Some(vec![7]));
    assert!(room.clock.is_known());
}

#[test]
fn sender_reports_without_media_are_bounded() {
    let now = Instant::now();
    let mut room = room(now);
    room.receive(now, SessionId(1), &picture(5, KEYFRAME));
    burst(&mut room, now);
    let report = ClockReport { kind: MediaKind::Video, ssrc: 1, clock_rate: 90_000, ntp: 0, timestamp: 0 };
    (0..10_000).for_each(|n| room.clock_report(now, SessionId(1), &ClockReport { ntp: n, ..report }));
    assert_eq!(room.tap.map(|tap| tap.records.len()), Some(MAX_UNSENT));
}

#[test]
fn first_of_many_keyframe_requests_reaches_the_camera() {
    let now = Instant::now();
    let mut room = room(now);
    room.receive(now, SessionId(1), &picture(5, KEYFRAME));
    burst(&mut room, now);
    let sent: Vec<bool> = (0..5).map(|_| room.request_keyframe(now)).collect();
    assert_eq!(sent, [true, false, false, false, false]);
}
