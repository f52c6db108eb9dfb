//! Announced addresses are those of Service and Node, as they change, without a restart.

use crate::harness::{Kube, Session, alone, camera, figure, install, node_address, open_http, text, until, view};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn announced(session: &Session) -> Vec<String> {
    let status = session.get();
    let list = status.pointer("/status/endpoints/announced").and_then(Value::as_array).cloned().unwrap_or_default();
    list.iter().map(|address| address.as_str().unwrap().to_owned()).collect()
}

#[test]
fn announced_addresses_follow_service_and_node_without_a_restart() {
    let _turn = alone();
    install();
    let kube = Kube::restricted("exposure");
    let spec = json!({
        "recording": {"enabled": false}, "storage": {"mode": "Local", "size": "1Gi"}, "turn": {"mode": "Disabled"},
    });
    let session = Session::apply(&kube, "moving", &spec);
    session.wait_ready(Duration::from_secs(60));
    let pod = session.pod_uid();
    let node = node_address();
    let service = kube.get("service", "moving-media");
    let before = format!("{node}:{}", text(&service, "/spec/ports/0/nodePort"));
    assert!(announced(&session).contains(&before), "{before}: {:?}", announced(&session));
    let base = open_http(&kube, "moving");
    let token = session.token("publish subscribe");
    let mut publisher = camera(&format!("{base}/whip/door"), &token, None);

    // The port of the Service.
    let port = if before.ends_with(":31777") { 31778 } else { 31777 };
    let begin = Instant::now();
    session.patch(json!({"exposure": {"nodePort": port}}));
    let after = format!("{node}:{port}");
    until("the new port is announced", Duration::from_secs(30), || {
        let now = announced(&session);
        if now.contains(&after) && !now.contains(&before) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    let took = begin.elapsed();
    // The node opens a port up to a few seconds after the Service has it; a flow that began before that stays without.
    let url = format!("{base}/whep/door");
    let report =
        until("a viewer through the new port", Duration::from_secs(40), || view(&url, &token, None, 1, 4).outcome());
    assert!(report["frames"].as_u64().unwrap() >= 60, "{report:#}");

    // The address of the node.
    let name = kube.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    let addresses = |external: Option<&str>| {
        let mut list =
            vec![json!({"type": "InternalIP", "address": node}), json!({"type": "Hostname", "address": name})];
        list.extend(external.map(|address| json!({"type": "ExternalIP", "address": address})));
        json!({"status": {"addresses": list}}).to_string()
    };
    let patch = |external: Option<&str>| {
        // The kubelet writes its own addresses again now and then; what is asked for here is seen before.
        kube.kubectl(&["patch", "node", &name, "--subresource=status", "--type=merge", "-p", &addresses(external)]);
    };
    let wanted = format!("203.0.113.7:{port}");
    until("the node's new address is announced", Duration::from_secs(60), || {
        patch(Some("203.0.113.7"));
        std::thread::sleep(Duration::from_millis(300));
        let now = announced(&session);
        if now.contains(&wanted) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    patch(None);
    until("and gone again with it", Duration::from_secs(60), || {
        let now = announced(&session);
        if now.contains(&wanted) { Err(format!("{now:?}")) } else { Ok(()) }
    });
    publisher.assert_running();
    assert_eq!((session.pod_uid(), session.restarts()), (pod, 0));
    figure(&format!("a new port was announced {:.1} s after the patch", took.as_secs_f64()));
}

#[test]
fn what_the_spec_no_longer_wants_is_taken_away() {
    let _turn = alone();
    install();
    let kube = Kube::restricted("exposure");
    let spec = json!({
        "exposure": {"ingress": {"host": "less.example.com"}}, "turn": {"mode": "Managed"},
        "recording": {"enabled": false}, "storage": {"mode": "Local", "size": "1Gi"},
    });
    let session = Session::apply(&kube, "less", &spec);
    session.wait_ready(Duration::from_secs(60));
    let pod = session.pod_uid();
    session.patch(json!({"exposure": {"ingress": null}, "turn": {"mode": "Disabled"}}));
    until("ingress and relay are gone, and the pod is made anew", Duration::from_secs(60), || {
        let left = [("ingress", "less"), ("service", "less-turn")].map(|(kind, name)| kube.find(kind, name).is_some());
        let anew = kube.find("pod", "less-0").is_some_and(|now| text(&now, "/metadata/uid") != pod);
        if left == [false; 2] && anew { Ok(()) } else { Err(format!("{left:?}, {anew}")) }
    });
    session.wait_ready(Duration::from_secs(60));
    assert!(kube.find("service", "less-media").is_some());
}
