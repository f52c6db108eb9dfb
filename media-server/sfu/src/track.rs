//! One track of a room: the ring of its packets, and the mapping from whatever source feeds it now onto one unbroken
//! timeline.
//!
//! Subscribers see a single stream, however often the camera leaves and returns: indices and timestamps of a new source
//! go on where the last one stopped. What a new source sends is held back until it can begin: video with its first keyframe
//! (see `preroll`), and all of it when [`Track::begin_source`] is called, so that what the last source sent can leave first.

use crate::entry::KeyframeStart;
use crate::injection::{Numbering, Parameters};
use crate::parameters::{Codec, IncomingTrack, MediaKind, SessionId};
use crate::preroll::{Beginning, Preroll};
use crate::ring::{Limits, PacketMeta, PacketRing};
use crate::sequence::Extender;
use std::ops::Range;
use std::time::{Duration, Instant};

/// A group of pictures is kept for joiners until its keyframe is so old: a decoder would need seconds to run through a longer one.
const HISTORY: Duration = Duration::from_secs(20);
/// The same of a camera that answers keyframe requests: a joiner gets a new keyframe sooner than it could run through an old group.
const RESPONSIVE_HISTORY: Duration = Duration::from_secs(4);

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
    numbering: Numbering,
    parameters: Parameters,
    /// Added to the source's timestamp to give the room's.
    timestamp_offset: u32,
    /// The lowest index of this source.
    first: u64,
}

/// What became of a packet that was put into a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is the newest now.
    Appended(u64),
    /// It filled a hole, as a retransmission or by reordering.
    Filled(u64),
    /// It is kept until its source feeds the track.
    Held,
    /// It comes twice or too late, does not fit, or another source is about to begin.
    Refused,
}

/// See the module.
pub struct Track {
    kind: MediaKind,
    ring: PacketRing,
    source: Option<Source>,
    preroll: Option<Preroll>,
    keyframe: Option<KeyframeStart>,
    /// Timestamp and arrival of the newest packet.
    newest: Option<(u32, Instant)>,
    /// Index of the parameter sets that the last packet had put in front of it.
    injected: Option<u64>,
    /// How long a group of pictures is kept.
    history: Duration,
}

impl Track {
    /// An empty track.
    pub fn new(kind: MediaKind) -> Self {
        let limits = match kind {
            MediaKind::Audio => Limits::AUDIO,
            MediaKind::Video => Limits::VIDEO,
        };
        Self {
            kind,
            ring: PacketRing::with_limits(limits),
            source: None,
            preroll: None,
            keyframe: None,
            newest: None,
            injected: None,
            history: HISTORY,
        }
    }

