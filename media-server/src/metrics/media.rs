//! The media plane's numbers: copied from its snapshots, and summed so that counters go on when sessions end.

use crate::net::Snapshot;
use metrics::Unit;
use sfu::parameters::SessionId;
use sfu::shard::stats::{PublisherStats, RoleStats, SubscriberStats};
use std::collections::HashMap;

/// Sums over all sessions, those that are over included.
#[derive(Debug, Default)]
pub(super) struct Totals {
    last: HashMap<SessionId, RoleStats>,
    publishers: PublisherStats,
    subscribers: SubscriberStats,
    /// By the viewers' own reports.
    reported_lost: u64,
}

impl Totals {
    /// Adds what each session counted since the last call. At least once a second, or the end of a session is missed.
    pub(super) fn add(&mut self, snapshot: &Snapshot) {
        let mut now = HashMap::with_capacity(snapshot.sessions.len());
        for (id, session) in &snapshot.sessions {
            match &session.stats.role {
                RoleStats::Publisher(new) => {
                    let zero = PublisherStats::default();
                    let old = match self.last.get(id) {
                        Some(RoleStats::Publisher(old)) => old,
                        _ => &zero,
                    };
                    let sum = &mut self.publishers;
                    sum.packets += new.packets.saturating_sub(old.packets);
                    sum.bytes += new.bytes.saturating_sub(old.bytes);
                    // What was counted as lost may still come: the sum does not go down.
                    sum.lost += new.lost.saturating_sub(old.lost);
                    sum.repaired += new.repaired.saturating_sub(old.repaired);
                    sum.nacks_sent += new.nacks_sent.saturating_sub(old.nacks_sent);
                    sum.keyframe_requests += new.keyframe_requests.saturating_sub(old.keyframe_requests);
                    sum.policed += new.policed.saturating_sub(old.policed);
                    sum.frames_policed += new.frames_policed.saturating_sub(old.frames_policed);
                    sum.ssrc_changes += new.ssrc_changes.saturating_sub(old.ssrc_changes);
                }
                RoleStats::Subscriber(new) => {
                    let zero = SubscriberStats::default();
                    let old = match self.last.get(id) {
                        Some(RoleStats::Subscriber(old)) => old,
                        _ => &zero,
                    };
                    let sum = &mut self.subscribers;
                    sum.packets += new.packets.saturating_sub(old.packets);
                    sum.bytes += new.bytes.saturating_sub(old.bytes);
                    sum.repairs += new.repairs.saturating_sub(old.repairs);
                    sum.nacks += new.nacks.saturating_sub(old.nacks);
                    sum.keyframe_requests += new.keyframe_requests.saturating_sub(old.keyframe_requests);
                    self.reported_lost += u64::from(new.reported.lost.saturating_sub(old.reported.lost));
                }
            }
            now.insert(*id, session.stats.role.clone());
        }
        self.last = now;
    }

    /// Sets the counters.
    pub(super) fn copy(&self) {
        let (publishers, subscribers) = (&self.publishers, &self.subscribers);
        for (name, direction, value) in [
            ("media_server_rtp_packets_total", "in", publishers.packets),
            ("media_server_rtp_packets_total", "out", subscribers.packets),
            ("media_server_rtp_bytes_total", "in", publishers.bytes),
            ("media_server_rtp_bytes_total", "out", subscribers.bytes),
            ("media_server_rtp_lost_packets_total", "in", publishers.lost),
            ("media_server_rtp_lost_packets_total", "out", self.reported_lost),
            ("media_server_nacked_packets_total", "in", publishers.nacks_sent),
            ("media_server_nacked_packets_total", "out", subscribers.nacks),
            ("media_server_retransmitted_packets_total", "in", publishers.repaired),
            ("media_server_retransmitted_packets_total", "out", subscribers.repairs),
            ("media_server_keyframe_requests_total", "in", publishers.keyframe_requests),
            ("media_server_keyframe_requests_total", "out", subscribers.keyframe_requests),
        ] {
            metrics::counter!(name, "direction" => direction).absolute(value);
        }
        for (name, value) in [
            ("media_server_policed_packets_total", publishers.policed),
            ("media_server_policed_frames_total", publishers.frames_policed),
            ("media_server_encoder_restarts_total", publishers.ssrc_changes),
        ] {
            metrics::counter!(name).absolute(value);
        }
    }
}

