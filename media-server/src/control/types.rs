//! The control plane's words: names, identities, identifiers, and what callers are given.
//!
//! Everything a peer can choose (room names, session keys, stream ids) is parsed into a type here once and trusted
//! from then on. Keys come from the operating system's random numbers, 128 bits (RFC 9725 §5, draft-ietf-wish-whep §5).

use crate::auth::TokenDigest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use sfu::parameters::{RoomId, SessionId};
use std::fmt;
use std::str::FromStr;

/// A room's name, as it stands in URLs: 1 to 64 of `A-Z a-z 0-9 . _ -`, not starting with a dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(String);

/// What is wrong with a room's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoomNameError {
    /// Nothing there.
    #[error("a room's name is empty: use 1 to 64 letters, digits, '.', '_' or '-'")]
    Empty,
    /// More than 64 bytes.
    #[error("a room's name has {0} bytes: use at most 64")]
    TooLong(usize),
    /// A hidden or relative path.
    #[error("a room's name starts with '.': start with a letter or a digit")]
    LeadingDot,
    /// A character that is not allowed.
    #[error("a room's name has {0:?} in it: use letters, digits, '.', '_' and '-' only")]
    Character(char),
}

impl RoomName {
    /// The most bytes a name has.
    pub const MAX: usize = 64;

    /// Checks `name`.
    pub fn parse(name: &str) -> Result<RoomName, RoomNameError> {
        if name.is_empty() {
            return Err(RoomNameError::Empty);
        }
        if name.len() > RoomName::MAX {
            return Err(RoomNameError::TooLong(name.len()));
        }
        if name.starts_with('.') {
            return Err(RoomNameError::LeadingDot);
        }
        match name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-')) {
            Some(other) => Err(RoomNameError::Character(other)),
            None => Ok(RoomName(name.to_owned())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RoomName {
    type Err = RoomNameError;

    fn from_str(name: &str) -> Result<RoomName, RoomNameError> {
        RoomName::parse(name)
    }
}

impl Serialize for RoomName {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

/// Who asks, as the authorizer found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The identity: a token's `sub`, or `anonymous:…` when authentication is off. Sessions belong to it.
    pub subject: String,
    /// The account that streams are counted for, when the token names one.
    pub account: Option<String>,
    /// May act on sessions and streams of others.
    pub admin: bool,
    /// Of the bearer token: it may end and restart the sessions that it started after its expiry too.
    pub token: Option<TokenDigest>,
}

/// Which side of a room a session is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sends media here (WHIP).
    Publisher,
    /// Is sent media (WHEP).
    Subscriber,
}

impl Role {
    /// `publisher` or `subscriber`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Publisher => "publisher",
            Role::Subscriber => "subscriber",
        }
    }
}

/// The secret last part of a session's URL: 128 random bits in base64url (22 characters). Who knows it may still only
/// use it as the principal that made the session.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionKey(String);

impl SessionKey {
    /// A new one.
    pub fn random() -> SessionKey {
        SessionKey(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()))
    }

    /// A key out of a URL; `None` when it cannot be one of ours.
    pub fn parse(text: &str) -> Option<SessionKey> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == 16).then(|| SessionKey(text.to_owned()))
    }

    /// As it stands in URLs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

/// Defines an id that is a UUID of version 7 (RFC 9562), so that ids sort by when they were made.
macro_rules! time_ordered_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// A new one.
            pub fn random() -> Self {
                Self(uuid::Uuid::now_v7().to_string())
            }

            /// Parses an id out of a URL or the store; `None` when it cannot be one of ours. Safe as a file's name.
            pub fn parse(text: &str) -> Option<Self> {
                let id = uuid::Uuid::try_parse(text).ok()?;
                let canonical = id.hyphenated().to_string();
                (canonical == text).then_some(Self(canonical))
            }

            /// As it stands in URLs.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }
    };
}

time_ordered_id! {
    /// One stream: one presence of a room.
    StreamId
}

time_ordered_id! {
    /// One recording of a stream. A long stream has several, one after the other; the first has the stream's id.
    RecordingId
}

impl RecordingId {
    /// Returns the id of a stream's first recording.
    pub fn first_of(stream: &StreamId) -> Self {
        Self(stream.0.clone())
    }

    /// Returns a new id that sorts by this time, for a recording that starts then.
    pub fn at(start: jiff::Timestamp) -> Self {
        let seconds = u64::try_from(start.as_second()).unwrap_or(0);
        let nanos = u32::try_from(start.subsec_nanosecond()).unwrap_or(0);
        let time = uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos);
        Self(uuid::Uuid::new_v7(time).to_string())
    }
}

/// A session that was let in.
#[derive(Clone, Debug)]
pub struct Established {
    /// For the `Location`.
    pub key: SessionKey,
    /// The SDP answer.
    pub answer: String,
    /// A strong entity tag, with its quotes.
    pub etag: String,
    /// Which side.
    pub role: Role,
}

