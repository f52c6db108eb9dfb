//! Decoding times of frames that are sent in another order than they are shown (B-frames).
//!
//! RTP timestamps are presentation times. MP4 needs a decoding time per sample: rising, and none after the presentation,
//! or players built on FFmpeg shift the track. Frames that are reordered by `depth` get the presentation time of the frame
//! that is shown `depth` frames before the newest. Encoders state the depth in the sequence parameter set. Where they do
//! not, it is found as frames arrive, and the samples around a change of it move closer together. That takes samples that
//! are not written yet: at a few frames per second they are, and the frames around the change are presented too early.

use h264_reader::{nal::sps::SeqParameterSet, rbsp};
use shiguredo_mp4::boxes::SampleEntry;

use crate::mp4::part::Sample;

/// Frames of H264 are reordered by at most 16 (ISO/IEC 14496-10 A.3.1); more are timestamps without order.
const MAX_DEPTH: usize = 16;
/// Largest depth that is taken from a parameter set; x264 uses 2. Some encoders state the most that their level allows
/// and reorder nothing, and each frame of depth delays decoding by one.
const MAX_STATED_DEPTH: usize = 4;

/// The decoding order of a track.
#[derive(Clone, Debug, Default)]
pub(crate) struct DecodeOrder {
    /// By how many frames the order differs.
    depth: usize,
    /// The encoder states that it reorders frames.
    stated: bool,
    /// The latest presentation times, one more than the depth, rising.
    latest: Vec<i64>,
}

impl DecodeOrder {
    /// Adopts a depth that the encoder states. The depth never decreases.
    pub(crate) fn adopt_depth(&mut self, stated: usize) {
        let stated = stated.min(MAX_STATED_DEPTH);
        self.stated |= stated > 0;
        self.depth = self.depth.max(stated);
    }

    /// Returns the decoding time of the next frame, which is presented at `pts`.
    pub(crate) fn decode_time(&mut self, pts: i64) -> i64 {
        if self.is_settled() && self.earliest().is_some_and(|least| pts < least) && self.depth < MAX_DEPTH {
            self.depth += 1;
        }
        let at = self.latest.partition_point(|known| *known <= pts);
        self.latest.insert(at, pts);
        if self.latest.len() > self.depth + 1 {
            self.latest.remove(0);
        }
        self.earliest().unwrap_or(pts)
    }

    /// Returns whether enough frames have arrived for exact decoding times.
    pub(crate) fn is_settled(&self) -> bool {
        self.latest.len() > self.depth
    }

    /// Returns the earliest presentation time that the next frame may have without a greater depth.
    pub(crate) fn earliest(&self) -> Option<i64> {
        self.latest.first().copied()
    }

    /// Returns by how many frames the order differs.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Returns whether the encoder states that it reorders frames. Without that, a step back of a clock looks the same.
    pub(crate) fn is_stated(&self) -> bool {
        self.stated
    }

    /// Returns whether frames arrive in another order than that of presentation.
    pub(crate) fn is_reordered(&self) -> bool {
        self.depth > 0
    }

    /// Drops the frames and keeps the depth: later frames have another timeline.
    pub(crate) fn restart(&mut self) {
        self.latest.clear();
    }
}

/// Returns `max_num_reorder_frames` of the sequence parameter set (ITU-T H.264 E.2.1) in a keyframe's sample entry, where it
/// has one.
pub(crate) fn stated_depth(entry: &SampleEntry) -> Option<usize> {
    let SampleEntry::Avc1(avc1) = entry else { return None };
    let unit = rbsp::decode_nal(avc1.avcc_box.sps_list.first()?).ok()?;
    let set = SeqParameterSet::from_bits(rbsp::BitReader::new(&*unit)).ok()?;
    usize::try_from(set.vui_parameters?.bitstream_restrictions?.max_num_reorder_frames).ok()
}

/// Makes room before `dts` for the next sample: the newest samples are spread evenly from the newest one that is early
/// enough. Returns `false` and changes nothing when there is none among them.
pub(crate) fn make_room(samples: &mut [Sample], dts: i64) -> bool {
    let fits = |at: usize, sample: &Sample| dts - sample.dts > (samples.len() - 1 - at) as i64;
    let Some(anchor) = samples.iter().enumerate().rposition(|(at, sample)| fits(at, sample)) else { return false };
    let Some(moved) = samples.get_mut(anchor..) else { return false };
    let (start, count) = (moved.first().map_or(dts, |anchor| anchor.dts), moved.len() as i64);
    let place = |n: i64| start + (dts - start) * n / count;
    for (n, sample) in (0..).zip(moved) {
        let pts = sample.dts + i64::from(sample.cts);
        sample.dts = place(n);
        sample.cts = i32::try_from(pts - sample.dts).unwrap_or(0);
        sample.duration = u32::try_from(place(n + 1) - sample.dts).unwrap_or(0);
    }
    true
}