pub(super) fn describe() {
    for (name, help) in [
        (
            "media_server_rtp_packets_total",
            "RTP packets from publishers (in) and to subscribers (out), retransmissions included.",
        ),
        (
            "media_server_rtp_lost_packets_total",
            "RTP packets that never came from publishers (in), and that subscribers report as lost (out).",
        ),
        (
            "media_server_nacked_packets_total",
            "Packets asked for again: of publishers by us (in), of us by subscribers (out).",
        ),
        (
            "media_server_retransmitted_packets_total",
            "Packets that came only after they were asked for (in), and that were sent again (out).",
        ),
        (
            "media_server_keyframe_requests_total",
            "Keyframes asked for: of publishers by us (in), of us by subscribers (out).",
        ),
        ("media_server_policed_packets_total", "Packets of publishers dropped beyond limits.maxBitrate."),
        ("media_server_policed_frames_total", "Video frames of publishers dropped beyond limits.maxBitrate."),
        ("media_server_encoder_restarts_total", "Changes of a publisher's SSRC that were followed within its session."),
        ("media_server_udp_datagrams_total", "UDP datagrams of all kinds."),
        (
            "media_server_udp_dropped_total",
            "Datagrams dropped: of unknown address, not authentic, replayed or malformed, or for a thread too far behind.",
        ),
        (
            "media_server_udp_steered_total",
            "Datagrams that the kernel gave to another media thread than their session's.",
        ),
        ("media_server_stun_refused_total", "STUN requests that failed the integrity check or named no session."),
        ("media_server_udp_send_errors_total", "Datagrams that the kernel refused to send."),
        ("media_server_udp_send_dropped_total", "Datagrams dropped since the socket buffer and its backlog were full."),
        (
            "media_server_udp_unsegmented_total",
            "Datagrams of runs that exceeded the path MTU of their destination and were sent one by one.",
        ),
        ("media_server_udp_send_calls_total", "System calls that sent datagrams."),
        (
            "media_server_recorder_dropped_batches_total",
            "Batches of media that the recorder missed because it was behind.",
        ),
    ] {
        metrics::describe_counter!(name, help);
    }
    for (name, help) in [
        ("media_server_rtp_bytes_total", "RTP from publishers (in), payload to subscribers (out)."),
        ("media_server_udp_bytes_total", "UDP payload of all kinds."),
    ] {
        metrics::describe_counter!(name, Unit::Bytes, help);
    }
    metrics::describe_gauge!(
        "media_server_bitrate_bits_per_second",
        "RTP from publishers (in) and payload to subscribers (out) over the last second."
    );
    metrics::describe_gauge!("media_server_troubles", "Conditions that keep a stream or a viewer dark now, by reason.");
    metrics::describe_counter!("media_server_troubles_started_total", "Conditions that have begun, by reason.");
    metrics::describe_gauge!("media_server_media_threads", "Threads that carry media.");
    metrics::describe_gauge!(
        "media_server_steering_addresses",
        "Addresses whose datagrams a media thread hands over to the thread of their session."
    );
    metrics::describe_gauge!(
        "media_server_media_thread_longest_turn_seconds",
        Unit::Seconds,
        "The longest time between two looks at the socket in the last second, of the slowest media thread."
    );
}

