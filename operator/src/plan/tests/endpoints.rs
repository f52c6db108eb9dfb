//! Where a session is reached, as Service, node and pod say it.

use serde_json::json;

use super::{
    session,
    world::{NODE_EXTERNAL, NODE_INTERNAL, POD_IP, World},
};
use crate::plan::Kind;

fn settled(spec: &serde_json::Value) -> World {
    let mut world = World::new(session(spec));
    world.settle();
    world
}

fn announced(world: &World) -> Vec<String> {
    world.session.status.as_ref().unwrap().endpoints.as_ref().unwrap().announced.clone()
}

fn turn(world: &World) -> Vec<String> {
    world.session.status.as_ref().unwrap().endpoints.as_ref().unwrap().turn.clone()
}

#[test]
fn a_node_port_is_announced_at_external_before_internal_addresses() {
    let world = settled(&json!({"exposure": {"nodePort": 31189}, "turn": {"nodePort": 31478}}));
    assert_eq!(announced(&world), [format!("{NODE_EXTERNAL}:31189"), format!("{NODE_INTERNAL}:31189")]);
    assert_eq!(
        turn(&world),
        [format!("turn:{NODE_EXTERNAL}:31478?transport=udp"), format!("turn:{NODE_EXTERNAL}:31478?transport=tcp"),]
    );
    assert_eq!(world.server.as_ref().unwrap().announced.last().unwrap(), &format!("{POD_IP}:8189"));
}

#[test]
fn announced_addresses_follow_port_and_node_without_a_restart() {
    let mut world = settled(&json!({"exposure": {"nodePort": 31189}}));
    let uid = world.pod.as_ref().unwrap()["metadata"]["uid"].clone();
    world.change(|spec| spec["exposure"]["nodePort"] = json!(31190));
    world.settle();
    assert_eq!(announced(&world)[0], format!("{NODE_EXTERNAL}:31190"));
    let node = json!({"status": {"addresses": [{"type": "InternalIP", "address": "10.9.9.9"}]}});
    world.node = Some(serde_json::from_value(node).unwrap());
    world.settle();
    assert_eq!(announced(&world), ["10.9.9.9:31190"]);
    assert_eq!(world.server.as_ref().unwrap().announced[0], "10.9.9.9:31190");
    assert_eq!(world.pod.as_ref().unwrap()["metadata"]["uid"], uid);
}

#[test]
fn where_nodes_may_not_be_read_the_pod_tells_of_its_node() {
    let mut world = World::new(session(&json!({"exposure": {"nodePort": 31189}})));
    world.node = None;
    world.settle();
    assert_eq!(announced(&world), [format!("{NODE_INTERNAL}:31189")]);
    assert!(world.is_ready());
}

#[test]
fn what_the_spec_names_comes_first_and_gets_the_public_port() {
    let spec = json!({"exposure": {"nodePort": 31189, "announce": ["198.51.100.5", "198.51.100.6:9", "2001:db8::7"]}});
    let world = settled(&spec);
    assert_eq!(announced(&world)[..3], ["198.51.100.5:31189", "198.51.100.6:9", "[2001:db8::7]:31189"]);
    assert!(turn(&world)[0].starts_with("turn:198.51.100.5:"), "{:?}", turn(&world));
    assert!(turn(&world)[1].starts_with("turn:[2001:db8::7]:"), "{:?}", turn(&world));
}

#[test]
fn addresses_of_a_family_that_the_service_lacks_are_not_announced() {
    let mut world = World::new(session(&json!({"exposure": {"nodePort": 31189}})));
    let node = json!({"status": {"addresses": [
        {"type": "ExternalIP", "address": "2001:db8::1"}, {"type": "InternalIP", "address": "10.1.2.3"},
    ]}});
    world.node = Some(serde_json::from_value(node).unwrap());
    world.settle();
    assert_eq!(announced(&world), ["10.1.2.3:31189"]);
    world.object_mut(Kind::Service, "front-door-media")["spec"]["ipFamilies"] = json!(["IPv6", "IPv4"]);
    world.settle();
    assert_eq!(announced(&world), ["[2001:db8::1]:31189", "10.1.2.3:31189"]);
}

