//! `/recordings`: what was recorded, and its files.
//!
//! Only names that a recording's files can have are looked for, so no path leads elsewhere. A file that has left the disk
//! is served from the object store, at the same URL. Players that cannot set headers (`<video>`, VLC, Safari) put a media
//! token, or the bearer token, into the query; a playlist requested in this way passes it on to its segments.

pub(super) mod download;

use super::app::App;
use super::base_path::BasePath;
use super::error::STORAGE_RETRY;
use super::media_token;
use super::paging;
use super::refusals::Refused;
use crate::auth::Action;
use crate::control::{ControlError, RecordingId, RoomName};
use crate::problem::{Kind, Problem};
use crate::recording::{Library, LibraryError, OpenError, Shown};
use crate::store::{Recording, RecordingQuery, RecordingState};
use axum::extract::{Path, Query, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Json, Router};
use jiff::Timestamp;
use recorder::{File, Track};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The routes, for [`super::router_with`].
pub fn routes(library: Library) -> Router<App> {
    Router::new()
        .route("/recordings", get(list))
        .route("/recordings/{id}", get(show).delete(remove))
        .route("/recordings/{id}/{file}", get(file))
        .merge(super::rooms::routes())
        .merge(media_token::routes())
        .layer(Extension(library))
}

/// A recording.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordingView {
    /// Its id. The first recording of a stream has the stream's.
    id: String,
    /// The stream that it is a part of.
    stream: String,
    /// The stream's.
    room: String,
    /// The stream's.
    account: Option<String>,
    /// The newest publisher's identity.
    publisher: Option<String>,
    /// `recording`, `finalising`, `complete`, `repaired` (after a crash or a failing disk) or `failed`.
    state: RecordingState,
    /// When the first packet came.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When the last packet came; null until it is over.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// From the first to the last frame's end, gaps included; until now, while it grows.
    duration_seconds: f64,
    /// Of all segments.
    bytes: u64,
    /// How many gaps there are.
    gap_count: u64,
    /// The first 1000 of them, when it is finished. The manifest has all.
    gaps: Vec<GapView>,
    /// What is wrong with it: why it is paused, cannot be finished, or failed. Null when all is well.
    trouble: Option<&'static str>,
    /// Whether the object store holds all of it, verified; null where there is no store.
    stored: Option<bool>,
    /// Where its files are.
    urls: Urls,
    /// Its MP4 files, one per codec, when it is finished. Only in `GET /recordings/{id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<Mp4View>>,
}

/// An MP4 file of a recording.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mp4View {
    /// Path of the file.
    url: String,
    /// Start, in seconds since the start of the recording.
    start: f64,
    /// Duration in seconds.
    duration_seconds: f64,
    /// RFC 6381 names of its codecs.
    codecs: Vec<String>,
}

/// A stretch of a track that is not recorded.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GapView {
    /// Seconds since the recording's start.
    from: f64,
    /// Seconds since the recording's start.
    to: f64,
    /// `audio` or `video`.
    track: &'static str,
    /// `loss` (on the way from the camera), `disk` or `source` (the camera was away).
    #[schema(value_type = String)]
    reason: recorder::GapReason,
}

/// Paths of a recording's files.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Urls {
    /// HLS, also while it grows.
    playlist: String,
    /// All of it as one file; null until it is finished. Where the codec changed, `GET /recordings/{id}` lists all files.
    mp4: Option<String>,
    /// What it consists of; null until it is finished.
    manifest: Option<String>,
}

impl RecordingView {
    fn new(base: &BasePath, shown: Shown) -> RecordingView {
        let Shown { recording, gaps, trouble, stored } = shown;
        let url = |file: File| format!("{base}/recordings/{}/{file}", recording.id);
        let finished = matches!(recording.state, RecordingState::Complete | RecordingState::Repaired);
        RecordingView {
            urls: Urls {
                playlist: url(File::Playlist),
                mp4: finished.then(|| url(File::Export(1))),
                manifest: finished.then(|| url(File::Manifest)),
            },
            id: recording.id.to_string(),
            stream: recording.stream.to_string(),
            room: recording.room.to_string(),
            account: recording.account,
            publisher: recording.publisher,
            state: recording.state,
            started_at: recording.started_at,
            ended_at: recording.ended_at,
            duration_seconds: recording.duration_ms as f64 / 1000.0,
            bytes: recording.bytes,
            gap_count: recording.gaps,
            gaps: gaps.iter().map(GapView::new).collect(),
            trouble,
            stored,
            files: None,
        }
    }
}

