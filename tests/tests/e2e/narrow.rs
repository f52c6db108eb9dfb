//! A path to the viewer that carries less than the camera's packets need.

use crate::harness::{Network, Setup, alone, figure, media_client, publishing, within};
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;

/// Bytes of the camera's largest packets: encrypted and with IP and UDP headers they are longer than every MTU here.
const PACKET_SIZE: &str = "1400";
const SECONDS: u64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn narrow_paths_carry_every_frame_at_the_first_try() {
    let _turn = alone().await;
    for mtu in [1100, 1280, 1400] {
        let network = Network::narrow(mtu);
        let server = Setup::in_network(&network).start().await;
        let clients = network.client_namespace();
        let http = format!("http://{}:{}", network.server, server.setup().http.port());
        let run = |arguments: &[&str]| {
            let mut command = media_client(Some(&clients), arguments);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
        };
        let whip = format!("{http}/whip/door");
        let camera = run(&["camera", "--packet-size", PACKET_SIZE, "--loop", &whip]);
        publishing(&server, "door").await;
        let viewer = run(&["view", "--json", "--seconds", &SECONDS.to_string(), &format!("{http}/whep/door")]);
        let seen = within("the viewer", Duration::from_secs(SECONDS + 20), viewer.wait_with_output()).await.unwrap();
        assert!(seen.status.success(), "{}", String::from_utf8_lossy(&seen.stderr));
        drop(camera);
        let seen: Value = serde_json::from_slice(&seen.stdout).unwrap();
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value}"));
        let video = &seen["each"][0]["video"];
        let (packets, recovered) = (number(&video["packets"]), number(&video["recovered"]));
        let (frames, broken) = (number(&video["frames"]), number(&video["broken_frames"]));
        figure(&format!(
            "MTU {mtu}: {packets} packets, {recovered} of them repeated; {frames} frames, {broken} broken"
        ));
        assert_eq!((number(&video["lost"]), broken), (0, 0), "MTU {mtu}: {seen}");
        assert!(frames >= (SECONDS - 1) * 30, "MTU {mtu}: {seen}");
        assert!(recovered * 20 <= packets, "MTU {mtu}: at least 95 % arrive at the first try: {seen}");
    }
}
