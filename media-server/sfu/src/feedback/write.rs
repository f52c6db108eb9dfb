//! RTCP as we send it, appended to a buffer: RFC 3550 §6.4 and §6.5, RFC 4585 §6.2 and §6.3, RFC 5104 §4.3.1, RFC 3611 §4.4,
//! and REMB (draft-alvestrand-rmcat-remb-03).

/// One reception report block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// Whose packets.
    pub ssrc: u32,
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost since the start; 24 bits are sent.
    pub cumulative_lost: u32,
    /// Extended highest sequence number.
    pub highest_sequence: u32,
    /// Timestamp units.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time.
    pub last_report: u32,
    /// Since that report, in 65,536ths of a second.
    pub delay: u32,
}

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const EXTENDED_REPORT: u8 = 207;

fn packet(out: &mut Vec<u8>, count: u8, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0x80 | count, kind, 0, 0]);
    body(out);
    debug_assert_eq!((out.len() - start) % 4, 0, "RTCP packets are whole words");
    let words = ((out.len() - start) / 4 - 1) as u16;
    out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
}

fn put(out: &mut Vec<u8>, word: u32) {
    out.extend_from_slice(&word.to_be_bytes());
}

/// A receiver report; at most 31 blocks.
pub fn receiver_report(out: &mut Vec<u8>, ssrc: u32, blocks: &[ReportBlock]) {
    packet(out, blocks.len().min(31) as u8, RECEIVER_REPORT, |out| {
        put(out, ssrc);
        for block in blocks.iter().take(31) {
            put(out, block.ssrc);
            put(out, u32::from(block.fraction_lost) << 24 | block.cumulative_lost.min(0x7f_ffff));
            put(out, block.highest_sequence);
            put(out, block.jitter);
            put(out, block.last_report);
            put(out, block.delay);
        }
    });
}

/// A sender report without blocks: NTP time in 32.32 fixed point, RTP time, packets and payload bytes sent so far.
pub fn sender_report(out: &mut Vec<u8>, ssrc: u32, ntp: u64, rtp: u32, packets: u32, bytes: u32) {
    packet(out, 0, SENDER_REPORT, |out| {
        put(out, ssrc);
        out.extend_from_slice(&ntp.to_be_bytes());
        put(out, rtp);
        put(out, packets);
        put(out, bytes);
    });
}

/// A source description with the CNAME alone.
pub fn source_description(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let cname = &cname.as_bytes()[..cname.len().min(255)];
    packet(out, 1, SOURCE_DESCRIPTION, |out| {
        let start = out.len();
        put(out, ssrc);
        out.extend_from_slice(&[1, cname.len() as u8]);
        out.extend_from_slice(cname);
        out.push(0);
        out.resize(start + (out.len() - start).next_multiple_of(4), 0);
    });
}

/// A goodbye for `ssrcs`; at most 31.
pub fn goodbye(out: &mut Vec<u8>, ssrcs: &[u32]) {
    packet(out, ssrcs.len().min(31) as u8, GOODBYE, |out| ssrcs.iter().take(31).for_each(|ssrc| put(out, *ssrc)));
}

/// A generic NACK; sequence numbers ascending, at least one.
pub fn nack(out: &mut Vec<u8>, sender: u32, media: u32, sequences: &[u16]) {
    packet(out, 1, TRANSPORT_FEEDBACK, |out| {
        put(out, sender);
        put(out, media);
        let mut rest = sequences;
        while let [first, others @ ..] = rest {
            let followers = others.iter().take_while(|s| (1..=16).contains(&s.wrapping_sub(*first))).count();
            let bits = others[..followers].iter().fold(0u16, |bits, s| bits | 1 << (s.wrapping_sub(*first) - 1));
            out.extend_from_slice(&first.to_be_bytes());
            out.extend_from_slice(&bits.to_be_bytes());
            rest = &others[followers..];
        }
    });
}

/// Picture loss indication.
pub fn picture_loss(out: &mut Vec<u8>, sender: u32, media: u32) {
    packet(out, 1, PAYLOAD_FEEDBACK, |out| {
        put(out, sender);
        put(out, media);
    });
}

/// Full intra request; `request` counts up with each new request.
pub fn full_intra(out: &mut Vec<u8>, sender: u32, media: u32, request: u8) {
    packet(out, 4, PAYLOAD_FEEDBACK, |out| {
        put(out, sender);
        put(out, 0);
        put(out, media);
        put(out, u32::from(request) << 24);
    });
}

