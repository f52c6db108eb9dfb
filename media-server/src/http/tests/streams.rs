//! Streams, events and limits.

use super::bench::{Bench, VIEWER, Wishes, bench, open, request, until};
use crate::net::{SessionSnapshot, Snapshot};
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode};
use futures_util::StreamExt;
use serde_json::json;
use sfu::parameters::{Codec, RoomId, SessionId};
use sfu::shard::stats::{PublisherStats, RoleStats, SessionStats};
use std::time::Duration;

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_stream_is_listed_shown_and_ended() {
    let bench = open().await;
    assert_eq!(bench.get("/streams").await.json(), json!({"streams": []}));
    bench.go_live("door", None).await;
    bench.offer("/whep/door", VIEWER, None).await;
    until("the viewer is there", async || bench.app.control.counts().subscribers == 1).await;
    let list = bench.get("/streams?state=live&room=door").await.json();
    let stream = &list["streams"][0];
    assert_eq!((&stream["room"], &stream["state"], &stream["viewers"]), (&json!("door"), &json!("live"), &json!(1)));
    let id = stream["id"].as_str().unwrap();
    assert_eq!(bench.get(&format!("/streams/{id}")).await.json()["id"], id);
    let ended = bench.call(&format!("POST /streams/{id}/end"), &[], "").await;
    assert_eq!((ended.status, &ended.json()["state"]), (StatusCode::OK, &json!("ended")), "{ended:?}");
    assert_eq!(bench.get("/streams?state=live").await.json()["streams"], json!([]));
    assert_eq!(bench.get("/streams?state=ended").await.json()["streams"][0]["id"], id);
    let again = bench.call(&format!("POST /streams/{id}/end"), &[], "").await;
    assert_eq!(again.status, StatusCode::OK, "ending twice is ending once");
}

#[tokio::test]
async fn live_numbers_come_from_the_media_plane() {
    let role =
        RoleStats::Publisher(PublisherStats { packets: 12, video: Some(Codec::Vp8), ..PublisherStats::default() });
    let sessions = (0..50)
        .map(|id| {
            let stats = SessionStats { session: SessionId(id), room: RoomId(1), connected: true, role: role.clone() };
            (SessionId(id), SessionSnapshot { stats, bitrate: 1_500_000 })
        })
        .collect();
    let snapshot = Snapshot { sessions, ..Snapshot::default() };
    let bench = bench(Wishes { snapshot, ..Wishes::default() }).await;
    bench.go_live("door", None).await;
    let list = bench.get("/streams").await.json();
    let publisher = &list["streams"][0]["live"]["publisher"];
    assert_eq!((&publisher["bitrateBps"], &publisher["packets"]), (&json!(1_500_000), &json!(12)), "{list}");
    assert_eq!(publisher["videoCodec"], "VP8");
}

