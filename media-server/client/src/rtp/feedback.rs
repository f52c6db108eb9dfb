//! The camera's end of the RTCP: sends reports (RFC 3550 §6.4.1) from the media clock, and counts what comes back.
//!
//! Sits next to the wire in the chain of interceptors, so that retransmissions pass by it. A keyframe request is only
//! counted: a file cannot make a keyframe.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rtc::interceptor::{Attribute, AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error as RtcError;
use serde::Serialize;

use ingest::packetize::MediaClock;

/// Between two reports of a stream. The first goes with the first packet.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What a camera was told by the one who receives it, and what it sent besides its frames. Counts since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Feedback {
    /// Sender reports sent.
    pub sender_reports: u64,
    /// Packets asked for by NACK.
    pub nacked: u64,
    /// Packets sent again.
    pub retransmitted: u64,
    /// Picture loss indications: keyframe requests, which a file cannot fulfil.
    pub picture_loss_indications: u64,
    /// Full intra requests: the same in another form.
    pub full_intra_requests: u64,
    /// Receiver reports.
    pub receiver_reports: u64,
    /// Share of packets lost, 0 to 1, as the last receiver report had it; the worst of its streams.
    pub fraction_lost: f64,
    /// Transport-wide congestion feedback packets.
    pub transport_feedbacks: u64,
    /// Bits per second the receiver last said it can take (REMB); 0 before it said so.
    pub estimated_bitrate: u64,
}

/// What the interceptor shares with the camera.
#[derive(Debug, Default)]
pub(crate) struct FeedbackState {
    counts: Mutex<Feedback>,
    /// Set when sending begins.
    pub(crate) clock: OnceLock<MediaClock>,
}

impl FeedbackState {
    pub(crate) fn counts(&self) -> Feedback {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Feedback> {
        // A count cannot be left half done.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Sent {
    packets: u32,
    octets: u32,
    report_at: Option<Instant>,
}

/// The interceptor.
pub(crate) struct FeedbackTap {
    state: Arc<FeedbackState>,
    streams: HashMap<u32, Sent>,
    inbound: VecDeque<TaggedPacket>,
    outbound: VecDeque<TaggedPacket>,
}

impl FeedbackTap {
    pub(crate) fn new(state: Arc<FeedbackState>) -> FeedbackTap {
        FeedbackTap { state, streams: HashMap::new(), inbound: VecDeque::new(), outbound: VecDeque::new() }
    }

    fn count(&self, packet: &dyn rtc::rtcp::Packet) {
        let mut counts = self.state.lock();
        let packet = packet.as_any();
        if packet.is::<PictureLossIndication>() {
            counts.picture_loss_indications += 1;
        } else if packet.is::<FullIntraRequest>() {
            counts.full_intra_requests += 1;
        } else if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
            counts.nacked += nack.nacks.iter().map(|pair| 1 + u64::from(pair.lost_packets.count_ones())).sum::<u64>();
        } else if let Some(report) = packet.downcast_ref::<ReceiverReport>() {
            counts.receiver_reports += 1;
            let worst = report.reports.iter().map(|stream| stream.fraction_lost).max().unwrap_or(0);
            counts.fraction_lost = f64::from(worst) / 256.0;
        } else if packet.is::<TransportLayerCc>() {
            counts.transport_feedbacks += 1;
        } else if let Some(estimate) = packet.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
            counts.estimated_bitrate = estimate.bitrate as u64;
        }
    }

    fn report(&mut self, now: Instant) {
        let Some(clock) = self.state.clock.get() else { return };
        for (ssrc, sent) in &mut self.streams {
            if sent.report_at.is_none_or(|at| at > now) {
                continue;
            }
            sent.report_at = Some(now + REPORT_INTERVAL);
            let Some((ntp_time, rtp_time)) = clock.at(now, *ssrc) else { continue };
            let report = SenderReport {
                ssrc: *ssrc,
                ntp_time,
                rtp_time,
                packet_count: sent.packets,
                octet_count: sent.octets,
                ..SenderReport::default()
            };
            self.outbound.push_back(rtcp(now, vec![Box::new(report)]));
            self.state.lock().sender_reports += 1;
        }
    }
}

