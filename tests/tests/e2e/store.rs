//! Recordings go to an object store and come back from it byte for byte: MinIO, and Versity's gateway.
//!
//! Both are looked for in `$LAB_STATE/bin` (by default /var/tmp/streamsession-lab/bin) and on the PATH; one that is not
//! there is passed over, and that is said, unless `STORES=required`. What a store answers when it fails is tested besides in
//! the server's own tests.

use crate::harness::{
    Api, Server, Setup, alone, camera, camera_offer, decode_errors, figure, listen, media_server, until, viewer,
};
use recorder::Manifest;
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const ACCESS_KEY: &str = "tester";
const SECRET_KEY: &str = "tester-secret";
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Minio,
    Versity,
}

/// A store with an empty bucket. Dropping it ends it.
pub(crate) struct Store {
    kind: Kind,
    program: PathBuf,
    address: SocketAddr,
    place: TempDir,
    child: Option<Child>,
}

impl Store {
    /// `None` when its program is not there.
    pub(crate) async fn start(kind: Kind) -> Option<Store> {
        let name = if kind == Kind::Minio { "minio" } else { "versitygw" };
        let Some(program) = program(name) else {
            figure(&format!("{name} is not there: not tested with it"));
            return None;
        };
        let place = tempfile::Builder::new().prefix("streamsession-e2e-store-").tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("data/recordings")).unwrap();
        std::fs::create_dir(place.path().join("keys")).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut store = Store { kind, program, address, place, child: None };
        store.use_keys(ACCESS_KEY);
        store.up().await;
        Some(store)
    }

    pub(crate) async fn up(&mut self) {
        let (data, address) = (self.place.path().join("data"), self.address.to_string());
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Minio => command.args(["server", "--address", &address]).arg(data),
            Kind::Versity => {
                command.args(["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", &address, "posix"]).arg(data)
            }
        };
        let command = command
            .envs([("MINIO_ROOT_USER", ACCESS_KEY), ("MINIO_ROOT_PASSWORD", SECRET_KEY), ("MINIO_BROWSER", "off")])
            .env("HOME", self.place.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        let address = self.address;
        until("the store", LIMIT, || async move { tokio::net::TcpStream::connect(address).await.ok() }).await;
    }

    pub(crate) fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What the server signs with from now on.
    fn use_keys(&self, access_key: &str) {
        std::fs::write(self.keys().join("accessKeyId"), access_key).unwrap();
        std::fs::write(self.keys().join("secretAccessKey"), SECRET_KEY).unwrap();
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A directory of the test's own.
    pub(crate) fn place(&self) -> &Path {
        self.place.path()
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.place.path().join("keys")
    }

    /// A server that uploads to it, and keeps nothing itself once it is there.
    pub(crate) fn setup(&self) -> Setup {
        self.setup_with(self.address, "recording: {segmentDuration: 2s, retention: {keepFree: 90%}}")
    }

    /// A server with these fields in its spec that reaches the store at an address, of the store itself or of a link to it.
    pub(crate) fn setup_with(&self, address: SocketAddr, fields: &str) -> Setup {
        let spec = format!(
            "{{{fields}, storage: {{mode: External, external: {{endpoint: \"http://{address}\", bucket: recordings}}}}}}"
        );
        Setup::new().managed().spec(&spec).argument("--store-credentials-dir").argument(self.keys().to_str().unwrap())
    }
}

