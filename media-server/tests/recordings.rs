//! `media-server recordings` as a program: what it prints, what it does to folders, and how it ends.

#![allow(clippy::unwrap_used)]

mod made;

use made::{Made, Make};
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

struct Ran {
    code: i32,
    out: Vec<u8>,
    err: String,
}

impl Ran {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.err))
    }
}

/// Runs it on the recordings in `folder`, without a terminal.
fn run(folder: &Path, words: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_media-server"));
    command.arg("recordings").args(words.split_whitespace()).arg("--dir").arg(folder);
    for name in ["MEDIA_RECORDINGS_DIR", "KUBERNETES_SERVICE_HOST", "AWS_ACCESS_KEY_ID"] {
        command.env_remove(name);
    }
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    Ran { code: status.code().unwrap(), out: stdout, err: String::from_utf8(stderr).unwrap() }
}

fn there(made: &Made) -> bool {
    made.folder.exists()
}

#[test]
fn recordings_are_listed_newest_first_with_what_their_manifests_say() {
    let place = tempfile::tempdir().unwrap();
    let old = Make { started_at: "2026-05-01T00:00:00Z", room: "yard", ..Make::default() }.within(place.path());
    let new = Make { started_at: "2026-05-02T12:00:00Z", ..Make::default() }.within(place.path());
    let live = Make { started_at: "2026-05-03T00:00:00Z", crashed: true, ..Make::default() }.within(place.path());
    fs::write(old.path("hold"), "").unwrap();
    fs::create_dir(place.path().join("lost+found")).unwrap();

    let listed = run(place.path(), "list --json").json();
    let all = listed["recordings"].as_array().unwrap();
    let ids: Vec<_> = all.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&live.id, &new.id, &old.id]);
    assert_eq!(
        (&all[0]["state"], &all[0]["endedAt"], &all[0]["room"]),
        (&"recording".into(), &Value::Null, &"front-door".into())
    );
    assert_eq!((&all[1]["state"], &all[1]["where"]), (&"complete".into(), &serde_json::json!(["disk"])));
    assert_eq!(all[1]["bytes"], new.bytes());
    assert_eq!(all[1]["startedAt"], "2026-05-02T12:00:00Z");
    assert_eq!(all[1]["durationSeconds"], new.manifest().duration);
    assert_eq!((&all[2]["held"], &all[1]["held"]), (&true.into(), &false.into()));

    let table = run(place.path(), "list");
    assert_eq!(table.code, 0);
    let lines: Vec<_> = table.text().lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(
        lines[0].starts_with("ID") && lines[1].contains("recording") && lines[3].contains("complete, held"),
        "{lines:#?}"
    );
    assert!(lines[2].contains("2026-05-02 12:00:00") && lines[2].contains("6s"), "{}", lines[2]);
    assert!(table.err.contains("3 recordings") && !table.text().contains('\u{1b}'), "{}", table.err);

    let ids = |words: &str| -> Vec<String> {
        let listed = run(place.path(), words).json();
        listed["recordings"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("list --json --room yard"), [old.id.as_str()]);
    assert_eq!(ids("list --json --since 2026-05-02 --until 2026-05-03"), [new.id.as_str()]);
    assert_eq!(ids("list --json --since 1h"), Vec::<String>::new());

    live.age(DAY);
    let listed = run(place.path(), "list");
    assert!(listed.text().contains("unfinished") && listed.err.contains("a server that starts"), "{}", listed.err);
}

#[test]
fn wrong_use_ends_with_2_and_says_what_would_be_right() {
    let place = tempfile::tempdir().unwrap();
    Make::default().within(place.path());
    for (folder, words, part) in [
        (place.path().join("none"), "list", "--data-dir"),
        (place.path().to_owned(), "list --since yesterday", "2026-10-23"),
        (place.path().to_owned(), "prune", "--max-age"),
        (place.path().to_owned(), "prune --max-age 1h", "--yes"),
        (place.path().to_owned(), "list --store-credentials-dir /keys", "--endpoint"),
        (place.path().to_owned(), "export x", "--out"),
    ] {
        let ran = run(&folder, words);
        assert!(ran.code == 2 && ran.err.contains(part), "{words}: {} {}", ran.code, ran.err);
        assert!(ran.text().is_empty() || words.starts_with("prune"), "{words}: {}", ran.text());
    }
    let ran = run(place.path(), "verify 0123");
    assert!(ran.code == 1 && ran.err.contains("no recording 0123"), "{}", ran.err);
    let empty = run(&tempfile::tempdir().unwrap().path().join("."), "list");
    assert!(empty.code == 0 && empty.err.contains("no recordings"), "{}", empty.err);
}

