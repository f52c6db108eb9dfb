//! The whole server, as it is shipped: the release binary as a process of its own, real sockets, real files.
//!
//! Each test starts its own server on free ports and in a folder of its own, and ends only processes that it started.
//! Tests run one after the other, whatever the runner is told, because they measure; what they measured goes to stderr.
//! `cargo build --release -p media-server -p media-client` comes first; `MEDIA_SERVER` and `MEDIA_CLIENT` name other
//! binaries. ffmpeg makes clips and judges recordings. The tests of a lossy network and of a full disk make network
//! namespaces and mounts, so they need root.

// The lint's allowance for tests covers test functions, not what they share.
#![allow(clippy::unwrap_used)]

mod access;
mod admin;
mod archive;
mod backlog;
mod cameras;
mod caps;
mod cleanup;
mod crash;
mod demo;
mod disk;
mod harness;
mod hostile;
mod joins;
mod keyframes;
mod kills;
mod loss;
mod lost_disk;
mod moving;
mod narrow;
mod networks;
mod recording;
mod refusals;
mod relay;
mod relay_place;
mod seeks;
mod shutdown;
mod store;
mod takeover;
mod turns;
