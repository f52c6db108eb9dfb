//! `media-server recordings` as a program, on real stores: MinIO and Versity's gateway.
//!
//! They are looked for in `$LAB_STATE/bin` (by default /var/tmp/streamsession-lab/bin) and on the PATH; one that is not there
//! is passed over, and that is said. What a store answers is tested besides without any, in the library.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[allow(dead_code)]
mod made;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use made::{Made, Make};
use media_server::config::StoreConfig;
use media_server::objects::{Digest, Objects, Source};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use streamsession_api::StorageMode;

const PATIENCE: Duration = Duration::from_secs(30);

fn program(name: &str) -> Option<PathBuf> {
    let lab = std::env::var_os("LAB_STATE").map_or_else(|| "/var/tmp/streamsession-lab".into(), PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::iter::once(lab.join("bin")).chain(std::env::split_paths(&path)).map(|folder| folder.join(name));
    let found = found.into_iter().find(|path| path.is_file());
    let required = std::env::var_os("STORES").is_some_and(|value| value == "required");
    assert!(found.is_some() || !required, "there is no {name}: tests/lab/build makes it");
    if found.is_none() {
        eprintln!("{name} is not there: not tested with it");
    }
    found
}

/// A store of its own, which ends with the test.
struct Running {
    child: Child,
    endpoint: String,
    objects: Objects,
    runtime: tokio::runtime::Runtime,
    place: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(program: &Path, args: impl FnOnce(&str, &str) -> Vec<String>) -> Running {
        let place = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (data, keys) = (place.path().join("data"), place.path().join("keys"));
        fs::create_dir(&data).unwrap();
        fs::create_dir(&keys).unwrap();
        fs::create_dir(place.path().join("recordings")).unwrap();
        fs::write(keys.join("accessKeyId"), "tester").unwrap();
        fs::write(keys.join("secretAccessKey"), "tester-secret").unwrap();
        let child = Command::new(program)
            .args(args(&format!("127.0.0.1:{port}"), data.to_str().unwrap()))
            .env("HOME", place.path())
            .env("MINIO_ROOT_USER", "tester")
            .env("MINIO_ROOT_PASSWORD", "tester-secret")
            .env("MINIO_BROWSER", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let endpoint = format!("http://127.0.0.1:{port}");
        let config = StoreConfig {
            mode: StorageMode::Managed,
            endpoint: endpoint.clone(),
            region: "us-east-1".into(),
            bucket: "recordings".into(),
            path_style: true,
            prefix: "cams/door/".into(),
            credentials_dir: Some(keys),
            create_bucket: true,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let objects = runtime.block_on(async { Objects::connect(&config) });
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = runtime.block_on(objects.ensure_bucket()) {
            assert!(Instant::now() < deadline, "{}: {error}", program.display());
            std::thread::sleep(Duration::from_millis(50));
        }
        Running { child, endpoint, objects, runtime, place }
    }

    fn recordings(&self) -> PathBuf {
        self.place.path().join("recordings")
    }

    fn put(&self, key: &str, bytes: Vec<u8>) {
        let digest = Digest::of(&bytes);
        self.runtime.block_on(self.objects.put(key, &Source::Bytes(bytes.into()), digest)).unwrap();
    }

    /// As the server does it: the MP4 stays.
    fn upload(&self, made: &Made) {
        for file in fs::read_dir(&made.folder).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            if !name.starts_with("recording") {
                self.put(&key(made, &name), fs::read(made.path(&name)).unwrap());
            }
        }
    }

    fn keys(&self) -> Vec<String> {
        let all = self.runtime.block_on(self.objects.list_all("")).unwrap();
        all.into_iter().map(|object| object.key).collect()
    }

    /// Begins an upload in parts that nobody goes on with.
    fn begin_upload(&self, key: &str) {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.endpoint)
            .force_path_style(true)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .credentials_provider(Credentials::new("tester", "tester-secret", None, None, "test"))
            .build();
        let client = aws_sdk_s3::Client::from_conf(config);
        let begun = client.create_multipart_upload().bucket("recordings").key(format!("cams/door/{key}"));
        self.runtime.block_on(begun.send()).unwrap();
    }

    /// Runs it on the store, without a terminal.
    fn run(&self, words: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_media-server"));
        command.arg("recordings").args(words.split_whitespace());
        command.args(["--endpoint", &self.endpoint, "--bucket", "recordings", "--prefix", "cams/door"]);
        command.arg("--store-credentials-dir").arg(self.place.path().join("keys"));
        let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
        Ran { code: status.code().unwrap(), out: stdout, err: String::from_utf8(stderr).unwrap() }
    }
}

struct Ran {
    code: i32,
    out: Vec<u8>,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.err))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }
}

fn key(made: &Made, file: &str) -> String {
    format!("front-door/{}/{file}", made.id)
}

#[test]
fn minio_is_listed_verified_exported_and_pruned() {
    let Some(minio) = program("minio") else { return };
    // Of uploads in parts it lists those of one object alone, and ends old ones by itself.
    everything(
        &Running::start(&minio, |address, data| {
            ["server", data, "--address", address, "--quiet"].map(String::from).into()
        }),
        false,
    );
}

#[test]
fn versitys_gateway_is_listed_verified_exported_and_pruned() {
    let Some(versitygw) = program("versitygw") else { return };
    let args = |address: &str, data: &str| {
        [
            "--access",
            "tester",
            "--secret",
            "tester-secret",
            "--region",
            "us-east-1",
            "--port",
            address,
            "--quiet",
            "posix",
            data,
        ]
        .map(String::from)
        .into()
    };
    everything(&Running::start(&versitygw, args), true);
}

fn everything(store: &Running, lists_uploads: bool) {
    let recordings = store.recordings();
    let make = |started_at| Make { started_at, ..Make::default() }.within(&recordings);
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
