//! The cap on a publisher's bitrate: complete frames are dropped, so that the rest can be decoded.
//!
//! [`Budget`] refills at the cap and a quarter, and holds a second's worth: keyframes and probes are bursts. Audio draws from it
//! too, and is dropped only when it alone exceeds the cap. A video frame that starts within the budget passes to its end, up to
//! a second's worth of debt. While half of the budget is used up, frames that no other refers to (H264 with `nal_ref_idc` 0, ITU-T
//! H.264 §7.4.1) are dropped, which only lowers the frame rate. When it is used up, everything is dropped until a keyframe
//! starts within it; [`Gate::wants_keyframe`] returns when to request one.
//!
//! [`Gate`] also closes the gaps that this leaves in the sequence numbers, or viewers would take the dropped packets for losses
//! and request them. It remembers [`MOST_CUTS`] cuts; packets from before the oldest of them are dropped.

use crate::keyframe::inspect;
use crate::parameters::Codec;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Cuts that are remembered.
const MOST_CUTS: usize = 64;
/// Seconds that [`Budget::is_exceeded`] looks back.
const EXCESS_WINDOW: u64 = 10;
/// Seconds of them with dropped packets that are a sustained excess; a single burst touches two.
const EXCESS_SECONDS: u32 = 3;

/// Bytes that a publisher may still send.
pub(super) struct Budget {
    /// Bytes a second; `None` without a cap.
    rate: Option<i64>,
    video: i64,
    audio: i64,
    refilled: Instant,
    epoch: Instant,
    /// The seconds in which packets were dropped, the newest as bit 0, and the second of that bit.
    excess: (u16, u64),
    packets: u64,
    bytes: u64,
    frames: u64,
}

impl Budget {
    pub(super) fn new(now: Instant, max_bitrate: Option<u64>) -> Self {
        let mut budget = Self {
            rate: None,
            video: 0,
            audio: 0,
            refilled: now,
            epoch: now,
            excess: (0, 0),
            packets: 0,
            bytes: 0,
            frames: 0,
        };
        budget.set_max_bitrate(max_bitrate);
        budget
    }

    /// Sets the cap in bits per second.
    pub(super) fn set_max_bitrate(&mut self, max_bitrate: Option<u64>) {
        let rate = max_bitrate.map(|limit| i64::try_from(limit / 8 * 5 / 4).unwrap_or(i64::MAX / 4).min(i64::MAX / 4));
        if rate != self.rate {
            self.rate = rate;
            (self.video, self.audio) = (rate.unwrap_or(0), rate.unwrap_or(0));
        }
    }

    /// Returns the packets that were dropped.
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    /// Returns the bytes that were dropped.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the frames that were dropped, entirely or from some packet on.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Returns whether packets are dropped again and again.
    pub(super) fn is_exceeded(&self, now: Instant) -> bool {
        let (seconds, newest) = self.excess;
        let age = self.second(now).saturating_sub(newest);
        let recent = if age < EXCESS_WINDOW { u32::from(seconds) << age & ((1 << EXCESS_WINDOW) - 1) } else { 0 };
        recent.count_ones() >= EXCESS_SECONDS
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs()
    }

    fn refill(&mut self, now: Instant) {
        let Some(rate) = self.rate else { return };
        let elapsed = now.saturating_duration_since(self.refilled).min(Duration::from_secs(2)).as_micros() as i64;
        let refill = (i128::from(rate) * i128::from(elapsed) / 1_000_000) as i64;
        if refill > 0 {
            self.refilled = now;
            self.video = (self.video + refill).min(rate);
            self.audio = (self.audio + refill).min(rate);
        }
    }

    /// Returns whether an audio packet passes.
    pub(super) fn take_audio(&mut self, now: Instant, len: usize) -> bool {
        self.refill(now);
        let Some(rate) = self.rate else { return true };
        let len = len as i64;
        if self.audio < len {
            self.drop_packet(now, len as usize);
            return false;
        }
        self.audio -= len;
        self.video = (self.video - len).max(-rate);
        true
    }

