//! What a valid spec may ask for and this version does not do.
//!
//! The media server refuses the same, by name, when it starts (`config` there); here it is said before a pod ends again
//! and again for it. Nothing of such a spec is applied.

use streamsession_api::{AuthMode, DatabaseMode, StreamSessionSpec};

/// What to write instead, for each field that asks for too much.
pub(crate) fn unsupported(spec: &StreamSessionSpec) -> Vec<&'static str> {
    let mut found = Vec::new();
    if spec.database.mode == DatabaseMode::Postgres {
        found.push(
            "spec.database.mode Postgres is not in this version: write mode: SQLite and remove spec.database.urlSecretRef",
        );
    }
    if spec.auth.mode == AuthMode::Callback {
        found.push("spec.auth.mode Callback is not in this version: write mode: JWT and remove spec.auth.callback");
    }
    if spec.auth.jwks.is_some() {
        found.push(
            "spec.auth.jwks is not in this version: remove it, and name the secret that tokens are signed with (HS256) in spec.auth.secretRef, or have one made without",
        );
    }
    found
}
