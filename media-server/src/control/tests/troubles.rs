use super::fake::{Bench, bench, limits, who};
use crate::control::{EndReason, Event, MediaEvent, StreamQuery, TroubleInfo};
use sfu::parameters::RoomId;
use sfu::shard::trouble::{TroubleChange, TroubleReason};
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;

async fn listed(bench: &Bench) -> Vec<TroubleInfo> {
    bench.control.streams(StreamQuery::default()).await.unwrap().remove(0).trouble
}

/// Returns the next event after those of a stream that starts, which arrive at their own time.
async fn next_event(events: &mut Receiver<Arc<Event>>) -> Arc<Event> {
    loop {
        let event = events.recv().await.unwrap();
        if !matches!(event.name, "stream:started" | "publisher:joined") {
            return event;
        }
    }
}

#[tokio::test]
async fn trouble_is_listed_until_it_ends() {
    let bench = bench(limits(1, 1)).await;
    let (_, session) = bench.go_live("r", "camera").await;
    let mut events = bench.control.subscribe_events();
    let change = |reason, began| MediaEvent::Trouble(TroubleChange { room: RoomId(1), session, reason, began });
    for _ in 0..2 {
        bench.media.tell(change(TroubleReason::NoKeyframe, true));
    }
    bench.media.tell(change(TroubleReason::Policed, true));
    for reason in ["no-keyframe", "policed"] {
        let event = next_event(&mut events).await;
        assert_eq!((event.name, &event.data["reason"]), ("trouble:started", &reason.into()));
        assert_eq!(event.data["peer"], "publisher");
    }
    let reasons: Vec<_> = listed(&bench).await.iter().map(|info| info.reason).collect();
    assert_eq!(reasons, ["no-keyframe", "policed"]);
    bench.media.tell(change(TroubleReason::NoKeyframe, false));
    let event = next_event(&mut events).await;
    assert_eq!((event.name, &event.data["reason"]), ("trouble:ended", &"no-keyframe".into()));
    assert_eq!(listed(&bench).await.len(), 1);
    // The end of its session ends the rest.
    bench.end(session, EndReason::PeerClosed).await;
    let names: Vec<_> = [next_event(&mut events).await, next_event(&mut events).await].iter().map(|e| e.name).collect();
    assert_eq!(names, ["trouble:ended", "publisher:left"]);
    assert_eq!(listed(&bench).await, []);
}

#[tokio::test]
async fn failed_handshake_is_listed_with_its_cause() {
    let bench = bench(limits(1, 2)).await;
    bench.go_live("r", "camera").await;
    let subscribe = bench.control.subscribe(&super::fake::room("r"), &who("viewer"), super::fake::VIEWER).await;
    assert!(subscribe.is_ok());
    let session = bench.media.subscribed().last().unwrap().session;
    let mut events = bench.control.subscribe_events();
    bench.media.tell(MediaEvent::Ended { session, reason: EndReason::Failed("no SRTP profile".to_owned()) });
    let event = next_event(&mut events).await;
    assert_eq!((event.name, &event.data["reason"]), ("trouble:started", &"handshake-failed".into()));
    let info = listed(&bench).await.remove(0);
    assert_eq!((info.reason, info.peer), ("handshake-failed", "viewer"));
    assert!(info.message.contains("no SRTP profile"), "{info:?}");
}
