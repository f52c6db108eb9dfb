//! `/admin`: what an operator changes while streams run.

pub(super) mod session;

use super::app::App;
use super::body::read_json;
use super::refusals::AdminRefused;
use crate::auth::Action;
use crate::control::Limits;
use crate::problem::{Kind, Problem};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/admin/limits", get(show_limits).put(set_limits))
        .route("/admin/session", get(session::show).put(session::change))
}

/// Caps as they are enforced: `spec.limits` of the StreamSession.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LimitsDocument {
    /// Cameras at once, in the whole server; at least 1.
    #[schema(minimum = 1)]
    max_publishers: u32,
    /// Viewers in each room; at least 1.
    #[schema(minimum = 1)]
    max_subscribers_per_room: u32,
    /// Streams of one account that are not over; absent for no cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    max_streams_per_account: Option<u32>,
    /// Bits per second of one camera; absent for no cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 50000)]
    max_bitrate: Option<u64>,
}

/// Below this a camera cannot send a picture.
const MIN_BITRATE: u64 = 50_000;

impl From<Limits> for LimitsDocument {
    fn from(limits: Limits) -> LimitsDocument {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        LimitsDocument {
            max_publishers: count(limits.max_publishers),
            max_subscribers_per_room: count(limits.max_subscribers_per_room),
            max_streams_per_account: limits.max_streams_per_account.map(count),
            max_bitrate: limits.max_bitrate,
        }
    }
}

impl TryFrom<LimitsDocument> for Limits {
    type Error = Problem;

    fn try_from(document: LimitsDocument) -> Result<Limits, Problem> {
        let count = |field: &str, value: u32| match value {
            0 => Err(Problem::new(Kind::InvalidLimits, format!("{field} is 0; use at least 1"))),
            value => Ok(value as usize),
        };
        if let Some(bitrate) = document.max_bitrate.filter(|bitrate| *bitrate < MIN_BITRATE) {
            let detail =
                format!("maxBitrate is {bitrate}; use at least {MIN_BITRATE} bits per second, or leave it out");
            return Err(Problem::new(Kind::InvalidLimits, detail));
        }
        Ok(Limits {
            max_publishers: count("maxPublishers", document.max_publishers)?,
            max_subscribers_per_room: count("maxSubscribersPerRoom", document.max_subscribers_per_room)?,
            max_streams_per_account: document
                .max_streams_per_account
                .map(|value| count("maxStreamsPerAccount", value))
                .transpose()?,
            max_bitrate: document.max_bitrate,
        })
    }
}

/// Shows the caps that are enforced.
#[utoipa::path(get, path = "/admin/limits", tag = "Admin",
    responses((status = 200, description = "The caps", body = LimitsDocument),
        AdminRefused))]
async fn show_limits(State(app): State<App>, headers: HeaderMap) -> Result<Json<LimitsDocument>, Problem> {
    app.authorizer.decide(&headers, Action::Manage)?;
    Ok(Json(app.control.limits().into()))
}

/// Replaces the caps. They hold for newcomers; nobody is dropped.
#[utoipa::path(put, path = "/admin/limits", tag = "Admin", request_body = LimitsDocument,
    responses((status = 200, description = "The caps as they are enforced now", body = LimitsDocument),
        (status = 400, description = "Not such a document"),
        AdminRefused,
        (status = 422, description = "A limit makes no sense")))]
async fn set_limits(State(app): State<App>, request: Request) -> Result<Json<LimitsDocument>, Problem> {
    app.authorizer.decide(request.headers(), Action::Manage)?;
    let document: LimitsDocument = read_json(request).await?;
    app.control.set_limits(document.try_into()?);
    Ok(Json(app.control.limits().into()))
}
