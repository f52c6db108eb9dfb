//! `media-client`: a headless camera, a headless viewer, and a probe. Logs go to standard error (`RUST_LOG`).

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use media_client::cli::{Cli, run};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    ExitCode::from(run(Cli::parse()).await)
}
