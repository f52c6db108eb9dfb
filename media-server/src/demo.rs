//! `--demo`: the test clip, looped, published into the room `demo` over WHIP as any camera would.

use crate::auth::{AuthMode, Grant, Scope, mint};
use media_client::camera::{Camera, Ended};
use std::net::SocketAddr;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const RETRY: Duration = Duration::from_secs(1);
/// Only as long as one POST may take.
const TOKEN: Duration = Duration::from_secs(60);

/// Plays until `shutdown`; begins again when the stream was ended or lost.
pub(crate) async fn play(http: SocketAddr, auth: AuthMode, shutdown: CancellationToken) {
    let _ = shutdown.run_until_cancelled(publish_for_ever(http, &auth)).await;
}

async fn publish_for_ever(http: SocketAddr, auth: &AuthMode) {
    loop {
        let camera =
            Camera::new(format!("http://{http}/whip/demo"), media_client::demo::source()).with_token(token(auth));
        match camera.start().await {
            Ok(mut camera) => match camera.ended().await {
                Ended::Played | Ended::Lost => tracing::info!("the demo was ended; it begins again"),
            },
            Err(error) => tracing::warn!(%error, "the demo cannot publish; it tries again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// A short-lived token of our own, where tokens are asked for.
fn token(auth: &AuthMode) -> Option<String> {
    let AuthMode::Jwt { secret, issuer, audience } = auth else { return None };
    let grant = Grant {
        subject: "demo".to_owned(),
        scopes: vec![Scope::Publish],
        rooms: vec!["demo".to_owned()],
        issuer: issuer.clone(),
        audience: audience.clone(),
        lifetime: TOKEN,
        ..Grant::default()
    };
    mint(secret, &grant, jiff::Timestamp::now().as_second()).ok()
}
