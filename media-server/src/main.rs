//! The program: reads the command line, sets up the log, and hands over to the library.
//!
//! What a person or a script is to read goes to stdout; the log goes to stderr.

#![forbid(unsafe_code)]

use clap::Parser;
use media_server::args::{Args, Command, LogFormat, ServeArgs, TokenArgs, probe_moved, write_completions, write_man};
use media_server::config::{Environment, load};
use media_server::server;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Wrong use or wrong configuration.
const MISCONFIGURED: u8 = 2;
/// Failed while running.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let args = Args::parse();
    match args.command {
        None => serve(&args.serve),
        Some(Command::Probe { args }) => refuse(MISCONFIGURED, &probe_moved(&args)),
        Some(Command::Token(args)) => token(&args),
        Some(Command::Recordings(args)) => media_server::cli::recordings::run(&args),
        Some(Command::Relay(args)) => media_server::relay::run(&args),
        Some(Command::Install(args)) => media_server::relay::install(&args),
        Some(Command::Linger(args)) => media_server::linger::linger(&args),
        Some(Command::Completions { shell }) => {
            write_completions(shell, &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Some(Command::Man) => match write_man(&mut std::io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(FAILED, &error),
        },
    }
}

fn serve(args: &ServeArgs) -> ExitCode {
    let config = match load(args, &Environment::of_process()) {
        Ok(config) => config,
        Err(error) => return fail(MISCONFIGURED, &error),
    };
    log(config.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("control").build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &error),
    };
    match runtime.block_on(server::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_configuration() => fail(MISCONFIGURED, &error),
        Err(error) => fail(FAILED, &error),
    }
}

fn token(args: &TokenArgs) -> ExitCode {
    match media_server::token::make(args, &Environment::of_process(), jiff::Timestamp::now()) {
        Ok(minted) => {
            // Data to stdout, talk to stderr; nothing can be done when either is gone.
            let _ = writeln!(std::io::stderr(), "{}", minted.about);
            let _ = writeln!(std::io::stdout(), "{}", minted.token);
            ExitCode::SUCCESS
        }
        Err(error) => fail(MISCONFIGURED, &error),
    }
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn,dimpl=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            builder.with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()).init()
        }
        LogFormat::Json => builder.json().init(),
    }
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    refuse(code, &error.to_string())
}

fn refuse(code: u8, message: &str) -> ExitCode {
    // Nothing can be done when stderr is gone.
    let _ = writeln!(std::io::stderr(), "media-server: {message}");
    ExitCode::from(code)
}
