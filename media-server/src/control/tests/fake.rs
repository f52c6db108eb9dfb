//! A media plane and a recorder that do nothing but remember what they were told.

use crate::control::{
    Control, ControlParts, EndReason, Established, Limits, Media, MediaEvent, Principal, Publish, Recorder, RoomName,
    StreamId, Subscribe,
};
use crate::store::Store;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use sfu::parameters::{Fingerprint, IceCredentials, LocalDescription, PublisherTracks, RoomId, SessionId};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

pub(super) const CAMERA: &str = include_str!("../../../sfu/tests/fixtures/chrome-publish.sdp");
pub(super) const OTHER_CAMERA: &str = include_str!("../../../sfu/tests/fixtures/obs-publish.sdp");
pub(super) const VIEWER: &str = include_str!("../../../sfu/tests/fixtures/chrome-view.sdp");
pub(super) const IDLE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(super) enum Call {
    Open(RoomId, bool),
    CloseRoom(RoomId),
    Publish(Publish),
    Subscribe(Subscribe),
    Restart { session: SessionId, local: IceCredentials, remote: IceCredentials },
    Close(SessionId),
    MaxBitrate(Option<u64>),
    GopCache(usize),
    Announced(Vec<SocketAddr>),
}

pub(super) struct FakeMedia {
    calls: Mutex<Vec<Call>>,
    numbers: AtomicU64,
    events: mpsc::UnboundedSender<MediaEvent>,
}

impl FakeMedia {
    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    pub(super) fn published(&self) -> Vec<Publish> {
        let publish = |call| if let Call::Publish(publish) = call { Some(publish) } else { None };
        self.calls().into_iter().filter_map(publish).collect()
    }

    pub(super) fn subscribed(&self) -> Vec<Subscribe> {
        let subscribe = |call| if let Call::Subscribe(subscribe) = call { Some(subscribe) } else { None };
        self.calls().into_iter().filter_map(subscribe).collect()
    }

    pub(super) fn closed(&self, session: SessionId) -> bool {
        self.calls().iter().any(|call| matches!(call, Call::Close(other) if *other == session))
    }

    /// Rooms that are open.
    pub(super) fn rooms(&self) -> usize {
        let mut open = std::collections::HashSet::new();
        for call in self.calls() {
            match call {
                Call::Open(room, _) => assert!(open.insert(room)),
                Call::CloseRoom(room) => assert!(open.remove(&room), "closed twice, or never opened"),
                _ => {}
            }
        }
        open.len()
    }

    /// Whether each room was opened to be recorded.
    pub(super) fn opened(&self) -> Vec<bool> {
        let opened = |call| if let Call::Open(_, recorded) = call { Some(recorded) } else { None };
        self.calls().into_iter().filter_map(opened).collect()
    }

    pub(super) fn tell(&self, event: MediaEvent) {
        self.events.send(event).unwrap();
    }
}

impl Media for FakeMedia {
    fn open_room(&self, recorded: bool) -> RoomId {
        let room = RoomId(self.numbers.fetch_add(1, Ordering::Relaxed));
        self.note(Call::Open(room, recorded));
        room
    }

    fn close_room(&self, room: RoomId) {
        self.note(Call::CloseRoom(room));
    }

    fn describe(&self, _room: RoomId) -> LocalDescription {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        LocalDescription {
            ice: IceCredentials { ufrag: format!("Afake{number}"), pwd: format!("{number:024}") },
            fingerprint: Fingerprint::Sha256([7; 32]),
            candidates: self.announced(),
            origin: number,
        }
    }

    fn publish(&self, publish: Publish) {
        self.note(Call::Publish(publish));
    }

    fn subscribe(&self, subscribe: Subscribe) {
        self.note(Call::Subscribe(subscribe));
    }

    fn restart_ice(&self, _room: RoomId, session: SessionId, local: IceCredentials, remote: IceCredentials) {
        self.note(Call::Restart { session, local, remote });
    }

    fn close(&self, _room: RoomId, session: SessionId) {
        self.note(Call::Close(session));
        let _ = self.events.send(MediaEvent::Ended { session, reason: EndReason::Closed });
    }

    fn set_max_bitrate(&self, bits_per_second: Option<u64>) {
        self.note(Call::MaxBitrate(bits_per_second));
    }

    fn set_gop_cache(&self, bytes: usize) {
        self.note(Call::GopCache(bytes));
    }

    fn announced(&self) -> Vec<SocketAddr> {
        let announced = |call| if let Call::Announced(addresses) = call { Some(addresses) } else { None };
        self.calls().into_iter().rev().find_map(announced).unwrap_or_else(|| vec!["192.0.2.1:8189".parse().unwrap()])
    }

    fn set_announced(&self, addresses: Vec<SocketAddr>) {
        self.note(Call::Announced(addresses));
    }
}

