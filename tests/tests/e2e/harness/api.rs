//! The server's HTTP side, as a client without a library sees it.

use super::until;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RANGE};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use sfu::parameters::Fingerprint;
use std::net::SocketAddr;
use std::time::Duration;
use streamsession_tests::peer::credentials;
use streamsession_tests::sdp::{self, Local};

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// A header as text; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as a problem document of this kind, which says in full what RFC 9457 wants; gives its detail.
    pub(crate) fn problem(&self, status: u16, kind: &str) -> String {
        assert_eq!(
            (self.status.as_u16(), self.header("content-type")),
            (status, "application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["type"], format!("/problems/{kind}"), "{self:?}");
        assert_eq!(problem["status"], status, "{self:?}");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{self:?}");
        problem["detail"].as_str().unwrap_or_else(|| panic!("no detail: {self:?}")).to_owned()
    }
}

/// A server's routes.
#[derive(Clone)]
pub(crate) struct Api {
    base: String,
    client: Client,
    token: Option<String>,
}

impl Api {
    pub(crate) fn new(http: SocketAddr) -> Api {
        let client = Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        Api { base: format!("http://{http}"), client, token: None }
    }

    /// The same with a bearer token.
    pub(crate) fn with_token(&self, token: &str) -> Api {
        Api { token: Some(token.to_owned()), ..self.clone() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: response.text().await.unwrap() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.client.get(self.url(path))).await
    }

    /// The content of a file.
    pub(crate) async fn file(&self, path: &str) -> Vec<u8> {
        let response = self.client.get(self.url(path)).send().await.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.bytes().await.unwrap_or_else(|error| panic!("{path}: {error}")).to_vec()
    }

    /// Part of a file.
    pub(crate) async fn range(&self, path: &str, bytes: &str) -> Answer {
        self.send(self.client.get(self.url(path)).header(RANGE, bytes)).await
    }

    pub(crate) async fn post(&self, path: &str, content_type: &str, body: impl Into<String>) -> Answer {
        let request = self.client.post(self.url(path)).header(CONTENT_TYPE, content_type).body(body.into());
        self.send(request).await
    }

    pub(crate) async fn offer(&self, path: &str, sdp: impl Into<String>) -> Answer {
        self.post(path, "application/sdp", sdp).await
    }

    /// The same where it may be that nobody answers.
    pub(crate) async fn try_offer(&self, path: &str, sdp: impl Into<String>) -> Option<Answer> {
        let request = self.client.post(self.url(path)).header(CONTENT_TYPE, "application/sdp").body(sdp.into());
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status(), response.headers().clone());
        Some(Answer { status, headers, body: response.text().await.ok()? })
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(self.client.delete(self.url(path))).await
    }

    pub(crate) async fn put_json(&self, path: &str, body: &Value) -> Answer {
        let request = self.client.put(self.url(path)).header(CONTENT_TYPE, "application/json");
        self.send(request.body(body.to_string())).await
    }

    pub(crate) async fn patch(&self, path: &str, if_match: &str, fragment: String) -> Answer {
        let request = self.client.patch(self.url(path)).header(CONTENT_TYPE, "application/trickle-ice-sdpfrag");
        self.send(request.header("if-match", if_match).body(fragment)).await
    }

    pub(crate) async fn is_ready(&self) -> bool {
        let ready = self.client.get(self.url("/readyz")).timeout(Duration::from_secs(2)).send().await;
        ready.is_ok_and(|response| response.status() == StatusCode::OK)
    }

    /// The newest stream of a room.
    pub(crate) async fn stream(&self, room: &str) -> Option<Value> {
        let answer = self.get(&format!("/streams?room={room}&limit=1")).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json()["streams"].get(0).cloned()
    }

    /// Waits until the newest stream of a room is as `wanted`.
    pub(crate) async fn stream_that(
        &self,
        room: &str,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let wanted = &wanted;
        until(what, limit, || async move { self.stream(room).await.filter(wanted) }).await
    }

    /// Ends the newest stream of a room; gives its id.
    pub(crate) async fn end(&self, room: &str) -> String {
        let id = self.stream(room).await.unwrap()["id"].as_str().unwrap().to_owned();
        let answer = self.send(self.client.post(self.url(&format!("/streams/{id}/end")))).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(answer.json()["state"], "ended");
        id
    }
}

fn local(write: impl FnOnce(&Local<'_>) -> String) -> String {
    let ice = credentials();
    write(&Local { ice: &ice, fingerprint: Fingerprint::Sha256([7; 32]), address: "127.0.0.1:9".parse().unwrap() })
}

/// An offer to publish that no media will follow.
pub(crate) fn camera_offer() -> String {
    local(|local| sdp::camera_offer(local, [1001, 1002, 1003]))
}

/// An offer to watch that no check will follow.
pub(crate) fn viewer_offer() -> String {
    local(sdp::viewer_offer)
}