    /// Sets the bytes that the ring of a video track may take; audio has a fixed limit.
    pub fn set_video_cache(&mut self, bytes: usize) {
        if self.kind == MediaKind::Video {
            self.ring.set_limits(Limits::video(bytes));
        }
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

    /// The newest keyframe, while its first packet is still in the ring.
    pub fn keyframe(&self) -> Option<KeyframeStart> {
        self.keyframe.filter(|start| start.index >= self.ring.tail())
    }

    /// The newest keyframe is no longer in the ring: its group of pictures is larger, or older, than the ring keeps.
    pub fn has_outgrown(&self) -> bool {
        self.keyframe.is_some_and(|start| start.index < self.ring.tail())
    }

    /// Sets whether the camera answers keyframe requests, so that older groups of pictures need not be kept.
    pub fn set_responsive(&mut self, responsive: bool) {
        self.history = if responsive { RESPONSIVE_HISTORY } else { HISTORY };
    }

    /// Where a new viewer can start now: the newest keyframe, once it is certain where that begins.
    pub fn entry(&self, now: Instant) -> Option<KeyframeStart> {
        self.keyframe().filter(|start| start.usable_at() <= now)
    }

    /// Room timestamp of a source timestamp, for sender reports; `None` for a source that does not feed this track.
    pub fn map_timestamp(&self, key: SourceKey, timestamp: u32) -> Option<u32> {
        let source = self.source.as_ref().filter(|source| source.key == key)?;
        Some(timestamp.wrapping_add(source.timestamp_offset))
    }

    /// Puts a packet of `key`; it is only held when that does not feed the track yet.
    pub fn put(&mut self, now: Instant, key: SourceKey, packet: &SourcePacket<'_>) -> Put {
        let Some(source) = self.source.as_mut().filter(|source| source.key == key) else {
            return self.hold(now, key, packet);
        };
        self.injected = None;
        let sequence = source.extender.extend(packet.sequence);
        // None, or lower, when it is older than the source's first packet.
        let index = source.numbering.index(sequence).filter(|index| *index >= source.first);
        let Some(index) = index else { return Put::Refused };
        let mut meta = PacketMeta {
            index,
            timestamp: packet.timestamp.wrapping_add(source.timestamp_offset),
            payload_type: packet.payload_type,
            marker: packet.marker,
            len: packet.payload.len() as u16,
            padding: 0,
        };
        let head = self.ring.head();
        self.ring.release(
            now,
            self.keyframe
                .filter(|start| now.saturating_duration_since(start.at) <= self.history)
                .map(|start| start.index),
        );
        if self.kind == MediaKind::Video {
            source.parameters.observe(packet.codec, packet.payload);
        }
        if index == head
            && let Some(sets) =
                source.parameters.before(now, packet.codec, &self.ring, source.first, &meta, packet.payload)
            && self.ring.put(PacketMeta { marker: false, ..meta }, &sets)
        {
            source.numbering.shift(sequence);
            self.injected = Some(index);
            meta.index += 1;
        }
        let index = meta.index;
        if !self.ring.put(meta, packet.payload) {
            return Put::Refused;
        }
        if self.kind == MediaKind::Video {
            self.keyframe = KeyframeStart::noted(self.keyframe, now, &self.ring, source.first, &meta, packet.codec);
        }
        if index < head {
            return Put::Filled(index);
        }
        self.newest = Some((meta.timestamp, now));
        Put::Appended(index)
    }

    fn hold(&mut self, now: Instant, key: SourceKey, packet: &SourcePacket<'_>) -> Put {
        match &self.preroll {
            Some(preroll) if preroll.key() == key => {}
            // Of two that come at once, the newer session.
            Some(preroll) if preroll.key().0 > key.0 => return Put::Refused,
            _ => self.preroll = Some(Preroll::new(now, self.kind, key)),
        }
        let held = self.preroll.as_mut().is_some_and(|preroll| preroll.put(now, packet));
        if held { Put::Held } else { Put::Refused }
    }

    /// Index of the parameter sets that the packet put last has in front of it, when it had to be given some.
    pub fn injected(&self) -> Option<u64> {
        self.injected
    }

    /// Takes note of the parameter sets that the source that is held has offered.
    pub fn offer_parameters(&mut self, track: &IncomingTrack) {
        if let Some(preroll) = &mut self.preroll {
            preroll.offer_parameters(track);
        }
    }

    /// Returns whether viewers can start at the newest keyframe only with parameter sets that are not known.
    pub fn lacks_parameters(&self) -> bool {
        self.keyframe.is_some_and(|start| !start.has_parameters)
    }

    /// Returns the source that is held.
    pub fn held(&self) -> Option<SourceKey> {
        self.preroll.as_ref().map(Preroll::key)
    }

    /// From when on the source that is held may begin.
    pub fn ready_at(&self) -> Option<Instant> {
        self.preroll.as_ref()?.ready_at()
    }

    /// The source that may begin now.
    pub fn ready(&self, now: Instant) -> Option<SourceKey> {
        self.preroll.as_ref().filter(|preroll| preroll.ready_at().is_some_and(|at| at <= now)).map(Preroll::key)
    }

    /// A source sends, but nothing that it could begin with.
    pub fn lacks_keyframe(&self, now: Instant) -> bool {
        self.preroll.as_ref().is_some_and(|preroll| preroll.lacks_keyframe(now))
    }

    /// The source that is ready feeds the track from now on; gives the indices of what it has sent. What the last one sent is
    /// forgotten: payload types mean something else now, and a packet repeated under another payload type would be another
    /// packet under the same nonce.
    pub fn begin_source(&mut self, now: Instant) -> Option<Range<u64>> {
        self.ready(now)?;
        let mut preroll = self.preroll.take()?;
        let (mut parameters, codec) = (preroll.take_parameters(), preroll.codec());
        let Beginning { packets, at, keyframe } = preroll.beginning()?;
        let head = self.ring.head();
        let held = preroll.ring().range(packets.clone());
        let first = preroll.ring().meta(packets.start)?;
        let timestamp_offset = match self.newest {
            None => 0,
            Some((timestamp, newest_at)) => {
                let rate = u64::from(preroll.clock_rate());
                let elapsed = at.saturating_duration_since(newest_at).as_micros() as u64 * rate / 1_000_000;
                // At least one tick, so that no two frames share a timestamp.
                timestamp.wrapping_add(elapsed.max(1) as u32).wrapping_sub(first.timestamp)
            }
        };
        self.ring.forget();
        self.ring.release(now, None);
        self.keyframe = keyframe.map(|start| KeyframeStart {
            index: head,
            timestamp: start.timestamp.wrapping_add(timestamp_offset),
            certain: true,
            ..start
        });
        let mut numbering = Numbering::new(packets.start, head);
        for meta in held {
            let Some(index) = numbering.index(meta.index) else { continue };
            let timestamp = meta.timestamp.wrapping_add(timestamp_offset);
            let (mut placed, payload) = (PacketMeta { index, timestamp, ..*meta }, preroll.ring().payload(meta));
            let arrived = preroll.ring().arrival(meta.index).unwrap_or(now);
            let age = now.saturating_duration_since(arrived);
            if let Some(sets) =
                codec.and_then(|codec| parameters.before(now, codec, &self.ring, head, &placed, payload))
                && self.ring.put_aged(age, PacketMeta { marker: false, ..placed }, &sets)
            {
                numbering.shift(meta.index);
                placed.index += 1;
                self.keyframe = self.keyframe.map(|start| KeyframeStart { has_parameters: true, ..start });
            }
            self.ring.put_aged(age, placed, payload);
            self.newest = Some((timestamp, now));
        }
        self.source = Some(Source {
            key: preroll.key(),
            extender: preroll.extender(),
            numbering,
            parameters,
            timestamp_offset,
            first: head,
        });
        Some(head..self.ring.head())
    }

    /// A session is gone: a packet of the same key would be a new source.
    pub fn end_source(&mut self, session: SessionId) {
        self.preroll.take_if(|preroll| preroll.key().0 == session);
        if self.source.as_ref().is_some_and(|source| source.key.0 == session) {
            self.source = None;
            self.keyframe = None;
        }
    }

    /// Only `session` may feed this track from now on; what another one sent is forgotten, as by [`Track::begin_source`].
    pub fn expect_source(&mut self, session: SessionId) {
        self.preroll.take_if(|preroll| preroll.key().0 != session);
        if self.source().is_none_or(|key| key.0 != session) {
            self.source = None;
            self.keyframe = None;
            self.ring.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::PATIENCE;

    const KEY: &[u8] = &[0x10, 0x00];
    const DELTA: &[u8] = &[0x10, 0x01];
    const SPS: &[u8] = &[0x67, 0x42];
    const PPS: &[u8] = &[0x68, 0xce];
    const IDR: &[u8] = &[0x7c, 0x85];

    fn packet(sequence: u16, timestamp: u32, payload: &[u8]) -> SourcePacket<'_> {
        SourcePacket { sequence, timestamp, marker: true, payload_type: 96, codec: Codec::Vp8, payload }
    }

    fn h264(sequence: u16, timestamp: u32, payload: &[u8]) -> SourcePacket<'_> {
        let marker = payload.first().is_some_and(|first| *first == 0x41);
        SourcePacket { codec: Codec::H264, marker, ..packet(sequence, timestamp, payload) }
    }

    #[test]
    fn video_begins_with_a_keyframe() {
        let mut track = Track::new(MediaKind::Video);
        let now = Instant::now();
        let key = (SessionId(1), 7);
        assert_eq!(track.put(now, key, &packet(10, 0, DELTA)), Put::Held);
        assert_eq!(track.begin_source(now), None);
        assert_eq!(track.put(now, key, &packet(11, 3000, KEY)), Put::Held);
        assert_eq!(track.begin_source(now), Some(0..1));
        assert_eq!(track.put(now, key, &packet(13, 6000, DELTA)), Put::Appended(2));
        assert_eq!(track.put(now, key, &packet(12, 6000, DELTA)), Put::Filled(1));
        assert_eq!(track.put(now, key, &packet(10, 0, DELTA)), Put::Refused);
        assert_eq!(track.keyframe().unwrap().index, 0);
    }

    #[test]
    fn a_source_begins_with_parameter_sets_that_come_late() {
        let now = Instant::now();
        let key = (SessionId(1), 7);
        let repaired = now + Duration::from_millis(60);
        for order in [[2, 0, 1, 3], [2, 1, 3, 0], [1, 2, 3, 0]] {
            let mut track = Track::new(MediaKind::Video);
            track.put(now, key, &h264(4, 0, &[0x41, 1]));
            let packets = [SPS, PPS, IDR, &[0x7c, 0x05]];
            for position in order {
                assert_eq!(track.begin_source(repaired), None, "{order:?}");
                assert_eq!(track.put(now, key, &h264(6 + position, 3000, packets[usize::from(position)])), Put::Held);
                if position == 0 {
                    break;
                }
            }
            let begun = track.begin_source(repaired).unwrap();
            let first = track.ring().meta(begun.start).unwrap();
            assert_eq!(track.ring().payload(first), SPS, "{order:?}");
            assert_eq!(track.keyframe().unwrap().index, begun.start, "{order:?}");
        }
    }

    #[test]
    fn a_source_whose_parameter_sets_never_come_begins_without_them() {
        let mut track = Track::new(MediaKind::Video);
        let now = Instant::now();
        track.put(now, (SessionId(1), 7), &h264(6, 3000, IDR));
        assert_eq!(track.begin_source(now + PATIENCE / 2), None);
        assert_eq!(track.ready_at(), Some(now + PATIENCE));
        assert_eq!(track.begin_source(now + PATIENCE), Some(0..1));
    }

    #[test]
    fn a_joiner_waits_for_parameter_sets_on_their_way() {
        let mut track = Track::new(MediaKind::Video);
        let now = Instant::now();
        let key = (SessionId(1), 7);
        track.put(now, key, &h264(1, 0, SPS));
        assert_eq!(track.begin_source(now), None, "parameter sets are no picture");
        track.put(now, key, &h264(2, 0, IDR));
        assert_eq!(track.begin_source(now), Some(0..2));
        assert_eq!(track.put(now, key, &h264(5, 3000, IDR)), Put::Appended(4));
        assert_eq!(track.entry(now), None);
        assert_eq!(track.put(now, key, &h264(4, 3000, PPS)), Put::Filled(3));
        assert_eq!(track.entry(now), None);
        assert_eq!(track.put(now, key, &h264(3, 3000, SPS)), Put::Filled(2));
        assert_eq!(track.entry(now).unwrap().index, 2);
    }

    const FMTP: &str = "packetization-mode=1;sprop-parameter-sets=Z0LADdoFB+TARAAAAwAEAAADAPA=,aM48gA==";

    fn offer(fmtp: &str) -> IncomingTrack {
        IncomingTrack {
            mid: "0".to_owned(),
            kind: MediaKind::Video,
            payload_types: vec![crate::parameters::PayloadType {
                number: 96,
                codec: Codec::H264,
                fmtp: fmtp.to_owned(),
                rtx: None,
                nack: true,
                pli: true,
                fir: false,
                remb: false,
                transport_cc: false,
            }],
            extensions: crate::parameters::HeaderExtensions::default(),
            ssrc: None,
            rtx_ssrc: None,
            rid: None,
        }
    }

    /// First two bytes and length of the packets in the ring, by index.
    fn kept(track: &Track) -> Vec<(u64, u32, [u8; 2])> {
        let ring = track.ring();
        ring.range(0..u64::MAX)
            .map(|meta| (meta.index, meta.timestamp, [ring.payload(meta)[0], ring.payload(meta)[1]]))
            .collect()
    }

    #[test]
    fn offered_parameter_sets_precede_every_keyframe() {
        let mut track = Track::new(MediaKind::Video);
        let (start, key) = (Instant::now(), (SessionId(1), 7));
        let at = |ms: u64| start + Duration::from_millis(ms);
        track.put(at(0), key, &h264(9, 0, &[0x41, 1]));
        track.put(at(1), key, &h264(10, 3000, IDR));
        track.offer_parameters(&offer(FMTP));
        assert_eq!(track.begin_source(at(1)), Some(0..2));
        assert!(!track.lacks_parameters());
        assert_eq!(track.put(at(40), key, &h264(12, 6000, &[0x41, 2])), Put::Appended(3));
        assert_eq!(track.put(at(1500), key, &h264(13, 9000, IDR)), Put::Appended(5));
        assert_eq!(track.injected(), Some(4));
        assert_eq!(track.put(at(1501), key, &h264(14, 9000, &[0x7c, 0x45])), Put::Appended(6));
        assert_eq!(
            (track.injected(), track.put(at(1502), key, &h264(11, 3000, &[0x7c, 0x45]))),
            (None, Put::Filled(2))
        );
        let expected = [
            (0, 3000, [0x78, 0]),
            (1, 3000, [0x7c, 0x85]),
            (2, 3000, [0x7c, 0x45]),
            (3, 6000, [0x41, 2]),
            (4, 9000, [0x78, 0]),
            (5, 9000, [0x7c, 0x85]),
            (6, 9000, [0x7c, 0x45]),
        ];
        assert_eq!(kept(&track), expected);
        let entry = track.entry(at(1502)).unwrap();
        assert_eq!((entry.index, entry.has_parameters, entry.certain), (4, true, true));
    }

    #[test]
    fn sets_seen_in_band_win_and_are_repeated() {
        const SEEN: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01];
        let mut track = Track::new(MediaKind::Video);
        let (start, key) = (Instant::now(), (SessionId(1), 7));
        for (sequence, payload) in [(1, SEEN), (2, &[0x68, 0xce, 0x3c, 0x80][..]), (3, IDR)] {
            track.put(start, key, &h264(sequence, 0, payload));
        }
        track.offer_parameters(&offer(FMTP));
        assert_eq!(track.begin_source(start), Some(0..3), "nothing is put in");
        let later = start + Duration::from_secs(2);
        assert_eq!(track.put(later, key, &h264(4, 9000, IDR)), Put::Appended(4));
        let sets = track.ring().payload(track.ring().meta(3).unwrap()).to_vec();
        assert_eq!(sets[3..9], *SEEN, "of the camera, not of the offer");
    }

