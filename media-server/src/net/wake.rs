//! Ends a media thread's wait from another thread: a pair of connected sockets, so that no `unsafe` is needed.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

/// See the module. Waking twice before the thread looks costs one system call, not two.
pub(super) struct Wake {
    ours: UnixStream,
    theirs: UnixStream,
    awake: AtomicBool,
}

impl Wake {
    pub(super) fn new() -> std::io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        Ok(Self { ours, theirs, awake: AtomicBool::new(false) })
    }

    pub(super) fn wake(&self) {
        if !self.awake.swap(true, Ordering::AcqRel) {
            // A full pipe wakes as well as an empty one.
            let _ = (&self.theirs).write(&[0]);
        }
    }

    /// To be called before the queue is looked at.
    pub(super) fn clear(&self) {
        let mut sink = [0; 16];
        while matches!((&self.ours).read(&mut sink), Ok(1..)) {}
        // A swap, not a store: whoever found `true` just before, and so did not write, had filled the queue by then, and only
        // reading his value makes that visible here.
        self.awake.swap(false, Ordering::AcqRel);
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        self.ours.as_raw_fd()
    }
}
