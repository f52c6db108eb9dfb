//! Reads request bodies: of the right type, not too long, and not too late.
//!
//! The framework's extractors answer errors in forms of their own and wait for ever; these give problems.

use crate::problem::{Kind, Problem};
use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, Request};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::timeout;

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
    check_type(request.headers(), content_type)?;
    let bytes = read(request, limit).await?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Problem::new(Kind::BadRequest, format!("the body is not UTF-8 (byte {at})"))
    })
}

/// The body as JSON. Errors name line and column.
pub async fn read_json<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Problem> {
    check_type(request.headers(), "application/json")?;
    let bytes = read(request, JSON_LIMIT).await?;
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

fn check_type(headers: &HeaderMap, expected: &'static str) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let essence = given.map(|text| text.split(';').next().unwrap_or_default().trim());
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case(expected)) {
        return Ok(());
    }
    let detail = match given {
        Some(given) => format!("the Content-Type is {:?}; send {expected}", given.chars().take(80).collect::<String>()),
        None => format!("there is no Content-Type; send {expected}"),
    };
    Err(Problem::new(Kind::UnsupportedMediaType, detail))
}