    fn drop_packet(&mut self, now: Instant, len: usize) {
        self.packets += 1;
        self.bytes += len as u64;
        let second = self.second(now);
        let (seconds, newest) = self.excess;
        let age = second.saturating_sub(newest);
        self.excess = (if age < 16 { seconds << age | 1 } else { 1 }, second);
    }
}

/// A video packet, as far as it matters here.
#[derive(Clone, Copy)]
pub(super) struct VideoPacket<'a> {
    /// The source's sequence number without wraps.
    pub(super) sequence: u64,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) codec: Codec,
    pub(super) payload: &'a [u8],
    /// Bytes of the RTP packet.
    pub(super) len: usize,
}

/// The frame that the newest packet belongs to.
#[derive(Clone, Copy)]
struct Frame {
    timestamp: u32,
    passes: bool,
    /// The packet that a decoder would start with was dropped.
    start_dropped: bool,
    /// Its last packet has arrived.
    ended: bool,
}

/// Selects the frames of one SSRC that pass, and renumbers their packets.
#[derive(Default)]
pub(super) struct Gate {
    newest: Option<u64>,
    /// The newest that passed.
    newest_passed: u64,
    frame: Option<Frame>,
    /// Nothing passes until a keyframe.
    closed: bool,
    /// It opened for parameters, and no random access point has followed them yet.
    opening: bool,
    /// The packet that passed last was the first after that.
    reopened: bool,
    cuts: VecDeque<Range<u64>>,
    /// Sequence numbers in cuts that are no longer remembered, and the end of the last of them.
    removed: u64,
    lowest: u64,
}

impl Gate {
    /// Returns the packet's sequence number in the stream without the dropped ones; `None` when it is dropped.
    pub(super) fn pass(&mut self, budget: &mut Budget, now: Instant, packet: &VideoPacket<'_>) -> Option<u16> {
        budget.refill(now);
        self.reopened = false;
        let passes = match self.newest {
            Some(newest) if packet.sequence <= newest => self.pass_late(packet),
            _ => self.pass_next(budget, packet),
        };
        if passes && let Some(sequence) = self.renumber(packet.sequence) {
            self.newest_passed = self.newest_passed.max(packet.sequence);
            if let Some(rate) = budget.rate {
                budget.video = (budget.video - packet.len as i64).max(-rate);
            }
            return Some(sequence);
        }
        budget.drop_packet(now, packet.len);
        None
    }

    /// Returns whether a keyframe should be requested: nothing passes without one, and there is room for it.
    pub(super) fn wants_keyframe(&self, budget: &Budget) -> bool {
        self.closed && budget.rate.is_none_or(|rate| budget.video >= rate / 2)
    }

    /// Returns whether the packet that passed last was the first after frames that others refer to had been dropped.
    pub(super) fn has_reopened(&self) -> bool {
        self.reopened
    }

    /// Returns the sequence numbers that were dropped last: they need not be requested.
    pub(super) fn newest_cut(&self) -> Option<Range<u64>> {
        self.cuts.back().cloned()
    }

