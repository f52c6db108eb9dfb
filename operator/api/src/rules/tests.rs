//! Each rule is broken once on purpose: CEL and `validate` must name the same fields and say the same.

use std::{collections::BTreeSet, sync::LazyLock};

use kube::core::cel::Validator;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

static SCHEMA: LazyLock<Value> = LazyLock::new(crate::crd::schema);

fn document(spec: &Value) -> Value {
    json!({
        "apiVersion": "media.streamsession.io/v1alpha1",
        "kind": "StreamSession",
        "metadata": {"name": "front-door"},
        "spec": spec,
    })
}

fn session(spec: &Value) -> StreamSession {
    serde_json::from_value(document(spec)).unwrap_or_else(|error| panic!("{spec}: {error}"))
}

/// What CEL says of a session, with every default filled in as the API server does.
fn by_cel(document: &Value) -> BTreeSet<String> {
    match Validator::new().validate(&SCHEMA, document, None) {
        Ok(()) => BTreeSet::new(),
        Err(errors) => errors.iter().map(|error| error.message.clone()).collect(),
    }
}

fn by_validate(session: &StreamSession) -> BTreeSet<String> {
    session.validate().into_iter().map(|violation| violation.remedy).collect()
}

fn breaks(spec: Value, rules: &[&SpecRule]) {
    let session = session(&spec);
    let wanted: BTreeSet<String> = rules.iter().map(|rule| rule.remedy.to_owned()).collect();
    assert_eq!(by_validate(&session), wanted, "validate, of {spec}");
    assert_eq!(by_cel(&serde_json::to_value(&session).unwrap()), wanted, "CEL, of {spec}");
}

#[test]
fn good_specs_break_no_rule() {
    let external = json!({"endpoint": "https://s3.example.com", "bucket": "recordings"});
    for spec in [
        json!({}),
        json!({"limits": {"maxPublishers": 1, "maxSubscribersPerRoom": 1, "maxStreamsPerAccount": 1, "maxBitrate": 100_000}}),
        json!({"exposure": {"mediaPort": 65535, "announce": ["203.0.113.7", "203.0.113.7:31189", "2001:db8::7", "[2001:db8::7]:31189"]}}),
        json!({"exposure": {"type": "NodePort", "nodePort": 31189}, "turn": {"nodePort": 31478}}),
        json!({"exposure": {"ingress": {"host": "cams.example.com"}}}),
        json!({"http": {"allowedOrigins": ["https://console.example.com", "http://localhost:3000", "http://[2001:db8::7]:8080", "capacitor://localhost"]}}),
        json!({"http": {"trustedProxies": ["10.244.0.0/16", "192.0.2.7/32", "2001:db8::/48", "10.244.7.9/16"], "basePath": "/cams"}}),
        json!({"http": {"basePath": "/site-a/cams_1.x"}}),
        json!({"turn": {"mode": "External", "credentialTTL": "7d", "external": {"urls": ["turns:turn.example.com:443?transport=tcp"]}}}),
        json!({"turn": {"mode": "Disabled", "credentialTTL": "1m"}}),
        json!({"storage": {"mode": "External", "size": "1Gi", "external": external}}),
        json!({"recording": {"segmentDuration": "1s", "idleTimeout": "1h", "cleanupSchedule": "*/5 0-6 1,15 * MON"}}),
        json!({"recording": {"segmentDuration": "1m", "retention": {"maxAge": "90s", "maxBytes": "100Mi", "keepFree": "0%"}}}),
        json!({"recording": {"retention": {"maxAge": "3650d", "keepFree": "1.5Gi"}}}),
        json!({"auth": {"mode": "Open"}, "exposure": {"type": "ClusterIP"}}),
        json!({"auth": {"mode": "Open", "acknowledgeOpen": true}}),
        json!({"auth": {"mode": "Callback", "callback": {"url": "http://auth:80/check?x=1"}}}),
        json!({"auth": {"issuer": "i", "audience": "a", "jwks": {"url": "https://issuer.example.com/jwks.json"}}}),
        json!({"auth": {"issuer": "i", "audience": "a", "jwks": {"url": "http://127.0.0.1:9000/jwks.json"}}}),
        json!({"auth": {"secretRef": {"name": "jwt", "key": "secret"}}}),
        json!({"database": {"mode": "Postgres", "urlSecretRef": {"name": "db", "key": "url"}}}),
        json!({"drain": {"deadline": "1h"}}),
    ] {
        breaks(spec, &[]);
    }
}

