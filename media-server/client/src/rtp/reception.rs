//! The viewer's end of the media: counts every packet when it arrives, asks for missing ones, and finds whole frames.
//!
//! It is the last interceptor of the chain and passes no RTP on: nothing is queued for anyone, and no packet is counted
//! later than it came. Retransmissions by a stream of their own (RFC 4588) are understood here, for webrtc's own NACK
//! generator is not told of them and would ask on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
use rtc::rtp;
use rtc::sansio::Protocol;
use rtc::shared::error::Error as RtcError;
use serde::Serialize;
use tokio::sync::Notify;

use super::feedback::rtcp;
use super::frames::{FrameAssembler, Whole};
use super::loss::{Arrival, LossTracker};
use ingest::{Codec, MediaKind};

/// A picture that shows no keyframe for this long is asked for one, again and again.
const KEYFRAME_PATIENCE: Duration = Duration::from_millis(500);

/// What came of one track.
#[derive(Clone, Debug, Serialize)]
pub struct TrackReport {
    /// What it is encoded with.
    pub codec: Codec,
    /// RTP packets, duplicates and retransmissions of what had come left out.
    pub packets: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Packets that were sent, by their sequence numbers, and never came, not even again.
    pub lost: u64,
    /// Packets that a retransmission brought.
    pub recovered: u64,
    /// Packets that came after a later one without having been asked for.
    pub out_of_order: u64,
    /// Packets that came more than once.
    pub duplicates: u64,
    /// Packets asked for by NACK, counted a request.
    pub requested: u64,
    /// Whole frames; of sound, packets.
    pub frames: u64,
    /// Whole frames that a decoder can begin with.
    pub keyframes: u64,
    /// Frames that stayed incomplete.
    pub broken_frames: u64,
    /// Sender reports.
    pub sender_reports: u64,
    /// Milliseconds from the POST to the first packet.
    pub first_packet_ms: Option<f64>,
    /// Milliseconds from the POST to the first whole frame that a decoder can begin with.
    pub first_keyframe_ms: Option<f64>,
}

#[derive(Debug)]
struct Track {
    codec: Codec,
    nack: bool,
    loss: LossTracker,
    frames: FrameAssembler,
    bytes: u64,
    sender_reports: u64,
    first_packet: Option<Instant>,
    first_keyframe: Option<Instant>,
    ask_keyframe_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Tracks {
    by_ssrc: HashMap<u32, Track>,
    /// Media SSRC by that of its retransmissions.
    retransmissions: HashMap<u32, u32>,
    /// Packets of streams that were not negotiated.
    strangers: u64,
}

/// What the interceptor shares with the viewer.
#[derive(Debug, Default)]
pub(crate) struct Reception {
    tracks: Mutex<Tracks>,
    /// Told when a first packet or a first keyframe has come.
    pub(crate) progress: Notify,
}

impl Reception {
    fn lock(&self) -> MutexGuard<'_, Tracks> {
        // Counts may be one off after a panic, which has been reported already.
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The track of a kind; `since` is when the POST was sent.
    pub(crate) fn report(&self, kind: MediaKind, since: Instant) -> Option<TrackReport> {
        let tracks = self.lock();
        let of_kind = tracks.by_ssrc.values().filter(|track| track.codec.kind() == kind);
        let track = of_kind.max_by_key(|track| track.loss.received)?;
        let milliseconds =
            |at: Option<Instant>| at.map(|at| at.saturating_duration_since(since).as_secs_f64() * 1000.0);
        Some(TrackReport {
            codec: track.codec,
            packets: track.loss.received,
            bytes: track.bytes,
            lost: track.loss.lost(),
            recovered: track.loss.recovered,
            out_of_order: track.loss.out_of_order,
            duplicates: track.loss.duplicates,
            requested: track.loss.requested,
            frames: track.frames.whole,
            keyframes: track.frames.keyframes,
            broken_frames: track.frames.broken,
            sender_reports: track.sender_reports,
            first_packet_ms: milliseconds(track.first_packet),
            first_keyframe_ms: milliseconds(track.first_keyframe),
        })
    }

    /// How many tracks have a retransmission stream.
    #[cfg(test)]
    pub(crate) fn retransmission_streams(&self) -> usize {
        self.lock().retransmissions.len()
    }

    /// Packets of streams that were not negotiated.
    pub(crate) fn strangers(&self) -> u64 {
        self.lock().strangers
    }
}

/// The interceptor.
pub(crate) struct ReceptionTap {
    reception: Arc<Reception>,
    /// Ours, in the RTCP that is sent.
    ssrc: u32,
    inbound: VecDeque<TaggedPacket>,
    outbound: VecDeque<TaggedPacket>,
}

impl ReceptionTap {
    pub(crate) fn new(reception: Arc<Reception>) -> ReceptionTap {
        ReceptionTap { reception, ssrc: rand::random(), inbound: VecDeque::new(), outbound: VecDeque::new() }
    }

