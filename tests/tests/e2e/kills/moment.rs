//! The moment of a crash: random, and denser near phases that are short or rare.

use super::ledger::Feed;
use crate::harness::Server;
use rand::Rng;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Recordings are rotated at each full minute.
const ROTATION: Duration = Duration::from_secs(60);
/// Time before a rotation at which the cameras are started.
const LEAD: Duration = Duration::from_millis(4500);
/// The server evicts segments of recordings under way 10 s after its start.
const EVICTION_LIMIT: Duration = Duration::from_secs(15);
const LIMIT: Duration = Duration::from_secs(2);
/// Milliseconds from the first camera's next recording until that of each camera has begun, and the previous ones are
/// finished.
const NEXT_BEGINS: f64 = 60.0;
/// Between two looks at the disk: an eviction takes some milliseconds.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// The aim of a crash.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Moment {
    /// Any time while cameras send.
    Any,
    /// When the next recording of a stream begins.
    Rotation,
    /// After all streams were ended.
    Finish,
    /// After a recording was finished.
    Upload,
    /// When segments of a recording under way leave the disk.
    SegmentEviction,
    /// After the start, while recordings of earlier processes are finished.
    Repair,
    /// When a recording leaves the disk.
    Eviction,
}

/// Chooses moments: first one of each kind that does not depend on the time, in turn.
#[derive(Default)]
pub(super) struct Moments {
    chosen: usize,
    last: Option<Moment>,
}

const FIRST: [Moment; 5] = [Moment::Any, Moment::Repair, Moment::Finish, Moment::Eviction, Moment::Upload];

impl Moments {
    /// Returns the next one.
    pub(super) fn next(&mut self, random: &mut impl Rng) -> Moment {
        let left = until_rotation();
        // A server that was killed while it recorded has left unfinished recordings.
        let left_unfinished = matches!(self.last, Some(Moment::Any | Moment::Rotation));
        let moment = match (FIRST.get(self.chosen), random.random_range(0..100)) {
            _ if left < LEAD && left > LEAD / 3 => Moment::Rotation,
            (Some(moment), _) => *moment,
            (_, 0..30) if left_unfinished => Moment::Repair,
            (_, 0..50) => Moment::Any,
            (_, 50..70) => Moment::Finish,
            (_, 70..84) => Moment::Upload,
            (_, 84..94) => Moment::Eviction,
            _ => Moment::SegmentEviction,
        };
        self.chosen += usize::from(moment != Moment::Rotation);
        self.last = Some(moment);
        moment
    }
}

impl Moment {
    /// Returns whether it is a moment of a server without cameras.
    pub(super) fn is_early(self) -> bool {
        matches!(self, Moment::Repair | Moment::Eviction)
    }

    /// Waits for it.
    pub(super) async fn wait(self, random: &mut impl Rng, recordings: &Path, server: &Server, feeds: &mut [Feed]) {
        let mut up_to = |milliseconds: f64| Duration::from_secs_f64(random.random_range(0.0..milliseconds) / 1000.0);
        let pause = match self {
            Moment::Any => up_to(1500.0),
            Moment::Rotation => {
                // The first recording of a stream has its id, and may not have begun yet.
                let mut known = super::scene::ids(recordings);
                known.extend(feeds.iter().map(|feed| feed.stream().to_owned()));
                let recordings = recordings.to_owned();
                let begun = move || super::scene::ids(&recordings).iter().any(|id| !known.contains(id));
                spot(LEAD + LIMIT, begun).await;
                up_to(NEXT_BEGINS)
            }
            Moment::Repair => up_to(400.0),
            Moment::Finish => {
                feeds.iter_mut().for_each(|feed| feed.end(server));
                let share = up_to(1000.0).as_secs_f64();
                up_to(300.0).mul_f64(share)
            }
            Moment::Upload => {
                feeds.iter_mut().for_each(|feed| feed.end(server));
                let manifests: Vec<_> =
                    feeds.iter().map(|feed| recordings.join(feed.stream()).join("manifest.json")).collect();
                spot(LIMIT, move || manifests.iter().any(|manifest| manifest.exists())).await;
                up_to(60.0)
            }
            Moment::SegmentEviction => {
                let directories: Vec<_> = feeds.iter().map(|feed| recordings.join(feed.stream())).collect();
                spot(EVICTION_LIMIT, move || directories.iter().any(|at| super::scene::has_evicted_segments(at))).await;
                up_to(5.0)
            }
            Moment::Eviction => {
                let recordings = recordings.to_owned();
                spot(LIMIT, move || super::scene::evicting(&recordings) > 0).await;
                up_to(2.0)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Looks at the disk until `seen`, or until the limit: the crash does not depend on it.
async fn spot(limit: Duration, seen: impl Fn() -> bool + Send + 'static) {
    let look = move || {
        let start = Instant::now();
        while !seen() && start.elapsed() < limit {
            std::thread::sleep(LOOK_EVERY);
        }
    };
    tokio::task::spawn_blocking(look).await.unwrap();
}

fn until_rotation() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    ROTATION - Duration::from_nanos((now.as_nanos() % ROTATION.as_nanos()) as u64)
}
