//! What holds for every spec: the restricted Pod Security standard, names that fit, secrets that stay in Secrets.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{session, session_named, specs, world::World};
use crate::plan::{Apply, Kind, Random, children, own_secrets, plan};

/// What the restricted standard (and baseline below it) objects to in a pod's spec. Host ports are left out: they are
/// what exposure.type HostPort asks for.
fn objections(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut object = |wrong: bool, what: String| {
        if wrong {
            found.push(what);
        }
    };
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        object(pod[field] == true, field.to_owned());
    }
    let of_pod = &pod["securityContext"];
    object(!of_pod["sysctls"].is_null(), "sysctls".to_owned());
    let kinds =
        ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        let known = volume.as_object().unwrap().keys().all(|key| key == "name" || kinds.contains(&key.as_str()));
        object(!known, format!("volume {volume}"));
    }
    for container in all_containers(pod) {
        let (name, own) = (&container["name"], &container["securityContext"]);
        let either = |field: &str| if own[field].is_null() { &of_pod[field] } else { &own[field] };
        object(own["privileged"] == true, format!("{name} is privileged"));
        object(own["allowPrivilegeEscalation"] != false, format!("{name} may escalate"));
        object(own["capabilities"]["drop"] != json!(["ALL"]), format!("{name} keeps capabilities"));
        // The standard lets every container add this one; ours alone is the relay's.
        let added = &own["capabilities"]["add"];
        let allowed = added.is_null() || *name == "turn" && *added == json!(["NET_BIND_SERVICE"]);
        object(!allowed, format!("{name} adds capabilities"));
        object(*either("runAsNonRoot") != true, format!("{name} may be root"));
        object(*either("runAsUser") == 0, format!("{name} is root"));
        let seccomp = either("seccompProfile");
        object(
            !["RuntimeDefault", "Localhost"].iter().any(|type_| seccomp["type"] == *type_),
            format!("{name} seccomp"),
        );
        // Ours beyond the standard.
        object(own["readOnlyRootFilesystem"] != true, format!("{name} writes to its root"));
        object(container["resources"]["requests"]["memory"].is_null(), format!("{name} requests nothing"));
    }
    object(pod["automountServiceAccountToken"] != false, "a token is mounted".to_owned());
    object(pod["enableServiceLinks"] != false, "service links".to_owned());
    found
}

fn all_containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let list = |field: &str| pod[field].as_array().into_iter().flatten();
    list("initContainers").chain(list("containers"))
}

#[test]
fn the_check_itself_objects() {
    let good = json!({
        "automountServiceAccountToken": false, "enableServiceLinks": false,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "resources": {"requests": {"memory": "1"}}, "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
        }}],
    });
    assert!(objections(&good).is_empty());
    for (pointer, value) in [
        ("/hostNetwork", json!(true)),
        ("/securityContext/runAsNonRoot", json!(false)),
        ("/securityContext/seccompProfile/type", json!("Unconfined")),
        ("/containers/0/securityContext/allowPrivilegeEscalation", json!(true)),
        ("/containers/0/securityContext/capabilities/drop", json!([])),
        ("/containers/0/securityContext/capabilities/add", json!(["NET_BIND_SERVICE"])),
        ("/containers/0/securityContext/readOnlyRootFilesystem", json!(null)),
        ("/volumes", json!([{"name": "v", "hostPath": {"path": "/"}}])),
    ] {
        let mut bad = good.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[key] = value;
        assert_eq!(objections(&bad).len(), 1, "{pointer}: {:?}", objections(&bad));
    }
}