    fn receive(&self, now: Instant, packet: &rtp::Packet) {
        let mut tracks = self.reception.lock();
        let original = tracks.retransmissions.get(&packet.header.ssrc).copied();
        let Some(track) = tracks.by_ssrc.get_mut(&original.unwrap_or(packet.header.ssrc)) else {
            tracks.strangers += 1;
            return;
        };
        let (sequence_number, payload) = match (original, &packet.payload[..]) {
            (None, payload) => (packet.header.sequence_number, payload),
            // RFC 4588 §4: the original sequence number comes before the payload. Without it, it is padding.
            (Some(_), [high, low, payload @ ..]) => (u16::from_be_bytes([*high, *low]), payload),
            (Some(_), _) => return,
        };
        let Arrival::New(sequence) = track.loss.receive(now, sequence_number, original.is_some()) else { return };
        track.bytes += payload.len() as u64;
        if track.first_packet.is_none() {
            track.first_packet = Some(now);
            track.ask_keyframe_at = (track.codec.kind() == MediaKind::Video).then(|| now + KEYFRAME_PATIENCE);
            self.reception.progress.notify_waiters();
        }
        let part = track.codec.inspect(payload);
        let whole = track.frames.add(sequence, packet.header.timestamp, packet.header.marker, part);
        if whole == Some(Whole::Key) && track.first_keyframe.is_none() {
            track.first_keyframe = Some(now);
            track.ask_keyframe_at = None;
            self.reception.progress.notify_waiters();
        }
    }

