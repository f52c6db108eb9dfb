//! RTCP as it arrives, reduced to the feedback that forwarding acts on.
//!
//! The compound is walked by the length fields alone (RFC 3550 §6.1), and each packet is read on its own: a type, a block or a
//! feedback format that is unknown, and a packet with broken contents, hide nothing of the others. Neither the order nor a
//! leading report is required (reduced-size RTCP, RFC 5506). Bytes after the last complete packet are ignored.
//! Formats: RFC 3550 §6.4 (reports), RFC 4585 §6.2 and §6.3, RFC 5104 §4.3.1 (FIR), draft-alvestrand-rmcat-remb-03, RFC 3611
//! §4.5 (DLRR). Called only with authenticated SRTCP; the output is bounded by the datagram and `MOST_NACKED`.

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
    /// The answer to a reference time that was sent to the peer (a sub-block of DLRR).
    ReferenceAnswer {
        /// Our SSRC, as the sender of the reference time.
        ssrc: u32,
        /// Middle bits of the reference time.
        reference: u32,
        /// Between its arrival and this answer, in 65,536ths of a second.
        delay: u32,
    },
}

/// Sequence numbers taken from the NACKs of one compound; more are never retransmitted at once.
const MOST_NACKED: usize = 512;
/// Bytes of a report block.
const REPORT_BLOCK: usize = 24;
/// Bytes of a sender report ahead of its blocks.
const SENDER_INFO: usize = 24;
/// Bytes of a sub-block of DLRR.
const ANSWER: usize = 12;

/// One packet of a compound: the five bits after version and padding, the type, and the rest without padding.
struct Packet<'a> {
    count: u8,
    kind: u8,
    body: &'a [u8],
}

/// The packets of a compound, up to the first that is cut short.
fn packets(mut rest: &[u8]) -> impl Iterator<Item = Packet<'_>> {
    std::iter::from_fn(move || {
        loop {
            let [first, kind, high, low] = *rest.first_chunk::<4>()?;
            let len = 4 * (1 + usize::from(u16::from_be_bytes([high, low])));
            if first >> 6 != 2 || rest.len() < len {
                return None;
            }
            let (packet, others) = rest.split_at(len);
            rest = others;
            let padding = if first & 0x20 == 0 { 0 } else { packet[len - 1].max(1) };
            if let Some(body) = packet[4..].get(..(len - 4).wrapping_sub(padding.into())) {
                return Some(Packet { count: first & 0x1f, kind, body });
            }
        }
    })
}

/// Parses a compound packet, skipping unknown and broken parts.
pub fn read(compound: &[u8]) -> Vec<Feedback> {
    let mut out = Vec::new();
    let mut nacked = 0;
    for packet in packets(compound) {
        let Packet { count, kind, body } = packet;
        match (kind, count) {
            (200, _) => sender_report(count, body, &mut out),
            (201, _) => reports(count, body.get(4..).unwrap_or_default(), &mut out),
            (205, 1) => nack(body, &mut nacked, &mut out),
            (206, 1) => out.extend(word(body, 4).map(|ssrc| Feedback::KeyframeRequest { ssrc })),
            (206, 4) => {
                let entries = body.get(8..).unwrap_or_default().chunks_exact(8);
                out.extend(entries.filter_map(|entry| word(entry, 0)).map(|ssrc| Feedback::KeyframeRequest { ssrc }));
            }
            (206, 15) => out.extend(maximum_bitrate(body).map(Feedback::MaximumBitrate)),
            (207, _) => extended(body.get(4..).unwrap_or_default(), &mut out),
            _ => {}
        }
    }
    out
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn sender_report(count: u8, body: &[u8], out: &mut Vec<Feedback>) {
    if let (Some(ssrc), Some(high), Some(low), Some(rtp), Some(blocks)) =
        (word(body, 0), word(body, 4), word(body, 8), word(body, 12), body.get(SENDER_INFO..))
    {
        out.push(Feedback::SenderReport { ssrc, ntp: u64::from(high) << 32 | u64::from(low), rtp });
        reports(count, blocks, out);
    }
}

fn reports(count: u8, blocks: &[u8], out: &mut Vec<Feedback>) {
    let blocks = blocks.chunks_exact(REPORT_BLOCK).take(count.into());
    out.extend(blocks.filter_map(|block| {
        let losses = word(block, 4)?;
        let lost = losses & 0xff_ffff;
        Some(Feedback::Reception {
            ssrc: word(block, 0)?,
            fraction_lost: (losses >> 24) as u8,
            // 24 bits with a sign: duplicates count against losses.
            lost: if lost & 0x80_0000 == 0 { lost } else { 0 },
            jitter: word(block, 12)?,
            last_report: word(block, 16)?,
            delay: word(block, 20)?,
        })
    }));
}

fn nack(body: &[u8], nacked: &mut usize, out: &mut Vec<Feedback>) {
    let (Some(ssrc), Some(pairs)) = (word(body, 4), body.get(8..)) else { return };
    let named = pairs.chunks_exact(4).flat_map(|pair| {
        let first = u16::from_be_bytes([pair[0], pair[1]]);
        let bits = u16::from_be_bytes([pair[2], pair[3]]);
        let followers = (0..16).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| first.wrapping_add(bit + 1));
        std::iter::once(first).chain(followers)
    });
    let sequences: Vec<u16> = named.take(MOST_NACKED - *nacked).collect();
    *nacked += sequences.len();
    out.push(Feedback::Nack { ssrc, sequences });
}

