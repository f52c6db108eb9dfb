//! The server as a whole: its parts made, joined, watched and ended in the right order.
//!
//! Up: folders, database, media threads, recorder, control plane, HTTP. Down, by SIGTERM or SIGINT: readiness says no,
//! newcomers are refused, streams end, recordings are finalised, and last the media threads stop; all within the drain
//! deadline.

use crate::auth::Authorizer;
use crate::config::Config;
use crate::control::{Control, ControlError, ControlParts, Media, Recorder};
use crate::demo;
use crate::http::{App, AppParts, ReadyCheck, SnapshotSource, recording_routes, router_with};
use crate::metrics::{Metrics, watch_event_loop, watch_media};
use crate::net::tap::Taps;
use crate::net::{MediaPlane, NetConfig, NetError, Started};
use crate::recording::{RecordingError, RecordingParts, RecordingPlane, RecordingSettings, TapSource};
use crate::store::{Store, StoreError};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

/// Not used while nothing is recorded.
const SEGMENT_DURATION: Duration = Duration::from_secs(10);
/// How long open HTTP requests may take to end after the streams have.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The HTTP port is taken.
    #[error("{0} is in use by another program: stop it, or choose another address with --http")]
    HttpInUse(SocketAddr),
    /// The HTTP address cannot be bound.
    #[error("cannot listen on {address}: {source}; name an address of this machine with --http")]
    HttpBind {
        /// As asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A folder cannot be made or written.
    #[error("cannot use the folder {path}: {source}; {remedy}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What would be right.
        remedy: &'static str,
    },
    /// Media.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The control plane.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The recording plane.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// Listening failed while running, or signals cannot be had.
    #[error("the server failed: {0}")]
    Io(#[from] io::Error),
}

impl ServerError {
    /// What the person who started it can mend: ports, folders.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, ServerError::Io(_) | ServerError::Control(_) | ServerError::Net(NetError::Resources(_)))
    }
}

