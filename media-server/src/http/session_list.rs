//! `/sessions`: the WHIP and WHEP sessions that have not ended, by ids that are no secret.
//!
//! A token for the room lists them. Without the scope publish or admin it sees the identity of its sessions alone, and ends no
//! others.

use super::app::App;
use super::paging;
use super::refusals::Refused;
use super::streams::identity_to_principal;
use crate::auth::Action;
use crate::control::{Principal, RoomName, SessionInfo, SessionQuery};
use crate::problem::{Kind, Problem};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/sessions", get(list)).route("/sessions/{id}", delete(end))
}

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionPage {
    /// Newest first.
    sessions: Vec<SessionInfo>,
    /// The value of `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which sessions to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only this room. Needed when the token is not for all rooms.
    room: Option<String>,
    /// 1 to 500; 100 when absent.
    limit: Option<usize>,
    /// The id of the last session of the page before.
    before: Option<String>,
}

/// Lists the sessions that have not ended, newest first.
#[utoipa::path(get, path = "/sessions", tag = "Sessions", params(ListQuery),
    responses((status = 200, description = "A page of sessions", body = SessionPage),
        (status = 400, description = "A parameter is wrong"),
        Refused))]
async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Result<Json<SessionPage>, Problem> {
    let room = query.room.as_deref().map(RoomName::parse).transpose()?;
    let (who, manages) = caller(&app, &headers, room.as_ref())?;
    let limit = paging::limit(query.limit)?;
    let before = paging::before(query.before.as_deref(), session_id, "session")?;
    let mut sessions = app.control.sessions(&SessionQuery { room, limit, before });
    if !manages {
        for session in &mut sessions {
            session.subject.take_if(|subject| *subject != who.subject);
        }
    }
    let next = paging::next(&sessions, limit, |session| &session.id);
    Ok(Json(SessionPage { sessions, next }))
}

/// Ends a session: one's own, one of a stream of one's own with the scope publish, or any with the scope admin.
#[utoipa::path(delete, path = "/sessions/{id}", tag = "Sessions", params(("id" = String, Path, description = "The session's id, from the list")),
    responses((status = 204, description = "It has ended, and its slot is free"),
        (status = 403, description = "Not with this token, or the session of another"),
        Refused,
        (status = 404, description = "No such session")))]
async fn end(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Result<StatusCode, Problem> {
    app.authorizer.check_known(&headers)?;
    let missing = || Problem::new(Kind::SessionNotFound, "no session has this id; GET /sessions lists them");
    let session = app.control.session_by_id(&id).ok_or_else(missing)?;
    let (who, manages) = caller(&app, &headers, Some(&session.room))?;
    app.control.end_session(&id, &who, manages)?;
    tracing::info!(session = id, room = session.room.as_str(), subject = who.subject, "session ended on request");
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the caller, and whether it may manage streams of the room.
fn caller(app: &App, headers: &HeaderMap, room: Option<&RoomName>) -> Result<(Principal, bool), Problem> {
    let seen = app.authorizer.decide(headers, Action::ReadStreams(room.map(RoomName::as_str)))?;
    let manages = seen.admin
        || room.is_some_and(|room| app.authorizer.decide(headers, Action::ManageStream(room.as_str())).is_ok());
    Ok((identity_to_principal(seen), manages))
}

/// Ids are UUIDs.
fn session_id(text: &str) -> Option<String> {
    uuid::Uuid::try_parse(text).is_ok().then(|| text.to_owned())
}
