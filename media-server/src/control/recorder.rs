//! What the control plane needs of the recording plane: when a stream's recording starts and when it must be finished.

use super::types::{RoomName, StreamId};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use sfu::parameters::{PublisherTracks, RoomId};

/// The recording plane, as the control plane sees it. Calls return at once.
pub trait Recorder: Send + Sync + 'static {
    /// The first publisher's media of a stream came at `at`; it negotiated `tracks`.
    fn start(
        &self,
        room: RoomId,
        stream: StreamId,
        room_name: RoomName,
        publisher: String,
        tracks: &PublisherTracks,
        at: Timestamp,
    );

    /// Another session's media took over in the room: the publisher came back, or replaced itself.
    fn source_changed(&self, room: RoomId, publisher: String, tracks: &PublisherTracks);

    /// No more comes. The future is done when the recording is finalised, or failed; not polling it cancels nothing.
    fn finish(&self, room: RoomId) -> BoxFuture<'static, ()>;
}
