//! Events for one viewer: the server-sent events extension of WHEP (urn:ietf:params:whep:ext:core:server-sent-events).
//!
//! The 201 of a WHEP session names the entry point in a `Link`. POST there makes an event stream, one for each session; its
//! URL, which only its maker is told, is then listened to without a token, since an `EventSource` can send none. The only
//! event is `reconnect`: the server is about to stop, so drop the session and come again.

use super::app::App;
use super::body::read_json;
use super::events::{FULL_RETRY, KEEP_ALIVE};
use super::refusals::SessionRefused;
use super::sessions::{SessionPath, authorize_session, session_key};
use crate::control::{Role, RoomName};
use crate::problem::{Kind, Problem};
use axum::Router;
use axum::body::HttpBody as _;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use std::convert::Infallible;
use utoipa::IntoParams;

/// All events that there are.
const EVENTS: [&str; 1] = ["reconnect"];

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/whep/{room}/{key}/sse", post(create))
        .route("/whep/{room}/{key}/sse/{stream}", get(listen).delete(end))
}

/// The `Link` of a session's 201; `location` is the session's.
pub(super) fn link(location: &str) -> Option<HeaderValue> {
    let (rel, events) = ("urn:ietf:params:whep:ext:core:server-sent-events", EVENTS.join(","));
    HeaderValue::from_str(&format!("<{location}/sse>; rel=\"{rel}\"; events=\"{events}\"")).ok()
}

/// What names an event stream in its URL.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct StreamPath {
    /// The room
    room: String,
    /// The session's, from Location
    key: String,
    /// From Location of the event stream
    stream: String,
}

/// Makes an event stream for a viewer, in place of the one that its session has. The token that started the session does
/// after its expiry too.
#[utoipa::path(post, path = "/whep/{room}/{key}/sse", tag = "WHEP", params(SessionPath),
    request_body(content = Option<Vec<String>>, description = "Which events; without a body all: reconnect"),
    responses((status = 201, description = "Listen at Location"),
        (status = 400, description = "There is no such event"),
        SessionRefused,
        (status = 415, description = "Not application/json")))]
async fn create(
    State(app): State<App>,
    Path(SessionPath { room, key }): Path<SessionPath>,
    request: Request,
) -> Result<Response, Problem> {
    let room = RoomName::parse(&room)?;
    let (who, key) = authorize_session(&app, request.headers(), &room, Role::Subscriber, &key)?;
    if !request.body().is_end_stream() {
        let wanted: Vec<String> = read_json(request).await?;
        if let Some(unknown) = wanted.iter().find(|event| !EVENTS.contains(&event.as_str())) {
            let detail = format!("there is no event {unknown:?}; there is {}", EVENTS.join(", "));
            return Err(Problem::new(Kind::BadRequest, detail));
        }
    }
    let stream = app.control.open_notices(&room, &key, &who)?;
    let location = format!("/whep/{room}/{}/sse/{}", key.as_str(), stream.as_str());
    Ok((StatusCode::CREATED, [(LOCATION, location)]).into_response())
}

/// Listens; it ends with the session, and after a `reconnect`.
#[utoipa::path(get, path = "/whep/{room}/{key}/sse/{stream}", tag = "WHEP", params(StreamPath), security(()),
    responses((status = 200, description = "Server-sent events: reconnect, whose data is an empty JSON object",
               body = String, content_type = "text/event-stream"),
        (status = 404, description = "No such event stream"),
        (status = 503, description = "Too many listeners; see Retry-After")))]
async fn listen(State(app): State<App>, Path(path): Path<StreamPath>) -> Result<Response, Problem> {
    let StreamPath { room, key, stream } = path;
    let (room, key, id) = (RoomName::parse(&room)?, session_key(&key)?, session_key(&stream)?);
    let notices = app.control.notices(&room, &key, &id);
    let notices = notices.ok_or_else(|| Problem::new(Kind::SessionNotFound, "there is no such event stream"))?;
    let listener =
        app.inner().listeners.clone().try_acquire_owned().map_err(|_| {
            Problem::new(Kind::EventsFull, "every connection for events is taken").retry_after(FULL_RETRY)
        })?;
    // The first line makes the browser's `open` event come at once, proxies included.
    let hello = stream::iter([Event::default().comment("listening")]);
    let last = stream::once(notices.reconnect())
        .filter_map(|reconnect| std::future::ready(reconnect.then(|| Event::default().event(EVENTS[0]).data("{}"))));
    let events = hello.chain(last).map(move |event| {
        let _held = &listener;
        Ok::<_, Infallible>(event)
    });
    let body = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // nginx would hold events back otherwise.
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), "no");
    Ok(([(CACHE_CONTROL, "no-store")], [unbuffered], body).into_response())
}

/// Ends an event stream; the session continues. The token that started the session does after its expiry too.
#[utoipa::path(delete, path = "/whep/{room}/{key}/sse/{stream}", tag = "WHEP", params(StreamPath),
    responses((status = 200, description = "It has ended"), SessionRefused))]
async fn end(State(app): State<App>, Path(path): Path<StreamPath>, headers: HeaderMap) -> Result<StatusCode, Problem> {
    let StreamPath { room, key, stream } = path;
    let room = RoomName::parse(&room)?;
    let (who, key) = authorize_session(&app, &headers, &room, Role::Subscriber, &key)?;
    app.control.close_notices(&room, &key, &session_key(&stream)?, &who)?;
    Ok(StatusCode::OK)
}
