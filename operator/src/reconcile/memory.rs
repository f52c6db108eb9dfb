//! What the operator remembers of a session between passes: what it has just written, what was refused, and Secrets for
//! a few seconds. All of it may be lost at any time; then a pass costs a few more reads, and a refusal is told again.
//!
//! A cache lags behind one's own writes. Who plans from it alone writes twice, or sees a condition flip back. So what a
//! write has answered counts until the cache has it too.

use super::objects::version;
use crate::plan::{Child, Copied, OwnSecret, PushRefused, Refusal};
use jiff::Timestamp;
use kube::runtime::events::Recorder;
use kube::{Resource, ResourceExt};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use streamsession_api::StreamSession;
use tokio::sync::Mutex as AsyncMutex;

/// For how long a write counts that the cache has not seen. After that the cache is right: somebody else was at it.
const LAG: Duration = Duration::from_secs(15);
/// For how long a Secret that the operator made is not read again.
const SECRET: Duration = Duration::from_secs(30);
/// Events that are remembered for each session, so that one that comes again is counted instead of told anew.
const NOTES: usize = 16;

/// What is remembered of all sessions.
#[derive(Default)]
pub(super) struct Memory {
    /// By namespace/name: the uid, and what is remembered of it.
    sessions: Mutex<HashMap<String, (String, Shared)>>,
}

/// Held for the length of a pass.
type Shared = Arc<AsyncMutex<Remembered>>;

impl Memory {
    /// Of one session: of this one, not of an earlier one of its name.
    pub(super) fn of(&self, key: &str, session: &StreamSession) -> Shared {
        let uid = session.uid().unwrap_or_default();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = sessions.entry(key.to_owned()).or_insert_with(|| (uid.clone(), Arc::default()));
        if entry.0 != uid {
            *entry = (uid, Arc::default());
        }
        Arc::clone(&entry.1)
    }

    /// Forgets a session that is gone.
    pub(super) fn forget(&self, key: &str) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// What is remembered of one session.
#[derive(Default)]
pub(super) struct Remembered {
    /// What the API server refused in the last pass.
    pub(super) refusals: Vec<Refusal>,
    /// What the media server refused.
    pub(super) push_refused: Option<PushRefused>,
    /// The pod whose server does not answer, by its uid, and since when.
    silence: Option<(Option<String>, Timestamp)>,
    written: HashMap<Child, (Value, Instant)>,
    session: Option<Arc<StreamSession>>,
    secrets: HashMap<String, (OwnSecret, Instant)>,
    copy: Option<(Option<Copied>, Instant)>,
    notes: Vec<((String, String), Recorder)>,
}

impl Remembered {
    /// The server of the pod of this uid was asked, and `answered` or not: since when it has not, if it has not.
    pub(super) fn asked(&mut self, pod: Option<String>, answered: bool, now: Timestamp) -> Option<Timestamp> {
        self.silence = match self.silence.take() {
            _ if answered => None,
            Some((known, since)) if known == pod => Some((known, since)),
            _ => Some((pod, now)),
        };
        self.silence.as_ref().map(|(_, since)| *since)
    }

    /// A write was answered with this object.
    pub(super) fn wrote(&mut self, child: Child, object: Value, now: Instant) {
        self.written.insert(child, (object, now));
    }

    /// It was deleted: what a write has answered counts no more.
    pub(super) fn deleted(&mut self, child: &Child) {
        self.written.remove(child);
    }

