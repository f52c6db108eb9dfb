//! An object store as any client sees it: curl, which signs requests by itself, where the cluster is.

use super::{Kube, Place, command, run};
use std::collections::BTreeMap;

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
}
