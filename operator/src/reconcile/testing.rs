//! An API server of the tests: a function from request to answer, and a log of what was asked.

use super::admin::AdminClient;
use super::caches::Caches;
use super::explanations::Explanations;
use super::memory::Memory;
use super::{Backoff, Context, Shared};
use crate::metrics::Metrics;
use crate::plan::{Images, Settings};
use axum::body::{Bytes, to_bytes};
use kube::Client;
use kube::client::Body;
use kube::runtime::events::Reporter;
use serde_json::Value;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use streamsession_api::{StreamSession, StreamSessionSpec};
use tokio::sync::Semaphore;

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

pub(crate) type Answer = (u16, Value);

pub(crate) fn answer(status: u16, body: Value) -> Answer {
    (status, body)
}

/// The API server.
#[derive(Clone)]
pub(crate) struct Api {
    respond: Arc<dyn Fn(&Asked) -> Answer + Send + Sync>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Api {
    pub(crate) fn new(respond: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Api {
        Api { respond: Arc::new(respond), asked: Arc::default() }
    }

    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: axum::http::Request<Body>| {
            let api = api.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(axum::body::Body::new(body), 1 << 20).await.unwrap();
                let asked = Asked {
                    method: head.method.to_string(),
                    path: head.uri.path().to_owned(),
                    query: head.uri.query().unwrap_or_default().to_owned(),
                    body: serde_json::from_slice(&body).unwrap_or_default(),
                };
                let (status, body) = (api.respond)(&asked);
                api.asked.lock().unwrap().push(asked);
                let response = axum::http::Response::builder().status(status);
                Ok::<_, Infallible>(response.body(Body::from(Bytes::from(body.to_string()).to_vec())).unwrap())
            }
        });
        Client::new(service, "default")
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// `METHOD /path` of each call, in order.
    pub(crate) fn log(&self) -> Vec<String> {
        self.asked().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }
}

/// What a pass works with, against this API server; caches are empty.
pub(super) fn context(api: &Api) -> Context {
    let metrics = Metrics::new();
    Context {
        client: api.client(),
        settings: Settings {
            images: Images { media_server: "m:1".to_owned(), coturn: "c:1".to_owned(), minio: "s:1".to_owned() },
            pull_policy: None,
            pull_secrets: Vec::new(),
            operator_namespace: None,
            rotate_secrets_after: None,
            proxies: Default::default(),
        },
        caches: Caches::empty(),
        explanations: Explanations::default(),
        nodes: None,
        admin: AdminClient::default(),
        reporter: Reporter { controller: "streamsession-operator".to_owned(), instance: Some("operator-0".to_owned()) },
        metrics: metrics.clone(),
        shared: Arc::new(Shared {
            memory: Memory::default(),
            backoff: Backoff::default(),
            slots: Semaphore::new(1),
            random: ring::rand::SystemRandom::new(),
            metrics,
        }),
    }
}

/// A session with nothing but defaults.
pub(super) fn session() -> StreamSession {
    let mut session = StreamSession::new("x", StreamSessionSpec::default());
    session.metadata.namespace = Some("a".to_owned());
    session.metadata.uid = Some("session-uid".to_owned());
    session.metadata.generation = Some(1);
    session.metadata.resource_version = Some("1".to_owned());
    session
}

/// The body of a failure.
pub(crate) fn failure(code: u16, reason: &str, message: &str) -> Answer {
    (
        code,
        serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}),
    )
}
