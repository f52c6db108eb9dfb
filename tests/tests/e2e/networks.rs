//! Rooms with one kind of media, IPv6, and more than one media thread.

use crate::harness::{Setup, alone, camera, camera_of, figure, viewer, within};
use media_client::source::{Clip, Source};
use media_client::viewer::{ViewerReport, Watching};
use std::net::Ipv6Addr;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

async fn sees(watching: &Watching, what: &str, enough: impl FnMut(&ViewerReport) -> bool) {
    let mut enough = enough;
    crate::harness::until(what, LIMIT, || {
        let is = enough(&watching.report()).then_some(());
        async move { is }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_with_sound_alone_or_picture_alone_work() {
    let _turn = alone().await;
    let server = Setup::new().start().await;
    let clip = |data: &'static [u8]| Clip::parse(data.into(), None).unwrap();
    let sound = Source::new(None, Some(clip(media_client::demo::AUDIO))).unwrap().repeated();
    let picture = Source::new(Some(clip(media_client::demo::VIDEO)), None).unwrap().repeated();
    let cameras = [camera_of(&server, "sound", sound).await, camera_of(&server, "picture", picture).await];
    let (hears, watches) = (viewer(&server, "sound").await, viewer(&server, "picture").await);
    sees(&hears, "50 sounds", |report| report.audio.as_ref().is_some_and(|audio| audio.frames >= 50)).await;
    sees(&watches, "30 frames", |report| {
        report.video.as_ref().is_some_and(|video| video.frames >= 30 && video.keyframes > 0)
    })
    .await;
    let (heard, seen) = (hears.stop().await.unwrap(), watches.stop().await.unwrap());
    assert!(heard.video.is_none() && seen.audio.is_none());
    assert_eq!((heard.audio.unwrap().lost, seen.video.unwrap().lost), (0, 0));
    for camera in cameras {
        camera.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn camera_and_viewer_meet_over_ipv6() {
    let _turn = alone().await;
    let setup = Setup::at(Ipv6Addr::LOCALHOST.into()).argument("--udp-address").argument("::1");
    let server = setup.start().await;
    let camera = camera(&server, "door").await;
    let watching = viewer(&server, "door").await;
    sees(&watching, "30 frames over IPv6", |report| report.video.as_ref().is_some_and(|video| video.frames >= 30))
        .await;
    assert_eq!(watching.stop().await.unwrap().video.unwrap().lost, 0);
    camera.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_media_threads_every_room_gets_its_own_media() {
    let _turn = alone().await;
    let server = Setup::new().argument("--shards").argument("2").variable("MEDIA_MAX_PUBLISHERS", "8").start().await;
    let rooms: Vec<String> = (0..8).map(|room| format!("room-{room}")).collect();
    let (mut cameras, mut viewers) = (Vec::new(), Vec::new());
    for room in &rooms {
        cameras.push(camera(&server, room).await);
        viewers.push(viewer(&server, room).await);
    }
    for watching in &viewers {
        let enough = |report: &ViewerReport| {
            report.video.as_ref().is_some_and(|video| video.frames >= 60 && video.keyframes > 0)
        };
        sees(watching, "60 frames in every room", enough).await;
    }
    let mut lost = 0;
    for watching in viewers {
        let report = within("goodbye", LIMIT, watching.stop()).await.unwrap();
        lost += report.video.unwrap().lost + report.audio.unwrap().lost;
    }
    assert_eq!(lost, 0);
    figure("2 media threads, 8 rooms: 60 frames in each, none lost");
    for camera in cameras {
        camera.stop().await.unwrap();
    }
}
