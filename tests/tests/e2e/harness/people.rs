//! Cameras and viewers of the headless client, in the process of the test.

use super::{Server, viewer_offer, within};
use media_client::camera::{Camera, RunningCamera};
use media_client::source::Source;
use media_client::viewer::{Viewer, Watching};
use std::time::Duration;
use tokio::task::JoinHandle;

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

/// Listens to what a viewer of this room is told, by the server-sent events of WHEP, until the end of it. No media comes.
pub(crate) async fn listen(server: &Server, room: &str) -> JoinHandle<String> {
    let answer = server.api.offer(&format!("/whep/{room}"), viewer_offer()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let entry = answer.headers.get_all("link").iter().find_map(|link| {
        let link =
            link.to_str().ok().filter(|link| link.contains("urn:ietf:params:whep:ext:core:server-sent-events"))?;
        Some(link.strip_prefix('<')?.split_once('>')?.0.to_owned())
    });
    let made = server.api.post(&entry.expect("a link"), "application/json", r#"["reconnect"]"#).await;
    assert_eq!(made.status, 201, "{made:?}");
    let mut events = reqwest::get(server.url(made.header("location"))).await.unwrap();
    assert_eq!(events.status(), 200);
    // The server listens to it when it has said the first word.
    let mut told = events.chunk().await.unwrap().unwrap_or_default().to_vec();
    tokio::spawn(async move {
        while let Ok(Some(chunk)) = events.chunk().await {
            told.extend_from_slice(&chunk);
        }
        String::from_utf8(told).unwrap()
    })
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
