//! The HTTP half of WHIP (RFC 9725) and WHEP: an offer is posted, an answer comes back with the URL of the session, and
//! a DELETE ends it. No trickle and no restart: the offer has all candidates.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Client, StatusCode, Url};

/// The longest answer that is read.
const LONGEST_ANSWER: usize = 256 * 1024;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The URL cannot be used.
    #[error("{url:?} is not an endpoint: {reason}")]
    Url {
        /// As it was given.
        url: String,
        /// What would be right.
        reason: String,
    },
    /// What was given as certificates of authorities is none.
    #[error("these are no PEM certificates: {0}")]
    Authorities(String),
    /// Nobody answered, or not in HTTP.
    #[error("no HTTP answer from {url}: {}", innermost(.source))]
    Unreachable {
        /// Which was asked.
        url: String,
        /// What the client says.
        source: reqwest::Error,
    },
    /// The server said no.
    #[error("{url} answered {status}{}", with_colon(.detail))]
    Refused {
        /// Which was asked.
        url: String,
        /// What it answered.
        status: StatusCode,
        /// From the problem document (RFC 9457), if there was one; else the beginning of the text.
        detail: String,
        /// After how long to try again, if it says so.
        retry_after: Option<Duration>,
    },
    /// 201, but not as the protocol has it.
    #[error("{url} answered {what}: is it a WHIP or WHEP endpoint?")]
    Protocol {
        /// Which was asked.
        url: String,
        /// What is wrong with the answer.
        what: &'static str,
    },
}

pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn with_colon(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

/// Who asks, and whom is trusted to answer.
#[derive(Clone, Default)]
pub(crate) struct Access {
    /// Bearer token.
    pub(crate) token: Option<String>,
    /// Certificates (PEM) of the only authorities that an https server may have its own from; `None`: the system's.
    pub(crate) authorities: Option<Vec<u8>>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("token", &self.token.as_ref().map(|_| "…")).finish_non_exhaustive()
    }
}

impl Access {
    /// A client for URLs of this scheme.
    pub(crate) fn client(&self, url: &Url) -> Result<Client, SignalError> {
        let builder = Client::builder().timeout(Duration::from_secs(15));
        let builder = match &self.authorities {
            Some(pem) => {
                let certificates =
                    Certificate::from_pem_bundle(pem).map_err(|error| SignalError::Authorities(innermost(&error)))?;
                if certificates.is_empty() {
                    return Err(SignalError::Authorities("there is no certificate among it".to_owned()));
                }
                builder.tls_certs_only(certificates)
            }
            // The system may have no authorities at all, as an empty container; http does without.
            None if url.scheme() == "http" => builder.tls_certs_only([]),
            None => builder,
        };
        builder.build().map_err(|source| SignalError::Unreachable { url: url.to_string(), source })
    }
}

/// A WHIP or WHEP endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    url: Url,
    token: Option<String>,
    client: Client,
}

impl Endpoint {
    pub(crate) fn new(url: &str, access: &Access) -> Result<Endpoint, SignalError> {
        let refuse = |reason: String| SignalError::Url { url: url.to_owned(), reason };
        let parsed = Url::parse(url).map_err(|error| refuse(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(refuse(format!("this client speaks http and https, not {}", parsed.scheme())));
        }
        let client = access.client(&parsed)?;
        Ok(Endpoint { url: parsed, token: access.token.clone(), client })
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The addresses that the host of the URL has.
    pub(crate) async fn addresses(&self) -> Vec<IpAddr> {
        let Some(host) = self.url.host_str() else { return Vec::new() };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.url.port_or_known_default().unwrap_or(80);
        // That it cannot be resolved will be told by the request.
        let found = tokio::net::lookup_host((host, port)).await;
        found.map(|addresses| addresses.map(|address| address.ip()).collect()).unwrap_or_default()
    }

    /// Posts an offer.
    pub(crate) async fn post(&self, offer: String) -> Result<Session, SignalError> {
        let unreachable = |source| SignalError::Unreachable { url: self.url.to_string(), source };
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/sdp")
            .header(ACCEPT, "application/sdp");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.body(offer).send().await.map_err(unreachable)?;
        let url = response.url().clone();
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let location = header(LOCATION);
        let content_type = header(CONTENT_TYPE).unwrap_or_default();
        let retry_after = header(RETRY_AFTER).and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
        let body = body(response).await.map_err(unreachable)?;
        let wrong = |what| SignalError::Protocol { url: url.to_string(), what };
        if status != StatusCode::CREATED {
            if status.is_success() {
                return Err(wrong("a success that is not 201"));
            }
            return Err(SignalError::Refused { url: url.into(), status, detail: detail(&body), retry_after });
        }
        if !content_type.starts_with("application/sdp") {
            return Err(wrong("201 without an application/sdp body"));
        }
        let location = location.ok_or_else(|| wrong("201 without a Location"))?;
        let location = url.join(&location).map_err(|_| wrong("201 with a Location that is no URL"))?;
        Ok(Session { answer: body, url: location, token: self.token.clone(), client: self.client.clone() })
    }
}

/// Reads a body as text, up to a limit.
async fn body(mut response: reqwest::Response) -> Result<String, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        bytes.extend_from_slice(&chunk[..chunk.len().min(LONGEST_ANSWER - bytes.len())]);
        if bytes.len() == LONGEST_ANSWER {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a refusal says.
pub(crate) async fn problem(response: reqwest::Response) -> String {
    detail(&body(response).await.unwrap_or_default())
}

/// What a problem document says; of anything else, its first line.
fn detail(body: &str) -> String {
    if let Ok(problem) = serde_json::from_str::<serde_json::Value>(body) {
        let text = |name: &str| problem.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        let parts: Vec<&str> = [text("title"), text("detail")].into_iter().filter(|part| !part.is_empty()).collect();
        return parts.join(": ");
    }
    body.lines().next().unwrap_or_default().trim().chars().take(200).collect()
}

/// A session that the server has granted, to be ended by a DELETE.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) answer: String,
    url: Url,
    token: Option<String>,
    client: Client,
}

impl Session {
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) async fn delete(&self) -> Result<(), SignalError> {
        let mut request = self.client.delete(self.url.clone());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response =
            request.send().await.map_err(|source| SignalError::Unreachable { url: self.url.to_string(), source })?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        let detail = detail(&response.text().await.unwrap_or_default());
        Err(SignalError::Refused { url: self.url.to_string(), status, detail, retry_after: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_cannot_be_used_are_refused_with_the_reason() {
        for (url, reason) in
            [("localhost:8080/whip/a", "speaks http"), ("ftp://a/whip/b", "not ftp"), ("whip", "relative")]
        {
            let error = Endpoint::new(url, &Access::default()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for pem in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let access = Access { token: None, authorities: Some(pem.into()) };
            let error = Endpoint::new("https://a/whip/b", &access).unwrap_err();
            assert!(matches!(error, SignalError::Authorities(_) | SignalError::Unreachable { .. }), "{error}");
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        let access = Access { token: Some("s3cret".to_owned()), authorities: None };
        assert!(!format!("{access:?}").contains("s3cret"));
    }

    #[test]
    fn problems_are_told_in_a_line() {
        assert_eq!(detail(r#"{"title":"Room full","detail":"2 of 2 viewers"}"#), "Room full: 2 of 2 viewers");
        assert_eq!(detail(r#"{"title":"Room full"}"#), "Room full");
        assert_eq!(detail("404 page not found\nmore"), "404 page not found");
        assert_eq!(detail(""), "");
    }
}
