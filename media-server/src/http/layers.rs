//! What happens around every request: an id, a log line without secrets, headers that protect, and errors in one form.

use super::app::App;
use super::base_path::BasePath;
use super::cors;
use crate::problem::{Kind, Problem};
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, CONTENT_TYPE, HOST, ORIGIN, REFERRER_POLICY, RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;
use tracing::Instrument;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: the client's `x-request-id` where it is a plain word, otherwise 64 random bits in hex. In the
/// request's extensions, in every response and in every log line of the request.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

impl RequestId {
    fn of(headers: &HeaderMap) -> RequestId {
        let given = headers.get(&X_REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|text| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        });
        RequestId(given.map_or_else(|| format!("{:016x}", rand::random::<u64>()), str::to_owned))
    }
}

/// Completes every answer.
pub(super) async fn finish(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let base = BasePath::of(&request);
    let shown = without_secrets(&path).into_owned();
    let span = tracing::info_span!("request", id = %id.0, %method, path = %shown);
    async {
        let started = Instant::now();
        let response = next.run(request).await;
        let mut response = in_one_form(response, &base, &path, &id).await;
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&id.0) {
            headers.insert(X_REQUEST_ID, value);
        }
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Tokens may stand in a query: no other site is told the address.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        let status = response.status();
        app.metrics.request(route_of(&path), &method, status);
        let ms = started.elapsed().as_millis() as u64;
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::error!(status = status.as_u16(), ms, "failed");
        } else if cors::is_signalling(&path) && method != Method::OPTIONS && method != Method::GET {
            tracing::info!(status = status.as_u16(), ms, "answered");
        } else {
            tracing::debug!(status = status.as_u16(), ms, "answered");
        }
        response
    }
    .instrument(span)
    .await
}

/// Turns what the framework answers by itself into problems, and fills in what only this layer knows.
async fn in_one_form(response: Response, base: &BasePath, path: &str, id: &RequestId) -> Response {
    let (base, shown) = (base.to_string(), without_secrets(path));
    let instance = format!("{base}{shown}");
    if let Some(problem) = response.extensions().get::<Problem>() {
        let mut rendered = problem.render(&base, Some(&instance), Some(&id.0));
        keep_headers(response.headers(), rendered.headers_mut());
        return rendered;
    }
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = match to_bytes(body, 4096).await {
        Ok(bytes) if status.is_client_error() => String::from_utf8_lossy(&bytes).into_owned(),
        _ => String::new(),
    };
    let problem = match status {
        StatusCode::NOT_FOUND => Problem::new(Kind::NotFound, format!("there is nothing at {shown}")),
        StatusCode::METHOD_NOT_ALLOWED => {
            Problem::new(Kind::MethodNotAllowed, "this path takes the methods that the Allow header names")
        }
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Kind::BodyTooLarge, text),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new(Kind::UnsupportedMediaType, text),
        StatusCode::RANGE_NOT_SATISFIABLE => Problem::new(Kind::RangeNotSatisfiable, "the file is shorter"),
        StatusCode::REQUEST_TIMEOUT => Problem::new(Kind::RequestTimeout, "the request took too long"),
        _ if status.is_client_error() => Problem::new(Kind::BadRequest, text),
        _ => Problem::new(Kind::Internal, "the reason is in the server's log"),
    };
    let mut rendered = problem.render(&base, Some(&instance), Some(&id.0));
    keep_headers(&parts.headers, rendered.headers_mut());
    rendered
}

/// Headers of the first answer that the problem needs too.
fn keep_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        let needed = [ALLOW, RETRY_AFTER, VARY, WWW_AUTHENTICATE].contains(name)
            || name.as_str().starts_with("access-control-")
            || name.as_str() == "content-range";
        if needed && *name != CONTENT_TYPE && !to.contains_key(name) {
            to.append(name.clone(), value.clone());
        }
    }
}

/// Session keys are secrets (RFC 9725 §5), so they stay out of logs and problems. Queries never get here.
fn without_secrets(path: &str) -> Cow<'_, str> {
    match path.strip_prefix("/whip/").or_else(|| path.strip_prefix("/whep/")).and_then(|rest| rest.split_once('/')) {
        Some((room, _)) => Cow::Owned(format!("{}{room}/…", &path[..6])),
        None => Cow::Borrowed(path),
    }
}

/// The route's family: a label must not have as many values as there are rooms.
fn route_of(path: &str) -> &'static str {
    const FAMILIES: [&str; 16] = [
        "whip",
        "whep",
        "streams",
        "recordings",
        "events",
        "admin",
        "metrics",
        "healthz",
        "readyz",
        "openapi.json",
        "config.json",
        "publish",
        "watch",
        "assets",
        "problems",
        "",
    ];
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match FAMILIES.into_iter().find(|family| *family == first) {
        Some("") => "console",
        Some(family) => family,
        None => "other",
    }
}

/// An open server on a loopback address answers to local names alone. Else a page of another site, whose name its owner
/// lets lead to 127.0.0.1 after it was loaded (DNS rebinding), would be of this server's own origin to the browser.
pub(super) async fn local_name(State(app): State<App>, request: Request, next: Next) -> Response {
    if app.authorizer.is_open() && !app.config.any_host && !request.headers().get_all(HOST).iter().all(is_local) {
        return Problem::new(Kind::UnknownHost, "the Host header names no host of this machine").into_response();
    }
    next.run(request).await
}

