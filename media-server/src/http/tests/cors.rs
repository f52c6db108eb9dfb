//! Other origins: the answers they may read, and the requests that an open server on this machine refuses.

use super::bench::{Bench, CAMERA, Wishes, bench, jwt, open};
use crate::auth::AuthMode;
use crate::config::HttpSettings;
use axum::http::StatusCode;

const LISTED: &str = "https://player.example";
const FOREIGN: &str = "https://console.example";
const LOCAL: &str = "http://localhost:3000";

#[tokio::test]
async fn every_route_answers_options() {
    let bench = bench(Wishes { auth: jwt(), ..Wishes::default() }).await;
    for (path, methods) in [
        ("/whip/door", "POST"),
        ("/whep/door/0123456789abcdefghijkl/sse", "POST"),
        ("/whep/door/0123456789abcdefghijkl/sse/0123456789abcdefghijkl", "DELETE"),
        ("/streams", "POST"),
        ("/streams/x", "GET"),
        ("/streams/x/end", "POST"),
        ("/events", "GET"),
        ("/openapi.json", "GET"),
    ] {
        let headers = [("origin", FOREIGN), ("access-control-request-headers", "authorization,traceparent,baggage")];
        let answer = bench.call(&format!("OPTIONS {path}"), &headers, "").await;
        assert!(answer.status.is_success(), "{path} {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}");
        for header in ["allow", "access-control-allow-methods"] {
            assert!(answer.header(header).contains(methods) && answer.header(header).contains("OPTIONS"), "{path}");
        }
        let allowed = answer.header("access-control-allow-headers");
        assert!(["Authorization", "traceparent", "baggage"].iter().all(|name| allowed.contains(name)), "{allowed}");
        assert_eq!(bench.call(&format!("GET {path}"), &[], "").await.header("access-control-allow-origin"), "*");
    }
    for path in ["/", "/healthz", "/metrics"] {
        let answer = bench.call(&format!("OPTIONS {path}"), &[("origin", FOREIGN)], "").await;
        assert!(answer.status.is_success() && answer.header("allow").contains("GET"), "{path} {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
    }
    let nothing = bench.call("OPTIONS /nothing", &[("origin", FOREIGN)], "").await;
    assert_eq!(nothing.status, StatusCode::NOT_FOUND);
}

/// A server with an allow-list.
async fn listing(auth: AuthMode) -> Bench {
    let http = HttpSettings { allowed_origins: vec![LISTED.to_owned()], ..HttpSettings::default() };
    bench(Wishes { auth, http, ..Wishes::default() }).await
}

#[tokio::test]
async fn listed_origin_may_use_every_route() {
    let bench = listing(jwt()).await;
    for path in [
        "/whip/door",
        "/whep/door/0123456789abcdefghijkl",
        "/whep/door/0123456789abcdefghijkl/sse",
        "/streams",
        "/sessions",
        "/sessions/x",
        "/events",
        "/assets/player.js",
        "/config.json",
        "/admin/limits",
        "/",
    ] {
        let headers = [("origin", LISTED), ("access-control-request-headers", "sentry-trace,traceparent")];
        let answer = bench.call(&format!("OPTIONS {path}"), &headers, "").await;
        assert!(answer.status.is_success(), "{path} {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), LISTED, "{path}");
        assert!(answer.header("access-control-allow-headers").contains("sentry-trace, traceparent"), "{path}");
        assert!(answer.header("access-control-allow-methods").contains("OPTIONS"), "{path}");
        for name in ["Location", "Link", "ETag", "Content-Range", "Accept-Ranges", "Content-Disposition", "Retry-After"]
        {
            assert!(answer.header("access-control-expose-headers").contains(name), "{path} {name}");
        }
        let get = bench.call(&format!("GET {path}"), &[("origin", LISTED)], "").await;
        assert_eq!(get.header("access-control-allow-origin"), LISTED, "{path}: errors are read too");
        assert!(get.headers.get_all("vary").iter().any(|vary| vary == "Origin"), "{path} {get:?}");
    }
}

#[tokio::test]
async fn origin_that_is_not_listed_reads_nothing() {
    let bench = listing(jwt()).await;
    for path in ["/whip/door", "/whep/door", "/streams", "/events", "/assets/player.js", "/recordings", "/"] {
        for origin in [FOREIGN, LOCAL, "null", "https://player.example.evil.example", "http://player.example"] {
            for method in ["OPTIONS", "GET"] {
                let headers = [("origin", origin), ("access-control-request-method", "POST")];
                let answer = bench.call(&format!("{method} {path}"), &headers, "").await;
                let allowed = answer.headers.keys().filter(|name| name.as_str().starts_with("access-control-allow-"));
                assert_eq!(allowed.count(), 0, "{method} {path} {origin} {answer:?}");
                let varies = answer.headers.get_all("vary").iter().any(|vary| vary == "Origin");
                assert!(varies, "a cache keeps the refusal for this origin alone: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn open_server_is_changed_by_listed_origins() {
    let bench = listing(AuthMode::Open).await;
    for (origin, status) in [(LISTED, 201), (LOCAL, 403), (FOREIGN, 403), ("http://localhost:8080", 201)] {
        let room = if origin == LISTED { "one" } else { "two" };
        let headers = [("content-type", "application/sdp"), ("origin", origin)];
        let answer = bench.call(&format!("POST /whip/{room}"), &headers, CAMERA).await;
        assert_eq!(answer.status.as_u16(), status, "{origin} {answer:?}");
    }
    let json = [("content-type", "application/json"), ("origin", LISTED)];
    let created = bench.call("POST /streams", &json, r#"{"room":"three"}"#).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
}

#[tokio::test]
async fn method_not_allowed_names_the_methods() {
    let answer = open().await.call("DELETE /events", &[], "").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (405, "method-not-allowed"));
    assert!(answer.header("allow").contains("GET"), "{answer:?}");
}

#[tokio::test]
async fn open_server_is_read_by_pages_of_this_machine() {
    let bench = open().await;
    for (origin, allowed) in [(LOCAL, LOCAL), ("http://127.0.0.1:5173", "http://127.0.0.1:5173"), (FOREIGN, "")] {
        for line in ["GET /streams", "OPTIONS /streams", "OPTIONS /events"] {
            let answer = bench.call(line, &[("origin", origin)], "").await;
            assert_eq!(answer.header("access-control-allow-origin"), allowed, "{line} {origin}");
            assert!(allowed.is_empty() || answer.header("vary").contains("Origin"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn pages_on_other_addresses_cannot_publish() {
    let bench = open().await;
    let post = async |origin: &str, host: &str| {
        let headers = [("content-type", "application/sdp"), ("origin", origin)];
        let mut request = super::bench::request("POST /whip/door", &headers, CAMERA);
        request.headers_mut().insert("host", host.parse().unwrap());
        bench.send(request).await
    };
    for origin in [
        "http://203.0.113.5",
        "http://203.0.113.5:8080",
        "http://192.168.1.20:8080",
        "http://0.0.0.0:8080",
        "http://[::]:8080",
        "http://[2001:db8::1]:8080",
        "http://[::ffff:203.0.113.5]",
        "null",
    ] {
        let answer = post(origin, "localhost:8080").await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (403, "cross-origin"), "{origin}");
    }
    // A name that was rebound to this address is refused by the Host header, though page and request agree.
    let rebound = post("http://evil.example:8080", "evil.example:8080").await;
    assert_eq!((rebound.status.as_u16(), rebound.problem().as_str()), (421, "unknown-host"), "{rebound:?}");
    for origin in ["http://localhost:3000", "http://127.0.0.1", "http://127.8.9.10:1", "http://[::1]:3000"] {
        let answer = post(origin, "localhost:8080").await;
        let taken = answer.status == StatusCode::CREATED || answer.status == StatusCode::CONFLICT;
        assert!(taken, "{origin} {answer:?}");
    }
    let own = post("http://192.168.1.20:8080", "192.168.1.20:8080").await;
    assert_ne!(own.status, StatusCode::FORBIDDEN, "the server's own page, through a forwarded port: {own:?}");
}
