//! How other threads reach a media thread: a queue, and a [`Wake`] that ends its wait.

use crate::net::wake::Wake;
use sfu::Command;
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
    /// Datagrams from this address belong to that thread from now on.
    Steer {
        /// The peer.
        from: SocketAddr,
        /// The owner of its session.
        owner: usize,
    },
    /// The thread ends.
    Stop,
}

/// Datagrams of other threads that may wait, some 10 MB; what comes beyond is dropped, as by a full socket buffer.
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
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_DATAGRAMS {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.put(Input::Datagram { from, bytes: bytes.to_vec(), via });
        true
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
        if matches!(input, Input::Datagram { .. }) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
