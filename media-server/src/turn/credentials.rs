//! Time-limited credentials (draft-uberti-behave-turn-rest-00 §2.2): the relay can check them without being told of them.
//!
//! The user name is `EXPIRY:ID`, the credential the base64 of HMAC-SHA1 over it, keyed with the shared secret. The relay
//! counts allocations by the ID, so each session gets one of its own, which is good for nothing else and tells nothing.

use super::secret::{SharedSecret, SharedSecretError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use ring::hmac;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// There is no secret to make them from.
    #[error(transparent)]
    Secret(#[from] SharedSecretError),
    /// The system gave no random bytes, or its clock is before 1970.
    #[error("the system's clock or its random numbers cannot be used")]
    System,
}

/// What one client is given.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `EXPIRY:ID`; EXPIRY in seconds since 1970.
    pub username: String,
    /// Base64.
    pub credential: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// New credentials that are good from `now` for `ttl`, with the secret in `folder` as it is now.
pub fn issue(folder: &Path, ttl: Duration, now: SystemTime) -> Result<Credentials, IssueError> {
    let secret = SharedSecret::read(folder)?;
    let expiry = (now + ttl).duration_since(UNIX_EPOCH).map_err(|_| IssueError::System)?;
    let mut id = [0; 8];
    OsRng.try_fill_bytes(&mut id).map_err(|_| IssueError::System)?;
    Ok(signed(secret.to_issue(now).expose(), format!("{}:{:016x}", expiry.as_secs(), u64::from_be_bytes(id))))
}

fn signed(secret: &[u8], username: String) -> Credentials {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let credential = STANDARD.encode(hmac::sign(&key, username.as_bytes()));
    Credentials { username, credential }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credential_is_the_hmac_of_the_user_name() {
        // printf '%s' '1433895918:user' | openssl dgst -sha1 -hmac north -binary | base64
        let credentials = signed(b"north", "1433895918:user".to_owned());
        assert_eq!(credentials.credential, "/gk4t5tUc08OpM3NjrVjHSFVNmY=");
    }

    #[test]
    fn each_session_has_an_id_of_its_own_and_the_expiry_is_its_first_part() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "north").unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let make = || issue(folder.path(), Duration::from_secs(3600), now).unwrap();
        let (one, two) = (make(), make());
        assert_ne!(one, two);
        for credentials in [one, two] {
            let (expiry, id) = credentials.username.split_once(':').unwrap();
            assert_eq!((expiry, id.len()), ("1700003600", 16));
            assert_eq!(signed(b"north", credentials.username.clone()), credentials);
            assert!(!format!("{credentials:?}").contains(&credentials.credential));
        }
    }

    #[test]
    fn a_secret_that_changes_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let make = || issue(folder.path(), Duration::from_secs(60), SystemTime::now());
        assert!(make().unwrap_err().to_string().contains(path.to_str().unwrap()));
        for secret in ["north", "south"] {
            std::fs::write(&path, secret).unwrap();
            let credentials = make().unwrap();
            assert_eq!(signed(secret.as_bytes(), credentials.username.clone()), credentials);
        }
    }
}