fn is_local(host: &HeaderValue) -> bool {
    host.to_str().is_ok_and(is_local_name)
}

/// Names and addresses that no other site's name can stand for: an IP literal is not resolved, so it cannot be rebound.
fn is_local_name(host: &str) -> bool {
    host_of(host).is_some_and(|host| is_localhost(&host) || host.parse::<IpAddr>().is_ok())
}

/// Names and addresses of this machine alone. A page on any other address, even in the same network, is another site.
fn is_loopback_name(host: &str) -> bool {
    host_of(host).is_some_and(|host| {
        is_localhost(&host) || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    })
}

/// The host of `host[:port]`, in lower case and without the brackets of IPv6.
fn host_of(authority: &str) -> Option<String> {
    let authority = authority.parse::<Authority>().ok()?;
    Some(authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase())
}

fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// Whether an `Origin` is a page of this machine: `localhost` and loopback addresses, on any port.
pub(super) fn is_loopback_origin(origin: &HeaderValue) -> bool {
    site_of(origin).is_some_and(is_loopback_name)
}

/// The part after the scheme; `None` for `null`.
fn site_of(origin: &HeaderValue) -> Option<&str> {
    origin.to_str().ok()?.split_once("://").map(|(_, host)| host)
}

/// An open server takes changes from its own pages and from programs, but not from pages of other sites, which the
/// user of this machine may have open: browsers send `Origin` with every such request. Origins of `http.allowedOrigins` count
/// as its own. Without that list WHIP and WHEP also take pages of `localhost` and loopback addresses, or of every site where
/// the server is meant to be open to the world.
pub(super) async fn same_origin(State(app): State<App>, request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && app.authorizer.is_open() {
        let headers = request.headers();
        let listed = &app.session.http().allowed_origins;
        let signalling = listed.is_empty() && cors::is_signalling(request.uri().path());
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let allowed = headers.get_all(ORIGIN).iter().all(|origin| {
            let own = site_of(origin).is_some_and(|site| Some(site) == host);
            own || cors::is_listed(listed, origin)
                || signalling && site_of(origin).is_some() && (app.config.any_host || is_loopback_origin(origin))
        });
        if !allowed {
            return Problem::new(Kind::CrossOrigin, "the Origin header names another site").into_response();
        }
    }
    next.run(request).await
}

/// For paths that no route has.
pub(super) async fn not_found() -> StatusCode {
    StatusCode::NOT_FOUND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_keys_are_not_shown() {
        assert_eq!(without_secrets("/whip/door/0123456789abcdefghijkl"), "/whip/door/…");
        assert_eq!(without_secrets("/whep/door"), "/whep/door");
        assert_eq!(without_secrets("/streams/x/end"), "/streams/x/end");
    }

    #[test]
    fn a_client_may_name_its_request_but_not_inject_anything() {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_static("build-7.a_b"));
        assert_eq!(RequestId::of(&headers).0, "build-7.a_b");
        for bad in ["", "a b", "a\"b", &"x".repeat(65)] {
            headers.insert(X_REQUEST_ID, HeaderValue::from_str(bad).unwrap());
            assert_eq!(RequestId::of(&headers).0.len(), 16, "{bad:?}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_not_local() {
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost:8080", true),
            ("door.localhost:8080", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("192.0.2.7", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("notlocalhost", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_local(&HeaderValue::from_static(host)), expected, "{host}");
        }
    }

    #[test]
    fn only_loopback_origins_are_of_this_machine() {
        for (origin, expected) in [
            ("http://localhost", true),
            ("https://localhost:3000", true),
            ("http://LOCALHOST:3000", true),
            ("http://app.localhost:3000", true),
            ("http://127.0.0.1", true),
            ("http://127.255.3.4:9000", true),
            ("http://[::1]:9000", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://[::ffff:7f00:1]:80", true),
            ("http://203.0.113.5", false),
            ("http://203.0.113.5:8080", false),
            ("http://192.168.1.20", false),
            ("http://10.0.0.1", false),
            ("http://0.0.0.0:8080", false),
            ("http://[::]", false),
            ("http://[::ffff:203.0.113.5]", false),
            ("http://[2001:db8::1]", false),
            ("http://[fe80::1]", false),
            ("http://128.0.0.1", false),
            ("http://localhost.evil.example", false),
            ("http://127.0.0.1.evil.example", false),
            ("http://127.0.0.1@evil.example", false),
            ("http://evil.example", false),
            ("null", false),
            ("localhost", false),
            ("", false),
        ] {
            assert_eq!(is_loopback_origin(&HeaderValue::from_static(origin)), expected, "{origin}");
        }
    }

    #[test]
    fn metric_labels_do_not_grow_with_rooms() {
        for (path, family) in [("/", "console"), ("/whip/a", "whip"), ("/whep/b/c", "whep"), ("/.env", "other")] {
            assert_eq!(route_of(path), family);
        }
    }
}
