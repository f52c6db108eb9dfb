//! A headless viewer: watches a WHEP endpoint and tells what came, when, and what did not. Nothing is decoded.

use std::sync::Arc;

use rtc::interceptor::{ReceiverReportBuilder, Slot, TwccReceiverBuilder};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use serde::Serialize;
use webrtc::peer_connection::{MediaEngine, Registry};

use crate::call::{Call, Half};
use crate::error::Error;
use crate::peer::{Offered, Peer, PeerError, media_engine, rtc_kind};
use crate::rtp::reception::{Reception, ReceptionTap};
use crate::signal::Access;
use ingest::{Codec, MediaKind};

pub use crate::rtp::reception::TrackReport;

/// After everything that reports on arrivals, before anything that would delay a packet.
const LAST_SLOT: usize = 12_500;

/// A viewer that has not started.
#[derive(Clone, Debug)]
pub struct Viewer {
    url: String,
    access: Access,
}

/// What a viewer has seen.
#[derive(Clone, Debug, Serialize)]
pub struct ViewerReport {
    /// Milliseconds from the POST to the answer.
    pub answer_ms: f64,
    /// Milliseconds from the POST until media could flow.
    pub connected_ms: f64,
    /// Seconds since the POST.
    pub seconds: f64,
    /// The picture; `None` until a packet of it came.
    pub video: Option<TrackReport>,
    /// The sound; `None` until a packet of it came.
    pub audio: Option<TrackReport>,
    /// RTP packets of streams that were not negotiated.
    pub strangers: u64,
}

/// What a viewer negotiates, and what it counts.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pub(crate) reception: Arc<Reception>,
}

impl Half for Incoming {
    type Tracks = ();
    type Agreed = ();

    fn media_engine(&self) -> Result<MediaEngine, PeerError> {
        let h264 = |payload_type, profile| Offered {
            codec: Codec::H264,
            payload_type,
            rtx: Some(payload_type + 1),
            fmtp: format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile}"),
        };
        let other = |codec, payload_type, fmtp: &str| Offered {
            codec,
            payload_type,
            rtx: (codec != Codec::Opus).then_some(payload_type + 1),
            fmtp: fmtp.to_owned(),
        };
        media_engine(&[
            h264(102, "42e01f"),
            h264(104, "42001f"),
            h264(106, "4d001f"),
            h264(108, "64001f"),
            other(Codec::Vp8, 96, ""),
            other(Codec::Vp9, 98, "profile-id=0"),
            other(Codec::Av1, 100, "level-idx=5;profile=0;tier=0"),
            other(Codec::Opus, 111, "minptime=10;useinbandfec=1;stereo=1"),
        ])
    }

    fn interceptors(&self) -> Registry {
        Registry::new()
            .with(Slot::TwccReceiver, TwccReceiverBuilder::new().build())
            .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build())
            .with(Slot::from(LAST_SLOT), ReceptionTap::new(Arc::clone(&self.reception)))
    }

    async fn add_tracks(&self, peer: &Peer) -> Result<(), PeerError> {
        for kind in [MediaKind::Video, MediaKind::Audio] {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                ..RTCRtpTransceiverInit::default()
            };
            peer.connection.add_transceiver_from_kind(rtc_kind(kind), Some(init)).await?;
        }
        Ok(())
    }

    /// Packets tell which of the codecs it is.
    async fn agreed((): ()) -> Result<(), PeerError> {
        Ok(())
    }
}

impl Viewer {
    /// A viewer of the WHEP endpoint at `url`.
    pub fn new(url: impl Into<String>) -> Viewer {
        Viewer { url: url.into(), access: Access::default() }
    }

    /// Authenticates with a bearer token.
    pub fn with_token(mut self, token: Option<String>) -> Viewer {
        self.access.token = token;
        self
    }

    /// Trusts certificates (PEM) of these authorities alone for https, in place of the system's.
    pub fn with_authorities(mut self, pem: Option<Vec<u8>>) -> Viewer {
        self.access.authorities = pem;
        self
    }

    /// Connects. Comes back when media can flow, which it may already do.
    pub async fn start(self) -> Result<Watching, Error> {
        let (call, incoming, ()) = Call::connect(&self.url, &self.access, Incoming::default).await?;
        Ok(Watching { call, reception: incoming.reception })
    }
}

/// A viewer that is connected. Dropping it leaves the server to notice; [`stop`](Watching::stop) tells it.
pub struct Watching {
    call: Call,
    reception: Arc<Reception>,
}

impl Watching {
    /// What it has seen so far.
    pub fn report(&self) -> ViewerReport {
        let track = |kind| self.reception.report(kind, self.call.posted).filter(|track| track.packets > 0);
        ViewerReport {
            answer_ms: self.call.answered.as_secs_f64() * 1000.0,
            connected_ms: self.call.connected.as_secs_f64() * 1000.0,
            seconds: self.call.posted.elapsed().as_secs_f64(),
            video: track(MediaKind::Video),
            audio: track(MediaKind::Audio),
            strangers: self.reception.strangers(),
        }
    }

    /// Waits until `enough` is true of the report, which is looked at when a first packet or keyframe comes. False if
    /// the connection is lost before.
    pub async fn wait_for(&self, mut enough: impl FnMut(&ViewerReport) -> bool) -> bool {
        let lost = self.call.peer.ended();
        let seen = async {
            loop {
                // Registered before looking, so that nothing is missed between the two.
                let progress = self.reception.progress.notified();
                tokio::pin!(progress);
                progress.as_mut().enable();
                if enough(&self.report()) {
                    return;
                }
                progress.await;
            }
        };
        tokio::select! {
            biased;
            () = seen => true,
            () = lost => false,
        }
    }

    /// Waits until the connection is lost.
    pub async fn lost(&self) {
        self.call.peer.ended().await;
    }

    /// The session's URL at the server.
    pub fn session_url(&self) -> &str {
        self.call.url()
    }

    /// Ends the session at the server. The error is that of the DELETE.
    pub async fn stop(self) -> Result<ViewerReport, Error> {
        let report = self.report();
        self.call.end().await?;
        Ok(report)
    }
}
