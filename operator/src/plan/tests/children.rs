//! The objects themselves: what Kubernetes and the programs in the pod are told.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{session, specs, world::World};
use crate::plan::Kind;

fn settled(spec: &Value) -> World {
    let mut world = World::new(session(spec));
    world.settle();
    world
}

fn container<'a>(world: &'a World, name: &str) -> &'a Value {
    let containers = world.pod.as_ref().unwrap()["spec"]["containers"].as_array().unwrap();
    containers.iter().find(|container| container["name"] == name).unwrap_or_else(|| panic!("no container {name}"))
}

fn words<'a>(container: &'a Value, field: &str) -> Vec<&'a str> {
    container[field].as_array().into_iter().flatten().map(|word| word.as_str().unwrap()).collect()
}

/// The word after a flag.
fn flag<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().position(|word| *word == name).map(|at| words[at + 1])
}

#[test]
fn the_media_server_is_told_all_that_it_needs() {
    let world = settled(&json!({"exposure": {"mediaPort": 9000}}));
    let args = words(container(&world, "media"), "args");
    for (name, value) in [
        ("--http", "0.0.0.0:8080"),
        ("--management", "0.0.0.0:8081"),
        ("--udp-port", "9000"),
        ("--data-dir", "/data"),
        ("--session", "/etc/streamsession/session.yaml"),
        ("--admin-token-file", "/etc/streamsession-admin/token"),
        ("--jwt-secret-file", "/etc/streamsession-keys/secret"),
        ("--turn-secret-dir", "/etc/streamsession-turn"),
        ("--store-credentials-dir", "/etc/streamsession-store"),
    ] {
        assert_eq!(flag(&args, name), Some(value));
    }
    let environment = container(&world, "media")["env"].as_array().unwrap();
    let paths: Vec<&Value> = environment.iter().map(|one| &one["valueFrom"]["fieldRef"]["fieldPath"]).collect();
    assert_eq!(paths[..2], ["status.podIP", "metadata.namespace"]);
}

#[test]
fn what_a_mode_does_not_need_is_not_given() {
    let spec = json!({
        "auth": {"mode": "Open", "acknowledgeOpen": true}, "turn": {"mode": "Disabled"}, "storage": {"mode": "Local"},
    });
    let world = settled(&spec);
    let args = words(container(&world, "media"), "args");
    for name in ["--jwt-secret-file", "--turn-secret-dir", "--store-credentials-dir"] {
        assert_eq!(flag(&args, name), None);
    }
    assert_eq!(world.pod.as_ref().unwrap()["spec"]["containers"].as_array().unwrap().len(), 1);
    assert!(world.pod.as_ref().unwrap()["spec"]["initContainers"].is_null());
    for (kind, name) in [
        (Kind::Secret, "front-door-keys"),
        (Kind::Secret, "front-door-turn"),
        (Kind::Secret, "front-door-store"),
        (Kind::Service, "front-door-turn"),
        (Kind::Service, "front-door-store"),
        (Kind::Ingress, "front-door"),
    ] {
        assert!(world.object(kind, name).is_none(), "{kind:?} {name}");
    }
}

#[test]
fn the_relay_reaches_the_pods_own_address_alone() {
    let spec = json!({"exposure": {"ingress": {"host": "cams.example.com"}}, "turn": {"tlsSecretName": "turn-tls"}});
    let world = settled(&spec);
    let command = words(container(&world, "turn"), "command");
    assert_eq!(command[..2], ["/shared/media-server", "relay"]);
    assert_eq!(command[command.len() - 2..], ["--", "turnserver"]);
    for (name, value) in [
        ("--realm", "cams.example.com"),
        ("--allow-peer", "$(POD_IP)"),
        ("--relay-address", "$(POD_IP)"),
        ("--tls-dir", "/etc/streamsession-turn-tls"),
        ("--tls-port", "5349"),
    ] {
        assert_eq!(flag(&command, name), Some(value));
    }
    assert_eq!(command.iter().filter(|word| **word == "--allow-peer").count(), 1);
    let install = &world.pod.as_ref().unwrap()["spec"]["initContainers"][0];
    assert_eq!(words(install, "command"), ["/media-server", "install", "/shared"]);
    let plain = settled(&json!({}));
    assert_eq!(flag(&words(container(&plain, "turn"), "command"), "--tls-dir"), None);
    assert_eq!(flag(&words(container(&plain, "turn"), "command"), "--realm"), Some("front-door"));
}

