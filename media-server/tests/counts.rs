//! What a dry run of `media-server recordings prune` says, what the real run says, and what is missing afterwards in the
//! listings of store and folder are the same numbers: for each rule, on MinIO and on Versity's gateway.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[allow(dead_code)]
mod made;
#[allow(dead_code)]
mod running;

use made::{Made, Make};
use running::{Kind, Ran, Running, key};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn minio_holds_what_was_counted() {
    Running::start(Kind::Minio).iter().for_each(each_rule);
}

#[test]
fn versitys_gateway_holds_what_was_counted() {
    Running::start(Kind::Versity).iter().for_each(each_rule);
}

fn each_rule(store: &Running) {
    age(store);
    bytes(store);
    free_space(store);
    orphans(store);
    all(store);
    no_bucket(store);
}

/// Everything that lies in the store and in the folder beside it, with its length.
fn everything(store: &Running) -> BTreeSet<(String, u64)> {
    let mut all: BTreeSet<_> = store.listed().into_iter().collect();
    for folder in fs::read_dir(store.recordings()).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            let file = file.unwrap();
            all.insert((file.path().display().to_string(), file.metadata().unwrap().len()));
        }
    }
    all
}

/// Runs it dry and in earnest, and compares; gives what the real run says.
fn counted(store: &Running, what: &str, prune: impl Fn(&str) -> Ran) -> Value {
    let report = store.place.path().join("report");
    let report = report.to_str().unwrap();
    let before = everything(store);
    let dry = prune(&format!("--dry-run --json --report {report}"));
    assert_eq!(dry.code, 0, "{what}: {}", dry.err);
    let told_dry: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(everything(store), before, "{what}: a dry run deletes nothing");
    let real = prune(&format!("--yes --json --report {report}"));
    assert_eq!(real.code, 0, "{what}: {}", real.err);
    let told: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let after = everything(store);
    assert!(after.is_subset(&before), "{what}: nothing is new");
    let gone: Vec<_> = before.difference(&after).collect();

    let (dry, real) = (dry.json(), real.json());
    assert_eq!((&dry["dryRun"], &real["dryRun"]), (&json!(true), &json!(false)));
    for part in ["recordings", "orphans", "debris", "deleted", "kept", "overBytes", "shortBytes"] {
        // Free space is what other programs leave.
        if (what, part) != ("free space", "shortBytes") {
            assert_eq!(dry[part], real[part], "{what}: {part}");
        }
    }
    assert_eq!(real["deleted"]["files"], gone.len(), "{what}: {gone:?}");
    assert_eq!(real["deleted"]["bytes"], gone.iter().map(|(_, bytes)| bytes).sum::<u64>(), "{what}");
    for part in ["recordings", "orphans", "debris", "bytes"] {
        assert_eq!((&told[part], &told_dry[part]), (&real["deleted"][part], &real["deleted"][part]), "{what}: {part}");
    }
    assert_eq!((&told["kept"], &told["failures"]), (&real["kept"], &json!([])), "{what}");
    real
}

/// Where folder and store are named by flags.
fn beside(store: &Running) -> impl Fn(&str) -> Ran {
    move |words| store.run(&format!("prune {words} --dir {}", store.recordings().display()))
}

fn make(store: &Running, started_at: &'static str) -> Made {
    let made = Make { started_at, ..Make::default() }.within(&store.recordings());
    store.upload(&made);
    made
}

/// In the store alone.
fn stored(store: &Running, started_at: &'static str) -> Made {
    let made = make(store, started_at);
    fs::remove_dir_all(&made.folder).unwrap();
    made
}

fn has(store: &Running, made: &Made) -> bool {
    store.keys().iter().any(|key| key.contains(&made.id))
}

/// Begins anew.
fn clear(store: &Running) {
    let left = store.run(&format!("list --json --dir {}", store.recordings().display())).json();
    for one in left["recordings"].as_array().unwrap() {
        store.remove(&format!("{}/{}/hold", one["room"].as_str().unwrap(), one["id"].as_str().unwrap()));
    }
    let _ = fs::remove_dir_all(store.recordings());
    fs::create_dir(store.recordings()).unwrap();
    let ran = store.run("prune --all --orphans --orphan-age 0s --yes");
    assert!(ran.code == 0 && store.keys().is_empty(), "{} {:?}", ran.err, store.keys());
}

fn age(store: &Running) {
    let (both, alone, held, young) = (
        make(store, "2026-05-01T00:00:00Z"),
        stored(store, "2026-05-02T00:00:00Z"),
        stored(store, "2026-05-03T00:00:00Z"),
        stored(store, "2099-05-04T00:00:00Z"),
    );
    store.put(&key(&held, "hold"), Vec::new());
    let real = counted(store, "age", |words| beside(store)(&format!("--max-age 1h {words}")));
    assert_eq!((&real["deleted"]["recordings"], &real["kept"]["held"]), (&json!(2), &json!(1)));
    assert!(!has(store, &both) && !both.folder.exists() && !has(store, &alone));
    assert!(has(store, &held) && has(store, &young));
    clear(store);
}

