//! Cross-origin rules (the Fetch standard, CORS): players, publishers and consoles may live on any site.
//!
//! With `http.allowedOrigins` pages of these origins may read every route, and pages of no other. Without it, by path:
//! - WHIP, WHEP and assets: every origin. Where no token is required, `layers::same_origin` refuses changes by other sites.
//! - Streams, sessions, recordings, events and the documents of the API: every origin where a token is required, or where the
//!   server is meant to be open to the world; else pages of this machine alone, since the browser needs nothing to read them.
//! - Everything else (pages, administration, metrics, probes): no other origin.
//!
//! Requests carry bearer tokens but never cookies, which this server does not have. OPTIONS is answered on every path that
//! has a route, with the methods that the route takes. A preflight may ask for any header: tracing libraries add
//! `traceparent`, `baggage` or `sentry-trace` to every request, and a header grants nothing here but the token does.

use super::app::App;
use super::layers::is_loopback_origin;
use crate::config::HttpSettings;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

const ALLOWED_HEADERS: &str = "Authorization, Content-Type, If-Match, X-Request-Id";
const EXPOSED_HEADERS: &str = "Location, ETag, Link, Retry-After, Accept-Patch, Accept-Post, WWW-Authenticate, \
     X-Request-Id, Content-Range, Accept-Ranges, Content-Length, Content-Disposition";
const ONE_DAY: &str = "86400";
/// More bytes of requested headers than this are not repeated.
const REQUESTED_MAX: usize = 1024;

/// Marks the answers that other origins may read, errors included, and answers OPTIONS.
pub(super) async fn allow(State(app): State<App>, request: Request, next: Next) -> Response {
    let readers = Readers::of(&app, request.uri().path());
    let by_origin = !matches!(readers, Readers::Every | Readers::Own);
    let origin = readers.allowed(request.headers());
    let options = *request.method() == Method::OPTIONS;
    let requested = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut response = next.run(request).await;
    if options && response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response = options_of_route(response.headers());
    }
    let headers = response.headers_mut();
    if by_origin {
        // A refusal too depends on the origin: a cache must not give it to another one.
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    let Some(origin) = origin else {
        // An origin that may not read the answer may not send the request either.
        headers.remove(ACCESS_CONTROL_ALLOW_METHODS);
        return response;
    };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    if options {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(requested.as_ref()));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(ONE_DAY));
        headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    }
    response
}

/// The origins that may read answers of a path.
enum Readers {
    Every,
    Listed(Arc<HttpSettings>),
    /// Pages of this machine.
    Loopback,
    /// The server's own pages.
    Own,
}

impl Readers {
    fn of(app: &App, path: &str) -> Readers {
        const SHARED: [&str; 8] = [
            "/streams",
            "/rooms",
            "/sessions",
            "/recordings",
            "/media-tokens",
            "/events",
            "/openapi.json",
            "/problems",
        ];
        let settings = app.session.http();
        let below = |root: &&str| path.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !settings.allowed_origins.is_empty() {
            Readers::Listed(settings)
        } else if is_signalling(path) || path.starts_with("/assets/") {
            Readers::Every
        } else if !SHARED.iter().any(below) {
            Readers::Own
        } else if !app.authorizer.is_open() || app.config.any_host {
            Readers::Every
        } else {
            Readers::Loopback
        }
    }

    /// The value of `Access-Control-Allow-Origin` for a request.
    fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = || headers.get(ORIGIN);
        match self {
            Readers::Every => Some(HeaderValue::from_static("*")),
            Readers::Listed(settings) => {
                origin().filter(|origin| is_listed(&settings.allowed_origins, origin)).cloned()
            }
            Readers::Loopback => origin().filter(|origin| is_loopback_origin(origin)).cloned(),
            Readers::Own => None,
        }
    }
}

/// Whether an `Origin` is one of `http.allowedOrigins`, which are written as browsers send them.
pub(super) fn is_listed(allowed: &[String], origin: &HeaderValue) -> bool {
    allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
}

/// Ours, and those that the preflight requests.
fn allowed_headers(requested: Option<&HeaderValue>) -> HeaderValue {
    let ours = HeaderValue::from_static(ALLOWED_HEADERS);
    let Some(names) = requested.and_then(|names| names.to_str().ok()).filter(|names| names.len() <= REQUESTED_MAX)
    else {
        return ours;
    };
    let names = names.split(',').map(str::trim).filter(|name| HeaderName::try_from(*name).is_ok());
    let all = names.fold(ALLOWED_HEADERS.to_owned(), |all, name| format!("{all}, {name}"));
    HeaderValue::from_str(&all).unwrap_or(ours)
}

/// The answer to OPTIONS where the route has none: the methods that it takes.
fn options_of_route(refused: &HeaderMap) -> Response {
    let methods = refused.get(ALLOW).and_then(|allow| allow.to_str().ok()).unwrap_or_default();
    let methods = methods.split(',').map(str::trim).filter(|method| !method.is_empty()).chain(["OPTIONS"]);
    let methods = methods.collect::<Vec<_>>().join(", ");
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Ok(methods) = HeaderValue::from_str(&methods) {
        response.headers_mut().insert(ALLOW, methods.clone());
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    response
}

/// True for the paths of WHIP and WHEP.
pub(super) fn is_signalling(path: &str) -> bool {
    path.starts_with("/whip/") || path.starts_with("/whep/")
}

/// The answer to OPTIONS of WHIP and WHEP: the methods that this resource takes.
pub(super) fn preflight(methods: &'static str, accept: (HeaderName, &'static str)) -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods)),
        (ALLOW, HeaderValue::from_static(methods)),
        (accept.0, HeaderValue::from_static(accept.1)),
    ];
    // RFC 9725 §4.2 speaks of the 200 of OPTIONS.
    (StatusCode::OK, headers).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requested_headers_are_allowed_unless_they_are_none() {
        let allowed = |names: &'static str| allowed_headers(Some(&HeaderValue::from_static(names)));
        assert_eq!(allowed("traceparent,baggage"), format!("{ALLOWED_HEADERS}, traceparent, baggage").as_str());
        assert_eq!(allowed("a b, sentry-trace, <x>,"), format!("{ALLOWED_HEADERS}, sentry-trace").as_str());
        assert_eq!(allowed_headers(None), ALLOWED_HEADERS);
        let long = HeaderValue::from_str(&"x".repeat(REQUESTED_MAX + 1)).unwrap();
        assert_eq!(allowed_headers(Some(&long)), ALLOWED_HEADERS);
    }
}