    fn pass_next(&mut self, budget: &mut Budget, packet: &VideoPacket<'_>) -> bool {
        let last = self.frame;
        let found = inspect(packet.codec, packet.payload);
        let starts = found.may_begin_random_access();
        if self.opening && !starts && last.is_none_or(|last| last.timestamp != packet.timestamp) {
            // The parameters were those of an ordinary frame.
            (self.opening, self.closed) = (false, true);
        }
        self.opening &= found.random_access.is_none();
        let mut frame = match last.filter(|frame| frame.timestamp == packet.timestamp) {
            Some(frame) => frame,
            None => {
                let passes = !self.closed && self.starts_within(budget, packet, starts);
                Frame { timestamp: packet.timestamp, passes, start_dropped: false, ended: false }
            }
        };
        if self.closed && starts && !frame.start_dropped && budget.rate.is_none_or(|_| budget.video > 0) {
            (self.closed, self.reopened) = (false, true);
            self.opening = found.random_access.is_none();
            frame.passes = true;
        } else if frame.passes && budget.rate.is_some_and(|rate| budget.video <= -rate) {
            // Longer than a second of the cap: the rest of the frame is useless.
            (frame.passes, self.closed) = (false, true);
        }
        let was_dropped = last.is_some_and(|last| last.timestamp == frame.timestamp && !last.passes);
        budget.frames += u64::from(!frame.passes && !was_dropped);
        frame.start_dropped |= starts && !frame.passes;
        frame.ended |= packet.marker;
        if !frame.passes {
            // Packets missing in between belong to this frame, or to others that were dropped, unless the last one that passed
            // lacks its end.
            let from = match (last, self.newest) {
                (Some(last), Some(newest)) if !last.passes || last.ended => newest + 1,
                _ => packet.sequence,
            };
            self.cut(from..packet.sequence + 1);
        }
        (self.frame, self.newest) = (Some(frame), Some(packet.sequence));
        frame.passes
    }

    /// Decides on a frame by its first packet.
    fn starts_within(&mut self, budget: &Budget, packet: &VideoPacket<'_>, starts: bool) -> bool {
        let Some(rate) = budget.rate else { return true };
        if !starts && budget.video < rate / 2 && is_discardable(packet.codec, packet.payload) {
            return false;
        }
        if budget.video <= 0 {
            self.closed = true;
            return false;
        }
        true
    }

    /// Decides on a reordered or retransmitted packet as on its neighbours.
    fn pass_late(&mut self, packet: &VideoPacket<'_>) -> bool {
        let dropped = self.frame.filter(|frame| frame.timestamp == packet.timestamp && !frame.passes);
        if dropped.is_some()
            && packet.sequence > self.newest_passed
            && let Some(cut) = self.cuts.back_mut().filter(|cut| packet.sequence < cut.start)
        {
            // The frame began earlier than it seemed, and nothing behind that has been numbered yet.
            cut.start = packet.sequence;
        }
        !self.cuts.iter().any(|cut| cut.contains(&packet.sequence))
    }

    fn cut(&mut self, range: Range<u64>) {
        match self.cuts.back_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.cuts.push_back(range),
        }
        if self.cuts.len() > MOST_CUTS
            && let Some(oldest) = self.cuts.pop_front()
        {
            self.removed += oldest.end - oldest.start;
            self.lowest = oldest.end;
        }
    }

    fn renumber(&self, sequence: u64) -> Option<u16> {
        let before = self.cuts.iter().take_while(|cut| cut.end <= sequence);
        let removed = self.removed + before.map(|cut| cut.end - cut.start).sum::<u64>();
        (sequence >= self.lowest).then(|| sequence.wrapping_sub(removed) as u16)
    }
}

/// Whether no other frame refers to the one that starts with this packet. Only H264 signals it without state; where a delimiter
/// or a message is alone in the first packet, the frame counts as referred to.
fn is_discardable(codec: Codec, payload: &[u8]) -> bool {
    const SLICE: u8 = 1;
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    let unreferenced = |unit: &u8| unit & 0x60 == 0;
    match (codec, payload) {
        (Codec::H264, [unit, rest @ ..]) => match unit & 0x1f {
            SLICE => unreferenced(unit),
            FU_A => unreferenced(unit) && rest.first().is_some_and(|header| header & 0x9f == 0x80 | SLICE),
            STAP_A => {
                let mut rest = rest;
                let mut slices = 0;
                while let [high, low, units @ ..] = rest {
                    let Some((unit, others)) = units.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
                    else {
                        return false;
                    };
                    let Some(first) = unit.first() else { return false };
                    match first & 0x1f {
                        SLICE if unreferenced(first) => slices += 1,
                        2..=5 | SLICE => return false,
                        _ => {}
                    }
                    rest = others;
                }
                slices > 0
            }
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests;
