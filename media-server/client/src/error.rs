//! What a camera, a viewer or a probe can fail of.

use crate::peer::{NotConnected, PeerError};
use crate::signal::SignalError;
use ingest::source::SourceError;

/// Why it failed. The text is for people; [`fix`](Error::fix) says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What should be played cannot be.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The server gave no session.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// The session's media did not connect.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

impl Error {
    /// What to do about it; `None` where the text says it already.
    pub fn fix(&self) -> Option<String> {
        match self {
            Error::Source(_) => None,
            Error::Signal(SignalError::Unreachable { .. }) => {
                Some("start the server, or correct the host and port of the URL".to_owned())
            }
            Error::Signal(SignalError::Refused { status, retry_after, .. }) => Some(match status.as_u16() {
                401 | 403 => "give a token that this room accepts (--token)".to_owned(),
                404 => "correct the path: endpoints are /whip/ROOM and /whep/ROOM".to_owned(),
                409 => "for a camera: stop the other one in this room, or take another room; for a viewer: start the camera first".to_owned(),
                503 => match retry_after {
                    Some(after) => format!("the server is at its limit: try again in {} s, or raise the limit", after.as_secs()),
                    None => "the server is at its limit: try again later, or raise the limit".to_owned(),
                },
                _ => "see the server's log for this request".to_owned(),
            }),
            Error::Signal(_) => None,
            Error::Peer(PeerError::NotConnected { cause: NotConnected::Ice, remote, .. }) => Some(format!(
                "let UDP through to {}: open it in the firewall, and see that the server announces an address that is reached from here",
                if remote.is_empty() { "the media port (the server announced no candidate)".to_owned() } else { remote.join(", ") }
            )),
            Error::Peer(PeerError::NotConnected { cause: NotConnected::Dtls, .. }) => {
                Some("look for packet loss or a firewall that cuts larger UDP packets on the way".to_owned())
            }
            Error::Peer(PeerError::CodecRefused(_)) => Some("publish in a codec that the server takes".to_owned()),
            Error::Peer(_) => None,
        }
    }

    /// Another session may succeed where this one got stuck.
    pub(crate) fn is_stuck_handshake(&self) -> bool {
        matches!(self, Error::Peer(PeerError::NotConnected { cause: NotConnected::Dtls, .. }))
    }

    /// The addresses that were tried: ours, and the server's.
    pub fn candidates(&self) -> Option<(&[String], &[String])> {
        match self {
            Error::Peer(PeerError::NotConnected { local, remote, .. }) => Some((local, remote)),
            _ => None,
        }
    }
}