    /// The newer of what the cache has and what a write has answered.
    pub(super) fn newest(&mut self, child: &Child, cached: Option<Value>, now: Instant) -> Option<Value> {
        let Some((object, at)) = self.written.get(child) else { return cached };
        let caught_up = match (&cached, version(object)) {
            (Some(cached), Some(written)) => version(cached).is_none_or(|seen| seen >= written),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if caught_up || now.saturating_duration_since(*at) > LAG {
            self.written.remove(child);
            return cached;
        }
        Some(object.clone())
    }

    /// The session as a write of it has answered.
    pub(super) fn wrote_session(&mut self, session: StreamSession) {
        self.session = Some(Arc::new(session));
    }

    /// The newer of the session in the cache and the one that a status write has answered.
    pub(super) fn newest_session(&mut self, cached: Arc<StreamSession>) -> Arc<StreamSession> {
        let number = |session: &StreamSession| session.meta().resource_version.as_ref()?.parse::<u64>().ok();
        match &self.session {
            Some(written) if number(written) > number(&cached) && number(&cached).is_some() => Arc::clone(written),
            _ => {
                self.session = None;
                cached
            }
        }
    }

    /// A Secret that was read or written lately.
    pub(super) fn secret(&self, name: &str, now: Instant) -> Option<OwnSecret> {
        let (secret, at) = self.secrets.get(name)?;
        (now.saturating_duration_since(*at) <= SECRET).then(|| secret.clone())
    }

    /// Remembers a Secret for a while.
    pub(super) fn keep_secret(&mut self, name: &str, secret: OwnSecret, now: Instant) {
        self.secrets.insert(name.to_owned(), (secret, now));
    }

    /// The copied Secret in the operator's namespace, or that there is none, as it was read lately.
    pub(super) fn copy(&self, now: Instant) -> Option<Option<Copied>> {
        let (copy, at) = self.copy.as_ref()?;
        (now.saturating_duration_since(*at) <= SECRET).then(|| copy.clone())
    }

    /// Remembers that for a while.
    pub(super) fn keep_copy(&mut self, copy: Option<Copied>, now: Instant) {
        self.copy = Some((copy, now));
    }

    /// Forgets it, so that it is read again.
    pub(super) fn drop_copy(&mut self) {
        self.copy = None;
    }

    /// Forgets a Secret, so that it is read again.
    pub(super) fn drop_secret(&mut self, name: &str) {
        self.secrets.remove(name);
    }

    /// What tells this event: the same recorder for the same words, which counts instead of repeating; kube's knows
    /// reasons apart, but not messages, and would show the first message for ever.
    pub(super) fn recorder(&mut self, reason: &str, message: &str, make: impl FnOnce() -> Recorder) -> Recorder {
        let key = (reason.to_owned(), message.to_owned());
        if let Some((_, recorder)) = self.notes.iter().find(|(known, _)| *known == key) {
            return recorder.clone();
        }
        if self.notes.len() == NOTES {
            self.notes.remove(0);
        }
        let recorder = make();
        self.notes.push((key, recorder.clone()));
        recorder
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Kind;
    use serde_json::json;
    use streamsession_api::StreamSessionSpec;

    fn child() -> Child {
        Child { kind: Kind::Service, name: "x".to_owned() }
    }

    fn object(version: &str) -> Value {
        json!({"metadata": {"resourceVersion": version}})
    }

    #[test]
    fn a_write_counts_until_the_cache_has_it() {
        let (mut memory, now) = (Remembered::default(), Instant::now());
        memory.wrote(child(), object("7"), now);
        assert_eq!(memory.newest(&child(), None, now), Some(object("7")));
        assert_eq!(memory.newest(&child(), Some(object("6")), now), Some(object("7")));
        assert_eq!(memory.newest(&child(), Some(object("10")), now), Some(object("10")), "a number, not a text");
        assert_eq!(memory.newest(&child(), None, now), None, "it was seen, so it is gone now");
    }

    #[test]
    fn a_write_that_the_cache_never_shows_counts_no_longer_than_caches_lag() {
        let (mut memory, now) = (Remembered::default(), Instant::now());
        memory.wrote(child(), object("7"), now);
        assert_eq!(memory.newest(&child(), None, now + LAG + Duration::from_secs(1)), None);
    }

    #[test]
    fn silence_counts_from_its_first_question_until_an_answer_or_another_pod() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let pod = |uid: &str| Some(uid.to_owned());
        let mut memory = Remembered::default();
        assert_eq!(memory.asked(pod("a"), true, at(1)), None);
        assert_eq!(memory.asked(pod("a"), false, at(5)), Some(at(5)));
        assert_eq!(memory.asked(pod("a"), false, at(9)), Some(at(5)));
        assert_eq!(memory.asked(pod("b"), false, at(12)), Some(at(12)), "another pod");
        assert_eq!(memory.asked(pod("b"), true, at(13)), None);
        assert_eq!(memory.asked(pod("b"), false, at(20)), Some(at(20)));
    }

    #[test]
    fn a_session_of_the_same_name_begins_with_nothing() {
        let memory = Memory::default();
        let mut session = StreamSession::new("x", StreamSessionSpec::default());
        session.metadata.uid = Some("one".to_owned());
        let first = memory.of("a/x", &session);
        assert!(Arc::ptr_eq(&first, &memory.of("a/x", &session)));
        session.metadata.uid = Some("two".to_owned());
        assert!(!Arc::ptr_eq(&first, &memory.of("a/x", &session)));
    }

    #[test]
    fn the_status_that_was_written_is_not_forgotten_while_the_cache_lags() {
        let at = |version: &str| {
            let mut session = StreamSession::new("x", StreamSessionSpec::default());
            session.metadata.resource_version = Some(version.to_owned());
            session
        };
        let version = |session: &StreamSession| session.metadata.resource_version.clone().unwrap();
        let mut memory = Remembered::default();
        memory.wrote_session(at("12"));
        assert_eq!(version(&memory.newest_session(Arc::new(at("9")))), "12");
        assert_eq!(version(&memory.newest_session(Arc::new(at("13")))), "13");
        assert_eq!(version(&memory.newest_session(Arc::new(at("9")))), "9", "nothing newer is known any more");
    }
}
