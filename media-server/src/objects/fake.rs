//! A store for tests: as much of S3 as recordings need, in memory, with switches for what can go wrong.

use super::{Digest, Objects};
use crate::config::StoreConfig;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Response, StatusCode};
use futures_util::StreamExt as _;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use streamsession_api::StorageMode;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It answers so, with this code.
    Answers(u16, &'static str),
    /// It never answers.
    Silent,
    /// It gives half of an object.
    Truncates,
    /// It tells of another SHA-256 than the object's.
    Lies,
    /// It loses what is put.
    Forgets,
}

impl Fault {
    pub(crate) const DENIED: Fault = Fault::Answers(403, "AccessDenied");
    pub(crate) const BROKEN: Fault = Fault::Answers(500, "InternalError");
    pub(crate) const BUSY: Fault = Fault::Answers(503, "SlowDown");
    pub(crate) const FULL: Fault = Fault::Answers(507, "XMinioStorageFull");
}

#[derive(Default)]
struct Contents {
    bucket: bool,
    objects: BTreeMap<String, Vec<u8>>,
    /// Method and key of each request, in order.
    requests: Vec<String>,
    /// For requests of this method, or of any.
    fault: Option<(Option<Method>, Fault)>,
    /// It keeps no checksums of its own.
    plain: bool,
    /// It cannot delete many at once.
    one_by_one: bool,
    /// It obeys If-None-Match; else it refuses that.
    conditions: bool,
    /// The access key that it knows.
    access_key: String,
    /// The session token that requests must have signed.
    session_token: Option<String>,
    /// How many puts run now, and ran at once at most.
    puts: (usize, usize),
    delay: Duration,
}

/// See the module.
pub(crate) struct FakeStore {
    contents: Arc<Mutex<Contents>>,
    endpoint: String,
    /// Holds the keys, and a session token if one is put there.
    pub(crate) credentials: tempfile::TempDir,
    serving: JoinHandle<()>,
}

impl FakeStore {
    /// With the bucket in it.
    pub(crate) async fn start() -> FakeStore {
        let contents = Contents { bucket: true, access_key: "key".to_owned(), ..Contents::default() };
        let contents = Arc::new(Mutex::new(contents));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(contents.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let credentials = tempfile::tempdir().unwrap();
        let fake = FakeStore { contents, endpoint, credentials, serving };
        fake.use_key("key");
        fake
    }

    /// What is needed to reach it.
    pub(crate) fn config(&self) -> StoreConfig {
        StoreConfig {
            mode: StorageMode::External,
            endpoint: self.endpoint.clone(),
            region: "us-east-1".to_owned(),
            bucket: "recordings".to_owned(),
            path_style: true,
            prefix: "default/cams/".to_owned(),
            credentials_dir: Some(self.credentials.path().to_owned()),
            ..StoreConfig::default()
        }
    }

    /// A handle that does not wait long.
    pub(crate) fn objects(&self) -> Objects {
        Objects::with_patience(&self.config(), Duration::from_millis(500))
    }

    /// The client uses this access key from now on.
    pub(crate) fn use_key(&self, key: &str) {
        let file = |name: &str| -> PathBuf { Path::new(self.credentials.path()).join(name) };
        std::fs::write(file("accessKeyId"), key).unwrap();
        std::fs::write(file("secretAccessKey"), "secret").unwrap();
    }

    /// Requests must have this session token among their signed headers.
    pub(crate) fn require_token(&self, token: &str) {
        self.lock().session_token = Some(token.to_owned());
    }

    /// From now on it does this wrong, or nothing.
    pub(crate) fn fail(&self, fault: impl Into<Option<Fault>>) {
        self.lock().fault = fault.into().map(|fault| (None, fault));
    }

    /// From now on it does this wrong, with this method alone.
    pub(crate) fn fail_on(&self, method: Method, fault: Fault) {
        self.lock().fault = Some((Some(method), fault));
    }

    pub(crate) fn remove_bucket(&self) {
        self.lock().bucket = false;
    }

    /// It keeps no checksums of its own.
    pub(crate) fn keep_no_checksums(&self) {
        self.lock().plain = true;
    }

    /// It obeys conditional writes, or refuses them.
    pub(crate) fn know_conditions(&self, known: bool) {
        self.lock().conditions = known;
    }

    pub(crate) fn delete_one_by_one(&self) {
        self.lock().one_by_one = true;
    }

    /// How long a put takes.
    pub(crate) fn delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Keys below the prefix, without the owner's marker.
    pub(crate) fn keys(&self) -> Vec<String> {
        let keys = self.lock().objects.keys().cloned().collect::<Vec<_>>();
        let keys = keys.into_iter().filter_map(|key| key.strip_prefix("default/cams/").map(str::to_owned));
        keys.filter(|key| key != super::owner::MARKER).collect()
    }

    pub(crate) fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.lock().objects.get(&format!("default/cams/{key}")).cloned()
    }

