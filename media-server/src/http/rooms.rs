//! `/rooms/{room}`: recorded time of a room, whatever recordings it consists of.

use super::app::App;
use super::media_token;
use super::paging;
use super::recordings::download::{self, Asked};
use super::recordings::{GapView, not_opened};
use super::refusals::Refused;
use crate::auth::Action;
use crate::control::RoomName;
use crate::problem::{Kind, Problem};
use crate::recording::{Library, Opened, RoomError, RoomGap, RoomSpan};
use axum::extract::{Path, Query, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use jiff::Timestamp;
use recorder::File;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// Longest range of a clip.
const MAX_CLIP: Duration = Duration::from_secs(24 * 3600);
/// Finest resolution of a timeline is a second, which is the default.
const RESOLUTION: u64 = 1;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/rooms/{room}/timeline", get(timeline))
        .route("/rooms/{room}/playlist.m3u8", get(playlist))
        .route("/rooms/{room}/clip.mp4", get(clip))
}

/// A range of time.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RangeQuery {
    /// Start, as 2026-11-30T12:00:00Z.
    from: Option<String>,
    /// End. Default: now.
    to: Option<String>,
    /// Timelines only: spans less apart are joined, and shorter gaps left out. Seconds; default 1.
    resolution: Option<u64>,
    /// Taken in place of the Authorization header.
    #[serde(rename = "access_token")]
    #[param(ignore)]
    _token: Option<String>,
    /// Taken in place of the Authorization header.
    #[serde(rename = "media_token")]
    #[param(ignore)]
    _media_token: Option<String>,
}

/// A stretch of recorded media.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SpanView {
    /// Start.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// End.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// Ids of its recordings, in order.
    recordings: Vec<String>,
    /// It is being recorded now.
    live: bool,
}

/// A stretch of a track that is missing within a span.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoomGapView {
    /// Start.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// End.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// `audio` or `video`.
    track: &'static str,
    /// `loss` (on the way from the camera), `disk` or `source` (the camera was away).
    #[schema(value_type = String)]
    reason: recorder::GapReason,
}

/// Recorded time of a room.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TimelineView {
    /// In order; between them nothing is recorded.
    spans: Vec<SpanView>,
    /// In order, of finished recordings.
    gaps: Vec<RoomGapView>,
}

/// Returns the spans in which a room is recorded, and the gaps in them.
#[utoipa::path(get, path = "/rooms/{room}/timeline", tag = "Recordings",
    params(("room" = String, Path, description = "The room's name"), RangeQuery),
    responses((status = 200, description = "The timeline", body = TimelineView),
        (status = 400, description = "A parameter is wrong"), Refused,
        (status = 404, description = "Nothing was ever recorded in this room")))]
pub(super) async fn timeline(
    State(app): State<App>,
    Extension(library): Extension<Library>,
    Path(room): Path<String>,
    RawQuery(raw): RawQuery,
    Query(query): Query<RangeQuery>,
    headers: HeaderMap,
) -> Result<Json<TimelineView>, Problem> {
    let (room, from, to) = readable(&app, &room, &query, &headers, raw.as_deref())?;
    let resolution = Duration::from_secs(query.resolution.unwrap_or(RESOLUTION));
    let timeline = library.timeline(&room, from, to, resolution).await.map_err(|error| refused(error, &room))?;
    let span = |span: RoomSpan| SpanView {
        from: span.from,
        to: span.to,
        recordings: span.recordings.iter().map(ToString::to_string).collect(),
        live: span.live,
    };
    let gap =
        |gap: RoomGap| RoomGapView { from: gap.from, to: gap.to, track: GapView::track(gap.track), reason: gap.reason };
    Ok(Json(TimelineView {
        spans: timeline.spans.into_iter().map(span).collect(),
        gaps: timeline.gaps.into_iter().map(gap).collect(),
    }))
}

