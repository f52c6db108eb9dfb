//! Stores that tests start: MinIO and Versity's gateway.
//!
//! They are looked for in `$LAB_STATE/bin` (by default /var/tmp/streamsession-lab/bin) and on the PATH; one that is not there
//! is passed over, and that is said, unless `STORES=required`.

use super::made::Made;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Minio,
    Versity,
}

/// A store of its own, which ends with the test.
pub(crate) struct Running {
    kind: Kind,
    child: Child,
    pub(crate) endpoint: String,
    objects: Objects,
    runtime: tokio::runtime::Runtime,
    pub(crate) place: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// `None` when its program is not there.
    pub(crate) fn start(kind: Kind) -> Option<Running> {
        let name = if kind == Kind::Minio { "minio" } else { "versitygw" };
        program(name).map(|program| Running::of(kind, &program))
    }

    fn of(kind: Kind, program: &Path) -> Running {
        let place = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (data, keys) = (place.path().join("data"), place.path().join("keys"));
        fs::create_dir(&data).unwrap();
        fs::create_dir(&keys).unwrap();
        fs::create_dir(place.path().join("recordings")).unwrap();
        fs::write(keys.join("accessKeyId"), "tester").unwrap();
        fs::write(keys.join("secretAccessKey"), "tester-secret").unwrap();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(program);
        match kind {
            Kind::Minio => command.arg("server").arg(&data).args(["--address", &address, "--quiet"]),
            Kind::Versity => command
                .args(["--access", "tester", "--secret", "tester-secret", "--region", "us-east-1"])
                .args(["--port", &address, "--quiet", "posix"])
                .arg(&data),
        };
        let child = command
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
            ..StoreConfig::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let objects = runtime.block_on(async { Objects::connect(&config) });
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = runtime.block_on(objects.ensure_bucket()) {
            assert!(Instant::now() < deadline, "{}: {error}", program.display());
            std::thread::sleep(Duration::from_millis(50));
        }
        Running { kind, child, endpoint, objects, runtime, place }
    }

    /// Of uploads in parts MinIO lists those of one object alone, and ends old ones by itself.
    pub(crate) fn lists_uploads(&self) -> bool {
        self.kind == Kind::Versity
    }

    pub(crate) fn credentials(&self) -> PathBuf {
        self.place.path().join("keys")
    }

    pub(crate) fn recordings(&self) -> PathBuf {
        self.place.path().join("recordings")
    }

    pub(crate) fn put(&self, key: &str, bytes: Vec<u8>) {
        let digest = Digest::of(&bytes);
        self.runtime.block_on(self.objects.put(key, &Source::Bytes(bytes.into()), digest)).unwrap();
    }

    pub(crate) fn remove(&self, key: &str) {
        self.runtime.block_on(self.objects.delete(&[key.to_owned()])).unwrap();
    }

    /// As the server does it: the MP4 stays.
    pub(crate) fn upload(&self, made: &Made) {
        for file in fs::read_dir(&made.folder).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            if !name.starts_with("recording") {
                self.put(&key(made, &name), fs::read(made.path(&name)).unwrap());
            }
        }
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.listed().into_iter().map(|(key, _)| key).collect()
    }

    /// Keys and lengths of all objects.
    pub(crate) fn listed(&self) -> Vec<(String, u64)> {
        let all = self.runtime.block_on(self.objects.list_all("")).unwrap();
        all.into_iter().map(|object| (object.key, object.len)).collect()
    }

    /// Uploads in parts that were begun and not ended, of this key.
    pub(crate) fn begun(&self, key: &str) -> usize {
        self.runtime.block_on(self.objects.unfinished(key)).unwrap().len()
    }

    /// Begins an upload in parts that nobody goes on with.
    pub(crate) fn begin_upload(&self, key: &str) {
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
    pub(crate) fn run(&self, words: &str) -> Ran {
        let place = ["--endpoint", &self.endpoint, "--bucket", "recordings", "--prefix", "cams/door"];
        self.run_with(words, &place, &[])
    }

    /// The same with other words about places, and with variables.
    pub(crate) fn run_with(&self, words: &str, place: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_media-server"));
        command.arg("recordings").args(words.split_whitespace()).args(place);
        command.arg("--store-credentials-dir").arg(self.credentials());
        for name in ["MEDIA_RECORDINGS_DIR", "KUBERNETES_SERVICE_HOST", "MEDIA_STORE_ENDPOINT"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
        Ran { code: status.code().unwrap(), out: stdout, err: String::from_utf8(stderr).unwrap() }
    }
}

/// How the program ended, and what it said.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.err))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }
}

pub(crate) fn key(made: &Made, file: &str) -> String {
    format!("front-door/{}/{file}", made.id)
}
