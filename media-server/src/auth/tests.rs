//! Decisions by scope, room and key.

use super::test_tokens::{SECRET, sign};
use super::*;
use axum::http::HeaderValue;
use serde_json::{Value, json};

fn jwt() -> Authorizer {
    Authorizer::new(&AuthMode::Jwt {
        secret: Secret::new(SECRET),
        issuer: Some("https://issuer".into()),
        audience: Some("cams".into()),
    })
}

fn with(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    headers
}

fn token(scope: &str, room: Value) -> String {
    sign(
        json!({"sub": "door", "iss": "https://issuer", "aud": "cams", "exp": 4_000_000_000u64, "scope": scope, "room": room}),
    )
}

#[test]
fn open_mode_lets_everybody_in_and_tells_tokens_apart_without_keeping_them() {
    let open = Authorizer::new(&AuthMode::Open);
    let nobody = open.decide(&HeaderMap::new(), Action::Publish("a")).unwrap();
    assert_eq!(nobody.subject, None);
    let one = open.decide(&with("one"), Action::Publish("a")).unwrap().subject.unwrap();
    let same = open.decide(&with("one"), Action::Admin).unwrap().subject.unwrap();
    let other = open.decide(&with("two"), Action::Publish("a")).unwrap().subject.unwrap();
    assert_eq!(one, same);
    assert_ne!(one, other);
    assert!(!one.contains("one"));
}

#[test]
fn scope_and_room_decide() {
    let authorizer = jwt();
    let cases = [
        ("publish", json!("a"), Action::Publish("a"), true),
        ("publish", json!(["b", "a"]), Action::Publish("a"), true),
        ("publish", json!("*"), Action::Publish("a"), true),
        ("publish", json!("b"), Action::Publish("a"), false),
        ("publish", json!(null), Action::Publish("a"), false),
        ("subscribe", json!("a"), Action::Publish("a"), false),
        ("publish", json!("a"), Action::Subscribe("a"), false),
        ("subscribe", json!("a"), Action::Subscribe("a"), true),
        ("publish subscribe", json!("a"), Action::Subscribe("a"), true),
        ("admin", json!(null), Action::Subscribe("a"), true),
        ("admin", json!(null), Action::Publish("a"), true),
        ("admin", json!(null), Action::Admin, true),
        ("admin", json!("a"), Action::Publish("b"), false),
        ("admin", json!("a"), Action::Admin, false),
        ("publish", json!("*"), Action::Admin, false),
        ("publish", json!("a"), Action::ReadStreams(Some("a")), true),
        ("subscribe", json!("a"), Action::ReadStreams(Some("a")), true),
        ("subscribe", json!("a"), Action::ReadStreams(Some("b")), false),
        ("subscribe", json!("a"), Action::ReadStreams(None), false),
        ("subscribe", json!("*"), Action::ReadStreams(None), true),
        ("publish", json!("a"), Action::ReadRecordings(Some("a")), false),
        ("subscribe", json!("a"), Action::ReadRecordings(Some("a")), true),
        ("subscribe", json!("a"), Action::ManageStream("a"), false),
        ("", json!("*"), Action::ReadStreams(None), false),
        ("Publish", json!("*"), Action::Publish("a"), false),
    ];
    for (scope, room, action, expected) in cases {
        let got = authorizer.decide(&with(&token(scope, room.clone())), action);
        assert_eq!(got.is_ok(), expected, "{scope:?} {room} {action:?}: {got:?}");
    }
}

#[test]
fn no_token_is_missing_and_another_scheme_is_invalid() {
    assert_eq!(jwt().decide(&HeaderMap::new(), Action::Admin), Err(AuthError::Missing));
    assert_eq!(jwt().decide(&with(""), Action::Admin), Err(AuthError::Missing));
    let mut basic = HeaderMap::new();
    basic.insert(AUTHORIZATION, HeaderValue::from_static("Basic dXNlcjpwYXNz"));
    assert_eq!(jwt().decide(&basic, Action::Admin), Err(AuthError::Invalid(TokenError::Scheme)));
}

#[test]
fn query_token_counts_only_where_a_route_asks_for_it() {
    let query = format!("room=a&access_token={}", token("subscribe", json!("a")));
    let action = Action::ReadStreams(Some("a"));
    assert!(jwt().decide_read(&HeaderMap::new(), Some(&query), action).is_ok());
    assert_eq!(jwt().decide(&HeaderMap::new(), action), Err(AuthError::Missing));
    assert!(jwt().decide_read(&with("garbage"), Some(&query), action).is_err(), "the header goes first");
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let mode = AuthMode::Jwt { secret: Secret::new("hunter2"), issuer: None, audience: None };
    assert!(!format!("{mode:?}").contains("hunter2"));
}

#[test]
fn a_replaced_secret_is_good_for_another_minute() {
    const NEW: &str = "another-0123456789abcdef0123456789abcdef";
    let authorizer = Authorizer::new(&AuthMode::Jwt { secret: Secret::new(SECRET), issuer: None, audience: None });
    let claims = json!({"sub": "door", "exp": 4_000_000_000u64, "scope": "admin"});
    let (old, new) = (sign(claims.clone()), test_tokens::sign_with(jsonwebtoken::Algorithm::HS256, NEW, claims));
    let now = Instant::now();
    let verify = |token: &str, at| authorizer.keys().unwrap().verify(token, at).map(|claims| claims.subject);
    assert!(!authorizer.replace_secret(&Secret::new(SECRET), now), "it is the same");
    assert_eq!(verify(&new, now), Err(TokenError::Signature));
    assert!(authorizer.replace_secret(&Secret::new(NEW), now));
    assert!(verify(&new, now).is_ok() && verify(&old, now + Duration::from_secs(59)).is_ok());
    assert_eq!(verify(&old, now + Duration::from_secs(60)), Err(TokenError::Signature));
    assert!(verify(&new, now + Duration::from_secs(60)).is_ok());
}

#[test]
fn what_tokens_must_name_can_change() {
    let authorizer = jwt();
    let cams = token("admin", json!(null));
    assert!(authorizer.decide(&with(&cams), Action::Admin).is_ok());
    authorizer.set_claims(Some("https://issuer"), Some("doors"));
    assert_eq!(authorizer.decide(&with(&cams), Action::Admin), Err(TokenError::Audience.into()));
    authorizer.set_claims(None, None);
    assert!(authorizer.decide(&with(&cams), Action::Admin).is_ok());
}

#[test]
fn where_there_is_a_management_token_it_alone_manages_and_does_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let management = "management-0123456789abcdef0123456789";
    std::fs::write(&path, management).unwrap();
    let tokens = AdminTokens::read(&path).unwrap();
    for open in [false, true] {
        let authorizer = if open { Authorizer::new(&AuthMode::Open) } else { jwt() };
        let authorizer = authorizer.with_admin_tokens(Some(tokens.clone()));
        assert!(authorizer.decide(&with(management), Action::Manage).unwrap().admin);
        assert_eq!(authorizer.decide(&HeaderMap::new(), Action::Manage), Err(AuthError::Missing));
        let admin = token("admin", json!(null));
        assert_eq!(authorizer.decide(&with(&admin), Action::Manage), Err(TokenError::NotManagement.into()));
        assert!(authorizer.decide(&with(&admin), Action::Admin).is_ok());
        assert_eq!(authorizer.decide(&with(management), Action::Publish("a")).is_ok(), open);
    }
    assert!(jwt().decide(&with(&token("admin", json!(null))), Action::Manage).is_ok());
    assert!(jwt().decide(&with(&token("publish", json!("*"))), Action::Manage).is_err());
}
