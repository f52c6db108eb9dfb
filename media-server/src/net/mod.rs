//! The media plane: one UDP port, a socket and a thread for each shard, and the handle by which the rest of the server
//! reaches them.
//!
//! All calls of [`MediaPlane`] put a command into a queue and return. What happens is told by [`MediaEvent`]s, counted in a
//! [`Snapshot`], and copied to the recorder by [`tap`].

mod addresses;
mod inbox;
pub mod socket;
mod stats;
mod steer;
pub mod tap;
mod wake;
mod worker;

pub use stats::{SessionSnapshot, ShardStats, Snapshot};

use crate::config::UdpConfig;
use crate::control::{Media, MediaEvent, Publish, Subscribe};
use addresses::Announced;
use inbox::{Input, Mailbox, mailbox};
use rand::rngs::{OsRng, StdRng};
use rand::{Rng, SeedableRng, TryRngCore};
use sfu::parameters::{Fingerprint, IceCredentials, LocalDescription, RoomId, SessionId};
use sfu::transport::{Identity, TransportError};
use sfu::{Command, LocalPacket, Shard};
use socket::Socket;
use stats::Board;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tap::Taps;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use worker::Worker;

/// What the media plane is started with.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Address, port and what to announce.
    pub udp: UdpConfig,
    /// Threads; `None` means half the cores, at least one: the other half has HTTP, recording and the kernel.
    pub shards: Option<NonZeroUsize>,
    /// Announce loopback first: the pages are served on a loopback address.
    pub loopback: bool,
    /// Let the kernel segment runs of datagrams.
    pub segmentation: bool,
}

/// Why the media plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The port is taken.
    #[error("UDP port {0} is in use by another program: stop it, or choose another port with --udp-port")]
    PortInUse(u16),
    /// The address is not this machine's, or may not be bound.
    #[error("cannot bind UDP {address}: {source}; name an address of this machine with --udp-address, or leave it out")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread or a pipe could not be made.
    #[error("cannot start media threads: {0}; the machine is out of threads, files or memory")]
    Resources(#[source] io::Error),
    /// No certificate.
    #[error(transparent)]
    Identity(#[from] TransportError),
}

/// The running media plane, its events, and the recorder's end of the tap.
pub struct Started {
    /// The handle.
    pub plane: MediaPlane,
    /// For the control plane.
    pub events: UnboundedReceiver<MediaEvent>,
    /// For the recorder.
    pub taps: Taps,
    /// Local sources that shall make a keyframe, at most twice a second each.
    pub keyframe_requests: UnboundedReceiver<SessionId>,
}

/// A cheap handle on the media threads. They end when [`MediaPlane::stop`] is called.
#[derive(Clone)]
pub struct MediaPlane(Arc<Inner>);

struct Inner {
    mailboxes: Vec<Mailbox>,
    /// Rooms in each shard.
    loads: Vec<AtomicUsize>,
    next_room: AtomicU64,
    fingerprint: Fingerprint,
    announced: Announced,
    bound: SocketAddr,
    board: Arc<Board>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl MediaPlane {
    /// Binds the port and starts the threads.
    pub fn start(config: &NetConfig) -> Result<Started, NetError> {
        let shards = shard_count(config.shards);
        let sockets = bind(&config.udp, shards)?;
        let bound = sockets[0].local_addr().map_err(NetError::Resources)?;
        let identity = Identity::generate()?;
        let (events, event_receiver) = unbounded_channel();
        let (keyframe_sender, keyframe_requests) = unbounded_channel();
        let (tap_senders, taps) = tap::taps(shards);
        let board = Board::new(shards);
        let mut mailboxes = Vec::new();
        let mut inboxes = Vec::new();
        for _ in 0..shards {
            let (mailbox, inbox) = mailbox().map_err(NetError::Resources)?;
            mailboxes.push(mailbox);
            inboxes.push(inbox);
        }
        let mut threads = Vec::new();
        for (index, ((mut socket, inbox), taps)) in sockets.into_iter().zip(inboxes).zip(tap_senders).enumerate() {
            if !config.segmentation {
                socket.without_segmentation();
            }
            let worker = Worker {
                index,
                shard: Shard::new(identity.clone(), random_bytes()),
                socket,
                inbox,
                peers: mailboxes.clone(),
                events: events.clone(),
                keyframe_requests: keyframe_sender.clone(),
                taps,
                board: board.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("media-{index}")).spawn(move || worker.run());
            threads.push(thread.map_err(NetError::Resources)?);
        }
        let plane = MediaPlane(Arc::new(Inner {
            mailboxes,
            loads: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            next_room: AtomicU64::new(0),
            fingerprint: identity.fingerprint(),
            announced: Announced::new(&config.udp, bound, config.loopback),
            bound,
            board,
            threads: Mutex::new(threads),
        }));
        Ok(Started { plane, events: event_receiver, taps, keyframe_requests })
    }

    /// Where media is received.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.bound
    }

    /// The counts, at most a second old.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.0.board.snapshot())
    }

    /// Asks the camera of a room for a keyframe.
    pub fn request_keyframe(&self, room: RoomId) {
        self.put(room, Command::RequestKeyframe(room));
    }

    /// Passes packets of a source that was added with [`Feed::Local`](sfu::Feed::Local), in the order of their creation. They
    /// take the path of a camera's packets from the point where those are decrypted: cap, takeover, recording and viewers
    /// are the same. Returns `false`, and drops them, when the media thread is too far behind; packets of a session that
    /// has ended are dropped without notice.
    pub fn feed(&self, room: RoomId, session: SessionId, packets: Vec<LocalPacket>) -> bool {
        self.0.mailboxes[tap::shard_of(room, self.0.mailboxes.len())].feed(session, packets)
    }

    /// Whether every media thread is there.
    pub fn is_running(&self) -> bool {
        let threads = self.0.threads.lock().unwrap_or_else(PoisonError::into_inner);
        !threads.is_empty() && threads.iter().all(|thread| !thread.is_finished())
    }

    /// Ends the threads and waits for them.
    pub fn stop(&self) {
        self.0.mailboxes.iter().for_each(|mailbox| mailbox.put(Input::Stop));
        let threads = std::mem::take(&mut *self.0.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a media thread had panicked");
            }
        }
    }

    fn put(&self, room: RoomId, command: Command) {
        self.0.mailboxes[tap::shard_of(room, self.0.mailboxes.len())].put(Input::Command(Box::new(command)));
    }
}

