//! What is to be done for a session: a pure function of what is wanted and what was seen.
//!
//! [`plan`] opens no connection, reads no clock and makes no randomness; all of that is an argument. It is
//! level-triggered: it looks at what is, never at what happened, so that a pass may fail anywhere and the next one goes
//! on. At rest a plan writes nothing.
//!
//! Before a plan is made, the caller looks up what [`children`], [`own_secrets`] and [`references`] name, the pod, its
//! node and what the media server says; afterwards it carries the [`Plan`] out in the order of its fields.

pub mod names;
mod observed;
mod outcome;
mod server;
mod settings;

use std::{fmt, time::Duration};

pub use observed::{Observed, OwnSecret, PushRefused, Refusal, SecretSummary, Warning};
pub use outcome::{Apply, Child, Delete, DeletePod, Kind, Note, Plan, Write};
pub use server::{
    ReportedLimits, ReportedRecordings, ReportedStore, ReportedTurn, ReportedUploads, ServerError, ServerReport,
    SessionPush,
};
pub use settings::{Images, Settings};
use streamsession_api::StreamSession;

/// Key of the admin API's token in its Secret.
pub const TOKEN: &str = "token";
/// Key of the token before it, which is taken for a while.
pub const TOKEN_PREVIOUS: &str = "token.previous";

/// Fresh randomness for the secrets of one plan: never the same twice.
#[derive(Clone, Copy)]
pub struct Random(pub [u8; 32]);

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random(..)")
    }
}

/// A Secret that the spec names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its name, in the session's namespace.
    pub name: String,
    /// Keys that it must have.
    pub keys: Vec<String>,
    /// Field of the spec that names it, such as `spec.auth.secretRef`.
    pub field: &'static str,
}

/// What may exist of a session, except Secrets and the pod: what to look up before a plan is made.
pub fn children(_session: &StreamSession) -> Vec<Child> {
    Vec::new()
}

/// Names of the Secrets that the operator makes for a session: what to look up, by name, before a plan is made.
pub fn own_secrets(_session: &StreamSession) -> Vec<String> {
    Vec::new()
}

/// Secrets that the spec names: what to look up, by name, before a plan is made.
pub fn references(_session: &StreamSession) -> Vec<Reference> {
    Vec::new()
}

/// What is to be done.
pub fn plan(_session: &StreamSession, _settings: &Settings, _observed: &Observed, _random: Random) -> Plan {
    Plan {
        apply: Vec::new(),
        delete: Vec::new(),
        delete_pod: None,
        push: None,
        status: None,
        events: Vec::new(),
        requeue: Duration::from_secs(10),
    }
}
