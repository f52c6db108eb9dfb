//! What one viewer is told.

use super::bench::{Answer, Bench, VIEWER, Wishes, bench, jwt, open, request};
use axum::http::StatusCode;
use std::time::Duration;

const JSON: (&str, &str) = ("content-type", "application/json");

/// A viewer comes; gives its session's 201.
async fn watching(bench: &Bench) -> Answer {
    bench.go_live("door", None).await;
    let viewer = bench.offer("/whep/door", VIEWER, None).await;
    assert_eq!(viewer.status, StatusCode::CREATED, "{viewer:?}");
    viewer
}

async fn created(bench: &Bench, viewer: &Answer, body: &str) -> Answer {
    let line = format!("POST {}/sse", viewer.header("location"));
    bench.call(&line, if body.is_empty() { &[] } else { &[JSON] }, body.to_owned()).await
}

/// All that is told until the end.
async fn told(bench: &Bench, location: &str) -> tokio::task::JoinHandle<String> {
    let events = bench.answer(request(&format!("GET {location}"), &[], "")).await;
    assert_eq!(events.status(), StatusCode::OK);
    assert!(events.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    tokio::spawn(async move {
        let body = tokio::time::timeout(Duration::from_secs(10), axum::body::to_bytes(events.into_body(), 1 << 20));
        String::from_utf8(body.await.expect("it ends").unwrap().to_vec()).unwrap()
    })
}

#[tokio::test]
async fn a_viewer_is_told_to_reconnect_when_the_server_drains() {
    let bench = open().await;
    let viewer = watching(&bench).await;
    let session = viewer.header("location");
    let link =
        format!("<{session}/sse>; rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"; events=\"reconnect\"");
    assert_eq!(viewer.header("link"), link);
    let stream = created(&bench, &viewer, r#"["reconnect"]"#).await;
    assert_eq!(stream.status, StatusCode::CREATED, "{stream:?}");
    let location = stream.header("location");
    assert!(location.starts_with(&format!("{session}/sse/")), "{location}");
    let told = told(&bench, location).await;
    bench.app.control.drain().await;
    let told = told.await.unwrap();
    assert!(told.ends_with("event: reconnect\ndata: {}\n\n"), "{told:?}");
    assert_eq!(bench.get(location).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_event_stream_ends_with_its_session_and_says_nothing() {
    let bench = open().await;
    let viewer = watching(&bench).await;
    let stream = created(&bench, &viewer, "").await;
    let told = told(&bench, stream.header("location")).await;
    assert_eq!(bench.call(&format!("DELETE {}", viewer.header("location")), &[], "").await.status, StatusCode::OK);
    assert!(!told.await.unwrap().contains("reconnect"));
    assert_eq!(created(&bench, &viewer, "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_session_has_one_event_stream_and_may_end_it() {
    let bench = open().await;
    let viewer = watching(&bench).await;
    let (first, second) = (created(&bench, &viewer, "").await, created(&bench, &viewer, "[]").await);
    assert_eq!((first.status, second.status), (StatusCode::CREATED, StatusCode::CREATED));
    let (first, second) = (first.header("location"), second.header("location"));
    assert_eq!(bench.get(first).await.problem(), "session-not-found");
    let told = told(&bench, second).await;
    assert_eq!(bench.call(&format!("DELETE {second}"), &[], "").await.status, StatusCode::OK);
    assert!(!told.await.unwrap().contains("reconnect"));
    assert_eq!(bench.call(&format!("DELETE {second}"), &[], "").await.problem(), "session-not-found");
    assert_eq!(bench.app.control.counts().subscribers, 1, "the session goes on");
}

#[tokio::test]
async fn an_event_that_there_is_not_is_refused() {
    let bench = open().await;
    let viewer = watching(&bench).await;
    let refused = created(&bench, &viewer, r#"["reconnect", "layers"]"#).await;
    assert_eq!(refused.problem(), "bad-request");
    assert!(refused.json()["detail"].as_str().unwrap().contains("layers"));
    for body in ["{", "{}", "[1]"] {
        assert_eq!(created(&bench, &viewer, body).await.problem(), "bad-request", "{body}");
    }
    let line = format!("POST {}/sse", viewer.header("location"));
    assert_eq!(bench.call(&line, &[("content-type", "text/plain")], "x").await.problem(), "unsupported-media-type");
}

#[tokio::test]
async fn cameras_have_no_event_stream_and_strangers_no_way_in() {
    let bench = open().await;
    let camera = bench.go_live("door", None).await;
    assert!(!camera.header("link").contains("server-sent-events"));
    let key = camera.header("location").rsplit('/').next().unwrap().to_owned();
    assert_eq!(bench.call(&format!("POST /whep/door/{key}/sse"), &[], "").await.problem(), "session-not-found");
    let bench = self::bench(Wishes { auth: jwt(), ..Wishes::default() }).await;
    assert_eq!(bench.call(&format!("POST /whep/door/{key}/sse"), &[], "").await.problem(), "token-missing");
    assert_eq!(bench.get(&format!("/whep/door/{key}/sse/{key}")).await.problem(), "session-not-found");
    assert_eq!(bench.call(&format!("DELETE /whep/door/{key}/sse/{key}"), &[], "").await.problem(), "token-missing");
}