#[test]
fn verify_finds_what_is_flipped_cut_or_missing_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let well = Make::default().within(place.path());
    let ill = Make { started_at: "2026-05-07T00:00:00Z", ..Make::default() }.within(place.path());
    Make { crashed: true, ..Make::default() }.within(place.path());
    let ran = run(place.path(), "verify");
    assert!(ran.code == 0 && ran.out.is_empty(), "{}", ran.text());
    assert!(
        ran.err.contains("2 recordings") && ran.err.contains("no fault") && ran.err.contains("1 recording passed over"),
        "{}",
        ran.err
    );

    let files: Vec<_> =
        fs::read_dir(&ill.folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files.len(), 6, "{files:?}");
    for file in files.iter().filter(|file| *file != "manifest.json") {
        let bytes = fs::read(ill.path(file)).unwrap();
        for fault in ["SHA-256", "bytes", "missing"] {
            match fault {
                "SHA-256" => ill.flip(file),
                "bytes" => fs::write(ill.path(file), &bytes[1..]).unwrap(),
                _ => fs::remove_file(ill.path(file)).unwrap(),
            }
            let ran = run(place.path(), &format!("verify {} {}", ill.id, well.id));
            let lines: Vec<_> = ran.text().lines().collect();
            assert_eq!((ran.code, lines.len()), (1, 1), "{file}: {lines:?}");
            assert!(lines[0].starts_with(&format!("{} {file}", ill.id)) && lines[0].contains(fault), "{}", lines[0]);
            fs::write(ill.path(file), &bytes).unwrap();
        }
    }
    assert_eq!(run(place.path(), "verify").code, 0);
    let manifest = fs::read(ill.path("manifest.json")).unwrap();
    fs::write(ill.path("manifest.json"), &manifest[..manifest.len() / 2]).unwrap();
    let ran = run(place.path(), "verify --json");
    assert_eq!((ran.code, &ran.json()["faultCount"]), (1, &1.into()));
    assert!(run(place.path(), "list").err.contains("manifest cannot be read"));
    fs::write(ill.path("manifest.json"), fs::read(well.path("manifest.json")).unwrap()).unwrap();
    let ran = run(place.path(), "verify");
    assert!(ran.code == 1 && ran.text().contains(&well.id), "another's manifest: {}", ran.text());
}

#[test]
fn an_export_is_the_recorders_own_mp4_from_the_copy_and_from_the_segments() {
    let place = tempfile::tempdir().unwrap();
    let made = Make { older: true, ..Make::default() }.within(place.path());
    let expected = fs::read(made.path("recording.mp4")).unwrap();
    let out = place.path().join("out.mp4");
    let export = || run(place.path(), &format!("export {} --out {}", made.id, out.display()));

    let ran = export();
    assert_eq!((ran.code, ran.out.len()), (0, 0), "{}", ran.err);
    assert!(fs::read(&out).unwrap() == expected);

    // A damaged copy is not exported: it is made anew.
    made.flip("recording.mp4");
    let ran = export();
    assert!(ran.code == 0 && ran.err.contains("made anew"), "{}", ran.err);
    assert!(fs::read(&out).unwrap() == expected);
    fs::remove_file(made.path("recording.mp4")).unwrap();
    let ran = run(place.path(), &format!("export {} --out -", made.id));
    assert!(ran.code == 0 && ran.out == expected, "{}", ran.err);

    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0"])
        .arg(&out)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(probed.stdout).unwrap(), "vp8\nopus\n");
}

#[test]
fn a_recording_that_changed_its_size_is_exported_in_parts() {
    let place = tempfile::tempdir().unwrap();
    let made = Make { resized: true, older: true, ..Make::default() }.within(place.path());
    let parts = [fs::read(made.path("recording.mp4")).unwrap(), fs::read(made.path("recording-2.mp4")).unwrap()];
    let out = place.path().join("door.mp4");
    for from in ["copies", "segments"] {
        assert_eq!(run(place.path(), &format!("export {} -o {}", made.id, out.display())).code, 0);
        assert!(fs::read(&out).unwrap() == parts[0], "{from}");
        assert!(fs::read(place.path().join("door-2.mp4")).unwrap() == parts[1], "{from}");
        assert!(run(place.path(), &format!("export {} -o - --part 2", made.id)).out == parts[1], "{from}");
        let ran = run(place.path(), &format!("export {} -o -", made.id));
        assert!(ran.code == 2 && ran.out.is_empty() && ran.err.contains("--part"), "{}", ran.err);
        assert_eq!(run(place.path(), &format!("export {} -o - --part 3", made.id)).code, 2);
        for name in ["recording.mp4", "recording-2.mp4"] {
            let _ = fs::remove_file(made.path(name));
        }
    }
}

