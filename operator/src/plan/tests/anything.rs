//! Whatever is seen, the planner makes a plan and does not panic.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{session, specs, start, world::World};
use crate::plan::{
    Child, Kind, Observed, PushRefused, Random, Refusal, ServerError, ServerReport, Warning, children, plan,
};

/// JSON of any form, not deep.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        "[ -~]{0,12}|é{0,4}|[0-9]{1,30}(Ki|m|e9)?".prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("spec|metadata|status|ports|type|labels|[a-z]{1,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// States of containers as kubelets tell them.
fn pod_status() -> impl Strategy<Value = Value> {
    let reason = prop::sample::select(vec![
        "ContainerCreating",
        "ImagePullBackOff",
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "Novelty",
    ]);
    let state = prop_oneof![
        (reason, ".{0,500}").prop_map(|(reason, message)| json!({"waiting": {"reason": reason, "message": message}})),
        Just(json!({"running": {"startedAt": "2026-11-22T11:59:59Z"}})),
        (any::<i32>(), prop::option::of("(.{0,300}\n){0,3}"))
            .prop_map(|(code, message)| json!({"terminated": {"exitCode": code, "message": message}})),
        Just(json!({})),
    ];
    let container = (
        prop::sample::select(vec!["media", "turn", "store", "install", "sidecar"]),
        state.clone(),
        state,
        any::<bool>(),
        any::<i32>(),
    )
        .prop_map(|(name, state, last, ready, restarts)| {
            json!({"name": name, "image": "", "imageID": "", "ready": ready, "restartCount": restarts, "state": state, "lastState": last})
        });
    (
        prop::collection::vec(container, 0..4),
        prop::sample::select(vec!["Pending", "Running", "Failed", "Unknown"]),
        prop::sample::select(vec!["True", "False", "Unknown"]),
        prop::option::of("[0-9.:a-f]{0,20}"),
    )
        .prop_map(|(containers, phase, status, ip)| {
            json!({
                "phase": phase, "podIP": ip, "hostIP": ip, "containerStatuses": containers,
                "conditions": [{"type": "PodScheduled", "status": status, "reason": "Unschedulable"}, {"type": "Ready", "status": status}],
            })
        })
}

fn report() -> impl Strategy<Value = Option<Result<ServerReport, ServerError>>> {
    let good = (any::<i64>(), any::<bool>(), any::<u32>(), any::<bool>(), ".{0,40}", any::<u64>()).prop_map(
        |(generation, draining, publishers, ok, text, number)| {
            let mut report = ServerReport { generation, draining, publishers, ..ServerReport::default() };
            report.announced = vec![text.clone()];
            report.store.ok = ok;
            report.store.reason = Some(text.clone());
            report.turn.ok = ok;
            report.uploads.message = Some(text);
            report.uploads.oldest_pending_seconds = Some(number);
            report.recordings.bytes = number;
            Some(Ok(report))
        },
    );
    prop_oneof![
        good,
        ".{0,900}".prop_map(|why| Some(Err(ServerError::Unreachable(why)))),
        Just(Some(Err(ServerError::Unauthorized))),
        Just(None),
    ]
}

/// A pod that is ours with any status, and claims of events about it.
fn disturbed(observed: &mut Observed, status: Value, why: &str) {
    if let Some(pod) = &mut observed.pod {
        pod.status = serde_json::from_value(status).ok();
    }
    for (about, reason) in
        [("Pod", "FailedMount"), ("StatefulSet", "FailedCreate"), ("PersistentVolumeClaim", "ProvisioningFailed")]
    {
        let (about, reason) = (about.to_owned(), reason.to_owned());
        observed.warnings.push(Warning { about, reason, message: why.to_owned(), at: start() });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_observation_makes_it_panic(
        spec in specs::spec(),
        replaced in prop::collection::vec((0..11_usize, json_value()), 0..5),
        status in pod_status(),
        server in report(),
        why in ".{0,600}",
        later in -100_000..100_000_i64,
        settled in any::<bool>(),
    ) {
        let mut world = World::new(session(&spec));
        if settled {
            world.settle();
        } else {
            world.pass();
        }
        let mut observed = world.observe();
        let all = children(&world.session);
        for (index, value) in replaced {
            // Under the right name, and as ours or not.
            let mut object = observed.children.get(&all[index]).cloned().unwrap_or(json!({}));
            for part in ["spec", "status"] {
                object[part] = value.clone();
            }
            observed.children.insert(all[index].clone(), if value.is_object() { value } else { object });
        }
        disturbed(&mut observed, status, &why);
        observed.server = server;
        observed.server_failing_since = Some(start());
        observed.now += jiff::SignedDuration::from_secs(later);
        observed.refusals = vec![Refusal { child: Child { kind: Kind::Service, name: why.clone() }, message: why.clone() }];
        observed.push_refused = Some(PushRefused { generation: 1, message: why });
        let plan = plan(&world.session, &world.settings, &observed, Random([7; 32]));
        for note in &plan.events {
            prop_assert!(note.message.len() <= 1024 && !note.reason.is_empty());
        }
        for condition in plan.status.iter().flat_map(|status| &status.conditions) {
            // What the API server asks of conditions.
            prop_assert!(condition.message.len() <= 32_768);
            prop_assert!(condition.reason.len() <= 1024 && condition.reason.starts_with(|c: char| c.is_ascii_alphabetic()));
            prop_assert!(["True", "False", "Unknown"].contains(&condition.status.as_str()));
        }
    }
}
