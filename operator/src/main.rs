//! The program: reads the command line, sets up the log, and hands over to the library.

#![forbid(unsafe_code)]

use clap::Parser;
use operator::args::{Args, LogFormat};
use operator::error::StartError;
use operator::http;
use operator::metrics::Metrics;
use operator::plan::{Images, Settings};
use operator::readiness::Readiness;
use operator::reconcile::{self, Clients, Options};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Wrong use or wrong configuration.
const MISCONFIGURED: u8 = 2;
/// Failed while running.
const FAILED: u8 = 1;
/// For passes that are under way when the operator is told to end: as long as a pass may take.
const GRACE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let args = Args::parse();
    log(args.runtime.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&StartError::Runtime(error)),
    };
    let result = runtime.block_on(run(args));
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn run(args: Args) -> Result<(), StartError> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Runtime)?;
    let clients = Clients::infer().await?;
    let address = args.runtime.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?;
    let (metrics, readiness) = (Metrics::new(), Readiness::default());
    // Not ended with the rest: it tells how the end goes.
    tokio::spawn(http::serve(listener, http::router(metrics.clone(), readiness.clone()), std::future::pending()));
    let options = options(&args, &clients);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespaces = if options.namespaces.is_empty() { "all".to_owned() } else { options.namespaces.join(",") },
        listen = %address,
        "the operator starts"
    );
    let controller = reconcile::run(clients, options, metrics, readiness, shutdown.clone());
    let mut controller = std::pin::pin!(controller);
    tokio::select! {
        ended = &mut controller => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("the operator ends; passes under way are finished");
    shutdown.cancel();
    match tokio::time::timeout(GRACE, controller).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::warn!("a pass was not finished in time; the next start goes on with it");
            Ok(())
        }
    }
}

fn options(args: &Args, clients: &Clients) -> Options {
    Options {
        namespaces: args.scope.namespaces(),
        concurrency: args.scope.concurrency.get(),
        instance: args.scope.pod_name.clone().or_else(|| std::env::var("HOSTNAME").ok()),
        settings: Settings {
            images: Images {
                media_server: args.images.media_server_image.clone(),
                coturn: args.images.coturn_image.clone(),
                minio: args.images.minio_image.clone(),
            },
            pull_policy: Some(args.images.image_pull_policy.as_str().to_owned()),
            pull_secrets: args.images.image_pull_secret.clone(),
            operator_namespace: args.scope.operator_namespace.clone().or_else(|| clients.namespace.clone()),
            rotate_secrets_after: args.scope.rotate_secrets_after.0,
        },
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
