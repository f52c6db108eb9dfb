//! `index.m3u8` while the recording grows: each closed segment appends its lines, the end appends the end tag.
//!
//! RFC 8216 §6.2.1 forbids other changes. The file is written again only where its head turned out to be wrong, which
//! happens at most once for each reason, or after a failed write.

use std::time::Duration;

use super::{Entry, Head, list_entry, list_gaps};
use crate::manifest::Gap;

/// The playlist lists at most this many gaps; the manifest lists all.
const LISTED_GAPS: usize = 1000;
/// The target duration after a segment exceeded the first one: the longest pause within a source, and a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(11);

/// A change of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Everything that it holds.
    Replace(String),
    /// Lines to append.
    Append(String),
}

/// The playlist of a growing recording.
#[derive(Debug)]
pub(crate) struct LivePlaylist {
    segment_duration: Duration,
    head: Head,
    /// With the duration that is listed.
    listed: Vec<(Entry, f64)>,
    gaps: Vec<Gap>,
    /// How many of `gaps` are in the file.
    listed_gaps: usize,
    /// Seconds of the timeline where the listed segments end.
    end: f64,
    /// The file does not hold all that is listed.
    stale: bool,
}

impl LivePlaylist {
    pub(crate) fn new(segment_duration: Duration) -> Self {
        // A segment is closed at the first frame after twice its duration at the latest. With audio, or a frame each
        // second, that is at most a second later.
        let target = (segment_duration * 2 + Duration::from_secs(1)).as_secs_f64().ceil();
        LivePlaylist {
            segment_duration,
            head: Head { target, first: 1, ended: false, independent: true },
            listed: Vec::new(),
            gaps: Vec::new(),
            listed_gaps: 0,
            end: 0.0,
            stale: true,
        }
    }

    /// Adds a gap. It is listed with the segment that contains it.
    pub(crate) fn gap(&mut self, gap: &Gap) {
        if self.gaps.len() < LISTED_GAPS {
            self.gaps.push(gap.clone());
        }
    }

    /// Appends a closed segment. `next`: where the segment after it starts, in seconds, if it continues this one.
    pub(crate) fn add(&mut self, entry: Entry, next: Option<f64>) -> Change {
        let continues = !entry.discontinuity && !self.listed.is_empty();
        let start = if continues { self.end } else { entry.start };
        // Segments together last as long as the timeline.
        self.end = next.filter(|next| *next > start).unwrap_or(entry.end).max(start + 0.001);
        let duration = self.end - start;
        // RFC 8216 §4.3.3.1: durations are rounded before they are compared.
        if duration.round() > self.head.target {
            let bound = (self.segment_duration * 2 + LONGEST_PAUSE).as_secs_f64();
            // Each time at least twice as long, so that few pauses do not make many copies.
            let least = if self.head.target < bound { bound } else { self.head.target * 2.0 };
            (self.head.target, self.stale) = (least.max(duration).ceil(), true);
        }
        if !entry.keyframe && self.head.independent {
            (self.head.independent, self.stale) = (false, true);
        }
        if self.listed.is_empty() {
            self.head.first = entry.number;
        }
        self.listed.push((entry, duration));
        if std::mem::take(&mut self.stale) { Change::Replace(self.text()) } else { Change::Append(self.newest()) }
    }

    /// Appends the end tag; nothing where no segment is listed.
    pub(crate) fn finish(&mut self) -> Option<Change> {
        if self.listed.is_empty() {
            return None;
        }
        let mut text = if self.stale { self.text() } else { String::new() };
        list_gaps(&mut text, &self.gaps[self.listed_gaps..]);
        text.push_str("#EXT-X-ENDLIST\n");
        Some(if std::mem::take(&mut self.stale) { Change::Replace(text) } else { Change::Append(text) })
    }

    /// A write failed: the file is written again, without the gaps that are `forgotten`, and without the segments from
    /// `incomplete` on.
    pub(crate) fn fail(&mut self, forgotten: &[Gap], incomplete: Option<u32>) {
        self.gaps.retain(|gap| !forgotten.contains(gap));
        if let Some(incomplete) = incomplete {
            self.listed.truncate(self.listed.partition_point(|(entry, _)| entry.number < incomplete));
        }
        self.stale = true;
    }

    fn text(&mut self) -> String {
        let mut text = self.head.text();
        self.listed_gaps = 0;
        let mut init = None;
        for (entry, duration) in &self.listed {
            let gaps = &self.gaps[self.listed_gaps..];
            self.listed_gaps += list_entry(&mut text, entry, *duration, init.replace(entry.init), gaps);
        }
        text
    }

