//! Behind a proxy: addresses of clients, and paths below a prefix.

use super::bench::{Answer, Bench, CAMERA, VIEWER, Wishes, bench, open, request};
use crate::config::HttpSettings;
use crate::session::Change;
use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use std::net::SocketAddr;
use streamsession_api::{Http, StreamSessionSpec};

const PROXY: &str = "10.244.0.9:40000";
const STRANGER: &str = "203.0.113.5:40000";
const SDP: (&str, &str) = ("content-type", "application/sdp");

async fn behind(base_path: &str) -> Bench {
    let http = HttpSettings {
        trusted_proxies: vec!["10.244.0.0/16".parse().unwrap()],
        base_path: base_path.to_owned(),
        ..HttpSettings::default()
    };
    bench(Wishes { http, ..Wishes::default() }).await
}

/// A request on a connection from `peer`.
async fn from(bench: &Bench, peer: &str, line: &str, headers: &[(&str, &str)], body: &'static str) -> Answer {
    let mut request = request(line, headers, body);
    request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
    bench.send(request).await
}

/// Sends until the limit refuses; false when it never does.
async fn is_limited(bench: &Bench, peer: &str, headers: &[(&str, &str)]) -> bool {
    for _ in 0..300 {
        let answer = from(bench, peer, "DELETE /whip/door/AAAAAAAAAAAAAAAAAAAAAA", headers, "").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn clients_of_a_trusted_proxy_are_counted_one_by_one() {
    let bench = behind("").await;
    assert!(is_limited(&bench, PROXY, &[("x-forwarded-for", "192.0.2.1")]).await);
    let other = from(&bench, PROXY, "DELETE /whip/door/x", &[("x-forwarded-for", "192.0.2.2")], "").await;
    assert_eq!(other.status, StatusCode::NOT_FOUND, "{other:?}");
    // The client's own entry is left of the proxy's.
    let forged = [("x-forwarded-for", "192.0.2.99, 192.0.2.1")];
    let forged = from(&bench, PROXY, "DELETE /whip/door/x", &forged, "").await;
    assert_eq!(forged.status, StatusCode::TOO_MANY_REQUESTS, "{forged:?}");
}

#[tokio::test]
async fn client_behind_a_proxy_holds_its_share_of_requests() {
    let bench = behind("").await;
    let listen = async |address: &str| {
        let mut request = request("GET /events", &[("x-forwarded-for", address)], "");
        request.extensions_mut().insert(ConnectInfo(PROXY.parse::<SocketAddr>().unwrap()));
        bench.answer(request).await
    };
    let mut held = Vec::new();
    let refused = loop {
        let answer = listen("192.0.2.1").await;
        if answer.status() != StatusCode::OK {
            break answer;
        }
        held.push(answer);
    };
    assert_eq!((refused.status(), held.len()), (StatusCode::TOO_MANY_REQUESTS, 192));
    assert_eq!(listen("192.0.2.2").await.status(), StatusCode::OK, "others are not disturbed");
    held.pop();
    assert_eq!(listen("192.0.2.1").await.status(), StatusCode::OK, "an answer that ended frees its place");
}

#[tokio::test]
async fn forged_address_of_a_stranger_is_ignored() {
    let bench = behind("").await;
    let mut limited = false;
    for number in 0..300 {
        let address = format!("198.51.100.{}", number % 250);
        let headers = [("x-forwarded-for", address.as_str()), ("forwarded", "for=192.0.2.1")];
        let answer = from(&bench, STRANGER, "DELETE /whip/door/x", &headers, "").await;
        limited |= answer.status == StatusCode::TOO_MANY_REQUESTS;
    }
    assert!(limited, "another address in each request is another bucket to no one");
    let victim = from(&bench, PROXY, "DELETE /whip/door/x", &[("x-forwarded-for", "198.51.100.7")], "").await;
    assert_eq!(victim.status, StatusCode::NOT_FOUND, "{victim:?}");
}

/// Publishes, watches, and follows every URL in the answers as a client behind the proxy does.
async fn follow_urls(bench: &Bench, peer: &str, headers: &[(&str, &str)], to_server: impl Fn(&str) -> String) {
    let mut sdp = vec![SDP];
    sdp.extend_from_slice(headers);
    let line = |method: &str, url: &str| format!("{method} {}", to_server(url));
    let camera = from(bench, peer, &line("POST", "/cams/whip/door"), &sdp, CAMERA).await;
    assert_eq!(camera.status, StatusCode::CREATED, "{camera:?}");
    let publisher = camera.header("location");
    assert!(publisher.starts_with("/cams/whip/door/"), "{publisher}");
    let viewer = from(bench, peer, &line("POST", "/cams/whep/door"), &sdp, VIEWER).await;
    let link = viewer.header("link");
    let events = link.strip_prefix('<').and_then(|link| link.split_once(">;")).unwrap().0;
    assert!(events.starts_with("/cams/whep/door/") && events.ends_with("/sse"), "{link}");
    let refused = from(bench, peer, &line("POST", "/cams/whip/.x"), &sdp, CAMERA).await.json();
    assert_eq!(refused["type"], "/cams/problems/invalid-room");
    assert_eq!(refused["instance"], "/cams/whip/.x");
    let explained = from(bench, peer, &line("GET", "/cams/problems/invalid-room"), headers, "").await;
    assert!(explained.status.is_success() && explained.body.contains("href=\"../problems\""), "{explained:?}");
    let ended = from(bench, peer, &line("DELETE", publisher), headers, "").await;
    assert_eq!(ended.status, StatusCode::OK, "{ended:?}");
}

#[tokio::test]
async fn base_path_works_whether_it_is_stripped_or_not() {
    let passed_on = |url: &str| url.to_owned();
    let stripped = |url: &str| url.strip_prefix("/cams").unwrap().to_owned();
    follow_urls(&behind("/cams").await, STRANGER, &[], passed_on).await;
    follow_urls(&behind("/cams").await, STRANGER, &[], stripped).await;
    let prefix = [("x-forwarded-prefix", "/cams")];
    follow_urls(&behind("").await, PROXY, &prefix, passed_on).await;
    follow_urls(&behind("").await, PROXY, &prefix, stripped).await;
    follow_urls(&behind("/other").await, PROXY, &prefix, stripped).await;
}

#[tokio::test]
async fn prefix_of_a_stranger_is_ignored() {
    let bench = behind("").await;
    for (peer, prefix) in [(STRANGER, "/cams"), (PROXY, "//evil.example"), (PROXY, "https://evil.example")] {
        let headers = [SDP, ("x-forwarded-prefix", prefix), ("authorization", "Bearer same")];
        let answer = from(&bench, peer, "POST /whip/door", &headers, CAMERA).await;
        assert!(answer.header("location").starts_with("/whip/door/"), "{prefix} {answer:?}");
    }
}

#[tokio::test]
async fn base_path_without_slash_leads_to_the_console() {
    let bench = behind("/cams").await;
    let answer = bench.get("/cams?room=door").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (308, "/cams/?room=door"));
    let console = bench.get("/cams/").await;
    assert_eq!((console.status, console.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    assert_eq!(bench.get("/camsx").await.status, StatusCode::NOT_FOUND);
    assert_eq!(bench.get("/cams/cams/").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn pages_name_no_absolute_path() {
    let bench = behind("/cams").await;
    for (page, root) in [("/cams/", ""), ("/cams/publish/door", "../"), ("/cams/watch/door", "../")] {
        let html = bench.get(page).await.body;
        for attribute in ["href=\"", "src=\""] {
            for url in html.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(!url.starts_with('/'), "{page}: {url}");
            }
        }
        assert!(html.contains(&format!("href=\"{root}assets/style.css\"")), "{page}");
    }
}

#[tokio::test]
async fn newer_spec_changes_http_settings_live() {
    let bench = open().await;
    let http = Http {
        base_path: "/cams".to_owned(),
        trusted_proxies: vec!["10.244.0.0/16".to_owned()],
        allowed_origins: vec!["https://console.example.com".to_owned()],
    };
    let spec = StreamSessionSpec { http, ..StreamSessionSpec::default() };
    let change = |spec| Change { generation: 1, spec, announced: None, turn_urls: None };
    bench.app.session.apply(change(spec.clone())).unwrap();
    let headers = [SDP, ("origin", "https://console.example.com")];
    let camera = from(&bench, PROXY, "POST /cams/whip/door", &headers, CAMERA).await;
    assert!(camera.header("location").starts_with("/cams/whip/door/"), "{camera:?}");
    assert_eq!(camera.header("access-control-allow-origin"), "https://console.example.com");
    let wrong = Http { trusted_proxies: vec!["0.0.0.0/0".to_owned()], ..spec.http.clone() };
    let refused = bench.app.session.apply(change(StreamSessionSpec { http: wrong, ..spec })).unwrap_err().to_string();
    assert!(refused.starts_with("spec.http.trustedProxies is \"0.0.0.0/0\""), "{refused}");
    assert!(bench.app.session.http().trusts("10.244.0.1".parse().unwrap()), "nothing has changed");
}
