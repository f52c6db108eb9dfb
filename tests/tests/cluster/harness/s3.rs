//! An object store as any client sees it: curl, which signs requests by itself, where the cluster is.

use super::{Forward, Kube, Place, command, run, text};
use ring::digest::{SHA256, digest};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Of a store.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Credentials {
    /// From the Secret that the operator made.
    pub(crate) fn of(kube: &Kube, secret: &str) -> Credentials {
        Credentials { id: kube.secret(secret, "accessKeyId"), secret: kube.secret(secret, "secretAccessKey") }
    }

    /// Into a Secret, as a session names it.
    pub(crate) fn store(&self, kube: &Kube, secret: &str) {
        kube.make_secret(secret, &[("accessKeyId", &self.id), ("secretAccessKey", &self.secret)]);
    }
}

/// A bucket.
pub(crate) struct Bucket {
    url: String,
    credentials: Credentials,
}

impl Bucket {
    /// At a port of this machine, where the cluster is.
    pub(crate) fn at(port: u16, name: &str, credentials: Credentials) -> Bucket {
        Bucket { url: format!("http://127.0.0.1:{port}/{name}"), credentials }
    }

    fn curl(&self, method: &str, path: &str) -> (u16, Vec<u8>) {
        self.curl_with(method, path, &[])
    }

    fn curl_with(&self, method: &str, path: &str, arguments: &[&str]) -> (u16, Vec<u8>) {
        let mut curl = command(Place::Cluster, "curl");
        // The credentials go in by standard input: arguments can be read by anybody.
        curl.args([
            "-sS",
            "-K",
            "-",
            "--aws-sigv4",
            "aws:amz:us-east-1:s3",
            "-X",
            method,
            "-w",
            "%{stderr}%{http_code}",
        ]);
        curl.args(["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", &format!("{}{path}", self.url)]);
        curl.args(arguments);
        let Credentials { id, secret } = &self.credentials;
        let output = run(curl, &format!("user = \"{id}:{secret}\"\n"));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let status = stderr.trim().parse().unwrap_or_else(|_| panic!("curl {}{path}: {stderr}", self.url));
        (status, output.stdout)
    }

    /// Makes it.
    pub(crate) fn create(&self) {
        let (status, body) = self.curl("PUT", "");
        assert!(status == 200 || status == 409, "{status}: {}", String::from_utf8_lossy(&body));
    }

    /// Keys and their sizes, at most 1000.
    pub(crate) fn list(&self) -> BTreeMap<String, u64> {
        let (status, body) = self.curl("GET", "?list-type=2");
        let body = String::from_utf8_lossy(&body);
        assert_eq!(status, 200, "{body}");
        let inner = |text: &str, tag: &str| {
            let begin = text.find(&format!("<{tag}>")).unwrap() + tag.len() + 2;
            text[begin..begin + text[begin..].find("</").unwrap()].to_owned()
        };
        body.split("<Contents>")
            .skip(1)
            .map(|each| (inner(each, "Key"), inner(each, "Size").parse().unwrap()))
            .collect()
    }

    /// An object that must be there.
    pub(crate) fn get(&self, key: &str) -> Vec<u8> {
        let (status, body) = self.curl("GET", &format!("/{key}"));
        assert_eq!(status, 200, "{key}: {}", String::from_utf8_lossy(&body));
        body
    }

    /// Puts an object.
    pub(crate) fn put(&self, key: &str, content: &[u8]) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let (status, body) =
            self.curl_with("PUT", &format!("/{key}"), &["--data-binary", &format!("@{}", file.path().display())]);
        assert_eq!(status, 200, "{key}: {}", String::from_utf8_lossy(&body));
    }

    /// Puts an object without content.
    pub(crate) fn touch(&self, key: &str) {
        let (status, body) = self.curl("PUT", &format!("/{key}"));
        assert_eq!(status, 200, "{key}: {}", String::from_utf8_lossy(&body));
    }

    /// Of every recording below `prefix` that has a manifest: what it names is there, with that length and SHA-256. Gives
    /// how many recordings, files and bytes there are.
    pub(crate) fn whole_recordings(&self, prefix: &str) -> (usize, usize, u64) {
        let keys = self.list();
        let (mut recordings, mut files, mut bytes) = (0, 0, 0);
        let manifests = keys.keys().filter(|key| key.starts_with(prefix) && key.ends_with("/manifest.json"));
        for manifest in manifests {
            let folder = manifest.strip_suffix("manifest.json").unwrap();
            for (name, (length, sha256)) in named_by(&serde_json::from_slice(&self.get(manifest)).unwrap()) {
                let content = self.get(&format!("{folder}{name}"));
                assert_eq!((content.len() as u64, hex(&content)), (length, sha256), "{folder}{name}");
                files += 1;
                bytes += length;
            }
            recordings += 1;
        }
        (recordings, files, bytes)
    }
}

/// Files that a manifest says are in the store: length and SHA-256.
fn named_by(manifest: &Value) -> BTreeMap<String, (u64, String)> {
    let list = |name: &str| manifest[name].as_array().unwrap_or_else(|| panic!("no {name}: {manifest:#}")).clone();
    let files = list("inits").into_iter().chain(list("segments")).chain([manifest["playlist"].clone()]);
    files.map(|file| (text(&file, "/file"), (file["bytes"].as_u64().unwrap(), text(&file, "/sha256")))).collect()
}

fn hex(content: &[u8]) -> String {
    digest(&SHA256, content).as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A store that is not ours, in the cluster: versitygw on a folder.
pub(crate) fn second_store(kube: &Kube) -> (Forward, Credentials) {
    let credentials = Credentials { id: "second".to_owned(), secret: "a-key-made-for-this-test".to_owned() };
    credentials.store(kube, "second-store");
    // With an empty folder, whatever was here before.
    kube.delete("deployment", "second-store");
    kube.apply(&include_str!("../second-store.yaml").replace("IMAGE", &std::env::var("VERSITYGW_IMAGE").unwrap()));
    kube.kubectl(&["rollout", "status", "deployment/second-store", "--timeout=60s"]);
    (kube.forward("service/second-store", 7070), credentials)
}
