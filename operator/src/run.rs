//! The operator as a whole: its parts made and joined, and ended in the right order when a signal says so.
//!
//! With an election it stands by first. Once it leads it renews its lease until the last pass is finished, and gives it
//! back then; when it has lost it, it ends at once and finishes nothing: whatever it had begun, its successor looks at the
//! world anew.

use crate::args::Args;
use crate::election::Election;
use crate::error::StartError;
use crate::http;
use crate::metrics::Metrics;
use crate::plan::{Images, Proxies, Settings};
use crate::readiness::Readiness;
use crate::reconcile::{self, Clients, Options};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::future::{Future, pending};
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// For passes that are under way when the operator is told to end: as long as a pass may take.
const GRACE: Duration = Duration::from_secs(30);

/// Runs until SIGTERM or SIGINT, with these clients of the API server.
pub fn run(args: Args, clients: Clients) -> LocalBoxFuture<'static, Result<(), StartError>> {
    // In a box, so that it is compiled here, once, and not again in each program that runs it.
    run_to_the_end(args, clients).boxed_local()
}

async fn run_to_the_end(args: Args, clients: Clients) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Runtime)?;
    let mut told_to_end = pin!(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    let options = options(&args, &clients);
    let (metrics, readiness) = (Metrics::new(), Readiness::default());
    let election = election(&args, &clients, &options, &metrics, &readiness)?;
    let address = args.runtime.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?;
    // Not ended with the rest: it tells how the end goes.
    tokio::spawn(http::serve(listener, http::router(metrics.clone(), readiness.clone()), pending()));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespaces = if options.namespaces.is_empty() { "all".to_owned() } else { options.namespaces.join(",") },
        listen = %address,
        "the operator starts"
    );
    let Some(mut election) = election else {
        metrics.leads(true);
        return work(clients, options, metrics, readiness, told_to_end, pending()).await;
    };
    let leads = tokio::select! {
        () = election.campaign() => true,
        () = &mut told_to_end => false,
    };
    if leads {
        work(clients, options, metrics, readiness, told_to_end, election.hold()).await?;
    } else {
        tracing::info!("the operator ends; it stood by");
    }
    election.release().await;
    Ok(())
}

/// Until it is told to end and passes under way are finished, or until it must stop at once.
async fn work(
    clients: Clients,
    options: Options,
    metrics: Metrics,
    readiness: Readiness,
    told_to_end: impl Future<Output = ()>,
    lost: impl Future<Output = StartError>,
) -> Result<(), StartError> {
    let shutdown = CancellationToken::new();
    let mut controller = pin!(reconcile::run(clients, options, metrics, readiness, shutdown.clone()));
    let mut lost = pin!(lost);
    tokio::select! {
        // Dropped with all that it does.
        why = &mut lost => return Err(why),
        ended = &mut controller => return ended,
        () = told_to_end => {}
    }
    tracing::info!("the operator ends; passes under way are finished");
    shutdown.cancel();
    tokio::select! {
        why = lost => Err(why),
        ended = tokio::time::timeout(GRACE, controller) => ended.unwrap_or_else(|_| {
            tracing::warn!("a pass was not finished in time; the next start goes on with it");
            Ok(())
        }),
    }
}

fn election(
    args: &Args,
    clients: &Clients,
    options: &Options,
    metrics: &Metrics,
    readiness: &Readiness,
) -> Result<Option<Election>, StartError> {
    if !args.election.leader_elect {
        return Ok(None);
    }
    let namespace =
        options.settings.operator_namespace.as_deref().ok_or(StartError::NoNamespace { flag: "--leader-elect" })?;
    // Names of pods are unique in their namespace; elsewhere two processes of one host are told apart by their numbers.
    let identity = match &args.scope.pod_name {
        Some(pod) => pod.clone(),
        None => format!("{}_{}", options.instance.as_deref().unwrap_or("operator"), std::process::id()),
    };
    let (name, metrics, readiness) = (&args.election.lease_name, metrics.clone(), readiness.clone());
    Ok(Some(Election::new(clients.lease.clone(), namespace, name, &identity, metrics, readiness)))
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
            proxies: Proxies {
                http: args.scope.store_http_proxy.clone(),
                https: args.scope.store_https_proxy.clone(),
                direct: args.scope.store_no_proxy.clone(),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::testing::{Api, failure};
    use clap::Parser;

    #[tokio::test]
    async fn an_election_without_a_namespace_is_refused_with_the_flag_that_gives_one() {
        let api = Api::new(|_| failure(503, "ServiceUnavailable", "nobody asks it"));
        let [calls, watches, lease] = std::array::from_fn(|_| api.client());
        let clients = Clients { calls, watches, lease, namespace: None };
        let images = ["--media-server-image=m:1", "--coturn-image=c:1", "--minio-image=s:1", "--leader-elect"];
        let args = Args::try_parse_from(["operator"].iter().chain(&images)).unwrap();
        let error = run(args, clients).await.unwrap_err();
        assert!(error.is_configuration(), "{error}");
        let text = error.to_string();
        assert!(text.contains("--leader-elect") && text.contains("--operator-namespace"), "{text}");
        assert!(api.log().is_empty());
    }
}
