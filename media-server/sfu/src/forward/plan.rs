//! Which packets leave together.
//!
//! The kernel's segmentation offload (UDP_SEGMENT) takes a run of datagrams for one destination in one call, if all have
//! the same size but for a shorter last one. Encoders split a frame into packets that differ by a byte or two, so a packet
//! that is barely shorter than its neighbours is padded (RFC 3550 §5.1, the P bit). Padding is decided here, once, and is
//! part of the packet from then on: a repeated packet must be the same to the byte, as it is sealed under the same nonce.

use super::slab::MAX_TRANSMIT;
use crate::ring::{PacketMeta, PacketRing};
use std::ops::Range;

/// A packet shorter than its run by more than this ends the run instead of being padded.
const MOST_PADDING: u16 = 16;
/// Datagrams of one run; the kernel takes 64.
const LONGEST_RUN: usize = 40;
/// Header and the longest authentication tag.
const OVERHEAD: usize = 12 + 16;

/// Packets to send together, as a range of [`Plan::packets`].
pub type Run = Range<usize>;

/// See the module. Kept and refilled, so that planning allocates nothing in the steady state.
#[derive(Default)]
pub struct Plan {
    packets: Vec<PacketMeta>,
    runs: Vec<Run>,
}

impl Plan {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.packets.clear();
        self.runs.clear();
    }

    /// Nothing to send.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The packets, in the order they leave.
    pub fn packets(&self) -> &[PacketMeta] {
        &self.packets
    }

    /// The runs, in order; together they are all packets.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Plans late packets, then what is new, and writes the padding it decides into the ring.
    pub fn fill(&mut self, ring: &mut PacketRing, late: &[u64], new: Range<u64>) {
        self.clear();
        // A late packet may have been sent as a retransmission already: it stays without padding.
        self.packets.extend(late.iter().filter_map(|index| ring.meta(*index).copied()));
        let late = self.packets.len();
        split(&self.packets, 0, &mut self.runs, 0);
        let first = self.runs.len();
        self.packets.extend(ring.range(new).copied());
        split(&self.packets, late, &mut self.runs, MOST_PADDING);
        for run in &self.runs[first..] {
            let longest = self.packets[run.clone()].iter().map(size).max().unwrap_or(0);
            let last = run.end - 1;
            for position in run.start..last {
                let padding = longest - size(&self.packets[position]);
                if padding > 0 {
                    self.packets[position].padding = padding as u8;
                    ring.set_padding(self.packets[position].index, padding as u8);
                }
            }
        }
    }

    /// Plans packets that were planned before, up to `limit` bytes: their padding stands.
    pub fn refill(&mut self, ring: &PacketRing, range: Range<u64>, limit: usize) {
        self.clear();
        let mut bytes = 0;
        for meta in ring.range(range) {
            if bytes > limit {
                break;
            }
            bytes += usize::from(size(meta)) + OVERHEAD;
            self.packets.push(*meta);
        }
        split(&self.packets, 0, &mut self.runs, 0);
    }
}

fn size(meta: &PacketMeta) -> u16 {
    meta.len + u16::from(meta.padding)
}

/// Splits the packets from `start` on into runs. Within a run, sizes differ by at most `tolerance`, but for a shorter last one.
fn split(packets: &[PacketMeta], mut start: usize, runs: &mut Vec<Run>, tolerance: u16) {
    while start < packets.len() {
        let (mut shortest, mut longest) = (size(&packets[start]), size(&packets[start]));
        let mut end = start + 1;
        while end < packets.len() && end - start < LONGEST_RUN {
            let next = size(&packets[end]);
            if (usize::from(longest.max(next)) + OVERHEAD) * (end - start + 1) > MAX_TRANSMIT {
                break;
            }
            if longest.max(next) - shortest.min(next) <= tolerance {
                (shortest, longest) = (shortest.min(next), longest.max(next));
                end += 1;
            } else {
                if next < longest {
                    // A shorter packet may still be the last.
                    end += 1;
                }
                break;
            }
        }
        runs.push(start..end);
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ring_of(sizes: &[u16]) -> PacketRing {
        let mut ring = PacketRing::new(64);
        for (index, len) in sizes.iter().enumerate() {
            let meta =
                PacketMeta { index: index as u64, timestamp: 0, payload_type: 96, marker: false, len: 0, padding: 0 };
            assert!(ring.put(meta, &vec![0; usize::from(*len)]));
        }
        ring
    }

    fn runs(sizes: &[u16]) -> (Vec<Run>, Vec<u8>) {
        let mut ring = ring_of(sizes);
        let mut plan = Plan::default();
        plan.fill(&mut ring, &[], 0..sizes.len() as u64);
        (plan.runs().to_vec(), plan.packets().iter().map(|m| m.padding).collect())
    }

    #[test]
    fn a_frame_leaves_as_one_run() {
        const WHOLE: Run = 0..4;
        assert_eq!(runs(&[1200, 1200, 1200, 310]), (vec![WHOLE], vec![0; 4]));
    }

    #[test]
    fn almost_equal_packets_are_padded() {
        assert_eq!(runs(&[1149, 1149, 1148, 1148]).1, [0, 0, 1, 0]);
        const WHOLE: Run = 0..4;
        assert_eq!(runs(&[1148, 1149, 1148, 200]), (vec![WHOLE], vec![1, 0, 1, 0]));
    }

    #[test]
    fn a_longer_packet_starts_a_new_run() {
        assert_eq!(runs(&[30, 1200, 1200, 400, 1200]).0, [0..1, 1..4, 4..5]);
    }

    proptest! {
        #[test]
        fn every_run_can_be_segmented(sizes in proptest::collection::vec(1u16..1473, 1..64)) {
            let mut ring = ring_of(&sizes);
            let mut plan = Plan::default();
            plan.fill(&mut ring, &[], 0..sizes.len() as u64);
            let mut next = 0;
            for run in plan.runs() {
                prop_assert_eq!(run.start, next);
                next = run.end;
                let segments: Vec<u16> = plan.packets()[run.clone()].iter().map(size).collect();
                let (last, rest) = segments.split_last().unwrap();
                prop_assert!(rest.iter().all(|s| *s == segments[0]));
                prop_assert!(*last <= segments[0] || rest.is_empty());
                prop_assert!(segments.iter().map(|s| usize::from(*s) + OVERHEAD).sum::<usize>() <= MAX_TRANSMIT);
            }
            prop_assert_eq!(next, sizes.len());
            // A viewer who catches up later sends the very same bytes.
            let mut again = Plan::default();
            again.refill(&ring, 0..sizes.len() as u64, usize::MAX);
            prop_assert_eq!(again.packets(), plan.packets());
        }
    }
}
