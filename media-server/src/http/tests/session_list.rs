//! `/sessions`: listed by room, and ended by their owners and admins.

use super::bench::{Bench, CAMERA, VIEWER, Wishes, bench, jwt};
use crate::auth::test_tokens::sign;
use axum::http::StatusCode;
use serde_json::{Value, json};

fn token(subject: &str, scope: &str, room: &str) -> String {
    sign(
        json!({"sub": subject, "iss": "https://issuer", "aud": "cams", "exp": 4_000_000_000u64, "scope": scope, "room": room}),
    )
}

async fn call(bench: &Bench, line: &str, token: &str) -> super::bench::Answer {
    bench.call(line, &[("authorization", &format!("Bearer {token}"))], "").await
}

/// A camera and two viewers in the room `door`, and a camera in `yard`.
async fn watched() -> Bench {
    let bench = bench(Wishes { auth: jwt(), ..Wishes::default() }).await;
    for (path, offer, token) in [
        ("/whip/door", CAMERA, token("camera", "publish", "door")),
        ("/whep/door", VIEWER, token("ann", "subscribe", "door")),
        ("/whep/door", VIEWER, token("bob", "subscribe", "door")),
        ("/whip/yard", CAMERA, token("other", "publish", "yard")),
    ] {
        assert_eq!(bench.offer(path, offer, Some(&token)).await.status, StatusCode::CREATED);
    }
    bench
}

async fn list(bench: &Bench, query: &str, token: &str) -> Vec<Value> {
    let answer = call(bench, &format!("GET /sessions{query}"), token).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()["sessions"].as_array().unwrap().clone()
}

fn subjects(sessions: &[Value]) -> Vec<&str> {
    sessions.iter().map(|session| session["subject"].as_str().unwrap_or("-")).collect()
}

#[tokio::test]
async fn sessions_are_listed_newest_first_in_pages() {
    let bench = watched().await;
    let admin = token("root", "admin", "*");
    let all = list(&bench, "", &admin).await;
    assert_eq!(subjects(&all), ["other", "bob", "ann", "camera"]);
    assert_eq!((&all[3]["role"], &all[3]["room"]), (&json!("publisher"), &json!("door")));
    assert!(all.iter().all(|session| session["id"].as_str().unwrap().len() == 36), "an id, not the URL's secret");
    let page = call(&bench, "GET /sessions?room=door&limit=2", &admin).await.json();
    assert_eq!(subjects(page["sessions"].as_array().unwrap()), ["bob", "ann"]);
    let rest = list(&bench, &format!("?room=door&before={}", page["next"].as_str().unwrap()), &admin).await;
    assert_eq!(subjects(&rest), ["camera"]);
    for query in ["?limit=0", "?limit=501", "?before=x", "?room=.x", "?sort=id"] {
        assert_eq!(call(&bench, &format!("GET /sessions{query}"), &admin).await.status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn viewers_see_their_own_identity_alone() {
    let bench = watched().await;
    assert_eq!(subjects(&list(&bench, "?room=door", &token("ann", "subscribe", "door")).await), ["-", "ann", "-"]);
    let publisher = token("camera", "publish", "door");
    assert_eq!(subjects(&list(&bench, "?room=door", &publisher).await), ["bob", "ann", "camera"]);
    assert_eq!(call(&bench, "GET /sessions", &publisher).await.problem(), "room-not-granted");
    assert_eq!(call(&bench, "GET /sessions?room=yard", &publisher).await.problem(), "room-not-granted");
}

#[tokio::test]
async fn session_is_ended_by_its_owner_the_publisher_or_an_admin() {
    let bench = watched().await;
    let sessions = list(&bench, "?room=door", &token("root", "admin", "*")).await;
    let [bob, ann, camera] = [0, 1, 2].map(|at| format!("DELETE /sessions/{}", sessions[at]["id"].as_str().unwrap()));
    for (line, who, problem) in [
        (&bob, token("ann", "subscribe", "door"), "not-yours"),
        (&camera, token("ann", "subscribe", "door"), "not-yours"),
        (&bob, token("stranger", "publish", "door"), "not-yours"),
        (&bob, token("camera", "publish", "yard"), "room-not-granted"),
        (&bob, token("root", "admin", "yard"), "room-not-granted"),
    ] {
        assert_eq!(call(&bench, line, &who).await.problem(), problem, "{line}");
    }
    assert_eq!(call(&bench, &ann, &token("ann", "subscribe", "door")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(call(&bench, &bob, &token("camera", "publish", "door")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(call(&bench, &camera, &token("root", "admin", "door")).await.status, StatusCode::NO_CONTENT);
    let again = call(&bench, &camera, &token("root", "admin", "door")).await;
    assert_eq!((again.status.as_u16(), again.problem().as_str()), (404, "session-not-found"));
    assert_eq!(subjects(&list(&bench, "", &token("root", "admin", "*")).await), ["other"]);
    assert_eq!(call(&bench, "DELETE /sessions/x", "garbage").await.problem(), "token-invalid", "ids are not probed");
}
