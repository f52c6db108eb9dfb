//! What the tests of the whole server share: a lean camera and a lean viewer that fit by the hundred into one process, and
//! the load test that compares servers by them.
//!
//! `peer`, `camera`, `viewer`, `reception` and `stream` are sans-IO, so the same clients stand in simulated networks
//! (tests/tests/shard_sim.rs) and on real sockets (`crowd`).

pub mod camera;
pub mod crowd;
pub mod faults;
pub mod http;
pub mod load;
pub mod nightly;
pub mod peer;
pub mod reception;
pub mod samples;
pub mod sdp;
pub mod source;
pub mod specs;
pub mod stream;
pub mod sys;
pub mod turn;
pub mod viewer;
