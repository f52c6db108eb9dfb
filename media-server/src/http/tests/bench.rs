//! A router over a control plane whose media plane only remembers.

use crate::args::ServeArgs;
use crate::auth::{AdminTokens, AuthMode, Authorizer, Secret};
use crate::config::{Config, Environment, HttpSettings, MediaMode, resolve};
use crate::control::{Control, ControlParts, EndReason, Media, MediaEvent, Publish, Subscribe};
use crate::drain::Drain;
use crate::http::{App, AppParts, MediaTokens, router};
use crate::metrics::Metrics;
use crate::net::Snapshot;
use crate::session::Session;
use crate::status::StatusBoard;
use crate::store::Store;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use serde_json::Value;
use sfu::parameters::{Fingerprint, IceCredentials, LocalDescription, RoomId, SessionId};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use streamsession_api::{StorageMode, TurnMode};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(super) const CAMERA: &str = include_str!("../../../sfu/tests/fixtures/chrome-publish.sdp");
pub(super) const VIEWER: &str = include_str!("../../../sfu/tests/fixtures/chrome-view.sdp");
pub(super) const SECRET: &str = crate::auth::test_tokens::SECRET;

pub(super) struct FakeMedia {
    numbers: AtomicU64,
    events: mpsc::UnboundedSender<MediaEvent>,
    published: Mutex<Vec<Publish>>,
    announced: Mutex<Vec<SocketAddr>>,
}

impl Media for FakeMedia {
    fn open_room(&self, _recorded: bool) -> RoomId {
        RoomId(self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    fn close_room(&self, _room: RoomId) {}

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
        self.published.lock().unwrap().push(publish);
    }

    /// A viewer connects at once.
    fn subscribe(&self, subscribe: Subscribe) {
        let _ = self.events.send(MediaEvent::Connected { session: subscribe.session });
    }

    fn restart_ice(&self, _room: RoomId, _session: SessionId, _local: IceCredentials, _remote: IceCredentials) {}

    fn close(&self, _room: RoomId, session: SessionId) {
        let _ = self.events.send(MediaEvent::Ended { session, reason: EndReason::Closed });
    }

    fn set_max_bitrate(&self, _bits_per_second: Option<u64>) {}

    fn set_gop_cache(&self, _bytes: usize) {}

    fn announced(&self) -> Vec<SocketAddr> {
        self.announced.lock().unwrap().clone()
    }

    fn set_announced(&self, addresses: Vec<SocketAddr>) {
        *self.announced.lock().unwrap() = addresses;
    }
}

pub(super) struct Bench {
    pub(super) app: App,
    pub(super) router: Router,
    pub(super) media: Arc<FakeMedia>,
}

/// What a test wants other than the defaults.
pub(super) struct Wishes {
    pub(super) auth: AuthMode,
    pub(super) media: bool,
    pub(super) snapshot: Snapshot,
    pub(super) variables: &'static [(&'static str, &'static str)],
    pub(super) ready: Vec<crate::http::ReadyCheck>,
    pub(super) admin: Option<AdminTokens>,
    pub(super) management: bool,
    pub(super) http: HttpSettings,
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes {
            auth: AuthMode::Open,
            media: true,
            snapshot: Snapshot::default(),
            variables: &[],
            ready: Vec::new(),
            admin: None,
            management: false,
            http: HttpSettings::default(),
        }
    }
}

pub(super) fn jwt() -> AuthMode {
    AuthMode::Jwt { secret: Secret::new(SECRET), issuer: Some("https://issuer".into()), audience: Some("cams".into()) }
}

pub(super) async fn open() -> Bench {
    bench(Wishes::default()).await
}

