//! The SSRCs of one publisher, and which of them feeds each of its two tracks.
//!
//! Bound: [`MOST_STREAMS`] entries. A new SSRC evicts the one heard least recently, never one that feeds a track or is about
//! to: those are at most four. State is created only by authentic packets or by the offer.
//!
//! Takeover: an encoder that restarts sends under a new SSRC (RFC 3550 §8), often without a pause. The new SSRC is a candidate
//! while the old one is still heard. Its packets are held behind the ones of the old (see `preroll`), so that its first keyframe
//! is not lost, and it feeds the track as soon as the old one has been silent for [`RESTART_SILENCE`], or for twice its own
//! longest pause. Of two SSRCs that send at the same time the first stays, and the other is held only for [`HELD`].
//! An SSRC that has fed the track before returns only after [`RETURN_SILENCE`], and takeovers are [`TAKEOVER_EVERY`] apart, so
//! that two that alternate do not take turns.

use crate::feedback::reception::Reception;
use crate::parameters::MediaKind;
use crate::shard::policer::Gate;
use std::time::{Duration, Instant};

/// Entries of one publisher.
const MOST_STREAMS: usize = 8;
/// The shortest silence of an SSRC after which a new one of its kind feeds the track.
const RESTART_SILENCE: Duration = Duration::from_millis(100);
/// The same for one that has fed the track before.
const RETURN_SILENCE: Duration = Duration::from_millis(500);
/// No SSRC needs to be silent for longer, whatever its own pauses.
const LONGEST_SILENCE: Duration = Duration::from_secs(2);
/// Time between two takeovers of a track.
const TAKEOVER_EVERY: Duration = Duration::from_millis(250);
/// A candidate's packets are held this long; one that lasts longer is a second stream, not a restart.
const HELD: Duration = Duration::from_secs(3);
/// An SSRC's longest pause is measured over one to two of these.
const PAUSE_WINDOW: Duration = Duration::from_secs(5);
/// Packets of unknown SSRCs that are decrypted in a second: most of a flood of forged ones is dropped unopened.
const UNKNOWN_PER_SECOND: u32 = 200;

/// Media, or retransmissions of media.
pub(super) struct Stream {
    pub(super) ssrc: u32,
    pub(super) kind: MediaKind,
    pub(super) repair: bool,
    pub(super) reception: Option<Box<Reception>>,
    pub(super) gate: Gate,
    heard: Option<Instant>,
    /// The longest pauses of this window and of the one before.
    pauses: [Duration; 2],
    window: Option<Instant>,
    /// It has fed its track.
    fed: bool,
    /// The media SSRC that this one repeats, from the offer.
    repairs: Option<u32>,
}

impl Stream {
    fn new(ssrc: u32, kind: MediaKind, repair: bool, repairs: Option<u32>) -> Self {
        Self {
            ssrc,
            kind,
            repair,
            reception: None,
            gate: Gate::default(),
            heard: None,
            pauses: [Duration::ZERO; 2],
            window: None,
            fed: false,
            repairs,
        }
    }

    fn hear(&mut self, now: Instant) {
        if self.window.is_none_or(|start| now.saturating_duration_since(start) >= PAUSE_WINDOW) {
            self.window = Some(now);
            self.pauses = [Duration::ZERO, self.pauses[0]];
        }
        if let Some(heard) = self.heard.replace(now) {
            self.pauses[0] = self.pauses[0].max(now.saturating_duration_since(heard));
        }
    }

    fn silence(&self, now: Instant) -> Duration {
        self.heard.map_or(Duration::MAX, |heard| now.saturating_duration_since(heard))
    }

    fn longest_pause(&self) -> Duration {
        self.pauses[0].max(self.pauses[1])
    }
}

/// Which SSRC feeds a track, and which may be next.
#[derive(Default)]
struct Selection {
    feeding: Option<u32>,
    /// The room forwards media of `feeding`.
    started: bool,
    candidate: Option<(u32, Instant)>,
    changed: Option<Instant>,
}

/// Counts of SSRCs that were evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) lost: u64,
    pub(super) repaired: u64,
}

impl Counts {
    fn add(&mut self, reception: &Reception) {
        self.packets += reception.packets();
        self.bytes += reception.bytes();
        self.lost += reception.lost();
        self.repaired += reception.repaired();
    }
}

/// The table of SSRCs.
#[derive(Default)]
pub(super) struct Streams {
    entries: Vec<Stream>,
    audio: Selection,
    video: Selection,
    evicted: Counts,
    changes: u64,
    unknown: (Option<Instant>, u32),
}

