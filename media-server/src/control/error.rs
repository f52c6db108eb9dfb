//! What the control plane refuses, and why. No HTTP here: `http` maps each of these to a status and a problem type.

use crate::store::StoreError;
use sfu::sdp::SdpError;
use std::time::Duration;

/// When a slot may have come free: about what a session that vanished needs to time out.
pub(super) const FULL_RETRY_AFTER: Duration = Duration::from_secs(10);
/// When a publisher may have come.
pub(super) const NO_PUBLISHER_RETRY_AFTER: Duration = Duration::from_secs(2);
/// When a server that stops may have been replaced.
pub(super) const DRAINING_RETRY_AFTER: Duration = Duration::from_secs(10);

/// A cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cap {
    /// `limits.maxPublishers`
    Publishers,
    /// `limits.maxSubscribersPerRoom`
    SubscribersPerRoom,
    /// `limits.maxStreamsPerAccount`
    StreamsPerAccount,
    /// Streams made ahead that wait for their publisher: 1000 in the process, not configurable.
    StreamsAhead,
}

impl Cap {
    /// The field of the StreamSession that sets it, or what it is.
    pub fn field(self) -> &'static str {
        match self {
            Cap::Publishers => "limits.maxPublishers",
            Cap::SubscribersPerRoom => "limits.maxSubscribersPerRoom",
            Cap::StreamsPerAccount => "limits.maxStreamsPerAccount",
            Cap::StreamsAhead => "streams created ahead",
        }
    }
}

/// Why the control plane did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A cap is reached.
    #[error("full: {} is {limit}", what.field())]
    Full {
        /// Which cap.
        what: Cap,
        /// What it is set to.
        limit: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// The room has another publisher, or its stream belongs to another account.
    #[error("the room has another publisher")]
    Busy,
    /// A stream that is not over exists in the room already.
    #[error("the room has a stream already: {stream}")]
    StreamExists {
        /// Which.
        stream: String,
    },
    /// Nobody publishes in the room.
    #[error("nobody publishes in this room")]
    NoPublisher {
        /// When to try again.
        retry_after: Duration,
    },
    /// The offer or the fragment is not one that can be answered.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// There is no such session (any more).
    #[error("no such session")]
    NoSuchSession,
    /// There is no such stream that could be ended.
    #[error("no such stream")]
    NoSuchStream,
    /// The session or stream belongs to somebody else.
    #[error("this belongs to another identity")]
    NotYours,
    /// A PATCH without `If-Match`.
    #[error("PATCH needs If-Match: the session's ETag, or * to restart ICE")]
    PreconditionRequired,
    /// A PATCH for an ICE generation that is over.
    #[error("If-Match does not name the session's current ETag")]
    PreconditionFailed,
    /// The server is about to stop.
    #[error("the server is about to stop")]
    Draining {
        /// When to try again.
        retry_after: Duration,
    },
    /// The database refused.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// `MEDIA_MODE` is not `single_server_sfu`.
    #[error("this server runs without media: MEDIA_MODE is not single_server_sfu")]
    NoMedia,
}
