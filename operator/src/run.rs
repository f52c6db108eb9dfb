//! The operator as a whole: its parts made and joined, and ended in the right order when a signal says so.

use crate::args::Args;
use crate::error::StartError;
use crate::http;
use crate::metrics::Metrics;
use crate::plan::{Images, Settings};
use crate::readiness::Readiness;
use crate::reconcile::{self, Clients, Options};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// For passes that are under way when the operator is told to end: as long as a pass may take.
const GRACE: Duration = Duration::from_secs(30);

/// Runs until SIGTERM or SIGINT, with these clients of the API server.
pub async fn run(args: Args, clients: Clients) -> Result<(), StartError> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Runtime)?;
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
