//! The operator: what a `StreamSession` asks for becomes one pod, what belongs to it, and a status that tells the truth.
//!
//! `plan` decides and knows no client, no clock and no randomness: `(session, settings, observed, random) -> actions`.

#![forbid(unsafe_code)]

pub mod plan;
