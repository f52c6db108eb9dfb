//! `index.m3u8` (RFC 8216): of type EVENT while the recording grows, VOD when it is complete.
//!
//! HLS has no tag for a stretch that is missing inside a segment: gaps stand as comments, players pass over them.

use std::{fmt::Write as _, time::Duration};

use jiff::Timestamp;

use crate::{
    manifest::Gap,
    types::{File, Track},
};

/// Seconds: tracks that start less than this apart start together.
const SAME_MOMENT: f64 = 0.12;

/// A segment as playlist and manifest tell of it; times in seconds of the timeline.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) number: u32,
    pub(crate) init: u32,
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) at: Timestamp,
    pub(crate) keyframe: bool,
    pub(crate) discontinuity: bool,
    /// It has samples of the main track.
    pub(crate) timed: bool,
}

/// The stretch of a part, by its main track or else the other; times in seconds of the timeline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Extent {
    pub(crate) start: f64,
    pub(crate) end: f64,
    /// It is one of the main track, which can be decoded from there.
    pub(crate) keyframe: bool,
    pub(crate) main: bool,
}

impl Entry {
    /// Adds a part. The segment starts where its main track does: audio may be written while the first frame waits for
    /// its successor.
    pub(crate) fn extend(&mut self, part: Extent) {
        if part.main && !std::mem::replace(&mut self.timed, true) {
            self.keyframe = part.keyframe;
            if part.start < self.start + SAME_MOMENT {
                self.start = part.start;
            }
        }
        self.end = self.end.max(part.end);
    }
}

/// Seconds that each segment lasts: up to the next one, where that continues it.
pub(crate) fn durations(entries: &[Entry]) -> Vec<f64> {
    let next = entries.iter().skip(1).map(Some).chain([None]);
    let duration = |(entry, next): (&Entry, Option<&Entry>)| match next {
        Some(next) if !next.discontinuity && next.start > entry.start => next.start - entry.start,
        _ => (entry.end - entry.start).max(0.001),
    };
    entries.iter().zip(next).map(duration).collect()
}

/// The playlist's text.
pub(crate) fn render(entries: &[Entry], gaps: &[Gap], segment_duration: Duration, ended: bool) -> String {
    let durations = durations(entries);
    let longest = durations.iter().copied().fold(segment_duration.as_secs_f64(), f64::max);
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n#EXT-X-PLAYLIST-TYPE:{}\n#EXT-X-INDEPENDENT-SEGMENTS\n",
        longest.ceil(),
        entries.first().map_or(0, |entry| entry.number),
        if ended { "VOD" } else { "EVENT" },
    );
    if entries.iter().any(|entry| !entry.keyframe) {
        text = text.replace("#EXT-X-INDEPENDENT-SEGMENTS\n", "");
    }
    let mut gaps = gaps.iter().peekable();
    let mut init = None;
    for (entry, duration) in entries.iter().zip(durations) {
        if entry.discontinuity {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if init != Some(entry.init) {
            init = Some(entry.init);
            let _ = writeln!(text, "#EXT-X-MAP:URI=\"{}\"", File::Init(entry.init));
        }
        let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{:.3}", entry.at);
        while let Some(gap) = gaps.next_if(|gap| gap.from < entry.end) {
            tell(&mut text, gap);
        }
        let _ = writeln!(text, "#EXTINF:{duration:.6},\n{}", File::Segment(entry.number));
    }
    if ended {
        gaps.for_each(|gap| tell(&mut text, gap));
        text.push_str("#EXT-X-ENDLIST\n");
    }
    text
}

fn tell(text: &mut String, gap: &Gap) {
    let track = if gap.track == Track::Video { "video" } else { "audio" };
    let reason = format!("{:?}", gap.reason).to_lowercase();
    let _ = writeln!(text, "## gap: {track} {:.3}-{:.3} {reason}", gap.from, gap.to);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::GapReason;

    #[test]
    fn a_playlist_tells_of_maps_discontinuities_gaps_and_the_end() {
        let entry = |number, init, start, end, discontinuity| Entry {
            number,
            init,
            start,
            end,
            at: "2026-01-02T03:04:05.6789Z".parse().unwrap(),
            keyframe: true,
            discontinuity,
            timed: true,
        };
        let entries = [entry(1, 1, 0.0, 9.9, false), entry(2, 1, 10.0, 12.0, false), entry(3, 2, 20.0, 25.0, true)];
        let gap = |from, to, reason| Gap { track: Track::Video, from, to, reason };
        let gaps = [gap(12.0, 20.0, GapReason::Source), gap(25.0, 27.5, GapReason::Disk)];
        assert_eq!(
            render(&entries, &gaps, Duration::from_secs(10), true),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-PLAYLIST-TYPE:VOD\n\
             #EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-MAP:URI=\"init-1.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:05.678Z\n\
             #EXTINF:10.000000,\nsegment-000001.m4s\n\
             #EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:05.678Z\n#EXTINF:2.000000,\nsegment-000002.m4s\n\
             #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init-2.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:05.678Z\n\
             ## gap: video 12.000-20.000 source\n#EXTINF:5.000000,\nsegment-000003.m4s\n## gap: video 25.000-27.500 disk\n#EXT-X-ENDLIST\n"
        );
    }
}
