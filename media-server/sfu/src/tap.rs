//! A copy of what a room's publisher sends, for the recorder: one batch a burst, in buffers that come back.

use crate::parameters::{Codec, MediaKind, RoomId, SessionId};
use crate::ring::PacketMeta;
use std::ops::Range;
use std::time::Instant;

/// One thing that happened in the room.
#[derive(Clone, Debug)]
pub enum TapRecord {
    /// A media packet, decrypted.
    Packet {
        /// Which track.
        kind: MediaKind,
        /// What it carries.
        codec: Codec,
        /// The publisher's session: changes when another one takes over.
        source: SessionId,
        /// The packet's number in the track, contiguous but for losses and other gaps; continues over sources.
        index: u64,
        /// The room's timeline, clock of the codec.
        timestamp: u32,
        /// RTP marker bit.
        marker: bool,
        /// When it came.
        arrival: Instant,
        /// Its payload in [`TapBatch::bytes`].
        payload: Range<u32>,
    },
    /// The publisher's clock: NTP (32.32) and the room's timeline at the same moment.
    SenderReport {
        /// Which track.
        kind: MediaKind,
        /// The publisher's session.
        source: SessionId,
        /// NTP time.
        ntp: u64,
        /// The room's timeline.
        timestamp: u32,
        /// When it came.
        arrival: Instant,
    },
    /// The publisher is gone.
    SourceEnded {
        /// The publisher's session.
        source: SessionId,
        /// When.
        at: Instant,
    },
}

/// What one burst brought.
#[derive(Debug)]
pub struct TapBatch {
    /// Of which room.
    pub room: RoomId,
    /// In the order it came.
    pub records: Vec<TapRecord>,
    /// The payloads.
    pub bytes: Vec<u8>,
}

impl TapBatch {
    /// Returns a batch that allocates nothing until something is appended.
    pub fn empty(room: RoomId) -> Self {
        Self { room, records: Vec::new(), bytes: Vec::new() }
    }

    /// Returns an empty batch with capacity for an ordinary burst.
    pub fn new(room: RoomId) -> Self {
        Self { room, records: Vec::with_capacity(32), bytes: Vec::with_capacity(32 * 1024) }
    }

    /// Takes a copy of a packet that stands in a ring.
    pub(crate) fn copy(
        &mut self,
        arrival: Instant,
        source: SessionId,
        kind: MediaKind,
        codec: Codec,
        meta: &PacketMeta,
        payload: &[u8],
    ) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(payload);
        let payload = start..self.bytes.len() as u32;
        let PacketMeta { index, timestamp, marker, .. } = *meta;
        self.records.push(TapRecord::Packet { kind, codec, source, index, timestamp, marker, arrival, payload });
    }

    /// Appends a copy of a later batch of the same room.
    pub fn append(&mut self, later: &TapBatch) {
        let base = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&later.bytes);
        self.records.extend(later.records.iter().cloned().map(|mut record| {
            if let TapRecord::Packet { payload, .. } = &mut record {
                *payload = payload.start + base..payload.end + base;
            }
            record
        }));
    }

    /// Forgets everything but the memory.
    pub fn reuse(mut self, room: RoomId) -> Self {
        self.room = room;
        self.records.clear();
        self.bytes.clear();
        self
    }
}