#[test]
fn caps_below_one_are_refused() {
    breaks(json!({"limits": {"maxPublishers": 0}}), &[&MAX_PUBLISHERS]);
    breaks(json!({"limits": {"maxSubscribersPerRoom": 0}}), &[&MAX_SUBSCRIBERS]);
    breaks(json!({"limits": {"maxStreamsPerAccount": 0}}), &[&MAX_STREAMS]);
    breaks(json!({"limits": {"maxBitrate": "99k"}}), &[&MAX_BITRATE]);
    breaks(json!({"limits": {"maxBitrate": 8}}), &[&MAX_BITRATE]);
}

#[test]
fn gop_cache_outside_its_bounds_is_refused() {
    for good in ["1Mi", "16Mi", "256Mi"] {
        breaks(json!({"media": {"gopCache": good}}), &[]);
    }
    for bad in ["1023Ki", "257Mi", "1Gi", "0"] {
        breaks(json!({"media": {"gopCache": bad}}), &[&GOP_CACHE]);
    }
}

#[test]
fn addresses_that_no_peer_could_use_are_refused() {
    breaks(json!({"exposure": {"mediaPort": 0}}), &[&MEDIA_PORT]);
    for type_ in ["ClusterIP", "LoadBalancer", "HostPort"] {
        breaks(json!({"exposure": {"type": type_, "nodePort": 31189}}), &[&MEDIA_NODE_PORT]);
        breaks(json!({"exposure": {"type": type_}, "turn": {"nodePort": 31478}}), &[&TURN_NODE_PORT]);
    }
    breaks(json!({"exposure": {"nodePort": 0}}), &[&MEDIA_NODE_PORT]);
    breaks(json!({"turn": {"nodePort": 0}}), &[&TURN_NODE_PORT]);
    breaks(json!({"turn": {"mode": "Disabled", "nodePort": 31478}}), &[&TURN_NODE_PORT]);
    for address in [
        "cams.example.com",
        "",
        "203.0.113",
        "203.0.113.7:",
        "203.0.113.7:0",
        "2001:db8::7/64",
        "[::1]",
        "::ffff:203.0.113.7",
    ] {
        breaks(json!({"exposure": {"announce": ["203.0.113.7", address]}}), &[&ANNOUNCE]);
    }
    for host in ["", "https://cams.example.com", "cams.example.com/", "CAMS.example.com", "-a", "*.example.com"] {
        breaks(json!({"exposure": {"ingress": {"host": host}}}), &[&INGRESS_HOST]);
    }
}

#[test]
fn http_settings_that_cannot_work_are_refused() {
    for origin in [
        "",
        "*",
        "null",
        "console.example.com",
        "https://console.example.com/",
        "https://console.example.com:443",
        "http://localhost:80",
        "https://Console.example.com",
        "https://a.example.com https://b.example.com",
        "https://user@console.example.com",
        "https://*.example.com",
        "https://console.example.com:",
        "https://console.example.com:0",
    ] {
        breaks(json!({"http": {"allowedOrigins": ["https://ok.example.com", origin]}}), &[&ALLOWED_ORIGINS]);
    }
    for network in ["", "10.0.0.1", "10.0.0.0/33", "0.0.0.0/0", "::/0", "ingress.example.com"] {
        breaks(json!({"http": {"trustedProxies": ["10.244.0.0/16", network]}}), &[&TRUSTED_PROXIES]);
    }
    for path in [
        "cams",
        "/",
        "/cams/",
        "//cams",
        "/cams//a",
        "/../a",
        "/.a",
        "/a b",
        "/whip",
        "/assets/x",
        "/a%2F",
        "/config.json",
    ] {
        breaks(json!({"http": {"basePath": path}}), &[&BASE_PATH]);
    }
}

#[test]
fn external_is_there_exactly_when_the_mode_says_so() {
    let turn = json!({"urls": ["turn:turn.example.com:3478"]});
    let store = json!({"endpoint": "https://s3.example.com", "bucket": "recordings"});
    breaks(json!({"turn": {"mode": "External"}}), &[&TURN_EXTERNAL]);
    breaks(json!({"turn": {"mode": "Disabled", "external": turn}}), &[&TURN_EXTERNAL]);
    breaks(json!({"storage": {"mode": "External"}}), &[&STORAGE_EXTERNAL]);
    breaks(json!({"storage": {"external": store}}), &[&STORAGE_EXTERNAL]);
    breaks(json!({"auth": {"mode": "Callback"}}), &[&AUTH_CALLBACK]);
    breaks(json!({"auth": {"callback": {"url": "https://auth.example.com"}}}), &[&AUTH_CALLBACK]);
    breaks(json!({"database": {"mode": "Postgres"}}), &[&DATABASE_URL]);
    breaks(json!({"database": {"urlSecretRef": {"name": "db", "key": "url"}}}), &[&DATABASE_URL]);
}

/// A spec with a store elsewhere that has these fields, too.
fn external(fields: Value) -> Value {
    let mut store = json!({"endpoint": "https://s3.example.com", "bucket": "recordings"});
    store.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"storage": {"mode": "External", "external": store}})
}