impl GapView {
    fn new(gap: &recorder::Gap) -> GapView {
        GapView { from: gap.from, to: gap.to, track: GapView::track(gap.track), reason: gap.reason }
    }

    /// Returns the name of a track.
    pub(super) fn track(track: Track) -> &'static str {
        match track {
            Track::Audio => "audio",
            Track::Video => "video",
        }
    }
}

/// A page of recordings.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecordingPage {
    /// Newest first.
    recordings: Vec<RecordingView>,
    /// The value of `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which recordings to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// `recording`, `finalising`, `complete`, `repaired` or `failed`.
    state: Option<String>,
    /// Only this room. Needed when the token is not for all rooms.
    room: Option<String>,
    /// Only recordings with media at this time or later, as 2026-11-30T12:00:00Z.
    from: Option<String>,
    /// Only recordings with media at this time or earlier.
    to: Option<String>,
    /// 1 to 500; 100 when absent.
    limit: Option<usize>,
    /// The id of the last recording of the page before.
    before: Option<String>,
    /// Taken in place of the Authorization header.
    #[serde(rename = "access_token")]
    #[param(ignore)]
    _token: Option<String>,
}

/// Lists recordings, newest first.
#[utoipa::path(get, path = "/recordings", tag = "Recordings", params(ListQuery),
    responses((status = 200, description = "A page of recordings", body = RecordingPage),
        (status = 400, description = "A parameter is wrong"),
        Refused))]
async fn list(
    State(app): State<App>,
    Extension(library): Extension<Library>,
    Extension(base): Extension<BasePath>,
    RawQuery(raw): RawQuery,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Result<Json<RecordingPage>, Problem> {
    let room = query.room.as_deref().map(RoomName::parse).transpose()?;
    let action = Action::ReadRecordings(room.as_ref().map(RoomName::as_str));
    app.authorizer.decide_read(&headers, raw.as_deref(), action)?;
    let states = "recording, finalising, complete, repaired or failed";
    let state = paging::state(query.state.as_deref(), RecordingState::parse, states)?;
    let limit = paging::limit(query.limit)?;
    let before = paging::before(query.before.as_deref(), RecordingId::parse, "recording")?;
    let (from, to) = paging::range(query.from.as_deref(), query.to.as_deref())?;
    let query = RecordingQuery { state, room, from, to, limit, before };
    let recordings = library.recordings(&query).await.map_err(ControlError::from)?;
    let next = paging::next(&recordings, limit, |shown| &shown.recording.id);
    Ok(Json(RecordingPage {
        recordings: recordings.into_iter().map(|shown| RecordingView::new(&base, shown)).collect(),
        next,
    }))
}

/// Shows one recording.
#[utoipa::path(get, path = "/recordings/{id}", tag = "Recordings", params(("id" = String, Path, description = "The recording's id")),
    responses((status = 200, description = "The recording", body = RecordingView),
        Refused,
        (status = 404, description = "No such recording")))]
async fn show(
    State(app): State<App>,
    Extension(library): Extension<Library>,
    Extension(base): Extension<BasePath>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Result<Json<RecordingView>, Problem> {
    let row = readable(&app, &library, &id, &headers, raw.as_deref()).await?;
    let shown = library.recording(&row.id).await.map_err(ControlError::from)?.ok_or_else(missing)?;
    let mut view = RecordingView::new(&base, shown);
    if view.urls.mp4.is_some() {
        let file = |(number, (start, duration_seconds, codecs))| {
            let url = format!("{base}/recordings/{}/{}", row.id, File::Export(number));
            Mp4View { url, start, duration_seconds, codecs }
        };
        // They are in its init segments, which a store that is away does not give.
        view.files = library.mp4s(&row).await.ok().map(|files| (1..).zip(files).map(file).collect());
    }
    Ok(Json(view))
}

/// How to give a file.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct FileQuery {
    /// 1: to be saved under a name that tells room and time.
    download: Option<u8>,
    /// A media token, from POST /media-tokens.
    #[serde(rename = "media_token")]
    #[param(rename = "media_token")]
    _media_token: Option<String>,
}

/// Gives a file of a recording: `index.m3u8`, `init-N.mp4`, `segment-NNNNNN.m4s`, `recording.mp4`, `manifest.json`.
#[utoipa::path(get, path = "/recordings/{id}/{file}", tag = "Recordings",
    params(("id" = String, Path, description = "The recording's id"), ("file" = String, Path, description = "The file's name"), FileQuery,
        ("Range" = Option<String>, Header, description = "One range of bytes"), ("If-None-Match" = Option<String>, Header, description = "An ETag from before")),
    responses((status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, description = "The part that was asked for", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 304, description = "It has not changed"),
        Refused,
        (status = 404, description = "No such file"),
        (status = 416, description = "The file is shorter"),
        (status = 503, description = "The file is in the object store, which does not give it")))]
