//! What the OpenAPI document says of session descriptions and fragments in answers, with their headers.

use super::{FRAGMENT, SDP};
use axum::http::StatusCode;
use std::collections::BTreeMap;
use utoipa::IntoResponses;
use utoipa::openapi::{Content, HeaderBuilder, Object, RefOr, Response, ResponseBuilder, Type};

type Documented = BTreeMap<String, RefOr<Response>>;

/// To a publisher.
pub(super) enum RecvonlyAnswer {}

impl IntoResponses for RecvonlyAnswer {
    fn responses() -> Documented {
        established("The SDP answer (recvonly)", "ICE servers, rel=ice-server")
    }
}

/// To a viewer.
pub(super) enum SendonlyAnswer {}

impl IntoResponses for SendonlyAnswer {
    fn responses() -> Documented {
        let links = "ICE servers, rel=ice-server; and where to ask for events, \
                     rel=urn:ietf:params:whep:ext:core:server-sent-events";
        established("The SDP answer (sendonly)", links)
    }
}

/// To an ICE restart.
pub(super) enum RestartAnswer {}

impl IntoResponses for RestartAnswer {
    fn responses() -> Documented {
        let description = "ICE restarts: our new credentials and candidates";
        documented(StatusCode::OK, description, FRAGMENT, &[("ETag", "The new ICE generation")])
    }
}

fn established(description: &str, links: &'static str) -> Documented {
    let headers = [("Location", "The session's URL"), ("ETag", "The ICE generation, for PATCH"), ("Link", links)];
    documented(StatusCode::CREATED, description, SDP, &headers)
}

fn documented(status: StatusCode, description: &str, content_type: &str, headers: &[(&str, &str)]) -> Documented {
    let content = Content::new(Some(Object::with_type(Type::String)));
    let response = ResponseBuilder::new().description(description).content(content_type, content);
    let response = headers.iter().fold(response, |response, &(name, says)| {
        response.header(name, HeaderBuilder::new().description(Some(says)).build())
    });
    BTreeMap::from([(status.as_str().to_owned(), response.build().into())])
}
