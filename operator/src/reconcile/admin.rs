//! The client of a media server's management port: reads and replaces the session that it serves.
//!
//! Plain HTTP to the pod's address with a bearer token, which a NetworkPolicy keeps to the operator. A connection for
//! each call: one every few seconds is not worth a pool, and a pod that was replaced is never talked to by mistake.
//! Every wait has an end and every body a bound, so that a server that hangs or babbles costs one pass and no more.
//! Tokens never appear in an error or in the log.

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// Where the session is on the management port.
const PATH: &str = "/admin/session";
/// Most bytes of an answer.
const MOST: usize = 256 * 1024;
/// Most characters of a peer's words that go into a message.
const WORDS: usize = 300;

/// Why a media server did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// Nobody answers there, or not in time.
    #[error("the management port {address} does not answer: {why}")]
    Unreachable {
        /// As it was tried.
        address: SocketAddr,
        /// What the system said.
        why: String,
    },
    /// None of the tokens is the server's.
    #[error(
        "the media server does not accept the token of the Secret that ends in -admin; it reads the file again within a minute of a change"
    )]
    Unauthorized,
    /// It answered, and said no.
    #[error("the media server refuses with {status}: {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What its problem document says.
        detail: String,
    },
    /// It answered something that cannot be understood.
    #[error("the media server's answer cannot be read: {0}; does its image belong to this operator's version?")]
    Malformed(String),
}

/// The client. A cheap copy.
#[derive(Clone, Copy, Debug)]
pub struct AdminClient {
    /// For the connection.
    pub connect: Duration,
    /// For all of a call, the connection included.
    pub total: Duration,
}

impl Default for AdminClient {
    /// 2 s for the connection, 5 s for all.
    fn default() -> AdminClient {
        AdminClient { connect: Duration::from_secs(2), total: Duration::from_secs(5) }
    }
}

/// RFC 9457, as far as it is of interest.
#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

impl AdminClient {
    /// What the server says of itself. `tokens` are tried in turn: after a rotation the pod may still have the last one.
    pub async fn read<T: DeserializeOwned>(&self, address: SocketAddr, tokens: &[&str]) -> Result<T, AdminError> {
        self.call(Method::GET, address, tokens, Bytes::new()).await
    }

    /// Replaces the live part of the session; the answer is what [`AdminClient::read`] gives.
    pub async fn push<T: DeserializeOwned>(
        &self,
        address: SocketAddr,
        tokens: &[&str],
        session: &impl Serialize,
    ) -> Result<T, AdminError> {
        let body = serde_json::to_vec(session).map_err(|error| AdminError::Malformed(error.to_string()))?;
        self.call(Method::PUT, address, tokens, Bytes::from(body)).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        address: SocketAddr,
        tokens: &[&str],
        body: Bytes,
    ) -> Result<T, AdminError> {
        let attempts = async {
            for token in tokens {
                match self.attempt(&method, address, token, body.clone()).await {
                    Err(AdminError::Unauthorized) => {}
                    other => return other,
                }
            }
            Err(AdminError::Unauthorized)
        };
        tokio::time::timeout(self.total, attempts)
            .await
            .unwrap_or_else(|_| Err(unreachable(address, format!("no answer within {} s", self.total.as_secs_f32()))))
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        method: &Method,
        address: SocketAddr,
        token: &str,
        body: Bytes,
    ) -> Result<T, AdminError> {
        let stream = tokio::time::timeout(self.connect, TcpStream::connect(address))
            .await
            .map_err(|_| unreachable(address, format!("no connection within {} s", self.connect.as_secs_f32())))?
            .map_err(|error| unreachable(address, error))?;
        let (mut sender, connection) =
            http1::handshake::<_, Body>(TokioIo::new(stream)).await.map_err(|error| unreachable(address, error))?;
        let request = Request::builder()
            .method(method)
            .uri(PATH)
            .header(header::HOST, address.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .body(Body::from(body))
            // Only a token with control characters can do this.
            .map_err(|_| AdminError::Unauthorized)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| unreachable(address, error))?;
            let (head, body) = response.into_parts();
            let body = to_bytes(Body::new(body), MOST)
                .await
                .map_err(|_| AdminError::Malformed(format!("it was cut short, or has more than {MOST} bytes")))?;
            understand(head.status, &body)
        };
        // The connection moves only while it is polled; it ends with the exchange, whatever becomes of it.
        let drive = async {
            let _ = connection.await;
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            answer = exchange => answer,
            never = drive => match never {},
        }
    }
}

fn understand<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, AdminError> {
    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
        return Err(AdminError::Unauthorized);
    }
    if !status.is_success() {
        let detail = match serde_json::from_slice::<Problem>(body) {
            Ok(problem) if !problem.detail.is_empty() => problem.detail,
            Ok(problem) if !problem.title.is_empty() => problem.title,
            _ => String::from_utf8_lossy(body).into_owned(),
        };
        return Err(AdminError::Refused { status: status.as_u16(), detail: printable(&detail) });
    }
    serde_json::from_slice(body).map_err(|error| AdminError::Malformed(printable(&error.to_string())))
}

/// A peer's words go into conditions and the log: few, and no control characters.
fn printable(text: &str) -> String {
    text.trim_matches(|c: char| c.is_whitespace() || c.is_control())
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(WORDS)
        .collect()
}

