//! Decoding times of frames that are sent in another order than they are shown (B-frames).
//!
//! RTP timestamps are presentation times. MP4 needs a decoding time per sample: rising, and none after the presentation,
//! or players built on FFmpeg shift the track. Frames that are reordered by `depth` get the presentation time of the frame
//! that is shown `depth` frames before the newest. The depth is found as frames arrive; the samples around a change of it
//! move closer together.

use crate::mp4::part::Sample;

/// Frames of H264 are reordered by at most 16 (ISO/IEC 14496-10 A.3.1); more are timestamps without order.
const MAX_DEPTH: usize = 16;

/// The decoding order of a track.
#[derive(Clone, Debug, Default)]
pub(crate) struct DecodeOrder {
    /// By how many frames the order differs.
    depth: usize,
    /// The latest presentation times, one more than the depth, rising.
    latest: Vec<i64>,
}

impl DecodeOrder {
    /// Returns the decoding time of the next frame, which is presented at `pts`.
    pub(crate) fn decode_time(&mut self, pts: i64) -> i64 {
        let full = self.latest.len() > self.depth;
        if full && self.latest.first().is_some_and(|least| pts < *least) && self.depth < MAX_DEPTH {
            self.depth += 1;
        }
        let at = self.latest.partition_point(|known| *known <= pts);
        self.latest.insert(at, pts);
        if self.latest.len() > self.depth + 1 {
            self.latest.remove(0);
        }
        self.latest.first().copied().unwrap_or(pts)
    }

    /// Returns whether frames arrived in another order than that of presentation.
    pub(crate) fn is_reordered(&self) -> bool {
        self.depth > 0
    }

    /// Drops the frames and keeps the depth: later frames have another timeline.
    pub(crate) fn restart(&mut self) {
        self.latest.clear();
    }
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
    use super::*;

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
