use super::fake::{CAMERA, IDLE, VIEWER, bench, bench_on, freeze, limits, room, until, who};
use crate::control::{
    Control, ControlError, ControlParts, EndReason, Event, Heard, Limits, MediaEvent, Principal, Role, StreamQuery,
    StreamState,
};
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};

/// The next event, with a deadline that tokio's stopped clock does not stop.
async fn next(events: &mut broadcast::Receiver<Arc<Event>>) -> Arc<Event> {
    let mut found = None;
    until("an event", || {
        found = events.try_recv().ok();
        found.is_some()
    })
    .await;
    found.unwrap()
}

async fn names(events: &mut broadcast::Receiver<Arc<Event>>, count: usize) -> Vec<&'static str> {
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(next(events).await.name);
    }
    names
}

#[tokio::test]
async fn viewers_survive_publisher_absence() {
    let bench = bench(limits(1, 9)).await;
    let _frozen = freeze();
    let (_, camera) = bench.go_live("r", "camera").await;
    let (_, viewer) = bench.watch("r", "viewer").await;
    let stream = bench.control.streams(StreamQuery::default()).await.unwrap().remove(0);

    bench.end(camera, EndReason::Timeout).await;
    tokio::time::advance(IDLE - Duration::from_millis(10)).await;
    let away = bench.control.stream(&stream.id).await.unwrap().unwrap();
    assert_eq!((away.state, away.publishing, away.viewers), (StreamState::Live, false, 1));
    assert!(matches!(
        bench.control.subscribe(&room("r"), &who("late"), VIEWER).await,
        Err(ControlError::NoPublisher { .. })
    ));

    // It comes back at the last moment, and takes a while to connect.
    bench.control.publish(&room("r"), &who("camera"), CAMERA).await.unwrap();
    tokio::time::advance(Duration::from_secs(5)).await;
    bench.start(&bench.media.published()[1].clone()).await;
    tokio::time::advance(IDLE * 3).await;
    let back = bench.control.stream(&stream.id).await.unwrap().unwrap();
    assert_eq!((back.state, back.publishing, back.viewers), (StreamState::Live, true, 1));
    assert!(!bench.media.closed(viewer));
    assert_eq!(bench.recorder.log(), ["start r camera both", "source camera both"]);
}

#[tokio::test]
async fn a_stream_ends_when_its_publisher_stays_away() {
    let bench = bench(limits(1, 9)).await;
    let mut events = bench.control.subscribe_events();
    let _frozen = freeze();
    let (_, camera) = bench.go_live("r", "camera").await;
    bench.watch("r", "viewer").await;
    bench.end(camera, EndReason::PeerClosed).await;
    assert_eq!(
        names(&mut events, 4).await,
        ["stream:started", "publisher:joined", "viewers:changed", "publisher:left"]
    );
    tokio::time::advance(IDLE + Duration::from_millis(1)).await;
    let ended = next(&mut events).await;
    assert_eq!((ended.name, &ended.data["reason"]), ("stream:ended", &"idle".into()));
    assert_eq!(bench.recorder.log().last().unwrap(), "finish");
    assert_eq!((bench.control.counts().rooms, bench.media.rooms()), (0, 0));
    // It was in the books before it was told.
    let past = bench.store.stream(&ended.stream).await.unwrap().unwrap();
    assert_eq!((past.state, past.end_reason.as_deref()), (StreamState::Ended, Some("idle")));
    let sessions = bench.store.sessions(&ended.stream).await.unwrap();
    let reasons: Vec<_> = sessions.iter().map(|session| session.reason.as_deref()).collect();
    assert_eq!(reasons, [Some("peer-closed"), Some("idle")]);
    assert!(sessions.iter().all(|session| session.connected_at.is_some()));
}

#[tokio::test]
async fn nobody_waits_for_the_disk_but_announcements_do() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench_on(Store::open(&folder.path().join("streams.db")).await.unwrap(), limits(1, 9)).await;
    let mut events = bench.control.subscribe_events();
    bench.control.publish(&room("r"), &who("camera"), CAMERA).await.unwrap();
    bench.control.inner.journal.flush().await;
    let blocked = bench.store.block_writes().await.unwrap();
    // Nothing but the start's own row waits for the disk.
    let publish = bench.media.published()[0].clone();
    bench.media.tell(MediaEvent::MediaStarted { room: publish.room, session: publish.session });
    until("it is recorded", || !bench.recorder.log().is_empty()).await;
    bench.watch("r", "viewer").await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(events.try_recv().is_err(), "told before it is in the database");
    blocked.rollback().await.unwrap();
    let started = next(&mut events).await;
    assert_eq!(started.name, "stream:started");
    assert_eq!(bench.store.stream(&started.stream).await.unwrap().unwrap().state, StreamState::Live);
    let written = bench.store.events_between(started.previous, u64::MAX, 1).await.unwrap();
    assert_eq!(written, [(*started).clone()], "the announcement is in the same transaction");
}

