//! `index.m3u8` (RFC 8216): of type EVENT while the recording grows ([`live`]), VOD when it is complete.
//!
//! HLS has no tag for a stretch that is missing inside a segment: gaps stand as comments, players pass over them.

pub(crate) mod live;

use std::fmt::Write as _;

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

/// The tags in front of the first segment.
#[derive(Clone, Copy, Debug)]
struct Head {
    /// Seconds.
    target: f64,
    /// Number of the first segment.
    first: u32,
    ended: bool,
    /// All segments start with a keyframe.
    independent: bool,
}

impl Head {
    fn text(self) -> String {
        let Head { target, first, ended, independent } = self;
        let kind = if ended { "VOD" } else { "EVENT" };
        let independent = if independent { "#EXT-X-INDEPENDENT-SEGMENTS\n" } else { "" };
        format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
             #EXT-X-PLAYLIST-TYPE:{kind}\n{independent}"
        )
    }
}

/// Returns the playlist of a finished recording.
pub(crate) fn render(entries: &[Entry], gaps: &[Gap]) -> String {
    let durations = durations(entries);
    let head = Head {
        target: durations.iter().copied().fold(0.0, f64::max).ceil(),
        first: entries.first().map_or(0, |entry| entry.number),
        ended: true,
        independent: entries.iter().all(|entry| entry.keyframe),
    };
    let mut text = head.text();
    let mut gaps = gaps;
    let mut init = None;
    for (entry, duration) in entries.iter().zip(durations) {
        gaps = &gaps[list_entry(&mut text, entry, duration, init.replace(entry.init), gaps)..];
    }
    list_gaps(&mut text, gaps);
    text.push_str("#EXT-X-ENDLIST\n");
    text
}

/// Writes the lines of a segment. `init`: number of the init segment before it. Returns how many of `gaps` it listed:
/// those that start before its end.
fn list_entry(text: &mut String, entry: &Entry, duration: f64, init: Option<u32>, gaps: &[Gap]) -> usize {
    if entry.discontinuity {
        text.push_str("#EXT-X-DISCONTINUITY\n");
    }
    if init != Some(entry.init) {
        let _ = writeln!(text, "#EXT-X-MAP:URI=\"{}\"", File::Init(entry.init));
    }
    let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{:.3}", entry.at);
    let listed = gaps.iter().take_while(|gap| gap.from < entry.end).count();
    list_gaps(text, &gaps[..listed]);
    let _ = writeln!(text, "#EXTINF:{duration:.6},\n{}", File::Segment(entry.number));
    listed
}

fn list_gaps(text: &mut String, gaps: &[Gap]) {
    for gap in gaps {
        let track = if gap.track == Track::Video { "video" } else { "audio" };
        let reason = format!("{:?}", gap.reason).to_lowercase();
        let _ = writeln!(text, "## gap: {track} {:.3}-{:.3} {reason}", gap.from, gap.to);
    }
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
            render(&entries, &gaps),
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