/// Receiver-estimated maximum bitrate, bits per second; at most 255 SSRCs.
pub fn maximum_bitrate(out: &mut Vec<u8>, sender: u32, bits_per_second: u64, media: &[u32]) {
    packet(out, 15, PAYLOAD_FEEDBACK, |out| {
        put(out, sender);
        put(out, 0);
        out.extend_from_slice(b"REMB");
        let exponent = (64 - bits_per_second.leading_zeros()).saturating_sub(18);
        let mantissa = (bits_per_second >> exponent) as u32;
        put(out, (media.len().min(255) as u32) << 24 | exponent << 18 | mantissa);
        media.iter().take(255).for_each(|ssrc| put(out, *ssrc));
    });
}

/// A receiver reference time, NTP in 32.32 fixed point, that the peer answers by DLRR if it can.
pub fn reference_time(out: &mut Vec<u8>, sender: u32, ntp: u64) {
    const BLOCK: u32 = 4 << 24 | 2;
    packet(out, 0, EXTENDED_REPORT, |out| {
        put(out, sender);
        put(out, BLOCK);
        out.extend_from_slice(&ntp.to_be_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc_rtcp::extended_report::ExtendedReport;
    use rtc_rtcp::extended_report::rrt::ReceiverReferenceTimeReportBlock;
    use rtc_rtcp::packet::Packet;
    use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
    use rtc_rtcp::receiver_report::ReceiverReport;
    use rtc_rtcp::sender_report::SenderReport;
    use rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

    fn parse(bytes: &[u8]) -> Vec<Box<dyn Packet>> {
        rtc_rtcp::packet::unmarshal(&mut &bytes[..]).unwrap()
    }

    #[test]
    fn an_independent_parser_reads_what_we_write() {
        let mut out = Vec::new();
        let block = ReportBlock {
            ssrc: 7,
            fraction_lost: 51,
            cumulative_lost: 3,
            highest_sequence: 65_540,
            jitter: 9,
            last_report: 0x3344_5566,
            delay: 32_768,
        };
        sender_report(&mut out, 1, 2 << 32, 3, 4, 5);
        receiver_report(&mut out, 1, &[block]);
        source_description(&mut out, 1, "camera");
        picture_loss(&mut out, 1, 2);
        full_intra(&mut out, 1, 2, 3);
        maximum_bitrate(&mut out, 1, 8_000_000, &[2]);
        goodbye(&mut out, &[1, 2]);
        reference_time(&mut out, 1, 2 << 32 | 3);
        let packets = parse(&out);
        assert_eq!(packets.len(), 8);
        let extended = packets[7].as_any().downcast_ref::<ExtendedReport>().unwrap();
        let reference = extended.reports[0].as_any().downcast_ref::<ReceiverReferenceTimeReportBlock>().unwrap();
        assert_eq!((extended.sender_ssrc, reference.ntp_timestamp), (1, 2 << 32 | 3));
        let sr = packets[0].as_any().downcast_ref::<SenderReport>().unwrap();
        assert_eq!((sr.ntp_time, sr.rtp_time, sr.packet_count, sr.octet_count), (2 << 32, 3, 4, 5));
        let rr = packets[1].as_any().downcast_ref::<ReceiverReport>().unwrap();
        assert_eq!(rr.reports[0].fraction_lost, 51);
        assert_eq!(rr.reports[0].last_sequence_number, 65_540);
        assert_eq!(rr.reports[0].total_lost, 3);
        let remb = packets[5].as_any().downcast_ref::<ReceiverEstimatedMaximumBitrate>().unwrap();
        assert!((remb.bitrate - 8e6).abs() < 8e6 * 0.001);
    }

    #[test]
    fn nacks_are_packed_and_complete() {
        let mut out = Vec::new();
        let wanted = [65_530u16, 65_535, 3, 20, 21, 36, 1000];
        nack(&mut out, 1, 2, &wanted);
        let packets = parse(&out);
        let nack = packets[0].as_any().downcast_ref::<TransportLayerNack>().unwrap();
        let got: Vec<u16> = nack.nacks.iter().flat_map(|pair| pair.packet_list()).collect();
        assert_eq!(got, wanted);
        assert_eq!(nack.nacks.len(), 3);
    }
}