/// RTCP that this side made, ready for the chain.
pub(super) fn rtcp(now: Instant, packets: Vec<Box<dyn rtc::rtcp::Packet>>) -> TaggedPacket {
    let message = AttributedPacket::new(Packet::Rtcp(packets));
    TaggedPacket { now, transport: TransportContext::default(), message }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for FeedbackTap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = RtcError;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), RtcError> {
        if let Packet::Rtcp(packets) = &packet.message.packet {
            packets.iter().for_each(|packet| self.count(&**packet));
        }
        self.inbound.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.inbound.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), RtcError> {
        let now = packet.now;
        let mut first = false;
        if let Packet::Rtp(rtp) = &packet.message.packet {
            if packet.message.has(&Attribute::Retransmission) {
                self.state.lock().retransmitted += 1;
            } else {
                let sent = self.streams.entry(rtp.header.ssrc).or_default();
                first = sent.packets == 0;
                sent.packets = sent.packets.wrapping_add(1);
                sent.octets = sent.octets.wrapping_add(rtp.payload.len() as u32);
                if first {
                    sent.report_at = Some(now);
                }
            }
        }
        self.outbound.push_back(packet);
        if first {
            self.report(now);
        }
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.outbound.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), RtcError> {
        self.report(now);
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.streams.values().filter_map(|sent| sent.report_at).min()
    }
}

impl Interceptor for FeedbackTap {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.streams.remove(&info.ssrc);
    }
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ingest::Codec;
    use ingest::packetize::TrackWriter;
    use rtc::rtcp::transport_feedbacks::transport_layer_nack::nack_pairs_from_sequence_numbers;
    use std::time::SystemTime;

    fn reports(tap: &mut FeedbackTap) -> Vec<SenderReport> {
        std::iter::from_fn(|| tap.poll_write())
            .filter_map(|packet| match packet.message.packet {
                Packet::Rtcp(packets) => packets[0].as_any().downcast_ref::<SenderReport>().cloned(),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn the_first_report_goes_with_the_first_packet_and_then_one_a_second() {
        let state = Arc::new(FeedbackState::default());
        let mut tap = FeedbackTap::new(Arc::clone(&state));
        let mut writer = TrackWriter::new(Codec::Opus, 7, 111);
        let start = Instant::now();
        state.clock.set(MediaClock::new(start, SystemTime::now(), [&writer].into_iter())).unwrap();
        let mut seen = Vec::new();
        for step in 0..=100 {
            let at = Duration::from_millis(20 * step);
            let now = start + at;
            let rtp = writer.packets(at, &Bytes::from_static(&[1, 2, 3])).unwrap().remove(0);
            let timestamp = rtp.header.timestamp;
            let message = AttributedPacket::new(Packet::Rtp(rtp));
            tap.handle_write(TaggedPacket { now, transport: TransportContext::default(), message }).unwrap();
            tap.handle_timeout(now).unwrap();
            seen.extend(reports(&mut tap).into_iter().map(|report| {
                assert_eq!(report.rtp_time, timestamp);
                (step, report.packet_count, report.octet_count)
            }));
        }
        assert_eq!(seen, [(0, 1, 3), (50, 51, 153), (100, 101, 303)]);
        assert_eq!(state.counts().sender_reports, 3);
    }

    #[test]
    fn what_comes_back_is_counted() {
        let state = Arc::new(FeedbackState::default());
        let mut tap = FeedbackTap::new(Arc::clone(&state));
        let nacks = nack_pairs_from_sequence_numbers(&[1, 2, 40]);
        let packets: Vec<Box<dyn rtc::rtcp::Packet>> = vec![
            Box::new(PictureLossIndication::default()),
            Box::new(FullIntraRequest::default()),
            Box::new(TransportLayerNack { nacks, ..TransportLayerNack::default() }),
        ];
        tap.handle_read(rtcp(Instant::now(), packets)).unwrap();
        let counts = state.counts();
        assert_eq!((counts.picture_loss_indications, counts.full_intra_requests, counts.nacked), (1, 1, 3));
        assert!(tap.poll_read().is_some());
    }
}