/// Copies what needs no sum.
pub(super) fn copy(snapshot: &Snapshot) {
    let mut bitrate = [0u64; 2];
    for session in snapshot.sessions.values() {
        bitrate[usize::from(matches!(session.stats.role, RoleStats::Subscriber(_)))] += session.bitrate;
    }
    metrics::gauge!("media_server_bitrate_bits_per_second", "direction" => "in").set(bitrate[0] as f64);
    metrics::gauge!("media_server_bitrate_bits_per_second", "direction" => "out").set(bitrate[1] as f64);
    let sum = |count: fn(&crate::net::ShardStats) -> u64| snapshot.shards.iter().map(count).sum::<u64>();
    for (name, direction, value) in [
        ("media_server_udp_datagrams_total", "in", sum(|shard| shard.counters.datagrams_in)),
        ("media_server_udp_datagrams_total", "out", sum(|shard| shard.datagrams_out)),
        ("media_server_udp_bytes_total", "in", sum(|shard| shard.bytes_in)),
        ("media_server_udp_bytes_total", "out", sum(|shard| shard.bytes_out)),
    ] {
        metrics::counter!(name, "direction" => direction).absolute(value);
    }
    for (name, value) in [
        ("media_server_udp_dropped_total", sum(|shard| shard.counters.dropped + shard.not_steered)),
        ("media_server_udp_steered_total", sum(|shard| shard.steered)),
        ("media_server_stun_refused_total", sum(|shard| shard.counters.stun_refused)),
        ("media_server_udp_send_errors_total", sum(|shard| shard.send_errors)),
        ("media_server_udp_send_dropped_total", sum(|shard| shard.send_dropped)),
        ("media_server_udp_unsegmented_total", sum(|shard| shard.unsegmented)),
        ("media_server_udp_send_calls_total", sum(|shard| shard.send_calls)),
        ("media_server_recorder_dropped_batches_total", sum(|shard| shard.tap_dropped)),
    ] {
        metrics::counter!(name).absolute(value);
    }
    let longest = snapshot.shards.iter().map(|shard| shard.longest_turn).max().unwrap_or_default();
    let steering: usize = snapshot.shards.iter().map(|shard| shard.steering_others).sum();
    metrics::gauge!("media_server_steering_addresses").set(steering as f64);
    metrics::gauge!("media_server_media_threads").set(snapshot.shards.len() as f64);
    metrics::gauge!("media_server_media_thread_longest_turn_seconds").set(longest.as_secs_f64());
}

/// Appends what the `metrics` crate has no form for: a counter of fractions.
pub(super) fn write(snapshot: &Snapshot, out: &mut String) {
    let cpu: f64 = snapshot.shards.iter().map(|shard| shard.cpu.as_secs_f64()).sum();
    let help = "CPU time of all media threads.";
    super::process::line(out, "media_server_media_thread_cpu_seconds_total", "counter", help, cpu);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::SessionSnapshot;
    use sfu::parameters::RoomId;
    use sfu::shard::stats::SessionStats;

    fn snapshot(sessions: &[(u64, u64)]) -> Snapshot {
        let session = |&(id, packets): &(u64, u64)| {
            let role = RoleStats::Publisher(PublisherStats { packets, ..PublisherStats::default() });
            let stats = SessionStats { session: SessionId(id), room: RoomId(1), connected: true, role };
            (SessionId(id), SessionSnapshot { stats, bitrate: 0 })
        };
        Snapshot { sessions: sessions.iter().map(session).collect(), ..Snapshot::default() }
    }

    #[test]
    fn totals_go_on_when_sessions_end_and_begin() {
        let mut totals = Totals::default();
        let mut seen = Vec::new();
        for sessions in [vec![(1, 10)], vec![(1, 15), (2, 7)], vec![(2, 9)], vec![], vec![(3, 1)], vec![(3, 1)]] {
            totals.add(&snapshot(&sessions));
            seen.push(totals.publishers.packets);
        }
        assert_eq!(seen, [10, 22, 24, 24, 25, 25]);
    }
}
