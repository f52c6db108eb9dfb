//! An API server that lies: a proxy on loopback, plain HTTP in, a client of the real one out.
//!
//! What goes wrong with which request is decided in `storm`. The storm can be ended: then what is frozen is cut and what
//! lacks an event says 410, so that whoever asks again learns the truth, and all that follows passes. Besides, watches can
//! be frozen by command, as when a machine between the two is gone: those that are open then, and no later ones.
//! It keeps nothing, and invents no object.

use super::audit;
use super::storm::{self, Call, Rates, Watch};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use kube::Client;
use serde_json::json;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Most bytes of a request's body: larger objects are not taken by the API server.
const MOST: usize = 4 << 20;
/// Headers that are of one connection, or of one client's identity.
const OURS: [header::HeaderName; 5] =
    [header::HOST, header::AUTHORIZATION, header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH];

/// What holds for all requests, and can be changed while it runs.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// Whether the rates count.
    storm: bool,
    /// Watches opened before this request's number stay silent; 0 freezes none.
    frozen: u64,
}

/// A proxy. A cheap copy.
#[derive(Clone)]
pub struct Proxy {
    upstream: Client,
    seed: u64,
    rates: Rates,
    count: Arc<AtomicU64>,
    weather: Arc<watch::Sender<Weather>>,
}

impl Proxy {
    /// The storm has begun. `upstream` must not give up a watch that is silent.
    pub fn new(upstream: Client, seed: u64, rates: Rates) -> Proxy {
        let (weather, _) = watch::channel(Weather { storm: true, frozen: 0 });
        Proxy { upstream, seed, rates, count: Arc::default(), weather: Arc::new(weather) }
    }

    /// Serves until it is dropped.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        axum::serve(listener, Router::new().fallback(pass).with_state(self)).await
    }

    /// Begins the storm, or ends it.
    pub fn storm(&self, storm: bool) {
        self.weather.send_modify(|weather| weather.storm = storm);
    }

    /// Silences every watch that is open now, until they are thawed.
    pub fn freeze(&self) {
        let now = self.count.load(Ordering::SeqCst);
        self.weather.send_modify(|weather| weather.frozen = now);
    }

    /// What was held back comes.
    pub fn thaw(&self) {
        self.weather.send_modify(|weather| weather.frozen = 0);
    }
}

async fn pass(State(proxy): State<Proxy>, request: Request) -> Response {
    let number = proxy.count.fetch_add(1, Ordering::SeqCst);
    let query = request.uri().query().unwrap_or_default();
    let watches = query.split('&').any(|part| part == "watch=true" || part == "watch=1");
    let writes = audit::writes(request.method().as_str());
    let storm = proxy.weather.borrow().storm;
    let told = format!("{} {}", request.method(), request.uri().path());
    if watches {
        let fate = if storm { storm::watch(proxy.seed, number, &proxy.rates) } else { Watch::Passes };
        if fate != Watch::Passes {
            tracing::info!(request = number, ?fate, "{told}");
        }
        return match forward(&proxy.upstream, request).await {
            Ok(answer) => answer.map(|body| Body::from_stream(lines(body, fate, number, proxy.weather.subscribe()))),
            Err(response) => response,
        };
    }
    let fate = if storm { storm::call(proxy.seed, number, writes, &proxy.rates) } else { Call::Passes };
    if fate != Call::Passes {
        tracing::info!(request = number, ?fate, "{told}");
    }
    match fate {
        Call::Refused(code) => failure(code),
        Call::Lost(code) => {
            if let Ok(answer) = forward(&proxy.upstream, request).await {
                // To its end, so that it has been carried out.
                let _ = to_bytes(answer.into_body(), usize::MAX).await;
            }
            failure(code)
        }
        Call::Passes => forward(&proxy.upstream, request).await.unwrap_or_else(|response| response),
    }
}

