//! `/admin/session`: what of the StreamSession is in force, how the server does, and a newer spec for it.
//!
//! An operator asks and tells here. What is told is in force whole or not at all, nobody is dropped but by `drain`, and
//! telling the same twice changes nothing.

use super::LimitsDocument;
use crate::auth::Action;
use crate::http::app::App;
use crate::http::body::read_json_of;
use crate::http::refusals::AdminRefused;
use crate::problem::{Kind, Problem};
use crate::session::{Change, SessionError};
use crate::status::{ElsewhereStatus, StoreStatus, TurnStatus, UploadStatus};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use streamsession_api::StreamSessionSpec;
use utoipa::ToSchema;

/// Most bytes of a spec: affinity and tolerations may be long.
const LIMIT: usize = 256 * 1024;

/// A newer spec, and what only the cluster knows.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct SessionChange {
    /// Of the StreamSession; told back, so that it can be seen which spec is in force.
    #[serde(default)]
    #[schema(minimum = 0)]
    generation: i64,
    /// The spec of a StreamSession, whole; what is left out has its default. Fields that take effect live are taken over,
    /// all others are not looked at.
    #[schema(value_type = Object)]
    spec: StreamSessionSpec,
    /// Addresses with ports at which the media port is reached, best first, for those who come or restart ICE from now
    /// on; the pod's own address follows by itself. Empty: those of the start. Absent: as before.
    #[serde(default)]
    announced: Option<Vec<String>>,
    /// URLs of the relay for those who come from now on. Absent: as before.
    #[serde(default)]
    turn_urls: Option<Vec<String>>,
    /// True: refuse newcomers, have viewers reconnect, end all streams, finalise and upload what was recorded, and go on
    /// answering here. It is never undone. False or absent: no change.
    #[serde(default)]
    drain: bool,
}

/// What is in force, and how the server does.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct SessionDocument {
    /// Of the server.
    version: &'static str,
    /// Of the spec that was told last; 0 before, when the server runs by what it was started with.
    generation: i64,
    /// Newcomers are refused, as the server is about to stop.
    draining: bool,
    /// While it drains: everything has ended, is finalised, and is in the store if there is one, so that nothing is lost
    /// with this server's disk.
    drained: bool,
    /// Caps as they are enforced.
    limits: EnforcedLimits,
    /// Where clients are told to send media, best first.
    announced: Vec<String>,
    /// URLs of relays that clients are told of.
    turn_urls: Vec<String>,
    /// Cameras that are connected.
    publishers: usize,
    /// Viewers that are connected, in all rooms.
    subscribers: usize,
    /// Rooms with a stream that is not over.
    rooms: usize,
    /// What is kept.
    recordings: RecordingTotals,
    /// The store that recordings go to.
    store: StoreStatus,
    /// What waits for it.
    uploads: Uploads,
    /// The relay.
    turn: TurnStatus,
}

/// Caps as they are enforced; `null` is no cap.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EnforcedLimits {
    /// Cameras at once, in the whole server.
    max_publishers: u32,
    /// Viewers in each room.
    max_subscribers_per_room: u32,
    /// Streams of one account that are not over.
    max_streams_per_account: Option<u32>,
    /// Bits per second of one camera.
    max_bitrate: Option<u64>,
}

/// What is kept, in numbers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RecordingTotals {
    /// Recordings, those under way included.
    count: u64,
    /// Bytes of all of them.
    bytes: u64,
    /// Finished recordings that are not wholly in the store.
    pending_uploads: u64,
    /// Recordings that have left the disk: only a store holds them.
    only_in_store: u64,
    /// Start of the oldest.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest: Option<Timestamp>,
}

/// What waits for the store.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Uploads {
    /// Files.
    pending: u64,
    /// For how long the oldest of them has waited, in seconds.
    oldest_pending_seconds: Option<u64>,
    /// They fail, or fall behind.
    failing: bool,
    /// What is wrong and what to do.
    message: Option<String>,
    /// Recordings that only a store of before holds.
    elsewhere: Option<ElsewhereStatus>,
}

