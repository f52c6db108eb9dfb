//! What somebody deletes or edits of a session is restored once, and the operator comes to rest after that.

use crate::aborted::wait_in_force;
use crate::harness::{Kube, Session, alone, figure, text, until};
use crate::local::{Post, sleep_until};
use crate::oracle::{log, told, wait_quiet, written};
use crate::release::Away;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use streamsession_tests::faults::audit::Mark;

/// For what is watched.
const SOON: Duration = Duration::from_secs(10);
/// For Secrets: they are read by name, every half minute.
const SECRETS: Duration = Duration::from_secs(60);
/// In which a loop would show.
const LOOP: Duration = Duration::from_secs(30);

/// Kind, name, and an edit of what the operator has written, as a merge patch.
fn children() -> Vec<(&'static str, String, Value)> {
    let name = |suffix: &str| format!("whole{suffix}");
    vec![
        ("serviceaccount", name(""), json!({"automountServiceAccountToken": true})),
        ("configmap", name(""), json!({"data": {"session.yaml": "spoilt"}})),
        ("service", name(""), json!({"spec": {"ports": [{"name": "http", "port": 81, "targetPort": 9}]}})),
        ("service", name("-media"), json!({"spec": {"selector": {"media.streamsession.io/session": "nobody"}}})),
        ("service", name("-turn"), json!({"spec": {"selector": {"app": "nothing"}}})),
        ("service", name("-store"), json!({"spec": {"selector": {"media.streamsession.io/session": null}}})),
        ("networkpolicy", name(""), json!({"spec": {"ingress": [{}]}})),
        ("poddisruptionbudget", name(""), json!({"spec": {"maxUnavailable": 0}})),
        ("ingress", name(""), json!({"spec": {"rules": [{"host": "elsewhere.example.com"}]}})),
        ("cronjob", name(""), json!({"spec": {"schedule": "0 0 1 1 *"}})),
        ("statefulset", name(""), json!({"spec": {"replicas": 0}})),
    ]
}

fn secrets() -> Vec<String> {
    ["-admin", "-keys", "-turn", "-store"].iter().map(|suffix| format!("whole{suffix}")).collect()
}

fn spec() -> Value {
    json!({
        "exposure": {"ingress": {"host": "restored.example.com"}}, "storage": {"mode": "Managed", "size": "1Gi"},
        "recording": {"reclaimPolicy": "WaitForUploads"},
    })
}

#[test]
fn each_child_that_is_edited_or_deleted_is_restored_once() {
    let _turn = alone();
    let _away = Away::begin();
    let post = Post::new("faults-restored");
    let mut operator = post.operator().wait_ready();
    let session = Session::apply(&post.kube, "whole", &spec());
    wait_in_force(&session, Duration::from_secs(120));
    wait_quiet(&post.kube.namespace, &post.user, Duration::from_secs(3), Duration::from_secs(60));
    // What this operator makes and is not in the list above would not be tested.
    let listed = children().len() + secrets().len();
    let kinds = "serviceaccounts,configmaps,services,networkpolicies,poddisruptionbudgets,ingresses,statefulsets,cronjobs,secrets";
    let there = post.kube.list(kinds, "media.streamsession.io/session=whole,app.kubernetes.io/managed-by");
    let names: Vec<String> =
        there.iter().map(|object| format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"))).collect();
    assert_eq!(names.len(), listed, "{names:?}");

    let mut times = Vec::new();
    let mark = log().mark();
    for (kind, name, edit) in children() {
        let before = told_of(&post.kube, kind, &name);
        post.kube.patch(kind, &name, &edit);
        // It may be restored by now: that it was edited shows in what the operator wrote.
        times.push(restored(&post.kube, kind, &name, SOON, |object| spoken(object) == before));
    }
    sleep_until(Instant::now() + LOOP);
    once(&post, &mark, &children().iter().map(|(kind, name, _)| (*kind, name.clone())).collect::<Vec<_>>(), "edited");
    figure(&format!("{} children edited: each restored once, {}", times.len(), spread(&times)));

    wait_in_force(&session, Duration::from_secs(60));
    wait_quiet(&post.kube.namespace, &post.user, Duration::from_secs(3), Duration::from_secs(60));
    let (mark, mut times, mut all) = (log().mark(), Vec::new(), Vec::new());
    let deleted = children().into_iter().map(|(kind, name, _)| (kind, name, SOON));
    for (kind, name, limit) in deleted.chain(secrets().into_iter().map(|name| ("secret", name, SECRETS))) {
        let uid = text(&post.kube.get(kind, &name), "/metadata/uid");
        // The pod is no child of ours: it stays when its StatefulSet goes.
        post.kube.kubectl(&["delete", kind, &name, "--cascade=orphan", "--wait=false"]);
        times.push(restored(&post.kube, kind, &name, limit, |object| text(object, "/metadata/uid") != uid));
        all.push((kind, name));
    }
    sleep_until(Instant::now() + LOOP);
    once(&post, &mark, &all, "deleted");
    wait_in_force(&session, Duration::from_secs(120));
    operator.assert_running();
    figure(&format!("{} children deleted: each restored once, {}", times.len(), spread(&times)));
}

/// What an object says, without what the cluster says of it.
fn spoken(object: &Value) -> Value {
    let parts = ["spec", "data", "automountServiceAccountToken"];
    parts.iter().map(|part| object[*part].clone()).collect()
}

fn told_of(kube: &Kube, kind: &str, name: &str) -> Value {
    spoken(&kube.get(kind, name))
}

fn restored(kube: &Kube, kind: &str, name: &str, limit: Duration, is: impl Fn(&Value) -> bool) -> f64 {
    let begin = Instant::now();
    until(&format!("{kind} {name} is restored"), limit, || match kube.find(kind, name) {
        Some(object) if is(&object) => Ok(begin.elapsed().as_secs_f64()),
        other => Err(format!("{other:?}")),
    })
}

/// Each of these was written once by the operator; twice where what somebody had put into a list made the whole invalid,
/// so that the list had to be replaced first.
fn once(post: &Post, mark: &Mark, children: &[(&str, String)], how: &str) {
    let entries = written(mark, &post.kube.namespace, &post.user);
    for (kind, name) in children {
        let plurals = [format!("{kind}s"), format!("{kind}es"), format!("{}ies", kind.trim_end_matches('y'))];
        let of = |resource: &str| resource.rsplit('/').next().is_some_and(|last| plurals.iter().any(|one| one == last));
        let mine: Vec<_> = entries.iter().filter(|entry| entry.name == *name && of(&entry.resource)).collect();
        let wanted = if mine.iter().any(|entry| entry.code == 422) { 2 } else { 1 };
        let done = mine.iter().filter(|entry| entry.code < 300).count();
        assert_eq!(done, wanted, "{kind} {name} was {how}; what the operator wrote:\n{}", told(&entries));
    }
}

fn spread(times: &[f64]) -> String {
    let most = times.iter().copied().fold(0.0, f64::max);
    format!("after {:.1} s on average and {most:.1} s at most", times.iter().sum::<f64>() / times.len() as f64)
}
