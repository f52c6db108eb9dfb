//! The pages, with a policy that lets them load nothing from anywhere else (CSP level 3).
//!
//! Pages themselves hold no data and need no token; what they show comes from the API, which does.

use super::app::App;
use crate::control::RoomName;
use crate::pages::{self, Page};
use crate::problem::{Kind, Problem};
use axum::Router;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_FRAME_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Everything from this server, nothing inline; `frame-ancestors` follows.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    media-src 'self' blob: mediastream:; connect-src 'self'; font-src 'self'; worker-src 'self' blob:; \
    manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors ";

/// Microphone and camera for the publish page; embedding pages may pass nothing on.
const PERMISSIONS: &str =
    "camera=(self), microphone=(self), display-capture=(self), geolocation=(), payment=(), usb=()";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(console))
        .route("/publish/{room}", get(publish))
        .route("/watch/{room}", get(watch))
        .route("/assets/{*path}", get(asset))
        .route("/favicon.ico", get(favicon))
}

async fn console(headers: HeaderMap) -> Result<Response, Problem> {
    file("index.html", &headers, false)
}

async fn publish(Path(room): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    RoomName::parse(&room)?;
    file("publish.html", &headers, false)
}

async fn watch(Path(room): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    RoomName::parse(&room)?;
    file("watch.html", &headers, true)
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    file(&format!("assets/{path}"), &headers, false)
}

async fn favicon(headers: HeaderMap) -> Result<Response, Problem> {
    file("assets/favicon.svg", &headers, false)
}

/// A file of the pages, or 304 when the client has it. `embeddable` allows frames of other sites.
fn file(path: &str, headers: &HeaderMap, embeddable: bool) -> Result<Response, Problem> {
    let Page { bytes, mime, etag } =
        pages::get(path).ok_or_else(|| Problem::new(Kind::NotFound, format!("the pages have no {path}")))?;
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let known = known.is_some_and(|tags| {
        tags.trim() == "*" || tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)
    });
    // Names stay the same from version to version, so each use asks; an unchanged file costs no body.
    let common = [(ETAG, etag.as_str()), (CACHE_CONTROL, "no-cache")];
    if known {
        return Ok(with_policy((StatusCode::NOT_MODIFIED, common), embeddable));
    }
    Ok(with_policy((common, [(CONTENT_TYPE, mime)], bytes), embeddable))
}

/// Adds the headers that protect a page.
pub(super) fn with_policy(page: impl IntoResponse, embeddable: bool) -> Response {
    let mut response = page.into_response();
    let headers = response.headers_mut();
    let policy = format!("{POLICY}{}", if embeddable { "*" } else { "'none'" });
    if let Ok(value) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, value);
    }
    if !embeddable {
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    }
    headers.insert(HeaderName::from_static("permissions-policy"), HeaderValue::from_static(PERMISSIONS));
    response
}
