//! The operator as it is shipped, with faults between it and the API server: what goes wrong stands in `OPERATOR_FAULTS`
//! (streamsession_tests::faults), and lines on standard input change it while it runs: `storm`, `calm`, `freeze`, `thaw`.
//!
//! At the end of its input it ends at once, so that none is left behind when its test is gone. It writes nothing to
//! standard output.

use clap::Parser;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use operator::args::Args;
use operator::reconcile::Clients;
use std::error::Error;
use std::fs::OpenOptions;
use std::io::{self, BufRead};
use streamsession_tests::faults::abort::Writes;
use streamsession_tests::faults::proxy::Proxy;
use streamsession_tests::faults::{Faults, Proxied, VARIABLE};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_client=off,kube_runtime=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    let faults: Faults = match std::env::var(VARIABLE) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(_) => Faults::default(),
    };
    let mut clients = Clients::infer().await?;
    let proxy = match faults.proxy {
        Some(proxied) => Some(behind(proxied).await?),
        None => None,
    };
    let journal = faults.journal.map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?;
    clients.calls = Writes::new(faults.at, journal).around(clients.calls);
    std::thread::spawn(move || obey(proxy));
    operator::run::run(args, clients).await?;
    Ok(())
}

/// Starts the proxy that the operator's kubeconfig names.
async fn behind(proxied: Proxied) -> Result<Proxy, Box<dyn Error>> {
    let config = Kubeconfig::read_from(&proxied.kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    // What gives up, and when, is the operator's business.
    config.read_timeout = None;
    config.write_timeout = None;
    config.default_retry = false;
    let upstream: Client = ClientBuilder::try_from(config)?.build();
    let proxy = Proxy::new(upstream, proxied.seed, proxied.rates);
    let listener = TcpListener::bind(proxied.listen).await?;
    tracing::info!(seed = proxied.seed, rates = ?proxied.rates, listen = %proxied.listen, "between operator and API server");
    tokio::spawn(proxy.clone().serve(listener));
    Ok(proxy)
}

fn obey(proxy: Option<Proxy>) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        tracing::info!(order = line);
        match (line.as_str(), &proxy) {
            ("storm", Some(proxy)) => proxy.storm(true),
            ("calm", Some(proxy)) => proxy.storm(false),
            ("freeze", Some(proxy)) => proxy.freeze(),
            ("thaw", Some(proxy)) => proxy.thaw(),
            _ => tracing::warn!(line, "no such order"),
        }
    }
    std::process::exit(0);
}
