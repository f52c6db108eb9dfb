//! The server as a whole: its parts made, joined, watched and ended in the right order.
//!
//! Up: folders, database, media threads, recorder, control plane, HTTP. Down, by SIGTERM or SIGINT: readiness says no,
//! newcomers are refused, viewers are told to reconnect, streams end, recordings are finalised and uploaded, and last the media threads stop; all within
//! the drain deadline.

mod error;

pub use error::ServerError;

use crate::auth::{AdminTokens, AuthPlan, Authorizer, KeySource, follow};
use crate::config::{Config, MediaMode};
use crate::control::{Control, ControlParts, Media, Recorder};
use crate::demo;
use crate::drain::Drain;
use crate::http::{
    App, AppParts, ConnectionLimits, MediaTokens, ReadyCheck, SnapshotSource, management_router, recording_routes,
    router_with, serve,
};
use crate::lock::FolderLock;
use crate::metrics::{Metrics, watch_event_loop, watch_media};
use crate::net::tap::Taps;
use crate::net::{MediaPlane, NetConfig, Started};
use crate::objects::Objects;
use crate::recording::{RecordingError, RecordingParts, RecordingPlane, RecordingSettings, TapSource};
use crate::session::Session;
use crate::status::StatusBoard;
use crate::store::Store;
use crate::turn;
use crate::upload::{UploadParts, UploadSettings, Uploads, report_without_store};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use streamsession_api::{StorageMode, TurnMode};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

/// Open files that are asked for.
const MOST_FILES: u64 = 65_536;
/// Most connections to the management address: an operator, a kubelet, and those who read metrics.
const MANAGEMENT_CONNECTIONS: usize = 64;
/// How long open HTTP requests may take to end after the streams have.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// Serves until a signal says to stop.
pub async fn run(config: Config) -> Result<(), ServerError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut server = tokio::select! {
        started = Server::start(config) => started?,
        // Nothing runs yet that would have to be ended in an order.
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    server.announce(&mut io::stdout().lock())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut server.serving => {
            let reason = ended.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string());
            return Err(ServerError::Io(io::Error::other(format!("HTTP: {reason}"))));
        }
    }
    tokio::select! {
        () = server.stop() => {}
        _ = terminate.recv() => tracing::warn!("told twice to stop: not waiting for recordings"),
        _ = interrupt.recv() => tracing::warn!("told twice to stop: not waiting for recordings"),
    }
    Ok(())
}

/// A running server.
pub struct Server {
    config: Arc<Config>,
    control: Control,
    media: Option<MediaPlane>,
    store: Store,
    session: Session,
    uploads: Option<Uploads>,
    http: SocketAddr,
    management: Option<SocketAddr>,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    /// Held until everything has ended.
    _folders: Vec<FolderLock>,
}

