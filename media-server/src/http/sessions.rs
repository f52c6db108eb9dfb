//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): endpoints at `/whip/{room}` and `/whep/{room}`, sessions below.
//!
//! GET is 2xx without content, POST of an offer gives 201 with answer, `Location` and a strong `ETag`; PATCH trickles
//! or restarts ICE; DELETE ends. The server never declines with a counter-offer (WHEP 4.3.2): what the publisher
//! sends is known, so an offer can be answered or cannot. PATCH and DELETE take the token that started the session after its
//! expiry too.

mod answers;

use self::answers::{RecvonlyAnswer, RestartAnswer, SendonlyAnswer};
use super::app::App;
use super::body::{ACCEPT_PATCH, ACCEPT_POST, SDP_LIMIT, read_text};
use super::cors::preflight;
use super::ice;
use super::notices;
use super::refusals::{OfferRefused, PatchRefused, SessionRefused};
use super::streams::identity_to_principal;
use crate::auth::{Action, AuthError, TokenError};
use crate::control::{Established, Patched, Principal, Role, RoomName, SessionKey};
use crate::problem::{Kind, Problem};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH, LINK, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch};
use serde::Deserialize;
use utoipa::IntoParams;

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

pub(super) fn routes() -> Router<App> {
    let whip = get(whip_endpoint).post(whip_post).options(endpoint_options);
    let whep = get(whep_endpoint).post(whep_post).options(endpoint_options);
    let publisher = patch(whip_patch).delete(whip_delete).options(session_options);
    let viewer = patch(whep_patch).delete(whep_delete).options(session_options);
    // Clients that join URLs leave a slash at the end.
    Router::new()
        .route("/whip/{room}", whip.clone())
        .route("/whip/{room}/", whip)
        .route("/whip/{room}/{key}", publisher.clone())
        .route("/whip/{room}/{key}/", publisher)
        .route("/whep/{room}", whep.clone())
        .route("/whep/{room}/", whep)
        .route("/whep/{room}/{key}", viewer.clone())
        .route("/whep/{room}/{key}/", viewer)
}

/// What names a session in its URL.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct SessionPath {
    /// The room
    pub(super) room: String,
    /// From Location
    pub(super) key: String,
}

/// Says that a WHIP endpoint is here.
#[utoipa::path(get, path = "/whip/{room}", tag = "WHIP", params(("room" = String, Path, description = "The room")),
    responses((status = 204, description = "There is an endpoint here; POST an offer to publish")), security(()))]
async fn whip_endpoint(Path(room): Path<String>) -> Result<StatusCode, Problem> {
    RoomName::parse(&room)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says that a WHEP endpoint is here; HEAD also says what it takes.
#[utoipa::path(get, path = "/whep/{room}", tag = "WHEP", params(("room" = String, Path, description = "The room")),
    responses((status = 200, description = "There is an endpoint here; POST an offer to watch")), security(()))]
async fn whep_endpoint(Path(room): Path<String>) -> Result<Response, Problem> {
    RoomName::parse(&room)?;
    Ok((StatusCode::OK, [(CONTENT_TYPE, SDP)]).into_response())
}

/// Publishes into a room.
#[utoipa::path(post, path = "/whip/{room}", tag = "WHIP", params(("room" = String, Path, description = "The room")),
    request_body(content = String, content_type = "application/sdp", description = "An SDP offer, at most 64 KiB"),
    responses(RecvonlyAnswer, (status = 409, description = "The room has a publisher"), OfferRefused))]
async fn whip_post(state: State<App>, room: Path<String>, request: Request) -> Result<Response, Problem> {
    establish(state, room, Role::Publisher, request).await
}

/// Watches a room.
#[utoipa::path(post, path = "/whep/{room}", tag = "WHEP", params(("room" = String, Path, description = "The room")),
    request_body(content = String, content_type = "application/sdp", description = "An SDP offer, at most 64 KiB"),
    responses(SendonlyAnswer, (status = 409, description = "Nobody publishes here now; see Retry-After"), OfferRefused))]
async fn whep_post(state: State<App>, room: Path<String>, request: Request) -> Result<Response, Problem> {
    establish(state, room, Role::Subscriber, request).await
}

async fn establish(
    State(app): State<App>,
    Path(room): Path<String>,
    role: Role,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let room = RoomName::parse(&room)?;
    let who = authorize(&app, request.headers(), &room, role)?;
    let offer = read_text(request, SDP, SDP_LIMIT).await?;
    let session = match role {
        Role::Publisher => app.control.publish(&room, &who, &offer).await?,
        Role::Subscriber => app.control.subscribe(&room, &who, &offer).await?,
    };
    Ok(created(&app, &room, session))
}

fn created(app: &App, room: &RoomName, session: Established) -> Response {
    let location = format!("/{}/{room}/{}", endpoint(session.role), session.key.as_str());
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    for (name, text) in [(LOCATION, &location), (ETAG, &session.etag)] {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    }
    for link in app.session.turn().iter().flat_map(ice::links) {
        headers.append(LINK, link);
    }
    if let Some(link) = notices::link(&location).filter(|_| session.role == Role::Subscriber) {
        headers.append(LINK, link);
    }
    (StatusCode::CREATED, headers, session.answer).into_response()
}

/// Trickles candidates of a publisher or restarts its ICE. The token that started the session does after its expiry too.
#[utoipa::path(patch, path = "/whip/{room}/{key}", tag = "WHIP",
    params(SessionPath, ("If-Match" = Option<String>, Header, description = "The ETag, or * to restart ICE; may be left out to trickle")),
    request_body(content = String, content_type = "application/trickle-ice-sdpfrag"),
    responses(RestartAnswer, (status = 204, description = "Candidates, which this server does not need"), PatchRefused))]
