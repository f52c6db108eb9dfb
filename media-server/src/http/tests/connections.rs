//! Connections on real sockets: none is held by a client that does nothing for it.

use super::bench::{Bench, open};
use crate::http::{ConnectionLimits, serve};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const HEAD: Duration = Duration::from_millis(300);
const LIMITS: ConnectionLimits = ConnectionLimits {
    head: HEAD,
    first_head: Duration::from_secs(60),
    stalled: Duration::from_millis(500),
    connections: 2,
    per_address: 2,
    reserve: 0,
};
/// By then everything has happened that is going to.
const DEADLINE: Duration = Duration::from_secs(10);

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
    _bench: Bench,
}

async fn running(limits: ConnectionLimits) -> Running {
    let bench = open().await;
    // A download without end, as fast as it is read.
    let endless = || async {
        let chunk = Bytes::from(vec![0u8; 64 * 1024]);
        Body::from_stream(futures_util::stream::repeat_with(move || Ok::<_, Infallible>(chunk.clone())))
    };
    let router = bench.router.clone().merge(Router::new().route("/endless", get(endless)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let serving = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
    Running { address, shutdown, serving, _bench: bench }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// The server has ended it: nothing more comes, or a reset.
async fn ended(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    let drained = async { while let Ok(1..) = stream.read(&mut buffer).await {} };
    timeout(DEADLINE, drained).await.expect("the server ends the connection");
}

/// One request on an open connection, and the status of its answer, which has a short body.
async fn healthz(stream: &mut TcpStream) -> io::Result<String> {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    let mut answer = vec![0; 4096];
    let read = timeout(DEADLINE, stream.read(&mut answer)).await??;
    Ok(String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    let server = running(LIMITS).await;
    let mut stream = server.connect().await;
    let begun = Instant::now();
    let head = format!("GET /healthz HTTP/1.1\r\nx-slow: {}", "x".repeat(4000));
    for byte in head.bytes() {
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
        if timeout(Duration::from_millis(20), stream.read(&mut [0; 64])).await.is_ok() {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "it is still being read");
    }
    ended(&mut stream).await;
    assert!(begun.elapsed() >= HEAD);
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = running(ConnectionLimits { head: DEADLINE * 2, ..LIMITS }).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nx: ").await.unwrap();
    let refused = async {
        let (mut reader, mut writer) = stream.split();
        // It may be closed before all of it is sent.
        let send = async {
            for _ in 0..200 {
                if writer.write_all(&[b'x'; 1024]).await.is_err() {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        let mut answer = [0; 64];
        tokio::select! {
            read = reader.read(&mut answer) => String::from_utf8_lossy(&answer[..read.unwrap_or(0)]).into_owned(),
            () = send => String::new(),
        }
    };
    let refused = timeout(DEADLINE, refused).await.expect("200 KB are not taken");
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 431"), "{refused}");
}

#[tokio::test]
async fn idle_connections_end_and_make_room_for_others() {
    let server = running(LIMITS).await;
    let (mut silent, mut kept) = (server.connect().await, server.connect().await);
    assert_eq!(healthz(&mut kept).await.unwrap(), "HTTP/1.1 200 OK");
    // Both places are taken: this one is answered when one of them is free.
    let mut third = server.connect().await;
    assert_eq!(healthz(&mut third).await.unwrap(), "HTTP/1.1 200 OK");
    ended(&mut silent).await;
    ended(&mut kept).await;
}

#[tokio::test]
async fn no_more_connections_are_served_than_the_limit_says() {
    let server = running(ConnectionLimits { head: DEADLINE * 2, ..LIMITS }).await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    for stream in [&mut first, &mut second] {
        assert_eq!(healthz(stream).await.unwrap(), "HTTP/1.1 200 OK");
    }
    let mut third = server.connect().await;
    third.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 64];
    assert!(timeout(Duration::from_millis(300), third.read(&mut answer)).await.is_err(), "it waits");
    drop(first);
    let read = timeout(DEADLINE, third.read(&mut answer)).await.expect("its turn comes").unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn events_go_on_for_longer_than_a_head_may_take() {
    let server = running(LIMITS).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    while !seen.contains("listening") {
        let read = timeout(DEADLINE, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(timeout(HEAD * 4, stream.read(&mut buffer)).await.is_err(), "nothing comes, and it is not ended");
}

#[tokio::test]
async fn a_download_that_nobody_reads_ends_and_one_that_is_read_slowly_goes_on() {
    let server = running(LIMITS).await;
    let (mut stopped, mut slow) = (server.connect().await, server.connect().await);
    for stream in [&mut stopped, &mut slow] {
        stream.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    }
    let begun = Instant::now();
    let mut buffer = vec![0; 1 << 20];
    while begun.elapsed() < LIMITS.stalled * 4 {
        let read = timeout(DEADLINE, slow.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The other one's place is free, though it never read.
    let mut third = server.connect().await;
    assert_eq!(healthz(&mut third).await.unwrap(), "HTTP/1.1 200 OK");
    ended(&mut stopped).await;
}

#[tokio::test]
async fn half_sent_requests_delay_no_other_address() {
    let server = running(ConnectionLimits::default()).await;
    let mut held = Vec::new();
    for _ in 0..1024 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(server.address).await.unwrap();
        // One that is refused may be closed already.
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: loc").await;
        held.push(stream);
    }
    let begun = Instant::now();
    let mut other = server.connect().await;
    assert_eq!(healthz(&mut other).await.unwrap(), "HTTP/1.1 200 OK");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let mut answer = String::new();
    let refused = held.last_mut().unwrap();
    let _ = timeout(DEADLINE, refused.read_to_string(&mut answer)).await.expect("it is closed");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 5"), "{answer}");
}

#[tokio::test]
async fn first_request_must_come_sooner_than_later_ones() {
    let limits = ConnectionLimits { head: DEADLINE * 6, first_head: HEAD, ..LIMITS };
    let server = running(limits).await;
    let mut kept = server.connect().await;
    assert_eq!(healthz(&mut kept).await.unwrap(), "HTTP/1.1 200 OK");
    let begun = Instant::now();
    let mut half = server.connect().await;
    half.write_all(b"GET /healthz HTTP/1.1\r\nhost: loc").await.unwrap();
    ended(&mut half).await;
    assert!(begun.elapsed() >= HEAD);
    assert_eq!(healthz(&mut kept).await.unwrap(), "HTTP/1.1 200 OK", "one that sent a request is kept");
}

#[tokio::test]
async fn a_shutdown_answers_what_was_asked_and_ends_idle_connections() {
    let server = running(LIMITS).await;
    let mut idle = server.connect().await;
    assert_eq!(healthz(&mut idle).await.unwrap(), "HTTP/1.1 200 OK");
    server.shutdown.cancel();
    ended(&mut idle).await;
    timeout(DEADLINE, server.serving).await.expect("it ends").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}