#[tokio::test]
async fn ending_a_stream_waits_for_its_recording() {
    let bench = bench(limits(1, 9)).await;
    bench.go_live("r", "camera").await;
    bench.watch("r", "viewer").await;
    let id = bench.control.streams(StreamQuery::default()).await.unwrap()[0].id.clone();
    assert!(matches!(bench.control.end_stream(&id, &who("stranger")).await, Err(ControlError::NotYours)));

    let (control, stream) = (bench.control.clone(), id.clone());
    let ending = tokio::spawn(async move { control.end_stream(&stream, &who("camera")).await });
    until("finalising began", || bench.recorder.log().last().is_some_and(|last| last == "finish")).await;
    assert!(!ending.is_finished());
    assert_eq!(bench.control.counts().publishers, 0, "but slots are free at once");
    bench.recorder.finalised.notify_one();
    let ended = ending.await.unwrap().unwrap();
    assert_eq!((ended.state, ended.end_reason.as_deref()), (StreamState::Ended, Some("ended")));
    assert_eq!(bench.media.rooms(), 0);
    assert_eq!(bench.control.end_stream(&id, &who("camera")).await.unwrap(), ended, "again: what became of it");
}

#[tokio::test]
async fn a_stream_made_ahead_waits_for_its_publisher() {
    let bench = bench(limits(1, 9)).await;
    let _frozen = freeze();
    let made = bench.control.create_stream(&room("r"), &who("owner"), Some("Front door".into())).await.unwrap();
    assert_eq!((made.state, made.name.as_deref()), (StreamState::Created, Some("Front door")));
    let again = bench.control.create_stream(&room("r"), &who("owner"), None).await;
    assert!(matches!(again, Err(ControlError::StreamExists { stream }) if stream == made.id.as_str()));
    tokio::time::advance(IDLE * 10).await;
    // A try that never connects does not use it up.
    bench.control.publish(&room("r"), &who("camera"), CAMERA).await.unwrap();
    bench.end(bench.media.published()[0].session, EndReason::Timeout).await;
    bench.go_live("r", "camera").await;
    let live = bench.control.stream(&made.id).await.unwrap().unwrap();
    assert_eq!((live.state, live.publisher.as_deref()), (StreamState::Live, Some("camera")));
}

#[tokio::test]
async fn one_account_cannot_publish_into_the_stream_of_another() {
    let bench = bench(limits(9, 9)).await;
    let of = |account: &str| Principal { account: Some(account.into()), ..who("camera") };
    bench.control.create_stream(&room("r"), &of("acme"), None).await.unwrap();
    assert!(matches!(bench.control.publish(&room("r"), &of("other"), CAMERA).await, Err(ControlError::Busy)));
    bench.control.publish(&room("r"), &of("acme"), CAMERA).await.unwrap();
}

#[tokio::test]
async fn lists_tell_live_and_past_newest_first() {
    let bench = bench(limits(9, 9)).await;
    for name in ["a", "b", "c"] {
        bench.go_live(name, name).await;
    }
    let id = bench.control.streams(StreamQuery::default()).await.unwrap()[1].id.clone();
    bench.recorder.finalised.notify_one();
    bench.control.end_stream(&id, &who("b")).await.unwrap();
    let list = async |query: StreamQuery| {
        let streams = bench.control.streams(query).await.unwrap();
        streams.iter().map(|stream| stream.room.to_string()).collect::<Vec<_>>()
    };
    let all = StreamQuery::default();
    assert_eq!(list(all.clone()).await, ["c", "b", "a"]);
    assert_eq!(list(StreamQuery { state: Some(StreamState::Live), ..all.clone() }).await, ["c", "a"]);
    assert_eq!(list(StreamQuery { state: Some(StreamState::Ended), ..all.clone() }).await, ["b"]);
    assert_eq!(list(StreamQuery { room: Some(room("a")), ..all.clone() }).await, ["a"]);
    assert_eq!(list(StreamQuery { limit: 2, ..all.clone() }).await, ["c", "b"]);
    assert_eq!(list(StreamQuery { before: Some(id), ..all }).await, ["a"]);
}

