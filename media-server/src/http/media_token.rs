//! Media tokens: for URLs of players that cannot set headers, in place of a bearer token, which can do more and lives longer.
//!
//! A media token reads the files of one recording, or of the recordings of one room, until it expires. It has the form
//! `CLAIMS.TAG`, both base64url; the tag is HMAC-SHA256 (RFC 2104) over the claims, by a key that the server makes itself
//! and keeps in its data directory. Nothing is stored for a token, so nothing fills up; to revoke all, remove the key's file
//! and restart.

use super::app::App;
use super::body::read_json;
use super::refusals::Refused;
use crate::auth::key::{self, KeyError};
use crate::auth::{Action, Secret};
use crate::control::{ControlError, RecordingId, RoomName};
use crate::problem::{Kind, Problem};
use crate::recording::Library;
use crate::store::Recording;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::hmac;
use serde::{Deserialize, Serialize};
use std::path::Path;
use utoipa::ToSchema;

/// Name of the query parameter.
pub(super) const PARAMETER: &str = "media_token=";
/// Name of the key in the data directory.
const FILE_NAME: &str = "media-token.secret";
/// Part of each tag, so that the key signs nothing but media tokens of this form.
const CONTEXT: &[u8] = b"media-token 1\0";
/// Longer texts are not looked at.
const MAX_LENGTH: usize = 512;
/// Seconds, when the request names none.
const DEFAULT_LIFETIME: u64 = 3600;
const MAX_LIFETIME: u64 = 24 * 3600;

/// The route; `recordings` adds the library to it.
pub(super) fn routes() -> Router<App> {
    Router::new().route("/media-tokens", post(create))
}

/// The files that a media token reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The files of one recording.
    Recording(RecordingId),
    /// The files of all recordings of a room.
    Room(RoomName),
}

/// Why a media token reads nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("the media token is malformed, or is not from this server")]
    Forged,
    #[error("the media token has expired; request another one by POST /media-tokens")]
    Expired,
    #[error("the media token is for another recording or room")]
    Elsewhere,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let kind = match refusal {
            Refusal::Forged | Refusal::Expired => Kind::TokenInvalid,
            Refusal::Elsewhere => Kind::MediaTokenElsewhere,
        };
        let problem = Problem::new(kind, refusal.to_string());
        let challenge = "Bearer realm=\"media\", error=\"invalid_token\"";
        match kind {
            Kind::TokenInvalid => problem.header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge)),
            _ => problem,
        }
    }
}

/// Signs and verifies media tokens.
#[derive(Clone)]
pub struct MediaTokens(hmac::Key);

#[derive(Serialize, Deserialize)]
struct Claims {
    #[serde(skip_serializing_if = "Option::is_none")]
    recording: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<String>,
    /// Seconds of Unix time from which it is refused.
    exp: u64,
}

impl MediaTokens {
    /// Reads the key in the data directory, or makes it. The caller has locked the directory.
    pub fn open(data_dir: &Path) -> Result<MediaTokens, KeyError> {
        Ok(MediaTokens::new(&key::read_or_make(&data_dir.join(FILE_NAME))?))
    }

    /// Returns a signer by this key.
    pub fn new(key: &Secret) -> MediaTokens {
        MediaTokens(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// Signs a token that is refused from `expires` on, in seconds of Unix time.
    fn sign(&self, scope: &Scope, expires: u64) -> String {
        let (recording, room) = match scope {
            Scope::Recording(id) => (Some(id.to_string()), None),
            Scope::Room(room) => (None, Some(room.to_string())),
        };
        let claims = serde_json::to_vec(&Claims { recording, room, exp: expires }).unwrap_or_default();
        let tag = hmac::sign(&self.0, &[CONTEXT, &claims].concat());
        format!("{}.{}", URL_SAFE_NO_PAD.encode(claims), URL_SAFE_NO_PAD.encode(tag))
    }

    /// Verifies a token at `now`, in seconds of Unix time; nothing is read from it before its tag is right.
    fn verify(&self, token: &str, now: u64) -> Result<Scope, Refusal> {
        let parts = (token.len() <= MAX_LENGTH).then(|| token.split_once('.')).flatten();
        let (claims, tag) = parts.ok_or(Refusal::Forged)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::Forged);
        let (claims, tag) = (decode(claims)?, decode(tag)?);
        // In constant time.
        hmac::verify(&self.0, &[CONTEXT, &claims].concat(), &tag).map_err(|_| Refusal::Forged)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| Refusal::Forged)?;
        if now >= claims.exp {
            return Err(Refusal::Expired);
        }
        let scope = match (claims.recording, claims.room) {
            (Some(id), None) => RecordingId::parse(&id).map(Scope::Recording),
            (None, Some(room)) => RoomName::parse(&room).ok().map(Scope::Room),
            _ => None,
        };
        scope.ok_or(Refusal::Forged)
    }
}

