//! Detects streams that are connected and dark, and the cause, from the counters of a shard's sessions.
//!
//! Sans-IO: [`TroubleDetector::observe`] takes the time and a snapshot of all sessions, about once a second, and returns the
//! conditions that started or ended since. A condition must hold for [`BEGINS_AFTER`] before it is trouble and be absent for
//! [`ENDS_AFTER`] before that is over; the exceptions are conditions that are averaged before they get here. The tables have an entry for each
//! session of the last snapshot, so the limits of sessions bound them.

use crate::parameters::{RoomId, SessionId};
use crate::shard::stats::{PublisherStats, RoleStats, SessionStats, SubscriberStats};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Time for which a condition holds before it is trouble.
pub const BEGINS_AFTER: Duration = Duration::from_secs(3);
/// Time for which a condition is absent before its trouble is over.
pub const ENDS_AFTER: Duration = Duration::from_secs(5);
/// The same for groups of pictures: each of them is too long only from some time on, at most 20 s.
const GROUP_ENDS_AFTER: Duration = Duration::from_secs(25);
/// Loss reported by a viewer from which its picture cannot be repaired.
const LOSS: f32 = 0.1;

/// Why no viewer, or a single one, sees a picture. The texts are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TroubleReason {
    /// Video arrives and no viewer can start with it.
    NoKeyframe,
    /// A group of pictures is longer than the room keeps, and the encoder ignores keyframe requests.
    GroupTooLong,
    /// Keyframes have no parameter sets, and none are known.
    NoParameterSets,
    /// Video was negotiated and only audio arrives.
    NoVideo,
    /// A connected publisher sends nothing.
    NoMedia,
    /// Packets are dropped beyond the bitrate cap again and again.
    Policed,
    /// A viewer loses more than retransmissions repair, and is not limited for it.
    ViewerLoss,
    /// A viewer is limited to a part of the stream, because its link carries no more.
    LinkTooNarrow,
    /// The publisher sends a codec that was not negotiated with a viewer.
    CodecMismatch,
    /// A connected viewer is sent nothing though the room has a picture, for another reason than its codecs.
    NothingSent,
}

impl TroubleReason {
    /// All of them.
    pub const ALL: [TroubleReason; 10] = [
        Self::NoKeyframe,
        Self::GroupTooLong,
        Self::NoParameterSets,
        Self::NoVideo,
        Self::NoMedia,
        Self::Policed,
        Self::ViewerLoss,
        Self::LinkTooNarrow,
        Self::CodecMismatch,
        Self::NothingSent,
    ];

    /// The stable name, as in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoKeyframe => "no-keyframe",
            Self::GroupTooLong => "group-too-long",
            Self::NoParameterSets => "no-parameter-sets",
            Self::NoVideo => "no-video",
            Self::NoMedia => "no-media",
            Self::Policed => "policed",
            Self::ViewerLoss => "viewer-loss",
            Self::LinkTooNarrow => "link-too-narrow",
            Self::CodecMismatch => "codec-mismatch",
            Self::NothingSent => "nothing-sent",
        }
    }

    /// One sentence for people: the fact, then the remedy.
    pub fn message(self) -> &'static str {
        match self {
            Self::NoKeyframe => {
                "video arrives without a point where viewers can start: set a keyframe interval of 1 to 4 s in the encoder"
            }
            Self::GroupTooLong => {
                "keyframes are too far apart and the encoder ignores requests for one, so new viewers wait for a picture: \
                 set a keyframe interval of 1 to 4 s in the encoder, or raise media.gopCache"
            }
            Self::NoParameterSets => {
                "keyframes arrive without SPS and PPS, so viewers cannot decode them: \
                 set the encoder to repeat them with every keyframe"
            }
            Self::NoVideo => "the publisher negotiated video and sends only audio: check the camera and its encoder",
            Self::NoMedia => "the publisher is connected and sends nothing: check the encoder, or a firewall for UDP",
            Self::Policed => {
                "the publisher keeps sending more than limits.maxBitrate, so frames are dropped: \
                 lower the encoder's bitrate or raise limits.maxBitrate"
            }
            Self::ViewerLoss => "a viewer loses 10 % or more of its packets: check its network, for example its Wi-Fi",
            Self::LinkTooNarrow => {
                "a viewer's link carries less than the stream, so it gets only some of the frames: \
                 lower the publisher's bitrate or improve that link"
            }
            Self::CodecMismatch => {
                "the publisher sends a codec that was not negotiated with a viewer: reload the viewer, or publish H264 and Opus"
            }
            Self::NothingSent => {
                "a viewer is connected and is sent nothing: reload it, and check that it negotiated video"
            }
        }
    }

    /// How long its condition holds before it is trouble. Some conditions are sustained already when they are reported.
    fn begins_after(self) -> Duration {
        match self {
            Self::Policed | Self::LinkTooNarrow => Duration::ZERO,
            _ => BEGINS_AFTER,
        }
    }

    /// How long its condition is absent before the trouble is over.
    fn ends_after(self) -> Duration {
        match self {
            Self::GroupTooLong => GROUP_ENDS_AFTER,
            _ => ENDS_AFTER,
        }
    }
}

