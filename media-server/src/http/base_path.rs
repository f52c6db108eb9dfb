//! The path below which clients reach the server: removed from requests where a proxy has passed it on, and put in front of
//! the paths in `Location` and `Link`.
//!
//! Handlers know the server's own paths alone. Bodies that name paths take a [`BasePath`] from the request's extensions.

use super::app::App;
use super::forwarded::{Client, forwarded_prefix};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{LINK, LOCATION};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// The base path of a request's URL: empty, or as `/cams`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BasePath(Arc<str>);

impl Default for BasePath {
    fn default() -> BasePath {
        BasePath(Arc::from(""))
    }
}

impl fmt::Display for BasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BasePath {
    /// Returns the base path that the layer found.
    pub(super) fn of(request: &Request) -> BasePath {
        request.extensions().get::<BasePath>().cloned().unwrap_or_default()
    }
}

/// The outermost layer: finds the client's address and the base path.
pub(super) async fn resolve(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let settings = app.session.http();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    let client = peer.map(|peer| Client::of(peer, request.headers(), &settings));
    let proxied = client.is_some_and(|client| client.proxied);
    let forwarded = if proxied { forwarded_prefix(request.headers()).map(str::to_owned) } else { None };
    let base = BasePath(Arc::from(forwarded.as_deref().unwrap_or(&settings.base_path)));
    for prefix in [&*base.0, &settings.base_path] {
        match below(request.uri(), prefix) {
            Below::Elsewhere => continue,
            Below::Itself if matches!(*request.method(), Method::GET | Method::HEAD) => {
                return redirect(prefix, request.uri().query());
            }
            Below::Itself => {}
            Below::Path(uri) => *request.uri_mut() = uri,
        }
        break;
    }
    if let Some(client) = client {
        request.extensions_mut().insert(client);
    }
    request.extensions_mut().insert(base.clone());
    let mut response = next.run(request).await;
    prepend(response.headers_mut(), &base);
    response
}

enum Below {
    /// The path is not below the prefix.
    Elsewhere,
    /// The path is the prefix, without a slash.
    Itself,
    /// The rest of the path.
    Path(Uri),
}

fn below(uri: &Uri, prefix: &str) -> Below {
    if prefix.is_empty() {
        return Below::Elsewhere;
    }
    match uri.path().strip_prefix(prefix) {
        Some("") => Below::Itself,
        Some(rest) if rest.starts_with('/') => {
            let rest = uri.query().map_or_else(|| rest.to_owned(), |query| format!("{rest}?{query}"));
            let mut parts = uri.clone().into_parts();
            match rest.parse::<PathAndQuery>() {
                Ok(rest) => parts.path_and_query = Some(rest),
                Err(_) => return Below::Elsewhere,
            }
            Uri::from_parts(parts).map_or(Below::Elsewhere, Below::Path)
        }
        _ => Below::Elsewhere,
    }
}

/// Relative URLs of the console need the slash.
fn redirect(prefix: &str, query: Option<&str>) -> Response {
    let location = query.map_or_else(|| format!("{prefix}/"), |query| format!("{prefix}/?{query}"));
    match HeaderValue::from_str(&location) {
        Ok(location) => (StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)]).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Puts the base path in front of the server's own paths.
fn prepend(headers: &mut HeaderMap, base: &BasePath) {
    if base.0.is_empty() {
        return;
    }
    if let Some(location) = headers.get_mut(LOCATION) {
        with(location, "/", base);
    }
    for link in headers.iter_mut().filter(|(name, _)| *name == LINK).map(|(_, link)| link) {
        with(link, "</", base);
    }
}

/// Inserts the base path in front of the slash that ends `start`, where the value starts with it.
fn with(value: &mut HeaderValue, start: &str, base: &BasePath) {
    let Some(rest) = value.to_str().ok().and_then(|text| text.strip_prefix(start)) else { return };
    let text = format!("{}{base}/{rest}", start.trim_end_matches('/'));
    if let Ok(text) = HeaderValue::from_str(&text) {
        *value = text;
    }
}
