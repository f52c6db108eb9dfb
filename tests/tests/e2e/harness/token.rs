//! Bearer tokens, signed as the server's owner would.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the server under test is given.
pub(crate) const SECRET: &str = "a-secret-of-the-tests-that-is-long-enough";

/// A token for an hour.
pub(crate) fn token(subject: &str, scope: &str, room: &str) -> String {
    let hour = SystemTime::now() + Duration::from_secs(3600);
    let expires = hour.duration_since(UNIX_EPOCH).unwrap().as_secs();
    signed(SECRET, &json!({ "sub": subject, "scope": scope, "room": room, "exp": expires }))
}

/// Any claims, signed with any secret.
pub(crate) fn signed(secret: &str, claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}
