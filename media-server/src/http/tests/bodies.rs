//! Bodies of all lengths and kinds, and what the framework answers by itself: never 500, always a problem.

use super::bench::{Bench, CAMERA, bench, open, request};
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use futures_util::stream;
use proptest::prelude::*;
use std::convert::Infallible;
use std::time::Duration;

const SDP: &[(&str, &str)] = &[("content-type", "application/sdp")];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test]
async fn lengths_from_0_to_2048_are_refused_as_what_they_are() {
    let bench = open().await;
    for length in 0..=2048 {
        for fill in [b'a', b'\n', 0, 0xff] {
            let answer = bench.call("POST /whip/door", SDP, vec![fill; length]).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{length} × {fill}");
            let slug = answer.problem();
            assert!(slug == "invalid-sdp" || slug == "bad-request", "{slug}");
        }
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_limit_named() {
    let bench = open().await;
    let announced = bench.call("POST /whip/door", SDP, "x".repeat(64 * 1024 + 1)).await;
    assert_eq!((announced.status.as_u16(), announced.problem().as_str()), (413, "body-too-large"));
    assert!(announced.json()["detail"].as_str().unwrap().contains("65536"));
    let chunks = stream::iter((0..80).map(|_| Ok::<_, Infallible>(Bytes::from(vec![b'x'; 1024]))));
    let streamed = bench.call("POST /whep/door", SDP, Body::from_stream(chunks)).await;
    assert_eq!((streamed.status.as_u16(), streamed.problem().as_str()), (413, "body-too-large"));
    let at_the_limit = bench.call("POST /whip/door", SDP, "x".repeat(64 * 1024)).await;
    assert_eq!(at_the_limit.status, StatusCode::BAD_REQUEST);
    let json = bench.call("POST /streams", &[("content-type", "application/json")], "x".repeat(17 * 1024)).await;
    assert_eq!(json.problem(), "body-too-large");
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    runtime().block_on(async {
        let bench = open().await;
        tokio::time::pause();
        let never = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let answer = bench.call("POST /whip/door", SDP, never).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (408, "request-timeout"));
        let trickle = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"v")), ()))
        });
        let answer = bench.call("POST /whip/door", SDP, Body::from_stream(trickle)).await;
        assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT);
    });
}

#[tokio::test]
async fn types_are_checked_but_parameters_and_case_are_not() {
    let bench = open().await;
    for bad in
        [&[][..], &[("content-type", "text/plain")], &[("content-type", "application/sdpx")], &[("content-type", "")]]
    {
        let answer = bench.call("POST /whip/door", bad, CAMERA).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (415, "unsupported-media-type"), "{bad:?}");
        assert_eq!(answer.header("accept-post"), "application/sdp", "{bad:?}");
    }
    let packed = [("content-type", "application/sdp"), ("content-encoding", "gzip")];
    let packed = bench.call("POST /whip/door", &packed, CAMERA).await;
    assert_eq!((packed.status.as_u16(), packed.problem().as_str()), (415, "unsupported-media-type"));
    assert!(packed.header("accept-encoding") == "identity" && packed.body.contains("gzip"), "{packed:?}");
    for good in ["application/sdp; charset=utf-8", "Application/SDP", "application/sdp ;x=y"] {
        let path = format!("POST /whip/{}", good.len());
        let answer = bench.call(&path, &[("content-type", good)], CAMERA).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{good}: {answer:?}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let bench = open().await;
    for path in
        ["/nothing", "/whip", "/whip/a/b/c", "/streams/x/y", "/assets/none.js", "/problems/none", "/assets/../x"]
    {
        let answer = bench.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        answer.problem();
    }
    for (line, allowed) in [
        ("PUT /whip/door", "POST"),
        ("GET /whip/door/AAAAAAAAAAAAAAAAAAAAAA", "PATCH"),
        ("DELETE /streams", "GET"),
        ("POST /admin/limits", "PUT"),
        ("POST /", "GET"),
    ] {
        let answer = bench.call(line, &[], "").await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (405, "method-not-allowed"), "{line}");
        assert!(answer.json()["detail"].as_str().unwrap().contains("Allow"), "{line}");
        assert!(answer.header("allow").contains(allowed), "{line}: {}", answer.header("allow"));
    }
    let bad_utf8 = bench.get("/whip/%ff").await;
    assert_eq!((bad_utf8.status.as_u16(), bad_utf8.problem().as_str()), (400, "bad-request"));
}

#[tokio::test]
async fn every_problem_type_is_a_page_that_exists() {
    let bench = open().await;
    for kind in crate::problem::Kind::ALL {
        let page = bench.get(&format!("/problems/{}", kind.slug())).await;
        assert_eq!(page.status, StatusCode::OK, "{kind:?}");
        assert!(page.header("content-type").starts_with("text/html"));
        assert!(page.body.contains("Remedy") && page.body.contains("Cause"));
        assert!(bench.get("/problems").await.body.contains(kind.slug()));
    }
}

#[tokio::test]
async fn the_request_id_of_the_client_comes_back() {
    let bench = open().await;
    let answer = bench.call("GET /nothing", &[("x-request-id", "build-7")], "").await;
    assert_eq!(answer.header("x-request-id"), "build-7");
    assert_eq!(answer.json()["request_id"], "build-7");
    assert_eq!(bench.get("/healthz").await.header("x-request-id").len(), 16);
}

/// Changing requests of all routes with anything in them.
async fn throw(bench: &Bench, line: &str, content_type: &str, if_match: &str, body: Vec<u8>) {
    let headers = [("content-type", content_type), ("if-match", if_match)];
    let answer = bench.send(request(line, &headers, body)).await;
    assert!(answer.status != StatusCode::INTERNAL_SERVER_ERROR, "{line}: {answer:?}");
    if !answer.status.is_success() {
        answer.problem();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_never_fails_the_server(
        body in proptest::collection::vec(any::<u8>(), 0..2048),
        text in "\\PC{0,400}",
        broken in 0..CAMERA.len(),
        if_match in "[ -~]{0,40}",
    ) {
        runtime().block_on(async {
            let bench = bench(Default::default()).await;
            let mut sdp = CAMERA.as_bytes().to_vec();
            sdp.truncate(broken);
            for body in [body.clone(), text.clone().into_bytes(), sdp] {
                throw(&bench, "POST /whip/door", "application/sdp", &if_match, body.clone()).await;
                throw(&bench, "POST /whep/door", "application/sdp", &if_match, body.clone()).await;
                throw(&bench, "PATCH /whip/door/AAAAAAAAAAAAAAAAAAAAAA", "application/trickle-ice-sdpfrag", &if_match, body.clone()).await;
                throw(&bench, "POST /streams", "application/json", &if_match, body.clone()).await;
                throw(&bench, "PUT /admin/limits", "application/json", &if_match, body.clone()).await;
                throw(&bench, "PUT /admin/session", "application/json", &if_match, body).await;
            }
        });
    }

    #[test]
    fn garbage_paths_never_fail_the_server(path in "/[!-~&&[^?#]]{0,60}", query in "[!-~&&[^#]]{0,60}") {
        let Ok(uri) = format!("{path}?{query}").parse::<axum::http::Uri>() else { return Ok(()) };
        runtime().block_on(async {
            let bench = open().await;
            let answer = bench.answer(request(&format!("GET {uri}"), &[], "")).await;
            assert!(answer.status() != StatusCode::INTERNAL_SERVER_ERROR, "{uri}");
        });
    }
}
