//! `/events`: what happens, as server-sent events (the HTML standard, §9.2).
//!
//! `Last-Event-ID` resumes after that event, across restarts of the server. Events that are not kept any more are
//! replaced by one `events:missed`; the listener should then list the streams. It ends with the listener's token.

use super::app::App;
use super::refusals::Refused;
use crate::auth::Action;
use crate::control::{Event, Heard, RoomName};
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
use serde_json::json;
use std::convert::Infallible;
use std::time::Duration;
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
/// `trouble:started` and `trouble:ended`. `events:missed` replaces events that are not kept any more: `first` is the id of the
/// first one available, `count` their number when it is known.
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
    // The first line makes the browser's `open` event come at once, proxies included.
    let hello = sse::Event::default().comment("listening").retry(RECONNECT);
    let wanted = move |event: &Event| room.as_ref().is_none_or(|room| *room == event.room);
    let heard = stream::unfold(app.control.listen(last), async |mut listener| Some((listener.next().await?, listener)));
    let events = heard.filter_map(move |heard| {
        std::future::ready(match heard {
            Heard::Event(event) => wanted(&event).then(|| render(&event)),
            Heard::Missed { first, count } => Some(missed(first, count)),
        })
    });
    let events = stream::iter([hello]).chain(events);
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

/// Renders the event that replaces deleted ones. A listener that resumes with its id continues behind them.
fn missed(first: u64, count: Option<u64>) -> sse::Event {
    let data = match count {
        Some(count) => json!({"first": first.to_string(), "count": count}),
        None => json!({"first": first.to_string()}),
    };
    sse::Event::default().id(first.saturating_sub(1).to_string()).event("events:missed").data(data.to_string())
}

fn render(event: &Event) -> sse::Event {
    let mut data = event.data.clone();
    if let Some(object) = data.as_object_mut() {
        object.insert("at".into(), event.at.to_string().into());
    }
    sse::Event::default().id(event.id.to_string()).event(event.name).data(data.to_string())
}
