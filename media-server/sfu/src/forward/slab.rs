//! One outgoing datagram, or a run of equal ones, in the caller's buffer.

use std::net::SocketAddr;

/// The most bytes that one [`Transmit`] takes: what one UDP send may carry, segmented or not.
pub const MAX_TRANSMIT: usize = 65_000;

/// Bytes at the front of the buffer that was passed to `poll_transmit`, for one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub destination: SocketAddr,
    /// Bytes used of the buffer.
    pub len: usize,
    /// When set, the bytes are several datagrams of this size each (the last may be shorter): one GSO send, or several
    /// plain ones.
    pub segment_size: Option<u16>,
}
