//! A room through time: timeline, playlist and clip.

use super::bench::{Answer, Bench as Http, Wishes, bench, jwt};
use crate::auth::AuthMode;
use crate::http::{recording_routes, router_with};
use crate::recording::RecordingSettings;
use crate::recording::tests::bench::{Bench as Recordings, Camera, NEVER, settings};
use crate::store::{Recording, RecordingQuery, Store};
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use jiff::Timestamp;
use std::process::Command;
use std::time::Duration;

struct Bench {
    http: Http,
    recordings: Recordings,
    camera: Camera,
    _place: tempfile::TempDir,
}

/// Ten seconds of the room `front-door`, in recordings of three seconds and segments of one.
async fn recorded(auth: AuthMode) -> Bench {
    let bench = recording(auth, 10.0, Duration::from_secs(3)).await;
    bench.recordings.finish(&bench.camera).await;
    bench.until_finished().await;
    bench
}

/// So many seconds, and the camera still sends.
async fn recording(auth: AuthMode, seconds: f64, max_duration: Duration) -> Bench {
    let place = tempfile::tempdir().unwrap();
    let settings =
        RecordingSettings { max_duration, segment_duration: Duration::from_secs(1), ..settings(place.path()) };
    let recordings = Recordings::with(settings, Store::in_memory().await.unwrap()).await;
    let mut camera = recordings.start(1);
    recordings.send(&mut camera, seconds);
    let mut http = bench(Wishes { auth, ..Wishes::default() }).await;
    http.router = router_with(http.app.clone(), recording_routes(recordings.library()));
    Bench { http, recordings, camera, _place: place }
}

impl Bench {
    /// Recordings, oldest first.
    async fn rows(&self) -> Vec<Recording> {
        let mut rows = self.recordings.store.recordings(&RecordingQuery::default()).await.unwrap();
        rows.reverse();
        rows
    }