impl Server {
    /// Starts every part; gives the first that could not be started.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        let config = Arc::new(config);
        config.notes.iter().for_each(|note| tracing::warn!("{note}"));
        make_folder(&config.data_dir, "make it a folder that can be written, or name another with --data-dir")?;
        make_folder(
            &config.recordings_dir,
            "make it a folder that can be written, or name another with MEDIA_RECORDINGS_DIR",
        )?;
        // HTTP first: a port in use is the likeliest mistake, and nothing else has been touched by then.
        let listener = listen(config.http, "--http").await?;
        let http = listener.local_addr()?;
        let management_listener = match config.management {
            Some(address) => Some(listen(address, "--management").await?),
            None => None,
        };
        let management = management_listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let folders = lock_folders(&config)?;
        let auth = config.auth.settle()?;
        let media_tokens = MediaTokens::open(&config.data_dir).map_err(ServerError::MediaTokens)?;
        let admin = config.admin_token_file.as_deref().map(AdminTokens::read).transpose()?;
        let authorizer = Authorizer::new(&auth).with_admin_tokens(admin.clone());
        let store = Store::open(&config.data_dir.join("registry.sqlite")).await?;
        let metrics = Metrics::new();
        metrics.install();
        let shutdown = CancellationToken::new();
        let (media, events, taps) = start_media(&config, http)?;
        let status =
            StatusBoard::new(config.store.as_ref().map_or(StorageMode::Local, |store| store.mode), config.turn_mode);
        let uploads = start_uploads(&config, &store, &status);
        if uploads.is_none() {
            report_without_store(&store, &status).await?;
        }
        let recording = start_recording(&config, &store, media.clone(), taps, uploads.clone()).await?;
        let control = Control::start(ControlParts {
            media: media.clone().map(|plane| Arc::new(plane) as Arc<dyn Media>),
            events,
            store: store.clone(),
            limits: config.limits.clone(),
            idle_timeout: config.idle_timeout,
            recorder: Some(Arc::new(recording.clone()) as Arc<dyn Recorder>),
            recording: config.recording.enabled,
        })
        .await?;
        control.set_answers(config.answers.clone());
        control.set_gop_cache(config.gop_cache);
        let session = Session::new(&config, control.clone(), Some(recording.clone()), authorizer.clone());
        if let Some(uploads) = &uploads {
            uploads.follow(session.retention());
        }
        let secrets = follow(authorizer.clone(), config.auth.file().map(Path::to_owned), admin, shutdown.clone());
        tokio::spawn(secrets);
        if config.turn_mode == TurnMode::Managed {
            status.set_turn(false, Some("the relay has not answered yet".to_owned()));
            let relay = SocketAddr::new(config.udp.pod_ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), turn::PORT);
            let board = status.clone();
            let report = move |well: Result<(), String>| {
                metrics::gauge!("media_server_relay_up").set(f64::from(u8::from(well.is_ok())));
                board.set_turn(well.is_ok(), well.err());
            };
            tokio::spawn(turn::watch(relay, report, shutdown.clone()));
        }
        tokio::spawn(watch_event_loop(metrics.clone(), shutdown.clone()));
        let plane = media.clone();
        let snapshot: SnapshotSource = Arc::new(move || plane.as_ref().map(MediaPlane::snapshot).unwrap_or_default());
        tokio::spawn(watch_media(metrics.clone(), snapshot.clone(), shutdown.clone()));
        let app = App::new(AppParts {
            control: control.clone(),
            drain: Drain::new(control.clone(), Some(recording.clone()), uploads.clone(), store.clone()),
            session: session.clone(),
            status,
            store: store.clone(),
            authorizer,
            media_tokens,
            config: config.clone(),
            snapshot,
            metrics,
            ready: ready_checks(&config, &store, media.as_ref(), &session),
            shutdown: shutdown.clone(),
        });
        let limits = connection_limits();
        if let Some(listener) = management_listener {
            let limits = limits.with_connections(limits.connections.min(MANAGEMENT_CONNECTIONS));
            tokio::spawn(serve(listener, management_router(app.clone()), limits, shutdown.clone()));
        }
        let router = router_with(app, recording_routes(recording.library()));
        let serving = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
        if let (true, Some(media)) = (config.demo, &media) {
            tokio::spawn(demo::play(control.clone(), media.clone(), shutdown.clone()));
        }
        Ok(Self {
            config,
            control,
            media,
            store,
            session,
            uploads,
            http,
            management,
            shutdown,
            serving,
            _folders: folders,
        })
    }

    /// Where HTTP listens.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where the management routes are, if not on [`Server::http`].
    pub fn management(&self) -> Option<SocketAddr> {
        self.management
    }

    /// Prints what to open.
    pub fn announce(&self, out: &mut dyn Write) -> io::Result<()> {
        let base = format!("http://{}", self.reachable());
        let room = if self.config.demo { "demo" } else { "front-door" };
        writeln!(out, "console   {base}/")?;
        match (&self.media, &self.config.media) {
            (Some(plane), _) => {
                writeln!(out, "publish   {base}/publish/{room}    from this browser's camera")?;
                writeln!(out, "watch     {base}/watch/{room}")?;
                writeln!(out, "WHIP      {base}/whip/{room}       cameras, OBS, ffmpeg, GStreamer")?;
                writeln!(out, "WHEP      {base}/whep/{room}")?;
                let candidates: Vec<_> = plane.announced().iter().map(ToString::to_string).collect();
                writeln!(out, "media     UDP {}", candidates.join(", "))?;
            }
            (None, mode) => {
                let said = if let MediaMode::ControlOnly(mode) = mode { mode } else { "" };
                writeln!(out, "media     none: MEDIA_MODE is {said:?}, and single_server_sfu (or none) carries media")?;
            }
        }
        if let Some(management) = self.management {
            writeln!(out, "manage    http://{management}/admin/session, /metrics, /healthz, /readyz")?;
        }
        writeln!(out, "data      {}", self.config.data_dir.display())?;
        match &self.config.auth {
            AuthPlan::Open => {}
            AuthPlan::Jwt { key: KeySource::Given(_) | KeySource::File(..), .. } => {
                writeln!(out, "tokens    are needed; `{} token --help` tells how to make one", program())?;
            }
            AuthPlan::Jwt { key: KeySource::Made(path), issuer, audience } => {
                let mut command = format!("{} token --scope publish,subscribe --room {room}", program());
                command.push_str(&format!(" --data-dir {}", quoted(&self.config.data_dir)));
                // It has the issuer and the audience that tokens must name.
                if let (Some(session), true) = (&self.config.session, issuer.is_some() || audience.is_some()) {
                    command.push_str(&format!(" --session {}", quoted(session)));
                }
                writeln!(out, "tokens    are needed, signed with the secret in {}; to make one:", path.display())?;
                writeln!(out, "          {command}")?;
            }
        }
        out.flush()
    }

    /// Where HTTP listens; of all addresses one that a browser can open.
    fn reachable(&self) -> SocketAddr {
        if !self.http.ip().is_unspecified() {
            return self.http;
        }
        let candidates = self.media.iter().flat_map(Media::announced);
        let ip = candidates.map(|address| address.ip()).find(|ip| ip.is_ipv4() || self.http.is_ipv6());
        SocketAddr::new(ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), self.http.port())
    }

    /// Drains and ends.
    pub async fn stop(self) {
        let deadline = self.session.drain_deadline();
        tracing::info!(?deadline, "draining");
        let until = tokio::time::Instant::now() + deadline;
        if tokio::time::timeout_at(until, self.control.drain()).await.is_err() {
            tracing::error!("not everything was finalised by the deadline; the next start repairs the rest");
        }
        if let Some(uploads) = &self.uploads {
            if tokio::time::timeout_at(until, uploads.drained()).await.is_err() {
                tracing::warn!("not everything was uploaded by the deadline; the next start goes on with it");
            }
            uploads.stop();
        }
        self.shutdown.cancel();
        let _ = tokio::time::timeout(LAST_REQUESTS, self.serving).await;
        if let Some(media) = &self.media {
            media.stop();
        }
        self.store.close().await;
        tracing::info!("stopped");
    }
}

