//! What the OpenAPI document says of refusals: the lists that routes share, and the body of every one.
//!
//! A route names its list in `responses(…)`, and beside it, as a status with a description, what it alone refuses.
//! [`ProblemBodies`] then gives every refusal its body: whatever is 400 or more is a problem document (RFC 9457).

use crate::problem::{CONTENT_TYPE_PROBLEM, ProblemDocument};
use std::collections::BTreeMap;
use utoipa::openapi::{Content, OpenApi, PathItem, Ref, RefOr, Response, ResponsesBuilder};
use utoipa::{IntoResponses, Modify, ToSchema as _};

/// Makes a type of each list. One `as` another has all of that one's, and its own words where both name a status.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident $(as $base:ident)? { $($status:literal $description:literal)* })*) => {
        $(
            $(#[$doc])*
            pub(super) enum $name {}

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    ResponsesBuilder::new()
                        $(.responses_from_into_responses::<$base>())?
                        $(.response(stringify!($status), Response::new($description)))*
                        .build()
                        .into()
                }
            }
        )*
    };
}

refusals! {
    /// Of a route that asks for a token.
    Refused {
        401 "No valid token"
        403 "Not with this token"
    }

    /// Of a route that is for operators.
    AdminRefused as Refused {
        403 "Scope admin is needed"
    }

    /// Of a route that takes an offer. What 409 means depends on the role.
    OfferRefused as Refused {
        400 "Not an SDP offer"
        413 "Larger than 64 KiB"
        415 "Not application/sdp"
        422 "An offer that cannot be accepted"
        429 "Too many requests"
        503 "Full, draining or without media; see Retry-After"
    }

    /// Of a route of one WHIP or WHEP session.
    SessionRefused as Refused {
        403 "Not with this token, or the session of another"
        404 "No such session"
    }

    /// Of a session's PATCH.
    PatchRefused as SessionRefused {
        400 "Not a fragment"
        412 "If-Match is stale"
        415 "Not application/trickle-ice-sdpfrag; see Accept-Patch"
        428 "If-Match is missing"
    }
}

/// Gives every refusal its body.
pub(super) struct ProblemBodies;

impl Modify for ProblemBodies {
    fn modify(&self, api: &mut OpenApi) {
        let body = Content::new(Some(Ref::from_schema_name(ProblemDocument::name())));
        for item in api.paths.paths.values_mut() {
            let PathItem { get, put, post, delete, options, head, patch, .. } = item;
            let operations = [get, put, post, delete, options, head, patch].into_iter().flatten();
            for (status, response) in operations.flat_map(|operation| &mut operation.responses.responses) {
                if let RefOr::T(response) = response
                    && status.starts_with(['4', '5'])
                {
                    response.content.insert(CONTENT_TYPE_PROBLEM.to_owned(), body.clone().into());
                }
            }
        }
    }
}
