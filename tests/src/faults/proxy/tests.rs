use super::*;
use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Senders of the watches that were opened.
type Opened = Arc<Mutex<Vec<UnboundedSender<String>>>>;

/// An API server: what was asked, and watches that say what the test wants.
fn upstream(asked: &Arc<Mutex<Vec<String>>>, opened: &Opened) -> Client {
    let (asked, opened) = (Arc::clone(asked), Arc::clone(opened));
    let service = tower::service_fn(move |request: axum::http::Request<kube::client::Body>| {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        asked.lock().unwrap().push(format!("{method} {}", uri.path()));
        let body = if uri.query().unwrap_or_default().contains("watch=true") {
            let (sender, receiver) = unbounded_channel();
            opened.lock().unwrap().push(sender);
            Body::from_stream(stream::unfold(receiver, |mut receiver| async move {
                let line: String = receiver.recv().await?;
                Some((Ok::<_, Infallible>(line), receiver))
            }))
        } else {
            Body::from(r#"{"kind":"Thing"}"#)
        };
        std::future::ready(Ok::<_, Infallible>(axum::http::Response::new(body)))
    });
    Client::new(service, "default")
}

async fn start(seed: u64, rates: Rates, asked: &Arc<Mutex<Vec<String>>>, opened: &Opened) -> (Proxy, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let proxy = Proxy::new(upstream(asked, opened), seed, rates);
    tokio::spawn(proxy.clone().serve(listener));
    (proxy, base)
}

async fn chunk(answer: &mut reqwest::Response) -> Option<String> {
    let next = tokio::time::timeout(Duration::from_secs(10), answer.chunk()).await.expect("in time");
    next.unwrap_or_default().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

/// A seed whose first watch meets this.
fn seed_of(is: impl Fn(Watch) -> bool) -> u64 {
    (0..10_000).find(|seed| is(storm::watch(*seed, 0, &Rates { watches: 1.0, ..Rates::NONE }))).unwrap()
}

#[tokio::test]
async fn what_is_refused_does_not_arrive_and_what_is_lost_does() {
    for (rates, arrives) in
        [(Rates { refused: 1.0, ..Rates::NONE }, 0), (Rates { lost: 1.0, ..Rates::NONE }, 20), (Rates::NONE, 20)]
    {
        let (asked, opened) = (Arc::default(), Opened::default());
        let (proxy, base) = start(1, rates, &asked, &opened).await;
        let client = reqwest::Client::new();
        let mut codes = Vec::new();
        for _ in 0..20 {
            let answer =
                client.patch(format!("{base}/api/v1/namespaces/a/services/x")).body("{}").send().await.unwrap();
            codes.push(answer.status().as_u16());
            if answer.status() == 429 {
                assert_eq!(answer.headers()["retry-after"], "1");
            }
            if !answer.status().is_success() {
                let status: serde_json::Value = answer.json().await.unwrap();
                assert_eq!(status["code"].as_u64(), codes.last().map(|code| u64::from(*code)));
            }
        }
        assert_eq!(asked.lock().unwrap().len(), arrives, "{rates:?}");
        let failed = codes.iter().filter(|code| **code >= 400).count();
        assert_eq!(failed, if rates == Rates::NONE { 0 } else { 20 }, "{codes:?}");
        proxy.storm(false);
        let calm = client.get(format!("{base}/api/v1/pods")).send().await.unwrap();
        assert_eq!(calm.text().await.unwrap(), r#"{"kind":"Thing"}"#);
    }
}

#[tokio::test]
async fn a_watch_that_lacks_an_event_says_gone_once_the_storm_is_over() {
    let seed = seed_of(|fate| fate == Watch::Drops(1));
    let (asked, opened) = (Arc::default(), Opened::default());
    let (proxy, base) = start(seed, Rates { watches: 1.0, ..Rates::NONE }, &asked, &opened).await;
    let mut watching = reqwest::get(format!("{base}/api/v1/pods?watch=true")).await.unwrap();
    let sender = opened.lock().unwrap()[0].clone();
    sender.send("one\ntw".into()).unwrap();
    assert_eq!(chunk(&mut watching).await.unwrap(), "one\n");
    sender.send("o\nthree\n".into()).unwrap();
    assert_eq!(chunk(&mut watching).await.unwrap(), "three\n");
    proxy.storm(false);
    let last = chunk(&mut watching).await.unwrap();
    assert!(last.contains("\"ERROR\"") && last.contains("410"), "{last}");
    assert_eq!(chunk(&mut watching).await, None);
}

#[tokio::test]
async fn a_watch_ends_with_gone_or_is_cut_where_the_seed_says_so() {
    for fate in [Watch::Gone(2), Watch::Cut(2)] {
        let seed = seed_of(|met| met == fate);
        let (asked, opened) = (Arc::default(), Opened::default());
        let (_proxy, base) = start(seed, Rates { watches: 1.0, ..Rates::NONE }, &asked, &opened).await;
        let mut watching = reqwest::get(format!("{base}/api/v1/pods?watch=true")).await.unwrap();
        let sender = opened.lock().unwrap()[0].clone();
        sender.send("one\n".into()).unwrap();
        assert_eq!(chunk(&mut watching).await.unwrap(), "one\n");
        sender.send("two\n".into()).unwrap();
        assert_eq!(chunk(&mut watching).await.unwrap(), "two\n");
        if fate == Watch::Gone(2) {
            assert!(chunk(&mut watching).await.unwrap().contains("410"));
        }
        assert_eq!(chunk(&mut watching).await, None);
    }
}

#[tokio::test]
async fn what_is_frozen_by_command_comes_when_it_thaws_and_later_watches_pass() {
    let (asked, opened) = (Arc::default(), Opened::default());
    let (proxy, base) = start(1, Rates::NONE, &asked, &opened).await;
    let mut early = reqwest::get(format!("{base}/api/v1/pods?watch=true")).await.unwrap();
    proxy.freeze();
    let mut late = reqwest::get(format!("{base}/api/v1/pods?watch=true")).await.unwrap();
    let senders: Vec<_> = opened.lock().unwrap().clone();
    for sender in &senders {
        sender.send("one\n".into()).unwrap();
    }
    assert_eq!(chunk(&mut late).await.unwrap(), "one\n");
    assert!(tokio::time::timeout(Duration::from_millis(200), early.chunk()).await.is_err(), "it is frozen");
    proxy.thaw();
    assert_eq!(chunk(&mut early).await.unwrap(), "one\n");
}
