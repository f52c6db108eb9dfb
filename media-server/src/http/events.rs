//! `/events`: what happens, as server-sent events (the HTML standard, §9.2).
//!
//! `Last-Event-ID` goes on where a listener was cut off, as far as the control plane keeps events. A listener that is
//! too slow is told so by an event `events:missed` and should list the streams anew. It ends with the listener's token.

use super::app::App;
use super::refusals::Refused;
use crate::auth::Action;
use crate::control::{Event, RoomName};
use crate::problem::{Kind, Problem};
use axum::Router;
use axum::extract::{Query, RawQuery, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::wrappers::BroadcastStream;
use utoipa::IntoParams;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a browser waits before it connects again.
const RECONNECT: Duration = Duration::from_secs(2);
pub(super) const FULL_RETRY: Duration = Duration::from_secs(30);

pub(super) fn routes() -> Router<App> {
    Router::new().route("/events", get(listen))
}

/// What to listen to.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    /// Only this room. Needed when the token is not for all rooms.
    room: Option<String>,
    /// A bearer token, for clients that cannot set headers (`EventSource`).
    #[serde(rename = "access_token")]
    #[param(rename = "access_token")]
    _token: Option<String>,
}

/// Listens to `stream:started`, `stream:ended`, `publisher:joined`, `publisher:left`, `viewers:changed`,
/// `trouble:started` and `trouble:ended`.
#[utoipa::path(get, path = "/events", tag = "Streams",
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header, description = "Go on after this event")),
    responses((status = 200, description = "Server-sent events; data is a JSON object with room, stream and at",
               body = String, content_type = "text/event-stream"),
        Refused,
        (status = 503, description = "Too many listeners; see Retry-After")))]
async fn listen(
    State(app): State<App>,
    RawQuery(raw): RawQuery,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let room = query.room.as_deref().map(RoomName::parse).transpose()?;
    let action = Action::ReadStreams(room.as_ref().map(RoomName::as_str));
    let remaining = app.authorizer.decide_read(&headers, raw.as_deref(), action)?.remaining();
    let listener =
        app.inner().listeners.clone().try_acquire_owned().map_err(|_| {
            Problem::new(Kind::EventsFull, "every connection for events is taken").retry_after(FULL_RETRY)
        })?;
    let last: Option<u64> = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let (missed, receiver) = match last {
        Some(last) => app.control.events_since(last),
        None => (Vec::new(), app.control.subscribe_events()),
    };
    // The first line makes the browser's `open` event come at once, proxies included.
    let hello = sse::Event::default().comment("listening").retry(RECONNECT);
    let wanted = move |event: &Event| room.as_ref().is_none_or(|room| *room == event.room);
    let past: Vec<_> = missed.iter().filter(|event| wanted(event)).map(render).collect();
    let live = BroadcastStream::new(receiver).filter_map(move |event| {
        std::future::ready(match event {
            Ok(event) => wanted(&event).then(|| render(&event)),
            Err(_) => Some(sse::Event::default().event("events:missed").data("{}")),
        })
    });
    let events = stream::iter([hello]).chain(stream::iter(past)).chain(live);
    let shutdown = app.shutdown.clone().cancelled_owned();
    let over = async move {
        tokio::select! {
            () = shutdown => {}
            () = token_ends(remaining) => {}
        }
    };
    let events = until(events, over, listener);
    let body = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // nginx would hold events back otherwise.
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), "no");
    Ok(([(CACHE_CONTROL, "no-store"), unbuffered], body).into_response())
}

async fn token_ends(remaining: Option<Duration>) {
    match remaining {
        Some(remaining) => tokio::time::sleep(remaining).await,
        None => std::future::pending().await,
    }
}

/// Ends the stream when `over` is done, and holds `guard` as long as it lasts.
fn until<G>(
    events: impl Stream<Item = sse::Event>,
    over: impl Future<Output = ()>,
    guard: G,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    events.take_until(over).map(move |event| {
        let _held = &guard;
        Ok(event)
    })
}

fn render(event: &Arc<Event>) -> sse::Event {
    let mut data = event.data.clone();
    if let Some(object) = data.as_object_mut() {
        object.insert("at".into(), event.at.to_string().into());
    }
    sse::Event::default().id(event.id.to_string()).event(event.name).data(data.to_string())
}