/// Serves until a signal says to stop.
pub async fn run(config: Config) -> Result<(), ServerError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(config).await?;
    server.announce()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
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
    http: SocketAddr,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Starts every part; gives the first that could not be started.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        let config = Arc::new(config);
        config.notes.iter().for_each(|note| tracing::warn!("{note}"));
        make_folder(&config.data_dir, "make it writable, or name another with --data-dir")?;
        make_folder(&config.recordings_dir, "make it writable, or name another with MEDIA_RECORDINGS_DIR")?;
        // HTTP first: a port in use is the likeliest mistake, and nothing else has been touched by then.
        let listener = listen(config.http).await?;
        let http = listener.local_addr()?;
        let store = Store::open(&config.data_dir.join("registry.sqlite")).await?;
        let metrics = Metrics::new();
        metrics.install();
        let shutdown = CancellationToken::new();
        let (media, events, taps) = start_media(&config, http)?;
        let recording = start_recording(&config, &store, media.clone(), taps).await?;
        let control = Control::start(ControlParts {
            media: media.clone().map(|plane| Arc::new(plane) as Arc<dyn Media>),
            events,
            store: store.clone(),
            limits: config.limits.clone(),
            idle_timeout: config.idle_timeout,
            // What was recorded can be played even when nothing is recorded now.
            recorder: config.recording.is_some().then(|| Arc::new(recording.clone()) as Arc<dyn Recorder>),
        })
        .await?;
        tokio::spawn(watch_event_loop(metrics.clone(), shutdown.clone()));
        let plane = media.clone();
        let snapshot: SnapshotSource = Arc::new(move || plane.as_ref().map(MediaPlane::snapshot).unwrap_or_default());
        tokio::spawn(watch_media(metrics.clone(), snapshot.clone(), shutdown.clone()));
        let app = App::new(AppParts {
            control: control.clone(),
            authorizer: Authorizer::new(&config.auth),
            config: config.clone(),
            snapshot,
            metrics,
            ready: ready_checks(&config, &store, media.as_ref()),
            shutdown: shutdown.clone(),
        });
        let service =
            router_with(app, recording_routes(recording.library())).into_make_service_with_connect_info::<SocketAddr>();
        let stopping = shutdown.clone();
        let serving = tokio::spawn(async move {
            let served = axum::serve(listener, service).with_graceful_shutdown(stopping.cancelled_owned()).await;
            if let Err(error) = served {
                tracing::error!(%error, "HTTP ended");
            }
        });
        if config.demo {
            tokio::spawn(demo::play(http, config.auth.clone(), shutdown.clone()));
        }
        Ok(Self { config, control, media, store, http, shutdown, serving })
    }

    /// Where HTTP listens.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Prints what to open.
    pub fn announce(&self) -> io::Result<()> {
        let base = format!("http://{}", self.http);
        let room = if self.config.demo { "demo" } else { "front-door" };
        let mut out = io::stdout().lock();
        writeln!(out, "console   {base}/")?;
        writeln!(out, "publish   {base}/publish/{room}    from this browser's camera")?;
        writeln!(out, "watch     {base}/watch/{room}")?;
        writeln!(out, "WHIP      {base}/whip/{room}       cameras, OBS, ffmpeg, GStreamer")?;
        writeln!(out, "WHEP      {base}/whep/{room}")?;
        match &self.media {
            Some(plane) => {
                let candidates: Vec<_> = plane.candidates().iter().map(ToString::to_string).collect();
                writeln!(out, "media     UDP {}", candidates.join(", "))?;
            }
            None => writeln!(out, "media     none: MEDIA_MODE names another mode, only the control API runs")?,
        }
        writeln!(out, "data      {}", self.config.data_dir.display())?;
        out.flush()
    }

    /// Drains and ends.
    pub async fn stop(self) {
        tracing::info!(deadline = ?self.config.drain_deadline, "draining");
        if tokio::time::timeout(self.config.drain_deadline, self.control.drain()).await.is_err() {
            tracing::error!("not everything was finalised by the deadline; the next start repairs the rest");
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
    let Started { plane, events, taps } = MediaPlane::start(&NetConfig {
        udp: config.udp.clone(),
        shards: config.shards,
        loopback: http.ip().is_loopback(),
        record: config.recording.is_some(),
        segmentation: true,
    })?;
    Ok((Some(plane), events, Some(taps)))
}

async fn start_recording(
    config: &Config,
    store: &Store,
    media: Option<MediaPlane>,
    taps: Option<Taps>,
) -> Result<RecordingPlane, RecordingError> {
    let segment_duration = config.recording.as_ref().map_or(SEGMENT_DURATION, |recording| recording.segment_duration);
    RecordingPlane::start(RecordingParts {
        settings: RecordingSettings::new(&config.recordings_dir, segment_duration),
        store: store.clone(),
        taps: taps.filter(|_| config.recording.is_some()).map(|taps| Box::new(taps) as Box<dyn TapSource>),
        keyframes: media.map(|media| Arc::new(move |room| media.request_keyframe(room)) as _),
    })
    .await
}

fn ready_checks(config: &Config, store: &Store, media: Option<&MediaPlane>) -> Vec<ReadyCheck> {
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
    if config.recording.is_some() {
        let folder = config.recordings_dir.clone();
        checks.push(ReadyCheck {
            name: "recordings",
            check: Arc::new(move || {
                let folder = folder.clone();
                Box::pin(async move {
                    tokio::task::spawn_blocking(move || {
                        probe_folder(&folder).map_err(|error| format!("{}: {error}", folder.display()))
                    })
                    .await
                    .unwrap_or_else(|_| Err("the check was cancelled".to_owned()))
                })
            }),
        });
    }
    checks
}

fn make_folder(path: &Path, remedy: &'static str) -> Result<(), ServerError> {
    std::fs::create_dir_all(path).and_then(|()| probe_folder(path)).map_err(|source| ServerError::Folder {
        path: path.to_owned(),
        source,
        remedy,
    })
}

/// Whether files can be made there.
fn probe_folder(path: &Path) -> io::Result<()> {
    let probe = path.join(format!(".probe-{}", std::process::id()));
    std::fs::write(&probe, b"probe").and_then(|()| std::fs::remove_file(&probe))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServerError::HttpInUse(address),
        _ => ServerError::HttpBind { address, source },
    })
}