    #[test]
    fn nothing_is_put_in_behind_a_hole() {
        let mut track = Track::new(MediaKind::Video);
        let (start, key) = (Instant::now(), (SessionId(1), 7));
        track.put(start, key, &h264(1, 0, IDR));
        track.offer_parameters(&offer(FMTP));
        track.begin_source(start + PATIENCE).unwrap();
        let later = start + Duration::from_secs(2);
        assert_eq!(track.put(later, key, &h264(3, 9000, IDR)), Put::Appended(3));
        assert_eq!(track.injected(), None);
    }

    #[test]
    fn keyframe_without_any_parameter_sets_is_noticed() {
        let mut track = Track::new(MediaKind::Video);
        let start = Instant::now();
        track.put(start, (SessionId(1), 7), &h264(1, 0, IDR));
        track.offer_parameters(&offer("packetization-mode=1"));
        track.begin_source(start + PATIENCE).unwrap();
        assert!(track.lacks_parameters());
    }

    #[test]
    fn a_returning_camera_goes_on_where_the_last_one_stopped() {
        let mut track = Track::new(MediaKind::Video);
        let now = Instant::now();
        track.put(now, (SessionId(1), 7), &packet(65_535, 1_000, KEY));
        track.begin_source(now);
        let later = now + Duration::from_secs(2);
        let second = (SessionId(2), 9);
        assert_eq!(track.put(later, second, &packet(500, 77, DELTA)), Put::Held);
        assert_eq!(track.put(later, second, &packet(501, 80, KEY)), Put::Held);
        assert_eq!(track.source(), Some((SessionId(1), 7)));
        assert_eq!(track.begin_source(later), Some(1..2));
        assert_eq!(track.newest().unwrap().0, 1_000 + 180_000);
        assert_eq!(track.keyframe().unwrap().index, 1);
        assert_eq!(track.map_timestamp(second, 80), Some(181_000));
        assert_eq!(track.map_timestamp((SessionId(1), 7), 80), None);
        assert!(track.ring().meta(0).is_none(), "what another source sent is not repeated");
    }