type MediaParts = (Option<MediaPlane>, UnboundedReceiver<crate::control::MediaEvent>, Option<Taps>);

fn start_media(config: &Config, http: SocketAddr) -> Result<MediaParts, ServerError> {
    if !config.carries_media() {
        return Ok((None, unbounded_channel().1, None));
    }
    let Started { plane, events, taps, .. } = MediaPlane::start(&NetConfig {
        udp: config.udp.clone(),
        shards: config.shards,
        loopback: http.ip().is_loopback(),
        segmentation: true,
    })?;
    Ok((Some(plane), events, Some(taps)))
}

fn start_uploads(config: &Config, store: &Store, status: &StatusBoard) -> Option<Uploads> {
    let to = config.store.as_ref()?;
    let settings = UploadSettings {
        // The store in the pod keeps its objects beside our folders.
        same_volume: to.mode == StorageMode::Managed,
        keep_free: config.recording.retention.keep_free.clone(),
        credentials: to.credentials_dir.clone(),
        ..UploadSettings::new(&config.recordings_dir)
    };
    let (objects, store, status) = (Objects::connect(to), store.clone(), status.clone());
    Some(Uploads::start(UploadParts { settings, objects, store, status }))
}

async fn start_recording(
    config: &Config,
    store: &Store,
    media: Option<MediaPlane>,
    taps: Option<Taps>,
    uploads: Option<Uploads>,
) -> Result<RecordingPlane, RecordingError> {
    RecordingPlane::start(RecordingParts {
        settings: RecordingSettings {
            max_duration: config.recording.max_duration,
            ..RecordingSettings::new(&config.recordings_dir, config.recording.segment_duration)
        },
        store: store.clone(),
        // Also when nothing is recorded now: that may change.
        taps: taps.map(|taps| Box::new(taps) as Box<dyn TapSource>),
        keyframes: media.map(|media| Arc::new(move |room| media.request_keyframe(room)) as _),
        uploads,
    })
    .await
}

