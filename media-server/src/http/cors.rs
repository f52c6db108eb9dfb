//! Cross-origin rules (the Fetch standard, CORS): players and publishers may live on any site.
//!
//! WHIP and WHEP take requests from every origin, with bearer tokens but never with cookies, which this server does
//! not have; where no token is asked for on this machine alone, `layers::same_origin` narrows it. Assets may be embedded
//! anywhere. All other routes are for this server's own pages and for programs.

use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

const ALLOWED_HEADERS: &str = "Authorization, Content-Type, If-Match, X-Request-Id";
const EXPOSED_HEADERS: &str =
    "Location, ETag, Link, Retry-After, Accept-Patch, Accept-Post, WWW-Authenticate, X-Request-Id";
const ONE_DAY: &str = "86400";

/// Lets every origin read the answers of WHIP, WHEP and assets, errors included.
pub(super) async fn allow(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let shared = is_signalling(path) || path.starts_with("/assets/");
    let mut response = next.run(request).await;
    if shared {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    }
    response
}

/// True for the paths of WHIP and WHEP.
pub(super) fn is_signalling(path: &str) -> bool {
    path.starts_with("/whip/") || path.starts_with("/whep/")
}

/// The answer to OPTIONS: what this resource takes.
pub(super) fn preflight(methods: &'static str, accept: (HeaderName, &'static str)) -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods)),
        (ALLOW, HeaderValue::from_static(methods)),
        (ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS)),
        (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(ONE_DAY)),
        (accept.0, HeaderValue::from_static(accept.1)),
    ];
    // RFC 9725 §4.2 speaks of the 200 of OPTIONS.
    (StatusCode::OK, headers).into_response()
}