#[test]
fn an_export_that_fails_leaves_nothing_and_what_was_there() {
    let place = tempfile::tempdir().unwrap();
    let made = Make::default().within(place.path());
    let live = Make { crashed: true, ..Make::default() }.within(place.path());
    let out = place.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("door.mp4"), "before").unwrap();
    let export = |id: &str, file: &str| run(place.path(), &format!("export {id} --out {}", out.join(file).display()));
    made.flip("segment-000002.m4s");
    let ran = export(&made.id, "door.mp4");
    assert!(ran.code == 1 && ran.err.contains("segment-000002.m4s") && ran.err.contains("verify"), "{}", ran.err);
    let ran = run(place.path(), &format!("export {} --out -", made.id));
    assert_eq!((ran.code, ran.out.len()), (1, 0), "nothing that is wrong goes to stdout");
    let ran = export(&live.id, "door.mp4");
    assert!(ran.code == 1 && ran.err.contains("not finished"), "{}", ran.err);
    for (file, code) in [("", 2), ("no/such/folder.mp4", 1)] {
        let ran = export(&made.id, file);
        assert_eq!(ran.code, code, "{}", ran.err);
    }
    assert_eq!(run(place.path(), &format!("export {} --out /dev/null", made.id)).code, 2, "a device stays one");
    let names: Vec<_> = fs::read_dir(&out).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, ["door.mp4"]);
    assert_eq!(fs::read_to_string(out.join("door.mp4")).unwrap(), "before");
}

/// Five that are old and finished, one that is held, one under way, one damaged.
fn many(place: &Path) -> (Vec<Made>, [Made; 3]) {
    let starts = [
        "2026-05-01T00:00:00Z",
        "2026-05-02T00:00:00Z",
        "2026-05-03T00:00:00Z",
        "2026-05-04T00:00:00Z",
        "2026-05-05T00:00:00Z",
    ];
    let old = starts.map(|started_at| Make { started_at, ..Make::default() }.within(place)).into();
    let before = || Make { started_at: "2026-04-01T00:00:00Z", ..Make::default() };
    let stay = [before().within(place), Make { crashed: true, ..before() }.within(place), before().within(place)];
    fs::write(stay[0].path("hold"), "").unwrap();
    fs::write(stay[2].path("manifest.json"), "{}").unwrap();
    (old, stay)
}

#[test]
fn prune_by_age_spares_what_is_held_live_or_damaged_and_a_dry_run_says_the_same() {
    let place = tempfile::tempdir().unwrap();
    let (old, stay) = many(place.path());
    let held = &old[1].id;
    let dry = run(place.path(), &format!("prune --max-age 30d --hold {held} --dry-run --json"));
    assert_eq!(dry.code, 0, "{}", dry.err);
    assert!(old.iter().chain(&stay).all(there), "a dry run deletes nothing");
    let shown = run(place.path(), &format!("prune --max-age 30d --hold {held} --dry-run"));
    assert!(
        shown.text().contains("would delete 4 recordings") && shown.text().contains("2026-05-01 00:00:00"),
        "{}",
        shown.text()
    );
    let real = run(place.path(), &format!("prune --max-age 30d --hold {held} --yes --json"));
    assert_eq!(real.code, 0, "{}", real.err);
    for key in ["recordings", "deleted", "kept"] {
        assert_eq!(dry.json()[key], real.json()[key], "{key}");
    }
    let gone: Vec<_> = real.json()["recordings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(gone, [0, 2, 3, 4].map(|n: usize| old[n].id.clone()), "oldest first");
    assert_eq!(
        real.json()["kept"],
        serde_json::json!({"recordings": 4, "held": 2, "unfinished": 1, "pendingUpload": 0, "damaged": 1})
    );
    assert!(there(&old[1]) && stay.iter().all(there) && [0, 2, 3, 4].iter().all(|n: &usize| !there(&old[*n])));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 4, "nothing is left of what went");
    assert_eq!(run(place.path(), &format!("verify {held}")).code, 0, "what stays is whole");
    let again = run(place.path(), &format!("prune --max-age 30d --hold {held}"));
    assert!(again.code == 0 && again.text().contains("deleted 0 recordings"), "nothing to ask for: {}", again.err);
}

