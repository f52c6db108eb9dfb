//! `media-server recordings` as a program, on real stores: MinIO and Versity's gateway.
//!
//! What a store answers is tested besides without any, in the library.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[allow(dead_code)]
mod made;
#[allow(dead_code)]
mod running;

use made::Make;
use running::{Kind, Running, key};
use std::fs;

#[test]
fn minio_is_listed_verified_exported_and_pruned() {
    Running::start(Kind::Minio).iter().for_each(everything);
}

#[test]
fn versitys_gateway_is_listed_verified_exported_and_pruned() {
    Running::start(Kind::Versity).iter().for_each(everything);
}

fn everything(store: &Running) {
    let lists_uploads = store.lists_uploads();
    let recordings = store.recordings();
    let make = |started_at| Make { started_at, older: true, ..Make::default() }.within(&recordings);
    let (both, stored, held, pending, half) = (
        make("2026-05-01T00:00:00Z"),
        make("2026-05-02T00:00:00Z"),
        make("2026-05-03T00:00:00Z"),
        make("2026-05-04T00:00:00Z"),
        make("2026-05-05T00:00:00Z"),
    );
    let mp4 = fs::read(stored.path("recording.mp4")).unwrap();
    [&both, &stored, &held].iter().for_each(|made| store.upload(made));
    store.put(&key(&held, "hold"), Vec::new());
    store.put(&key(&half, "init-1.mp4"), fs::read(half.path("init-1.mp4")).unwrap());
    [&stored, &held, &half].iter().for_each(|made| fs::remove_dir_all(&made.folder).unwrap());
    let beside = format!("--dir {}", recordings.display());

    let listed = store.run(&format!("list --json {beside}")).json();
    let all = listed["recordings"].as_array().unwrap();
    let ids: Vec<_> = all.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&half.id, &pending.id, &held.id, &stored.id, &both.id]);
    let lies: Vec<_> = all.iter().map(|one| one["where"].to_string()).collect();
    assert_eq!(lies, [r#"["store"]"#, r#"["disk"]"#, r#"["store"]"#, r#"["store"]"#, r#"["disk","store"]"#]);
    assert_eq!(
        (&all[1]["pendingUpload"], &all[2]["held"], &all[3]["state"]),
        (&true.into(), &true.into(), &"complete".into())
    );

    let ran = store.run("verify");
    assert!(ran.code == 0 && ran.err.contains("3 recordings"), "{} {}", ran.text(), ran.err);
    let segment = both.manifest().segments[1].file.clone();
    let mut bytes = fs::read(both.path(&segment)).unwrap();
    bytes[77] ^= 4;
    store.put(&key(&both, &segment), bytes);
    let ran = store.run(&format!("verify {beside}"));
    assert!(ran.code == 1 && ran.text().lines().count() == 1, "{}", ran.text());
    assert!(
        ran.text().starts_with(&format!("{} {segment} (store)", both.id)) && ran.text().contains("copy it from"),
        "{}",
        ran.text()
    );

    let folder = store.place.path().join("exports");
    fs::create_dir(&folder).unwrap();
    let out = folder.join("out.mp4");
    let ran = store.run(&format!("export {} --out {}", stored.id, out.display()));
    assert!(ran.code == 0 && fs::read(&out).unwrap() == mp4, "{}", ran.err);
    assert!(store.run(&format!("export {} --out -", stored.id)).out == mp4);
    fs::remove_file(&out).unwrap();
    let ran = store.run(&format!("export {} --out {}", both.id, out.display()));
    assert!(
        ran.code == 1 && ran.err.contains(&segment) && !out.exists(),
        "a flipped byte is exported by nobody: {}",
        ran.err
    );
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "and nothing is left");

    let dry = store.run(&format!("prune --max-age 1h --dry-run --json {beside}")).json();
    let ran = store.run(&format!("prune --max-age 1h --yes --json {beside}"));
    assert_eq!((ran.code, &ran.json()["recordings"]), (0, &dry["recordings"]), "{}", ran.err);
    assert_eq!(
        ran.json()["kept"],
        serde_json::json!({"recordings": 3, "held": 1, "unfinished": 1, "pendingUpload": 1, "damaged": 0})
    );
    assert!(pending.folder.exists() && !both.folder.exists());
    let kept = |key: &String| key.contains(&held.id) || key.contains(&half.id);
    assert!(store.keys().iter().all(kept) && store.keys().len() > 3, "{:?}", store.keys());

    if lists_uploads {
        store.begin_upload(&key(&half, "segment-000001.m4s"));
    }
    assert_eq!(
        store.run("prune --orphans --dry-run --json").json()["orphans"],
        serde_json::json!([]),
        "they are young"
    );
    let ran = store.run("prune --orphans --orphan-age 0s --yes");
    let gone = if lists_uploads { "0 recordings, 1 orphan, 1 leftover" } else { "0 recordings, 1 orphan" };
    assert!(ran.code == 0 && ran.text().contains(gone), "{} {}", ran.text(), ran.err);
    assert!(store.keys().iter().all(|key| key.contains(&held.id)), "{:?}", store.keys());

    fs::write(store.place.path().join("keys/secretAccessKey"), "wrong").unwrap();
    let ran = store.run("list");
    assert!(ran.code == 1 && ran.err.contains("secretAccessKey"), "{} {}", ran.code, ran.err);
}
