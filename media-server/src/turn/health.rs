//! Whether the relay answers: a STUN binding request (RFC 8489 §2) every few seconds, as any client may send.
//!
//! Reads no more of the answer than that it is one: a success response to this very request.

use rand::Rng as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(3);
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// Requests without an answer before the relay counts as gone: one can get lost.
const MISSES: u32 = 2;

const BINDING_REQUEST: [u8; 8] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
const BINDING_SUCCESS: [u8; 2] = [1, 1];

/// Asks the relay at this address until `shutdown`, and reports what is wrong, or that all is well, when it changes and
/// at first.
pub async fn watch(relay: SocketAddr, report: impl Fn(Result<(), String>), shutdown: CancellationToken) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut misses = 0;
    let mut told: Option<bool> = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let asked = match timeout(ANSWER_LIMIT, ask(relay)).await {
            Ok(asked) => asked,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        misses = if asked.is_ok() { 0 } else { misses + 1 };
        let well = misses == 0;
        // At the start it is not known to be well, so the first miss counts.
        if told == Some(well) || (told == Some(true) && misses < MISSES) {
            continue;
        }
        told = Some(well);
        report(asked.map_err(|error| {
            format!("the relay at {relay} does not answer STUN ({error}): see the log of the container turn")
        }));
    }
}

async fn ask(relay: SocketAddr) -> io::Result<()> {
    let any: IpAddr = if relay.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // What others send does not come through, and a closed port is told of at once.
    socket.connect(relay).await?;
    let transaction: [u8; 12] = rand::rng().random();
    let mut request = [0; 20];
    request[..8].copy_from_slice(&BINDING_REQUEST);
    request[8..].copy_from_slice(&transaction);
    socket.send(&request).await?;
    let mut answer = [0; 1500];
    loop {
        let length = socket.recv(&mut answer).await?;
        if length >= 20 && answer[..2] == BINDING_SUCCESS && answer[4..20] == request[4..20] {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::sync::mpsc::unbounded_channel;

    async fn answer_one(socket: &UdpSocket, kind: [u8; 2]) {
        let mut request = [0; 1500];
        let (length, from) = socket.recv_from(&mut request).await.unwrap();
        assert_eq!(length, 20);
        request[..2].copy_from_slice(&kind);
        socket.send_to(&request[..20], from).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_ends_and_returns_is_told_of_once_each() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let relay = socket.local_addr().unwrap();
        let (sender, mut reports) = unbounded_channel();
        let shutdown = CancellationToken::new();
        let watching = tokio::spawn(watch(relay, move |well| sender.send(well).unwrap(), shutdown.clone()));
        answer_one(&socket, BINDING_SUCCESS).await;
        assert_eq!(reports.recv().await.unwrap(), Ok(()));
        answer_one(&socket, BINDING_SUCCESS).await;
        drop(socket);
        let gone = reports.recv().await.unwrap().unwrap_err();
        assert!(gone.contains(&relay.to_string()) && gone.contains("turn"), "{gone}");
        let socket = UdpSocket::bind(relay).await.unwrap();
        answer_one(&socket, BINDING_SUCCESS).await;
        assert_eq!(reports.recv().await.unwrap(), Ok(()));
        shutdown.cancel();
        watching.await.unwrap();
        assert!(reports.recv().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_success_is_no_answer() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let asking = tokio::spawn(timeout(ANSWER_LIMIT, ask(socket.local_addr().unwrap())));
        answer_one(&socket, [1, 0x11]).await;
        assert!(asking.await.unwrap().is_err());
    }
}
