//! What the media plane counts of one stream, for JSON: here, and not in `/metrics`, there is an entry per viewer.

use crate::control::StreamMedia;
use crate::net::{SessionSnapshot, Snapshot};
use serde::Serialize;
use sfu::shard::stats::RoleStats;
use utoipa::ToSchema;

/// The numbers of a stream, at most a second old.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LiveView {
    /// Absent while nobody publishes.
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<PublisherView>,
    /// Bits per second of payload that all viewers together are sent.
    viewers_bitrate_bps: u64,
    /// Each viewer.
    viewers: Vec<ViewerView>,
}

/// What comes from a camera.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PublisherView {
    /// ICE and DTLS are done.
    connected: bool,
    /// Bits per second of RTP over the last second.
    bitrate_bps: u64,
    /// RTP packets, retransmissions included.
    packets: u64,
    /// Bytes of RTP.
    bytes: u64,
    /// Packets that never came.
    packets_lost: u64,
    /// Packets that came only after they were asked for.
    packets_repaired: u64,
    /// Packets asked for again, each time counted.
    nacks: u64,
    /// Keyframes asked for.
    keyframe_requests: u64,
    /// Packets dropped beyond limits.maxBitrate.
    packets_policed: u64,
    /// Video frames of these, dropped entirely or in part.
    frames_policed: u64,
    /// Restarts of an encoder under a new SSRC.
    encoder_restarts: u64,
    /// Round trip, once it is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_ms: Option<f64>,
    /// `H264`, `VP8`, `VP9` or `AV1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    video_codec: Option<&'static str>,
    /// `opus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_codec: Option<&'static str>,
}

/// What a viewer is sent, and what it says of it.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ViewerView {
    /// ICE and DTLS are done.
    connected: bool,
    /// Bits per second of payload over the last second.
    bitrate_bps: u64,
    /// RTP packets, retransmissions included.
    packets: u64,
    /// Bytes of payload.
    bytes: u64,
    /// Packets sent again.
    packets_repaired: u64,
    /// Packets it asked for again.
    nacks: u64,
    /// Keyframes it asked for.
    keyframe_requests: u64,
    /// Lost since its last report, 0 to 1, the worse of both tracks.
    loss: f32,
    /// Video packets lost since the start, as it says.
    packets_lost: u32,
    /// Round trip, when it can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_ms: Option<f64>,
    /// Bits per second that it thinks its path carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    available_bitrate_bps: Option<u64>,
}

/// Looks a stream's sessions up.
pub(super) fn view(snapshot: &Snapshot, media: &StreamMedia) -> LiveView {
    let viewers: Vec<ViewerView> =
        media.subscribers.iter().filter_map(|id| viewer(snapshot.sessions.get(id)?)).collect();
    LiveView {
        publisher: media.publisher.and_then(|id| publisher(snapshot.sessions.get(&id)?)),
        viewers_bitrate_bps: viewers.iter().map(|viewer| viewer.bitrate_bps).sum(),
        viewers,
    }
}

fn publisher(session: &SessionSnapshot) -> Option<PublisherView> {
    let RoleStats::Publisher(stats) = &session.stats.role else { return None };
    Some(PublisherView {
        connected: session.stats.connected,
        bitrate_bps: session.bitrate,
        packets: stats.packets,
        bytes: stats.bytes,
        packets_lost: stats.lost,
        packets_repaired: stats.repaired,
        nacks: stats.nacks_sent,
        keyframe_requests: stats.keyframe_requests,
        packets_policed: stats.policed,
        frames_policed: stats.frames_policed,
        encoder_restarts: stats.ssrc_changes,
        round_trip_ms: stats.round_trip.map(|time| time.as_secs_f64() * 1000.0),
        video_codec: stats.video.map(|codec| codec.name()),
        audio_codec: stats.audio.map(|codec| codec.name()),
    })
}

fn viewer(session: &SessionSnapshot) -> Option<ViewerView> {
    let RoleStats::Subscriber(stats) = &session.stats.role else { return None };
    let reported = &stats.reported;
    Some(ViewerView {
        connected: session.stats.connected,
        bitrate_bps: session.bitrate,
        packets: stats.packets,
        bytes: stats.bytes,
        packets_repaired: stats.repairs,
        nacks: stats.nacks,
        keyframe_requests: stats.keyframe_requests,
        loss: reported.fraction_lost,
        packets_lost: reported.lost,
        round_trip_ms: reported.round_trip.map(|time| time.as_secs_f64() * 1000.0),
        available_bitrate_bps: reported.available_bitrate,
    })
}