fn ready_checks(config: &Config, store: &Store, media: Option<&MediaPlane>, session: &Session) -> Vec<ReadyCheck> {
    let registry = store.clone();
    let mut checks = vec![ReadyCheck {
        name: "registry",
        check: Arc::new(move || {
            let registry = registry.clone();
            Box::pin(async move { registry.check_writable().await.map_err(|error| error.to_string()) })
        }),
    }];
    if let Some(media) = media.cloned() {
        checks.push(ReadyCheck {
            name: "media",
            check: Arc::new(move || {
                let running = media.is_running();
                Box::pin(
                    async move { if running { Ok(()) } else { Err("a media thread has ended: restart".to_owned()) } },
                )
            }),
        });
    }
    let (folder, session) = (config.recordings_dir.clone(), session.clone());
    checks.push(ReadyCheck {
        name: "recordings",
        check: Arc::new(move || {
            let (folder, records) = (folder.clone(), session.records());
            Box::pin(async move {
                if !records {
                    return Ok(());
                }
                tokio::task::spawn_blocking(move || {
                    probe_folder(&folder).map_err(|error| format!("{}: {error}", folder.display()))
                })
                .await
                .unwrap_or_else(|_| Err("the check was cancelled".to_owned()))
            })
        }),
    });
    checks
}

fn make_folder(path: &Path, remedy: &'static str) -> Result<(), ServerError> {
    std::fs::create_dir_all(path).and_then(|()| probe_folder(path)).map_err(|source| ServerError::Folder {
        path: path.to_owned(),
        source,
        remedy,
    })
}

/// Both folders, where they are two.
fn lock_folders(config: &Config) -> Result<Vec<FolderLock>, ServerError> {
    let mut folders = vec![(&config.data_dir, "name another with --data-dir")];
    // The same one under two names must not be locked twice.
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if real(&config.recordings_dir) != real(&config.data_dir) {
        folders.push((&config.recordings_dir, "name another with MEDIA_RECORDINGS_DIR"));
    }
    let lock = |(path, remedy): (&PathBuf, &'static str)| match FolderLock::take(path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(ServerError::FolderInUse { path: path.clone(), remedy }),
        Err(source) => Err(ServerError::Folder { path: path.clone(), source, remedy }),
    };
    folders.into_iter().map(lock).collect()
}

/// As it was called, so that what is printed can be pasted.
fn program() -> String {
    std::env::args_os().next().map_or_else(|| "media-server".to_owned(), |name| quoted(Path::new(&name)))
}

/// As a word of the shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(&byte);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// As many connections as the process may have files for, with half of them left to everything else. Many systems start
/// processes with 1024 files and allow more to those who ask, so this asks.
fn connection_limits() -> ConnectionLimits {
    let files = getrlimit(Resource::Nofile);
    let wanted = files.maximum.unwrap_or(u64::MAX).min(MOST_FILES);
    let current = files.current.unwrap_or(u64::MAX);
    let current = match current < wanted {
        true => setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..files }).map_or(current, |()| wanted),
        false => current,
    };
    let limits = ConnectionLimits::default();
    let half = usize::try_from(current / 2).unwrap_or(usize::MAX);
    limits.with_connections(limits.connections.min(half).max(1))
}