pub(super) async fn bench(wishes: Wishes) -> Bench {
    let variables = wishes.variables;
    let environment =
        Environment::read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()));
    let mut config: Config = resolve(&ServeArgs::default(), &environment, None, None).unwrap();
    config.management = wishes.management.then(|| "127.0.0.1:8081".parse().unwrap());
    config.http_settings = wishes.http;
    if !wishes.media {
        config.media = MediaMode::ControlOnly("mesh".into());
    }
    let (sender, events) = mpsc::unbounded_channel();
    let media = Arc::new(FakeMedia {
        numbers: AtomicU64::new(1),
        events: sender,
        published: Mutex::default(),
        announced: Mutex::new(vec!["192.0.2.1:8189".parse().unwrap()]),
    });
    let store = Store::in_memory().await.unwrap();
    let control = Control::start(ControlParts {
        media: wishes.media.then(|| media.clone() as Arc<dyn Media>),
        events,
        store: store.clone(),
        limits: config.limits.clone(),
        idle_timeout: config.idle_timeout,
        recorder: None,
        recording: true,
    })
    .await
    .unwrap();
    let snapshot = Arc::new(wishes.snapshot);
    let authorizer = Authorizer::new(&wishes.auth).with_admin_tokens(wishes.admin);
    let session = Session::new(&config, control.clone(), None, authorizer.clone());
    let drain = Drain::new(control.clone(), None, None, store.clone());
    let app = App::new(AppParts {
        control,
        drain,
        session,
        status: StatusBoard::new(StorageMode::Local, TurnMode::Disabled),
        store,
        authorizer,
        media_tokens: MediaTokens::new(&Secret::new([7; 32])),
        config: Arc::new(config),
        snapshot: Arc::new(move || snapshot.clone()),
        metrics: Metrics::new(),
        ready: wishes.ready,
        shutdown: CancellationToken::new(),
    });
    Bench { router: router(app.clone()), app, media }
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the form of an error and gives its slug.
    pub(super) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16(), "{self:?}");
        assert_eq!(problem["request_id"], self.header("x-request-id"), "{self:?}");
        for field in ["title", "detail", "instance"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {self:?}");
        }
        let slug = problem["type"].as_str().unwrap().strip_prefix("/problems/").unwrap().to_owned();
        let kind = crate::problem::Kind::ALL.iter().find(|kind| kind.slug() == slug).expect("a page");
        assert_eq!(kind.status(), self.status);
        if self.status == StatusCode::SERVICE_UNAVAILABLE && slug != "media-disabled" {
            assert!(self.header("retry-after").parse::<u32>().unwrap() >= 1, "{self:?}");
        }
        slug
    }
}

impl Bench {
    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.answer(request).await;
        let (parts, body) = response.into_parts();
        let body = String::from_utf8_lossy(&to_bytes(body, 1 << 22).await.unwrap()).into_owned();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Without reading the body.
    pub(super) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(super) async fn call(&self, line: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        self.send(request(line, headers, body)).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.call(&format!("GET {path}"), &[], "").await
    }

    pub(super) async fn offer(&self, path: &str, offer: &str, token: Option<&str>) -> Answer {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/sdp")];
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        self.call(&format!("POST {path}"), &headers, offer.to_owned()).await
    }

    /// A camera comes and sends.
    pub(super) async fn go_live(&self, room: &str, token: Option<&str>) -> Answer {
        let mut events = self.app.control.subscribe_events();
        let answer = self.offer(&format!("/whip/{room}"), CAMERA, token).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        let publish = self.media.published.lock().unwrap().last().unwrap().clone();
        let session = publish.session;
        self.media.events.send(MediaEvent::Connected { session }).unwrap();
        self.media.events.send(MediaEvent::MediaStarted { room: publish.room, session }).unwrap();
        let started = async { while events.recv().await.unwrap().name != "publisher:joined" {} };
        tokio::time::timeout(Duration::from_secs(10), started).await.expect("it goes live");
        answer
    }

    pub(super) fn published(&self) -> Vec<Publish> {
        self.media.published.lock().unwrap().clone()
    }
}

/// `line` is method and path.
pub(super) fn request(line: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let (method, path) = line.split_once(' ').unwrap();
    let mut builder = Request::builder().method(method).uri(path).header("host", "localhost:8080");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body.into()).unwrap()
}

/// Waits for what other tasks bring about, with a deadline.
pub(super) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::task::yield_now().await;
    }
}
