//! Admission: how many slots there are, how many are held, and who is refused. Pure: no clock, no locks, no I/O.
//!
//! A slot is held from before anything is allocated for its session until the session is gone, whatever became of it
//! ([`Gate`] hands slots out as values that give themselves back). Lowered caps drop nobody: they hold for newcomers.

use super::error::{Cap, ControlError, FULL_RETRY_AFTER};
use super::types::Limits;
use sfu::parameters::RoomId;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Streams made ahead that may wait for their publisher.
pub(super) const MAX_AHEAD: usize = 1000;

/// What a slot is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// A room's publisher. One that takes over shares the slot of the one it replaces.
    Publisher,
    /// One subscriber of a room.
    Subscriber(RoomId),
    /// One stream of an account that is not over.
    Stream(String),
    /// A stream made ahead.
    Ahead,
}

/// A cap that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) what: Cap,
    pub(super) limit: usize,
}

/// The books.
#[derive(Debug)]
pub(super) struct Admission {
    limits: Limits,
    publishers: usize,
    ahead: usize,
    subscribers: HashMap<RoomId, usize>,
    streams: HashMap<String, usize>,
}

impl Admission {
    pub(super) fn new(limits: Limits) -> Admission {
        Admission { limits, publishers: 0, ahead: 0, subscribers: HashMap::new(), streams: HashMap::new() }
    }

    /// Takes a slot, or says which cap is reached.
    pub(super) fn reserve(&mut self, claim: &Claim) -> Result<(), Full> {
        let limit = self.limit(claim);
        let held = self.held(claim);
        match limit {
            Some((what, limit)) if held >= limit => return Err(Full { what, limit }),
            _ => {}
        }
        match claim {
            Claim::Publisher => self.publishers += 1,
            Claim::Ahead => self.ahead += 1,
            Claim::Subscriber(room) => *self.subscribers.entry(*room).or_default() += 1,
            Claim::Stream(account) => *self.streams.entry(account.clone()).or_default() += 1,
        }
        Ok(())
    }

    /// Gives a slot back that `reserve` gave.
    pub(super) fn release(&mut self, claim: &Claim) {
        match claim {
            Claim::Publisher => self.publishers = self.publishers.saturating_sub(1),
            Claim::Ahead => self.ahead = self.ahead.saturating_sub(1),
            Claim::Subscriber(room) => give_back(&mut self.subscribers, room),
            Claim::Stream(account) => give_back(&mut self.streams, account),
        }
    }

    /// Slots of this kind that are held.
    pub(super) fn held(&self, claim: &Claim) -> usize {
        match claim {
            Claim::Publisher => self.publishers,
            Claim::Ahead => self.ahead,
            Claim::Subscriber(room) => self.subscribers.get(room).copied().unwrap_or_default(),
            Claim::Stream(account) => self.streams.get(account).copied().unwrap_or_default(),
        }
    }

    fn limit(&self, claim: &Claim) -> Option<(Cap, usize)> {
        match claim {
            Claim::Publisher => Some((Cap::Publishers, self.limits.max_publishers)),
            Claim::Ahead => Some((Cap::StreamsAhead, MAX_AHEAD)),
            Claim::Subscriber(_) => Some((Cap::SubscribersPerRoom, self.limits.max_subscribers_per_room)),
            Claim::Stream(_) => self.limits.max_streams_per_account.map(|limit| (Cap::StreamsPerAccount, limit)),
        }
    }
}

fn give_back<K: Eq + Hash>(held: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = held.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            held.remove(key);
        }
    }
}

/// Hands out slots. A cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Mutex<Admission>>);

impl Gate {
    pub(super) fn new(limits: Limits) -> Gate {
        Gate(Arc::new(Mutex::new(Admission::new(limits))))
    }

