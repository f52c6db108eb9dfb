//! One track as one subscriber gets it: where it stands in the ring, its headers, its retransmissions.
//!
//! A subscriber's sequence numbers are the room's indices moved by one offset, so a NACK leads straight to the ring. A
//! viewer who joins starts at the newest keyframe, not at the camera's next one: what was sent since then is sent to it
//! at once, with timestamps drawn together (`CATCH_UP_SHIFT`), so that the decoder runs through it and the picture is live
//! a moment later. Every copy of a packet is the same to the byte: timestamps and padding depend on nothing that changes.

use crate::entry::KeyframeStart;
use crate::forward::catch_up::{Behind, CatchUp, SharedBudget};
use crate::forward::plan::Plan;
use crate::forward::retransmissions::Retransmissions;
use crate::forward::slab::Transmit;
use crate::parameters::{IncomingTrack, OutgoingTrack};
use crate::ring::{PacketMeta, PacketRing};
use crate::sdp::best_match;
use crate::transport::Sealer;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Time between packets that were sent before a viewer joined is divided by 2 to this power.
const CATCH_UP_SHIFT: u32 = 5;
/// A step of sequence numbers longer than this is not sent: with losses, a receiver could take it for a rollover.
const LONGEST_STEP: u64 = 1 << 14;
/// Bytes of an RTP header without extensions.
const HEADER: usize = 12;
/// Bytes of a packet in addition to its payload: header and authentication tag.
const OVERHEAD: u64 = 28;
/// A viewer that is behind for this long, or has a narrow link, skips to a new keyframe if it has this much to get before that.
const SKIP_AFTER: Duration = Duration::from_millis(500);
const SKIP: Duration = Duration::from_millis(100);
/// Not in any map: the subscriber cannot take it.
const NONE: u8 = 0xff;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing to start with yet.
    Waiting,
    /// On the way from the keyframe to what is new; the next index to send.
    CatchingUp(u64),
    /// Takes part in the fan-out.
    Live,
}

/// Sent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// RTP packets, retransmissions included.
    pub packets: u64,
    /// Bytes of RTP payload.
    pub bytes: u64,
    /// Retransmissions.
    pub repairs: u64,
}

/// See the module.
pub struct Outgoing {
    track: OutgoingTrack,
    /// Publisher's payload type to ours, and ours to that of its retransmissions.
    payload_types: Box<[u8; 128]>,
    state: State,
    /// Index of the first packet sent, and its packet index (sequence number, no rollover) on the wire.
    first: u64,
    start: u64,
    /// One past the highest packet index sent.
    next: u64,
    /// Index and timestamp of the packet up to which time is drawn together.
    joined: (u64, u32),
    /// Next packet index of the retransmission stream.
    repair_index: u64,
    retransmissions: Retransmissions,
    catch_up: CatchUp,
    /// Timestamp of the picture that it starts with, until it has got all of that.
    picture: Option<u32>,
    /// Bits per second that its link carries, where that is less than the stream.
    limit: Option<u64>,
    sent: Sent,
    scratch: Plan,
    run: usize,
}

impl Outgoing {
    /// A track that waits for its first packet. `start` gives the first sequence number; its top bit is not used, so that
    /// a loss at the very start cannot be mistaken for a rollover (RFC 3711 §3.3.1).
    pub fn new(track: OutgoingTrack, start: u16, repair_start: u16) -> Self {
        let start = u64::from(start & 0x7fff);
        Self {
            track,
            payload_types: Box::new([NONE; 128]),
            state: State::Waiting,
            first: 0,
            start,
            next: start,
            joined: (0, 0),
            repair_index: u64::from(repair_start & 0x7fff),
            retransmissions: Retransmissions::default(),
            catch_up: CatchUp::default(),
            picture: None,
            limit: None,
            sent: Sent::default(),
            scratch: Plan::default(),
            run: 0,
        }
    }

    /// As negotiated.
    pub fn track(&self) -> &OutgoingTrack {
        &self.track
    }

    /// So far.
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// Still without its first packet.
    pub fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Behind the others, or owing retransmissions: wants to be polled soon.
    pub fn is_behind(&self) -> bool {
        matches!(self.state, State::CatchingUp(_)) || !self.retransmissions.is_empty()
    }

    /// Returns whether it is at packets from before it joined: its timestamps are not the stream's.
    pub fn is_joining(&self) -> bool {
        matches!(self.state, State::CatchingUp(cursor) if cursor <= self.joined.0)
    }

