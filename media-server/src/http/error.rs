//! Maps the errors of the inner layers to problems: the only place where they meet HTTP statuses.

use crate::auth::AuthError;
use crate::control::{Cap, ControlError, RoomNameError};
use crate::problem::{Kind, Problem};
use axum::http::HeaderValue;
use axum::http::header::WWW_AUTHENTICATE;
use std::time::Duration;

/// After this time a busy room is worth another try: an abandoned session is noticed after 30 s.
const BUSY_RETRY: Duration = Duration::from_secs(5);

/// After this time a disk may have recovered.
pub(super) const STORAGE_RETRY: Duration = Duration::from_secs(10);

impl From<AuthError> for Problem {
    /// The challenge is that of RFC 6750 §3.
    fn from(error: AuthError) -> Problem {
        let detail = error.to_string();
        let (kind, challenge) = match &error {
            AuthError::Missing => (Kind::TokenMissing, "Bearer realm=\"media\"".to_owned()),
            AuthError::Invalid(reason) => (
                Kind::TokenInvalid,
                format!("Bearer realm=\"media\", error=\"invalid_token\", error_description=\"{reason}\""),
            ),
            AuthError::Scope { needed } => (
                Kind::ScopeMissing,
                format!("Bearer realm=\"media\", error=\"insufficient_scope\", scope=\"{}\"", needed.name()),
            ),
            AuthError::Room { .. } => {
                (Kind::RoomNotGranted, "Bearer realm=\"media\", error=\"insufficient_scope\"".to_owned())
            }
        };
        let problem = Problem::new(kind, detail);
        match HeaderValue::from_str(&challenge) {
            Ok(value) => problem.header(WWW_AUTHENTICATE, value),
            Err(_) => problem,
        }
    }
}

impl From<RoomNameError> for Problem {
    fn from(error: RoomNameError) -> Problem {
        Problem::new(Kind::InvalidRoom, error.to_string())
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Problem {
        let detail = error.to_string();
        match error {
            ControlError::Full { what, retry_after, .. } => {
                let kind = match what {
                    Cap::Publishers => Kind::PublishersFull,
                    Cap::SubscribersPerRoom => Kind::SubscribersFull,
                    Cap::StreamsPerAccount => Kind::AccountFull,
                    Cap::StreamsAhead => Kind::StreamsFull,
                };
                Problem::new(kind, detail).retry_after(retry_after)
            }
            ControlError::Busy => Problem::new(Kind::RoomBusy, detail).retry_after(BUSY_RETRY),
            ControlError::StreamExists { .. } => Problem::new(Kind::StreamExists, detail),
            ControlError::NoPublisher { retry_after } => {
                Problem::new(Kind::NoPublisher, detail).retry_after(retry_after)
            }
            ControlError::Sdp(error) if error.is_unprocessable() => Problem::new(Kind::UnsupportedOffer, detail),
            ControlError::Sdp(_) => Problem::new(Kind::InvalidSdp, detail),
            ControlError::NoSuchSession => Problem::new(Kind::SessionNotFound, detail),
            ControlError::NoSuchStream => Problem::new(Kind::StreamNotFound, detail),
            ControlError::NotYours => Problem::new(Kind::NotYours, detail),
            ControlError::PreconditionRequired => Problem::new(Kind::PreconditionRequired, detail),
            ControlError::PreconditionFailed => Problem::new(Kind::PreconditionFailed, detail),
            ControlError::Draining { retry_after } => Problem::new(Kind::Draining, detail).retry_after(retry_after),
            ControlError::NoMedia => Problem::new(Kind::MediaDisabled, detail),
            ControlError::Storage(error) => {
                // The reason may name paths: it is for the log, where the request id finds it.
                tracing::error!(%error, "the registry refused");
                Problem::new(Kind::StorageUnavailable, "the registry cannot be read or written now")
                    .retry_after(STORAGE_RETRY)
            }
        }
    }
}
