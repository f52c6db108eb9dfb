//! The whole matrix: every bad token on every route is 401, every good token that is for something else is 403.

use super::bench::{Bench, CAMERA, VIEWER, Wishes, bench, jwt, request};
use crate::auth::test_tokens::{SECRET, forge, sign, sign_with};
use axum::http::StatusCode;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

/// Method and path, content type, body, the scopes that do, and whether it is about room `a` alone.
type Route = (String, &'static str, &'static str, &'static [&'static str], bool);

async fn routes(bench: &Bench) -> Vec<Route> {
    let created = bench
        .call(
            "POST /streams",
            &[
                ("content-type", "application/json"),
                ("authorization", &format!("Bearer {}", good("publish", json!("a")))),
            ],
            r#"{"room":"a"}"#,
        )
        .await;
    let id = created.json()["id"].as_str().unwrap().to_owned();
    const SDP: &str = "application/sdp";
    const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
    const JSON: &str = "application/json";
    let key = "AAAAAAAAAAAAAAAAAAAAAA";
    vec![
        ("POST /whip/a".into(), SDP, "x", &["publish"], true),
        (format!("PATCH /whip/a/{key}"), FRAGMENT, "x", &["publish"], true),
        (format!("DELETE /whip/a/{key}"), "", "", &["publish"], true),
        ("POST /whep/a".into(), SDP, "x", &["subscribe"], true),
        (format!("PATCH /whep/a/{key}"), FRAGMENT, "x", &["subscribe"], true),
        (format!("DELETE /whep/a/{key}"), "", "", &["subscribe"], true),
        ("GET /streams?room=a".into(), "", "", &["publish", "subscribe"], true),
        ("GET /streams".into(), "", "", &["publish", "subscribe"], false),
        ("POST /streams".into(), JSON, r#"{"room":"a"}"#, &["publish"], true),
        (format!("GET /streams/{id}"), "", "", &["publish", "subscribe"], true),
        (format!("POST /streams/{id}/end"), "", "", &["publish"], true),
        ("GET /events?room=a".into(), "", "", &["publish", "subscribe"], true),
        ("GET /events".into(), "", "", &["publish", "subscribe"], false),
        ("GET /sessions?room=a".into(), "", "", &["publish", "subscribe"], true),
        ("GET /sessions".into(), "", "", &["publish", "subscribe"], false),
        ("GET /admin/limits".into(), "", "", &["admin"], false),
        ("PUT /admin/limits".into(), JSON, "{}", &["admin"], false),
        ("GET /admin/session".into(), "", "", &["admin"], false),
        ("PUT /admin/session".into(), JSON, "{}", &["admin"], false),
    ]
}

fn claims(scope: &str, room: Value) -> Value {
    json!({"sub": "me", "iss": "https://issuer", "aud": "cams", "exp": 4_000_000_000u64, "scope": scope, "room": room})
}

fn good(scope: &str, room: Value) -> String {
    sign(claims(scope, room))
}

fn changed(field: &str, value: Value) -> Value {
    let mut claims = claims("publish subscribe admin", json!("*"));
    claims[field] = value;
    claims
}

fn bad_tokens() -> Vec<(&'static str, Option<String>)> {
    let all = claims("publish subscribe admin", json!("*"));
    let mut no_expiry = all.clone();
    no_expiry.as_object_mut().unwrap().remove("exp");
    let tampered = {
        let token = good("publish", json!("b"));
        let signature = token.rsplit('.').next().unwrap().to_owned();
        forge(r#"{"alg":"HS256","typ":"JWT"}"#, &all, &signature)
    };
    vec![
        ("none", None),
        ("empty", Some(String::new())),
        ("garbage", Some("garbage".into())),
        ("expired", Some(sign(changed("exp", json!(1_000_000_000))))),
        ("without exp", Some(sign(no_expiry))),
        ("not yet", Some(sign(changed("nbf", json!(3_900_000_000u64))))),
        ("wrong audience", Some(sign(changed("aud", json!("others"))))),
        ("wrong issuer", Some(sign(changed("iss", json!("https://evil"))))),
        ("alg none", Some(forge(r#"{"alg":"none"}"#, &all, ""))),
        ("alg RS256 for an HS key", Some(forge(r#"{"alg":"RS256","typ":"JWT"}"#, &all, "AAAA"))),
        ("HS512 with our key", Some(sign_with(Algorithm::HS512, SECRET, all.clone()))),
        ("another key", Some(sign_with(Algorithm::HS256, "another secret of thirty-two bytes", all))),
        ("tampered", Some(tampered)),
    ]
}

async fn status(bench: &Bench, route: &Route, token: Option<&str>) -> (StatusCode, String) {
    let (line, content_type, body, _, _) = route;
    let authorization = token.map(|token| format!("Bearer {token}"));
    let mut headers = Vec::new();
    if !content_type.is_empty() {
        headers.push(("content-type", *content_type));
    }
    headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
    let response = bench.answer(request(line, &headers, *body)).await;
    let challenge = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    let error = response.status().is_client_error();
    assert!(!error || response.headers()["content-type"] == "application/problem+json", "{line}");
    (response.status(), challenge.unwrap_or_default())
}

#[tokio::test]
async fn every_bad_token_is_refused_on_every_route() {
    let bench = bench(Wishes { auth: jwt(), ..Wishes::default() }).await;
    for route in routes(&bench).await {
        for (name, token) in bad_tokens() {
            let (status, challenge) = status(&bench, &route, token.as_deref()).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{} with token {name}", route.0);
            assert!(challenge.starts_with("Bearer "), "{} with token {name}: {challenge}", route.0);
        }
    }
}

#[tokio::test]
async fn every_token_for_something_else_is_refused_on_every_route() {
    let bench = bench(Wishes { auth: jwt(), ..Wishes::default() }).await;
    for route in routes(&bench).await {
        let (_, _, _, scopes, of_room) = &route;
        for scope in ["publish", "subscribe", "", "fly"] {
            if !scopes.contains(&scope) {
                let (status, _) = status(&bench, &route, Some(&good(scope, json!("*")))).await;
                assert_eq!(status, StatusCode::FORBIDDEN, "{} with scope {scope:?}", route.0);
            }
        }
        for scope in *scopes {
            let elsewhere = status(&bench, &route, Some(&good(scope, json!(["b", "A", "aa", ""])))).await.0;
            assert_eq!(elsewhere, StatusCode::FORBIDDEN, "{} with {scope} for other rooms", route.0);
            let nowhere = status(&bench, &route, Some(&good(scope, json!([])))).await.0;
            assert_eq!(nowhere, StatusCode::FORBIDDEN, "{} with {scope} for no room", route.0);
            let here = status(&bench, &route, Some(&good(scope, json!("a")))).await.0;
            let refused = here == StatusCode::UNAUTHORIZED || here == StatusCode::FORBIDDEN;
            assert_eq!(refused, !of_room, "{} with {scope} for its room: {here}", route.0);
        }
        for (scope, room) in [("admin", json!(null)), ("admin", json!("*")), ("publish subscribe admin", json!("*"))] {
            let here = status(&bench, &route, Some(&good(scope, room))).await.0;
            assert!(here != StatusCode::UNAUTHORIZED && here != StatusCode::FORBIDDEN, "{} as admin: {here}", route.0);
        }
    }
}

#[tokio::test]
async fn a_session_belongs_to_the_one_who_made_it() {
    let bench = bench(Wishes { auth: jwt(), ..Wishes::default() }).await;
    let mine = good("publish", json!("a"));
    let camera = bench.offer("/whip/a", CAMERA, Some(&mine)).await;
    assert_eq!(camera.status, StatusCode::CREATED, "{camera:?}");
    let line = format!("DELETE {}", camera.header("location"));
    let mut other = claims("publish", json!("a"));
    other["sub"] = json!("somebody else");
    let theirs = format!("Bearer {}", sign(other));
    let refused = bench.call(&line, &[("authorization", &theirs)], "").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (403, "not-yours"));
    let ended = bench.call(&line, &[("authorization", &format!("Bearer {mine}"))], "").await;
    assert_eq!(ended.status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_without_a_subject_owns_its_sessions_too() {
    let bench = bench(Wishes { auth: jwt(), ..Wishes::default() }).await;
    let nameless = |expiry: u64| {
        let mut claims = claims("publish", json!("a"));
        claims.as_object_mut().unwrap().remove("sub");
        claims["exp"] = json!(expiry);
        sign(claims)
    };
    let mine = nameless(4_000_000_000);
    let camera = bench.offer("/whip/a", CAMERA, Some(&mine)).await;
    assert_eq!(camera.status, StatusCode::CREATED, "{camera:?}");
    let line = format!("DELETE {}", camera.header("location"));
    let end = async |token: &str| bench.call(&line, &[("authorization", &format!("Bearer {token}"))], "").await.status;
    assert_eq!(end(&nameless(4_000_000_001)).await, StatusCode::FORBIDDEN, "it is another token");
    assert_eq!(end(&mine).await, StatusCode::OK);
}

fn expiring(subject: &str, expiry: u64) -> String {
    let mut claims = claims("publish subscribe admin", json!("*"));
    claims["sub"] = json!(subject);
    claims["exp"] = json!(expiry);
    sign(claims)
}

async fn expired_camera(bench: &Bench) -> (String, String) {
    expired_session(bench, "/whip/a", CAMERA).await
}

/// Has the session's token expire: a session is started by a token that is valid for seconds beyond the leeway of 30 s.
async fn expired_session(bench: &Bench, path: &str, offer: &str) -> (String, String) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let token = expiring("me", now - 25);
    let session = bench.offer(path, offer, Some(&token)).await;
    assert_eq!(session.status, StatusCode::CREATED, "{session:?}");
    let authorization = format!("Bearer {token}");
    super::bench::until("the token expires", async || {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        bench.call("GET /streams", &[("authorization", &authorization)], "").await.status == StatusCode::UNAUTHORIZED
    })
    .await;
    (session.header("location").to_owned(), token)
}

#[tokio::test]
async fn expired_token_opens_events_of_its_own_session() {
    let bench = bench(Wishes { auth: jwt(), ..Wishes::default() }).await;
    let camera = bench.offer("/whip/a", CAMERA, Some(&good("publish", json!("a")))).await;
    assert_eq!(camera.status, StatusCode::CREATED, "{camera:?}");
    let (url, token) = expired_session(&bench, "/whep/a", VIEWER).await;
    let call =
        async |line: &str, token: &str| bench.call(line, &[("authorization", &format!("Bearer {token}"))], "").await;
    let create = format!("POST {url}/sse");
    assert_eq!(call(&create, &expiring("me", 1_000_000_000)).await.problem(), "token-invalid", "another token");
    let events = call(&create, &token).await;
    assert_eq!(events.status, StatusCode::CREATED, "{events:?}");
    let ended = call(&format!("DELETE {}", events.header("location")), &token).await;
    assert_eq!(ended.status, StatusCode::OK, "{ended:?}");
}

#[tokio::test]
async fn expired_token_restarts_and_ends_its_own_session() {
    const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
    let bench = bench(Wishes { auth: jwt(), ..Wishes::default() }).await;
    let (url, token) = expired_camera(&bench).await;
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("content-type", FRAGMENT), ("if-match", "*")];
    let restart =
        "a=ice-ufrag:newufrag\r\na=ice-pwd:newpassword0123456789ab\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n";
    let restarted = bench.call(&format!("PATCH {url}"), &headers, restart).await;
    assert_eq!(restarted.status, StatusCode::OK, "{restarted:?}");
    for line in ["POST /whip/b", "POST /whep/a", "PATCH /whip/a/AAAAAAAAAAAAAAAAAAAAAA", "DELETE /whip/a/x"] {
        let answer = bench.call(line, &headers, restart).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, "token-invalid"), "{line}");
    }
    let ended = bench.call(&format!("DELETE {url}"), &headers[..1], "").await;
    assert_eq!(ended.status, StatusCode::OK, "{ended:?}");
    let again = bench.call(&format!("DELETE {url}"), &headers[..1], "").await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED, "{again:?}");
}

#[tokio::test]
async fn another_expired_token_is_refused_for_a_session() {
    let bench = bench(Wishes { auth: jwt(), ..Wishes::default() }).await;
    let (url, token) = expired_camera(&bench).await;
    let end = async |token: &str| {
        bench.call(&format!("DELETE {url}"), &[("authorization", &format!("Bearer {token}"))], "").await
    };
    // The same identity, an admin, another role's path: none is the token that started the session.
    for other in [expiring("me", 1_000_000_000), expiring("root", 1_000_000_000)] {
        assert_eq!(end(&other).await.problem(), "token-invalid");
    }
    let viewer = url.replace("/whip/", "/whep/");
    let wrong = bench.call(&format!("DELETE {viewer}"), &[("authorization", &format!("Bearer {token}"))], "").await;
    assert_eq!(wrong.problem(), "token-invalid");
    // The key was replaced, and its overlap is over: the token is revoked.
    let long_ago = std::time::Instant::now().checked_sub(std::time::Duration::from_secs(120)).unwrap();
    bench.app.authorizer.replace_secret(&crate::auth::Secret::new("another secret of thirty-two bytes"), long_ago);
    assert_eq!(end(&token).await.problem(), "token-invalid");
    assert_eq!(bench.app.control.sessions(&Default::default()).len(), 0, "limit 0 lists none");
    let query = crate::control::SessionQuery { limit: 10, ..Default::default() };
    assert_eq!(bench.app.control.sessions(&query).len(), 1, "the session continues");
}

#[tokio::test]
async fn the_query_holds_a_token_for_events_only() {
    let bench = bench(Wishes { auth: jwt(), ..Wishes::default() }).await;
    let token = good("publish subscribe admin", json!("*"));
    let events = bench.answer(request(&format!("GET /events?access_token={token}"), &[], "")).await;
    assert_eq!(events.status(), StatusCode::OK);
    for line in ["GET /streams", "GET /admin/limits", "POST /whip/a", "POST /streams"] {
        let answer = bench.call(&format!("{line}?access_token={token}"), &[], "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{line}");
        assert!(!answer.body.contains(&token));
    }
}

#[tokio::test]
async fn events_end_with_the_token() {
    let bench = bench(Wishes { auth: jwt(), ..Wishes::default() }).await;
    let mut claims = claims("subscribe", json!("a"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    claims["exp"] = json!(now + 100);
    let events = bench.answer(request(&format!("GET /events?room=a&access_token={}", sign(claims)), &[], "")).await;
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let heard = axum::body::to_bytes(events.into_body(), 1 << 20).await.unwrap();
    let lasted = begun.elapsed().as_secs();
    assert!((120..=131).contains(&lasted), "the leeway of 30 s counts: {lasted}");
    assert!(String::from_utf8_lossy(&heard).contains("listening"));
}

#[tokio::test]
async fn public_routes_need_no_token_and_tell_no_secret() {
    let variables = &[("TURN_URLS", "turn:t.example"), ("TURN_USERNAME", "u"), ("TURN_CREDENTIAL", "s3cret")];
    let bench = bench(Wishes { auth: jwt(), variables, ..Wishes::default() }).await;
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/config.json", "/problems"] {
        let answer = bench.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(!answer.body.contains("s3cret"), "{path}");
    }
    let token = format!("Bearer {}", good("subscribe", json!("a")));
    let config = bench.call("GET /config.json", &[("authorization", &token)], "").await.json();
    assert_eq!(config["iceServers"][0]["credential"], "s3cret");
    assert_eq!(config["auth"], "jwt");
}
