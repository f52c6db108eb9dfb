//! Clients of the API server: one for calls, one for watches, one for the lease.
//!
//! kube's own defaults wait without end for an answer and try again up to fifteen times, POST included. Here a call has
//! ten seconds and one try: what failed is tried again by the next pass, which looks at the world anew first. A watch
//! may be silent for as long as the server was asked to hold it open, and a little more. The lease has connections of its
//! own, so that no other call is in its way.

use crate::error::{StartError, explain};
use kube::client::ClientBuilder;
use kube::{Client, Config};
use std::time::Duration;

/// Where a pod finds the namespace of its service account.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// For a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For each read of an answer to a call.
const ANSWER: Duration = Duration::from_secs(10);
/// For each read of an answer about the lease: a leader has to try more than once before its time is over.
const LEASE_ANSWER: Duration = Duration::from_secs(3);
/// Seconds for which a watch is asked to be held open: a connection that is dead is noticed after this, at the latest.
pub(super) const WATCH_SECONDS: u32 = 120;
/// For each read of a watch: longer than it is held open.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 20);

/// How to reach the API server.
#[derive(Clone)]
pub struct Clients {
    /// For calls.
    pub calls: Client,
    /// For watches and their lists.
    pub watches: Client,
    /// For the lease of an election.
    pub lease: Client,
    /// The namespace of the pod's service account; `None` outside a cluster.
    pub namespace: Option<String>,
}

impl Clients {
    /// By the service account of the pod, or by the kubeconfig. Connects when first used.
    pub async fn infer() -> Result<Clients, StartError> {
        // Other crates of a build may bring another provider to rustls, which then refuses to choose.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = Config::infer().await.map_err(|error| StartError::NoCluster(error.to_string()))?;
        let namespace = std::fs::read_to_string(NAMESPACE_FILE).ok().map(|text| text.trim().to_owned());
        Ok(Clients {
            calls: client(config.clone(), ANSWER)?,
            watches: client(config.clone(), SILENCE)?,
            lease: client(config, LEASE_ANSWER)?,
            namespace,
        })
    }
}

fn client(mut config: Config, silence: Duration) -> Result<Client, StartError> {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(silence);
    config.write_timeout = Some(ANSWER);
    // Else the time for which a connection lay idle in the pool counts as the server's.
    config.reset_reader_on_write = true;
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config).map_err(|error| StartError::NoCluster(explain(&error)))?;
    Ok(builder.build())
}
