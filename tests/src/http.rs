//! The HTTP half of WHIP and WHEP, and of anything else a test asks a server: one request after the other.

use serde_json::Value;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// Why a request gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection, or no answer in time.
    #[error("{0}")]
    Request(#[from] reqwest::Error),
    /// Another status than the one that was to come.
    #[error("{url} answered {status}: {body}")]
    Status {
        /// What was asked.
        url: String,
        /// What came.
        status: u16,
        /// What the server said.
        body: String,
    },
    /// The runtime could not be made.
    #[error("no runtime: {0}")]
    Runtime(#[from] std::io::Error),
}

/// What a POST of an offer gave.
#[derive(Clone, Debug)]
pub struct Session {
    /// The answer.
    pub answer: String,
    /// Where the session can be ended, absolute.
    pub location: String,
}

/// See the module.
pub struct Http {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

impl Http {
    /// A client with connections of its own.
    pub fn new() -> Result<Self, HttpError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, client: reqwest::Client::builder().timeout(PATIENCE).build()? })
    }

    /// WHIP or WHEP: sends an offer, takes an answer.
    pub fn offer(&self, url: &str, offer: String) -> Result<Session, HttpError> {
        self.runtime.block_on(async {
            let request = self.client.post(url).header("content-type", "application/sdp").body(offer);
            let response = request.send().await?;
            let status = response.status();
            let location = response.headers().get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
            let location = response.url().join(location).map(String::from).unwrap_or_default();
            let answer = response.text().await?;
            if status == reqwest::StatusCode::CREATED {
                return Ok(Session { answer, location });
            }
            Err(HttpError::Status { url: url.to_owned(), status: status.as_u16(), body: answer })
        })
    }

    /// The body of a page, whatever its status.
    pub fn page(&self, url: &str) -> Result<(u16, String), HttpError> {
        self.runtime.block_on(async {
            let response = self.client.get(url).send().await?;
            Ok((response.status().as_u16(), response.text().await?))
        })
    }

    /// Posts JSON, or gets when there is none, and takes JSON.
    pub fn json(&self, url: &str, body: Option<&Value>) -> Result<Value, HttpError> {
        self.runtime.block_on(async {
            let request = match body {
                Some(body) => self.client.post(url).json(body),
                None => self.client.get(url),
            };
            let response = request.send().await?;
            let status = response.status();
            if !status.is_success() {
                let body = response.text().await?;
                return Err(HttpError::Status { url: url.to_owned(), status: status.as_u16(), body });
            }
            Ok(response.json().await?)
        })
    }
}
