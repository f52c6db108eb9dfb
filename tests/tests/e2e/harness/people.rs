//! Cameras and viewers of the headless client, in the process of the test.

use super::{Server, within};
use media_client::camera::{Camera, RunningCamera};
use media_client::source::Source;
use media_client::viewer::{Viewer, Watching};
use std::time::Duration;

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A camera that plays the built-in clip (H264 with a keyframe every 2 s, and Opus) in a loop; back when the room can be
/// watched.
pub(crate) async fn camera(server: &Server, room: &str) -> RunningCamera {
    camera_of(server, room, media_client::demo::source()).await
}

/// A camera that plays `source`.
pub(crate) async fn camera_of(server: &Server, room: &str, source: Source) -> RunningCamera {
    let camera = Camera::new(server.url(&format!("/whip/{room}")), source).start();
    let camera = within("a camera", CONNECT_LIMIT, camera).await.unwrap();
    publishing(server, room).await;
    camera
}

/// The same with a bearer token, without waiting for the room.
pub(crate) async fn camera_with_token(
    server: &Server,
    room: &str,
    token: &str,
) -> Result<RunningCamera, media_client::Error> {
    let camera = Camera::new(server.url(&format!("/whip/{room}")), media_client::demo::source());
    within("a camera", CONNECT_LIMIT, camera.with_token(Some(token.to_owned())).start()).await
}

/// Waits until somebody publishes in a room.
pub(crate) async fn publishing(server: &Server, room: &str) {
    server.api.stream_that(room, "media in the room", CONNECT_LIMIT, |stream| stream["publishing"] == true).await;
}

/// A viewer; back when media can flow.
pub(crate) async fn viewer(server: &Server, room: &str) -> Watching {
    let viewer = Viewer::new(server.url(&format!("/whep/{room}"))).start();
    within("a viewer", CONNECT_LIMIT, viewer).await.unwrap()
}

/// The same with a bearer token.
pub(crate) async fn viewer_with_token(
    server: &Server,
    room: &str,
    token: &str,
) -> Result<Watching, media_client::Error> {
    let viewer = Viewer::new(server.url(&format!("/whep/{room}"))).with_token(Some(token.to_owned()));
    within("a viewer", CONNECT_LIMIT, viewer.start()).await
}
