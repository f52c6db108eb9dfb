//! From packets in order to frames of one source: finds the borders between frames and what loss has spoilt.
//!
//! A frame ends with the marker bit, or where the RTP timestamp changes. When video has lost anything, nothing is
//! given until a whole keyframe: what is between refers to what is missing. Audio packets stand for themselves.

use std::time::Instant;

use crate::{
    depacketize::{Depacketizer, Frame},
    reorder::Kept,
    types::{Codec, Track},
};

/// A frame with its times.
#[derive(Debug)]
pub(crate) struct Timed {
    pub(crate) frame: Frame,
    /// RTP timestamp, unwrapped.
    pub(crate) rtp: i64,
    /// Of its first packet.
    pub(crate) arrival: Instant,
    /// Frames before this one are missing.
    pub(crate) after_loss: bool,
}

/// Makes frames of one source.
#[derive(Debug)]
pub(crate) struct Assembler {
    codec: Codec,
    depacketizer: Depacketizer,
    max_frame_bytes: usize,
    /// Timestamp and arrival of the frame that is being put together.
    current: Option<(u32, Instant)>,
    /// The rest of the frame with this timestamp is of no use.
    skip: Option<u32>,
    /// Packets are missing before the next one that has a payload.
    hole: bool,
    /// Only a keyframe will do.
    resync: bool,
    /// Something is missing before the next frame given.
    lost: bool,
    /// The last unwrapped timestamp.
    unwrapped: Option<i64>,
    marked: bool,
    malformed: u64,
    done: Vec<Timed>,
}

impl Assembler {
    pub(crate) fn new(codec: Codec, max_frame_bytes: usize) -> Self {
        Assembler {
            codec,
            depacketizer: Depacketizer::new(codec),
            max_frame_bytes,
            current: None,
            skip: None,
            hole: true,
            resync: codec.track() == Track::Video,
            lost: false,
            unwrapped: None,
            marked: false,
            malformed: 0,
            done: Vec::new(),
        }
    }

    /// The publisher switched codecs within its source: the timestamps go on.
    fn switch(&mut self, codec: Codec) {
        self.finish_frame();
        self.codec = codec;
        self.depacketizer = Depacketizer::new(codec);
        self.hole = true;
        self.resync = codec.track() == Track::Video;
    }

    /// Video was lost, and nothing will come of it until there is a keyframe.
    pub(crate) fn wants_keyframe(&self) -> bool {
        self.resync && self.lost
    }

    /// Something came, or should have come, after the last frame that was given; not a frame that only was begun.
    pub(crate) fn has_lost(&self) -> bool {
        self.lost
    }

    /// Unreadable payloads since the last call.
    pub(crate) fn take_malformed(&mut self) -> u64 {
        std::mem::take(&mut self.malformed)
    }

    /// What came before is lost (on this side): only a keyframe will do.
    pub(crate) fn lose(&mut self) {
        self.spoil();
        self.done.clear();
        self.hole = true;
    }

    pub(crate) fn push(&mut self, packet: &Kept, hole: bool) {
        if hole {
            self.hole = true;
        }
        if packet.payload.is_empty() {
            return;
        }
        if packet.codec != self.codec {
            self.switch(packet.codec);
        }
        if self.codec.track() == Track::Audio {
            return self.push_audio(packet);
        }
        let timestamp = packet.timestamp;
        let hole = std::mem::take(&mut self.hole);
        if hole {
            if self.current.is_some() || !self.resync {
                self.spoil();
            }
            self.skip = Some(timestamp).filter(|_| !self.depacketizer.begins_frame(&packet.payload));
            self.lost |= self.skip.is_some();
        } else if self.current.is_some_and(|(current, _)| current != timestamp) {
            self.finish_frame();
        }
        if self.skip == Some(timestamp) {
            return;
        }
        self.skip = None;
        self.current.get_or_insert((timestamp, packet.arrival));
        let pushed = self.depacketizer.push(&packet.payload);
        if pushed.is_err() || self.depacketizer.len() > self.max_frame_bytes {
            self.malformed += u64::from(pushed.is_err());
            self.spoil();
            self.skip = Some(timestamp);
        } else if packet.marker {
            self.marked = true;
            self.finish_frame();
        }
    }

    fn push_audio(&mut self, packet: &Kept) {
        self.lost |= std::mem::take(&mut self.hole) && self.unwrapped.is_some();
        self.current = Some((packet.timestamp, packet.arrival));
        if self.depacketizer.push(&packet.payload).is_err() {
            self.malformed += 1;
            self.spoil();
        }
        self.finish_frame();
    }

