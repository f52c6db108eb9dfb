//! A camera that comes back takes its room over; a stranger does not.

use crate::harness::{
    SECRET, Setup, alone, camera_offer, camera_with_token, figure, publishing, token, until, viewer_with_token, within,
};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_camera_takes_over_and_viewers_go_on_while_a_stranger_is_refused() {
    let _turn = alone().await;
    let mut server = Setup::new().variable("MEDIA_JWT_SECRET", SECRET).start().await;
    let (mine, other) = (token("camera-1", "publish", "door"), token("camera-2", "publish", "door"));
    server.api = server.api.with_token(&token("owner", "admin", "*"));
    let first = camera_with_token(&server, "door", &mine).await.unwrap();
    publishing(&server, "door").await;
    let watching = viewer_with_token(&server, "door", &token("eve", "subscribe", "door")).await.unwrap();
    let frames = |least: u64| {
        watching.wait_for(move |report| report.video.as_ref().is_some_and(|video| video.keyframes >= least))
    };
    assert!(within("a picture", Duration::from_secs(5), frames(1)).await);

    let answer = server.api.with_token(&other).offer("/whip/door", camera_offer()).await;
    answer.problem(409, "room-busy");

    // It vanishes without a word, as at a power cut, and comes back before anyone has noticed.
    let before = server.api.stream("door").await.unwrap();
    drop(first);
    let start = Instant::now();
    let report = watching.report().video.unwrap();
    let second = camera_with_token(&server, "door", &mine).await.unwrap();
    // The second camera starts with a keyframe, so its frames are whole from the first on.
    let whole = report.frames + 60;
    until("60 frames of the second camera", Duration::from_secs(10), || async {
        (watching.report().video.unwrap().frames >= whole).then_some(())
    })
    .await;
    let after = watching.report();
    let (video, audio) = (after.video.unwrap(), after.audio.unwrap());
    figure(&format!(
        "takeover: 60 more frames {:.2} s after the first camera went; {} keyframes, {} broken frames, {} lost",
        start.elapsed().as_secs_f64(),
        video.keyframes,
        video.broken_frames,
        video.lost + audio.lost
    ));
    assert!(video.keyframes > report.keyframes, "{video:?}");
    assert_eq!((video.lost, audio.lost, after.strangers), (0, 0, 0), "{video:?} {audio:?}");

    // The same stream, and the first session is gone.
    let stream =
        server.api.stream_that("door", "one publisher", Duration::from_secs(5), |s| s["publishing"] == true).await;
    assert_eq!((&stream["id"], &stream["viewers"]), (&before["id"], &1.into()), "{stream}");
    server.api.with_token(&other).offer("/whip/door", camera_offer()).await.problem(409, "room-busy");

    // It leaves in good order and returns: still the same viewer.
    second.stop().await.unwrap();
    let third = camera_with_token(&server, "door", &mine).await.unwrap();
    let whole = watching.report().video.unwrap().frames + 60;
    until("60 frames of the third camera", Duration::from_secs(10), || async {
        (watching.report().video.unwrap().frames >= whole).then_some(())
    })
    .await;
    third.stop().await.unwrap();
    let report = watching.stop().await.unwrap();
    assert_eq!(report.video.unwrap().lost, 0);
}
