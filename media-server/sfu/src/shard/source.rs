//! The sources of a room, independent of their transport.
//!
//! A source is codecs, encodings, statistics and limits (`publisher`); a [`Feed`] is the way its packets arrive. Packets of
//! every feed meet in `Publisher::account`, so that a cap, a takeover, a recording and a viewer treat all sources alike.
//! A peer's packets arrive as SRTP on a transport of ours. A local source has no transport, no SSRCs and no RTCP: its owner
//! is in this process (a clip, an RTSP client), passes [`LocalPacket`]s, and gets keyframe requests as events. It ends
//! only when its owner closes it.

use super::publisher::{Publisher, Received};
use crate::parameters::{MediaKind, TransportParameters};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// How often a local source states its clock.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// NTP time at which every local source starts; any will do, since only differences are used.
const NTP_START: u64 = 1 << 62;

/// The way the packets of a source arrive.
#[derive(Clone, Debug)]
pub enum Feed {
    /// From a peer, over ICE, DTLS and SRTP.
    Peer(TransportParameters),
    /// From this process, by [`Shard::handle_source_packets`](super::Shard::handle_source_packets).
    Local,
}

/// One packet of a local source: a payload in an RTP payload format, and the fields of an RTP header that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPacket {
    /// Which track.
    pub kind: MediaKind,
    /// One of the payload types of that track.
    pub payload_type: u8,
    /// Counts the packets of the track, and wraps.
    pub sequence: u16,
    /// Media time in the clock of the codec; any start.
    pub timestamp: u32,
    /// Ends a video frame.
    pub marker: bool,
    /// Media time since the source began, on one clock for both tracks: audio and video are aligned by it.
    pub captured: Duration,
    /// No longer than [`PAYLOAD_MAX`](crate::ring::PAYLOAD_MAX).
    pub payload: Bytes,
}

/// A point of a source's clock, as sender reports state it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClockReport {
    pub(super) kind: MediaKind,
    pub(super) ssrc: u32,
    pub(super) clock_rate: u32,
    pub(super) ntp: u64,
    pub(super) timestamp: u32,
}

/// When a local source last stated its clock, for audio and video.
#[derive(Default)]
pub(super) struct LocalClock([Option<Instant>; 2]);

impl LocalClock {
    /// Returns the report that is due with this packet.
    pub(super) fn report(
        &mut self,
        now: Instant,
        packet: &LocalPacket,
        received: &Received<'_>,
    ) -> Option<ClockReport> {
        let last = &mut self.0[usize::from(packet.kind == MediaKind::Video)];
        if last.is_some_and(|at| now.saturating_duration_since(at) < REPORT_EVERY) {
            return None;
        }
        *last = Some(now);
        let fraction = (u64::from(packet.captured.subsec_nanos()) << 32) / 1_000_000_000;
        Some(ClockReport {
            kind: packet.kind,
            ssrc: received.ssrc,
            clock_rate: received.codec.clock_rate(),
            ntp: NTP_START.wrapping_add(packet.captured.as_secs() << 32).wrapping_add(fraction),
            timestamp: packet.timestamp,
        })
    }
}

