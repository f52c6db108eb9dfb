//! Errors as clients see them: RFC 9457 problem documents from one catalogue.
//!
//! Every error of every route is a [`Problem`] of a [`Kind`]; the kind gives status, title and the page that explains
//! it, the place that failed gives the detail. `http::layers` adds the request id and turns what the framework itself
//! answers (an unknown path, a wrong method) into problems too, so that no other form of error leaves the server.
//! What a client is told differs from what the log says: details name the client's own input, never our internals.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use std::time::Duration;
use utoipa::ToSchema;

/// The media type of a problem document.
pub const CONTENT_TYPE_PROBLEM: &str = "application/problem+json";

macro_rules! kinds {
    ($($name:ident $slug:literal $status:ident $title:literal $cause:literal $remedy:literal)*) => {
        /// What went wrong, as a name that stays the same: the last part of the problem's `type`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $(#[doc = $cause] $name,)*
        }

        impl Kind {
            /// Every kind, in the order of the catalogue.
            pub const ALL: &'static [Kind] = &[$(Kind::$name),*];

            /// The last path part of `/problems/{slug}`.
            pub fn slug(self) -> &'static str {
                match self { $(Kind::$name => $slug),* }
            }

            /// The status that goes with it.
            pub fn status(self) -> StatusCode {
                match self { $(Kind::$name => StatusCode::$status),* }
            }

            /// One line for people, the same for every occurrence.
            pub fn title(self) -> &'static str {
                match self { $(Kind::$name => $title),* }
            }

            /// Why this happens.
            pub fn cause(self) -> &'static str {
                match self { $(Kind::$name => $cause),* }
            }

            /// What to do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Kind::$name => $remedy),* }
            }
        }
    };
}