    /// Takes a slot; it is given back when the value is dropped.
    pub(super) fn slot(&self, claim: Claim) -> Result<Slot, ControlError> {
        match self.books().reserve(&claim) {
            Ok(()) => Ok(Slot { gate: self.clone(), claim }),
            Err(Full { what, limit }) => Err(ControlError::Full { what, limit, retry_after: FULL_RETRY_AFTER }),
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.books().limits.clone()
    }

    pub(super) fn set_limits(&self, limits: Limits) {
        self.books().limits = limits;
    }

    #[cfg(test)]
    pub(super) fn held(&self, claim: &Claim) -> usize {
        self.books().held(claim)
    }

    fn books(&self) -> MutexGuard<'_, Admission> {
        // The books are changed in single steps: they are right even if a holder of the lock panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot that is held, until this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    gate: Gate,
    claim: Claim,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.gate.books().release(&self.claim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(publishers: usize, subscribers: usize, streams: Option<usize>) -> Limits {
        Limits {
            max_publishers: publishers,
            max_subscribers_per_room: subscribers,
            max_streams_per_account: streams,
            max_bitrate: None,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Reserve(Claim),
        /// Gives back one of the slots held, picked by this number.
        Release(usize),
        Limits(Limits),
    }

    fn claim() -> impl Strategy<Value = Claim> {
        prop_oneof![
            Just(Claim::Publisher),
            (0..3u64).prop_map(|room| Claim::Subscriber(RoomId(room))),
            "[ab]".prop_map(Claim::Stream),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => claim().prop_map(Step::Reserve),
            3 => any::<usize>().prop_map(Step::Release),
            1 => (0..4usize, 0..4usize, proptest::option::of(0..3usize))
                .prop_map(|(p, s, a)| Step::Limits(limits(p, s, a))),
        ]
    }

    proptest! {
        /// Against the simplest model there is: a list of what is held.
        #[test]
        fn books_agree_with_a_list_of_what_is_held(steps in proptest::collection::vec(step(), 0..200)) {
            let mut admission = Admission::new(limits(2, 2, Some(1)));
            let mut held: Vec<Claim> = Vec::new();
            for step in steps {
                match step {
                    Step::Reserve(claim) => {
                        let count = held.iter().filter(|other| **other == claim).count();
                        let limit = match &claim {
                            Claim::Publisher => Some(admission.limits.max_publishers),
                            Claim::Subscriber(_) => Some(admission.limits.max_subscribers_per_room),
                            Claim::Stream(_) => admission.limits.max_streams_per_account,
                            Claim::Ahead => Some(MAX_AHEAD),
                        };
                        let let_in = admission.reserve(&claim).is_ok();
                        prop_assert_eq!(let_in, limit.is_none_or(|limit| count < limit));
                        if let_in {
                            held.push(claim);
                        }
                    }
                    Step::Release(which) if !held.is_empty() => {
                        let claim = held.swap_remove(which % held.len());
                        admission.release(&claim);
                    }
                    Step::Release(_) => {}
                    Step::Limits(new) => admission.limits = new,
                }
                for claim in &held {
                    let count = held.iter().filter(|other| *other == claim).count();
                    prop_assert_eq!(admission.held(claim), count);
                }
            }
            for claim in held.drain(..) {
                admission.release(&claim);
            }
            prop_assert_eq!(admission.publishers, 0);
            prop_assert!(admission.subscribers.is_empty() && admission.streams.is_empty());
        }
    }

    #[test]
    fn lowered_caps_drop_nobody_and_hold_for_newcomers() {
        let gate = Gate::new(limits(3, 1, None));
        let mut slots: Vec<_> = (0..3).map(|_| gate.slot(Claim::Publisher).unwrap()).collect();
        gate.set_limits(limits(1, 1, None));
        assert_eq!(gate.held(&Claim::Publisher), 3);
        slots.truncate(1);
        assert!(gate.slot(Claim::Publisher).is_err());
        slots.clear();
        assert!(gate.slot(Claim::Publisher).is_ok());
    }

    #[test]
    fn a_refusal_names_the_cap_and_its_value() {
        let gate = Gate::new(limits(0, 1, Some(7)));
        let refused = gate.slot(Claim::Publisher).unwrap_err();
        assert!(matches!(refused, ControlError::Full { what: Cap::Publishers, limit: 0, .. }));
        assert_eq!(refused.to_string(), "full: limits.maxPublishers is 0");
    }

    #[test]
    fn a_slot_comes_back_when_its_holder_panics() {
        let gate = Gate::new(limits(1, 1, None));
        let inner = gate.clone();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _slot = inner.slot(Claim::Publisher).unwrap();
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert!(gate.slot(Claim::Publisher).is_ok());
    }
}
