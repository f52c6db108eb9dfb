//! Who may do what: one place that decides every request.
//!
//! Tokens are JSON Web Tokens (RFC 7519) as bearer tokens (RFC 6750), signed with HS256 and nothing else: the
//! algorithm is pinned by this server and never taken from the token (RFC 8725 §3.1). `scope` says what may be done,
//! `room` where. It does not know HTTP statuses; `http::error` maps [`AuthError`] to them.

mod admin;
mod digest;
pub mod key;
mod mint;
mod reload;
mod token;

pub use admin::{AdminTokenError, AdminTokens};
pub use digest::TokenDigest;
pub use mint::{Grant, mint};
pub use reload::follow;
pub use token::{Claims, Scope, TokenError, Verifier};

#[cfg(test)]
pub(crate) use token::test_tokens;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use key::KeyError;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A secret: shown by nothing, not even `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Secret {
        Secret(bytes.into())
    }

    /// The bytes, for the code that signs or verifies.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How requests are authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Anybody may do anything. A bearer token, if there is one, is not checked; it only tells one client from another.
    Open,
    /// JSON Web Tokens by HS256.
    Jwt {
        /// The key that signs and verifies; at least 32 bytes (RFC 7518 §3.2).
        secret: Secret,
        /// When set, the `iss` claim must be this.
        issuer: Option<String>,
        /// When set, the `aud` claim must be or contain this.
        audience: Option<String>,
    },
}

/// How requests are to be authenticated, before the secret is read or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthPlan {
    /// As [`AuthMode::Open`].
    Open,
    /// As [`AuthMode::Jwt`].
    Jwt {
        /// Where the secret comes from.
        key: KeySource,
        /// When set, the `iss` claim must be this.
        issuer: Option<String>,
        /// When set, the `aud` claim must be or contain this.
        audience: Option<String>,
    },
}

/// Where the secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Somebody gave it.
    Given(Secret),
    /// Somebody gave it in this file, which may change.
    File(PathBuf, Secret),
    /// Nobody did: it stands in this file, which the first start makes.
    Made(PathBuf),
}

impl AuthPlan {
    /// Reads the secret, or makes it. The caller has locked the folder.
    pub fn settle(&self) -> Result<AuthMode, KeyError> {
        let AuthPlan::Jwt { key, issuer, audience } = self else { return Ok(AuthMode::Open) };
        let secret = match key {
            KeySource::Given(secret) | KeySource::File(_, secret) => secret.clone(),
            KeySource::Made(path) => key::read_or_make(path)?,
        };
        Ok(AuthMode::Jwt { secret, issuer: issuer.clone(), audience: audience.clone() })
    }

    /// The file that the secret stands in.
    pub fn file(&self) -> Option<&Path> {
        match self {
            AuthPlan::Jwt { key: KeySource::File(path, _) | KeySource::Made(path), .. } => Some(path),
            AuthPlan::Jwt { key: KeySource::Given(_), .. } | AuthPlan::Open => None,
        }
    }
}

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Send media into a room, or change or end such a session: scope `publish`.
    Publish(&'a str),
    /// Watch a room, or change or end such a session: scope `subscribe`.
    Subscribe(&'a str),
    /// Create or end a stream of a room: scope `publish`.
    ManageStream(&'a str),
    /// See the streams and events of one room, or of all: any scope.
    ReadStreams(Option<&'a str>),
    /// See and play recordings of one room, or list those of all: scope `subscribe`.
    ReadRecordings(Option<&'a str>),
    /// Remove what others recorded: scope `admin`.
    Admin,
    /// See and change what the server allows: the management token where there is one, else scope `admin`.
    Manage,
}

impl<'a> Action<'a> {
    fn scopes(self) -> &'static [Scope] {
        match self {
            Action::Publish(_) | Action::ManageStream(_) => &[Scope::Publish],
            Action::Subscribe(_) | Action::ReadRecordings(_) => &[Scope::Subscribe],
            Action::ReadStreams(_) => &[Scope::Publish, Scope::Subscribe],
            Action::Admin | Action::Manage => &[Scope::Admin],
        }
    }

    /// `None`: needs every room.
    fn room(self) -> Option<&'a str> {
        match self {
            Action::Publish(room) | Action::Subscribe(room) | Action::ManageStream(room) => Some(room),
            Action::ReadStreams(room) | Action::ReadRecordings(room) => room,
            Action::Admin | Action::Manage => None,
        }
    }
}

/// Who asks, once it is known that they may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The `sub` claim; without one, and in open mode, a digest of the bearer token. `None`: nobody in particular.
    pub subject: Option<String>,
    /// The `account` claim, for the cap on streams per account.
    pub account: Option<String>,
    /// May do everything, for everybody.
    pub admin: bool,
    /// Seconds of Unix time from which the token is refused; `None` in open mode.
    pub expires: Option<u64>,
    /// Of the bearer token, if there was one.
    pub token: Option<TokenDigest>,
}

impl Identity {
    /// How long the token is good from now on; `None` in open mode.
    pub fn remaining(&self) -> Option<Duration> {
        let expiry = UNIX_EPOCH.checked_add(Duration::from_secs(self.expires?));
        // What lies beyond the clock's range never comes.
        expiry.map(|expiry| expiry.duration_since(SystemTime::now()).unwrap_or_default())
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no token.
    #[error("the request carries no bearer token")]
    Missing,
    /// The token proves nothing.
    #[error("the bearer token is refused: {0}")]
    Invalid(#[from] TokenError),
    /// The token is good but not for this.
    #[error("the token's scope lacks {}", .needed.name())]
    Scope {
        /// One that would do.
        needed: Scope,
    },
    /// The token is good but not for here.
    #[error("the token's room claim does not include {}", .room.as_deref().unwrap_or("every room; name one with ?room="))]
    Room {
        /// The room; `None` when all are asked for.
        room: Option<String>,
    },
}

/// How long tokens by a secret that was replaced are still good.
const OVERLAP: Duration = Duration::from_secs(60);

/// Decides every request. A cheap handle.
#[derive(Clone)]
pub struct Authorizer {
    /// `None` in open mode.
    keys: Option<Arc<RwLock<Keys>>>,
    /// When there are some, they alone open what [`Action::Manage`] stands for.
    admin: Option<AdminTokens>,
}

/// What tokens are verified with.
struct Keys {
    secret: Secret,
    issuer: Option<String>,
    audience: Option<String>,
    current: Verifier,
    /// The one before, and until when it is good.
    former: Option<(Verifier, Instant)>,
}

impl Keys {
    fn verify(&self, token: &str, now: Instant) -> Result<Claims, TokenError> {
        self.with_either(now, |verifier| verifier.verify(token))
    }

    /// As [`Keys::verify`], whatever the token's expiry.
    fn verify_expired(&self, token: &str, now: Instant) -> Result<Claims, TokenError> {
        self.with_either(now, |verifier| verifier.verify_expired(token))
    }

    fn with_either(
        &self,
        now: Instant,
        verify: impl Fn(&Verifier) -> Result<Claims, TokenError>,
    ) -> Result<Claims, TokenError> {
        match (verify(&self.current), &self.former) {
            (Err(TokenError::Signature), Some((former, until))) if now < *until => verify(former),
            (verified, _) => verified,
        }
    }
}

impl Authorizer {
    /// One for this mode.
    pub fn new(mode: &AuthMode) -> Authorizer {
        let keys = match mode {
            AuthMode::Open => None,
            AuthMode::Jwt { secret, issuer, audience } => Some(Arc::new(RwLock::new(Keys {
                secret: secret.clone(),
                issuer: issuer.clone(),
                audience: audience.clone(),
                current: Verifier::new(secret, issuer.as_deref(), audience.as_deref()),
                former: None,
            }))),
        };
        Authorizer { keys, admin: None }
    }

    /// With tokens that alone open the management routes, in open mode too.
    pub fn with_admin_tokens(self, admin: Option<AdminTokens>) -> Authorizer {
        Authorizer { admin, ..self }
    }

    /// True when anybody may do anything.
    pub fn is_open(&self) -> bool {
        self.keys.is_none()
    }

    /// Tokens by `secret` are good from now on, and those by the one before for another minute. `false` when it is the same.
    pub fn replace_secret(&self, secret: &Secret, now: Instant) -> bool {
        let Some(keys) = &self.keys else { return false };
        let mut keys = keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.secret == *secret {
            return false;
        }
        let new = Verifier::new(secret, keys.issuer.as_deref(), keys.audience.as_deref());
        let former = std::mem::replace(&mut keys.current, new);
        keys.former = Some((former, now + OVERLAP));
        keys.secret = secret.clone();
        true
    }

    /// What tokens must name from now on. Nothing in open mode.
    pub fn set_claims(&self, issuer: Option<&str>, audience: Option<&str>) {
        let Some(keys) = &self.keys else { return };
        let mut keys = keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.issuer.as_deref() != issuer || keys.audience.as_deref() != audience {
            keys.current = Verifier::new(&keys.secret, issuer, audience);
            keys.former = None;
            (keys.issuer, keys.audience) = (issuer.map(str::to_owned), audience.map(str::to_owned));
        }
    }

    /// `None` in open mode.
    fn keys(&self) -> Option<RwLockReadGuard<'_, Keys>> {
        // Keys are replaced whole.
        self.keys.as_ref().map(|keys| keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decides by the `Authorization` header.
    pub fn decide(&self, headers: &HeaderMap, action: Action<'_>) -> Result<Identity, AuthError> {
        self.decide_token(bearer(headers)?, action)
    }

    /// Decides by the `Authorization` header or, where a browser cannot set one (an `EventSource`, a `<video>`, a
    /// link), by the `access_token` query parameter of RFC 6750 §2.3. Only for GET requests that change nothing.
    pub fn decide_read(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        action: Action<'_>,
    ) -> Result<Identity, AuthError> {
        let token = match bearer(headers)? {
            Some(token) => Some(token),
            None => query.and_then(access_token),
        };
        self.decide_token(token, action)
    }

    /// Only that the token is a good one, for routes that learn their room later; [`Authorizer::decide`] must follow.
    pub fn check_known(&self, headers: &HeaderMap) -> Result<(), AuthError> {
        match self.keys() {
            None => Ok(()),
            Some(keys) => {
                let token = bearer(headers)?.filter(|token| !token.is_empty()).ok_or(AuthError::Missing)?;
                keys.verify(token, Instant::now()).map(|_| ()).map_err(AuthError::from)
            }
        }
    }

    /// True when the header or the `access_token` query parameter holds a good token, whatever it allows; in open mode
    /// always.
    pub fn knows(&self, headers: &HeaderMap, query: Option<&str>) -> bool {
        let Some(keys) = self.keys() else { return true };
        let token = bearer(headers).ok().flatten().or_else(|| query.and_then(access_token));
        token.is_some_and(|token| keys.verify(token, Instant::now()).is_ok())
    }

    fn decide_token(&self, token: Option<&str>, action: Action<'_>) -> Result<Identity, AuthError> {
        let token = token.filter(|token| !token.is_empty());
        if let (Action::Manage, Some(admin)) = (action, &self.admin) {
            return match token {
                None => Err(AuthError::Missing),
                Some(token) if admin.accepts(token) => {
                    Ok(Identity { subject: None, account: None, admin: true, expires: None, token: None })
                }
                Some(_) => Err(TokenError::NotManagement.into()),
            };
        }
        let Some(keys) = self.keys() else {
            let token = token.map(TokenDigest::of);
            let subject = token.as_ref().map(TokenDigest::pseudonym);
            return Ok(Identity { subject, account: None, admin: true, expires: None, token });
        };
        let token = token.ok_or(AuthError::Missing)?;
        let claims = keys.verify(token, Instant::now())?;
        drop(keys);
        granted(claims, token, action)
    }

    /// Returns the digest of the `Authorization` header's token when its expiry alone refuses it for `action`. It is for
    /// the caller to decide whether that token may still do something, such as end the session that it started.
    pub fn expired_token(&self, headers: &HeaderMap, action: Action<'_>) -> Option<TokenDigest> {
        let token = bearer(headers).ok()??;
        let claims = self.keys()?.verify_expired(token, Instant::now()).ok()?;
        granted(claims, token, action).ok()?.token
    }
}

/// Decides by the claims of a token that was verified.
fn granted(claims: Claims, token: &str, action: Action<'_>) -> Result<Identity, AuthError> {
    let admin = claims.scopes.contains(&Scope::Admin);
    if !admin && !action.scopes().iter().any(|scope| claims.scopes.contains(scope)) {
        return Err(AuthError::Scope { needed: action.scopes()[0] });
    }
    if !claims.grants_room(action.room()) {
        return Err(AuthError::Room { room: action.room().map(str::to_owned) });
    }
    let token = TokenDigest::of(token);
    // Without a name the identity is the token's digest, so that its bearer can change and end its own sessions.
    let subject = claims.subject.or_else(|| Some(token.pseudonym()));
    Ok(Identity { subject, account: claims.account, admin, expires: Some(claims.expires), token: Some(token) })
}

/// The token of `Authorization: Bearer …`; the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, AuthError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(TokenError::Malformed.into());
    }
    let value = value.to_str().map_err(|_| TokenError::Malformed)?;
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        None if value.trim().is_empty() || value.eq_ignore_ascii_case("bearer") => Ok(None),
        _ => Err(TokenError::Scheme.into()),
    }
}

fn access_token(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("access_token="))
}

#[cfg(test)]
mod tests;
