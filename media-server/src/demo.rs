//! `--demo`: the test clip, played over and over into the room `demo`, in this process.
//!
//! The demo is a source like any other: it needs a slot, it has a stream and a recording, and it ends when the stream is
//! ended or the server drains. Its packets go straight to the room's shard: without ICE, DTLS or HTTP. Media time never
//! repeats: it continues where the clip starts again.
//!
//! A keyframe request is answered by the clip's next keyframe, at most two seconds later; viewers that join start with the
//! cached one. A process that was suspended does not catch up: the clip pauses, and continues in real time.

use crate::control::{Control, ControlError, LocalSource, Principal, RoomName};
use crate::net::MediaPlane;
use ingest::packetize::TrackWriter;
use ingest::source::{Clip, Scheduled, Source};
use sfu::LocalPacket;
use sfu::parameters::{Codec, HeaderExtensions, IncomingTrack, MediaKind, PayloadType, PublisherTracks};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The room, and the subject that its stream and recording name.
const NAME: &str = "demo";
/// Between two tries.
const RETRY: Duration = Duration::from_secs(1);
/// Frames that are later than this are not caught up with.
const LATE: Duration = Duration::from_secs(1);
const VIDEO: u8 = 96;
const AUDIO: u8 = 111;

/// Plays until `shutdown`; starts again when the stream was ended.
pub(crate) async fn play(control: Control, media: MediaPlane, shutdown: CancellationToken) {
    let _ = shutdown.run_until_cancelled(publish_for_ever(&control, &media)).await;
}

async fn publish_for_ever(control: &Control, media: &MediaPlane) {
    let clip = ingest::demo::source();
    let room = RoomName::parse(NAME).expect("letters only");
    let owner = Principal { subject: NAME.to_owned(), account: None, admin: false, token: None };
    loop {
        match control.add_source(&room, &owner, tracks(&clip)) {
            Ok(source) => {
                feed(control, media, &source, &clip).await;
                if !control.is_draining() {
                    tracing::info!("demo ended, restarting");
                }
            }
            Err(ControlError::Draining { .. }) => {}
            Err(error) => tracing::warn!(%error, "demo refused, retrying"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Passes the clip's frames to the room when they are due, until the session ends.
async fn feed(control: &Control, media: &MediaPlane, source: &LocalSource, clip: &Source) {
    let writer = |clip: &Clip, number| TrackWriter::new(clip.codec, u32::from(number), number);
    let mut video = clip.video.as_ref().map(|clip| writer(clip, VIDEO));
    let mut audio = clip.audio.as_ref().map(|clip| writer(clip, AUDIO));
    let mut start = Instant::now();
    for item in clip.schedule() {
        let now = Instant::now();
        if now.saturating_duration_since(start + item.due) > LATE {
            start = now.checked_sub(item.due).unwrap_or(now);
        }
        sleep_until(start + item.due).await;
        if !control.has_session(source.session) {
            return;
        }
        let writer = match item.kind {
            ingest::MediaKind::Video => video.as_mut(),
            ingest::MediaKind::Audio => audio.as_mut(),
        };
        let packets = writer.map(|writer| packets(writer, &item)).unwrap_or_default();
        if !media.feed(source.room, source.session, packets) {
            tracing::debug!(due = ?item.due, "demo frame dropped: the media thread is behind");
        }
    }
}

fn packets(writer: &mut TrackWriter, item: &Scheduled<'_>) -> Vec<LocalPacket> {
    let kind = media_kind(item.kind);
    let packets = writer.packets(item.due, &item.frame.data).expect("the embedded clip can be packetized");
    let local = packets.into_iter().map(|packet| LocalPacket {
        kind,
        payload_type: packet.header.payload_type,
        sequence: packet.header.sequence_number,
        timestamp: packet.header.timestamp,
        marker: packet.header.marker,
        captured: item.due,
        payload: packet.payload,
    });
    local.collect()
}

/// Returns the clip's tracks, as an offer would have negotiated them.
fn tracks(clip: &Source) -> PublisherTracks {
    PublisherTracks {
        audio: clip.audio.as_ref().map(|clip| track(clip, AUDIO)),
        video: clip.video.as_ref().map(|clip| track(clip, VIDEO)),
    }
}

fn track(clip: &Clip, number: u8) -> IncomingTrack {
    let payload_type = PayloadType {
        number,
        codec: codec(clip.codec),
        fmtp: clip.fmtp.clone(),
        rtx: None,
        nack: false,
        pli: false,
        fir: false,
        remb: false,
        transport_cc: false,
    };
    IncomingTrack {
        mid: number.to_string(),
        kind: media_kind(clip.codec.kind()),
        payload_types: vec![payload_type],
        extensions: HeaderExtensions::default(),
        ssrc: None,
        rtx_ssrc: None,
        rid: None,
    }
}

fn media_kind(kind: ingest::MediaKind) -> MediaKind {
    match kind {
        ingest::MediaKind::Audio => MediaKind::Audio,
        ingest::MediaKind::Video => MediaKind::Video,
    }
}

fn codec(codec: ingest::Codec) -> Codec {
    match codec {
        ingest::Codec::H264 => Codec::H264,
        ingest::Codec::Vp8 => Codec::Vp8,
        ingest::Codec::Vp9 => Codec::Vp9,
        ingest::Codec::Av1 => Codec::Av1,
        ingest::Codec::Opus => Codec::Opus,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn packets_of_two_rounds_count_without_a_gap() {
        let clip = ingest::demo::source();
        let mut writers = HashMap::from([
            (ingest::MediaKind::Video, TrackWriter::new(ingest::Codec::H264, 1, VIDEO)),
            (ingest::MediaKind::Audio, TrackWriter::new(ingest::Codec::Opus, 2, AUDIO)),
        ]);
        let mut last: HashMap<MediaKind, LocalPacket> = HashMap::new();
        let mut frames = HashMap::from([(MediaKind::Video, 0), (MediaKind::Audio, 0)]);
        for item in clip.schedule().take_while(|item| item.due < Duration::from_secs(16)) {
            for packet in packets(writers.get_mut(&item.kind).unwrap(), &item) {
                let kind = packet.kind;
                let clock = if kind == MediaKind::Video { Codec::H264 } else { Codec::Opus }.clock_rate();
                if let Some(before) = last.insert(kind, packet.clone()) {
                    assert_eq!(packet.sequence, before.sequence.wrapping_add(1));
                    let step = packet.timestamp.wrapping_sub(before.timestamp);
                    assert!([0, clock / 30, clock / 50].contains(&step), "{kind:?} steps by {step}");
                }
                *frames.get_mut(&kind).unwrap() += usize::from(packet.marker || kind == MediaKind::Audio);
            }
        }
        assert_eq!(frames, HashMap::from([(MediaKind::Video, 480), (MediaKind::Audio, 800)]));
    }

    #[test]
    fn tracks_name_the_payload_types_of_the_packets() {
        let clip = ingest::demo::source();
        let tracks = tracks(&clip);
        for (track, number, codec) in [(&tracks.video, 96, Codec::H264), (&tracks.audio, 111, Codec::Opus)] {
            let track = track.as_ref().unwrap();
            assert_eq!((track.kind, track.payload_types.len()), (codec.kind(), 1));
            assert_eq!((track.payload_types[0].number, track.payload_types[0].codec), (number, codec));
        }
        assert!(tracks.video.unwrap().payload_types[0].fmtp.contains("profile-level-id=42c01e"));
    }
}