#[cfg(test)]
mod tests {
    use shiguredo_mp4::bitstream::h264::{H264SampleEntryConfig, LengthSize, build_avc1_box};

    use super::*;

    // 320x240 of x264: without B-frames, the same with 16 stated in its place, and with two B-frames in a row.
    const IN_ORDER: &[u8] = &[
        0x67, 0x42, 0xc0, 0x0b, 0xd9, 0x01, 0x41, 0xfb, 0x01, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 0, 0xa0, 0xf1, 0x42,
        0xa4, 0x80,
    ];
    const REORDERED_BY_16: &[u8] = &[
        0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x01, 0x41, 0xfb, 0x01, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 0, 0xa0, 0xf1, 0x42,
        0x82, 0x21, 0x18,
    ];
    const REORDERED: &[u8] = &[
        0x67, 0x4d, 0x40, 0x0b, 0xe8, 0x80, 0xa0, 0xfd, 0x80, 0x88, 0, 0, 3, 0, 8, 0, 0, 3, 0, 0x50, 0x78, 0xa1, 0x48,
        0x90,
    ];
    const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x20];

    fn entry(sps: &[u8]) -> SampleEntry {
        let config = H264SampleEntryConfig { length_size: LengthSize::FourBytes };
        SampleEntry::Avc1(build_avc1_box(&[sps.to_vec()], &[PPS.to_vec()], &config).unwrap())
    }

    fn times(order: &[i64]) -> Vec<i64> {
        let mut decode = DecodeOrder::default();
        order.iter().map(|pts| decode.decode_time(*pts)).collect()
    }

    #[test]
    fn frames_in_order_are_decoded_when_shown() {
        assert_eq!(times(&[0, 3, 6, 9]), [0, 3, 6, 9]);
    }

    #[test]
    fn reordered_frames_are_decoded_at_even_times() {
        // I P B B P B B: the third reveals the order.
        assert_eq!(times(&[0, 9, 3, 6, 18, 12, 15, 27, 21, 24])[2..], [3, 6, 9, 12, 15, 18, 21, 24]);
        // A pyramid of three B-frames: the fourth reveals it.
        assert_eq!(times(&[0, 12, 6, 3, 9, 24, 18, 15, 21])[3..], [3, 6, 9, 12, 15, 18]);
    }

    #[test]
    fn stated_depth_needs_no_reordered_frame() {
        // I P B B P B B: the first frames have the same time, and the lane puts a tick between them.
        let mut decode = DecodeOrder::default();
        decode.adopt_depth(stated_depth(&entry(REORDERED)).unwrap());
        let times = [0, 9, 3, 6, 18, 12, 15].map(|pts| decode.decode_time(pts));
        assert_eq!(times, [0, 0, 3, 6, 9, 12, 15]);
        // A later parameter set without reordering takes nothing back.
        decode.adopt_depth(stated_depth(&entry(IN_ORDER)).unwrap());
        assert_eq!([27, 21, 24].map(|pts| decode.decode_time(pts)), [18, 21, 24]);
    }

    #[test]
    fn stated_depth_is_optional_and_bounded() {
        assert_eq!(stated_depth(&entry(REORDERED)), Some(1));
        assert_eq!(stated_depth(&entry(IN_ORDER)), Some(0));
        // 320x240 Baseline without restrictions of the bitstream.
        let silent = [0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x07, 0xe4, 0xc0, 0x44, 0, 0, 3, 0, 4, 0, 0, 3, 0, 0xf0];
        assert_eq!(stated_depth(&entry(&silent)), None);
        assert_eq!(stated_depth(&entry(REORDERED_BY_16)), Some(16));
        let mut decode = DecodeOrder::default();
        decode.adopt_depth(16);
        assert_eq!(decode.depth, MAX_STATED_DEPTH);
    }

    #[test]
    fn depth_is_bounded() {
        let falling: Vec<i64> = (0..100).map(|n| 1000 - n).collect();
        assert!(times(&falling).len() == 100);
        let mut decode = DecodeOrder::default();
        for pts in &falling {
            decode.decode_time(*pts);
        }
        assert!(decode.depth == MAX_DEPTH && decode.latest.len() == MAX_DEPTH + 1);
    }

    #[test]
    fn samples_move_together_and_keep_their_presentation() {
        let sample = |dts, duration| Sample { data: vec![], dts, duration, cts: 0, sync: false };
        let mut samples = [sample(0, 9), sample(9, 0)];
        assert!(make_room(&mut samples, 4));
        let places = samples.each_ref().map(|sample| (sample.dts, sample.duration, sample.dts + i64::from(sample.cts)));
        assert_eq!(places, [(0, 2, 0), (2, 2, 9)]);
        assert!(!make_room(&mut samples, 1), "no room for two");
    }
}