#[tokio::test]
async fn drain_refuses_newcomers_and_waits_for_recordings() {
    let bench = bench(limits(9, 9)).await;
    bench.go_live("r", "camera").await;
    let waiting = bench.control.create_stream(&room("ahead"), &who("owner"), None).await.unwrap();
    let id =
        bench.control.streams(StreamQuery { room: Some(room("r")), ..Default::default() }).await.unwrap()[0].id.clone();
    let control = bench.control.clone();
    let draining = tokio::spawn(async move { control.drain().await });
    until("draining", || bench.control.is_draining()).await;
    let refused = bench.control.publish(&room("q"), &who("b"), CAMERA).await;
    assert!(matches!(refused, Err(ControlError::Draining { .. })));
    assert!(bench.control.subscribe(&room("r"), &who("b"), VIEWER).await.is_err());
    assert!(bench.control.create_stream(&room("q"), &who("b"), None).await.is_err());
    assert!(!draining.is_finished());
    bench.recorder.finalised.notify_one();
    draining.await.unwrap();
    let past = bench.store.stream(&id).await.unwrap().unwrap();
    assert_eq!(past.end_reason.as_deref(), Some("drain"));
    let waits = bench.store.stream(&waiting.id).await.unwrap().unwrap();
    assert_eq!(waits.state, StreamState::Created, "for the next process");
}

#[tokio::test]
async fn restart_tells_the_truth() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streams.db");
    let before = bench_on(Store::open(&path).await.unwrap(), limits(9, 9)).await;
    let mut events = before.control.subscribe_events();
    before.go_live("r", "camera").await;
    let first = next(&mut events).await;
    let live = first.stream.clone();
    let waiting = before.control.create_stream(&room("ahead"), &who("owner"), None).await.unwrap();
    // The process is killed here: nothing is drained or closed.

    let after = bench_on(Store::open(&path).await.unwrap(), limits(9, 9)).await;
    let past = after.control.stream(&live).await.unwrap().unwrap();
    assert_eq!((past.state, past.end_reason.as_deref()), (StreamState::Ended, Some("server-restart")));
    assert!(past.ended_at >= past.started_at);
    assert_eq!(after.control.stream(&waiting.id).await.unwrap().unwrap(), waiting);
    let mut heard = after.control.listen(Some(first.id));
    after.go_live("ahead", "camera").await;
    assert_eq!(after.control.stream(&waiting.id).await.unwrap().unwrap().state, StreamState::Live);
    // The listener of the process before misses nothing.
    let mut names = Vec::new();
    while names.len() < 4 {
        match heard.next().await.unwrap() {
            Heard::Event(event) => names.push((event.name, event.room.to_string())),
            missed @ Heard::Missed { .. } => panic!("{missed:?}"),
        }
    }
    let expected =
        [("publisher:joined", "r"), ("stream:ended", "r"), ("stream:started", "ahead"), ("publisher:joined", "ahead")];
    assert_eq!(names, expected.map(|(name, room)| (name, room.to_owned())));
}

