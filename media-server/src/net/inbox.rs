//! How other threads reach a media thread: a queue, and a [`Wake`] that ends its wait.

use crate::net::wake::Wake;
use sfu::parameters::SessionId;
use sfu::{Command, LocalPacket};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

/// What a media thread is given besides its own datagrams.
pub(super) enum Input {
    /// By the control plane.
    Command(Box<Command>),
    /// A datagram that the kernel gave to another thread.
    Datagram {
        /// Its sender.
        from: SocketAddr,
        /// Whole.
        bytes: Vec<u8>,
        /// Who had it.
        via: usize,
    },
    /// Packets of a source in this process.
    Packets {
        /// The session of the source.
        session: SessionId,
        /// In the order of their creation.
        packets: Vec<LocalPacket>,
    },
    /// Datagrams from this address belong to that thread from now on.
    Steer {
        /// The peer.
        from: SocketAddr,
        /// The owner of its session.
        owner: usize,
    },
    /// Datagrams from this address no longer belong to that thread.
    Forget {
        /// The former peer.
        from: SocketAddr,
        /// The owner of its session.
        owner: usize,
    },
    /// The thread ends.
    Stop,
}

/// Datagrams of other threads and packets of local sources that may wait, some 10 MB; the rest is dropped, as by
/// a full socket buffer.
const MOST_DATAGRAMS: usize = 8192;

/// The sending half; cheap to clone.
#[derive(Clone)]
pub(super) struct Mailbox {
    queue: Sender<Input>,
    wake: Arc<Wake>,
    waiting: Arc<AtomicUsize>,
}

/// The receiving half.
pub(super) struct Inbox {
    queue: Receiver<Input>,
    wake: Arc<Wake>,
    waiting: Arc<AtomicUsize>,
}

/// Both halves.
pub(super) fn mailbox() -> std::io::Result<(Mailbox, Inbox)> {
    let (sender, receiver) = channel();
    let wake = Arc::new(Wake::new()?);
    let waiting = Arc::new(AtomicUsize::new(0));
    let mailbox = Mailbox { queue: sender, wake: wake.clone(), waiting: waiting.clone() };
    Ok((mailbox, Inbox { queue: receiver, wake, waiting }))
}

impl Mailbox {
    /// Puts it in and wakes the thread; nothing happens when the thread is gone.
    pub(super) fn put(&self, input: Input) {
        if self.queue.send(input).is_ok() {
            self.wake.wake();
        }
    }

    /// Puts in a datagram that thread `via` was given, unless too many wait already. Says whether it did.
    pub(super) fn hand_over(&self, from: SocketAddr, bytes: &[u8], via: usize) -> bool {
        let reserved = self.reserve(1);
        if reserved {
            self.put(Input::Datagram { from, bytes: bytes.to_vec(), via });
        }
        reserved
    }

    /// Puts in packets of a local source, all of them or, when too many wait already, none; returns whether it did.
    pub(super) fn feed(&self, session: SessionId, packets: Vec<LocalPacket>) -> bool {
        let reserved = self.reserve(packets.len());
        if reserved {
            self.put(Input::Packets { session, packets });
        }
        reserved
    }

    fn reserve(&self, count: usize) -> bool {
        let reserved = self.waiting.fetch_add(count, Ordering::Relaxed) + count <= MOST_DATAGRAMS;
        if !reserved {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
        }
        reserved
    }
}

impl Inbox {
    /// What ends the thread's wait.
    pub(super) fn wake(&self) -> &Wake {
        &self.wake
    }

    /// Takes what waits, if anything does.
    pub(super) fn next(&self) -> Result<Input, TryRecvError> {
        let input = self.queue.try_recv()?;
        let waited = match &input {
            Input::Datagram { .. } => 1,
            Input::Packets { packets, .. } => packets.len(),
            _ => 0,
        };
        self.waiting.fetch_sub(waited, Ordering::Relaxed);
        Ok(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_packets_count_as_many_as_they_are() {
        let (mailbox, inbox) = mailbox().unwrap();
        let packet = LocalPacket {
            kind: sfu::parameters::MediaKind::Video,
            payload_type: 96,
            sequence: 0,
            timestamp: 0,
            marker: true,
            captured: std::time::Duration::ZERO,
            payload: bytes::Bytes::new(),
        };
        let feed = |count| mailbox.feed(SessionId(1), vec![packet.clone(); count]);
        assert!(feed(MOST_DATAGRAMS - 1));
        assert!(!feed(2));
        assert!(feed(1));
        assert!(!mailbox.hand_over(SocketAddr::from(([192, 0, 2, 1], 5000)), &[0], 1));
        assert!(matches!(inbox.next(), Ok(Input::Packets { packets, .. }) if packets.len() == MOST_DATAGRAMS - 1));
        assert!(feed(2));
    }

    #[test]
    fn datagrams_of_other_threads_are_bounded() {
        let (mailbox, inbox) = mailbox().unwrap();
        let from = SocketAddr::from(([192, 0, 2, 1], 5000));
        let taken = (0..MOST_DATAGRAMS + 10).filter(|_| mailbox.hand_over(from, &[0], 1)).count();
        assert_eq!(taken, MOST_DATAGRAMS);
        // A command is never refused, and what was taken makes room.
        mailbox.put(Input::Stop);
        assert!(matches!(inbox.next(), Ok(Input::Datagram { .. })));
        assert!(mailbox.hand_over(from, &[0], 1));
        assert!(!mailbox.hand_over(from, &[0], 1));
    }
}
