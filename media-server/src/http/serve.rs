//! Accepts connections and serves the router on them, so that no client holds one for nothing.
//!
//! A request's head must be there in time, which also ends connections that lie idle (bodies have a limit of their own,
//! in `body`); unread output is not kept for ever; and the number of connections is limited: others
//! wait in the kernel's queue until one ends. HTTP/1.1 alone: a proxy in front may use any version.
//!
//! One address gets a share of the connections (`crowd`), and a first request must arrive sooner than a later one, so that
//! half-sent requests of one client do not keep out the others.

use super::crowd::Crowd;
use super::patience::Patient;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// Most bytes of a request's head, and of what waits to be written: as much as a connection can make the server hold.
const BUFFER: usize = 64 * 1024;

/// How long an accept that failed for want of files or memory waits.
const RECOVERY: Duration = Duration::from_millis(200);

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// From the connection's beginning, or the end of the answer before, to the last byte of a request's head.
    pub head: Duration,
    /// How long the client may take nothing of an answer.
    pub stalled: Duration,
    /// From the connection's beginning to the last byte of its first request's head.
    pub first_head: Duration,
    /// At once.
    pub connections: usize,
    /// Of them, for one address, or one /64 of IPv6. Behind a proxy all clients share its address.
    pub per_address: usize,
    /// Of them, kept for addresses with few connections and for this machine.
    pub reserve: usize,
}

impl Default for ConnectionLimits {
    /// First heads 10 s; later ones 90 s, longer than proxies keep an idle connection (60 to 75 s), so that they close it;
    /// stalled answers 2 minutes; 1,024 connections, of which `/events` may have half.
    fn default() -> ConnectionLimits {
        ConnectionLimits {
            head: Duration::from_secs(90),
            stalled: Duration::from_secs(120),
            first_head: Duration::from_secs(10),
            connections: 0,
            per_address: 0,
            reserve: 0,
        }
        .with_connections(1024)
    }
}

impl ConnectionLimits {
    /// Sets the limit of connections: three quarters of it for one address, enough for a proxy with all of `/events`, and
    /// a sixteenth in reserve.
    pub fn with_connections(self, connections: usize) -> ConnectionLimits {
        let per_address = (connections - connections / 4).max(1);
        ConnectionLimits { connections, per_address, reserve: connections / 16, ..self }
    }
}

/// Serves until `shutdown`; then answers what was asked, and returns when the last connection has ended.
pub async fn serve(listener: TcpListener, router: Router, limits: ConnectionLimits, shutdown: CancellationToken) {
    let crowd = Crowd::new(limits);
    let connections = TaskTracker::new();
    let accept = async {
        loop {
            crowd.has_room().await;
            let (stream, peer) = accepted(&listener).await;
            let Some(place) = crowd.admit(peer.ip()) else {
                refuse(&stream);
                continue;
            };
            let (router, shutdown) = (router.clone(), shutdown.clone());
            connections.spawn(async move {
                connection(stream, peer, router, limits, shutdown).await;
                drop(place);
            });
        }
    };
    let _ = shutdown.run_until_cancelled(accept).await;
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Answers a client beyond its share with 503, as far as its buffers take it, and hangs up.
fn refuse(stream: &TcpStream) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    metrics::counter!("media_server_http_connections_refused_total").increment(1);
    let _ = stream.try_write(ANSWER);
}

async fn accepted(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut told = false;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // That connection's own affair.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(%error, "HTTP connections cannot be accepted now");
                }
                tokio::time::sleep(RECOVERY).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: ConnectionLimits,
    shutdown: CancellationToken,
) {
    // Events and answers are small and complete: they shall not wait for more.
    let _ = stream.set_nodelay(true);
    let asked = Arc::new(AtomicBool::new(false));
    let asks = asked.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        asks.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let io = TokioIo::new(Patient::new(stream, limits.stalled));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(BUFFER);
    let mut served = pin!(http.serve_connection(io, service));
    let late = async {
        tokio::time::sleep(limits.first_head).await;
        if asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = late => {
            tracing::debug!(%peer, "a connection sent no request in time");
            return;
        }
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}