    /// Somebody changes an object behind our back.
    pub(crate) fn overwrite(&self, key: &str, bytes: &[u8]) {
        self.lock().objects.insert(format!("default/cams/{key}"), bytes.to_owned());
    }

    /// `PUT KEY`, `GET KEY` …, as they came, but for those of the owner's marker.
    pub(crate) fn requests(&self) -> Vec<String> {
        let requests = self.lock().requests.clone();
        requests.into_iter().filter(|request| !request.ends_with(super::owner::MARKER)).collect()
    }

    /// Counts from here on.
    pub(crate) fn reset_requests(&self) {
        self.lock().requests.clear();
    }

    /// Requests that begin so.
    pub(crate) fn count(&self, begin: &str) -> usize {
        self.requests().iter().filter(|request| request.starts_with(begin)).count()
    }

    /// Most puts that ran at once.
    pub(crate) fn most_puts(&self) -> usize {
        self.lock().puts.1
    }

    /// Counts from here on.
    pub(crate) fn reset_most_puts(&self) {
        let mut contents = self.lock();
        contents.puts.1 = contents.puts.0;
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap()
    }
}

impl Drop for FakeStore {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Shared = State<Arc<Mutex<Contents>>>;

async fn answer(State(contents): Shared, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let key = percent(head.uri.path().trim_start_matches("/recordings").trim_start_matches('/'));
    let query = head.uri.query().unwrap_or_default().to_owned();
    let put = head.method == Method::PUT && !key.is_empty();
    let (fault, delay) = {
        let mut contents = contents.lock().unwrap();
        contents.requests.push(format!("{} {}", head.method, key.strip_prefix("default/cams/").unwrap_or(&key)));
        if put {
            contents.puts.0 += 1;
            contents.puts.1 = contents.puts.1.max(contents.puts.0);
        }
        let fault = contents.fault.clone().filter(|(method, _)| method.as_ref().is_none_or(|m| *m == head.method));
        (fault.map(|(_, fault)| fault), contents.delay)
    };
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    if put {
        tokio::time::sleep(delay).await;
        contents.lock().unwrap().puts.0 -= 1;
    }
    match fault {
        Some(Fault::Answers(status, code)) => return refuse(status, code, &head.method),
        Some(Fault::Silent) => std::future::pending().await,
        _ => {}
    }
    let mut contents = contents.lock().unwrap();
    let signed = head.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !signed.contains(&format!("Credential={}/", contents.access_key)) {
        return refuse(403, "InvalidAccessKeyId", &head.method);
    }
    if let Some(token) = &contents.session_token {
        let sent = head.headers.get("x-amz-security-token").and_then(|value| value.to_str().ok());
        let headers = signed.split_once("SignedHeaders=").and_then(|(_, rest)| rest.split(',').next());
        let covered = headers.is_some_and(|headers| headers.split(';').any(|name| name == "x-amz-security-token"));
        if sent != Some(token) || !covered {
            return refuse(403, "InvalidToken", &head.method);
        }
    }
    if !contents.bucket {
        if key.is_empty() && head.method == Method::PUT {
            contents.bucket = true;
            return plain(StatusCode::OK, Body::empty());
        }
        return refuse(404, "NoSuchBucket", &head.method);
    }
    serve(&mut contents, &head.method, &key, &query, &head.headers, &body, fault)
}

fn serve(
    contents: &mut Contents,
    method: &Method,
    key: &str,
    query: &str,
    headers: &HeaderMap,
    body: &[u8],
    fault: Option<Fault>,
) -> Response<Body> {
    match (method.as_str(), key) {
        ("PUT", key) if !key.is_empty() => {
            let sent = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            if sent("x-amz-content-sha256") != Some(Digest::of(body).to_string()) {
                return refuse(400, "XAmzContentSHA256Mismatch", method);
            }
            if sent("x-amz-checksum-sha256") != Some(Digest::of(body).base64()) {
                return refuse(400, "BadDigest", method);
            }
            match (sent("if-none-match"), contents.conditions) {
                (Some(_), false) => return refuse(501, "NotImplemented", method),
                (Some(_), true) if contents.objects.contains_key(key) => {
                    return refuse(412, "PreconditionFailed", method);
                }
                _ => {}
            }
            if fault != Some(Fault::Forgets) {
                contents.objects.insert(key.to_owned(), body.to_owned());
            }
            plain(StatusCode::OK, Body::empty())
        }
        ("HEAD" | "PUT", "") => plain(StatusCode::OK, Body::empty()),
        ("HEAD" | "GET", key) if !key.is_empty() => {
            let Some(object) = contents.objects.get(key) else { return refuse(404, "NoSuchKey", method) };
            give(object, headers, contents.plain, fault)
        }
        ("GET", _) => list(contents, query),
        ("POST", _) if contents.one_by_one => refuse(501, "NotImplemented", method),
        ("POST", _) => {
            let text = String::from_utf8_lossy(body).into_owned();
            for key in text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
                contents.objects.remove(key);
            }
            xml("<DeleteResult></DeleteResult>".to_owned())
        }
        ("DELETE", key) => {
            contents.objects.remove(key);
            plain(StatusCode::NO_CONTENT, Body::empty())
        }
        _ => refuse(405, "MethodNotAllowed", method),
    }
}

