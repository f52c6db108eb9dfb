//! Retention on a cluster: the CronJob deletes what the rules select and no more, and says so; a deleted session's objects
//! go by a Job in the operator's namespace.

use crate::harness::{
    Bucket, Credentials, Kube, Session, alone, camera, figure, install, number, open_http, second_store, text, until,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Namespace of the release.
const SYSTEM: &str = "streamsession-system";

/// Folders of the recordings of a bucket that have a manifest.
pub(crate) fn finished(bucket: &Bucket) -> BTreeSet<String> {
    bucket.list().keys().filter_map(|key| key.strip_suffix("/manifest.json").map(str::to_owned)).collect()
}

/// Cameras that come and go, one after the other: each leaves a recording in the store.
pub(crate) fn record(session: &Session, bucket: &Bucket, count: usize) -> BTreeSet<String> {
    let base = open_http(&session.kube, &session.name);
    let token = session.token("publish");
    for number in 0..count {
        let before = finished(bucket).len();
        let publisher = camera(&format!("{base}/whip/door-{number}"), &token, None);
        until("the session counts its camera", Duration::from_secs(30), || {
            let now = session.get()["status"]["publishers"].clone();
            if now == 1 { Ok(()) } else { Err(now.to_string()) }
        });
        drop(publisher);
        until("the recording is in the store", Duration::from_secs(60), || match finished(bucket).len() {
            now if now > before => Ok(()),
            now => Err(format!("{now} recordings")),
        });
        until("the session counts no camera", Duration::from_secs(60), || {
            let now = session.get()["status"]["publishers"].clone();
            if now == 0 { Ok(()) } else { Err(now.to_string()) }
        });
    }
    finished(bucket)
}

/// A counter of the operator's, in all its series.
fn counter(name: &str) -> f64 {
    let system = Kube::namespace(SYSTEM);
    let path = format!("/api/v1/namespaces/{SYSTEM}/services/streamsession-operator:8080/proxy/metrics");
    let page = system.kubectl(&["get", "--raw", &path]);
    let lines = page.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

pub(crate) fn lean(more: Value) -> Value {
    let mut spec = json!({
        "turn": {"mode": "Disabled"}, "recording": {"segmentDuration": "2s", "idleTimeout": "1s"},
        "storage": {"mode": "Managed", "size": "1Gi"},
    });
    for (group, fields) in more.as_object().unwrap() {
        if spec[group].is_null() {
            spec[group] = json!({});
        }
        spec[group].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    }
    spec
}

#[test]
fn recordings_age_out_by_the_schedule_and_what_is_held_stays() {
    let _turn = alone();
    install();
    let kube = Kube::fresh("cleanup-age");
    let session = Session::apply(&kube, "tidy", &lean(json!({})));
    session.wait_ready(Duration::from_secs(60));
    let store = kube.forward("service/tidy-store", 9000);
    let bucket = Bucket::at(store.local, "recordings", Credentials::of(&kube, "tidy-store"));
    let recorded = record(&session, &bucket, 3);
    assert_eq!(recorded.len(), 3);
    let begin = Instant::now();
    let held = recorded.first().unwrap().clone();
    bucket.touch(&format!("{held}/hold"));
    let objects = |folder: &str| bucket.list().keys().filter(|key| key.starts_with(folder)).count();
    let (all, of_held) = (bucket.list().len(), objects(&held));
    let (cleaned, deleted) = (
        counter("streamsession_operator_cleanups_total{result=\"ok\"}"),
        counter("streamsession_operator_cleanup_deleted_recordings_total"),
    );
    // What a dry run says is what goes. By flags: the pod sees a changed document only after a while.
    let dry = until("a dry run finds two that are old enough", Duration::from_secs(90), || {
        let said = kube.attempt(
            &[
                "exec",
                "tidy-0",
                "-c",
                "media",
                "--",
                "/media-server",
                "recordings",
                "prune",
                "--orphans",
                "--max-age=1m",
                "--dry-run",
                "--json",
            ],
            "",
        );
        let document: Value = serde_json::from_slice(&said.stdout).map_err(|error| format!("{error}: {said:?}"))?;
        if document["deleted"]["recordings"] == 2 { Ok(document) } else { Err(document.to_string()) }
    });
    assert_eq!(dry["kept"]["held"], 1, "{dry:#}");
    session.patch(json!({"recording": {"retention": {"maxAge": "1m"}, "cleanupSchedule": "* * * * *"}}));
    let told = until("a clean-up has deleted them", Duration::from_secs(120), || {
        let told = session.get()["status"]["cleanup"].clone();
        if told["recordings"] == 2 { Ok(told) } else { Err(told.to_string()) }
    });
    assert_eq!(finished(&bucket), BTreeSet::from([held.clone()]));
    assert_eq!(bucket.list().len(), of_held, "{:?}", bucket.list());
    assert_eq!(number(&told, "/bytes"), number(&dry, "/deleted/bytes"), "{told:#} {dry:#}");
    assert_eq!(told["succeeded"], true, "{told:#}");
    let event = kube.event("tidy", "CleanedUp", Duration::from_secs(10));
    assert!(event.contains("2 recordings") && event.contains("1 held"), "{event}");
    until("the metrics count it", Duration::from_secs(15), || {
        let now = (
            counter("streamsession_operator_cleanups_total{result=\"ok\"}") - cleaned,
            counter("streamsession_operator_cleanup_deleted_recordings_total") - deleted,
        );
        if now.0 >= 1.0 && now.1 == 2.0 { Ok(()) } else { Err(format!("{now:?}")) }
    });
    figure(&format!(
        "clean-up by schedule: {all} objects before, {of_held} after (held), {} s after the last recording: {}",
        begin.elapsed().as_secs(),
        text(&told, "/message")
    ));
    // What the server says is kept follows.
    until("the session counts one recording", Duration::from_secs(30), || {
        let now = session.get()["status"]["recordings"]["count"].clone();
        if now == 1 { Ok(()) } else { Err(now.to_string()) }
    });
}

#[test]
fn a_clean_up_that_cannot_run_to_its_end_is_told() {
    let _turn = alone();
    install();
    let kube = Kube::fresh("cleanup-fails");
    let (store, credentials) = second_store(&kube);
    Bucket::at(store.local, "kept", credentials.clone()).create();
    credentials.store(&kube, "kept-s3");
    let external = json!({
        "mode": "External",
        "external": {"endpoint": "http://second-store.cleanup-fails.svc:7070", "bucket": "kept", "credentialsSecretRef": {"name": "kept-s3"}},
    });
    let session = Session::apply(&kube, "untidy", &lean(json!({"storage": external})));
    session.wait_ready(Duration::from_secs(60));
    kube.kubectl(&["scale", "deployment/second-store", "--replicas=0"]);
    kube.kubectl(&["create", "job", "untidy-now", "--from=cronjob/untidy"]);
    let event = kube.event("untidy", "CleanupFailed", Duration::from_secs(90));
    let told = session.get()["status"]["cleanup"].clone();
    assert!(event.contains("store") && told["succeeded"] == false, "{event} {told:#}");
    kube.delete("job", "untidy-now");
}

#[test]
fn objects_of_a_deleted_session_go_by_a_job_in_the_operators_namespace() {
    let _turn = alone();
    install();
    let (kube, system) = (Kube::fresh("cleanup-gone"), Kube::namespace(SYSTEM));
    let (store, credentials) = second_store(&kube);
    let bucket = Bucket::at(store.local, "gone", credentials.clone());
    bucket.create();
    credentials.store(&kube, "gone-s3");
    let external = json!({
        "mode": "External",
        "external": {"endpoint": "http://second-store.cleanup-gone.svc:7070", "bucket": "gone", "credentialsSecretRef": {"name": "gone-s3"}},
    });
    let spec = lean(json!({"storage": external, "recording": {"reclaimPolicy": "Delete"}}));
    let session = Session::apply(&kube, "gone", &spec);
    session.wait_ready(Duration::from_secs(60));
    let recorded = record(&session, &bucket, 2);
    let held = recorded.first().unwrap().clone();
    bucket.touch(&format!("{held}/hold"));
    bucket.touch("cleanup-gone/another/door/0199aaaa-0000-7000-8000-000000000000/manifest.json");
    let before = bucket.list();
    let of_held = before.keys().filter(|key| key.starts_with(&held)).count();
    let copies =
        || system.list("secret", "app.kubernetes.io/name=streamsession-reclaim,app.kubernetes.io/instance=gone").len();
    assert_eq!(copies(), 1, "the keys are copied while all is well");
    let begin = Instant::now();
    kube.kubectl(&["delete", "streamsession", "gone", "--wait=true", "--timeout=90s"]);
    let took = begin.elapsed();
    let after = bucket.list();
    let left: Vec<&String> = after.keys().filter(|key| !key.starts_with(&held)).collect();
    // While a held recording is left, the prefix keeps its owner.
    let expected = [
        "cleanup-gone/another/door/0199aaaa-0000-7000-8000-000000000000/manifest.json",
        "cleanup-gone/gone/.streamsession-owner.json",
    ];
    assert_eq!(left, expected, "{after:?}");
    assert_eq!(after.len(), of_held + 2);
    let jobs = system.list("job", "app.kubernetes.io/name=streamsession-reclaim,app.kubernetes.io/instance=gone");
    assert_eq!(jobs.len(), 1);
    assert_eq!(number(&jobs[0], "/status/succeeded"), Some(1.0), "{:#}", jobs[0]["status"]);
    assert_eq!(copies(), 0, "no keys are left behind");
    let event = kube.event("gone", "RecordingsDeleted", Duration::from_secs(10));
    assert!(event.contains("1 recording,") && event.contains("1 held"), "{event}");
    assert!(kube.find("pvc", "gone-data").is_none_or(|claim| !claim["metadata"]["deletionTimestamp"].is_null()));
    figure(&format!(
        "reclaimPolicy Delete: {} objects before, {} after (held, and another session's), gone {:.1} s after kubectl delete",
        before.len(),
        after.len(),
        took.as_secs_f64()
    ));
}