#[test]
fn store_identity_fields_exclude_each_other() {
    let (identity, key) = (json!({"roleArn": "arn:aws:iam::1:role/r"}), json!({"name": "ca", "key": "ca.crt"}));
    for good in [
        json!({"prefix": "site-2/door/"}),
        json!({"prefix": "year=2026/a_b.c"}),
        json!({"webIdentity": identity}),
        json!({"webIdentity": {"roleArn": "r", "audience": "minio", "stsEndpoint": "https://minio:9000/sts"}}),
        json!({"caBundle": {"configMapKeyRef": key}}),
        json!({"caBundle": {"secretKeyRef": key}}),
    ] {
        breaks(external(good), &[]);
    }
    breaks(external(json!({"caBundle": {}})), &[&STORAGE_CA_BUNDLE]);
    breaks(external(json!({"caBundle": {"configMapKeyRef": key, "secretKeyRef": key}})), &[&STORAGE_CA_BUNDLE]);
    let both = json!({"webIdentity": identity, "credentialsSecretRef": {"name": "s3"}});
    breaks(external(both), &[&STORAGE_WEB_IDENTITY]);
    let mut delete = external(json!({"webIdentity": identity}));
    delete["recording"] = json!({"reclaimPolicy": "Delete"});
    breaks(delete, &[&RECLAIM_DELETE]);
}

#[test]
fn urls_of_another_scheme_are_refused() {
    for urls in [json!([]), json!(["https://turn.example.com"]), json!(["turn:a", "turn:"]), json!(["turn://a"])] {
        breaks(json!({"turn": {"mode": "External", "external": {"urls": urls}}}), &[&TURN_URLS]);
    }
    for endpoint in ["", "s3.example.com", "ftp://s3.example.com", "https://", "https:// s3"] {
        let external = json!({"endpoint": endpoint, "bucket": "recordings"});
        breaks(json!({"storage": {"mode": "External", "external": external}}), &[&STORAGE_ENDPOINT]);
    }
    for bucket in ["", "ab", "Recordings", "a_b_c", "-abc"] {
        let external = json!({"endpoint": "https://s3.example.com", "bucket": bucket});
        breaks(json!({"storage": {"mode": "External", "external": external}}), &[&STORAGE_BUCKET]);
    }
    for prefix in ["", "/", "/a", "a//b", "../a", "a/.b", "a b", "é"] {
        let external = json!({"endpoint": "https://s3.example.com", "bucket": "recordings", "prefix": prefix});
        breaks(json!({"storage": {"mode": "External", "external": external}}), &[&STORAGE_PREFIX]);
    }
    for endpoint in ["", "sts.example.com", "https://"] {
        let identity = json!({"roleArn": "arn:aws:iam::1:role/r", "stsEndpoint": endpoint});
        breaks(external(json!({"webIdentity": identity})), &[&STORAGE_STS_ENDPOINT]);
    }
    for url in ["", "auth.example.com", "https:///check"] {
        breaks(json!({"auth": {"mode": "Callback", "callback": {"url": url}}}), &[&CALLBACK_URL]);
    }
    for url in ["", "http://issuer.example.com/jwks.json", "http://localhost.example.com", "http://127.0.0.1:x/"] {
        breaks(json!({"auth": {"issuer": "i", "audience": "a", "jwks": {"url": url}}}), &[&JWKS_URL]);
    }
}

#[test]
fn durations_and_sizes_out_of_bounds_are_refused() {
    for ttl in ["59s", "8d", "169h"] {
        breaks(json!({"turn": {"credentialTTL": ttl}}), &[&TURN_CREDENTIAL_TTL]);
    }
    for duration in ["0s", "999ms", "61s", "1d"] {
        breaks(json!({"recording": {"segmentDuration": duration}}), &[&SEGMENT_DURATION]);
    }
    for duration in ["59s", "24h1s", "2d"] {
        breaks(json!({"recording": {"maxDuration": duration}}), &[&MAX_DURATION]);
    }
    for duration in ["1m", "1h", "24h", "1d"] {
        breaks(json!({"recording": {"maxDuration": duration}}), &[]);
    }
    for duration in ["0s", "1h1s", "1d"] {
        breaks(json!({"recording": {"idleTimeout": duration}}), &[&IDLE_TIMEOUT]);
        breaks(json!({"drain": {"deadline": duration}}), &[&DRAIN_DEADLINE]);
    }
    for timeout in ["99ms", "31s", "1d"] {
        let callback = json!({"url": "https://auth.example.com", "timeout": timeout});
        breaks(json!({"auth": {"mode": "Callback", "callback": callback}}), &[&CALLBACK_TIMEOUT]);
    }
    breaks(json!({"storage": {"size": "1023Mi"}}), &[&STORAGE_SIZE]);
    breaks(json!({"recording": {"retention": {"maxAge": "59s"}}}), &[&MAX_AGE]);
    breaks(json!({"recording": {"retention": {"maxBytes": "99Mi"}}}), &[&MAX_BYTES]);
    for schedule in ["", "hourly", "17 * * *", "17 * * * * *", "17  * * * *", "17 * * * ?"] {
        breaks(json!({"recording": {"cleanupSchedule": schedule}}), &[&CLEANUP_SCHEDULE]);
    }
}

