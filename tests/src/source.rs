//! The synthetic camera on a real socket, in a thread of its own: over WHIP's transport, or as plain RTP to two ports.

use crate::camera::{Camera, Totals, header};
use crate::stream::Stream;
use crate::sys::{Receiver, Udp};
use sfu::parameters::MediaKind;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// Payload types of plain RTP.
pub const PLAIN_VIDEO: u8 = 96;
/// See [`PLAIN_VIDEO`].
pub const PLAIN_AUDIO: u8 = 111;

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    packets: AtomicU64,
    totals: Mutex<Totals>,
    connected: AtomicBool,
}

/// A camera that runs.
pub struct Source {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Source {
    /// Runs `camera` on `socket`.
    pub fn webrtc(socket: Udp, mut camera: Camera) -> io::Result<Self> {
        Self::spawn(move |shared| {
            let mut receiver = Receiver::default();
            while !shared.stop.load(Ordering::Relaxed) {
                let now = Instant::now();
                camera.handle_timeout(now);
                while let Some((to, datagram)) = camera.poll_datagram() {
                    socket.send(to, &datagram);
                }
                shared.packets.store(camera.totals().packets, Ordering::Relaxed);
                shared.connected.store(camera.peer().is_connected(), Ordering::Relaxed);
                *shared.totals.lock().unwrap_or_else(PoisonError::into_inner) = camera.totals();
                let wait =
                    camera.poll_timeout().map_or(LONGEST_WAIT, |at| at.saturating_duration_since(Instant::now()));
                socket.wait(wait.min(LONGEST_WAIT));
                receiver.receive(&socket, |from, datagram| camera.handle_datagram(Instant::now(), from, datagram));
            }
            camera.close(Instant::now());
            while let Some((to, datagram)) = camera.poll_datagram() {
                socket.send(to, &datagram);
            }
        })
    }

    /// Sends plain RTP: picture to one address, sound to another.
    pub fn plain(socket: Udp, video: SocketAddr, audio: SocketAddr) -> io::Result<Self> {
        Self::spawn(move |shared| {
            let (mut stream, start) = (Stream::default(), Instant::now());
            let mut sequences = [0u16; 2];
            shared.connected.store(true, Ordering::Relaxed);
            while !shared.stop.load(Ordering::Relaxed) {
                std::thread::sleep((start + stream.next_at()).saturating_duration_since(Instant::now()));
                let Some(burst) = stream.next() else { return };
                let picture = burst.kind == MediaKind::Video;
                let (to, number, ssrc) = if picture { (video, PLAIN_VIDEO, 1) } else { (audio, PLAIN_AUDIO, 2) };
                let last = burst.payloads.len() - 1;
                for (n, payload) in burst.payloads.iter().enumerate() {
                    let sequence = &mut sequences[usize::from(picture)];
                    let mut packet = header(number, picture && n == last, *sequence, burst.timestamp, ssrc);
                    packet.extend_from_slice(payload);
                    socket.send(to, &packet);
                    *sequence = sequence.wrapping_add(1);
                    shared.packets.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    }

    fn spawn(body: impl FnOnce(&Shared) + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("camera".into()).spawn(move || body(&theirs))?;
        Ok(Self { shared, thread })
    }

    /// Media packets sent so far, without retransmissions.
    pub fn packets(&self) -> u64 {
        self.shared.packets.load(Ordering::Relaxed)
    }

    /// Ready to send, or sending.
    pub fn is_connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// Counts of a camera over WebRTC.
    pub fn totals(&self) -> Totals {
        *self.shared.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connection. Returns the final counts of a camera over WebRTC.
    pub fn stop(self) -> Totals {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        *self.shared.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
