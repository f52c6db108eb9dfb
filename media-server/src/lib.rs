//! The media server: one process that takes cameras in by WHIP, lets people watch by WHEP, and records.
//!
//! Planes: `net` moves media on threads of its own; everything else runs on tokio and talks to `net` by channels, so
//! a slow HTTP client cannot slow a packet.

pub mod args;
pub mod auth;
pub mod cli;
pub mod config;
pub mod control;
mod demo;
pub mod drain;
pub mod http;
pub mod linger;
mod lock;
pub mod metrics;
pub mod net;
pub mod objects;
pub mod pages;
pub mod problem;
pub mod recording;
pub mod relay;
pub mod retention;
pub mod server;
pub mod session;
pub mod status;
pub mod store;
pub mod token;
pub mod turn;
pub mod upload;