#[derive(Default)]
pub(super) struct FakeRecorder {
    pub(super) log: Mutex<Vec<String>>,
    /// Finalising takes until this is told.
    pub(super) finalised: Arc<Notify>,
}

impl FakeRecorder {
    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

fn names(tracks: &PublisherTracks) -> &'static str {
    match (&tracks.audio, &tracks.video) {
        (Some(_), Some(_)) => "both",
        (Some(_), None) => "audio",
        (None, Some(_)) => "video",
        (None, None) => "nothing",
    }
}

impl Recorder for FakeRecorder {
    fn start(
        &self,
        _room: RoomId,
        _stream: StreamId,
        room_name: RoomName,
        publisher: String,
        tracks: &PublisherTracks,
        _at: Timestamp,
    ) {
        self.log.lock().unwrap().push(format!("start {room_name} {publisher} {}", names(tracks)));
    }

    fn source_changed(&self, _room: RoomId, publisher: String, tracks: &PublisherTracks) {
        self.log.lock().unwrap().push(format!("source {publisher} {}", names(tracks)));
    }

    fn finish(&self, _room: RoomId) -> BoxFuture<'static, ()> {
        self.log.lock().unwrap().push("finish".into());
        let finalised = self.finalised.clone();
        Box::pin(async move { finalised.notified().await })
    }
}

pub(super) struct Bench {
    pub(super) control: Control,
    pub(super) media: Arc<FakeMedia>,
    pub(super) recorder: Arc<FakeRecorder>,
    pub(super) store: Store,
}

pub(super) fn limits(publishers: usize, subscribers: usize) -> Limits {
    Limits {
        max_publishers: publishers,
        max_subscribers_per_room: subscribers,
        max_streams_per_account: None,
        max_bitrate: Some(8_000_000),
    }
}

pub(super) async fn bench(limits: Limits) -> Bench {
    bench_on(Store::in_memory().await.unwrap(), limits).await
}

pub(super) async fn bench_on(store: Store, limits: Limits) -> Bench {
    let (sender, events) = mpsc::unbounded_channel();
    let media = Arc::new(FakeMedia { calls: Mutex::default(), numbers: AtomicU64::new(1), events: sender });
    let recorder = Arc::new(FakeRecorder::default());
    let control = Control::start(ControlParts {
        media: Some(media.clone()),
        events,
        store: store.clone(),
        limits,
        idle_timeout: IDLE,
        recorder: Some(recorder.clone()),
        recording: true,
    })
    .await
    .unwrap();
    Bench { control, media, recorder, store }
}

impl Bench {
    /// A camera comes, connects and sends.
    pub(super) async fn go_live(&self, room_name: &str, subject: &str) -> (Established, SessionId) {
        let established = self.control.publish(&room(room_name), &who(subject), CAMERA).await.unwrap();
        let publish = self.media.published().pop().unwrap();
        self.start(&publish).await;
        (established, publish.session)
    }

    /// Connects and sends.
    pub(super) async fn start(&self, publish: &Publish) {
        let before = self.recorder.log().len();
        self.media.tell(MediaEvent::Connected { session: publish.session });
        self.media.tell(MediaEvent::MediaStarted { room: publish.room, session: publish.session });
        until("media started", || self.recorder.log().len() > before).await;
    }

    /// A viewer comes and connects.
    pub(super) async fn watch(&self, room_name: &str, subject: &str) -> (Established, SessionId) {
        let established = self.control.subscribe(&room(room_name), &who(subject), VIEWER).await.unwrap();
        let session = self.media.subscribed().pop().unwrap().session;
        let before = self.control.counts().subscribers;
        self.media.tell(MediaEvent::Connected { session });
        until("viewer connected", || self.control.counts().subscribers > before).await;
        (established, session)
    }

    pub(super) async fn end(&self, session: SessionId, reason: EndReason) {
        let total = |c: &Control| {
            let counts = c.counts();
            counts.publishers + counts.subscribers + counts.reserved
        };
        let before = total(&self.control);
        self.media.tell(MediaEvent::Ended { session, reason });
        until("session ended", || total(&self.control) < before).await;
    }
}

pub(super) fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

pub(super) fn who(subject: &str) -> Principal {
    Principal { subject: subject.into(), account: None, admin: false, token: None }
}

/// Waits for a condition that other tasks bring about, with a deadline.
pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::task::yield_now().await;
    }
}

/// Stops tokio's clock; it moves by `tokio::time::advance` only. (A blocking task keeps tokio from jumping to the next
/// timer while the database's thread works.)
pub(super) struct Frozen {
    _thaw: std::sync::mpsc::Sender<()>,
}

pub(super) fn freeze() -> Frozen {
    tokio::time::pause();
    let (thaw, wait) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || wait.recv());
    Frozen { _thaw: thaw }
}
