//! Why the server does not start, or ends: for people, so each names the thing and the remedy.

use crate::auth::AdminTokenError;
use crate::auth::key::KeyError;
use crate::control::ControlError;
use crate::net::NetError;
use crate::recording::RecordingError;
use crate::store::StoreError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The HTTP port is taken.
    #[error("{address} is in use by another program: stop it, or choose another address with {flag}")]
    HttpInUse {
        /// As asked for.
        address: SocketAddr,
        /// What asked for it.
        flag: &'static str,
    },
    /// The HTTP address cannot be bound.
    #[error("cannot listen on {address}: {source}; {} with {flag}", bind_remedy(source))]
    HttpBind {
        /// As asked for.
        address: SocketAddr,
        /// What asked for it.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A folder cannot be made or written.
    #[error("cannot use the folder {path}: {source}; {remedy}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What would be right.
        remedy: &'static str,
    },
    /// Another server works in it.
    #[error("the folder {path} is in use by another media-server: stop that one, or {remedy}")]
    FolderInUse {
        /// Which.
        path: PathBuf,
        /// What would be right besides.
        remedy: &'static str,
    },
    /// There is no secret for tokens.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no key for media tokens.
    #[error("media tokens: {}", media_tokens_remedy(.0))]
    MediaTokens(KeyError),
    /// There is no token for management.
    #[error(transparent)]
    AdminToken(#[from] AdminTokenError),
    /// Media.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The control plane.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The recording plane.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// Listening failed while running, or signals cannot be had.
    #[error("the server failed: {0}")]
    Io(#[from] io::Error),
}

/// The key's errors name flags of the secret for bearer tokens, which are no remedy here.
fn media_tokens_remedy(error: &KeyError) -> String {
    match error {
        KeyError::Read { path, source } => {
            format!(
                "cannot read {}: {source}; give the server's user permission to read it, or remove it",
                path.display()
            )
        }
        KeyError::Make { path, source } => {
            format!("cannot make {}: {source}; make the data directory writable", path.display())
        }
        KeyError::Short { path, .. } => {
            format!("{} is too short for a key; remove it, and the next start makes a new one", path.display())
        }
    }
}

fn bind_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        // Linux keeps the ports below 1024 for root and those with CAP_NET_BIND_SERVICE.
        io::ErrorKind::PermissionDenied => "name a port above 1023",
        _ => "name an address of this machine",
    }
}

impl ServerError {
    /// What the person who started it can mend: ports, folders.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, ServerError::Io(_) | ServerError::Control(_) | ServerError::Net(NetError::Resources(_)))
    }
}
