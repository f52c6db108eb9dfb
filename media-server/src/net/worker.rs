//! A media thread: one socket, one sans-IO shard, and the loop between them.
//!
//! Each turn takes what has come, lets the shard act, and sends what it gives in as few system calls as the kernel allows.
//! Nothing here waits for anything but the socket, the mailbox and the clock.

use crate::control::{EndReason, MediaEvent};
use crate::net::inbox::{Inbox, Input, Mailbox};
use crate::net::socket::{Outcome, RECEIVE_BATCH, Socket};
use crate::net::stats::{Board, EVERY, ShardStats};
use crate::net::steer::Steering;
use crate::net::tap::TapSender;
use sfu::forward::slab::{MAX_TRANSMIT, Transmit};
use sfu::packet::{Kind, classify};
use sfu::parameters::SessionId;
use sfu::shard::trouble::TroubleDetector;
use sfu::transport::TransportError;
use sfu::{Event, Shard};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Bytes sealed before they are sent: small enough to stay in a core's cache.
const SLAB: usize = 4 * MAX_TRANSMIT;
/// Receive batches of one turn, so that a flood of input cannot hold up the output.
const RECEIVE_TURNS: usize = 4;

/// Everything a media thread owns.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) shard: Shard,
    pub(super) socket: Socket,
    pub(super) inbox: Inbox,
    pub(super) peers: Vec<Mailbox>,
    pub(super) events: UnboundedSender<MediaEvent>,
    pub(super) keyframe_requests: UnboundedSender<SessionId>,
    pub(super) taps: TapSender,
    pub(super) board: Arc<Board>,
}

struct Turn {
    worker: Worker,
    steering: Steering,
    troubles: TroubleDetector,
    slab: Box<[u8]>,
    transmits: Vec<Transmit>,
    stats: ShardStats,
    counted_at: Instant,
}

impl Worker {
    /// Runs until it is told to stop, or until nobody can tell it anything any more.
    pub(super) fn run(self) {
        let mut turn = Turn {
            steering: Steering::new(self.index, self.peers.len()),
            troubles: TroubleDetector::default(),
            worker: self,
            slab: vec![0; SLAB].into_boxed_slice(),
            transmits: Vec::with_capacity(256),
            stats: ShardStats::default(),
            counted_at: Instant::now(),
        };
        let mut looked = Instant::now();
        loop {
            turn.stats.longest_turn = turn.stats.longest_turn.max(looked.elapsed());
            let (received, woken) = turn.wait();
            looked = Instant::now();
            if woken && !turn.inputs() {
                return;
            }
            if received {
                turn.receive();
            }
            turn.worker.shard.handle_timeout(Instant::now());
            turn.unbind();
            turn.send();
            turn.tell();
            turn.count(Instant::now());
        }
    }
}

impl Turn {
    fn wait(&mut self) -> (bool, bool) {
        let now = Instant::now();
        let work = self.worker.shard.poll_timeout().map(|at| at.saturating_duration_since(now));
        // At rest the counts still go up once more, so that a rate falls to zero; then there is nothing to wake for.
        let count = (self.counted_at + EVERY).saturating_duration_since(now);
        self.worker.socket.wait(self.worker.inbox.wake(), Some(work.map_or(count, |work| work.min(count))))
    }

