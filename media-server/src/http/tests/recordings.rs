//! Recordings as a player sees them: lists, files, ranges, and what is refused.

use super::bench::{Answer, Wishes, bench, jwt};
use crate::auth::AuthMode;
use crate::auth::test_tokens::sign;
use crate::http::{recording_routes, router_with};
use crate::objects::fake::{FakeStore, Fault};
use crate::recording::tests::bench::{Bench as Recordings, Camera, settings};
use crate::store::{RecordingState, Store};
use crate::upload::UploadSettings;
use crate::upload::tests::bench::{settings as uploading, starting};
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use recorder::composition;
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

pub(super) struct Bench {
    pub(super) http: super::bench::Bench,
    pub(super) recordings: Recordings,
    pub(super) camera: Camera,
    _place: tempfile::TempDir,
}

/// Six seconds of the room `front-door` are recorded.
pub(super) async fn recorded(auth: AuthMode) -> Bench {
    let place = tempfile::tempdir().unwrap();
    let recordings = Recordings::new(place.path()).await;
    let mut camera = recordings.start(1);
    recordings.send(&mut camera, 6.0);
    recordings.finish(&camera).await;
    let mut http = bench(Wishes { auth, ..Wishes::default() }).await;
    http.router = router_with(http.app.clone(), recording_routes(recordings.library()));
    Bench { http, recordings, camera, _place: place }
}

impl Bench {
    pub(super) fn url(&self, file: &str) -> String {
        format!("/recordings/{}{file}", self.camera.stream)
    }

    pub(super) async fn get(&self, file: &str, headers: &[(&str, &str)]) -> Answer {
        self.http.call(&format!("GET {}", self.url(file)), headers, "").await
    }

    fn bytes(&self, file: &str) -> Vec<u8> {
        fs::read(self.recordings.path(&self.camera).join(file)).unwrap()
    }

    async fn body(&self, file: &str) -> Vec<u8> {
        self.fetch(&self.url(file)).await
    }

    async fn fetch(&self, url: &str) -> Vec<u8> {
        let request = Request::get(url).header("host", "localhost").body(Body::empty()).unwrap();
        to_bytes(self.http.answer(request).await.into_body(), 1 << 24).await.unwrap().to_vec()
    }
}

