//! A publisher's session: its media, as it enters the room, and the feedback it is owed.
//!
//! Only SSRCs that were signalled, or that MID or payload type explain, are admitted (see `streams`); state for an SSRC is created
//! by its first authentic packet. A packet enters the room once: duplicates are dropped, and so is the excess over the bitrate
//! cap (see `policer`).

mod feedback;

use crate::feedback::arrivals::Arrivals;
use crate::feedback::reception::{Arrival, Reception};
use crate::packet::Header;
use crate::parameters::{Codec, IncomingTrack, MediaKind, PublisherTracks, SessionId};
use crate::shard::policer::{Budget, VideoPacket};
use crate::shard::round_trip::RoundTrip;
use crate::shard::source::{ClockReport, LocalClock};
use crate::shard::streams::Streams;
use crate::transport::Transport;
use std::time::{Duration, Instant};

const REPORT_EVERY: Duration = Duration::from_secs(1);
/// As often as libwebrtc sends it.
const CONGESTION_EVERY: Duration = Duration::from_millis(100);
const KEYFRAME_EVERY: Duration = Duration::from_millis(500);
const KEYFRAME_PATIENCE: Duration = Duration::from_secs(10);

/// One media packet, as [`Publisher::receive`] understood it.
pub(super) struct Received<'a> {
    pub(super) kind: MediaKind,
    pub(super) ssrc: u32,
    pub(super) codec: Codec,
    pub(super) payload_type: u8,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) payload: &'a [u8],
    /// Frames before this one were dropped, and others refer to them.
    pub(super) after_gap: bool,
}

/// See the module.
pub(super) struct Publisher {
    pub(super) id: SessionId,
    /// `None` for a local source.
    pub(super) transport: Option<Transport>,
    pub(super) tracks: PublisherTracks,
    pub(super) connected: bool,
    pub(super) round_trip: RoundTrip,
    pub(super) streams: Streams,
    pub(super) budget: Budget,
    pub(super) keyframe_requests: u64,
    pub(super) nacks: u64,
    arrivals: Arrivals,
    pub(super) local_clock: LocalClock,
    ssrc: u32,
    max_bitrate: Option<u64>,
    reported: Instant,
    congestion_reported: Instant,
    keyframe_wanted: Option<Instant>,
    keyframe_asked: Option<Instant>,
    full_intra: u8,
}

impl Publisher {
    pub(super) fn new(
        now: Instant,
        id: SessionId,
        transport: Option<Transport>,
        tracks: PublisherTracks,
        ssrc: u32,
        max_bitrate: Option<u64>,
    ) -> Self {
        let mut publisher = Self {
            id,
            transport,
            tracks,
            connected: false,
            round_trip: RoundTrip::new(now),
            streams: Streams::default(),
            budget: Budget::new(now, max_bitrate),
            keyframe_requests: 0,
            nacks: 0,
            arrivals: Arrivals::new(now),
            local_clock: LocalClock::default(),
            ssrc,
            max_bitrate,
            reported: now,
            congestion_reported: now,
            keyframe_wanted: None,
            keyframe_asked: None,
            full_intra: 0,
        };
        for kind in [MediaKind::Video, MediaKind::Audio] {
            if let Some((ssrc, rtx)) = publisher.track(kind).map(|track| (track.ssrc, track.rtx_ssrc)) {
                publisher.streams.announce(kind, ssrc, rtx);
            }
        }
        publisher
    }

    /// What one of its payload types carries.
    pub(super) fn codec(&self, kind: MediaKind, number: u8) -> Option<Codec> {
        self.track(kind)?.payload_types.iter().find(|p| p.number == number).map(|p| p.codec)
    }

    pub(super) fn track(&self, kind: MediaKind) -> Option<&IncomingTrack> {
        match kind {
            MediaKind::Audio => self.tracks.audio.as_ref(),
            MediaKind::Video => self.tracks.video.as_ref(),
        }
    }

    pub(super) fn set_max_bitrate(&mut self, limit: Option<u64>) {
        self.max_bitrate = limit;
        self.budget.set_max_bitrate(limit);
    }

    /// Returns whether a packet of this SSRC may cost the work of decrypting it.
    pub(super) fn admits(&mut self, now: Instant, datagram: &[u8], ssrc: u32) -> bool {
        self.streams.contains(ssrc)
            || Header::parse(datagram).is_some_and(|header| self.classify(&header, datagram).is_some())
                && self.streams.allow_unknown(now)
    }

