//! Finds whole frames among the packets of one stream, in whatever order they come: from a packet that can begin a frame
//! to the one with the marker, nothing missing between, all of one timestamp.

use std::collections::VecDeque;

use ingest::{Codec, Part};

/// Frames that are remembered while their packets come in.
const OPEN_FRAMES: usize = 64;

#[derive(Debug)]
struct Open {
    timestamp: u32,
    /// Lowest sequence number so far, and whether a frame can begin there.
    first: (i64, bool),
    count: i64,
    last: Option<i64>,
    key: bool,
    whole: bool,
    decodable: bool,
}

impl Open {
    fn is_whole(&self) -> bool {
        let (first, begins) = self.first;
        begins && self.last.is_some_and(|last| self.count == last - first + 1)
    }
}

/// What a packet completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    /// A frame that needs others.
    Delta,
    /// A frame that a decoder can begin with, its parameter sets included.
    Key,
}

/// Gathers the packets of one stream.
#[derive(Debug)]
pub(crate) struct FrameAssembler {
    codec: Codec,
    open: VecDeque<Open>,
    sps: bool,
    pps: bool,
    /// Whole frames.
    pub(crate) whole: u64,
    /// Whole frames that a decoder can begin with.
    pub(crate) keyframes: u64,
    /// Frames that were given up with packets missing.
    pub(crate) broken: u64,
}

impl FrameAssembler {
    pub(crate) fn new(codec: Codec) -> FrameAssembler {
        FrameAssembler { codec, open: VecDeque::new(), sps: false, pps: false, whole: 0, keyframes: 0, broken: 0 }
    }

    /// Takes a packet that was not there before. `sequence` does not wrap.
    pub(crate) fn add(&mut self, sequence: i64, timestamp: u32, marker: bool, part: Part) -> Option<Whole> {
        self.sps |= part.sps;
        self.pps |= part.pps;
        let index = self.open.iter().rposition(|open| open.timestamp == timestamp).unwrap_or_else(|| {
            if self.open.len() == OPEN_FRAMES {
                let oldest = self.open.pop_front();
                self.broken += u64::from(oldest.is_some_and(|open| !open.whole));
            }
            let first = (sequence, part.begins);
            self.open.push_back(Open {
                timestamp,
                first,
                count: 0,
                last: None,
                key: false,
                whole: false,
                decodable: false,
            });
            self.open.len() - 1
        });
        let open = &mut self.open[index];
        open.count += 1;
        open.key |= part.key;
        if sequence < open.first.0 {
            open.first = (sequence, part.begins);
        }
        if marker || self.codec == Codec::Opus {
            open.last = Some(sequence);
        }
        // A frame can be whole before its parameter sets are there, for they come in packets of their own.
        let decodable = open.key && (self.codec != Codec::H264 || (self.sps && self.pps));
        if !open.is_whole() || (open.whole && (open.decodable || !decodable)) {
            return None;
        }
        self.whole += u64::from(!open.whole);
        self.keyframes += u64::from(decodable);
        (open.whole, open.decodable) = (true, decodable);
        Some(if decodable { Whole::Key } else { Whole::Delta })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingest::packetize::TrackWriter;

    fn packets() -> Vec<(i64, u32, bool, Part)> {
        let clip = ingest::demo::source().video.unwrap();
        let mut writer = TrackWriter::new(Codec::H264, 1, 102);
        let mut sequence = 0;
        let mut packets = Vec::new();
        for frame in &clip.frames[..61] {
            for packet in writer.packets(frame.at, &frame.data).unwrap() {
                sequence += 1;
                let part = Codec::H264.inspect(&packet.payload);
                packets.push((sequence, packet.header.timestamp, packet.header.marker, part));
            }
        }
        packets
    }

    fn assemble(packets: impl IntoIterator<Item = (i64, u32, bool, Part)>) -> FrameAssembler {
        let mut assembler = FrameAssembler::new(Codec::H264);
        for (sequence, timestamp, marker, part) in packets {
            assembler.add(sequence, timestamp, marker, part);
        }
        assembler
    }

    #[test]
    fn every_frame_is_found() {
        let found = assemble(packets());
        assert_eq!((found.whole, found.keyframes, found.broken), (61, 2, 0));
    }

    #[test]
    fn order_does_not_matter() {
        let mut packets = packets();
        packets.chunks_mut(7).for_each(|chunk| chunk.reverse());
        let found = assemble(packets);
        assert_eq!((found.whole, found.keyframes), (61, 2));
    }

    #[test]
    fn a_keyframe_with_a_packet_missing_is_not_whole_until_it_comes() {
        let mut packets = packets();
        let missing = packets.remove(3);
        let mut found = assemble(packets);
        assert_eq!((found.whole, found.keyframes), (60, 1));
        assert_eq!(found.add(missing.0, missing.1, missing.2, missing.3), Some(Whole::Key));
    }

    #[test]
    fn a_keyframe_without_parameter_sets_cannot_be_decoded() {
        let packets = packets().into_iter().filter(|(_, _, _, part)| !part.sps);
        let found = assemble(packets);
        assert_eq!((found.whole, found.keyframes), (61, 0));
    }

    #[test]
    fn frames_that_stay_incomplete_are_given_up() {
        let mut assembler = FrameAssembler::new(Codec::Vp8);
        for frame in 0..100 {
            let part = Part { begins: true, ..Part::default() };
            assert_eq!(assembler.add(2 * i64::from(frame), frame, false, part), None);
        }
        assert_eq!(assembler.broken, 100 - OPEN_FRAMES as u64);
    }
}
