//! What operators and pages ask the process itself: is it alive, is it ready, how does it do, how is it set up.

use super::app::App;
use super::ice::{self, IceServer};
use crate::metrics::Caps;
use crate::problem::{Kind, Problem};
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;
use utoipa::ToSchema;

/// A check that takes longer has failed: the kubelet waits 1 s by default.
const CHECK_LIMIT: Duration = Duration::from_millis(800);

const READY_RETRY: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Router<App> {
    Router::new().route("/config.json", get(config)).route("/openapi.json", get(openapi))
}

/// What only those who run the server ask.
pub(super) fn management_routes() -> Router<App> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

/// The process lives and its event loop turns.
#[utoipa::path(get, path = "/healthz", tag = "Operations", security(()),
    responses((status = 200, description = "It lives", body = String, content_type = "text/plain")))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// What `/readyz` says when all is well.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    /// Always true: otherwise the answer is a problem.
    ready: bool,
    /// What was checked.
    checks: Vec<&'static str>,
}

/// Newcomers are welcome: the registry can be written, the media port is open, the server is not draining.
#[utoipa::path(get, path = "/readyz", tag = "Operations", security(()),
    responses((status = 200, description = "It is ready", body = Ready),
        (status = 503, description = "It is not; the detail says why")))]
async fn readyz(State(app): State<App>) -> Result<Response, Problem> {
    let mut failed = Vec::new();
    if app.control.is_draining() || app.shutdown.is_cancelled() {
        failed.push("control: the server is draining".to_owned());
    }
    for ready in &app.ready {
        match timeout(CHECK_LIMIT, (ready.check)()).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => failed.push(format!("{}: {reason}", ready.name)),
            Err(_) => failed.push(format!("{}: no answer within {} ms", ready.name, CHECK_LIMIT.as_millis())),
        }
    }
    if !failed.is_empty() {
        return Err(Problem::new(Kind::NotReady, failed.join("; ")).retry_after(READY_RETRY));
    }
    let ready = Ready { ready: true, checks: app.ready.iter().map(|ready| ready.name).collect() };
    Ok(([(CACHE_CONTROL, "no-store")], Json(ready)).into_response())
}

/// The metrics, for Prometheus. No label names a viewer or a room, so no token is needed.
#[utoipa::path(get, path = "/metrics", tag = "Operations", security(()),
    responses((status = 200, description = "Text exposition format 0.0.4", body = String, content_type = "text/plain")))]
async fn metrics(State(app): State<App>) -> Response {
    let limits = app.control.limits();
    let caps = Caps { publishers: limits.max_publishers, subscribers_per_room: limits.max_subscribers_per_room };
    let text = app.metrics.render(&app.control.counts(), &caps, &(app.snapshot)());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (CACHE_CONTROL, "no-store")], text).into_response()
}

/// What pages must know before anything else.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageConfig {
    /// Of the server.
    version: &'static str,
    /// `open` or `jwt`.
    auth: &'static str,
    /// False when this process carries no media.
    media: bool,
    /// The one UDP port of all media.
    media_port: u16,
    /// Streams that begin now are recorded.
    recording: bool,
    /// `/metrics` is here; otherwise it is where only operators are.
    metrics: bool,
    /// For `RTCConfiguration`; empty without a valid token. A session's 201 has them too, as `Link`.
    ice_servers: Vec<IceServer>,
}

/// How the server is set up, for pages.
#[utoipa::path(get, path = "/config.json", tag = "Operations", security((), ("bearer" = [])),
    responses((status = 200, description = "The setup", body = PageConfig)))]
async fn config(State(app): State<App>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let known = app.authorizer.knows(&headers, query.as_deref());
    let ice_servers = match app.session.turn() {
        Some(turn) if known => ice::servers(&turn),
        _ => Vec::new(),
    };
    let body = PageConfig {
        version: env!("CARGO_PKG_VERSION"),
        auth: if app.authorizer.is_open() { "open" } else { "jwt" },
        media: app.config.carries_media(),
        media_port: app.config.udp.port,
        recording: app.session.records(),
        metrics: app.config.management.is_none(),
        ice_servers,
    };
    ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "Operations", security(()),
    responses((status = 200, description = "OpenAPI", body = String, content_type = "application/json")))]
async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], super::openapi::document()).into_response()
}
