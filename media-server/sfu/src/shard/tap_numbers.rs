//! Packet numbers of the tap. A recording marks a gap where numbers are missing, so one is left out wherever media is missing
//! although the room's indices are unbroken: frames beyond the bitrate cap, and the pause of an encoder that restarts.

use crate::ring::PacketMeta;

/// The numbers that packets have in the tap: the room's indices, with one left out wherever media is missing although the room's
/// are unbroken.
#[derive(Default)]
pub(super) struct TapNumbers {
    /// One left out for each gap so far.
    gaps: u64,
    /// The first index behind the newest gap.
    boundary: u64,
}

impl TapNumbers {
    pub(super) fn insert_gap(&mut self, boundary: u64) {
        (self.gaps, self.boundary) = (self.gaps + 1, boundary);
    }

    pub(super) fn number(&self, meta: &PacketMeta) -> PacketMeta {
        let late = u64::from(self.gaps > 0 && meta.index < self.boundary);
        PacketMeta { index: meta.index + self.gaps - late, ..*meta }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(numbers: &TapNumbers, index: u64) -> u64 {
        let meta = PacketMeta { index, timestamp: 0, payload_type: 96, marker: false, len: 0, padding: 0 };
        numbers.number(&meta).index
    }

    #[test]
    fn each_gap_leaves_one_number_out() {
        let mut numbers = TapNumbers::default();
        assert_eq!(number(&numbers, 7), 7);
        numbers.insert_gap(10);
        // The packet at 8 is late.
        assert_eq!([9, 10, 8, 11].map(|index| number(&numbers, index)), [9, 11, 8, 12]);
        numbers.insert_gap(12);
        assert_eq!([11, 12].map(|index| number(&numbers, index)), [12, 14]);
    }
}