/// Returns an HLS playlist of a range, across recordings. It stays open while the range reaches into what is being recorded.
#[utoipa::path(get, path = "/rooms/{room}/playlist.m3u8", tag = "Recordings",
    params(("room" = String, Path, description = "The room's name"), RangeQuery),
    responses((status = 200, description = "The playlist", body = String, content_type = "application/vnd.apple.mpegurl"),
        (status = 400, description = "A parameter is wrong, or the range is too long"), Refused,
        (status = 404, description = "Nothing is recorded in this range"),
        (status = 503, description = "A file is in the object store, which does not give it")))]
pub(super) async fn playlist(
    State(app): State<App>,
    Extension(library): Extension<Library>,
    Path(room): Path<String>,
    RawQuery(raw): RawQuery,
    Query(query): Query<RangeQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (room, from, to) = readable(&app, &room, &query, &headers, raw.as_deref())?;
    // Without an end the playlist goes on with what is recorded later.
    let to = if query.to.is_some() { to } else { to + Duration::from_secs(3600) };
    let text = library.room_playlist(&room, from, to).await.map_err(|error| refused(error, &room))?;
    let text = match raw.as_deref().and_then(download::token) {
        Some(token) => download::with_token(&text, token),
        None => text,
    };
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/vnd.apple.mpegurl"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// Returns a range as one MP4 file, across recordings. It is composed while it is read.
#[utoipa::path(get, path = "/rooms/{room}/clip.mp4", tag = "Recordings",
    params(("room" = String, Path, description = "The room's name"), RangeQuery,
        ("Range" = Option<String>, Header, description = "One range of bytes")),
    responses((status = 200, description = "The clip", body = Vec<u8>, content_type = "video/mp4"),
        (status = 206, description = "The part that was asked for", body = Vec<u8>, content_type = "video/mp4"),
        (status = 400, description = "A parameter is wrong, or the range is too long"), Refused,
        (status = 404, description = "Nothing is recorded in this range"),
        (status = 416, description = "The file is shorter"),
        (status = 503, description = "A file is in the object store, which does not give it")))]
pub(super) async fn clip(
    State(app): State<App>,
    Extension(library): Extension<Library>,
    Path(room): Path<String>,
    RawQuery(raw): RawQuery,
    Query(query): Query<RangeQuery>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (room, from, to) = readable(&app, &room, &query, &headers, raw.as_deref())?;
    if Duration::try_from(to.duration_since(from)).is_ok_and(|length| length > MAX_CLIP) {
        return Err(Problem::new(Kind::BadRequest, "a clip is at most 24h long; ask for several"));
    }
    let clip = library.clip(&room, from, to).await.map_err(|error| refused(error, &room))?;
    let time = |at: Timestamp| at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let asked = Asked {
        method: &method,
        headers: &headers,
        file: File::Export(1),
        save_as: Some(format!("inline; filename=\"{room}-{}-{}.mp4\"", time(from), time(to))),
        token: None,
        immutable: false,
        modified: Some(to),
    };
    download::answer(asked, Opened::Composed(clip)).await
}

/// Returns room and range, which ends now by default, when this request may read the room's recordings.
fn readable(
    app: &App,
    room: &str,
    query: &RangeQuery,
    headers: &HeaderMap,
    raw: Option<&str>,
) -> Result<(RoomName, Timestamp, Timestamp), Problem> {
    let room = RoomName::parse(room)?;
    if !media_token::reads_room(app, &room, headers, raw)? {
        app.authorizer.decide_read(headers, raw, Action::ReadRecordings(Some(room.as_str())))?;
    }
    let now = Timestamp::now().to_string();
    let to = query.to.as_deref().unwrap_or(&now);
    match paging::range(query.from.as_deref(), Some(to))? {
        (Some(from), Some(to)) => Ok((room, from, to)),
        _ => Err(Problem::new(Kind::BadRequest, "from is missing; use a time such as 2026-11-30T12:00:00Z")),
    }
}

fn refused(error: RoomError, room: &RoomName) -> Problem {
    match error {
        RoomError::NoRoom | RoomError::NoMedia { .. } => Problem::new(Kind::NothingRecorded, error.to_string()),
        RoomError::TooLong(_) | RoomError::CodecChange(_) => Problem::new(Kind::BadRequest, error.to_string()),
        RoomError::Open(error) => not_opened(error, room.as_str()),
    }
}
