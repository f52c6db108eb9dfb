//! The control plane: who may come in, which rooms and streams there are, and what becomes of them.
//!
//! It decides and keeps the books; the media plane moves packets, the store remembers, the recorder records, HTTP
//! translates. The rules of sessions are those of WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep). It does not know
//! HTTP, does not check tokens, and never waits for a disk before a session is answered.
//!
//! A *room* is a name. A *stream* is one presence of a room: it starts with the first publisher's media (or is created
//! ahead), outlives its publisher by the idle timeout, and ends once. A *session* is one peer's connection.

mod admission;
mod error;
mod etag;
mod events;
mod expiry;
mod join;
mod journal;
mod media;
mod notices;
mod recorder;
mod refusals;
mod registry;
mod session;
mod streams;
#[cfg(test)]
mod tests;
mod troubles;
mod types;

pub use error::{Cap, ControlError};
pub use events::{Event, Heard, Listener};
pub use media::{EndReason, Media, MediaEvent, Publish, Subscribe};
pub use notices::Notices;
pub use recorder::Recorder;
pub use types::{
    Counts, Established, Limits, LocalSource, Patched, Principal, RecordingId, Role, RoomName, RoomNameError,
    SessionInfo, SessionKey, SessionQuery, StreamId, StreamInfo, StreamMedia, StreamQuery, StreamState, TroubleInfo,
};

use crate::store::Store;
use admission::Gate;
use events::Events;
use journal::Journal;
use refusals::Refusals;
use registry::{Effect, Now, Registry};
use sfu::sdp::AnswerOptions;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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
    /// The recording plane, if there is one.
    pub recorder: Option<Arc<dyn Recorder>>,
    /// Streams are recorded, to begin with.
    pub recording: bool,
}

/// The control plane. A cheap handle.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Mutex<Registry>,
    gate: Gate,
    /// How offers are answered from now on; the bitrate is the gate's.
    answers: RwLock<AnswerOptions>,
    media: Option<Arc<dyn Media>>,
    recorder: Option<Arc<dyn Recorder>>,
    store: Store,
    journal: Journal,
    events: Arc<Events>,
    refusals: Refusals,
    /// Recordings that are being finalised.
    finishing: TaskTracker,
    /// Cancelled when the server is about to stop, before the sessions end.
    leaving: CancellationToken,
    /// The time at which the next stream ends may have changed.
    idle: Notify,
}

impl Control {
    /// Sets the books straight after a restart and starts.
    pub async fn start(parts: ControlParts) -> Result<Control, ControlError> {
        let leftovers = parts.store.end_leftovers().await?;
        if !leftovers.ended.is_empty() || leftovers.sessions > 0 {
            let (streams, sessions) = (leftovers.ended.len(), leftovers.sessions);
            tracing::info!(streams, sessions, "ended what the process before left open");
        }
        let gate = Gate::new(parts.limits.clone());
        let mut registry = Registry::new(parts.idle_timeout, parts.recording);
        for stream in leftovers.waiting {
            registry.restore(stream, &gate);
        }
        if let Some(media) = &parts.media {
            media.set_max_bitrate(parts.limits.max_bitrate);
        }
        let events = Arc::new(Events::new(parts.store.reserve_event_ids(events::RESERVED).await?));
        let inner = Arc::new(Inner {
            registry: Mutex::new(registry),
            gate,
            answers: RwLock::default(),
            media: parts.media,
            recorder: parts.recorder,
            journal: Journal::start(parts.store.clone(), events.clone()),
            store: parts.store,
            events,
            refusals: Refusals::default(),
            finishing: TaskTracker::new(),
            leaving: CancellationToken::new(),
            idle: Notify::new(),
        });
        leftovers.ended.iter().filter_map(registry::late_end).for_each(|news| inner.journal.tell(news));
        tokio::spawn(watch(inner.clone(), parts.events));
        tokio::spawn(expiry::run(inner.store.clone(), inner.leaving.clone()));
        Ok(Control { inner })
    }

