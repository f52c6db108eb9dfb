//! The operator: what a `StreamSession` asks for becomes one pod, what belongs to it, and a status that tells the truth.
//!
//! `plan` decides and knows no client, no clock and no randomness: `(session, settings, observed, random) -> actions`.
//! `reconcile` is the shell around it: it looks up, carries out, and is the only code that talks to the API server and
//! to media servers.

#![forbid(unsafe_code)]

pub mod args;
pub mod election;
pub mod error;
pub mod http;
pub mod metrics;
pub mod plan;
pub mod readiness;
pub mod reconcile;
pub mod release;
pub mod run;