    #[test]
    fn what_another_session_sent_is_not_repeated() {
        let mut track = Track::new(MediaKind::Video);
        let now = Instant::now();
        track.put(now, (SessionId(1), 7), &packet(1, 0, KEY));
        track.begin_source(now);
        track.expect_source(SessionId(1));
        assert!(track.ring().meta(0).is_some());
        track.expect_source(SessionId(2));
        assert!(track.ring().meta(0).is_none());
        track.put(now, (SessionId(2), 9), &packet(1, 0, KEY));
        assert_eq!(track.begin_source(now), Some(1..2));
    }

    #[test]
    fn of_two_that_wait_the_newer_begins() {
        let mut track = Track::new(MediaKind::Video);
        let now = Instant::now();
        track.put(now, (SessionId(2), 9), &packet(1, 0, KEY));
        assert_eq!(track.put(now, (SessionId(1), 7), &packet(1, 0, KEY)), Put::Refused);
        track.put(now, (SessionId(3), 11), &packet(5, 0, DELTA));
        assert_eq!(track.begin_source(now), None);
        track.end_source(SessionId(3));
        assert_eq!(track.put(now, (SessionId(1), 7), &packet(1, 0, KEY)), Put::Held);
    }

    #[test]
    fn a_source_without_a_keyframe_is_noticed() {
        let mut track = Track::new(MediaKind::Video);
        let now = Instant::now();
        for n in 0..2000u16 {
            assert_eq!(track.put(now, (SessionId(1), 7), &packet(n, 0, DELTA)), Put::Held);
        }
        assert!(!track.lacks_keyframe(now));
        assert!(track.lacks_keyframe(now + PATIENCE));
        track.put(now + PATIENCE, (SessionId(1), 7), &packet(2000, 3000, KEY));
        assert!(!track.lacks_keyframe(now + PATIENCE));
    }

