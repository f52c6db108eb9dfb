//! `media-server recordings`: lists, checks, exports and prunes.

use clap::Args as ClapArgs;
use std::io::Write as _;
use std::process::ExitCode;

/// Flags of `media-server recordings`.
#[derive(Clone, Debug, ClapArgs)]
pub struct RecordingsArgs {}

/// Does what was asked for.
pub fn run(_args: &RecordingsArgs) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "media-server recordings: not in this version");
    ExitCode::FAILURE
}