#[test]
fn prune_by_bytes_and_by_space_takes_the_oldest_and_no_more() {
    let place = tempfile::tempdir().unwrap();
    let (old, stay) = many(place.path());
    let all: u64 = old.iter().chain(&stay).map(Made::bytes).sum();
    let most = all - old[0].bytes() - 1;
    let ran = run(place.path(), &format!("prune --max-bytes {most} --yes"));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(!there(&old[0]) && !there(&old[1]) && there(&old[2]) && stay.iter().all(there), "{}", ran.text());
    let ran = run(place.path(), "prune --keep-free 0% --yes");
    assert!(ran.text().contains("deleted 0 recordings"), "{}", ran.text());
    let ran = run(place.path(), "prune --keep-free 900T --yes");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(old.iter().all(|old| !there(old)) && stay.iter().all(there));
    assert!(ran.err.contains("still missing") && ran.err.contains("1 held, 1 not finished"), "{}", ran.err);
}

#[test]
fn all_goes_but_what_is_held_or_not_finished() {
    let place = tempfile::tempdir().unwrap();
    let (old, stay) = many(place.path());
    let fresh = Make { started_at: "2026-05-06T00:00:00Z", ..Make::default() }.within(place.path());
    let dry = run(place.path(), &format!("prune --all --hold {} --dry-run --json", old[2].id));
    let real = run(place.path(), &format!("prune --all --hold {} --yes --json", old[2].id));
    assert_eq!((dry.code, real.code), (0, 0), "{} {}", dry.err, real.err);
    for key in ["recordings", "deleted", "kept"] {
        assert_eq!(dry.json()[key], real.json()[key], "{key}");
    }
    assert_eq!(
        (&real.json()["deleted"]["recordings"], &real.json()["recordings"][0]["why"]),
        (&6.into(), &"all".into())
    );
    assert_eq!(
        real.json()["kept"],
        serde_json::json!({"recordings": 3, "held": 2, "unfinished": 1, "pendingUpload": 0, "damaged": 0})
    );
    assert!(there(&old[2]) && there(&stay[0]) && there(&stay[1]) && !there(&stay[2]) && !there(&fresh));
}

#[test]
fn a_damaged_recording_that_is_held_stays_among_all() {
    let place = tempfile::tempdir().unwrap();
    let made = Make::default().within(place.path());
    fs::write(made.path("manifest.json"), "{}").unwrap();
    fs::write(made.path("hold"), "").unwrap();
    let ran = run(place.path(), "prune --all --orphans --orphan-age 0s --yes --json");
    assert!(ran.code == 0 && there(&made), "{}", ran.err);
    assert_eq!(ran.json()["kept"]["held"], 1);
}

#[test]
fn a_report_tells_the_numbers_also_of_a_failure() {
    let place = tempfile::tempdir().unwrap();
    let recordings = place.path().join("recordings");
    many(&recordings);
    let report = place.path().join("termination-log");
    fs::write(&report, "what an earlier container said, at some length").unwrap();
    let prune = |folder: &Path, words: &str| {
        let ran = run(folder, &format!("prune {words} --report {}", report.display()));
        let told: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
        (ran, told)
    };
    let (dry, told) = prune(&recordings, "--max-age 30d --dry-run --json");
    assert_eq!((dry.code, &told["dryRun"]), (0, &true.into()), "{}", dry.err);
    let (real, told) = prune(&recordings, "--max-age 30d --yes --json");
    assert_eq!(real.code, 0, "{}", real.err);
    let kept = serde_json::json!({"recordings": 3, "held": 1, "unfinished": 1, "pendingUpload": 0, "damaged": 1});
    let bytes = &dry.json()["deleted"]["bytes"];
    let expected = serde_json::json!({"dryRun": false, "recordings": 5, "orphans": 0, "debris": 0, "bytes": bytes,
        "kept": kept, "overBytes": 0, "shortBytes": 0, "failures": []});
    assert_eq!(told, expected);
    for (folder, words, part) in [
        (recordings.join("none"), "--max-age 1h --yes", "--data-dir"),
        (recordings.clone(), "--all", "--yes"),
        (recordings.clone(), "", "--all"),
    ] {
        // With something to delete, so that it would have to ask.
        Make::default().within(&recordings);
        let (ran, told) = prune(&folder, words);
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(told["error"].as_str().is_some_and(|error| error.contains(part)), "{words}: {told}");
    }
    let ran = run(&recordings, "prune --all --yes --report /no/such/folder/log");
    assert!(ran.code == 2 && ran.err.contains("--report"), "{}", ran.err);
    assert!(run(&recordings, "prune --all --dry-run").text().contains("would delete 4 recordings"), "nothing went");
    let full = run(&recordings, "prune --all --yes --report /dev/full");
    assert!(full.code == 1 && full.err.contains("--report /dev/full"), "{} {}", full.code, full.err);
}