    #[test]
    fn a_group_of_pictures_is_kept_as_long_as_it_is_of_use() {
        for (responsive, seconds, kept) in [(false, 19, true), (false, 21, false), (true, 3, true), (true, 5, false)] {
            let mut track = Track::new(MediaKind::Video);
            let start = Instant::now();
            let key = (SessionId(1), 7);
            track.put(start, key, &packet(0, 0, KEY));
            track.begin_source(start);
            track.set_responsive(responsive);
            for n in 1..=seconds * 10 {
                track.put(start + Duration::from_millis(100) * n, key, &packet(n as u16, n * 9000, DELTA));
            }
            let now = start + Duration::from_secs(1) * seconds;
            assert_eq!(track.entry(now).is_some(), kept, "{responsive}, {seconds} s");
            assert_eq!(track.has_outgrown(), !kept, "{responsive}, {seconds} s");
        }
    }

    #[test]
    fn large_keyframe_in_one_burst_starts_the_source() {
        let mut track = Track::new(MediaKind::Video);
        let now = Instant::now();
        let key = (SessionId(1), 7);
        let body = [0x00; 1200];
        for n in 0..3000u16 {
            let payload = if n == 0 { KEY } else { &body };
            assert_eq!(track.put(now, key, &SourcePacket { marker: n == 2999, ..packet(n, 0, payload) }), Put::Held);
        }
        assert_eq!(track.begin_source(now), Some(0..3000));
        assert_eq!(track.entry(now).unwrap().index, 0);
        assert_eq!(track.ring().range(0..u64::MAX).count(), 3000);
    }