    fn newest(&mut self) -> String {
        let mut text = String::new();
        let [.., (before, _), (entry, duration)] = &self.listed[..] else { return text };
        let gaps = &self.gaps[self.listed_gaps..];
        self.listed_gaps += list_entry(&mut text, entry, *duration, Some(before.init), gaps);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifest::GapReason, types::Track};

    fn entry(number: u32, start: f64, end: f64) -> Entry {
        Entry {
            number,
            init: 1,
            start,
            end,
            at: jiff::Timestamp::UNIX_EPOCH,
            keyframe: true,
            discontinuity: false,
            timed: true,
        }
    }

    fn live() -> LivePlaylist {
        LivePlaylist::new(Duration::from_millis(4500))
    }

    fn replaced(change: Change) -> String {
        match change {
            Change::Replace(text) => text,
            Change::Append(text) => panic!("appended: {text}"),
        }
    }

    fn appended(change: Change) -> String {
        match change {
            Change::Append(text) => text,
            Change::Replace(text) => panic!("replaced: {text}"),
        }
    }

    #[test]
    fn segments_and_end_are_appended_to_one_head() {
        let mut live = live();
        let head = replaced(live.add(entry(1, 0.0, 4.98), Some(5.0)));
        assert!(head.contains("#EXT-X-TARGETDURATION:10\n") && head.contains("#EXTINF:5.000000,\nsegment-000001"));
        live.gap(&Gap { track: Track::Video, from: 6.0, to: 7.0, reason: GapReason::Loss });
        let second = Entry { init: 2, discontinuity: true, ..entry(2, 5.5, 9.0) };
        assert_eq!(
            appended(live.add(second, None)),
            "#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init-2.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:00.000Z\n\
             ## gap: video 6.000-7.000 loss\n#EXTINF:3.500000,\nsegment-000002.m4s\n"
        );
        assert_eq!(live.finish(), Some(Change::Append("#EXT-X-ENDLIST\n".into())));
    }

    #[test]
    fn no_segment_has_no_end() {
        assert_eq!(live().finish(), None);
    }

    #[test]
    fn durations_together_are_the_timeline() {
        let mut live = live();
        let mut sum = 0.0;
        for n in 0..100 {
            let start = f64::from(n) * 5.01;
            // By its parts a segment starts or ends a packet of audio early or late.
            let change = live.add(entry(n + 1, start - 0.015, start + 5.025), Some(start + 5.01));
            let (Change::Append(text) | Change::Replace(text)) = change;
            let line = text.lines().find_map(|line| line.strip_prefix("#EXTINF:")).unwrap();
            sum += line.trim_end_matches(',').parse::<f64>().unwrap();
        }
        assert!((sum - 501.0).abs() < 0.02, "{sum}");
    }

    #[test]
    fn longer_segment_rewrites_once() {
        let mut live = live();
        replaced(live.add(entry(1, 0.0, 10.4), Some(10.4)));
        appended(live.add(entry(2, 10.4, 20.8), Some(20.8)));
        let text = replaced(live.add(entry(3, 20.8, 31.4), Some(31.4)));
        assert!(text.contains("#EXT-X-TARGETDURATION:20\n") && text.matches("#EXTINF").count() == 3, "{text}");
        appended(live.add(entry(4, 31.4, 51.4), Some(51.4)));
    }

    #[test]
    fn segment_without_keyframe_rewrites_once() {
        let mut live = live();
        assert!(replaced(live.add(entry(1, 0.0, 5.0), Some(5.0))).contains("INDEPENDENT"));
        let without = |number| Entry { keyframe: false, ..entry(number, f64::from(number) * 5.0 - 5.0, 0.0) };
        assert!(!replaced(live.add(without(2), Some(10.0))).contains("INDEPENDENT"));
        appended(live.add(without(3), Some(15.0)));
    }

    #[test]
    fn failed_write_drops_incomplete_segment() {
        let mut live = live();
        replaced(live.add(entry(1, 0.0, 5.0), Some(5.0)));
        appended(live.add(entry(2, 5.0, 10.0), Some(10.0)));
        let gap = |from| Gap { track: Track::Audio, from, to: from + 0.5, reason: GapReason::Disk };
        live.gap(&gap(5.5));
        live.gap(&gap(6.5));
        live.fail(&[gap(5.5)], Some(2));
        let text = replaced(live.add(Entry { discontinuity: true, ..entry(3, 5.0, 10.0) }, Some(10.0)));
        assert!(!text.contains("5.500") && text.contains("## gap: audio 6.500-7.000 disk\n"), "{text}");
        assert_eq!(text.matches("#EXTINF").count(), 2);
        assert!(!text.contains("segment-000002"));
    }
}
