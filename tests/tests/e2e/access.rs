//! Bearer tokens decide who publishes and who watches.

use crate::harness::{
    SECRET, Setup, alone, camera_offer, camera_with_token, publishing, signed, token, viewer_offer, viewer_with_token,
    within,
};
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn tokens_open_their_room_for_what_they_are_for() {
    let _turn = alone().await;
    let setup = Setup::new();
    let secret = setup.folder().join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let mut server = setup.argument("--jwt-secret-file").argument(secret.to_str().unwrap()).start().await;
    let nobody = server.api.clone();
    server.api = server.api.with_token(&token("owner", "admin", "*"));

    let answer = nobody.offer("/whip/door", camera_offer()).await;
    answer.problem(401, "token-missing");
    assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
    nobody.offer("/whep/door", viewer_offer()).await.problem(401, "token-missing");
    nobody.get("/streams").await.problem(401, "token-missing");
    for (forged, why) in [
        (
            signed(
                "another-secret-of-somebody-else-entirely",
                &json!({"scope": "publish", "room": "door", "exp": 9e9 as u64}),
            ),
            "signature",
        ),
        (signed(SECRET, &json!({"scope": "publish", "room": "door", "exp": 1_000_000})), "expired"),
        (signed(SECRET, &json!({"scope": "publish", "room": "door"})), "exp"),
        ("eyJhbGciOiJub25lIn0.eyJzY29wZSI6InB1Ymxpc2gifQ.".to_owned(), ""),
    ] {
        let detail =
            server.api.with_token(&forged).offer("/whip/door", camera_offer()).await.problem(401, "token-invalid");
        assert!(detail.contains(why), "{why}: {detail}");
    }

    let publish = token("camera", "publish", "door");
    let watch = token("eve", "subscribe", "door");
    server.api.with_token(&publish).offer("/whip/garden", camera_offer()).await.problem(403, "room-not-granted");
    server.api.with_token(&watch).offer("/whip/door", camera_offer()).await.problem(403, "scope-missing");
    server.api.with_token(&publish).offer("/whep/door", viewer_offer()).await.problem(403, "scope-missing");

    let camera = camera_with_token(&server, "door", &publish).await.unwrap();
    publishing(&server, "door").await;
    server
        .api
        .with_token(&token("eve", "subscribe", "garden"))
        .offer("/whep/door", viewer_offer())
        .await
        .problem(403, "room-not-granted");
    let watching = viewer_with_token(&server, "door", &watch).await.unwrap();
    let seen = watching.wait_for(|report| report.video.as_ref().is_some_and(|video| video.keyframes > 0));
    assert!(within("a picture", Duration::from_secs(5), seen).await);
    watching.stop().await.unwrap();
    camera.stop().await.unwrap();
}
