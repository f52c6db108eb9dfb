use super::fake::{Bench, CAMERA, Call, OTHER_CAMERA, VIEWER, bench, limits, room, until, who};
use crate::control::{ControlError, EndReason, MediaEvent, Patched, Principal, Role, SessionKey};
use sfu::parameters::Codec;
use sfu::sdp::AnswerOptions;

fn fragment(ufrag: &str) -> String {
    let pwd = "p".repeat(24);
    format!(
        "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
         a=candidate:1 1 udp 2130706431 192.0.2.7 50000 typ host\r\n"
    )
}

/// A fragment with the credentials of the fixture.
fn trickle() -> String {
    let line = |name: &str| VIEWER.lines().find(|line| line.starts_with(name)).unwrap();
    format!(
        "{}\r\n{}\r\n{}",
        line("a=ice-ufrag"),
        line("a=ice-pwd"),
        &fragment("x")[fragment("x").find("m=").unwrap()..]
    )
}

async fn patch(bench: &Bench, key: &SessionKey, if_match: Option<&str>, body: &str) -> Result<Patched, ControlError> {
    bench.control.patch(&room("r"), Role::Subscriber, key, &who("viewer"), if_match, body).await
}

#[tokio::test]
async fn stale_etag_is_refused() {
    let bench = bench(limits(1, 1)).await;
    bench.go_live("r", "camera").await;
    let (viewer, session) = bench.watch("r", "viewer").await;
    let restarted = patch(&bench, &viewer.key, Some("*"), &fragment("newu")).await.unwrap();
    let Patched::Restarted { fragment: answer, etag } = restarted else { panic!("no restart") };
    assert_ne!(etag, viewer.etag);
    let Some(Call::Restart { session: which, local, remote }) = bench.media.calls().pop() else { panic!("no restart") };
    assert_eq!((which, remote.ufrag.as_str()), (session, "newu"));
    assert!(answer.contains(&local.ufrag) && answer.contains("192.0.2.1"), "{answer}");
    let stale = patch(&bench, &viewer.key, Some(&viewer.etag), &fragment("newu")).await;
    assert!(matches!(stale, Err(ControlError::PreconditionFailed)));
    assert_eq!(patch(&bench, &viewer.key, Some(&etag), &fragment("newu")).await.unwrap(), Patched::NoContent);
}

#[tokio::test]
async fn trickle_with_the_current_etag_changes_nothing() {
    let bench = bench(limits(1, 1)).await;
    bench.go_live("r", "camera").await;
    let (viewer, _) = bench.watch("r", "viewer").await;
    let calls = bench.media.calls().len();
    for if_match in [viewer.etag.as_str(), "*"] {
        assert_eq!(patch(&bench, &viewer.key, Some(if_match), &trickle()).await.unwrap(), Patched::NoContent);
    }
    assert_eq!(bench.media.calls().len(), calls);
}

#[tokio::test]
async fn restart_without_if_match_is_refused() {
    let bench = bench(limits(1, 1)).await;
    bench.go_live("r", "camera").await;
    let (viewer, _) = bench.watch("r", "viewer").await;
    let calls = bench.media.calls().len();
    let refused = patch(&bench, &viewer.key, None, &fragment("newu")).await;
    assert!(matches!(refused, Err(ControlError::PreconditionRequired)));
    assert_eq!(bench.media.calls().len(), calls);
}

#[tokio::test]
async fn trickle_without_if_match_is_accepted() {
    let bench = bench(limits(1, 1)).await;
    bench.go_live("r", "camera").await;
    let (viewer, _) = bench.watch("r", "viewer").await;
    let trickled = [trickle(), "a=end-of-candidates\r\n".to_owned()];
    for body in &trickled {
        assert_eq!(patch(&bench, &viewer.key, None, body).await.unwrap(), Patched::NoContent);
    }
    let Ok(Patched::Restarted { .. }) = patch(&bench, &viewer.key, Some("*"), &fragment("newu")).await else {
        panic!("no restart")
    };
    let calls = bench.media.calls().len();
    // Candidates of the generation before are late, not a restart; those of a third one are.
    for body in trickled.into_iter().chain([fragment("newu")]) {
        assert_eq!(patch(&bench, &viewer.key, None, &body).await.unwrap(), Patched::NoContent);
    }
    assert!(matches!(
        patch(&bench, &viewer.key, None, &fragment("third")).await,
        Err(ControlError::PreconditionRequired)
    ));
    assert_eq!(bench.media.calls().len(), calls);
}

