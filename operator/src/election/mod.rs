//! Which of several operators works: the one that holds the Lease. The others stand by: they neither watch nor write.
//!
//! [`elector`] decides, in a state machine of its own; this shell carries its requests to the API server, each with a
//! short time of its own, and tells log, metrics and readiness what comes of it. A leader that cannot renew its lease ends
//! before others may take it; the process then ends as well, since a start is the only clean slate.

pub mod elector;

use crate::error::{StartError, explain};
use crate::metrics::Metrics;
use crate::readiness::Readiness;
use elector::{Elector, Next, Times};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use std::future::Future;
use std::time::{Duration, Instant};

/// For one request: three of them fit into the time in which a leader has to renew its lease.
const CALL: Duration = Duration::from_secs(3);
/// Tries to give the lease back: a write, and once more after a look when it was not known what the lease says.
const RELEASES: usize = 3;

/// One operator's part in the election.
pub struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
    elector: Elector,
    metrics: Metrics,
    readiness: Readiness,
    /// Who led when it was last told.
    told: Option<String>,
    /// What went wrong last.
    trouble: Option<String>,
}

impl Election {
    /// For the lease of this name, under a name that no other process has.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        metrics: Metrics,
        readiness: Readiness,
    ) -> Election {
        readiness.stands_by();
        Election {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            elector: Elector::new(name, identity, Times::default()),
            metrics,
            readiness,
            told: None,
            trouble: None,
        }
    }

    /// Stands by until this process leads.
    pub async fn campaign(&mut self) {
        while !self.elector.leads(now()) {
            self.step().await;
        }
        tracing::info!(lease = self.name, identity = self.identity, "this operator leads");
        self.metrics.leads(true);
        self.readiness.leads();
    }

    /// Renews the lease for as long as that succeeds; gives why it is over.
    pub async fn hold(&mut self) -> StartError {
        while let Some(deadline) = self.elector.deadline().filter(|deadline| now() < *deadline) {
            // Whatever a request waits for, nobody may lead beyond this.
            let _ = tokio::time::timeout_at(deadline.into(), self.step()).await;
        }
        self.metrics.leads(false);
        StartError::LeadershipLost(match self.elector.leader() {
            Some(other) if other != self.identity => format!("{other} has the lease {}", self.name),
            _ => format!(
                "the lease {} could not be renewed in time{}",
                self.name,
                self.trouble.as_ref().map(|why| format!("; {why}")).unwrap_or_default()
            ),
        })
    }

    /// Gives the lease back if it is ours, so that another takes it at its next look. Without success it takes as long as
    /// the lease lasts.
    pub async fn release(mut self) {
        self.metrics.leads(false);
        for _ in 0..RELEASES {
            match self.elector.release(Timestamp::now()) {
                Ok(None) => return,
                Ok(Some(lease)) => {
                    if self.write(lease).await {
                        tracing::info!(lease = self.name, "the lease is given back");
                        return;
                    }
                }
                Err(elector::NotCurrent) => self.read().await,
            }
        }
        let why = self.trouble.unwrap_or_default();
        tracing::warn!(lease = self.name, why, "the lease is not given back; others wait until it has run out");
    }

    async fn step(&mut self) {
        match self.elector.poll(now(), Timestamp::now()) {
            Next::Wait(until) => tokio::time::sleep_until(until.into()).await,
            Next::Read => self.read().await,
            Next::Write(lease) => {
                self.write(*lease).await;
            }
        }
    }

    async fn read(&mut self) {
        let sent = now();
        match within("get Lease", self.leases.get_opt(&self.name)).await {
            Ok(lease) => {
                self.elector.handle_read(sent, now(), lease);
                self.tell_leader();
            }
            Err(why) => self.failed(sent, why.text),
        }
    }

    /// Whether it was written.
    async fn write(&mut self, lease: Lease) -> bool {
        let (sent, parameters) = (now(), PostParams::default());
        let written = match lease.metadata.resource_version {
            Some(_) => within("update Lease", self.leases.replace(&self.name, &parameters, &lease)).await,
            None => within("create Lease", self.leases.create(&parameters, &lease)).await,
        };
        match written {
            Ok(lease) => {
                self.elector.handle_written(sent, now(), lease);
                self.tell_leader();
                true
            }
            // Another was faster, which is no trouble; the next look shows who.
            Err(Failure { conflict: true, .. }) => {
                self.elector.handle_failed(sent);
                false
            }
            Err(why) => {
                self.failed(sent, why.text);
                false
            }
        }
    }

    fn failed(&mut self, sent: Instant, why: String) {
        self.elector.handle_failed(sent);
        self.readiness.lease_failed(&why);
        if self.trouble.as_ref() != Some(&why) {
            tracing::warn!(lease = self.name, "{why}; it is tried again");
        }
        self.trouble = Some(why);
    }

    /// After an answer: who leads, if that is news.
    fn tell_leader(&mut self) {
        self.trouble = None;
        let leader = self.elector.leader();
        self.readiness.lease_seen(leader, now());
        let Some(leader) = leader.filter(|leader| self.told.as_deref() != Some(*leader)) else { return };
        if leader != self.identity {
            tracing::info!(lease = self.name, leader, "this operator stands by");
        }
        if self.told.is_some() {
            self.metrics.leader_changed();
        }
        self.told = Some(leader.to_owned());
    }
}

/// Of tokio's clock, which tests move.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

struct Failure {
    text: String,
    conflict: bool,
}

async fn within<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            Err(Failure { text: format!("{what}: {}", explain(&error)), conflict: crate::error::code(&error) == 409 })
        }
        Err(_) => Err(Failure { text: format!("{what}: no answer within {} s", CALL.as_secs()), conflict: false }),
    }
}

#[cfg(test)]
mod tests;