impl Media for MediaPlane {
    fn open_room(&self, recorded: bool) -> RoomId {
        let shards = self.0.mailboxes.len();
        let idlest = (0..shards).min_by_key(|n| self.0.loads[*n].load(Ordering::Relaxed)).unwrap_or(0);
        self.0.loads[idlest].fetch_add(1, Ordering::Relaxed);
        let room = RoomId(self.0.next_room.fetch_add(1, Ordering::Relaxed) * shards as u64 + idlest as u64);
        self.put(room, Command::OpenRoom { room, tapped: recorded });
        room
    }

    fn close_room(&self, room: RoomId) {
        self.0.loads[tap::shard_of(room, self.0.mailboxes.len())].fetch_sub(1, Ordering::Relaxed);
        self.put(room, Command::CloseRoom(room));
    }

    fn describe(&self, room: RoomId) -> LocalDescription {
        let shard = tap::shard_of(room, self.0.mailboxes.len());
        LocalDescription {
            // 42 and 144 bits; RFC 8445 §5.3 wants at least 24 and 128.
            ice: IceCredentials { ufrag: format!("{}{}", steer::letter(shard), random_text(7)), pwd: random_text(24) },
            fingerprint: self.0.fingerprint,
            candidates: self.0.announced.now(),
            origin: u64::from_be_bytes(random_bytes()) >> 1,
        }
    }

    fn publish(&self, publish: Publish) {
        let Publish { room, session, feed, tracks, max_bitrate } = publish;
        self.put(room, Command::AddSource { room, session, feed, tracks, max_bitrate });
    }

    fn subscribe(&self, subscribe: Subscribe) {
        let Subscribe { room, session, transport, tracks } = subscribe;
        self.put(room, Command::Subscribe { room, session, transport, tracks });
    }

    fn restart_ice(&self, room: RoomId, session: SessionId, local: IceCredentials, remote: IceCredentials) {
        self.put(room, Command::RestartIce { session, local, remote });
    }

    fn close(&self, room: RoomId, session: SessionId) {
        self.put(room, Command::Close(session));
    }

    fn set_max_bitrate(&self, bits_per_second: Option<u64>) {
        for mailbox in &self.0.mailboxes {
            mailbox.put(Input::Command(Box::new(Command::SetMaxBitrate(bits_per_second))));
        }
    }

    fn set_gop_cache(&self, bytes: usize) {
        for mailbox in &self.0.mailboxes {
            mailbox.put(Input::Command(Box::new(Command::SetGopCache(bytes))));
        }
    }

    fn announced(&self) -> Vec<SocketAddr> {
        self.0.announced.now()
    }

    fn set_announced(&self, addresses: Vec<SocketAddr>) {
        self.0.announced.set(addresses);
    }
}

fn shard_count(asked: Option<NonZeroUsize>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    asked.map_or((cores / 2).max(1), NonZeroUsize::get).min(steer::MOST_SHARDS)
}

fn bind(udp: &UdpConfig, shards: usize) -> Result<Vec<Socket>, NetError> {
    let wanted = match udp.address {
        Some(address) => vec![SocketAddr::new(address, udp.port)],
        // A machine without IPv6 refuses the first.
        None => vec![
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, udp.port)),
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, udp.port)),
        ],
    };
    let mut last = None;
    for address in wanted {
        match bind_all(address, shards) {
            Ok(sockets) => return Ok(sockets),
            Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
                return Err(NetError::PortInUse(address.port()));
            }
            Err(source) => last = Some(NetError::Bind { address, source }),
        }
    }
    Err(last.unwrap_or(NetError::PortInUse(udp.port)))
}

/// The first socket is bound alone, so that a port which another program shares with SO_REUSEPORT counts as taken; what it
/// was given is then bound by all.
fn bind_all(address: SocketAddr, shards: usize) -> io::Result<Vec<Socket>> {
    let alone = Socket::bind(address, false)?;
    if shards == 1 {
        return Ok(vec![alone]);
    }
    let address = alone.local_addr()?;
    drop(alone);
    (0..shards).map(|_| Socket::bind(address, true)).collect()
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The kernel's generator does not fail once it is seeded, which is before any program runs.
    OsRng.try_fill_bytes(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

fn random_text(len: usize) -> String {
    let mut random = StdRng::from_seed(random_bytes());
    (0..len).map(|_| steer::letter(random.random_range(0..steer::MOST_SHARDS))).collect()
}
