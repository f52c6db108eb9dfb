//! Where a viewer can enter a track: the first packet of the newest keyframe.
//!
//! With H264 that is not the first packet that [`starts_keyframe`] tells: parameter sets and what else belongs to the
//! picture come ahead of it in packets of the same timestamp (RFC 6184 §5.1), and may be lost or late. So the packets of that
//! timestamp are followed back, and the start is certain once it is known what stands before it.

use crate::keyframe::{opens_keyframe, starts_keyframe};
use crate::parameters::Codec;
use crate::ring::{PacketMeta, PacketRing};
use std::time::{Duration, Instant};

/// An uncertain start is waited for so long: reordering, and a retransmission over a long way. Then it is taken as it is.
pub const PATIENCE: Duration = Duration::from_millis(200);

/// Where the newest keyframe starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyframeStart {
    /// Index of its first packet.
    pub index: u64,
    /// Its timestamp.
    pub timestamp: u32,
    /// When the first of its packets came that told it.
    pub at: Instant,
    /// Nothing that belongs to it is missing in front of `index`.
    pub certain: bool,
}

impl KeyframeStart {
    /// From when on a decoder may start here.
    pub fn usable_at(&self) -> Instant {
        if self.certain { self.at } else { self.at + PATIENCE }
    }

    /// The newest keyframe's start once `packet` stands in `ring`, when it was `known` before. The source's packets in the
    /// ring begin at `lowest`.
    pub(crate) fn noted(
        known: Option<Self>,
        now: Instant,
        ring: &PacketRing,
        lowest: u64,
        packet: &PacketMeta,
        codec: Codec,
    ) -> Option<Self> {
        let starts = starts_keyframe(codec, ring.payload(packet));
        let (from, at) = match known {
            Some(known) if packet.index > known.index => {
                if !starts || packet.timestamp == known.timestamp {
                    return Some(known);
                }
                (packet.index, now)
            }
            // It came late: an earlier packet of the same keyframe, or what tells where that begins.
            Some(known) if starts && packet.timestamp == known.timestamp => (packet.index, known.at),
            Some(known) if !known.certain && packet.index + 1 == known.index => (known.index, known.at),
            None if starts => (packet.index, now),
            known => return known,
        };
        let timestamp = known.filter(|known| known.index == from).map_or(packet.timestamp, |known| known.timestamp);
        let (index, certain) = match codec {
            Codec::H264 => beginning(ring, lowest, from, timestamp),
            _ => (from, true),
        };
        Some(Self { index, timestamp, at, certain })
    }
}

/// The first packet of the frame that the one at `start` belongs to, as far as it is here, and whether that is certain.
fn beginning(ring: &PacketRing, lowest: u64, mut start: u64, timestamp: u32) -> (u64, bool) {
    loop {
        if start <= lowest {
            return (start, true);
        }
        match ring.meta(start - 1) {
            Some(before) if before.timestamp == timestamp && !before.marker => start -= 1,
            Some(_) => return (start, true),
            None => {
                let first = ring.meta(start).map(|meta| ring.payload(meta));
                return (start, first.is_some_and(|payload| opens_keyframe(Codec::H264, payload)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The end of the frame before, parameter sets, and two packets of a picture.
    const FRAMES: [(u32, bool, &[u8]); 5] = [
        (1, true, &[0x41, 1]),
        (2, false, &[0x67, 0x42]),
        (2, false, &[0x68, 0xce]),
        (2, false, &[0x7c, 0x85]),
        (2, true, &[0x7c, 0x45]),
    ];

    /// The start after these of the packets have come, in this order.
    fn after(order: &[usize]) -> Option<(u64, bool)> {
        let mut ring = PacketRing::new(16);
        let mut known = None;
        for position in order {
            let (timestamp, marker, payload) = FRAMES[*position];
            let index = 10 + *position as u64;
            let meta = PacketMeta { index, timestamp, payload_type: 96, marker, len: 0, padding: 0 };
            ring.put(meta, payload);
            let meta = *ring.meta(index).unwrap();
            known = KeyframeStart::noted(known, Instant::now(), &ring, 0, &meta, Codec::H264);
        }
        known.map(|known| (known.index, known.certain))
    }

    #[test]
    fn a_keyframe_starts_with_the_parameter_sets_ahead_of_it() {
        assert_eq!(after(&[0, 1, 2]), Some((11, true)));
        assert_eq!(after(&[0, 1, 2, 3, 4]), Some((11, true)));
    }

    #[test]
    fn parameter_sets_that_come_after_the_picture_are_where_it_starts() {
        assert_eq!(after(&[0, 3]), Some((13, false)));
        assert_eq!(after(&[0, 3, 2]), Some((12, false)));
        assert_eq!(after(&[0, 3, 2, 1]), Some((11, true)));
        assert_eq!(after(&[3, 1]), Some((11, true)));
    }

    #[test]
    fn a_picture_without_parameter_sets_starts_where_the_frame_before_has_ended() {
        let mut ring = PacketRing::new(16);
        let mut known = None;
        for (index, timestamp, payload) in [(7, 2, [0x65, 1]), (6, 1, [0x41, 1])] {
            ring.put(PacketMeta { index, timestamp, payload_type: 96, marker: true, len: 0, padding: 0 }, &payload);
            let meta = *ring.meta(index).unwrap();
            known = KeyframeStart::noted(known, Instant::now(), &ring, 0, &meta, Codec::H264);
            assert_eq!(known.map(|known| (known.index, known.certain)), Some((7, index == 6)));
        }
    }

    proptest! {
        #[test]
        fn in_whatever_order_they_come_the_start_is_the_same(order in Just([0usize, 1, 2, 3, 4]).prop_shuffle()) {
            prop_assert_eq!(after(&order).map(|(index, _)| index), Some(11));
        }
    }
}
