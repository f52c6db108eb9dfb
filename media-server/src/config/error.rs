//! Why the server does not start: for people, so each names the thing and the remedy.

use crate::auth::AdminTokenError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use streamsession_api::{Violation, YamlError};

/// A configuration that is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that makes no sense.
    #[error("{field} is {value:?}: {remedy}")]
    Value {
        /// The flag, variable or field.
        field: String,
        /// As it was given.
        value: String,
        /// What would be right.
        remedy: String,
    },
    /// A field that only an operator in a cluster can honour.
    #[error("{field} can only be honoured in a Kubernetes cluster: {remedy}")]
    ClusterOnly {
        /// The path in the document.
        field: String,
        /// What to do here.
        remedy: String,
    },
    /// A field that this version does not honour yet.
    #[error("{field} is not supported by this version: {remedy}")]
    Unsupported {
        /// The path in the document.
        field: String,
        /// What to do instead.
        remedy: String,
    },
    /// Anybody could come in from outside.
    #[error(
        "--http {http} can be reached from other machines, and nothing says who may come in: give a secret for bearer \
         tokens by --jwt-secret-file or MEDIA_JWT_SECRET, or a --session whose auth has mode JWT and no keys (as \
         `spec: {{}}` has), for which a secret is made, or say that everybody may do everything by \
         auth: {{mode: Open, acknowledgeOpen: true}} in the session, or listen on 127.0.0.1"
    )]
    OpenToAll {
        /// Where HTTP would listen.
        http: SocketAddr,
    },
    /// The secret of the session did not reach this process.
    #[error(
        "spec.auth.secretRef names a Secret, and its value did not reach this process: give it by MEDIA_JWT_SECRET \
         (env.valueFrom.secretKeyRef of the container) or mount it and name the file by --jwt-secret-file"
    )]
    NoSecret,
    /// The document cannot be read as a StreamSession. The text begins with file, line and column.
    #[error(transparent)]
    Yaml(Box<YamlError>),
    /// The document can be read and says what cannot be.
    #[error("{place}: {violation}")]
    Violation {
        /// File, line and column.
        place: String,
        /// The first of them.
        violation: Box<Violation>,
    },
    /// There is no token for management.
    #[error("--admin-token-file: {0}; `openssl rand -hex 32` prints a token for such a file")]
    AdminToken(#[from] AdminTokenError),
    /// The management routes would be open to all.
    #[error(
        "--management {management} can be reached from other machines, and nothing says who may manage: give a bearer \
         token by --admin-token-file, or listen on 127.0.0.1"
    )]
    ManagementOpenToAll {
        /// Where they would be.
        management: SocketAddr,
    },
    /// A file cannot be read.
    #[error("{flag} {}: {error}; {remedy}", .path.display())]
    File {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
        /// What would be right.
        remedy: &'static str,
    },
}

impl ConfigError {
    pub(super) fn value(field: &str, value: impl ToString, remedy: impl Into<String>) -> ConfigError {
        ConfigError::Value { field: field.to_owned(), value: value.to_string(), remedy: remedy.into() }
    }

    pub(super) fn cluster_only(field: &str, remedy: &str) -> ConfigError {
        ConfigError::ClusterOnly { field: field.to_owned(), remedy: remedy.to_owned() }
    }

    pub(super) fn unsupported(field: &str, remedy: &str) -> ConfigError {
        ConfigError::Unsupported { field: field.to_owned(), remedy: remedy.to_owned() }
    }
}
