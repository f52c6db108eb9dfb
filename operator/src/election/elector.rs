//! Who leads: a state machine over a Lease (coordination.k8s.io). Time and what was seen are arguments; it has no clock,
//! no client and no randomness.
//!
//! Rules are those of client-go's leader election. A lease is judged by when WE last saw it change, never by the times
//! that its holder wrote, so that clocks that differ make no second leader; those times are for people. A holder counts
//! from when the write was SENT that last renewed its lease, and ends at the deadline, which is shorter than the time for
//! which others wait. Every write has the resourceVersion of what was seen: of two that want the same lease one is told 409.
//!
//! One rule goes beyond client-go's: a lease that was held and is deleted is free only after the time of its holder.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use std::time::{Duration, Instant};

/// How long what lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How long others wait after a lease has last changed.
    pub lease: Duration,
    /// How long a leader leads after the sending of its last renewal; shorter than `lease`, and what is left of that is
    /// for writes that are on their way.
    pub deadline: Duration,
    /// Between two tries.
    pub retry: Duration,
}

impl Default for Times {
    fn default() -> Times {
        Times { lease: Duration::from_secs(15), deadline: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing, until then.
    Wait(Instant),
    /// Read the lease: [`Elector::handle_read`], or [`Elector::handle_failed`].
    Read,
    /// Write this: create it when it has no resourceVersion, else replace what has that one. [`Elector::handle_written`], or
    /// [`Elector::handle_failed`].
    Write(Box<Lease>),
}

/// One who wants to lead.
#[derive(Debug)]
pub struct Elector {
    name: String,
    identity: String,
    times: Times,
    seen: Option<Seen>,
    /// Whether `seen` is what the API server said last, and nothing was written since whose outcome is not known.
    current: bool,
    /// When the write was sent that last made or kept us leader.
    renewed: Option<Instant>,
    /// Nothing is to be done before.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Seen {
    lease: Lease,
    /// It may have been deleted since.
    there: bool,
    /// When we last saw it change.
    changed: Instant,
}

impl Seen {
    fn spec(&self) -> LeaseSpec {
        self.lease.spec.clone().unwrap_or_default()
    }

    /// Who holds it, or held it when it was deleted; an empty name is nobody.
    fn holder(&self) -> Option<&str> {
        self.lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    /// For how long its holder has it after a change: as it says itself, since its holder may be of another version.
    fn lasts(&self, otherwise: Duration) -> Duration {
        let said = self.lease.spec.as_ref().and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
        said.filter(|seconds| *seconds > 0).map_or(otherwise, Duration::from_secs)
    }
}

impl Elector {
    /// Wants the lease of this name, under a name that nobody else has.
    pub fn new(name: &str, identity: &str, times: Times) -> Elector {
        let (name, identity) = (name.to_owned(), identity.to_owned());
        Elector { name, identity, times, seen: None, current: false, renewed: None, due: None }
    }

    /// What is to be done next. `wall` is what is written into the lease for people.
    pub fn poll(&mut self, now: Instant, wall: Timestamp) -> Next {
        if let Some(due) = self.due.filter(|due| now < *due) {
            return Next::Wait(due);
        }
        if !self.current || !(self.leads(now) || self.is_free(now)) {
            return Next::Read;
        }
        // Until its answer comes nobody knows what the lease says.
        self.current = false;
        Next::Write(Box::new(self.claimed(wall)))
    }

    /// The lease was read, or is not there; asked at `sent`.
    pub fn handle_read(&mut self, sent: Instant, now: Instant, lease: Option<Lease>) {
        match (lease, &mut self.seen) {
            (Some(lease), Some(seen)) => {
                // By its version and not by its content, which is the same when the holder's clock stands still.
                if !seen.there || seen.lease.metadata.resource_version != lease.metadata.resource_version {
                    seen.changed = now;
                }
                (seen.lease, seen.there) = (lease, true);
            }
            (Some(lease), None) => self.seen = Some(Seen { lease, there: true, changed: now }),
            (None, Some(seen)) => seen.there = false,
            (None, None) => {}
        }
        if self.seen.as_ref().is_some_and(|seen| seen.there && seen.holder() != Some(&self.identity)) {
            self.renewed = None;
        }
        self.current = true;
        self.due = if self.leads(now) || self.is_free(now) { None } else { Some(sent + self.times.retry) };
    }

    /// A write was done; this is what the lease is now.
    pub fn handle_written(&mut self, sent: Instant, now: Instant, lease: Lease) {
        self.seen = Some(Seen { lease, there: true, changed: now });
        self.current = true;
        self.renewed = Some(sent);
        self.due = Some(sent + self.times.retry);
    }

    /// A read or a write failed, or another was faster (409); what the lease says now is not known.
    pub fn handle_failed(&mut self, sent: Instant) {
        self.current = false;
        self.due = Some(sent + self.times.retry);
    }

    /// Whether we lead.
    pub fn leads(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| now < deadline)
    }

    /// Until when we lead if nothing more succeeds; `None` when we do not.
    pub fn deadline(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + self.times.deadline)
    }

    /// Who leads as far as we know: the holder that was seen last.
    pub fn leader(&self) -> Option<&str> {
        self.seen.as_ref()?.holder()
    }

    /// What to write so that another leads at once: `Ok(None)` when it is not ours, and `Err` when it has to be read first.
    pub fn release(&self, wall: Timestamp) -> Result<Option<Lease>, NotCurrent> {
        if !self.current {
            return Err(NotCurrent);
        }
        let ours = |seen: &&Seen| seen.there && seen.holder() == Some(&self.identity);
        let Some(seen) = self.seen.as_ref().filter(ours) else { return Ok(None) };
        Ok(Some(self.written(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(wall)),
            acquire_time: Some(MicroTime(wall)),
            ..seen.spec()
        })))
    }

    fn is_free(&self, now: Instant) -> bool {
        let Some(seen) = &self.seen else { return true };
        match seen.holder() {
            None => true,
            Some(holder) if holder == self.identity => true,
            Some(_) => now.saturating_duration_since(seen.changed) >= seen.lasts(self.times.lease),
        }
    }

    fn claimed(&self, wall: Timestamp) -> Lease {
        let before = self.seen.as_ref().map(Seen::spec);
        let ours = self.leader() == Some(&self.identity);
        let transitions = before.as_ref().map(|spec| spec.lease_transitions.unwrap_or_default());
        let acquired = before.as_ref().and_then(|spec| spec.acquire_time.clone()).filter(|_| ours);
        self.written(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.times.lease.as_secs()).unwrap_or(i32::MAX)),
            renew_time: Some(MicroTime(wall)),
            acquire_time: Some(acquired.unwrap_or(MicroTime(wall))),
            lease_transitions: Some(transitions.map_or(0, |count| if ours { count } else { count.saturating_add(1) })),
            ..before.unwrap_or_default()
        })
    }

    fn written(&self, spec: LeaseSpec) -> Lease {
        let metadata = match self.seen.as_ref().filter(|seen| seen.there) {
            Some(seen) => ObjectMeta { managed_fields: None, ..seen.lease.metadata.clone() },
            None => ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
        };
        Lease { metadata, spec: Some(spec) }
    }
}

/// What the lease says is not known; it has to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCurrent;

#[cfg(test)]
mod tests;