/// REMB; other application layer feedback returns `None`. The media SSRC should be 0 and often is not.
fn maximum_bitrate(body: &[u8]) -> Option<u64> {
    (body.get(8..12)? == b"REMB").then_some(())?;
    let bitrate = word(body, 12)?;
    let (exponent, mantissa) = (bitrate >> 18 & 0x3f, u64::from(bitrate & 0x3_ffff));
    Some(mantissa.saturating_mul(1u64.checked_shl(exponent)?))
}

/// The blocks of an extended report.
fn extended(mut rest: &[u8], out: &mut Vec<Feedback>) {
    const DLRR: u8 = 5;
    while let Some([kind, _, high, low]) = rest.first_chunk::<4>() {
        let len = 4 * usize::from(u16::from_be_bytes([*high, *low]));
        let Some(block) = rest.get(4..4 + len) else { return };
        if *kind == DLRR {
            out.extend(block.chunks_exact(ANSWER).filter_map(|answer| {
                Some(Feedback::ReferenceAnswer {
                    ssrc: word(answer, 0)?,
                    reference: word(answer, 4)?,
                    delay: word(answer, 8)?,
                })
            }));
        }
        rest = &rest[4 + len..];
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

    /// A report, a NACK, two keyframe requests and a REMB, each as a separate packet, and the feedback in them.
    fn known() -> (Vec<Vec<u8>>, Vec<Feedback>) {
        let mut packets = vec![Vec::new(); 5];
        write::sender_report(&mut packets[0], 1, 2 << 32, 3, 4, 5);
        write::nack(&mut packets[1], 9, 1, &[5, 6, 30]);
        write::picture_loss(&mut packets[2], 9, 1);
        write::full_intra(&mut packets[3], 9, 1, 7);
        write::maximum_bitrate(&mut packets[4], 9, 1 << 20, &[1]);
        let feedback = vec![
            Feedback::SenderReport { ssrc: 1, ntp: 2 << 32, rtp: 3 },
            Feedback::Nack { ssrc: 1, sequences: vec![5, 6, 30] },
            Feedback::KeyframeRequest { ssrc: 1 },
            Feedback::KeyframeRequest { ssrc: 1 },
            Feedback::MaximumBitrate(1 << 20),
        ];
        (packets, feedback)
    }

    #[test]
    fn application_feedback_hides_no_other_packet() {
        let (packets, feedback) = known();
        // Ahead of the others: an AFB of another application, an empty one, a broken FIR, APP, an unknown type.
        let strange: [&[u8]; 5] = [
            &[0x8f, 206, 0, 3, 0, 0, 0, 9, 0, 0, 0, 1, b'L', b'N', b'T', b'F'],
            &[0x8f, 206, 0, 2, 0, 0, 0, 9, 0, 0, 0, 1],
            &[0x84, 206, 0, 1, 0, 0, 0, 9],
            &[0x80, 204, 0, 2, 0, 0, 0, 9, b'q', b't', b's', b'i'],
            &[0x80, 210, 0, 0],
        ];
        for packet in strange {
            assert_eq!(read(&[packet, &packets.concat()].concat()), feedback, "{packet:?}");
        }
    }

    #[test]
    fn remb_with_media_ssrc_is_read() {
        let mut out = Vec::new();
        write::maximum_bitrate(&mut out, 9, 2_500_000, &[1]);
        out[8..12].copy_from_slice(&1234u32.to_be_bytes());
        let [Feedback::MaximumBitrate(bits)] = read(&out)[..] else { panic!("{:?}", read(&out)) };
        assert!((2_499_000..=2_500_000).contains(&bits), "{bits}");
        // The largest that can be written does not fit 64 bits.
        out[16..20].copy_from_slice(&[1, 0xff, 0xff, 0xff]);
        assert_eq!(read(&out), [Feedback::MaximumBitrate(u64::MAX)]);
    }

    #[test]
    fn report_with_fewer_blocks_than_counted_is_read() {
        let block = write::ReportBlock { ssrc: 5, highest_sequence: 9, jitter: 8, ..write::ReportBlock::default() };
        let mut out = Vec::new();
        write::receiver_report(&mut out, 9, &[block]);
        out[0] |= 0x1f;
        assert!(matches!(read(&out)[..], [Feedback::Reception { ssrc: 5, jitter: 8, .. }]), "{:?}", read(&out));
    }

    #[test]
    fn padding_of_the_last_packet_is_not_read() {
        let mut out = Vec::new();
        write::nack(&mut out, 9, 1, &[5]);
        out[0] |= 0x20;
        out[3] += 1;
        out.extend([0, 0, 0, 4]);
        assert_eq!(read(&out), [Feedback::Nack { ssrc: 1, sequences: vec![5] }]);
        // More padding than packet: nothing is left of it.
        *out.last_mut().unwrap() = 200;
        assert_eq!(read(&out), []);
    }

    #[test]
    fn answers_to_reference_times_are_read() {
        let block = |kind: u8, words: u8| [kind, 0, 0, words];
        let answers: Vec<u8> = [1u32, 2, 3, 4, 5, 6].iter().flat_map(|word| word.to_be_bytes()).collect();
        let mut out = vec![0x80, 207, 0, 12, 0, 0, 0, 9];
        out.extend(block(4, 2));
        out.extend([0; 8]);
        out.extend(block(5, 6));
        out.extend(answers);
        out.extend(block(77, 0));
        assert_eq!(
            read(&out),
            [
                Feedback::ReferenceAnswer { ssrc: 1, reference: 2, delay: 3 },
                Feedback::ReferenceAnswer { ssrc: 4, reference: 5, delay: 6 },
            ]
        );
    }

    #[test]
    fn agrees_with_an_independent_writer() {
        use rtc_rtcp::packet::{Packet, marshal};
        use rtc_rtcp::receiver_report::ReceiverReport;
        use rtc_rtcp::reception_report::ReceptionReport;
        use rtc_rtcp::sender_report::SenderReport;
        use rtc_rtcp::transport_feedbacks::transport_layer_nack::{
            TransportLayerNack, nack_pairs_from_sequence_numbers,
        };
        let block = ReceptionReport {
            ssrc: 7,
            fraction_lost: 51,
            total_lost: 0x01_0203,
            last_sequence_number: 65_540,
            jitter: 9,
            last_sender_report: 10,
            delay: 11,
        };
        let report =
            SenderReport { ssrc: 1, ntp_time: 2, rtp_time: 3, reports: vec![block.clone()], ..SenderReport::default() };
        let sequences = vec![65_535, 0, 1, 14, 40];
        let nacks = nack_pairs_from_sequence_numbers(&sequences);
        let packets: [Box<dyn Packet>; 3] = [
            Box::new(report),
            Box::new(ReceiverReport { ssrc: 1, reports: vec![block], ..ReceiverReport::default() }),
            Box::new(TransportLayerNack { sender_ssrc: 1, media_ssrc: 7, nacks }),
        ];
        let reception =
            Feedback::Reception { ssrc: 7, fraction_lost: 51, lost: 0x01_0203, jitter: 9, last_report: 10, delay: 11 };
        assert_eq!(
            read(&marshal(&packets).unwrap()),
            [
                Feedback::SenderReport { ssrc: 1, ntp: 2, rtp: 3 },
                reception.clone(),
                reception,
                Feedback::Nack { ssrc: 7, sequences },
            ]
        );
    }

    proptest! {
        #[test]
        fn unknown_packets_change_nothing_else(
            places in proptest::collection::vec((0usize..6, 0u8..32, 208u8..224, 0usize..6), 0..8),
            garbage in proptest::collection::vec(any::<u8>(), 0..3),
        ) {
            let (mut packets, feedback) = known();
            for (place, count, kind, words) in places {
                let mut unknown = vec![0x80 | count, kind, 0, words as u8];
                unknown.resize(4 + 4 * words, 0xa5);
                packets.insert(place, unknown);
            }
            packets.push(garbage);
            prop_assert_eq!(read(&packets.concat()), feedback);
        }

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