fn unreachable(address: SocketAddr, why: impl ToString) -> AdminError {
    AdminError::Unreachable { address, why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::extract::Request as Incoming;
    use axum::response::IntoResponse;
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    const QUICK: AdminClient = AdminClient { connect: Duration::from_millis(500), total: Duration::from_millis(1000) };

    async fn serve(router: Router) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(crate::http::serve(listener, router, std::future::pending()));
        address
    }

    async fn always<R: IntoResponse + Clone + Send + Sync + 'static>(answer: R) -> SocketAddr {
        serve(Router::new().fallback(move || std::future::ready(answer.clone()))).await
    }

    /// Says back what it was asked.
    async fn echo() -> SocketAddr {
        serve(Router::new().fallback(async |request: Incoming| {
            let (head, body) = request.into_parts();
            let body = to_bytes(body, MOST).await.unwrap();
            let token = head.headers[header::AUTHORIZATION].to_str().unwrap().to_owned();
            if token == "Bearer wrong" {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            json!({"method": head.method.as_str(), "path": head.uri.path(), "token": token,
                   "body": serde_json::from_slice::<Value>(&body).unwrap_or_default()})
            .to_string()
            .into_response()
        }))
        .await
    }

    #[tokio::test]
    async fn it_asks_and_pushes_with_the_token() {
        let address = echo().await;
        let read: Value = QUICK.read(address, &["t"]).await.unwrap();
        assert_eq!(read, json!({"method": "GET", "path": "/admin/session", "token": "Bearer t", "body": null}));
        let pushed: Value = QUICK.push(address, &["t"], &json!({"generation": 3})).await.unwrap();
        assert_eq!(pushed["method"], "PUT");
        assert_eq!(pushed["body"], json!({"generation": 3}));
    }

    #[tokio::test]
    async fn the_last_token_is_tried_when_the_new_one_is_not_known_yet() {
        let address = echo().await;
        let read: Value = QUICK.read(address, &["wrong", "old"]).await.unwrap();
        assert_eq!(read["token"], "Bearer old");
        assert_eq!(QUICK.read::<Value>(address, &["wrong"]).await, Err(AdminError::Unauthorized));
        assert_eq!(QUICK.read::<Value>(address, &[]).await, Err(AdminError::Unauthorized));
    }

    #[tokio::test]
    async fn a_refusal_brings_the_words_of_its_problem_document() {
        let problem = json!({"title": "These limits make no sense", "detail": "limits.maxPublishers is 0"}).to_string();
        let address = always((StatusCode::UNPROCESSABLE_ENTITY, problem)).await;
        let expected = AdminError::Refused { status: 422, detail: "limits.maxPublishers is 0".to_owned() };
        assert_eq!(QUICK.push::<Value>(address, &["t"], &json!({})).await, Err(expected));
        let address = always((StatusCode::BAD_GATEWAY, "line\none\u{7}")).await;
        let expected = AdminError::Refused { status: 502, detail: "line one".to_owned() };
        assert_eq!(QUICK.read::<Value>(address, &["t"]).await, Err(expected));
    }

    #[tokio::test]
    async fn unknown_fields_are_tolerated_and_wrong_ones_are_malformed() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Small {
            generation: i64,
        }
        let address = always(r#"{"generation": 7, "later": {"invented": true}}"#).await;
        assert_eq!(QUICK.read::<Small>(address, &["t"]).await, Ok(Small { generation: 7 }));
        let address = always(r#"{"generation": "seven"}"#).await;
        assert!(matches!(QUICK.read::<Small>(address, &["t"]).await, Err(AdminError::Malformed(_))));
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_is_not_kept() {
        let address = always("x".repeat(MOST + 1)).await;
        assert!(matches!(QUICK.read::<Value>(address, &["t"]).await, Err(AdminError::Malformed(_))));
    }

    #[tokio::test]
    async fn who_does_not_answer_in_time_is_unreachable() {
        let address = serve(Router::new().fallback(std::future::pending::<String>)).await;
        let error = QUICK.read::<Value>(address, &["t"]).await.unwrap_err();
        assert!(matches!(&error, AdminError::Unreachable { why, .. } if why.contains("within 1 s")), "{error}");
    }

    #[tokio::test]
    async fn a_closed_port_and_a_connection_that_ends_are_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hang_up = tokio::spawn(async move { drop(listener.accept().await) });
        assert!(matches!(QUICK.read::<Value>(address, &["t"]).await, Err(AdminError::Unreachable { .. })));
        hang_up.await.unwrap();
        // The listener is gone with the task.
        let error = QUICK.read::<Value>(address, &["t"]).await.unwrap_err();
        assert!(matches!(error, AdminError::Unreachable { .. }), "{error}");
    }

    #[tokio::test]
    async fn no_error_tells_the_token() {
        let secret = "s3cr3t-token";
        let listening = always(StatusCode::UNAUTHORIZED).await;
        for error in [
            QUICK.read::<Value>(listening, &[secret]).await.unwrap_err(),
            QUICK.read::<Value>(SocketAddr::from(([127, 0, 0, 1], 1)), &[secret]).await.unwrap_err(),
            QUICK.read::<Value>(listening, &["bad\ntoken"]).await.unwrap_err(),
        ] {
            let told = format!("{error} {error:?}");
            assert!(!told.contains(secret) && !told.contains("bad\n"), "{told}");
        }
    }
}
