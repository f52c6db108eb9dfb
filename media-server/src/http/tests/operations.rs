//! Health, metrics, pages, and the limit of requests.

use super::bench::{Wishes, bench, open, request};
use crate::http::ReadyCheck;
use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

fn check(name: &'static str, result: Result<(), &'static str>) -> ReadyCheck {
    ReadyCheck { name, check: Arc::new(move || Box::pin(async move { result.map_err(str::to_owned) })) }
}

#[tokio::test]
async fn readiness_names_what_is_wrong() {
    let well =
        bench(Wishes { ready: vec![check("registry", Ok(())), check("media", Ok(()))], ..Wishes::default() }).await;
    let ready = well.get("/readyz").await;
    assert_eq!((ready.status, ready.json()["checks"].to_string()), (StatusCode::OK, r#"["registry","media"]"#.into()));
    let ill = vec![check("registry", Err("the disk is full")), check("media", Ok(()))];
    let ill = bench(Wishes { ready: ill, ..Wishes::default() }).await;
    let answer = ill.get("/readyz").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "not-ready"));
    assert_eq!(answer.json()["detail"], "registry: the disk is full");
    assert_eq!(ill.get("/healthz").await.status, StatusCode::OK, "it lives all the same");
}

#[tokio::test]
async fn a_draining_server_is_not_ready() {
    let bench = open().await;
    bench.app.control.drain().await;
    let answer = bench.get("/readyz").await;
    assert_eq!(answer.problem(), "not-ready");
    assert!(answer.body.contains("draining"));
    let refused = bench.offer("/whip/door", super::bench::CAMERA, None).await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (503, "draining"));
}

#[tokio::test]
async fn metrics_follow_the_conventions() {
    let bench = open().await;
    bench.go_live("door-with-a-name", None).await;
    bench.get("/nothing").await;
    let answer = bench.get("/metrics").await;
    assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
    let text = answer.body;
    let names_after = |prefix: &str| -> BTreeSet<String> {
        text.lines().filter_map(|line| line.strip_prefix(prefix)?.split(' ').next().map(str::to_owned)).collect()
    };
    let (helped, typed) = (names_after("# HELP "), names_after("# TYPE "));
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end).filter(|n| typed.contains(*n)));
        let family = family.unwrap_or(name);
        assert!(typed.contains(family) && helped.contains(family), "no help or type: {line}");
        assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
        assert!(!line.contains("door-with-a-name"), "no label per room: {line}");
    }
    for counter in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")) {
        assert!(counter.ends_with("_total"), "{counter}");
    }
    for expected in [
        "media_server_build_info{version=",
        "media_server_sessions{role=\"publisher\"} 1",
        "media_server_rtp_packets_total{direction=\"out\"}",
        "media_server_rtp_lost_packets_total",
        "media_server_retransmitted_packets_total",
        "media_server_keyframe_requests_total",
        "media_server_nacked_packets_total",
        "media_server_bitrate_bits_per_second{direction=\"in\"}",
        "media_server_publishers_limit 4",
        "media_server_refused_total{reason=\"no-publisher\"} 0",
        "media_server_http_requests_total{route=\"other\",method=\"GET\",status=\"404\"} 1",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
    ] {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }
}

#[tokio::test]
async fn event_loop_lag_is_a_histogram() {
    let bench = open().await;
    let watching =
        tokio::spawn(crate::metrics::watch_event_loop(bench.app.metrics.clone(), bench.app.shutdown.clone()));
    super::bench::until("a lag is measured", async || {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        bench.get("/metrics").await.body.contains("media_server_event_loop_lag_seconds_bucket{le=\"0.001\"}")
    })
    .await;
    bench.app.shutdown.cancel();
    watching.await.unwrap();
}

#[tokio::test]
async fn pages_are_locked_down_and_only_the_watch_page_can_be_embedded() {
    let bench = open().await;
    for (path, embeddable) in [("/", false), ("/publish/door", false), ("/watch/door", true)] {
        let page = bench.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(policy.contains("frame-ancestors *"), embeddable, "{path}");
        assert_eq!(page.header("x-frame-options").is_empty(), embeddable, "{path}");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        let known = bench.call(&format!("GET {path}"), &[("if-none-match", page.header("etag"))], "").await;
        assert_eq!((known.status, known.body.as_str()), (StatusCode::NOT_MODIFIED, ""), "{path}");
    }
    assert_eq!(bench.get("/watch/.x").await.problem(), "invalid-room");
}

#[tokio::test]
async fn one_address_cannot_flood() {
    let bench = open().await;
    let send = async |peer: &str| {
        let mut request = request("DELETE /whip/door/AAAAAAAAAAAAAAAAAAAAAA", &[], "");
        let peer: SocketAddr = peer.parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        bench.send(request).await
    };
    let mut refused = None;
    for _ in 0..1000 {
        let answer = send("192.0.2.1:1000").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the limit holds");
    assert_eq!(refused.problem(), "too-many-requests");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(send("192.0.2.2:1000").await.status, StatusCode::NOT_FOUND, "others are not disturbed");
}

#[tokio::test]
async fn the_openapi_document_names_every_route() {
    let bench = open().await;
    let document = bench.get("/openapi.json").await.json();
    for path in [
        "/whip/{room}",
        "/whip/{room}/{key}",
        "/whep/{room}",
        "/whep/{room}/{key}",
        "/streams",
        "/streams/{id}",
        "/streams/{id}/end",
        "/events",
        "/sessions",
        "/sessions/{id}",
        "/media-tokens",
        "/admin/limits",
        "/healthz",
        "/readyz",
        "/metrics",
        "/config.json",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
}
