//! Requests to a store that does what it should, and to one that does not.

use super::fake::{FakeStore, Fault};
use super::{Digest, Objects, Reason, RemoteReader, Source};
use axum::http::Method;
use futures_util::StreamExt as _;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::Duration;

async fn put(objects: &Objects, key: &str, text: &'static str) -> Result<(), Reason> {
    let source = Source::Bytes(text.as_bytes().into());
    objects.put(key, &source, Digest::of(text.as_bytes())).await.map_err(|error| error.reason())
}

async fn text(objects: &Objects, key: &str, range: Option<std::ops::RangeInclusive<u64>>) -> String {
    let content = objects.get(key, range).await.unwrap();
    String::from_utf8(content.collect(1000).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn an_object_goes_there_and_comes_back() {
    let (fake, place) = (FakeStore::start().await, tempfile::tempdir().unwrap());
    let objects = fake.objects();
    let path = place.path().join("segment-000001.m4s");
    std::fs::write(&path, "0123456789").unwrap();
    let digest = Digest::of(b"0123456789");
    objects.put("gate/a/segment-000001.m4s", &Source::File(path), digest).await.unwrap();
    assert_eq!(fake.object("gate/a/segment-000001.m4s").unwrap(), b"0123456789");
    let head = objects.head("gate/a/segment-000001.m4s").await.unwrap();
    assert_eq!((head.len, head.sha256), (10, Some(digest)));
    assert_eq!(text(&objects, "gate/a/segment-000001.m4s", None).await, "0123456789");
    assert_eq!(text(&objects, "gate/a/segment-000001.m4s", Some(3..=5)).await, "345");
    assert_eq!(objects.get("gate/a/segment-000001.m4s", Some(3..=5)).await.unwrap().len, 10);
}

#[tokio::test]
async fn what_is_not_what_it_should_be_is_refused() {
    let (fake, place) = (FakeStore::start().await, tempfile::tempdir().unwrap());
    let objects = fake.objects();
    let path = place.path().join("changed");
    std::fs::write(&path, "changed").unwrap();
    let error = objects.put("x", &Source::File(path), Digest::of(b"as it was")).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ChecksumMismatch);
    let nothing = Source::File(place.path().join("nothing"));
    let error = objects.put("x", &nothing, Digest::of(b"")).await.unwrap_err();
    assert_eq!(error.reason(), Reason::FileUnreadable);
    assert_eq!(fake.keys(), [""; 0]);
}

#[tokio::test]
async fn lists_come_page_by_page_and_stay_below_the_prefix() {
    let fake = FakeStore::start().await;
    let objects = fake.objects();
    for key in ["gate/a/1", "gate/a/2", "gate/a/3", "gate/b/1", "yard/c/1"] {
        put(&objects, key, "x").await.unwrap();
    }
    let keys = |listed: Vec<super::Listed>| listed.into_iter().map(|object| object.key).collect::<Vec<_>>();
    assert_eq!(keys(objects.list_all("gate/a/").await.unwrap()), ["gate/a/1", "gate/a/2", "gate/a/3"]);
    let first = objects.list("", None).await.unwrap();
    assert_eq!(first.objects.len(), 2);
    let second = objects.list("", first.next.as_deref()).await.unwrap();
    assert_eq!(keys(second.objects), ["gate/a/3", "gate/b/1"]);
    assert_eq!(keys(objects.list_all("").await.unwrap()).len(), 5);
}

#[tokio::test]
async fn objects_are_deleted_by_stores_of_both_kinds() {
    let fake = FakeStore::start().await;
    let objects = fake.objects();
    for one_by_one in [false, true] {
        put(&objects, "a", "x").await.unwrap();
        put(&objects, "b", "x").await.unwrap();
        if one_by_one {
            fake.delete_one_by_one();
        }
        objects.delete(&["a".to_owned(), "never-there".to_owned()]).await.unwrap();
        assert_eq!(fake.keys(), ["b"], "one by one: {one_by_one}");
    }
}

#[tokio::test]
async fn every_failure_has_its_reason_and_remedy() {
    let fake = FakeStore::start().await;
    let objects = fake.objects();
    for (fault, reason) in [
        (Fault::DENIED, Reason::AccessDenied),
        (Fault::BROKEN, Reason::Failed),
        (Fault::BUSY, Reason::SlowDown),
        (Fault::FULL, Reason::Full),
        (Fault::Answers(404, "NoSuchBucket"), Reason::NoSuchBucket),
        (Fault::Answers(403, "RequestTimeTooSkewed"), Reason::ClockSkewed),
        (Fault::Silent, Reason::TimedOut),
    ] {
        fake.fail(fault);
        let source = Source::Bytes("x".into());
        let error = objects.put("a", &source, Digest::of(b"x")).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(
            error.to_string().contains(reason.remedy()) && error.to_string().contains("http://127.0.0.1"),
            "{error}"
        );
    }
    fake.fail(None);
    let error = objects.head("nothing").await.unwrap_err();
    assert_eq!(error.reason(), Reason::NotFound);
    drop(fake);
}

#[tokio::test]
async fn error_names_the_requested_url() {
    let fake = FakeStore::start().await;
    let (objects, endpoint) = (fake.objects(), fake.config().endpoint);
    for fault in [Fault::DENIED, Fault::Answers(404, "NoSuchBucket"), Fault::Silent] {
        fake.fail(fault);
        let error =
            objects.put("gate/a b", &Source::Bytes("x".into()), Digest::of(b"x")).await.unwrap_err().to_string();
        assert!(error.contains(&format!("[PUT {endpoint}/recordings/default/cams/gate/a%20b]: ")), "{error}");
        assert!(!error.contains('?') && !error.contains("Signature") && !error.contains("Credential"), "{error}");
        let error = objects.ensure_bucket().await.unwrap_err().to_string();
        assert!(error.contains(&format!("[GET {endpoint}/recordings")), "{error}");
        assert!(!error.contains('?') && !error.contains("Credential="), "{error}");
    }
}

#[tokio::test]
async fn endpoint_path_keeps_its_slash() {
    let fake = FakeStore::start().await;
    for endpoint in ["/s3", "/s3/", "/deep/s3"] {
        let config = crate::config::StoreConfig { endpoint: fake.config().endpoint + endpoint, ..fake.config() };
        put(&Objects::connect(&config), "a", "x").await.unwrap();
        let base = endpoint.trim_matches('/');
        assert_eq!(fake.requests().pop().unwrap(), format!("PUT {base}/recordings/default/cams/a"));
    }
}

#[tokio::test]
async fn a_store_that_is_not_there_is_unreachable() {
    let fake = FakeStore::start().await;
    let mut config = fake.config();
    config.endpoint = "http://127.0.0.1:1".to_owned();
    let error = Objects::connect(&config).ensure_bucket().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unreachable, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn keys_are_missing_then_wrong_then_right() {
    let fake = FakeStore::start().await;
    let objects = fake.objects();
    std::fs::remove_file(fake.credentials.path().join("accessKeyId")).unwrap();
    let error = objects.ensure_bucket().await.unwrap_err();
    assert_eq!(error.reason(), Reason::CredentialsMissing, "{error}");
    assert!(error.to_string().contains("accessKeyId"), "{error}");
    fake.use_key("wrong");
    assert_eq!(objects.ensure_bucket().await.unwrap_err().reason(), Reason::AccessDenied);
    let error = objects.list("", None).await.unwrap_err();
    assert!(error.to_string().contains("InvalidAccessKeyId") && !error.to_string().contains("wrong"), "{error}");
    fake.use_key("key");
    objects.ensure_bucket().await.unwrap();
}

#[tokio::test]
async fn a_bucket_is_made_only_where_that_is_asked() {
    let fake = FakeStore::start().await;
    fake.remove_bucket();
    assert_eq!(fake.objects().ensure_bucket().await.unwrap_err().reason(), Reason::NoSuchBucket);
    let ours = crate::config::StoreConfig { create_bucket: true, ..fake.config() };
    Objects::connect(&ours).ensure_bucket().await.unwrap();
    fake.objects().ensure_bucket().await.unwrap();
}

#[tokio::test]
async fn half_an_object_is_an_error() {
    let fake = FakeStore::start().await;
    let objects = fake.objects();
    put(&objects, "a", "0123456789").await.unwrap();
    fake.fail_on(Method::GET, Fault::Truncates);
    let mut content = objects.get("a", None).await.unwrap();
    let mut ended = Vec::new();
    while let Some(bytes) = content.bytes.next().await {
        ended.push(bytes.is_ok());
    }
    assert_eq!(ended.last(), Some(&false));
}

#[tokio::test]
async fn a_failure_while_reading_is_tried_once_more() {
    let fake = FakeStore::start().await;
    fake.fail(Fault::BROKEN);
    fake.objects().head("a").await.unwrap_err();
    assert_eq!(fake.count("HEAD"), 2);
    put(&fake.objects(), "a", "x").await.unwrap_err();
    assert_eq!(fake.count("PUT"), 1, "who uploads has a pace of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_reads_like_a_file() {
    let fake = FakeStore::start().await;
    let objects = fake.objects();
    let text: &'static str = "0123456789".repeat(100_000).leak();
    put(&objects, "a", text).await.unwrap();
    let mut reader = RemoteReader::new(&objects, &tokio::runtime::Handle::current(), "a".to_owned(), 1_000_000);
    let read = move || {
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, text);
        for (to, expected) in [(3, "345"), (9, "901"), (900_008, "890"), (999_999, "9"), (1_000_000, "")] {
            reader.seek(SeekFrom::Start(to)).unwrap();
            let mut three = String::new();
            (&mut reader).take(3).read_to_string(&mut three).unwrap();
            assert_eq!(three, expected);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), tokio::task::spawn_blocking(read)).await.unwrap().unwrap();
}