    /// `false` when it is over.
    fn inputs(&mut self) -> bool {
        self.worker.inbox.wake().clear();
        loop {
            let now = Instant::now();
            match self.worker.inbox.next() {
                Ok(Input::Command(command)) => self.worker.shard.handle_command(now, *command),
                Ok(Input::Datagram { from, bytes, via }) => self.handed_over(now, from, &bytes, via),
                Ok(Input::Packets { session, packets }) => {
                    self.worker.shard.handle_source_packets(now, session, &packets);
                }
                Ok(Input::Steer { from, owner }) => self.steering.learn(from, owner),
                Ok(Input::Forget { from, owner }) => self.steering.forget(from, owner),
                Ok(Input::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    /// Takes a datagram that thread `via` was given, and keeps that thread's entry of the address current: a check that
    /// passes teaches it, whether or not it was taught before; media from an address of no session makes it forget.
    fn handed_over(&mut self, now: Instant, from: SocketAddr, bytes: &[u8], via: usize) {
        let Worker { shard, peers, index, .. } = &mut self.worker;
        shard.handle_datagram(now, from, bytes);
        let owner = *index;
        match (classify(bytes) == Some(Kind::Stun), shard.is_bound(from)) {
            (true, true) => {
                if let Some(before) = self.steering.teach(from, via) {
                    peers[before].put(Input::Forget { from, owner });
                }
                peers[via].put(Input::Steer { from, owner });
            }
            (false, false) => peers[via].put(Input::Forget { from, owner }),
            _ => {}
        }
    }

    /// Makes other threads forget the addresses of sessions that have ended, or have moved on.
    fn unbind(&mut self) {
        while let Some(from) = self.worker.shard.poll_unbound() {
            // Bound again, or by another session here: still ours.
            if !self.worker.shard.is_bound(from)
                && let Some(via) = self.steering.unbind(from)
            {
                self.worker.peers[via].put(Input::Forget { from, owner: self.worker.index });
            }
        }
    }

    fn receive(&mut self) {
        let Self { worker, steering, stats, .. } = self;
        let Worker { shard, socket, peers, index, .. } = worker;
        for _ in 0..RECEIVE_TURNS {
            let now = Instant::now();
            let got = socket.receive(|from, bytes| {
                stats.bytes_in += bytes.len() as u64;
                match steering.owner(from, bytes, |from| shard.is_bound(from)) {
                    Some(owner) => {
                        let handed_over = peers[owner].hand_over(from, bytes, *index);
                        *(if handed_over { &mut stats.steered } else { &mut stats.not_steered }) += 1;
                    }
                    None => shard.handle_datagram(now, from, bytes),
                }
            });
            // A batch that is not full has emptied the socket; asking again would cost a system call per wake-up.
            if got < RECEIVE_BATCH {
                break;
            }
        }
    }

    fn send(&mut self) {
        let resumed = self.worker.socket.resume();
        self.account(resumed);
        loop {
            let now = Instant::now();
            let mut used = 0;
            self.transmits.clear();
            while SLAB - used >= MAX_TRANSMIT {
                let Some(transmit) = self.worker.shard.poll_transmit(now, &mut self.slab[used..]) else { break };
                used += transmit.len;
                self.transmits.push(transmit);
            }
            if self.transmits.is_empty() {
                return;
            }
            let outcome = self.worker.socket.send(&self.transmits, &self.slab[..used]);
            self.account(outcome);
        }
    }

    fn account(&mut self, outcome: Outcome) {
        self.stats.datagrams_out += outcome.datagrams;
        self.stats.bytes_out += outcome.bytes;
        self.stats.send_errors += outcome.errors;
        self.stats.send_dropped += outcome.dropped;
        self.stats.unsegmented += outcome.unsegmented;
        self.stats.send_calls += outcome.calls;
    }

    fn tell(&mut self) {
        while let Some(event) = self.worker.shard.poll_event() {
            // Nobody listens any more while the process ends.
            let _ = match event {
                Event::KeyframeRequested(session) => self.worker.keyframe_requests.send(session).is_ok(),
                event => media_event(event).is_some_and(|event| self.worker.events.send(event).is_ok()),
            };
        }
        while let Some(batch) = self.worker.shard.poll_tap() {
            if let Err(batch) = self.worker.taps.send(batch) {
                self.stats.tap_dropped += 1;
                self.worker.shard.recycle_tap(batch);
            }
        }
        while let Some(batch) = self.worker.taps.returned() {
            self.worker.shard.recycle_tap(batch);
        }
    }

    fn count(&mut self, now: Instant) {
        if now.saturating_duration_since(self.counted_at) < EVERY {
            return;
        }
        self.counted_at = now;
        self.stats.counters = self.worker.shard.counters();
        self.stats.cpu = thread_cpu();
        (self.stats.steering_others, self.stats.steering_taught) = self.steering.sizes();
        let sessions = self.worker.shard.stats(now);
        for change in self.troubles.observe(now, &sessions) {
            let _ = self.worker.events.send(MediaEvent::Trouble(change));
        }
        self.worker.board.put(self.worker.index, now, self.stats, sessions);
        self.stats.longest_turn = Duration::ZERO;
    }
}

fn media_event(event: Event) -> Option<MediaEvent> {
    Some(match event {
        Event::KeyframeRequested(_) => return None,
        Event::Connected(session) => MediaEvent::Connected { session },
        Event::MediaStarted { room, session } => MediaEvent::MediaStarted { room, session },
        Event::Ended { session, reason } => MediaEvent::Ended {
            session,
            reason: match reason {
                sfu::EndReason::Closed => EndReason::Closed,
                sfu::EndReason::Transport(TransportError::Timeout | TransportError::ConsentExpired) => {
                    EndReason::Timeout
                }
                sfu::EndReason::Transport(TransportError::PeerClosed) => EndReason::PeerClosed,
                sfu::EndReason::Transport(error) => EndReason::Failed(error.to_string()),
            },
        },
    })
}

/// CPU time of the calling thread, from the kernel; zero where it cannot be told.
fn thread_cpu() -> Duration {
    // Field 1 of schedstat: nanoseconds on a CPU.
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|field| field.trim().parse().ok()).unwrap_or(0))
}
