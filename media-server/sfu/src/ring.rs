//! The ring of a room's decrypted packets, shared by everything that sends them: live fan-out, the start of a new
//! viewer, and retransmission.
//!
//! A packet stands at its index, the room's own sequence number of 64 bits; what was lost on the way in is a hole that a
//! late packet may still fill. Only the payload is kept: every subscriber gets its own header.
//!
//! A ring is bounded by bytes and by packets ([`Limits`]), and below these by time: [`PacketRing::release`] drops packets older than
//! the window for retransmissions, unless it belongs to the group of pictures that a joiner starts with. At a bound the
//! oldest packets make room. Memory follows use: the table of indices grows in powers of two, payloads are in `chunks`, and
//! both shrink when a stream needs less for a minute.

mod chunks;
mod meter;

use chunks::{Chunks, Place};
use meter::Meter;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Bytes kept of one payload; what is longer cannot have come through a path MTU of 1,500 and is refused.
pub const PAYLOAD_MAX: usize = 1472;

/// Packets that the table of a new ring can take.
const SMALLEST_TABLE: usize = 64;
/// Memory that was not used for two of these is returned.
const SPAN: Duration = Duration::from_secs(30);

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

/// The bounds of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory for payloads.
    pub bytes: usize,
    /// Packets and holes, a power of two.
    pub packets: usize,
    /// Age up to which every packet is kept for retransmission.
    pub window: Duration,
}

impl Limits {
    /// Video of a room by default: a group of pictures of 10 s at 12 Mbit/s.
    pub const VIDEO: Self = Self::video(16 << 20);
    /// Audio of a room: 5 s at 400 kbit/s.
    pub const AUDIO: Self = Self { bytes: 256 << 10, packets: 1 << 10, window: Duration::from_secs(5) };

    /// Returns the limits of a room's video that takes at most `bytes` of payloads, with a packet for each KiB of them.
    pub const fn video(bytes: usize) -> Self {
        let packets = (bytes >> 10).next_power_of_two();
        Self { bytes, packets, window: Duration::from_secs(2) }
    }
}

#[derive(Clone, Copy)]
struct Slot {
    meta: PacketMeta,
    place: Place,
    /// Milliseconds since the ring's epoch; of a hole, when it was noticed.
    arrival: u32,
}

const EMPTY: Slot = Slot {
    meta: PacketMeta { index: 0, timestamp: 0, payload_type: 0, marker: false, len: 0, padding: 0 },
    place: Place::NONE,
    arrival: 0,
};

/// See the module.
pub struct PacketRing {
    limits: Limits,
    /// A power of two of slots; those outside of `tail..head` are empty.
    slots: Box<[Slot]>,
    chunks: Chunks,
    meter: Meter,
    /// One past the highest index ever put.
    head: u64,
    /// The lowest index that a packet may stand at.
    tail: u64,
    epoch: Option<Instant>,
    /// Of the last [`PacketRing::release`], and in milliseconds since the epoch.
    released: Option<Instant>,
    now: u32,
    /// Beginning of the measuring span, and the longest `tail..head` in it and in the one before.
    span: u32,
    lengths: [usize; 2],
}

impl PacketRing {
    /// A ring of at most `packets` packets of any length, a power of two.
    pub fn new(packets: usize) -> Self {
        // Chunks are never filled to the last byte.
        Self::with_limits(Limits { bytes: 2 * packets.max(16) * PAYLOAD_MAX, packets, ..Limits::VIDEO })
    }

    /// An empty ring, which has hardly any memory yet.
    pub fn with_limits(limits: Limits) -> Self {
        debug_assert!(limits.packets.is_power_of_two(), "a ring's packets are a power of two");
        Self {
            limits,
            slots: vec![EMPTY; limits.packets.min(SMALLEST_TABLE)].into_boxed_slice(),
            chunks: Chunks::new(limits.bytes),
            meter: Meter::default(),
            head: 0,
            tail: 0,
            epoch: None,
            released: None,
            now: 0,
            span: 0,
            lengths: [0; 2],
        }
    }

    /// Sets the limits. At lower ones the oldest packets are dropped now; the memory is returned as with a smaller stream.
    pub fn set_limits(&mut self, limits: Limits) {
        debug_assert!(limits.packets.is_power_of_two(), "a ring's packets are a power of two");
        self.limits = limits;
        self.chunks.set_limit(limits.bytes);
        self.drop_to(self.head.saturating_sub(limits.packets as u64));
        while self.chunks.is_over_limit() && self.tail < self.head {
            self.drop_to(self.tail + 1);
        }
    }

    /// One past the highest index ever put.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The lowest index that can still be here.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Returns the bits per second of payload received during the last two seconds.
    pub fn bitrate(&self) -> u64 {
        self.meter.bitrate()
    }

    /// Returns the mean bytes of the payloads received during the last two seconds.
    pub fn mean_len(&self) -> u64 {
        self.meter.mean()
    }

    /// Bytes that are allocated.
    pub fn memory(&self) -> usize {
        self.chunks.memory() + self.slots.len() * size_of::<Slot>()
    }