impl Store {
    /// Returns the names of a recording's objects. Both stores keep an object under its key, MinIO as a directory.
    pub(crate) fn held(&self, room: &str, id: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.place().join("data/recordings").join(room).join(id)) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| self.holds(room, id, name)).collect()
    }

    /// Returns whether it holds a file of a recording.
    pub(crate) fn holds(&self, room: &str, id: &str, file: &str) -> bool {
        let object = self.place().join("data/recordings").join(room).join(id).join(file);
        if self.kind == Kind::Minio { object.join("xl.meta").is_file() } else { object.is_file() }
    }

    /// Where Versity's gateway keeps the objects of a recording, as files.
    pub(crate) fn objects(&self, room: &str, id: &str) -> PathBuf {
        assert_eq!(self.kind, Kind::Versity);
        self.place.path().join("data/recordings").join(room).join(id)
    }

    /// Runs `media-server recordings` with the directories of a server and the keys of this store.
    pub(crate) fn recordings(&self, setup: &Setup, arguments: &[&str]) -> Output {
        let output = Command::new(media_server())
            .arg("recordings")
            .args(arguments)
            .arg("--session")
            .arg(setup.folder().join("session.yaml"))
            .arg("--data-dir")
            .arg(setup.folder().join("data"))
            .arg("--store-credentials-dir")
            .arg(self.keys())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.down();
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let lab = std::env::var_os("LAB_STATE").map_or_else(|| "/var/tmp/streamsession-lab".into(), PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::iter::once(lab.join("bin")).chain(std::env::split_paths(&path)).collect();
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    let required = std::env::var_os("STORES").is_some_and(|value| value == "required");
    assert!(found.is_some() || !required, "there is no {name}: tests/lab/build makes it");
    found
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file of a recording, as a player gets it.
async fn fetch(server: &Server, id: &str, file: &str) -> Vec<u8> {
    let response = reqwest::get(server.url(&format!("/recordings/{id}/{file}"))).await.unwrap();
    assert_eq!(response.status(), 200, "{file}");
    response.bytes().await.unwrap().to_vec()
}

/// A camera sends into a room for so long, and leaves.
pub(crate) async fn record(server: &Server, room: &str, seconds: u64) -> String {
    let camera = camera(server, room).await;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let id = server.api.end(room).await;
    drop(camera);
    id
}

pub(crate) async fn until_gone(folder: &Path) {
    until("the recording has left the disk", LIMIT, || async move { (!folder.exists()).then_some(()) }).await;
}

/// What `GET /admin/session` says, once it is as `wanted`.
pub(crate) async fn session(server: &Server, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let wanted = &wanted;
    until(what, LIMIT, || async move {
        Some(server.management().get("/admin/session").await.json()).filter(|session| wanted(session))
    })
    .await
}

/// Checks every file of a recording that is in the store alone.
pub(crate) async fn check(server: &Server, store: &Store, room: &str, id: &str) -> Manifest {
    let manifest = fetch(server, id, "manifest.json").await;
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    let segments = manifest.segments.iter().map(|segment| (&segment.file, segment.bytes, &segment.sha256));
    let inits = manifest.inits.iter().map(|init| (&init.file, init.bytes, &init.sha256));
    let wholes = [&manifest.playlist].into_iter().map(|file| (&file.file, file.bytes, &file.sha256));
    for (file, bytes, expected) in segments.chain(inits).chain(wholes) {
        let given = fetch(server, id, file).await;
        assert_eq!((given.len() as u64, &sha256(&given)), (bytes, expected), "{file}");
        // This one keeps objects as files.
        if store.kind == Kind::Versity {
            let object = store.objects(room, id).join(file);
            assert_eq!(&sha256(&std::fs::read(object).unwrap()), expected, "{file}");
        }
    }
    manifest
}

/// Comes again and again until nobody answers; gives how often it was told to try again later.
async fn refused(api: Api) -> usize {
    let mut refused = 0;
    loop {
        let sent = api.try_offer("/whip/garden", camera_offer()).await;
        match sent {
            Some(answer) if answer.status == 503 => {
                answer.problem(503, "draining");
                refused += 1;
            }
            Some(answer) => {
                // Before it was told to end: what came then goes again.
                assert_eq!(answer.status, 201, "{answer:?}");
                api.delete(answer.header("location")).await;
            }
            None => return refused,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn arrives(kind: Kind) {
    let _turn = alone().await;
    let Some(mut store) = Store::start(kind).await else { return };
    let server = store.setup().start().await;
    let id = record(&server, "gate", 6).await;
    let ended = Instant::now();
    let folder = server.setup().recordings().join(&id);
    until_gone(&folder).await;
    let seconds = ended.elapsed().as_secs_f64();
    assert_eq!(server.api.get(&format!("/recordings/{id}")).await.json()["stored"], true);
    let manifest = check(&server, &store, "gate", &id).await;
    assert!(manifest.segments.len() >= 3 && manifest.gaps.is_empty() && !manifest.repaired, "{manifest:?}");
    let mp4 = store.place.path().join("recording.mp4");
    std::fs::write(&mp4, fetch(&server, &id, "recording.mp4").await).unwrap();
    assert_eq!(decode_errors(&mp4).await, "");
    let part = server.api.range(&format!("/recordings/{id}/segment-000001.m4s"), "bytes=4-7").await;
    assert_eq!((part.status.as_u16(), part.body.as_str()), (206, "styp"));

    store.down();
    let detail = server.api.get(&format!("/recordings/{id}/segment-000001.m4s")).await;
    let detail = detail.problem(503, "store-unavailable");
    assert!(detail.ends_with("Unreachable"), "{detail}");
    session(&server, "it is told that the store is away", |session| session["store"]["reason"] == "Unreachable").await;
    store.up().await;
    until("the store is back", LIMIT, || async {
        let answer = server.api.get(&format!("/recordings/{id}/manifest.json")).await;
        (answer.status == 200).then_some(())
    })
    .await;
    figure(&format!("{kind:?}: in the store, verified and off the disk {seconds:.2} s after the stream's end"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_arrives_in_minio_and_comes_back_byte_for_byte() {
    arrives(Kind::Minio).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_arrives_in_another_store_and_comes_back_byte_for_byte() {
    arrives(Kind::Versity).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_and_kill_9_cost_nothing_that_was_recorded() {
    let _turn = alone().await;
    let Some(store) = Store::start(Kind::Minio).await else { return };
    store.use_keys("somebody");
    let setup = store.setup();
    let server = setup.start().await;
    let started = Instant::now();
    let told = session(&server, "it is told", |session| session["store"]["reason"] == "AccessDenied").await;
    let seconds = started.elapsed().as_secs_f64();
    assert!(told["store"]["message"].as_str().is_some_and(|text| text.contains("accessKeyId")), "{told}");
    let camera = camera(&server, "gate").await;
    let pending = |session: &Value| session["uploads"]["pending"].as_u64().is_some_and(|pending| pending >= 2);
    let told = session(&server, "segments wait", pending).await;
    assert!(told["uploads"]["failing"] == true && told["uploads"]["message"].is_string(), "{told}");
    let id = server.api.stream("gate").await.unwrap()["id"].as_str().unwrap().to_owned();
    server.kill();
    drop(camera);

    let server = setup.start().await;
    session(&server, "it is finished", |session| session["recordings"]["pendingUploads"] == 1).await;
    store.use_keys(ACCESS_KEY);
    let mended = Instant::now();
    until_gone(&setup.recordings().join(&id)).await;
    figure(&format!(
        "wrong keys are told after {seconds:.2} s; {:.2} s after they are mended all is in the store",
        mended.elapsed().as_secs_f64()
    ));
    let manifest = check(&server, &store, "gate", &id).await;
    assert!(manifest.repaired);
    let well = |session: &Value| session["store"]["ok"] == true && session["uploads"]["failing"] == false;
    session(&server, "all is well", well).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_while_the_server_drains_is_uploaded() {
    let _turn = alone().await;
    let Some(store) = Store::start(Kind::Minio).await else { return };
    let setup = store.setup();
    let server = setup.start().await;
    let camera = camera(&server, "gate").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let id = server.api.stream("gate").await.unwrap()["id"].as_str().unwrap().to_owned();
    let (_watching, notices) = (viewer(&server, "gate").await, listen(&server, "gate").await);
    let newcomers = tokio::spawn(refused(server.api.clone()));
    let told = Instant::now();
    // Half of spec.drain.deadline, as it is by default.
    let status = server.terminate(LIMIT).await;
    let took = told.elapsed();
    drop(camera);
    assert!(status.success(), "{status}");
    let (notices, refused) = (notices.await.unwrap(), newcomers.await.unwrap());
    figure(&format!(
        "told to end: viewers told, {refused} newcomers refused; finished, uploaded and gone after {:.2} s",
        took.as_secs_f64()
    ));
    assert!(notices.ends_with("event: reconnect\ndata: {}\n\n"), "{notices:?}");
    assert!(refused > 0, "nobody who came meanwhile was told to come again");
    let server = setup.start().await;
    assert!(!setup.recordings().join(&id).exists());
    check(&server, &store, "gate", &id).await;
}
