//! Which subscribers a burst visits, and where they are after others have left.

use super::burst::PACING_INTERVAL;
use super::*;
use crate::forward::catch_up::SharedBudget;
use crate::parameters::{DtlsRole, Fingerprint, IceCredentials, OutgoingTrack, SubscriberTracks, TransportParameters};
use crate::ring::Limits;
use crate::shard::publisher::Received;
use crate::shard::publisher::tests::publisher;
use crate::transport::Identity;

const KEYFRAME: &[u8] = &[0x10, 0x00];

/// A room with a keyframe in its ring, and connected subscribers that wait for one to start with.
fn room(now: Instant, subscribers: u64) -> Room {
    let identity = Identity::generate().unwrap();
    let credentials = || IceCredentials { ufrag: "Aufrag".to_owned(), pwd: "p".repeat(24) };
    let mut room = Room::new(RoomId(1), false, Limits::VIDEO.bytes);
    let mut publisher = publisher(now);
    publisher.streams.hear(now, 1, (MediaKind::Video, false));
    let payload_types = publisher.tracks.video.as_ref().unwrap().payload_types.clone();
    room.publishers.insert(publisher);
    for n in 0..subscribers {
        let parameters = TransportParameters {
            local: credentials(),
            remote: credentials(),
            fingerprint: Fingerprint::Sha256([0; 32]),
            dtls_role: DtlsRole::Server,
        };
        let payload_types = payload_types.clone();
        let (mid, kind) = ("0".to_owned(), MediaKind::Video);
        let video = Some(OutgoingTrack { mid, kind, payload_types, ssrc: n as u32, rtx_ssrc: None });
        let transport = Transport::new(now, &identity, parameters);
        let tracks = SubscriberTracks { audio: None, video };
        let mut subscriber = Subscriber::new(now, SessionId(10 + n), transport, tracks, [0; 4]);
        subscriber.connected = true;
        room.subscribers.insert(subscriber);
    }
    let received = Received {
        kind: MediaKind::Video,
        ssrc: 1,
        codec: crate::parameters::Codec::Vp8,
        payload_type: 96,
        sequence: 5,
        timestamp: 9,
        marker: true,
        payload: KEYFRAME,
        after_gap: false,
    };
    room.receive(now, SessionId(1), &received);
    room
}

fn burst(room: &mut Room, now: Instant) {
    assert!(room.start_burst(now, &mut SharedBudget::default()));
    while room.poll_transmit(now, &mut []).is_some() {}
}

#[test]
fn burst_with_packets_visits_all_and_another_only_the_paced() {
    let now = Instant::now();
    let mut room = room(now, 5);
    burst(&mut room, now);
    // Without keys nothing leaves, so that all are behind.
    assert_eq!(room.paced, [0, 1, 2, 3, 4]);
    for (_, subscriber) in &mut room.subscribers {
        subscriber.paced = false;
    }
    room.paced.clear();
    let later = now + PACING_INTERVAL;
    room.schedule_pacing(later, Some(3));
    room.schedule_pacing(later, Some(3));
    burst(&mut room, later);
    // Every subscriber is still behind: those that are not here were not visited.
    assert_eq!(room.paced, [3]);
    assert!(room.subscribers.iter().all(|(position, subscriber)| subscriber.paced == (position == 3)));
}

#[test]
fn subscriber_that_left_is_visited_no_more() {
    let now = Instant::now();
    let mut room = room(now, 3);
    burst(&mut room, now);
    assert_eq!(room.remove_subscriber(1), []);
    assert_eq!(room.remove_subscriber(1), [], "it left before");
    burst(&mut room, now + PACING_INTERVAL);
    assert_eq!(room.paced, [0, 2]);
}

#[test]
fn crowd_that_left_leaves_no_positions_behind() {
    let now = Instant::now();
    let mut room = room(now, 200);
    burst(&mut room, now);
    let mut positions: std::collections::HashMap<SessionId, usize> =
        room.subscribers.iter().map(|(position, subscriber)| (subscriber.id, position)).collect();
    for n in 0..190 {
        let id = SessionId(10 + n);
        let moved = room.remove_subscriber(positions.remove(&id).unwrap());
        moved.into_iter().for_each(|(id, position)| *positions.get_mut(&id).unwrap() = position);
        let actual = room.subscribers.iter().map(|(position, subscriber)| (subscriber.id, position)).collect();
        assert_eq!(positions, actual);
    }
    assert!(room.subscribers.capacity() < SPARSE_FROM, "{}", room.subscribers.capacity());
    burst(&mut room, now + PACING_INTERVAL);
    let mut paced = room.paced.clone();
    paced.sort_unstable();
    let mut left: Vec<usize> = positions.into_values().collect();
    left.sort_unstable();
    assert_eq!(paced, left);
}