    async fn until_finished(&self) {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while self.rows().await.iter().any(|row| row.ended_at.is_none()) {
            assert!(std::time::Instant::now() < deadline, "all recordings are finished");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn get(&self, route: &str, from: Timestamp, to: Timestamp) -> Answer {
        self.http.get(&format!("/rooms/front-door/{route}?from={from}&to={to}")).await
    }

    async fn fetch(&self, url: &str, range: &str) -> Vec<u8> {
        let request = Request::get(url).header("host", "localhost").header("range", range);
        let answer = self.http.answer(request.body(Body::empty()).unwrap()).await;
        to_bytes(answer.into_body(), 1 << 24).await.unwrap().to_vec()
    }
}

fn seconds(from: Timestamp, seconds: f64) -> Timestamp {
    from + jiff::SignedDuration::from_secs_f64(seconds)
}

#[tokio::test(flavor = "multi_thread")]
async fn timeline_joins_recordings_of_a_stream() {
    let bench = recorded(AuthMode::Open).await;
    let rows = bench.rows().await;
    assert!(rows.len() >= 3, "{rows:?}");
    let start = rows[0].started_at;
    let timeline = bench.get("timeline", seconds(start, -60.0), seconds(start, 60.0)).await.json();
    let spans = timeline["spans"].as_array().unwrap();
    assert_eq!((spans.len(), spans[0]["recordings"].as_array().unwrap().len()), (1, rows.len()), "{timeline}");
    assert_eq!((&spans[0]["live"], &timeline["gaps"]), (&false.into(), &serde_json::json!([])));
    let time = |name: &str| spans[0][name].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert_eq!(time("from"), start);
    let lasts = time("to").duration_since(start).as_secs_f64();
    assert!((9.9..10.2).contains(&lasts), "{lasts}");
    // Only what is asked for.
    let part = bench.get("timeline", seconds(start, 4.0), seconds(start, 5.0)).await.json();
    assert_eq!(part["spans"][0]["from"], seconds(start, 4.0).to_string());
    assert_eq!(part["spans"][0]["to"], seconds(start, 5.0).to_string());
    let before = bench.get("timeline", seconds(start, -60.0), seconds(start, -30.0)).await.json();
    assert_eq!(before["spans"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn playlist_lists_segments_across_recordings() {
    let bench = recorded(AuthMode::Open).await;
    let rows = bench.rows().await;
    let start = rows[0].started_at;
    let all = bench.get("playlist.m3u8", start, seconds(start, 60.0)).await;
    assert_eq!(all.header("content-type"), "application/vnd.apple.mpegurl");
    let segments: Vec<&str> = all.body.lines().filter(|line| line.contains("segment-")).collect();
    assert!(segments.len() >= 9 && all.body.ends_with("#EXT-X-ENDLIST\n"), "{}", all.body);
    assert_eq!(all.body.matches("#EXT-X-DISCONTINUITY\n").count(), rows.len() - 1);
    assert_eq!(all.body.matches("#EXT-X-MAP").count(), rows.len());
    for url in segments {
        let path = url.strip_prefix("../..").unwrap();
        assert_eq!(bench.http.get(path).await.status, StatusCode::OK, "{url}");
    }
    let part = bench.get("playlist.m3u8", seconds(start, 4.1), seconds(start, 4.2)).await;
    assert_eq!(part.body.matches("#EXTINF").count(), 1, "{}", part.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn clip_across_recordings_lasts_as_long_as_asked() {
    let bench = recorded(AuthMode::Open).await;
    let rows = bench.rows().await;
    let start = rows[0].started_at;
    let place = tempfile::tempdir().unwrap();
    for (from, to) in [(0.0, 10.0), (1.3, 7.7), (4.4, 4.9), (2.5, 3.5)] {
        let url = format!("/rooms/front-door/clip.mp4?from={}&to={}", seconds(start, from), seconds(start, to));
        let answer = bench.http.get(&url).await;
        assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "video/mp4"), "{}", answer.body);
        let name = answer.header("content-disposition").to_owned();
        assert!(name.starts_with("inline; filename=\"front-door-20") && name.ends_with("Z.mp4\""), "{name}");
        let clip = bench.fetch(&url, "bytes=0-").await;
        assert_eq!(answer.header("content-length"), clip.len().to_string());
        for (at, end) in [(0, 99), (clip.len() / 2, clip.len() / 2 + 5000), (clip.len() - 7, clip.len() - 1)] {
            let end = end.min(clip.len() - 1);
            assert!(bench.fetch(&url, &format!("bytes={at}-{end}")).await == clip[at..=end], "{at}-{end}");
        }
        let path = place.path().join("clip.mp4");
        std::fs::write(&path, &clip).unwrap();
        let entries = ["-select_streams", "a", "-show_entries", "packet=pts_time", "-of", "csv=p=0"];
        let probed = Command::new("ffprobe").args(["-v", "error"]).args(entries).arg(&path).output().unwrap();
        assert!(probed.stderr.is_empty(), "{}", String::from_utf8_lossy(&probed.stderr));
        let times = String::from_utf8(probed.stdout).unwrap();
        let times: Vec<f64> = times.lines().map(|line| line.trim_end_matches(',').parse().unwrap()).collect();
        // Packets of 20 ms: there is no hole at the seams, and the clip lasts as long as asked, but for a part.
        for pair in times.windows(2) {
            assert!((pair[1] - pair[0] - 0.02).abs() < 0.015, "{from}-{to}: {pair:?}");
        }
        let (first, last) = (times[0], times[times.len() - 1]);
        assert!((last + 0.02 - (to - from)).abs() < 0.6, "{from}-{to}: ends at {last}");
        assert!(first <= 0.03, "{from}-{to}: starts at {first}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_ranges_are_refused_with_a_remedy() {
    let bench = recorded(AuthMode::Open).await;
    let start = bench.rows().await[0].started_at;
    for (query, status, word) in [
        ("".to_owned(), StatusCode::BAD_REQUEST, "from is missing"),
        ("?from=yesterday".to_owned(), StatusCode::BAD_REQUEST, "from is \"yesterday\""),
        (format!("?from={}&to={start}", seconds(start, 9.0)), StatusCode::BAD_REQUEST, "exchange"),
        (format!("?from={start}&until=x"), StatusCode::BAD_REQUEST, "until"),
        (
            format!("?from={}&to={}", seconds(start, 1e6), seconds(start, 1e6 + 60.0)),
            StatusCode::NOT_FOUND,
            "nothing is recorded from",
        ),
    ] {
        for route in ["playlist.m3u8", "clip.mp4"] {
            let answer = bench.http.get(&format!("/rooms/front-door/{route}{query}")).await;
            assert_eq!(answer.status, status, "{route}{query}: {}", answer.body);
            assert!(answer.json()["detail"].as_str().unwrap().contains(word), "{}", answer.body);
        }
    }
    for route in ["timeline", "playlist.m3u8", "clip.mp4"] {
        let answer = bench.http.get(&format!("/rooms/nowhere/{route}?from={start}")).await;
        assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::NOT_FOUND, "nothing-recorded"));
    }
    let long = bench.http.get(&format!("/rooms/front-door/clip.mp4?from={}", seconds(start, -90_000.0))).await;
    assert!(long.status == StatusCode::BAD_REQUEST && long.body.contains("24h"), "{}", long.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_need_a_token_for_the_room() {
    let bench = recorded(jwt()).await;
    let start = bench.rows().await[0].started_at;
    for route in ["timeline", "playlist.m3u8", "clip.mp4"] {
        let answer = bench.http.get(&format!("/rooms/front-door/{route}?from={start}")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{route}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn running_recording_is_played_and_clipped() {
    let bench = recording(AuthMode::Open, 2.8, NEVER).await;
    bench.recordings.until(&bench.camera, crate::store::RecordingState::Recording).await;
    let row = bench.recordings.row(&bench.camera).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while bench.recordings.store.open_segments(&row.id).await.unwrap().len() < 2 {
        assert!(std::time::Instant::now() < deadline, "closed segments are indexed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let open = bench.get("playlist.m3u8", row.started_at, seconds(row.started_at, 9e4)).await;
    assert!(open.body.contains("#EXT-X-PLAYLIST-TYPE:EVENT") && !open.body.contains("ENDLIST"), "{}", open.body);
    let clip = bench.get("clip.mp4", row.started_at, seconds(row.started_at, 1.0)).await;
    assert_eq!(clip.status, StatusCode::OK, "{}", clip.body);
    let timeline = bench.get("timeline", row.started_at, seconds(row.started_at, 60.0)).await.json();
    assert_eq!(timeline["spans"][0]["live"], true, "{timeline}");
}

#[tokio::test(flavor = "multi_thread")]
async fn room_token_reads_timeline_playlist_and_clip() {
    let bench = recorded(jwt()).await;
    let start = bench.rows().await[0].started_at;
    let claims = serde_json::json!({
        "sub": "me", "iss": "https://issuer", "aud": "cams", "exp": 4_000_000_000u64,
        "scope": "subscribe", "room": "front-door",
    });
    let bearer = format!("Bearer {}", crate::auth::test_tokens::sign(claims));
    let json = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let made = bench.http.call("POST /media-tokens", &json, r#"{"room": "front-door"}"#).await;
    let token = made.json()["token"].as_str().unwrap().to_owned();
    for route in ["timeline", "playlist.m3u8", "clip.mp4"] {
        let url = format!("/rooms/front-door/{route}?from={start}&media_token={token}");
        let answer = bench.http.get(&url).await;
        assert_eq!(answer.status, StatusCode::OK, "{route}: {}", answer.body);
        if route == "playlist.m3u8" {
            assert!(answer.body.contains(&format!("segment-000001.m4s?media_token={token}")), "{}", answer.body);
        }
        let elsewhere = bench.http.get(&format!("/rooms/yard/{route}?from={start}&media_token={token}")).await;
        assert_eq!(elsewhere.status, StatusCode::FORBIDDEN, "{route}");
    }
}
