//! Whether the operator can do its work, and if not, why: what `/readyz` tells.
//!
//! It can when each cache has been filled once, and when the API server has said within the last minute that it serves
//! the StreamSessions which this program knows. That is asked, not assumed: a watch that is silent looks the same
//! whether nothing happens or nobody is there.
//!
//! One that stands by while another leads is ready too, as long as it sees the lease: it could take over, and an upgrade
//! that goes from one to the next must not wait for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long an answer of the API server counts.
const FRESH: Duration = Duration::from_secs(60);

/// What is known. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Per cache ("Pod in cameras"): `None` once it was filled, else why not.
    caches: BTreeMap<String, Option<String>>,
    /// Whether all caches are named.
    complete: bool,
    served: Option<Served>,
    /// While another leads, or nobody yet.
    standby: Option<Standby>,
}

#[derive(Debug)]
struct Standby {
    /// When the lease was last seen.
    seen: Option<Instant>,
    /// Who leads by it.
    leader: Option<String>,
    /// Why it was not seen.
    why: String,
}

#[derive(Debug)]
struct Served {
    answer: Result<(), String>,
    at: Instant,
}

impl Readiness {
    /// Names a cache that has to be filled.
    pub fn expect(&self, cache: &str) {
        let mut state = self.lock();
        state.caches.entry(cache.to_owned()).or_insert_with(|| Some("the first list has not come yet".to_owned()));
    }

    /// All caches are named.
    pub fn expect_no_more(&self) {
        self.lock().complete = true;
    }

    /// A cache was filled.
    pub fn filled(&self, cache: &str) {
        if let Some(missing) = self.lock().caches.get_mut(cache) {
            *missing = None;
        }
    }

    /// A watch failed. Of interest as long as its cache was never filled.
    pub fn failed(&self, cache: &str, why: &str) {
        if let Some(Some(missing)) = self.lock().caches.get_mut(cache) {
            why.clone_into(missing);
        }
    }

    /// What the API server said of the StreamSession resource: served as this program knows it, or what is wrong.
    pub fn served(&self, answer: Result<(), String>, now: Instant) {
        self.lock().served = Some(Served { answer, at: now });
    }

    /// This process takes part in an election, and does not lead yet.
    pub fn stands_by(&self) {
        let why = "it has not been looked at yet".to_owned();
        self.lock().standby = Some(Standby { seen: None, leader: None, why });
    }

    /// Who leads by the lease; `None` when nobody does.
    pub fn lease_seen(&self, leader: Option<&str>, now: Instant) {
        if let Some(standby) = &mut self.lock().standby {
            (standby.seen, standby.leader) = (Some(now), leader.map(str::to_owned));
        }
    }

    /// The lease cannot be read or written. Of interest while this process stands by.
    pub fn lease_failed(&self, why: &str) {
        if let Some(standby) = &mut self.lock().standby {
            why.clone_into(&mut standby.why);
        }
    }

    /// This process leads: from now on it is ready when it can do its work.
    pub fn leads(&self) {
        self.lock().standby = None;
    }

    /// While this process stands by: what it says of that.
    pub fn standing_by(&self) -> Option<String> {
        let state = self.lock();
        let leader = state.standby.as_ref()?.leader.as_deref();
        Some(
            leader.map_or_else(
                || "it stands by; nobody leads".to_owned(),
                |leader| format!("it stands by; {leader} leads"),
            ),
        )
    }

    /// What is missing, one line each; nothing when the operator is ready.
    pub fn missing(&self, now: Instant) -> Vec<String> {
        let state = self.lock();
        if let Some(Standby { seen, why, .. }) = &state.standby {
            return match seen {
                None => vec![format!("lease: {why}")],
                Some(at) if now.saturating_duration_since(*at) > FRESH => {
                    let silent = now.saturating_duration_since(*at).as_secs();
                    vec![format!("lease: not seen for {silent} s; {why}")]
                }
                Some(_) => Vec::new(),
            };
        }
        let mut missing = Vec::new();
        match &state.served {
            None => missing.push("StreamSession: the API server has not been asked yet".to_owned()),
            Some(Served { answer: Err(why), .. }) => missing.push(format!("StreamSession: {why}")),
            Some(Served { at, .. }) if now.saturating_duration_since(*at) > FRESH => missing.push(format!(
                "API server: no answer for {} s; is it up, and does a NetworkPolicy let this pod reach it?",
                now.saturating_duration_since(*at).as_secs()
            )),
            Some(_) => {}
        }
        if !state.complete {
            missing.push("caches: still being set up".to_owned());
        }
        missing.extend(state.caches.iter().filter_map(|(cache, why)| Some(format!("{cache}: {}", why.as_ref()?))));
        missing
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(readiness: &Readiness, now: Instant) -> String {
        readiness.missing(now).join("\n")
    }

    #[test]
    fn ready_means_every_cache_filled_and_the_resource_served() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        assert!(told(&readiness, now).contains("not been asked"));
        readiness.expect("Pod");
        readiness.expect("Service");
        readiness.served(Ok(()), now);
        assert!(told(&readiness, now).contains("still being set up"));
        readiness.expect_no_more();
        readiness.filled("Pod");
        assert_eq!(told(&readiness, now), "Service: the first list has not come yet");
        readiness.filled("Service");
        assert_eq!(told(&readiness, now), "");
    }

    #[test]
    fn a_watch_that_is_refused_says_why_until_its_cache_is_filled() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        readiness.expect("Pod");
        readiness.expect_no_more();
        readiness.served(Ok(()), now);
        readiness.failed("Pod", "pods is forbidden");
        assert_eq!(told(&readiness, now), "Pod: pods is forbidden");
        readiness.filled("Pod");
        readiness.failed("Pod", "connection reset");
        assert_eq!(told(&readiness, now), "", "what was filled once is followed again by itself");
    }

    #[test]
    fn a_resource_that_is_not_served_and_an_api_server_that_is_silent_are_told() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        readiness.expect_no_more();
        readiness.served(Err("not served in version v1alpha1".to_owned()), now);
        assert!(told(&readiness, now).contains("v1alpha1"));
        readiness.served(Ok(()), now);
        assert_eq!(told(&readiness, now + Duration::from_secs(59)), "");
        assert!(told(&readiness, now + Duration::from_secs(90)).contains("no answer for 90 s"));
    }

    #[test]
    fn who_stands_by_is_ready_while_it_sees_the_lease_and_needs_no_cache() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        readiness.stands_by();
        assert_eq!(told(&readiness, now), "lease: it has not been looked at yet");
        readiness.lease_failed("leases is forbidden");
        assert_eq!(told(&readiness, now), "lease: leases is forbidden");
        readiness.lease_seen(Some("operator-0"), now);
        assert_eq!(told(&readiness, now + Duration::from_secs(60)), "");
        assert_eq!(readiness.standing_by().as_deref(), Some("it stands by; operator-0 leads"));
        readiness.lease_failed("etcd is away");
        assert_eq!(told(&readiness, now + Duration::from_secs(90)), "lease: not seen for 90 s; etcd is away");
        readiness.leads();
        assert_eq!(readiness.standing_by(), None);
        assert!(told(&readiness, now).contains("still being set up"), "now it has work to do");
    }
}