    fn classify(&self, header: &Header, packet: &[u8]) -> Option<(MediaKind, bool)> {
        let candidates =
            [MediaKind::Video, MediaKind::Audio].into_iter().filter_map(|kind| Some((kind, self.track(kind)?)));
        for (kind, track) in candidates {
            if let Some(mid) = track.extensions.mid.and_then(|id| header.extension(packet, id))
                && mid != track.mid.as_bytes()
            {
                continue;
            }
            if track.rid.is_some() && !is_chosen_layer(track, header, packet) {
                continue;
            }
            for payload_type in &track.payload_types {
                if payload_type.number == header.payload_type {
                    return Some((kind, false));
                }
                if payload_type.rtx == Some(header.payload_type) {
                    return Some((kind, true));
                }
            }
        }
        None
    }

    /// Accounts for a decrypted packet and returns the media in it; `None` for probes, duplicates, unknown payload types,
    /// media of an SSRC that does not feed the track, and the excess over the bitrate cap.
    pub(super) fn receive<'a>(&mut self, now: Instant, packet: &'a [u8]) -> Option<Received<'a>> {
        let header = Header::parse(packet)?;
        let named = match self.streams.get(header.ssrc) {
            Some(stream) => (stream.kind, stream.repair),
            None => self.classify(&header, packet)?,
        };
        let (kind, repair, forwarded) = self.streams.hear(now, header.ssrc, named);
        let track = self.track(kind)?;
        if let Some(sequence) = track.extensions.transport_cc.and_then(|id| header.extension(packet, id))
            && let Ok(sequence) = <[u8; 2]>::try_from(sequence)
        {
            self.arrivals.received(now, u16::from_be_bytes(sequence));
        }
        if !forwarded {
            return None;
        }
        let payload = &packet[header.payload.clone()];
        let number = header.payload_type;
        let (named, ssrc, sequence, payload) = if repair {
            // A retransmission (RFC 4588 §4) for the same track; without payload it is a bandwidth probe.
            let (original, rest) = payload.split_first_chunk::<2>()?;
            let sequence = u16::from_be_bytes(*original);
            let named = self.track(kind)?.payload_types.iter().find(|p| p.rtx == Some(number))?;
            (named, self.streams.repaired_ssrc(header.ssrc, sequence)?, sequence, rest)
        } else {
            let named = self.track(kind)?.payload_types.iter().find(|p| p.number == number)?;
            (named, header.ssrc, header.sequence, payload)
        };
        let received = Received {
            kind,
            ssrc,
            codec: named.codec,
            payload_type: named.number,
            sequence,
            timestamp: header.timestamp,
            marker: header.marker,
            payload,
            after_gap: false,
        };
        self.account(now, received, packet.len(), repair)
    }

    /// Counts a media packet, and returns it with its sequence number in the room if it is new and within the cap.
    pub(super) fn account<'a>(
        &mut self,
        now: Instant,
        received: Received<'a>,
        len: usize,
        repair: bool,
    ) -> Option<Received<'a>> {
        let Received { kind, ssrc, codec, sequence, timestamp, marker, payload, .. } = received;
        let stream = self.streams.get_mut(ssrc)?;
        let reception = stream.reception.get_or_insert_with(|| Box::new(Reception::new(now, ssrc, codec.clock_rate())));
        let Arrival::First { sequence, requested } = reception.received(now, sequence, timestamp, len, repair) else {
            return None;
        };
        if let Some((since, requests)) = requested {
            self.round_trip.answered(now, since, requests);
        }
        if kind == MediaKind::Audio {
            return self.budget.take_audio(now, len).then_some(received);
        }
        let packet = VideoPacket { sequence, timestamp, marker, codec, payload, len };
        if let Some(sequence) = stream.gate.pass(&mut self.budget, now, &packet) {
            return Some(Received { sequence, after_gap: stream.gate.has_reopened(), ..received });
        }
        stream.gate.newest_cut().into_iter().for_each(|cut| reception.give_up(cut));
        if stream.gate.wants_keyframe(&self.budget) {
            self.want_keyframe(now);
        }
        None
    }

    pub(super) fn sender_report(&mut self, now: Instant, ssrc: u32, ntp: u64, timestamp: u32) -> Option<ClockReport> {
        let stream = self.streams.get_mut(ssrc).filter(|stream| !stream.repair)?;
        let reception = stream.reception.as_mut()?;
        reception.sender_report(now, ntp);
        Some(ClockReport { kind: stream.kind, ssrc, clock_rate: reception.clock_rate(), ntp, timestamp })
    }

    /// Records the answer to the reference time of a report.
    pub(super) fn reference_answered(&mut self, now: Instant, ssrc: u32, reference: u32, delay: u32) {
        if ssrc == self.ssrc {
            self.round_trip.reference_answered(now, reference, delay);
        }
    }

    /// Returns whether media of this SSRC may feed the room.
    pub(super) fn feeds(&self, kind: MediaKind, ssrc: u32) -> bool {
        self.streams.feeds(kind, ssrc)
    }

    /// Records that the room forwards media of this SSRC.
    pub(super) fn started(&mut self, kind: MediaKind, ssrc: u32) {
        self.streams.start(kind, ssrc);
    }

    /// Requests a keyframe. Returns `true` when that is the first request since the last keyframe.
    pub(super) fn want_keyframe(&mut self, now: Instant) -> bool {
        if self.track(MediaKind::Video).is_none() {
            return false;
        }
        let first = self.keyframe_wanted.is_none();
        self.keyframe_wanted.get_or_insert(now);
        first
    }

    pub(super) fn on_keyframe(&mut self) {
        self.keyframe_wanted = None;
    }
}

