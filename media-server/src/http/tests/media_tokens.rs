//! Media tokens: they read one recording or room until they expire, and nothing else.

use super::bench::{Answer, jwt};
use super::recordings::{Bench, recorded, token};
use crate::auth::test_tokens::sign;
use axum::http::StatusCode;
use serde_json::{Value, json};

async fn request(bench: &Bench, bearer: &str, body: Value) -> Answer {
    let headers = [("content-type", "application/json"), ("authorization", &*format!("Bearer {bearer}"))];
    bench.http.call("POST /media-tokens", &headers, body.to_string()).await
}

async fn media_token(bench: &Bench, body: Value) -> String {
    let answer = request(bench, &token("subscribe", "front-door"), body).await;
    assert_eq!((answer.status, answer.header("cache-control")), (StatusCode::CREATED, "no-store"), "{answer:?}");
    answer.json()["token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn media_token_reads_every_file_of_its_recording() {
    let bench = recorded(jwt()).await;
    for body in [json!({"recording": bench.camera.stream.as_str()}), json!({"room": "front-door"})] {
        let token = media_token(&bench, body).await;
        for file in ["/recording.mp4", "/manifest.json", "/init-1.mp4", "/segment-000001.m4s"] {
            let answer = bench.get(&format!("{file}?media_token={token}"), &[("range", "bytes=0-3")]).await;
            assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{file}");
        }
        let playlist = bench.get(&format!("/index.m3u8?media_token={token}"), &[]).await;
        assert!(playlist.body.contains(&format!("URI=\"init-1.mp4?media_token={token}\"")), "{}", playlist.body);
        let files: Vec<_> = playlist.body.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(!files.is_empty(), "{}", playlist.body);
        for file in files {
            assert_eq!(bench.get(&format!("/{file}"), &[]).await.status, StatusCode::OK, "{file}");
        }
        let saved = bench.get(&format!("/recording.mp4?download=1&media_token={token}"), &[]).await;
        assert!(saved.header("content-disposition").starts_with("attachment"), "{saved:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn media_token_of_another_recording_reads_nothing() {
    let bench = recorded(jwt()).await;
    let mut other = bench.recordings.start(2);
    bench.recordings.send(&mut other, 2.0);
    bench.recordings.finish(&other).await;
    let mine = media_token(&bench, json!({"recording": bench.camera.stream.as_str()})).await;
    let path = format!("/recordings/{}/index.m3u8?media_token={mine}", other.stream);
    assert_eq!(bench.http.get(&path).await.problem(), "media-token-elsewhere");
    let unknown = format!("/recordings/{}/index.m3u8?media_token={mine}", crate::control::RecordingId::random());
    assert_eq!(bench.http.get(&unknown).await.problem(), "media-token-elsewhere", "other ids are not probed");
    let yard = request(&bench, &token("subscribe", "yard"), json!({"room": "yard"})).await.json();
    let yard = yard["token"].as_str().unwrap();
    assert_eq!(bench.get(&format!("/index.m3u8?media_token={yard}"), &[]).await.problem(), "media-token-elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn media_token_opens_no_other_route() {
    let bench = recorded(jwt()).await;
    let token = media_token(&bench, json!({"recording": bench.camera.stream.as_str()})).await;
    let authorization = format!("Bearer {token}");
    for path in
        [bench.url(""), "/recordings?room=front-door".into(), "/streams".into(), "/events?room=front-door".into()]
    {
        let separator = if path.contains('?') { '&' } else { '?' };
        for name in ["media_token", "access_token"] {
            let answer = bench.http.get(&format!("{path}{separator}{name}={token}")).await;
            assert!(answer.status.is_client_error(), "{path} {name} {answer:?}");
        }
        let answer = bench.http.call(&format!("GET {path}"), &[("authorization", &authorization)], "").await;
        assert_eq!(answer.problem(), "token-invalid", "{path}");
    }
    let removal = bench.http.call(&format!("DELETE {}?media_token={token}", bench.url("")), &[], "").await;
    assert_eq!(removal.problem(), "token-missing");
    let bearer = bench.get(&format!("/index.m3u8?media_token={token}"), &[("authorization", "Bearer x.y.z")]).await;
    assert_eq!(bearer.problem(), "token-invalid", "a header decides");
}

#[tokio::test(flavor = "multi_thread")]
async fn media_token_expires_with_its_bearer_token() {
    let bench = recorded(jwt()).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // Valid for five more seconds of the leeway of 30 s.
    let claims = json!({"sub": "me", "iss": "https://issuer", "aud": "cams", "exp": now - 25, "scope": "subscribe",
        "room": "front-door"});
    let body = json!({"recording": bench.camera.stream.as_str(), "lifetimeSeconds": 3600});
    let answer = request(&bench, &sign(claims), body).await.json();
    let path = format!("/manifest.json?media_token={}", answer["token"].as_str().unwrap());
    super::bench::until("the media token expires", async || {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        bench.get(&path, &[]).await.status == StatusCode::UNAUTHORIZED
    })
    .await;
    let refused = bench.get(&path, &[]).await;
    assert!(refused.json()["detail"].as_str().unwrap().contains("POST /media-tokens"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn media_token_needs_a_bearer_token_for_the_room() {
    let bench = recorded(jwt()).await;
    let id = bench.camera.stream.as_str();
    for (bearer, body, problem) in [
        (token("publish", "front-door"), json!({"recording": id}), "scope-missing"),
        (token("subscribe", "yard"), json!({"recording": id}), "room-not-granted"),
        (token("subscribe", "yard"), json!({"room": "front-door"}), "room-not-granted"),
        (token("subscribe", "front-door"), json!({"recording": "x"}), "recording-not-found"),
        (token("subscribe", "front-door"), json!({}), "bad-request"),
        (token("subscribe", "front-door"), json!({"recording": id, "room": "front-door"}), "bad-request"),
        (token("subscribe", "front-door"), json!({"recording": id, "lifetimeSeconds": 0}), "bad-request"),
        (token("subscribe", "front-door"), json!({"recording": id, "lifetimeSeconds": 86_401}), "bad-request"),
        ("x.y.z".to_owned(), json!({"recording": id}), "token-invalid"),
    ] {
        assert_eq!(request(&bench, &bearer, body.clone()).await.problem(), problem, "{body}");
    }
    for forged in ["", "x", "x.y", "e30.AAAA"] {
        let answer = bench.get(&format!("/manifest.json?media_token={forged}"), &[]).await;
        assert_eq!(answer.problem(), "token-invalid", "{forged}");
    }
}
