//! Camera and viewer against the stand-in: whole sessions, with loss and without, and what is told when there is none.

mod lossy;
mod standin;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::standin::{StandIn, loopback};
use crate::call::Half;
use crate::camera::{Camera, Ended};
use crate::error::Error;
use crate::outgoing::Outgoing;
use crate::peer::Peer;
use crate::signal::SignalError;
use crate::viewer::{Incoming, Viewer};
use ingest::source::{Clip, Source};
use ingest::{Codec, MediaKind};

const LIMIT: Duration = Duration::from_secs(20);

/// The first part of the demo, once.
fn short(milliseconds: u64) -> Source {
    let cut = |clip: Option<Clip>| {
        clip.map(|mut clip| {
            clip.duration = Duration::from_millis(milliseconds);
            clip.frames.retain(|frame| frame.at < clip.duration);
            clip
        })
    };
    let whole = ingest::demo::source();
    Source::new(cut(whole.video), cut(whole.audio)).unwrap()
}

#[tokio::test]
async fn what_a_camera_sends_arrives_whole() {
    let stand_in = StandIn::start(Source::default(), 0).await;
    let begun = Instant::now();
    let mut camera = Camera::new(format!("{}/whip/a", stand_in.url), short(1000)).start().await.unwrap();
    assert_eq!(tokio::time::timeout(LIMIT, camera.ended()).await.unwrap(), Ended::Played);
    let stats = camera.stop().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "frames left before they were due");
    assert_eq!(stand_in.deleted.load(Ordering::SeqCst), 1);
    let (video, audio) = (stats.video.unwrap(), stats.audio.unwrap());
    assert_eq!((video.frames, video.keyframes, audio.frames), (30, 1, 50));

    let reception = Arc::clone(&stand_in.incoming.lock().unwrap()[0].reception);
    let seen = reception.report(MediaKind::Video, begun).unwrap();
    assert_eq!((seen.codec, seen.frames, seen.keyframes, seen.lost), (Codec::H264, 30, 1, 0));
    assert_eq!((seen.packets, seen.bytes), (video.packets, video.bytes));
    assert!(seen.sender_reports >= 1);
    let heard = reception.report(MediaKind::Audio, begun).unwrap();
    assert_eq!((heard.frames, heard.lost), (50, 0));
    assert!(heard.sender_reports >= 1);
}

#[tokio::test]
async fn lost_packets_are_asked_for_and_sent_again() {
    let stand_in = StandIn::start(Source::default(), 10).await;
    let mut camera = Camera::new(format!("{}/whip/a", stand_in.url), short(1500)).start().await.unwrap();
    tokio::time::timeout(LIMIT, camera.ended()).await.unwrap();
    let stats = camera.stop().await.unwrap();
    let reception = Arc::clone(&stand_in.incoming.lock().unwrap()[0].reception);
    let seen = reception.report(MediaKind::Video, Instant::now()).unwrap();
    assert_eq!(reception.retransmission_streams(), 1, "retransmissions should come by a stream of their own");
    // The very last packets are missed by nobody.
    assert!(seen.lost == 0 && seen.frames >= 44, "{seen:?}");
    assert!(seen.recovered >= 10 && seen.requested >= seen.recovered, "{seen:?}");
    assert!(stats.feedback.nacked >= seen.recovered, "{:?}", stats.feedback);
    assert!(stats.feedback.retransmitted >= seen.recovered, "{:?}", stats.feedback);
    assert!(stats.feedback.receiver_reports > 0 && stats.feedback.transport_feedbacks > 0, "{:?}", stats.feedback);
}

#[tokio::test]
async fn a_viewer_sees_a_keyframe_soon_after_its_post() {
    let stand_in = StandIn::start(ingest::demo::source(), 0).await;
    let watching = Viewer::new(format!("{}/whep/a", stand_in.url)).start().await.unwrap();
    let seen = watching.wait_for(|report| {
        let begun = |track: &Option<crate::viewer::TrackReport>| {
            track.as_ref().is_some_and(|track| track.first_keyframe_ms.is_some())
        };
        begun(&report.video) && begun(&report.audio)
    });
    assert!(tokio::time::timeout(LIMIT, seen).await.unwrap());
    let report = watching.stop().await.unwrap();
    assert_eq!(report.strangers, 0);
    assert_eq!(report.video.unwrap().lost, 0);
    assert_eq!(stand_in.deleted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_full_room_is_told_with_the_remedy() {
    let stand_in = StandIn::start(Source::default(), 0).await;
    let Err(error) = Viewer::new(format!("{}/full", stand_in.url)).start().await else { panic!("let in") };
    assert!(matches!(&error, Error::Signal(SignalError::Refused { status, .. }) if status.as_u16() == 503));
    assert!(error.to_string().contains("Room full: 1 of 1 viewers"), "{error}");
    assert!(error.fix().unwrap().contains("7 s"), "{:?}", error.fix());
}

#[tokio::test]
async fn a_silent_media_address_is_named() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let (outgoing, incoming) =
        (Outgoing::new(&ingest::demo::source(), ingest::packetize::PACKET_SIZE), Incoming::default());
    let camera = Peer::new(loopback(), outgoing.media_engine().unwrap(), outgoing.interceptors()).await.unwrap();
    let _tracks = outgoing.add_tracks(&camera).await.unwrap();
    let other = Peer::new(loopback(), incoming.media_engine().unwrap(), incoming.interceptors()).await.unwrap();
    let answer = other.answer(camera.offer().await.unwrap()).await.unwrap();
    other.close().await;
    let real = crate::peer::candidates(&answer)[0].rsplit_once(':').unwrap().1.to_owned();
    let answer = answer.replace(&format!(" {real} "), &format!(" {} ", address.port()));
    camera.accept(answer).await.unwrap();
    let error = Error::from(camera.connected_within(Duration::from_millis(200)).await.unwrap_err());
    let (local, remote) = error.candidates().unwrap();
    assert!(!local.is_empty());
    assert_eq!(remote, [address.to_string()]);
    assert!(error.fix().unwrap().contains(&address.to_string()), "{:?}", error.fix());
}

#[tokio::test]
async fn offers_have_what_a_server_needs() {
    let stand_in = StandIn::start(ingest::demo::source(), 0).await;
    let camera = Camera::new(format!("{}/whip/a", stand_in.url), ingest::demo::source()).start().await.unwrap();
    camera.stop().await.unwrap();
    let offer = stand_in.offers.lock().unwrap()[0].clone();
    for line in [
        "a=group:BUNDLE ",
        "a=setup:actpass",
        "a=sendonly",
        "a=rtcp-mux",
        "a=rtcp-fb:96 nack",
        "a=rtcp-fb:96 nack pli",
        "a=rtcp-fb:96 transport-cc",
        "profile-level-id=42c01e",
        "a=fmtp:97 apt=96",
        "a=ssrc-group:FID ",
        "a=candidate:",
    ] {
        assert!(offer.contains(line), "{line} is not in\n{offer}");
    }
}