impl Streams {
    /// Adds the SSRCs that the offer names for a track.
    pub(super) fn announce(&mut self, kind: MediaKind, ssrc: Option<u32>, rtx: Option<u32>) {
        for (ssrc, repair, of) in [(ssrc, false, None), (rtx, true, ssrc)] {
            if let Some(ssrc) = ssrc.filter(|ssrc| !self.contains(*ssrc)) {
                self.entries.push(Stream::new(ssrc, kind, repair, of));
            }
        }
    }

    pub(super) fn contains(&self, ssrc: u32) -> bool {
        self.entries.iter().any(|stream| stream.ssrc == ssrc)
    }

    /// Returns whether a packet of an unknown SSRC may be decrypted now.
    pub(super) fn allow_unknown(&mut self, now: Instant) -> bool {
        let (start, count) = &mut self.unknown;
        if start.is_none_or(|start| now.saturating_duration_since(start) >= Duration::from_secs(1)) {
            (*start, *count) = (Some(now), 0);
        }
        *count = count.saturating_add(1);
        *count <= UNKNOWN_PER_SECOND
    }

    /// Records an authentic packet of `ssrc`, which belongs to `kind` if it is new. Returns the kind, whether it repeats media,
    /// and whether its media is forwarded to the room.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        ssrc: u32,
        (kind, repair): (MediaKind, bool),
    ) -> (MediaKind, bool, bool) {
        if !self.contains(ssrc) {
            self.evict();
            self.entries.push(Stream::new(ssrc, kind, repair, None));
        }
        let (kind, repair) = self.get(ssrc).map_or((kind, repair), |stream| (stream.kind, stream.repair));
        let forwarded = repair || self.select(now, kind, ssrc);
        if let Some(stream) = self.get_mut(ssrc) {
            stream.hear(now);
        }
        (kind, repair, forwarded)
    }

    /// Makes room for an entry.
    fn evict(&mut self) {
        if self.entries.len() < MOST_STREAMS {
            return;
        }
        let used = self.used_ssrcs();
        let idle = self.entries.iter().enumerate().filter(|(_, stream)| !used.contains(&Some(stream.ssrc)));
        if let Some(position) = idle.min_by_key(|(_, stream)| stream.heard).map(|(position, _)| position) {
            let stream = self.entries.remove(position);
            stream.reception.iter().for_each(|reception| self.evicted.add(reception));
        }
    }

    /// Decides whether media of `ssrc` is forwarded to the room, and whether it takes over.
    fn select(&mut self, now: Instant, kind: MediaKind, ssrc: u32) -> bool {
        let Selection { feeding, candidate, changed, started } = *self.selection(kind);
        if feeding == Some(ssrc) {
            return true;
        }
        let Some(fed) = self.get(ssrc).map(|stream| stream.fed) else { return false };
        let Some(feeder) = feeding.and_then(|feeding| self.get(feeding)) else {
            self.take_over(kind, ssrc, None);
            return true;
        };
        let shortest = if fed { RETURN_SILENCE } else { RESTART_SILENCE };
        let needed = (2 * feeder.longest_pause()).clamp(shortest, LONGEST_SILENCE);
        let silence = feeder.silence(now);
        let since = match candidate {
            Some((other, _)) if other != ssrc && self.get(other).is_some_and(|s| s.silence(now) < needed) => {
                return false;
            }
            Some((same, since)) if same == ssrc => since,
            _ => {
                self.selection_mut(kind).candidate = Some((ssrc, now));
                now
            }
        };
        if silence >= needed && changed.is_none_or(|at| now.saturating_duration_since(at) >= TAKEOVER_EVERY) {
            self.changes += 1;
            self.take_over(kind, ssrc, Some(now));
            return true;
        }
        // A straggler of the last one that fed the track is no restart.
        started && !fed && now.saturating_duration_since(since) < HELD
    }

    fn take_over(&mut self, kind: MediaKind, ssrc: u32, changed: Option<Instant>) {
        *self.selection_mut(kind) = Selection { feeding: Some(ssrc), started: false, candidate: None, changed };
        if let Some(stream) = self.get_mut(ssrc) {
            stream.fed = true;
        }
    }

    /// Records that the room forwards media of `ssrc`.
    pub(super) fn start(&mut self, kind: MediaKind, ssrc: u32) {
        let selection = self.selection_mut(kind);
        selection.started |= selection.feeding == Some(ssrc);
    }

    /// Returns whether `ssrc` feeds its track.
    pub(super) fn feeds(&self, kind: MediaKind, ssrc: u32) -> bool {
        self.selection(kind).feeding == Some(ssrc)
    }

    /// Returns the media SSRC that feeds the track; until one is heard, the one that was announced.
    pub(super) fn media_ssrc(&self, kind: MediaKind) -> Option<u32> {
        let announced = || self.entries.iter().find(|stream| stream.kind == kind && !stream.repair);
        self.selection(kind).feeding.or_else(|| announced().map(|stream| stream.ssrc))
    }

    /// Returns the media SSRC of which `repair` repeats the packet `sequence`: the announced one while that is in use, else the
    /// one in use that has requested the packet, else one that lacks it.
    pub(super) fn repaired_ssrc(&self, repair: u32, sequence: u16) -> Option<u32> {
        let stream = self.get(repair)?;
        let selection = self.selection(stream.kind);
        let mut used = [selection.feeding, selection.candidate.map(|(ssrc, _)| ssrc)].into_iter().flatten();
        if let Some(announced) = stream.repairs.filter(|ssrc| used.clone().any(|used| used == *ssrc)) {
            return Some(announced);
        }
        let reception = |ssrc: u32| self.get(ssrc).and_then(|stream| stream.reception.as_deref());
        let awaits = |ssrc: &u32| reception(*ssrc).is_some_and(|reception| reception.awaits(sequence));
        let lacks = |ssrc: &u32| reception(*ssrc).is_some_and(|reception| reception.lacks(sequence));
        used.clone().find(awaits).or_else(|| used.find(lacks))
    }

    /// Returns the media SSRCs in use: those that feed a track or may be next.
    pub(super) fn used_ssrcs(&self) -> [Option<u32>; 4] {
        let [audio, video] = [&self.audio, &self.video].map(|s| (s.feeding, s.candidate.map(|(ssrc, _)| ssrc)));
        [video.0, audio.0, video.1, audio.1]
    }

    /// Returns the entries of [`Streams::used_ssrcs`].
    pub(super) fn used(&self) -> impl Iterator<Item = &Stream> {
        self.used_ssrcs().into_iter().flatten().filter_map(|ssrc| self.get(ssrc))
    }

    pub(super) fn get(&self, ssrc: u32) -> Option<&Stream> {
        self.entries.iter().find(|stream| stream.ssrc == ssrc)
    }

    pub(super) fn get_mut(&mut self, ssrc: u32) -> Option<&mut Stream> {
        self.entries.iter_mut().find(|stream| stream.ssrc == ssrc)
    }

    /// Returns the counts of all SSRCs so far.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.evicted;
        let receptions = self.entries.iter().filter_map(|stream| stream.reception.as_deref());
        receptions.for_each(|reception| counts.add(reception));
        counts
    }

    /// Returns how often a new SSRC took over.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    fn selection(&self, kind: MediaKind) -> &Selection {
        match kind {
            MediaKind::Audio => &self.audio,
            MediaKind::Video => &self.video,
        }
    }

    fn selection_mut(&mut self, kind: MediaKind) -> &mut Selection {
        match kind {
            MediaKind::Audio => &mut self.audio,
            MediaKind::Video => &mut self.video,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: (MediaKind, bool) = (MediaKind::Video, false);
    const REPAIR: (MediaKind, bool) = (MediaKind::Video, true);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Hears `ssrc` every `every` from `from` up to `until`; returns when it first fed the track.
    fn send(streams: &mut Streams, ssrc: u32, from: Instant, until: Instant, every: Duration) -> Option<Instant> {
        let mut first = None;
        let mut now = from;
        while now < until {
            streams.hear(now, ssrc, VIDEO);
            if streams.feeds(MediaKind::Video, ssrc) {
                streams.start(MediaKind::Video, ssrc);
                first.get_or_insert(now);
            }
            now += every;
        }
        first
    }

    #[test]
    fn restarts_are_followed_for_ever() {
        for (pause, rtx) in [(ms(0), false), (ms(0), true), (ms(2300), false), (ms(2300), true)] {
            let mut streams = Streams::default();
            let mut now = Instant::now();
            for n in 0..1000u32 {
                let until = now + ms(600);
                let fed = send(&mut streams, 10 + 2 * n, now, until, ms(33)).unwrap();
                assert!(fed - now <= ms(140), "change {n} after {:?}, pause {pause:?}", fed - now);
                if rtx {
                    streams.hear(until, 11 + 2 * n, REPAIR);
                }
                assert!(streams.entries.len() <= MOST_STREAMS);
                now = until + pause;
            }
            assert_eq!(streams.changes(), 999);
        }
    }

    #[test]
    fn candidate_is_held_until_the_first_is_silent() {
        let mut streams = Streams::default();
        let start = Instant::now();
        assert!(streams.hear(start, 1, VIDEO).2);
        assert!(!streams.hear(start, 2, VIDEO).2, "the room has nothing of the first yet");
        streams.start(MediaKind::Video, 1);
        let held = |streams: &mut Streams, at: u64| streams.hear(start + ms(at), 2, VIDEO).2;
        assert!(held(&mut streams, 10) && streams.feeds(MediaKind::Video, 1));
        assert!(!streams.hear(start + ms(20), 3, VIDEO).2, "one candidate at a time");
        assert!(held(&mut streams, 99) && streams.feeds(MediaKind::Video, 1));
        assert!(held(&mut streams, 250) && streams.feeds(MediaKind::Video, 2));
    }

    #[test]
    fn second_simultaneous_stream_never_feeds() {
        let mut streams = Streams::default();
        let start = Instant::now();
        let mut held = 0;
        for n in 0..600 {
            let now = start + ms(33) * n;
            streams.hear(now, 1, VIDEO);
            streams.start(MediaKind::Video, 1);
            held += u64::from(streams.hear(now + ms(10), 2, VIDEO).2);
            assert!(streams.feeds(MediaKind::Video, 1));
        }
        assert!((88..=92).contains(&held), "{held} packets were held, three seconds of them");
    }

    #[test]
    fn alternating_streams_do_not_take_turns() {
        let mut streams = Streams::default();
        let start = Instant::now();
        for n in 0..100 {
            let now = start + ms(200) * n;
            send(&mut streams, 1 + n % 2, now, now + ms(200), ms(33));
        }
        assert!(streams.changes() <= 2, "{} changes", streams.changes());
    }

    #[test]
    fn slow_stream_is_not_taken_for_silent() {
        let mut streams = Streams::default();
        let start = Instant::now();
        for n in 0..20 {
            let now = start + ms(400) * n;
            streams.hear(now, 1, VIDEO);
            if n > 5 {
                streams.hear(now + ms(390), 2, VIDEO);
            }
        }
        assert!(streams.feeds(MediaKind::Video, 1));
    }

    #[test]
    fn eviction_spares_used_entries_and_keeps_counts() {
        let mut streams = Streams::default();
        let now = Instant::now();
        streams.announce(MediaKind::Video, Some(1), Some(2));
        streams.hear(now, 1, VIDEO);
        let mut reception = Reception::new(now, 1, 90_000);
        reception.received(now, 7, 0, 100, false);
        for n in 0..100u32 {
            streams.hear(now + ms(1), 100 + n, VIDEO);
            if let Some(stream) = streams.get_mut(100 + n) {
                let mut reception = Reception::new(now, 100 + n, 90_000);
                reception.received(now, 7, 0, 100, false);
                stream.reception = Some(Box::new(reception));
            }
        }
        assert_eq!((streams.entries.len(), streams.contains(1), streams.contains(100)), (MOST_STREAMS, true, true));
        assert_eq!(streams.counts().packets, 100);
    }

    #[test]
    fn retransmission_belongs_to_the_ssrc_that_requested_it() {
        let mut streams = Streams::default();
        let now = Instant::now();
        streams.hear(now, 1, VIDEO);
        streams.start(MediaKind::Video, 1);
        assert!(streams.hear(now, 2, VIDEO).2, "a candidate");
        // The first has lost 20, the candidate 1003, and the numbers of each are ahead of the other's or behind.
        for (ssrc, arrived) in [(1, [19, 21]), (2, [1002, 1004])] {
            let mut reception = Reception::new(now, ssrc, 90_000);
            for sequence in arrived {
                reception.received(now, sequence, 0, 100, false);
            }
            reception.nacks(now, ms(20), &mut Vec::new());
            streams.get_mut(ssrc).unwrap().reception = Some(Box::new(reception));
        }
        streams.hear(now, 3, REPAIR);
        assert_eq!([20, 1003, 21, 5000].map(|n| streams.repaired_ssrc(3, n)), [Some(1), Some(2), None, None]);
    }

    #[test]
    fn unknown_ssrcs_are_limited_each_second() {
        let mut streams = Streams::default();
        let start = Instant::now();
        let allowed = (0..2500).filter(|n| streams.allow_unknown(start + ms(1) * *n)).count();
        assert_eq!(allowed, 3 * UNKNOWN_PER_SECOND as usize);
    }
}
