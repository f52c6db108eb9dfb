//! RTCP as it comes, by webrtc-rs's parser, reduced to what forwarding acts on.
//!
//! It is called only with what SRTCP has authenticated. A compound with one broken packet is dropped whole.

use rtc_rtcp::packet::unmarshal;
use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

/// One thing that a peer told us.
#[derive(Clone, Debug, PartialEq)]
pub enum Feedback {
    /// A publisher's clock: NTP in 32.32 fixed point and RTP, of the same moment.
    SenderReport {
        /// Whose.
        ssrc: u32,
        /// NTP time.
        ntp: u64,
        /// RTP time.
        rtp: u32,
    },
    /// How a subscriber receives one of our SSRCs.
    Reception {
        /// Our SSRC.
        ssrc: u32,
        /// Since the last report, in 256ths.
        fraction_lost: u8,
        /// Since the start.
        lost: u32,
        /// Timestamp units.
        jitter: u32,
        /// Middle bits of the sender report it answers; 0 when there was none.
        last_report: u32,
        /// Since then, in 65,536ths of a second.
        delay: u32,
    },
    /// Packets a subscriber lacks.
    Nack {
        /// Our SSRC.
        ssrc: u32,
        /// Their sequence numbers.
        sequences: Vec<u16>,
    },
    /// A decoder that cannot go on without a keyframe (PLI or FIR).
    KeyframeRequest {
        /// Our SSRC.
        ssrc: u32,
    },
    /// What the subscriber thinks its path carries, bits per second.
    MaximumBitrate(u64),
}

/// What NACKs of one compound name beyond this is cut: nobody repairs so much.
const MOST_NACKED: usize = 512;

/// Reads a compound packet; nothing when it is malformed.
pub fn read(compound: &[u8]) -> Vec<Feedback> {
    let Ok(packets) = unmarshal(&mut &compound[..]) else { return Vec::new() };
    let mut out = Vec::new();
    let mut nacked = 0;
    for packet in &packets {
        let any = packet.as_any();
        if let Some(report) = any.downcast_ref::<SenderReport>() {
            out.push(Feedback::SenderReport { ssrc: report.ssrc, ntp: report.ntp_time, rtp: report.rtp_time });
            out.extend(report.reports.iter().map(reception));
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
            out.extend(report.reports.iter().map(reception));
        } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            let named = nack.nacks.iter().flat_map(|pair| pair.packet_list());
            let sequences: Vec<u16> = named.take(MOST_NACKED - nacked).collect();
            nacked += sequences.len();
            out.push(Feedback::Nack { ssrc: nack.media_ssrc, sequences });
        } else if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
            out.push(Feedback::KeyframeRequest { ssrc: pli.media_ssrc });
        } else if let Some(fir) = any.downcast_ref::<FullIntraRequest>() {
            out.extend(fir.fir.iter().map(|entry| Feedback::KeyframeRequest { ssrc: entry.ssrc }));
        } else if let Some(remb) = any.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
            out.push(Feedback::MaximumBitrate(remb.bitrate as u64));
        }
    }
    out
}

fn reception(report: &ReceptionReport) -> Feedback {
    Feedback::Reception {
        ssrc: report.ssrc,
        fraction_lost: report.fraction_lost,
        // 24 bits with a sign; what came twice counts against what was lost.
        lost: if report.total_lost & 0x80_0000 == 0 { report.total_lost } else { 0 },
        jitter: report.jitter,
        last_report: report.last_sender_report,
        delay: report.delay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feedback::write;
    use proptest::prelude::*;

    #[test]
    fn reads_a_compound() {
        let mut out = Vec::new();
        write::sender_report(&mut out, 1, 2, 3, 4, 5);
        write::nack(&mut out, 9, 1, &[5, 6]);
        write::picture_loss(&mut out, 9, 1);
        write::maximum_bitrate(&mut out, 9, 1_000_000, &[1]);
        let got = read(&out);
        assert_eq!(got[0], Feedback::SenderReport { ssrc: 1, ntp: 2, rtp: 3 });
        assert_eq!(got[1], Feedback::Nack { ssrc: 1, sequences: vec![5, 6] });
        assert_eq!(got[2], Feedback::KeyframeRequest { ssrc: 1 });
        assert!(matches!(got[3], Feedback::MaximumBitrate(b) if (990_000..1_010_000).contains(&b)));
    }

    #[test]
    fn a_compound_of_many_nacks_is_cut() {
        let mut out = Vec::new();
        let sequences: Vec<u16> = (0..170).collect();
        (0..20).for_each(|_| write::nack(&mut out, 9, 1, &sequences));
        let named = read(&out).into_iter().map(|feedback| match feedback {
            Feedback::Nack { sequences, .. } => sequences.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(named.sum::<usize>(), MOST_NACKED);
    }

    #[test]
    fn a_goodbye_hides_nothing_of_its_compound() {
        let mut out = Vec::new();
        write::sender_report(&mut out, 1, 2, 3, 4, 5);
        write::goodbye(&mut out, &[1]);
        // A session ends by DTLS, by silence or by HTTP: a goodbye may be for a stream that comes back.
        assert_eq!(read(&out), [Feedback::SenderReport { ssrc: 1, ntp: 2, rtp: 3 }]);
    }

    #[test]
    fn more_packets_than_expected_are_no_loss() {
        let mut out = Vec::new();
        let block = write::ReportBlock {
            ssrc: 1,
            fraction_lost: 0,
            cumulative_lost: 0,
            highest_sequence: 9,
            jitter: 0,
            last_report: 0,
            delay: 0,
        };
        write::receiver_report(&mut out, 9, &[block]);
        out[13..16].fill(0xff);
        assert!(matches!(read(&out)[..], [Feedback::Reception { lost: 0, .. }]));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes);
        }

        #[test]
        fn almost_rtcp_never_panics(kind in 200u8..208, count in 0u8..32, body in proptest::collection::vec(any::<u8>(), 0..128)) {
            let mut bytes = vec![0x80 | count, kind, 0, (body.len() / 4) as u8];
            bytes.extend_from_slice(&body);
            read(&bytes);
        }
    }
}
