//! The server's side of a TURN relay (RFC 8656): the credentials that clients are given, and whether the relay answers.
//!
//! Nothing here relays. The relay is another process, which knows the same secret; [`crate::relay`] runs and configures it.

mod credentials;
mod health;
mod secret;

pub use credentials::{Credentials, IssueError, issue};
pub use health::watch;
pub use secret::{SharedSecret, SharedSecretError};

/// The port of the relay in the pod, for UDP and TCP (RFC 8656 §3.1).
pub const PORT: u16 = 3478;
