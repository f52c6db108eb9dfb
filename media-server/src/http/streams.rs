//! `/streams`: what is live, what was, and how to begin and end it.

use super::app::App;
use super::body::read_json;
use super::live::{self, LiveView};
use super::paging;
use super::refusals::Refused;
use crate::auth::{Action, Identity};
use crate::control::{Principal, RoomName, StreamId, StreamInfo, StreamQuery, StreamState};
use crate::problem::{Kind, Problem};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/streams", get(list).post(create))
        .route("/streams/{id}", get(show))
        .route("/streams/{id}/end", post(end))
}

/// The principal of an identity. One that is nobody in particular gets a name that no other request has, so it never
/// counts as the same publisher come back.
pub fn identity_to_principal(identity: Identity) -> Principal {
    Principal {
        subject: identity.subject.unwrap_or_else(|| format!("anonymous:{:016x}", rand::random::<u64>())),
        account: identity.account,
        admin: identity.admin,
        token: identity.token,
    }
}

/// A stream and, while it is live, its numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamView {
    #[serde(flatten)]
    stream: StreamInfo,
    /// Absent when nobody publishes or watches now.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<LiveView>,
}

impl StreamView {
    fn new(app: &App, stream: StreamInfo) -> StreamView {
        let live = stream.media.as_ref().map(|media| live::view(&(app.snapshot)(), media));
        StreamView { stream, live }
    }
}

/// A page of streams.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamPage {
    /// Newest first.
    streams: Vec<StreamView>,
    /// The value of `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which streams to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// `created`, `live` or `ended`.
    state: Option<String>,
    /// Only this room. Needed when the token is not for all rooms.
    room: Option<String>,
    /// 1 to 500; 100 when absent.
    limit: Option<usize>,
    /// The id of the last stream of the page before.
    before: Option<String>,
    /// Not taken here, where a header can be set; known so that the answer is 401 and not 400.
    #[serde(rename = "access_token")]
    #[param(ignore)]
    _token: Option<String>,
}

/// Lists streams, newest first.
#[utoipa::path(get, path = "/streams", tag = "Streams", params(ListQuery),
    responses((status = 200, description = "A page of streams", body = StreamPage),
        (status = 400, description = "A parameter is wrong"),
        Refused))]
async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    query: Query<ListQuery>,
) -> Result<Json<StreamPage>, Problem> {
    let Query(query) = query;
    let room = query.room.as_deref().map(RoomName::parse).transpose()?;
    app.authorizer.decide(&headers, Action::ReadStreams(room.as_ref().map(RoomName::as_str)))?;
    let state = paging::state(query.state.as_deref(), StreamState::parse, "created, live or ended")?;
    let limit = paging::limit(query.limit)?;
    let before = paging::before(query.before.as_deref(), StreamId::parse, "stream")?;
    let streams = app.control.streams(StreamQuery { state, room, limit, before }).await?;
    let next = paging::next(&streams, limit, |stream| &stream.id);
    Ok(Json(StreamPage { streams: streams.into_iter().map(|stream| StreamView::new(&app, stream)).collect(), next }))
}

/// What to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewStream {
    /// Where it will be published.
    room: String,
    /// A name for people, at most 200 characters.
    name: Option<String>,
}

/// Creates a stream before its camera comes.
#[utoipa::path(post, path = "/streams", tag = "Streams", request_body = NewStream,
    responses((status = 201, description = "It waits for its camera", body = StreamView,
               headers(("Location" = String, description = "The stream's URL"))),
        (status = 400, description = "A field is wrong"),
        Refused,
        (status = 409, description = "The room has a stream"),
        (status = 503, description = "Full or draining; see Retry-After")))]
async fn create(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    // Who has no token at all learns nothing about the body.
    app.authorizer.check_known(&headers)?;
    let new: NewStream = read_json(request).await?;
    let room = RoomName::parse(&new.room)?;
    let who = identity_to_principal(app.authorizer.decide(&headers, Action::ManageStream(room.as_str()))?);
    if let Some(name) = &new.name
        && (name.is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control))
    {
        return Err(Problem::new(Kind::BadRequest, "name: use 1 to 200 characters, none of them a control character"));
    }
    let stream = app.control.create_stream(&room, &who, new.name).await?;
    let location = format!("/streams/{}", stream.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(StreamView::new(&app, stream))).into_response())
}

/// Shows one stream.
#[utoipa::path(get, path = "/streams/{id}", tag = "Streams", params(("id" = String, Path, description = "The stream's id")),
    responses((status = 200, description = "The stream", body = StreamView),
        Refused,
        (status = 404, description = "No such stream")))]
async fn show(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Result<Json<StreamView>, Problem> {
    app.authorizer.check_known(&headers)?;
    let stream = find(&app, &id).await?;
    app.authorizer.decide(&headers, Action::ReadStreams(Some(stream.room.as_str())))?;
    Ok(Json(StreamView::new(&app, stream)))
}

/// Ends a stream: camera and viewers are dropped, the recording is finalised.
#[utoipa::path(post, path = "/streams/{id}/end", tag = "Streams", params(("id" = String, Path, description = "The stream's id")),
    responses((status = 200, description = "It has ended; so it had, if it was over already", body = StreamView),
        Refused,
        (status = 404, description = "No such stream")))]
async fn end(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Result<Json<StreamView>, Problem> {
    app.authorizer.check_known(&headers)?;
    let stream = find(&app, &id).await?;
    let who = identity_to_principal(app.authorizer.decide(&headers, Action::ManageStream(stream.room.as_str()))?);
    let stream = app.control.end_stream(&stream.id, &who).await?;
    Ok(Json(StreamView::new(&app, stream)))
}

async fn find(app: &App, id: &str) -> Result<StreamInfo, Problem> {
    let missing = || Problem::new(Kind::StreamNotFound, "no stream, live or past, has this id");
    let id = StreamId::parse(id).ok_or_else(missing)?;
    app.control.stream(&id).await?.ok_or_else(missing)
}
