//! What the media threads count, joined once a second.

use sfu::parameters::SessionId;
use sfu::shard::stats::{RoleStats, SessionStats, ShardCounters};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a media thread counts up.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// One media thread. Counts are since the process began.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardStats {
    /// Of the sans-IO core.
    pub counters: ShardCounters,
    /// Datagrams sent, of all kinds.
    pub datagrams_out: u64,
    /// UDP payload bytes sent.
    pub bytes_out: u64,
    /// UDP payload bytes received.
    pub bytes_in: u64,
    /// Datagrams that the kernel refused to send.
    pub send_errors: u64,
    /// Datagrams dropped since the socket buffer and the backlog behind it were full.
    pub send_dropped: u64,
    /// Datagrams of runs that exceeded the path MTU and left as plain datagrams; later runs of the same path are not counted.
    pub unsegmented: u64,
    /// System calls that sent.
    pub send_calls: u64,
    /// Datagrams handed over to the thread that owns their session.
    pub steered: u64,
    /// Datagrams dropped since the thread that owns their session was too far behind.
    pub not_steered: u64,
    /// Addresses of other threads' sessions that this thread steers to them.
    pub steering_others: usize,
    /// Addresses of this thread's sessions that other threads steer here.
    pub steering_taught: usize,
    /// Tap batches dropped since the recorder was behind.
    pub tap_dropped: u64,
    /// CPU time of the thread.
    pub cpu: Duration,
    /// The longest time between two looks at the socket in the last second.
    pub longest_turn: Duration,
}

/// One session, and its bitrate over the last second.
#[derive(Clone, Debug)]
pub struct SessionSnapshot {
    /// Counts.
    pub stats: SessionStats,
    /// Bits per second: a publisher's RTP as received, a subscriber's payload as sent.
    pub bitrate: u64,
}

/// All media threads, at most a second old.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// In the order of the shards.
    pub shards: Vec<ShardStats>,
    /// Every session.
    pub sessions: HashMap<SessionId, SessionSnapshot>,
}

#[derive(Default)]
struct PerShard {
    stats: ShardStats,
    sessions: HashMap<SessionId, SessionSnapshot>,
    at: Option<Instant>,
}

/// Where the media threads put their counts. The lock is taken once a second by each.
pub(super) struct Board(Vec<Mutex<PerShard>>);

impl Board {
    pub(super) fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self((0..shards).map(|_| Mutex::default()).collect()))
    }

    pub(super) fn put(&self, shard: usize, now: Instant, stats: ShardStats, sessions: Vec<SessionStats>) {
        let mut slot = self.0[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = slot.at.map_or(EVERY, |at| now.saturating_duration_since(at)).as_micros().max(1);
        let last = std::mem::take(&mut slot.sessions);
        slot.sessions = sessions
            .into_iter()
            .map(|stats| {
                let before = last.get(&stats.session).map_or(0, |last| bytes(&last.stats));
                let bits = u128::from(bytes(&stats).saturating_sub(before)) * 8_000_000;
                (stats.session, SessionSnapshot { bitrate: (bits / elapsed) as u64, stats })
            })
            .collect();
        slot.stats = stats;
        slot.at = Some(now);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for slot in &self.0 {
            let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            snapshot.shards.push(slot.stats);
            snapshot.sessions.extend(slot.sessions.iter().map(|(id, session)| (*id, session.clone())));
        }
        snapshot
    }
}

fn bytes(stats: &SessionStats) -> u64 {
    match &stats.role {
        RoleStats::Publisher(publisher) => publisher.bytes,
        RoleStats::Subscriber(subscriber) => subscriber.bytes,
    }
}