#[test]
fn the_relay_is_told_of_a_bitrate_beyond_its_own_cap() {
    let most = |bitrate: &str| {
        let world = settled(&json!({"limits": {"maxBitrate": bitrate}}));
        flag(&words(container(&world, "turn"), "command"), "--max-bytes-per-second").map(str::to_owned)
    };
    assert_eq!(most("60M"), None);
    assert_eq!(most("120M").as_deref(), Some("25000000"));
    assert_eq!(most("1T").as_deref(), Some("4294967295"), "the flag takes no more");
}

#[test]
fn coturn_may_have_the_capability_of_its_file_and_no_other_container_any() {
    let world = settled(&json!({}));
    let capabilities = |name: &str| container(&world, name)["securityContext"]["capabilities"].clone();
    assert_eq!(capabilities("turn"), json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}));
    for name in ["media", "store"] {
        assert_eq!(capabilities(name), json!({"drop": ["ALL"]}));
    }
}

#[test]
fn the_store_is_told_its_credentials_by_files_and_calls_nobody() {
    let world = settled(&json!({}));
    let store = container(&world, "store");
    assert_eq!(words(store, "command"), ["minio", "server", "/data", "--address", "0.0.0.0:9000"]);
    let environment = store["env"].as_array().unwrap();
    let value =
        |name: &str| environment.iter().find(|one| one["name"] == name).map(|one| one["value"].as_str().unwrap());
    assert_eq!(value("MINIO_ROOT_USER_FILE"), Some("/etc/streamsession-store/accessKeyId"));
    assert_eq!(value("MINIO_ROOT_PASSWORD_FILE"), Some("/etc/streamsession-store/secretAccessKey"));
    for name in ["MINIO_BROWSER", "MINIO_UPDATE", "MINIO_CALLHOME_ENABLE"] {
        assert_eq!(value(name), Some("off"));
    }
    let parts = |name: &str| {
        let mounts = container(&world, name)["volumeMounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["name"] == "data").map(|mount| mount["subPath"].clone())
    };
    assert_eq!((parts("media"), parts("store")), (Some(json!("media")), Some(json!("store"))));
    assert_eq!(parts("turn"), None);
}

#[test]
fn secrets_of_the_user_are_mounted_by_the_keys_that_are_named() {
    let spec = json!({
        "auth": {"secretRef": {"name": "jwt", "key": "hs256"}},
        "turn": {"mode": "External", "external": {"urls": ["turn:t.example.com"], "secretRef": {"name": "shared", "key": "hmac"}}},
        "storage": {"mode": "External", "external": {
            "endpoint": "https://s3.example.com", "bucket": "recordings", "credentialsSecretRef": {"name": "s3"},
        }},
    });
    let world = settled(&spec);
    let volumes = world.pod.as_ref().unwrap()["spec"]["volumes"].as_array().unwrap();
    let secret = |name: &str| &volumes.iter().find(|volume| volume["name"] == name).unwrap()["secret"];
    assert_eq!(secret("keys")["secretName"], "jwt");
    assert_eq!(secret("keys")["items"], json!([{"key": "hs256", "path": "secret"}]));
    assert_eq!(secret("turn-secret")["items"], json!([{"key": "hmac", "path": "secret"}]));
    let keys = volumes.iter().find(|volume| volume["name"] == "store-credentials").unwrap();
    assert_eq!(keys["projected"]["sources"][0]["secret"]["name"], "s3");
    assert_eq!(keys["projected"]["defaultMode"], 0o440);
    assert_eq!(secret("keys")["defaultMode"], 0o440);
}

#[test]
fn media_and_relay_go_straight_to_the_pod_ready_or_not() {
    let world =
        settled(&json!({"exposure": {"nodePort": 31189}, "turn": {"nodePort": 31478, "tlsSecretName": "turn-tls"}}));
    for name in ["front-door-media", "front-door-turn"] {
        let spec = &world.object(Kind::Service, name).unwrap()["spec"];
        assert_eq!(spec["externalTrafficPolicy"], "Local");
        assert_eq!(spec["publishNotReadyAddresses"], true);
    }
    let ports = &world.object(Kind::Service, "front-door-turn").unwrap()["spec"]["ports"];
    let told: Vec<Value> = ports
        .as_array()
        .unwrap()
        .iter()
        .map(|port| json!([port["protocol"], port["port"], port["targetPort"]]))
        .collect();
    assert_eq!(
        told,
        [json!(["UDP", 3478, "turn-udp"]), json!(["TCP", 3478, "turn-tcp"]), json!(["TCP", 5349, "turns"])]
    );
    assert_eq!((&ports[0]["nodePort"], &ports[1]["nodePort"]), (&json!(31478), &json!(31478)));
    assert_ne!(ports[2]["nodePort"], 31478);
    assert_eq!(world.object(Kind::Service, "front-door-media").unwrap()["spec"]["ports"][0]["nodePort"], 31189);
    let http = &world.object(Kind::Service, "front-door").unwrap()["spec"];
    assert_eq!((&http["type"], &http["ports"][0]["port"]), (&json!("ClusterIP"), &json!(80)));
}

#[test]
fn the_management_port_is_for_the_operator_and_the_store_for_the_sessions_own() {
    let world = settled(&json!({}));
    let rules = world.object(Kind::NetworkPolicy, "front-door").unwrap()["spec"]["ingress"].as_array().unwrap();
    let rule = |port: &str| {
        let has = |rule: &&Value| rule["ports"].as_array().unwrap().iter().any(|one| one["port"] == port);
        let found: Vec<&Value> = rules.iter().filter(has).collect();
        assert_eq!(found.len(), 1, "{port}");
        found[0]
    };
    for port in ["http", "media", "turn-udp", "turn-tcp", "turns"] {
        assert!(rule(port)["from"].is_null(), "{port} is for everyone");
    }
    let from = rule("management")["from"].as_array().unwrap();
    assert_eq!(from[0]["namespaceSelector"]["matchLabels"], json!({"kubernetes.io/metadata.name": "streamsession"}));
    assert_eq!(rule("s3")["from"][0]["podSelector"]["matchLabels"]["media.streamsession.io/session"], "front-door");
    assert!(rule("s3")["from"][0]["namespaceSelector"].is_null());
}

#[test]
fn the_pod_ends_by_the_deadline_and_a_node_can_be_drained() {
    let world = settled(&json!({"drain": {"deadline": "5m"}}));
    assert_eq!(world.pod.as_ref().unwrap()["spec"]["terminationGracePeriodSeconds"], 310);
    let budget = &world.object(Kind::PodDisruptionBudget, "front-door").unwrap()["spec"];
    assert_eq!((&budget["maxUnavailable"], &budget["unhealthyPodEvictionPolicy"]), (&json!(1), &json!("AlwaysAllow")));
    assert_eq!(world.object(Kind::StatefulSet, "front-door").unwrap()["spec"]["updateStrategy"]["type"], "OnDelete");
}

#[test]
fn the_ingress_says_what_the_spec_says() {
    let spec = json!({"exposure": {"ingress": {
        "host": "cams.example.com", "className": "contour", "tlsSecretName": "cams-tls", "annotations": {"a/b": "c"},
    }}});
    let mut world = settled(&spec);
    let ingress = world.object(Kind::Ingress, "front-door").unwrap();
    assert_eq!(ingress["spec"]["ingressClassName"], "contour");
    assert_eq!(ingress["spec"]["tls"], json!([{"hosts": ["cams.example.com"], "secretName": "cams-tls"}]));
    assert_eq!(ingress["metadata"]["annotations"]["a/b"], "c");
    let path = &ingress["spec"]["rules"][0]["http"]["paths"][0];
    assert_eq!(path["backend"]["service"], json!({"name": "front-door", "port": {"name": "http"}}));
    world.change(|spec| drop(spec["exposure"].as_object_mut().unwrap().remove("ingress")));
    world.settle();
    assert!(world.object(Kind::Ingress, "front-door").is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The server reads the same session from its file that the operator read from the API server.
    #[test]
    fn the_document_in_the_pod_is_the_session(spec in specs::spec()) {
        let world = settled(&spec);
        let text = world.object(Kind::ConfigMap, "front-door").unwrap()["data"]["session.yaml"].as_str().unwrap().to_owned();
        let read = streamsession_api::from_yaml(&text, "session.yaml").map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(read.validate(), vec![]);
        let mut expected = world.session.spec.clone();
        expected.pod = Default::default();
        prop_assert_eq!(read.spec, expected);
        prop_assert_eq!(read.metadata.name.as_deref(), Some("front-door"));
        prop_assert_eq!(read.metadata.namespace.as_deref(), Some("cameras"));
    }
}
