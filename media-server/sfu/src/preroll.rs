//! What a source has sent that does not feed its track yet.
//!
//! A source begins with a keyframe, whole from its first packet on; which one that is may become known only when packets
//! that are late, or were lost, have come. Until then its newest packets are held here, in a small ring at the source's own
//! extended sequence numbers.

use crate::entry::{KeyframeStart, PATIENCE};
use crate::injection::Parameters;
use crate::parameters::{Codec, IncomingTrack, MediaKind};
use crate::ring::{Limits, PacketMeta, PacketRing};
use crate::sequence::Extender;
use crate::track::{SourceKey, SourcePacket};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Video held: the largest keyframe, and the packets that one iteration of the socket may add. Before the keyframe, as much as may
/// turn out to be its beginning.
const VIDEO: Limits = Limits { bytes: 4 << 20, packets: 1 << 13, window: Duration::from_millis(500) };
/// Audio held: it waits for the end of a burst, no longer.
const AUDIO: Limits = Limits { bytes: 64 << 10, packets: 64, window: Duration::from_millis(500) };

/// See the module.
pub(crate) struct Preroll {
    kind: MediaKind,
    key: SourceKey,
    since: Instant,
    extender: Extender,
    ring: PacketRing,
    keyframe: Option<KeyframeStart>,
    codec: Option<Codec>,
    parameters: Parameters,
}

/// How a source begins.
pub(crate) struct Beginning {
    /// Of the packets held, those that belong to it.
    pub(crate) packets: Range<u64>,
    /// When its first packet came.
    pub(crate) at: Instant,
    /// Of video, its keyframe, at the source's own numbers.
    pub(crate) keyframe: Option<KeyframeStart>,
}

impl Preroll {
    pub(crate) fn new(now: Instant, kind: MediaKind, key: SourceKey) -> Self {
        let limits = match kind {
            MediaKind::Audio => AUDIO,
            MediaKind::Video => VIDEO,
        };
        let (extender, ring) = (Extender::default(), PacketRing::with_limits(limits));
        Self { kind, key, since: now, extender, ring, keyframe: None, codec: None, parameters: Parameters::default() }
    }

    pub(crate) fn key(&self) -> SourceKey {
        self.key
    }

    /// Hertz of its timestamps.
    pub(crate) fn clock_rate(&self) -> u32 {
        self.codec.map_or(1, Codec::clock_rate)
    }

    pub(crate) fn ring(&self) -> &PacketRing {
        &self.ring
    }

    /// Moves the parameter sets seen so far out.
    pub(crate) fn take_parameters(&mut self) -> Parameters {
        std::mem::take(&mut self.parameters)
    }

    /// Returns the codec of its newest packet.
    pub(crate) fn codec(&self) -> Option<Codec> {
        self.codec
    }

    /// Takes note of the parameter sets that were offered.
    pub(crate) fn offer_parameters(&mut self, track: &IncomingTrack) {
        self.parameters.offer(track);
    }

    pub(crate) fn extender(&self) -> Extender {
        self.extender
    }

    /// `false` when it comes twice, too late, or does not fit.
    pub(crate) fn put(&mut self, now: Instant, packet: &SourcePacket<'_>) -> bool {
        let index = self.extender.extend(packet.sequence);
        self.codec = Some(packet.codec);
        let SourcePacket { timestamp, payload_type, marker, .. } = *packet;
        self.ring.release(now, self.keyframe().map(|keyframe| keyframe.index));
        let put =
            self.ring.put(PacketMeta { index, timestamp, payload_type, marker, len: 0, padding: 0 }, packet.payload);
        if let (MediaKind::Video, true, Some(meta)) = (self.kind, put, self.ring.meta(index).copied()) {
            let known = self.keyframe();
            self.keyframe = KeyframeStart::noted(known, now, &self.ring, 0, &meta, packet.codec);
            self.parameters.observe(packet.codec, packet.payload);
        }
        put
    }

    /// From when on it may feed the track; `None` while there is nothing to begin with.
    pub(crate) fn ready_at(&self) -> Option<Instant> {
        match self.kind {
            MediaKind::Audio => Some(self.since),
            MediaKind::Video => self.keyframe().map(|keyframe| keyframe.usable_at()),
        }
    }

    /// It sends, but nothing that a decoder could start with.
    pub(crate) fn lacks_keyframe(&self, now: Instant) -> bool {
        self.kind == MediaKind::Video
            && self.keyframe().is_none()
            && now.saturating_duration_since(self.since) >= PATIENCE
    }

    pub(crate) fn beginning(&self) -> Option<Beginning> {
        let head = self.ring.head();
        let (first, at) = match self.kind {
            MediaKind::Audio => (self.ring.range(0..head).next()?.index, self.since),
            MediaKind::Video => self.keyframe().map(|keyframe| (keyframe.index, keyframe.at))?,
        };
        let keyframe = self.keyframe().filter(|_| self.kind == MediaKind::Video);
        Some(Beginning { packets: first..head, at, keyframe })
    }

    fn keyframe(&self) -> Option<KeyframeStart> {
        self.keyframe.filter(|keyframe| keyframe.index >= self.ring.tail())
    }
}
