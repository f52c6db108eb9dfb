//! Drives the sans-IO clients on a real socket, so that a test can do with their packets what a network would.

use super::Server;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use streamsession_tests::camera::{Behaviour, Camera};
use streamsession_tests::peer::{IceRole, Identity, credentials};
use streamsession_tests::sdp::{self, Description, Local};
use streamsession_tests::viewer::Viewer;
use tokio::net::UdpSocket;

/// A sans-IO client.
pub(crate) trait Client {
    fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_timeout(&self) -> Option<Instant>;
    fn poll_datagram(&mut self) -> Option<(SocketAddr, Vec<u8>)>;
}

macro_rules! client {
    ($($name:ident)*) => {
        $(impl Client for $name {
            fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
                $name::handle_datagram(self, now, from, datagram);
            }
            fn handle_timeout(&mut self, now: Instant) {
                $name::handle_timeout(self, now);
            }
            fn poll_timeout(&self) -> Option<Instant> {
                $name::poll_timeout(self)
            }
            fn poll_datagram(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
                $name::poll_datagram(self)
            }
        })*
    };
}
client!(Camera Viewer);

/// A client with its socket and its session.
pub(crate) struct Lean<C> {
    pub(crate) client: C,
    pub(crate) socket: UdpSocket,
    /// What the server answered.
    pub(crate) answer: Description,
    /// Path of the session.
    pub(crate) session: String,
    /// Entity tag of the session.
    pub(crate) etag: String,
    /// Each datagram leaves so often.
    pub(crate) copies: usize,
    /// What leaves; the rest is lost on the way.
    pub(crate) passes: fn(&[u8]) -> bool,
    /// Datagrams that came to the present socket.
    pub(crate) received: u64,
    /// What it has sent, when it is to be kept.
    pub(crate) sent: Option<Vec<Vec<u8>>>,
}

impl<C: Client> Lean<C> {
    /// Lets it live until `done` is true of it; false if that did not come within `limit`.
    pub(crate) async fn live(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut buffer = [0; 2048];
        loop {
            self.client.handle_timeout(Instant::now());
            while let Some((to, datagram)) = self.client.poll_datagram() {
                let copies = if (self.passes)(&datagram) { self.copies } else { 0 };
                for _ in 0..copies {
                    // A candidate of a family that this socket has not cannot be sent to.
                    let _ = self.socket.send_to(&datagram, to).await;
                }
                if let Some(sent) = &mut self.sent {
                    sent.push(datagram);
                }
            }
            if done(self) {
                return true;
            }
            let wake = self.client.poll_timeout().map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    if let Ok((length, from)) = received {
                        self.received += 1;
                        self.client.handle_datagram(Instant::now(), from, &buffer[..length]);
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    if Instant::now() >= deadline {
                        return false;
                    }
                }
            }
        }
    }

    /// Goes on from another port, as behind a NAT that has lost its mapping; gives the old socket.
    pub(crate) async fn move_to_another_port(&mut self) -> UdpSocket {
        self.received = 0;
        std::mem::replace(&mut self.socket, socket().await)
    }
}

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

struct Opened {
    socket: UdpSocket,
    ice: sfu::parameters::IceCredentials,
    identity: Identity,
    answer: Description,
    session: String,
    etag: String,
}

async fn open(server: &Server, endpoint: &str, offer: impl FnOnce(&Local<'_>) -> String) -> Opened {
    let (socket, ice, identity) = (socket().await, credentials(), Identity::generate().unwrap());
    let address = socket.local_addr().unwrap();
    let offer = offer(&Local { ice: &ice, fingerprint: identity.fingerprint(), address });
    let answer = server.api.offer(endpoint, offer).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let (session, etag) = (answer.header("location").to_owned(), answer.header("etag").to_owned());
    let mut answer = Description::parse(&answer.body).unwrap();
    answer.remote.candidates.retain(SocketAddr::is_ipv4);
    Opened { socket, ice, identity, answer, session, etag }
}

impl Opened {
    fn with<C>(self, client: impl FnOnce(&Identity, sfu::parameters::IceCredentials, Description) -> C) -> Lean<C> {
        let Opened { socket, ice, identity, answer, session, etag } = self;
        let client = client(&identity, ice, answer.clone());
        Lean { client, socket, answer, session, etag, copies: 1, passes: |_| true, received: 0, sent: None }
    }
}

/// A camera that sends a synthetic 2.5 Mbit/s; it does so only while it is let [`Lean::live`].
pub(crate) async fn lean_camera(server: &Server, room: &str) -> Lean<Camera> {
    let ssrcs: [u32; 3] = rand::random();
    let opened = open(server, &format!("/whip/{room}"), |local| sdp::camera_offer(local, ssrcs)).await;
    let behaviour = Behaviour { responsive: false, first_sequence: rand::random(), ssrcs };
    opened.with(|identity, ice, answer| Camera::new(Instant::now(), identity, ice, answer, behaviour))
}

/// A viewer that opens every packet.
pub(crate) async fn lean_viewer(server: &Server, room: &str) -> Lean<Viewer> {
    let opened = open(server, &format!("/whep/{room}"), sdp::viewer_offer).await;
    opened.with(|identity, ice, answer| Viewer::new(Instant::now(), identity, IceRole::Controlling, ice, answer, 1))
}