#[test]
fn a_session_without_age_and_bytes_sweeps() {
    let place = tempfile::tempdir().unwrap();
    let recordings = place.path().join("recordings");
    let whole = Make::default().within(&recordings);
    fs::write(whole.path("recording.mp4.tmp"), "half").unwrap();
    whole.age(2 * DAY);
    let session = place.path().join("session.yaml");
    let text = "apiVersion: media.streamsession.io/v1alpha1\nkind: StreamSession\nmetadata: {name: door}\nspec:\n  recording: {retention: {keepFree: 0%}}\n";
    fs::write(&session, text).unwrap();
    let ran = run(&recordings, &format!("prune --session {} --orphans --yes", session.display()));
    assert!(ran.code == 0 && ran.text().contains("deleted 0 recordings, 1 leftover"), "{} {}", ran.text(), ran.err);
    assert!(there(&whole));
}

#[test]
fn a_session_gives_the_rules_and_flags_replace_them() {
    let place = tempfile::tempdir().unwrap();
    let recordings = place.path().join("recordings");
    let (old, _) = many(&recordings);
    let session = place.path().join("session.yaml");
    let write = |retention: &str| {
        let text = format!(
            "apiVersion: media.streamsession.io/v1alpha1\nkind: StreamSession\nmetadata: {{name: door}}\nspec:\n  recording: {{retention: {retention}}}\n"
        );
        fs::write(&session, text).unwrap();
    };
    let prune = |words: &str| {
        run(&recordings, &format!("prune --dry-run --session {} {words}", session.display()))
            .text()
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned()
    };
    write("{maxAge: 10000d, keepFree: 0%}");
    assert!(prune("").starts_with("would delete 0 recordings"));
    write("{maxAge: 1h, keepFree: 0%}");
    assert!(prune("").starts_with("would delete 5 recordings"));
    assert!(prune("--max-age 10000d").starts_with("would delete 0 recordings"));
    assert!(old.iter().all(there));
}

#[test]
fn orphans_are_what_can_never_be_finished_and_is_old() {
    let place = tempfile::tempdir().unwrap();
    let whole = Make::default().within(place.path());
    let recoverable = Make { crashed: true, ..Make::default() }.within(place.path());
    let empty = Make { crashed: true, ..Make::default() }.within(place.path());
    let fresh = Make { crashed: true, ..Make::default() }.within(place.path());
    for made in [&empty, &fresh] {
        for file in fs::read_dir(&made.folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|kind| kind == "m4s") {
                fs::rename(&path, path.with_extension("m4s.unreadable")).unwrap();
            }
        }
    }
    fs::write(whole.path("recording.mp4.tmp"), "half").unwrap();
    [&whole, &recoverable, &empty].iter().for_each(|made| made.age(2 * DAY));
    let dry = run(place.path(), "prune --orphans --dry-run --json").json();
    assert_eq!(
        (&dry["orphans"][0]["id"], &dry["orphans"][1], &dry["deleted"]["debris"]),
        (&empty.id.as_str().into(), &Value::Null, &1.into())
    );
    let ran = run(place.path(), "prune --orphans --yes");
    assert!(
        ran.code == 0 && ran.text().contains("deleted 0 recordings, 1 orphan, 1 leftover"),
        "{} {}",
        ran.text(),
        ran.err
    );
    assert!(!there(&empty) && there(&fresh) && there(&recoverable) && !whole.path("recording.mp4.tmp").exists());
    assert_eq!(run(place.path(), "verify").code, 0);
    assert!(
        run(place.path(), "prune --orphans --orphan-age 0s --yes").code == 0 && !there(&fresh) && there(&recoverable)
    );
}

