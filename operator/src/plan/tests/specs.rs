//! Specs for property tests: every mode of every group, in all combinations that the rules allow.

use proptest::prelude::*;
use serde_json::{Value, json};

fn limits() -> impl Strategy<Value = Value> {
    (1..100_u32, 1..100_u32, prop::option::of(1..9_u32)).prop_map(|(publishers, subscribers, streams)| {
        json!({"maxPublishers": publishers, "maxSubscribersPerRoom": subscribers, "maxStreamsPerAccount": streams})
    })
}

fn exposure() -> impl Strategy<Value = Value> {
    let ingress = prop::option::of((any::<bool>(), any::<bool>()).prop_map(|(tls, class)| {
        json!({
            "host": "cams.example.com",
            "tlsSecretName": tls.then_some("cams-tls"),
            "className": class.then_some("contour"),
            "annotations": {"example.com/timeout": "1h"},
        })
    }));
    let type_ = prop::sample::select(vec!["NodePort", "LoadBalancer", "HostPort", "ClusterIP"]);
    let announce =
        prop::sample::subsequence(vec!["203.0.113.9", "203.0.113.9:4000", "[2001:db8::9]:4000", "2001:db8::9"], 0..4);
    (type_, 1..=65535_u16, prop::option::of(30000..32767_u16), announce, ingress).prop_map(
        |(type_, media_port, node_port, announce, ingress)| {
            let node_port = node_port.filter(|_| type_ == "NodePort");
            json!({"type": type_, "mediaPort": media_port, "nodePort": node_port, "announce": announce, "ingress": ingress})
        },
    )
}

fn http() -> impl Strategy<Value = Value> {
    let paths = prop::sample::select(vec!["", "/cams", "/site-a/cams"]);
    let origins = prop::sample::subsequence(vec!["https://console.example.com", "http://localhost:3000"], 0..=2);
    (paths, origins, any::<bool>()).prop_map(|(path, origins, proxied)| {
        let proxies: &[&str] = if proxied { &["10.244.0.0/16"] } else { &[] };
        json!({"basePath": path, "allowedOrigins": origins, "trustedProxies": proxies})
    })
}

fn turn() -> impl Strategy<Value = Value> {
    let modes = prop::sample::select(vec!["Managed", "External", "Disabled"]);
    (modes, any::<bool>(), prop::option::of(Just("turn.example.com"))).prop_map(|(mode, secret, realm)| {
        let external = (mode == "External").then(|| {
            json!({
                "urls": ["turns:turn.example.com:443?transport=tcp"],
                "secretRef": secret.then(|| json!({"name": "turn-shared", "key": "hmac"})),
            })
        });
        json!({"mode": mode, "realm": realm, "tlsSecretName": secret.then_some("turn-tls"), "external": external})
    })
}

fn storage() -> impl Strategy<Value = Value> {
    let modes = prop::sample::select(vec!["Managed", "External", "Local"]);
    let sizes = prop::sample::select(vec!["1Gi", "20Gi", "1.5Ti", "1536Gi", "30G"]);
    (modes, sizes, any::<bool>(), prop::option::of(Just("fast"))).prop_map(|(mode, size, secret, class)| {
        let external = (mode == "External").then(|| {
            json!({
                "endpoint": "https://s3.example.com",
                "bucket": "recordings",
                "credentialsSecretRef": secret.then(|| json!({"name": "s3"})),
            })
        });
        json!({"mode": mode, "size": size, "storageClassName": class, "external": external})
    })
}

fn auth() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({"mode": "JWT"}),
        json!({"mode": "JWT", "secretRef": {"name": "jwt", "key": "hs256"}}),
        json!({"mode": "JWT", "issuer": "i", "audience": "a"}),
        json!({"mode": "Open", "acknowledgeOpen": true}),
    ])
}

fn pod() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({}),
        json!({"image": "registry.example.com/media-server:2"}),
        json!({"resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"memory": "2.5Gi", "cpu": "0.5"}}}),
        json!({
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "cameras", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 0}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
            ]}}},
        }),
    ])
}

fn rest() -> impl Strategy<Value = (Value, Value, &'static str)> {
    (
        prop::sample::select(vec!["Retain", "Delete", "WaitForUploads"]),
        prop::sample::select(vec!["1s", "60s", "1h"]),
        prop::sample::select(vec!["WhenIdle", "Immediate"]),
    )
        .prop_map(|(reclaim, deadline, policy)| {
            (json!({"reclaimPolicy": reclaim}), json!({"deadline": deadline}), policy)
        })
}

/// A spec that the API server takes and this version does, without what is absent.
pub(super) fn spec() -> impl Strategy<Value = Value> {
    (limits(), exposure(), http(), turn(), storage(), auth(), pod(), rest()).prop_map(
        |(limits, exposure, http, turn, storage, auth, pod, (recording, drain, policy))| {
            let mut spec = json!({
                "limits": limits, "exposure": exposure, "http": http, "turn": turn, "storage": storage, "auth": auth, "pod": pod,
                "recording": recording, "drain": drain, "updatePolicy": policy,
            });
            without_nulls(&mut spec);
            spec
        },
    )
}

fn without_nulls(value: &mut Value) {
    if let Value::Object(object) = value {
        object.retain(|_, value| !value.is_null());
        object.values_mut().for_each(without_nulls);
    }
}

proptest! {
    #[test]
    fn every_spec_is_one_that_the_api_server_takes(spec in spec()) {
        prop_assert_eq!(super::session(&spec).validate(), vec![]);
    }
}
