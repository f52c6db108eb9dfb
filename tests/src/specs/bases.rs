//! Good specs to change: every mode of every group, so that no field is only ever seen in its default surroundings.

use serde_json::{Value, json};

/// Specs that the API server takes and this version does, the plainest first.
///
/// Between any two of them that keep size and class of the volume an operator can go to and fro: what they ask for can be
/// taken back.
pub fn bases() -> Vec<Value> {
    vec![
        json!({}),
        json!({"exposure": {"type": "HostPort", "mediaPort": 8190}, "turn": {"mode": "Disabled"}, "storage": {"mode": "Local"}}),
        json!({
            "exposure": {"type": "ClusterIP", "announce": ["203.0.113.7:31189"]},
            "auth": {"mode": "Open"},
            "turn": {"mode": "External", "external": {"urls": ["turn:turn.example.com:3478"]}},
            "recording": {"reclaimPolicy": "Delete"},
        }),
        json!({
            "exposure": {"type": "LoadBalancer", "ingress": {
                "host": "cams.example.com", "className": "contour", "annotations": {"example.com/timeout": "1h"},
            }},
            "limits": {"maxPublishers": 2, "maxSubscribersPerRoom": 500, "maxStreamsPerAccount": 1, "maxBitrate": "80M"},
            "updatePolicy": "Immediate",
        }),
        json!({
            "storage": {"mode": "External", "external": {"endpoint": "https://s3.example.com", "bucket": "recordings"}},
            "recording": {"reclaimPolicy": "WaitForUploads", "retention": {"maxAge": "30d", "maxBytes": "500Gi", "keepFree": "5Gi"}},
            "turn": {"realm": "cams.example.com", "credentialTTL": "7d"},
        }),
        json!({
            "pod": {
                "nodeSelector": {"disk": "fast"},
                "tolerations": [{"key": "cameras", "operator": "Exists", "effect": "NoSchedule"}],
                "resources": {"requests": {"cpu": "1", "memory": "256Mi"}, "limits": {"memory": "2Gi"}},
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
                ]}}},
            },
            "drain": {"deadline": "5m"},
        }),
    ]
}

/// Good specs beyond those: that name Secrets, that this version does not do, and that are paused.
pub fn everything() -> Vec<Value> {
    let key = json!({"name": "given", "key": "secret"});
    vec![
        json!({
            "auth": {"mode": "JWT", "secretRef": key, "issuer": "https://issuer.example.com", "audience": "cams"},
            "turn": {"mode": "External", "external": {"urls": ["turns:turn.example.com:443?transport=tcp"], "secretRef": key}},
            "storage": {"mode": "External", "external": {
                "endpoint": "http://store:9000", "bucket": "recordings", "region": "eu-1", "pathStyle": false,
                "credentialsSecretRef": {"name": "given"},
            }},
        }),
        json!({"turn": {"tlsSecretName": "given"}, "exposure": {"ingress": {"host": "cams.example.com", "tlsSecretName": "given"}}}),
        json!({"auth": {"jwks": {"url": "https://issuer.example.com/jwks.json"}, "issuer": "i", "audience": "a"}}),
        json!({"auth": {"mode": "Callback", "callback": {"url": "https://auth.example.com/check", "timeout": "500ms"}}}),
        json!({"database": {"mode": "Postgres", "urlSecretRef": key}}),
        json!({"paused": true, "limits": {"maxPublishers": 9}}),
    ]
}
