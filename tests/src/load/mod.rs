//! The load test: one camera and N viewers against a server, beside a floor program and Janus on the same machine.
//!
//! What is compared is the CPU time of the server process (all its threads, user and system) over a window in which nobody
//! joins or leaves, divided by the media packets that the viewers got in that window. Absolute times depend on the machine
//! and on its other guests; the ratios of one run depend on them much less.

mod floor;
mod janus;
mod ours;
mod process;
mod report;
mod run;

pub use floor::Floor;
pub use janus::Janus;
pub use ours::Ours;
pub use process::{Process, ProcessError};
pub use report::{Bars, Outcome, table, verdicts};
pub use run::{Joined, Measured, Plan, Subject, measure};

use crate::http::HttpError;
use crate::peer::PeerError;
use crate::sdp::DescriptionError;
use std::io;

/// Why a measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A request.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A description.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// A certificate.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// A server process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A socket or a file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A server did not do what it should, in time.
    #[error("{0}")]
    Server(String),
}
