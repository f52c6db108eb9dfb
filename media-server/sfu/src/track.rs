//! One track of a room: the ring of its packets, and the mapping from whatever source feeds it now onto one unbroken
//! timeline.
//!
//! Subscribers see a single stream, however often the camera leaves and returns: indices and timestamps of a new source
//! go on where the last one stopped, and video of a new source is held back until its first keyframe.

use crate::keyframe::starts_keyframe;
use crate::parameters::{Codec, MediaKind, SessionId};
use crate::ring::{PacketMeta, PacketRing};
use crate::sequence::Extender;
use std::time::Instant;

/// A packet as it came from a source, decrypted, header parsed.
#[derive(Clone, Copy, Debug)]
pub struct SourcePacket<'a> {
    /// RTP sequence number.
    pub sequence: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// RTP marker bit.
    pub marker: bool,
    /// The publisher's payload type.
    pub payload_type: u8,
    /// What that payload type means.
    pub codec: Codec,
    /// Without header, extensions and padding.
    pub payload: &'a [u8],
}

/// Identifies a source: a publisher's session and its SSRC.
pub type SourceKey = (SessionId, u32);

struct Source {
    key: SourceKey,
    extender: Extender,
    /// Added to the source's extended sequence number to give the room's index.
    index_offset: i64,
    /// Added to the source's timestamp to give the room's.
    timestamp_offset: u32,
    /// The lowest index of this source.
    first: u64,
}

/// Where the newest keyframe starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyframeStart {
    /// Index of its first packet.
    pub index: u64,
    /// Its timestamp.
    pub timestamp: u32,
    /// When its first packet came.
    pub at: Instant,
}

/// What became of a packet that was put into a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is the newest now.
    Appended(u64),
    /// It filled a hole, as a retransmission or by reordering.
    Filled(u64),
    /// It starts nothing anyone could decode, comes twice or too late, or does not fit.
    Refused,
}

/// See the module.
pub struct Track {
    kind: MediaKind,
    ring: PacketRing,
    source: Option<Source>,
    keyframe: Option<KeyframeStart>,
    /// Timestamp and arrival of the newest packet.
    newest: Option<(u32, Instant)>,
}

impl Track {
    /// An empty track.
    pub fn new(kind: MediaKind) -> Self {
        let capacity = match kind {
            MediaKind::Audio => PacketRing::AUDIO,
            MediaKind::Video => PacketRing::VIDEO,
        };
        Self { kind, ring: PacketRing::new(capacity), source: None, keyframe: None, newest: None }
    }

    /// The packets.
    pub fn ring(&self) -> &PacketRing {
        &self.ring
    }

    /// The packets, to settle their padding.
    pub fn ring_mut(&mut self) -> &mut PacketRing {
        &mut self.ring
    }

    /// What feeds this track now.
    pub fn source(&self) -> Option<SourceKey> {
        self.source.as_ref().map(|source| source.key)
    }

    /// The newest packet's timestamp in the room and when it came.
    pub fn newest(&self) -> Option<(u32, Instant)> {
        self.newest
    }

    /// Where a new viewer can start, while that packet is still in the ring.
    pub fn keyframe(&self) -> Option<KeyframeStart> {
        self.keyframe.filter(|start| start.index >= self.ring.tail())
    }

    /// Room timestamp of a source timestamp, for sender reports; `None` for a source that does not feed this track.
    pub fn map_timestamp(&self, key: SourceKey, timestamp: u32) -> Option<u32> {
        let source = self.source.as_ref().filter(|source| source.key == key)?;
        Some(timestamp.wrapping_add(source.timestamp_offset))
    }

    /// Puts a packet of `key`; the first decodable one of a new source makes it the track's source.
    pub fn put(&mut self, now: Instant, key: SourceKey, packet: &SourcePacket<'_>) -> Put {
        let starts = starts_keyframe(packet.codec, packet.payload);
        if self.source() != Some(key) {
            if self.kind == MediaKind::Video && !starts {
                return Put::Refused;
            }
            self.switch(now, key, packet);
        }
        let Some(source) = self.source.as_mut() else { return Put::Refused };
        let index = source.extender.extend(packet.sequence) as i64 + source.index_offset;
        // Negative when it comes from before the source's first packet.
        let Some(index) = u64::try_from(index).ok().filter(|index| *index >= source.first) else { return Put::Refused };
        let meta = PacketMeta {
            index,
            timestamp: packet.timestamp.wrapping_add(source.timestamp_offset),
            payload_type: packet.payload_type,
            marker: packet.marker,
            len: 0,
            padding: 0,
        };
        let head = self.ring.head();
        if !self.ring.put(meta, packet.payload) {
            return Put::Refused;
        }
        if self.kind == MediaKind::Video && starts {
            self.note_keyframe(now, &meta);
        }
        if index < head {
            return Put::Filled(index);
        }
        self.newest = Some((meta.timestamp, now));
        Put::Appended(index)
    }

