//! A subscriber's session: its two tracks, what it reports, and the reports it is owed.

use crate::feedback::read::Feedback;
use crate::feedback::write;
use crate::forward::outgoing::Outgoing;
use crate::parameters::{MediaKind, SessionId, SubscriberTracks};
use crate::sdp;
use crate::shard::clock::SourceClock;
use crate::shard::link::Link;
use crate::transport::Transport;
use std::time::{Duration, Instant};

const REPORT_EVERY: Duration = Duration::from_secs(1);

/// As the subscriber tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reported {
    /// Lost since the last report, 0 to 1, the worse of both tracks.
    pub fraction_lost: f32,
    /// Lost since the start, video.
    pub lost: u32,
    /// Interarrival jitter of video, timestamp units.
    pub jitter: u32,
    /// Round trip, when it can be told.
    pub round_trip: Option<Duration>,
    /// Bits per second that it thinks its path carries (REMB).
    pub available_bitrate: Option<u64>,
    /// Bits per second that its video is limited to, because its link loses packets persistently.
    pub limited_to: Option<u64>,
}

/// See the module.
pub(super) struct Subscriber {
    pub(super) id: SessionId,
    pub(super) transport: Transport,
    pub(super) connected: bool,
    pub(super) video: Option<Outgoing>,
    pub(super) audio: Option<Outgoing>,
    pub(super) reported: Reported,
    pub(super) link: Link,
    pub(super) keyframe_requests: u64,
    pub(super) nacked: u64,
    /// Since when it waits for a keyframe.
    pub(super) waiting: Instant,
    /// When its handshake was done.
    pub(super) joined: Option<Instant>,
    /// When it last began again at the cached keyframe.
    pub(super) restarted: Option<Instant>,
    /// How often it has.
    pub(super) restarts: u32,
    /// Progress of the burst under way: next run of the video plan, next of the audio plan.
    pub(super) runs: (usize, usize),
    /// It is among those that every burst of its room visits.
    pub(super) paced: bool,
    report_at: Option<Instant>,
}

impl Subscriber {
    pub(super) fn new(
        now: Instant,
        id: SessionId,
        transport: Transport,
        tracks: SubscriberTracks,
        starts: [u16; 4],
    ) -> Self {
        let [video, video_repair, audio, audio_repair] = starts;
        Self {
            id,
            transport,
            connected: false,
            video: tracks.video.map(|track| Outgoing::new(track, video, video_repair)),
            audio: tracks.audio.map(|track| Outgoing::new(track, audio, audio_repair)),
            reported: Reported::default(),
            link: Link::default(),
            keyframe_requests: 0,
            nacked: 0,
            waiting: now,
            joined: None,
            restarted: None,
            restarts: 0,
            runs: (0, 0),
            paced: false,
            report_at: None,
        }
    }

    pub(super) fn outgoing(&mut self, kind: MediaKind) -> Option<&mut Outgoing> {
        match kind {
            MediaKind::Audio => self.audio.as_mut(),
            MediaKind::Video => self.video.as_mut(),
        }
    }

    pub(super) fn is_behind(&self) -> bool {
        self.connected && [&self.video, &self.audio].into_iter().flatten().any(Outgoing::is_behind)
    }

    fn kind_of(&self, ssrc: u32) -> Option<MediaKind> {
        let is = |outgoing: &Option<Outgoing>| outgoing.as_ref().is_some_and(|o| o.track().ssrc == ssrc);
        if is(&self.video) {
            Some(MediaKind::Video)
        } else if is(&self.audio) {
            Some(MediaKind::Audio)
        } else {
            None
        }
    }

    /// Acts on what the subscriber tells; `true` when it asks for a keyframe.
    pub(super) fn feedback(&mut self, now: Instant, feedback: Feedback, clock: &SourceClock) -> bool {
        match feedback {
            Feedback::Nack { ssrc, sequences } => {
                let Some(kind) = self.kind_of(ssrc) else { return false };
                self.nacked += sequences.len() as u64;
                let round_trip = self.reported.round_trip;
                if let Some(outgoing) = self.outgoing(kind) {
                    outgoing.nacked(now, &sequences, round_trip);
                }
            }
            Feedback::KeyframeRequest { ssrc } if self.kind_of(ssrc) == Some(MediaKind::Video) => {
                self.keyframe_requests += 1;
                return true;
            }
            Feedback::Reception { ssrc, fraction_lost, lost, jitter, last_report, delay } => {
                let Some(kind) = self.kind_of(ssrc) else { return false };
                let fraction = f32::from(fraction_lost) / 256.0;
                if kind == MediaKind::Video || self.video.is_none() {
                    (self.reported.fraction_lost, self.reported.lost, self.reported.jitter) = (fraction, lost, jitter);
                }
                if let (MediaKind::Video, Some(video)) = (kind, &mut self.video) {
                    let limit = self.link.report(now, fraction, video.sent().bytes, video.limit());
                    video.set_limit(now, limit);
                    self.reported.limited_to = limit;
                }
                if last_report != 0 {
                    self.reported.round_trip = clock.round_trip(now, kind, last_report, delay);
                }
            }
            Feedback::MaximumBitrate(bits) => self.reported.available_bitrate = Some(bits),
            _ => {}
        }
        false
    }

    /// Appends sender reports when they are due. The first leaves with the first second, so that audio and video are
    /// aligned soon; later ones every second, spread over the subscribers by when they came.
    pub(super) fn reports(&mut self, now: Instant, clock: &SourceClock, out: &mut Vec<u8>) {
        out.clear();
        if !self.connected || self.report_at.is_some_and(|at| now < at) {
            return;
        }
        for kind in [MediaKind::Video, MediaKind::Audio] {
            let outgoing = if kind == MediaKind::Video { &self.video } else { &self.audio };
            let Some(outgoing) = outgoing.as_ref().filter(|o| !o.is_waiting() && !o.is_joining()) else { continue };
            let Some((ntp, rtp)) = clock.at(now, kind) else { continue };
            let sent = outgoing.sent();
            write::sender_report(out, outgoing.track().ssrc, ntp, rtp, sent.packets as u32, sent.bytes as u32);
        }
        if !out.is_empty() {
            if let Some(outgoing) = self.video.as_ref().or(self.audio.as_ref()) {
                write::source_description(out, outgoing.track().ssrc, sdp::CNAME);
            }
            self.report_at = Some(now + REPORT_EVERY);
        } else {
            self.report_at = None;
        }
    }

    /// Returns when [`Subscriber::reports`] is due next; `None` until the room's clock is known.
    pub(super) fn report_at(&self, clock: &SourceClock, soon: Instant) -> Option<Instant> {
        let first = || clock.is_known().then_some(soon);
        self.report_at.or_else(first).filter(|_| self.connected)
    }
}
