use super::fake::{CAMERA, Call, OTHER_CAMERA, VIEWER, bench, limits, room, until, who};
use crate::control::{Cap, ControlError, EndReason, Limits, Principal, Role};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cap_holds_under_race() {
    let bench = bench(limits(1, 10)).await;
    bench.go_live("r", "camera").await;
    let joins = (0..100).map(|i| {
        let control = bench.control.clone();
        tokio::spawn(async move { control.subscribe(&room("r"), &who(&format!("viewer {i}")), VIEWER).await })
    });
    let joins: Vec<_> = joins.collect();
    let mut let_in = 0;
    for join in joins {
        match join.await.unwrap() {
            Ok(_) => let_in += 1,
            Err(ControlError::Full { what, limit, retry_after }) => {
                assert_eq!((what, limit), (Cap::SubscribersPerRoom, 10));
                assert!(!retry_after.is_zero());
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(let_in, 10);
    assert_eq!(bench.media.subscribed().len(), 10);
    assert!(bench.control.counts().refused.contains(&("subscribers", 90)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publishers_that_race_for_rooms_stay_below_the_cap() {
    let bench = bench(limits(10, 1)).await;
    let joins = (0..100).map(|i| {
        let control = bench.control.clone();
        // Two identities race for each room.
        let (name, subject) = (format!("r{}", i / 2), format!("camera {i}"));
        tokio::spawn(async move { control.publish(&room(&name), &who(&subject), CAMERA).await.is_ok() })
    });
    let joins: Vec<_> = joins.collect();
    let mut let_in = 0;
    for join in joins {
        let_in += usize::from(join.await.unwrap());
    }
    assert_eq!(let_in, 10);
    let mut rooms: Vec<_> = bench.media.published().iter().map(|publish| publish.room).collect();
    rooms.sort_unstable();
    rooms.dedup();
    assert_eq!(rooms.len(), 10, "each in a room of its own");
    assert_eq!(bench.media.rooms(), 10);
}

#[tokio::test]
async fn slot_comes_back_after_ice_timeout() {
    let bench = bench(limits(1, 1)).await;
    bench.go_live("r", "camera").await;
    bench.control.subscribe(&room("r"), &who("a"), VIEWER).await.unwrap();
    let vanished = bench.media.subscribed()[0].session;
    assert!(bench.control.subscribe(&room("r"), &who("b"), VIEWER).await.is_err());
    bench.end(vanished, EndReason::Timeout).await;
    bench.control.subscribe(&room("r"), &who("b"), VIEWER).await.unwrap();
}

#[tokio::test]
async fn publisher_slot_comes_back_after_ice_timeout() {
    let bench = bench(limits(1, 1)).await;
    bench.control.publish(&room("a"), &who("a"), CAMERA).await.unwrap();
    let refused = bench.control.publish(&room("b"), &who("b"), CAMERA).await.unwrap_err();
    assert!(matches!(refused, ControlError::Full { what: Cap::Publishers, limit: 1, .. }));
    bench.end(bench.media.published()[0].session, EndReason::Timeout).await;
    assert_eq!((bench.media.rooms(), bench.control.counts().rooms), (0, 0), "nothing is left of it");
    bench.control.publish(&room("b"), &who("b"), CAMERA).await.unwrap();
}

#[tokio::test]
async fn slot_comes_back_with_delete() {
    let bench = bench(limits(1, 1)).await;
    bench.go_live("r", "camera").await;
    let (first, session) = bench.watch("r", "a").await;
    bench.control.delete(&room("r"), Role::Subscriber, &first.key, &who("a")).await.unwrap();
    assert!(bench.media.closed(session));
    bench.control.subscribe(&room("r"), &who("b"), VIEWER).await.unwrap();
}

#[tokio::test]
async fn slot_comes_back_when_the_offer_cannot_be_answered() {
    let bench = bench(limits(2, 1)).await;
    bench.go_live("r", "camera").await;
    // Both parse; each is on the wrong side, which is found after the slot was reserved.
    for _ in 0..3 {
        let refused = bench.control.publish(&room("other"), &who("a"), VIEWER).await;
        assert!(matches!(refused, Err(ControlError::Sdp(_))), "{refused:?}");
        let refused = bench.control.subscribe(&room("r"), &who("a"), CAMERA).await;
        assert!(matches!(refused, Err(ControlError::Sdp(_))), "{refused:?}");
    }
    assert_eq!(bench.media.rooms(), 1, "a room that was opened in vain is closed");
    bench.control.publish(&room("other"), &who("a"), CAMERA).await.unwrap();
    bench.control.subscribe(&room("r"), &who("a"), VIEWER).await.unwrap();
}

#[tokio::test]
async fn bad_offer_is_refused_before_anything_is_touched() {
    let bench = bench(limits(0, 0)).await;
    let refused = bench.control.publish(&room("r"), &who("a"), "hello").await;
    assert!(matches!(refused, Err(ControlError::Sdp(_))));
    assert_eq!(bench.media.rooms(), 0);
}

#[tokio::test]
async fn full_is_told_before_a_room_is_opened() {
    let bench = bench(limits(0, 0)).await;
    assert!(bench.control.publish(&room("r"), &who("a"), CAMERA).await.is_err());
    assert!(!bench.media.calls().iter().any(|call| matches!(call, Call::Open(..))));
}

#[tokio::test]
async fn streams_of_an_account_are_capped_until_they_are_over() {
    let bench = bench(Limits { max_streams_per_account: Some(1), ..limits(9, 9) }).await;
    let of = |subject: &str, account: &str| Principal { account: Some(account.into()), ..who(subject) };
    let first = bench.control.create_stream(&room("a"), &of("a", "acme"), None).await.unwrap();
    let refused = bench.control.publish(&room("b"), &of("b", "acme"), CAMERA).await.unwrap_err();
    assert!(matches!(refused, ControlError::Full { what: Cap::StreamsPerAccount, limit: 1, .. }));
    bench.control.publish(&room("c"), &of("c", "other"), CAMERA).await.unwrap();
    bench.control.end_stream(&first.id, &of("a", "acme")).await.unwrap();
    bench.control.publish(&room("b"), &of("b", "acme"), CAMERA).await.unwrap();
}

#[tokio::test]
async fn lowered_caps_drop_nobody() {
    let bench = bench(limits(1, 2)).await;
    bench.go_live("r", "camera").await;
    bench.watch("r", "a").await;
    bench.watch("r", "b").await;
    bench.control.set_limits(Limits { max_bitrate: Some(1_000_000), ..limits(1, 1) });
    assert_eq!(bench.control.counts().subscribers, 2);
    assert!(bench.control.subscribe(&room("r"), &who("c"), VIEWER).await.is_err());
    let told = bench.media.calls().into_iter().rev().find_map(|call| match call {
        Call::MaxBitrate(bitrate) => Some(bitrate),
        _ => None,
    });
    assert_eq!(told, Some(Some(1_000_000)));
}

#[tokio::test]
async fn another_gop_cache_reaches_the_media_plane() {
    let bench = bench(limits(1, 1)).await;
    bench.control.set_gop_cache(64 << 20);
    assert!(bench.media.calls().iter().any(|call| matches!(call, Call::GopCache(bytes) if *bytes == 64 << 20)));
}

#[tokio::test]
async fn takeover_works_at_the_cap_and_counts_once() {
    let bench = bench(limits(1, 1)).await;
    let (_, first) = bench.go_live("r", "camera").await;
    bench.control.publish(&room("r"), &who("camera"), OTHER_CAMERA).await.unwrap();
    let second = bench.media.published().pop().unwrap();
    assert!(!bench.media.closed(first), "the old one stays until the new one sends");
    bench.start(&second).await;
    until("the old one is closed", || bench.media.closed(first)).await;
    assert!(bench.control.publish(&room("other"), &who("b"), CAMERA).await.is_err());
    bench.end(second.session, EndReason::PeerClosed).await;
    bench.control.publish(&room("other"), &who("b"), CAMERA).await.unwrap();
}
