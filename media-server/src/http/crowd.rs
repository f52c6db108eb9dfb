//! Limits of a listener's connections: a total, a share for one address, and a reserve.
//!
//! Addresses are counted as `rate` does, IPv6 by /64. The table has an entry for each address with a connection, so the
//! limit of connections bounds it. A client beyond its share is refused at once, others are not delayed by it. Connections
//! in the reserve go to addresses with fewer than [`FEW`], and to loopback: probes and administrators get in while clients
//! that hold many wait.

use super::rate::subscriber;
use super::serve::ConnectionLimits;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// An address with fewer connections than this may use the reserve.
const FEW: usize = 4;

/// The connections of a listener, by address. A cheap handle.
#[derive(Clone)]
pub(super) struct Crowd(Arc<Inner>);

struct Inner {
    limits: ConnectionLimits,
    places: Mutex<Places>,
    left: Notify,
    gauge: metrics::Gauge,
}

#[derive(Default)]
struct Places {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place, until it is dropped.
pub(super) struct Place {
    crowd: Crowd,
    address: IpAddr,
}

impl Crowd {
    /// Without any connection.
    pub(super) fn new(limits: ConnectionLimits) -> Crowd {
        let gauge = metrics::gauge!("media_server_http_connections");
        Crowd(Arc::new(Inner { limits, places: Mutex::default(), left: Notify::new(), gauge }))
    }

    /// Waits until there are fewer connections than the limit.
    pub(super) async fn has_room(&self) {
        loop {
            // One waiter, and a permit that is stored: a place that is left in between is not missed.
            if self.places(|places| places.all < self.0.limits.connections) {
                return;
            }
            self.0.left.notified().await;
        }
    }

    /// Takes a place for a connection of `peer`, unless its address has its share.
    pub(super) fn admit(&self, peer: IpAddr) -> Option<Place> {
        let ConnectionLimits { connections, per_address, reserve, .. } = self.0.limits;
        let (address, loopback) = (subscriber(peer), peer.to_canonical().is_loopback());
        let admitted = self.places(|places| {
            let own = places.by_address.get(&address).copied().unwrap_or(0);
            let reserved = places.all >= connections - reserve.min(connections);
            if places.all >= connections || own >= per_address || reserved && own >= FEW && !loopback {
                return false;
            }
            places.all += 1;
            places.by_address.insert(address, own + 1);
            true
        });
        admitted.then(|| {
            self.0.gauge.increment(1.0);
            Place { crowd: self.clone(), address }
        })
    }

    fn places<R>(&self, act: impl FnOnce(&mut Places) -> R) -> R {
        act(&mut self.0.places.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.places(|places| {
            places.all -= 1;
            if let Some(own) = places.by_address.get_mut(&self.address) {
                *own -= 1;
                if *own == 0 {
                    places.by_address.remove(&self.address);
                }
            }
        });
        self.crowd.0.gauge.decrement(1.0);
        self.crowd.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(connections: usize, per_address: usize, reserve: usize) -> Crowd {
        Crowd::new(ConnectionLimits { connections, per_address, reserve, ..ConnectionLimits::default() })
    }

    fn admit(crowd: &Crowd, peer: &str, attempts: usize) -> Vec<Place> {
        (0..attempts).filter_map(|_| crowd.admit(peer.parse().unwrap())).collect()
    }

    #[test]
    fn address_gets_its_share_and_frees_it() {
        let crowd = crowd(20, 10, 0);
        let mut held = admit(&crowd, "192.0.2.1", 20);
        assert_eq!(held.len(), 10);
        assert_eq!(admit(&crowd, "::ffff:192.0.2.1", 1).len(), 0, "the same address");
        held.pop();
        assert_eq!(admit(&crowd, "192.0.2.1", 3).len(), 1);
        drop(held);
        assert!(crowd.places(|places| places.all == 0 && places.by_address.is_empty()));
    }

    #[test]
    fn prefix_of_ipv6_counts_as_one_address() {
        let crowd = crowd(20, 10, 0);
        let held: Vec<_> = (0..20).flat_map(|n| admit(&crowd, &format!("2001:db8::{n:x}"), 1)).collect();
        assert_eq!(held.len(), 10);
        assert_eq!(admit(&crowd, "2001:db8:0:1::1", 1).len(), 1);
    }

    #[test]
    fn reserve_is_for_loopback_and_addresses_with_few() {
        let crowd = crowd(40, 20, 10);
        let mut held = admit(&crowd, "192.0.2.1", 40);
        held.extend(admit(&crowd, "192.0.2.2", 40));
        assert_eq!(held.len(), 30, "the reserve is left");
        let few = admit(&crowd, "192.0.2.3", 40);
        assert_eq!(few.len(), FEW);
        assert_eq!(admit(&crowd, "127.0.0.1", 40).len(), 10 - FEW);
    }
}
