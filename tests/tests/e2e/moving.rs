//! A viewer whose address changes goes on, with and without an ICE restart.

use crate::harness::{Lean, Setup, alone, camera, figure, lean_viewer};
use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};
use sfu::parameters::IceCredentials;
use std::time::{Duration, Instant};
use streamsession_tests::peer::credentials;
use streamsession_tests::viewer::Viewer;

/// The viewer renews its consent every 5 s, which tells the server of its new address.
const RENEWAL: Duration = Duration::from_secs(7);

/// So much more media comes to the present socket.
async fn goes_on(viewer: &mut Lean<Viewer>, limit: Duration) -> bool {
    let (unique, reports) = (viewer.client.totals().unique, viewer.client.totals().reports);
    viewer
        .live(limit, |viewer| viewer.client.totals().unique > unique + 200 && viewer.client.totals().reports > reports)
        .await
}

fn binding_request(local: &IceCredentials, remote: &IceCredentials) -> Vec<u8> {
    let provider = rtc_stun::crypto::default_provider().unwrap();
    let raw = |typ, value: &[u8]| RawAttribute { typ, length: value.len() as u16, value: value.to_vec() };
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(remote.pwd.clone(), provider.crypto());
    let setters: Vec<Box<dyn Setter + '_>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::new()),
        Box::new(raw(ATTR_USERNAME, format!("{}:{}", remote.ufrag, local.ufrag).as_bytes())),
        Box::new(raw(ATTR_ICE_CONTROLLING, &[7; 8])),
        Box::new(raw(ATTR_PRIORITY, &0x6eff_ffff_u32.to_be_bytes())),
        Box::new(raw(ATTR_USE_CANDIDATE, &[])),
        Box::new(integrity),
        Box::new(FINGERPRINT),
    ];
    let mut message = Message::new();
    message.build(&setters).unwrap();
    message.raw
}

fn field(fragment: &str, name: &str) -> String {
    let found = fragment.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {name}: {fragment}")).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_goes_on_from_another_address_and_after_an_ice_restart() {
    let _turn = alone().await;
    let server = Setup::new().start().await;
    let camera = camera(&server, "door").await;
    let mut viewer = lean_viewer(&server, "door").await;
    assert!(goes_on(&mut viewer, Duration::from_secs(10)).await, "no media");

    // Its NAT forgets the mapping: the same session from another port.
    let old = viewer.move_to_another_port().await;
    let moved = Instant::now();
    assert!(viewer.live(RENEWAL, |viewer| viewer.received > 10).await, "no media at the new port");
    let renewed = moved.elapsed();
    assert!(goes_on(&mut viewer, Duration::from_secs(5)).await, "media stopped at the new port");
    // What had been sent to the old port lies there; nothing follows.
    let mut buffer = [0; 2048];
    while old.try_recv_from(&mut buffer).is_ok() {}
    assert!(goes_on(&mut viewer, Duration::from_secs(5)).await);
    assert!(old.try_recv_from(&mut buffer).is_err(), "media still goes to the old port");

    // Another network: the browser restarts ICE by PATCH, and checks from a new socket with new credentials.
    let local = credentials();
    let fragment = format!(
        "a=group:BUNDLE 0 1\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
        local.ufrag, local.pwd
    );
    let answer = server.api.patch(&viewer.session, "*", fragment).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.header("etag").starts_with('"') && answer.header("etag") != viewer.etag, "{answer:?}");
    let remote = IceCredentials { ufrag: field(&answer.body, "a=ice-ufrag"), pwd: field(&answer.body, "a=ice-pwd") };
    assert_ne!(remote.ufrag, viewer.answer.remote.ice.ufrag);
    viewer.move_to_another_port().await;
    let check = binding_request(&local, &remote);
    let restarted = Instant::now();
    viewer.socket.send_to(&check, server.media()).await.unwrap();
    assert!(viewer.live(Duration::from_secs(2), |viewer| viewer.received > 10).await, "no media after the restart");
    let switched = restarted.elapsed();
    assert!(goes_on(&mut viewer, Duration::from_secs(5)).await, "media stopped after the restart");
    figure(&format!(
        "a new port: media again after {:.1} s (consent is renewed every 5 s); ICE restart: after {:.0} ms",
        renewed.as_secs_f64(),
        switched.as_secs_f64() * 1e3
    ));
    let totals = viewer.client.totals();
    assert_eq!(
        (totals.forged, server.api.stream("door").await.unwrap()["viewers"].as_u64()),
        (0, Some(1)),
        "{totals:?}"
    );
    camera.stop().await.unwrap();
}
