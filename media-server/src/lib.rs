//! The media server: one process that takes cameras in by WHIP, lets people watch by WHEP, and records.
//!
//! Planes: `net` moves media on threads of its own; everything else runs on tokio and talks to `net` by channels, so
//! a slow HTTP client cannot slow a packet.

pub mod control;
pub mod store;
