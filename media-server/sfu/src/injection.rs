//! H264 parameter sets that a source does not send with its pictures: put into the track in front of each random access
//! point, as a packet of their own, so that viewers and recordings get them in band.
//!
//! They are those last seen in band, or those of the offer (`sprop-parameter-sets`). Nothing is put in where a packet is
//! missing in front of the picture, for that may hold newer ones.
//!
//! Bounds: one packet in [`SPACING`]; of the shifts in numbering that this causes, the newest [`MOST_SHIFTS`] are kept,
//! and packets from before those are refused as too old.

use crate::keyframe::{ParameterSets, inspect};
use crate::parameters::{Codec, IncomingTrack};
use crate::ring::{PacketMeta, PacketRing};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Random access points that follow each other more closely get one packet of parameter sets together.
const SPACING: Duration = Duration::from_millis(100);
/// Shifts kept: 1.6 s at least, longer than any packet is waited for.
const MOST_SHIFTS: usize = 16;
/// Packets of a picture among which its parameter sets are looked for.
const MOST_PACKETS: u64 = 32;

/// The parameter sets of one source.
#[derive(Default)]
pub(crate) struct Parameters {
    seen: ParameterSets,
    /// By payload type.
    offered: Vec<(u8, ParameterSets)>,
    last: Option<(u32, Instant)>,
}

impl Parameters {
    /// Takes note of the sets in a packet.
    pub(crate) fn observe(&mut self, codec: Codec, payload: &[u8]) {
        if codec == Codec::H264 {
            self.seen.observe(payload);
        }
    }

    /// Takes note of the sets that were offered.
    pub(crate) fn offer(&mut self, track: &IncomingTrack) {
        self.offered.clear();
        for payload_type in track.payload_types.iter().filter(|payload_type| payload_type.codec == Codec::H264) {
            let mut sets = ParameterSets::default();
            sets.offer(&payload_type.fmtp);
            self.offered.push((payload_type.number, sets));
        }
    }

    fn complete(&mut self, payload_type: u8) {
        if let Some((_, offered)) = self.offered.iter().find(|(number, _)| *number == payload_type) {
            self.seen.complete_from(offered);
        }
    }

    /// Returns the payload to be put in front of the packet that is about to stand at `meta.index`; `None` when that needs
    /// none, or there is none.
    pub(crate) fn before(
        &mut self,
        now: Instant,
        codec: Codec,
        ring: &PacketRing,
        lowest: u64,
        meta: &PacketMeta,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        let found = (codec == Codec::H264).then(|| inspect(codec, payload))?;
        let is_due = self
            .last
            .is_none_or(|(timestamp, at)| timestamp != meta.timestamp && now.saturating_duration_since(at) >= SPACING);
        if found.random_access.is_none() || found.parameters || !is_due || !lacks_parameters(ring, lowest, meta) {
            return None;
        }
        self.complete(meta.payload_type);
        let sets = self.seen.to_stap_a()?;
        self.last = Some((meta.timestamp, now));
        Some(sets)
    }
}

/// Returns whether the packets of the picture in front of this one are all here, without a sequence parameter set.
fn lacks_parameters(ring: &PacketRing, lowest: u64, meta: &PacketMeta) -> bool {
    for index in (meta.index.saturating_sub(MOST_PACKETS)..meta.index).rev() {
        if index < lowest {
            return true;
        }
        let Some(before) = ring.meta(index) else { return false };
        let found = inspect(Codec::H264, ring.payload(before));
        let belongs = before.timestamp == meta.timestamp && !before.marker || found.parameters_only;
        if !belongs || found.parameters {
            return !belongs;
        }
    }
    true
}

/// Maps a source's extended sequence numbers onto the room's indices.
pub(crate) struct Numbering {
    /// Lowest sequence number and the offset from there on, in order. Never empty.
    offsets: VecDeque<(i64, i64)>,
}

impl Numbering {
    /// Maps `sequence` to `index`.
    pub(crate) fn new(sequence: u64, index: u64) -> Self {
        Self { offsets: VecDeque::from([(i64::MIN, index as i64 - sequence as i64)]) }
    }

    /// Returns the index of a packet; `None` when it is too old.
    pub(crate) fn index(&self, sequence: u64) -> Option<u64> {
        let sequence = sequence as i64;
        let (_, offset) = self.offsets.iter().rev().find(|(from, _)| *from <= sequence)?;
        u64::try_from(sequence + offset).ok()
    }

    /// One packet was put in front of `sequence`, the highest so far.
    pub(crate) fn shift(&mut self, sequence: u64) {
        let offset = self.offsets.back().map_or(0, |(_, offset)| offset + 1);
        self.offsets.push_back((sequence as i64, offset));
        if self.offsets.len() > MOST_SHIFTS {
            self.offsets.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbering_keeps_late_packets_in_their_place() {
        let mut numbering = Numbering::new(100, 7);
        assert_eq!((numbering.index(100), numbering.index(90)), (Some(7), None));
        numbering.shift(110);
        assert_eq!((numbering.index(109), numbering.index(110), numbering.index(111)), (Some(16), Some(18), Some(19)));
        for n in 1..100 {
            numbering.shift(110 + n * 10);
        }
        assert_eq!(numbering.offsets.len(), MOST_SHIFTS);
        assert_eq!((numbering.index(109), numbering.index(1100)), (None, Some(7 + 1000 + 100)));
    }
}
