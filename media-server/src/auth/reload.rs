//! Reads secrets again when their files change: those that are mounted into a pod change while it runs.
//!
//! Files are looked at every [`EVERY`], by their content: the kubelet swaps symbolic links, and time stamps lie. A file that
//! cannot be read, or is too short to be a secret, changes nothing and is said once.

use super::admin::AdminTokens;
use super::{Authorizer, key};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Follows the files of the authorizer's secrets until `shutdown`.
pub async fn follow(
    authorizer: Authorizer,
    jwt_secret: Option<PathBuf>,
    admin: Option<AdminTokens>,
    shutdown: CancellationToken,
) {
    if jwt_secret.is_none() && admin.is_none() {
        return;
    }
    let mut said = None;
    while shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        let (authorizer, jwt_secret, admin) = (authorizer.clone(), jwt_secret.clone(), admin.clone());
        // Files, even small ones, are not for the runtime's own threads.
        let looked = tokio::task::spawn_blocking(move || {
            let mut troubles = Vec::new();
            if let Some(path) = jwt_secret
                && let Err(trouble) = refresh(&authorizer, &path)
            {
                troubles.push(trouble);
            }
            if let Some(Err(error)) = admin.map(|admin| admin.refresh()) {
                troubles.push(error.to_string());
            }
            troubles.join("; ")
        });
        let trouble = looked.await.ok().filter(|trouble| !trouble.is_empty());
        if let Some(trouble) = trouble.as_ref().filter(|trouble| said.as_ref() != Some(*trouble)) {
            tracing::warn!(trouble, "secrets stay as they were");
        }
        said = trouble;
    }
}

fn refresh(authorizer: &Authorizer, path: &std::path::Path) -> Result<(), String> {
    match key::read(path) {
        Ok(secret) if secret.expose().len() >= key::MIN_SECRET => {
            if authorizer.replace_secret(&secret, Instant::now()) {
                tracing::info!(path = %path.display(), "the secret for tokens has changed");
            }
            Ok(())
        }
        Ok(secret) => Err(format!(
            "the secret for tokens in {} has {} bytes, and HS256 needs at least {}",
            path.display(),
            secret.expose().len(),
            key::MIN_SECRET
        )),
        Err(error) => Err(format!("cannot read the secret for tokens in {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::test_tokens::{SECRET, sign, sign_with};
    use crate::auth::{Action, AuthMode, Secret};
    use axum::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
    use jsonwebtoken::Algorithm;
    use serde_json::json;
    use std::fs;

    #[tokio::test]
    async fn a_changed_file_is_in_force_without_a_restart_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, SECRET).unwrap();
        let authorizer = Authorizer::new(&AuthMode::Jwt { secret: Secret::new(SECRET), issuer: None, audience: None });
        let shutdown = CancellationToken::new();
        let following = tokio::spawn(follow(authorizer.clone(), Some(path.clone()), None, shutdown.clone()));
        let claims = json!({"sub": "a", "exp": 4_000_000_000u64, "scope": "admin"});
        let new = "another-0123456789abcdef0123456789abcdef";
        let good = |token: String| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
            authorizer.decide(&headers, Action::Admin).is_ok()
        };
        let (old_token, new_token) = (sign(claims.clone()), sign_with(Algorithm::HS256, new, claims));
        assert!(good(old_token.clone()) && !good(new_token.clone()));
        fs::write(&path, "short").unwrap();
        fs::write(&path, new).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !good(new_token.clone()) {
            assert!(Instant::now() < deadline, "the new secret is never read");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(good(old_token), "for a minute");
        shutdown.cancel();
        following.await.unwrap();
    }
}
