//! Signs tokens: those that `media-server token` prints, and the demo's own.
//!
//! Claims as [`super::Verifier`] reads them; HS256, as it asks for.

use super::{Scope, Secret};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use std::time::Duration;

/// What a token is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Who brings it. Sessions belong to it, and it may take its own place in a room.
    pub subject: String,
    /// The account that streams count for.
    pub account: Option<String>,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Where; `*` is every room. Empty is every room for the scope `admin`, and none for the others.
    pub rooms: Vec<String>,
    /// As the server asks for.
    pub issuer: Option<String>,
    /// As the server asks for.
    pub audience: Option<String>,
    /// For how long it is good.
    pub lifetime: Duration,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<Rooms<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    iat: i64,
    exp: i64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Rooms<'a> {
    One(&'a str),
    Many(&'a [String]),
}

/// Signs `grant`; `now` is in seconds of Unix time.
pub fn mint(secret: &Secret, grant: &Grant, now: i64) -> Result<String, jsonwebtoken::errors::Error> {
    let words: Vec<&str> = grant.scopes.iter().map(|scope| scope.name()).collect();
    let claims = Claims {
        sub: &grant.subject,
        scope: words.join(" "),
        room: match grant.rooms.as_slice() {
            [] => None,
            [one] => Some(Rooms::One(one)),
            many => Some(Rooms::Many(many)),
        },
        account: grant.account.as_deref(),
        iss: grant.issuer.as_deref(),
        aud: grant.audience.as_deref(),
        iat: now,
        exp: now.saturating_add_unsigned(grant.lifetime.as_secs()),
    };
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.expose()))
}