    /// Asks for what is missing: packets, and a keyframe to begin with.
    fn ask(&mut self, now: Instant) {
        let mut tracks = self.reception.lock();
        for (ssrc, track) in &mut tracks.by_ssrc {
            let mut packets: Vec<Box<dyn rtc::rtcp::Packet>> = Vec::new();
            if track.nack {
                let missing = track.loss.ask(now);
                if !missing.is_empty() {
                    let nacks = nack_pairs_from_sequence_numbers(&missing);
                    packets.push(Box::new(TransportLayerNack { sender_ssrc: self.ssrc, media_ssrc: *ssrc, nacks }));
                }
            }
            if track.ask_keyframe_at.is_some_and(|at| at <= now) {
                track.ask_keyframe_at = Some(now + KEYFRAME_PATIENCE);
                packets.push(Box::new(PictureLossIndication { sender_ssrc: self.ssrc, media_ssrc: *ssrc }));
            }
            if !packets.is_empty() {
                self.outbound.push_back(rtcp(now, packets));
            }
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for ReceptionTap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = RtcError;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), RtcError> {
        match &packet.message.packet {
            Packet::Rtp(rtp) => self.receive(packet.now, rtp),
            Packet::Rtcp(packets) => {
                let mut tracks = self.reception.lock();
                for report in packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<SenderReport>()) {
                    if let Some(track) = tracks.by_ssrc.get_mut(&report.ssrc) {
                        track.sender_reports += 1;
                    }
                }
                drop(tracks);
                self.inbound.push_back(packet);
            }
            _ => {}
        }
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.inbound.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), RtcError> {
        self.outbound.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.outbound.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), RtcError> {
        self.ask(now);
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        let tracks = self.reception.lock();
        let packets = |track: &Track| if track.nack { track.loss.ask_at() } else { None };
        tracks.by_ssrc.values().flat_map(|track| [packets(track), track.ask_keyframe_at]).flatten().min()
    }
}

impl Interceptor for ReceptionTap {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        let mut tracks = self.reception.lock();
        if tracks.retransmissions.contains_key(&info.ssrc) || tracks.by_ssrc.contains_key(&info.ssrc) {
            return;
        }
        let Some(codec) = Codec::from_mime_type(&info.mime_type) else { return };
        if let Some(ssrc) = info.ssrc_rtx {
            tracks.retransmissions.insert(ssrc, info.ssrc);
        }
        let nack = info.rtcp_feedback.iter().any(|feedback| feedback.typ == "nack" && feedback.parameter.is_empty());
        let track = Track {
            codec,
            nack,
            loss: LossTracker::default(),
            frames: FrameAssembler::new(codec),
            bytes: 0,
            sender_reports: 0,
            first_packet: None,
            first_keyframe: None,
            ask_keyframe_at: None,
        };
        tracks.by_ssrc.insert(info.ssrc, track);
    }

    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {
        // What was counted stays to be reported.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, Bytes, BytesMut};
    use ingest::packetize::TrackWriter;
    use rtc::interceptor::{AttributedPacket, RTCPFeedback};
    use rtc::shared::TransportContext;

    fn tap() -> (ReceptionTap, Arc<Reception>) {
        let reception = Arc::new(Reception::default());
        let mut tap = ReceptionTap::new(Arc::clone(&reception));
        tap.bind_remote_stream(&StreamInfo {
            ssrc: 1,
            ssrc_rtx: Some(2),
            mime_type: "video/H264".to_owned(),
            rtcp_feedback: vec![RTCPFeedback { typ: "nack".to_owned(), parameter: String::new() }],
            ..StreamInfo::default()
        });
        // The retransmission stream is bound too, under the codec of what it repairs.
        tap.bind_remote_stream(&StreamInfo { ssrc: 2, mime_type: "video/H264".to_owned(), ..StreamInfo::default() });
        (tap, reception)
    }

    fn feed(tap: &mut ReceptionTap, now: Instant, packet: rtp::Packet) {
        let message = AttributedPacket::new(Packet::Rtp(packet));
        tap.handle_read(TaggedPacket { now, transport: TransportContext::default(), message }).unwrap();
    }

    fn retransmitted(packet: &rtp::Packet) -> rtp::Packet {
        let mut payload = BytesMut::new();
        payload.put_u16(packet.header.sequence_number);
        payload.extend_from_slice(&packet.payload);
        let header = rtp::Header { ssrc: 2, sequence_number: 9, ..packet.header.clone() };
        rtp::Packet { header, payload: payload.freeze() }
    }

    fn sent<T: Clone + 'static>(tap: &mut ReceptionTap) -> Vec<T> {
        let mut found = Vec::new();
        while let Some(packet) = tap.poll_write() {
            if let Packet::Rtcp(packets) = packet.message.packet {
                found.extend(packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<T>().cloned()));
            }
        }
        found
    }

    #[test]
    fn a_lost_packet_is_asked_for_and_its_retransmission_completes_the_keyframe() {
        let (mut tap, reception) = tap();
        let start = Instant::now();
        let clip = ingest::demo::source().video.unwrap();
        let mut packets = TrackWriter::new(Codec::H264, 1, 102).packets(Duration::ZERO, &clip.frames[0].data).unwrap();
        let missing = packets.remove(3);
        for packet in packets {
            feed(&mut tap, start, packet);
        }
        let report = reception.report(MediaKind::Video, start).unwrap();
        assert_eq!((report.lost, report.first_keyframe_ms), (1, None));

        let at = tap.poll_timeout().unwrap();
        tap.handle_timeout(at).unwrap();
        let nacks: Vec<TransportLayerNack> = sent(&mut tap);
        assert_eq!(nacks[0].nacks[0].packet_id, missing.header.sequence_number);

        feed(&mut tap, start + Duration::from_millis(20), retransmitted(&missing));
        let report = reception.report(MediaKind::Video, start).unwrap();
        assert_eq!((report.lost, report.recovered, report.frames, report.keyframes), (0, 1, 1, 1));
        assert_eq!(report.first_packet_ms, Some(0.0));
        assert_eq!(report.first_keyframe_ms, Some(20.0));
        assert_eq!(tap.poll_timeout(), None);
        assert!(tap.poll_read().is_none());
    }

    #[test]
    fn a_picture_without_a_keyframe_is_asked_for_one() {
        let (mut tap, _) = tap();
        let start = Instant::now();
        let clip = ingest::demo::source().video.unwrap();
        for packet in TrackWriter::new(Codec::H264, 1, 102).packets(Duration::ZERO, &clip.frames[1].data).unwrap() {
            feed(&mut tap, start, packet);
        }
        tap.handle_timeout(start + KEYFRAME_PATIENCE - Duration::from_millis(1)).unwrap();
        assert!(sent::<PictureLossIndication>(&mut tap).is_empty());
        tap.handle_timeout(start + KEYFRAME_PATIENCE).unwrap();
        assert_eq!(sent::<PictureLossIndication>(&mut tap).len(), 1);
    }

    #[test]
    fn padding_and_strangers_are_not_media() {
        let (mut tap, reception) = tap();
        let header = rtp::Header { version: 2, ssrc: 2, ..rtp::Header::default() };
        feed(&mut tap, Instant::now(), rtp::Packet { header: header.clone(), payload: Bytes::new() });
        feed(
            &mut tap,
            Instant::now(),
            rtp::Packet { header: rtp::Header { ssrc: 3, ..header }, payload: Bytes::new() },
        );
        assert_eq!(reception.report(MediaKind::Video, Instant::now()).unwrap().packets, 0);
        assert_eq!(reception.strangers(), 1);
    }
}
