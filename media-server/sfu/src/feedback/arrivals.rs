//! Transport-wide congestion feedback: when each packet of a publisher came, told to the publisher.
//!
//! draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1. Without it a browser stays at 300 kbit/s.

use crate::sequence::Extender;
use std::collections::BTreeMap;
use std::time::Instant;

/// More than this between two reports is a flood; the oldest are not reported.
const MOST: usize = 1024;
/// Packets of one report: bounded by what fits an MTU.
const SPAN: u64 = 480;
/// Arrival times are told in units of 250 µs, reference times in 64 ms.
const TICK_MICROS: i64 = 250;
const REFERENCE_TICKS: i64 = 256;

/// Arrivals since the last report.
pub struct Arrivals {
    extender: Extender,
    epoch: Instant,
    pending: BTreeMap<u64, i64>,
    next: Option<u64>,
    count: u8,
}

impl Arrivals {
    /// Nothing came yet.
    pub fn new(now: Instant) -> Self {
        Self { extender: Extender::default(), epoch: now, pending: BTreeMap::new(), next: None, count: 0 }
    }

    /// Takes note of a packet's transport-wide sequence number.
    pub fn received(&mut self, now: Instant, sequence: u16) {
        let extended = self.extender.extend(sequence);
        let ticks = now.saturating_duration_since(self.epoch).as_micros() as i64 / TICK_MICROS;
        if self.pending.len() < MOST {
            self.pending.entry(extended).or_insert(ticks);
        }
    }

    /// Whether there is anything to report.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Appends one feedback packet (RTPFB, FMT 15) to `out`; `false` when nothing is left to report.
    pub fn write(&mut self, sender_ssrc: u32, media_ssrc: u32, out: &mut Vec<u8>) -> bool {
        let Some((&oldest, &first_arrival)) = self.pending.first_key_value() else { return false };
        // What was lost since the last report is reported too, but for a jump.
        let base = match self.next {
            Some(next) if next <= oldest && oldest - next < SPAN / 2 => next,
            _ => oldest,
        };
        let reference = first_arrival.div_euclid(REFERENCE_TICKS);
        let mut previous = reference * REFERENCE_TICKS;
        let mut symbols = Vec::new();
        let mut deltas = Vec::new();
        let mut end = base;
        while let Some((&sequence, &arrival)) = self.pending.first_key_value() {
            let delta = arrival - previous;
            let fits = i16::try_from(delta).is_ok() && sequence < base + SPAN;
            if !fits {
                break;
            }
            self.pending.pop_first();
            symbols.resize((sequence - base) as usize, 0u8);
            if let Ok(small) = u8::try_from(delta) {
                symbols.push(1);
                deltas.push(small);
            } else {
                symbols.push(2);
                deltas.extend_from_slice(&(delta as i16).to_be_bytes());
            }
            previous = arrival;
            end = sequence + 1;
        }
        self.next = Some(end);
        let start = out.len();
        out.extend_from_slice(&[0x80 | 15, 205, 0, 0]);
        out.extend_from_slice(&sender_ssrc.to_be_bytes());
        out.extend_from_slice(&media_ssrc.to_be_bytes());
        out.extend_from_slice(&(base as u16).to_be_bytes());
        out.extend_from_slice(&(symbols.len() as u16).to_be_bytes());
        out.extend_from_slice(&(reference as u32).to_be_bytes()[1..]);
        out.push(self.count);
        self.count = self.count.wrapping_add(1);
        // Status vectors of seven two-bit symbols each.
        for chunk in symbols.chunks(7) {
            let bits = chunk.iter().enumerate().fold(0u16, |bits, (n, s)| bits | u16::from(*s) << (12 - 2 * n));
            out.extend_from_slice(&(0xc000 | bits).to_be_bytes());
        }
        out.extend_from_slice(&deltas);
        out.resize(start + (out.len() - start).next_multiple_of(4), 0);
        let words = ((out.len() - start) / 4 - 1) as u16;
        out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc_rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, TransportLayerCc};
    use rtc_shared::marshal::Unmarshal;
    use std::time::Duration;

    /// Sequence number and microseconds since the reference, as an independent parser reads them.
    fn read(bytes: &[u8]) -> (TransportLayerCc, Vec<(u16, i64)>) {
        let feedback = TransportLayerCc::unmarshal(&mut &bytes[..]).unwrap();
        let mut deltas = feedback.recv_deltas.iter();
        let mut at = 0;
        let mut got = Vec::new();
        let symbols = feedback.packet_chunks.iter().flat_map(|chunk| match chunk {
            PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
            PacketStatusChunk::RunLengthChunk(_) => panic!("we write vectors"),
        });
        for (n, symbol) in symbols.take(feedback.packet_status_count.into()).enumerate() {
            if symbol as u16 != 0 {
                at += deltas.next().unwrap().delta;
                got.push((feedback.base_sequence_number.wrapping_add(n as u16), at));
            }
        }
        (feedback, got)
    }

    #[test]
    fn arrivals_are_told_with_their_losses() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        let sent = [(65_534u16, 100_000), (65_535, 101_000), (2, 103_000), (1, 103_500), (3, 180_000)];
        for (sequence, micros) in sent {
            arrivals.received(start + Duration::from_micros(micros), sequence);
        }
        let mut out = Vec::new();
        assert!(arrivals.write(1, 2, &mut out));
        assert_eq!(out.len() % 4, 0);
        let (feedback, got) = read(&out);
        assert_eq!(feedback.reference_time, 1);
        assert_eq!(feedback.packet_status_count, 6);
        let reference = 64_000;
        let told: Vec<_> = got.iter().map(|(s, at)| (*s, at + reference)).collect();
        assert_eq!(told, [(65_534, 100_000), (65_535, 101_000), (1, 103_500), (2, 103_000), (3, 180_000)]);
        out.clear();
        assert!(!arrivals.write(1, 2, &mut out));
        arrivals.received(start + Duration::from_micros(190_000), 5);
        assert!(arrivals.write(1, 2, &mut out));
        let (feedback, got) = read(&out);
        assert_eq!((feedback.base_sequence_number, got.len(), feedback.fb_pkt_count), (4, 1, 1));
    }

    #[test]
    fn a_flood_is_bounded() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        for n in 0..20_000u32 {
            arrivals.received(start + Duration::from_micros(n.into()), (n * 7) as u16);
        }
        let mut out = Vec::new();
        let mut reports = 0;
        while arrivals.write(1, 2, &mut out) {
            assert!(out.len() < 1_400);
            out.clear();
            reports += 1;
        }
        assert!(reports > 1 && reports <= MOST);
    }
}