async fn whip_patch(state: State<App>, path: Path<SessionPath>, request: Request) -> Result<Response, Problem> {
    change(state, path, Role::Publisher, request).await
}

/// Trickles candidates of a viewer or restarts its ICE. The token that started the session does after its expiry too.
#[utoipa::path(patch, path = "/whep/{room}/{key}", tag = "WHEP",
    params(SessionPath, ("If-Match" = Option<String>, Header, description = "The ETag, or * to restart ICE; may be left out to trickle")),
    request_body(content = String, content_type = "application/trickle-ice-sdpfrag"),
    responses(RestartAnswer, (status = 204, description = "Candidates, which this server does not need"), PatchRefused))]
async fn whep_patch(state: State<App>, path: Path<SessionPath>, request: Request) -> Result<Response, Problem> {
    change(state, path, Role::Subscriber, request).await
}

async fn change(
    State(app): State<App>,
    Path(SessionPath { room, key }): Path<SessionPath>,
    role: Role,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let room = RoomName::parse(&room)?;
    let (who, key) = authorize_session(&app, request.headers(), &room, role, &key)?;
    let if_match = if_match(request.headers())?;
    let body = read_text(request, FRAGMENT, SDP_LIMIT).await?;
    match app.control.patch(&room, role, &key, &who, if_match.as_deref(), &body).await? {
        Patched::NoContent => Ok(StatusCode::NO_CONTENT.into_response()),
        Patched::Restarted { fragment, etag } => {
            Ok((StatusCode::OK, [(CONTENT_TYPE, FRAGMENT), (ETAG, etag.as_str())], fragment).into_response())
        }
    }
}

/// The field's value; several lines of it are one list (RFC 9110 §5.3).
fn if_match(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let lines = headers.get_all(IF_MATCH).iter().map(HeaderValue::to_str).collect::<Result<Vec<_>, _>>();
    let lines = lines.map_err(|_| Problem::new(Kind::BadRequest, "If-Match is not an entity tag"))?;
    Ok((!lines.is_empty()).then(|| lines.join(", ")))
}

/// Ends a publisher's session. The token that started it does after its expiry too.
#[utoipa::path(delete, path = "/whip/{room}/{key}", tag = "WHIP",
    params(SessionPath),
    responses((status = 200, description = "It has ended, and its slot is free"), SessionRefused))]
async fn whip_delete(state: State<App>, path: Path<SessionPath>, headers: HeaderMap) -> Result<StatusCode, Problem> {
    end(state, path, Role::Publisher, headers).await
}

/// Ends a viewer's session. The token that started it does after its expiry too.
#[utoipa::path(delete, path = "/whep/{room}/{key}", tag = "WHEP",
    params(SessionPath),
    responses((status = 200, description = "It has ended, and its slot is free"), SessionRefused))]
async fn whep_delete(state: State<App>, path: Path<SessionPath>, headers: HeaderMap) -> Result<StatusCode, Problem> {
    end(state, path, Role::Subscriber, headers).await
}

/// Entity tags do not matter here (RFC 9725 §4.2).
async fn end(
    State(app): State<App>,
    Path(SessionPath { room, key }): Path<SessionPath>,
    role: Role,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let room = RoomName::parse(&room)?;
    let (who, key) = authorize_session(&app, &headers, &room, role, &key)?;
    app.control.delete(&room, role, &key, &who).await?;
    Ok(StatusCode::OK)
}

async fn endpoint_options() -> Response {
    preflight("GET, HEAD, POST, OPTIONS", (ACCEPT_POST, SDP))
}

async fn session_options() -> Response {
    preflight("PATCH, DELETE, OPTIONS", (ACCEPT_PATCH, FRAGMENT))
}

fn authorize(app: &App, headers: &HeaderMap, room: &RoomName, role: Role) -> Result<Principal, Problem> {
    Ok(identity_to_principal(app.authorizer.decide(headers, action_of(room, role))?))
}

/// Authorizes a change of the session with this key. The token that started the session does after its expiry too: clients
/// have no way to renew it, and a session must survive a change of networks. It must still be signed by a key that is
/// valid, and it starts nothing new.
pub(super) fn authorize_session(
    app: &App,
    headers: &HeaderMap,
    room: &RoomName,
    role: Role,
    key: &str,
) -> Result<(Principal, SessionKey), Problem> {
    let action = action_of(room, role);
    let refused = match app.authorizer.decide(headers, action) {
        Ok(identity) => return Ok((identity_to_principal(identity), session_key(key)?)),
        Err(refused) => refused,
    };
    let creator = || {
        let (token, key) = (app.authorizer.expired_token(headers, action)?, SessionKey::parse(key)?);
        Some((app.control.creator(room, role, &key, &token)?, key))
    };
    match refused {
        AuthError::Invalid(TokenError::Expired) => creator().ok_or_else(|| refused.into()),
        refused => Err(refused.into()),
    }
}

fn action_of(room: &RoomName, role: Role) -> Action<'_> {
    match role {
        Role::Publisher => Action::Publish(room.as_str()),
        Role::Subscriber => Action::Subscribe(room.as_str()),
    }
}

pub(super) fn session_key(text: &str) -> Result<SessionKey, Problem> {
    SessionKey::parse(text).ok_or_else(|| Problem::new(Kind::SessionNotFound, "no session has such a key"))
}

fn endpoint(role: Role) -> &'static str {
    match role {
        Role::Publisher => "whip",
        Role::Subscriber => "whep",
    }
}