/// A condition that started or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TroubleChange {
    /// The room.
    pub room: RoomId,
    /// The publisher's or the viewer's session.
    pub session: SessionId,
    /// The condition.
    pub reason: TroubleReason,
    /// It started; otherwise it is over.
    pub began: bool,
}

#[derive(Default)]
struct Condition {
    /// Since when it has held, or has been absent.
    changed: Option<Instant>,
    holds: bool,
    trouble: bool,
}

struct Watched {
    room: RoomId,
    packets: u64,
    held: u64,
    policed: u64,
    conditions: [Condition; TroubleReason::ALL.len()],
}

/// Compares snapshots of a shard's sessions and reports conditions that last.
#[derive(Default)]
pub struct TroubleDetector {
    sessions: HashMap<SessionId, Watched>,
}

impl TroubleDetector {
    /// Compares this snapshot with the last one. A session that is no longer in it ends its trouble.
    pub fn observe(&mut self, now: Instant, sessions: &[SessionStats]) -> Vec<TroubleChange> {
        let mut changes = Vec::new();
        let lit = self.rooms_with_picture(sessions);
        for stats in sessions {
            let (packets, held, policed) = counters(stats);
            let known = self.sessions.contains_key(&stats.session);
            let watched = self.sessions.entry(stats.session).or_insert_with(|| Watched {
                room: stats.room,
                packets,
                held,
                policed,
                conditions: Default::default(),
            });
            let rises = Rises {
                packets: packets > watched.packets,
                held: held > watched.held,
                policed: policed > watched.policed,
            };
            (watched.packets, watched.held, watched.policed) = (packets, held, policed);
            for (reason, condition) in TroubleReason::ALL.into_iter().zip(&mut watched.conditions) {
                let holds = known && stats.connected && rises.holds(reason, stats, lit.contains(&stats.room));
                if let Some(began) = condition.update(now, holds, reason) {
                    changes.push(TroubleChange { room: stats.room, session: stats.session, reason, began });
                }
            }
        }
        let there: HashSet<SessionId> = sessions.iter().map(|stats| stats.session).collect();
        for (session, watched) in self.sessions.extract_if(|session, _| !there.contains(session)) {
            let over =
                TroubleReason::ALL.into_iter().zip(&watched.conditions).filter(|(_, condition)| condition.trouble);
            changes.extend(over.map(|(reason, _)| TroubleChange { room: watched.room, session, reason, began: false }));
        }
        changes
    }

    /// Returns the rooms with a live picture.
    fn rooms_with_picture(&self, sessions: &[SessionStats]) -> HashSet<RoomId> {
        let moves = |stats: &&SessionStats| {
            let RoleStats::Publisher(publisher) = &stats.role else { return false };
            let before = self.sessions.get(&stats.session);
            publisher.feeds_video && before.is_some_and(|before| publisher.packets > before.packets)
        };
        sessions.iter().filter(moves).map(|stats| stats.room).collect()
    }
}

fn counters(stats: &SessionStats) -> (u64, u64, u64) {
    match &stats.role {
        RoleStats::Publisher(PublisherStats { packets, held, policed, .. }) => (*packets, *held, *policed),
        RoleStats::Subscriber(SubscriberStats { packets, .. }) => (*packets, 0, 0),
    }
}

/// Which counters of a session have risen since the last snapshot.
struct Rises {
    packets: bool,
    held: bool,
    policed: bool,
}