kinds! {
    BadRequest "bad-request" BAD_REQUEST "The request cannot be read"
        "A query parameter, a header or the body does not have the form that this route takes."
        "Read the detail, which names the part; /openapi.json describes every route."
    InvalidRoom "invalid-room" BAD_REQUEST "This is not a room name"
        "A room name is 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-', and does not start with a dot."
        "Choose another name for the room; it is the last part of the WHIP or WHEP URL."
    InvalidSdp "invalid-sdp" BAD_REQUEST "The session description cannot be read"
        "The body is not a session description (RFC 8866), or not an ICE fragment (RFC 8840) where one is due."
        "Send the offer as the browser or the encoder made it, as application/sdp, complete and unchanged."
    TokenMissing "token-missing" UNAUTHORIZED "A bearer token is required"
        "This server asks for a JSON Web Token, and the request carried none."
        "Send Authorization: Bearer TOKEN. In OBS it is the field named Bearer Token."
    TokenInvalid "token-invalid" UNAUTHORIZED "The bearer token is not valid"
        "The token is malformed, expired, not yet valid, signed by another key or algorithm, or for another audience or issuer."
        "Get a new token. It must be signed with HS256 by this server's secret and carry exp, scope and room."
    ScopeMissing "scope-missing" FORBIDDEN "The token does not allow this"
        "The token is valid, but its scope claim lacks what this route needs: publish, subscribe or admin."
        "Ask for a token whose scope includes the one that the detail names."
    RoomNotGranted "room-not-granted" FORBIDDEN "The token is for another room"
        "The token is valid, but its room claim does not include this room."
        "Use the room that the token was made for, or ask for a token that names this one. The room * means all."
    MediaTokenElsewhere "media-token-elsewhere" FORBIDDEN "The media token is for another recording"
        "The media token in the URL is valid, but not for the recording that was requested."
        "Request a media token for this recording, or for its room, by POST /media-tokens."
    NotYours "not-yours" FORBIDDEN "This belongs to somebody else"
        "Sessions and streams can be changed by those who made them, and by admins."
        "Use the token that made it, or one with the scope admin."
    CrossOrigin "cross-origin" FORBIDDEN "A page of another site may not do this"
        "The server is open to everybody, so it takes changes only from its own pages and from programs, not from other sites' pages."
        "Use the pages of this server, send no Origin header, or set auth.mode JWT and send a bearer token."
    UnknownHost "unknown-host" MISDIRECTED_REQUEST "This server does not answer to that name"
        "The server is open and for this machine alone, and the Host header is neither localhost nor an address. A page of another site could so reach it through the browser, by a name that leads here."
        "Use http://localhost or an address. Behind a proxy set auth.mode JWT, or say in the session that open is meant: auth: {mode: Open, acknowledgeOpen: true}."
    NotFound "not-found" NOT_FOUND "There is nothing here"
        "No route and no page has this path."
        "WHIP is at /whip/{room}, WHEP at /whep/{room}, and /openapi.json lists the rest."
    SessionNotFound "session-not-found" NOT_FOUND "This session does not exist"
        "The session has ended, by DELETE, by a timeout or by the end of its stream, or it never was."
        "Start a new session with POST to /whip/{room} or /whep/{room}."
    StreamNotFound "stream-not-found" NOT_FOUND "This stream does not exist"
        "No stream, live or past, has this id."
        "GET /streams lists those that exist."
    RecordingNotFound "recording-not-found" NOT_FOUND "This recording does not exist"
        "No recording, or no file of it, has this name; it may have been removed by the retention rules."
        "GET /recordings lists those that exist."
    NothingRecorded "nothing-recorded" NOT_FOUND "Nothing is recorded in this range"
        "The room has no recording between the two times; it may have been removed by the retention rules."
        "GET /rooms/{room}/timeline lists the spans that are recorded."
    MethodNotAllowed "method-not-allowed" METHOD_NOT_ALLOWED "This path does not take this method"
        "The path exists, but not for the method of the request."
        "Use one of the methods in the Allow header."
    RequestTimeout "request-timeout" REQUEST_TIMEOUT "The request took too long to arrive"
        "The body of the request was not there within the time that the detail names."
        "Send it again, on a better connection. A proxy in front must pass bodies on at once."
    RoomBusy "room-busy" CONFLICT "The room has a publisher already"
        "One camera at a time sends into a room, and another one does."
        "Use another room, or end the stream there. The same identity (bearer token) may take over at once."
    NoPublisher "no-publisher" CONFLICT "Nobody publishes into this room"
        "The room has no camera now, so there is nothing to watch yet."
        "Try again after the seconds in Retry-After, or listen on /events for stream:started."
    StreamExists "stream-exists" CONFLICT "The room has a stream already"
        "A room has one stream at a time, and the one that the detail names is not over."
        "Publish into the room to use that stream, or end it first with POST /streams/{id}/end."
    StreamEnded "stream-ended" CONFLICT "The stream has ended"
        "What was asked for needs a live stream, and this one is over."
        "Start a new stream by publishing into the room again."
    RecordingRunning "recording-running" CONFLICT "The recording is not finished"
        "A recording can be removed when its stream is over and its files are finished; this one is not there yet."
        "End the stream with POST /streams/{id}/end, and remove the recording when its state is complete."
    Held "held" CONFLICT "The recording is held"
        "Somebody laid a file, or an object, called hold beside the recording's manifest, so that it stays."
        "Ask who did; when the recording may go, remove that file from its folder, or that object, and try again."
    PreconditionFailed "precondition-failed" PRECONDITION_FAILED "The session has changed meanwhile"
        "The entity tag in If-Match is not the session's tag now: ICE was restarted since."
        "Use the ETag of the newest answer, or If-Match: * to restart ICE."
    BodyTooLarge "body-too-large" PAYLOAD_TOO_LARGE "The body is too large"
        "The body is larger than this route takes; the detail names the limit."
        "A session description is at most 64 KiB here: offer one audio and one video track, with fewer codecs."
    UnsupportedMediaType "unsupported-media-type" UNSUPPORTED_MEDIA_TYPE "The body has the wrong type"
        "The Content-Type is missing or is not one that this route takes."
        "Send the type that the detail names: application/sdp for offers, application/trickle-ice-sdpfrag for ICE."
    RangeNotSatisfiable "range-not-satisfiable" RANGE_NOT_SATISFIABLE "The range is outside the file"
        "The Range header asks for bytes beyond the end of the file."
        "Content-Range tells the size; ask for less."
    UnsupportedOffer "unsupported-offer" UNPROCESSABLE_ENTITY "The offer cannot be accepted"
        "The session description can be read, but asks for what this server does not do; the detail says what. A viewer gets the camera's codec as it is, and must offer it."
        "To watch, use a browser that plays the camera's codec, or let the camera send another: H264 plays nearly everywhere. In general, offer one audio and one video track, bundled, rtcp-mux, with Opus, PCMA or PCMU and one of H264, VP8, VP9 or AV1. With spec.media.partialAnswers a camera is carried without media that has no such codec."
    InvalidLimits "invalid-limits" UNPROCESSABLE_ENTITY "These limits make no sense"
        "A limit is out of its range; the detail names the field, its value and what would be right."
        "Caps are whole numbers of at least 1; maxBitrate is in bits per second, or absent for none."
    InvalidSession "invalid-session" UNPROCESSABLE_ENTITY "This session makes no sense"
        "The spec, an address or a URL that was told to the server cannot be; the detail names the field. Nothing was changed."
        "Write what the detail says and send all of it again."
    PreconditionRequired "precondition-required" PRECONDITION_REQUIRED "If-Match is required"
        "A PATCH of a session must say which state it belongs to."
        "Send If-Match with the ETag of the 201, or * to restart ICE."
    TooManyRequests "too-many-requests" TOO_MANY_REQUESTS "Too many requests from this address"
        "POST, PUT, PATCH and DELETE are limited per address, and behind a proxy requests at the same time too, so that a broken client cannot crowd out others."
        "Wait for the seconds in Retry-After. Behind a proxy, name its network in http.trustedProxies of the session, so that its clients are counted one by one; or raise --rate-limit."
    Internal "internal" INTERNAL_SERVER_ERROR "The server failed"
        "Something here went wrong that is not the client's doing."
        "Try again. The request id finds the reason in the server's log."
    PublishersFull "publishers-full" SERVICE_UNAVAILABLE "No more cameras fit"
        "As many cameras publish as limits.maxPublishers allows."
        "Try again after the seconds in Retry-After, or raise limits.maxPublishers (MEDIA_MAX_PUBLISHERS)."
    SubscribersFull "subscribers-full" SERVICE_UNAVAILABLE "No more viewers fit into this room"
        "As many people watch this room as limits.maxSubscribersPerRoom allows."
        "Try again after the seconds in Retry-After, or raise limits.maxSubscribersPerRoom (MEDIA_MAX_SUBSCRIBERS_PER_ROOM)."
    AccountFull "account-full" SERVICE_UNAVAILABLE "This account has no stream left"
        "The account of the token has as many live streams as limits.maxStreamsPerAccount allows."
        "End one of its streams, or raise limits.maxStreamsPerAccount."
    StreamsFull "streams-full" SERVICE_UNAVAILABLE "Too many streams wait for their cameras"
        "As many streams were created ahead as the server keeps."
        "Publish into those that wait, or end them."
    EventsFull "events-full" SERVICE_UNAVAILABLE "Too many listen to events"
        "As many clients listen on /events as the server keeps connections for."
        "Try again after the seconds in Retry-After, or poll GET /streams."
    NotReady "not-ready" SERVICE_UNAVAILABLE "The server is not ready"
        "Something that the server needs does not work now; the detail names it."
        "Mend what the detail names; /readyz answers 200 again when all is well."
    Draining "draining" SERVICE_UNAVAILABLE "The server is shutting down"
        "The server finishes what runs and takes nothing new."
        "Try again after the seconds in Retry-After: its successor will answer."
    MediaDisabled "media-disabled" SERVICE_UNAVAILABLE "This server runs without media"
        "MEDIA_MODE is not single_server_sfu, so only the control API runs here."
        "Use the server that carries the media, or start this one with MEDIA_MODE=single_server_sfu."
    StoreUnavailable "store-unavailable" SERVICE_UNAVAILABLE "The object store does not answer"
        "The recording has left this server's disk for the object store, and the store refuses or cannot be reached; the detail names the reason."
        "Mend what the detail names, and try again; GET /admin/session tells how the store fares."
    StorageUnavailable "storage-unavailable" SERVICE_UNAVAILABLE "The server cannot write its registry"
        "The disk is full or read-only, or the database is locked."
        "Free space or make the data directory writable; /readyz says when it is well again. Running streams go on."
}

