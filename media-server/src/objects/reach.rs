//! The way to a store: private authorities, proxies, session tokens and web identities.

use super::fake::FakeStore;
use super::{Objects, Reason};
use crate::auth::Secret;
use crate::config::{Proxies, StoreConfig};
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An authority, and a server's certificate that it signed for `localhost`.
struct Authority {
    pem: String,
    tls: Arc<ServerConfig>,
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let tls = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    Authority { pem, tls: Arc::new(tls) }
}

/// Ends TLS in front of a store. Returns the endpoint.
async fn tls_front(authority: &Authority, fake: &FakeStore) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let to = fake.config().endpoint.trim_start_matches("http://").to_owned();
    let acceptor = TlsAcceptor::from(authority.tls.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                copy_bidirectional(&mut stream, &mut TcpStream::connect(to).await?).await
            });
        }
    });
    endpoint
}

/// A proxy that leads every CONNECT to its target. Returns its URL, and the first line and authorization of each request.
async fn proxy() -> (String, Arc<Mutex<Vec<(String, Option<String>)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let requests = requests.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let (mut lines, mut line) = (Vec::new(), String::new());
                while stream.read_line(&mut line).await? > 2 {
                    lines.push(std::mem::take(&mut line).trim_end().to_owned());
                }
                let authorization = lines.iter().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("proxy-authorization").then(|| value.to_owned())
                });
                requests.lock().unwrap().push((lines[0].clone(), authorization));
                let port = lines[0].split(' ').nth(1).and_then(|target| target.rsplit_once(':')).map(|(_, port)| port);
                let mut target = TcpStream::connect(format!("127.0.0.1:{}", port.unwrap())).await?;
                stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                copy_bidirectional(&mut stream, &mut target).await
            });
        }
    });
    (address.to_string(), seen)
}

fn config(fake: &FakeStore, endpoint: &str, ca_file: &Path) -> StoreConfig {
    StoreConfig { endpoint: endpoint.to_owned(), ca_file: Some(ca_file.to_owned()), ..fake.config() }
}

#[tokio::test]
async fn private_authority_is_trusted_and_renewed() {
    let (fake, place) = (FakeStore::start().await, tempfile::tempdir().unwrap());
    let (ours, theirs, file) = (authority(), authority(), place.path().join("ca.crt"));
    let endpoint = tls_front(&ours, &fake).await;
    fs::write(&file, &theirs.pem).unwrap();
    let objects = Objects::connect(&config(&fake, &endpoint, &file));
    let error = objects.ensure_bucket().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unreachable, "{error}");
    assert!(error.to_string().contains("certificate") && error.to_string().contains("--store-ca-file"), "{error}");
    fs::write(&file, format!("{}{}", theirs.pem, ours.pem)).unwrap();
    objects.ensure_bucket().await.expect("the file has it now");
    fs::write(&file, "no certificate").unwrap();
    objects.ensure_bucket().await.expect("the last good ones stay in force");
}

#[test]
fn file_without_certificates_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("ca.crt");
    let refused = |file: &Path| super::read_authorities(file).unwrap_err().to_string();
    assert!(refused(&file).contains("cannot be read"));
    let cut = authority().pem.replace("-----END CERTIFICATE-----", "");
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    for text in [String::new(), "no certificate".to_owned(), cut, garbage] {
        fs::write(&file, &text).unwrap();
        assert!(refused(&file).contains("PEM"), "{text}");
        let error = crate::config::check_ca_file(&file).unwrap_err().to_string();
        assert!(error.contains("--store-ca-file") && error.contains("ca.crt"), "{error}");
    }
    fs::write(&file, authority().pem).unwrap();
    super::read_authorities(&file).unwrap();
}

