//! The TURN relay (RFC 8656) beside the server: coturn, configured, watched and ended by this program as its parent.
//!
//! `media-server relay` is process 1 of the relay's container, whose image has coturn and nothing of ours: `media-server
//! install` puts this program there. It writes the configuration, which reaches one address only and is closed by
//! default; keeps the secrets in a database that coturn asks at each authentication, so that they change without a
//! restart; has renewed certificates read again; starts coturn anew when it dies; and passes the end on. It relays
//! nothing itself, and no secret stands in an argument, in the environment or in the log.

mod args;
mod certificate;
mod configuration;
mod error;
mod install;
mod program;
mod supervisor;
mod userdb;

pub use args::{InstallArgs, RelayArgs};
pub use error::RelayError;

use crate::args::LogFormat;
use std::io::Write as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Runs a relay until it is told to stop, or until it dies too often; then with the relay's own exit code.
pub fn run(args: &RelayArgs) -> ExitCode {
    log(args.log_format);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => return fail("relay", &RelayError::System(source)),
    };
    match runtime.block_on(supervisor::supervise(args)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail("relay", &error),
    }
}

/// Copies this program into a folder.
pub fn install(args: &InstallArgs) -> ExitCode {
    match install::install(&args.folder) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => fail("install", &error),
    }
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

fn fail(command: &str, error: &RelayError) -> ExitCode {
    // Nothing can be done when stderr is gone.
    let _ = writeln!(std::io::stderr(), "media-server {command}: {error}");
    ExitCode::from(error.exit_code())
}
