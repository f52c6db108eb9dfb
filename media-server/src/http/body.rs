//! Reads request bodies: of the right type, not too long, and not too late.
//!
//! The framework's extractors answer errors in forms of their own and wait for ever; these give problems.

use crate::problem::{Kind, Problem};
use axum::body::Body;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Method, Request};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::timeout;

/// What a resource takes by POST (the Linked Data Platform, §7.1).
pub(super) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// What a resource takes by PATCH (RFC 5789 §3.1).
pub(super) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// Most bytes of a session description. Chrome's offers have about 6 KiB.
pub(super) const SDP_LIMIT: usize = 64 * 1024;

/// Most bytes of a JSON body.
pub const JSON_LIMIT: usize = 16 * 1024;

/// A body that is too large is read to its end, up to so many bytes, and thrown away: a connection that is closed with
/// bytes unread is reset, and the sender would not see why.
const DISCARD_LIMIT: usize = 1024 * 1024;

/// A body is to be there whole within this time.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The body as text; its type must be `content_type`, parameters aside.
pub async fn read_text(request: Request<Body>, content_type: &'static str, limit: usize) -> Result<String, Problem> {
    check_type(&request, content_type)?;
    let bytes = read(request, limit).await?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Problem::new(Kind::BadRequest, format!("the body is not UTF-8 (byte {at})"))
    })
}

/// The body as JSON. Errors name line and column.
pub async fn read_json<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Problem> {
    read_json_of(request, JSON_LIMIT).await
}

/// As [`read_json`], with another limit.
pub(super) async fn read_json_of<T: DeserializeOwned>(request: Request<Body>, limit: usize) -> Result<T, Problem> {
    check_type(&request, "application/json")?;
    let bytes = read(request, limit).await?;
    serde_json::from_slice(&bytes).map_err(|error| Problem::new(Kind::BadRequest, format!("the JSON body: {error}")))
}

async fn read(request: Request<Body>, limit: usize) -> Result<Vec<u8>, Problem> {
    let too_large = || Problem::new(Kind::BodyTooLarge, format!("the body may have {limit} bytes here"));
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > DISCARD_LIMIT as u64) {
        return Err(too_large());
    }
    let mut length = 0;
    let collect = async {
        let mut bytes = Vec::new();
        let mut stream = request.into_body().into_data_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| Problem::new(Kind::BadRequest, "the body broke off"))?;
            length += chunk.len();
            if length > DISCARD_LIMIT {
                return Err(too_large());
            }
            if length <= limit {
                bytes.extend_from_slice(&chunk);
            }
        }
        if length > limit { Err(too_large()) } else { Ok(bytes) }
    };
    match timeout(TIME_LIMIT, collect).await {
        Ok(collected) => collected,
        Err(_) if length > limit => Err(too_large()),
        Err(_) => {
            let seconds = TIME_LIMIT.as_secs();
            Err(Problem::new(Kind::RequestTimeout, format!("the body was not there whole within {seconds} s")))
        }
    }
}

/// The right type, and as it is. A refusal says what would be right in a header too (RFC 5789 §2.2, RFC 9110 §12.5.3
/// and §15.5.16).
fn check_type(request: &Request<Body>, expected: &'static str) -> Result<(), Problem> {
    let headers = request.headers();
    let coding = headers.get(CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?").trim());
    if let Some(coding) = coding.filter(|coding| !coding.eq_ignore_ascii_case("identity") && !coding.is_empty()) {
        let detail = format!("the Content-Encoding is {:?}; send the body as it is", shortened(coding));
        let problem = Problem::new(Kind::UnsupportedMediaType, detail);
        return Err(problem.header(ACCEPT_ENCODING, HeaderValue::from_static("identity")));
    }
    let given = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let essence = given.map(|text| text.split(';').next().unwrap_or_default().trim());
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case(expected)) {
        return Ok(());
    }
    let detail = match given {
        Some(given) => format!("the Content-Type is {:?}; send {expected}", shortened(given)),
        None => format!("there is no Content-Type; send {expected}"),
    };
    let problem = Problem::new(Kind::UnsupportedMediaType, detail);
    let accepted = HeaderValue::from_static(expected);
    Err(match *request.method() {
        Method::POST => problem.header(ACCEPT_POST, accepted),
        Method::PATCH => problem.header(ACCEPT_PATCH, accepted),
        _ => problem,
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}