impl Publisher {
    /// Accounts for a packet of a local source, and returns the media in it; `None` for unknown payload types and packets
    /// beyond the granted bitrate.
    pub(super) fn receive_local<'a>(&mut self, now: Instant, packet: &'a LocalPacket) -> Option<Received<'a>> {
        let track = self.track(packet.kind)?;
        let codec = track.payload_types.iter().find(|p| p.number == packet.payload_type)?.codec;
        let ssrc = track.ssrc.unwrap_or(match packet.kind {
            MediaKind::Audio => 1,
            MediaKind::Video => 2,
        });
        self.streams.hear(now, ssrc, (packet.kind, false));
        let received = Received {
            kind: packet.kind,
            ssrc,
            codec,
            payload_type: packet.payload_type,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            marker: packet.marker,
            payload: &packet.payload,
            after_gap: false,
        };
        // As long as the packet would be as RTP, so that a cap means the same for every feed.
        let len = 12 + packet.payload.len();
        self.account(now, received, len, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::slab::MAX_TRANSMIT;
    use crate::parameters::{PublisherTracks, RoomId, SessionId};
    use crate::shard::publisher::tests::publisher;
    use crate::shard::stats::RoleStats;
    use crate::shard::{Command, Event, Shard};
    use crate::tap::{TapBatch, TapRecord};
    use crate::transport::Identity;

    const KEYFRAME: &[u8] = &[0x10, 0x00];
    const DELTA: &[u8] = &[0x10, 0x01];
    const ROOM: RoomId = RoomId(1);
    const SESSION: SessionId = SessionId(7);

    fn tracks(now: Instant) -> PublisherTracks {
        publisher(now).tracks
    }

    fn shard(now: Instant, max_bitrate: Option<u64>) -> Shard {
        let mut shard = Shard::new(Identity::generate().unwrap(), [7; 32]);
        shard.handle_command(now, Command::OpenRoom { room: ROOM, tapped: true });
        let (feed, tracks) = (Feed::Local, tracks(now));
        shard.handle_command(now, Command::AddSource { room: ROOM, session: SESSION, feed, tracks, max_bitrate });
        shard
    }

    fn picture(sequence: u16, captured: Duration, payload: &'static [u8]) -> LocalPacket {
        LocalPacket {
            kind: MediaKind::Video,
            payload_type: 96,
            sequence,
            timestamp: captured.as_millis() as u32 * 90,
            marker: true,
            captured,
            payload: Bytes::from_static(payload),
        }
    }

    /// One iteration of an event loop.
    fn iterate(shard: &mut Shard, now: Instant) -> (Vec<String>, Vec<TapBatch>) {
        shard.handle_timeout(now);
        while shard.poll_transmit(now, &mut [0; MAX_TRANSMIT]).is_some() {}
        let events = std::iter::from_fn(|| shard.poll_event()).map(|event| format!("{event:?}")).collect();
        (events, std::iter::from_fn(|| shard.poll_tap()).collect())
    }

    fn records(taps: &[TapBatch]) -> impl Iterator<Item = &TapRecord> {
        taps.iter().flat_map(|batch| &batch.records)
    }

    #[test]
    fn local_source_feeds_its_room_and_the_tap() {
        let start = Instant::now();
        let mut shard = shard(start, None);
        let at = |n: u64| Duration::from_millis(40) * n as u32;
        let (mut events, mut taps) = (Vec::new(), Vec::new());
        for n in 0..60 {
            let payload = if n % 30 == 2 { KEYFRAME } else { DELTA };
            shard.handle_source_packets(start + at(n), SESSION, &[picture(n as u16, at(n), payload)]);
            let (told, copied) = iterate(&mut shard, start + at(n));
            events.extend(told);
            taps.extend(copied);
        }
        assert_eq!(
            events,
            [
                format!("{:?}", Event::Connected(SESSION)),
                format!("{:?}", Event::MediaStarted { room: ROOM, session: SESSION })
            ]
        );
        let packets = records(&taps).filter(|record| matches!(record, TapRecord::Packet { .. })).count();
        assert_eq!(packets, 58, "all from the first keyframe on");
        // Each report states one line through captured time and timestamp, whenever the packet arrived.
        let reports: Vec<_> = records(&taps)
            .filter_map(|record| match record {
                TapRecord::SenderReport { ntp, timestamp, .. } => Some((*ntp, *timestamp)),
                _ => None,
            })
            .collect();
        let [(ntp, timestamp), (later, later_timestamp), ..] = reports[..] else { panic!("{reports:?}") };
        let elapsed = ((later - ntp) as f64 / 2f64.powi(32) * 90_000.0).round() as u32;
        assert_eq!(later_timestamp - timestamp, elapsed);
        assert!(elapsed >= 90_000);
    }

    #[test]
    fn local_source_keyframe_requests_are_limited() {
        let start = Instant::now();
        let mut shard = shard(start, None);
        shard.handle_source_packets(start, SESSION, &[picture(0, Duration::ZERO, KEYFRAME)]);
        iterate(&mut shard, start);
        let mut requested = Vec::new();
        for millis in (10..1_600).step_by(10) {
            let now = start + Duration::from_millis(millis);
            shard.handle_command(now, Command::RequestKeyframe(ROOM));
            let (events, _) = iterate(&mut shard, now);
            let requests = events.iter().filter(|e| **e == format!("{:?}", Event::KeyframeRequested(SESSION))).count();
            requested.extend((0..requests).map(|_| millis));
        }
        assert_eq!(requested, [10, 510, 1010, 1510]);
    }

    #[test]
    fn idle_local_source_has_no_deadline() {
        let start = Instant::now();
        let mut shard = shard(start, None);
        // Packets in a gap of the sequence cannot be requested.
        for sequence in [0, 5] {
            shard.handle_source_packets(start, SESSION, &[picture(sequence, Duration::ZERO, KEYFRAME)]);
        }
        iterate(&mut shard, start);
        let quiet = start + Duration::from_secs(60);
        iterate(&mut shard, quiet);
        assert_eq!(shard.poll_timeout(), None);
        shard.handle_command(quiet, Command::Close(SESSION));
        let (events, _) = iterate(&mut shard, quiet);
        assert!(events.last().is_some_and(|event| event.starts_with("Ended")), "{events:?}");
    }

    #[test]
    fn local_source_is_capped_like_a_camera() {
        let start = Instant::now();
        let mut shard = shard(start, Some(80_000));
        let frame: &'static [u8] = Box::leak(vec![0x10; 1200].into_boxed_slice());
        let packets: Vec<_> = (0..100).map(|n| picture(n, Duration::ZERO, frame)).collect();
        shard.handle_source_packets(start, SESSION, &packets);
        let RoleStats::Publisher(stats) = &shard.stats(start)[0].role else { panic!("a subscriber") };
        // All are of one frame, which ends in debt: twice the 12,500 bytes of a second.
        assert_eq!((stats.packets, stats.policed), (21, 79));
    }

    #[test]
    fn packets_of_other_sessions_and_types_are_dropped() {
        let start = Instant::now();
        let mut shard = shard(start, None);
        let unknown = LocalPacket { payload_type: 55, ..picture(0, Duration::ZERO, KEYFRAME) };
        let audio = LocalPacket { kind: MediaKind::Audio, ..picture(0, Duration::ZERO, KEYFRAME) };
        shard.handle_source_packets(start, SESSION, &[unknown, audio]);
        shard.handle_source_packets(start, SessionId(8), &[picture(0, Duration::ZERO, KEYFRAME)]);
        let RoleStats::Publisher(stats) = &shard.stats(start)[0].role else { panic!("a subscriber") };
        assert_eq!(stats.packets, 0);
        assert_eq!(shard.poll_timeout(), None);
    }
}