#[test]
fn open_to_the_world_needs_to_be_acknowledged() {
    breaks(json!({"auth": {"mode": "Open"}}), &[&AUTH_OPEN]);
    let ingress = json!({"host": "cams.example.com"});
    breaks(json!({"auth": {"mode": "Open"}, "exposure": {"type": "ClusterIP", "ingress": ingress}}), &[&AUTH_OPEN]);
}

#[test]
fn keys_of_an_issuer_need_issuer_and_audience_and_stand_alone() {
    let jwks = json!({"url": "https://issuer.example.com/jwks.json"});
    breaks(json!({"auth": {"jwks": jwks}}), &[&JWKS_ISSUER, &JWKS_AUDIENCE]);
    breaks(json!({"auth": {"jwks": jwks, "issuer": "", "audience": "a"}}), &[&JWKS_ISSUER]);
    let secret = json!({"name": "jwt", "key": "secret"});
    breaks(json!({"auth": {"jwks": jwks, "issuer": "i", "audience": "a", "secretRef": secret}}), &[&AUTH_KEYS]);
}

#[test]
fn names_that_no_pod_can_have_are_refused() {
    for (name, good) in [
        ("front-door", true),
        ("a", true),
        (&"a".repeat(52) as &str, true),
        (&"a".repeat(53) as &str, false),
        ("front.door", false),
        ("1st", false),
        ("a-", false),
        ("Front", false),
    ] {
        let mut session = session(&json!({}));
        session.metadata.name = Some(name.to_owned());
        assert_eq!(session.validate().is_empty(), good, "{name}");
        assert_eq!(by_cel(&serde_json::to_value(&session).unwrap()).is_empty(), good, "{name}");
    }
}

#[test]
fn a_violation_names_field_value_and_remedy() {
    let violations = session(&json!({"limits": {"maxPublishers": 0}})).validate();
    assert_eq!(
        violations[0].to_string(),
        "spec.limits.maxPublishers is 0: maxPublishers: write how many cameras may stream at once, at least 1"
    );
}

#[test]
fn every_rule_stands_in_the_definition_and_points_at_a_field_that_exists() {
    let schema = crate::crd::schema();
    let spec = &schema["properties"]["spec"];
    let rules = spec["x-kubernetes-validations"].as_array().unwrap();
    assert_eq!(rules.len(), SPEC_RULES.len());
    for (written, rule) in rules.iter().zip(SPEC_RULES) {
        assert_eq!(written["rule"], rule.cel);
        let pointer = format!("/properties/{}", rule.field.replace('.', "/properties/"));
        assert!(spec.pointer(&pointer).is_some(), "{} is no field of the spec", rule.field);
        assert!(rule.remedy.contains("write "), "{}", rule.remedy);
    }
    assert_eq!(schema["x-kubernetes-validations"].as_array().unwrap().len(), 1);
}

/// Texts near the forms that scalars have.
fn scalar_like() -> impl Strategy<Value = String> {
    prop_oneof!["[0-9]{0,7}[.]?[0-9]{0,4}(h|m|s|ms|d|k|M|G|T|Ki|Mi|Gi|Ti|%|K|P| )?", "([0-9]{0,2}(h|m|s|ms|d)){0,5}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What the schema lets in can be decoded, and what it refuses cannot: else one object would stop the watch of all.
    #[test]
    fn the_schema_accepts_exactly_what_decodes(text in scalar_like()) {
        for (field, decodes) in [
            ("/spec/recording/retention/maxAge", text.parse::<DurationString>().is_ok()),
            ("/spec/recording/retention/maxBytes", text.parse::<Quantity>().is_ok()),
            ("/spec/recording/retention/keepFree", text.parse::<crate::KeepFree>().is_ok()),
        ] {
            let mut value = serde_json::to_value(session(&json!({}))).unwrap();
            let (parent, name) = field.rsplit_once('/').unwrap();
            value.pointer_mut(parent).unwrap()[name] = json!(text);
            let spec_remedies = [MAX_AGE.remedy, MAX_BYTES.remedy];
            let refused = by_cel(&value).into_iter().any(|message| !spec_remedies.contains(&message.as_str()));
            prop_assert_eq!(!refused, decodes, "{} = {:?}", field, text);
        }
    }
}