    /// No more packets of this source: what is whole is given.
    pub(crate) fn finish(&mut self) {
        // Without a marker the last frame may lack its end, unless this source never marks.
        if !self.marked && !self.hole {
            self.finish_frame();
        }
    }

    pub(crate) fn pop(&mut self) -> Vec<Timed> {
        std::mem::take(&mut self.done)
    }

    /// The current frame is of no use.
    fn spoil(&mut self) {
        self.depacketizer.discard();
        self.current = None;
        self.lost = true;
        self.resync = self.codec.track() == Track::Video;
    }

    fn finish_frame(&mut self) {
        let Some((timestamp, arrival)) = self.current.take() else { return };
        let rtp = match self.unwrapped {
            Some(last) => last + i64::from(timestamp.wrapping_sub(last as u32) as i32),
            None => i64::from(timestamp),
        };
        match self.depacketizer.take() {
            Ok(Some(frame)) if frame.keyframe || !self.resync => {
                self.resync = false;
                self.unwrapped = Some(rtp);
                let after_loss = std::mem::take(&mut self.lost);
                self.done.push(Timed { frame, rtp, arrival, after_loss });
            }
            Ok(Some(_)) => {
                self.unwrapped = Some(rtp);
                self.lost = true;
            }
            Ok(None) => {}
            Err(_) => {
                self.malformed += 1;
                self.spoil();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = &[0x10, 0x50, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 1, 2];
    const INTER: &[u8] = &[0x10, 0x31, 0x00, 0x00, 9];
    const REST: &[u8] = &[0x00, 7, 7];

    fn vp8(packets: &[(&[u8], u32, bool, bool)]) -> Vec<(i64, bool, bool)> {
        let mut assembler = Assembler::new(Codec::Vp8, 1 << 20);
        for &(payload, timestamp, marker, hole) in packets {
            let packet =
                Kept { arrival: Instant::now(), codec: Codec::Vp8, timestamp, marker, payload: payload.to_vec() };
            assembler.push(&packet, hole);
        }
        assembler.finish();
        assembler.pop().into_iter().map(|timed| (timed.rtp, timed.frame.keyframe, timed.after_loss)).collect()
    }

    #[test]
    fn frames_end_by_marker_and_by_timestamp() {
        let frames = vp8(&[
            (KEY, 0, false, false),
            (REST, 0, false, false),
            (INTER, 3000, true, false),
            (INTER, 6000, true, false),
        ]);
        assert_eq!(frames, [(0, true, false), (3000, false, false), (6000, false, false)]);
    }

    #[test]
    fn a_lost_packet_costs_everything_up_to_the_next_keyframe() {
        let frames = vp8(&[
            (KEY, 0, true, false),
            (INTER, 3000, false, false),
            (REST, 3000, true, true),
            (INTER, 6000, true, false),
            (KEY, 9000, true, false),
            (INTER, 12000, true, false),
        ]);
        assert_eq!(frames, [(0, true, false), (9000, true, true), (12000, false, false)]);
    }

    #[test]
    fn a_keyframe_directly_after_a_hole_is_kept() {
        let frames = vp8(&[(KEY, 0, true, false), (KEY, 9000, true, true)]);
        assert_eq!(frames, [(0, true, false), (9000, true, true)]);
    }

    #[test]
    fn a_keyframe_that_lost_its_start_is_not_kept() {
        let frames = vp8(&[
            (REST, 0, true, false),
            (KEY, 3000, false, false),
            (REST, 3000, true, true),
            (KEY, 6000, true, false),
        ]);
        assert_eq!(frames, [(6000, true, true)]);
    }

    #[test]
    fn timestamps_are_unwrapped() {
        let frames = vp8(&[(KEY, u32::MAX - 999, true, false), (INTER, 2000, true, false)]);
        assert_eq!(frames[1].0 - frames[0].0, 3000);
    }

    #[test]
    fn a_lost_audio_packet_costs_itself() {
        let mut assembler = Assembler::new(Codec::Opus, 1 << 20);
        for (timestamp, hole) in [(0, false), (960, false), (2880, true), (3840, false)] {
            let packet = Kept {
                arrival: Instant::now(),
                codec: Codec::Opus,
                timestamp,
                marker: false,
                payload: vec![0xfc, 1, 2],
            };
            assembler.push(&packet, hole);
        }
        let frames: Vec<_> = assembler.pop().into_iter().map(|timed| (timed.rtp, timed.after_loss)).collect();
        assert_eq!(frames, [(0, false), (960, false), (2880, true), (3840, false)]);
    }
}
