//! Silence in composed files, where the audio of their segments has gaps.
//!
//! Chromium plays audio by counting its samples: audio after a gap would play too early. It also drops samples with a lower
//! offset in the file than the samples before them, so each gap has its own packets: two of digital silence, and then frames
//! of length zero, which a decoder conceals by more silence (RFC 6716 §4.4). They take 5 kB a minute, or 1 kB as runs of their
//! own.

use shiguredo_mp4::boxes::{TrunBox, TrunSample};

use crate::depacketize::opus_silence;

/// Ticks of 48 kHz in a short packet, 20 ms. A gap that is shorter is left.
const SHORT: u32 = 960;
/// Ticks of 48 kHz in a long packet, 120 ms.
pub(super) const LONG: u32 = 6 * SHORT;
/// A long packet: six frames of length zero (RFC 6716 §3.2.5).
pub(super) const LONG_PACKET: [u8; 2] = [0xfb, 6];
/// Ticks of 48 kHz in the longest gap that is filled: 10 minutes. A segment of the usual length has no room for more.
const LONGEST: u32 = 600 * 48_000;
/// Short packets in front of the long ones, which repeat the audio before them.
const SHORT_PACKETS: u32 = 2;

/// The packets that fill a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    short: u32,
    long: u32,
    /// Ticks that are left; the last short packet lasts as much longer.
    rest: u32,
}

impl Silence {
    /// Returns silence of this many ticks; none for less than 20 ms or more than 10 minutes.
    pub(super) fn of(ticks: i64) -> Option<Silence> {
        let ticks = u32::try_from(ticks).ok().filter(|ticks| *ticks <= LONGEST)?;
        let packets = Some(ticks / SHORT).filter(|packets| *packets > 0)?;
        let long = packets.saturating_sub(SHORT_PACKETS) / (LONG / SHORT);
        Some(Silence { short: packets - long * (LONG / SHORT), long, rest: ticks % SHORT })
    }

    /// Returns its duration.
    pub(super) fn ticks(self) -> i64 {
        i64::from(self.short * SHORT + self.rest) + i64::from(self.long) * i64::from(LONG)
    }

    /// Returns the length of its packets in bytes.
    pub(super) fn len(self) -> usize {
        self.short as usize * short_packet().len() + self.long as usize * LONG_PACKET.len()
    }

    /// Returns the packets.
    pub(super) fn bytes(self) -> Vec<u8> {
        let short = short_packet().repeat(self.short as usize);
        [short, LONG_PACKET.repeat(self.long as usize)].concat()
    }

    /// Returns the samples of its packets.
    pub(super) fn samples(self) -> Vec<TrunSample> {
        let sample = |duration, size: usize| TrunSample {
            duration: Some(duration),
            size: u32::try_from(size).ok(),
            flags: None,
            composition_time_offset: None,
        };
        let mut samples = vec![sample(SHORT, short_packet().len()); self.short as usize];
        if let Some(last) = samples.last_mut() {
            last.duration = Some(SHORT + self.rest);
        }
        samples.resize(samples.len() + self.long as usize, sample(LONG, LONG_PACKET.len()));
        samples
    }

    /// Returns the boxes for packets that lie at `at`. Duration and size of the long ones are the defaults of the `traf`.
    pub(super) fn truns(self, at: usize) -> Vec<TrunBox> {
        let mut short = self.samples();
        let mut long = short.split_off(self.short as usize);
        long.iter_mut().for_each(|sample| (sample.duration, sample.size) = (None, None));
        let long_at = at + short_packet().len() * short.len();
        let trun = |at: usize, samples: Vec<TrunSample>| TrunBox {
            data_offset: i32::try_from(at).ok(),
            first_sample_flags: None,
            samples,
        };
        let all = [trun(at, short), trun(long_at, long)];
        all.into_iter().filter(|trun| !trun.samples.is_empty()).collect()
    }
}

fn short_packet() -> &'static [u8] {
    opus_silence(u64::from(SHORT)).map_or(&[], |(packet, _)| packet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shiguredo_mp4::Encode as _;

    #[test]
    fn silence_lasts_as_long_as_the_gap() {
        for gap in [960, 961, 5760, 6719, 7680, 150_000, 48_000 * 60 + 17, 48_000 * 600] {
            let silence = Silence::of(gap).unwrap();
            let truns = silence.truns(1000);
            let (mut lasts, mut at) = (0, 1000);
            for trun in &truns {
                assert_eq!(trun.data_offset, Some(at as i32), "packets follow each other");
                for sample in &trun.samples {
                    lasts += i64::from(sample.duration.unwrap_or(LONG));
                    at += sample.size.map_or(LONG_PACKET.len(), |size| size as usize);
                }
            }
            assert_eq!(
                (lasts, silence.ticks(), at - 1000, silence.len()),
                (gap, gap, silence.bytes().len(), at - 1000)
            );
            assert!(silence.bytes().starts_with(short_packet()));
        }
        assert_eq!(Silence::of(959), None);
        assert_eq!(Silence::of(-1), None);
        assert_eq!(Silence::of(48_000 * 600 + 1), None);
    }

    #[test]
    fn minute_of_silence_takes_a_kilobyte() {
        let silence = Silence::of(48_000 * 60).unwrap();
        let boxes: usize = silence.truns(0).iter().map(|trun| trun.encode_to_vec().unwrap().len()).sum();
        assert!(boxes + silence.bytes().len() < 1200, "{boxes}");
    }
}
