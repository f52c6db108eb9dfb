//! How other threads reach a media thread: a queue, and an eventfd that ends its wait.

use crate::net::wake::Wake;
use sfu::Command;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

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

/// The sending half; cheap to clone.
#[derive(Clone)]
pub(super) struct Mailbox {
    queue: Sender<Input>,
    wake: Arc<Wake>,
}

impl Mailbox {
    pub(super) fn new() -> std::io::Result<(Self, Receiver<Input>, Arc<Wake>)> {
        let (queue, inputs) = channel();
        let wake = Arc::new(Wake::new()?);
        Ok((Self { queue, wake: wake.clone() }, inputs, wake))
    }

    /// Puts it in and wakes the thread; nothing happens when the thread is gone.
    pub(super) fn put(&self, input: Input) {
        if self.queue.send(input).is_ok() {
            self.wake.wake();
        }
    }
}