    /// Bits per second that it is limited to, because its link carries no more.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Limits the rate, in bits per second: the viewer gets as much of each group of pictures as that allows.
    pub fn set_limit(&mut self, now: Instant, limit: Option<u64>) {
        self.limit = limit;
        self.retransmissions.set_narrow(limit.is_some());
        if limit.is_some() && self.state == State::Live && self.next > self.start {
            self.state = State::CatchingUp(self.next - self.start + self.first);
            self.catch_up.start(now);
        }
    }

    /// Maps the payload types of what feeds the room now onto ours.
    pub fn follow(&mut self, source: &IncomingTrack) {
        self.payload_types.fill(NONE);
        for theirs in &source.payload_types {
            let found = best_match(theirs, &self.track.payload_types);
            if let Some(found) = found {
                self.payload_types[usize::from(theirs.number & 0x7f)] = found.number;
            }
        }
    }

    /// Returns whether packets of this payload type of the source are sent, not skipped for want of a common codec.
    pub fn accepts(&self, payload_type: u8) -> bool {
        self.payload_types[usize::from(payload_type & 0x7f)] != NONE
    }

    /// Starts at a keyframe of the ring; `newest` is index and timestamp of the newest packet there.
    pub fn start_at_keyframe(&mut self, now: Instant, keyframe: KeyframeStart, newest: (u64, u32)) {
        self.skip_to(keyframe.index);
        self.joined = newest;
        self.picture = Some(keyframe.timestamp);
        self.catch_up.start(now);
    }

    /// Continues at `index`, under the number after the last one sent.
    fn skip_to(&mut self, index: u64) {
        self.renumber(index);
        self.state = State::CatchingUp(index);
        self.scratch.clear();
        self.run = 0;
    }

    /// Starts again at a keyframe, for a viewer who has decoded nothing yet. `false` when the viewer is still on its way from
    /// a keyframe, or has not started.
    pub fn restart_at_keyframe(&mut self, now: Instant, keyframe: KeyframeStart, newest: (u64, u32)) -> bool {
        if self.state != State::Live {
            return false;
        }
        self.start_at_keyframe(now, keyframe, newest);
        true
    }

    /// Starts with the packet at `index`, which is about to be sent to all.
    pub fn start_live(&mut self, index: u64) {
        self.first = index;
        self.state = State::Live;
    }

    /// Another source begins at `index`, and what the last one sent is no longer there: one who had not got all of it goes on
    /// with the new one.
    pub fn begin_source(&mut self, index: u64) {
        if self.state != State::Waiting {
            self.renumber(index);
        }
        if let State::CatchingUp(cursor) = &mut self.state {
            *cursor = index;
        }
        self.scratch.clear();
        self.run = 0;
    }

    /// The packet at `index` follows the last one sent, without a gap and under a number that was never used; what came
    /// before is not repeated any more.
    fn renumber(&mut self, index: u64) {
        self.start = self.next;
        self.first = index;
        self.retransmissions.clear();
    }

    /// Grants a viewer that is behind its budget. `keyframe` is where a decoder can start, if anywhere.
    pub fn grant(
        &mut self,
        now: Instant,
        ring: &PacketRing,
        keyframe: Option<KeyframeStart>,
        shared: &mut SharedBudget,
    ) {
        let State::CatchingUp(mut cursor) = self.state else { return };
        let bitrate = ring.bitrate();
        let backlog = |from: u64, until: u64| until.saturating_sub(from) * (ring.mean_len() + OVERHEAD);
        let patient = self.limit.is_none() && self.catch_up.age(now) < SKIP_AFTER;
        let worth_skipping = |index: u64| {
            let rate = self.limit.unwrap_or(bitrate);
            !patient && backlog(cursor, index) * 8 * 1000 > rate * SKIP.as_millis() as u64
        };
        match keyframe.filter(|keyframe| keyframe.index > cursor) {
            Some(keyframe) if cursor < ring.tail() || worth_skipping(keyframe.index) => {
                self.skip_to(keyframe.index);
                self.picture = self.picture.map(|_| keyframe.timestamp);
                cursor = keyframe.index;
            }
            None if cursor < ring.tail() => {
                // The ring has lost its place, and there is no other to continue at yet.
                self.state = State::Waiting;
                return;
            }
            _ => {}
        }
        let picture = self.picture.map(|timestamp| {
            let first = ring.range(cursor..u64::MAX).take_while(|m| (m.timestamp.wrapping_sub(timestamp) as i32) <= 0);
            first.map(|meta| u64::from(meta.len) + OVERHEAD).sum()
        });
        let picture = picture.filter(|bytes: &u64| *bytes > 0);
        self.picture = self.picture.filter(|_| picture.is_some());
        // Its link carries the stream again.
        self.limit = self.limit.filter(|limit| *limit < bitrate + bitrate / 4);
        self.retransmissions.set_narrow(self.limit.is_some());
        let behind = Behind { bitrate, backlog: backlog(cursor, ring.head()), picture, limit: self.limit };
        self.catch_up.grant(now, &behind, shared);
    }

