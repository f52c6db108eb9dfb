//! Destinations with a path MTU too small for runs.
//!
//! At most [`MAX`] are remembered, each for as long as Linux keeps a path MTU; when there are more, the one that expires
//! first makes room. An entry forgotten too early costs one failed call.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Destinations remembered at once.
const MAX: usize = 1024;
/// As `net.ipv4.route.mtu_expires`.
const LIFETIME: Duration = Duration::from_secs(600);

/// The table of narrow paths.
#[derive(Default)]
pub(super) struct NarrowPaths(HashMap<SocketAddr, Instant>);

impl NarrowPaths {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether `destination` gets plain datagrams; one that has expired is forgotten.
    pub(super) fn contains(&mut self, now: Instant, destination: SocketAddr) -> bool {
        match self.0.get(&destination) {
            Some(until) if *until > now => true,
            Some(_) => {
                self.0.remove(&destination);
                false
            }
            None => false,
        }
    }

    /// Remembers `destination`.
    pub(super) fn insert(&mut self, now: Instant, destination: SocketAddr) {
        if self.0.len() >= MAX && !self.0.contains_key(&destination) {
            let first = self.0.iter().min_by_key(|(_, until)| **until).map(|(destination, _)| *destination);
            first.map(|first| self.0.remove(&first));
        }
        self.0.insert(destination, now + LIFETIME);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(n: usize) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], n as u16))
    }

    #[test]
    fn narrow_path_is_forgotten_after_its_lifetime() {
        let (mut paths, now) = (NarrowPaths::default(), Instant::now());
        paths.insert(now, to(1));
        assert!(paths.contains(now + LIFETIME - Duration::from_millis(1), to(1)));
        assert!(!paths.contains(now, to(2)));
        assert!(!paths.contains(now + LIFETIME, to(1)));
        assert!(paths.is_empty());
    }

    #[test]
    fn full_table_drops_the_path_that_expires_first() {
        let (mut paths, now) = (NarrowPaths::default(), Instant::now());
        (0..=MAX).for_each(|n| paths.insert(now + Duration::from_millis(n as u64), to(n)));
        assert_eq!(paths.len(), MAX);
        let later = now + Duration::from_secs(10);
        assert!(!paths.contains(later, to(0)) && paths.contains(later, to(1)) && paths.contains(later, to(MAX)));
    }
}