pub(super) fn token(scope: &str, room: &str) -> String {
    sign(
        json!({"sub": "me", "iss": "https://issuer", "aud": "cams", "exp": 4_000_000_000u64, "scope": scope, "room": room}),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn recordings_are_listed_and_shown() {
    let bench = recorded(AuthMode::Open).await;
    let list = bench.http.get("/recordings?room=front-door&limit=1").await.json();
    let first = &list["recordings"][0];
    assert_eq!(first["id"], bench.camera.stream.as_str());
    assert_eq!((first["room"].as_str(), first["state"].as_str()), (Some("front-door"), Some("complete")));
    assert!(first["durationSeconds"].as_f64().is_some_and(|seconds| (5.9..6.1).contains(&seconds)), "{first}");
    assert_eq!((&first["gapCount"], &first["gaps"], &first["trouble"]), (&json!(0), &json!([]), &json!(null)));
    assert_eq!(first["stored"], json!(null), "there is no store");
    for (name, file) in [("playlist", "index.m3u8"), ("mp4", "recording.mp4"), ("manifest", "manifest.json")] {
        assert_eq!(first["urls"][name], bench.url(&format!("/{file}")));
        assert_eq!(bench.get(&format!("/{file}"), &[]).await.status, StatusCode::OK);
    }
    let mut shown = bench.get("", &[]).await.json();
    assert_eq!(shown.as_object_mut().unwrap().remove("files").unwrap()[0]["codecs"], json!(["vp08.00.00.08", "Opus"]));
    assert_eq!(shown, *first);
    assert_eq!(list["next"], bench.camera.stream.as_str());
    let next = bench.http.get(&format!("/recordings?before={}", bench.camera.stream)).await.json();
    assert_eq!(next, json!({"recordings": []}));
    assert_eq!(bench.http.get("/recordings?room=yard").await.json(), json!({"recordings": []}));
    assert_eq!(bench.http.get("/recordings?state=failed").await.json(), json!({"recordings": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_parameters_are_named() {
    let bench = recorded(AuthMode::Open).await;
    for (query, word) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("state=over", "state"),
        ("before=x", "before"),
        ("room=.x", "room"),
        ("sort=size", "sort"),
    ] {
        let answer = bench.http.get(&format!("/recordings?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(word), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_given_whole_in_part_or_not_again() {
    let bench = recorded(AuthMode::Open).await;
    let mp4 = bench.body("/recording.mp4").await;
    let whole = bench.get("/recording.mp4", &[]).await;
    assert!(!bench.recordings.has(&bench.camera, "recording.mp4"), "it is composed");
    assert_eq!((whole.status, whole.header("content-type")), (StatusCode::OK, "video/mp4"));
    assert_eq!((whole.header("content-length"), whole.header("accept-ranges")), (&*mp4.len().to_string(), "bytes"));
    let tag = whole.header("etag").to_owned();
    assert_eq!(whole.header("content-disposition"), "");
    let part = bench.get("/recording.mp4", &[("range", "bytes=4-7")]).await;
    assert_eq!((part.status, part.body.as_str()), (StatusCode::PARTIAL_CONTENT, "ftyp"));
    assert_eq!(part.header("content-range"), format!("bytes 4-7/{}", mp4.len()));
    assert_eq!(part.header("content-length"), "4");
    let same = bench.get("/recording.mp4", &[("range", "bytes=4-7"), ("if-range", &tag)]).await;
    assert_eq!(same.status, StatusCode::PARTIAL_CONTENT);
    let other = bench.get("/recording.mp4", &[("range", "bytes=4-7"), ("if-range", "\"x\"")]).await;
    assert_eq!((other.status, other.header("content-length")), (StatusCode::OK, &*mp4.len().to_string()));
    let beyond = bench.get("/recording.mp4", &[("range", "bytes=99999999-")]).await;
    assert_eq!(
        (beyond.status, beyond.problem().as_str()),
        (StatusCode::RANGE_NOT_SATISFIABLE, "range-not-satisfiable")
    );
    assert_eq!(beyond.header("content-range"), format!("bytes */{}", mp4.len()));
    let known = bench.get("/recording.mp4", &[("if-none-match", &tag)]).await;
    assert_eq!((known.status, known.body.len()), (StatusCode::NOT_MODIFIED, 0));
    let date = whole.header("last-modified").to_owned();
    let old = bench.get("/recording.mp4", &[("if-modified-since", &date)]).await;
    assert_eq!((old.status, whole.header("cache-control").contains("immutable")), (StatusCode::NOT_MODIFIED, true));
    let new = bench.get("/recording.mp4", &[("if-modified-since", "Sun, 29 Nov 2020 10:00:00 GMT")]).await;
    assert_eq!(new.status, StatusCode::OK);
    assert_eq!(bench.get("/index.m3u8", &[]).await.header("cache-control"), "private, no-cache");
    let head = bench.http.call(&format!("HEAD {}", bench.url("/recording.mp4")), &[], "").await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert_eq!(head.header("content-length"), mp4.len().to_string());
    let saved = bench.get("/recording.mp4?download=1", &[]).await;
    let named = saved.header("content-disposition");
    assert!(named.starts_with("attachment; filename=\"front-door-20") && named.ends_with("Z.mp4\""), "{named}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_range_gives_is_what_the_file_holds() {
    use axum::body::to_bytes;
    let bench = recorded(AuthMode::Open).await;
    let segment = bench.bytes("segment-000001.m4s");
    let middle = segment.len() / 2;
    let range = format!("bytes={}-{}", middle, middle + 999);
    let line = format!("GET {}", bench.url("/segment-000001.m4s"));
    let response = bench.http.answer(super::bench::request(&line, &[("range", &range)], "")).await;
    assert_eq!(to_bytes(response.into_body(), 1 << 20).await.unwrap(), segment[middle..middle + 1000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_leads_out_of_the_recording() {
    let bench = recorded(AuthMode::Open).await;
    fs::write(bench.recordings.folder.join("secret.txt"), "secret").unwrap();
    fs::write(bench.recordings.path(&bench.camera).join("secret.txt"), "secret").unwrap();
    for name in [
        "/secret.txt",
        "/..%2Fsecret.txt",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%5Csecret.txt",
        "/index.m3u8%00",
        "/index.m3u8/",
        "/segment-1.m4s",
        "/segment-000009.m4s",
        "/recording.mp4.tmp",
        "/%2Fetc%2Fpasswd",
    ] {
        let answer = bench.get(name, &[]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{name}: {answer:?}");
        assert!(!answer.body.contains("secret\""), "{name}");
        answer.problem();
    }
    for id in ["..", "%2e%2e", "x", "00000000-0000-7000-8000-000000000000"] {
        for rest in ["", "/index.m3u8", "/secret.txt"] {
            let answer = bench.http.get(&format!("/recordings/{id}{rest}")).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{id}{rest}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_watch_the_room_may_see_its_recordings() {
    let bench = recorded(jwt()).await;
    let mine = format!("Bearer {}", token("subscribe", "front-door"));
    for file in ["", "/index.m3u8", "/recording.mp4", "/manifest.json"] {
        for (scope, room, status) in [
            ("subscribe", "front-door", StatusCode::OK),
            ("subscribe", "*", StatusCode::OK),
            ("subscribe", "yard", StatusCode::FORBIDDEN),
            ("publish", "front-door", StatusCode::FORBIDDEN),
        ] {
            let bearer = format!("Bearer {}", token(scope, room));
            let answer = bench.get(file, &[("authorization", &bearer)]).await;
            assert_eq!(answer.status, status, "{file} {scope} {room}");
            let answer = bench.get(&format!("{file}?access_token={}", token(scope, room)), &[]).await;
            assert_eq!(answer.status, status, "{file} {scope} {room}, by query");
        }
        assert_eq!(bench.get(file, &[]).await.problem(), "token-missing");
        assert_eq!(bench.get(file, &[("authorization", "Bearer x.y.z")]).await.problem(), "token-invalid");
    }
    // Neither is told whether it exists.
    assert_eq!(bench.http.get("/recordings/x").await.problem(), "token-missing");
    let list = bench.http.call("GET /recordings", &[("authorization", &mine)], "").await;
    assert_eq!(list.problem(), "room-not-granted");
    let list = bench.http.call("GET /recordings?room=front-door", &[("authorization", &mine)], "").await;
    assert_eq!(list.json()["recordings"].as_array().unwrap().len(), 1);
    let removal = bench.http.call(&format!("DELETE {}", bench.url("")), &[("authorization", &mine)], "").await;
    assert_eq!(removal.problem(), "scope-missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playlist_asked_for_by_query_leads_to_playable_files() {
    let bench = recorded(jwt()).await;
    let token = token("subscribe", "front-door");
    let playlist = bench.get(&format!("/index.m3u8?access_token={token}"), &[]).await;
    assert_eq!(playlist.header("content-type"), "application/vnd.apple.mpegurl");
    let files: Vec<_> = playlist.body.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(files.len(), 3, "{}", playlist.body);
    let map = format!("URI=\"init-1.mp4?access_token={token}\"");
    assert!(playlist.body.contains(&map), "{}", playlist.body);
    for file in files {
        assert_eq!(bench.get(&format!("/{file}"), &[]).await.status, StatusCode::OK, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_remove_what_is_finished() {
    let bench = recorded(jwt()).await;
    let admin = format!("Bearer {}", token("admin", "*"));
    let remove =
        async |id: &str| bench.http.call(&format!("DELETE /recordings/{id}"), &[("authorization", &admin)], "").await;
    let mut running = bench.recordings.start(2);
    bench.recordings.send(&mut running, 2.0);
    bench.recordings.until(&running, RecordingState::Recording).await;
    let refused = remove(running.stream.as_str()).await;
    assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::CONFLICT, "recording-running"));
    let hold = bench.recordings.path(&bench.camera).join("hold");
    fs::write(&hold, "").unwrap();
    let refused = remove(bench.camera.stream.as_str()).await;
    assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::CONFLICT, "held"));
    assert_eq!(bench.get("/manifest.json", &[("authorization", &admin)]).await.status, StatusCode::OK);
    fs::remove_file(hold).unwrap();
    assert_eq!(remove(bench.camera.stream.as_str()).await.status, StatusCode::NO_CONTENT);
    assert!(!bench.recordings.path(&bench.camera).exists());
    assert_eq!(remove(bench.camera.stream.as_str()).await.problem(), "recording-not-found");
    assert_eq!(remove("x").await.problem(), "recording-not-found");
}

/// As [`recorded`], and what was recorded lies in the store alone.
async fn stored(auth: AuthMode) -> (Bench, FakeStore) {
    let (fake, place) = (FakeStore::start().await, tempfile::tempdir().unwrap());
    let folder = place.path().join("recordings");
    fs::create_dir(&folder).unwrap();
    let store = Store::in_memory().await.unwrap();
    let quick = UploadSettings { same_volume: true, ..uploading(&folder, &fake) };
    let (uploads, _) = starting(&quick, fake.objects(), &store);
    let recordings = Recordings::uploading(settings(&folder), store, Some(uploads)).await;
    let mut camera = recordings.start(1);
    recordings.send(&mut camera, 6.0);
    recordings.finish(&camera).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while recordings.path(&camera).exists() {
        assert!(Instant::now() < deadline, "it has not left the disk");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut http = bench(Wishes { auth, ..Wishes::default() }).await;
    http.router = router_with(http.app.clone(), recording_routes(recordings.library()));
    (Bench { http, recordings, camera, _place: place }, fake)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_the_store_is_given_like_what_lies_here() {
    let (bench, fake) = stored(jwt()).await;
    let token = token("subscribe", "front-door");
    let authorization = format!("Bearer {token}");
    let given = [("authorization", authorization.as_str())];
    let list = bench.http.call("GET /recordings?room=front-door", &given, "").await.json();
    assert_eq!(list["recordings"][0]["state"], "complete", "{list}");
    let object = |file: &str| fake.object(&format!("front-door/{}/{file}", bench.camera.stream)).unwrap();
    for (file, kind) in [
        ("index.m3u8", "application/vnd.apple.mpegurl"),
        ("init-1.mp4", "video/mp4"),
        ("segment-000001.m4s", "video/iso.segment"),
        ("manifest.json", "application/json"),
    ] {
        let answer = bench.get(&format!("/{file}"), &given).await;
        assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, kind), "{file}");
        assert!(answer.body == String::from_utf8_lossy(&object(file)), "{file}");
        let tag = answer.header("etag").to_owned();
        let known = bench.get(&format!("/{file}"), &[given[0], ("if-none-match", &tag)]).await;
        assert_eq!((known.status, known.body.len()), (StatusCode::NOT_MODIFIED, 0), "{file}");
    }
    let part = bench.get("/segment-000001.m4s", &[given[0], ("range", "bytes=5-9")]).await;
    let len = object("segment-000001.m4s").len();
    assert_eq!(
        (part.status, part.header("content-range")),
        (StatusCode::PARTIAL_CONTENT, format!("bytes 5-9/{len}").as_str())
    );
    assert_eq!(part.body, String::from_utf8_lossy(&object("segment-000001.m4s")[5..=9]));
    let beyond = bench.get("/segment-000001.m4s", &[given[0], ("range", "bytes=99999999-")]).await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
    let playlist = bench.get(&format!("/index.m3u8?access_token={token}"), &[]).await;
    assert!(playlist.body.contains(&format!("segment-000001.m4s?access_token={token}")), "{}", playlist.body);
    assert_eq!(bench.get("/segment-000099.m4s", &given).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_mp4_answers_ranges_with_one_request_each() {
    let (bench, fake) = stored(AuthMode::Open).await;
    let whole = bench.body("/recording.mp4").await;
    let answer = bench.get("/recording.mp4?download=1", &[]).await;
    assert_eq!((answer.status, answer.header("accept-ranges")), (StatusCode::OK, "bytes"));
    assert_eq!(answer.header("content-length"), whole.len().to_string());
    assert!(answer.header("content-disposition").contains("front-door-"));
    let segments: Vec<Vec<u8>> = (1..)
        .map_while(|n| fake.object(&format!("front-door/{}/segment-{n:06}.m4s", bench.camera.stream)))
        .map(|bytes| bytes.to_vec())
        .collect();
    let merged = segments
        .iter()
        .flat_map(|segment| composition::merge(segment, jiff::SignedDuration::ZERO, None).unwrap().bytes);
    assert!(whole.ends_with(&merged.collect::<Vec<_>>()) && &whole[4..8] == b"ftyp", "a head and all segments");
    for (from, to) in [(0, 0), (4, 7), (whole.len() / 3, 2 * whole.len() / 3), (whole.len() - 10, whole.len() - 1)] {
        let (before, range) = (fake.count("GET"), format!("bytes={from}-{to}"));
        let request = Request::get(bench.url("/recording.mp4")).header("host", "localhost").header("range", &range);
        let answer = bench.http.answer(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
        let part = to_bytes(answer.into_body(), 1 << 24).await.unwrap();
        assert!(part == whole[from..=to], "{range}");
        assert!(fake.count("GET") - before <= segments.len(), "{range}: {}", fake.count("GET") - before);
    }
    let before = fake.count("GET");
    let head = bench.http.call(&format!("HEAD {}", bench.url("/segment-000001.m4s")), &[], "").await;
    assert_eq!((head.header("content-length"), fake.count("GET")), (&*segments[0].len().to_string(), before));
    assert_eq!(bench.get("/recording-2.mp4", &[]).await.status, StatusCode::NOT_FOUND);
    let files = bench.get("", &[]).await.json()["files"].clone();
    assert_eq!((&files[0]["url"], files.as_array().unwrap().len()), (&json!(bench.url("/recording.mp4")), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_told_with_its_reason() {
    let (bench, fake) = stored(AuthMode::Open).await;
    fake.fail(Fault::DENIED);
    for file in ["/segment-000001.m4s", "/manifest.json", "/recording.mp4"] {
        let answer = bench.get(file, &[]).await;
        assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "10"));
        assert_eq!(answer.problem(), "store-unavailable");
        let problem = answer.json();
        assert!(problem["detail"].as_str().unwrap().ends_with("AccessDenied"), "{problem}");
    }
    let list = bench.http.get("/recordings").await.json();
    assert_eq!(list["recordings"][0]["state"], "complete", "lists ask nothing of the store");
    fake.fail(None);
    assert_eq!(bench.get("/segment-000001.m4s", &[]).await.status, StatusCode::OK);
}
