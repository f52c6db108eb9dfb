//! The program: reads the command line, sets up the log, and hands over to the library.

#![forbid(unsafe_code)]

use operator::args::{Invocation, LogFormat};
use operator::error::StartError;
use operator::reconcile::Clients;
use operator::release::release;
use operator::run::run;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Wrong use or wrong configuration.
const MISCONFIGURED: u8 = 2;
/// Failed while running.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let invocation = Invocation::parse();
    log(invocation.log_format());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&StartError::Runtime(error)),
    };
    let result = runtime.block_on(async {
        let clients = Clients::infer().await?;
        match invocation {
            Invocation::Run(args) => run(*args, clients).await,
            Invocation::Release(args) => release(&args, clients).await,
        }
    });
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn log(format: LogFormat) {
    // What kube's client tells at each failure is told here once, with what was being done.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_client=off,kube_runtime=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            builder.with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()).init();
        }
        LogFormat::Json => builder.json().init(),
    }
}

fn fail(error: &StartError) -> ExitCode {
    // Nothing can be done when stderr is gone.
    let _ = writeln!(std::io::stderr(), "operator: {error}");
    ExitCode::from(if error.is_configuration() { MISCONFIGURED } else { FAILED })
}
