//! A limit of changing requests for each address (RFC 9725 §5): a token bucket, in bounded memory.
//!
//! IPv6 addresses count by their /64, the size that an access network assigns to one subscriber. Behind a trusted proxy the
//! address is the one that it forwards (`forwarded`).

use super::app::App;
use super::forwarded::Client;
use crate::problem::{Kind, Problem};
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses that are remembered at once; some 64 bytes each.
const MAX_ADDRESSES: usize = 8192;

/// A bucket holds so many seconds' worth of requests.
const BURST_SECONDS: f64 = 4.0;

/// Token buckets by address.
pub(super) struct RateLimiter {
    /// Tokens a second.
    rate: f64,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl RateLimiter {
    /// `None` when `per_second` is 0: no limit.
    pub(super) fn new(per_second: u32) -> Option<RateLimiter> {
        (per_second > 0).then(|| RateLimiter { rate: f64::from(per_second), buckets: Mutex::default() })
    }

    /// Takes one token, or says how long until there is one.
    pub(super) fn take(&self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = subscriber(peer);
        if buckets.len() >= MAX_ADDRESSES && !buckets.contains_key(&peer) {
            self.forget(&mut buckets, now);
        }
        let full = self.rate * BURST_SECONDS;
        let bucket = buckets.entry(peer).or_insert(Bucket { tokens: full, at: now });
        let elapsed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + elapsed * self.rate).min(full);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.rate))
    }

    /// Drops those whose buckets are full again; when none is, drops all: the flood has more addresses than we count.
    fn forget(&self, buckets: &mut HashMap<IpAddr, Bucket>, now: Instant) {
        let refill = Duration::from_secs_f64(BURST_SECONDS);
        buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < refill);
        if buckets.len() >= MAX_ADDRESSES {
            buckets.clear();
        }
    }
}

/// The unit that counts as one address: an IPv4 address, or a /64 of IPv6.
pub(super) fn subscriber(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        v4 => v4,
    }
}

/// The layer. Reading is free; a request without a known peer (in tests) is not limited.
pub(super) async fn limit(State(app): State<App>, request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let peer = request.extensions().get::<Client>().map(|client| client.address);
    if let (true, Some(peer), Some(limiter)) = (changes, peer, &app.inner().limiter)
        && let Err(wait) = limiter.take(peer, Instant::now())
    {
        let detail = format!("more than {} changing requests a second from this address", limiter.rate);
        return Problem::new(Kind::TooManyRequests, detail).retry_after(wait).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let limiter = RateLimiter::new(50).unwrap();
        let start = Instant::now();
        let passed = (0..500).filter(|_| limiter.take(address("192.0.2.1"), start).is_ok()).count();
        assert_eq!(passed, 200);
        let wait = limiter.take(address("192.0.2.1"), start).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(20), "{wait:?}");
        let later = start + Duration::from_secs(1);
        assert_eq!((0..500).filter(|_| limiter.take(address("192.0.2.1"), later).is_ok()).count(), 50);
    }

    #[test]
    fn addresses_do_not_share_a_bucket_but_a_prefix_does() {
        let limiter = RateLimiter::new(1).unwrap();
        let now = Instant::now();
        let spend = |peer: &str| (0..10).filter(|_| limiter.take(address(peer), now).is_ok()).count();
        assert_eq!(spend("192.0.2.1"), 4);
        assert_eq!(spend("192.0.2.2"), 4);
        assert_eq!(spend("::ffff:192.0.2.1"), 0);
        assert_eq!(spend("2001:db8::1"), 4);
        assert_eq!(spend("2001:db8::ffff"), 0);
        assert_eq!(spend("2001:db8:0:1::1"), 4);
    }

    #[test]
    fn memory_is_bounded_under_a_flood_of_addresses() {
        let limiter = RateLimiter::new(1).unwrap();
        let now = Instant::now();
        for number in 0..3 * MAX_ADDRESSES as u32 {
            let _ = limiter.take(IpAddr::V4(number.into()), now);
        }
        assert!(limiter.buckets.lock().unwrap().len() <= MAX_ADDRESSES);
    }

    #[test]
    fn zero_switches_it_off() {
        assert!(RateLimiter::new(0).is_none());
    }
}
