//! The sending half of a camera, whoever signals: what it offers, its tracks, and playing a source into them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rtc::interceptor::{NackResponderBuilder, Slot, TwccSenderBuilder};
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use serde::Serialize;
use tokio::sync::watch;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{MediaEngine, Registry};
use webrtc::rtp_transceiver::RtpSender;

use crate::call::Half;
use crate::peer::{Offered, Peer, PeerError, media_engine, rtc_codec, rtc_kind};
use crate::rtp::feedback::{FeedbackState, FeedbackTap};
use ingest::packetize::{MediaClock, TrackWriter};
use ingest::source::{Scheduled, Source};
use ingest::{Codec, MediaKind};

/// How long the last packets may be asked for again when a source has been played.
const LINGER: Duration = Duration::from_millis(200);
/// Packets that can be sent again; the library wants a power of two.
const RESEND_BUFFER: u16 = 2048;

/// What one track of a camera has sent.
#[derive(Clone, Debug, Serialize)]
pub struct SentTrack {
    /// What it is encoded with.
    pub codec: Codec,
    /// Frames; of sound, packets.
    pub frames: u64,
    /// Frames that a decoder can begin with.
    pub keyframes: u64,
    /// RTP packets, retransmissions left out.
    pub packets: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

/// How far the playing is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) video: Option<SentTrack>,
    pub(crate) audio: Option<SentTrack>,
    /// By how much the latest frame was late.
    pub(crate) late: Duration,
}

/// Shares [`Sent`] with who wants to know.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Sent>);

impl Progress {
    pub(crate) fn read(&self) -> Sent {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Sent> {
        // A count cannot be left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, codec: Codec, keyframe: bool, packets: &[rtc::rtp::Packet], late: Duration) {
        let mut sent = self.lock();
        sent.late = sent.late.max(late);
        let track = match codec.kind() {
            MediaKind::Video => &mut sent.video,
            MediaKind::Audio => &mut sent.audio,
        };
        let track = track.get_or_insert(SentTrack { codec, frames: 0, keyframes: 0, packets: 0, bytes: 0 });
        track.frames += 1;
        track.keyframes += u64::from(keyframe);
        track.packets += packets.len() as u64;
        track.bytes += packets.iter().map(|packet| packet.payload.len() as u64).sum::<u64>();
    }
}

/// What a camera negotiates.
#[derive(Debug)]
pub(crate) struct Outgoing {
    offered: Vec<Offered>,
    packet_size: usize,
    pub(crate) feedback: Arc<FeedbackState>,
}

impl Outgoing {
    pub(crate) fn new(source: &Source, packet_size: usize) -> Outgoing {
        let offer = |codec: Codec, fmtp: &str| match codec {
            Codec::Opus => Offered { codec, payload_type: 111, rtx: None, fmtp: fmtp.to_owned() },
            _ => Offered { codec, payload_type: 96, rtx: Some(97), fmtp: fmtp.to_owned() },
        };
        let clips = [&source.video, &source.audio];
        let offered = clips.into_iter().flatten().map(|clip| offer(clip.codec, &clip.fmtp)).collect();
        Outgoing { offered, packet_size, feedback: Arc::default() }
    }
}

impl Half for Outgoing {
    type Tracks = Tracks;
    type Agreed = Writers;

    fn media_engine(&self) -> Result<MediaEngine, PeerError> {
        media_engine(&self.offered)
    }

    fn interceptors(&self) -> Registry {
        Registry::new()
            .with(Slot::CongestionControl, FeedbackTap::new(Arc::clone(&self.feedback)))
            .with(Slot::TwccSender, TwccSenderBuilder::new().build())
            .with(Slot::NackResponder, NackResponderBuilder::new().with_size(RESEND_BUFFER).build())
    }