impl Rises {
    fn holds(&self, reason: TroubleReason, stats: &SessionStats, picture: bool) -> bool {
        match (&stats.role, reason) {
            (RoleStats::Publisher(publisher), reason) => {
                let dark = publisher.video.is_some() && !publisher.feeds_video;
                match reason {
                    TroubleReason::NoKeyframe => dark && self.held,
                    TroubleReason::NoVideo => dark && self.packets && !self.held,
                    TroubleReason::NoMedia => !self.packets && !self.policed,
                    TroubleReason::GroupTooLong => publisher.group_too_long && self.packets,
                    TroubleReason::NoParameterSets => publisher.lacks_parameters && self.packets,
                    TroubleReason::Policed => publisher.bitrate_exceeded,
                    _ => false,
                }
            }
            (RoleStats::Subscriber(viewer), reason) => {
                let limited = viewer.reported.limited_to.is_some();
                match reason {
                    TroubleReason::ViewerLoss => viewer.reported.fraction_lost >= LOSS && !limited,
                    TroubleReason::LinkTooNarrow => limited,
                    TroubleReason::CodecMismatch => viewer.codec_mismatch,
                    TroubleReason::NothingSent => picture && !self.packets && !viewer.codec_mismatch,
                    _ => false,
                }
            }
        }
    }
}

impl Condition {
    /// Returns `Some(true)` when trouble started, `Some(false)` when it is over.
    fn update(&mut self, now: Instant, holds: bool, reason: TroubleReason) -> Option<bool> {
        if self.holds != holds || self.changed.is_none() {
            (self.holds, self.changed) = (holds, Some(now));
        }
        let span = now.saturating_duration_since(self.changed.unwrap_or(now));
        let due = if holds { reason.begins_after() } else { reason.ends_after() };
        if self.trouble == holds || span < due {
            return None;
        }
        self.trouble = holds;
        Some(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Codec;

    const CAMERA: SessionId = SessionId(1);
    const VIEWER: SessionId = SessionId(2);

    struct Bench {
        now: Instant,
        detector: TroubleDetector,
        camera: PublisherStats,
        viewer: SubscriberStats,
    }

    impl Bench {
        fn new() -> Self {
            let camera = PublisherStats { video: Some(Codec::H264), feeds_video: true, ..PublisherStats::default() };
            let viewer = SubscriberStats::default();
            Self { now: Instant::now(), detector: TroubleDetector::default(), camera, viewer }
        }

        /// Observes `seconds` times, a second apart, after `each` has changed the counters.
        fn run(
            &mut self,
            seconds: u32,
            mut each: impl FnMut(&mut PublisherStats, &mut SubscriberStats),
        ) -> Vec<(SessionId, &'static str, bool)> {
            let mut changes = Vec::new();
            for _ in 0..seconds {
                each(&mut self.camera, &mut self.viewer);
                let session = |session, role| SessionStats { session, room: RoomId(7), connected: true, role };
                let all = [
                    session(CAMERA, RoleStats::Publisher(self.camera.clone())),
                    session(VIEWER, RoleStats::Subscriber(self.viewer.clone())),
                ];
                changes.extend(self.detector.observe(self.now, &all));
                self.now += Duration::from_secs(1);
            }
            changes.into_iter().map(|change| (change.session, change.reason.as_str(), change.began)).collect()
        }
    }

    fn flow(camera: &mut PublisherStats, viewer: &mut SubscriberStats) {
        camera.packets += 300;
        viewer.packets += 300;
    }

    #[test]
    fn every_reason_has_a_name_and_a_remedy() {
        let names: HashSet<_> = TroubleReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), TroubleReason::ALL.len());
        for reason in TroubleReason::ALL {
            assert!(reason.message().contains(": "), "{reason:?}");
        }
        assert!(TroubleReason::Policed.message().ends_with("raise limits.maxBitrate"));
    }

    #[test]
    fn healthy_stream_has_no_trouble() {
        assert_eq!(Bench::new().run(60, flow), []);
    }

    #[test]
    fn video_without_keyframe_is_reported_within_5_s() {
        let mut bench = Bench::new();
        bench.camera.feeds_video = false;
        let dark = |camera: &mut PublisherStats, _: &mut SubscriberStats| {
            camera.packets += 300;
            camera.held += 250;
        };
        assert_eq!(bench.run(5, dark), [(CAMERA, "no-keyframe", true)]);
        bench.camera.feeds_video = true;
        assert_eq!(bench.run(5, flow), [], "not yet");
        assert_eq!(bench.run(2, flow), [(CAMERA, "no-keyframe", false)]);
    }