/// Every secret value of this world.
fn values(world: &World) -> Vec<String> {
    let observed = world.observe();
    let data = observed.secrets.values().flat_map(|secret| secret.0.data.clone().unwrap_or_default().into_values());
    data.map(|value| String::from_utf8(value.0).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_pod_is_restricted(spec in specs::spec()) {
        let mut world = World::new(session(&spec));
        world.settle();
        let pod = &world.pod.as_ref().unwrap()["spec"];
        let resources = !spec["pod"]["resources"].is_null();
        let objections: Vec<String> = objections(pod)
            .into_iter()
            .filter(|text| !(resources && text.contains("requests nothing")))
            .collect();
        prop_assert_eq!(objections, Vec::<String>::new());
        let host_ports = pod.to_string().contains("hostPort");
        prop_assert_eq!(host_ports, spec["exposure"]["type"] == "HostPort");
    }

    /// Every mount has its volume and every volume its mount, at paths that are no other's.
    #[test]
    fn volumes_and_mounts_belong_together(spec in specs::spec()) {
        let mut world = World::new(session(&spec));
        world.settle();
        let pod = &world.pod.as_ref().unwrap()["spec"];
        let volumes: Vec<&str> = pod["volumes"].as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap()).collect();
        let mut mounted = Vec::new();
        for container in all_containers(pod) {
            let mounts = container["volumeMounts"].as_array().unwrap();
            let mut paths: Vec<&str> = mounts.iter().map(|mount| mount["mountPath"].as_str().unwrap()).collect();
            paths.sort_unstable();
            let count = paths.len();
            paths.dedup();
            prop_assert_eq!(paths.len(), count);
            mounted.extend(mounts.iter().map(|mount| mount["name"].as_str().unwrap()));
            for arg in container["args"].as_array().into_iter().chain(container["command"].as_array()).flatten() {
                let arg = arg.as_str().unwrap();
                if arg.starts_with("/etc/") {
                    prop_assert!(paths.iter().any(|path| arg.starts_with(path)), "{} is not mounted", arg);
                }
            }
        }
        for volume in &volumes {
            prop_assert!(mounted.contains(volume), "{} is mounted nowhere", volume);
        }
        for mount in mounted {
            prop_assert!(volumes.contains(&mount), "{} is no volume", mount);
        }
    }

    #[test]
    fn secrets_stay_in_secrets(spec in specs::spec()) {
        let mut world = World::new(session(&spec));
        world.settle();
        let values = values(&world);
        prop_assert!(!values.is_empty());
        let status = serde_json::to_string(&world.session.status).unwrap();
        let others: Vec<String> = world
            .objects
            .iter()
            .filter(|(child, _)| child.kind != Kind::Secret)
            .map(|(_, object)| object.to_string())
            .chain([world.pod.as_ref().unwrap().to_string(), status, world.events.join("\n")])
            .collect();
        for value in &values {
            prop_assert!(others.iter().all(|text| !text.contains(value.as_str())));
        }
    }

    #[test]
    fn nothing_shows_a_secret_by_debug(spec in specs::spec()) {
        use k8s_openapi::ByteString;
        let mut world = World::new(session(&spec));
        let fresh = format!("{:?}", world.plan());
        world.settle();
        let kept = format!("{:?}", world.observe());
        for value in values(&world) {
            let encoded = serde_json::to_value(ByteString(value.clone().into_bytes())).unwrap();
            for text in [&fresh, &kept] {
                prop_assert!(!text.contains(&value) && !text.contains(encoded.as_str().unwrap()));
            }
        }
    }

    #[test]
    fn every_name_fits_with_the_longest_name_of_a_session(spec in specs::spec()) {
        let name = format!("a{}", "b".repeat(51));
        let mut world = World::new(session_named(&name, &spec));
        prop_assert_eq!(world.session.validate(), vec![]);
        world.settle();
        let names = children(&world.session).into_iter().map(|child| child.name).chain(own_secrets(&world.session));
        for name in names {
            prop_assert!(name.len() <= 63, "{} has {} characters", name, name.len());
        }
        let mut texts = vec![world.pod.clone().unwrap()];
        texts.extend(world.objects.values().cloned());
        for object in texts {
            for (key, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
                prop_assert!(value.as_str().unwrap().len() <= 63, "label {} of {}", key, object["kind"]);
            }
            // The controller labels the pod with its revision: NAME-HASH with a hash of ten characters.
            prop_assert!(name.len() + 11 <= 63);
        }
        for container in all_containers(&world.pod.as_ref().unwrap()["spec"]) {
            for port in container["ports"].as_array().into_iter().flatten() {
                prop_assert!(port["name"].as_str().unwrap().len() <= 15);
            }
        }
    }
}

#[test]
fn no_write_names_a_secret_value_in_its_hash() {
    let world = World::new(session(&json!({})));
    let hashes = |seed: u8| -> Vec<String> {
        let plan = plan(&world.session, &world.settings, &world.observe(), Random([seed; 32]));
        let others = plan.apply.iter().filter(|apply| apply.child.kind != Kind::Secret);
        others.map(|Apply { object, .. }| object.to_string()).collect()
    };
    assert_eq!(hashes(1), hashes(2), "what is random stands in Secrets alone");
}
