//! Messages that the socket buffer had no room for, in the order of their sending.

use sfu::forward::slab::Transmit;
use std::net::SocketAddr;

/// Messages and their bytes, up to a limit of bytes. Later ones are dropped: a viewer sends a NACK for a missing packet.
pub(super) struct Backlog {
    limit: usize,
    transmits: Vec<Transmit>,
    bytes: Vec<u8>,
}

impl Backlog {
    /// An empty one, which takes no memory.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, transmits: Vec::new(), bytes: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.transmits.is_empty()
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a datagram, or a run of datagrams of `segment` bytes. Returns how many were dropped: none or all of them.
    pub(super) fn push(&mut self, destination: SocketAddr, segment: Option<u16>, bytes: &[u8]) -> u64 {
        if self.bytes.len() + bytes.len() > self.limit {
            return segment.map_or(1, |segment| bytes.len().div_ceil(usize::from(segment.max(1)))) as u64;
        }
        self.bytes.extend_from_slice(bytes);
        self.transmits.push(Transmit { destination, len: bytes.len(), segment_size: segment });
        0
    }

    /// All of it, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Transmit, &[u8])> {
        let mut offset = 0;
        self.transmits.iter().map(move |transmit| {
            offset += transmit.len;
            (*transmit, &self.bytes[offset - transmit.len..offset])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_backlog_drops_messages_and_counts_datagrams() {
        let to = SocketAddr::from(([192, 0, 2, 1], 1));
        let mut backlog = Backlog::new(100);
        assert_eq!(backlog.push(to, None, &[1; 60]), 0);
        assert_eq!(backlog.push(to, Some(20), &[2; 50]), 3);
        assert_eq!(backlog.push(to, None, &[3; 41]), 1);
        assert_eq!(backlog.push(to, Some(15), &[4; 40]), 0);
        let lens: Vec<_> =
            backlog.iter().map(|(transmit, bytes)| (transmit.segment_size, bytes.len(), bytes[0])).collect();
        assert_eq!(lens, [(None, 60, 1), (Some(15), 40, 4)]);
        assert_eq!(backlog.len(), 100);
    }
}
