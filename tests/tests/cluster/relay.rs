//! The relay of a session's pod leads to that pod's own address and to nothing else.

use crate::harness::{
    Kube, Place, Session, alone, answer_of, command, figure, install, node_address, open_http, run, text,
};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// One of each kind that must not be reached: loopback, private, shared, link-local, metadata, multicast, unspecified, public.
const STRANGERS: [&str; 18] = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "10.255.255.254",
    "172.16.0.1",
    "172.31.255.254",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.0.1",
    "169.254.169.254",
    "224.0.0.1",
    "255.255.255.255",
    "0.0.0.0",
    "198.51.100.1",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
];

#[test]
fn relays_reach_the_pods_own_address_and_nothing_else() {
    let _turn = alone();
    install();
    let kube = Kube::restricted("relay");
    let spec = json!({"recording": {"enabled": false}, "storage": {"mode": "Local", "size": "1Gi"}});
    let session = Session::apply(&kube, "relayed", &spec);
    session.wait_ready(Duration::from_secs(60));
    let base = open_http(&kube, "relayed");
    let answer = answer_of(&format!("{base}/whip/door"), &session.token("publish"));
    let link = answer.header("link");
    let field = |name: &str| {
        let begin = link.find(&format!("{name}=\"")).unwrap_or_else(|| panic!("{answer:?}")) + name.len() + 2;
        link[begin..begin + link[begin..].find('"').unwrap()].to_owned()
    };
    let urls = session.get().pointer("/status/endpoints/turn").cloned().unwrap();
    let relay = text(&urls, "/0").trim_start_matches("turn:").split('?').next().unwrap().to_owned();

    let pod: Ipv4Addr = text(&kube.get("pod", "relayed-0"), "/status/podIP").parse().unwrap();
    let system = Kube::namespace("kube-system");
    let dns = system.list("pod", "k8s-app=kube-dns");
    let mut refused: Vec<IpAddr> = STRANGERS.iter().map(|address| address.parse().unwrap()).collect();
    for address in [
        node_address(),
        text(&dns[0], "/status/podIP"),
        text(&system.get("service", "kube-dns"), "/spec/clusterIP"),
        text(&Kube::namespace("default").get("service", "kubernetes"), "/spec/clusterIP"),
        text(&kube.get("service", "relayed"), "/spec/clusterIP"),
        text(&kube.get("service", "relayed-media"), "/spec/clusterIP"),
    ] {
        refused.push(address.parse().unwrap_or_else(|_| panic!("no address: {address:?}")));
    }
    let mapped: Vec<IpAddr> = refused
        .iter()
        .filter_map(|address| if let IpAddr::V4(v4) = address { Some(v4.to_ipv6_mapped().into()) } else { None })
        .collect();
    refused.extend(mapped);
    let mut peers = refused.clone();
    peers.push(pod.into());

    let order =
        json!({"relay": relay, "username": field("username"), "credential": field("credential"), "peers": peers});
    let output = run(command(Place::Outside, env!("CARGO_BIN_EXE_turn-check")), &order.to_string());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    let of = |address: &IpAddr| told["answers"][address.to_string()].clone();
    for address in &refused {
        for request in ["permission", "channel"] {
            let code = of(address)[request].as_u64().unwrap();
            assert!((400..600).contains(&code), "{request} for {address}: {code}\n{told:#}");
        }
    }
    assert_eq!(of(&pod.into()), json!({"permission": 200, "channel": 200}), "{told:#}");
    figure(&format!("the pod's relay refused {} addresses, twice each, and lets its own one through", refused.len()));
}
