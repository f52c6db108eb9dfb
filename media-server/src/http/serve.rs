//! Accepts connections and serves the router on them, so that no client holds one for nothing.
//!
//! A request's head must be there in time, which also ends connections that lie idle (bodies have a limit of their own,
//! in `body`); what the client does not read is not kept for ever; and there are only so many connections: who comes
//! beyond that waits in the kernel's queue until one ends. HTTP/1.1 alone: a proxy in front may speak what it likes.

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
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
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
    /// At once.
    pub connections: usize,
}

impl Default for ConnectionLimits {
    /// Heads 30 s, so that proxies can keep connections; stalled answers 2 minutes; 1024 connections, of which
    /// `/events` may have half.
    fn default() -> ConnectionLimits {
        ConnectionLimits { head: Duration::from_secs(30), stalled: Duration::from_secs(120), connections: 1024 }
    }
}

/// Serves until `shutdown`; then answers what was asked, and returns when the last connection has ended.
pub async fn serve(listener: TcpListener, router: Router, limits: ConnectionLimits, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    let accept = async {
        loop {
            // The semaphore is never closed.
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let (stream, peer) = accepted(&listener).await;
            let (router, shutdown) = (router.clone(), shutdown.clone());
            connections.spawn(async move {
                let _counted = Counted::new();
                connection(stream, peer, router, limits, shutdown).await;
                drop(slot);
            });
        }
    };
    let _ = shutdown.run_until_cancelled(accept).await;
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// One more connection in the metrics, until it is dropped.
struct Counted(metrics::Gauge);

impl Counted {
    fn new() -> Counted {
        let gauge = metrics::gauge!("media_server_http_connections");
        gauge.increment(1.0);
        Counted(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
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
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let io = TokioIo::new(Patient::new(stream, limits.stalled));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(BUFFER);
    let mut served = pin!(http.serve_connection(io, service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}