#[test]
fn a_load_balancer_is_announced_by_its_addresses() {
    let spec = json!({"exposure": {"type": "LoadBalancer", "mediaPort": 9000}, "turn": {"tlsSecretName": "turn-tls", "realm": "relay.example.com"}});
    let mut world = settled(&spec);
    assert_eq!(announced(&world), ["198.51.100.1:9000"]);
    assert_eq!(
        turn(&world),
        [
            "turn:198.51.100.1:3478?transport=udp",
            "turn:198.51.100.1:3478?transport=tcp",
            "turns:relay.example.com:5349?transport=tcp",
        ]
    );
    let named = json!({"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}});
    world.object_mut(Kind::Service, "front-door-turn")["status"] = named;
    world.settle();
    assert_eq!(turn(&world)[0], "turn:lb.example.com:3478?transport=udp");
}

#[test]
fn a_host_port_is_announced_at_the_nodes_addresses() {
    let world = settled(&json!({"exposure": {"type": "HostPort", "mediaPort": 9000}}));
    assert_eq!(announced(&world), [format!("{NODE_EXTERNAL}:9000"), format!("{NODE_INTERNAL}:9000")]);
    assert_eq!(turn(&world)[0], format!("turn:{NODE_EXTERNAL}:3478?transport=udp"));
    for name in ["front-door-media", "front-door-turn"] {
        assert!(world.object(Kind::Service, name).is_none(), "{name}");
    }
}

#[test]
fn inside_the_cluster_the_services_own_address_is_announced() {
    let world = settled(&json!({"exposure": {"type": "ClusterIP"}}));
    assert_eq!(announced(&world), ["10.96.0.10:8189"]);
    assert_eq!(turn(&world)[0], "turn:10.96.0.10:3478?transport=udp");
}

#[test]
fn a_relay_elsewhere_is_told_as_it_is_written_and_none_is_told_as_none() {
    let external = json!({"mode": "External", "external": {"urls": ["turns:turn.example.com:443?transport=tcp"]}});
    assert_eq!(turn(&settled(&json!({"turn": external}))), ["turns:turn.example.com:443?transport=tcp"]);
    assert!(turn(&settled(&json!({"turn": {"mode": "Disabled"}}))).is_empty());
}

#[test]
fn cameras_and_viewers_are_told_the_ingress_or_else_the_service() {
    for (ingress, base) in [
        (json!({"host": "cams.example.com", "tlsSecretName": "cams-tls"}), "https://cams.example.com"),
        (json!({"host": "cams.example.com"}), "http://cams.example.com"),
    ] {
        let world = settled(&json!({"exposure": {"ingress": ingress}}));
        let endpoints = world.session.status.as_ref().unwrap().endpoints.clone().unwrap();
        assert_eq!(endpoints.whip.unwrap(), format!("{base}/whip/{{room}}"));
        assert_eq!(endpoints.whep.unwrap(), format!("{base}/whep/{{room}}"));
        assert_eq!(endpoints.console.unwrap(), format!("{base}/"));
    }
    let endpoints = settled(&json!({})).session.status.unwrap().endpoints.unwrap();
    assert_eq!(endpoints.whip.unwrap(), "http://front-door.cameras.svc/whip/{room}");
}

#[test]
fn base_path_moves_ingress_and_endpoints_live() {
    let mut world = settled(&json!({"exposure": {"ingress": {"host": "cams.example.com"}}}));
    let path = |world: &World| {
        let ingress = world.object(Kind::Ingress, "front-door").unwrap();
        ingress["spec"]["rules"][0]["http"]["paths"][0]["path"].clone()
    };
    let uid = world.pod.as_ref().unwrap()["metadata"]["uid"].clone();
    assert_eq!(path(&world), "/");
    world.change(|spec| spec["http"] = json!({"basePath": "/cams"}));
    world.settle();
    assert_eq!(path(&world), "/cams");
    let endpoints = world.session.status.as_ref().unwrap().endpoints.clone().unwrap();
    assert_eq!(endpoints.whip.unwrap(), "http://cams.example.com/cams/whip/{room}");
    assert_eq!(endpoints.console.unwrap(), "http://cams.example.com/cams/");
    assert_eq!(world.server.as_ref().unwrap().generation, world.session.metadata.generation.unwrap());
    assert_eq!(world.pod.as_ref().unwrap()["metadata"]["uid"], uid, "no new pod");
}

#[test]
fn until_the_pod_is_replaced_the_way_that_it_has_is_told() {
    let mut world = settled(&json!({"exposure": {"nodePort": 31189}}));
    world.server.as_mut().unwrap().publishers = 1;
    world.change(|spec| spec["exposure"] = json!({"type": "HostPort"}));
    world.settle();
    assert_eq!(announced(&world)[0], format!("{NODE_EXTERNAL}:31189"));
    world.server.as_mut().unwrap().publishers = 0;
    world.settle();
    assert_eq!(announced(&world)[0], format!("{NODE_EXTERNAL}:8189"));
}