#[tokio::test]
async fn bad_fragment_leaves_the_session_as_it_was() {
    let bench = bench(limits(1, 1)).await;
    bench.go_live("r", "camera").await;
    let (viewer, _) = bench.watch("r", "viewer").await;
    let refused = patch(&bench, &viewer.key, Some("*"), "a=ice-ufrag:only").await;
    assert!(matches!(refused, Err(ControlError::Sdp(_))));
    assert_eq!(patch(&bench, &viewer.key, Some(&viewer.etag), &trickle()).await.unwrap(), Patched::NoContent);
}

#[tokio::test]
async fn a_session_belongs_to_its_maker_and_to_admins() {
    let bench = bench(limits(1, 1)).await;
    bench.go_live("r", "camera").await;
    let (viewer, _) = bench.watch("r", "viewer").await;
    let delete = |name: &'static str, role, who: Principal| {
        let (control, key) = (bench.control.clone(), viewer.key.clone());
        async move { control.delete(&room(name), role, &key, &who).await }
    };
    assert!(matches!(delete("r", Role::Subscriber, who("thief")).await, Err(ControlError::NotYours)));
    assert!(matches!(delete("r", Role::Publisher, who("viewer")).await, Err(ControlError::NoSuchSession)));
    assert!(matches!(delete("q", Role::Subscriber, who("viewer")).await, Err(ControlError::NoSuchSession)));
    delete("r", Role::Subscriber, Principal { admin: true, ..who("root") }).await.unwrap();
    assert!(matches!(delete("r", Role::Subscriber, who("viewer")).await, Err(ControlError::NoSuchSession)));
}

#[tokio::test]
async fn second_publisher_gets_busy() {
    let bench = bench(limits(9, 9)).await;
    bench.control.publish(&room("r"), &who("camera"), CAMERA).await.unwrap();
    assert!(matches!(bench.control.publish(&room("r"), &who("other"), CAMERA).await, Err(ControlError::Busy)));
    bench.start(&bench.media.published()[0].clone()).await;
    assert!(matches!(bench.control.publish(&room("r"), &who("other"), CAMERA).await, Err(ControlError::Busy)));
    let admin = Principal { admin: true, ..who("root") };
    assert!(matches!(bench.control.publish(&room("r"), &admin, CAMERA).await, Err(ControlError::Busy)));
    assert_eq!(bench.media.published().len(), 1);
}

#[tokio::test]
async fn same_identity_takes_over() {
    let bench = bench(limits(1, 9)).await;
    let (_, old) = bench.go_live("r", "camera").await;
    let (_, viewer) = bench.watch("r", "viewer").await;
    let stream = bench.control.streams(Default::default()).await.unwrap().remove(0);

    bench.control.publish(&room("r"), &who("camera"), OTHER_CAMERA).await.unwrap();
    let new = bench.media.published().pop().unwrap();
    assert_eq!(new.room, bench.media.published()[0].room);
    bench.start(&new).await;
    until("the old one is closed", || bench.media.closed(old)).await;

    let after = bench.control.stream(&stream.id).await.unwrap().unwrap();
    assert!(after.publishing, "{after:?}");
    assert_eq!((after.id, after.viewers), (stream.id, 1));
    assert!(!bench.media.closed(viewer));
    assert_eq!(bench.recorder.log(), ["start r camera both", "source camera both"]);
    // Who comes now is answered with what the new one sends.
    let codec = |publish: &crate::control::Publish| {
        publish.tracks.video.as_ref().unwrap().payload_types.iter().map(|p| p.codec).collect::<Vec<_>>()
    };
    assert!(codec(&bench.media.published()[0]).contains(&Codec::Vp8) && !codec(&new).contains(&Codec::Vp8));
    bench.watch("r", "late").await;
    let late = bench.media.subscribed().pop().unwrap().tracks.video.unwrap();
    assert_eq!(late.payload_types[0].codec, Codec::H264);
}

