//! WHIP and WHEP; the conformance suite has the whole list of rules, these are the ones that this layer answers for.

use super::bench::{CAMERA, VIEWER, Wishes, bench, open};
use axum::http::StatusCode;

const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

#[tokio::test]
async fn endpoints_say_what_they_are() {
    let bench = open().await;
    let get = bench.get("/whip/door").await;
    assert_eq!((get.status, get.body.as_str()), (StatusCode::NO_CONTENT, ""));
    let head = bench.call("HEAD /whep/door", &[], "").await;
    assert_eq!((head.status, head.header("content-type")), (StatusCode::OK, "application/sdp"));
    for path in ["/whip/door", "/whep/door"] {
        let options = bench.call(&format!("OPTIONS {path}"), &[("origin", "https://other.example")], "").await;
        assert_eq!((options.status, options.body.as_str()), (StatusCode::OK, ""));
        assert_eq!(options.header("accept-post"), "application/sdp");
        assert_eq!(options.header("access-control-allow-origin"), "*");
        assert!(options.header("access-control-allow-methods").contains("POST"));
        assert!(options.header("access-control-allow-headers").contains("Authorization"));
        for name in ["Location", "ETag", "Link", "Retry-After"] {
            assert!(options.header("access-control-expose-headers").contains(name), "{name}");
        }
    }
}

#[tokio::test]
async fn an_offer_is_answered_with_location_and_a_strong_tag() {
    let variables = &[("TURN_URLS", "turn:t.example"), ("TURN_USERNAME", "u"), ("TURN_CREDENTIAL", "c")];
    let bench = bench(Wishes { variables, ..Wishes::default() }).await;
    let camera = bench.go_live("door", None).await;
    let location = camera.header("location");
    let key = location.strip_prefix("/whip/door/").unwrap();
    assert!(key.len() >= 22, "128 bits: {key}");
    let tag = camera.header("etag");
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 3 && tag != "\"*\"", "{tag}");
    assert_eq!(camera.header("content-type"), "application/sdp");
    assert_eq!(camera.header("accept-patch"), FRAGMENT);
    assert!(
        camera.header("link").starts_with("<turn:t.example>; rel=\"ice-server\"; username=\"u\"; credential=\"c\"")
    );
    assert!(camera.body.contains("a=recvonly") && !camera.body.contains("a=sendonly"));

    let viewer = bench.offer("/whep/door", VIEWER, None).await;
    assert_eq!(viewer.status, StatusCode::CREATED, "{viewer:?}");
    assert!(viewer.header("location").starts_with("/whep/door/"));
    assert!(viewer.body.contains("a=sendonly") && !viewer.body.contains("a=recvonly"));
}

#[tokio::test]
async fn a_session_is_changed_and_ended_under_its_url() {
    let bench = open().await;
    let camera = bench.offer("/whip/door", CAMERA, None).await;
    let url = camera.header("location");
    let patch = format!("PATCH {url}");
    let trickle = "a=end-of-candidates\r\n";
    let without = bench.call(&patch, &[("content-type", FRAGMENT)], trickle).await;
    assert_eq!(without.status, StatusCode::NO_CONTENT, "{without:?}");
    let stale = bench.call(&patch, &[("content-type", FRAGMENT), ("if-match", "\"old\"")], trickle).await;
    assert_eq!((stale.status.as_u16(), stale.problem().as_str()), (412, "precondition-failed"));
    let wrong = bench.call(&patch, &[("content-type", "application/sdp"), ("if-match", "*")], trickle).await;
    assert_eq!((wrong.status.as_u16(), wrong.problem().as_str()), (415, "unsupported-media-type"));
    assert_eq!(wrong.header("accept-patch"), FRAGMENT);

    let restart =
        "a=ice-ufrag:newufrag\r\na=ice-pwd:newpassword0123456789ab\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n";
    let without = bench.call(&patch, &[("content-type", FRAGMENT)], restart).await;
    assert_eq!((without.status.as_u16(), without.problem().as_str()), (428, "precondition-required"));
    let restarted = bench.call(&patch, &[("content-type", FRAGMENT), ("if-match", "*")], restart).await;
    assert_eq!(restarted.status, StatusCode::OK, "{restarted:?}");
    assert_eq!(restarted.header("content-type"), FRAGMENT);
    assert!(restarted.body.contains("a=ice-ufrag:"));
    let tag = restarted.header("etag").to_owned();
    assert!(!tag.is_empty() && tag != camera.header("etag"));
    let trickled = bench.call(&patch, &[("content-type", FRAGMENT), ("if-match", &tag)], restart).await;
    assert_eq!(trickled.status, StatusCode::NO_CONTENT, "{trickled:?}");
    assert_eq!(trickled.header("etag"), "");

    let again = bench.call(&patch, &[("content-type", FRAGMENT), ("if-match", "*")], restart).await;
    assert_eq!((again.status, &again.body), (StatusCode::OK, &restarted.body), "the first answer may be lost");
    assert_eq!(again.header("etag"), tag);
    for known in ["\"old\"", &tag] {
        let lines = [("content-type", FRAGMENT), ("if-match", "\"older\""), ("if-match", known)];
        let answer = bench.call(&patch, &lines, "a=end-of-candidates\r\n").await;
        assert_eq!(answer.status == StatusCode::NO_CONTENT, known == tag, "two lines are one list: {answer:?}");
    }

    let delete = bench.call(&format!("DELETE {url}"), &[("if-match", "\"whatever\"")], "").await;
    assert_eq!(delete.status, StatusCode::OK, "{delete:?}");
    let again = bench.call(&format!("DELETE {url}"), &[], "").await;
    assert_eq!((again.status.as_u16(), again.problem().as_str()), (404, "session-not-found"));
}

