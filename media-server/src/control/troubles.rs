//! Current trouble of a stream, as the API lists it: conditions that the media plane reports, and recent connections that
//! failed.
//!
//! A condition lasts until the media plane ends it, or its session ends; a session has at most one of each reason. Failed
//! connections are kept for [`FAILURE_KEPT`], at most [`FAILURES_MAX`] a room, the oldest go first.

use super::media::EndReason;
use super::types::{Role, TroubleInfo};
use jiff::Timestamp;
use sfu::parameters::SessionId;
use sfu::shard::trouble::TroubleReason;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// How long a failed connection is listed.
const FAILURE_KEPT: Duration = Duration::from_secs(60);
/// Failed connections listed for a room.
const FAILURES_MAX: usize = 8;
/// The reason of failed connections.
pub(super) const HANDSHAKE_FAILED: &str = "handshake-failed";

/// The trouble of one room.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    current: Vec<Current>,
    failures: VecDeque<(Instant, TroubleInfo)>,
}

#[derive(Debug)]
struct Current {
    session: SessionId,
    reason: TroubleReason,
    info: TroubleInfo,
    _counted: Counted,
}

impl Troubles {
    /// A condition began. Returns how it is listed; `None` when it is listed already.
    pub(super) fn begin(
        &mut self,
        session: SessionId,
        role: Role,
        reason: TroubleReason,
        since: Timestamp,
    ) -> Option<TroubleInfo> {
        if self.current.iter().any(|current| (current.session, current.reason) == (session, reason)) {
            return None;
        }
        let message = reason.message().to_owned();
        let info = TroubleInfo { reason: reason.as_str(), message, since, peer: peer(role) };
        self.current.push(Current { session, reason, info: info.clone(), _counted: Counted::new(reason.as_str()) });
        Some(info)
    }

    /// Conditions of a session are over: one, or all of them when the session has ended.
    pub(super) fn end(&mut self, session: SessionId, reason: Option<TroubleReason>) -> Vec<TroubleInfo> {
        let over =
            |current: &mut Current| current.session == session && reason.is_none_or(|reason| reason == current.reason);
        self.current.extract_if(.., over).map(|current| current.info).collect()
    }

    /// A session ended before it was connected. Returns how it is listed; `None` when it was closed on purpose.
    pub(super) fn fail(&mut self, role: Role, why: &EndReason, at: Instant, since: Timestamp) -> Option<TroubleInfo> {
        let message = match why {
            EndReason::Failed(why) => format!("the connection failed: {why}"),
            EndReason::Timeout => "the connection timed out: check that the UDP port is reachable from the client, \
                                   or configure a TURN relay"
                .to_owned(),
            EndReason::Closed | EndReason::PeerClosed => return None,
        };
        count(HANDSHAKE_FAILED);
        let info = TroubleInfo { reason: HANDSHAKE_FAILED, message, since, peer: peer(role) };
        if self.failures.len() == FAILURES_MAX {
            self.failures.pop_front();
        }
        self.failures.push_back((at, info.clone()));
        Some(info)
    }

    /// Conditions that last, then failures that are recent; each in the order in which they began.
    pub(super) fn list(&self, now: Instant) -> Vec<TroubleInfo> {
        let recent = self.failures.iter().filter(|(at, _)| now.saturating_duration_since(*at) < FAILURE_KEPT);
        self.current.iter().map(|current| &current.info).chain(recent.map(|(_, info)| info)).cloned().collect()
    }
}

fn peer(role: Role) -> &'static str {
    match role {
        Role::Publisher => "publisher",
        Role::Subscriber => "viewer",
    }
}

fn count(reason: &'static str) {
    metrics::counter!("media_server_troubles_started_total", "reason" => reason).increment(1);
}

/// One more in the metrics, until it is dropped.
struct Counted(metrics::Gauge);

impl Counted {
    fn new(reason: &'static str) -> Counted {
        count(reason);
        let gauge = metrics::gauge!("media_server_troubles", "reason" => reason);
        gauge.increment(1.0);
        Counted(gauge)
    }
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counted")
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_documented() {
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        for file in ["runbooks.md", "openapi.json"] {
            let text = std::fs::read_to_string(docs.join(file)).unwrap();
            for name in TroubleReason::ALL.map(TroubleReason::as_str).into_iter().chain([HANDSHAKE_FAILED]) {
                assert!(text.contains(&format!("`{name}`")), "{file} does not list {name}");
            }
        }
    }

    #[test]
    fn failures_are_bounded_and_expire() {
        let (mut troubles, now) = (Troubles::default(), Instant::now());
        for n in 0..FAILURES_MAX + 3 {
            let why = EndReason::Failed(n.to_string());
            assert!(troubles.fail(Role::Subscriber, &why, now, Timestamp::UNIX_EPOCH).is_some());
        }
        let listed = troubles.list(now);
        assert_eq!((listed.len(), listed[0].message.as_str()), (FAILURES_MAX, "the connection failed: 3"));
        assert_eq!(troubles.list(now + FAILURE_KEPT), []);
        assert!(troubles.fail(Role::Subscriber, &EndReason::Closed, now, Timestamp::UNIX_EPOCH).is_none());
    }
}
