//! A layer around a client of the API server that counts what is written, and at the n-th write lets the process die, or
//! the answer get lost.
//!
//! A write is a request that may change something: POST, PUT, PATCH or DELETE. Events and leases do not count, so that n
//! means the same in every run: how often they are written depends on the clock. Reads pass.

use super::audit;
use kube::Client;
use kube::client::Body;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tower::{BoxError, Layer, Service};

type Request = axum::http::Request<Body>;
type Response = axum::http::Response<Body>;

/// How long a process that has seen its answer may go on without a further request.
const LINGERS: Duration = Duration::from_millis(500);

/// What happens at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Act {
    /// The process dies before the write is sent.
    AbortBefore,
    /// The process dies when the API server has carried it out; nobody sees the answer.
    AbortInstead,
    /// The process dies at the request that follows, or half a second later where none does.
    AbortAfter,
    /// It is not sent, and fails as when nobody listens.
    Refuse,
    /// It is carried out, and fails as when the connection broke before the answer.
    Lose,
}

/// Which write, from 1, and what happens at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// Counted from the start of the process.
    pub write: u32,
    /// What happens.
    pub act: Act,
}

/// A line of the journal: a write that was answered, or at which something happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Its number.
    pub write: u32,
    /// The HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// HTTP status; absent when nobody saw one.
    pub code: Option<u16>,
    /// What happened at it.
    pub act: Option<Act>,
}

/// Makes clients that fail at one write.
#[derive(Clone)]
pub struct Writes {
    state: Arc<State>,
}

struct State {
    at: Option<At>,
    count: AtomicU32,
    doomed: AtomicBool,
    journal: Option<Mutex<File>>,
}

impl Writes {
    /// `journal` gets a line for each write.
    pub fn new(at: Option<At>, journal: Option<File>) -> Writes {
        let (count, doomed) = (AtomicU32::new(0), AtomicBool::new(false));
        Writes { state: Arc::new(State { at, count, doomed, journal: journal.map(Mutex::new) }) }
    }

    /// The same client, with this in between.
    pub fn around(&self, client: Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        Client::new(self.layer(client), namespace)
    }
}

impl Layer<Client> for Writes {
    type Service = Failing;

    fn layer(&self, inner: Client) -> Failing {
        Failing { inner, state: Arc::clone(&self.state) }
    }
}

/// See the module.
#[derive(Clone)]
pub struct Failing {
    inner: Client,
    state: Arc<State>,
}

impl Service<Request> for Failing {
    type Response = Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // The client waits for itself when it is called.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Failing { inner, state } = self.clone();
        Box::pin(async move { state.pass(&inner, request).await })
    }
}

impl State {
    async fn pass(self: Arc<State>, client: &Client, request: Request) -> Result<Response, BoxError> {
        if self.doomed.load(Ordering::SeqCst) {
            std::process::abort();
        }
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        if !audit::writes(&method) || audit::passing(&path) {
            return Ok(client.send(request).await?);
        }
        let write = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        let act = self.at.filter(|at| at.write == write).map(|at| at.act);
        let line = |code: Option<u16>| Written { write, method: method.clone(), path: path.clone(), code, act };
        match act {
            Some(Act::AbortBefore) => {
                self.note(&line(None));
                std::process::abort();
            }
            Some(Act::Refuse) => {
                self.note(&line(None));
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
            }
            _ => {}
        }
        let answer = client.send(request).await;
        self.note(&line(answer.as_ref().ok().map(|answer| answer.status().as_u16())));
        match act {
            Some(Act::AbortInstead) => std::process::abort(),
            Some(Act::Lose) => return Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
            Some(Act::AbortAfter) => {
                self.doomed.store(true, Ordering::SeqCst);
                std::thread::spawn(|| {
                    std::thread::sleep(LINGERS);
                    std::process::abort();
                });
            }
            _ => {}
        }
        Ok(answer?)
    }

    /// A journal that cannot be written shows by what it lacks.
    fn note(&self, written: &Written) {
        tracing::info!(write = written.write, method = written.method, path = written.path, code = written.code, act = ?written.act, "a write");
        let Some(journal) = &self.journal else { return };
        let Ok(line) = serde_json::to_string(written) else { return };
        // One call, so that an abort leaves no half of it.
        let _ = journal.lock().unwrap_or_else(PoisonError::into_inner).write_all(format!("{line}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// An API server that takes everything; counts what reached it.
    fn client(reached: &Arc<AtomicU32>) -> Client {
        let reached = Arc::clone(reached);
        let service = tower::service_fn(move |_: Request| {
            reached.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Ok::<_, Infallible>(axum::http::Response::new(Body::from(b"{}".to_vec()))))
        });
        Client::new(service, "default")
    }

    async fn ask(client: &Client, method: &str, path: &str) -> bool {
        let request = axum::http::Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        client.send(request).await.is_ok()
    }

    #[tokio::test]
    async fn only_the_nth_write_fails_and_neither_reads_nor_events_count() {
        for (act, arrives) in [(Act::Refuse, 0), (Act::Lose, 1)] {
            let reached = Arc::default();
            let journal = tempfile::NamedTempFile::new().unwrap();
            let at = Some(At { write: 2, act });
            let client = Writes::new(at, Some(journal.reopen().unwrap())).around(client(&reached));
            assert!(ask(&client, "GET", "/api/v1/namespaces/a/services/x").await);
            assert!(ask(&client, "PATCH", "/api/v1/namespaces/a/services/x?fieldManager=m").await);
            assert!(ask(&client, "POST", "/apis/events.k8s.io/v1/namespaces/a/events").await);
            let before = reached.load(Ordering::SeqCst);
            assert!(!ask(&client, "DELETE", "/api/v1/namespaces/a/services/x").await, "{act:?}");
            assert_eq!(reached.load(Ordering::SeqCst) - before, arrives, "{act:?}");
            assert!(ask(&client, "PATCH", "/api/v1/namespaces/a/services/x").await);
            let text = std::fs::read_to_string(journal.path()).unwrap();
            let lines: Vec<Written> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let told: Vec<_> = lines.iter().map(|line| (line.write, line.method.as_str(), line.act)).collect();
            assert_eq!(told, [(1, "PATCH", None), (2, "DELETE", Some(act)), (3, "PATCH", None)]);
            assert_eq!(lines[0].path, "/api/v1/namespaces/a/services/x");
        }
    }
}
