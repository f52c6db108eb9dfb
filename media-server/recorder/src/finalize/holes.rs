//! What is missing since whole parts are: a segment that is lost or damaged, or a disk that did not keep what it took.
//!
//! Parts are numbered. Where a number is missing, and the samples around it are apart, there is a gap, unless one is told
//! of already.

use std::collections::BTreeMap;

use crate::{
    clock::seconds,
    manifest::{Gap, GapReason},
    mp4::timescale,
    record::Span,
    types::Track,
};

/// Seconds: less than this between two samples is nothing.
const SHORTEST: f64 = 0.02;

#[derive(Debug, Default)]
pub(super) struct Holes {
    /// Ticks: where the track's samples end so far, and whether parts are missing since.
    ends: BTreeMap<Track, (i64, bool)>,
    /// Parts were missing before the first samples of a track.
    missing: bool,
    /// Track, from, to: seconds.
    found: Vec<(Track, f64, f64)>,
}

impl Holes {
    /// Before the next part at least one is missing.
    pub(super) fn part_missing(&mut self) {
        self.missing = true;
        self.ends.values_mut().for_each(|(_, missing)| *missing = true);
    }

    pub(super) fn add(&mut self, span: Span) {
        let rate = timescale(span.track);
        let (end, missing) = self.ends.entry(span.track).or_insert((0, self.missing));
        if std::mem::take(missing) && span.from > *end {
            self.found.push((span.track, seconds(*end, rate), seconds(span.from, rate)));
        }
        *end = span.to;
    }

    /// What of it is not among `told`.
    pub(super) fn unmarked(&self, told: &[Gap]) -> Vec<Gap> {
        let mut unmarked = Vec::new();
        for &(track, mut from, to) in &self.found {
            let mut told: Vec<&Gap> = told.iter().filter(|gap| gap.track == track && gap.to > from).collect();
            told.sort_by(|a, b| a.from.total_cmp(&b.from));
            let mut mark = |from: f64, to: f64| {
                if to - from > SHORTEST {
                    unmarked.push(Gap { track, from, to, reason: GapReason::Disk });
                }
            };
            for gap in told {
                mark(from, gap.from.min(to));
                from = gap.to.max(from);
            }
            mark(from, to);
        }
        unmarked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: i64, seconds: i64) -> Span {
        Span { track: Track::Video, from: from * 90_000, to: (from + seconds) * 90_000 }
    }

    fn gap(from: f64, to: f64) -> Gap {
        Gap { track: Track::Video, from, to, reason: GapReason::Loss }
    }

    #[test]
    fn only_what_missing_parts_left_and_nobody_told_of_is_found() {
        let mut holes = Holes::default();
        holes.add(span(0, 1));
        holes.add(span(2, 1));
        holes.part_missing();
        holes.add(span(10, 1));
        holes.add(span(15, 1));
        let unmarked = |told: &[Gap]| holes.unmarked(told).iter().map(|gap| (gap.from, gap.to)).collect::<Vec<_>>();
        assert_eq!(unmarked(&[]), [(3.0, 10.0)]);
        assert_eq!(unmarked(&[gap(1.0, 2.0), gap(2.9, 4.0), gap(6.0, 7.0)]), [(4.0, 6.0), (7.0, 10.0)]);
        assert_eq!(unmarked(&[gap(8.0, 20.0)]), [(3.0, 8.0)]);
        assert_eq!(unmarked(&[gap(0.0, 20.0)]), []);
    }
}