    #[test]
    fn audio_without_negotiated_video_packets_is_reported() {
        let mut bench = Bench::new();
        bench.camera.feeds_video = false;
        assert_eq!(bench.run(5, flow), [(CAMERA, "no-video", true)]);
        bench.camera.video = None;
        assert_eq!(bench.run(8, flow), [(CAMERA, "no-video", false)], "audio alone is a stream");
    }

    #[test]
    fn silent_publisher_is_reported() {
        let mut bench = Bench::new();
        assert_eq!(bench.run(5, |_, viewer| viewer.packets += 1), [(CAMERA, "no-media", true)]);
    }

    #[test]
    fn policing_is_reported_when_sustained() {
        let mut bench = Bench::new();
        bench.run(3, flow);
        bench.camera.policed += 10;
        assert_eq!(bench.run(6, flow), [], "one burst");
        bench.camera.bitrate_exceeded = true;
        assert_eq!(bench.run(1, flow), [(CAMERA, "policed", true)]);
        bench.camera.bitrate_exceeded = false;
        assert_eq!(bench.run(6, flow), [(CAMERA, "policed", false)]);
    }

    #[test]
    fn viewer_trouble_is_the_viewers() {
        let mut bench = Bench::new();
        bench.run(3, flow);
        bench.viewer.reported.fraction_lost = 0.2;
        assert_eq!(bench.run(4, flow), [(VIEWER, "viewer-loss", true)]);
        bench.viewer.reported.limited_to = Some(900_000);
        assert_eq!(bench.run(1, flow), [(VIEWER, "link-too-narrow", true)]);
        assert_eq!(bench.run(5, flow), [(VIEWER, "viewer-loss", false)], "reported once, with its cause");
        (bench.viewer.reported.fraction_lost, bench.viewer.reported.limited_to) = (0.0, None);
        let unsent = |camera: &mut PublisherStats, _: &mut SubscriberStats| camera.packets += 300;
        assert_eq!(bench.run(6, unsent), [(VIEWER, "nothing-sent", true), (VIEWER, "link-too-narrow", false)]);
        assert_eq!(bench.run(6, flow), [(VIEWER, "nothing-sent", false)]);
    }

    #[test]
    fn missing_codec_is_not_reported_as_nothing_sent() {
        let mut bench = Bench::new();
        bench.viewer.codec_mismatch = true;
        let unsent = |camera: &mut PublisherStats, _: &mut SubscriberStats| camera.packets += 300;
        assert_eq!(bench.run(10, unsent), [(VIEWER, "codec-mismatch", true)]);
        bench.viewer.codec_mismatch = false;
        assert_eq!(bench.run(6, flow), [(VIEWER, "codec-mismatch", false)]);
    }

    #[test]
    fn long_groups_are_one_trouble() {
        let mut bench = Bench::new();
        let mut second = 0;
        let changes = bench.run(120, |camera, viewer| {
            flow(camera, viewer);
            second += 1;
            camera.group_too_long = second % 30 > 20;
        });
        assert_eq!(changes, [(CAMERA, "group-too-long", true)]);
        bench.camera.group_too_long = false;
        assert_eq!(bench.run(26, flow), [(CAMERA, "group-too-long", false)]);
    }

    #[test]
    fn flapping_condition_begins_and_ends_once() {
        let mut bench = Bench::new();
        bench.run(3, flow);
        let mut second = 0;
        let changes = bench.run(30, |camera, viewer| {
            flow(camera, viewer);
            second += 1;
            camera.bitrate_exceeded = second <= 5 || second % 4 != 0;
        });
        assert_eq!(changes, [(CAMERA, "policed", true)]);
    }

    #[test]
    fn ended_session_ends_its_trouble() {
        let mut bench = Bench::new();
        assert_eq!(bench.run(5, |_, viewer| viewer.packets += 1).len(), 1);
        let over = TroubleChange { room: RoomId(7), session: CAMERA, reason: TroubleReason::NoMedia, began: false };
        assert_eq!(bench.detector.observe(bench.now, &[]), [over]);
        assert!(bench.detector.sessions.is_empty());
    }
}