    /// A track for each clip.
    async fn add_tracks(&self, peer: &Peer) -> Result<Tracks, PeerError> {
        let mut tracks = Vec::new();
        for offered in &self.offered {
            let kind = rtc_kind(offered.codec.kind());
            let ssrc = rand::random::<u32>();
            let rtx = offered.rtx.map(|_| RTCRtpRtxParameters { ssrc: rand::random() });
            let encoding = RTCRtpEncodingParameters {
                rtp_coding_parameters: RTCRtpCodingParameters {
                    ssrc: Some(ssrc),
                    rtx,
                    ..RTCRtpCodingParameters::default()
                },
                codec: rtc_codec(offered.codec, &offered.fmtp),
                ..RTCRtpEncodingParameters::default()
            };
            let id = offered.codec.to_string();
            let track = MediaStreamTrack::new("camera".to_owned(), id.clone(), id, kind, vec![encoding.clone()]);
            let track = Arc::new(TrackLocalStaticRTP::new(track));
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Sendonly,
                streams: vec!["camera".to_owned()],
                send_encodings: vec![encoding],
            };
            let local: Arc<dyn TrackLocal> = Arc::clone(&track) as Arc<dyn TrackLocal>;
            let transceiver = peer.connection.add_transceiver_from_track(local, Some(init)).await?;
            let sender = transceiver.sender().await?.ok_or(PeerError::CodecRefused(offered.codec))?;
            tracks.push(Track { codec: offered.codec, ssrc, track, sender });
        }
        Ok(Tracks { tracks, packet_size: self.packet_size })
    }

    /// Writers with the payload types that were agreed.
    async fn agreed(tracks: Tracks) -> Result<Writers, PeerError> {
        let mut writers = Vec::new();
        for track in tracks.tracks {
            let parameters = track.sender.get_parameters().await?;
            let agreed = parameters
                .rtp_parameters
                .codecs
                .iter()
                .find(|codec| Codec::from_mime_type(&codec.rtp_codec.mime_type) == Some(track.codec))
                .ok_or(PeerError::CodecRefused(track.codec))?;
            let writer =
                TrackWriter::new(track.codec, track.ssrc, agreed.payload_type).with_packet_size(tracks.packet_size);
            writers.push(Writer { codec: track.codec, writer, track: track.track });
        }
        Ok(Writers(writers))
    }
}

struct Track {
    codec: Codec,
    ssrc: u32,
    track: Arc<TrackLocalStaticRTP>,
    sender: Arc<dyn RtpSender>,
}

/// Tracks of a camera that is negotiating.
pub(crate) struct Tracks {
    tracks: Vec<Track>,
    packet_size: usize,
}

struct Writer {
    codec: Codec,
    writer: TrackWriter,
    track: Arc<TrackLocalStaticRTP>,
}

/// Tracks of a camera that can send.
pub(crate) struct Writers(Vec<Writer>);

impl Writers {
    /// Sends the source's frames when they are due, from now on, until its end or until `stop`.
    pub(crate) async fn play(
        mut self,
        source: &Source,
        feedback: &FeedbackState,
        progress: &Progress,
        mut stop: watch::Receiver<bool>,
    ) {
        let start = Instant::now();
        let clock = MediaClock::new(start, SystemTime::now(), self.0.iter().map(|writer| &writer.writer));
        if feedback.clock.set(clock).is_err() {
            tracing::warn!("a camera plays once");
            return;
        }
        let send = async {
            for item in source.schedule() {
                let due = start + item.due;
                if Instant::now() < due {
                    tokio::time::sleep_until(due.into()).await;
                }
                if !self.send(item, due, progress).await {
                    return;
                }
            }
            tokio::time::sleep_until((start + source.duration() + LINGER).into()).await;
        };
        tokio::select! {
            () = send => {}
            // A sender that is gone says stop, too.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// False when the connection takes no more.
    async fn send(&mut self, item: Scheduled<'_>, due: Instant, progress: &Progress) -> bool {
        let Some(writer) = self.0.iter_mut().find(|writer| writer.codec.kind() == item.kind) else { return true };
        let packets = match writer.writer.packets(item.due, &item.frame.data) {
            Ok(packets) => packets,
            Err(error) => {
                tracing::warn!(%error, codec = %writer.codec, at = ?item.due, "a frame could not be cut into packets");
                return true;
            }
        };
        progress.add(writer.codec, item.frame.keyframe, &packets, Instant::now().saturating_duration_since(due));
        for packet in packets {
            if writer.track.write_rtp(packet).await.is_err() {
                return false;
            }
        }
        true
    }
}
