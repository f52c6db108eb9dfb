//! The relay beside the server: coturn, configured and looked after by this program.

use clap::Args as ClapArgs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Flags of `media-server relay`.
#[derive(Clone, Debug, ClapArgs)]
pub struct RelayArgs {
    /// Realm of the credentials
    #[arg(long, value_name = "NAME")]
    pub realm: String,
    /// Port for UDP and TCP
    #[arg(long, value_name = "PORT", default_value_t = 3478)]
    pub listen_port: u16,
    /// Port for TLS
    #[arg(long, value_name = "PORT", default_value_t = 5349)]
    pub tls_port: u16,
    /// Folder with tls.crt and tls.key; without both there is no TLS
    #[arg(long, value_name = "FOLDER")]
    pub tls_dir: Option<PathBuf>,
    /// Folder with the files secret and secret.previous
    #[arg(long, value_name = "FOLDER")]
    pub secret_dir: PathBuf,
    /// Folder for what the relay needs while it runs
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: PathBuf,
    /// Address that relays are made on
    #[arg(long, value_name = "ADDRESS")]
    pub relay_address: IpAddr,
    /// Address that may be reached through a relay; repeatable; no other is
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub allow_peer: Vec<IpAddr>,
    /// The relay's program, and flags for it
    #[arg(last = true, value_name = "PROGRAM", default_value = "turnserver")]
    pub program: Vec<String>,
}

/// Flags of `media-server install`.
#[derive(Clone, Debug, ClapArgs)]
pub struct InstallArgs {
    /// Where to
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

/// Runs a relay until it is told to stop.
pub fn run(_args: &RelayArgs) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "media-server relay: not in this version");
    ExitCode::FAILURE
}

/// Copies this program.
pub fn install(_args: &InstallArgs) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "media-server install: not in this version");
    ExitCode::FAILURE
}