fn bytes(store: &Running) {
    let all = [
        stored(store, "2026-05-01T00:00:00Z"),
        stored(store, "2026-05-02T00:00:00Z"),
        stored(store, "2026-05-03T00:00:00Z"),
    ];
    let bytes: u64 = store.listed().iter().map(|(_, bytes)| bytes).sum();
    let first: u64 = store.listed().iter().filter(|(key, _)| key.contains(&all[0].id)).map(|(_, bytes)| bytes).sum();
    let most = bytes - first - 1;
    let real = counted(store, "bytes", |words| store.run(&format!("prune --max-bytes {most} {words}")));
    assert_eq!((&real["deleted"]["recordings"], &real["overBytes"]), (&json!(2), &json!(0)));
    assert_eq!(all.each_ref().map(|made| has(store, made)), [false, false, true]);
    clear(store);
}

/// As the operator's job does it: the managed store is in another pod, and on the volume that the folder is on.
fn free_space(store: &Running) {
    let (both, alone, held) = (
        make(store, "2026-05-01T00:00:00Z"),
        stored(store, "2026-05-02T00:00:00Z"),
        stored(store, "2026-05-03T00:00:00Z"),
    );
    store.put(&key(&held, "hold"), Vec::new());
    let session = store.place.path().join("session.yaml");
    let document = "apiVersion: media.streamsession.io/v1alpha1\nkind: StreamSession\nmetadata: {name: door}\nspec: {recording: {retention: {keepFree: 0%}}}\n";
    fs::write(&session, document).unwrap();
    let place = ["--session", session.to_str().unwrap(), "--data-dir", store.place.path().to_str().unwrap()];
    let variables = [
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("POD_NAMESPACE", "cams"),
        ("MEDIA_STORE_ENDPOINT", &store.endpoint),
    ];
    let idle = counted(store, "nothing", |words| store.run_with(&format!("prune {words}"), &place, &variables));
    assert_eq!((&idle["deleted"]["files"], &idle["kept"]["recordings"]), (&json!(0), &json!(3)));
    let real = counted(store, "free space", |words| {
        store.run_with(&format!("prune --keep-free 900T {words}"), &place, &variables)
    });
    assert_eq!(real["deleted"]["recordings"], 2, "objects count, too");
    assert!(real["shortBytes"].as_u64().unwrap() > 0);
    assert!(!has(store, &both) && !both.folder.exists() && !has(store, &alone) && has(store, &held));
    clear(store);
}

fn orphans(store: &Running) {
    let (whole, uploading, half, held) = (
        make(store, "2026-05-01T00:00:00Z"),
        make(store, "2026-05-02T00:00:00Z"),
        stored(store, "2026-05-03T00:00:00Z"),
        stored(store, "2026-05-04T00:00:00Z"),
    );
    for made in [&uploading, &half, &held] {
        store.remove(&key(made, "manifest.json"));
    }
    store.put(&key(&held, "hold"), Vec::new());
    fs::write(whole.path("recording.mp4.tmp"), "half").unwrap();
    whole.age(2 * DAY);
    let temporary = |words: &str| beside(store)(&format!("--orphans {words}"));
    let real = counted(store, "temporary files", temporary);
    assert_eq!((&real["deleted"]["debris"], &real["deleted"]["files"]), (&json!(1), &json!(1)), "objects are young");
    let part = key(&uploading, "segment-000009.m4s");
    store.begin_upload(&part);
    assert_eq!(store.begun(&part), 1);
    let real = counted(store, "orphans", |words| beside(store)(&format!("--orphans --orphan-age 0s {words}")));
    assert_eq!((&real["deleted"]["orphans"], &real["deleted"]["recordings"]), (&json!(1), &json!(0)));
    assert_eq!(real["deleted"]["debris"], usize::from(store.lists_uploads()));
    assert_eq!(store.begun(&part), usize::from(!store.lists_uploads()));
    assert!(has(store, &uploading) && uploading.folder.exists(), "the folder has what the store is still to get");
    assert!(!has(store, &half) && has(store, &held) && has(store, &whole));
    clear(store);
}

fn all(store: &Running) {
    let (both, damaged, held, half) = (
        make(store, "2026-05-01T00:00:00Z"),
        stored(store, "2026-05-02T00:00:00Z"),
        stored(store, "2026-05-03T00:00:00Z"),
        stored(store, "2099-05-04T00:00:00Z"),
    );
    store.put(&key(&damaged, "manifest.json"), b"{}".to_vec());
    store.put(&key(&held, "hold"), Vec::new());
    store.remove(&key(&half, "manifest.json"));
    // As the operator's last job does it: it has no folder.
    let real = counted(store, "all", |words| store.run(&format!("prune --all --orphans --orphan-age 0s {words}")));
    assert_eq!((&real["deleted"]["recordings"], &real["deleted"]["orphans"]), (&json!(2), &json!(1)));
    assert_eq!((&real["kept"]["held"], &real["kept"]["recordings"]), (&json!(1), &json!(1)));
    assert!([&both, &damaged, &half].iter().all(|made| !has(store, made)) && has(store, &held));
    assert!(Path::new(&both.folder).exists(), "nobody named it");
    clear(store);
}

fn no_bucket(store: &Running) {
    let place = ["--endpoint", &store.endpoint, "--bucket", "gone", "--prefix", "cams/door"];
    let last = store.run_with("prune --all --orphans --orphan-age 0s --yes --json", &place, &[]);
    assert_eq!(last.code, 0, "{}", last.err);
    assert_eq!(last.json()["deleted"]["files"], 0);
    assert!(last.err.contains("nothing is there to delete") && last.err.contains("\"gone\""), "{}", last.err);
    let by_age = store.run_with("prune --max-age 1d --yes", &place, &[]);
    assert!(by_age.code == 1 && by_age.err.contains("make the bucket"), "{}", by_age.err);
}
