//! Where a viewer can enter a track: the first packet of the newest random access point.
//!
//! That need not be the packet with the picture's first slice ([`inspect`]): parameter sets and messages precede it in
//! packets of the same timestamp (RFC 6184 section 5.1), or under a timestamp of their own, and may be lost or late. So
//! these packets are followed back, and the start is certain once the packet before it is known.
//!
//! An AV1 key frame without a sequence header in its temporal unit is no entry. An H264 picture without parameter sets is
//! one, since decoders may have them already; see [`KeyframeStart::has_parameters`] and `injection`.

use crate::keyframe::inspect;
use crate::parameters::Codec;
use crate::ring::{PacketMeta, PacketRing};
use std::time::{Duration, Instant};

/// An uncertain start is waited for so long: reordering, and a retransmission over a long way. Then it is taken as it is.
pub const PATIENCE: Duration = Duration::from_millis(200);

/// Packets from a picture's first one on among which its parameters are looked for.
const MOST_PARAMETERS: usize = 32;

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
    /// Frames after which the picture is exact: 0 but for H264 intra refresh.
    pub recovery_frames: u32,
    /// Parameters that a decoder needs are among its packets.
    pub has_parameters: bool,
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
        let found = inspect(codec, ring.payload(packet));
        let same = known.filter(|known| known.timestamp == packet.timestamp);
        let told_by = match known {
            // Of a picture that is known: one that needs no recovery beats one that does.
            Some(known) if packet.index > known.index && same.is_some() => {
                let recovery_frames = known.recovery_frames.min(found.random_access.unwrap_or(u32::MAX));
                return Some(Self { recovery_frames, ..known });
            }
            // Late: an earlier packet of the same picture, or the one directly in front of it.
            Some(known) if packet.index < known.index && same.is_some() && found.may_begin_random_access() => {
                packet.index
            }
            Some(known) if packet.index < known.index && !known.certain && packet.index + 1 == known.index => {
                known.index
            }
            Some(known) if packet.index <= known.index => return Some(known),
            _ if found.random_access.is_some() => packet.index,
            _ if found.parameters && is_random_access(ring, codec, packet) => packet.index + 1,
            _ => return known,
        };
        let known_picture = known.filter(|known| told_by <= known.index);
        let timestamp = match known_picture {
            Some(picture) => picture.timestamp,
            None => ring.meta(told_by)?.timestamp,
        };
        let (index, certain) = match codec {
            Codec::H264 | Codec::Av1 => beginning(ring, codec, lowest, told_by, timestamp),
            _ => (told_by, true),
        };
        let last = known_picture.map_or(told_by, |picture| picture.index);
        let has_parameters = known_picture.is_some_and(|picture| picture.has_parameters)
            || ring
                .range(index..last + 1)
                .take(MOST_PARAMETERS)
                .any(|meta| inspect(codec, ring.payload(meta)).parameters);
        if codec == Codec::Av1 && !has_parameters {
            return known;
        }
        let told = ring.meta(told_by).and_then(|meta| inspect(codec, ring.payload(meta)).random_access);
        let recovery_frames = match known_picture {
            Some(picture) => picture.recovery_frames.min(told.unwrap_or(u32::MAX)),
            None => told?,
        };
        let at = known_picture.map_or(now, |picture| picture.at);
        Some(Self { index, timestamp, at, certain, recovery_frames, has_parameters })
    }
}

/// Returns whether the picture behind these late parameters is a random access point.
fn is_random_access(ring: &PacketRing, codec: Codec, parameters: &PacketMeta) -> bool {
    ring.meta(parameters.index + 1)
        .filter(|next| next.timestamp == parameters.timestamp)
        .is_some_and(|next| inspect(codec, ring.payload(next)).random_access.is_some())
}

