//! Why a relay did not start, or was given up.

use crate::turn::SharedSecretError;
use std::io;
use std::path::PathBuf;

/// Failures of `media-server relay` and `media-server install`.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// There is no secret.
    #[error(transparent)]
    Secret(#[from] SharedSecretError),
    /// What the relay needs while it runs cannot be written.
    #[error("cannot write {}: {source}; make --state-dir a folder that can be written", path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database of secrets cannot be written.
    #[error("cannot write the secrets into {}: {source}; make --state-dir a folder that can be written", path.display())]
    Userdb {
        /// Which.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// The flags contradict each other.
    #[error("--min-port {first} is above --max-port {last}: write the lower one first")]
    Ports {
        /// First.
        first: u16,
        /// Last.
        last: u16,
    },
    /// The relay's program cannot be run.
    #[error("cannot run {program:?}: {source}; name coturn's turnserver behind --, or install it")]
    Program {
        /// As named.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// This program cannot be copied.
    #[error("cannot copy this program to {}: {source}; name a folder that can be written", path.display())]
    Install {
        /// Where to.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Signals, time or processes cannot be had.
    #[error("the system refused: {0}")]
    System(io::Error),
}

impl RelayError {
    /// 2 for what the person who started it can mend, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            RelayError::System(_) => 1,
            _ => 2,
        }
    }
}
