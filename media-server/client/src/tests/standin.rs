//! A WHIP and WHEP endpoint in the test's own process, whose far end is this crate's own other half.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::lossy::lossy;
use crate::call::Half;
use crate::outgoing::{Outgoing, Progress};
use crate::peer::Peer;
use crate::viewer::Incoming;
use ingest::source::Source;

/// The endpoint. `/whip/…` watches whoever publishes, `/whep/…` plays a source; any other path answers 503.
pub(super) struct StandIn {
    pub(super) url: String,
    pub(super) deleted: Arc<AtomicUsize>,
    /// What publishers sent.
    pub(super) incoming: Arc<Mutex<Vec<Arc<Incoming>>>>,
    pub(super) offers: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    pub(super) async fn start(source: Source, lose_every: usize) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stand_in = StandIn {
            url: format!("http://{}", listener.local_addr().unwrap()),
            deleted: Arc::default(),
            incoming: Arc::default(),
            offers: Arc::default(),
        };
        let (deleted, incoming, offers) =
            (Arc::clone(&stand_in.deleted), Arc::clone(&stand_in.incoming), Arc::clone(&stand_in.offers));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (deleted, incoming, offers) = (Arc::clone(&deleted), Arc::clone(&incoming), Arc::clone(&offers));
                let source = source.clone();
                tokio::spawn(async move {
                    serve(stream, source, lose_every, &deleted, &incoming, &offers).await;
                });
            }
        });
        stand_in
    }
}

async fn serve(
    mut stream: TcpStream,
    source: Source,
    lose_every: usize,
    deleted: &AtomicUsize,
    all: &Mutex<Vec<Arc<Incoming>>>,
    offers: &Mutex<Vec<String>>,
) {
    let mut request = Vec::new();
    loop {
        while !is_whole(&request) {
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(size) => request.extend_from_slice(&chunk[..size]),
            }
        }
        let text = String::from_utf8(std::mem::take(&mut request)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let response = if head.starts_with("DELETE") {
            deleted.fetch_add(1, Ordering::SeqCst);
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()
        } else if head.starts_with("POST /whip/") {
            offers.lock().unwrap().push(body.to_owned());
            let incoming = Arc::new(Incoming::default());
            let interceptors = lossy(incoming.interceptors(), lose_every);
            let peer = Peer::new(loopback(), incoming.media_engine().unwrap(), interceptors).await.unwrap();
            let answer = peer.answer(body.to_owned()).await.unwrap();
            all.lock().unwrap().push(incoming);
            tokio::spawn(peer.kept());
            created(&answer)
        } else if head.starts_with("POST /whep/") {
            offers.lock().unwrap().push(body.to_owned());
            let outgoing = Outgoing::new(&source, ingest::packetize::PACKET_SIZE);
            let peer = Peer::new(loopback(), outgoing.media_engine().unwrap(), outgoing.interceptors()).await.unwrap();
            let tracks = outgoing.add_tracks(&peer).await.unwrap();
            let answer = peer.answer(body.to_owned()).await.unwrap();
            let source = source.clone();
            tokio::spawn(async move {
                peer.connected().await.unwrap();
                let (_stop, stopped) = watch::channel(false);
                let writers = Outgoing::agreed(tracks).await.unwrap();
                writers.play(&source, &outgoing.feedback, &Progress::default(), stopped).await;
            });
            created(&answer)
        } else {
            let problem = r#"{"title":"Room full","detail":"1 of 1 viewers","status":503}"#;
            format!(
                "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\r\n{problem}",
                problem.len()
            )
        };
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

pub(super) fn loopback() -> Vec<SocketAddr> {
    vec![SocketAddr::from(([127, 0, 0, 1], 0))]
}

fn created(answer: &str) -> String {
    format!(
        "HTTP/1.1 201 Created\r\nLocation: /session/1\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    )
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    body.len() >= length
}
