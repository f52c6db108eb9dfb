//! Faults for an operator that runs for real, and what judges it: a layer around its client that fails or aborts at a chosen
//! write (`abort`), a proxy in front of the API server that lies and goes silent by a seed (`proxy`), and the audit log of
//! the API server as the oracle (`audit`).
//!
//! Nothing here knows what the operator does; it sees requests and answers. The ideas are those of Sieve (a crash at each
//! write, and views that are old or lack something), Acto (the state afterwards is that of a run without faults) and Anvil
//! (whatever happened, once it ends the state converges); none of them can be run against this operator as it is.

pub mod abort;
pub mod audit;
pub mod proxy;
pub mod storm;

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The environment variable in which `operator-under-faults` finds its [`Faults`], as JSON. Without it, it is the operator.
pub const VARIABLE: &str = "OPERATOR_FAULTS";

/// What goes wrong with one operator process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// At one of its writes.
    pub at: Option<abort::At>,
    /// A file to which a line of JSON is added for each write ([`abort::Written`]).
    pub journal: Option<PathBuf>,
    /// Between it and the API server.
    pub proxy: Option<Proxied>,
}

/// A proxy in the operator's process, which the operator's own kubeconfig names as its API server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proxied {
    /// Where it listens: loopback.
    pub listen: SocketAddr,
    /// The kubeconfig by which the API server is reached.
    pub kubeconfig: PathBuf,
    /// Of every decision.
    pub seed: u64,
    /// How often what goes wrong.
    pub rates: storm::Rates,
}