/// Whether files can be made there.
fn probe_folder(path: &Path) -> io::Result<()> {
    let probe = path.join(format!(".probe-{}", std::process::id()));
    std::fs::write(&probe, b"probe").and_then(|()| std::fs::remove_file(&probe))
}

async fn listen(address: SocketAddr, flag: &'static str) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServerError::HttpInUse { address, flag },
        _ => ServerError::HttpBind { address, flag, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command, ServeArgs};
    use crate::config::{Environment, SessionDocument, resolve};
    use clap::Parser as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A server without media, of a session with this spec.
    async fn start(folder: &Path, spec: &str) -> Result<Server, ServerError> {
        let text = format!(
            "apiVersion: media.streamsession.io/v1alpha1\nkind: StreamSession\nmetadata: {{name: minimal}}\nspec: {spec}\n"
        );
        let session = folder.join("session.yaml");
        std::fs::write(&session, &text).unwrap();
        let mut args = ServeArgs::default();
        args.network.http = Some("127.0.0.1:0".parse().unwrap());
        args.files.data_dir = Some(folder.join("data"));
        args.files.session = Some(session.clone());
        let document = SessionDocument::parse(&session, &text).unwrap();
        let environment = Environment { mode: Some("control-only".to_owned()), ..Environment::default() };
        Server::start(resolve(&args, &environment, None, Some(&document)).unwrap()).await
    }

    fn announced(server: &Server) -> String {
        let mut text = Vec::new();
        server.announce(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    async fn status(server: &Server, authorization: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(server.http()).await.unwrap();
        let request =
            format!("GET /streams HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn a_session_without_keys_takes_the_tokens_that_the_printed_command_makes() {
        let folder = tempfile::tempdir().unwrap();
        let server = start(folder.path(), "{auth: {audience: cams}}").await.unwrap();
        let text = announced(&server);
        let secret = std::fs::read_to_string(folder.path().join("data/jwt.secret")).unwrap();
        assert!(!text.contains(secret.trim_end()) && text.contains("data/jwt.secret"), "{text}");
        assert!(
            text.contains("\"control-only\"") && !text.contains("/whip/"),
            "what would be refused is not announced: {text}"
        );
        let command = text.lines().last().unwrap().trim();
        let Some(Command::Token(args)) = Args::try_parse_from(command.split(' ')).unwrap().command else {
            panic!("{command}")
        };
        let make = |args: &crate::args::TokenArgs| {
            crate::token::make(args, &Environment::default(), jiff::Timestamp::now()).unwrap().token
        };
        let mut everywhere = (*args).clone();
        everywhere.room = vec!["*".to_owned()];
        assert_eq!(status(&server, "").await, "401");
        assert_eq!(status(&server, &format!("Bearer {}", make(&args))).await, "403", "it is for one room");
        let token = format!("Bearer {}", make(&everywhere));
        assert_eq!(status(&server, &token).await, "200");
        server.stop().await;
        let server = start(folder.path(), "{auth: {audience: cams}}").await.unwrap();
        assert_eq!(status(&server, &token).await, "200", "tokens outlive the process");
        server.stop().await;
    }

    #[tokio::test]
    async fn a_second_server_in_the_same_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = start(folder.path(), "{}").await.unwrap();
        let text = start(folder.path(), "{}").await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("in use by another media-server") && text.contains("--data-dir"), "{text}");
        first.stop().await;
        start(folder.path(), "{}").await.unwrap().stop().await;
    }

    #[test]
    fn what_is_printed_can_be_pasted() {
        assert_eq!(quoted(Path::new("/data/a-b_c.d")), "/data/a-b_c.d");
        assert_eq!(quoted(Path::new("my 'data'; x")), r"'my '\''data'\''; x'");
        assert_eq!(quoted(Path::new("")), "''");
    }
}