#[tokio::test]
async fn a_stream_is_created_ahead() {
    let bench = open().await;
    let created = bench.call("POST /streams", &[JSON], r#"{"room":"door","name":"Front door"}"#).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    let stream = created.json();
    assert_eq!((&stream["state"], &stream["name"]), (&json!("created"), &json!("Front door")));
    assert_eq!(created.header("location"), format!("/streams/{}", stream["id"].as_str().unwrap()));
    let twice = bench.call("POST /streams", &[JSON], r#"{"room":"door"}"#).await;
    assert_eq!((twice.status.as_u16(), twice.problem().as_str()), (409, "stream-exists"));
}

#[tokio::test]
async fn wrong_parameters_are_named() {
    let bench = open().await;
    for (query, named) in [
        ("state=past", "state"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=many", "limit"),
        ("before=x", "before"),
        ("rooms=x", "rooms"),
    ] {
        let answer = bench.get(&format!("/streams?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, "bad-request"), "{query}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(named), "{query}: {}", answer.body);
    }
    for (body, named) in
        [("{}", "room"), (r#"{"room":"a","nam":"x"}"#, "nam"), (r#"{"room":7}"#, "line 1"), ("", "EOF")]
    {
        let answer = bench.call("POST /streams", &[JSON], body).await;
        assert_eq!(answer.problem(), "bad-request", "{body}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(named), "{body}: {}", answer.body);
    }
    for id in ["x", "01890a5d-ac96-774b-bcce-b302099a8057"] {
        assert_eq!(bench.get(&format!("/streams/{id}")).await.problem(), "stream-not-found");
    }
}

#[tokio::test]
async fn pages_of_streams_join_without_holes() {
    let bench = open().await;
    for number in 0..5 {
        let created = bench.call("POST /streams", &[JSON], format!("{{\"room\":\"r{number}\"}}")).await;
        assert_eq!(created.status, StatusCode::CREATED);
    }
    let mut rooms = Vec::new();
    let mut path = "/streams?limit=2".to_owned();
    loop {
        let page = bench.get(&path).await.json();
        rooms.extend(page["streams"].as_array().unwrap().iter().map(|s| s["room"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("/streams?limit=2&before={next}"),
            None => break,
        }
    }
    assert_eq!(rooms, ["r4", "r3", "r2", "r1", "r0"]);
}

/// Reads events until `enough`.
async fn read(response: Response<Body>, enough: impl Fn(&str) -> bool) -> String {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    let mut body = response.into_body().into_data_stream();
    let reading = async {
        while !enough(&text) {
            match body.next().await {
                Some(chunk) => text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap()),
                None => break,
            }
        }
    };
    if tokio::time::timeout(Duration::from_secs(10), reading).await.is_err() {
        panic!("waited in vain for events, got {text}");
    }
    text
}

async fn listen(bench: &Bench, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    bench.answer(request(&format!("GET {path}"), headers, "")).await
}

#[tokio::test]
async fn events_come_with_ids_and_json() {
    let bench = open().await;
    let response = listen(&bench, "/events", &[]).await;
    bench.go_live("door", None).await;
    let text = read(response, |text| text.contains("stream:started")).await;
    let block = text.split("\n\n").find(|block| block.contains("stream:started")).unwrap();
    let data = block.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["room"], "door");
    assert!(data["at"].as_str().unwrap().ends_with('Z') && data["stream"].is_string());
    assert!(block.lines().any(|line| line.strip_prefix("id: ").is_some_and(|id| id.parse::<u64>().is_ok())), "{block}");
}

#[tokio::test]
async fn events_go_on_after_the_last_one_seen_and_only_of_the_room() {
    let bench = open().await;
    bench.go_live("door", None).await;
    bench.go_live("garden", None).await;
    let all = read(listen(&bench, "/events", &[("last-event-id", "0")]).await, |text| {
        text.matches("stream:started").count() == 2
    });
    let ids: Vec<u64> = all.await.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
    assert!(ids.len() >= 3 && ids.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ids:?}");
    let garden = read(listen(&bench, "/events?room=garden", &[("last-event-id", "0")]).await, |text| {
        text.contains("stream:started")
    });
    let garden = garden.await;
    assert!(garden.contains("garden") && !garden.contains("door"), "{garden}");
}

#[tokio::test]
async fn events_that_are_not_kept_are_reported() {
    let bench = open().await;
    bench.go_live("door", None).await;
    let text = read(listen(&bench, "/events?room=door", &[("last-event-id", "9007199254740991")]).await, |text| {
        text.contains("stream:started")
    })
    .await;
    let (missed, rest) = text.split_once("event: events:missed\n").unwrap();
    let first: u64 = rest.split_once("{\"first\":\"").unwrap().1.split_once('"').unwrap().0.parse().unwrap();
    assert!(
        missed.ends_with(&format!("id: {}\n", first - 1)) || rest.contains(&format!("id: {}\n", first - 1)),
        "{text}"
    );
    assert!(rest.contains(&format!("id: {first}\n")), "the first one available follows: {text}");
}

#[tokio::test]
async fn event_streams_end_with_the_server() {
    let bench = open().await;
    let shutdown = bench.app.shutdown.clone();
    let end_when_open = |text: &str| {
        if text.contains("listening") {
            shutdown.cancel();
        }
        false
    };
    let text = read(listen(&bench, "/events", &[]).await, end_when_open).await;
    assert!(text.contains("listening"));
    until("its place is free", async || bench.app.inner().listeners.available_permits() == 512).await;
}

#[tokio::test]
async fn listeners_are_bounded() {
    let bench = open().await;
    let all = bench.app.inner().listeners.clone().try_acquire_many_owned(512).unwrap();
    let refused = bench.get("/events").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (503, "events-full"));
    drop(all);
    assert_eq!(listen(&bench, "/events", &[]).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn limits_are_shown_and_replaced_live() {
    let bench = open().await;
    let before = bench.get("/admin/limits").await.json();
    assert_eq!(before, json!({"maxPublishers": 4, "maxSubscribersPerRoom": 50, "maxBitrate": 20_000_000}));
    let new = json!({"maxPublishers": 1, "maxSubscribersPerRoom": 2, "maxStreamsPerAccount": 3});
    let put = bench.call("PUT /admin/limits", &[JSON], new.to_string()).await;
    assert_eq!((put.status, put.json()), (StatusCode::OK, new.clone()));
    assert_eq!(bench.get("/admin/limits").await.json(), new);
    for (body, named) in [
        (json!({"maxPublishers": 0, "maxSubscribersPerRoom": 2}), "maxPublishers"),
        (json!({"maxPublishers": 1, "maxSubscribersPerRoom": 2, "maxBitrate": 7}), "maxBitrate"),
    ] {
        let answer = bench.call("PUT /admin/limits", &[JSON], body.to_string()).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (422, "invalid-limits"));
        assert!(answer.json()["detail"].as_str().unwrap().contains(named));
    }
    let typo = bench.call("PUT /admin/limits", &[JSON], r#"{"maxPublisher":1}"#).await;
    assert!(typo.json()["detail"].as_str().unwrap().contains("maxPublisher"), "{}", typo.body);
    assert_eq!(bench.get("/admin/limits").await.json(), new, "a refused document changes nothing");
}

#[tokio::test]
async fn a_page_of_another_site_may_not_change_an_open_server() {
    let bench = open().await;
    let evil = ("origin", "https://evil.example");
    for line in ["POST /streams", "PUT /admin/limits", "POST /streams/x/end"] {
        let answer = bench.call(line, &[JSON, evil], "{}").await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (403, "cross-origin"), "{line}");
    }
    for origin in ["null", "http://localhost:9999", "http://localhost:8080.evil.example"] {
        assert_eq!(bench.call("POST /streams", &[JSON, ("origin", origin)], "{}").await.problem(), "cross-origin");
    }
    let own = bench.call("POST /streams", &[JSON, ("origin", "http://localhost:8080")], r#"{"room":"a"}"#).await;
    assert_eq!(own.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_page_of_another_site_may_not_publish_or_watch_on_an_open_server_of_this_machine() {
    let bench = open().await;
    let sdp = ("content-type", "application/sdp");
    for (origin, refused) in [
        ("https://evil.example", true),
        ("http://localhost.evil.example:8080", true),
        ("null", true),
        ("http://localhost:8080", false),
        ("http://localhost:3000", false),
        ("http://127.0.0.1:3000", false),
    ] {
        for line in ["POST /whip/door", "POST /whep/door"] {
            let answer = bench.call(line, &[sdp, ("origin", origin)], "").await;
            assert_eq!(answer.problem() == "cross-origin", refused, "{line} {origin} {}", answer.body);
        }
    }
}

#[tokio::test]
async fn an_open_server_of_this_machine_answers_to_local_names_only() {
    let bench = open().await;
    let ask = async |bench: &Bench, path: &str, host: &'static str| {
        let mut request = request(&format!("GET {path}"), &[], "");
        request.headers_mut().insert("host", HeaderValue::from_static(host));
        bench.send(request).await
    };
    for path in ["/recordings", "/streams", "/", "/events"] {
        let answer = ask(&bench, path, "rebound.evil.example:8080").await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (421, "unknown-host"), "{path}");
    }
    assert_eq!(ask(&bench, "/streams", "[::1]:8080").await.status, StatusCode::OK);
    let tokens = super::bench::bench(Wishes { auth: super::bench::jwt(), ..Wishes::default() }).await;
    assert_eq!(ask(&tokens, "/healthz", "cams.example.com").await.status, StatusCode::OK, "tokens guard it");
}
