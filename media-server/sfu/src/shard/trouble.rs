//! Streams that are connected and dark: what is wrong, told from the counters of a shard's sessions.
//!
//! Sans-IO: [`TroubleDetector::observe`] takes the time and a snapshot of all sessions, about once a second, and returns what
//! has begun or ended since. A condition must hold for [`BEGINS_AFTER`] before it is trouble and be absent for
//! [`ENDS_AFTER`] before that is over. The tables have an entry for each session of the last snapshot, so the limits of
//! sessions bound them.

use crate::parameters::{RoomId, SessionId};
use crate::shard::stats::{PublisherStats, RoleStats, SessionStats, SubscriberStats};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// A condition is trouble when it has held for so long.
pub const BEGINS_AFTER: Duration = Duration::from_secs(3);
/// Trouble is over when its condition has been absent for so long.
pub const ENDS_AFTER: Duration = Duration::from_secs(5);
/// Loss reported by a viewer from which its picture cannot be repaired.
const LOSS: f32 = 0.1;

/// Why nobody, or one viewer, sees a picture. The texts are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TroubleReason {
    /// Video comes and no viewer can start with it.
    NoKeyframe,
    /// Video was negotiated and only audio comes.
    NoVideo,
    /// A connected publisher sends nothing.
    NoMedia,
    /// Packets are dropped beyond the bitrate cap.
    Policed,
    /// A viewer loses more than retransmissions repair.
    ViewerLoss,
    /// A connected viewer is sent nothing though the room has a picture.
    NothingSent,
}

impl TroubleReason {
    /// All of them.
    pub const ALL: [TroubleReason; 6] =
        [Self::NoKeyframe, Self::NoVideo, Self::NoMedia, Self::Policed, Self::ViewerLoss, Self::NothingSent];

    /// The stable name, as in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoKeyframe => "no-keyframe",
            Self::NoVideo => "no-video",
            Self::NoMedia => "no-media",
            Self::Policed => "policed",
            Self::ViewerLoss => "viewer-loss",
            Self::NothingSent => "nothing-sent",
        }
    }

    /// One sentence for people: the fact, then the remedy.
    pub fn message(self) -> &'static str {
        match self {
            Self::NoKeyframe => {
                "video arrives without a point where viewers can start: set a keyframe interval of 1 to 4 s in the encoder"
            }
            Self::NoVideo => "the publisher negotiated video and sends only audio: check the camera and its encoder",
            Self::NoMedia => "the publisher is connected and sends nothing: check the encoder, or a firewall for UDP",
            Self::Policed => {
                "the publisher sends more than limits.maxBitrate, and packets are dropped: lower its bitrate or raise the limit"
            }
            Self::ViewerLoss => {
                "a viewer loses 10 % or more of its packets: its link is too narrow, so lower the publisher's bitrate"
            }
            Self::NothingSent => {
                "a viewer is connected and is sent nothing: it may lack the publisher's codec, so reload it or send H264"
            }
        }
    }
}

/// Something has begun, or is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TroubleChange {
    /// Where.
    pub room: RoomId,
    /// Whose: the publisher's or the viewer's session.
    pub session: SessionId,
    /// What.
    pub reason: TroubleReason,
    /// It began; otherwise it is over.
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

/// See the module.
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
                if let Some(began) = condition.update(now, holds) {
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

    /// Rooms whose picture moves.
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
                    TroubleReason::Policed => self.policed,
                    TroubleReason::ViewerLoss | TroubleReason::NothingSent => false,
                }
            }
            (RoleStats::Subscriber(viewer), TroubleReason::ViewerLoss) => viewer.reported.fraction_lost >= LOSS,
            (RoleStats::Subscriber(_), TroubleReason::NothingSent) => picture && !self.packets,
            (RoleStats::Subscriber(_), _) => false,
        }
    }
}

impl Condition {
    /// `Some` when trouble has begun (`true`) or is over.
    fn update(&mut self, now: Instant, holds: bool) -> Option<bool> {
        if self.holds != holds || self.changed.is_none() {
            (self.holds, self.changed) = (holds, Some(now));
        }
        let span = now.saturating_duration_since(self.changed.unwrap_or(now));
        let due = if holds { BEGINS_AFTER } else { ENDS_AFTER };
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
        let policed = |camera: &mut PublisherStats, viewer: &mut SubscriberStats| {
            flow(camera, viewer);
            camera.policed += 10;
        };
        assert_eq!(bench.run(4, policed), [(CAMERA, "policed", true)]);
        assert_eq!(bench.run(6, flow), [(CAMERA, "policed", false)]);
    }

    #[test]
    fn viewer_trouble_is_the_viewers() {
        let mut bench = Bench::new();
        bench.run(3, flow);
        bench.viewer.reported.fraction_lost = 0.2;
        assert_eq!(bench.run(4, flow), [(VIEWER, "viewer-loss", true)]);
        bench.viewer.reported.fraction_lost = 0.0;
        let unsent = |camera: &mut PublisherStats, _: &mut SubscriberStats| camera.packets += 300;
        assert_eq!(bench.run(6, unsent), [(VIEWER, "nothing-sent", true), (VIEWER, "viewer-loss", false)]);
        assert_eq!(bench.run(6, flow), [(VIEWER, "nothing-sent", false)]);
    }

    #[test]
    fn flapping_condition_begins_and_ends_once() {
        let mut bench = Bench::new();
        bench.run(3, flow);
        let mut second = 0;
        let changes = bench.run(30, |camera, viewer| {
            flow(camera, viewer);
            second += 1;
            camera.policed += u64::from(second <= 5 || second % 4 != 0);
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