/// Of a simulcast offer one layer is received; a packet that names another one by its header is none of the track.
fn is_chosen_layer(track: &IncomingTrack, header: &Header, packet: &[u8]) -> bool {
    let named = [track.extensions.rid, track.extensions.repaired_rid];
    let mut named = named.into_iter().flatten().filter_map(|id| header.extension(packet, id));
    named.all(|rid| track.rid.as_deref().is_none_or(|chosen| chosen.as_bytes() == rid))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::feedback::read::{Feedback, read};
    use crate::parameters::{
        DtlsRole, Fingerprint, HeaderExtensions, IceCredentials, PayloadType, TransportParameters,
    };
    use crate::transport::Identity;

    /// With a picture of VP8 (96) or H264 (102, 104) under SSRC 1, repeated under SSRC 2, and no sound.
    pub(in crate::shard) fn publisher(now: Instant) -> Publisher {
        let payload_type = |number, codec, rtx| PayloadType {
            number,
            codec,
            fmtp: String::new(),
            rtx,
            nack: true,
            pli: true,
            fir: false,
            remb: false,
            transport_cc: false,
        };
        let track = IncomingTrack {
            mid: "0".to_owned(),
            kind: MediaKind::Video,
            payload_types: vec![
                payload_type(96, Codec::Vp8, Some(97)),
                payload_type(102, Codec::H264, Some(103)),
                payload_type(104, Codec::H264, None),
            ],
            extensions: HeaderExtensions::default(),
            ssrc: Some(1),
            rtx_ssrc: Some(2),
            rid: None,
        };
        let credentials = || IceCredentials { ufrag: "Aufrag".to_owned(), pwd: "p".repeat(24) };
        let parameters = TransportParameters {
            local: credentials(),
            remote: credentials(),
            fingerprint: Fingerprint::Sha256([0; 32]),
            dtls_role: DtlsRole::Server,
        };
        let transport = Transport::new(now, &Identity::generate().unwrap(), parameters);
        let tracks = PublisherTracks { audio: None, video: Some(track) };
        Publisher::new(now, SessionId(1), Some(transport), tracks, 99, None)
    }

    fn packet(number: u8, ssrc: u32, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80, number, 0, 5, 0, 0, 0, 9];
        packet.extend(ssrc.to_be_bytes());
        packet.extend(payload);
        packet
    }

    /// As the shard does, but for the encryption.
    fn took(publisher: &mut Publisher, now: Instant, packet: &[u8]) -> Option<(u32, u16, u8)> {
        let ssrc = crate::packet::ssrc(packet)?;
        let received = publisher.admits(now, packet, ssrc).then(|| publisher.receive(now, packet))??;
        Some((received.ssrc, received.sequence, received.payload_type))
    }

    #[test]
    fn an_encoder_that_starts_again_under_another_ssrc_is_followed() {
        let start = Instant::now();
        let mut publisher = publisher(start);
        assert_eq!(took(&mut publisher, start, &packet(96, 1, b"x")), Some((1, 5, 96)));
        assert_eq!(took(&mut publisher, start, &packet(96, 7, b"x")), None, "the first is still heard");
        let later = start + Duration::from_millis(100);
        assert_eq!(took(&mut publisher, later, &packet(96, 7, b"x")), Some((7, 5, 96)));
        // Its retransmissions and the requests to it are of the SSRC that is heard.
        assert_eq!(took(&mut publisher, later, &packet(97, 2, &[0, 4, b'x'])), Some((7, 4, 96)));
        publisher.want_keyframe(later);
        let mut out = Vec::new();
        publisher.feedback(later, &mut out);
        assert!(read(&out).contains(&Feedback::KeyframeRequest { ssrc: 7 }), "{:?}", read(&out));
    }

    #[test]
    fn headers_that_were_not_authentic_leave_no_trace() {
        let now = Instant::now();
        let mut publisher = publisher(now);
        for ssrc in 100..200 {
            assert!(publisher.admits(now, &packet(97, ssrc, b"forged"), ssrc));
        }
        assert!((100..200).all(|ssrc| !publisher.streams.contains(ssrc)));
    }

    #[test]
    fn losses_of_a_replaced_ssrc_are_not_awaited() {
        let start = Instant::now();
        let mut publisher = publisher(start);
        let numbered = |ssrc, sequence| {
            let mut packet = packet(96, ssrc, b"x");
            packet[3] = sequence;
            packet
        };
        assert!(
            took(&mut publisher, start, &numbered(1, 5)).is_some()
                && took(&mut publisher, start, &numbered(1, 7)).is_some()
        );
        assert!(publisher.is_missing_any());
        let later = start + Duration::from_millis(100);
        assert_eq!(took(&mut publisher, later, &numbered(7, 9)), Some((7, 9, 96)));
        assert!(!publisher.is_missing_any());
        assert_eq!(publisher.report_blocks(later).iter().map(|block| block.ssrc).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn retransmissions_of_the_wrong_format_are_dropped() {
        let now = Instant::now();
        let mut publisher = publisher(now);
        assert_eq!(took(&mut publisher, now, &packet(102, 1, b"x")), Some((1, 5, 102)));
        let dropped = [
            packet(96, 2, &[0, 4, b'x']),
            packet(104, 2, &[0, 4, b'x']),
            packet(97, 1, &[0, 4, b'x']),
            packet(97, 2, &[0]),
            packet(97, 2, &[]),
            packet(55, 1, b"x"),
        ];
        for packet in dropped {
            assert_eq!(took(&mut publisher, now, &packet), None, "{packet:?}");
        }
        assert_eq!(publisher.streams.counts().packets, 1, "they do not count as received");
    }

    /// With a one-byte header extension (RFC 8285).
    fn extended(number: u8, ssrc: u32, id: u8, value: &[u8]) -> Vec<u8> {
        let mut packet = packet(number, ssrc, &[0xBE, 0xDE, 0, 1, id << 4 | (value.len() as u8 - 1)]);
        packet[0] |= 0x10;
        packet.extend(value);
        packet.resize(20, 0);
        packet.extend(b"payload");
        packet
    }

    #[test]
    fn packet_of_another_layer_is_not_admitted() {
        let now = Instant::now();
        let mut publisher = publisher(now);
        let track = publisher.tracks.video.as_mut().unwrap();
        track.rid = Some("h".to_owned());
        (track.extensions.rid, track.extensions.repaired_rid) = (Some(10), Some(11));
        let admits = |packet: &[u8]| publisher.classify(&Header::parse(packet).unwrap(), packet).is_some();
        for (id, number) in [(10, 96), (11, 97)] {
            assert!(admits(&extended(number, 7, id, b"h")), "extension {id}");
            assert!(!admits(&extended(number, 7, id, b"l")), "extension {id}");
            assert!(!admits(&extended(number, 7, id, b"hh")), "extension {id}");
        }
        assert!(admits(&packet(96, 7, b"x")), "one stream that names no layer");
        assert!(admits(&extended(96, 7, 3, b"l")), "another extension");
    }

    #[test]
    fn a_keyframe_is_asked_for_twice_a_second_at_most() {
        let start = Instant::now();
        let mut publisher = publisher(start);
        took(&mut publisher, start, &packet(96, 1, b"x"));
        let mut out = Vec::new();
        let mut asked = 0;
        for n in 0..200 {
            let now = start + Duration::from_millis(10 * n);
            publisher.want_keyframe(now);
            publisher.feedback(now, &mut out);
            asked += read(&out).iter().filter(|f| matches!(f, Feedback::KeyframeRequest { .. })).count();
            publisher.on_keyframe();
        }
        assert_eq!(asked, 4);
    }
}