    /// Handles a NACK of these sequence numbers of ours. `round_trip` is the viewer's, when it is known.
    pub fn nacked(&mut self, now: Instant, sequences: &[u16], round_trip: Option<Duration>) {
        let Some(newest) = self.next.checked_sub(1) else { return };
        for sequence in sequences {
            let back = (newest as u16).wrapping_sub(*sequence);
            let Some(wire) = newest.checked_sub(u64::from(back)).filter(|wire| *wire >= self.start) else {
                continue;
            };
            self.retransmissions.request(now, wire - self.start + self.first, round_trip);
        }
    }

    fn wire_index(&self, index: u64) -> u64 {
        index - self.first + self.start
    }

    /// The timestamp this subscriber sees: drawn together before it joined.
    fn timestamp(&self, meta: &PacketMeta) -> u32 {
        let (index, joined) = self.joined;
        let behind = joined.wrapping_sub(meta.timestamp);
        if meta.index < index && (behind as i32) > 0 {
            joined.wrapping_sub(behind >> CATCH_UP_SHIFT)
        } else {
            meta.timestamp
        }
    }

    /// The next datagram or run for this subscriber; `None` when it has all that is due. `planned` is the index behind
    /// the last packet of any plan so far, `plan` the one of this burst, `run` the next of its runs for this subscriber.
    #[expect(clippy::too_many_arguments, reason = "the fan-out step, with everything it reads")]
    pub fn poll(
        &mut self,
        now: Instant,
        ring: &PacketRing,
        planned: u64,
        plan: &Plan,
        run: &mut usize,
        to: SocketAddr,
        sealer: &Sealer,
        slab: &mut [u8],
    ) -> Option<Transmit> {
        if let Some(transmit) = self.poll_retransmission(now, ring, to, sealer, slab) {
            return Some(transmit);
        }
        while *run < plan.runs().len() && self.state != State::Waiting {
            let packets = &plan.packets()[plan.runs()[*run].clone()];
            *run += 1;
            // Live, it takes all; catching up, only what fills holes behind it: the rest it comes to by itself.
            let (from, until) = match self.state {
                State::CatchingUp(cursor) => (self.first, cursor),
                _ => (self.first, u64::MAX),
            };
            if let Some(transmit) = self.write_run(ring, packets, from..until, to, sealer, slab) {
                return Some(transmit);
            }
        }
        self.poll_catch_up(ring, planned, to, sealer, slab)
    }

    fn poll_retransmission(
        &mut self,
        now: Instant,
        ring: &PacketRing,
        to: SocketAddr,
        sealer: &Sealer,
        slab: &mut [u8],
    ) -> Option<Transmit> {
        while let Some(index) = self.retransmissions.next(now, ring.bitrate()) {
            let Some(meta) = ring.meta(index).copied() else { continue };
            let number = self.payload_types[usize::from(meta.payload_type & 0x7f)];
            if number == NONE {
                continue;
            }
            let rtx = self.track.payload_types.iter().find(|p| p.number == number).and_then(|p| p.rtx);
            let len = match (self.track.rtx_ssrc, rtx) {
                (Some(ssrc), Some(rtx)) => self.write_repair(ring, &meta, ssrc, rtx, sealer, slab),
                _ => self.write_packet(ring, &meta, number, sealer, slab),
            };
            self.sent.repairs += 1;
            self.retransmissions.spend(len);
            return Some(Transmit { destination: to, len, segment_size: None });
        }
        None
    }