/// A session that has not ended, as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionInfo {
    /// Its id: not the secret in its URL.
    pub id: String,
    /// Its room.
    #[schema(value_type = String)]
    pub room: RoomName,
    /// Its stream.
    #[schema(value_type = String)]
    pub stream: StreamId,
    /// `publisher` or `subscriber`.
    #[schema(value_type = String)]
    pub role: Role,
    /// The identity that started it; null where the token may only watch, unless it is its own.
    pub subject: Option<String>,
    /// When it was let in.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// ICE and DTLS are done.
    pub connected: bool,
}

/// Which sessions to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct SessionQuery {
    /// Only those of this room.
    pub room: Option<RoomName>,
    /// At most this many.
    pub limit: usize,
    /// Only those older than this one: the last one of the page before.
    pub before: Option<String>,
}

/// A source in this process, as its owner refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSource {
    /// The room in the media plane.
    pub room: RoomId,
    /// Its session.
    pub session: SessionId,
    /// For [`Control::delete`](super::Control::delete).
    pub key: SessionKey,
}

/// What a PATCH did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patched {
    /// Trickled candidates were taken note of.
    NoContent,
    /// ICE restarts.
    Restarted {
        /// An `application/trickle-ice-sdpfrag` with our new credentials and all candidates.
        fragment: String,
        /// The session's new strong entity tag, with its quotes.
        etag: String,
    },
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamState {
    /// Made, but no publisher's media came yet.
    Created,
    /// A publisher's media came, and it is not over: the publisher may be away for a while.
    Live,
    /// Over.
    Ended,
}

impl StreamState {
    /// `created`, `live` or `ended`.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamState::Created => "created",
            StreamState::Live => "live",
            StreamState::Ended => "ended",
        }
    }

    /// The reverse of [`StreamState::as_str`].
    pub fn parse(text: &str) -> Option<StreamState> {
        [StreamState::Created, StreamState::Live, StreamState::Ended].into_iter().find(|s| s.as_str() == text)
    }
}

/// What is told of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamInfo {
    /// Its id, and that of its first recording.
    #[schema(value_type = String)]
    pub id: StreamId,
    /// Its room.
    #[schema(value_type = String)]
    pub room: RoomName,
    /// A name for people, when it was given one.
    pub name: Option<String>,
    /// The account it counts for.
    pub account: Option<String>,
    /// The newest publisher's identity.
    pub publisher: Option<String>,
    /// Where it stands.
    pub state: StreamState,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When the first media came.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// Why it ended: `ended`, `idle`, `drain`, `never-started` or `server-restart`.
    pub end_reason: Option<String>,
    /// A publisher's media is there now.
    pub publishing: bool,
    /// Subscribers that are connected.
    pub viewers: usize,
    /// Why viewers see no picture now; failed connections of the last minute are here too.
    pub trouble: Vec<TroubleInfo>,
    /// Where to find it in the media plane's snapshot, while it has a room there.
    #[serde(skip)]
    pub media: Option<StreamMedia>,
}

/// One reason why a stream, or one viewer of it, is dark.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TroubleInfo {
    /// Stable: `no-keyframe`, `group-too-long`, `no-parameter-sets`, `no-video`, `no-media`, `policed`, `viewer-loss`,
    /// `link-too-narrow`, `codec-mismatch`, `nothing-sent` or `handshake-failed`.
    pub reason: &'static str,
    /// One sentence: the fact, then the remedy.
    pub message: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// `publisher` or `viewer`.
    pub peer: &'static str,
}

/// A stream's numbers in the media plane.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamMedia {
    /// The room.
    pub room: RoomId,
    /// The publisher's session.
    pub publisher: Option<SessionId>,
    /// The viewers' sessions.
    pub subscribers: Vec<SessionId>,
}

/// Which streams to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct StreamQuery {
    /// Only those in this state.
    pub state: Option<StreamState>,
    /// Only those of this room.
    pub room: Option<RoomName>,
    /// At most so many; 0 means 100, and more than 500 means 500.
    pub limit: usize,
    /// Only those older than this one: the last one of the page before.
    pub before: Option<StreamId>,
}

/// Caps as they are enforced now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Publishers in the process.
    pub max_publishers: usize,
    /// Subscribers in each room.
    pub max_subscribers_per_room: usize,
    /// Streams of each account that are not over; no cap when absent.
    pub max_streams_per_account: Option<usize>,
    /// Bits per second of each publisher; no cap when absent.
    pub max_bitrate: Option<u64>,
}

/// What there is now, and what was refused since start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Publishers that are connected.
    pub publishers: usize,
    /// Subscribers that are connected.
    pub subscribers: usize,
    /// Rooms with a stream that is not over.
    pub rooms: usize,
    /// Sessions that were let in and are not connected yet; they hold their slots already.
    pub reserved: usize,
    /// Newcomers refused since start, by reason: `publishers`, `subscribers`, `streams`, `busy`, `no-publisher`,
    /// `draining`.
    pub refused: Vec<(&'static str, u64)>,
}