    #[test]
    fn a_jump_is_a_gap_and_one_beyond_half_the_range_is_old() {
        let mut track = Track::new(MediaKind::Video);
        let now = Instant::now();
        let key = (SessionId(1), 7);
        track.put(now, key, &packet(10, 0, KEY));
        track.begin_source(now);
        assert_eq!(track.put(now, key, &packet(10 + 0x7fff, 3000, DELTA)), Put::Appended(0x7fff));
        assert_eq!(track.put(now, key, &packet(10, 0, KEY)), Put::Refused, "it comes twice, and long after");
        assert_eq!(track.put(now, key, &packet(10 + 0x7fff, 3000, DELTA)), Put::Refused, "it comes twice");
        assert_eq!(track.put(now, key, &packet(8, 3000, DELTA)), Put::Appended(2 * 0x7fff));
        // RFC 3711 §3.3.1: a receiver takes it for old, too.
        assert_eq!(track.put(now, key, &packet(8 + 0x8000, 6000, KEY)), Put::Refused);
        assert_eq!(track.keyframe(), None);
    }

    #[test]
    fn an_empty_payload_keeps_its_number() {
        let mut track = Track::new(MediaKind::Video);
        let now = Instant::now();
        let key = (SessionId(1), 7);
        assert_eq!(track.put(now, key, &packet(9, 0, &[])), Put::Held);
        track.put(now, key, &packet(10, 0, KEY));
        assert_eq!(track.begin_source(now), Some(0..1));
        assert_eq!(track.put(now, key, &packet(11, 0, &[])), Put::Appended(1));
    }

    #[test]
    fn sequence_wrap_goes_on() {
        let mut track = Track::new(MediaKind::Video);
        let now = Instant::now();
        let key = (SessionId(1), 7);
        track.put(now, key, &packet(0, 0, KEY));
        track.begin_source(now);
        for n in 1..70_000u32 {
            assert_eq!(track.put(now, key, &packet(n as u16, n * 3000, DELTA)), Put::Appended(u64::from(n)));
        }
    }
}