impl Uploads {
    fn of(status: UploadStatus, now: Timestamp) -> Uploads {
        let waited = |since: Timestamp| u64::try_from(now.duration_since(since).as_secs()).unwrap_or_default();
        Uploads {
            pending: status.pending,
            oldest_pending_seconds: status.oldest_pending.map(waited),
            failing: status.failing,
            message: status.message,
            elsewhere: status.elsewhere,
        }
    }
}

/// Shows what is in force, and how the server does.
#[utoipa::path(get, path = "/admin/session", tag = "Admin",
    responses((status = 200, description = "What is in force", body = SessionDocument),
        AdminRefused,
        (status = 503, description = "The registry cannot be read")))]
pub(in crate::http) async fn show(State(app): State<App>, headers: HeaderMap) -> Result<impl IntoResponse, Problem> {
    app.authorizer.decide(&headers, Action::Manage)?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(document(&app).await?)))
}

/// Takes over a newer spec. It is in force when this is answered; nobody is dropped.
#[utoipa::path(put, path = "/admin/session", tag = "Admin", request_body = SessionChange,
    responses((status = 200, description = "What is in force now", body = SessionDocument),
        (status = 400, description = "Not JSON"),
        AdminRefused,
        (status = 413, description = "Larger than 256 KiB"),
        (status = 415, description = "Not application/json"),
        (status = 422, description = "A field makes no sense; the detail names it, and nothing is changed"),
        (status = 503, description = "It is in force, but the registry cannot be read")))]
pub(in crate::http) async fn change(State(app): State<App>, request: Request) -> Result<impl IntoResponse, Problem> {
    app.authorizer.decide(request.headers(), Action::Manage)?;
    let body: Value = read_json_of(request, LIMIT).await?;
    let SessionChange { generation, spec, announced, turn_urls, drain } = serde_path_to_error::deserialize(body)
        .map_err(|error| {
            let (path, error) = (error.path().to_string(), error.into_inner());
            Problem::new(Kind::InvalidSession, if path == "." { error.to_string() } else { format!("{path}: {error}") })
        })?;
    app.session.apply(Change { generation, spec, announced, turn_urls })?;
    if drain {
        app.drain.begin();
    }
    Ok(([(CACHE_CONTROL, "no-store")], Json(document(&app).await?)))
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Problem {
        Problem::new(Kind::InvalidSession, error.to_string())
    }
}

async fn document(app: &App) -> Result<SessionDocument, Problem> {
    let totals = app.store.recording_totals().await.map_err(crate::control::ControlError::from)?;
    let limits = LimitsDocument::from(app.control.limits());
    let drained = app.drain.is_done().await.map_err(crate::control::ControlError::from)?;
    let (counts, uploads) = (app.control.counts(), app.status.uploads());
    Ok(SessionDocument {
        version: env!("CARGO_PKG_VERSION"),
        generation: app.session.generation(),
        draining: app.control.is_draining() || app.shutdown.is_cancelled(),
        drained,
        limits: EnforcedLimits {
            max_publishers: limits.max_publishers,
            max_subscribers_per_room: limits.max_subscribers_per_room,
            max_streams_per_account: limits.max_streams_per_account,
            max_bitrate: limits.max_bitrate,
        },
        announced: app.control.announced().iter().map(ToString::to_string).collect(),
        turn_urls: app.session.turn().map(|turn| turn.urls).unwrap_or_default(),
        publishers: counts.publishers,
        subscribers: counts.subscribers,
        rooms: counts.rooms,
        recordings: RecordingTotals {
            count: totals.count,
            bytes: totals.bytes + app.session.bytes_under_way(),
            pending_uploads: uploads.recordings,
            only_in_store: uploads.evicted,
            oldest: totals.oldest,
        },
        store: app.status.store(),
        uploads: Uploads::of(uploads, Timestamp::now()),
        turn: app.status.turn(),
    })
}