#[tokio::test]
async fn secure_store_is_reached_through_the_proxy() {
    let (fake, place) = (FakeStore::start().await, tempfile::tempdir().unwrap());
    let (authority, file) = (authority(), place.path().join("ca.crt"));
    fs::write(&file, &authority.pem).unwrap();
    let endpoint = tls_front(&authority, &fake).await;
    let (address, seen) = proxy().await;
    let target = endpoint.trim_start_matches("https://");
    for (direct, expected) in [("", 1), ("example.com", 1), ("localhost", 0), ("*", 0)] {
        let https = Some(Secret::new(format!("http://me:secret@{address}")));
        let proxies = Proxies { http: None, https, direct: direct.to_owned() };
        let config = StoreConfig { proxies, ..config(&fake, &endpoint, &file) };
        Objects::connect(&config).ensure_bucket().await.unwrap();
        let requests = std::mem::take(&mut *seen.lock().unwrap());
        assert_eq!(requests.len(), expected, "NO_PROXY={direct}: {requests:?}");
        for (line, authorization) in requests {
            assert_eq!(line, format!("CONNECT {target} HTTP/1.1"));
            assert_eq!(authorization.as_deref(), Some("Basic bWU6c2VjcmV0"));
        }
    }
    let none = Some(Secret::new("http://127.0.0.1:1"));
    let proxies = Proxies { http: None, https: none, direct: String::new() };
    let config = StoreConfig { proxies, ..config(&fake, &endpoint, &file) };
    let error = Objects::connect(&config).ensure_bucket().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unreachable, "{error}");
    assert!(error.to_string().contains("proxies"), "{error}");
}

#[tokio::test]
async fn session_token_of_a_file_is_signed() {
    let fake = FakeStore::start().await;
    fake.require_token("token-1");
    let objects = fake.objects();
    assert_eq!(objects.ensure_bucket().await.unwrap_err().reason(), Reason::AccessDenied);
    fs::write(fake.credentials.path().join("sessionToken"), "token-1\n").unwrap();
    objects.ensure_bucket().await.unwrap();
    fake.require_token("token-2");
    assert_eq!(objects.ensure_bucket().await.unwrap_err().reason(), Reason::AccessDenied);
    fs::write(fake.credentials.path().join("sessionToken"), "token-2").unwrap();
    objects.ensure_bucket().await.unwrap();
}

/// Answers AssumeRoleWithWebIdentity, and keeps the requests.
async fn token_service(asked: Arc<Mutex<Vec<String>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let answer = async |State(asked): State<Arc<Mutex<Vec<String>>>>, body: String| {
        asked.lock().unwrap().push(body);
        let until = jiff::Timestamp::try_from(SystemTime::now() + Duration::from_secs(3600)).unwrap();
        format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>key</AccessKeyId>\
             <SecretAccessKey>secret</SecretAccessKey><SessionToken>token-3</SessionToken>\
             <Expiration>{until}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
             </AssumeRoleWithWebIdentityResponse>"
        )
    };
    let router = Router::new().route("/", post(answer)).with_state(asked);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    endpoint
}

/// The environment belongs to the process, so the client runs in another process: the test below.
#[tokio::test(flavor = "multi_thread")]
async fn web_identity_is_exchanged_for_keys() {
    let (fake, place) = (FakeStore::start().await, tempfile::tempdir().unwrap());
    fake.require_token("token-3");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let service = token_service(asked.clone()).await;
    let token: PathBuf = place.path().join("token");
    fs::write(&token, "identity-of-the-pod").unwrap();
    let mut client = Command::new(std::env::current_exe().unwrap());
    client.args(["--exact", "--ignored", "objects::reach::client_of_the_environment"]).env_clear();
    client.env("HOME", place.path()).env("AWS_WEB_IDENTITY_TOKEN_FILE", &token);
    client.env("AWS_ROLE_ARN", "arn:aws:iam::1:role/recorder").env("AWS_ENDPOINT_URL_STS", service);
    client.env("TEST_STORE_ENDPOINT", fake.config().endpoint);
    let ended = tokio::task::spawn_blocking(move || client.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 1, "the keys are used until they expire: {asked:?}");
    for part in ["AssumeRoleWithWebIdentity", "identity-of-the-pod", "role%2Frecorder"] {
        assert!(asked[0].contains(part), "{part}: {}", asked[0]);
    }
}

#[tokio::test]
#[ignore = "runs in a process that is started by web_identity_is_exchanged_for_keys"]
async fn client_of_the_environment() {
    let endpoint = std::env::var("TEST_STORE_ENDPOINT").unwrap();
    let config = StoreConfig {
        mode: streamsession_api::StorageMode::External,
        endpoint,
        region: "us-east-1".to_owned(),
        bucket: "recordings".to_owned(),
        path_style: true,
        ..StoreConfig::default()
    };
    let objects = Objects::connect(&config);
    objects.ensure_bucket().await.unwrap();
    objects.ensure_bucket().await.unwrap();
}
