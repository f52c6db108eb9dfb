//! The operator's own endpoints: `/metrics`, `/healthz`, `/readyz`, and nothing that changes anything.
//!
//! They are open to who reaches the port, so what one connection can hold is bounded: a head within ten seconds, a few
//! kilobytes, and only so many connections at once. `/readyz` says in words what is missing.

use crate::metrics::Metrics;
use crate::readiness::Readiness;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// From a connection's beginning, or the end of the answer before, to the last byte of a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// Most bytes of a request's head, and of what waits to be written.
const BUFFER: usize = 16 * 1024;
/// Connections at once; who comes beyond that waits in the kernel's queue.
const CONNECTIONS: usize = 64;
/// A connection ends after this, whatever it does.
const LIFE: Duration = Duration::from_secs(600);
/// How long an accept that failed for want of files or memory waits.
const RECOVERY: Duration = Duration::from_millis(200);

#[derive(Clone)]
struct App {
    metrics: Metrics,
    readiness: Readiness,
}

/// The routes.
pub fn router(metrics: Metrics, readiness: Readiness) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(show_readiness))
        .with_state(App { metrics, readiness })
}

async fn show_metrics(State(app): State<App>) -> Response {
    let text = app.metrics.render(app.readiness.missing(Instant::now()).is_empty());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn show_readiness(State(app): State<App>) -> Response {
    let missing = app.readiness.missing(Instant::now());
    if missing.is_empty() {
        return match app.readiness.standing_by() {
            Some(standing_by) => format!("ready: {standing_by}\n").into_response(),
            None => "ready\n".into_response(),
        };
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", missing.join("\n"))).into_response()
}

/// Serves until `shutdown` is done; what is being answered then is not waited for, since nothing is lost by it.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    serve_patiently(listener, router, HEAD, shutdown).await;
}

async fn serve_patiently(listener: TcpListener, router: Router, head: Duration, shutdown: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let accept = async {
        // The semaphore is never closed.
        while let Ok(slot) = slots.clone().acquire_owned().await {
            let stream = accepted(&listener).await;
            let router = router.clone();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(LIFE, connection(stream, router, head)).await;
                drop(slot);
            });
        }
    };
    let (accept, shutdown) = (pin!(accept), pin!(shutdown));
    futures_util::future::select(accept, shutdown).await;
}

async fn accepted(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::debug!(%error, "a connection cannot be accepted");
                tokio::time::sleep(RECOVERY).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, head: Duration) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A peer that went away, or was too slow, is its own affair.
    let _ = served.await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt as _;

    async fn ask(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readyz_tells_what_is_missing_until_nothing_is() {
        let readiness = Readiness::default();
        let router = router(Metrics::new(), readiness.clone());
        readiness.expect("Pod");
        readiness.expect_no_more();
        let (status, text) = ask(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("Pod: ") && text.contains("StreamSession: "), "{text}");
        assert_eq!(ask(&router, "/healthz").await.0, StatusCode::OK, "alive all the same");
        assert!(ask(&router, "/metrics").await.1.contains("streamsession_operator_ready 0"));
        readiness.filled("Pod");
        readiness.served(Ok(()), Instant::now());
        assert_eq!(ask(&router, "/readyz").await.0, StatusCode::OK);
        assert!(ask(&router, "/metrics").await.1.contains("streamsession_operator_ready 1"));
    }

    #[tokio::test]
    async fn one_that_stands_by_is_ready_and_says_who_leads() {
        let readiness = Readiness::default();
        let router = router(Metrics::new(), readiness.clone());
        readiness.stands_by();
        assert_eq!(ask(&router, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        readiness.lease_seen(Some("operator-0"), Instant::now());
        let (status, text) = ask(&router, "/readyz").await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, "ready: it stands by; operator-0 leads\n"));
        assert!(ask(&router, "/metrics").await.1.contains("streamsession_operator_ready 1"));
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_ended_and_others_are_served_meanwhile() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let router = router(Metrics::new(), Readiness::default());
            let stopped = async { drop(stopped.await) };
            serve_patiently(listener, router, Duration::from_millis(200), stopped).await;
        });
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut asking = TcpStream::connect(address).await.unwrap();
        asking.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        asking.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        let end = tokio::time::timeout(Duration::from_secs(10), silent.read(&mut [0; 64])).await;
        assert!(matches!(end, Ok(Ok(0)) | Ok(Err(_))), "{end:?}");
        stop.send(()).unwrap();
        served.await.unwrap();
    }
}