    /// The source is gone: a packet of the same key would be a new source.
    pub fn end_source(&mut self, session: SessionId) {
        if self.source.as_ref().is_some_and(|source| source.key.0 == session) {
            self.source = None;
            self.keyframe = None;
        }
    }

    /// Only `session` may feed this track from now on. What another one sent is forgotten: payload types mean something else
    /// now, and a packet repeated under another payload type would be another packet under the same nonce.
    pub fn expect_source(&mut self, session: SessionId) {
        if self.source().is_none_or(|key| key.0 != session) {
            self.source = None;
            self.keyframe = None;
            self.ring.forget();
        }
    }

    fn note_keyframe(&mut self, now: Instant, meta: &PacketMeta) {
        match &mut self.keyframe {
            // Parameter sets and the picture itself are packets of one frame: the earliest is where to start.
            Some(start) if start.timestamp == meta.timestamp => start.index = start.index.min(meta.index),
            Some(start) if start.index > meta.index => {}
            keyframe => *keyframe = Some(KeyframeStart { index: meta.index, timestamp: meta.timestamp, at: now }),
        }
    }

    fn switch(&mut self, now: Instant, key: SourceKey, packet: &SourcePacket<'_>) {
        let mut extender = Extender::default();
        let first = extender.extend(packet.sequence);
        let head = self.ring.head();
        let timestamp_offset = match self.newest {
            None => 0,
            Some((timestamp, at)) => {
                let rate = u64::from(packet.codec.clock_rate());
                let elapsed = now.saturating_duration_since(at).as_micros() as u64 * rate / 1_000_000;
                // At least one tick, so that no two frames share a timestamp.
                timestamp.wrapping_add(elapsed.max(1) as u32).wrapping_sub(packet.timestamp)
            }
        };
        // What is in the ring belongs to the old source: nobody can start there.
        self.ring.forget();
        self.keyframe = None;
        self.source =
            Some(Source { key, extender, index_offset: head as i64 - first as i64, timestamp_offset, first: head });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const KEY: &[u8] = &[0x10, 0x00];
    const DELTA: &[u8] = &[0x10, 0x01];

    fn packet(sequence: u16, timestamp: u32, payload: &[u8]) -> SourcePacket<'_> {
        SourcePacket { sequence, timestamp, marker: true, payload_type: 96, codec: Codec::Vp8, payload }
    }

    #[test]
    fn video_starts_with_a_keyframe() {
        let mut track = Track::new(MediaKind::Video);
        let now = Instant::now();
        let key = (SessionId(1), 7);
        assert_eq!(track.put(now, key, &packet(10, 0, DELTA)), Put::Refused);
        assert_eq!(track.put(now, key, &packet(11, 3000, KEY)), Put::Appended(0));
        assert_eq!(track.put(now, key, &packet(13, 6000, DELTA)), Put::Appended(2));
        assert_eq!(track.put(now, key, &packet(12, 6000, DELTA)), Put::Filled(1));
        assert_eq!(track.put(now, key, &packet(10, 0, DELTA)), Put::Refused);
        assert_eq!(track.keyframe().unwrap().index, 0);
    }

    #[test]
    fn a_returning_camera_goes_on_where_the_last_one_stopped() {
        let mut track = Track::new(MediaKind::Video);
        let now = Instant::now();
        track.put(now, (SessionId(1), 7), &packet(65_535, 1_000, KEY));
        let later = now + Duration::from_secs(2);
        let second = (SessionId(2), 9);
        assert_eq!(track.put(later, second, &packet(500, 77, DELTA)), Put::Refused);
        assert_eq!(track.put(later, second, &packet(501, 80, KEY)), Put::Appended(1));
        assert_eq!(track.newest().unwrap().0, 1_000 + 180_000);
        assert_eq!(track.keyframe().unwrap().index, 1);
        assert_eq!(track.map_timestamp(second, 80), Some(181_000));
        assert_eq!(track.map_timestamp((SessionId(1), 7), 80), None);
    }

    #[test]
    fn what_another_source_sent_is_not_repeated() {
        let mut track = Track::new(MediaKind::Video);
        let now = Instant::now();
        track.put(now, (SessionId(1), 7), &packet(1, 0, KEY));
        track.expect_source(SessionId(1));
        assert!(track.ring().meta(0).is_some());
        track.expect_source(SessionId(2));
        assert!(track.ring().meta(0).is_none());
        assert_eq!(track.put(now, (SessionId(2), 9), &packet(1, 0, KEY)), Put::Appended(1));
    }

    #[test]
    fn sequence_wrap_goes_on() {
        let mut track = Track::new(MediaKind::Video);
        let now = Instant::now();
        let key = (SessionId(1), 7);
        for n in 0..70_000u32 {
            let payload = if n == 0 { KEY } else { DELTA };
            assert_eq!(track.put(now, key, &packet(n as u16, n * 3000, payload)), Put::Appended(u64::from(n)));
        }
    }
}
