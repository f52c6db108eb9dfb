//! A TCP link of a known rate: clients reach an object store, or another server, only as fast as it carries their bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

const CHUNK: usize = 16 << 10;
/// Unused capacity that is kept: more than a timer is late.
const CREDIT: Duration = Duration::from_millis(20);

/// Carries connections to a server. Requests share one rate; responses are not delayed.
pub(crate) struct Link {
    address: SocketAddr,
    carried: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

struct Pace {
    bytes_per_second: u64,
    /// When all that was accepted has left.
    free_at: Mutex<Instant>,
    carried: Arc<AtomicU64>,
}

impl Link {
    /// Starts a link to `to` of this rate. While nothing listens at `to`, it closes connections.
    pub(crate) async fn start(to: SocketAddr, bytes_per_second: u64) -> Link {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let carried = Arc::new(AtomicU64::new(0));
        let pace = Pace { bytes_per_second, free_at: Mutex::new(Instant::now()), carried: carried.clone() };
        let task = tokio::spawn(accept(listener, to, Arc::new(pace)));
        Link { address, carried, task }
    }

    /// Returns where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the bytes that clients sent through it.
    pub(crate) fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, pace: Arc<Pace>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.unwrap();
                connections.spawn(carry(client, to, pace.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(client: TcpStream, to: SocketAddr, pace: Arc<Pace>) {
    let Ok(server) = TcpStream::connect(to).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let requests = async move {
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = from_client.read(&mut chunk).await {
            pace.pass(length).await;
            if to_server.write_all(&chunk[..length]).await.is_err() {
                return;
            }
        }
    };
    // An end of either side ends both: HTTP needs no half-closed connections.
    tokio::select! {
        () = requests => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
    }
}

impl Pace {
    /// Waits until these bytes have left, behind those of other connections.
    async fn pass(&self, bytes: usize) {
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let left_at = {
            let mut free_at = self.free_at.lock().await;
            let earliest = Instant::now().checked_sub(CREDIT).unwrap_or(*free_at);
            *free_at = (*free_at).max(earliest) + takes;
            *free_at
        };
        sleep_until(left_at).await;
        self.carried.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