    fn poll_catch_up(
        &mut self,
        ring: &PacketRing,
        planned: u64,
        to: SocketAddr,
        sealer: &Sealer,
        slab: &mut [u8],
    ) -> Option<Transmit> {
        let State::CatchingUp(cursor) = self.state else { return None };
        let left = self.catch_up.left();
        if self.run >= self.scratch.runs().len() {
            if cursor >= planned {
                if self.limit.is_some() {
                    return None;
                }
                self.state = State::Live;
                self.scratch = Plan::default();
                self.run = 0;
                return None;
            }
            if left == 0 {
                return None;
            }
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.refill(ring, cursor..planned, left as usize);
            self.scratch = scratch;
            self.run = 0;
            if self.scratch.is_empty() {
                // Nothing but holes up to the newest.
                self.state = State::CatchingUp(planned);
                return self.poll_catch_up(ring, planned, to, sealer, slab);
            }
        }
        let scratch = std::mem::take(&mut self.scratch);
        let mut transmit = None;
        while transmit.is_none() && self.run < scratch.runs().len() {
            let packets = &scratch.packets()[scratch.runs()[self.run].clone()];
            self.run += 1;
            let next = packets.last().map_or(cursor, |last| last.index + 1);
            transmit = self.write_run(ring, packets, 0..u64::MAX, to, sealer, slab);
            self.state = State::CatchingUp(next);
        }
        self.scratch = scratch;
        self.catch_up.spend(transmit.map_or(0, |transmit| transmit.len));
        transmit.or_else(|| self.poll_catch_up(ring, planned, to, sealer, slab))
    }

    fn write_run(
        &mut self,
        ring: &PacketRing,
        packets: &[PacketMeta],
        only: std::ops::Range<u64>,
        to: SocketAddr,
        sealer: &Sealer,
        slab: &mut [u8],
    ) -> Option<Transmit> {
        let mut len = 0;
        let mut written = 0;
        let mut segment = 0;
        for meta in packets {
            let number = self.payload_types[usize::from(meta.payload_type & 0x7f)];
            if number == NONE || !only.contains(&meta.index) {
                continue;
            }
            if self.wire_index(meta.index) > self.next + LONGEST_STEP {
                self.renumber(meta.index);
            }
            let size = self.write_packet(ring, meta, number, sealer, &mut slab[len..]);
            segment = if written == 0 { size } else { segment };
            len += size;
            written += 1;
        }
        let segment_size = (written > 1).then_some(segment as u16);
        (written > 0).then_some(Transmit { destination: to, len, segment_size })
    }

    /// Writes and seals the packet; gives its length on the wire.
    fn write_packet(
        &mut self,
        ring: &PacketRing,
        meta: &PacketMeta,
        number: u8,
        sealer: &Sealer,
        out: &mut [u8],
    ) -> usize {
        let payload = ring.payload(meta);
        let wire = self.wire_index(meta.index);
        let padding = usize::from(meta.padding);
        out[0] = 0x80 | u8::from(padding > 0) << 5;
        out[1] = u8::from(meta.marker) << 7 | number;
        out[2..4].copy_from_slice(&(wire as u16).to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp(meta).to_be_bytes());
        out[8..12].copy_from_slice(&self.track.ssrc.to_be_bytes());
        let end = HEADER + payload.len();
        out[HEADER..end].copy_from_slice(payload);
        if padding > 0 {
            out[end..end + padding].fill(0);
            out[end + padding - 1] = meta.padding;
        }
        self.next = self.next.max(wire + 1);
        self.sent.packets += 1;
        self.sent.bytes += payload.len() as u64;
        sealer.seal(out, end + padding, HEADER, self.track.ssrc, wire)
    }

    /// Writes and seals a retransmission in the format of RFC 4588 §4.
    fn write_repair(
        &mut self,
        ring: &PacketRing,
        meta: &PacketMeta,
        ssrc: u32,
        number: u8,
        sealer: &Sealer,
        out: &mut [u8],
    ) -> usize {
        let payload = ring.payload(meta);
        let index = self.repair_index;
        self.repair_index += 1;
        out[0] = 0x80;
        out[1] = u8::from(meta.marker) << 7 | number;
        out[2..4].copy_from_slice(&(index as u16).to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp(meta).to_be_bytes());
        out[8..12].copy_from_slice(&ssrc.to_be_bytes());
        out[12..14].copy_from_slice(&(self.wire_index(meta.index) as u16).to_be_bytes());
        let end = HEADER + 2 + payload.len();
        out[HEADER + 2..end].copy_from_slice(payload);
        self.sent.packets += 1;
        self.sent.bytes += payload.len() as u64;
        sealer.seal(out, end, HEADER, ssrc, index)
    }
}
