//! Sessions in the registry: found by the secret of their URL, listed, and ended by their id.

use super::{Effect, Now, Registry, Session, owns};
use crate::auth::TokenDigest;
use crate::control::error::ControlError;
use crate::control::notices::Channel;
use crate::control::types::{Principal, Role, RoomName, SessionInfo, SessionKey, SessionQuery};
use sfu::parameters::SessionId;

impl Registry {
    /// Returns whether a session has not ended.
    pub(in crate::control) fn has_session(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// Finds the session of a URL, for its maker or an admin.
    pub(in crate::control) fn session(
        &mut self,
        room: &RoomName,
        role: Role,
        key: &SessionKey,
        who: &Principal,
    ) -> Result<(SessionId, &mut Session), ControlError> {
        let id = *self.keys.get(key).ok_or(ControlError::NoSuchSession)?;
        let session = self.sessions.get_mut(&id).ok_or(ControlError::NoSuchSession)?;
        if session.role != role || session.room != *room {
            return Err(ControlError::NoSuchSession);
        }
        if session.subject != who.subject && !who.admin {
            return Err(ControlError::NotYours);
        }
        Ok((id, session))
    }

    /// The channel of a viewer's session, for whoever knows the session's key.
    pub(in crate::control) fn channel(&self, room: &RoomName, key: &SessionKey) -> Option<&Channel> {
        let session = self.sessions.get(self.keys.get(key)?)?;
        session.notices.as_ref().filter(|_| session.room == *room)
    }

    /// Returns the principal that started the session of a URL, when it did so by this very token.
    pub(in crate::control) fn creator(
        &self,
        room: &RoomName,
        role: Role,
        key: &SessionKey,
        token: &TokenDigest,
    ) -> Option<Principal> {
        let session = self.sessions.get(self.keys.get(key)?)?;
        let same = session.role == role && session.room == *room && session.token.as_ref() == Some(token);
        same.then(|| Principal {
            subject: session.subject.clone(),
            account: None,
            admin: false,
            token: session.token.clone(),
        })
    }

    /// Lists the sessions that have not ended, newest first.
    pub(in crate::control) fn sessions(&self, query: &SessionQuery) -> Vec<SessionInfo> {
        let listed = |session: &&Session| {
            query.room.as_ref().is_none_or(|room| session.room == *room)
                && query.before.as_ref().is_none_or(|before| session.row < *before)
        };
        let mut found: Vec<_> = self.sessions.values().filter(listed).collect();
        found.sort_unstable_by(|a, b| b.row.cmp(&a.row));
        found.truncate(query.limit);
        found.into_iter().filter_map(|session| self.session_info(session)).collect()
    }

    /// Returns the session with this id.
    pub(in crate::control) fn session_by_id(&self, id: &str) -> Option<SessionInfo> {
        self.session_info(self.sessions.values().find(|session| session.row == id)?)
    }

    /// Ends the session with this id: for its own identity and admins; for the stream's owner if `manages`.
    pub(in crate::control) fn end_session(
        &mut self,
        id: &str,
        who: &Principal,
        manages: bool,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<(), ControlError> {
        let found = self.sessions.iter().find(|(_, session)| session.row == id);
        let (&session_id, session) = found.ok_or(ControlError::NoSuchSession)?;
        let stream = self.rooms.get(&session.room).map(|room| &room.stream);
        let owned = manages && stream.is_some_and(|stream| owns(who, stream));
        if !who.admin && session.subject != who.subject && !owned {
            return Err(ControlError::NotYours);
        }
        self.dismiss(session_id, "ended", now, out);
        Ok(())
    }

    fn session_info(&self, session: &Session) -> Option<SessionInfo> {
        Some(SessionInfo {
            id: session.row.clone(),
            room: session.room.clone(),
            stream: self.rooms.get(&session.room)?.stream.id.clone(),
            role: session.role,
            subject: Some(session.subject.clone()),
            started_at: session.started_at,
            connected: session.connected,
        })
    }
}