#[test]
fn an_export_goes_on_where_a_killed_one_was() {
    let place = tempfile::tempdir().unwrap();
    let made = Make { older: true, ..Make::default() }.within(place.path());
    fs::write(place.path().join(".out.mp4.part"), vec![0; 1 << 20]).unwrap();
    assert_eq!(
        run(place.path(), &format!("export {} -o {}", &made.id[..30], place.path().join("out.mp4").display())).code,
        0
    );
    assert!(fs::read(place.path().join("out.mp4")).unwrap() == fs::read(made.path("recording.mp4")).unwrap());
    assert!(!place.path().join(".out.mp4.part").exists());
}

/// A registry as a server makes it, with a row for each of these.
fn registry(data: &Path, recordings: &[&Made]) -> impl Fn(&'static str) -> i64 + use<> {
    let path = data.join("registry.sqlite");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = SqliteConnectOptions::new().filename(&path);
    runtime.block_on(async {
        media_server::store::Store::open(&path).await.unwrap().close().await;
        let mut connection = options.clone().connect().await.unwrap();
        for made in recordings {
            let stream = "INSERT INTO streams (id, room, owner, state, ahead, created_at) VALUES (?, 'front-door', 'me', 'created', 0, '')";
            let recording = "INSERT INTO recordings (id, stream, room, path, state, started_at)
                 VALUES (?1, ?1, 'front-door', '', 'complete', '')";
            for insert in [stream, recording] {
                sqlx::query(insert).bind(&made.id).execute(&mut connection).await.unwrap();
            }
        }
        connection.close().await.unwrap();
    });
    move |query| {
        runtime.block_on(async {
            let mut connection = options.clone().connect().await.unwrap();
            let number = sqlx::query_scalar(query).fetch_optional(&mut connection).await.unwrap().unwrap_or(-1);
            connection.close().await.unwrap();
            number
        })
    }
}

#[test]
fn a_servers_registry_forgets_what_is_pruned() {
    let place = tempfile::tempdir().unwrap();
    let recordings = place.path().join("recordings");
    let make = |started_at| Make { started_at, ..Make::default() }.within(&recordings);
    let (old, held) = (make("2026-05-01T00:00:00Z"), make("2026-05-02T00:00:00Z"));
    fs::write(held.path("hold"), "").unwrap();
    let ask = registry(place.path(), &[&old, &held]);
    let ran = run(&recordings, "prune --max-age 1h --yes");
    assert!(ran.code == 0 && !there(&old), "{}", ran.err);
    assert_eq!(ask("SELECT count(*) FROM recordings"), 1);
    assert_eq!(fs::read_dir(&recordings).unwrap().count(), 1, "nothing is left of it");
}

#[test]
fn what_a_server_still_works_at_is_no_orphan() {
    let place = tempfile::tempdir().unwrap();
    let recordings = place.path().join("recordings");
    let make = || Make { crashed: true, ..Make::default() }.within(&recordings);
    let (pending, running, left) = (make(), make(), make());
    for made in [&pending, &running, &left] {
        for file in fs::read_dir(&made.folder).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        fs::write(made.path("notes"), "").unwrap();
        made.age(2 * DAY);
    }
    let ask = registry(place.path(), &[&pending, &running, &left]);
    ask(format!(
        "INSERT INTO uploads (recording, file, rank, key, bytes, sha256, state, next_at, queued_at)
         VALUES ('{}', 'init-1.mp4', 0, 'k', 1, '', 'pending', '', '')",
        pending.id
    )
    .leak());
    ask(format!("UPDATE recordings SET state = 'recording' WHERE stream = '{}'", running.id).leak());
    let ran = run(&recordings, "prune --orphans --yes --json");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(there(&pending) && there(&running) && !there(&left), "{}", ran.text());
    assert_eq!((&ran.json()["deleted"]["orphans"], &ran.json()["kept"]["unfinished"]), (&1.into(), &2.into()));
}

#[test]
fn what_a_server_brings_to_a_store_is_not_pruned_without_looking_there() {
    let place = tempfile::tempdir().unwrap();
    let recordings = place.path().join("recordings");
    let made = Make::default().within(&recordings);
    let ask = registry(place.path(), &[&made]);
    ask("INSERT INTO stored_recordings (recording, gaps) VALUES ('x', '[]')");
    let ran = run(&recordings, "prune --max-age 1h --yes");
    assert!(ran.code == 2 && ran.err.contains("--session") && there(&made), "{}", ran.err);
}
