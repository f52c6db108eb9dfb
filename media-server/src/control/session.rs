//! A session after it was let in: trickled candidates, ICE restarts, and its end (RFC 9725 §4.3, whose rules WHEP
//! shares).

use super::error::ControlError;
use super::etag;
use super::registry::Now;
use super::types::{Patched, Principal, Role, RoomName, SessionInfo, SessionKey, SessionQuery};
use super::{Control, Inner};
use crate::auth::TokenDigest;
use sfu::sdp::IceFragment;

impl Control {
    /// Trickle or ICE restart (PATCH). `if_match` is the header's value as received; a stale tag is
    /// [`ControlError::PreconditionFailed`]. Other credentials than the session's restart ICE, which without the header is
    /// [`ControlError::PreconditionRequired`]; a repeated restart request has the same answer. Candidates need no
    /// tag (RFC 9725 §4.3.2) and are dropped silently, as this server is ICE-lite; so are late ones of the generation
    /// before: its credentials stay valid until the new ones are used.
    pub async fn patch(
        &self,
        room: &RoomName,
        role: Role,
        key: &SessionKey,
        who: &Principal,
        if_match: Option<&str>,
        body: &str,
    ) -> Result<Patched, ControlError> {
        let media = self.inner.media.as_deref().ok_or(ControlError::NoMedia)?;
        let fragment = IceFragment::parse(body);
        let mut registry = self.inner.registry();
        let (id, session) = registry.session(room, role, key, who)?;
        if if_match.is_some() {
            etag::check(if_match, &session.etag)?;
        }
        let fragment = fragment?;
        let Some(remote) = fragment.ice.clone() else { return Ok(Patched::NoContent) };
        if remote == session.remote {
            return Ok(match &session.restarted {
                // The same restart again: its answer was lost on the way, and the client cannot go on without it.
                Some(local) if etag::is_star(if_match) => {
                    Patched::Restarted { fragment: fragment.answer(local), etag: session.etag.clone() }
                }
                _ => Patched::NoContent,
            });
        }
        if if_match.is_none() && session.previous.as_ref() == Some(&remote) {
            return Ok(Patched::NoContent);
        }
        etag::check(if_match, &session.etag)?;
        let local = media.describe(session.media);
        let answer = fragment.answer(&local);
        session.etag = etag::random();
        session.previous = Some(std::mem::replace(&mut session.remote, remote.clone()));
        media.restart_ice(session.media, id, local.ice.clone(), remote);
        session.restarted = Some(local);
        Ok(Patched::Restarted { fragment: answer, etag: session.etag.clone() })
    }

    /// Ends a session (DELETE); its slot is free when this returns. Entity tags do not matter here.
    pub async fn delete(
        &self,
        room: &RoomName,
        role: Role,
        key: &SessionKey,
        who: &Principal,
    ) -> Result<(), ControlError> {
        delete(&self.inner, room, role, key, who)
    }

    /// Returns the principal that started the session of a URL, when it did so by this very token: also after the token's
    /// expiry it may restart and end that session.
    pub fn creator(&self, room: &RoomName, role: Role, key: &SessionKey, token: &TokenDigest) -> Option<Principal> {
        self.inner.registry().creator(room, role, key, token)
    }

    /// Lists the sessions that have not ended, newest first.
    pub fn sessions(&self, query: &SessionQuery) -> Vec<SessionInfo> {
        self.inner.registry().sessions(query)
    }

    /// Returns the session with this id, which is not the secret of its URL, while it has not ended.
    pub fn session_by_id(&self, id: &str) -> Option<SessionInfo> {
        self.inner.registry().session_by_id(id)
    }

    /// Ends the session with this id; its slot is free when this returns. For its own identity and admins; with `manages`
    /// for the stream's owner too.
    pub fn end_session(&self, id: &str, who: &Principal, manages: bool) -> Result<(), ControlError> {
        let mut effects = Vec::new();
        let mut registry = self.inner.registry();
        registry.end_session(id, who, manages, Now::new(), &mut effects)?;
        self.inner.perform(effects);
        Ok(())
    }
}

fn delete(inner: &Inner, room: &RoomName, role: Role, key: &SessionKey, who: &Principal) -> Result<(), ControlError> {
    let mut effects = Vec::new();
    let mut registry = inner.registry();
    let (id, _) = registry.session(room, role, key, who)?;
    registry.dismiss(id, "deleted", Now::new(), &mut effects);
    inner.perform(effects);
    Ok(())
}