#[tokio::test]
async fn a_full_server_and_a_full_room_say_when_to_try_again() {
    let variables = &[("MEDIA_MAX_PUBLISHERS", "1"), ("MEDIA_MAX_SUBSCRIBERS_PER_ROOM", "2")];
    let bench = bench(Wishes { variables, ..Wishes::default() }).await;
    bench.go_live("door", None).await;
    let second = bench.offer("/whip/garden", CAMERA, None).await;
    assert_eq!((second.status.as_u16(), second.problem().as_str()), (503, "publishers-full"));
    for _ in 0..2 {
        assert_eq!(bench.offer("/whep/door", VIEWER, None).await.status, StatusCode::CREATED);
    }
    let third = bench.offer("/whep/door", VIEWER, None).await;
    assert_eq!((third.status.as_u16(), third.problem().as_str()), (503, "subscribers-full"));
    assert_eq!(third.header("access-control-allow-origin"), "*", "players of other sites read it");
}

#[tokio::test]
async fn one_camera_a_room_unless_the_same_one_comes_back() {
    let bench = open().await;
    bench.go_live("door", Some("key of the camera")).await;
    let other = bench.offer("/whip/door", CAMERA, Some("another key")).await;
    assert_eq!((other.status.as_u16(), other.problem().as_str()), (409, "room-busy"));
    let nobody = bench.offer("/whip/door", CAMERA, None).await;
    assert_eq!(nobody.status, StatusCode::CONFLICT, "without a token it is nobody in particular");
    let back = bench.offer("/whip/door", CAMERA, Some("key of the camera")).await;
    assert_eq!(back.status, StatusCode::CREATED, "{back:?}");
}

#[tokio::test]
async fn nobody_in_particular_is_never_the_same_camera() {
    let bench = open().await;
    let first = bench.go_live("door", None).await;
    assert_eq!(bench.offer("/whip/door", CAMERA, None).await.status, StatusCode::CONFLICT);
    let url = format!("DELETE {}", first.header("location"));
    assert_eq!(bench.call(&url, &[], "").await.status, StatusCode::OK, "the URL is enough to end it");
}

#[tokio::test]
async fn a_viewer_without_a_camera_is_told_to_wait() {
    let bench = open().await;
    let viewer = bench.offer("/whep/empty", VIEWER, None).await;
    assert_eq!((viewer.status.as_u16(), viewer.problem().as_str()), (409, "no-publisher"));
    assert!(viewer.header("retry-after").parse::<u32>().unwrap() >= 1);
}

#[tokio::test]
async fn without_media_the_rest_runs_and_says_so() {
    let bench = bench(Wishes { media: false, ..Wishes::default() }).await;
    for (path, offer) in [("/whip/door", CAMERA), ("/whep/door", VIEWER)] {
        let answer = bench.offer(path, offer, None).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "media-disabled"));
    }
    assert_eq!(bench.get("/streams").await.status, StatusCode::OK);
    assert_eq!(bench.get("/config.json").await.json()["media"], false);
}

#[tokio::test]
async fn a_bad_room_name_is_named() {
    let bench = open().await;
    for path in ["/whip/.hidden", "/whip/a%20b", "/whep/a%2Fb", &format!("/whip/{}", "x".repeat(65))] {
        let answer = bench.offer(path, CAMERA, None).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, "invalid-room"), "{path}");
    }
    assert!(bench.published().is_empty());
}

#[tokio::test]
async fn session_keys_do_not_show_in_problems() {
    let bench = open().await;
    let answer = bench.call("DELETE /whip/door/AAAAAAAAAAAAAAAAAAAAAA", &[], "").await;
    assert_eq!(answer.problem(), "session-not-found");
    assert!(!answer.body.contains("AAAAAAAA"), "{}", answer.body);
}

#[tokio::test]
async fn trailing_slash_leads_to_the_same_endpoint() {
    let bench = open().await;
    let camera = bench.offer("/whip/door/", CAMERA, None).await;
    assert_eq!(camera.status, StatusCode::CREATED, "{camera:?}");
    let url = camera.header("location").to_owned();
    assert!(url.starts_with("/whip/door/") && !url.ends_with('/'), "{url}");
    for path in ["/whip/door/", "/whep/door/"] {
        assert!(bench.get(path).await.status.is_success(), "{path}");
        assert_eq!(bench.call(&format!("OPTIONS {path}"), &[], "").await.header("accept-post"), "application/sdp");
    }
    let deleted = bench.call(&format!("DELETE {url}/"), &[], "").await;
    assert_eq!(deleted.status, StatusCode::OK, "{deleted:?}");
}