#[tokio::test]
async fn answer_options_hold_for_later_offers() {
    let bench = bench(limits(3, 9)).await;
    let h265 = OTHER_CAMERA.replace("H264/90000", "H265/90000");
    let refused = bench.control.publish(&room("c"), &who("camera"), &h265).await.unwrap_err();
    assert!(refused.to_string().contains("H265"), "{refused}");
    bench.control.publish(&room("a"), &who("camera"), CAMERA).await.unwrap();
    bench.control.set_answers(AnswerOptions {
        codecs: vec![Codec::Vp8],
        partial_answers: true,
        ..AnswerOptions::default()
    });
    let answered = bench.control.publish(&room("b"), &who("camera"), CAMERA).await.unwrap();
    assert!(answered.answer.contains("b=TIAS:8000000"), "the cap of the limits");
    bench.control.publish(&room("c"), &who("camera"), &h265).await.unwrap();
    let published = bench.media.published();
    let video = |publish: &crate::control::Publish| publish.tracks.video.as_ref().map(|v| v.payload_types[0].codec);
    let videos: Vec<Option<Codec>> = published.iter().map(video).collect();
    assert_eq!(videos, [Some(Codec::H264), Some(Codec::Vp8), None]);
    assert!(published[2].tracks.audio.is_some());
}

#[tokio::test]
async fn a_takeover_that_never_connects_changes_nothing() {
    let bench = bench(limits(1, 9)).await;
    let (_, old) = bench.go_live("r", "camera").await;
    bench.control.publish(&room("r"), &who("camera"), CAMERA).await.unwrap();
    let new = bench.media.published().pop().unwrap().session;
    bench.end(new, EndReason::Timeout).await;
    assert!(!bench.media.closed(old));
    assert!(bench.control.streams(Default::default()).await.unwrap()[0].publishing);
}

#[tokio::test]
async fn a_third_coming_replaces_the_second() {
    let bench = bench(limits(1, 9)).await;
    let (_, first) = bench.go_live("r", "camera").await;
    for _ in 0..2 {
        bench.control.publish(&room("r"), &who("camera"), CAMERA).await.unwrap();
    }
    let published = bench.media.published();
    assert!(bench.media.closed(published[1].session) && !bench.media.closed(first));
    // The old one goes before the new one sends: the new one has the seat.
    bench.end(first, EndReason::PeerClosed).await;
    bench.start(&published[2]).await;
    assert!(bench.control.streams(Default::default()).await.unwrap()[0].publishing);
    assert!(bench.control.publish(&room("q"), &who("other"), CAMERA).await.is_err(), "one slot is held");
}

#[tokio::test]
async fn watching_needs_a_publisher() {
    let bench = bench(limits(1, 9)).await;
    let refused = bench.control.subscribe(&room("r"), &who("viewer"), VIEWER).await;
    assert!(matches!(refused, Err(ControlError::NoPublisher { retry_after }) if retry_after.as_secs() == 2));
    bench.control.publish(&room("r"), &who("camera"), CAMERA).await.unwrap();
    bench.control.subscribe(&room("r"), &who("viewer"), VIEWER).await.unwrap();
}

#[tokio::test]
async fn events_for_sessions_that_are_gone_are_ignored() {
    let bench = bench(limits(1, 9)).await;
    let (camera, session) = bench.go_live("r", "camera").await;
    bench.control.delete(&room("r"), Role::Publisher, &camera.key, &who("camera")).await.unwrap();
    let at = bench.media.published()[0].room;
    bench.media.tell(MediaEvent::Connected { session });
    bench.media.tell(MediaEvent::MediaStarted { room: at, session });
    bench.media.tell(MediaEvent::Ended { session, reason: EndReason::Timeout });
    // One slot, free exactly once.
    bench.control.publish(&room("r"), &who("camera"), CAMERA).await.unwrap();
    assert!(bench.control.publish(&room("q"), &who("other"), CAMERA).await.is_err());
}