/// Returns the recording that a request may read by the media token in its query; `None` when it has none, or has an
/// `Authorization` header, which then decides.
pub(super) async fn recording(
    app: &App,
    library: &Library,
    id: &str,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Option<Recording>, Problem> {
    let Some(scope) = scope(app, headers, query)? else { return Ok(None) };
    let missing = || Problem::new(Kind::RecordingNotFound, "no recording has this id");
    let id = RecordingId::parse(id).ok_or_else(missing)?;
    if matches!(&scope, Scope::Recording(granted) if *granted != id) {
        return Err(Refusal::Elsewhere.into());
    }
    let row = library.row(&id).await.map_err(ControlError::from)?.ok_or_else(missing)?;
    match scope {
        Scope::Room(room) if room != row.room => Err(Refusal::Elsewhere.into()),
        _ => Ok(Some(row)),
    }
}

/// Returns whether a request may read a room's recordings by the media token in its query; `false` when it has none, or has
/// an `Authorization` header, which then decides.
pub(super) fn reads_room(
    app: &App,
    room: &RoomName,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<bool, Problem> {
    match scope(app, headers, query)? {
        None => Ok(false),
        Some(Scope::Room(granted)) if granted == *room => Ok(true),
        Some(_) => Err(Refusal::Elsewhere.into()),
    }
}

/// Returns the scope of the media token in the query, unless an `Authorization` header decides.
fn scope(app: &App, headers: &HeaderMap, query: Option<&str>) -> Result<Option<Scope>, Problem> {
    let token = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix(PARAMETER)));
    let token = token.filter(|_| !headers.contains_key(AUTHORIZATION));
    Ok(token.map(|token| app.media_tokens.verify(token, now())).transpose()?)
}

/// The scope of a media token: a recording or a room.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewMediaToken {
    /// The id of a recording; the bearer token must be for its room.
    recording: Option<String>,
    /// A room; the token reads all its recordings.
    room: Option<String>,
    /// 1 to 86400; 3600 when absent. The media token expires with the bearer token at the latest.
    lifetime_seconds: Option<u64>,
}

/// A media token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MediaToken {
    /// For the query of a file's URL: `?media_token=TOKEN`. A playlist passes it on to its segments.
    token: String,
    /// From when on it is refused.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Makes a token for URLs of recorded files: it reads these and nothing else.
#[utoipa::path(post, path = "/media-tokens", tag = "Recordings", request_body = NewMediaToken,
    responses((status = 201, description = "The token", body = MediaToken),
        (status = 400, description = "A field is wrong"),
        Refused,
        (status = 404, description = "No such recording")))]
async fn create(
    State(app): State<App>,
    Extension(library): Extension<Library>,
    request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    app.authorizer.check_known(&headers)?;
    let new: NewMediaToken = read_json(request).await?;
    let (scope, room) = scope_of(&library, &new).await?;
    let bearer = app.authorizer.decide(&headers, Action::ReadRecordings(Some(room.as_str())))?;
    let lifetime = match new.lifetime_seconds.unwrap_or(DEFAULT_LIFETIME) {
        lifetime @ 1..=MAX_LIFETIME => lifetime,
        other => {
            let detail = format!("lifetimeSeconds is {other}; use 1 to {MAX_LIFETIME}");
            return Err(Problem::new(Kind::BadRequest, detail));
        }
    };
    let expires = (now() + lifetime).min(bearer.expires.unwrap_or(u64::MAX));
    let expires_at = i64::try_from(expires).ok().and_then(|expires| Timestamp::from_second(expires).ok());
    let body =
        MediaToken { token: app.media_tokens.sign(&scope, expires), expires_at: expires_at.unwrap_or(Timestamp::MAX) };
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

/// The scope of a request, and the room that a bearer token must be for.
async fn scope_of(library: &Library, new: &NewMediaToken) -> Result<(Scope, RoomName), Problem> {
    match (&new.recording, &new.room) {
        (Some(id), None) => {
            let missing = || Problem::new(Kind::RecordingNotFound, "no recording has this id");
            let id = RecordingId::parse(id).ok_or_else(missing)?;
            let row = library.row(&id).await.map_err(ControlError::from)?.ok_or_else(missing)?;
            Ok((Scope::Recording(id), row.room))
        }
        (None, Some(room)) => {
            let room = RoomName::parse(room)?;
            Ok((Scope::Room(room.clone()), room))
        }
        _ => Err(Problem::new(Kind::BadRequest, "write one of the fields recording and room")),
    }
}

/// Seconds of Unix time.
fn now() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens() -> MediaTokens {
        MediaTokens::new(&Secret::new([7; 32]))
    }

    fn recording() -> Scope {
        Scope::Recording(RecordingId::random())
    }

    #[test]
    fn token_reads_its_scope_until_it_expires() {
        for scope in [recording(), Scope::Room(RoomName::parse("front-door").unwrap())] {
            let token = tokens().sign(&scope, 1000);
            assert_eq!(tokens().verify(&token, 999), Ok(scope));
            assert_eq!(tokens().verify(&token, 1000), Err(Refusal::Expired));
        }
    }

    #[test]
    fn token_of_another_key_is_forged() {
        let token = MediaTokens::new(&Secret::new([8; 32])).sign(&recording(), 1000);
        assert_eq!(tokens().verify(&token, 0), Err(Refusal::Forged));
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let token = tokens().sign(&recording(), 1000);
        for at in 0..token.len() {
            for other in ["A", "z", "."] {
                let mut changed = token.clone();
                changed.replace_range(at..=at, other);
                // Strict base64 has one text for each value, so no other text has the same bytes.
                assert!(changed == token || tokens().verify(&changed, 0) == Err(Refusal::Forged), "{changed}");
            }
        }
    }

    #[test]
    fn key_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let token = MediaTokens::open(folder.path()).unwrap().sign(&recording(), 1000);
        assert!(MediaTokens::open(folder.path()).unwrap().verify(&token, 0).is_ok());
        std::fs::remove_file(folder.path().join(FILE_NAME)).unwrap();
        assert_eq!(MediaTokens::open(folder.path()).unwrap().verify(&token, 0), Err(Refusal::Forged));
    }

    proptest! {
        #[test]
        fn garbage_is_refused(token in "[ -~]{0,80}") {
            prop_assert_eq!(tokens().verify(&token, 0), Err(Refusal::Forged));
        }
    }
}
