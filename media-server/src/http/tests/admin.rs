//! `/admin/session`, and the address that is for operators alone.

use super::bench::{Bench, CAMERA, SECRET, VIEWER, Wishes, bench, jwt, open, request};
use crate::auth::{AdminTokens, Secret};
use crate::http::management_router;
use axum::body::to_bytes;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

const JSON: (&str, &str) = ("content-type", "application/json");
const TOKEN: &str = "management-0123456789abcdef0123456789";

fn tokens() -> (tempfile::TempDir, AdminTokens) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    let tokens = AdminTokens::read(&folder.path().join("token")).unwrap();
    (folder, tokens)
}

async fn put(bench: &Bench, change: &Value) -> super::bench::Answer {
    bench.call("PUT /admin/session", &[JSON], change.to_string()).await
}

async fn accepted(bench: &Bench, change: &Value) -> Value {
    let answer = put(bench, change).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn a_session_says_what_is_in_force_and_how_the_server_does() {
    let bench = open().await;
    bench.go_live("door", None).await;
    let mut session = bench.get("/admin/session").await.json();
    let since = session["store"].as_object_mut().unwrap().remove("since").unwrap();
    assert!(since.as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let expected = json!({
        "version": env!("CARGO_PKG_VERSION"), "generation": 0, "draining": false, "drained": false,
        "limits": {
            "maxPublishers": 4, "maxSubscribersPerRoom": 50, "maxStreamsPerAccount": null, "maxBitrate": 20_000_000
        },
        "announced": ["192.0.2.1:8189"], "turnUrls": [],
        "publishers": 1, "subscribers": 0, "rooms": 1,
        "recordings": {"count": 0, "bytes": 0, "pendingUploads": 0, "onlyInStore": 0, "oldest": null},
        "store": {"mode": "Local", "ok": true, "reason": null, "message": null, "owner": null},
        "uploads": {"pending": 0, "oldestPendingSeconds": null, "failing": false, "message": null, "elsewhere": null},
        "turn": {"mode": "Disabled", "ok": true, "message": null},
    });
    assert_eq!(session, expected);
    bench.app.control.drain().await;
    assert_eq!(bench.get("/admin/session").await.json()["draining"], true);
}

#[tokio::test]
async fn an_operator_has_the_server_drain_and_it_goes_on_answering() {
    let bench = open().await;
    bench.go_live("door", None).await;
    bench.offer("/whep/door", VIEWER, None).await;
    let session = accepted(&bench, &json!({"generation": 1, "spec": {}, "drain": false})).await;
    assert_eq!((&session["draining"], &session["drained"]), (&json!(false), &json!(false)));
    let refused = put(&bench, &json!({"spec": {"limits": {"maxPublishers": 0}}, "drain": true})).await;
    assert_eq!(refused.problem(), "invalid-session");
    assert_eq!(bench.get("/admin/session").await.json()["draining"], false, "what is refused drains nothing");

    let session = accepted(&bench, &json!({"generation": 2, "spec": {}, "drain": true})).await;
    assert_eq!((&session["draining"], &session["generation"]), (&json!(true), &json!(2)), "when it is answered");
    assert_eq!((&session["publishers"], &session["subscribers"], &session["rooms"]), (&json!(0), &json!(0), &json!(0)));
    for offer in ["/whip/door", "/whip/other"] {
        assert_eq!(bench.offer(offer, CAMERA, None).await.problem(), "draining");
    }
    assert_eq!(bench.get("/readyz").await.problem(), "not-ready");
    assert_eq!(bench.get("/healthz").await.status, StatusCode::OK);
    super::bench::until("drained", async || bench.get("/admin/session").await.json()["drained"] == true).await;
    for drain in [json!(false), json!(true), Value::Null] {
        let mut change = json!({"generation": 3, "spec": {}});
        if drain.is_boolean() {
            change["drain"] = drain;
        }
        let session = accepted(&bench, &change).await;
        assert_eq!((&session["draining"], &session["drained"]), (&json!(true), &json!(true)), "it is never undone");
    }
}

#[tokio::test]
async fn a_recording_that_is_not_finished_is_not_drained() {
    let bench = open().await;
    let camera = bench.go_live("door", None).await;
    assert_eq!(camera.status, StatusCode::CREATED);
    let streams = bench.get("/streams").await.json();
    let stream = crate::control::StreamId::parse(streams["streams"][0]["id"].as_str().unwrap()).unwrap();
    let id = crate::control::RecordingId::first_of(&stream);
    let new = crate::store::NewRecording {
        id: id.clone(),
        path: stream.to_string(),
        stream: stream.clone(),
        room: crate::control::RoomName::parse("door").unwrap(),
        started_at: jiff::Timestamp::now(),
    };
    bench.app.store.recording_started(&new).await.unwrap();
    let drained = async || bench.get("/admin/session").await.json()["drained"].clone();
    accepted(&bench, &json!({"spec": {}, "drain": true})).await;
    super::bench::until("all has ended", async || bench.app.control.has_drained()).await;
    assert_eq!(drained().await, false, "it is being recorded");
    bench.app.store.recording_finalising(&id).await.unwrap();
    assert_eq!(drained().await, false, "it is being finished");
    let outcome = crate::store::RecordingOutcome {
        state: crate::store::RecordingState::Complete,
        bytes: 1,
        duration: Duration::from_secs(1),
        gaps: 0,
        ended_at: jiff::Timestamp::now(),
        index: None,
    };
    bench.app.store.recording_finished(&id, &outcome).await.unwrap();
    assert_eq!(drained().await, true);
}

#[tokio::test]
async fn what_the_parts_say_of_themselves_is_told() {
    let bench = open().await;
    bench.app.status.set_store(false, Some("AccessDenied".into()), Some("mend the key".into()));
    bench.app.status.set_turn(false, Some("it does not answer".into()));
    bench.app.status.set_uploads(crate::status::UploadStatus {
        pending: 3,
        recordings: 1,
        oldest_pending: Some(jiff::Timestamp::now() - Duration::from_secs(90)),
        failing: true,
        message: Some("mend the key".into()),
        evicted: 3,
        elsewhere: None,
    });
    let session = bench.get("/admin/session").await.json();
    assert_eq!((&session["store"]["ok"], &session["store"]["reason"]), (&json!(false), &json!("AccessDenied")));
    assert_eq!(session["turn"]["message"], "it does not answer");
    assert_eq!((&session["uploads"]["pending"], &session["recordings"]["pendingUploads"]), (&json!(3), &json!(1)));
    assert_eq!(session["recordings"]["onlyInStore"], 3);
    assert!((90..100).contains(&session["uploads"]["oldestPendingSeconds"].as_u64().unwrap()), "{session}");
}

#[tokio::test]
async fn a_newer_spec_is_in_force_when_it_is_answered() {
    let bench = open().await;
    let change = json!({
        "generation": 3,
        "spec": {
            "limits": {"maxPublishers": 1, "maxSubscribersPerRoom": 2, "maxStreamsPerAccount": 5, "maxBitrate": "2M"},
            "recording": {"enabled": false, "idleTimeout": "5s", "segmentDuration": "4s", "retention": {"maxAge": "7d"}},
            "drain": {"deadline": "7s"},
        },
        "announced": ["203.0.113.7:31189", "[2001:db8::7]:31189"],
        "turnUrls": ["turn:203.0.113.7:31478?transport=udp"],
    });
    let session = accepted(&bench, &change).await;
    assert_eq!(session["generation"], 3);
    let limits =
        json!({"maxPublishers": 1, "maxSubscribersPerRoom": 2, "maxStreamsPerAccount": 5, "maxBitrate": 2_000_000});
    assert_eq!(session["limits"], limits);
    assert_eq!((&session["announced"], &session["turnUrls"]), (&change["announced"], &change["turnUrls"]));
    assert_eq!(bench.get("/admin/limits").await.json(), limits);
    assert_eq!(bench.app.session.drain_deadline(), Duration::from_secs(7));
    let retention = bench.app.session.retention().borrow().clone();
    assert_eq!(retention.max_age.map(|age| age.as_duration()), Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(bench.get("/config.json").await.json()["recording"], false);

    let camera = bench.go_live("door", None).await;
    assert!(camera.body.contains("203.0.113.7 31189") && camera.body.contains("2001:db8::7 31189"), "{}", camera.body);
    assert!(camera.header("link").starts_with("<turn:203.0.113.7:31478?transport=udp>"), "{camera:?}");
    let again = accepted(&bench, &change).await;
    assert_eq!((&again["generation"], &again["publishers"]), (&json!(3), &json!(1)), "the same again changes nothing");
}

#[tokio::test]
async fn what_is_left_out_of_the_spec_has_its_default_and_addresses_stay() {
    let bench = open().await;
    let first = json!({"generation": 1, "spec": {"limits": {"maxPublishers": 9}},
        "announced": ["203.0.113.7:31189"], "turnUrls": ["stun:203.0.113.7:31478"]});
    accepted(&bench, &first).await;
    let session = accepted(&bench, &json!({"generation": 2, "spec": {}})).await;
    assert_eq!(session["limits"]["maxPublishers"], 4);
    assert_eq!((&session["announced"], &session["turnUrls"]), (&first["announced"], &first["turnUrls"]));
    let session = accepted(&bench, &json!({"generation": 2, "spec": {}, "turnUrls": []})).await;
    assert_eq!(session["turnUrls"], json!([]));
    let newer = json!({"generation": 3, "spec": {"someday": 1, "limits": {"someday": 2}}, "someday": 3});
    assert_eq!(accepted(&bench, &newer).await["generation"], 3, "an operator may be newer than the server");
}

#[tokio::test]
async fn a_spec_that_makes_no_sense_is_refused_by_its_field_and_nothing_changes() {
    let bench = open().await;
    let good = json!({"generation": 1, "spec": {"limits": {"maxPublishers": 7}}});
    let mut before = accepted(&bench, &good).await;
    for (change, parts) in [
        (json!({"spec": {"limits": {"maxPublishers": 0}}}), vec!["spec.limits.maxPublishers", "at least 1"]),
        (json!({"spec": {"limits": {"maxPublishers": "many"}}}), vec!["spec.limits.maxPublishers", "many"]),
        (json!({"spec": {"limits": {"maxBitrate": "1k"}}}), vec!["spec.limits.maxBitrate", "100k"]),
        (json!({"spec": {"recording": {"idleTimeout": "soon"}}}), vec!["spec.recording.idleTimeout"]),
        (json!({"spec": {"recording": {"segmentDuration": "2m"}}}), vec!["spec.recording.segmentDuration", "60s"]),
        (
            json!({"spec": {"database": {"mode": "Postgres", "urlSecretRef": {"name": "a", "key": "b"}}}}),
            vec!["Postgres"],
        ),
        (json!({"spec": {}, "announced": ["203.0.113.7"]}), vec!["announced[0]", "203.0.113.7", "its port"]),
        (json!({"spec": {}, "announced": ["203.0.113.7:1", "0.0.0.0:1"]}), vec!["announced[1]"]),
        (json!({"spec": {}, "announced": vec!["203.0.113.7:1"; 17]}), vec!["announced", "17 entries"]),
        (json!({"spec": {}, "announced": "203.0.113.7:1"}), vec!["announced", "sequence"]),
        (json!({"spec": {}, "turnUrls": ["http://x"]}), vec!["turnUrls", "http://x", "turn:HOST"]),
        (json!({"generation": 2}), vec!["spec"]),
        (json!([]), vec![]),
    ] {
        let mut change = change;
        if let Some(change) = change.as_object_mut() {
            change.entry("generation").or_insert(json!(2));
            // Also what is good is not taken over beside what is bad.
            if let Some(limits) = change.get_mut("spec").and_then(Value::as_object_mut) {
                limits.entry("limits").or_insert(json!({"maxPublishers": 8}));
            }
        }
        let answer = put(&bench, &change).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (422, "invalid-session"), "{change}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(parts.iter().all(|part| detail.contains(part)), "{change}: {detail}");
    }
    assert_eq!(bench.call("PUT /admin/session", &[JSON], "{").await.problem(), "bad-request");
    assert_eq!(bench.call("PUT /admin/session", &[], "{}").await.problem(), "unsupported-media-type");
    let long = json!({"spec": {"someday": "x".repeat(300 * 1024)}});
    assert_eq!(put(&bench, &long).await.problem(), "body-too-large");
    let mut after = bench.get("/admin/session").await.json();
    for session in [&mut before, &mut after] {
        session["store"]["since"] = Value::Null;
    }
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_lowered_cap_drops_nobody_and_newcomers_wait() {
    let bench = open().await;
    accepted(&bench, &json!({"generation": 1, "spec": {"limits": {"maxPublishers": 2, "maxSubscribersPerRoom": 3}}}))
        .await;
    for room in ["door", "garden"] {
        bench.go_live(room, None).await;
    }
    let mut viewers = Vec::new();
    for _ in 0..3 {
        viewers.push(bench.offer("/whep/door", VIEWER, None).await);
    }
    let counted = async |expected: (u64, u64)| {
        super::bench::until("they are counted", async || {
            let session = bench.get("/admin/session").await.json();
            (session["publishers"].as_u64(), session["subscribers"].as_u64()) == (Some(expected.0), Some(expected.1))
        })
        .await;
    };
    counted((2, 3)).await;
    let lowered = json!({"generation": 2, "spec": {"limits": {"maxPublishers": 1, "maxSubscribersPerRoom": 1}}});
    let session = accepted(&bench, &lowered).await;
    assert_eq!((&session["publishers"], &session["subscribers"]), (&json!(2), &json!(3)));
    assert_eq!(bench.offer("/whip/shed", CAMERA, None).await.problem(), "publishers-full");
    assert_eq!(bench.offer("/whep/door", VIEWER, None).await.problem(), "subscribers-full");
    for viewer in &viewers[..2] {
        assert_eq!(bench.call(&format!("DELETE {}", viewer.header("location")), &[], "").await.status, 200);
        assert_eq!(bench.offer("/whep/door", VIEWER, None).await.problem(), "subscribers-full", "the cap is 1 now");
    }
    assert_eq!(bench.call(&format!("DELETE {}", viewers[2].header("location")), &[], "").await.status, 200);
    assert_eq!(bench.offer("/whep/door", VIEWER, None).await.status, StatusCode::CREATED);
    counted((2, 1)).await;
}

#[tokio::test]
async fn a_restart_of_ice_is_told_the_newest_addresses() {
    let bench = open().await;
    let camera = bench.go_live("door", None).await;
    assert!(camera.body.contains("192.0.2.1 8189"));
    accepted(&bench, &json!({"spec": {}, "announced": ["203.0.113.9:31190"]})).await;
    let restart =
        "a=ice-ufrag:newufrag\r\na=ice-pwd:newpassword0123456789ab\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n";
    let patch = format!("PATCH {}", camera.header("location"));
    let headers = [("content-type", "application/trickle-ice-sdpfrag"), ("if-match", "*")];
    let restarted = bench.call(&patch, &headers, restart).await;
    assert_eq!(restarted.status, StatusCode::OK, "{restarted:?}");
    assert!(restarted.body.contains("203.0.113.9 31190") && !restarted.body.contains("192.0.2.1"), "{restarted:?}");
}

#[tokio::test]
async fn the_management_token_opens_management_and_nothing_else_does() {
    let (_folder, admin) = tokens();
    for open in [true, false] {
        let auth = if open { crate::auth::AuthMode::Open } else { jwt() };
        let bench = bench(Wishes { auth, admin: Some(admin.clone()), ..Wishes::default() }).await;
        let get = async |token: &str| {
            let authorization = format!("Bearer {token}");
            bench.call("GET /admin/session", &[("authorization", &authorization)], "").await
        };
        assert_eq!(get(TOKEN).await.status, StatusCode::OK);
        assert_eq!(bench.get("/admin/session").await.problem(), "token-missing");
        let claims = json!({"iss": "https://issuer", "aud": "cams", "exp": 4_000_000_000u64, "scope": "admin"});
        for other in [&TOKEN[1..], SECRET, &crate::auth::test_tokens::sign(claims)] {
            assert_eq!(get(other).await.problem(), "token-invalid", "{other}");
        }
        for line in ["PUT /admin/session", "GET /admin/limits", "PUT /admin/limits"] {
            assert_eq!(bench.call(line, &[JSON], "{}").await.problem(), "token-missing", "{line}");
        }
        let streams = bench.call("GET /streams", &[("authorization", &format!("Bearer {TOKEN}"))], "").await;
        assert_eq!(streams.status == StatusCode::OK, open, "it is for management alone");
    }
}

#[tokio::test]
async fn what_tokens_must_name_follows_the_spec() {
    let bench = bench(Wishes { auth: jwt(), ..Wishes::default() }).await;
    let token = |audience: &str| {
        let claims = json!({"iss": "https://issuer", "aud": audience, "exp": 4_000_000_000u64, "scope": "admin"});
        format!("Bearer {}", crate::auth::test_tokens::sign(claims))
    };
    let change = json!({"spec": {"auth": {"issuer": "https://issuer", "audience": "doors"}}}).to_string();
    let put =
        async |token: &str| bench.call("PUT /admin/session", &[JSON, ("authorization", token)], change.clone()).await;
    assert_eq!(put(&token("cams")).await.status, StatusCode::OK);
    assert_eq!(put(&token("cams")).await.problem(), "token-invalid");
    assert_eq!(put(&token("doors")).await.status, StatusCode::OK);
    assert!(!bench.app.authorizer.replace_secret(&Secret::new(SECRET), std::time::Instant::now()));
}

#[tokio::test]
async fn with_an_address_of_its_own_management_is_there_alone() {
    let (_folder, admin) = tokens();
    let bench = bench(Wishes { admin: Some(admin), management: true, ..Wishes::default() }).await;
    let management = management_router(bench.app.clone());
    let authorization = format!("Bearer {TOKEN}");
    let get = async |path: &str| {
        let asked = request(&format!("GET {path}"), &[("authorization", &authorization)], "");
        let answer = management.clone().oneshot(asked).await.unwrap();
        let status = answer.status().as_u16();
        (status, to_bytes(answer.into_body(), 1 << 20).await.unwrap())
    };
    for path in ["/admin/session", "/admin/limits", "/metrics", "/healthz", "/readyz"] {
        assert_eq!(bench.get(path).await.problem(), "not-found", "{path}");
        assert_eq!(get(path).await.0, 200, "{path}");
    }
    for path in ["/", "/streams", "/config.json", "/openapi.json", "/whip/door", "/watch/door", "/events"] {
        // Without its body: that of /events does not end.
        let there = bench.answer(request(&format!("GET {path}"), &[], "")).await;
        assert_ne!(there.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(get(path).await.0, 404, "{path}");
    }
    assert_eq!(bench.get("/config.json").await.json()["metrics"], false, "the console has no link to them");
    assert_eq!(get("/problems/invalid-session").await.0, 200, "what a problem's type names is where the problem is");
    bench.app.control.drain().await;
    let (status, body) = get("/readyz").await;
    assert!(status == 503 && String::from_utf8_lossy(&body).contains("draining"));
    assert_eq!(get("/healthz").await.0, 200);
}
