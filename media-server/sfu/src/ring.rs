//! The ring of a room's decrypted packets, shared by everything that sends them: live fan-out, the start of a new
//! viewer, and retransmission.
//!
//! A packet stands at its index, the room's own sequence number of 64 bits; what was lost on the way in is a hole that a
//! late packet may still fill. A ring holds the newest [`PacketRing::VIDEO`] (or `AUDIO`) indices and forgets the rest. Only the
//! payload is kept: every subscriber gets a header of its own.

use std::ops::Range;

/// Bytes kept of one payload; what is longer cannot have come through a path MTU of 1,500 and is refused.
pub const PAYLOAD_MAX: usize = 1472;

/// One packet of a room, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketMeta {
    /// Index in the room, contiguous but for losses.
    pub index: u64,
    /// RTP timestamp on the room's timeline.
    pub timestamp: u32,
    /// Which of the publisher's payload types it came with.
    pub payload_type: u8,
    /// The RTP marker bit.
    pub marker: bool,
    /// Bytes of payload.
    pub len: u16,
    /// Bytes of RTP padding that every copy is sent with.
    pub padding: u8,
}

#[derive(Clone, Copy)]
struct Slot {
    meta: PacketMeta,
    present: bool,
}

/// See the module.
pub struct PacketRing {
    slots: Box<[Slot]>,
    /// `slots.len() * PAYLOAD_MAX` bytes; zeroed by the allocator, so that pages are backed only once they are used.
    bytes: Box<[u8]>,
    mask: u64,
    /// One past the highest index ever put.
    head: u64,
    /// The lowest index that a packet may stand at.
    start: u64,
}

impl PacketRing {
    /// Packets of a video ring: 7 seconds at 2.5 Mbit/s, 2 seconds at 8 Mbit/s.
    pub const VIDEO: usize = 2048;
    /// Packets of an audio ring: 5 seconds at 20 ms a packet.
    pub const AUDIO: usize = 256;

    /// A ring of `capacity` packets, a power of two.
    pub fn new(capacity: usize) -> Self {
        debug_assert!(capacity.is_power_of_two(), "a ring's capacity is a power of two");
        let empty = Slot {
            meta: PacketMeta { index: 0, timestamp: 0, payload_type: 0, marker: false, len: 0, padding: 0 },
            present: false,
        };
        Self {
            slots: vec![empty; capacity].into_boxed_slice(),
            bytes: vec![0; capacity * PAYLOAD_MAX].into_boxed_slice(),
            mask: capacity as u64 - 1,
            head: 0,
            start: 0,
        }
    }

    /// One past the highest index ever put.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The lowest index that can still be here.
    pub fn tail(&self) -> u64 {
        self.start.max(self.head.saturating_sub(self.slots.len() as u64))
    }

    /// Puts a packet at `meta.index`. `false` when it is too old, too long, or already there.
    pub fn put(&mut self, meta: PacketMeta, payload: &[u8]) -> bool {
        if payload.len() > PAYLOAD_MAX || meta.index < self.tail() {
            return false;
        }
        if meta.index >= self.head {
            // Everything between the old head and this packet is a hole until it arrives.
            let holes = self.head.max((meta.index + 1).saturating_sub(self.slots.len() as u64))..meta.index;
            for index in holes {
                self.slots[(index & self.mask) as usize].present = false;
            }
            self.head = meta.index + 1;
        } else if self.meta(meta.index).is_some() {
            return false;
        }
        let position = (meta.index & self.mask) as usize;
        self.slots[position] = Slot { meta: PacketMeta { len: payload.len() as u16, ..meta }, present: true };
        self.bytes[position * PAYLOAD_MAX..][..payload.len()].copy_from_slice(payload);
        true
    }

    /// The packet at `index`, when it is here.
    pub fn meta(&self, index: u64) -> Option<&PacketMeta> {
        let slot = &self.slots[(index & self.mask) as usize];
        (slot.present && slot.meta.index == index && index >= self.tail()).then_some(&slot.meta)
    }

    /// Settles the padding of the packet at `index`.
    pub fn set_padding(&mut self, index: u64, padding: u8) {
        if let Some(len) = self.meta(index).map(|meta| meta.len) {
            debug_assert!(usize::from(len) + usize::from(padding) <= PAYLOAD_MAX, "padding fits");
            self.slots[(index & self.mask) as usize].meta.padding = padding;
        }
    }

    /// The payload of a packet that [`PacketRing::meta`] gave.
    pub fn payload(&self, meta: &PacketMeta) -> &[u8] {
        let position = (meta.index & self.mask) as usize;
        &self.bytes[position * PAYLOAD_MAX..][..usize::from(meta.len)]
    }

    /// The packets that are here, in order.
    pub fn range(&self, range: Range<u64>) -> impl Iterator<Item = &PacketMeta> {
        (range.start.max(self.tail())..range.end.min(self.head)).filter_map(|index| self.meta(index))
    }

    /// Forgets every packet; indices go on.
    pub fn forget(&mut self) {
        self.start = self.head;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meta(index: u64) -> PacketMeta {
        PacketMeta { index, timestamp: index as u32, payload_type: 96, marker: false, len: 0, padding: 0 }
    }

    #[test]
    fn late_packet_fills_its_hole_once() {
        let mut ring = PacketRing::new(8);
        assert!(ring.put(meta(0), b"a"));
        assert!(ring.put(meta(3), b"d"));
        assert!(ring.meta(1).is_none());
        assert!(ring.put(meta(1), b"b"));
        assert!(!ring.put(meta(1), b"x"));
        let got: Vec<_> = ring.range(0..4).map(|m| ring.payload(m)[0]).collect();
        assert_eq!(got, b"abd");
    }

    #[test]
    fn a_jump_longer_than_the_ring_leaves_only_holes() {
        let mut ring = PacketRing::new(8);
        for index in 0..8 {
            ring.put(meta(index), b"x");
        }
        ring.put(meta(1000), b"y");
        assert_eq!(ring.range(0..2000).map(|m| m.index).collect::<Vec<_>>(), [1000]);
        assert!(!ring.put(meta(5), b"old"));
    }

    #[test]
    fn too_long_a_payload_is_refused() {
        let mut ring = PacketRing::new(8);
        assert!(!ring.put(meta(0), &[0; PAYLOAD_MAX + 1]));
        assert_eq!(ring.head(), 0);
    }

    proptest! {
        #[test]
        fn holds_exactly_the_newest(puts in proptest::collection::vec(0u64..200, 1..300)) {
            let mut ring = PacketRing::new(16);
            let mut model = std::collections::BTreeMap::new();
            let mut head = 0u64;
            for (n, index) in puts.iter().enumerate() {
                let fits = *index >= head.saturating_sub(16) && !model.contains_key(index);
                let payload = (n as u32).to_be_bytes();
                prop_assert_eq!(ring.put(meta(*index), &payload), fits);
                if fits { model.insert(*index, payload); }
                head = head.max(index + 1);
                model.retain(|k, _| *k >= head.saturating_sub(16));
                let got: Vec<_> = ring.range(0..head).map(|m| (m.index, ring.payload(m).to_vec())).collect();
                let want: Vec<_> = model.iter().map(|(k, v)| (*k, v.to_vec())).collect();
                prop_assert_eq!(got, want);
            }
        }
    }
}
