//! The operator under faults, on a real cluster: it dies at every write, is lied to, goes blind, is doubled, loses its API
//! server and its own life; sessions and cameras are not to notice, and what is there afterwards is to be what is there
//! without faults.
//!
//! Where the fault is between operator and API server, the operator is a process of this machine (`operator-under-faults`,
//! started where the cluster is reached, with the chart's rights and flags), and that of the chart is away meanwhile;
//! elsewhere it is the chart's. The API server's audit log says what was written. `FAULTS=short` leaves out what takes
//! longest and `FAULTS=whole`, the default, does not; `FAULT_SEEDS=3,17` and `FAULT_OUTAGES=10,300` (seconds) choose.
//! Tests run one after the other; what they measured goes to stderr.

// The lint's allowance for tests covers test functions, not what they share.
#![allow(clippy::unwrap_used)]

#[path = "../cluster/harness/mod.rs"]
mod harness;

mod aborted;
mod blind;
mod chosen;
mod deletions;
mod drain;
mod fuzz;
mod inside;
mod lies;
mod local;
mod objects;
mod oracle;
mod outages;
mod release;
mod rest;
mod restored;
mod scale;
mod stream;
mod twins;
mod used;