/// The first packet of the picture that the one at `start` belongs to, as far as it is here, and whether that is certain.
fn beginning(ring: &PacketRing, codec: Codec, lowest: u64, mut start: u64, timestamp: u32) -> (u64, bool) {
    loop {
        if start <= lowest {
            return (start, true);
        }
        match ring.meta(start - 1) {
            Some(before) if before.timestamp == timestamp && !before.marker => start -= 1,
            Some(before) if inspect(codec, ring.payload(before)).parameters_only => start -= 1,
            Some(_) => return (start, true),
            None => {
                let first = ring.meta(start).map(|meta| inspect(codec, ring.payload(meta)));
                return (start, first.is_some_and(|found| found.opens));
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

    type Frames<'a> = &'a [(u32, bool, &'a [u8])];

    /// The start after these of the packets have come, in this order.
    fn start_of(codec: Codec, frames: Frames<'_>, order: &[usize]) -> Option<KeyframeStart> {
        let mut ring = PacketRing::new(16);
        let mut known = None;
        for position in order {
            let (timestamp, marker, payload) = frames[*position];
            let index = 10 + *position as u64;
            let meta = PacketMeta { index, timestamp, payload_type: 96, marker, len: 0, padding: 0 };
            ring.put(meta, payload);
            let meta = *ring.meta(index).unwrap();
            known = KeyframeStart::noted(known, Instant::now(), &ring, 0, &meta, codec);
        }
        known
    }

    fn after(order: &[usize]) -> Option<(u64, bool)> {
        start_of(Codec::H264, &FRAMES, order).map(|known| (known.index, known.certain))
    }

    #[test]
    fn a_keyframe_starts_with_the_parameter_sets_ahead_of_it() {
        assert_eq!(after(&[0, 1, 2]), None, "parameter sets alone are no picture");
        assert_eq!(after(&[0, 1, 2, 3]), Some((11, true)));
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

    #[test]
    fn refresh_starts_at_its_parameter_sets() {
        // Recovery in 24 frames (as in the codec crate's tests), then a slice that is no IDR.
        let sei: &[u8] = &[0x06, 6, 2, 0b0000_1100, 0b1100_0000, 0x80];
        let frames: Frames<'_> = &[
            (1, true, &[0x41, 1]),
            (2, false, &[0x67, 0x42]),
            (2, false, sei),
            (2, true, &[0x41, 2]),
            (3, true, &[0x41, 3]),
        ];
        for order in [&[0, 1, 2, 3, 4][..], &[0, 1, 3, 4, 2], &[4, 3, 2, 1, 0]] {
            let start = start_of(Codec::H264, frames, order).unwrap();
            assert_eq!((start.index, start.recovery_frames, start.has_parameters), (11, 24, true), "{order:?}");
        }
        // An IDR slice in the same picture is exact at once.
        let frames: Frames<'_> = &[(2, false, sei), (2, true, &[0x65, 1])];
        for order in [[0, 1], [1, 0]] {
            let start = start_of(Codec::H264, frames, &order).unwrap();
            assert_eq!((start.index, start.recovery_frames, start.has_parameters), (10, 0, false), "{order:?}");
        }
    }

    #[test]
    fn sps_without_a_picture_to_start_with_is_no_entry() {
        let frames: Frames<'_> = &[(1, false, &[0x67, 0x42]), (1, false, &[0x68, 0xce]), (1, true, &[0x41, 1])];
        assert_eq!(start_of(Codec::H264, frames, &[0, 1, 2]), None);
    }

    #[test]
    fn sets_with_own_timestamp_belong_to_picture() {
        let frames: Frames<'_> =
            &[(1, true, &[0x41, 1]), (2, true, &[0x67, 0x42]), (3, true, &[0x68, 0xce]), (4, true, &[0x65, 1])];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0]] {
            let start = start_of(Codec::H264, frames, &order).unwrap();
            assert_eq!((start.index, start.timestamp, start.has_parameters), (11, 4, true), "{order:?}");
        }
    }

    #[test]
    fn av1_entry_needs_sequence_header_and_key_frame() {
        let (header, key, delta): (&[u8], &[u8], &[u8]) =
            (&[0x18, 0x08, 0, 0], &[0x18, 0x30, 0x10], &[0x18, 0x30, 0x30]);
        let frames: Frames<'_> = &[(1, true, delta), (2, false, header), (2, true, key), (3, true, delta)];
        for order in [&[0, 1, 2, 3][..], &[0, 2, 1, 3], &[3, 2, 1], &[3, 1, 2]] {
            let start = start_of(Codec::Av1, frames, order).unwrap();
            assert_eq!((start.index, start.timestamp, start.certain), (11, 2, true), "{order:?}");
        }
        let without: Frames<'_> = &[(1, true, delta), (2, true, key), (3, true, delta)];
        assert_eq!(start_of(Codec::Av1, without, &[0, 1, 2]), None, "a decoder lacks the sequence header");
    }

    proptest! {
        #[test]
        fn in_whatever_order_they_come_the_start_is_the_same(order in Just([0usize, 1, 2, 3, 4]).prop_shuffle()) {
            prop_assert_eq!(after(&order).map(|(index, _)| index), Some(11));
        }
    }
}