/// The form of every error body.
#[derive(Debug, serde::Serialize, serde::Deserialize, ToSchema)]
#[schema(title = "Problem", description = "An error, by RFC 9457.")]
pub struct ProblemDocument {
    /// A page that explains this kind of error, relative to the server.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same words for every error of this type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong this time.
    pub detail: String,
    /// The path that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Also in the header `x-request-id`, and in the server's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// One error, on its way to a client.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: Kind,
    detail: String,
    /// Few, so a list is smaller than a map.
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with what was wrong this time.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        Problem { kind, detail: detail.into(), headers: Vec::new() }
    }

    /// Tells the client when to try again; rounded up to whole seconds, at least one.
    pub fn retry_after(self, wait: Duration) -> Problem {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// Adds a header to the response.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What was wrong this time.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// A response with the path and the request id filled in. `base` is the path below which clients reach the server.
    pub fn render(&self, base: &str, instance: Option<&str>, request_id: Option<&str>) -> Response {
        let status = self.kind.status();
        let document = ProblemDocument {
            kind: format!("{base}/problems/{}", self.kind.slug()),
            title: self.kind.title().to_owned(),
            status: status.as_u16(),
            detail: self.detail.clone(),
            instance: instance.map(str::to_owned),
            request_id: request_id.map(str::to_owned),
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        response.headers_mut().extend(self.headers.iter().cloned());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_PROBLEM));
        response
    }
}

impl IntoResponse for Problem {
    /// The problem also goes along as an extension, for `http::layers` to fill in what only it knows.
    fn into_response(self) -> Response {
        let mut response = self.render("", None, None);
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn slugs_are_unique_and_fit_a_url() {
        let slugs: HashSet<_> = Kind::ALL.iter().map(|kind| kind.slug()).collect();
        assert_eq!(slugs.len(), Kind::ALL.len());
        assert!(slugs.iter().all(|slug| slug.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
    }

    #[test]
    fn every_kind_is_an_error_and_says_cause_and_remedy() {
        for kind in Kind::ALL {
            assert!(kind.status().is_client_error() || kind.status().is_server_error(), "{kind:?}");
            assert!(kind.cause().ends_with('.') && kind.remedy().ends_with('.'), "{kind:?}");
        }
    }

    #[test]
    fn retry_after_rounds_up_and_is_never_zero() {
        for (wait, expected) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (15_000, "15")] {
            let response = Problem::new(Kind::Draining, "x").retry_after(Duration::from_millis(wait)).into_response();
            assert_eq!(response.headers()[RETRY_AFTER], expected, "{wait} ms");
        }
    }
}
