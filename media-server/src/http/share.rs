//! A share of the requests under way for each client behind a trusted proxy.
//!
//! A proxy's connections are those of all its clients, and `crowd` bounds them together. Here one client (an IPv6 /64 counts
//! as one, as in `rate`) gets a quarter of them, event streams and downloads included: a request is under way until its
//! answer is sent. The table has an entry for each such client, so the limit of connections bounds it.

use super::app::App;
use super::forwarded::Client;
use super::rate::subscriber;
use crate::problem::{Kind, Problem};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// Requests of one client at once: a quarter of the 768 connections that one proxy gets.
const MOST: usize = 192;
const RETRY: Duration = Duration::from_secs(5);

/// Requests under way, by client. A cheap handle.
#[derive(Clone, Default)]
pub(super) struct Shares(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One request's place, until it is dropped.
struct Place {
    shares: Shares,
    client: IpAddr,
}

impl Shares {
    /// Takes a place for a request of `client`, unless it has its share.
    fn take(&self, client: IpAddr) -> Option<Place> {
        let client = subscriber(client);
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = shares.get(&client).copied().unwrap_or(0);
        if own >= MOST {
            return None;
        }
        shares.insert(client, own + 1);
        drop(shares);
        Some(Place { shares: self.clone(), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shares = self.shares.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = shares.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                shares.remove(&self.client);
            }
        }
    }
}

/// The layer. Requests without an address from a trusted proxy pass.
pub(super) async fn limit(State(app): State<App>, request: Request, next: Next) -> Response {
    let client = request.extensions().get::<Client>().filter(|client| client.forwarded).map(|client| client.address);
    let Some(client) = client else { return next.run(request).await };
    let Some(place) = app.inner().shares.take(client) else {
        let detail = format!("more than {MOST} requests at once from this address");
        return Problem::new(Kind::TooManyRequests, detail).retry_after(RETRY).into_response();
    };
    next.run(request).await.map(|body| Body::new(Held { body, _place: place }))
}

/// A body that holds a place until it is sent.
struct Held {
    body: Body,
    _place: Place,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(shares: &Shares, client: &str, attempts: usize) -> Vec<Place> {
        (0..attempts).filter_map(|_| shares.take(client.parse().unwrap())).collect()
    }

    #[test]
    fn client_gets_its_share_and_frees_it() {
        let shares = Shares::default();
        let mut held = take(&shares, "192.0.2.1", MOST + 8);
        assert_eq!(held.len(), MOST);
        assert_eq!(take(&shares, "::ffff:192.0.2.1", 1).len(), 0, "the same client");
        assert_eq!(take(&shares, "192.0.2.2", 1).len(), 1);
        held.pop();
        assert_eq!(take(&shares, "192.0.2.1", 2).len(), 1);
        drop(held);
        assert!(shares.0.lock().unwrap().is_empty());
    }
}