    /// Advances time: packets older than the window are dropped, but those from `keep` on stay.
    pub fn release(&mut self, now: Instant, keep: Option<u64>) {
        let epoch = *self.epoch.get_or_insert(now);
        self.now = now.saturating_duration_since(epoch).as_millis() as u32;
        self.released = Some(now);
        let window = self.limits.window.as_millis() as u32;
        while self.tail < self.head && keep.is_none_or(|keep| self.tail < keep) {
            if self.now.wrapping_sub(self.slots[self.position(self.tail)].arrival) < window {
                break;
            }
            self.drop_to(self.tail + 1);
        }
        if self.now.wrapping_sub(self.span) >= SPAN.as_millis() as u32 {
            self.span = self.now;
            self.end_span();
        }
    }

    /// Puts a packet at `meta.index`, which arrived at the time of the last [`PacketRing::release`]. `false` when it is too old,
    /// too long, or already there.
    pub fn put(&mut self, meta: PacketMeta, payload: &[u8]) -> bool {
        self.put_aged(Duration::ZERO, meta, payload)
    }

    /// Puts a packet that arrived this long before the last [`PacketRing::release`].
    pub fn put_aged(&mut self, age: Duration, meta: PacketMeta, payload: &[u8]) -> bool {
        if payload.len() > PAYLOAD_MAX || meta.index < self.tail || self.meta(meta.index).is_some() {
            return false;
        }
        if meta.index >= self.head {
            self.extend_to(meta.index + 1);
        }
        let place = loop {
            match self.chunks.store(payload) {
                Some(place) => break place,
                None => self.drop_to(self.tail + 1),
            }
        };
        if meta.index < self.tail {
            // A late packet, for which all that is older had to go, and it is the oldest itself.
            self.chunks.remove(place);
            return false;
        }
        let position = self.position(meta.index);
        let meta = PacketMeta { len: payload.len() as u16, ..meta };
        let arrival = self.now.wrapping_sub(age.as_millis() as u32);
        self.slots[position] = Slot { meta, place, arrival };
        self.meter.add(self.now, payload.len());
        true
    }

    /// Makes `head` the end; everything between the old one and this is a hole until it arrives.
    fn extend_to(&mut self, head: u64) {
        let first = head.saturating_sub(self.limits.packets as u64);
        self.drop_to(first);
        let length = (head - self.tail) as usize;
        if length > self.slots.len() {
            self.resize(length);
        }
        for index in self.head.max(self.tail)..head {
            let position = self.position(index);
            self.slots[position] = Slot { arrival: self.now, ..EMPTY };
        }
        self.head = head;
        self.lengths[1] = self.lengths[1].max(length);
    }

    /// Drops every packet before `tail`.
    fn drop_to(&mut self, tail: u64) {
        for index in self.tail..tail.min(self.head) {
            let position = self.position(index);
            let place = std::mem::replace(&mut self.slots[position], EMPTY).place;
            if place != Place::NONE {
                self.chunks.remove(place);
            }
        }
        self.tail = self.tail.max(tail);
    }

    /// Resizes the table to `length` indices.
    fn resize(&mut self, length: usize) {
        let table = length.next_power_of_two().max(self.limits.packets.min(SMALLEST_TABLE));
        let mut slots = vec![EMPTY; table].into_boxed_slice();
        for index in self.tail..self.head {
            slots[index as usize & (table - 1)] = self.slots[self.position(index)];
        }
        self.slots = slots;
    }

    fn end_span(&mut self) {
        self.chunks.end_span();
        let length = (self.head - self.tail) as usize;
        let most = self.lengths[0].max(self.lengths[1]).max(length);
        self.lengths = [self.lengths[1], length];
        if most.next_power_of_two() * 4 <= self.slots.len() {
            self.resize(most);
        }
    }

    fn position(&self, index: u64) -> usize {
        index as usize & (self.slots.len() - 1)
    }

    /// The packet at `index`, when it is here.
    pub fn meta(&self, index: u64) -> Option<&PacketMeta> {
        let slot = &self.slots[self.position(index)];
        (slot.place != Place::NONE && (self.tail..self.head).contains(&index)).then_some(&slot.meta)
    }

    /// Returns when the packet at `index` arrived, to the millisecond; `None` when it is not here.
    pub fn arrival(&self, index: u64) -> Option<Instant> {
        self.meta(index)?;
        let age = self.now.wrapping_sub(self.slots[self.position(index)].arrival);
        self.released?.checked_sub(Duration::from_millis(age.into()))
    }

    /// Settles the padding of the packet at `index`.
    pub fn set_padding(&mut self, index: u64, padding: u8) {
        if let Some(len) = self.meta(index).map(|meta| meta.len) {
            debug_assert!(usize::from(len) + usize::from(padding) <= PAYLOAD_MAX, "padding fits");
            let position = self.position(index);
            self.slots[position].meta.padding = padding;
        }
    }

    /// The payload of a packet that [`PacketRing::meta`] gave.
    pub fn payload(&self, meta: &PacketMeta) -> &[u8] {
        let slot = &self.slots[self.position(meta.index)];
        debug_assert!(slot.meta.index == meta.index && slot.place != Place::NONE, "the packet is here");
        self.chunks.get(slot.place, usize::from(slot.meta.len))
    }

    /// The packets that are here, in order.
    pub fn range(&self, range: Range<u64>) -> impl Iterator<Item = &PacketMeta> {
        (range.start.max(self.tail)..range.end.min(self.head)).filter_map(|index| self.meta(index))
    }

    /// Forgets every packet; indices go on.
    pub fn forget(&mut self) {
        self.drop_to(self.head);
    }
}

#[cfg(test)]
mod tests;
