//! Whatever reaches the media port from nobody in particular gets no answer and disturbs nobody.

use crate::harness::{Setup, alone, camera, figure, lean_camera, lean_viewer, viewer, viewer_offer, within};
use dimpl::{Config, Dtls, Output};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LONGEST: usize = 2048;
/// For an answer that must not come.
const SILENCE: Duration = Duration::from_millis(500);

/// A well-formed ClientHello of somebody who was never let in.
fn client_hello() -> Vec<u8> {
    let certificate = dimpl::certificate::generate_self_signed_certificate().unwrap();
    let now = Instant::now();
    let mut dtls = Dtls::new_12(Arc::new(Config::builder().build().unwrap()), certificate, now);
    dtls.set_active(true);
    dtls.handle_timeout(now).unwrap();
    let mut buffer = [0; 4096];
    loop {
        if let Output::Packet(bytes) = dtls.poll_output(&mut buffer) {
            return bytes.to_vec();
        }
    }
}

/// A binding request with this USERNAME and an integrity that is wrong.
fn forged_check(username: &str) -> Vec<u8> {
    let padded = username.len().next_multiple_of(4);
    let mut body = vec![0x00, 0x06, 0, username.len() as u8];
    body.extend_from_slice(username.as_bytes());
    body.resize(4 + padded, 0);
    body.extend_from_slice(&[0x00, 0x08, 0, 20]);
    body.extend_from_slice(&[0xaa; 20]);
    let mut message = vec![0x00, 0x01];
    message.extend_from_slice(&(body.len() as u16).to_be_bytes());
    message.extend_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    message.extend_from_slice(&[0x55; 12]);
    message.extend_from_slice(&body);
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_at_the_media_port_get_no_answer_and_disturb_nobody() {
    let _turn = alone().await;
    let mut server = Setup::new().start().await;
    let camera = camera(&server, "door").await;
    let watching = viewer(&server, "door").await;
    let seen =
        watching.wait_for(|report| report.video.as_ref().is_some_and(|v| v.keyframes > 0) && report.audio.is_some());
    assert!(within("a picture", Duration::from_secs(5), seen).await);
    // A session that waits for its first check: its ufrag is right, and known to who overheard the answer.
    let waiting = server.api.offer("/whep/door", viewer_offer()).await;
    let ufrag = waiting.body.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap().to_owned();

    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let mut datagrams = vec![client_hello(), forged_check("nobody:nobody"), forged_check(&format!("{ufrag}:peer"))];
    for first in 0..=u8::MAX {
        for length in [1, 12, 20, 13, random.random_range(1..LONGEST), random.random_range(1..LONGEST)] {
            let mut datagram = vec![0; length];
            random.fill_bytes(&mut datagram);
            datagram[0] = first;
            datagrams.push(datagram);
        }
    }
    for length in 0..=LONGEST {
        let mut datagram = vec![0; length];
        random.fill_bytes(&mut datagram);
        datagrams.push(datagram);
    }
    // Known heads with random tails: STUN with its cookie, DTLS handshakes, RTP and RTCP.
    for head in [
        &[0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42][..],
        &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0],
        &[22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 50, 1],
        &[0x80, 96],
        &[0x90, 0xe0],
        &[0x81, 205],
        &[0x80, 200],
    ] {
        for _ in 0..200 {
            let mut datagram = head.to_vec();
            datagram.resize(head.len() + random.random_range(0..1200), 0);
            random.fill_bytes(&mut datagram[head.len()..]);
            datagrams.push(datagram);
        }
    }
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.set_nonblocking(true).unwrap();
    let (mut sent, mut answers) = (0, Vec::new());
    let mut buffer = [0; 4096];
    for batch in datagrams.chunks(50) {
        for datagram in batch {
            stranger.send_to(datagram, server.media()).unwrap();
            sent += datagram.len();
        }
        // The socket's buffer holds a batch, so that all of it is looked at.
        tokio::time::sleep(Duration::from_millis(2)).await;
        if let Ok((length, _)) = stranger.recv_from(&mut buffer) {
            answers.push(buffer[..length].to_vec());
        }
    }
    tokio::time::sleep(SILENCE).await;
    while let Ok((length, _)) = stranger.recv_from(&mut buffer) {
        answers.push(buffer[..length].to_vec());
    }
    figure(&format!(
        "{} datagrams, {sent} bytes from a stranger (seed {seed}): {} answers",
        datagrams.len(),
        answers.len()
    ));
    assert!(answers.is_empty(), "{:02x?}", &answers[0]);

    assert!(server.is_alive() && server.api.is_ready().await);
    let before = watching.report().video.unwrap().frames;
    crate::harness::until("more frames", Duration::from_secs(3), || async {
        (watching.report().video.unwrap().frames > before + 30).then_some(())
    })
    .await;
    let report = watching.stop().await.unwrap();
    let (video, audio) = (report.video.unwrap(), report.audio.unwrap());
    assert_eq!((video.lost, audio.lost, video.broken_frames, report.strangers), (0, 0, 0, 0), "{video:?} {audio:?}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    camera.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replayed_is_not_forwarded_again() {
    let _turn = alone().await;
    let server = Setup::new().start().await;
    let mut camera = lean_camera(&server, "door").await;
    // Every datagram of the camera comes three times.
    camera.copies = 3;
    camera.sent = Some(Vec::new());
    assert!(camera.live(Duration::from_secs(10), |camera| camera.client.totals().frames > 5).await, "not connected");
    let start = camera.sent.as_ref().unwrap().len();
    let replayer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut viewer = lean_viewer(&server, "door").await;
    let sending = camera.live(Duration::from_secs(3), |camera| camera.client.totals().frames >= 70);
    let seeing = viewer.live(Duration::from_secs(10), |viewer| viewer.client.totals().unique >= 500);
    let (sent, seen) = tokio::join!(sending, seeing);
    assert!(sent && seen, "{:?}", viewer.client.totals());
    // All of it once more, by the camera's own socket and by somebody else's.
    let overheard = camera.sent.take().unwrap().split_off(start);
    camera.client.pause();
    for datagram in &overheard {
        camera.socket.send_to(datagram, server.media()).await.unwrap();
        replayer.send_to(datagram, server.media()).unwrap();
    }
    viewer.live(Duration::from_secs(1), |_| false).await;
    let totals = viewer.client.totals();
    figure(&format!(
        "{} datagrams replayed (each sent three times before): the viewer got {} packets, {} twice, {} not authentic",
        overheard.len(),
        totals.unique,
        totals.duplicates,
        totals.forged
    ));
    assert_eq!((totals.duplicates, totals.forged, totals.damaged, viewer.client.lost()), (0, 0, 0, 0), "{totals:?}");
    assert!(totals.unique <= camera.client.totals().packets, "{totals:?}");
}
