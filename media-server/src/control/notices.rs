//! What one viewer is told while it watches: for now, that it should come again.
//!
//! A viewer that wants it opens a channel of its session, one at most; it ends with the session. The rules are those of the
//! server-sent events extension of WHEP.

use super::Control;
use super::error::ControlError;
use super::types::{Principal, Role, RoomName, SessionKey};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The channel of a session, as the session keeps it.
#[derive(Debug)]
pub(super) struct Channel {
    id: SessionKey,
    over: CancellationToken,
    /// Cancels `over` when the session is forgotten, or opens another.
    _guard: DropGuard,
}

/// The other end of a channel.
#[derive(Debug)]
pub struct Notices {
    over: CancellationToken,
    leaving: CancellationToken,
}

impl Notices {
    /// Waits for the end: `true` when the viewer should drop its session and come again, since the server is about to stop.
    pub async fn reconnect(self) -> bool {
        tokio::select! {
            // When the server stops, the session ends right after it is told.
            biased;
            () = self.leaving.cancelled() => true,
            () = self.over.cancelled() => false,
        }
    }
}

impl Control {
    /// Opens the channel of a viewer's session, for its maker or an admin, in place of one that is open. Gives its name,
    /// which nobody else can guess.
    pub fn open_notices(&self, room: &RoomName, key: &SessionKey, who: &Principal) -> Result<SessionKey, ControlError> {
        let mut registry = self.inner.registry();
        let (_, session) = registry.session(room, Role::Subscriber, key, who)?;
        let (id, over) = (SessionKey::random(), CancellationToken::new());
        session.notices = Some(Channel { id: id.clone(), over: over.clone(), _guard: over.drop_guard() });
        Ok(id)
    }

    /// The channel with this name, if it is open.
    pub fn notices(&self, room: &RoomName, key: &SessionKey, id: &SessionKey) -> Option<Notices> {
        let registry = self.inner.registry();
        let channel = registry.channel(room, key)?;
        let over = (channel.id == *id).then(|| channel.over.clone())?;
        Some(Notices { over, leaving: self.inner.leaving.clone() })
    }

    /// Closes the channel with this name, for the session's maker or an admin.
    pub fn close_notices(
        &self,
        room: &RoomName,
        key: &SessionKey,
        id: &SessionKey,
        who: &Principal,
    ) -> Result<(), ControlError> {
        let mut registry = self.inner.registry();
        let (_, session) = registry.session(room, Role::Subscriber, key, who)?;
        session.notices.take_if(|channel| channel.id == *id).map(drop).ok_or(ControlError::NoSuchSession)
    }
}
