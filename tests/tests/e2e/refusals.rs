//! Bad input gets an error that names the thing and the remedy, and a running stream does not notice.

use crate::harness::{Server, Setup, alone, camera, camera_offer, viewer, viewer_offer, within};
use media_client::viewer::Watching;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

/// The viewer still sees, and has lost nothing.
async fn undisturbed(watching: &Watching) {
    let before = watching.report().video.unwrap();
    crate::harness::until("more frames", Duration::from_secs(3), || async {
        (watching.report().video.unwrap().frames > before.frames).then_some(())
    })
    .await;
    let report = watching.report();
    let (video, audio) = (report.video.unwrap(), report.audio.unwrap());
    assert_eq!((video.lost, audio.lost, video.broken_frames), (0, 0, 0), "{video:?} {audio:?}");
}

async fn streaming(server: &Server) -> (media_client::camera::RunningCamera, Watching) {
    let camera = camera(server, "door").await;
    let watching = viewer(server, "door").await;
    let seen =
        watching.wait_for(|report| report.video.as_ref().is_some_and(|v| v.keyframes > 0) && report.audio.is_some());
    assert!(within("a picture", Duration::from_secs(5), seen).await);
    (camera, watching)
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_requests_are_told_what_is_wrong() {
    let _turn = alone().await;
    let server = Setup::new().start().await;
    let (camera, watching) = streaming(&server).await;
    let api = &server.api;

    for path in ["/whip/garden", "/whep/door"] {
        for broken in ["", "v=0", "hello", "v=0\r\nm=video", "\u{0}\u{1}\u{2}"] {
            let detail = api.offer(path, broken).await.problem(400, "invalid-sdp");
            assert!(!detail.is_empty());
        }
    }
    let unknown = camera_offer().replace("H264/90000", "H263-1998/90000");
    let detail = api.offer("/whip/garden", unknown).await.problem(422, "unsupported-offer");
    for name in ["H263-1998", "H264", "VP8", "VP9", "AV1"] {
        assert!(detail.contains(name), "{name}: {detail}");
    }
    // Only what is published can be watched.
    let other = viewer_offer().replace("H264/90000", "VP8/90000").replace("opus/48000/2", "PCMU/8000");
    let detail = api.offer("/whep/door", other).await.problem(422, "unsupported-offer");
    assert!(detail.contains("H264"), "{detail}");

    let long = format!("{}a=x:{}\r\n", camera_offer(), "x".repeat(70_000));
    let detail = api.offer("/whip/garden", long).await.problem(413, "body-too-large");
    assert!(detail.contains("65536"), "{detail}");
    let detail = api.post("/whip/garden", "text/plain", camera_offer()).await.problem(415, "unsupported-media-type");
    assert!(detail.contains("application/sdp"), "{detail}");
    let detail = api.offer("/whip/..hidden", camera_offer()).await.problem(400, "invalid-room");
    assert!(detail.contains('.'), "{detail}");
    api.offer("/whep/nobody", viewer_offer()).await.problem(409, "no-publisher");
    api.get("/streams/none").await.problem(404, "stream-not-found");
    api.post("/streams", "application/json", "{\"room\":").await.problem(400, "bad-request");

    // None of it holds a slot or a room.
    assert!(api.stream("garden").await.is_none());
    undisturbed(&watching).await;
    watching.stop().await.unwrap();
    camera.stop().await.unwrap();
}

/// It ends with the exit code for wrong configuration and says all of `parts`, and nothing of a panic.
fn refuses(setup: &Setup, parts: &[&str]) {
    let output = setup.run();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    assert!(!said.contains("panicked") && said.lines().count() <= 4, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_start_names_the_thing_and_the_remedy() {
    let _turn = alone().await;
    let mut server = Setup::new().start().await;
    let (camera, watching) = streaming(&server).await;

    // The second line of the text is the kind; the spec stands on the fourth.
    refuses(&Setup::new().spec("{limits: {maxPublisher: 3}}"), &["session.yaml:4", "maxPublisher", "maxPublishers"]);
    refuses(&Setup::new().spec("{limits: {maxPublishers: 0}}"), &["session.yaml:4", "maxPublishers"]);
    refuses(&Setup::new().spec("{limits: {maxPublishers: many}}"), &["session.yaml:4", "maxPublishers"]);
    refuses(&Setup::new().argument("--session").argument("/nowhere.yaml"), &["--session", "/nowhere.yaml"]);
    refuses(&Setup::new().variable("MEDIA_MAX_PUBLISHERS", "many"), &["MEDIA_MAX_PUBLISHERS", "many"]);

    let setup = Setup::new();
    let taken = TcpListener::bind(setup.http).unwrap();
    refuses(&setup, &[&setup.http.to_string(), "in use", "--http"]);
    drop(taken);
    let taken = UdpSocket::bind(("::", setup.udp)).unwrap();
    refuses(&setup, &[&setup.udp.to_string(), "in use", "--udp-port"]);
    drop(taken);
    // The ports of a server that runs: the second one is refused, the first one goes on.
    let (http, udp) = (server.setup().http.to_string(), server.setup().udp.to_string());
    let mut second = Setup::new();
    second.http = server.setup().http;
    refuses(&second, &[&http, "in use", "--http"]);
    let mut second = Setup::new();
    second.udp = server.setup().udp;
    refuses(&second, &[&udp, "in use", "--udp-port"]);

    let setup = Setup::new();
    let mount = setup.mount("1M", "ro");
    let folder = mount.path();
    let path = folder.to_str().unwrap().to_owned();
    refuses(&setup.clone().data(folder), &[&path, "--data-dir"]);
    refuses(&setup.variable("MEDIA_RECORDINGS_DIR", path.clone()), &[&path, "MEDIA_RECORDINGS_DIR"]);

    assert!(server.is_alive());
    undisturbed(&watching).await;
    watching.stop().await.unwrap();
    camera.stop().await.unwrap();
}