/// What the API server answers; where it does not, an answer that says so.
async fn forward(upstream: &Client, request: Request) -> Result<Response, Response> {
    let unreachable = |why: String| (StatusCode::BAD_GATEWAY, why).into_response();
    let (mut head, body) = request.into_parts();
    let body = to_bytes(body, MOST).await.map_err(|error| unreachable(error.to_string()))?;
    strip(&mut head.headers);
    let request = axum::http::Request::from_parts(head, kube::client::Body::from(body));
    let mut answer = upstream.send(request).await.map_err(|error| unreachable(error.to_string()))?.map(Body::new);
    strip(answer.headers_mut());
    Ok(answer)
}

fn strip(headers: &mut HeaderMap) {
    for name in OURS {
        headers.remove(name);
    }
}

/// As the API server fails.
fn failure(code: u16) -> Response {
    let mut response =
        (StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), status(code)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    if code == 429 {
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

fn status(code: u16) -> String {
    let reason = match code {
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        504 => "Timeout",
        _ => "InternalError",
    };
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "by the fault tests", "reason": reason, "code": code})
        .to_string()
}

struct Lines {
    upstream: BoxStream<'static, Result<Bytes, axum::Error>>,
    buffer: Vec<u8>,
    fate: Watch,
    number: u64,
    count: u32,
    /// Something was left out.
    lacks: bool,
    weather: watch::Receiver<Weather>,
}

/// The events of a watch, a line each, as `fate` lets them pass.
fn lines(
    body: Body,
    fate: Watch,
    number: u64,
    weather: watch::Receiver<Weather>,
) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send + 'static {
    let upstream = body.into_data_stream().boxed();
    let lines = Lines { upstream, buffer: Vec::new(), fate, number, count: 0, lacks: false, weather };
    stream::unfold(Some(lines), |lines| async move {
        let mut lines = lines?;
        match lines.next().await {
            Some(Event::Line(line)) => Some((Ok(line), Some(lines))),
            Some(Event::Last(line)) => Some((Ok(line), None)),
            None => None,
        }
    })
}

enum Event {
    Line(Bytes),
    Last(Bytes),
}

impl Lines {
    async fn next(&mut self) -> Option<Event> {
        loop {
            self.silence().await;
            if self.lacks && !self.weather.borrow().storm {
                return Some(gone());
            }
            match self.fate {
                Watch::Freezes(after) if self.count >= after => {
                    // Cut when the storm is over; the sender lives as long as the proxy.
                    let _ = self.weather.wait_for(|weather| !weather.storm).await;
                    return None;
                }
                Watch::Gone(after) if self.count >= after => return Some(gone()),
                Watch::Cut(after) if self.count >= after => return None,
                _ => {}
            }
            let Some(line) = self.line().await else {
                if self.lacks && !self.weather.borrow().storm {
                    continue;
                }
                return None;
            };
            // What came while it slept is held back as well.
            self.silence().await;
            let at = self.count;
            self.count += 1;
            if matches!(self.fate, Watch::Drops(after) if after == at) {
                self.lacks = true;
                continue;
            }
            return Some(Event::Line(line));
        }
    }

    /// Waits for as long as this watch is frozen.
    async fn silence(&mut self) {
        let number = self.number;
        let _ = self.weather.wait_for(|weather| weather.frozen <= number).await;
    }

    /// The next whole line; `None` at the end, and when the weather turns while something is lacking.
    async fn line(&mut self) -> Option<Bytes> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                return Some(Bytes::from(std::mem::replace(&mut self.buffer, rest)));
            }
            let lacks = self.lacks;
            tokio::select! {
                chunk = self.upstream.next() => self.buffer.extend_from_slice(&chunk?.ok()?),
                _ = self.weather.wait_for(|weather| !weather.storm), if lacks => return None,
            }
        }
    }
}

/// As the API server tells a watch that it cannot go on.
fn gone() -> Event {
    let status: serde_json::Value = serde_json::from_str(&status(410)).unwrap_or_default();
    Event::Last(Bytes::from(json!({"type": "ERROR", "object": status}).to_string() + "\n"))
}

#[cfg(test)]
mod tests;