#[tokio::test]
async fn live_streams_are_noted_as_seen_and_nothing_is_written_at_rest() {
    let bench = bench(limits(9, 9)).await;
    let mut events = bench.control.subscribe_events();
    bench.go_live("r", "camera").await;
    let id = next(&mut events).await.stream.clone();
    let seen = async || bench.store.seen(&id).await.unwrap();
    let first = seen().await;
    let _frozen = freeze();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while seen().await == first {
        assert!(std::time::Instant::now() < deadline, "never noted as seen");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    bench.recorder.finalised.notify_one();
    bench.control.end_stream(&id, &who("camera")).await.unwrap();
    let writes = bench.store.changes().await.unwrap();
    for _ in 0..4 {
        tokio::time::advance(Duration::from_secs(6)).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.store.changes().await.unwrap(), writes);
}

#[tokio::test]
async fn a_disk_that_refuses_disturbs_nobody_and_is_made_up_for() {
    let bench = bench(limits(9, 9)).await;
    let mut events = bench.control.subscribe_events();
    bench.store.refuse_writes(true).await.unwrap();
    bench.go_live("r", "camera").await;
    bench.watch("r", "viewer").await;
    let started = next(&mut events).await;
    assert_eq!(started.name, "stream:started");
    assert_eq!(bench.store.stream(&started.stream).await.unwrap(), None);
    bench.store.refuse_writes(false).await.unwrap();
    let _frozen = freeze();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while bench.store.stream(&started.stream).await.unwrap().is_none() {
        assert!(std::time::Instant::now() < deadline, "never written");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let written = bench.store.events_between(0, u64::MAX, 9).await.unwrap();
    let names: Vec<_> = written.iter().map(|event| event.name).collect();
    assert_eq!(names, ["stream:started", "publisher:joined", "viewers:changed"], "events are written later");
}

#[tokio::test]
async fn without_media_the_books_can_still_be_read() {
    let (_, events) = mpsc::unbounded_channel();
    let control = Control::start(ControlParts {
        media: None,
        events,
        store: Store::in_memory().await.unwrap(),
        limits: Limits { max_bitrate: None, ..limits(1, 1) },
        idle_timeout: IDLE,
        recorder: None,
        recording: true,
    })
    .await
    .unwrap();
    assert!(matches!(control.publish(&room("r"), &who("a"), CAMERA).await, Err(ControlError::NoMedia)));
    assert!(matches!(control.subscribe(&room("r"), &who("a"), VIEWER).await, Err(ControlError::NoMedia)));
    assert_eq!(control.streams(StreamQuery::default()).await.unwrap(), []);
}

#[tokio::test]
async fn leaving_publisher_by_delete_is_told_with_its_reason() {
    let bench = bench(limits(1, 9)).await;
    let mut events = bench.control.subscribe_events();
    let (camera, _) = bench.go_live("r", "camera").await;
    bench.control.delete(&room("r"), Role::Publisher, &camera.key, &who("camera")).await.unwrap();
    assert_eq!(names(&mut events, 2).await, ["stream:started", "publisher:joined"]);
    let left = next(&mut events).await;
    assert_eq!((left.name, &left.data["reason"]), ("publisher:left", &"deleted".into()));
    assert_eq!(left.previous + 1, left.id);
}

#[tokio::test]
async fn whether_it_is_recorded_is_settled_when_a_stream_begins() {
    let bench = bench(limits(9, 9)).await;
    let mut events = bench.control.subscribe_events();
    bench.go_live("first", "one").await;
    bench.control.set_recording(false);
    // The running one goes on, and its camera may be replaced.
    bench.go_live("first", "one").await;
    // Events are sent by the journal, behind the transitions.
    assert_eq!(names(&mut events, 3).await, ["stream:started", "publisher:joined", "publisher:joined"]);
    bench.control.publish(&room("second"), &who("two"), CAMERA).await.unwrap();
    let second = bench.media.published().pop().unwrap();
    bench.control.set_recording(true);
    // It began to come when nothing was recorded: half of a stream is none.
    bench.media.tell(MediaEvent::Connected { session: second.session });
    bench.media.tell(MediaEvent::MediaStarted { room: second.room, session: second.session });
    assert_eq!(names(&mut events, 2).await, ["stream:started", "publisher:joined"]);
    bench.go_live("third", "three").await;
    assert_eq!(bench.recorder.log(), ["start first one both", "source one both", "start third three both"]);
    assert_eq!(bench.media.opened(), [true, false, true]);
    let id = bench.control.streams(StreamQuery { room: Some(room("second")), ..StreamQuery::default() }).await.unwrap();
    bench.control.end_stream(&id[0].id, &who("two")).await.unwrap();
    assert_eq!(bench.recorder.log().len(), 3, "there is nothing to finish");
}

#[tokio::test]
async fn another_idle_timeout_counts_for_those_who_are_away_already() {
    let bench = bench(limits(9, 9)).await;
    let mut events = bench.control.subscribe_events();
    let _frozen = freeze();
    for (name, after, ends) in [("longer", IDLE * 2, false), ("shorter", IDLE / 3, true)] {
        bench.control.set_idle_timeout(IDLE);
        let (_, camera) = bench.go_live(name, name).await;
        bench.end(camera, EndReason::PeerClosed).await;
        assert_eq!(names(&mut events, 3).await, ["stream:started", "publisher:joined", "publisher:left"]);
        tokio::time::advance(IDLE / 2).await;
        assert!(events.try_recv().is_err());
        bench.control.set_idle_timeout(after);
        tokio::time::advance(if ends { Duration::ZERO } else { IDLE }).await;
        if ends {
            assert_eq!(next(&mut events).await.name, "stream:ended", "{name}");
        } else {
            assert_eq!(bench.control.counts().rooms, 1, "{name}");
            tokio::time::advance(IDLE / 2 + Duration::from_millis(1)).await;
            assert_eq!(next(&mut events).await.name, "stream:ended", "{name}");
        }
        assert_eq!(bench.control.counts().rooms, 0, "{name}");
    }
}