fn give(object: &[u8], headers: &HeaderMap, no_checksum: bool, fault: Option<Fault>) -> Response<Body> {
    let range = headers.get("range").and_then(|value| value.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let bounds = range.map(|(from, to)| (from.parse::<usize>().unwrap(), to.parse::<usize>().unwrap()));
    let (from, to) = bounds.map_or((0, object.len()), |(from, to)| (from, (to + 1).min(object.len())));
    let (status, part) = (if range.is_some() { 206 } else { 200 }, &object[from..to]);
    let mut response = Response::builder().status(status).header("content-length", part.len()).header("etag", "\"e\"");
    if range.is_some() {
        response = response.header("content-range", format!("bytes {from}-{}/{}", to - 1, object.len()));
    }
    if headers.contains_key("x-amz-checksum-mode") && !no_checksum {
        let of: &[u8] = if fault == Some(Fault::Lies) { b"another" } else { object };
        response = response.header("x-amz-checksum-sha256", Digest::of(of).base64());
    }
    let body = match fault {
        Some(Fault::Truncates) => {
            let half = bytes::Bytes::copy_from_slice(&part[..part.len() / 2]);
            // What was given has left before the connection breaks.
            let cut = futures_util::stream::once(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(std::io::Error::other("cut"))
            });
            Body::from_stream(futures_util::stream::iter([Ok(half)]).chain(cut))
        }
        _ => Body::from(part.to_owned()),
    };
    response.body(body).unwrap()
}

/// Two objects a page, so that there are pages.
fn list(contents: &Contents, query: &str) -> Response<Body> {
    let asked = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).map(percent);
    let (prefix, after) = (asked("prefix").unwrap_or_default(), asked("continuation-token").unwrap_or_default());
    let mut found = contents.objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after);
    let page: Vec<_> = found.by_ref().take(2).collect();
    let more = found.next().is_some();
    let mut text = format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>");
    for (key, object) in &page {
        let at = "2026-11-22T10:00:00.000Z";
        text += &format!(
            "<Contents><Key>{key}</Key><Size>{}</Size><LastModified>{at}</LastModified></Contents>",
            object.len()
        );
    }
    if let (true, Some((last, _))) = (more, page.last()) {
        text += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
    }
    xml(text + "</ListBucketResult>")
}

fn xml(text: String) -> Response<Body> {
    Response::builder().header("content-type", "application/xml").body(Body::from(text)).unwrap()
}

fn plain(status: StatusCode, body: Body) -> Response<Body> {
    Response::builder().status(status).body(body).unwrap()
}

fn refuse(status: u16, code: &str, method: &Method) -> Response<Body> {
    let text = format!("<Error><Code>{code}</Code><Message>No.</Message></Error>");
    let body = if method == Method::HEAD { Body::empty() } else { Body::from(text) };
    Response::builder().status(status).header("content-type", "application/xml").body(body).unwrap()
}

/// Undoes percent-encoding.
fn percent(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).unwrap()
}
