//! The control plane: who may come in, which rooms and streams there are, and what becomes of them.
//!
//! It decides and keeps the books; the media plane moves packets, the store remembers, the recorder records, HTTP
//! translates. The rules of sessions are those of WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep). It does not know
//! HTTP, does not check tokens, and never waits for a disk before a session is answered.
//!
//! A *room* is a name. A *stream* is one presence of a room: it starts with the first publisher's media (or is created
//! ahead), outlives its publisher by the idle timeout, and ends once. A *session* is one peer's connection.

mod error;
mod events;
mod media;
mod recorder;
mod types;

pub use error::{Cap, ControlError};
pub use events::Event;
pub use media::{EndReason, Media, MediaEvent, Publish, Subscribe};
pub use recorder::Recorder;
pub use types::{
    Counts, Established, Limits, Patched, Principal, Role, RoomName, RoomNameError, SessionKey, StreamId, StreamInfo,
    StreamMedia, StreamQuery, StreamState,
};

use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};

/// What the control plane is made of.
pub struct ControlParts {
    /// The media plane; without one (`MEDIA_MODE`), publishing and watching are refused.
    pub media: Option<Arc<dyn Media>>,
    /// What the media plane tells.
    pub events: mpsc::UnboundedReceiver<MediaEvent>,
    /// The database.
    pub store: Store,
    /// The caps to begin with.
    pub limits: Limits,
    /// How long a stream outlives its publisher.
    pub idle_timeout: Duration,
    /// The recording plane, when recording is on.
    pub recorder: Option<Arc<dyn Recorder>>,
}

/// The control plane. A cheap handle.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

struct Inner {
    events: events::Events,
}

impl Control {
    /// Sets the books straight after a restart and starts.
    pub async fn start(parts: ControlParts) -> Result<Control, ControlError> {
        let _ = parts;
        Ok(Control { inner: Arc::new(Inner { events: events::Events::new() }) })
    }

    /// Lets a publisher in (WHIP POST).
    pub async fn publish(&self, room: &RoomName, who: &Principal, offer: &str) -> Result<Established, ControlError> {
        let _ = (room, who, offer);
        Err(ControlError::NoMedia)
    }

    /// Lets a subscriber in (WHEP POST).
    pub async fn subscribe(&self, room: &RoomName, who: &Principal, offer: &str) -> Result<Established, ControlError> {
        let _ = (room, who, offer);
        Err(ControlError::NoMedia)
    }

    /// Trickle or ICE restart (PATCH). `if_match` is the header's value as it came.
    pub async fn patch(
        &self,
        room: &RoomName,
        role: Role,
        key: &SessionKey,
        who: &Principal,
        if_match: Option<&str>,
        body: &str,
    ) -> Result<Patched, ControlError> {
        let _ = (room, role, key, who, if_match, body);
        Err(ControlError::NoSuchSession)
    }

    /// Ends a session (DELETE); its slot is free when this returns.
    pub async fn delete(
        &self,
        room: &RoomName,
        role: Role,
        key: &SessionKey,
        who: &Principal,
    ) -> Result<(), ControlError> {
        let _ = (room, role, key, who);
        Err(ControlError::NoSuchSession)
    }

    /// Makes a stream before its publisher comes. It is in the database when this returns.
    pub async fn create_stream(
        &self,
        room: &RoomName,
        who: &Principal,
        name: Option<String>,
    ) -> Result<StreamInfo, ControlError> {
        let _ = (room, who, name);
        Err(ControlError::NoMedia)
    }

    /// Ends a stream: publisher and viewers are dropped, and its recording is finalised when this returns.
    /// Ending one that is over gives what became of it.
    pub async fn end_stream(&self, id: &StreamId, who: &Principal) -> Result<StreamInfo, ControlError> {
        let _ = (id, who);
        Err(ControlError::NoSuchStream)
    }

    /// Lists streams, newest first.
    pub async fn streams(&self, query: StreamQuery) -> Result<Vec<StreamInfo>, ControlError> {
        let _ = query;
        Ok(Vec::new())
    }

    /// One stream, live or past.
    pub async fn stream(&self, id: &StreamId) -> Result<Option<StreamInfo>, ControlError> {
        let _ = id;
        Ok(None)
    }

    /// Everything that happens from now on.
    pub fn subscribe_events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.inner.events.subscribe()
    }

    /// What happened after event `id`, as far as it is kept, and everything that happens from now on, without a hole
    /// between the two.
    pub fn events_since(&self, id: u64) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        self.inner.events.since(id)
    }

    /// Sets the caps. Lower ones drop nobody: they hold for newcomers.
    pub fn set_limits(&self, limits: Limits) {
        let _ = limits;
    }

    /// The caps that are enforced.
    pub fn limits(&self) -> Limits {
        Limits { max_publishers: 0, max_subscribers_per_room: 0, max_streams_per_account: None, max_bitrate: None }
    }

    /// What there is now.
    pub fn counts(&self) -> Counts {
        Counts::default()
    }

    /// Refuses newcomers, ends all streams, waits until their recordings are finalised and the books are written.
    pub async fn drain(&self) {}
}