    /// Everything that happens from now on.
    pub fn subscribe_events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.inner.events.subscribe()
    }

    /// Follows the events after the one with the id `last`, or those from now on. Events that are not kept any more are reported.
    pub fn listen(&self, last: Option<u64>) -> Listener {
        self.inner.events.follow(self.inner.store.clone(), last)
    }

    /// Sets the caps. Lower ones drop nobody: they hold for newcomers. The bitrate holds for all.
    pub fn set_limits(&self, limits: Limits) {
        if let Some(media) = &self.inner.media {
            media.set_max_bitrate(limits.max_bitrate);
        }
        self.inner.gate.set_limits(limits);
    }

    /// The caps that are enforced.
    pub fn limits(&self) -> Limits {
        self.inner.gate.limits()
    }

    /// Sets how offers are answered from now on. Sessions that run keep their answers.
    pub fn set_answers(&self, options: AnswerOptions) {
        *self.inner.answers.write().unwrap_or_else(PoisonError::into_inner) = options;
    }

    /// Sets the bytes of video that each room keeps for viewers that join, those included that are open.
    pub fn set_gop_cache(&self, bytes: usize) {
        self.inner.with_media(|media| media.set_gop_cache(bytes));
    }

    /// How long a stream outlives its publisher from now on, those included whose publisher is away already.
    pub fn set_idle_timeout(&self, idle_timeout: Duration) {
        self.inner.registry().set_idle_timeout(idle_timeout);
        self.inner.idle.notify_one();
    }

    /// Whether the streams that begin from now on are recorded; those that run go on as they are.
    pub fn set_recording(&self, recording: bool) {
        self.inner.registry().recording = recording;
    }

    /// Where clients are told to send media; nowhere without a media plane.
    pub fn announced(&self) -> Vec<SocketAddr> {
        self.inner.media.as_ref().map(|media| media.announced()).unwrap_or_default()
    }

    /// What newcomers, and those who restart ICE, are told from now on. Nobody else notices.
    pub fn set_announced(&self, addresses: Vec<SocketAddr>) {
        self.inner.with_media(|media| media.set_announced(addresses));
    }

    /// What there is now.
    pub fn counts(&self) -> Counts {
        let (publishers, subscribers, rooms, reserved) = self.inner.registry().counts();
        Counts { publishers, subscribers, rooms, reserved, refused: self.inner.refusals.totals() }
    }

    /// Whether newcomers are refused because the server is about to stop.
    pub fn is_draining(&self) -> bool {
        self.inner.registry().draining
    }

    /// Whether besides nobody is left, and the recordings that ran are finalised, failed, or put off.
    pub fn has_drained(&self) -> bool {
        let registry = self.inner.registry();
        let (publishers, subscribers, _, connecting) = registry.counts();
        registry.draining && publishers + subscribers + connecting == 0 && self.inner.finishing.is_empty()
    }
}

impl Inner {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        // A panic in a transition is a defect, but the others' streams shall not end with it.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what transitions asked for, in order; called under the registry's lock, so nothing here waits.
    /// Gives the recordings that are being finalised.
    fn perform(&self, effects: Vec<Effect>) -> Vec<JoinHandle<()>> {
        let mut finishing = Vec::new();
        for effect in effects {
            match effect {
                Effect::Write(change) => self.journal.write(change),
                Effect::Tell(news) => self.journal.tell(news),
                Effect::Close { room, session } => self.with_media(|media| media.close(room, session)),
                Effect::CloseRoom(room) => self.with_media(|media| media.close_room(room)),
                Effect::StartRecording { room, stream, name, publisher, tracks, at } => {
                    self.with_recorder(|recorder| recorder.start(room, stream, name, publisher, &tracks, at));
                }
                Effect::SourceChanged { room, publisher, tracks } => {
                    self.with_recorder(|recorder| recorder.source_changed(room, publisher, &tracks));
                }
                Effect::FinishRecording(room) => self.with_recorder(|recorder| {
                    finishing.push(self.finishing.spawn(recorder.finish(room)));
                }),
            }
        }
        // Cheap, and mostly nobody's timer changed; but whoever changed one need not think of it.
        self.idle.notify_one();
        finishing
    }

    /// Returns how an offer is answered now.
    fn answers(&self) -> AnswerOptions {
        let options = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        AnswerOptions { max_bitrate: self.gate.limits().max_bitrate, ..options.clone() }
    }

    fn with_media(&self, call: impl FnOnce(&dyn Media)) {
        if let Some(media) = &self.media {
            call(media.as_ref());
        }
    }

    fn with_recorder(&self, call: impl FnOnce(&dyn Recorder)) {
        if let Some(recorder) = &self.recorder {
            call(recorder.as_ref());
        }
    }

    fn on_media(&self, event: MediaEvent) {
        let mut effects = Vec::new();
        let mut registry = self.registry();
        match event {
            MediaEvent::Connected { session } => registry.connected(session, Now::new(), &mut effects),
            MediaEvent::MediaStarted { session, .. } => registry.media_started(session, Now::new(), &mut effects),
            MediaEvent::Trouble(change) => registry.trouble(change, Now::new(), &mut effects),
            MediaEvent::Ended { session, reason } => {
                if let EndReason::Failed(why) = &reason {
                    tracing::info!(session = session.0, why, "a session failed");
                }
                registry.never_connected(session, &reason, Now::new(), &mut effects);
                registry.ended(session, reason.as_str(), Now::new(), &mut effects);
            }
        }
        self.perform(effects);
    }

    fn on_idle(&self) {
        let mut effects = Vec::new();
        let mut registry = self.registry();
        registry.end_idle(Now::new(), &mut effects);
        self.perform(effects);
    }
}

/// Follows the media plane, and ends streams whose publisher stays away. Ends with the media plane.
async fn watch(inner: Arc<Inner>, mut events: mpsc::UnboundedReceiver<MediaEvent>) {
    loop {
        let next = inner.registry().next_idle();
        let idle = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => inner.on_media(event),
                None => return,
            },
            () = idle => inner.on_idle(),
            () = inner.idle.notified() => {}
        }
    }
}