async fn file(
    State(app): State<App>,
    Extension(library): Extension<Library>,
    Path((id, name)): Path<(String, String)>,
    RawQuery(raw): RawQuery,
    Query(query): Query<FileQuery>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let row = match media_token::recording(&app, &library, &id, &headers, raw.as_deref()).await? {
        Some(row) => row,
        None => readable(&app, &library, &id, &headers, raw.as_deref()).await?,
    };
    let file: File = name.parse().map_err(|_| Problem::new(Kind::RecordingNotFound, "a recording has no such file"))?;
    let opened = library.open(&row, file).await.map_err(|error| not_opened(error, row.id.as_str()))?;
    let finished = matches!(row.state, RecordingState::Complete | RecordingState::Repaired);
    let asked = download::Asked {
        method: &method,
        headers: &headers,
        file,
        save_as: query
            .download
            .filter(|&number| number == 1)
            .map(|_| format!("attachment; filename=\"{}\"", file_name(&row, file))),
        token: raw.as_deref().and_then(download::token),
        immutable: finished || matches!(file, File::Init(_)),
        modified: row.ended_at,
    };
    download::answer(asked, opened).await
}

/// Maps an error of opening a file.
pub(super) fn not_opened(error: OpenError, name: &str) -> Problem {
    match error {
        OpenError::NotFound => Problem::new(Kind::RecordingNotFound, "this recording has no such file, or not yet"),
        OpenError::Objects(error) => download::not_given(&error),
        OpenError::Store(error) => ControlError::from(error).into(),
        OpenError::Io(error) => {
            tracing::error!(name, %error, "recorded file not opened");
            Problem::new(Kind::Internal, "the reason is in the server's log")
        }
    }
}

/// Removes a recording and its files for good.
#[utoipa::path(delete, path = "/recordings/{id}", tag = "Recordings", params(("id" = String, Path, description = "The recording's id")),
    responses((status = 204, description = "It is gone"),
        Refused,
        (status = 404, description = "No such recording"),
        (status = 409, description = "It is not finished, or it is held"),
        (status = 503, description = "It is in the object store, which does not tell whether it is held")))]
async fn remove(
    State(app): State<App>,
    Extension(library): Extension<Library>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let who = app.authorizer.decide(&headers, Action::Admin)?;
    let id = RecordingId::parse(&id).ok_or_else(missing)?;
    let removed = library.remove(&id).await.map_err(|error| match error {
        LibraryError::Running => Problem::new(Kind::RecordingRunning, error.to_string()),
        LibraryError::Held => Problem::new(Kind::Held, error.to_string()),
        LibraryError::Objects(error) => download::not_asked(&error),
        LibraryError::Store(error) => ControlError::from(error).into(),
        LibraryError::Io(error) => {
            tracing::error!(recording = %id, %error, "a recording cannot be removed");
            Problem::new(Kind::StorageUnavailable, "the recording's files cannot be removed now")
                .retry_after(STORAGE_RETRY)
        }
    })?;
    if !removed {
        return Err(missing());
    }
    tracing::info!(recording = %id, subject = who.subject, "a recording was removed on request");
    Ok(StatusCode::NO_CONTENT)
}

/// The recording, when this request may read it.
async fn readable(
    app: &App,
    library: &Library,
    id: &str,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Recording, Problem> {
    // Who has no good token learns nothing, not even what there is.
    if !app.authorizer.knows(headers, query) {
        app.authorizer.decide_read(headers, query, Action::ReadRecordings(None))?;
    }
    let id = RecordingId::parse(id).ok_or_else(missing)?;
    let row = library.row(&id).await.map_err(ControlError::from)?.ok_or_else(missing)?;
    app.authorizer.decide_read(headers, query, Action::ReadRecordings(Some(row.room.as_str())))?;
    Ok(row)
}

/// `front-door-20261122T153000Z.mp4`, and the like.
fn file_name(row: &Recording, file: File) -> String {
    let start = row.started_at.strftime("%Y%m%dT%H%M%SZ");
    match file {
        File::Export(1) => format!("{}-{start}.mp4", row.room),
        other => format!("{}-{start}-{other}", row.room),
    }
}

fn missing() -> Problem {
    Problem::new(Kind::RecordingNotFound, "no recording has this id")
}
